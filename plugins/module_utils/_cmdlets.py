# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one table of cmdlets: what may be sent to a server, with which parameters, and what right that needs.

The table is the allow-list that a session enforces before anything is sent, and the source of the documentation of
rights and of the JEA role capability. Only cmdlet names and typed parameters exist; there is no script text.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._errors import CmdletNotAllowed
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Call, Statement

HOST = "host"
EXCHANGE = "exchange"
READS = "reads"
CHANGES = "changes"


@dataclasses.dataclass(frozen=True)
class Kind:
    """The values that a parameter may carry: a name for documentation and a test; where it is so, the only texts or their pattern."""

    name: str
    accepts: Callable[[Any], bool]
    values: tuple[str, ...] = ()
    pattern: str = ""


def _is_strings(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)


STRING = Kind("string", lambda value: isinstance(value, str) and value != "")
STRINGS = Kind("string or list of strings", lambda value: (isinstance(value, str) and value != "") or (_is_strings(value) and bool(value)))
INT = Kind("int", lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31)
BOOL = Kind("bool", lambda value: isinstance(value, bool))
#: A switch is sent as a boolean: null would mean present, a text is a terminating error (CMDLETS.md 0 row 9).
SWITCH = Kind("switch", lambda value: isinstance(value, bool))
BYTES = Kind("bytes", lambda value: isinstance(value, bytes))
#: A multi-valued property is replaced whole; an empty list clears it (CMDLETS.md 10).
MULTI = Kind("list of strings", _is_strings)


#: A Uri is sent as text; null clears it (CMDLETS.md 0 row 9).
URI_OR_NULL = Kind("URL or null", lambda value: value is None or (isinstance(value, str) and value != ""))


#: Exchange's own services and application pools; the one whose stop would take every other with it is left out.
EXCHANGE_NAME = re.compile(r"MSExchange(?!ADTopology$)[A-Za-z0-9]{1,200}", re.IGNORECASE)
#: The elements of applicationHost.config whose autoStart may be set.
POOL_FILTER = re.compile(r"/system\.applicationHost/applicationPools/add\[@name='MSExchange[A-Za-z0-9]{1,200}'\]")


def _is_pool_filter(value: Any) -> bool:
    return isinstance(value, str) and POOL_FILTER.fullmatch(value) is not None


def _is_exchange_name(value: Any) -> bool:
    return isinstance(value, str) and EXCHANGE_NAME.fullmatch(value) is not None


SERVICE = Kind("name of an Exchange service", _is_exchange_name, pattern=EXCHANGE_NAME.pattern)
SERVICES = Kind(
    "list of names of Exchange services", lambda value: _is_strings(value) and bool(value) and all(map(_is_exchange_name, value)),
    pattern=EXCHANGE_NAME.pattern,
)  # fmt: skip
POOL = Kind("name of an Exchange application pool", _is_exchange_name, pattern=EXCHANGE_NAME.pattern)
POOL_ELEMENT = Kind("the element of an Exchange application pool", _is_pool_filter, pattern=POOL_FILTER.pattern)
HEADERS = Kind("hashtable of strings", lambda value: isinstance(value, dict) and _is_strings([*value, *value.values()]))


def one_of(*values: str) -> Kind:
    """Return the kind of a parameter that takes only these texts."""
    return Kind(" | ".join(values), lambda value: value in values, values)


def matching(name: str, pattern: str) -> Kind:
    """Return the kind of a parameter whose whole text matches a pattern."""
    compiled = re.compile(pattern)
    return Kind(name, lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None, pattern=pattern)


_WINDOWS_PATH = r'[A-Za-z]:(?:\\[^\\/:*?"<>|\x00-\x1f]+)+'
MSIEXEC = matching("path of msiexec.exe", r"[A-Za-z]:\\(?:[^\\/:*?\"<>|]+\\)?System32\\msiexec\.exe")
_PRODUCT_CODE = r"\{[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\}"
MSIEXEC_ARGUMENTS = matching(
    "quiet installation, repair or removal with a log",
    rf'(?:/(?:i|fvamus) "{_WINDOWS_PATH}\.msi"|/x {_PRODUCT_CODE}) /quiet /norestart /l\* "{_WINDOWS_PATH}\.log"',
)
PROXY = matching("URL of a proxy", r"https?://[^\s\"'`@/]+/?")
HTTPS = matching("https URL", r"https://[^\s\"'`@]+")

ERROR_ACTION = one_of("Stop", "Continue", "SilentlyContinue", "Ignore")

#: Parameters that every cmdlet takes.
COMMON: Mapping[str, Kind] = {"ErrorAction": ERROR_ACTION, "WarningAction": ERROR_ACTION}


@dataclasses.dataclass(frozen=True)
class Row:
    """One cmdlet.

    ``endpoint`` is ``host`` or ``exchange``; ``both`` for what either has. ``follows`` names the only cmdlet whose
    output it may take; such a cmdlet never stands first. ``mandatory`` parameters must be given.
    """

    cmdlet: str
    parameters: Mapping[str, Kind]
    endpoint: str
    effect: str
    right: str
    source: str
    follows: str | None = None
    mandatory: tuple[str, ...] = ()


_READ_FILE = "read access to the file; under JEA also VisibleProviders FileSystem"
_WRITE_FILE = "local administrator, or write access to the folder; under JEA also VisibleProviders FileSystem"
_SERVICE = "local administrator, or start, stop and configuration access to the service"
_IIS_CHANGE = "local administrator (starts and stops application pools through WebAdministration)"
_IIS = "local administrator (reads IIS configuration through WebAdministration)"

_ROWS = (
    Row(
        "Get-Content",
        {"LiteralPath": STRING, "Encoding": one_of("Byte", "UTF8", "Unicode"), "Raw": SWITCH, "Tail": INT, "ReadCount": INT},
        HOST, READS, _READ_FILE, "CMDLETS.md 1", mandatory=("LiteralPath",),
    ),
    Row(
        "Test-Path",
        {"LiteralPath": STRINGS, "PathType": one_of("Any", "Container", "Leaf")},
        HOST, READS, _READ_FILE, "CMDLETS.md 1, 3", mandatory=("LiteralPath",),
    ),
    Row("Get-Item", {"LiteralPath": STRINGS, "Force": SWITCH}, HOST, READS, _READ_FILE, "CMDLETS.md 1, 3", mandatory=("LiteralPath",)),
    Row(
        "Get-ItemProperty",
        {"LiteralPath": STRINGS, "Name": STRINGS},
        HOST, READS, "read access to the key or file; under JEA also VisibleProviders Registry, FileSystem", "CMDLETS.md 1, 3", mandatory=("LiteralPath",),
    ),
    Row("Get-Acl", {"LiteralPath": STRING}, HOST, READS, _READ_FILE, "CMDLETS.md 2", mandatory=("LiteralPath",)),
    Row(
        "Get-ChildItem",
        {"LiteralPath": STRING, "Filter": STRING, "File": SWITCH, "Directory": SWITCH, "Force": SWITCH},
        HOST, READS, _READ_FILE, "CMDLETS.md 1", mandatory=("LiteralPath",),
    ),
    Row("Set-Content", {"LiteralPath": STRING, "Encoding": one_of("Byte"), "Value": BYTES}, HOST, CHANGES, _WRITE_FILE, "CMDLETS.md 2",
        mandatory=("LiteralPath", "Encoding", "Value")),
    Row("Add-Content", {"LiteralPath": STRING, "Encoding": one_of("Byte"), "Value": BYTES}, HOST, CHANGES, _WRITE_FILE, "CMDLETS.md 2",
        mandatory=("LiteralPath", "Encoding", "Value")),
    Row("Remove-Item", {"LiteralPath": STRING, "Force": SWITCH, "Confirm": SWITCH}, HOST, CHANGES, _WRITE_FILE, "CMDLETS.md 2", mandatory=("LiteralPath",)),
    Row("Rename-Item", {"LiteralPath": STRING, "NewName": STRING, "Force": SWITCH}, HOST, CHANGES, _WRITE_FILE, "CMDLETS.md 2",
        mandatory=("LiteralPath", "NewName")),
    Row("Copy-Item", {"LiteralPath": STRING, "Destination": STRING, "Force": SWITCH}, HOST, CHANGES, _WRITE_FILE, "CMDLETS.md 2",
        mandatory=("LiteralPath", "Destination")),
    # A deserialised security descriptor is refused by Windows, so it may only come down the pipeline from Get-Acl.
    Row("Set-Acl", {"LiteralPath": STRING}, HOST, CHANGES, "local administrator (SeRestorePrivilege keeps the owner)", "CMDLETS.md 2",
        follows="Get-Acl", mandatory=("LiteralPath",)),
    # Calls one method of a live FileInfo: File.Replace(destination, backup). Any other method would be arbitrary code.
    Row(
        "ForEach-Object",
        {"MemberName": one_of("Replace"), "ArgumentList": Kind("list of two strings", lambda value: _is_strings(value) and len(value) == 2 and all(value))},
        HOST, CHANGES, "local administrator in FullLanguage; not under ConstrainedLanguage or JEA", "CMDLETS.md 0 row 2, 2.1",
        follows="Get-Item", mandatory=("MemberName", "ArgumentList"),
    ),
    Row("Get-Service", {"Name": STRINGS}, HOST, READS, "local administrator, or query access to the service", "CMDLETS.md 4", mandatory=("Name",)),
    Row("Set-Service", {"Name": SERVICE, "StartupType": one_of("Automatic", "Manual", "Disabled")}, HOST, CHANGES, _SERVICE, "CMDLETS.md 4",
        mandatory=("Name", "StartupType")),
    Row("Start-Service", {"Name": SERVICES}, HOST, CHANGES, _SERVICE, "CMDLETS.md 4", mandatory=("Name",)),
    # Without NoWait it waits for ever while the service is stopping.
    Row("Stop-Service", {"Name": SERVICES, "NoWait": SWITCH}, HOST, CHANGES, _SERVICE, "CMDLETS.md 4", mandatory=("Name", "NoWait")),
    Row(
        "Get-CimInstance",
        {"ClassName": one_of("Win32_OperatingSystem", "Win32_Service", "Win32_QuickFixEngineering"), "Filter": STRING, "Property": STRINGS},
        HOST, READS, "local administrator (WMI root/cimv2)", "CMDLETS.md 3, 4", mandatory=("ClassName",),
    ),
    Row("Get-WebConfiguration", {"Filter": STRING, "PSPath": STRING, "Location": STRING}, HOST, READS, _IIS, "CMDLETS.md 5", mandatory=("Filter", "PSPath")),
    Row("Get-WebConfigFile", {"PSPath": STRING}, HOST, READS, _IIS, "CMDLETS.md 5", mandatory=("PSPath",)),
    Row("Get-WebApplication", {"Site": STRING, "Name": STRING}, HOST, READS, _IIS, "CMDLETS.md 5"),
    Row("Get-WebAppPoolState", {"Name": STRING}, HOST, READS, _IIS, "CMDLETS.md 5", mandatory=("Name",)),
    Row("Start-WebAppPool", {"Name": POOL}, HOST, CHANGES, _IIS_CHANGE, "CMDLETS.md 5", mandatory=("Name",)),
    Row("Stop-WebAppPool", {"Name": POOL}, HOST, CHANGES, _IIS_CHANGE, "CMDLETS.md 5", mandatory=("Name",)),
    Row(
        "Set-WebConfigurationProperty",
        {"PSPath": one_of("MACHINE/WEBROOT/APPHOST"), "Filter": POOL_ELEMENT,
         "Name": one_of("autoStart"), "Value": BOOL},
        HOST, CHANGES, "local administrator (writes applicationHost.config)", "CMDLETS.md 5",
        mandatory=("PSPath", "Filter", "Name", "Value"),
    ),
    # Without UseBasicParsing it prompts, since December 2025.
    Row("Invoke-WebRequest", {"Uri": STRING, "UseBasicParsing": SWITCH, "TimeoutSec": INT, "Headers": HEADERS, "Proxy": PROXY}, HOST, READS,
        "none on the server; the answer is the one that anybody gets; not under JEA", "CMDLETS.md 8",
        mandatory=("Uri", "UseBasicParsing", "TimeoutSec")),
    # Of server_info with gather: reachability.
    Row("Resolve-DnsName", {"Name": STRING, "Type": one_of("A"), "DnsOnly": SWITCH}, HOST, READS, "none; not under JEA", "CMDLETS.md 8",
        mandatory=("Name", "Type", "DnsOnly")),
    Row("Test-NetConnection", {"ComputerName": STRING, "Port": INT}, HOST, READS, "none; a function, so full language mode", "CMDLETS.md 8",
        mandatory=("ComputerName", "Port")),
    Row("Import-Module", {"Name": one_of("WebAdministration")}, HOST, READS, "execution policy that lets a signed module load", "CMDLETS.md 5",
        mandatory=("Name",)),
    # Brings Exchange's cmdlets into a runspace of the host (exchange_access: snapin).
    Row("Add-PSSnapin", {"Name": one_of("Microsoft.Exchange.Management.PowerShell.SnapIn")}, HOST, READS,
        "a logon that Active Directory takes (CredSSP or Kerberos delegation), read access to Exchange's configuration there; never under JEA",
        "CMDLETS.md 9, FACTS.md 8", mandatory=("Name",)),
    Row("Write-Output", {"InputObject": STRING}, HOST, READS, "none; under JEA list it, else reads are not batched", "CMDLETS.md 9",
        mandatory=("InputObject",)),
    # Of url_rewrite, service and event_info (CMDLETS.md 1, 4, 6, 7, 8).
    Row("New-Item", {"ItemType": one_of("Directory"), "Path": STRING}, HOST, CHANGES, _WRITE_FILE, "CMDLETS.md 2", mandatory=("ItemType", "Path")),
    Row("Get-FileHash", {"LiteralPath": STRING, "Algorithm": one_of("SHA256")}, HOST, READS, _READ_FILE + "; a function, under JEA VisibleFunctions",
        "CMDLETS.md 1", mandatory=("LiteralPath", "Algorithm")),
    Row("Get-AuthenticodeSignature", {"LiteralPath": STRING}, HOST, READS, _READ_FILE, "CMDLETS.md 6", mandatory=("LiteralPath",)),
    Row("Get-Command", {"Name": one_of("Start-Process", "ForEach-Object")}, HOST, READS, "none", "CMDLETS.md 9", mandatory=("Name",)),
    # Runs nothing but Windows Installer, quiet, on a package or product code, with a log.
    Row("Start-Process", {"FilePath": MSIEXEC, "ArgumentList": MSIEXEC_ARGUMENTS, "Wait": SWITCH, "PassThru": SWITCH}, HOST, CHANGES,
        "local administrator; never under JEA", "CMDLETS.md 6", mandatory=("FilePath", "ArgumentList", "Wait", "PassThru")),
    # The process is written before it has ended: sorting holds it back until then, so that its exit code is there (CMDLETS.md 0 row 6).
    Row("Sort-Object", {"Property": one_of("Id")}, HOST, READS, "none", "CMDLETS.md 6", follows="Start-Process", mandatory=("Property",)),
    Row("Select-Object", {"ExpandProperty": one_of("ExitCode")}, HOST, READS, "none", "CMDLETS.md 6", follows="Sort-Object", mandatory=("ExpandProperty",)),
    Row("Invoke-WebRequest", {"Uri": HTTPS, "OutFile": STRING, "UseBasicParsing": SWITCH, "TimeoutSec": INT, "Proxy": PROXY}, HOST, CHANGES,
        _WRITE_FILE, "CMDLETS.md 8", mandatory=("Uri", "OutFile", "UseBasicParsing")),
    Row("Restart-Computer", {"Force": SWITCH}, HOST, CHANGES, "local administrator (SeShutdownPrivilege)", "FACTS.md 6", mandatory=("Force",)),
    # Unlike Start-Service it never waits without a limit, and it answers with a number instead of a localised text.
    Row("Invoke-CimMethod", {"MethodName": one_of("StartService", "StopService")}, HOST, CHANGES, "local administrator (WMI root/cimv2)",
        "CMDLETS.md 4", follows="Get-CimInstance", mandatory=("MethodName",)),
    Row("Get-WinEvent", {"LogName": one_of("Application"), "FilterXPath": STRING, "MaxEvents": INT}, HOST, READS,
        "member of Event Log Readers, or local administrator", "CMDLETS.md 7", mandatory=("LogName", "FilterXPath", "MaxEvents")),
    Row("Get-OrganizationConfig", {"DomainController": STRING}, EXCHANGE, READS, "View-Only Organization Management", "CMDLETS.md 10, FACTS.md 4"),
    Row("Set-OrganizationConfig", {"MitigationsEnabled": BOOL, "DomainController": STRING, "Confirm": SWITCH}, EXCHANGE, CHANGES,
        "Organization Management (role Organization Configuration)", "FACTS.md 4.1"),
    Row("Get-ExchangeServer", {"Identity": STRING, "DomainController": STRING}, EXCHANGE, READS, "View-Only Organization Management",
        "CMDLETS.md 10, FACTS.md 4"),
    Row("Get-DatabaseAvailabilityGroup", {"DomainController": STRING}, EXCHANGE, READS,
        "View-Only Organization Management; without it, no two members in one batch needs exchange_mitigation_dag", "CMDLETS.md 10"),
    Row(
        "Set-ExchangeServer",
        {"Identity": STRING, "MitigationsEnabled": BOOL, "MitigationsBlocked": MULTI, "DataCollectionEnabled": BOOL,
         "InternetWebProxy": URI_OR_NULL, "DomainController": STRING, "Confirm": SWITCH},
        EXCHANGE, CHANGES, "Server Management (role Exchange Servers)", "FACTS.md 4.1, CMDLETS.md 10", mandatory=("Identity",),
    ),
)

#: Every cmdlet that may be sent, by its name; a cmdlet that is used in two ways has a row for each.
FORMS: Mapping[str, tuple[Row, ...]] = {name: tuple(row for row in _ROWS if row.cmdlet == name) for name in dict.fromkeys(row.cmdlet for row in _ROWS)}
TABLE: Mapping[str, Row] = {name: rows[0] for name, rows in FORMS.items()}


def _form(call: Call) -> Row | None:
    """Return the row that has what a call gives and needs; for a call that fits none, the first, whose complaint it then gets."""
    rows = FORMS.get(call.cmdlet, ())
    given = set(call.parameters) - set(COMMON)
    return next((row for row in rows if set(row.mandatory) <= given <= set(row.parameters)), rows[0] if rows else None)


def enforce(call: Call, endpoint: str | None = None) -> Row:
    """Return the row of a call; raises CmdletNotAllowed where the table has no such cmdlet, parameter, value or endpoint.

    Names are compared exactly, so that what is written is what is sent.
    """
    row = _form(call)
    if row is None:
        raise CmdletNotAllowed(f"The cmdlet {call.cmdlet} is not in the table of cmdlets, so it was not sent.", cmdlet=call.cmdlet)
    if endpoint is not None and row.endpoint != endpoint:
        raise CmdletNotAllowed(f"The cmdlet {call.cmdlet} belongs to the {row.endpoint} endpoint, not to {endpoint}, so it was not sent.", cmdlet=call.cmdlet)
    for name, value in call.parameters.items():
        kind = row.parameters.get(name) or COMMON.get(name)
        if kind is None:
            raise CmdletNotAllowed(
                f"The parameter {name} of {call.cmdlet} is not in the table of cmdlets ({', '.join(row.parameters)}), so it was not sent.",
                cmdlet=call.cmdlet, parameter=name,
            )
        if not kind.accepts(value):
            raise CmdletNotAllowed(
                f"The parameter {name} of {call.cmdlet} takes {kind.name}, not a value of type {type(value).__name__}, so it was not sent.",
                cmdlet=call.cmdlet, parameter=name,
            )
    for name in row.mandatory:
        if name not in call.parameters:
            sentence = f"The parameter {name} of {call.cmdlet} is needed and was not given, so nothing was sent."
            raise CmdletNotAllowed(sentence, cmdlet=call.cmdlet, parameter=name)
    return row


def enforce_statement(statement: Statement, endpoint: str) -> tuple[Row, ...]:
    """Return the rows of a statement; raises CmdletNotAllowed for a call or a pipeline that the table does not have."""
    if not statement:
        raise CmdletNotAllowed("A statement without a cmdlet was not sent.")
    rows = tuple(enforce(call, endpoint) for call in statement)
    for position, row in enumerate(rows):
        before = rows[position - 1].cmdlet if position else None
        if row.follows != before:
            wanted = f"only takes the output of {row.follows}" if row.follows else "takes no output of another cmdlet"
            raise CmdletNotAllowed(f"The cmdlet {row.cmdlet} {wanted}, so nothing was sent.", cmdlet=row.cmdlet)
    return rows
