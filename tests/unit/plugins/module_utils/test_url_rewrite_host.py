# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""URL Rewrite as a server shows it: what is read where, what odd answers come to, which product it is, who uses it."""

from __future__ import annotations

import datetime
import ntpath
from collections.abc import Mapping
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _url_rewrite
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import CmdletError, Refused
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils import iis_samples as samples
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.fake_host import DENIED, GONE, FakeHost, item

BOOT = datetime.datetime(2026, 11, 24, tzinfo=datetime.timezone.utc)
CODE, OTHER = "{9BCA2118-F753-4A1E-BCF3-5A820729965C}", "{38D32370-3A31-40E9-91D0-D236F47E3C4A}"


def version(*parts: Any) -> tuple[Any, ...]:
    """Return the version resource of rewrite.dll."""
    names = ("FileMajorPart", "FileMinorPart", "FileBuildPart", "FilePrivatePart")
    return (item(VersionInfo=item(**dict(zip(names, parts)))),)


class Server(FakeHost):
    """A Windows Server 2019 with IIS and URL Rewrite, where ``told`` says nothing else; ``asked`` are the paths of files that were read."""

    def __init__(self, windows: str = r"C:\Windows", system: Mapping[str, Any] | None = None, **told: Any) -> None:
        self.windows = windows
        known = {"CSName": "WEB1", "Version": "10.0.17763", "Caption": "Windows Server 2019", "ProductType": 3, "LastBootUpTime": BOOT}
        self.system = {**known, **(system or {})}
        self.asked: list[str] = []
        keys = (item(PSChildName="InetStp", MajorVersion=10, MinorVersion=0), item(PSChildName="URL Rewrite", Version="7.2.1993"))
        base: dict[str, Any] = {
            "Get-CimInstance": self._cim,
            "Get-Item": (item(Key="SystemDrive", Value=windows[:2]), item(Key="windir", Value=windows)),
            "Get-ItemProperty": lambda sent: self._placed(sent["LiteralPath"][0], version(7, 1, 1993, 2351)) if "Name" in sent else keys,
            "Get-Content": lambda sent: self._placed(sent["LiteralPath"], (samples.application_host(),)),
            "Test-Path": lambda sent: (True,) if "PathType" in sent else (False, False),
            "Get-Command": (item(Name="Start-Process"),),
        }
        super().__init__({**base, **{cmdlet.replace("_", "-"): answer for cmdlet, answer in told.items()}})

    def _cim(self, parameters: Mapping[str, Any]) -> Any:
        return (item(**self.system),) if parameters["ClassName"] == "Win32_OperatingSystem" else ()

    def _placed(self, path: str, found: Any) -> Any:
        self.asked.append(path)
        return found if path.startswith(self.windows + "\\") else GONE


def state(host: FakeHost) -> str:
    """Return what the traces of a server come to."""
    return _url_rewrite.judge(_url_rewrite.observe(host)).state


# --- reading -----------------------------------------------------------------------------------------------------------------


def test_a_server_with_url_rewrite() -> None:
    found = _url_rewrite.observe(Server())
    assert (found.name, found.iis_version, found.dll_version, found.boot, found.can_install) == ("WEB1", "10.0", "7.1.1993.2351", BOOT, True)
    assert found.facts() == {
        "version": "7.2.1993", "registry_version": "7.2.1993", "dll_version": "7.1.1993.2351", "module": True, "section": True, "installed": True,
    }  # fmt: skip


def test_windows_on_another_drive_is_looked_at_where_it_is() -> None:
    """Nothing of C: is taken for it: there is no Windows there, and its files are simply absent."""
    host = Server("D:\\WINNT")
    found = _url_rewrite.observe(host)
    assert (found.windows, found.dll_version, _url_rewrite.judge(found).state) == ("D:\\WINNT", "7.1.1993.2351", "installed")
    assert ntpath.join("D:\\WINNT", r"System32\inetsrv\config\applicationHost.config") in host.asked


def test_the_environment_is_taken_from_what_has_a_name() -> None:
    host = Server(Get_Item=("a text", item(Name="SystemRoot", Value="C:\\WINDOWS\\"), item(Key="ProgramFiles", Value=None)))
    found = _url_rewrite.observe(host)
    assert (found.environment, found.windows) == ({"SystemRoot": "C:\\WINDOWS\\", "ProgramFiles": ""}, r"C:\Windows")


@pytest.mark.parametrize(
    ("answer", "reason", "said"),
    [
        (DENIED, "cmdlet_failed", "Get-CimInstance Win32_OperatingSystem: Access is denied."),
        ((), "answer_malformed", "Win32_OperatingSystem is empty"),
        (("a text",), "answer_malformed", "Win32_OperatingSystem is empty"),
    ],
    ids=["error", "nothing", "text"],
)
def test_a_server_that_does_not_tell_its_system_is_an_error(answer: Any, reason: str, said: str) -> None:
    with pytest.raises(CmdletError) as caught:
        _url_rewrite.observe(Server(Get_CimInstance=answer))
    assert (caught.value.reason, caught.value.message) == (reason, said)


@pytest.mark.parametrize(
    ("dll", "found"),
    [
        (GONE, None),
        ((), None),
        (("a text",), None),
        ((item(),), None),
        ((item(VersionInfo="7.1"),), None),
        (version(0, 0, 0, 0), None),
        (version(7, 1, "1993", 2351), None),
        (version(7, 1), None),
        (("a text", *version(0, 0, 0, 0), *version(7, 1, 871, 0)), "7.1.871.0"),
    ],
    ids=["absent", "nothing", "text", "no member", "word", "zeros", "word in it", "half", "last"],
)
def test_a_file_without_a_version_is_no_module(dll: Any, found: str | None) -> None:
    """The registry alone is a broken installation, which is repaired."""
    keys = (item(PSChildName="InetStp", MajorVersion=10), item(PSChildName="URL Rewrite", Version="7.2.1993"))
    host = Server(Get_ItemProperty=lambda sent: dll if "Name" in sent else keys)
    machine = _url_rewrite.observe(host)
    assert (machine.dll_version, _url_rewrite.judge(machine).state) == (found, "installed" if found else "broken")


def test_a_file_that_may_not_be_looked_at_is_an_error_and_not_absent() -> None:
    """Else an installation would be repaired for a missing right."""
    with pytest.raises(CmdletError, match="Access is denied"):
        _url_rewrite.observe(Server(Get_ItemProperty=lambda sent: DENIED if "Name" in sent else ()))


@pytest.mark.parametrize("answer", [DENIED, (b"<configuration>",), ("text",)], ids=["denied", "cut", "text"])
def test_a_configuration_that_is_not_understood_is_unknown(answer: Any) -> None:
    host = Server(Get_Content=answer)
    assert state(host) == "unknown"
    with pytest.raises(Refused) as caught:
        _url_rewrite.action_for(_url_rewrite.judge(_url_rewrite.observe(host)), "present")
    assert caught.value.reason == "state_unknown"


# --- what is no server for it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "keys", "reason", "said"),
    [
        ({"ProductType": 1, "Caption": "Windows 11"}, None, "unsupported_os", "WEB1 runs Windows 11; Windows Server 2012 or newer is needed"),
        ({"Version": "6.1.7601", "Caption": "Windows Server 2008 R2"}, None, "unsupported_os", "WEB1 runs Windows Server 2008 R2; Windows"),
        ({"Version": None, "CSName": None}, None, "unsupported_os", "this machine runs Windows Server 2019; Windows Server 2012 or newer is needed"),
        ({}, (), "iis_missing", "WEB1 has no IIS"),
        ({}, (item(PSChildName="InetStp", MajorVersion="10"),), "iis_missing", "WEB1 has no IIS"),
        ({}, (item(PSChildName="InetStp", MajorVersion=6, MinorVersion=0),), "iis_missing", "WEB1 has IIS 6.0; IIS 7 or newer is needed"),
        ({"Version": "6.3.9600", "Caption": "Windows Server 2012 R2"}, None, "ucrt_missing", "without the Universal C Runtime"),
    ],
)
def test_a_server_that_cannot_have_it_is_refused_before_anything_is_written(system: dict[str, Any], keys: Any, reason: str, said: str) -> None:
    found = keys if keys is not None else (item(PSChildName="InetStp", MajorVersion=10, MinorVersion=0),)
    host = Server(system=system, Get_ItemProperty=lambda sent: GONE if "Name" in sent else found, Test_Path=(False,))
    machine = _url_rewrite.observe(host)
    with pytest.raises(Refused) as caught:
        _url_rewrite.refuse_unsuitable(machine, "install")
    assert (caught.value.reason, said in caught.value.message, host.changes) == (reason, True, [])
    _url_rewrite.refuse_unsuitable(machine, "remove")


def test_a_version_of_windows_that_is_no_number_anybody_has() -> None:
    """As many digits as a hostile server likes are no crash."""
    assert _url_rewrite.observe(Server(system={"Version": "9" * 5000})).needs_ucrt is False


# --- which product to remove -------------------------------------------------------------------------------------------------


def product(code: str, **more: Any) -> Any:
    """Return a product's key as Windows Installer writes it."""
    return item(**{"PSChildName": code, "Publisher": "Microsoft Corporation", "DisplayVersion": "7.2.1993", **more})


@pytest.mark.parametrize(
    ("products", "what"),
    [
        ((), "no installed product has"),
        ((item(PSChildName="Mozilla Firefox"), "a text"), "no installed product has"),
        ((product(CODE, Publisher="Somebody"),), "no installed product has"),
        ((product(CODE, DisplayVersion="7.2.1980"),), "no installed product has"),
        ((product(CODE, DisplayVersion=None, Publisher=None),), "no installed product has"),
        ((product(CODE), product(OTHER)), f"2 installed products ({OTHER}, {CODE}) have"),
    ],
    ids=["none", "no codes", "publisher", "version", "nulls", "two"],
)
def test_a_product_that_cannot_be_told_is_not_guessed(products: tuple[Any, ...], what: str) -> None:
    """Removing the wrong product would be worse than removing none."""
    machine = _url_rewrite.observe(Server())
    host = FakeHost({"Get-ChildItem": products, "Get-ItemProperty": products})
    with pytest.raises(Refused) as caught:
        _url_rewrite.find_product(host, machine, None)
    assert caught.value.reason == "product_unknown"
    assert caught.value.message == f"WEB1: {what} version 7.2.1993 of URL Rewrite, so it is unknown which one to remove; name it in product_code"


def test_the_product_with_the_version_of_the_registry_is_it() -> None:
    products = (product(OTHER, DisplayVersion="7.2.1980"), product(CODE.lower()), product(CODE))
    machine = _url_rewrite.observe(Server())
    assert _url_rewrite.find_product(FakeHost({"Get-ChildItem": products, "Get-ItemProperty": products}), machine, None) == CODE
    assert _url_rewrite.find_product(FakeHost({"Get-ChildItem": DENIED}), machine, OTHER.lower()) == OTHER


# --- who uses it -------------------------------------------------------------------------------------------------------------


def used(files: Mapping[str, Any], application_host: bytes | None = None) -> list[str]:
    """Return the files with rules in them on a server whose web.config files are these."""
    answers = {path.lower(): answer for path, answer in files.items()}
    data = samples.application_host() if application_host is None else application_host
    machine = _url_rewrite.observe(Server(Get_Content=(data,) if data else GONE))
    return _url_rewrite.rules_in_use(FakeHost({"Get-Content": lambda sent: answers.get(sent["LiteralPath"].lower(), GONE)}), machine)


def test_files_with_a_rewrite_section_are_named_in_whatever_encoding() -> None:
    """A comment, an element that is only called alike and an empty file are none."""
    rules = "<configuration><rewrite><rules /></rewrite></configuration>"
    assert used({samples.ROOT_FILE: (rules.encode(),), samples.OWA_FILE: (rules.encode("utf-16"),), samples.ECP_FILE: ()}) == [
        samples.ROOT_FILE, samples.OWA_FILE,
    ]  # fmt: skip
    assert used({samples.ROOT_FILE: (b"<!-- <rewrite> -->",), samples.OWA_FILE: (b"<rewriter />",)}) == []
    host = samples.application_host(extra=samples.MODULE + "<system.webServer><rewrite><rules /></rewrite></system.webServer>")
    assert used({}, host) == ["applicationHost.config"]


def test_without_iis_nobody_uses_it() -> None:
    assert used({samples.ROOT_FILE: (b"<rewrite />",)}, b"") == []


def test_a_file_that_cannot_be_read_stops_the_removal() -> None:
    with pytest.raises(CmdletError, match="Access is denied"):
        used({samples.OWA_FILE: DENIED})


def test_sites_that_are_not_understood_stop_the_removal() -> None:
    with pytest.raises(Refused, match="it is unknown which sites use URL Rewrite") as caught:
        used({}, b"<configuration>")
    assert caught.value.reason == "state_unknown"
