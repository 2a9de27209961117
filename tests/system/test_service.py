# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module service against the lab: check, run, again; restarts; what it needs; servers without it; waiting that ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _services
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, InvalidInput, Refused
from ansible_collections.exchange.mitigation.plugins.modules import service
from installer_lab import Kept
from lab_task import run
from session_live import NAMES, WAYS

MITIGATION = "MSExchangeMitigation"


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    from lab.builds import ServerPlan, default_plan
    from lab.fleet import Fleet

    more = [
        ServerPlan("OLD", "Exchange2016", "15.1.2308.8"), ServerPlan("EDGE", "Exchange2019", "15.2.1748.46", role="Edge"),
        ServerPlan("TOOLS", "Exchange2019", "15.2.1748.46", role="ManagementTools"),
    ]  # fmt: skip
    with Fleet([*default_plan(3), *more]) as fleet:
        yield fleet


@pytest.fixture
def fleet(running: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(_services, "POLL", 0.05)
    running.faults.clear()
    running.access_log.clear()
    kept = [Kept(machine) for machine in running.machines]
    yield running
    running.faults.clear()
    for one in kept:
        one.machine.services.delays.clear()
        one.machine.services._pending.clear()
        one.restore()
    assert running.scripts_received == 0
    assert running.refusals == []
    assert running._server.open_shells() == []


def state(machine: Any, name: str = MITIGATION) -> tuple[str, str]:
    found = machine.services.get(name)
    return found.state, found.start


@pytest.mark.parametrize(("kind", "secure"), WAYS, ids=NAMES)
def test_check_run_again(fleet: Any, kind: str, secure: bool) -> None:
    machine, way = fleet.machine("EX1"), {"kind": kind, "secure": secure}
    for wanted, mode, after in (("stopped", "disabled", ("Stopped", "Disabled")), ("started", "auto", ("Running", "Automatic"))):
        options, before = {"state": wanted, "start_mode": mode}, state(machine)
        fleet.access_log.clear()
        checked = run(service, fleet, machine, options, check=True, **way)
        assert (checked["changed"], state(machine), fleet.access_log.writes()) == (True, before, [])
        done = run(service, fleet, machine, options, **way)
        assert (done["changed"], done["diff"], state(machine)) == (True, checked["diff"], after)
        assert {key: done["service"][key] for key in ("state", "start_mode")} == {key: checked["service"][key] for key in ("state", "start_mode")}
        fleet.access_log.clear()
        assert run(service, fleet, machine, options, **way)["changed"] is False
        assert fleet.access_log.writes() == []


def test_restart_twice_in_a_row_and_from_stopped(fleet: Any) -> None:
    machine = fleet.machine("EX2")
    for dummy in range(2):
        done = run(service, fleet, machine, {"state": "restarted"})
        assert (done["changed"], done["service"]["state"]) == (True, "running")
    methods = [ran.parameters["MethodName"] for ran in fleet.access_log.calls if ran.cmdlet == "Invoke-CimMethod"]
    assert methods == ["StopService", "StartService"] * 2
    machine.services.stop(MITIGATION)
    assert run(service, fleet, machine, {"state": "restarted"})["service"]["state"] == "running"


def test_only_the_start_mode(fleet: Any) -> None:
    machine = fleet.machine("EX1")
    assert run(service, fleet, machine, {"start_mode": "manual"})["service"]["start_mode"] == "manual"
    assert state(machine) == ("Running", "Manual")


def test_flighting_where_it_is(fleet: Any) -> None:
    machine = fleet.machine("EX3")
    assert run(service, fleet, machine, {"name": "MSExchangeFlighting", "state": "stopped"})["service"]["state"] == "stopped"
    with pytest.raises(Refused) as caught:
        run(service, fleet, fleet.machine("EX1"), {"name": "MSExchangeFlighting", "state": "stopped"})
    assert caught.value.reason == "service_missing"


def test_a_slow_service_is_waited_for(fleet: Any) -> None:
    machine = fleet.machine("EX1")
    machine.services.delays[MITIGATION.lower()] = 0.4
    assert run(service, fleet, machine, {"state": "restarted"})["service"]["state"] == "running"


@pytest.mark.parametrize(("wanted", "said"), [("stopped", "is Stop Pending after 1 seconds"), ("restarted", "is Stop Pending after 1 seconds")])
def test_a_service_that_hangs_is_not_waited_for_for_ever(fleet: Any, wanted: str, said: str) -> None:
    machine = fleet.machine("EX1")
    machine.services.delays[MITIGATION.lower()] = float("inf")
    begun = time.monotonic()
    with pytest.raises(ApplyError) as caught:
        run(service, fleet, machine, {"state": wanted, "timeout": 1})
    assert (caught.value.reason, said in caught.value.message) == ("service_timeout", True)
    assert "End its process" in caught.value.message
    assert time.monotonic() - begun < 10


def test_a_start_that_hangs(fleet: Any) -> None:
    machine = fleet.machine("EX1")
    machine.services.stop(MITIGATION)
    machine.services.delays[MITIGATION.lower()] = float("inf")
    with pytest.raises(ApplyError) as caught:
        run(service, fleet, machine, {"state": "started", "timeout": 1})
    assert caught.value.reason == "service_timeout"
    assert "Start Pending" in caught.value.message


def test_a_dependency_that_is_down_is_named(fleet: Any) -> None:
    machine = fleet.machine("EX1")
    machine.services.stop("MSExchangeADTopology", force=True)
    machine.services.set_start("MSExchangeADTopology", "Disabled")
    with pytest.raises(ApplyError) as caught:
        run(service, fleet, machine, {"state": "started", "start_mode": "manual"})
    assert caught.value.reason == "dependency_down"
    assert "It needs MSExchangeADTopology (Stopped, disabled); start that first." in caught.value.message
    assert caught.value.details["start_mode_set"] is True


def test_a_dependency_of_the_dependency_is_named(fleet: Any) -> None:
    machine = fleet.machine("EX1")
    machine.services.stop("Netlogon", force=True)
    machine.services.set_start("Netlogon", "Disabled")
    with pytest.raises(ApplyError) as caught:
        run(service, fleet, machine, {"state": "started"})
    assert "MSExchangeADTopology (Stopped) and Netlogon (Stopped, disabled)" in caught.value.message


def test_a_disabled_service_is_refused_before_anything_is_written(fleet: Any) -> None:
    machine = fleet.machine("EX1")
    machine.services.stop(MITIGATION)
    machine.services.set_start(MITIGATION, "Disabled")
    for check in (True, False):
        with pytest.raises(Refused) as caught:
            run(service, fleet, machine, {"state": "started"}, check=check)
        assert caught.value.reason == "service_disabled"
    assert fleet.access_log.writes() == []


@pytest.mark.parametrize(
    ("name", "reason"), [("OLD", "em_not_supported"), ("EDGE", "edge_server"), ("TOOLS", "management_tools_only"), ("BARE", "no_exchange")]
)
def test_servers_without_it(fleet: Any, name: str, reason: str) -> None:
    from lab.variants import without_exchange

    machine = fleet.machine("EX2" if name == "BARE" else name)
    if name == "BARE":
        without_exchange(machine)
    with pytest.raises(Refused) as caught:
        run(service, fleet, machine, {"state": "started"})
    assert caught.value.reason == reason


def test_the_name_shown_in_another_language_is_of_no_account(fleet: Any) -> None:
    import dataclasses

    machine = fleet.machine("EX1")
    machine.services.add(dataclasses.replace(machine.services.get(MITIGATION), display="Microsoft Exchange Notfallrisikominderungsdienst"))
    assert run(service, fleet, machine, {"state": "restarted"})["service"]["state"] == "running"


@pytest.mark.parametrize("fault", ["drop-after", "drop-before"])
def test_a_lost_answer_is_looked_after(fleet: Any, fault: str) -> None:
    machine = fleet.machine("EX1")
    machine.services.stop(MITIGATION)

    def arm(number: int, kind: str) -> None:
        if kind == "change":
            fleet.faults.add(fault, "EX1", at=1, action="Command")

    if fault == "drop-after":
        assert run(service, fleet, machine, {"state": "started", "timeout": 2}, before=arm)["service"]["state"] == "running"
    else:
        with pytest.raises(ApplyError) as caught:
            run(service, fleet, machine, {"state": "started", "timeout": 1}, before=arm)
        assert "is Stopped after 1 seconds" in caught.value.message


@pytest.mark.parametrize(
    "options", [{"state": "started", "start_mode": "disabled"}, {"state": "started", "timeout": 0}], ids=["disabled-and-started", "no-time"]
)
def test_what_cannot_be_meant(fleet: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        run(service, fleet, fleet.machine("EX1"), options)


def test_constrained_language_is_enough(fleet: Any) -> None:
    machine = fleet.machine("EX1")
    machine.language_mode = "ConstrainedLanguage"
    assert run(service, fleet, machine, {"state": "restarted", "start_mode": "manual"})["service"]["start_mode"] == "manual"
