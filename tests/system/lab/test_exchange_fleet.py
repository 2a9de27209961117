# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole fleet over the wire: real clients at the Exchange endpoints, and 200 servers in one process."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pypsrp.complex_objects import GenericComplexObject
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan

from lab import builds, inventory, probe
from lab.fleet import Fleet
from lab.kernel import LabRefusal


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Four servers, served."""
    with Fleet(4, lag=0) as made:
        yield made


def _call(fleet: Fleet, index: int, cmdlet: str, user: str | None = None, path: str = "PowerShell", **parameters: Any) -> PowerShell:
    """Run a cmdlet at a server's Exchange endpoint in the way that the inventory says."""
    host = inventory.connection(fleet, fleet.machines[index], index)
    secure = host["exchange_mitigation_exchange_scheme"] == "https"
    name = user or fleet.admin
    wsman = WSMan(
        host["exchange_mitigation_exchange_host"],
        port=host["exchange_mitigation_exchange_port"],
        ssl=secure,
        auth=host["exchange_mitigation_exchange_auth"],
        username=name,
        password=fleet.users[name],
        path=path,
        cert_validation=host["exchange_mitigation_exchange_ca_path"] if secure else True,
    )
    with RunspacePool(wsman, configuration_name="Microsoft.Exchange") as pool:
        shell = PowerShell(pool)
        shell.add_cmdlet(cmdlet).add_parameters(parameters)
        shell.invoke()
        return shell


@pytest.mark.parametrize("index", [0, 1], ids=["ntlm", "basic-tls"])
def test_servers_over_the_wire(fleet: Fleet, index: int) -> None:
    shell = _call(fleet, index, "Get-ExchangeServer")
    found: list[GenericComplexObject] = shell.output
    assert [str(entry) for entry in found] == ["EX1", "EX2", "EX3", "EX4"]
    assert found[0].adapted_properties["AdminDisplayVersion"] == "Version 15.1 (Build 2507.6)"
    assert found[0].adapted_properties["MitigationsEnabled"] is True and found[0].adapted_properties["MitigationsBlocked"] is None
    assert found[0].adapted_properties["OriginatingServer"] == ("dc1.lab.example", "dc2.lab.example")[index]


def test_full_serialization_is_asked_for_in_the_url(fleet: Fleet) -> None:
    shell = _call(fleet, 1, "Get-ExchangeServer", path="PowerShell?serializationLevel=Full", Identity="EX1")
    version = shell.output[0].adapted_properties["AdminDisplayVersion"]
    assert "2507" in str(version) and version != "Version 15.1 (Build 2507.6)"


@pytest.mark.parametrize("index", [0, 1], ids=["ntlm", "basic-tls"])
def test_changes_over_the_wire(fleet: Fleet, index: int) -> None:
    name = fleet.machines[index].name
    shell = _call(fleet, index, "Set-ExchangeServer", Identity=name, MitigationsBlocked=["M1", "Ümlaut"], MitigationsEnabled=False, Confirm=False)
    assert not shell.had_errors and not shell.streams.error
    assert fleet.organization.settings(name)["MitigationsBlocked"] == ["M1", "Ümlaut"]
    assert fleet.organization.settings(name)["MitigationsEnabled"] is False
    _call(fleet, index, "Set-ExchangeServer", Identity=name, MitigationsBlocked=None)
    assert fleet.organization.settings(name)["MitigationsBlocked"] is None
    assert [record["cmdlets"] for record in fleet.access_log.select(server=name, write=True)] == [["Set-ExchangeServer"]] * 2


def test_not_found_over_the_wire(fleet: Fleet) -> None:
    shell = _call(fleet, 0, "Get-ExchangeServer", Identity="EX99")
    assert not shell.had_errors
    (record,) = shell.streams.error
    assert "[FailureCategory=Cmdlet-ManagementObjectNotFoundException]" in record.fq_error


def test_view_only_user_over_the_wire(fleet: Fleet) -> None:
    assert not _call(fleet, 1, "Get-OrganizationConfig", user=fleet.viewer).had_errors
    shell = _call(fleet, 1, "Set-OrganizationConfig", user=fleet.viewer, MitigationsEnabled=False)
    assert shell.had_errors and "not recognized as the name of a cmdlet" in str(shell.streams.error[-1])
    assert fleet.organization.mitigations_enabled is True


def test_sites_before_and_after_em(fleet: Fleet) -> None:
    machine = fleet.machines[3]
    url = f"http://127.0.0.1:{fleet.port(machine, 'web_http')}"
    before = probe.fingerprints(machine.root)
    assert not probe.get(url, probe.ATTACK).aborted
    assert (probe.get(url, "/owa/").status, probe.get(url, "/owa/").mitigated, probe.get(url, "/owa/Calendar/").status) == (200, False, 200)
    fleet.em_cycle()
    assert probe.get(url, probe.ATTACK).aborted
    assert (probe.get(url, "/owa/").status, probe.get(url, "/owa/").mitigated, probe.get(url, "/owa/Calendar/").status) == (200, True, 500)
    after = probe.fingerprints(machine.root)
    changed = {path.rpartition("/")[0].rpartition("/")[2] for path in before if before[path] != after[path]}
    assert set(before) == set(after) and changed == {"wwwroot", "owa"}


def test_no_session_stays_open(fleet: Fleet) -> None:
    _call(fleet, 0, "Get-OrganizationConfig")
    assert fleet.sessions.in_use() == 0 and fleet.sessions.opened > 0


def test_ports_only_while_served() -> None:
    made = Fleet(1)
    with pytest.raises(LabRefusal):
        made.port(made.machines[0], "web_http")
    with pytest.raises(LabRefusal):
        made.machine("EX7")
    state = made.state
    made.stop()
    assert not state.exists()


def test_two_hundred_servers() -> None:
    begin = time.monotonic()
    with Fleet(200, lag=0) as made:
        assert time.monotonic() - begin < 60
        assert len({port for ports in made.ports.values() for port in ports.values()}) == 800
        names = {machine.name for machine in made.machines}
        assert len(names) == 200 and {machine.product for machine in made.machines} == {"Exchange2016", "Exchange2019", "ExchangeSE"}
        shell = _call(made, 199, "Get-ExchangeServer")
        assert {str(entry) for entry in shell.output} == names


def test_only_mailbox_servers_publish_the_endpoint() -> None:
    plans = [builds.ServerPlan("MBX", "Exchange2019", "15.2.1748.46"), builds.ServerPlan("EDGE", "Exchange2019", "15.2.1748.46", role="Edge")]
    with Fleet(plans) as fleet:
        seen = {}
        for machine in fleet.machines:
            connection = http.client.HTTPConnection(machine.address, fleet.port(machine, "web_http"), timeout=10)
            connection.request("POST", "/PowerShell/", b"")
            seen[machine.name] = connection.getresponse().status
            connection.close()
    assert seen == {"MBX": 401, "EDGE": 404}
