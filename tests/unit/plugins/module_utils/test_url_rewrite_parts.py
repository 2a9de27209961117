# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pure parts of installing URL Rewrite: versions, verdicts, logs, sources, access lists."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _msiexec, _package, _url_rewrite
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput, Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sections import RewriteSupport


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("7.2.2", "7.2.1993"), ("7.1.871", "7.2.1952"), ("7.2.1952", "7.2.1980"), ("7.2.1980", "7.1.1993.2351"), ("7.2.999", "7.2.1993"),
        ("7.2.1993", "7.3.2050"), ("7.2.9999", "8.0.1"), ("nothing", "7.0.1"), ("7.2", "7.2.1993"),
    ],
)  # fmt: skip
def test_versions_are_numbers(older: str, newer: str) -> None:
    assert _url_rewrite.version_key(older) < _url_rewrite.version_key(newer)


def test_package_and_file_version_are_the_same_version() -> None:
    assert _url_rewrite.version_key("7.2.1993") == _url_rewrite.version_key("7.1.1993.2351")


def machine(registry: str | None = None, dll: str | None = None, module: bool = False, section: bool = False, problem: str | None = None) -> Any:
    support = RewriteSupport(section, section, module, module, "rewrite.dll" if module else None)
    return _url_rewrite.Machine(
        name="X", os={"version": "10.0.17763", "caption": "Windows"}, boot=None, windows="C:\\Windows", iis_version="10.0", registry_version=registry,
        dll_version=dll, support=support, problem=problem, ucrt_update=False, ucrt_file=False, pending=(), leftovers=(), application_host=b"<configuration/>",
        environment={},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("traces", "state", "said"),
    [
        ({}, "absent", "not installed"),
        ({"section": True}, "absent", "not installed"),
        ({"registry": "7.2.1993", "dll": "7.1.1993.2351", "module": True, "section": True}, "installed", "7.2.1993 is installed"),
        ({"registry": "7.1.871", "dll": "7.1.871.0", "module": True, "section": True}, "outdated", "older than 7.2.1993"),
        ({"dll": "7.1.1993.2351", "module": True, "section": True}, "broken", "registry key"),
        ({"registry": "7.2.1993", "module": True, "section": True}, "broken", "lacks rewrite.dll"),
        ({"registry": "7.2.1993", "dll": "7.1.1993.2351", "section": True}, "broken", "RewriteModule"),
        ({"registry": "7.2.1993", "dll": "7.1.1993.2351", "module": True}, "broken", "section rewrite"),
        ({"module": True, "section": True}, "broken", "lacks its registry key and rewrite.dll"),
        ({"problem": "line 3"}, "unknown", "line 3"),
    ],
)
def test_verdicts(traces: dict[str, Any], state: str, said: str) -> None:
    found = _url_rewrite.judge(machine(**traces))
    assert found.state == state
    assert said in found.why


def test_actions() -> None:
    states = ("absent", "installed", "outdated", "broken")
    present = [_url_rewrite.action_for(_url_rewrite.Judgement(state, ""), "present") for state in states]
    absent = [_url_rewrite.action_for(_url_rewrite.Judgement(state, ""), "absent") for state in states]
    assert present == ["install", "none", "upgrade", "repair"]
    assert absent == ["none", "remove", "remove", "remove"]
    with pytest.raises(Refused):
        _url_rewrite.action_for(_url_rewrite.Judgement("unknown", ""), "present")


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["MSI (s) (A0:5C) [10:11:12:123]: Product: IIS URL Rewrite Module 2 -- Error 1722. It broke."], "error 1722: It broke."),
        (["Fehler 1720. Es ging nicht."], "error 1720: Es ging nicht."),
        (["Product: X -- Erreur 25031. Trop vieux."], "error 25031: Trop vieux."),
        (["MSI (s) (C8:44) [01:02:03:456]: Product: IIS URL Rewrite Module 2 -- Installation failed."], "Installation failed."),
        (["Action ended 10:11:12: CA_DoIt. Return value 3."], "the action CA_DoIt failed"),
        (["Aktion beendet um 10:11:12: CA_DoIt. Rückgabewert 3."], "the action CA_DoIt failed"),
        (["Action ended 10:11:12: CA_DoIt. Return value 1.", "MainEngineThread is returning 1603"], None),
        ([], None),
    ],
)
def test_why_a_log_says_it_failed(lines: list[str], reason: str | None) -> None:
    assert _msiexec.reason_of(lines) == reason


def test_every_listed_exit_code_is_a_success_or_says_what_to_do() -> None:
    for code, entry in _msiexec.EXIT_CODES.items():
        assert entry.what
        assert (entry.reason is None) == (code in (0, 3010, 1641))
        assert entry.reason is None or entry.remedy.endswith(".")
    assert _msiexec.meaning(4711).reason == "install_failed"


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("files/rewrite.msi", "controller"), ("/srv/rewrite.msi", "controller"), ("C:\\x.msi", "host"), ("d:/x.msi", "host"), ("\\\\a\\b\\x.msi", "unc"),
        ("https://a.example/x.msi", "url"),
    ],
)  # fmt: skip
def test_where_a_source_is(source: str, kind: str) -> None:
    assert _package.kind_of(source) == kind


@pytest.mark.parametrize("source", ["http://a.example/x.msi", "ftp://a/x.msi", "https://u:p@a/x.msi", "https://a/x y.msi", "file:///x.msi"])
def test_urls_that_are_refused(source: str) -> None:
    with pytest.raises(InvalidInput):
        _package.kind_of(source)


TRUSTED_INSTALLER = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"


@pytest.mark.parametrize(
    ("sddl", "others"),
    [
        (f"O:BAG:SYD:AI(A;OICIID;FA;;;SY)(A;OICIID;FA;;;BA)(A;OICIID;0x1200a9;;;BU)(A;CIID;GA;;;{TRUSTED_INSTALLER})(A;OICIIOID;GA;;;CO)", []),
        ("O:S-1-5-21-1-2-3-500G:DUD:(A;ID;FA;;;S-1-5-21-1-2-3-500)(A;OICIIOID;GXGR;;;BU)", []),
        ("O:BAG:SYD:AI(A;ID;FA;;;BA)(A;CIID;DCLCRPCR;;;BU)", ["BU"]),
        ("O:BAG:SYD:AI(A;ID;0x1301bf;;;AU)", ["AU"]),
        ("O:BAG:SYD:AI(A;ID;FA;;;WD)(D;;FA;;;BU)", ["WD"]),
        ("O:BAG:SY", ["everybody (no access list)"]),
    ],
)  # fmt: skip
def test_who_may_write(sddl: str, others: list[str]) -> None:
    assert _package.writers(sddl) == others
