# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Registry, environment, services, operating system and life of a simulated machine."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from lab.direct import one, run
from lab.kernel import I64, U32, LabRefusal, Terminating
from lab.machine import Machine
from lab.stock import REWRITE_KEY, SETUP_KEY, Stock, file_version, make

KEY = "HKLM:\\SOFTWARE\\Lab"


@pytest.fixture
def machine(tmp_path: pathlib.Path) -> Machine:
    return make(tmp_path, Stock("EX1"))


def fqids(errors: list[Any]) -> list[str]:
    return [error.fqid.split(",")[0] for error in errors]


# -- registry


def test_values_by_type(machine: Machine) -> None:
    for name, value, kind in (
        ("Text", "a", "REG_SZ"), ("Number", 0xFFFFFFFF, "REG_DWORD"), ("Long", 2**40, "REG_QWORD"), ("Many", ["a", "b"], "REG_MULTI_SZ"),
        ("Raw", "00ff", "REG_BINARY"), ("Expanded", "%windir%\\x", "REG_EXPAND_SZ"),
    ):  # fmt: skip
        machine.registry.set(KEY, name, value, kind)
    found = one(machine, "Get-ItemProperty", LiteralPath="hklm:\\software\\LAB")
    own = {name: value for name, value in found.notes.items() if not name.startswith("PS")}
    assert own == {"Text": "a", "Number": -1, "Long": 2**40, "Many": ["a", "b"], "Raw": b"\x00\xff", "Expanded": "C:\\Windows\\x"}
    assert isinstance(own["Long"], I64)
    assert (found.notes["PSPath"], found.notes["PSDrive"]) == ("Microsoft.PowerShell.Core\\Registry::HKEY_LOCAL_MACHINE\\SOFTWARE\\Lab", "HKLM")
    with pytest.raises(ValueError, match="no registry type"):
        machine.registry.set(KEY, "x", 1, "REG_NONE")


def test_several_keys_with_a_missing_one_between(machine: Machine) -> None:
    machine.registry.create(KEY + "\\Empty")
    output, errors = run(machine, "Get-ItemProperty", LiteralPath=[SETUP_KEY, KEY + "\\None", KEY + "\\Empty", REWRITE_KEY])
    assert [item.notes["PSChildName"] for item in output] == ["Setup", "URL Rewrite"]
    (error,) = errors
    assert (error.fqid, error.category, error.exception, error.target) == (
        "PathNotFound,Microsoft.PowerShell.Commands.GetItemPropertyCommand", 13, "System.Management.Automation.ItemNotFoundException", KEY + "\\None",
    )  # fmt: skip


def test_missing_value(machine: Machine) -> None:
    output, errors = run(machine, "Get-ItemProperty", LiteralPath=REWRITE_KEY, Name=["Version", "None"])
    assert output[0].notes["Version"] == "7.2.1993"
    (error,) = errors
    kind = "System.Management.Automation.PSArgumentException"
    assert (error.fqid, error.category) == (f"{kind},Microsoft.PowerShell.Commands.GetItemPropertyCommand", 5)
    assert run(machine, "Get-ItemProperty", LiteralPath=REWRITE_KEY, Name="None*") == ([], [])


def test_wildcard_path_and_provider_path(machine: Machine) -> None:
    output, errors = run(machine, "Get-ItemProperty", Path="HKLM:\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Uninstall\\*")
    assert "IIS URL Rewrite Module 2" in [item.notes.get("DisplayName") for item in output]
    assert errors == []
    found = one(machine, "Get-ItemProperty", LiteralPath="Registry::HKEY_LOCAL_MACHINE\\SOFTWARE\\Microsoft\\InetStp")
    assert (found.notes["MajorVersion"], "PSDrive" in found.notes) == (10, False)
    machine.registry.set("Registry::HKEY_USERS\\S-1-5-18\\Software\\X", "a", "b")
    assert one(machine, "Get-ItemProperty", Path="Registry::HKEY_USERS\\*\\Software\\X").notes["a"] == "b"


def test_keys(machine: Machine) -> None:
    key = one(machine, "Get-Item", LiteralPath="HKLM:\\software\\microsoft\\exchangeserver\\V15\\setup")
    assert key.props["Name"] == "HKEY_LOCAL_MACHINE\\SOFTWARE\\Microsoft\\ExchangeServer\\v15\\Setup"
    assert "MsiInstallPath" in key.notes["Property"]
    children = run(machine, "Get-ChildItem", LiteralPath="HKLM:\\SOFTWARE\\Microsoft\\ExchangeServer\\v15")[0]
    assert [item.notes["PSChildName"] for item in children] == ["MailboxRole", "Setup"]
    flags = ["HKLM:\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Component Based Servicing\\RebootPending", SETUP_KEY]
    assert run(machine, "Test-Path", LiteralPath=flags)[0] == [False, True]
    assert fqids(run(machine, "Get-Item", LiteralPath=KEY)[1]) == ["PathNotFound"]


# -- environment


def test_environment_variable(machine: Machine) -> None:
    found = one(machine, "Get-Item", LiteralPath="Env:exchangeinstallpath")
    assert (found.props["Key"], found.props["Value"]) == ("ExchangeInstallPath", "C:\\Program Files\\Microsoft\\Exchange Server\\V15\\")
    assert fqids(run(machine, "Get-Item", LiteralPath="Env:NONE")[1]) == ["PathNotFound"]
    assert run(machine, "Test-Path", LiteralPath=["Env:windir", "Env:none"])[0] == [True, False]


# -- services


def state(machine: Machine, name: str) -> str:
    return str(one(machine, "Get-Service", Name=name).props["Status"])


def test_service_object(machine: Machine) -> None:
    found = one(machine, "Get-Service", Name="msexchangemitigation")
    wanted = {"ServiceName": "MSExchangeMitigation", "Status": "Running", "StartType": "Automatic", "ServiceType": "Win32OwnProcess", "CanStop": True,
              "DisplayName": "Microsoft Exchange Emergency Mitigation Service", "ServicesDependedOn": ["MSExchangeADTopology"],
              "DependentServices": []}  # fmt: skip
    assert {name: found.props[name] for name in wanted} == wanted
    assert (found.to_string, found.notes["Name"], found.types[0]) == ("MSExchangeMitigation", "MSExchangeMitigation", "System.ServiceProcess.ServiceController")
    topology = one(machine, "Get-Service", Name="MSExchangeADTopology")
    assert topology.props["ServicesDependedOn"] == ["Netlogon", "NetTcpPortSharing"]
    assert "MSExchangeMitigation" in topology.props["DependentServices"]


def test_absent_service(machine: Machine) -> None:
    output, errors = run(machine, "Get-Service", Name=["none", "W3SVC"])
    assert [item.to_string for item in output] == ["W3SVC"]
    assert (errors[0].fqid, errors[0].category) == ("NoServiceFoundForGivenName,Microsoft.PowerShell.Commands.GetServiceCommand", 13)
    assert run(machine, "Get-Service", Name="none*") == ([], [])


def test_services_by_product(tmp_path: pathlib.Path) -> None:
    def names(product: str, build: str) -> set[str]:
        return {service.name for service in make(tmp_path / build, Stock("EX1", product, build)).services.all()}

    assert {"MSExchangeUM", "MSExchangeUMCR", "MSExchangeMitigation"} <= names("Exchange2016", "15.1.2507.69")
    assert "MSExchangeFlighting" in names("ExchangeSE", "15.2.2562.43")
    assert "MSExchangeMitigation" not in names("Exchange2019", "15.2.922.7")
    assert "MSExchangeMitigation" not in names("Exchange2016", "15.1.2308.8")
    assert not {"MSExchangeUM", "MSExchangeFlighting"} & names("Exchange2019", "15.2.1748.46")


def test_stop_needs_force_with_running_dependents(machine: Machine) -> None:
    dummy, errors = run(machine, "Stop-Service", Name="MSExchangeADTopology")
    assert (fqids(errors), errors[0].category, state(machine, "MSExchangeADTopology")) == (["ServiceHasDependentServices"], 7, "Running")
    assert run(machine, "Stop-Service", Name="MSExchangeADTopology", Force=True, NoWait=True) == ([], [])
    assert (state(machine, "MSExchangeADTopology"), state(machine, "MSExchangeMitigation")) == ("Stopped", "Stopped")
    assert run(machine, "Stop-Service", Name="MSExchangeADTopology") == ([], [])


def test_start_brings_what_is_needed(machine: Machine) -> None:
    run(machine, "Stop-Service", Name="MSExchangeADTopology", Force=True)
    assert run(machine, "Start-Service", Name="MSExchangeMitigation") == ([], [])
    assert (state(machine, "MSExchangeADTopology"), state(machine, "MSExchangeMitigation"), state(machine, "MSExchangeIS")) == ("Running", "Running", "Stopped")
    assert run(machine, "Start-Service", Name="MSExchangeMitigation") == ([], [])


def test_disabled_service(machine: Machine) -> None:
    run(machine, "Set-Service", Name="MSExchangeMitigation", StartupType="Disabled", Status="Stopped")
    dummy, errors = run(machine, "Start-Service", Name="MSExchangeMitigation")
    assert (fqids(errors), errors[0].category) == (["CouldNotStartService"], 1)
    run(machine, "Set-Service", Name="MSExchangeMitigation", StartupType="manual", Status="Running")
    found = one(machine, "Get-Service", Name="MSExchangeMitigation")
    assert (found.props["Status"], found.props["StartType"]) == ("Running", "Manual")
    dummy, errors = run(machine, "Set-Service", Name="MSExchangeADTopology", Status="Stopped")
    assert fqids(errors) == ["ServiceHasDependentServicesNoForce"]
    assert fqids(run(machine, "Set-Service", Name="none", Status="Running")[1]) == ["InvalidOperationException"]


def test_restart_with_force_restores_the_dependents(machine: Machine) -> None:
    assert fqids(run(machine, "Restart-Service", Name="MSExchangeADTopology")[1]) == ["ServiceHasDependentServices"]
    assert run(machine, "Restart-Service", Name="MSExchangeADTopology", Force=True) == ([], [])
    assert (state(machine, "MSExchangeIS"), state(machine, "MSExchangePop3")) == ("Running", "Stopped")


def test_service_that_cannot_be_stopped(machine: Machine) -> None:
    dummy, errors = run(machine, "Stop-Service", Name="RpcSs", Force=True)
    assert (fqids(errors), errors[0].category) == (["CouldNotStopService"], 2)


def test_services_through_the_pipeline(machine: Machine) -> None:
    service = one(machine, "Get-Service", Name="MSExchangePop3")
    (passed,) = run(machine, "Start-Service", [service], PassThru=True)[0]
    assert passed.props["Status"] == "Running"
    passed.live.lab_methods["WaitForStatus"]("Running", "00:00:05")
    with pytest.raises(Terminating):
        passed.live.lab_methods["WaitForStatus"]("Stopped", "00:00:05")


# -- the system


def test_operating_system(machine: Machine) -> None:
    names = ["Version", "BuildNumber", "Caption", "ProductType", "LastBootUpTime", "OSLanguage", "CSName"]
    found = one(machine, "Get-CimInstance", ClassName="win32_operatingsystem", Property=names)
    assert found.types[0] == "Microsoft.Management.Infrastructure.CimInstance#root/cimv2/Win32_OperatingSystem"
    assert (found.props["CSName"], found.props["BuildNumber"], found.props["ProductType"], found.props["OSLanguage"]) == ("EX1", "17763", 3, 1033)
    assert isinstance(found.props["ProductType"], U32)
    assert found.props["LastBootUpTime"].tzinfo is not None
    assert found.props["SystemDrive"] is None, "a property that was not asked for is null"


def test_win32_service_and_hotfixes(machine: Machine) -> None:
    found = one(machine, "Get-CimInstance", ClassName="Win32_Service", Filter="Name='MSExchangeMitigation'")
    assert (found.props["State"], found.props["StartMode"], found.props["ExitCode"]) == ("Running", "Auto", 0)
    assert "MSExchangeMitigation.exe" in found.props["PathName"]
    both = run(machine, "Get-CimInstance", ClassName="Win32_Service", Filter="Name='WAS' OR Name = \"W3SVC\"")[0]
    assert sorted(item.props["Name"] for item in both) == ["W3SVC", "WAS"]
    assert run(machine, "Get-CimInstance", ClassName="Win32_QuickFixEngineering", Filter="HotFixID='KB2999226'") == ([], [])
    assert fqids(run(machine, "Get-HotFix", Id="KB2999226")[1]) == ["GetHotFixNoEntriesFound"]
    with pytest.raises(LabRefusal):
        run(machine, "Get-CimInstance", ClassName="Win32_Service", Filter="Name='a' AND (State='b')")
    with pytest.raises(LabRefusal):
        run(machine, "Get-CimInstance", ClassName="Win32_Process")
    dummy, errors = run(machine, "Get-CimInstance", ClassName="NoSuchClass")
    assert errors[0].fqid == "HRESULT 0x80041010,Microsoft.Management.Infrastructure.CimCmdlets.GetCimInstanceCommand"


def test_reboot(machine: Machine) -> None:
    before = machine.os.booted()
    pending = "HKLM:\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Component Based Servicing\\RebootPending"
    machine.registry.create(pending)
    machine.services.stop("MSExchangeMitigation")
    machine.services.set_start("MSExchangeIS", "Disabled")
    machine.pools.stop("MSExchangeOWAAppPool")
    machine.reboot()
    assert machine.os.booted() > before
    assert not machine.registry.exists(pending)
    assert (state(machine, "MSExchangeMitigation"), state(machine, "MSExchangeIS"), state(machine, "W3SVC")) == ("Running", "Stopped", "Running")
    assert machine.pools.state("MSExchangeOWAAppPool") == "Started"


def test_everything_survives_a_restart_of_the_lab(machine: Machine) -> None:
    machine.registry.set(KEY, "a", 1, "REG_DWORD")
    machine.services.stop("MSExchangeMitigation")
    machine.pools.stop("MSExchangeOWAAppPool")
    machine.events.add("MSExchange Mitigation Service", 1005, "applied")
    again = Machine(machine.directory)
    assert (again.name, again.product, again.build, again.fqdn) == ("EX1", "Exchange2019", "15.2.1748.43", "ex1.lab.example")
    assert (again.registry.get(KEY, "A"), state(again, "MSExchangeMitigation"), again.pools.state("MSExchangeOWAAppPool")) == (1, "Stopped", "Stopped")
    assert [(row["id"], row["record"], row["level"]) for row in again.events.rows()] == [(1005, 1, "Information")]
    assert again.exchange_path == machine.exchange_path


def test_stock_files_and_versions(machine: Machine) -> None:
    setup = machine.exchange_path + "Bin\\ExSetup.exe"
    assert one(machine, "Get-ItemProperty", LiteralPath=setup, Name="VersionInfo").notes["VersionInfo"].props["FileVersion"] == "15.02.1748.043"
    assert (file_version("15.2.2562.45"), file_version("15.1.2507.6")) == ("15.02.2562.045", "15.01.2507.006")
    for path in ("C:\\inetpub\\wwwroot\\web.config", machine.exchange_path + "FrontEnd\\HttpProxy\\owa\\web.config"):
        data = machine.files.read(path)
        assert data.startswith(b"\xef\xbb\xbf<?xml")
        assert data.count(b"\n") == data.count(b"\r\n") > 30
        assert b'<location inheritInChildApplications="false">' in data
        assert machine.files.sddl(path) != machine.files.sddl(setup)
    assert run(machine, "Test-Path", LiteralPath="C:\\Windows\\System32\\inetsrv\\rewrite.dll")[0] == [True]


def test_stock_refuses_what_it_does_not_make(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="not Exchange2010"):
        make(tmp_path, Stock("EX1", "Exchange2010", "14.3.0.0"))
    with pytest.raises(ValueError, match=r"has builds 15\.1\."):
        make(tmp_path, Stock("EX1", "Exchange2016", "15.2.1748.43"))
