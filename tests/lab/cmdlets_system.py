# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Get-CimInstance and Get-HotFix: the operating system, services and updates (CMDLETS.md 3 and 4)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from lab.kernel import U32, Invocation, LabRefusal, Obj, Parameter, cmdlet
from lab.providers import NOT_FOUND, NOT_SPECIFIED, UNLISTED, record
from lab.services import RUNNING

_CIM = "Microsoft.Management.Infrastructure.CimInstance"
_CIM_CLASS = "Microsoft.Management.Infrastructure.CimCmdlets.GetCimInstanceCommand"
_COMPARISON = re.compile(
    r"""\s*(?P<name>\w+)\s*(?P<operator>=|<>|!=|LIKE\b)\s*(?P<quote>['"]?)(?P<value>(?:\\.|(?!(?P=quote)).)*?)(?P=quote)\s*$""", re.IGNORECASE
)
#: Win32_Service's own words where they differ from the service controller's
_START_MODES = {"Automatic": "Auto", "Manual": "Manual", "Disabled": "Disabled"}


def _operating_system(machine: Any) -> list[dict[str, Any]]:
    system = machine.os
    return [{
        "Caption": system.caption, "CSName": machine.name, "Version": system.version, "BuildNumber": system.build,
        "ProductType": U32(system.product_type), "OSLanguage": U32(system.language), "LastBootUpTime": system.booted(),
        "LocalDateTime": machine.now(), "OSArchitecture": "64-bit", "SystemDrive": "C:",
        "WindowsDirectory": "C:\\Windows", "SystemDirectory": "C:\\Windows\\system32", "Status": "OK", "Name": f"{system.caption}|C:\\Windows",
    }]  # fmt: skip


def _services(machine: Any) -> list[dict[str, Any]]:
    rows = []
    for service in machine.services.all():
        running = service.state == RUNNING
        rows.append({
            "Name": service.name, "DisplayName": service.display, "State": service.state.replace("Pending", " Pending"),
            "StartMode": _START_MODES[service.start],
            "Started": running, "Status": "OK", "ExitCode": U32(0), "ProcessId": U32(4000 + sum(service.name.encode()) if running else 0),
            "PathName": service.path, "StartName": service.account, "AcceptStop": running and service.can_stop, "DelayedAutoStart": False,
            "ServiceType": "Own Process" if service.kind == "Win32OwnProcess" else "Share Process", "SystemName": machine.name,
        })  # fmt: skip
    return rows


def _hotfixes(machine: Any) -> list[dict[str, Any]]:
    return [
        {
            "HotFixID": name, "Caption": "", "CSName": machine.name, "Description": "Update", "InstalledBy": "NT AUTHORITY\\SYSTEM",
            "InstalledOn": "1/15/2024", "Status": None,
        }
        for name in machine.os.hotfixes
    ]  # fmt: skip


#: class -> (rows, key properties)
CLASSES: dict[str, tuple[Callable[[Any], list[dict[str, Any]]], tuple[str, ...]]] = {
    "Win32_OperatingSystem": (_operating_system, ("Name",)),
    "Win32_Service": (_services, ("Name",)),
    "Win32_QuickFixEngineering": (_hotfixes, ("HotFixID",)),
}


def _matches(row: dict[str, Any], text: str) -> bool:
    """Evaluate a WQL condition of comparisons joined by one kind of AND or OR; anything else is refused."""
    parts = re.split(r"\s+(AND|OR)\s+", text, flags=re.IGNORECASE)
    joints = {joint.upper() for joint in parts[1::2]}
    if len(joints) > 1:
        raise LabRefusal(f"the lab does not evaluate the WQL {text!r}")
    results = []
    for part in parts[::2]:
        found = _COMPARISON.fullmatch(part)
        if not found:
            raise LabRefusal(f"the lab does not evaluate the WQL {text!r}")
        names = {name.lower(): value for name, value in row.items()}
        if found["name"].lower() not in names:
            raise LabRefusal(f"the lab has no property {found['name']} to filter by")
        have = str(names[found["name"].lower()]).lower()
        want = re.sub(r"\\(.)", r"\1", found["value"]).lower()
        if found["operator"].upper() == "LIKE":
            results.append(bool(re.fullmatch(".*".join(re.escape(piece) for piece in want.split("%")), have)))
        else:
            results.append((have == want) == (found["operator"] == "="))
    return any(results) if "OR" in joints else all(results)


@cmdlet(
    "Get-CimInstance",
    {
        "ClassName": Parameter(position=0, mandatory=True), "Filter": Parameter(), "Property": Parameter("string[]"), "Namespace": Parameter(),
        "OperationTimeoutSec": Parameter("int"),
    },
)  # fmt: skip
def get_cim_instance(inv: Invocation) -> Iterator[Any]:
    """Instances of the classes that the lab has; nothing and no error when a filter finds none. With -Property the others are null."""
    wanted = inv.get("ClassName")
    if (inv.get("Namespace") or "root/cimv2").replace("\\", "/").lower() != "root/cimv2":
        raise LabRefusal("the lab has root/cimv2 only")
    name = next((known for known in CLASSES if known.lower() == wanted.lower()), None)
    if name is None:
        if re.match(r"(?i)(win32|cim|msft)_", wanted):
            raise LabRefusal(f"the lab has no CIM class {wanted}")
        kind = "Microsoft.Management.Infrastructure.CimException"
        inv.error(record("Get-CimInstance", "HRESULT 0x80041010", "Invalid class ", NOT_SPECIFIED, kind, wanted, _CIM_CLASS))
        return
    rows, keys = CLASSES[name]
    asked = inv.get("Property")
    for row in rows(inv.machine):
        if inv.get("Filter") and not _matches(row, inv.get("Filter")):
            continue
        if asked is not None:
            unknown = [item for item in asked if item.lower() not in {known.lower() for known in row}]
            if unknown:
                raise LabRefusal(f"the lab has no property {', '.join(unknown)} of {name}")
            chosen = {item.lower() for item in asked} | {key.lower() for key in keys}
            row = {key: value if key.lower() in chosen else None for key, value in row.items()}
        types = (f"{_CIM}#root/cimv2/{name}", _CIM, "System.Object")
        yield Obj(types, {**row, "PSComputerName": None}, to_string=f"{name} ({keys[0]} = \"{row[keys[0]]}\")")


@cmdlet("Get-HotFix", {"Id": Parameter("string[]", position=0)}, languages=UNLISTED)
def get_hotfix(inv: Invocation) -> Iterator[Any]:
    """Installed updates; an absent id is a non-terminating error."""
    name = "Get-HotFix"
    rows = _hotfixes(inv.machine)
    wanted = inv.get("Id")
    for row in rows:
        if wanted is None or row["HotFixID"].lower() in (item.lower() for item in wanted):
            types = ("System.Management.ManagementObject#root\\cimv2\\Win32_QuickFixEngineering", "System.Management.ManagementObject", "System.Object")
            yield Obj(types, {**row, "PSComputerName": inv.machine.name})
    missing = [item for item in wanted or [] if item.lower() not in {row["HotFixID"].lower() for row in rows}]
    if missing and not any(row["HotFixID"].lower() in (item.lower() for item in wanted or []) for row in rows):
        message = "Cannot find the requested hotfix on the 'localhost' computer. Verify the input and run the command again."
        inv.error(record(name, "GetHotFixNoEntriesFound", message, NOT_FOUND, "System.ArgumentException", missing[0]))
