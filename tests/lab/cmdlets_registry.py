# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cmdlets over the providers that only read items: Get-Item, Test-Path, Get-ChildItem, Get-ItemProperty (CMDLETS.md 1 and 3)."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from typing import Any

from lab.files import FileProblem
from lab.kernel import I64, ErrorInfo, Invocation, LabRefusal, Obj, Parameter, Terminating, cmdlet
from lab.providers import (
    INVALID_ARGUMENT,
    PERMISSION_DENIED,
    ProviderPath,
    exception_of,
    file_info,
    file_notes,
    given_paths,
    key_notes,
    missing_drive,
    path_not_found,
    record,
    version_info,
)
from lab.registry import Registry

_PATHS = {"Path": Parameter("string[]", position=0), "LiteralPath": Parameter("string[]"), "Force": Parameter("switch")}
_BAG = ("System.Management.Automation.PSCustomObject", "System.Object")
_WILDCARD = re.compile(r"[*?]")


def registry_value(machine: Any, kind: str, value: Any) -> Any:
    """Return a registry value as the provider gives it: DWORD signed, QWORD I64, BINARY bytes, EXPAND_SZ expanded."""
    if kind == "REG_DWORD":
        number = int(value) & 0xFFFFFFFF
        return number - 2**32 if number >= 2**31 else number
    if kind == "REG_QWORD":
        return I64(int(value))
    if kind == "REG_BINARY":
        return bytes.fromhex(value)
    if kind == "REG_MULTI_SZ":
        return list(value)
    return machine.files.expand(value) if kind == "REG_EXPAND_SZ" else value


def registry_key(registry: Registry, path: str) -> Obj:
    """Return a RegistryKey."""
    name = registry.name(path)
    values = [known or "(default)" for known in registry.values(path)]
    props: dict[str, Any] = {
        "SubKeyCount": len(registry.subkeys(path)), "View": "Default", "Handle": "Microsoft.Win32.SafeHandles.SafeRegistryHandle",
        "ValueCount": len(values), "Name": name,
    }  # fmt: skip
    notes = {"Property": values} | key_notes(path, name) | {"PSIsContainer": True}
    return Obj(("Microsoft.Win32.RegistryKey", "System.MarshalByRefObject", "System.Object"), props, notes, to_string=name)


def _environment(inv: Invocation, name: str) -> Obj | None:
    for known, value in inv.machine.environment.items():
        if known.lower() == name.lower():
            notes = {
                "PSPath": f"Microsoft.PowerShell.Core\\Environment::{known}", "PSDrive": "Env", "PSProvider": "Microsoft.PowerShell.Core\\Environment",
                "PSIsContainer": False, "Name": known,
            }  # fmt: skip
            kind = ("System.Collections.DictionaryEntry", "System.ValueType", "System.Object")
            return Obj(kind, {"Name": known, "Key": known, "Value": value}, notes, to_string="System.Collections.DictionaryEntry")
    return None


@cmdlet("Get-Item", _PATHS)
def get_item(inv: Invocation) -> Iterator[Any]:
    """A FileInfo or DirectoryInfo (live), a registry key, or an environment variable."""
    name = "Get-Item"
    for path in given_paths(inv):
        if path.provider == "Missing":
            inv.error(missing_drive(name, path))
        elif path.provider == "Environment":
            found = _environment(inv, path.path)
            if found is None:
                inv.error(path_not_found(name, path.path))
            else:
                yield found
        elif path.provider == "Registry":
            if inv.machine.registry.exists(path.path):
                yield registry_key(inv.machine.registry, path.path)
            else:
                inv.error(path_not_found(name, path.path))
        else:
            try:
                yield file_info(inv.machine, path.path)
            except FileProblem:
                inv.error(path_not_found(name, path.path))


@cmdlet("Test-Path", _PATHS | {"PathType": Parameter(values=("Any", "Container", "Leaf"))})
def test_path(inv: Invocation) -> Iterator[Any]:
    """True or false per path; a missing drive is false, an empty string is refused."""
    name = "Test-Path"
    given = inv.get("LiteralPath", inv.get("Path"))
    for text in [given] if isinstance(given, str) else given or []:
        if not text:
            parameter = "LiteralPath" if "LiteralPath" in inv.parameters else "Path"
            message = f"Cannot bind argument to parameter '{parameter}' because it is an empty string."
            identifier = "ParameterArgumentValidationErrorEmptyStringNotAllowed"
            kind = "System.Management.Automation.ParameterBindingValidationException"
            raise Terminating(record(name, identifier, message, INVALID_ARGUMENT, kind, parameter))
    kind = inv.get("PathType", "Any")
    for path in given_paths(inv):
        yield _there(inv, path, kind)


def _there(inv: Invocation, path: ProviderPath, kind: str) -> bool:
    if path.provider == "FileSystem":
        files = inv.machine.files
        return bool({"Any": files.exists, "Leaf": files.is_file, "Container": files.is_dir}[kind](path.path))
    if path.provider == "Registry":
        return kind != "Leaf" and bool(inv.machine.registry.exists(path.path))
    return path.provider == "Environment" and kind != "Container" and _environment(inv, path.path) is not None


@cmdlet(
    "Get-ChildItem",
    _PATHS | {"Filter": Parameter(position=1), "File": Parameter("switch"), "Directory": Parameter("switch")},
)
def get_child_item(inv: Invocation) -> Iterator[Any]:
    """What is in a folder, folders first, or below a registry key."""
    name = "Get-ChildItem"
    for path in given_paths(inv):
        if path.provider == "Missing":
            inv.error(missing_drive(name, path))
        elif path.provider == "Registry":
            if {"File", "Directory", "Filter"} & set(inv.parameters):
                raise LabRefusal("-Filter, -File and -Directory are imitated on files only")
            if not inv.machine.registry.exists(path.path):
                inv.error(path_not_found(name, path.path))
                continue
            for child in inv.machine.registry.subkeys(path.path):
                yield registry_key(inv.machine.registry, path.path.rstrip("\\") + "\\" + child)
        elif path.provider == "FileSystem":
            yield from _folder(inv, name, path.path)
        else:
            raise LabRefusal(f"the lab does not list {path.provider}")


def _folder(inv: Invocation, name: str, path: str) -> Iterator[Any]:
    files = inv.machine.files
    if not files.exists(path):
        inv.error(path_not_found(name, path))
        return
    full = files.path(path)
    if files.is_file(full):
        yield file_info(inv.machine, full)
        return
    try:
        names = files.listdir(full)
    except (FileProblem, PermissionError) as problem:
        kind = exception_of(problem) if isinstance(problem, FileProblem) else "System.UnauthorizedAccessException"
        inv.error(record(name, "DirUnauthorizedAccessError", str(problem), PERMISSION_DENIED, kind, full))
        return
    children = [full.rstrip("\\") + "\\" + entry for entry in names if fnmatch.fnmatchcase(entry.lower(), (inv.get("Filter") or "*").lower())]
    folders = [child for child in children if files.is_dir(child)]
    plain = [child for child in children if not files.is_dir(child)]
    if inv.get("File"):
        folders = []
    if inv.get("Directory"):
        plain = []
    for child in folders + plain:
        if inv.get("Force") or "Hidden" not in files.stat(child).attributes:
            yield file_info(inv.machine, child)


@cmdlet("Get-ItemProperty", _PATHS | {"Name": Parameter("string[]", position=1)})
def get_item_property(inv: Invocation) -> Iterator[Any]:
    """One bag per key or file: values as notes. A key without values gives no object; the other paths go on after an error."""
    name = "Get-ItemProperty"
    for path in given_paths(inv, wildcards=True):
        if path.provider == "Missing":
            inv.error(missing_drive(name, path))
        elif path.provider == "Registry":
            for key in _expand(inv, path.path):
                if inv.machine.registry.exists(key):
                    yield from _values(inv, key)
                else:
                    inv.error(path_not_found(name, key))
        elif path.provider == "FileSystem":
            yield from _file_properties(inv, path.path)
        else:
            raise LabRefusal(f"the lab has no properties of {path.provider}")


def _expand(inv: Invocation, path: str) -> list[str]:
    r"""Expand ``*`` in the last parts of -Path; a literal path stays."""
    if "LiteralPath" in inv.parameters or not _WILDCARD.search(path):
        return [path]
    registry = inv.machine.registry
    found = [""]
    for part in path.split("\\"):
        if not _WILDCARD.search(part):
            found = [(base + "\\" if base else "") + part for base in found]
            continue
        found = [
            f"{base}\\{child}" for base in found for child in registry.subkeys(base) if fnmatch.fnmatchcase(child.lower(), part.lower())
        ]  # fmt: skip
    return found


def _values(inv: Invocation, path: str) -> Iterator[Any]:
    registry = inv.machine.registry
    known = {value_name or "(default)": registry_value(inv.machine, kind, value) for value_name, (kind, value) in registry.values(path).items()}
    wanted = inv.get("Name")
    if wanted is None:
        chosen = known
    else:
        chosen = {}
        for pattern in wanted:
            found = {key: value for key, value in known.items() if fnmatch.fnmatchcase(key.lower(), pattern.lower())}
            if not found and not _WILDCARD.search(pattern):
                inv.error(_no_property(pattern, registry.name(path)))
            chosen |= found
    if chosen:
        yield Obj(_BAG, {}, chosen | key_notes(path, registry.name(path)), to_string=_bag_text(chosen))


def _no_property(name: str, path: str) -> ErrorInfo:
    message = f"Property {name} does not exist at path {path}."
    kind = "System.Management.Automation.PSArgumentException"
    return record("Get-ItemProperty", kind, message, INVALID_ARGUMENT, kind, name)


def _bag_text(notes: dict[str, Any]) -> str:
    return "@{" + "; ".join(f"{name}={value}" for name, value in notes.items()) + "}"


def _file_properties(inv: Invocation, path: str) -> Iterator[Any]:
    if _WILDCARD.search(path):
        raise LabRefusal("the lab expands wildcards of Get-ItemProperty in the registry only")
    try:
        item = file_info(inv.machine, path)
    except FileProblem:
        inv.error(path_not_found("Get-ItemProperty", path))
        return
    wanted = inv.get("Name")
    if wanted is None:
        yield item
        return
    full = inv.machine.files.path(path)
    chosen: dict[str, Any] = {}
    for name in wanted:
        if name.lower() == "versioninfo":
            chosen["VersionInfo"] = version_info(full, inv.machine.version_of(full))
            continue
        found = {key: value for key, value in (item.props | item.notes).items() if key.lower() == name.lower()}
        if not found:
            inv.error(_no_property(name, full))
        chosen |= found
    if chosen:
        yield Obj(_BAG, {}, chosen | file_notes(full), to_string=_bag_text(dict.fromkeys(chosen, "")))
