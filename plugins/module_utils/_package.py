# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A package on its way to a server: a fresh folder that only administrators can write, the bytes, their hash and signature.

The bytes come from the controller in chunks over the task's own session, or the server copies or fetches them itself.
Whatever the way, the copy in the folder is hashed and its signature checked there, and that copy alone is run.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import hashlib
import ntpath
import os
import re
import secrets
from collections.abc import Callable
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils import _authenticode, _certificates
from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import PSObject, plain
from ansible_collections.exchange.mitigation.plugins.module_utils._deps import optional, require
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import CmdletError, ConnectionFailure, InvalidInput, Refused, VerifyError
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Session, call
from ansible_collections.exchange.mitigation.plugins.module_utils._observe import ABSENT, content, failed, file_bytes
from ansible_collections.exchange.mitigation.plugins.module_utils._reasons import shown
from ansible_collections.exchange.mitigation.plugins.module_utils._untrusted import word

x509 = optional("cryptography.x509")

#: Bytes per message. Windows PowerShell takes 10 MB per object and writes byte by byte (CMDLETS.md 0.2, 2).
CHUNK = 512 * 1024
MIB = 1024 * 1024
#: A package larger than this is something else.
MAX_SIZE = 256 * MIB
DOWNLOAD_TIMEOUT = 600

CONTROLLER, HOST, UNC, URL = "controller", "host", "unc", "url"


def kind_of(source: str) -> str:
    r"""Tell by its form where a source is: https://..., \\server\share\..., C:\..., else a path on the controller. Raises InvalidInput."""
    if re.match(r"[a-z][a-z0-9+.-]*://", source, re.IGNORECASE):
        if not re.fullmatch(r"https://[^\s\"'`@]+", source):
            raise InvalidInput(f"source: the server fetches packages over https only, without a user name in the URL, not from {shown(source)}")
        return URL
    if source.startswith("\\\\"):
        return UNC
    return HOST if re.match(r"[A-Za-z]:[\\/]", source) else CONTROLLER


def read_package(path: str) -> bytes:
    """Return the bytes of a package on the controller. Raises InvalidInput with reason ``source_unreadable``."""
    try:
        if os.path.getsize(path) > MAX_SIZE:
            raise InvalidInput(f"source: {path} is larger than {MAX_SIZE // MIB} MiB, which no package of URL Rewrite is", "source_unreadable")
        with open(path, "rb") as stream:
            data = stream.read()
    except OSError as exc:
        raise InvalidInput(f"source: {path} cannot be read on the controller: {exc.strerror or exc}", "source_unreadable") from exc
    if not data:
        raise InvalidInput(f"source: {path} is empty", "source_unreadable")
    return data


def check_sha256(given: str | None) -> str | None:
    """Return a SHA-256 in lower case. Raises InvalidInput for anything else."""
    if given is None:
        return None
    if not re.fullmatch(r"[0-9A-Fa-f]{64}", given):
        raise InvalidInput("sha256 takes 64 hexadecimal digits")
    return given.lower()


def hash_on_host(host: Session, path: str) -> str:
    """Return the SHA-256 of a file on the server: told by the server, or read back where it lacks the function for it."""
    (answer,) = host.read([(call("Get-FileHash", LiteralPath=path, Algorithm="SHA256"),)])
    for item in answer.objects:
        value = item.get("Hash") if isinstance(item, PSObject) else None
        if isinstance(value, str) and re.fullmatch(r"[0-9A-Fa-f]{64}", value):
            return value.lower()
    if answer.errors and answer.errors[0].fqid.startswith(ABSENT):
        raise failed(answer)
    # A function that calls .NET methods: constrained language refuses it (CMDLETS.md 1).
    (back,) = host.read([content(path)])
    data = file_bytes(back)
    if data is None:
        raise CmdletError(f"{path} is not there", "Get-Content", reason="source_unreadable")
    return hashlib.sha256(data).hexdigest()


def check_signature(host: Session, path: str, organization: str, name: str, data: bytes | None = None) -> dict[str, Any]:
    """Return what signed a file on the server. Raises VerifyError unless Windows says Valid and the signer is of the organization.

    ``name`` is for sentences. ``data``: the bytes of the file where the controller has them, for the root of the chain.
    """
    (answer,) = host.read([(call("Get-AuthenticodeSignature", LiteralPath=path),)])
    found = next((item for item in answer.objects if isinstance(item, PSObject)), None)
    if found is None:
        if answer.errors:
            raise failed(answer)
        raise CmdletError("Get-AuthenticodeSignature wrote nothing", "Get-AuthenticodeSignature", reason="answer_malformed")
    status = word(found.get("Status")) or "unknown"
    if status != "Valid":
        why = " ".join((word(found.get("StatusMessage")) or "").split())
        raise VerifyError(
            f"{name}: Windows says {status} about its Authenticode signature, Valid is needed; it was not run. "
            f"Fetch the package again from Microsoft.{' Windows: ' + shown(why) if why else ''}", "signature_invalid", status=status,
        )  # fmt: skip
    signer = found.get("SignerCertificate")
    raw = plain(signer.get("RawData")) if isinstance(signer, PSObject) else plain(signer)
    if not isinstance(raw, bytes):
        raise VerifyError(f"{name}: Windows says that its signature is valid but does not tell by whom; it was not run.", "signature_invalid", status=status)
    require("cryptography")
    try:
        certificate = _certificates.load(raw)
        organizations = [str(item.value) for item in certificate.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)]
    except (ValueError, VerifyError) as exc:
        raise VerifyError(f"{name}: the signer's certificate cannot be read; it was not run.", "signature_invalid", status=status) from exc
    if organizations != [organization]:
        said = ", ".join(shown(item) for item in organizations) or "nobody"
        raise VerifyError(
            f"{name} is validly signed, but by {said} instead of {organization}; it was not run. "
            "If that is right, name it in signer_organization.", "signer_changed", status=status, signer=_certificates.describe(certificate),
        )  # fmt: skip
    root = _authenticode.UNKNOWN
    if data is not None:
        root = _authenticode.root_of(certificate, _authenticode.embedded(data), _authenticode.shipped_roots())
    return {"status": status, "signer": _certificates.describe(certificate), "root": root}


#: Who may write to the folder: SYSTEM, administrators, TrustedInstaller; and CREATOR OWNER, who is one of them here.
_TRUSTED = {"SY", "BA", "CO", "S-1-5-18", "S-1-5-32-544", "S-1-3-0", "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"}
_READ_RIGHTS = {"GR", "GX", "GRGX", "GXGR", "FR", "FX", "FRFX", "RC"}
#: Bits of an access mask that let nobody change anything: read, execute, traverse, read attributes, READ_CONTROL, SYNCHRONIZE.
_READ_MASK = 0x0001 | 0x0008 | 0x0020 | 0x0080 | 0x20000 | 0x100000 | 0x80000000 | 0x20000000


def writers(sddl: str) -> list[str]:
    """Return who, beside administrators and the system, may write according to a security descriptor."""
    owner = re.match(r"O:([^:]+?)(?=G:|D:|S:|$)", sddl)
    trusted = _TRUSTED | ({owner.group(1)} if owner else set())
    start = sddl.find("D:")
    if start < 0:
        return ["everybody (no access list)"]
    found = []
    for kind, rights, who in re.findall(r"\((\w+);[^;]*;([^;]*);[^;]*;[^;]*;([^;)]*)[;)]", sddl[start:]):
        if kind not in ("A", "XA") or who in trusted:
            continue
        mask = re.fullmatch(r"0x[0-9A-Fa-f]{1,8}", rights)
        harmless = (int(rights, 16) & ~_READ_MASK) == 0 if mask else rights in _READ_RIGHTS
        if not harmless:
            found.append(who)
    return found


class Folder:
    """A fresh folder on the server for one package and one log."""

    def __init__(self, host: Session, windows: str, prefix: str) -> None:
        self.host = host
        self.path = ntpath.join(windows, prefix + secrets.token_hex(8))
        self.package = ntpath.join(self.path, "package.msi")
        self.log = ntpath.join(self.path, "install.log")

    def make(self) -> None:
        """Make it and prove that nobody but administrators can write to it. Raises Refused ``folder_unsafe``, CmdletError."""
        # Without -Force: a folder of that name which is there already is an error, not ours. Not in Temp, where users may write.
        self.host.change((call("New-Item", ItemType="Directory", Path=self.path),))
        (answer,) = self.host.read([(call("Get-Acl", LiteralPath=self.path),)])
        item = answer.objects[0] if answer.objects else None
        sddl = (word(item.get("Sddl")) or "") if isinstance(item, PSObject) else ""
        others = writers(sddl)
        if others:
            raise Refused(
                f"{self.path}: a new folder there can be written by {', '.join(others)}, so a package in it could be swapped; nothing was installed. "
                "Restore the permissions of the Windows folder.", "folder_unsafe", sddl=sddl,
            )  # fmt: skip

    def upload(self, data: bytes, name: str, progress: Callable[[str], Any]) -> None:
        """Write the package in chunks over the session."""
        for start in range(0, len(data), CHUNK):
            chunk = data[start : start + CHUNK]
            self.host.change((call("Add-Content" if start else "Set-Content", LiteralPath=self.package, Encoding="Byte", Value=chunk),))
            done = start + len(chunk)
            progress(f"uploading {name}: {done / MIB:.1f} of {len(data) / MIB:.1f} MiB ({100 * done // len(data)} %)")

    def copy(self, source: str, kind: str) -> None:
        """Let the server copy the package from itself or from a share. Raises InvalidInput ``source_unreadable``."""
        try:
            self.host.change((call("Copy-Item", LiteralPath=source, Destination=self.package),))
        except CmdletError as exc:
            hop = (
                " From a share only a delegated logon works (CredSSP, or Kerberos with delegation); put the package on the controller instead."
                if kind == UNC else ""
            )  # fmt: skip
            raise InvalidInput(f"source: the server cannot copy {source}: {exc.message}{hop}", "source_unreadable") from exc

    def fetch(self, url: str, proxy: str | None) -> None:
        """Let the server fetch the package. Raises InvalidInput ``source_unreadable``."""
        more = {"Proxy": proxy} if proxy else {}
        try:
            self.host.change((call("Invoke-WebRequest", Uri=url, OutFile=self.package, UseBasicParsing=True, TimeoutSec=DOWNLOAD_TIMEOUT, **more),))
        except CmdletError as exc:
            raise InvalidInput(
                f"source: the server cannot fetch {url}: {exc.message} Give a proxy, look at the server's TLS settings, "
                "or put the package on the controller.", "source_unreadable",
            ) from exc  # fmt: skip

    def remove(self) -> str | None:
        """Remove everything that this run put there; returns what could not be removed, as a sentence."""
        try:
            return remove_folder(self.host, self.path)
        except ConnectionFailure as exc:
            return f"{self.path} may be left on the server ({exc.message}); the next run removes it"


def remove_folder(host: Session, path: str) -> str | None:
    """Remove a folder of this collection with the files in it, whatever they are; returns a sentence where that failed."""
    try:
        (listing,) = host.read([(call("Get-ChildItem", LiteralPath=path, Force=True),)])
        for item in listing.objects:
            name = (word(item.get("FullName")) or "") if isinstance(item, PSObject) else ""
            if name:
                host.change((call("Remove-Item", LiteralPath=name, Force=True, Confirm=False),))
        if not listing.errors:
            host.change((call("Remove-Item", LiteralPath=path, Force=True, Confirm=False),))
        elif not listing.errors[0].fqid.startswith(ABSENT):
            raise failed(listing)
    except CmdletError as exc:
        return f"{path} is left on the server: {exc.message} The next run tries to remove it again."
    return None


def compare(data_sha256: str, wanted: str | None, where: str) -> None:
    """Raise VerifyError ``package_mismatch`` unless a hash is the wanted one."""
    if wanted is not None and data_sha256 != wanted:
        raise VerifyError(
            f"{where} has SHA-256 {data_sha256}, expected {wanted}; it was not run. Fetch the package again, or correct sha256.", "package_mismatch",
            sha256=data_sha256, expected=wanted,
        )  # fmt: skip


def check_on_host(host: Session, path: str, sha256: str | None, organization: str) -> None:
    """Prove a package that lies on the server already, before anything is written. The copy that is run is proven again."""
    try:
        found = hash_on_host(host, path)
    except CmdletError as exc:
        raise InvalidInput(f"source: {path} cannot be read on the server: {exc.message}", "source_unreadable") from exc
    compare(found, sha256, path)
    check_signature(host, path, organization, path)
