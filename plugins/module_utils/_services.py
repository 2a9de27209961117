# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services of Emergency Mitigation: their state and start mode, changed without ever waiting without a limit.

Start-Service and Stop-Service wait for ever while a service says pending (CMDLETS.md 4). The methods of Win32_Service return a
number at once, or when the service control manager gives up, in no language; waiting is done here, by looking.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import PSObject, plain, strings
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, CmdletError, ConnectionFailure, Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Answer, Session, Statement, call
from ansible_collections.exchange.mitigation.plugins.module_utils._observe import EDGE_KEY, SETUP_KEY, failed, refuse_machine
from ansible_collections.exchange.mitigation.plugins.module_utils._untrusted import number, word

MITIGATION = "MSExchangeMitigation"
FLIGHTING = "MSExchangeFlighting"
RUNNING, STOPPED = "Running", "Stopped"
#: The words of the option, of Win32_Service.StartMode and of Set-Service.
START_MODES = {"auto": ("Auto", "Automatic"), "manual": ("Manual", "Manual"), "disabled": ("Disabled", "Disabled")}
PROPERTIES = ["Name", "State", "StartMode", "ProcessId", "ExitCode"]

#: Seconds between two looks at a service that is starting or stopping.
POLL = 1.0

#: Return values of Win32_Service.StartService and StopService.
RETURN_VALUES: Mapping[int, tuple[str, str]] = {
    2: ("access_denied", "the user may not do this"),
    3: ("dependents_running", "services that need it are running"),
    5: ("service_refused", "it does not accept the request in its present state"),
    7: ("service_timeout", "it did not answer the request in time"),
    9: ("service_broken", "its program file is not there"),
    11: ("service_refused", "the service database is locked"),
    12: ("dependency_down", "a service that it needs does not exist"),
    13: ("dependency_down", "a service that it needs cannot be started"),
    14: ("service_disabled", "it is disabled"),
    15: ("service_broken", "its account cannot log on"),
    16: ("service_broken", "it is marked for deletion"),
}
DONE, ALREADY_RUNNING, NOT_ACTIVE = 0, 10, 6


@dataclasses.dataclass(frozen=True)
class State:
    """A service at one moment. ``needs``: services it depends on, with their states; None: unknown to the server."""

    name: str
    state: str
    start_mode: str
    process_id: int
    needs: Mapping[str, str]

    def facts(self) -> dict[str, Any]:
        """Return the shape for users."""
        mode = next((word for word, (shown, dummy) in START_MODES.items() if shown == self.start_mode), self.start_mode.lower())
        return {"name": self.name, "state": self.state.lower().replace(" ", "_"), "start_mode": mode, "process_id": self.process_id, "needs": dict(self.needs)}


def read(host: Session, name: str) -> State:
    """Return the service. Raises Refused by name where the server has none, CmdletError, ConnectionFailure."""
    answers = host.read([
        _query(name),
        (call("Get-Service", Name=[name]),),
        (call("Get-ItemProperty", LiteralPath=[SETUP_KEY]),),
        (call("Test-Path", LiteralPath=EDGE_KEY),),
        (call("Get-CimInstance", ClassName="Win32_OperatingSystem", Property=["CSName"]),),
    ])  # fmt: skip
    row = _first(answers[0])
    if row is None:
        raise failed(answers[0]) if answers[0].errors else _absence(name, answers)
    controller = _first(answers[1])
    needed = strings(controller.get("ServicesDependedOn")) if controller is not None else []
    return _state(row, dict(zip(needed, states(host, needed))) if needed else {})


def states(host: Session, names: list[str]) -> list[str]:
    """Return the state of each service, ``missing`` for one that is not there."""
    answers = host.read([_query(name) for name in names])
    return [(word(row.get("State")) or "") if (row := _first(answer)) is not None else "missing" for answer in answers]


def look(host: Session, name: str) -> State:
    """Return the service alone, without what it needs."""
    (answer,) = host.read([_query(name)])
    row = _first(answer)
    if row is None:
        raise failed(answer) if answer.errors else ApplyError(f"The service {name} is gone.", "service_missing", service=name)
    return _state(row, {})


def set_start_mode(host: Session, name: str, mode: str) -> None:
    """Set the start mode. Raises ApplyError."""
    try:
        host.change((call("Set-Service", Name=name, StartupType=START_MODES[mode][1]),))
    except CmdletError as exc:
        raise ApplyError(f"The start mode of {name} could not be set to {mode}: {exc.message}", "start_mode_failed", service=name, fqid=exc.fqid) from exc


def start(host: Session, name: str, timeout: float, progress: Callable[[str], Any]) -> State:
    """Start the service and wait until it runs. Raises ApplyError that names what it needs."""
    progress(f"starting {name}")
    value = _method(host, name, "StartService")
    if value not in (DONE, ALREADY_RUNNING, 5, 7, None):
        raise _refusal(host, name, "started", value)
    found = _wait(host, name, RUNNING, timeout)
    if found.state != RUNNING:
        if value in (5, 7) and found.state == STOPPED:
            raise _refusal(host, name, "started", value)
        down = _down(host, name)
        needs = f" It needs {down}." if down else ""
        raise ApplyError(
            f"{name} was told to start, and is {found.state} after {timeout:g} seconds.{needs} See the server's event log (System, Service Control Manager).",
            "service_timeout", service=name, state=found.state,
        )  # fmt: skip
    return found


def stop(host: Session, name: str, timeout: float, progress: Callable[[str], Any]) -> State:
    """Stop the service and wait until it is stopped. Raises ApplyError."""
    progress(f"stopping {name}")
    value = _method(host, name, "StopService")
    if value not in (DONE, NOT_ACTIVE, 5, 7, None):
        raise _refusal(host, name, "stopped", value)
    found = _wait(host, name, STOPPED, timeout)
    if found.state != STOPPED:
        raise ApplyError(
            f"{name} was told to stop, and is {found.state} after {timeout:g} seconds. "
            f"End its process{f' {found.process_id}' if found.process_id else ''} on the server, or raise timeout.",
            "service_timeout", service=name, state=found.state, process_id=found.process_id,
        )  # fmt: skip
    return found


def _method(host: Session, name: str, method: str) -> int | None:
    """Call a method of the service; None where the answer was lost, after which looking tells."""
    try:
        answer = host.change((*_query(name), call("Invoke-CimMethod", MethodName=method)))
    except ConnectionFailure as exc:
        if not exc.details.get("change_sent"):
            raise
        return None
    except CmdletError as exc:
        raise ApplyError(f"{method} of {name} failed: {exc.message}", "service_refused", service=name, fqid=exc.fqid) from exc
    row = _first(answer)
    value = plain(row.get("ReturnValue")) if row is not None else None
    if not isinstance(value, int):
        raise CmdletError(f"{method} of {name} gave no return value", "Invoke-CimMethod", reason="answer_malformed")
    return int(value)


def _refusal(host: Session, name: str, verb: str, value: int | None) -> ApplyError:
    reason, what = RETURN_VALUES.get(int(value or 0), ("service_refused", f"Windows answers {value}"))
    down = _down(host, name) if reason == "dependency_down" or value == 7 else ""
    remedy = {
        "dependency_down": f" It needs {down}; start that first." if down else " Look at the services it depends on.",
        "service_disabled": " Set start_mode as well.",
        "access_denied": " Use a local administrator.",
    }.get(reason, f" It needs {down}." if down else "")
    return ApplyError(f"{name} could not be {verb}: {what}.{remedy}", reason, service=name, return_value=value)


def _down(host: Session, name: str) -> str:
    """Return the services that this one needs, directly or not, and that do not run, as text."""
    seen: dict[str, str] = {}
    queue = [name]
    for dummy in range(4):  # MSExchangeADTopology, Netlogon, ...: not deeper than that
        (answer,) = host.read([(call("Get-Service", Name=queue),)])
        needed = {need for item in answer.objects if isinstance(item, PSObject) for need in strings(item.get("ServicesDependedOn"))} - set(seen)
        if not needed:
            break
        queue = sorted(needed)
        seen.update(zip(queue, states(host, queue)))
        queue = [need for need in queue if seen[need] not in (RUNNING, "missing")]
        if not queue:
            break
    modes = {need: _mode(host, need) for need, state in seen.items() if state != RUNNING}
    return " and ".join(f"{need} ({seen[need]}{', ' + modes[need] if modes[need] else ''})" for need in sorted(modes))


def _mode(host: Session, name: str) -> str:
    (answer,) = host.read([_query(name)])
    row = _first(answer)
    return "" if row is None else {"Disabled": "disabled"}.get((word(row.get("StartMode")) or ""), "")


def _wait(host: Session, name: str, wanted: str, timeout: float) -> State:
    deadline = time.monotonic() + timeout
    while True:
        found = look(host, name)
        if found.state == wanted or time.monotonic() >= deadline:
            return found
        time.sleep(min(POLL, max(deadline - time.monotonic(), 0.01)))


def _query(name: str) -> Statement:
    quoted = name.replace("\\", "\\\\").replace("'", "\\'")
    return (call("Get-CimInstance", ClassName="Win32_Service", Filter=f"Name='{quoted}'", Property=PROPERTIES),)


def _first(answer: Answer) -> PSObject | None:
    return next((item for item in answer.objects if isinstance(item, PSObject)), None)


def _state(row: PSObject, needs: Mapping[str, str]) -> State:
    name, state, mode = (word(row.get(member)) or "" for member in ("Name", "State", "StartMode"))
    return State(name, state, mode, number(row.get("ProcessId")) or 0, needs)


def _absence(name: str, answers: list[Answer]) -> Refused:
    """Return why a server has no such service; raises it where the machine is none for this collection."""
    system = _first(answers[4])
    computer = (word(system.get("CSName")) or "") if system is not None else "this machine"
    bag = _first(answers[2])
    edge = any(plain(value) is True for value in answers[3].objects)
    refuse_machine(computer, edge, dict(bag.properties) if bag is not None else None)
    if name == FLIGHTING:
        return Refused(f"{computer} has no service {name}: it came with Exchange SE; leave this server out", "service_missing", service=name)
    return Refused(
        f"{computer} has no service {name}: its build is from before Emergency Mitigation (2016 CU22, 2019 CU11); update it, or apply mitigations without EM",
        "em_not_supported", service=name,
    )  # fmt: skip
