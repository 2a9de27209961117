# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules through the JEA endpoints that the shipped files describe, and through ConstrainedLanguage: nothing beyond them is asked for."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import jea_lab
import lab_task
import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, CmdletError, MitigationError, Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._jea import NEVER, READER, WRITER
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Statement, call
from ansible_collections.exchange.mitigation.plugins.modules import (
    event_info,
    mitigation,
    organization,
    organization_info,
    server,
    server_info,
    service,
    url_rewrite,
)
from lab_task import contents, hashes, put_back

CONSTRAINED = "lab.constrained"
WAYS = [(WRITER, "winrm"), (WRITER, "psrp"), (CONSTRAINED, "winrm"), (CONSTRAINED, "psrp")]
UM = ("MSExchangeUM", "MSExchangeUMCR")
POOLS = ("MSExchangeECPAppPool", "MSExchangeOABAppPool")
EX_SETUP = r"C:\Program Files\Microsoft\Exchange Server\V15\Bin\ExSetup.exe"
OLD_IDS = ["CVE-2021-26855", "CVE-2021-26857", "CVE-2021-26858", "CVE-2021-27065"]


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    """Servers that need the rules, and one of before March 2021 whose mitigations also stop services and application pools."""
    from lab.builds import ServerPlan
    from lab.fleet import Fleet

    plans = [
        ServerPlan("NEW1", "Exchange2016", "15.1.2507.13"),
        ServerPlan("NEW2", "Exchange2019", "15.2.1748.43"),
        ServerPlan("OLD1", "Exchange2016", "15.1.2176.2"),
    ]
    with Fleet(plans, mitigations_enabled=False) as fleet:
        yield fleet


@pytest.fixture
def fleet(running: Any) -> Iterator[Any]:
    saved = {machine.name: contents(machine) for machine in running.machines}
    running.access_log.clear()
    running.beyond.clear()
    yield running
    for machine in running.machines:
        put_back(machine, saved[machine.name])
        running.organization.change(machine.name, {"MitigationsEnabled": True, "MitigationsBlocked": None})
        machine.pools.restart()
        for name in UM:
            if machine.services.find(name) is not None:
                machine.services.set_start(name, "Automatic")
                machine.services.start(name)
    running.organization.mitigations_enabled = False
    assert running.scripts_received == 0 and running.refusals == []
    assert running._server.open_shells() == []


def options(tmp_path: pathlib.Path, *ids: str, **more: Any) -> dict[str, Any]:
    return {"mitigations": list(ids), "journal_dir": str(tmp_path / "journal"), **more}


def states(machine: Any) -> dict[str, Any]:
    found: dict[str, Any] = {name: (machine.services.get(name).state, machine.services.get(name).start) for name in UM}
    found.update({name: (machine.pools.state(name), machine.pools.auto_start(name)) for name in POOLS})
    return found


def sites(machine: Any) -> dict[str, str]:
    """Return the hash of every file but applicationHost.config, in which IIS itself writes autoStart down."""
    return {name: value for name, value in hashes(machine).items() if not name.endswith("applicationHost.config")}


# Through the reader


@pytest.mark.parametrize(("name", "kind"), [("NEW1", "winrm"), ("NEW2", "psrp"), ("OLD1", "winrm")])
def test_everything_that_reads_works_through_the_reader(fleet: Any, tmp_path: pathlib.Path, name: str, kind: str) -> None:
    machine = fleet.machine(name)
    before = hashes(machine)
    assert jea_lab.run(server_info, fleet, machine, {}, READER, kind)["server"] == lab_task.run(server_info, fleet, machine, {})["server"]
    assert jea_lab.run(event_info, fleet, machine, {}, READER, kind)["events"] == lab_task.run(event_info, fleet, machine, {})["events"]
    jea_lab.run(organization_info, fleet, machine, {}, READER, kind)
    asked = [(mitigation, options(tmp_path, "M2", *OLD_IDS)), (mitigation, options(tmp_path, "M2", state="absent"))]
    if name != "OLD1":  # its own Exchange endpoint knows nothing of Emergency Mitigation
        asked += [(organization, {"mitigations_enabled": True}), (server, {"mitigations_enabled": False})]
    for module, given in asked:
        told = jea_lab.run(module, fleet, machine, given, READER, kind, check=True)
        direct = lab_task.run(module, fleet, machine, given, check=True)
        assert (told["changed"], told["diff"]) == (direct["changed"], direct["diff"]), module.__name__
    if name == "OLD1":
        with pytest.raises(Refused):
            jea_lab.run(service, fleet, machine, {"state": "restarted"}, READER, kind, check=True)
    else:
        assert jea_lab.run(service, fleet, machine, {"state": "restarted"}, READER, kind, check=True)["changed"]
    assert hashes(machine) == before
    assert fleet.beyond == []
    assert [record for record in fleet.access_log.calls if record.write] == []


def test_the_reader_changes_nothing_whoever_asks(fleet: Any, tmp_path: pathlib.Path) -> None:
    machine = fleet.machine("NEW1")
    before = hashes(machine)
    with pytest.raises(MitigationError) as caught:
        jea_lab.run(mitigation, fleet, machine, options(tmp_path, "M2"), READER)
    assert f"it needs the default endpoint, or JEA endpoint {WRITER}." in str(caught.value)
    with pytest.raises((ApplyError, CmdletError)) as other:
        jea_lab.run(service, fleet, machine, {"state": "restarted"}, READER)
    assert WRITER in str(other.value)
    assert hashes(machine) == before and [record for record in fleet.access_log.calls if record.write] == []
    # The lab does notice what goes beyond: this is what the count of 0 elsewhere rests on.
    assert any("Set-Content" in entry for entry in fleet.beyond) and any("Invoke-CimMethod" in entry for entry in fleet.beyond)


CONFIG = r"C:\Program Files\Microsoft\Exchange Server\V15\FrontEnd\HttpProxy\owa\web.config"
FORBIDDEN = [
    (call("Get-Content", LiteralPath=r"C:\Windows\win.ini", Encoding="UTF8"),),
    (call("Get-Content", LiteralPath=r"C:\inetpub\wwwroot\..\..\Windows\System32\inetsrv\config\administration.config", Encoding="UTF8"),),
    (call("Get-Content", LiteralPath=r"C:\inetpub\wwwroot\...\x.config", Encoding="UTF8"),),
    (call("Get-Content", LiteralPath=CONFIG + ":hidden", Encoding="UTF8"),),
    (call("Get-Content", LiteralPath=CONFIG + "\n", Encoding="UTF8"),),
    (call("Get-Content", LiteralPath=r"\\other\c$\inetpub\wwwroot\web.config", Encoding="UTF8"),),
    (call("Get-Content", LiteralPath=r"FileSystem::C:\inetpub\wwwroot\web.config", Encoding="UTF8"),),
    (call("Get-ItemProperty", LiteralPath=[r"HKLM:\SAM\SAM"]),),
    (call("Get-Item", LiteralPath=["Env:ComSpec"]),),
    (call("Get-ChildItem", LiteralPath="C:\\"),),
    (call("Get-CimInstance", ClassName="Win32_QuickFixEngineering"),),
    (call("Get-WebConfiguration", Filter="/system.applicationHost/applicationPools/add[@name='DefaultAppPool']", PSPath="MACHINE/WEBROOT/APPHOST"),),
    (call("Get-WinEvent", LogName="Application", FilterXPath="*[System[EventID=4624]]", MaxEvents=1),),
    (call("Get-Item", LiteralPath=["Env:windir"], Force=True),),
]


@pytest.mark.parametrize("statement", FORBIDDEN, ids=lambda value: value[0].cmdlet)
@pytest.mark.parametrize("name", [READER, WRITER])
def test_what_a_capability_does_not_offer_is_refused_by_the_server(fleet: Any, name: str, statement: Statement) -> None:
    session = jea_lab.session(fleet, fleet.machine("NEW1"), name)
    (answer,) = session.read([statement])
    session.close()
    assert answer.errors[0].fqid.split(",")[0] in ("ParameterArgumentValidationError", "NamedParameterNotFound")
    assert answer.objects == () and len(fleet.beyond) == 1


@pytest.mark.parametrize("cmdlet", sorted(NEVER))
@pytest.mark.parametrize("name", ["exchange.mitigation.reader", "exchange.mitigation.writer"])
def test_what_is_never_offered_is_not_there(fleet: Any, name: str, cmdlet: str) -> None:
    from lab import jea
    from lab.kernel import REGISTRY

    found = jea.endpoints()[name].capability
    assert found is not None and cmdlet.lower() not in found.cmdlets
    definition = REGISTRY[("host", cmdlet.lower())]
    assert (found.shown(definition) is None) is (cmdlet.lower() not in jea.DEFAULTS)
    for name in ("cmd", "msiexec", "Invoke-Expression", "Invoke-Command", "New-Object", "Move-Item", "Restart-Service"):
        assert name.lower() not in found.cmdlets


# Through the writer, and through ConstrainedLanguage


@pytest.mark.parametrize(("name", "kind"), [("NEW1", "winrm"), ("NEW2", "psrp")])
@pytest.mark.parametrize("configuration", [WRITER, CONSTRAINED])
def test_rules_come_and_go(fleet: Any, tmp_path: pathlib.Path, configuration: str, name: str, kind: str) -> None:
    machine = fleet.machine(name)
    before = hashes(machine)
    for state in ("applied", "absent"):
        given = options(tmp_path, *(["M1", "M2"] if name == "NEW1" else ["M2"]), state=state)
        told = jea_lab.run(mitigation, fleet, machine, given, configuration, kind, check=True)
        done = jea_lab.run(mitigation, fleet, machine, given, configuration, kind)
        again = jea_lab.run(mitigation, fleet, machine, given, configuration, kind)
        assert (told["changed"], done["changed"], again["changed"]) == (True, True, False)
        assert done["failure"] is None
        assert (hashes(machine) == before) is (state == "absent")
    assert fleet.beyond == []


@pytest.mark.parametrize(("configuration", "kind"), WAYS)
def test_services_and_pools_come_and_go(fleet: Any, tmp_path: pathlib.Path, configuration: str, kind: str) -> None:
    machine = fleet.machine("OLD1")
    before, files = states(machine), sites(machine)
    done = jea_lab.run(mitigation, fleet, machine, options(tmp_path, *OLD_IDS), configuration, kind)
    assert done["changed"] and done["failure"] is None
    stopped = states(machine)
    assert [stopped[name] for name in UM] == [("Stopped", "Disabled")] * 2
    assert [stopped[name] for name in POOLS] == [("Stopped", False)] * 2
    assert not jea_lab.run(mitigation, fleet, machine, options(tmp_path, *OLD_IDS), configuration, kind)["changed"]
    assert jea_lab.run(mitigation, fleet, machine, options(tmp_path, *OLD_IDS, state="absent"), configuration, kind)["changed"]
    assert (states(machine), sites(machine)) == (before, files)
    assert fleet.beyond == []


@pytest.mark.parametrize(("configuration", "kind"), WAYS)
def test_the_service_module(fleet: Any, configuration: str, kind: str) -> None:
    machine = fleet.machine("NEW1")
    for given, changed in (
        ({"state": "stopped", "start_mode": "disabled"}, True),
        ({"state": "stopped", "start_mode": "disabled"}, False),
        ({"state": "started", "start_mode": "auto"}, True),
        ({"state": "restarted"}, True),
    ):
        assert jea_lab.run(service, fleet, machine, given, configuration, kind)["changed"] is changed
    assert fleet.beyond == []


def test_retiring_through_the_writer(fleet: Any, tmp_path: pathlib.Path) -> None:
    """Once the build carries the fix, what was applied goes, and is blocked first."""
    machine = fleet.machine("NEW2")
    before = hashes(machine)
    assert jea_lab.run(mitigation, fleet, machine, options(tmp_path, "M2"), WRITER)["changed"]
    version, build = machine.version_of(EX_SETUP), machine.build
    machine.set_version(EX_SETUP, **{**version, "FileVersion": "15.2.1748.53", "ProductVersion": "15.2.1748.53"})
    machine.identity(build="15.2.1748.53")
    try:
        done = jea_lab.run(mitigation, fleet, machine, options(tmp_path, "M2", state="retired"), WRITER)
    finally:
        machine.set_version(EX_SETUP, **version)
        machine.identity(build=build)
    assert done["changed"] and done["failure"] is None
    assert hashes(machine) == before and fleet.beyond == []


def test_the_writer_does_not_reach_beyond_its_files(fleet: Any) -> None:
    machine = fleet.machine("NEW1")
    before = hashes(machine)
    session = jea_lab.session(fleet, machine, WRITER)
    for statement in (
        (call("Set-Content", LiteralPath=CONFIG, Encoding="Byte", Value=b"x"),),
        (call("Set-Content", LiteralPath=r"C:\Windows\x.config", Encoding="Byte", Value=b"x"),),
        (call("Remove-Item", LiteralPath=CONFIG, Force=True, Confirm=False),),
        (call("Copy-Item", LiteralPath=CONFIG, Destination=r"C:\inetpub\wwwroot\x.aspx"),),
        (call("Rename-Item", LiteralPath=CONFIG, NewName="web.aspx"),),
        (call("Add-Content", LiteralPath=CONFIG, Encoding="Byte", Value=b"x"),),
    ):
        with pytest.raises(CmdletError) as caught:
            session.change(statement)
        assert caught.value.reason == "cmdlet_not_available"
    session.close()
    assert hashes(machine) == before


@pytest.mark.parametrize("name", [READER, WRITER])
def test_url_rewrite_refuses_by_name(fleet: Any, name: str) -> None:
    for check in (True, False):
        with pytest.raises(Refused) as caught:
            jea_lab.run(url_rewrite, fleet, fleet.machine("NEW1"), {"source": str(fleet.package_path)}, name, check=check)
        assert caught.value.reason == "endpoint_restricted" and "NEW1" in str(caught.value) and "JEA" in str(caught.value)


# Exchange's own roles


@pytest.mark.parametrize(
    ("module", "given", "role"),
    [
        (organization, {"mitigations_enabled": True}, "Organization Management (role Organization Configuration)"),
        (server, {"mitigations_enabled": False}, "Server Management (role Exchange Servers)"),
    ],
)
def test_a_view_only_user_is_told_which_role_is_missing(fleet: Any, module: Any, given: dict[str, Any], role: str) -> None:
    machine = fleet.machine("NEW1")
    assert jea_lab.run(module, fleet, machine, given, READER, check=True, viewer=True)["changed"]
    with pytest.raises(CmdletError) as caught:
        jea_lab.run(module, fleet, machine, given, READER, viewer=True)
    assert caught.value.reason == "cmdlet_not_available" and role in str(caught.value)
    # For this user the cmdlet does not exist, so that the log has no change of theirs.
    assert fleet.access_log.writes() == []
