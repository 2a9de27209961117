# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cmdlets of Exchange's endpoint (CMDLETS.md 10): Get-/Set-OrganizationConfig, Get-/Set-ExchangeServer, Get-DatabaseAvailabilityGroup."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from . import builds
from .kernel import ErrorInfo, Invocation, LabRefusal, Obj, Parameter, Terminating, cmdlet
from .organization import NAME, Server

NOT_SPECIFIED, INVALID_ARGUMENT, OBJECT_NOT_FOUND = 0, 5, 13

#: Roles of the lab's users: who is in none of them has no Exchange cmdlets at all.
ADMINISTRATOR, VIEWER = "Organization Management", "View-Only Organization Management"
_ALLOWED = {
    ADMINISTRATOR: {"get-organizationconfig", "set-organizationconfig", "get-exchangeserver", "set-exchangeserver", "get-databaseavailabilitygroup"},
    VIEWER: {"get-organizationconfig", "get-exchangeserver", "get-databaseavailabilitygroup"},
}

#: What a cmdlet of the snap-in says where the logon of its session cannot be handed on to a domain controller.
NO_BIND_EXCEPTION = "Microsoft.Exchange.Data.Directory.ADOperationException"
NO_BIND = (
    "Active Directory operation failed on {0}. This error is not retriable. Additional information: In order to perform this operation "
    "a successful bind must be completed on the connection. Active directory response: 000004DC: LdapErr: DSID-0C0909AF, comment: "
    "In order to perform this operation a successful bind must be completed on the connection., data 0, v3839"
)

_CONFIRMATION = {"Confirm": Parameter("switch"), "WhatIf": Parameter("switch")}
_CONTROLLER = {"DomainController": Parameter("string")}


def visible(fleet: Any, user: str, name: str) -> bool:
    """Return whether the user's RBAC roles hold the cmdlet; what they do not hold does not exist for the session."""
    roles = getattr(fleet, "roles", None)
    return roles is None or name.lower() in _ALLOWED.get(roles.get(user.lower(), ""), set())


def _changes(bound: dict[str, Any]) -> bool:
    return not _switched(bound.get("WhatIf"), "WhatIf" in bound)


def _switched(value: Any, given: bool) -> bool:
    """Nil for a switch means present (CMDLETS.md 0, 9)."""
    return given and (value is None or bool(value))


class _Call:
    """One running cmdlet with the organisation it works on."""

    def __init__(self, invocation: Invocation, name: str, activity: str) -> None:
        self.invocation = invocation
        self.machine = invocation.machine
        self.fleet = invocation.machine.fleet
        self.organization = self.fleet.organization
        self.name = name
        self.activity = activity
        user = str(getattr(invocation.session, "user", ""))
        local = getattr(invocation.session, "endpoint", "exchange") == "host"  # the snap-in: no roles, but a way to Active Directory of one's own
        if local and not getattr(invocation.session, "delegated", False):
            raise Terminating(self.error(NO_BIND.format(self.organization.controller_of(self.machine.name)), "ADOperationException", NO_BIND_EXCEPTION))
        if not local and not visible(self.fleet, user, name):
            raise Terminating(
                ErrorInfo(
                    f"The term '{name}' is not recognized as the name of a cmdlet, function, script file, or operable program. "
                    "Check the spelling of the name, or if a path was included, verify that the path is correct and try again.",
                    "CommandNotFoundException",
                    OBJECT_NOT_FOUND,
                    "System.Management.Automation.CommandNotFoundException",
                    name,
                )
            )
        self.controller = self._controller()

    @property
    def full(self) -> bool:
        """Whether the session's URL asks for full serialization."""
        return "serializationlevel=full" in str(getattr(self.invocation.session, "url", "")).lower()

    @property
    def with_em(self) -> bool:
        """Whether the answering server's cmdlets know EM's properties and parameters."""
        return builds.has_em(builds.parse(self.machine.build))

    def _controller(self) -> str:
        wanted = self.invocation.get("DomainController")
        if wanted is None:
            return str(self.organization.controller_of(self.machine.name))
        found = self.organization.directory.controller(str(wanted))
        if found is None:
            message = (
                f"An Active Directory error 0x51 occurred when trying to check the suitability of server '{wanted}'. "
                "Error: 'Active directory response: The LDAP server is unavailable.'"
            )
            raise Terminating(self.error(message, "SuitabilityDirectoryException", "Microsoft.Exchange.Data.Directory.SuitabilityDirectoryException"))
        return str(found)

    def error(self, message: str, kind: str, exception: str) -> ErrorInfo:
        """Return an error as Exchange writes it: the FullyQualifiedErrorId begins with server, request and time."""
        stamp = datetime.datetime.now(datetime.timezone.utc)
        moment = f"{stamp.month}/{stamp.day}/{stamp.year} {stamp.hour % 12 or 12}:{stamp.minute:02d}:{stamp.second:02d} {'AM' if stamp.hour < 12 else 'PM'}"
        code = f"{uuid.uuid5(uuid.NAMESPACE_OID, kind + self.name).int & 0xFFFFFFFF:08X}"
        fqid = f"[Server={self.machine.name},RequestId={uuid.uuid4()},TimeStamp={moment}] [FailureCategory=Cmdlet-{kind}] {code},{self.activity}"
        return ErrorInfo(message, fqid, NOT_SPECIFIED, exception, "", self.name)

    def server(self, identity: Any) -> Server | None:
        """Return a server, or write the error that there is none."""
        found: Server | None = self.organization.find(str(identity))
        if found is None:
            message = f"The operation couldn't be performed because object '{identity}' couldn't be found on '{self.controller}'."
            kind = "ManagementObjectNotFoundException"
            self.invocation.error(self.error(message, kind, f"Microsoft.Exchange.Configuration.Tasks.{kind}"))
        return found

    def whether_for_real(self) -> bool:
        """Return False for -WhatIf; a -Confirm that would prompt is refused by the lab."""
        parameters = self.invocation.parameters
        if _switched(parameters.get("Confirm"), "Confirm" in parameters):
            raise LabRefusal(f"{self.name} -Confirm would prompt, and the lab answers no prompts")
        return _changes(parameters)

    def refuse_before_em(self, *names: str) -> None:
        """Refuse parameters that a build before EM does not have."""
        for name in names:
            if name in self.invocation.parameters and not self.with_em:
                message = f"A parameter cannot be found that matches parameter name '{name}'."
                exception = "System.Management.Automation.ParameterBindingException"
                raise Terminating(ErrorInfo(message, f"NamedParameterNotFound,{self.name}", INVALID_ARGUMENT, exception, "", self.name))


def _strings(name: str, value: Any) -> list[str] | None:
    """Return the value of a MultiValuedProperty parameter: a list replaces, an empty list or nothing clears."""
    if isinstance(value, Obj):
        value = value.value
    if value is None:
        return None
    if isinstance(value, dict):
        raise LabRefusal(f"-{name} with a hashtable is not documented (CMDLETS.md 10), so the lab does not know what it does")
    entries = value if isinstance(value, (list, tuple)) else [value]
    if not all(isinstance(entry, str) for entry in entries):
        raise LabRefusal(f"-{name}: {value!r} holds something else than strings")
    return list(entries)


@cmdlet("Get-OrganizationConfig", {**_CONTROLLER}, where=("exchange",))
def get_organization_config(invocation: Invocation) -> Iterator[Any]:
    """Write the organisation as the domain controller knows it."""
    call = _Call(invocation, "Get-OrganizationConfig", "Microsoft.Exchange.Management.SystemConfigurationTasks.GetOrganizationConfig")
    yield call.organization.organization_object(call.controller, call.with_em, call.full)


@cmdlet("Set-OrganizationConfig", {"MitigationsEnabled": Parameter("bool"), **_CONTROLLER, **_CONFIRMATION}, write=_changes, where=("exchange",))
def set_organization_config(invocation: Invocation) -> Iterator[Any]:
    """Change the organisation on the domain controller."""
    call = _Call(invocation, "Set-OrganizationConfig", "Microsoft.Exchange.Management.SystemConfigurationTasks.SetOrganizationConfig")
    call.refuse_before_em("MitigationsEnabled")
    if call.whether_for_real() and "MitigationsEnabled" in invocation.parameters:
        call.organization.change(NAME, {"MitigationsEnabled": bool(invocation.get("MitigationsEnabled"))}, call.controller)
    yield from ()


@cmdlet(
    "Get-ExchangeServer",
    {"Identity": Parameter("string", position=0, from_pipeline=True), "Status": Parameter("switch"), **_CONTROLLER},
    where=("exchange",),
)
def get_exchange_server(invocation: Invocation) -> Iterator[Any]:
    """Write one server or all of them as the domain controller knows them."""
    call = _Call(invocation, "Get-ExchangeServer", "Microsoft.Exchange.Management.SystemConfigurationTasks.GetExchangeServer")
    status = _switched(invocation.get("Status"), "Status" in invocation.parameters)
    if "Identity" in invocation.parameters:
        found = call.server(invocation.get("Identity"))
        servers = [found] if found else []
    else:
        servers = list(call.organization.servers)
    for server in servers:
        yield call.organization.server_object(server, call.controller, call.with_em, status, call.full)


@cmdlet("Get-DatabaseAvailabilityGroup", {**_CONTROLLER}, where=("exchange",))
def get_database_availability_group(invocation: Invocation) -> Iterator[Any]:
    """Write every availability group with its members."""
    call = _Call(invocation, "Get-DatabaseAvailabilityGroup", "Microsoft.Exchange.Management.SystemConfigurationTasks.GetDatabaseAvailabilityGroup")
    yield from call.organization.group_objects(call.controller, call.full)


@cmdlet(
    "Set-ExchangeServer",
    {
        "Identity": Parameter("string", position=0, mandatory=True, from_pipeline=True),
        "MitigationsEnabled": Parameter("bool"),
        "MitigationsBlocked": Parameter("mvp"),
        "DataCollectionEnabled": Parameter("bool"),
        "InternetWebProxy": Parameter("uri"),
        "InternetWebProxyBypassList": Parameter("mvp"),
        **_CONTROLLER,
        **_CONFIRMATION,
    },
    write=_changes,
    where=("exchange",),
)
def set_exchange_server(invocation: Invocation) -> Iterator[Any]:
    """Change a server on the domain controller; MitigationsApplied is EM's and no parameter of the lab's."""
    call = _Call(invocation, "Set-ExchangeServer", "Microsoft.Exchange.Management.SystemConfigurationTasks.SetExchangeServer")
    call.refuse_before_em("MitigationsEnabled", "MitigationsBlocked", "DataCollectionEnabled")
    parameters = invocation.parameters
    changes: dict[str, Any] = {name: bool(parameters[name]) for name in ("MitigationsEnabled", "DataCollectionEnabled") if name in parameters}
    for name in ("MitigationsBlocked", "InternetWebProxyBypassList"):
        if name in parameters:
            changes[name] = _strings(name, parameters[name])
    if "InternetWebProxy" in parameters:
        changes["InternetWebProxy"] = _uri(parameters["InternetWebProxy"])
    server = call.server(parameters["Identity"])
    if server and changes and call.whether_for_real():
        call.organization.change(server.name, changes, call.controller)
    yield from ()


def _uri(value: Any) -> str | None:
    """Return a Uri's text with the trailing slash that System.Uri shows for a bare host."""
    if value is None or value == "":
        return None
    text = str(value)
    parts = urlsplit(text)
    if not parts.scheme or not parts.netloc:
        raise Terminating(
            ErrorInfo(
                f'Cannot bind parameter \'InternetWebProxy\'. Cannot convert value "{text}" to type "System.Uri".',
                "CannotConvertArgumentNoMessage,Set-ExchangeServer",
                INVALID_ARGUMENT,
                "System.Management.Automation.ParameterBindingException",
                activity="Set-ExchangeServer",
            )
        )
    return text if parts.path else f"{text}/"
