# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stopping services and pools needs of the lab, a server that asks itself, and the rows of the register for both."""

from __future__ import annotations

import pathlib
import re
import types
from typing import Any

import pytest
import yaml

from lab import cmdlets_iis_pools, cmdlets_web
from lab.direct import one, run
from lab.faults import Faults
from lab.files import FileProblem
from lab.iis_config import APPLICATION_HOST
from lab.kernel import REGISTRY, LabRefusal, Terminating
from lab.machine import Machine
from lab.stock import Stock, make

HERE = pathlib.Path(__file__).resolve().parent
ROWS: list[dict[str, Any]] = yaml.safe_load((HERE.parents[1] / "lab" / "assumptions" / "actions.yml").read_text("utf-8"))
APPHOST = "MACHINE/WEBROOT/APPHOST"
POOL = "MSExchangeECPAppPool"
OWN = "https://ex1.lab.example"


@pytest.fixture
def machine(tmp_path: pathlib.Path) -> Machine:
    made = make(tmp_path, Stock("EX1"))
    made.fleet = types.SimpleNamespace(faults=Faults())
    return made


def test_the_new_cmdlets_have_rows() -> None:
    text = " ".join(row["what"] for row in ROWS)
    own = [found.name for found in REGISTRY.values() if found.body.__module__ in (cmdlets_iis_pools.__name__, cmdlets_web.__name__)]
    assert sorted(own) == ["Invoke-WebRequest", "Set-WebConfigurationProperty"]
    assert [name for name in own if name not in text] == []


def element(pool: str) -> str:
    return f"/system.applicationHost/applicationPools/add[@name='{pool}']"


def set_auto_start(machine: Machine, value: Any, pool: str = POOL) -> tuple[list[Any], list[Any]]:
    return run(machine, "Set-WebConfigurationProperty", PSPath=APPHOST, Filter=element(pool), Name="autoStart", Value=value)


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_row_is_complete_and_its_test_exists(row: dict[str, Any]) -> None:
    assert set(row) == {"id", "what", "source", "reference", "test", "check"}
    assert all(isinstance(value, str) and value.strip() for value in row.values())
    assert row["source"] in ("documentation", "recording", "assumed")
    file, name = row["test"].split("::")
    assert re.search(rf"^def {re.escape(name)}\(", (HERE / file).read_text("utf-8"), re.MULTILINE)


def test_auto_start_is_set_and_nothing_else(machine: Machine) -> None:
    before = machine.files.read(APPLICATION_HOST)
    assert set_auto_start(machine, False) == ([], [])
    after = machine.files.read(APPLICATION_HOST)
    assert after.replace(b' autoStart="false"', b"") == before
    assert machine.pools.auto_start(POOL) is False
    assert machine.pools.state(POOL) == "Started"
    machine.services.stop("W3SVC")
    machine.services.start("W3SVC")
    assert machine.pools.state(POOL) == "Stopped"
    assert set_auto_start(machine, True) == ([], [])
    assert (machine.pools.auto_start(POOL), machine.pools.state(POOL)) == (True, "Stopped")


def test_auto_start_of_a_pool_that_is_not_there(machine: Machine) -> None:
    before = machine.files.read(APPLICATION_HOST)
    assert set_auto_start(machine, False, "none") == ([], [])
    assert machine.files.read(APPLICATION_HOST) == before


def test_auto_start_on_a_full_disk(machine: Machine) -> None:
    before = machine.files.read(APPLICATION_HOST)
    machine.fleet.faults.add("disk-full")
    dummy, errors = set_auto_start(machine, False)
    assert "not enough space" in errors[0].message
    assert machine.files.read(APPLICATION_HOST) == before


def test_auto_start_takes_a_boolean(machine: Machine) -> None:
    with pytest.raises(Terminating):
        set_auto_start(machine, "perhaps")
    with pytest.raises(LabRefusal):
        run(machine, "Set-WebConfigurationProperty", PSPath=APPHOST, Filter=element(POOL), Name="queueLength", Value=True)


def test_auto_start_is_a_boolean_also_by_default(machine: Machine) -> None:
    assert one(machine, "Get-WebConfiguration", Filter=element(POOL), PSPath=APPHOST).notes["autoStart"] is True
    set_auto_start(machine, False)
    assert one(machine, "Get-WebConfiguration", Filter=element(POOL), PSPath=APPHOST).notes["autoStart"] is False
    assert run(machine, "Get-WebConfiguration", Filter=element("none"), PSPath=APPHOST) == ([], [])


def service(machine: Machine, name: str) -> tuple[str, str]:
    found = one(machine, "Get-CimInstance", ClassName="Win32_Service", Filter=f"Name='{name}'")
    return found.props["State"], found.props["StartMode"]


def test_a_service_that_takes_its_time(machine: Machine) -> None:
    fault = machine.fleet.faults.add("stop-pending")
    assert run(machine, "Stop-Service", Name=["MSExchangeIS"], NoWait=True) == ([], [])
    assert service(machine, "MSExchangeIS") == ("Stop Pending", "Auto")
    dummy, (error,) = run(machine, "Start-Service", Name=["MSExchangeIS"])
    assert error.fqid.startswith("StartServiceFailed")
    assert service(machine, "MSExchangeIS") == ("Stop Pending", "Auto")
    machine.fleet.faults.remove(fault)
    machine.fleet.faults.add("stop-pending", seconds=0)
    run(machine, "Stop-Service", Name=["MSExchangeTransport"], NoWait=True)
    assert service(machine, "MSExchangeTransport") == ("Stopped", "Auto")
    with pytest.raises(LabRefusal):
        run(machine, "Stop-Service", Name=["MSExchangeHM"])


def test_start_mode_and_state_are_apart(machine: Machine) -> None:
    run(machine, "Set-Service", Name="MSExchangeIS", StartupType="Disabled")
    assert service(machine, "MSExchangeIS") == ("Running", "Disabled")
    run(machine, "Stop-Service", Name=["MSExchangeIS"], NoWait=True)
    dummy, errors = run(machine, "Start-Service", Name=["MSExchangeIS"])
    assert errors[0].fqid.startswith("CouldNotStartService")
    run(machine, "Set-Service", Name="MSExchangeIS", StartupType="Manual")
    assert service(machine, "MSExchangeIS") == ("Stopped", "Manual")
    fault = machine.fleet.faults.add("start-fails")
    assert run(machine, "Start-Service", Name=["MSExchangeIS"])[1][0].fqid.startswith("CouldNotStartService")
    machine.fleet.faults.remove(fault)
    assert run(machine, "Start-Service", Name=["MSExchangeIS"]) == ([], [])
    assert service(machine, "MSExchangeIS") == ("Running", "Manual")


def test_web_request_that_is_answered(machine: Machine) -> None:
    found = one(machine, "Invoke-WebRequest", Uri=OWN + "/owa/", UseBasicParsing=True, TimeoutSec=5, Headers={"X-Probe": "1"})
    assert (found.props["StatusCode"], found.props["Headers"]["Content-Type"]) == (200, "text/html; charset=utf-8")
    with pytest.raises(LabRefusal):
        run(machine, "Invoke-WebRequest", Uri=OWN + "/owa/")


@pytest.mark.parametrize(
    ("url", "text"),
    [(OWN + "/none", "(404)"), ("https://elsewhere.example/", "could not be resolved")],
)
def test_web_request_that_fails(machine: Machine, url: str, text: str) -> None:
    with pytest.raises(Terminating) as caught:
        run(machine, "Invoke-WebRequest", Uri=url, UseBasicParsing=True)
    assert text in caught.value.info.message
    assert caught.value.info.fqid == "WebCmdletWebResponseException,Microsoft.PowerShell.Commands.InvokeWebRequestCommand"


def test_a_stopped_pool_answers_503(machine: Machine) -> None:
    run(machine, "Stop-WebAppPool", Name=POOL)
    with pytest.raises(Terminating) as caught:
        run(machine, "Invoke-WebRequest", Uri=OWN + "/ecp/", UseBasicParsing=True)
    assert "(503)" in caught.value.info.message


def test_a_copy_that_is_cut_short(machine: Machine) -> None:
    machine.files.write("C:\\a.config", b"0123456789")
    machine.files.write("C:\\b.config", b"before")
    machine.fleet.faults.add("copy-torn")
    with pytest.raises(FileProblem):
        machine.files.copy("C:\\a.config", "C:\\b.config", overwrite=True)
    assert machine.files.read("C:\\b.config") == b"01234"
    machine.files.copy("C:\\a.config", "C:\\c.config")
    assert machine.files.read("C:\\c.config") == b"0123456789"
