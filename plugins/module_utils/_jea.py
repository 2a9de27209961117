# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two JEA role capabilities and their session configurations, made from the table of cmdlets.

What the table says of a parameter (its only texts, its pattern) is carried over; here stands what is narrower under JEA, where the
server and not the client must refuse. PowerShell puts ``^(`` and ``)$`` around a pattern and ignores case.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import re
import uuid
from collections.abc import Mapping

from ansible_collections.exchange.mitigation.plugins.module_utils._cmdlets import CHANGES, FORMS, HOST, Row
from ansible_collections.exchange.mitigation.plugins.module_utils._registry_keys import (
    COMPONENT_SERVICING,
    CONNECTIONS,
    SESSION_MANAGER,
    UPDATE_EXE,
    WINDOWS_UPDATE,
)

MODULE = "ExchangeMitigation"
READER, WRITER = "exchange.mitigation.reader", "exchange.mitigation.writer"
ROLES = (READER, WRITER)
GROUPS = {READER: r"EXAMPLE\Exchange Mitigation Readers", WRITER: r"EXAMPLE\Exchange Mitigation Writers"}
PROVIDERS = ("FileSystem", "Registry", "Environment")
VERSION = "1.0.0"

_HEADER = """\
# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""

#: A name of a file or folder; none of dots and blanks alone, so that no path leads upwards.
_NAME = r'(?![. ]+(?:\\|$))[^\\/:*?"<>|\x00-\x1f]+'
#: Folders: IIS' own content, and the two folders of Exchange that IIS serves, wherever Exchange is installed.
_SERVED = rf"(?:inetpub\\wwwroot|FrontEnd\\HttpProxy|ClientAccess)\\(?:{_NAME}\\)*"
_ANY = rf"[A-Z]:\\(?:{_NAME}\\)*"
_BESIDE = r"\.[0-9a-f]{8}\.(?:new|before)"
#: ``$`` also matches before a last line break.
_END = r"(?!\n)"
_HOST_FILE = r"System32\\inetsrv\\config\\applicationHost"
CONFIGURATION = rf"{_ANY}(?:{_HOST_FILE}(?:{_BESIDE})?\.config|{_SERVED}{_NAME}\.config){_END}"
#: What the writer puts beside a file: the new bytes, and the bytes before.
BESIDE = rf"{_ANY}(?:{_HOST_FILE}|{_SERVED}{_NAME}){_BESIDE}\.config{_END}"
_LOGS = rf"{_ANY}Logging\\MitigationService"
_VERSIONS = rf"{_ANY}(?:Bin\\ExSetup\.exe|System32\\inetsrv\\rewrite\.dll)"
_KEYS = r"HKLM:\\SOFTWARE\\Microsoft\\(?:ExchangeServer\\v15\\(?:Setup|EdgeTransportRole)|IIS Extensions\\URL Rewrite)"
#: Pending restarts, the proxy of WinHTTP, and the Universal C Runtime (``_reboot``, ``_surroundings``).
_AROUND = "|".join(re.escape(key) for key in (COMPONENT_SERVICING, WINDOWS_UPDATE, SESSION_MANAGER, UPDATE_EXE, CONNECTIONS))
_UCRT = rf"{_ANY}System32\\ucrtbase\.dll{_END}"
_SERVICE_NAME = r"[A-Za-z0-9_.$ -]{1,256}"
_POOL = r"/system\.applicationHost/applicationPools/add\[@name='MSExchange[A-Za-z0-9]{1,200}'\]"
_EVENTS = r"\*\[System\[Provider\[@Name='MSExchange Mitigation Service'\](?: and [A-Za-z0-9@()\[\]<>= ]+)?\]\]"


@dataclasses.dataclass(frozen=True)
class Narrow:
    """What of a cmdlet a capability offers: parameter -> pattern, None where the table's own limits are enough.

    ``piped`` is the parameter that takes the output of the cmdlet before; without it nothing would arrive.
    """

    parameters: Mapping[str, str | None]
    piped: str = ""


#: What both capabilities offer.
READS: Mapping[str, Narrow] = {
    "Get-Content": Narrow({
        "LiteralPath": rf"{CONFIGURATION}|{_LOGS}\\{_NAME}\.log{_END}", "Encoding": "Byte|UTF8", "Raw": None, "Tail": None, "ReadCount": None,
    }),
    "Get-Acl": Narrow({"LiteralPath": CONFIGURATION}),
    "Get-Item": Narrow({"LiteralPath": r"Env:(?:SystemDrive|windir|SystemRoot|ProgramFiles|ExchangeInstallPath)"}),
    "Get-ItemProperty": Narrow({"LiteralPath": f"{_KEYS}|{_AROUND}|{_VERSIONS}", "Name": "VersionInfo"}),
    "Get-ChildItem": Narrow({"LiteralPath": _LOGS, "File": None}),
    "Test-Path": Narrow({"LiteralPath": f"{_KEYS}|{_AROUND}|{_UCRT}|{CONFIGURATION}", "PathType": None}),
    "Get-Service": Narrow({"Name": _SERVICE_NAME}),
    "Get-CimInstance": Narrow({
        "ClassName": "Win32_(?:OperatingSystem|Service)", "Filter": rf"Name='{_SERVICE_NAME}'(?: OR Name='{_SERVICE_NAME}')*",
        "Property": "[A-Za-z]{1,64}",
    }),
    "Get-WebConfiguration": Narrow({
        "Filter": rf"{_POOL}|/system\.webServer/rewrite/(?:rules|outboundRules|outboundRules/preConditions)",
        "PSPath": r"MACHINE/WEBROOT/APPHOST(?:/[^\\:*?<>|]+)?",
    }),
    "Get-WebAppPoolState": Narrow({"Name": "MSExchange[A-Za-z0-9]{1,200}"}),
    "Get-WinEvent": Narrow({"LogName": None, "FilterXPath": _EVENTS, "MaxEvents": None}),
    "Write-Output": Narrow({"InputObject": "~[be]:[0-9]{1,4}:[0-9a-f]{16}"}),
}  # fmt: skip

#: What the writer offers besides.
WRITES: Mapping[str, Narrow] = {
    "Set-Content": Narrow({"LiteralPath": BESIDE, "Encoding": None, "Value": None}),
    "Copy-Item": Narrow({"LiteralPath": CONFIGURATION, "Destination": CONFIGURATION, "Force": None}),
    "Rename-Item": Narrow({"LiteralPath": CONFIGURATION, "NewName": rf"{_NAME}\.config{_END}"}),
    "Remove-Item": Narrow({"LiteralPath": BESIDE, "Force": None, "Confirm": None}),
    "Set-Acl": Narrow({"LiteralPath": BESIDE}, piped="AclObject"),
    "Set-Service": Narrow({"Name": None, "StartupType": None}),
    "Start-Service": Narrow({"Name": None}),
    "Stop-Service": Narrow({"Name": None, "NoWait": None}),
    "Invoke-CimMethod": Narrow({"MethodName": None}, piped="InputObject"),
    "Start-WebAppPool": Narrow({"Name": None}),
    "Stop-WebAppPool": Narrow({"Name": None}),
    "Set-WebConfigurationProperty": Narrow({"PSPath": None, "Filter": None, "Name": None, "Value": None}),
}

#: What neither offers, and why.
NEVER: Mapping[str, str] = {
    "ForEach-Object": "calls any method of any object, which is arbitrary code",
    "Start-Process": "runs Windows Installer, which installs anything",
    "Sort-Object": "only of use behind Start-Process",
    "Select-Object": "only of use behind Start-Process; JEA has a narrow one of its own",
    "Invoke-WebRequest": "reaches any address from the server, and writes files",
    "New-Item": "only url_rewrite needs it",
    "Add-Content": "only url_rewrite needs it",
    "Get-FileHash": "only url_rewrite needs it",
    "Get-AuthenticodeSignature": "only url_rewrite needs it",
    "Restart-Computer": "only url_rewrite needs it",
    "Import-Module": "the capability imports WebAdministration itself",
    "Get-Command": "every JEA session has a narrow one of its own",
    "Add-PSSnapin": "loads code; a JEA session has no identity of its own in Exchange",
    "Resolve-DnsName": "asks any name; reachability is not part of least privilege",
    "Test-NetConnection": "reaches any address from the server",
    "Get-WebConfigFile": "not used under JEA",
    "Get-WebApplication": "not used under JEA",
}

DESCRIPTIONS = {
    READER: "Reads what server_info, event_info and check mode of exchange.mitigation need. It changes nothing.",
    WRITER: "Applies and removes mitigations of exchange.mitigation. Whoever may use it can become administrator of the server: web.config is code.",
}


def offered(role: str) -> dict[str, Narrow]:
    """Return what a capability offers, by cmdlet."""
    return dict(READS) if role == READER else {**READS, **WRITES}


def rows(role: str) -> list[Row]:
    """Return the rows of the table that a capability offers."""
    return [row for name in offered(role) for row in FORMS[name]]


def problems() -> list[str]:
    """Return what does not fit between the table and this file, as sentences; empty when they agree."""
    found: list[str] = []
    for name, forms in FORMS.items():
        if forms[0].endpoint == HOST and (name in READS) + (name in WRITES) + (name in NEVER) != 1:
            found.append(f"{name} must stand in exactly one of READS, WRITES and NEVER.")
    for name, narrow in {**READS, **WRITES}.items():
        known = {parameter for row in FORMS.get(name, ()) for parameter in row.parameters}
        found += [f"{name} has no parameter {parameter} in the table." for parameter in narrow.parameters if parameter not in known]
        if any(row.follows for row in FORMS.get(name, ())) != bool(narrow.piped):
            found.append(f"{name} takes the output of another cmdlet in one of the two and not in the other.")
        if name in READS and any(row.effect == CHANGES for row in FORMS.get(name, ())):
            found.append(f"{name} changes the server and stands in READS.")
    return found


# --- text --------------------------------------------------------------------------------------------------------------------


def _quoted(text: str) -> str:
    # PowerShell takes the quotes of typography for the plain one.
    return "'" + re.sub("(['\u2018\u2019\u201a\u201b])", r"\1\1", text) + "'"


def _parameter(row: Row, name: str, pattern: str | None) -> str:
    kind = row.parameters[name]
    if pattern is None and kind.values:
        return f"@{{ Name = {_quoted(name)}; ValidateSet = {', '.join(_quoted(value) for value in kind.values)} }}"
    shown = pattern or kind.pattern
    return f"@{{ Name = {_quoted(name)}; ValidatePattern = {_quoted(shown)} }}" if shown else f"@{{ Name = {_quoted(name)} }}"


def _cmdlet(name: str, narrow: Narrow) -> str:
    (row,) = FORMS[name]
    lines = [_parameter(row, parameter, pattern) for parameter, pattern in narrow.parameters.items()]
    if narrow.piped:
        lines.append(f"@{{ Name = {_quoted(narrow.piped)} }}")
    inner = ",\n".join(f"            {line}" for line in lines)
    return f"        @{{\n            Name = {_quoted(name)}\n            Parameters = @(\n{_deeper(inner)}\n            )\n        }}"


def _deeper(text: str) -> str:
    return "\n".join("    " + line for line in text.split("\n"))


def _guid(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"https://github.com/exchange-mitigation/exchange.mitigation/{name}"))


def capability(role: str) -> str:
    """Return the text of a role capability file (.psrc)."""
    cmdlets = ",\n".join(_cmdlet(name, narrow) for name, narrow in offered(role).items())
    return f"""{_HEADER}
# Made from the collection's table of cmdlets. Change the table, not this file.

@{{
    GUID = {_quoted(_guid(role))}
    Author = 'exchange.mitigation contributors'
    Description = {_quoted(DESCRIPTIONS[role])}
    ModulesToImport = 'WebAdministration'
    VisibleCmdlets = @(
{cmdlets}
    )
    VisibleAliases = @()
    VisibleFunctions = @()
    VisibleExternalCommands = @()
    VisibleProviders = {", ".join(_quoted(provider) for provider in PROVIDERS)}
}}
"""


def configuration(role: str) -> str:
    """Return the text of a session configuration file (.pssc)."""
    return f"""{_HEADER}
# Replace the group by one of your own domain before you register this file.

@{{
    SchemaVersion = '2.0.0.0'
    GUID = {_quoted(_guid(role + ".pssc"))}
    Author = 'exchange.mitigation contributors'
    Description = {_quoted(DESCRIPTIONS[role])}
    SessionType = 'RestrictedRemoteServer'
    LanguageMode = 'NoLanguage'
    ExecutionPolicy = 'RemoteSigned'
    RunAsVirtualAccount = $true
    RoleDefinitions = @{{
        {_quoted(GROUPS[role])} = @{{ RoleCapabilities = {_quoted(role)} }}
    }}
}}
"""


def manifest() -> str:
    """Return the text of the manifest of the module that holds the capabilities; without it Windows does not look into the folder."""
    return f"""{_HEADER}
@{{
    ModuleVersion = {_quoted(VERSION)}
    GUID = {_quoted(_guid(MODULE))}
    Author = 'exchange.mitigation contributors'
    Description = 'Role capabilities for the Ansible collection exchange.mitigation'
    PowerShellVersion = '5.1'
    FunctionsToExport = @()
    CmdletsToExport = @()
    AliasesToExport = @()
}}
"""


def files() -> dict[str, str]:
    """Return every file by its path below the folder of JEA files."""
    made = {f"{MODULE}/{MODULE}.psd1": manifest()}
    for role in ROLES:
        made[f"{MODULE}/RoleCapabilities/{role}.psrc"] = capability(role)
        made[f"{role}.pssc"] = configuration(role)
    return made
