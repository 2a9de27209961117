# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services and application pools, on servers of before March 2021: stopped, kept down, and brought back exactly as they were."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _apply_states
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, CmdletError, MitigationError
from ansible_collections.exchange.mitigation.plugins.modules import mitigation, server_info
from lab_task import contents, put_back, run

UM = ("MSExchangeUM", "MSExchangeUMCR")
POOLS = ("MSExchangeECPAppPool", "MSExchangeOABAppPool")
IDS = ["CVE-2021-26855", "CVE-2021-26857", "CVE-2021-26858", "CVE-2021-27065"]


@pytest.fixture(scope="module")
def old_fleet() -> Iterator[Any]:
    """Exchange 2016 and 2019 of before March 2021, and one of today."""
    from lab.builds import ServerPlan
    from lab.fleet import Fleet

    plans = [
        ServerPlan("OLD1", "Exchange2016", "15.1.2176.2"),
        ServerPlan("OLD2", "Exchange2019", "15.2.792.3"),
        ServerPlan("NEW1", "ExchangeSE", "15.2.2562.53"),
    ]
    with Fleet(plans) as fleet:
        yield fleet


@pytest.fixture
def fleet(old_fleet: Any) -> Iterator[Any]:
    saved = {machine.name: contents(machine) for machine in old_fleet.machines}
    old_fleet.faults.clear()
    old_fleet.access_log.clear()
    yield old_fleet
    old_fleet.faults.clear()
    for machine in old_fleet.machines:
        machine.language_mode = "FullLanguage"
        put_back(machine, saved[machine.name])
        machine.pools.restart()
        for name in UM:
            if machine.services.find(name) is not None:
                machine.services.set_start(name, "Automatic")
                machine.services.start(name)
    assert old_fleet.scripts_received == 0, "a script was sent"
    assert old_fleet.refusals == [], "the lab was asked for something that it does not know"
    assert old_fleet._server.open_shells() == [], "a session was left open"


@pytest.fixture
def journal(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "journal")


def states(machine: Any) -> dict[str, tuple[str, Any]]:
    """Every service and pool with its start mode."""
    found: dict[str, tuple[str, Any]] = {service.name: (service.state, service.start) for service in machine.services.all()}
    return found | {name: (machine.pools.state(name), machine.pools.auto_start(name)) for name in machine.pools.names()}


def changed(machine: Any, before: dict[str, tuple[str, Any]]) -> dict[str, tuple[str, Any]]:
    return {name: state for name, state in states(machine).items() if before[name] != state}


def verdicts(result: dict[str, Any]) -> dict[str, str]:
    return {entry["id"]: entry["state"] for entry in result["mitigations"]}


@pytest.mark.parametrize("language", ["FullLanguage", "ConstrainedLanguage"])
def test_check_run_again_undo(fleet: Any, journal: str, language: str) -> None:
    machine = fleet.machine("OLD1")
    machine.language_mode = language
    before, files = states(machine), contents(machine)
    wanted = {"mitigations": IDS, "journal_dir": journal}

    checked = run(mitigation, fleet, machine, wanted, check=True)
    assert checked["changed"] is True
    assert states(machine) == before
    assert fleet.access_log.writes() == []
    done = run(mitigation, fleet, machine, wanted)
    assert done["diff"] == checked["diff"]
    assert done["steps"] == checked["steps"]
    assert verdicts(done) == verdicts(checked) == dict.fromkeys(IDS, "applied")
    assert changed(machine, before) == {**dict.fromkeys(UM, ("Stopped", "Disabled")), **dict.fromkeys(POOLS, ("Stopped", False))}
    assert machine.iis.request("GET", "/ecp/", {}).status == 503
    assert not hasattr(machine.iis.request("GET", "/owa/auth/x.js", {"Cookie": "X-AnonResource-Backend=a"}), "status")
    seen = {entry["id"]: (entry["state"], entry["needed"]) for entry in run(server_info, fleet, machine, {})["server"]["mitigations"]}
    assert {one: seen[one] for one in IDS} == dict.fromkeys(IDS, ("applied", "yes"))

    fleet.access_log.clear()
    assert run(mitigation, fleet, machine, wanted)["changed"] is False
    assert fleet.access_log.writes() == []

    undo = {"state": "absent", "undo_run_id": "last", "journal_dir": journal}
    planned = run(mitigation, fleet, machine, undo, check=True)
    undone = run(mitigation, fleet, machine, undo)
    assert planned["diff"] == undone["diff"]
    assert states(machine) == before
    different = {path.name for path, data in contents(machine).items() if files.get(path) != data}
    assert different <= {"applicationHost.config"}  # IIS writes autoStart out, also where it is the default
    assert run(mitigation, fleet, machine, undo)["changed"] is False


def test_absent_restores_what_the_journal_knows(fleet: Any, journal: str) -> None:
    """A service that was Manual and stopped, and a pool without autoStart, are so again."""
    machine = fleet.machine("OLD1")
    machine.services.stop("MSExchangeUMCR")
    machine.services.set_start("MSExchangeUMCR", "Manual")
    machine.pools.stop("MSExchangeOABAppPool")
    before = states(machine)
    ids = ["CVE-2021-26857", "CVE-2021-26858"]
    run(mitigation, fleet, machine, {"mitigations": ids, "journal_dir": journal}, direct=True)
    assert changed(machine, before) == {
        "MSExchangeUM": ("Stopped", "Disabled"),
        "MSExchangeUMCR": ("Stopped", "Disabled"),
        "MSExchangeOABAppPool": ("Stopped", False),
    }
    run(mitigation, fleet, machine, {"state": "absent", "mitigations": ids, "journal_dir": journal}, direct=True)
    assert states(machine) == before


def test_absent_without_a_journal_restores_what_setup_makes(fleet: Any, journal: str, tmp_path: pathlib.Path) -> None:
    machine = fleet.machine("OLD1")
    before = states(machine)
    ids = ["CVE-2021-26857", "CVE-2021-27065"]
    run(mitigation, fleet, machine, {"mitigations": ids, "journal_dir": journal}, direct=True)
    other = {"state": "absent", "mitigations": ids, "journal_dir": str(tmp_path / "other"), "include_foreign": True}
    run(mitigation, fleet, machine, other, direct=True)
    assert states(machine) == before


def test_a_start_of_windows_in_between_keeps_it_down(fleet: Any, journal: str) -> None:
    machine = fleet.machine("OLD2")
    run(mitigation, fleet, machine, {"mitigations": IDS, "journal_dir": journal}, direct=True)
    machine.reboot()
    assert [states(machine)[name] for name in POOLS] == [("Stopped", False)] * 2
    assert run(mitigation, fleet, machine, {"mitigations": IDS, "journal_dir": journal}, direct=True)["changed"] is False


def test_a_pool_that_was_started_again_is_stopped_again(fleet: Any, journal: str) -> None:
    machine = fleet.machine("OLD2")
    wanted = {"mitigations": ["CVE-2021-27065"], "journal_dir": journal}
    run(mitigation, fleet, machine, wanted, direct=True)
    machine.pools.start("MSExchangeECPAppPool")
    again = run(mitigation, fleet, machine, wanted, direct=True)
    assert again["changed"] is True
    assert verdicts(again) == {"CVE-2021-27065": "applied"}


def test_a_modern_server_is_not_asked_for_them_and_costs_two_pipelines(fleet: Any) -> None:
    machine = fleet.machine("NEW1")
    run(server_info, fleet, machine, {})
    asked = [ran.cmdlet for ran in fleet.access_log.calls if ran.server == "NEW1"]
    assert "Get-WebAppPoolState" not in asked
    requests = [record for record in fleet.access_log.select(server="NEW1") if record["endpoint"].startswith("wsman")]
    assert sum(1 for record in requests if record["action"] == "Command" and record["status"] == 200) == 2
    assert len(requests) <= 12


def test_a_service_that_does_not_stop_is_started_again(fleet: Any, journal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = fleet.machine("OLD1")
    monkeypatch.setattr(_apply_states, "PATIENCE", 3.0)
    monkeypatch.setattr(_apply_states, "PAUSE", 1.0)
    before = states(machine)
    fault = fleet.faults.add("stop-pending", "OLD1", seconds=4)
    with pytest.raises(ApplyError) as caught:
        run(mitigation, fleet, machine, {"mitigations": IDS, "journal_dir": journal}, direct=True)
    fleet.faults.remove(fault)
    assert caught.value.reason in ("state_not_reached", "undo_failed")
    if caught.value.reason == "undo_failed":
        run(mitigation, fleet, machine, {"mitigations": IDS, "journal_dir": journal}, direct=True)
        run(mitigation, fleet, machine, {"state": "absent", "undo_run_id": "last", "journal_dir": journal}, direct=True)
    assert changed(machine, before) == {}


def test_a_service_that_takes_its_time_is_waited_for(fleet: Any, journal: str) -> None:
    machine = fleet.machine("OLD1")
    fleet.faults.add("stop-pending", "OLD1", seconds=1)
    done = run(mitigation, fleet, machine, {"mitigations": ["CVE-2021-26857"], "journal_dir": journal}, direct=True)
    assert verdicts(done) == {"CVE-2021-26857": "applied"}
    assert [states(machine)[name] for name in UM] == [("Stopped", "Disabled")] * 2


def test_a_service_that_does_not_come_back_is_said_and_ended_by_the_next_run(fleet: Any, journal: str) -> None:
    machine = fleet.machine("OLD1")
    before = states(machine)
    wanted = {"mitigations": ["CVE-2021-26857"], "journal_dir": journal}
    run(mitigation, fleet, machine, wanted, direct=True)
    fault = fleet.faults.add("start-fails", "OLD1")
    with pytest.raises(ApplyError) as caught:
        run(mitigation, fleet, machine, {"state": "absent", **wanted}, direct=True)
    assert caught.value.reason == "change_failed"
    assert [states(machine)[name] for name in UM] == [("Stopped", "Disabled")] * 2
    fleet.faults.remove(fault)
    run(mitigation, fleet, machine, {"state": "absent", **wanted}, direct=True)
    assert states(machine) == before


def test_a_session_that_may_not_set_start_modes_changes_nothing(fleet: Any, journal: str) -> None:
    """JEA: Set-Service is not listed."""
    machine = fleet.machine("OLD1")
    machine.language_mode = "NoLanguage"
    before = states(machine)
    with pytest.raises((ApplyError, CmdletError, MitigationError)):
        run(mitigation, fleet, machine, {"mitigations": ["CVE-2021-26857"], "journal_dir": journal})
    assert states(machine) == before
