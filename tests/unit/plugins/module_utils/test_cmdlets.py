# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of cmdlets and its enforcement."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._cmdlets import (
    CHANGES,
    EXCHANGE,
    FORMS,
    HOST,
    READS,
    TABLE,
    enforce,
    enforce_statement,
)
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import CmdletNotAllowed
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Call, call

PATH = "C:\\inetpub\\wwwroot\\web.config"


def test_every_row_is_complete() -> None:
    for name, row in ((row.cmdlet, row) for rows in FORMS.values() for row in rows):
        assert row.cmdlet == name
        assert row.endpoint in (HOST, EXCHANGE)
        assert row.effect in (READS, CHANGES)
        assert row.right
        assert ".md" in row.source
        assert set(row.mandatory) <= set(row.parameters)
        assert row.follows is None or row.follows in TABLE
        verb = name.partition("-")[0]
        asks = name == "Invoke-WebRequest" and "OutFile" not in row.parameters
        assert (row.effect == READS) == (asks or verb in ("Get", "Test", "Resolve", "Import", "Write", "Sort", "Select") or name == "Add-PSSnapin"), name


def test_nothing_that_runs_text_is_listed() -> None:
    listed = {name.lower() for name in TABLE}
    assert not listed & {"invoke-expression", "invoke-command", "new-object", "add-type", "move-item", "set-variable"}
    parameters = {parameter.lower() for row in TABLE.values() for parameter in row.parameters}
    assert not parameters & {"scriptblock", "command", "process", "begin", "end", "filterscript"}


@pytest.mark.parametrize(
    "statement",
    [
        (call("Get-Content", LiteralPath=PATH, Encoding="Byte", Raw=True),),
        (call("Get-Content", LiteralPath=PATH, Encoding="UTF8", Tail=200, ReadCount=0, ErrorAction="Stop"),),
        (call("Test-Path", LiteralPath=[PATH, PATH]),),
        (call("Set-Content", LiteralPath=PATH, Encoding="Byte", Value=b""),),
        (call("Remove-Item", LiteralPath=PATH, Force=True, Confirm=False),),
        (call("Get-Acl", LiteralPath=PATH), call("Set-Acl", LiteralPath=PATH)),
        (call("Get-Item", LiteralPath=PATH, Force=True), call("ForEach-Object", MemberName="Replace", ArgumentList=[PATH, PATH])),
        (call("Import-Module", Name="WebAdministration"),),
    ],
)
def test_what_the_design_needs_on_the_host(statement: tuple[Call, ...]) -> None:
    assert len(enforce_statement(statement, HOST)) == len(statement)
    with pytest.raises(CmdletNotAllowed):
        enforce_statement(statement, EXCHANGE)


@pytest.mark.parametrize(
    "statement",
    [
        (call("Get-OrganizationConfig"),),
        (call("Get-ExchangeServer", Identity="EX1", DomainController="dc1"),),
        (call("Set-ExchangeServer", Identity="EX1", MitigationsBlocked=[], Confirm=False),),
        (call("Set-OrganizationConfig", MitigationsEnabled=False),),
    ],
)
def test_what_the_design_needs_at_exchange(statement: tuple[Call, ...]) -> None:
    assert enforce_statement(statement, EXCHANGE)
    with pytest.raises(CmdletNotAllowed):
        enforce_statement(statement, HOST)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (call("Invoke-Expression", Command="1"), "Invoke-Expression"),
        (call("get-content", LiteralPath=PATH), "get-content"),
        (call("Get-Content", Path=PATH), "Path"),
        (call("Get-Content", literalpath=PATH), "literalpath"),
        (call("Get-Content", LiteralPath=""), "LiteralPath"),
        (call("Get-Content", LiteralPath=None), "LiteralPath"),
        (call("Get-Content", LiteralPath=PATH, Raw="true"), "Raw"),
        (call("Get-Content", LiteralPath=PATH, Raw=None), "Raw"),
        (call("Get-Content", LiteralPath=PATH, Encoding="Oem"), "Encoding"),
        (call("Get-Content", LiteralPath=PATH, Tail=True), "Tail"),
        (call("Get-Content", LiteralPath=PATH, Tail=-1), "Tail"),
        (call("Get-Content"), "LiteralPath"),
        (call("Set-Content", LiteralPath=PATH, Encoding="Byte", Value="text"), "Value"),
        (call("Set-Content", LiteralPath=PATH, Encoding="Byte", Value=bytearray(b"x")), "Value"),
        (call("Set-ExchangeServer", Identity="EX1", MitigationsApplied=["M1"]), "MitigationsApplied"),
        (call("Set-ExchangeServer", Identity="EX1", MitigationsBlocked="M1"), "MitigationsBlocked"),
        (call("Set-ExchangeServer", Identity="EX1", MitigationsBlocked=[1]), "MitigationsBlocked"),
        (call("Set-ExchangeServer", Identity="EX1", MitigationsEnabled="true"), "MitigationsEnabled"),
        (call("Set-ExchangeServer", Identity="EX1", MitigationsEnabled=1), "MitigationsEnabled"),
        (call("Set-ExchangeServer", MitigationsEnabled=True), "Identity"),
        (call("Get-ExchangeServer", ErrorAction="Inquire"), "ErrorAction"),
        (call("Get-CimInstance", ClassName="Win32_Product"), "ClassName"),
        (call("Import-Module", Name="C:\\evil.psm1"), "Name"),
        (call("ForEach-Object", MemberName="Delete", ArgumentList=["a", "b"]), "MemberName"),
        (call("ForEach-Object", MemberName="Replace", ArgumentList=["a"]), "ArgumentList"),
        (call("ForEach-Object", MemberName="Replace", ArgumentList=["a", ""]), "ArgumentList"),
        (call("ForEach-Object", Process="{ evil }"), "Process"),
    ],
)
def test_anything_else_is_refused_by_name(bad: Call, named: str) -> None:
    with pytest.raises(CmdletNotAllowed) as caught:
        enforce(bad)
    assert named in str(caught.value)
    assert caught.value.reason == "cmdlet_not_allowed"


@pytest.mark.parametrize(
    "statement",
    [
        (),
        (call("Set-Acl", LiteralPath=PATH),),
        (call("ForEach-Object", MemberName="Replace", ArgumentList=["a", "b"]),),
        (call("Get-Content", LiteralPath=PATH), call("ForEach-Object", MemberName="Replace", ArgumentList=["a", "b"])),
        (call("Get-Item", LiteralPath=PATH), call("Set-Acl", LiteralPath=PATH)),
        (call("Get-ChildItem", LiteralPath="C:\\"), call("Remove-Item", LiteralPath=PATH)),
        (call("Get-Item", LiteralPath=PATH), call("Get-Acl", LiteralPath=PATH)),
    ],
)
def test_pipelines_are_listed_too(statement: tuple[Call, ...]) -> None:
    with pytest.raises(CmdletNotAllowed):
        enforce_statement(statement, HOST)


def test_a_refusal_never_repeats_the_value() -> None:
    secret: Any = {"password": "p4ss"}
    with pytest.raises(CmdletNotAllowed) as caught:
        enforce(call("Get-Content", LiteralPath=secret))
    assert "p4ss" not in str(caught.value)


def test_what_changes_and_what_does_not() -> None:
    assert enforce(call("ForEach-Object", MemberName="Replace", ArgumentList=["a", "b"])).effect == CHANGES
    assert enforce(call("Get-Item", LiteralPath=PATH)).effect == READS
