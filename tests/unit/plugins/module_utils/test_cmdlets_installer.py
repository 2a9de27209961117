# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cmdlets of the table that could do much: what they may be asked for, and nothing beside it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._cmdlets import HOST, enforce, enforce_statement
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import CmdletNotAllowed
from ansible_collections.exchange.mitigation.plugins.module_utils._model import call

MSIEXEC = "C:\\Windows\\System32\\msiexec.exe"
GOOD = '/i "C:\\Windows\\exchange.mitigation-1\\a b.msi" /quiet /norestart /l* "C:\\Windows\\exchange.mitigation-1\\install.log"'
CODE = "{9BCA2118-F753-4A1E-BCF3-5A820729965C}"


def start(path: str = MSIEXEC, arguments: str = GOOD) -> Any:
    return call("Start-Process", FilePath=path, ArgumentList=arguments, Wait=True, PassThru=True)


@pytest.mark.parametrize(
    "arguments",
    [GOOD, GOOD.replace("/i", "/fvamus"), f'/x {CODE} /quiet /norestart /l* "D:\\logs\\x.log"'],
)
def test_windows_installer_may_be_run(arguments: str) -> None:
    statement = (start(arguments=arguments), call("Sort-Object", Property="Id"), call("Select-Object", ExpandProperty="ExitCode"))
    assert len(enforce_statement(statement, HOST)) == 3


@pytest.mark.parametrize(
    "path",
    [
        "cmd.exe", "msiexec.exe", "C:\\Windows\\System32\\cmd.exe", "C:\\Windows\\Temp\\msiexec.exe", "\\\\evil\\System32\\msiexec.exe", MSIEXEC + " ",
        "C:\\Windows\\System32\\..\\x\\msiexec.exe", "C:\\a\\b\\System32\\msiexec.exe",
    ],
)  # fmt: skip
def test_no_other_program(path: str) -> None:
    with pytest.raises(CmdletNotAllowed):
        enforce(start(path))


@pytest.mark.parametrize(
    "arguments",
    [
        "", "/i C:\\a.msi /quiet", GOOD + " TRANSFORMS=\\\\evil\\t.mst", GOOD.replace("/norestart", "/forcerestart"), GOOD.replace("/quiet ", ""),
        GOOD.replace("C:\\Windows\\exchange.mitigation-1\\a b.msi", "\\\\evil\\share\\a.msi"),
        GOOD.replace("C:\\Windows\\exchange.mitigation-1\\a b.msi", "https://evil/a.msi"),
        GOOD.replace("/i", "/y"), GOOD + "\n", f"/x {CODE}", GOOD.replace("a b.msi", 'a" TARGETDIR="x.msi'),
    ],
)  # fmt: skip
def test_no_other_arguments(arguments: str) -> None:
    with pytest.raises(CmdletNotAllowed):
        enforce(start(arguments=arguments))


@pytest.mark.parametrize(
    "statement",
    [
        (call("Sort-Object", Property="Id"),),
        (call("Get-Item", LiteralPath="C:\\"), call("Select-Object", ExpandProperty="ExitCode")),
        (call("Invoke-CimMethod", MethodName="StopService"),),
        (call("Get-CimInstance", ClassName="Win32_Service"), call("Invoke-CimMethod", MethodName="Create")),
        (call("Get-Command", Name="*"),),
        (call("Get-WinEvent", LogName="Security", FilterXPath="*", MaxEvents=1),),
        (call("Invoke-WebRequest", Uri="http://x/y", OutFile="C:\\y", UseBasicParsing=True),),
        (call("Invoke-WebRequest", Uri="https://user:p4ss@x/y", OutFile="C:\\y", UseBasicParsing=True),),
        (call("New-Item", ItemType="SymbolicLink", Path="C:\\y"),),
        (call("Set-Service", Name="X", StartupType="Boot"),),
    ],
)
def test_what_is_refused(statement: Any) -> None:
    with pytest.raises(CmdletNotAllowed):
        enforce_statement(statement, HOST)
