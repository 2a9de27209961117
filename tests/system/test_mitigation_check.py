# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check mode of every state and mitigation: the diff of the real run, and no cmdlet that changes anything."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _catalogue
from ansible_collections.exchange.mitigation.plugins.modules import mitigation
from fault_bench import EX_SETUP, World
from lab_task import hashes, run

IDS = [one.id for one in _catalogue.all()]
FIXED = {"M": "15.01.2507.071", "C": "15.01.2242.012"}


@pytest.fixture(scope="module")
def fleet() -> Iterator[Any]:
    from lab.builds import ServerPlan
    from lab.fleet import Fleet

    with Fleet([ServerPlan("EX1", "Exchange2016", "15.1.2507.13"), ServerPlan("OLD1", "Exchange2016", "15.1.2176.2")]) as running:
        yield running
        assert running.refusals == []


@pytest.mark.parametrize("state", ["applied", "absent", "retired", "undo"])
@pytest.mark.parametrize("identifier", IDS)
def test_the_same_diff_and_no_write(fleet: Any, tmp_path: pathlib.Path, identifier: str, state: str) -> None:
    machine = fleet.machine("EX1" if identifier.startswith("M") else "OLD1")
    back, version = World(fleet, machine.name).save(), machine.version_of(EX_SETUP)
    common = {"journal_dir": str(tmp_path / "journal"), "when_em_active": "take_over"}
    wanted: dict[str, Any] = {**common, "mitigations": [identifier], "state": state}
    if state == "undo":
        wanted = {**common, "state": "absent", "undo_run_id": "last"}
    if state == "retired":
        wanted["unblock"] = True
    try:
        if state != "applied":
            run(mitigation, fleet, machine, {**common, "mitigations": [identifier]}, direct=True)
        if state == "retired":
            machine.set_version(EX_SETUP, **{**version, "FileVersion": FIXED[identifier[0]], "ProductVersion": FIXED[identifier[0]]})
        files = hashes(machine)
        fleet.access_log.clear()
        checked = run(mitigation, fleet, machine, wanted, check=True, direct=True)
        assert [ran.cmdlet for ran in fleet.access_log.calls if ran.write] == []
        assert fleet.access_log.calls != []
        assert hashes(machine) == files
        done = run(mitigation, fleet, machine, wanted, direct=True)
        assert [ran.cmdlet for ran in fleet.access_log.calls if ran.write] != []
        assert checked["changed"] is done["changed"] is True
        assert checked["diff"] == done["diff"] != []
        assert checked["steps"] == done["steps"] != []
        same = ("blocked_ids", "unblocked_ids", "effects", "side_effects", "mitigations")
        assert {key: checked[key] for key in same} == {key: done[key] for key in same}
        (verdict,) = done["mitigations"]
        assert verdict["state"] == ("applied" if state == "applied" else "absent")
        fleet.access_log.clear()
        again = run(mitigation, fleet, machine, wanted, direct=True)
        assert again["changed"] is False
        assert again["diff"] == []
        assert [ran.cmdlet for ran in fleet.access_log.calls if ran.write] == []
    finally:
        machine.set_version(EX_SETUP, **version)
        back()
