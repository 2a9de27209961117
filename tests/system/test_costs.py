# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drift run costs, in counts that no machine changes; and that the speed comparison measures what it says."""

from __future__ import annotations

import json
import pathlib
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lab.fleet import Fleet
from playbooks import play, requests, sessions

SERVERS = 4
KB = 1024


@pytest.fixture
def fleet(tmp_path: pathlib.Path) -> Iterator[Fleet]:
    canned = tmp_path / "canned.json"
    canned.write_text(json.dumps([["facts-of-one-server", {"changed": False, "output": ["canned"]}]]), "utf-8")
    with Fleet(SERVERS, lag=0, bench_wrapper=canned) as fleet:
        yield fleet
        assert fleet.refusals == [] and fleet.scripts_received == 0
        assert fleet.access_log.writes() == []
        assert fleet.wire.open_shells() == []  # type: ignore[attr-defined]


def drift(fleet: Fleet, folder: pathlib.Path) -> tuple[str, dict[str, Any]]:
    fleet.access_log.clear()
    done = play(fleet, folder, "drift", exchange_mitigation_report_dir=str(folder / "report"))
    assert done.code == 0, done.text
    report = json.loads((folder / "report" / "report.json").read_text("utf-8"))
    for server in report["servers"]:
        server.pop("observed_at")
    return done.text, report


def test_a_drift_run_in_counts_and_the_same_answers_from_memory(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    before = fleet.feed.fetches
    told, report = drift(fleet, tmp_path)
    ran = len(fleet.access_log.calls)
    for text, expected in ((told, report), drift(fleet, tmp_path)):
        verified = re.search(r"^TASK \[.*Fetch the feed and prove who signed it\].*\n((?:(?!TASK|PLAY).*\n)*)", text, re.MULTILINE)
        assert verified is not None and len(re.findall(r"^(?:ok|changed): \[", verified[1], re.MULTILINE)) == 1
        assert expected["servers"] == report["servers"] and expected["drift"] == report["drift"]
        # Beside the one task that reads the server, nothing is done once per server.
        tasks = re.findall(r"^TASK \[(.*)\] \*+\n((?:(?!TASK|PLAY).*\n)*)", text, re.MULTILINE)
        often = [task for task, lines in tasks if re.search(r"^\w+: \[EX4\]", lines, re.MULTILINE)]
        assert often == ["exchange.mitigation.report : Observe the server"]
    assert fleet.feed.fetches == before + 2
    assert ran > 0 and fleet.access_log.calls == [], "the second run was not answered from memory"
    assert sessions(fleet) == 1
    for machine in fleet.machines:
        mine = [record for record in fleet.access_log.select(server=machine.name) if record["endpoint"].startswith("wsman")]
        assert requests(fleet, machine.name) <= 12
        assert sum(1 for record in mine if record["action"] == "Create" and record["status"] == 200) == 1
        assert sum(1 for record in mine if record["action"] == "Command") <= 3
        assert sum(record["bytes_in"] for record in mine) < 200 * KB
        assert sum(record["bytes_out"] for record in mine) < 300 * KB


def script(fleet: Fleet, text: str, data: list[str]) -> Any:
    from pypsrp.powershell import PowerShell, RunspacePool
    from pypsrp.wsman import WSMan

    port = fleet.port(fleet.machines[0], "wsman_http")
    client = WSMan("127.0.0.1", port=port, ssl=False, auth="ntlm", username=fleet.admin, password=fleet.password, encryption="always")
    with client, RunspacePool(client) as pool:
        shell = PowerShell(pool)
        shell.add_script(text)
        shell.invoke(input=data)
        return shell


def test_the_wrapper_is_answered_behind_the_flag_alone(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    manifest = ["x" * 300_000, '{"params": {"script": "# facts-of-one-server"}}', "\x00\x00\x00\x00"]
    assert json.loads(script(fleet, "bootstrap", manifest).output[0]) == {"changed": False, "output": ["canned"]}
    assert json.loads(script(fleet, "bootstrap", ["something else"]).output[0])["failed"] is True
    with Fleet(1, lag=0, delay=0.05) as other:
        begun = time.monotonic()
        refused = script(other, "bootstrap", manifest)
        assert refused.had_errors and refused.output == []
        assert other.scripts_received == 1
        other.scripts_received = 0  # sent on purpose, so not what conftest.py looks for
        assert time.monotonic() - begun >= 0.05 * len(other.access_log.records) > 0.2
