# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Get-Acl and Set-Acl: the security descriptor of a file as a live object that flows through one pipeline (CMDLETS.md 2)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

from lab.files import FileProblem
from lab.kernel import Invocation, LabRefusal, Obj, Parameter, Terminating, cmdlet
from lab.providers import INVALID_ARGUMENT, ITEM_NOT_FOUND, NOT_FOUND, file_notes, given_paths, missing_drive, record

_NAMES = {"BA": "BUILTIN\\Administrators", "SY": "NT AUTHORITY\\SYSTEM", "BU": "BUILTIN\\Users", "AU": "NT AUTHORITY\\Authenticated Users"}
_PART = re.compile(r"O:(?P<owner>[A-Z]{2}|S-[0-9-]+)?G:(?P<group>[A-Z]{2}|S-[0-9-]+)?")
_ACE = re.compile(r"\((?P<kind>[^;]*);(?P<flags>[^;]*);(?P<rights>[^;]*);[^;]*;[^;]*;(?P<who>[^;)]*)\)")
_RIGHTS = {"FA": "FullControl", "0x1200a9": "ReadAndExecute, Synchronize", "0x1301bf": "Modify, Synchronize"}


@dataclasses.dataclass(frozen=True)
class LiveAcl:
    """The live descriptor behind a FileSecurity object."""

    sddl: str


def file_security(path: str, sddl: str, folder: bool) -> Obj:
    """Return the object that Get-Acl writes."""
    owners = _PART.match(sddl)
    owner, group = (owners.group("owner"), owners.group("group")) if owners else ("", "")
    aces = list(_ACE.finditer(sddl))
    text = "\n".join(
        f"{_NAMES.get(ace['who'], ace['who'])} {'Allow' if ace['kind'] == 'A' else 'Deny'}  {_RIGHTS.get(ace['rights'], ace['rights'])}" for ace in aces
    )
    kind = "DirectorySecurity" if folder else "FileSecurity"
    space = "System.Security.AccessControl."
    props: dict[str, Any] = {
        "AccessRightType": "System.Security.AccessControl.FileSystemRights", "AccessRuleType": "System.Security.AccessControl.FileSystemAccessRule",
        "AuditRuleType": "System.Security.AccessControl.FileSystemAuditRule", "AreAccessRulesProtected": "D:P" in sddl,
        "AreAuditRulesProtected": False, "AreAccessRulesCanonical": True, "AreAuditRulesCanonical": True,
    }  # fmt: skip
    notes = file_notes(path) | {
        "CentralAccessPolicyId": None, "CentralAccessPolicyName": None, "Path": f"Microsoft.PowerShell.Core\\FileSystem::{path}",
        "Owner": _NAMES.get(owner or "", owner or ""), "Group": _NAMES.get(group or "", group or ""),
        "Access": ["System.Security.AccessControl.FileSystemAccessRule"] * len(aces), "Sddl": sddl, "AccessToString": text, "AuditToString": "",
    }  # fmt: skip
    types = (space + kind, space + "FileSystemSecurity", space + "NativeObjectSecurity", space + "CommonObjectSecurity",
             space + "ObjectSecurity", "System.Object")  # fmt: skip
    return Obj(types, props, notes, to_string=space + kind, live=LiveAcl(sddl))


_PATHS = {"Path": Parameter("string[]", position=0), "LiteralPath": Parameter("string[]")}


@cmdlet("Get-Acl", _PATHS)
def get_acl(inv: Invocation) -> Iterator[Any]:
    """The descriptor with its Sddl; a missing path is a non-terminating error and nothing flows."""
    name = "Get-Acl"
    for path in given_paths(inv):
        if path.provider == "Missing":
            inv.error(missing_drive(name, path))
            continue
        if path.provider != "FileSystem":
            raise LabRefusal(f"the lab has descriptors of files only, not of {path.provider}")
        files = inv.machine.files
        try:
            sddl = files.sddl(path.path)
        except FileProblem:
            message = f"Cannot find path '{path.path}' because it does not exist."
            inv.error(record(name, "GetAcl_PathNotFound_Exception", message, NOT_FOUND, ITEM_NOT_FOUND))
            continue
        yield file_security(files.path(path.path), sddl, files.is_dir(path.path))


@cmdlet("Set-Acl", _PATHS | {"AclObject": Parameter("object", position=1, mandatory=True, from_pipeline=True)}, write=True)
def set_acl(inv: Invocation) -> Iterator[Any]:
    """Put a live descriptor on a file; a deserialised one is refused. Without input nothing happens. No output."""
    name = "Set-Acl"
    objects = [inv.get("AclObject")] if "AclObject" in inv.parameters else list(inv.input)
    for item in objects:
        live = getattr(item, "live", None)
        if not isinstance(live, LiveAcl):
            message = "AclObject is not a security descriptor."
            raise Terminating(record(name, "SetAcl_AclObject", message, INVALID_ARGUMENT, "System.ArgumentException"))
        for path in given_paths(inv):
            if path.provider == "Missing":
                inv.error(missing_drive(name, path))
                continue
            try:
                inv.machine.files.set_sddl(path.path, live.sddl)
            except FileProblem as problem:
                message = f"Could not find file '{path.path}'."
                kind = "System.IO.FileNotFoundException"
                raise Terminating(record(name, "SetSecurityDescriptor_FileNotFound", message, NOT_FOUND, kind, path.path)) from problem
    return
    yield
