# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cmdlets around installing, services and events, and the register of what they assume."""

from __future__ import annotations

import pathlib
import re
import time
from typing import Any

import pytest
import yaml

from lab import cmdlets_cim, cmdlets_events, cmdlets_installer, em_log
from lab.direct import one, run
from lab.files import FOLDER_SDDL
from lab.installer import CODES, REWRITE_DLL, REWRITE_KEY, UNINSTALL_KEY, Package, msiexec
from lab.kernel import I64, REGISTRY, U32, LabRefusal, Terminating
from lab.machine import Machine
from lab.pipeline import Stopped
from lab.stock import Stock, make

HERE = pathlib.Path(__file__).resolve().parent
ROWS: list[dict[str, Any]] = yaml.safe_load((HERE.parents[1] / "lab" / "assumptions" / "installer.yml").read_text("utf-8"))
FOLDER = "C:\\Windows\\t"
MSI, LOG = FOLDER + "\\a.msi", FOLDER + "\\a.log"
HOST = "C:\\Windows\\System32\\inetsrv\\config\\applicationHost.config"
MSIEXEC = "C:\\Windows\\System32\\msiexec.exe"


class Session:
    """Some session: full language, or one that hides what is not in ``visible``."""

    def __init__(self, language_mode: str = "FullLanguage", visible: tuple[str, ...] = ()) -> None:
        self.language_mode = language_mode
        self.endpoint = "host"
        self.visible = visible

    def find(self, name: str) -> Any:
        return REGISTRY.get(("host", name.lower())) if not self.visible or name in self.visible else None


@pytest.fixture
def machine(tmp_path: pathlib.Path) -> Machine:
    made = make(tmp_path, Stock("EX1", url_rewrite=False))
    made.files.make_folder(FOLDER)
    return made


def command(verb: str = "/i", subject: str = f'"{MSI}"') -> str:
    return f'{verb} {subject} /quiet /norestart /l* "{LOG}"'


def put(machine: Machine, **fields: Any) -> None:
    machine.files.write(MSI, Package(**fields).data())


# Windows Installer


def test_exit_code_only_behind_sort(machine: Machine) -> None:
    put(machine, exits=(1603,))
    process = REGISTRY[("host", "start-process")]
    from lab.kernel import Invocation

    stream = process.body(Invocation(machine, {"FilePath": MSIEXEC, "ArgumentList": [command()], "Wait": True, "PassThru": True}, [], lambda error: None))
    first = next(stream)
    assert "ExitCode" not in first.props
    assert list(stream) == []
    output, dummy = run(machine, "Sort-Object", input=[first], Property="Id")
    assert run(machine, "Select-Object", input=output, ExpandProperty="ExitCode")[0] == [1603]
    for path, arguments in (("C:\\Windows\\System32\\cmd.exe", command()), (MSIEXEC, "/i")):
        with pytest.raises(LabRefusal):
            run(machine, "Start-Process", FilePath=path, ArgumentList=arguments, Wait=True, PassThru=True)


@pytest.mark.parametrize("code", [0, 3010, 1603, 1638, 1625])
def test_exit_codes_of_msiexec(machine: Machine, code: int) -> None:
    put(machine, exits=(code,))
    assert msiexec(machine, command()) == code
    assert machine.files.is_file(REWRITE_DLL) == (code in (0, 3010))
    machine.sidecar.section("installer")["busy"] = 1
    assert msiexec(machine, command()) == 1618
    assert msiexec(machine, command(subject='"C:\\none.msi"')) == 1619
    machine.files.write(MSI, b"MZ")
    assert msiexec(machine, command()) == 1620
    assert msiexec(machine, command("/x", "{00000000-0000-0000-0000-000000000000}")) == 1605


def test_log_is_utf_16_and_names_the_error(machine: Machine) -> None:
    put(machine, exits=(1603,), error=(1722, "Es ging nicht."), language="de")
    msiexec(machine, command())
    assert machine.files.read(LOG)[:2] == b"\xff\xfe"
    lines = one(machine, "Get-Content", LiteralPath=LOG, Encoding="Unicode", Tail=5, ReadCount=0).value
    assert any(line.endswith("-- Fehler 1722. Es ging nicht.") for line in lines)
    assert any("Rückgabewert 3" in line for line in lines)


def test_maintenance(machine: Machine) -> None:
    put(machine)
    assert msiexec(machine, command("/fvamus")) == 1605
    assert msiexec(machine, command()) == 0
    machine.files.delete(REWRITE_DLL)
    assert msiexec(machine, command()) == 0
    assert not machine.files.is_file(REWRITE_DLL)
    assert msiexec(machine, command("/fvamus")) == 0
    assert machine.files.is_file(REWRITE_DLL)


def test_upgrade_and_downgrade(machine: Machine) -> None:
    results = []
    old, new, other = ("7.2.2", CODES["7.2.2"]), ("7.2.1993", CODES["7.2.1993"]), ("7.2.1993", "{11111111-2222-3333-4444-555555555555}")
    for version, code in (old, new, other, old):
        put(machine, version=version, code=code)
        results.append((msiexec(machine, command()), machine.registry.get(REWRITE_KEY, "Version")))
    assert results == [(0, "7.2.2"), (0, "7.2.1993"), (1638, "7.2.1993"), (1603, "7.2.1993")]


def test_effect_on_registry_file_and_configuration(machine: Machine) -> None:
    before = machine.files.read(HOST)
    put(machine)
    assert msiexec(machine, command()) == 0
    assert machine.registry.get(REWRITE_KEY, "Version") == "7.2.1993"
    assert one(machine, "Get-ItemProperty", LiteralPath=REWRITE_DLL, Name="VersionInfo").notes["VersionInfo"].props["FileVersion"] == "7.1.1993.2351"
    after = machine.files.read(HOST)
    assert after.count(b'name="RewriteModule"') == 2
    assert after.count(b'<sectionGroup name="rewrite">') == 1
    assert machine.iis.request("GET", "/owa/", {}).status == 200
    assert msiexec(machine, command("/x", CODES["7.2.1993"])) == 0
    assert (machine.files.read(HOST), machine.files.exists(REWRITE_DLL), machine.registry.exists(REWRITE_KEY)) == (before, False, False)
    assert not machine.registry.exists(UNINSTALL_KEY + CODES["7.2.1993"])


def test_half_an_installation(machine: Machine) -> None:
    boot = machine.os.last_boot
    put(machine, interrupt="half")
    with pytest.raises(Stopped):
        msiexec(machine, command())
    assert (machine.files.is_file(REWRITE_DLL), machine.registry.exists(REWRITE_KEY)) == (True, False)
    assert machine.os.last_boot > boot


def test_a_new_folder_is_for_administrators(machine: Machine) -> None:
    run(machine, "New-Item", Path="C:\\Windows\\new", ItemType="Directory")
    assert one(machine, "Get-Acl", LiteralPath="C:\\Windows\\new").notes["Sddl"] == FOLDER_SDDL


def test_file_hash(machine: Machine) -> None:
    machine.files.write(MSI, b"abc")
    found = one(machine, "Get-FileHash", LiteralPath=MSI, Algorithm="SHA256")
    assert found.notes["Hash"] == "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD"
    assert run(machine, "Get-FileHash", LiteralPath="C:\\none", Algorithm="SHA256")[1][0].fqid.startswith("PathNotFound,")
    assert "ConstrainedLanguage" not in REGISTRY[("host", "get-filehash")].languages


def test_signature(machine: Machine) -> None:
    put(machine, signer=b"der")
    found = one(machine, "Get-AuthenticodeSignature", LiteralPath=MSI)
    assert (found.props["Status"].to_string, found.props["Status"].value, found.props["SignerCertificate"].props) == ("Valid", 0, {"RawData": b"der"})
    machine.files.write(MSI, b"MZ")
    found = one(machine, "Get-AuthenticodeSignature", LiteralPath=MSI)
    assert (found.props["Status"].to_string, found.props["SignerCertificate"]) == ("NotSigned", None)
    dummy, errors = run(machine, "Get-AuthenticodeSignature", LiteralPath="C:\\none.msi")
    assert errors[0].fqid.startswith("SignatureCommandsBaseFileNotFound,")


def test_command_that_is_hidden(machine: Machine) -> None:
    assert run(machine, "Get-Command", session=Session(), Name="Start-Process")[0][0].props["Name"] == "Start-Process"
    output, errors = run(machine, "Get-Command", session=Session("NoLanguage", ("Get-Item",)), Name="Start-Process")
    assert (output, errors[0].fqid.split(",")[0]) == ([], "CommandNotFoundException")


class Wide:
    """As much of a fleet as downloads and shares need."""

    downloads = {"https://a.example/x": b"body"}
    shares = {"\\\\files\\x.msi": b"shared"}

    def __init__(self, internet: bool) -> None:
        self.internet = internet

    def reaches_feed(self, machine: Any) -> bool:
        return self.internet


def test_web_request(machine: Machine) -> None:
    machine.fleet = Wide(True)
    assert run(machine, "Invoke-WebRequest", Uri="https://a.example/x", OutFile=MSI, UseBasicParsing=True) == ([], [])
    assert machine.files.read(MSI) == b"body"
    machine.fleet = Wide(False)
    for more in ({"Uri": "https://a.example/x"}, {"Uri": "https://a.example/y", "Proxy": "http://p:8080"}):
        with pytest.raises(Terminating) as caught:
            run(machine, "Invoke-WebRequest", OutFile=MSI, UseBasicParsing=True, **more)
        assert caught.value.info.fqid.startswith("WebCmdletWebResponseException,")
    assert run(machine, "Invoke-WebRequest", Uri="https://a.example/x", OutFile=MSI, UseBasicParsing=True, Proxy="http://p:8080") == ([], [])
    with pytest.raises(LabRefusal):
        run(machine, "Invoke-WebRequest", Uri="https://a.example/x", OutFile=MSI)


def test_restart(machine: Machine) -> None:
    boot = machine.os.last_boot
    assert run(machine, "Restart-Computer", Force=True) == ([], [])
    deadline = time.monotonic() + 5
    while machine.os.last_boot == boot and time.monotonic() < deadline:
        time.sleep(0.02)
    assert machine.os.last_boot > boot
    with pytest.raises(LabRefusal):
        run(machine, "Restart-Computer")


def test_a_share_needs_a_delegated_logon(machine: Machine) -> None:
    machine.fleet = Wide(True)
    dummy, errors = run(machine, "Copy-Item", LiteralPath="\\\\files\\x.msi", Destination=MSI)
    assert errors[0].fqid.startswith("PathNotFound,")
    setattr(machine, "delegated", True)  # noqa: B010
    assert run(machine, "Copy-Item", LiteralPath="\\\\files\\x.msi", Destination=MSI) == ([], [])
    assert machine.files.read(MSI) == b"shared"


# Services and events


def method(machine: Machine, name: str, verb: str) -> Any:
    rows, dummy = run(machine, "Get-CimInstance", ClassName="Win32_Service", Filter=f"Name='{name}'")
    return one_of(run(machine, "Invoke-CimMethod", input=rows, MethodName=verb)[0]).props["ReturnValue"]


def one_of(output: list[Any]) -> Any:
    assert len(output) == 1
    return output[0]


def test_service_methods(machine: Machine) -> None:
    values = [method(machine, "MSExchangeMitigation", verb) for verb in ("StopService", "StopService", "StartService", "StartService")]
    assert values == [0, 5, 0, 10]
    assert all(isinstance(value, U32) for value in values)
    assert method(machine, "MSExchangeADTopology", "StopService") == 3
    machine.services.stop("Netlogon", force=True)
    machine.services.set_start("Netlogon", "Disabled")
    assert (method(machine, "MSExchangeMitigation", "StartService"), method(machine, "Netlogon", "StartService")) == (13, 14)
    with pytest.raises(LabRefusal):
        method(machine, "Netlogon", "Delete")


def test_pending_services(machine: Machine) -> None:
    machine.services.delays["msexchangemitigation"] = 0.2
    assert method(machine, "MSExchangeMitigation", "StopService") == 0
    states = [one(machine, "Get-CimInstance", ClassName="Win32_Service", Filter="Name='MSExchangeMitigation'").props["State"]]
    assert method(machine, "MSExchangeMitigation", "StartService") == 5
    time.sleep(0.25)
    states.append(one(machine, "Get-CimInstance", ClassName="Win32_Service", Filter="Name='MSExchangeMitigation'").props["State"])
    assert states == ["Stop Pending", "Stopped"]


def test_events(machine: Machine) -> None:
    for number in (1005, 1006, 1008):
        machine.events.add("MSExchange Mitigation Service", number, f"text {number}", "Error" if number == 1008 else "Information")
    machine.events.add("Other", 1005, "other")
    provider = "Provider[@Name='MSExchange Mitigation Service']"

    def ask(more: str, limit: int = 10) -> list[int]:
        output, errors = run(machine, "Get-WinEvent", LogName="Application", FilterXPath=f"*[System[{provider}{more}]]", MaxEvents=limit)
        if not output:
            assert errors[0].fqid.startswith("NoMatchingEventsFound,")
        return [item.props["Id"] for item in output]

    assert ask("") == [1008, 1006, 1005]
    assert ask("", 2) == [1008, 1006]
    assert ask(" and (EventID=1005 or EventID=1008)") == [1008, 1005]
    assert ask(" and EventRecordID>2") == [1008]
    assert ask(" and TimeCreated[timediff(@SystemTime)<=60000]") == [1008, 1006, 1005]
    assert ask(" and EventID=7") == []
    found = run(machine, "Get-WinEvent", LogName="Application", FilterXPath=f"*[System[{provider}]]")[0][0]
    assert (found.notes["Message"], found.props["Level"], type(found.props["RecordId"])) == ("text 1008", 2, I64)
    for query in ("*", "*[System[Level=2]]"):
        with pytest.raises(LabRefusal):
            run(machine, "Get-WinEvent", LogName="Application", FilterXPath=query)


def test_em_log_lines(machine: Machine) -> None:
    path = em_log.write(machine, "FetchMitigation", "Warning", "text", Source="x")
    assert em_log.write(machine, "FetchMitigation", "Warning", "more") == path
    lines = one(machine, "Get-Content", LiteralPath=path, Encoding="UTF8", Tail=10, ReadCount=0).value
    assert [line.startswith("#") for line in lines] == [True] * 4 + [False] * 2
    assert lines[4].endswith(",EX1,FetchMitigation,S:LogLevel=Warning;S:Message=text;S:Source=x")


# The register


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_row_is_complete_and_its_test_exists(row: dict[str, Any]) -> None:
    assert set(row) == {"id", "what", "source", "reference", "test", "check"}
    assert all(isinstance(value, str) and value.strip() for value in row.values())
    assert row["source"] in ("documentation", "recording", "assumed")
    file, name = row["test"].split("::")
    assert re.search(rf"^def {re.escape(name)}\(", (HERE / file).read_text("utf-8"), re.MULTILINE)


def test_ids_are_unique_and_every_cmdlet_has_a_row() -> None:
    assert len({row["id"] for row in ROWS}) == len(ROWS)
    text = " ".join(row["what"] for row in ROWS)
    modules = {module.__name__ for module in (cmdlets_cim, cmdlets_events, cmdlets_installer)}
    own = [definition.name for definition in REGISTRY.values() if definition.body.__module__ in modules]
    assert len(own) == 7
    assert [name for name in own if name not in text] == []
