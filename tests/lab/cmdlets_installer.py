# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cmdlets around installing: Start-Process, Get-FileHash, Get-AuthenticodeSignature, Restart-Computer (CMDLETS.md 1, 6)."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from typing import Any

from lab import installer
from lab.clixml import enum
from lab.files import FileProblem
from lab.kernel import Invocation, LabRefusal, Obj, Parameter, cmdlet
from lab.providers import (
    NOT_FOUND,
    READ_ERROR,
    UNLISTED,
    exception_of,
    given_paths,
    path_not_found,
    record,
)

_PATHS = {"Path": Parameter("string[]", position=0), "LiteralPath": Parameter("string[]")}
_PROCESS = ("System.Diagnostics.Process", "System.ComponentModel.Component", "System.MarshalByRefObject", "System.Object")
_STATUS = {"Valid": 0, "UnknownError": 1, "NotSigned": 2, "HashMismatch": 3, "NotTrusted": 4}
_TEXTS = {
    "Valid": "Signature verified.",
    "NotSigned": "The file is not digitally signed. You cannot run this script on the current system.",
    "HashMismatch": "The contents of the file might have been changed by an unauthorized user or process, because the hash of the file does not match.",
    "NotTrusted": "The file is signed but the signer is not trusted on this system.",
    "UnknownError": "A certificate chain processed, but terminated in a root certificate which is not trusted by the trust provider.",
}


@cmdlet(
    "Start-Process",
    {
        "FilePath": Parameter(position=0, mandatory=True), "ArgumentList": Parameter("string[]", position=1), "Wait": Parameter("switch"),
        "PassThru": Parameter("switch"),
    },
    write=True,
    languages=UNLISTED,
)  # fmt: skip
def start_process(inv: Invocation) -> Iterator[Any]:
    """Run msiexec.exe, waiting. The process object is written before the wait and has no ExitCode until the process has ended."""
    if not str(inv.get("FilePath")).lower().endswith("\\system32\\msiexec.exe"):
        raise LabRefusal(f"the lab runs no {inv.get('FilePath')}")
    if not inv.get("Wait") or not inv.get("PassThru"):
        raise LabRefusal("the lab imitates Start-Process with -Wait and -PassThru only")
    arguments = inv.get("ArgumentList") or []
    if len(arguments) != 1:
        raise LabRefusal("the lab's msiexec takes its arguments as one string")
    process = Obj(_PROCESS, {"Id": 4711, "ProcessName": "msiexec", "HasExited": False}, to_string="System.Diagnostics.Process (msiexec)")
    yield process
    process.props["ExitCode"] = installer.msiexec(inv.machine, arguments[0])
    process.props["HasExited"] = True


@cmdlet("Get-Command", {"Name": Parameter("string[]", position=0, mandatory=True)})
def get_command(inv: Invocation) -> Iterator[Any]:
    """The commands that this session offers; one that it hides is as one that is not there."""
    for name in inv.get("Name"):
        found = inv.session.find(name) if inv.session is not None else None
        if found is None:
            message = f"The term '{name}' is not recognized as the name of a cmdlet, function, script file, or operable program."
            kind = "System.Management.Automation.CommandNotFoundException"
            inv.error(record("Get-Command", "CommandNotFoundException", message, NOT_FOUND, kind, name))
            continue
        types = ("System.Management.Automation.CmdletInfo", "System.Management.Automation.CommandInfo", "System.Object")
        yield Obj(types, {"Name": found.name, "CommandType": "Cmdlet", "Visibility": "Public"}, to_string=found.name)


@cmdlet("Get-FileHash", _PATHS | {"Algorithm": Parameter(values=("SHA256",))}, languages=("FullLanguage",))
def get_file_hash(inv: Invocation) -> Iterator[Any]:
    """A bag with the hash in upper case. A function that calls .NET methods, which a constrained session does not have."""
    for path in given_paths(inv):
        files = inv.machine.files
        if path.provider != "FileSystem" or not files.is_file(path.path):
            inv.error(path_not_found("Resolve-Path", path.path))
            continue
        try:
            data = files.read(path.path)
        except FileProblem as problem:
            inv.error(record("Get-FileHash", "FileReadError", str(problem), READ_ERROR, exception_of(problem), path.path, "Get-FileHash"))
            continue
        notes = {"Algorithm": "SHA256", "Hash": hashlib.sha256(data).hexdigest().upper(), "Path": files.path(path.path)}
        yield Obj(("Microsoft.Powershell.Utility.FileHash", "System.Management.Automation.PSCustomObject", "System.Object"), {}, notes)


@cmdlet("Get-AuthenticodeSignature", _PATHS)
def get_authenticode_signature(inv: Invocation) -> Iterator[Any]:
    """What a package says about its own signature; anything else is not signed."""
    name = "Get-AuthenticodeSignature"
    for path in given_paths(inv):
        files = inv.machine.files
        if path.provider != "FileSystem" or not files.is_file(path.path):
            message = f"File {path.path} was not found."
            inv.error(record(name, "SignatureCommandsBaseFileNotFound", message, NOT_FOUND, "System.IO.FileNotFoundException", path.path))
            continue
        package = installer.read(files.read(path.path))
        status = package.status if package is not None else "NotSigned"
        certificate = None
        if package is not None and package.signer and status != "NotSigned":
            types = ("System.Security.Cryptography.X509Certificates.X509Certificate2", "System.Object")
            certificate = Obj(types, {"RawData": package.signer}, to_string="[Subject]")
        props: dict[str, Any] = {
            "SignerCertificate": certificate, "TimeStamperCertificate": None,
            "Status": enum("System.Management.Automation.SignatureStatus", status, _STATUS[status]), "StatusMessage": _TEXTS[status],
            "Path": files.path(path.path), "SignatureType": enum("System.Management.Automation.SignatureType", "Authenticode", 1), "IsOSBinary": False,
        }  # fmt: skip
        yield Obj(("System.Management.Automation.Signature", "System.Object"), props, to_string="System.Management.Automation.Signature")


@cmdlet("Restart-Computer", {"Force": Parameter("switch")}, write=True, languages=UNLISTED)
def restart_computer(inv: Invocation) -> Iterator[Any]:
    """Accept, then restart a moment later. Without -Force other people's sessions would refuse it."""
    if not inv.get("Force"):
        raise LabRefusal("the lab imitates Restart-Computer with -Force only")
    seconds = float(getattr(inv.machine, "restart_seconds", 0.3))
    threading.Timer(0.1, installer.restart, (inv.machine, seconds)).start()
    return
    yield
