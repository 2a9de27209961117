# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cmdlets of services (CMDLETS.md 4); every transition is done when the cmdlet returns, unless a fault says otherwise."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from typing import Any

from lab.kernel import ErrorInfo, Invocation, LabRefusal, Obj, Parameter, Terminating, cmdlet
from lab.providers import CLOSE_ERROR, INVALID_OPERATION, NOT_FOUND, OPEN_ERROR, UNLISTED, record
from lab.services import RUNNING, STOPPED, Service, ServiceProblem

_EXCEPTION = "Microsoft.PowerShell.Commands.ServiceCommandException"
_TYPES = ("System.ServiceProcess.ServiceController", "System.ComponentModel.Component", "System.MarshalByRefObject", "System.Object")
_SERVICES = {
    "Name": Parameter("string[]", position=0),
    "InputObject": Parameter("object", from_pipeline=True),
    "Force": Parameter("switch"),
    "PassThru": Parameter("switch"),
    "Confirm": Parameter("switch"),
}


class LiveService:
    """The live ServiceController: WaitForStatus returns at once or times out."""

    def __init__(self, machine: Any, name: str) -> None:
        self._machine = machine
        self.name = name
        self.lab_methods = {"WaitForStatus": self.wait_for_status}

    def wait_for_status(self, *arguments: Any) -> None:
        """Succeed when the service is in that state; nothing changes by itself in the lab, so else the time is up."""
        if not arguments:
            raise LabRefusal("WaitForStatus needs a state")
        if self._machine.services.get(self.name).state.lower() != str(arguments[0]).lower():
            kind = "System.ServiceProcess.TimeoutException"
            message = "Time out has expired and the operation has not been completed."
            raise Terminating(ErrorInfo(message, "TimeoutException", INVALID_OPERATION, kind, self.name))


def controller(machine: Any, service: Service) -> Obj:
    """Return the ServiceController of a service as it is serialised at depth 1."""
    dependents = [other.name for other in machine.services.dependents(service.name)]
    running = service.state == RUNNING
    props: dict[str, Any] = {
        "CanPauseAndContinue": False, "CanShutdown": running, "CanStop": running and service.can_stop, "DisplayName": service.display,
        "DependentServices": dependents, "MachineName": ".", "ServiceName": service.name, "ServicesDependedOn": list(service.depends),
        "ServiceHandle": None, "Status": service.state, "ServiceType": service.kind, "StartType": service.start, "Site": None, "Container": None,
    }  # fmt: skip
    notes = {"Name": service.name, "RequiredServices": list(service.depends)}
    return Obj(_TYPES, props, notes, to_string=service.name, live=LiveService(machine, service.name))


def _named(inv: Invocation, name: str) -> Iterator[Service]:
    """Yield the services of -Name (wildcards) or of the pipeline; an absent name is a non-terminating error."""
    services = inv.machine.services
    if inv.get("Confirm"):
        raise LabRefusal("-Confirm would prompt, and the lab answers no prompt")
    patterns = inv.get("Name")
    if patterns is None:
        objects = [inv.get("InputObject")] if "InputObject" in inv.parameters else list(inv.input)
        patterns = [getattr(getattr(item, "live", None), "name", item if isinstance(item, str) else None) for item in objects]
        if any(pattern is None for pattern in patterns):
            raise LabRefusal(f"{name} takes services from the pipeline, live ones")
        if not patterns and name == "Get-Service":
            patterns = ["*"]
    for pattern in patterns:
        if "*" in pattern or "?" in pattern:
            yield from (service for service in services.all() if fnmatch.fnmatchcase(service.name.lower(), pattern.lower()))
            continue
        found = services.find(pattern)
        if found is None:
            message = f"Cannot find any service with service name '{pattern}'."
            inv.error(record(name, "NoServiceFoundForGivenName", message, NOT_FOUND, _EXCEPTION, pattern))
        else:
            yield found


@cmdlet("Get-Service", {"Name": Parameter("string[]", position=0)})
def get_service(inv: Invocation) -> Iterator[Any]:
    """ServiceController per service."""
    for service in _named(inv, "Get-Service"):
        yield controller(inv.machine, service)


def _failed(name: str, identifier: str, service: Service, verb: str, category: int, reason: str) -> ErrorInfo:
    message = f"Service '{service.display} ({service.name})' cannot be {verb} due to the following error: {reason}"
    return record(name, identifier, message, category, _EXCEPTION, service.name)


def _stop(inv: Invocation, name: str, service: Service, force: bool) -> bool:
    """Stop and report; False when it was refused."""
    slow = inv.machine.fault("stop-pending")
    try:
        if slow and inv.get("NoWait"):
            inv.machine.services.stop_slowly(service.name, slow.options.get("seconds", float("inf")))
            return True
        if slow:
            raise LabRefusal(f"{name} would wait for ever for a service that does not stop; send -NoWait")
        inv.machine.services.stop(service.name, force)
    except ServiceProblem as problem:
        if problem.kind == "dependents":
            identifier = "ServiceHasDependentServicesNoForce" if name == "Set-Service" else "ServiceHasDependentServices"
            who = f"'{service.display} ({service.name})'"
            message = f"Cannot stop service {who} because it has dependent services. It can only be stopped if the Force flag is set."
            inv.error(record(name, identifier, message, INVALID_OPERATION, _EXCEPTION, service.name))
        else:
            reason = f"Cannot stop {service.name} service on computer '.'."
            inv.error(_failed(name, "CouldNotStopService", service, "stopped", CLOSE_ERROR, reason))
        return False
    return True


def _start(inv: Invocation, name: str, service: Service) -> bool:
    try:
        if inv.machine.fault("start-fails"):
            raise ServiceProblem("disabled", service.name)
        inv.machine.services.start(service.name)
    except ServiceProblem as problem:
        if problem.kind == "stopping":
            # Windows says that it runs already, which the cmdlet passes over; then it waits in vain.
            message = f"Failed to start service '{service.display} ({service.name})'."
            inv.error(record(name, "StartServiceFailed", message, OPEN_ERROR, _EXCEPTION, service.name))
            return False
        inv.error(_failed(name, "CouldNotStartService", service, "started", OPEN_ERROR, f"Cannot start service {service.name} on computer '.'."))
        return False
    return True


def _passed(inv: Invocation, service: Service) -> Iterator[Any]:
    if inv.get("PassThru"):
        yield controller(inv.machine, inv.machine.services.get(service.name))


@cmdlet("Stop-Service", _SERVICES | {"NoWait": Parameter("switch")}, write=True)
def stop_service(inv: Invocation) -> Iterator[Any]:
    """Stop services; a stopped one is silent success, running dependents need -Force."""
    for service in _named(inv, "Stop-Service"):
        if _stop(inv, "Stop-Service", service, bool(inv.get("Force"))):
            yield from _passed(inv, service)


@cmdlet("Start-Service", {key: value for key, value in _SERVICES.items() if key != "Force"}, write=True)
def start_service(inv: Invocation) -> Iterator[Any]:
    """Start services with what they need; a running one is success, a disabled one is refused."""
    for service in _named(inv, "Start-Service"):
        if _start(inv, "Start-Service", service):
            yield from _passed(inv, service)


@cmdlet("Restart-Service", _SERVICES, write=True, languages=UNLISTED)
def restart_service(inv: Invocation) -> Iterator[Any]:
    """Stop and start; -Force restarts the dependents that were running."""
    name = "Restart-Service"
    for service in _named(inv, name):
        running = [other.name for other in inv.machine.services.all() if other.state == RUNNING]
        if not _stop(inv, name, service, bool(inv.get("Force"))):
            continue
        if _start(inv, name, service):
            for other in running:
                if inv.machine.services.get(other).state == STOPPED:
                    _start(inv, name, inv.machine.services.get(other))
            yield from _passed(inv, service)


@cmdlet(
    "Set-Service",
    {
        "Name": Parameter(position=0, mandatory=True), "StartupType": Parameter(values=("Automatic", "Manual", "Disabled")),
        "Status": Parameter(values=("Running", "Stopped", "Paused")), "PassThru": Parameter("switch"), "Confirm": Parameter("switch"),
    },
    write=True,
    languages=UNLISTED,
)  # fmt: skip
def set_service(inv: Invocation) -> Iterator[Any]:
    """Start mode and state of one service; there is no delayed start in 5.1."""
    name = "Set-Service"
    service = inv.machine.services.find(inv.get("Name"))
    if inv.get("Confirm"):
        raise LabRefusal("-Confirm would prompt, and the lab answers no prompt")
    if service is None:
        message = f"Service {inv.get('Name')} was not found on computer '.'."
        inv.error(record(name, "InvalidOperationException", message, NOT_FOUND, "System.InvalidOperationException", "."))
        return
    if inv.get("StartupType"):
        inv.machine.services.set_start(service.name, inv.get("StartupType"))
    status = inv.get("Status")
    if status == "Paused":
        raise LabRefusal("the lab pauses no service")
    done = True
    if status == "Running":
        done = _start(inv, name, inv.machine.services.get(service.name))
    elif status == "Stopped":
        done = _stop(inv, name, service, force=False)
    if done:
        yield from _passed(inv, service)
