# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services: started and stopped with a limit, and an error that says what keeps one from it."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _services
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, CmdletError, ConnectionFailure, Refused
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.fake_host import DENIED, FakeHost, item

EM = _services.MITIGATION
LOST = ConnectionFailure("The connection was closed.", change_sent=True)


class Host(FakeHost):
    """A server with services: name to state, start mode and what it needs. ``becomes``: the state that each look after a call sees."""

    def __init__(self, services: Mapping[str, tuple[str, str, tuple[str, ...]]], value: Any = 0, becomes: tuple[str, ...] = (), **told: Any) -> None:
        more = {cmdlet.replace("_", "-"): answer for cmdlet, answer in told.items()}
        super().__init__({"Get-CimInstance": self._cim, "Get-Service": self._service, "Invoke-CimMethod": self._method, **more})
        self.services = dict(services)
        self.value, self.becomes = value, list(becomes)

    def _cim(self, parameters: Mapping[str, Any]) -> Any:
        if parameters["ClassName"] == "Win32_OperatingSystem":
            return (item(CSName="EX1"),)
        found = re.fullmatch(r"Name='(.*)'", parameters["Filter"])
        assert found
        if found[1] not in self.services:
            return ()
        state, mode, dummy = self.services[found[1]]
        if found[1] == EM and self.changes and self.becomes:
            state = self.becomes.pop(0) if len(self.becomes) > 1 else self.becomes[0]
        if isinstance(state, Exception):
            raise state
        return () if state == "gone" else (item(Name=found[1], State=state, StartMode=mode, ProcessId=4711 if state != "Stopped" else 0),)

    def _service(self, parameters: Mapping[str, Any]) -> Any:
        return tuple(item(Name=name, ServicesDependedOn=list(self.services[name][2])) for name in parameters["Name"] if name in self.services)

    def _method(self, dummy_parameters: Mapping[str, Any]) -> Any:
        return self.value if isinstance(self.value, Exception) or not isinstance(self.value, (int, str)) else (item(ReturnValue=self.value),)


def alone(state: str = "Stopped", mode: str = "Auto", *needs: str) -> dict[str, tuple[str, str, tuple[str, ...]]]:
    """Return EM's service with what it needs."""
    return {EM: (state, mode, needs)}


@pytest.fixture(autouse=True)
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waiting takes no time: every sleep moves the clock."""
    pauses: list[float] = []
    monkeypatch.setattr(_services, "time", types.SimpleNamespace(sleep=pauses.append, monotonic=lambda: sum(pauses)))
    return pauses


def started(host: Host) -> _services.State:
    """Start EM's service within 30 seconds."""
    return _services.start(host, EM, 30, str)


def failure(host: Host, stop: bool = False) -> ApplyError:
    """Return the error of a start or a stop."""
    with pytest.raises(ApplyError) as caught:
        _services.stop(host, EM, 30, str) if stop else started(host)
    return caught.value


# --- start -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 10, 5, 7, LOST], ids=["done", "runs already", "not now", "late", "answer lost"])
def test_a_start_is_proven_by_looking_whatever_the_call_returned(value: Any, slept: list[float]) -> None:
    host = Host(alone(), value, ("Start Pending", "Start Pending", "Running"))
    assert started(host).state == "Running"
    assert (host.changes, len(slept)) == ([("Invoke-CimMethod", {"MethodName": "StartService"})], 2)


@pytest.mark.parametrize(
    ("value", "reason", "said"),
    [
        (2, "access_denied", "could not be started: the user may not do this. Use a local administrator."),
        (9, "service_broken", "could not be started: its program file is not there."),
        (14, "service_disabled", "could not be started: it is disabled. Set start_mode as well."),
        (99, "service_refused", "could not be started: Windows answers 99."),
        (5, "service_refused", "could not be started: it does not accept the request in its present state."),
        (7, "service_timeout", "could not be started: it did not answer the request in time."),
        (13, "dependency_down", "could not be started: a service that it needs cannot be started. Look at the services it depends on."),
    ],
)
def test_a_start_that_windows_refuses_says_why(value: int, reason: str, said: str) -> None:
    """5 and 7 are looked at first, since the service may have been on its way; it is stopped, so they are a refusal."""
    found = failure(Host(alone(), value))
    assert (found.reason, found.message, found.details) == (reason, f"{EM} {said}", {"service": EM, "return_value": value})


def test_a_start_that_fails_for_another_service_names_it() -> None:
    """Down to the one that is really down; one that runs, and one that is asked for twice, are not named."""
    host = Host({
        **alone("Stopped", "Auto", "MSExchangeADTopology", "RpcSs"), "RpcSs": ("Running", "Auto", ()),
        "MSExchangeADTopology": ("Stopped", "Auto", ("Netlogon", "Gone", "RpcSs")), "Netlogon": ("Stopped", "Disabled", ("MSExchangeADTopology",)),
    }, 13)  # fmt: skip
    needs = " It needs Gone (missing) and MSExchangeADTopology (Stopped) and Netlogon (Stopped, disabled)"
    assert failure(host).message.endswith(f"{needs}; start that first.")
    late = failure(Host(host.services, 7))
    assert (late.reason, late.message.endswith(f"{needs}.")) == ("service_timeout", True)


def test_services_that_need_each_other_without_end_are_followed_so_far() -> None:
    """A chain longer than any of Windows is not followed to its end, nor is the answer put off for it."""
    chain = {f"S{number}": ("Stopped", "Auto", (f"S{number + 1}",)) for number in range(1, 50)}
    found = failure(Host({**alone("Stopped", "Auto", "S1"), **chain}, 13))
    assert found.message.endswith(" It needs S1 (Stopped) and S2 (Stopped) and S3 (Stopped) and S4 (Stopped); start that first.")


def test_a_start_that_does_not_end_is_given_up_with_its_state(slept: list[float]) -> None:
    services = {**alone("Start Pending", "Auto", "Netlogon"), "Netlogon": ("Paused", "Manual", ())}
    found = failure(Host(services))
    assert (found.reason, found.details["state"], sum(slept)) == ("service_timeout", "Start Pending", 30)
    assert "was told to start, and is Start Pending after 30 seconds. It needs Netlogon (Paused). See the server's event log" in found.message


@pytest.mark.parametrize("value", [(), ("text",), (item(),), "0"], ids=["nothing", "text", "no value", "word"])
def test_a_call_that_returns_no_number_is_an_error_and_no_success(value: Any) -> None:
    with pytest.raises(CmdletError, match=f"StartService of {EM} gave no return value") as caught:
        started(Host(alone("Running"), value))
    assert caught.value.reason == "answer_malformed"


def test_a_call_that_was_never_sent_is_unreachable() -> None:
    gone = ConnectionFailure("no route")
    with pytest.raises(ConnectionFailure) as caught:
        started(Host(alone("Running"), gone))
    assert caught.value is gone


def test_a_call_that_is_refused_with_an_error_record() -> None:
    found = failure(Host(alone(), Invoke_CimMethod=DENIED))
    assert (found.reason, found.message, found.details["fqid"]) == ("service_refused", f"StartService of {EM} failed: Access is denied.", DENIED.fqid)


def test_a_service_that_is_gone_while_it_is_awaited() -> None:
    found = failure(Host(alone(), 0, ("gone",)))
    assert (found.reason, found.message) == ("service_missing", f"The service {EM} is gone.")


def test_a_service_that_cannot_be_looked_at_any_more_is_not_called_gone() -> None:
    with pytest.raises(CmdletError, match="Get-CimInstance Win32_Service: Access is denied"):
        _services.look(FakeHost({"Get-CimInstance": DENIED}), EM)


# --- stop --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 6, 5, 7, LOST], ids=["done", "not active", "not now", "late", "answer lost"])
def test_a_stop_is_proven_by_looking_whatever_the_call_returned(value: Any) -> None:
    host = Host(alone("Running"), value, ("Stop Pending", "Stopped"))
    assert _services.stop(host, EM, 30, str).state == "Stopped"
    assert host.changes == [("Invoke-CimMethod", {"MethodName": "StopService"})]


@pytest.mark.parametrize(
    ("value", "reason", "said"),
    [
        (3, "dependents_running", "could not be stopped: services that need it are running."),
        (2, "access_denied", "could not be stopped: the user may not do this. Use a local administrator."),
        (10, "service_refused", "could not be stopped: Windows answers 10."),
    ],
)
def test_a_stop_that_windows_refuses_says_why(value: int, reason: str, said: str) -> None:
    found = failure(Host(alone("Running"), value), stop=True)
    assert (found.reason, found.message) == (reason, f"{EM} {said}")


@pytest.mark.parametrize(("state", "process"), [("Stop Pending", " 4711"), ("Running", " 4711")])
def test_a_stop_that_does_not_end_names_the_process(state: str, process: str) -> None:
    found = failure(Host(alone(state), 0), stop=True)
    assert (found.reason, found.details["process_id"]) == ("service_timeout", 4711)
    assert found.message == f"{EM} was told to stop, and is {state} after 30 seconds. End its process{process} on the server, or raise timeout."


# --- reading and the start mode ----------------------------------------------------------------------------------------------


def test_a_service_is_read_with_the_states_of_what_it_needs() -> None:
    host = Host({**alone("Running", "Auto", "RpcSs", "Gone"), "RpcSs": ("Running", "Auto", ())})
    assert _services.read(host, EM).facts() == {
        "name": EM, "state": "running", "start_mode": "auto", "process_id": 4711, "needs": {"RpcSs": "Running", "Gone": "missing"},
    }  # fmt: skip


SETUP = {"PSChildName": "Setup", "Services": "C:\\Exchange", "MsiProductMajor": 15, "MsiProductMinor": 1}


@pytest.mark.parametrize(
    ("name", "setup", "edge", "reason", "said"),
    [
        (EM, SETUP, False, "em_not_supported", f"EX1 has no service {EM}: its build is from before Emergency Mitigation"),
        (_services.FLIGHTING, SETUP, False, "service_missing", "EX1 has no service MSExchangeFlighting: it came with Exchange SE"),
        (EM, SETUP, True, "edge_server", "EX1 is an Edge Transport server"),
        (EM, {**SETUP, "Services": None}, False, "management_tools_only", "EX1 has only the Exchange management tools"),
        (EM, None, False, "no_exchange", "EX1 has no Exchange installation"),
    ],
)
def test_a_server_without_the_service_is_refused_by_what_it_is(name: str, setup: Any, edge: bool, reason: str, said: str) -> None:
    with pytest.raises(Refused) as caught:
        _services.read(Host({}, Get_ItemProperty=(item(**setup),) if setup else (), Test_Path=(edge,)), name)
    assert (caught.value.reason, said in caught.value.message) == (reason, True)


def test_a_start_mode_that_is_refused_is_an_error_with_its_id() -> None:
    host = Host(alone(), Set_Service=DENIED)
    with pytest.raises(ApplyError, match=f"The start mode of {EM} could not be set to auto: Access is denied") as caught:
        _services.set_start_mode(host, EM, "auto")
    assert (caught.value.reason, caught.value.details["fqid"], host.changes) == (
        "start_mode_failed", DENIED.fqid, [("Set-Service", {"Name": EM, "StartupType": "Automatic"})],
    )  # fmt: skip
