# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cmdlets of WebAdministration: what they write, and how IIS's refusals look."""

from __future__ import annotations

import pathlib

import pytest

from lab.direct import one, run
from lab.iis_config import APPLICATION_HOST
from lab.kernel import LabRefusal, Obj, Terminating
from lab.machine import Machine
from lab.stock import Stock, make

BASE = "MACHINE/WEBROOT/APPHOST"
SITE = BASE + "/Default Web Site"
ROOT = "C:\\inetpub\\wwwroot\\web.config"
OWA = "C:\\Program Files\\Microsoft\\Exchange Server\\V15\\FrontEnd\\HttpProxy\\owa\\web.config"
COMMAND = "System.Runtime.InteropServices.COMException,Microsoft.IIs.PowerShell.Provider.GetConfigurationCommand"
RULE = """<system.webServer><rewrite><rules><rule name="r" stopProcessing="true"><match url=".*" />
<conditions><add input="{URL}" pattern="x" negate="true" /></conditions><action type="AbortRequest" /></rule></rules></rewrite></system.webServer>"""


@pytest.fixture
def machine(tmp_path: pathlib.Path) -> Machine:
    return make(tmp_path, Stock("EX1"))


def append(machine: Machine, path: str, text: str) -> None:
    machine.files.write(path, machine.files.read(path).replace(b"</configuration>", text.encode() + b"</configuration>"))


def test_section_with_its_collection(machine: Machine) -> None:
    append(machine, ROOT, RULE)
    section = one(machine, "Get-WebConfiguration", Filter="/system.webServer/rewrite/rules", PSPath=SITE + "/owa/Calendar")
    assert section.types[0] == "Microsoft.IIs.PowerShell.Framework.ConfigurationSection"
    assert section.props["SectionPath"] == "/system.webServer/rewrite/rules"
    (rule,) = section.notes["Collection"]
    assert isinstance(rule, Obj)
    assert {name: rule.notes[name] for name in ("name", "enabled", "stopProcessing", "patternSyntax")} == {
        "name": "r", "enabled": True, "stopProcessing": True, "patternSyntax": "ECMAScript",
    }  # fmt: skip
    assert rule.notes["match"].notes["url"] == ".*"
    assert rule.notes["action"].notes["type"] == "AbortRequest"
    (condition,) = rule.notes["conditions"].notes["Collection"]
    assert (condition.notes["input"], condition.notes["negate"], condition.notes["ignoreCase"]) == ("{URL}", True, True)


def test_elements_by_filter(machine: Machine) -> None:
    append(machine, ROOT, RULE)
    rule = one(machine, "Get-WebConfiguration", Filter="/system.webServer/rewrite/rules/rule[@name='r']", PSPath=SITE)
    assert (rule.props["ElementTagName"], rule.notes["ItemXPath"]) == ("rule", "/system.webServer/rewrite/rules/rule[@name='r']")
    assert run(machine, "Get-WebConfiguration", Filter="/system.webServer/rewrite/rules/rule[@name='s']", PSPath=SITE) == ([], [])
    preconditions = one(machine, "Get-WebConfiguration", Filter="/system.webServer/rewrite/outboundRules/preConditions", PSPath=SITE + "/owa")
    assert preconditions.notes["Collection"] == []
    filter_ = "/system.applicationHost/applicationPools/add[@name='MSExchangeECPAppPool']"
    assert one(machine, "Get-WebConfiguration", Filter=filter_, PSPath=BASE).notes["autoStart"] is True


def test_duplicate_entry(machine: Machine) -> None:
    append(machine, OWA, RULE)
    output, errors = run(machine, "Get-WebConfiguration", Filter="/system.webServer/rewrite/rules", PSPath=SITE + "/owa/Calendar")
    assert output == []
    (error,) = errors
    assert (error.fqid, error.category, error.exception) == (COMMAND, 0, "System.Runtime.InteropServices.COMException")
    line = machine.files.read(OWA).split(b"\r\n").index(next(row for row in machine.files.read(OWA).split(b"\r\n") if b'<rule name="r"' in row)) + 1
    assert error.message == (
        f"Filename: \\\\?\\{OWA}\r\nLine number: {line}\r\n"
        "Error: Cannot add duplicate collection entry of type 'rule' with unique key attribute 'name' set to 'r'\r\n\r\n"
    )
    one(machine, "Get-WebConfiguration", Filter="/system.webServer/rewrite/rules", PSPath=SITE + "/owa")
    one(machine, "Get-WebConfiguration", Filter="/system.webServer/modules", PSPath=SITE + "/owa/Calendar")


def test_locked_section(machine: Machine) -> None:
    append(machine, OWA, "<system.webServer><asp /></system.webServer>")
    dummy, errors = run(machine, "Get-WebConfiguration", Filter="/system.webServer/asp", PSPath=SITE + "/owa")
    assert "This configuration section cannot be used at this path." in errors[0].message
    assert OWA in errors[0].message


def test_malformed_file_in_both_cmdlets(machine: Machine) -> None:
    machine.files.write(OWA, b"<configuration>\r\n\r\n<a></b></configuration>")
    for name, parameters in (("Get-WebConfiguration", {"Filter": "/system.webServer/modules"}), ("Get-WebConfigFile", {})):
        output, errors = run(machine, name, PSPath=SITE + "/owa", **parameters)
        assert output == []
        assert f"Filename: \\\\?\\{OWA}\r\nLine number: 3\r\nError: Configuration file is not well-formed XML" in errors[0].message
    assert one(machine, "Get-WebConfigFile", PSPath=SITE).props["FullName"] == ROOT


def test_config_file_of_each_level(machine: Machine) -> None:
    assert one(machine, "Get-WebConfigFile", PSPath=BASE).props["FullName"] == APPLICATION_HOST
    found = one(machine, "Get-WebConfigFile", PSPath=SITE + "/owa/Calendar")
    assert (found.props["FullName"], found.types[0]) == (OWA, "System.IO.FileInfo")
    assert one(machine, "Get-WebConfigFile", PSPath=SITE + "/owa/auth").props["Exists"] is False


def test_undeclared_section_finds_nothing_or_an_error(tmp_path: pathlib.Path) -> None:
    machine = make(tmp_path, Stock("EX3", url_rewrite=False))
    filter_ = "/system.webServer/rewrite/rules"
    assert run(machine, "Get-WebConfiguration", Filter=filter_, PSPath=SITE) == ([], [])
    append(machine, ROOT, RULE)
    dummy, errors = run(machine, "Get-WebConfiguration", Filter=filter_, PSPath=SITE)
    assert "Unrecognized element 'rewrite'" in errors[0].message


def test_wrong_paths(machine: Machine) -> None:
    with pytest.raises(Terminating) as caught:
        run(machine, "Get-WebConfiguration", Filter="/system.webServer/modules", PSPath="C:\\inetpub")
    assert caught.value.info.message == "Path doesn't belong to 'WebAdministration' provider."
    output, errors = run(machine, "Get-WebConfiguration", Filter="/system.webServer/modules", PSPath=BASE + "/No Such Site")
    assert (output, errors[0].category) == ([], 13)
    with pytest.raises(LabRefusal):
        run(machine, "Get-WebConfiguration", Filter="/system.webServer/modules", PSPath="IIS:\\Sites\\Default Web Site")
    with pytest.raises(LabRefusal):
        run(machine, "Get-WebConfiguration", Filter="/system.webServer/modules/add[position()=1]", PSPath=SITE)


def test_applications(machine: Machine) -> None:
    output, errors = run(machine, "Get-WebApplication", Site="Default Web Site")
    assert not errors
    assert [item.notes["path"] for item in output][:4] == ["/owa", "/owa/Calendar", "/owa/Integrated", "/owa/oma"]
    assert {item.notes["path"] for item in output if item.notes["PhysicalPath"] + "\\web.config" == OWA} == {
        "/owa", "/owa/Calendar", "/owa/Integrated", "/owa/oma",
    }  # fmt: skip
    calendar = one(machine, "Get-WebApplication", Site="Default Web Site", Name="owa/Calendar")
    assert calendar.notes["applicationPool"] == "MSExchangeOWACalendarAppPool"
    assert "@id='1'" in calendar.notes["ItemXPath"]


def test_pools(machine: Machine) -> None:
    def state() -> str:
        return str(one(machine, "Get-WebAppPoolState", Name="MSExchangeOABAppPool").props["Value"])

    assert state() == "Started"
    assert run(machine, "Stop-WebAppPool", Name="MSExchangeOABAppPool") == ([], [])
    assert state() == "Stopped"
    dummy, errors = run(machine, "Stop-WebAppPool", Name="MSExchangeOABAppPool")
    assert (errors[0].category, "already stopped" in errors[0].message) == (7, True)
    assert run(machine, "Start-WebAppPool", Name="MSExchangeOABAppPool") == ([], [])
    dummy, errors = run(machine, "Start-WebAppPool", Name="MSExchangeOABAppPool")
    assert "already started" in errors[0].message
    dummy, errors = run(machine, "Get-WebAppPoolState", Name="none")
    assert errors[0].category == 13


def test_start_of_iis_follows_auto_start(machine: Machine) -> None:
    data = machine.files.read(APPLICATION_HOST)
    machine.files.write(APPLICATION_HOST, data.replace(b'<add name="MSExchangeECPAppPool"', b'<add name="MSExchangeECPAppPool" autoStart="false"'))
    machine.pools.stop("MSExchangeOABAppPool")
    machine.services.stop("W3SVC")
    machine.services.start("W3SVC")
    assert (machine.pools.state("MSExchangeOABAppPool"), machine.pools.state("MSExchangeECPAppPool")) == ("Started", "Stopped")
