# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pywinrm as Ansible's winrm plugin uses it, and pypsrp's pool carried by its transport."""

from __future__ import annotations

from typing import Any

import pytest
import wire_clients as clients
from pypsrp.powershell import RunspacePool
from pypsrp.wsman import WSMan
from winrm import exceptions

WAYS = [("wsman_http", "ntlm"), ("wsman_https", "basic"), ("wsman_https", "ntlm")]


@pytest.mark.parametrize(("endpoint", "transport"), WAYS)
def test_a_shell_opens_and_closes_and_runs_nothing(wire_lab: Any, endpoint: str, transport: str) -> None:
    fleet = wire_lab()
    protocol = clients.protocol(fleet, endpoint, transport)
    shell = protocol.open_shell(codepage=65001)
    assert [item["id"] for item in fleet.wire.open_shells()] == [shell.upper()]
    # pywinrm tells a fault's code from 0.5 on, and raises WinRMError before.
    with pytest.raises(getattr(exceptions, "WSManFaultError", exceptions.WinRMError)) as caught:
        protocol.run_command(shell, "powershell", ["-encodedcommand", "AAAA"])
    assert int(getattr(caught.value, "wsman_fault_code", 2147942405)) == 2147942405
    assert fleet.scripts_received == 1
    assert fleet.access_log.select(action="Command")[0]["cmdlets"] == ["<script>"]
    protocol.close_shell(shell)
    assert fleet.wire.open_shells() == []


@pytest.mark.parametrize(("endpoint", "transport"), WAYS)
def test_pypsrp_pool_over_pywinrm_transport(wire_lab: Any, endpoint: str, transport: str) -> None:
    fleet = wire_lab()
    protocol = clients.protocol(fleet, endpoint, transport)
    client = WSMan("127.0.0.1", username="unused", password="unused", auth="basic")
    client.transport = clients.Carried(protocol)
    with RunspacePool(client) as opened:
        outcome = clients.run(opened, ("Get-Probe", {"Name": "carried", "Data": bytes(300_000)}), ("Get-Bulk", {"Size": 400_000}))
    assert outcome.state == "Completed"
    assert outcome.output[0].adapted_properties["Data"] == 300_000
    assert len(outcome.output[1]) == 400_000
    assert fleet.wire.open_shells() == [] and fleet.refusals == []


def test_both_pools_and_shells_of_one_host_are_told_apart(wire_lab: Any) -> None:
    fleet = wire_lab()
    protocol = clients.protocol(fleet)
    shell = protocol.open_shell()
    with clients.pool(fleet, username="reader@lab.test", password="Other-Pass-2") as opened:
        users = sorted(item["user"] for item in fleet.wire.open_shells())
        assert users == ["LAB\\admin", "reader@lab.test"]
        assert clients.run(opened, ("Get-Probe", {})).state == "Completed"
    protocol.close_shell(shell)
