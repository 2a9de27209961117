# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every fault of the register happens, where and when it was asked for."""

from __future__ import annotations

import time
from typing import Any
from xml.etree import ElementTree

import pytest
import requests
import wire_clients as clients
from pypsrp.exceptions import AuthenticationError, FragmentError, WinRMError, WinRMTransportError, WSManFaultError
from pypsrp.powershell import PowerShell, RunspacePool

from lab.faults import KNOWN, Faults
from lab.kernel import LabRefusal

SET = ("Set-Probe", {"Name": "a"})


def change(opened: RunspacePool) -> None:
    """Run the changing statement and let every error out."""
    shell = PowerShell(opened)
    shell.add_cmdlet("Set-Probe").add_parameters({"Name": "a"})
    shell.invoke()


#: fault, options, what the client sees, whether the change at message 1 (the Command) had its effect
AT_COMMAND = [
    ("drop-before", {}, requests.ConnectionError, False),
    ("drop-after", {}, requests.ConnectionError, True),
    ("truncate", {}, requests.RequestException, True),
    ("http-401", {}, AuthenticationError, False),
    ("http-500", {"code": 2150858752}, WSManFaultError, False),
    ("wrong-relates-to", {}, WinRMError, True),
    ("reboot", {}, requests.ConnectionError, False),
]


@pytest.mark.parametrize(("name", "options", "error", "effect"), AT_COMMAND)
@pytest.mark.parametrize(("endpoint", "auth"), [("wsman_http", "ntlm"), ("wsman_https", "basic"), ("web_https", "basic")])
def test_at_a_message(wire_lab: Any, name: str, options: dict[str, Any], error: Any, effect: bool, endpoint: str, auth: str) -> None:
    fleet = wire_lab()
    opened = RunspacePool(
        clients.wsman(fleet, endpoint, auth), configuration_name="Microsoft.Exchange" if endpoint.startswith("web") else "Microsoft.PowerShell"
    )
    opened.open()
    armed = fleet.faults.add(name, "ex1", 1, **options)
    if name == "http-401" and endpoint == "wsman_http":
        error = WinRMTransportError  # logged on again, but sealed with the old key: 400 (WINRM.md B)
    if name == "truncate":
        error = (requests.RequestException, WinRMError, Exception)
    with pytest.raises(error):
        change(opened)
    assert armed.fired == 1
    deadline = time.monotonic() + 2
    while effect and not fleet.machines[0].ran and time.monotonic() < deadline:
        time.sleep(0.01)
    assert fleet.machines[0].ran == (["set a"] if effect else [])
    if name == "reboot":
        assert fleet.wire.open_shells() == [] and fleet.sessions.in_use() == 0
    with clients.pool(fleet, endpoint, auth) as again:
        assert clients.run(again, SET).state == "Completed"


def test_a_401_over_tls_is_healed_by_a_new_logon(wire_lab: Any) -> None:
    fleet = wire_lab()
    with clients.pool(fleet, "wsman_https", "ntlm") as opened:
        armed = fleet.faults.add("http-401")
        change(opened)
    assert armed.fired == 1 and fleet.machines[0].ran == ["set a"]


def test_k_counts_the_messages_of_that_server(wire_lab: Any) -> None:
    fleet = wire_lab(("EX1", "EX2"))
    fleet.faults.parse("drop-before:EX2:4")
    with clients.pool(fleet) as opened:
        for dummy in range(3):
            assert clients.run(opened, SET).state == "Completed"
    second = RunspacePool(clients.wsman(fleet, number=1))
    second.open()  # Create, Receive, Receive
    with pytest.raises(requests.ConnectionError):
        change(second)
    assert fleet.machines[1].ran == []
    assert fleet.access_log.select(server="EX2", status=0) != []


def test_after_a_reboot_the_old_shell_is_unknown(wire_lab: Any) -> None:
    fleet = wire_lab()
    with pytest.raises(WSManFaultError) as caught, clients.pool(fleet, "wsman_https", "basic") as opened:
        fleet.wire.reboot(fleet.machines[0])
        time.sleep(0.1)
        change(opened)
    assert caught.value.code == 2150858843
    opened.state = 5


def test_a_rebooting_server_does_not_answer(wire_lab: Any) -> None:
    fleet = wire_lab()
    fleet.wire.reboot(fleet.machines[0], 0.6)
    with pytest.raises(requests.ConnectionError), clients.pool(fleet):
        pass
    time.sleep(0.7)
    with clients.pool(fleet) as opened:
        assert clients.run(opened, SET).state == "Completed"


def test_slow(wire_lab: Any) -> None:
    fleet = wire_lab()
    fleet.faults.add("slow", seconds=0.2, action="Command")
    with clients.pool(fleet) as opened:
        start = time.monotonic()
        clients.run(opened, SET)
        assert time.monotonic() - start > 0.2


@pytest.mark.parametrize(("name", "endpoint", "text"), [("quota", "wsman_http", "30 concurrent"), ("session-budget", "web_http", "18 concurrent")])
def test_quotas(wire_lab: Any, name: str, endpoint: str, text: str) -> None:
    fleet = wire_lab()
    armed = fleet.faults.add(name)
    with pytest.raises(WSManFaultError) as caught, clients.pool(fleet, endpoint):
        pass
    assert caught.value.code == 2150859173 and text in str(caught.value)
    fleet.faults.remove(armed)
    with clients.pool(fleet, endpoint):
        pass


def test_states_are_read_by_name(wire_lab: Any) -> None:
    fleet = wire_lab(("EX1", "EX2"))
    machine, other = fleet.machines
    assert fleet.faults.active("disk-full", machine) is None
    fleet.faults.add("disk-full", "EX1")
    late = fleet.faults.add("locked-file", "EX1", 5, path="C:\\web.config")
    assert fleet.faults.active("disk-full", machine) and not fleet.faults.active("disk-full", other)
    assert fleet.faults.active("locked-file", machine) is None
    with clients.pool(fleet) as opened:
        clients.run(opened, SET)
    assert fleet.faults.active("locked-file", machine) is late and late.options["path"] == "C:\\web.config"
    fleet.faults.clear()
    assert fleet.faults.active("disk-full", machine) is None


def test_names_are_checked_and_described() -> None:
    faults = Faults()
    for text in ("no-such", "slow:EX1:soon"):
        with pytest.raises(LabRefusal):
            faults.parse(text)
    lines = Faults.describe()
    assert [line.split()[0] for line in lines] == list(KNOWN) and all(len(line.split()) > 4 for line in lines)
    parsed = faults.parse("drop-after:EX2:17")
    assert (parsed.name, parsed.server, parsed.at) == ("drop-after", "EX2", 17)


def test_transport_errors_are_of_the_transport(wire_lab: Any) -> None:
    fleet = wire_lab()
    fleet.faults.add("http-500", at=1, code=2150859173)
    with pytest.raises(WSManFaultError) as caught, clients.pool(fleet):
        pass
    assert caught.value.code == 2150859173 and not isinstance(caught.value, WinRMTransportError)


@pytest.mark.parametrize("name", ["reset", "stall-before", "stall-after", "cut-envelope", "corrupt"])
@pytest.mark.parametrize(("endpoint", "auth"), [("wsman_http", "ntlm"), ("web_https", "basic")])
def test_answers_that_do_not_arrive_whole(wire_lab: Any, name: str, endpoint: str, auth: str) -> None:
    fleet = wire_lab()
    connection = clients.wsman(fleet, endpoint, auth)
    opened = RunspacePool(connection, configuration_name="Microsoft.Exchange" if endpoint.startswith("web") else "Microsoft.PowerShell")
    opened.open()
    connection.transport.read_timeout = 1
    told: list[str] = []
    armed = fleet.faults.add(name, "ex1", 1, then=lambda: told.append(name))
    with pytest.raises((requests.RequestException, WinRMError, ElementTree.ParseError, UnicodeError)):
        change(opened)
    assert (armed.fired, armed.hit, told) == (1, "Command", [name] if name.startswith("stall") else [])
    effect = name not in ("reset", "stall-before")
    deadline = time.monotonic() + 2
    while effect and not fleet.machines[0].ran and time.monotonic() < deadline:
        time.sleep(0.01)
    assert fleet.machines[0].ran == (["set a"] if effect else [])


def test_fragments_in_the_wrong_order(wire_lab: Any) -> None:
    fleet = wire_lab()
    fleet.faults.add("fragment-order", action="Receive", at=3)
    opened = RunspacePool(clients.wsman(fleet), configuration_name="Microsoft.PowerShell")
    opened.open()
    with pytest.raises(FragmentError):
        change(opened)


def test_a_refused_connection_until_the_ports_are_open_again(wire_lab: Any) -> None:
    fleet = wire_lab()
    fleet.faults.add("refuse")
    with pytest.raises(requests.ConnectionError), clients.pool(fleet):
        pass
    with pytest.raises(requests.ConnectionError) as caught, clients.pool(fleet):
        pass
    assert "refused" in str(caught.value)
    fleet.wire.open_ports(fleet.machines[0])
    with clients.pool(fleet) as opened:
        assert clients.run(opened, SET).state == "Completed"
