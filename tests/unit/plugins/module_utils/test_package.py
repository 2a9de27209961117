# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A package on its way to a server: what it must be, whose it is, where it lies, and what is left of it."""

from __future__ import annotations

import hashlib
import pathlib
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _msiexec, _package
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import CmdletError, ConnectionFailure, InvalidInput, Refused, VerifyError
from ansible_collections.exchange.mitigation.plugins.module_utils._model import ErrorRecord
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.certificate_samples import issue, named
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.fake_host import DENIED, GONE, FakeHost, item
from cryptography.hazmat.primitives.serialization import Encoding

PATH = r"C:\packages\rewrite.msi"
DATA = b"package"
SHA256 = hashlib.sha256(DATA).hexdigest()
REFUSED = ErrorRecord("Cannot invoke method in this language mode.", "MethodInvocationNotSupportedInConstrainedLanguage", "InvalidOperation", "x", "")
SIGNER = issue(named(COMMON_NAME="Microsoft Corporation", ORGANIZATION_NAME="Microsoft Corporation"), ca=False).certificate
RAW = SIGNER.public_bytes(Encoding.DER)


# --- on the controller -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (None, "cannot be read on the controller: No such file or directory"),
        (0, "is empty"),
        (_package.MAX_SIZE + 1, "is larger than 256 MiB, which no package of URL Rewrite is"),
    ],
)
def test_a_source_that_is_no_package_is_refused_before_anything_is_sent(tmp_path: pathlib.Path, size: int | None, said: str) -> None:
    path = tmp_path / "rewrite.msi"
    if size is not None:
        with path.open("wb") as stream:
            stream.truncate(size)
    with pytest.raises(InvalidInput) as caught:
        _package.read_package(str(path))
    assert (caught.value.reason, caught.value.message) == ("source_unreadable", f"source: {path} {said}")


def test_a_package_is_read_whole(tmp_path: pathlib.Path) -> None:
    (tmp_path / "rewrite.msi").write_bytes(DATA)
    assert _package.read_package(str(tmp_path / "rewrite.msi")) == DATA


@pytest.mark.parametrize("given", ["", "ab", "g" * 64, "a" * 63, "a" * 65])
def test_a_hash_that_is_none(given: str) -> None:
    with pytest.raises(InvalidInput, match="sha256 takes 64 hexadecimal digits"):
        _package.check_sha256(given)
    assert _package.check_sha256("A" * 64) == "a" * 64


# --- its hash ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "told",
    [(item(Hash=SHA256.upper()),), ("a text", item(), item(Hash="short"), item(Hash=SHA256)), (item(Hash=7),), (), REFUSED],
    ids=["told", "among others", "number", "nothing", "refused"],
)
def test_the_hash_is_what_the_server_tells_or_what_its_bytes_give(told: Any) -> None:
    """Constrained language refuses Get-FileHash: then the file is read back."""
    assert _package.hash_on_host(FakeHost({"Get-FileHash": told, "Get-Content": (DATA,)}), PATH) == SHA256


def test_a_file_that_is_not_there_has_no_hash() -> None:
    with pytest.raises(CmdletError, match=r"Get-FileHash C:\\packages\\rewrite\.msi: Cannot find path"):
        _package.hash_on_host(FakeHost({"Get-FileHash": GONE}), PATH)


def test_a_file_that_goes_away_meanwhile_has_no_hash() -> None:
    with pytest.raises(CmdletError) as caught:
        _package.hash_on_host(FakeHost({"Get-FileHash": REFUSED, "Get-Content": GONE}), PATH)
    assert (caught.value.reason, caught.value.message) == ("source_unreadable", rf"{PATH} is not there")


def test_a_package_on_the_server_that_cannot_be_read_is_the_source_that_cannot() -> None:
    with pytest.raises(InvalidInput) as caught:
        _package.check_on_host(FakeHost({"Get-FileHash": REFUSED, "Get-Content": DENIED}), PATH, None, "Microsoft Corporation")
    assert caught.value.reason == "source_unreadable"
    assert caught.value.message == rf"source: {PATH} cannot be read on the server: Get-Content {PATH}: Access is denied."


def test_another_package_than_the_one_that_is_meant() -> None:
    with pytest.raises(VerifyError) as caught:
        _package.check_on_host(FakeHost({"Get-FileHash": (item(Hash=SHA256),)}), PATH, "b" * 64, "Microsoft Corporation")
    assert (caught.value.reason, caught.value.details) == ("package_mismatch", {"sha256": SHA256, "expected": "b" * 64})


# --- its signature -----------------------------------------------------------------------------------------------------------


def signed(answer: Any, data: bytes | None = None) -> dict[str, Any]:
    """Return what is told of a package with this answer about its signature."""
    return _package.check_signature(FakeHost({"Get-AuthenticodeSignature": answer}), PATH, "Microsoft Corporation", "rewrite.msi", data)


def test_a_signature_that_windows_finds_valid_of_the_organization_that_is_meant() -> None:
    """No root is named where none of those that the collection ships is proven."""
    answer = (item(Status="Valid", SignerCertificate=item(RawData=RAW)),)
    found = signed(answer, RAW)
    assert (found["status"], found["root"], found["signer"]["sha256"]) == ("Valid", "unknown", hashlib.sha256(RAW).hexdigest())
    assert signed(answer)["root"] == "unknown"


@pytest.mark.parametrize(
    ("answer", "reason", "said"),
    [
        ((item(Status="NotSigned", StatusMessage="Not\n signed\x1b[2J."),), "signature_invalid", "Windows says NotSigned about its Authenticode"),
        ((item(),), "signature_invalid", "Windows says unknown about its Authenticode signature"),
        ((item(Status="Valid"),), "signature_invalid", "does not tell by whom"),
        ((item(Status="Valid", SignerCertificate=item(RawData="text")),), "signature_invalid", "does not tell by whom"),
        ((item(Status="Valid", SignerCertificate=b"\x30\x82"),), "signature_invalid", "the signer's certificate cannot be read"),
    ],
)
def test_a_package_without_a_proven_signer_is_not_run(answer: Any, reason: str, said: str) -> None:
    with pytest.raises(VerifyError) as caught:
        signed(answer)
    assert (caught.value.reason, said in caught.value.message, "it was not run" in caught.value.message) == (reason, True, True)
    assert "\x1b" not in caught.value.message


@pytest.mark.parametrize(
    ("organization", "said"), [({"ORGANIZATION_NAME": "Micros\u043eft Corporation"}, "by Micros"), ({}, "by nobody")], ids=["other letter", "none"]
)
def test_a_valid_signature_of_somebody_else_is_not_run(organization: dict[str, str], said: str) -> None:
    """Windows trusts many; a signer with a name that only looks alike, or with none, is another one."""
    raw = issue(named(COMMON_NAME="Microsoft Corporation", **organization), ca=False).certificate.public_bytes(Encoding.DER)
    with pytest.raises(VerifyError) as caught:
        signed((item(Status="Valid", SignerCertificate=item(RawData=raw)),))
    assert (caught.value.reason, said in caught.value.message) == ("signer_changed", True)
    assert caught.value.details["signer"]["sha256"] == hashlib.sha256(raw).hexdigest()


@pytest.mark.parametrize(
    ("answer", "reason", "said"),
    [
        (DENIED, "cmdlet_failed", rf"Get-AuthenticodeSignature {PATH}: Access is denied."),
        ((), "answer_malformed", "Get-AuthenticodeSignature wrote nothing"),
        (("Valid",), "answer_malformed", "Get-AuthenticodeSignature wrote nothing"),
    ],
    ids=["error", "nothing", "text"],
)
def test_a_server_that_says_nothing_about_a_signature_has_not_said_valid(answer: Any, reason: str, said: str) -> None:
    with pytest.raises(CmdletError) as caught:
        signed(answer)
    assert (caught.value.reason, caught.value.message) == (reason, said)


# --- its folder --------------------------------------------------------------------------------------------------------------


def folder(**told: Any) -> _package.Folder:
    """Return a folder on a server that answers so."""
    return _package.Folder(FakeHost({cmdlet.replace("_", "-"): answer for cmdlet, answer in told.items()}), r"C:\Windows", "exchange.mitigation-")


def changes(made: _package.Folder) -> list[tuple[str, dict[str, Any]]]:
    """Return what was changed on the server."""
    assert isinstance(made.host, FakeHost)
    return made.host.changes


@pytest.mark.parametrize(
    ("acl", "others"),
    [
        ((item(Sddl="O:BAG:SYD:AI(A;ID;FA;;;BA)(A;ID;FA;;;BU)"),), "BU"),
        ((item(Sddl="O:BAG:SYD:AI(A;ID;0xnonsense;;;BU)"),), "BU"),
        ((item(Sddl="O:BAG:SYD:AI(A;ID;;;;BU)"),), "BU"),
        ((item(Sddl=None),), "everybody (no access list)"),
        ((), "everybody (no access list)"),
        (("a text",), "everybody (no access list)"),
    ],
    ids=["users", "mask that is none", "no rights", "null", "nothing", "text"],
)
def test_a_folder_is_used_only_where_it_is_proven_that_no_user_may_write(acl: tuple[Any, ...], others: str) -> None:
    """What cannot be read is never taken for safe: a package in a folder of users could be swapped before it is run."""
    made = folder(Get_Acl=acl)
    with pytest.raises(Refused) as caught:
        made.make()
    assert (caught.value.reason, f"can be written by {others}, so a package" in caught.value.message) == ("folder_unsafe", True)


def test_a_folder_of_administrators_is_used() -> None:
    made = folder(Get_Acl=(item(Sddl="O:BAG:SYD:AI(A;ID;FA;;;BA)(A;ID;FA;;;SY)(A;OICIID;0x1200a9;;;BU)"),))
    made.make()
    assert changes(made) == [("New-Item", {"ItemType": "Directory", "Path": made.path})]


def test_an_upload_comes_in_pieces_of_which_only_the_first_begins_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_package, "CHUNK", 4)
    made, lines = folder(), list[str]()
    made.upload(DATA, "rewrite.msi", lines.append)
    assert [(cmdlet, sent["Value"]) for cmdlet, sent in changes(made)] == [("Set-Content", b"pack"), ("Add-Content", b"age")]
    assert lines[-1] == "uploading rewrite.msi: 0.0 of 0.0 MiB (100 %)"


@pytest.mark.parametrize(("kind", "hop"), [(_package.UNC, True), (_package.HOST, False)])
def test_a_copy_that_fails_says_what_a_share_needs(kind: str, hop: bool) -> None:
    with pytest.raises(InvalidInput) as caught:
        folder(Copy_Item=DENIED).copy(PATH, kind)
    assert (caught.value.reason, "CredSSP, or Kerberos with delegation" in caught.value.message) == ("source_unreadable", hop)


@pytest.mark.parametrize("proxy", [None, "http://proxy.example.com:8080"])
def test_a_download_that_fails_says_what_to_look_at(proxy: str | None) -> None:
    made = folder(Invoke_WebRequest=DENIED)
    with pytest.raises(InvalidInput) as caught:
        made.fetch("https://a.example/x.msi", proxy)
    assert "cannot fetch https://a.example/x.msi: Access is denied. Give a proxy" in caught.value.message
    assert changes(made)[0][1].get("Proxy") == proxy


def removed(host: FakeHost) -> list[str]:
    """Return the paths that were removed."""
    return [parameters["LiteralPath"] for dummy, parameters in host.changes]


def test_a_folder_goes_with_its_files() -> None:
    """What the server lists without a name cannot be removed by one."""
    host = FakeHost({"Get-ChildItem": (item(FullName=r"C:\f\package.msi"), "a text", item(), item(FullName=r"C:\f\install.log"))})
    assert _package.remove_folder(host, r"C:\f") is None
    assert removed(host) == [r"C:\f\package.msi", r"C:\f\install.log", r"C:\f"]


def test_a_folder_that_is_gone_is_removed() -> None:
    host = FakeHost({"Get-ChildItem": GONE})
    assert (_package.remove_folder(host, r"C:\f"), removed(host)) == (None, [])


def test_a_folder_that_cannot_be_looked_into_is_said_to_be_left() -> None:
    """It is not removed blindly, and the administrator hears of it."""
    host = FakeHost({"Get-ChildItem": DENIED})
    said = r"C:\f is left on the server: Get-ChildItem C:\f: Access is denied. The next run tries to remove it again."
    assert (_package.remove_folder(host, r"C:\f"), removed(host)) == (said, [])


def test_a_file_that_is_in_use_is_said_to_be_left() -> None:
    host = FakeHost({"Get-ChildItem": (item(FullName=r"C:\f\install.log"),), "Remove-Item": DENIED})
    assert _package.remove_folder(host, r"C:\f") == r"C:\f is left on the server: Access is denied. The next run tries to remove it again."


def test_a_server_that_is_gone_may_have_the_folder_left() -> None:
    made = folder(Get_ChildItem=ConnectionFailure("no route"))
    assert made.remove() == f"{made.path} may be left on the server (no route); the next run removes it"


# --- Windows Installer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [(), (0, 0), ("0",), (None,), (True,), (item(),)], ids=["nothing", "two", "text", "null", "truth", "object"])
def test_an_installation_without_an_exit_code_is_no_success(answer: Any) -> None:
    with pytest.raises(CmdletError) as caught:
        _msiexec.run(FakeHost({"Start-Process": answer}), r"C:\Windows", "/i", PATH, r"C:\f\install.log")
    assert (caught.value.reason, caught.value.message) == ("answer_malformed", "msiexec.exe ran, but the server did not tell its exit code")


@pytest.mark.parametrize("code", [0, 3010, 1603, -2147023293])
def test_an_exit_code_is_what_the_server_tells(code: int) -> None:
    assert _msiexec.run(FakeHost({"Start-Process": (code,)}), r"C:\Windows", "/i", PATH, r"C:\f\install.log") == code
