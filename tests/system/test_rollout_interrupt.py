# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollout that is interrupted, and run again: the end is that of a run that was not.

EXCHANGE_MITIGATION_SWEEP=1 takes every signal at every point instead of one each.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from lab_task import contents, hashes, put_back

from playbooks import environment, play

WANTED = {"exchange_mitigation_when_em_active": "take_over", "exchange_mitigation_blocked_add": ["PING1"], "exchange_mitigation_organization_enabled": True}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
#: After which share of all writes: within the canary, between, within the last batch.
POINTS = (0.15, 0.5, 0.85)
CASES = [(point, number) for point in POINTS for number in SIGNALS] if os.environ.get("EXCHANGE_MITIGATION_SWEEP") else list(zip(POINTS, SIGNALS))


@pytest.fixture(scope="module")
def fleet() -> Iterator[Any]:
    from lab import builds
    from lab.fleet import Fleet

    first = builds.default_plan(1)[0]
    with Fleet([dataclasses.replace(first, name=f"EX{number}") for number in (1, 2, 3)], mitigations_enabled=False) as running:
        yield running


def state(fleet: Any) -> dict[str, Any]:
    """Everything a run may change."""
    blocked = {machine.name: sorted(fleet.organization.settings(machine.name)["MitigationsBlocked"] or []) for machine in fleet.machines}
    return {"files": {machine.name: hashes(machine) for machine in fleet.machines}, "blocked": blocked, "switch": fleet.organization.mitigations_enabled}


def begin_again(fleet: Any, saved: dict[str, Any]) -> None:
    for machine in fleet.machines:
        put_back(machine, saved[machine.name])
        fleet.organization.change(machine.name, {"MitigationsEnabled": True, "MitigationsBlocked": None})
    fleet.organization.mitigations_enabled = False
    fleet.organization.directory.settle()
    fleet.access_log.clear()


@pytest.fixture(scope="module")
def uninterrupted(fleet: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The end state of a run that nobody disturbs, the number of its writes, and what was there before."""
    saved = {machine.name: contents(machine) for machine in fleet.machines}
    folder = tmp_path_factory.mktemp("uninterrupted")
    done = play(fleet, folder, "mitigate", exchange_mitigation_journal_dir=str(folder / "journal"), **WANTED)
    assert done.code == 0, done.text
    found = {"state": state(fleet), "writes": len([ran for ran in fleet.access_log.calls if ran.write]), "saved": saved}
    begin_again(fleet, saved)
    assert state(fleet) != found["state"]
    return found


def gone(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether nothing of the run is left, workers included."""
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(("point", "number"), CASES, ids=[f"{number.name}-after-{int(point * 100)}%" for point, number in CASES])
def test_interrupted_and_run_again_ends_as_if_it_had_not_been(
    fleet: Any, uninterrupted: dict[str, Any], tmp_path: pathlib.Path, point: float, number: signal.Signals
) -> None:
    begin_again(fleet, uninterrupted["saved"])
    fleet.write_inventory(tmp_path / "lab.yml")
    variables = {**WANTED, "exchange_mitigation_journal_dir": str(tmp_path / "journal"), "exchange_mitigation_run_id": "rollout-7"}
    program = pathlib.Path(sys.executable).with_name("ansible-playbook")
    command = [str(program), "-i", str(tmp_path / "lab.yml"), "exchange.mitigation.mitigate", "-e", json.dumps(variables)]
    fleet.faults.add("slow", None, endpoint="host", seconds=0.1)
    wanted = max(1, int(uninterrupted["writes"] * point))
    with (tmp_path / "first.log").open("wb") as log:
        # A shell's background job ignores SIGINT, and so would its children.
        listening = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        process = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment(tmp_path), cwd=tmp_path, start_new_session=True, preexec_fn=listening
        )
        deadline = time.monotonic() + 120
        while len([ran for ran in fleet.access_log.calls if ran.write]) < wanted:
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "first.log").read_text("utf-8")
            time.sleep(0.005)
        # A terminal and a machine that goes down reach all of its processes, a job control system the first one.
        (os.kill if number is signal.SIGTERM else os.killpg)(process.pid, number)
        while not gone(process):
            assert time.monotonic() < deadline, "something of the run is left"
            time.sleep(0.05)
    fleet.faults.clear()
    assert process.returncode != 0
    assert state(fleet) != uninterrupted["state"], "interrupted after the last change"
    for machine in fleet.machines:
        fleet._server.reboot(machine)
    again = play(fleet, tmp_path, "mitigate", **variables)
    assert again.code == 0, again.text
    assert state(fleet) == uninterrupted["state"]
    fleet.access_log.clear()
    third = play(fleet, tmp_path, "mitigate", **variables)
    assert third.code == 0 and fleet.access_log.writes() == [], third.text
    # Both runs bear one name, so one way back undoes both.
    back = play(fleet, tmp_path, "rollback", exchange_mitigation_run_id="rollout-7", exchange_mitigation_journal_dir=str(tmp_path / "journal"))
    assert back.code == 0, back.text
    for machine in fleet.machines:
        before = uninterrupted["saved"][machine.name]
        put = contents(machine)
        assert put == before, f"{machine.name} is not as before the first run"
