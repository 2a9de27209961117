# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The JEA files in docs/jea are what the table of cmdlets makes of them, and the table and they agree."""

from __future__ import annotations

import pathlib
import re

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _jea
from ansible_collections.exchange.mitigation.plugins.module_utils._cmdlets import CHANGES, FORMS, READS
from ansible_collections.exchange.mitigation.plugins.module_utils._rights import lacking

FOLDER = pathlib.Path(__file__).resolve().parents[4] / "docs" / "jea"


def test_the_files_are_as_the_table_makes_them() -> None:
    there = {path.relative_to(FOLDER).as_posix(): path.read_text("ascii") for path in FOLDER.rglob("*") if path.is_file()}
    assert there == _jea.files(), "write them anew: python tests/system/jea_files.py"


def test_every_cmdlet_of_the_host_has_its_place() -> None:
    assert _jea.problems() == []


def test_a_cmdlet_without_a_place_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(_jea.NEVER, "Start-Process")  # type: ignore[arg-type]
    assert _jea.problems() == ["Start-Process must stand in exactly one of READS, WRITES and NEVER."]


def test_a_capability_that_says_other_than_the_table_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes the output of another cmdlet does so in both, and what changes the server is nothing for a reader."""
    monkeypatch.setitem(_jea.WRITES, "Set-Acl", _jea.Narrow({"LiteralPath": _jea.BESIDE}))  # type: ignore[index]
    assert _jea.problems() == ["Set-Acl takes the output of another cmdlet in one of the two and not in the other."]
    monkeypatch.undo()
    monkeypatch.delitem(_jea.WRITES, "Stop-Service")  # type: ignore[arg-type]
    monkeypatch.setitem(_jea.READS, "Stop-Service", _jea.Narrow({"Name": None, "NoWait": None}))  # type: ignore[index]
    assert _jea.problems() == ["Stop-Service changes the server and stands in READS."]


def test_the_reader_reads() -> None:
    assert {row.effect for row in _jea.rows(_jea.READER)} == {READS}
    assert {row.effect for row in _jea.rows(_jea.WRITER)} == {READS, CHANGES}


def test_no_capability_offers_what_runs_anything() -> None:
    never = {"ForEach-Object", "Start-Process", "Sort-Object", "Select-Object", "Restart-Computer", "Invoke-WebRequest", "New-Item"}
    for role in _jea.ROLES:
        assert not never & set(_jea.offered(role))
        text = _jea.capability(role)
        assert not re.search(r"\b(?:cmd|msiexec|powershell)(?:\.exe)?\b", text, re.IGNORECASE)
        assert "VisibleExternalCommands = @()" in text and "VisibleFunctions = @()" in text


def test_a_changing_cmdlet_never_goes_without_a_limit() -> None:
    """A parameter that names a thing has a pattern or a list; free are only switches, numbers, contents and what comes down the pipeline."""
    free = {"Raw", "Tail", "ReadCount", "File", "MaxEvents", "Value", "Force", "Confirm", "NoWait"}
    for role in _jea.ROLES:
        for name, narrow in _jea.offered(role).items():
            (row,) = FORMS[name]
            for parameter, pattern in narrow.parameters.items():
                kind = row.parameters[parameter]
                assert pattern or kind.values or kind.pattern or parameter in free, (name, parameter)


def matches(pattern: str, text: str) -> bool:
    """Match as PowerShell does."""
    return re.search(f"^({pattern})$", text, re.IGNORECASE) is not None


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (r"C:\Windows\System32\inetsrv\config\applicationHost.config", True),
        (r"C:\inetpub\wwwroot\web.config", True),
        (r"D:\Exchange\FrontEnd\HttpProxy\owa\web.config", True),
        (r"C:\Program Files\Microsoft\Exchange Server\V15\ClientAccess\ecp\web.0a1b2c3d.new.config", True),
        (r"C:\Windows\System32\inetsrv\config\administration.config", False),
        (r"C:\Windows\System32\inetsrv\config\applicationHost.config.bak", False),
        (r"C:\inetpub\wwwroot\..\..\Windows\win.config", False),
        (r"C:\inetpub\wwwroot\. .\web.config", False),
        (r"C:\inetpub\wwwroot\web.config:stream", False),
        (r"C:/inetpub/wwwroot/web.config", False),
        (r"\\server\c$\inetpub\wwwroot\web.config", False),
        (r"\\?\C:\inetpub\wwwroot\web.config", False),
        (r"C:\inetpub\logs\web.config", False),
        (r"C:\inetpub\wwwroot\default.aspx", False),
    ],
)
def test_paths_of_configuration_files(path: str, allowed: bool) -> None:
    assert matches(_jea.CONFIGURATION, path) is allowed


def test_only_our_own_files_can_be_written_and_removed() -> None:
    assert matches(_jea.BESIDE, r"C:\inetpub\wwwroot\web.0a1b2c3d.before.config")
    assert matches(_jea.BESIDE, r"C:\Windows\System32\inetsrv\config\applicationHost.0a1b2c3d.new.config")
    assert not matches(_jea.BESIDE, r"C:\inetpub\wwwroot\web.config")


@pytest.mark.parametrize(
    ("cmdlet", "endpoint", "fqid", "words"),
    [
        ("Set-ExchangeServer", "exchange", "CommandNotFoundException", "it needs Server Management (role Exchange Servers)."),
        ("Set-OrganizationConfig", "exchange", "NamedParameterNotFound,Set-OrganizationConfig", "lacks a parameter of Set-OrganizationConfig"),
        ("Get-Content", "host", "ParameterArgumentValidationError,Get-Content", "JEA endpoint exchange.mitigation.reader or exchange.mitigation.writer."),
        ("Start-Process", "host", "CommandNotFoundException", "no JEA endpoint of the collection offers it."),
        ("Set-ExchangeServer", "exchange", "ParameterArgumentValidationError,Set-ExchangeServer", ""),
        ("Get-Content", "host", "PathNotFound,Microsoft.PowerShell.Commands.GetContentCommand", ""),
    ],
)
def test_the_sentence_names_what_is_missing(cmdlet: str, endpoint: str, fqid: str, words: str) -> None:
    said = lacking(cmdlet, endpoint, fqid)
    assert words in said and bool(words) is bool(said)
