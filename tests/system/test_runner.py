# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks as a job of ansible-runner, which AWX and Ansible Automation Platform are built on. Run by tests/tiers/runner.sh."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from test_rollout import health, make_fleet, planned, sick, touched, well

from playbooks import ROOT, environment

_BUILT = ROOT / ".build" / "runner" / "bin" / "ansible-runner"
RUNNER = str(_BUILT) if _BUILT.exists() else shutil.which("ansible-runner")
WANTED = {"exchange_mitigation_when_em_active": "take_over"}

pytestmark = pytest.mark.skipif(
    RUNNER is None and not os.environ.get("EXCHANGE_MITIGATION_TIER_RUNNER"), reason="ansible-runner is not there: tests/tiers/runner.sh installs it"
)


@pytest.fixture
def fleet() -> Iterator[Any]:
    with make_fleet() as running:
        yield running
        assert running.scripts_received == 0 and running.refusals == []
        assert running._server.open_shells() == []


class Job:
    """A job of the larger engine: a private directory, and what came of it."""

    def __init__(self, fleet: Any, folder: pathlib.Path, name: str, book: str, *options: str, **variables: Any) -> None:
        for part in ("inventory", "env", "project"):
            (folder / part).mkdir(exist_ok=True)
        if not (folder / "inventory" / "hosts.yml").exists():
            fleet.write_inventory(folder / "inventory" / "hosts.yml")
        (folder / "env" / "extravars").write_text(json.dumps(variables), "utf-8")
        (folder / "env" / "cmdline").write_text(" ".join(options), "utf-8")
        path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        assert RUNNER is not None, "tests/tiers/runner.sh installs ansible-runner"
        command = [RUNNER, "run", str(folder), "--playbook", f"exchange.mitigation.{book}", "--ident", name]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(folder) | {"PATH": path}, check=False, timeout=300)
        self.code = done.returncode
        artifacts = folder / "artifacts" / name
        self.status = (artifacts / "status").read_text("utf-8")
        self.text = (artifacts / "stdout").read_text("utf-8") + done.stderr
        self.events = [json.loads(path.read_text("utf-8")) for path in (artifacts / "job_events").glob("*.json")]
        self.raw = "".join(path.read_text("utf-8") for path in artifacts.rglob("*") if path.is_file())

    @property
    def stats(self) -> dict[str, Any]:
        """The numbers at the end of the job."""
        (found,) = (event["event_data"] for event in self.events if event["event"] == "playbook_on_stats")
        return dict(found)


def test_check_then_roll_out_then_look_then_back(fleet: Any, tmp_path: pathlib.Path) -> None:
    report = {"exchange_mitigation_report_dir": str(tmp_path / "report")}
    checked = Job(fleet, tmp_path, "check", "mitigate", "--check", "--diff", **WANTED)
    assert (checked.code, checked.status) == (0, "successful"), checked.text
    assert fleet.access_log.writes() == [] and set(checked.stats["changed"]) == {"EX1", "EX2", "EX3", "EX4", "EX5", "EX6"}
    done = Job(fleet, tmp_path, "run", "mitigate", **WANTED)
    assert (done.code, done.status) == (0, "successful"), done.text
    assert touched(fleet)[0] == "EX1" and len(touched(fleet)) == 6
    assert Job(fleet, tmp_path, "look", "drift", **WANTED, **report).code == 0
    assert (tmp_path / "report" / "report.html").exists()
    again = Job(fleet, tmp_path, "again", "mitigate", **WANTED)
    assert again.code == 0 and not again.stats["changed"]
    assert Job(fleet, tmp_path, "retire", "retire").code == 0
    assert Job(fleet, tmp_path, "prepare", "prepare").code == 0
    back = Job(fleet, tmp_path, "back", "rollback", "--limit EX1,EX3")
    assert back.code == 0 and set(back.stats["changed"]) == {"EX1", "EX3"}, back.text
    assert fleet.password not in done.raw + checked.raw + back.raw


def test_a_sick_canary_fails_the_job_with_nobody_else_touched(fleet: Any, tmp_path: pathlib.Path) -> None:
    (tmp_path / "inventory").mkdir()
    health(fleet, tmp_path)
    (tmp_path / "lab.yml").rename(tmp_path / "inventory" / "hosts.yml")
    spoiled = sick(fleet, "EX1")
    try:
        done = Job(fleet, tmp_path, "sick", "mitigate", **WANTED)
    finally:
        well(fleet, spoiled)
    assert (done.code, done.status) == (2, "failed"), done.text
    assert touched(fleet) == ["EX1"]
    assert set(done.stats["failures"]) == {"EX1"}
    assert "Halted before batch 2" in done.text


def test_approval_between_two_jobs(fleet: Any, tmp_path: pathlib.Path) -> None:
    """As two nodes of a workflow with an approval node between them; nobody sits at a terminal."""
    first = Job(fleet, tmp_path, "canary", "mitigate", exchange_mitigation_stop_after=1, **WANTED)
    assert first.code == 0 and touched(fleet) == ["EX1"], first.text
    second = Job(fleet, tmp_path, "rest", "mitigate", **WANTED)
    assert second.code == 0, second.text
    batches, order = planned(second.text), touched(fleet)
    # Batch after batch; within one, the servers are written to at the same time.
    place = {name: number for number, batch in enumerate(batches) for name in batch}
    assert sorted(order) == sorted(place) and [place[name] for name in order] == sorted(place[name] for name in order), second.text
