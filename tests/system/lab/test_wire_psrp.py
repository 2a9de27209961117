# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools, pipelines, sizes, timeouts, quotas and faults of the shell service, seen by pypsrp."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import wire_clients as clients
import yaml
from lxml import etree
from pypsrp.complex_objects import ObjectMeta
from pypsrp.exceptions import WSManFaultError
from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.shell import SignalCode

from lab import soap


def test_large_output_comes_in_fragments_that_fit_the_envelope(wire_lab: Any) -> None:
    fleet = wire_lab()
    with clients.pool(fleet, "wsman_https", "basic") as opened:
        outcome = clients.run(opened, ("Get-Bulk", {"Size": 2_000_000}), ("Get-Bulk", {"Size": 30_000, "Pieces": 40}))
    assert [len(text) for text in outcome.output] == [2_000_000] + [30_000] * 40
    assert outcome.output[0] == "0" * 2_000_000
    sizes = [record["bytes_out"] for record in fleet.access_log.select(action="Receive")]
    assert max(sizes) <= 512_000 + 300
    assert len([size for size in sizes if size > 400_000]) >= 9, "fragments are packed, not sent one by one"


@pytest.mark.parametrize("endpoint", ["wsman_http", "web_http"])
def test_a_large_parameter_takes_command_and_sends(wire_lab: Any, endpoint: str) -> None:
    fleet = wire_lab()
    with clients.pool(fleet, endpoint) as opened:
        outcome = clients.run(opened, ("Get-Probe", {"Name": "x", "Data": bytes(range(256)) * 6000}))
    assert outcome.output[0].adapted_properties["Data"] == 256 * 6000
    assert len(fleet.access_log.select(action="Send")) >= 2
    named = [record for record in fleet.access_log.records if record["cmdlets"]]
    assert [(record["action"], record["cmdlets"]) for record in named] == [("Send", ["Get-Probe"])]


def test_small_envelopes_are_respected(wire_lab: Any) -> None:
    fleet = wire_lab()
    client = clients.wsman(fleet, "wsman_https", "basic", max_envelope_size=32_000)
    with client, RunspacePool(client) as opened:
        client.max_envelope_size = 32_000
        assert clients.run(opened, ("Get-Bulk", {"Size": 100_000})).output == ["0" * 100_000]
    assert max(record["bytes_out"] for record in fleet.access_log.select(action="Receive")) <= 32_000 + 300


def test_opening_takes_two_receives_and_tells_the_version(wire_lab: Any) -> None:
    fleet = wire_lab()
    with clients.pool(fleet) as opened:
        actions = [record["action"] for record in fleet.access_log.records]
        assert actions == ["POST", "POST", "POST", "Create", "Receive", "Receive"]
        table = opened.application_private_data.data["PSVersionTable"]
        assert table["PSVersion"].startswith("5.1.") and table["PSRemotingProtocolVersion"] == "2.3"


def test_an_unchanged_round_costs_one_command_one_receive(wire_lab: Any) -> None:
    fleet = wire_lab()
    with clients.pool(fleet) as opened:
        before = len(fleet.access_log.records)
        shell = PowerShell(opened)
        for number in range(6):
            if number:
                shell.add_statement()
            shell.add_cmdlet("Get-Bulk").add_parameters({"Size": 5000})
        shell.invoke()
        assert [record["action"] for record in fleet.access_log.records[before:]] == ["Command", "Receive"]
        assert len(shell.output) == 6


def test_first_pipeline_prepares_modules_once(wire_lab: Any) -> None:
    fleet = wire_lab()
    for endpoint, expected in (("wsman_http", ["Preparing modules for first use."]), ("web_http", [])):
        with clients.pool(fleet, endpoint) as opened:
            first, second = PowerShell(opened), PowerShell(opened)
            for shell in (first, second):
                shell.add_cmdlet("Get-Probe")
                shell.invoke()
            assert [record.activity for record in first.streams.progress] == expected
            assert second.streams.progress == []


def test_receive_blocks_until_the_operation_timeout(wire_lab: Any) -> None:
    fleet = wire_lab()
    with clients.pool(fleet, operation_timeout=1) as opened:
        start = time.monotonic()
        outcome = clients.run(opened, ("Wait-Probe", {"Seconds": 3}))
        assert outcome.output == ["waited"] and 2.8 < time.monotonic() - start < 5
    timeouts = [record for record in fleet.access_log.select(action="Receive") if record["status"] == 500]
    assert 2 <= len(timeouts) <= 3


def test_stop_ends_the_running_statement_and_the_batch(wire_lab: Any) -> None:
    fleet = wire_lab()
    with clients.pool(fleet) as opened:
        shell = PowerShell(opened)
        shell.add_cmdlet("Wait-Probe").add_parameters({"Seconds": 30}).add_statement()
        shell.add_cmdlet("Get-Probe").add_parameters({"Name": "after"})
        shell.begin_invoke()
        assert fleet.wire.running_pipelines() == 1
        start = time.monotonic()
        shell.stop()
        assert time.monotonic() - start < 3
        assert shell.state == 3
        assert clients.run(opened, ("Get-Probe", {"Name": "next"})).state == "Completed"
    assert fleet.machines[0].ran == ["next"] and fleet.wire.running_pipelines() == 0


def test_deleting_the_shell_wakes_a_receive(wire_lab: Any) -> None:
    fleet = wire_lab()
    with clients.pool(fleet) as opened:
        shell = PowerShell(opened)
        shell.add_cmdlet("Wait-Probe").add_parameters({"Seconds": 30})
        codes: list[int] = []

        def receive() -> None:
            try:
                shell.begin_invoke()
                shell.end_invoke()
            except WSManFaultError as error:
                codes.append(error.code)

        thread = threading.Thread(target=receive)
        thread.start()
        time.sleep(0.4)
        with clients.pool(fleet) as other:
            fault(other, "Delete", opened.id, soap.POWERSHELL_URI + "Microsoft.PowerShell")
        thread.join(5)
        assert codes == [995]
        opened.state = 5


def fault(opened: RunspacePool, action: str, shell_id: str, uri: str) -> int:
    """Send one bare message about a shell and return the code of its fault, 0 for none."""
    from pypsrp.wsman import SelectorSet

    selectors = SelectorSet()
    selectors.add_option("ShellId", str(shell_id).upper())
    client = opened.connection if hasattr(opened, "connection") else opened.wsman
    try:
        getattr(client, action.lower())(uri, None, None, selectors)
    except WSManFaultError as error:
        return int(error.code)
    return 0


def test_faults_of_unknown_things(wire_lab: Any) -> None:
    fleet = wire_lab()
    uri = soap.POWERSHELL_URI + "Microsoft.PowerShell"
    with clients.pool(fleet) as opened, clients.pool(fleet, username="reader@lab.test", password="Other-Pass-2") as stranger:
        assert fault(opened, "Get", opened.id, uri) == 0
        assert fault(stranger, "Get", opened.id, uri) == 2150858843, "a shell is visible to its owner only"
        assert fault(opened, "Delete", "00000000-0000-0000-0000-000000000001", uri) == 2150858843
        shell = PowerShell(opened)
        shell.add_cmdlet("Get-Probe")
        shell.invoke()
        opened.shell.signal(SignalCode.TERMINATE, str(shell.id).upper())
        with pytest.raises(WSManFaultError) as caught:
            opened.shell.signal("powershell/signal/ctrl_c", str(shell.id).upper())
        assert caught.value.code == 2150858843
    for endpoint, name in (("wsman_http", "No.Such"), ("wsman_http", "Microsoft.Exchange"), ("web_http", "Microsoft.PowerShell")):
        with pytest.raises(WSManFaultError) as caught, clients.pool(fleet, endpoint, configuration=name):
            pass
        assert caught.value.code == 2150858811


def test_configurations_have_their_own_language(wire_lab: Any) -> None:
    fleet = wire_lab(configurations={"Microsoft.PowerShell": "FullLanguage", "Lab.Jea": "NoLanguage"})
    batch = [("Get-Bulk", {"Size": 1}), ("ForEach-Object", {"MemberName": "Length"})]
    with clients.pool(fleet) as opened:
        assert clients.run(opened, batch).output == [1]
    with clients.pool(fleet, configuration="lab.jea") as opened:
        outcome = clients.run(opened, batch)
        assert outcome.fqid == "CommandNotFoundException"
        assert clients.run(opened, ("Select-Object", {"InputObject": "x", "Property": ["Length"]})).fqid.startswith("ParameterArgumentValidationError")
    assert fleet.refusals == [], "a hidden cmdlet is Windows' answer, not a gap of the lab"


def test_thirty_shells_per_user_and_host(wire_lab: Any) -> None:
    fleet = wire_lab()
    pools = [RunspacePool(clients.wsman(fleet, "wsman_https", "basic")) for dummy in range(31)]
    for opened in pools[:30]:
        opened.open()
    with pytest.raises(WSManFaultError) as caught:
        pools[30].open()
    assert caught.value.code == 2150859173
    assert "maximum number of 30 concurrent shells" in str(caught.value)
    with clients.pool(fleet, username="reader@lab.test", password="Other-Pass-2"):
        pass
    pools[0].close()
    with clients.pool(fleet):
        pass
    for opened in pools[1:30]:
        opened.close()
    assert fleet.wire.open_shells() == []


def test_eighteen_exchange_sessions_per_user_in_the_whole_fleet(wire_lab: Any) -> None:
    fleet = wire_lab(("EX1", "EX2"))
    pools = [RunspacePool(clients.wsman(fleet, "web_https", "basic", number=index % 2), configuration_name="Microsoft.Exchange") for index in range(19)]
    for opened in pools[:18]:
        opened.open()
    assert fleet.sessions.in_use("lab\\admin") == 18
    with pytest.raises(WSManFaultError) as caught:
        pools[18].open()
    assert caught.value.code == 2150859173 and "18 concurrent shells" in str(caught.value)
    with clients.pool(fleet):
        pass
    for opened in pools[:18]:
        opened.close()
    assert (fleet.sessions.in_use(), fleet.sessions.most, fleet.sessions.opened) == (0, 18, 18)


def test_an_idle_shell_goes_away(wire_lab: Any) -> None:
    fleet = wire_lab()
    opened = RunspacePool(clients.wsman(fleet), idle_timeout=1) if "idle_timeout" in RunspacePool.__init__.__code__.co_varnames else None
    if opened is None:
        pytest.skip("this pypsrp cannot ask for an idle timeout")
    opened.open()
    assert len(fleet.wire.open_shells()) == 1
    time.sleep(1.2)
    assert fleet.wire.open_shells() == []
    with pytest.raises(WSManFaultError):
        clients.run(opened, ("Get-Probe", {}))
        opened.close()


def test_pool_messages(wire_lab: Any) -> None:
    fleet = wire_lab()
    with clients.pool(fleet) as opened:
        opened.exchange_keys()
        secret = opened.serialize("Secret-Value-9", ObjectMeta("SS"))
        outcome = clients.run(opened, ("Get-Probe", {"Name": "x"}), ("Set-Variable", {"Name": "s", "Value": secret}))
        assert outcome.state == "Completed"
        assert opened.get_available_runspaces() == 1
        opened.max_runspaces = 3
        assert opened.get_available_runspaces() == 3
        opened.reset_runspace_state()
    variable = next(call for call in fleet.access_log.calls if call.cmdlet == "Set-Variable").parameters["Value"]
    assert variable.live == "Secret-Value-9"


def test_pipeline_input_streams_to_the_first_command(wire_lab: Any) -> None:
    with clients.pool(wire_lab()) as opened:
        shell = PowerShell(opened)
        shell.add_cmdlet("Write-Output").add_cmdlet("Sort-Object").add_parameters({"Descending": True})
        assert shell.invoke(["a", "c", "b"]) == ["c", "b", "a"]


def test_values_arrive_verbatim(wire_lab: Any) -> None:
    text = "M2; evil $(x) _x000A_ \u2028 \U0001f600 <&>\"' \r\n\t end"
    with clients.pool(wire_lab()) as opened:
        assert clients.run(opened, ("Write-Output", {"InputObject": text})).output == [text]


def test_maximum_service_configuration_is_readable(wire_lab: Any) -> None:
    client = clients.wsman(wire_lab())
    client.update_max_payload_size()
    assert client.max_envelope_size == 512000


# Structure against recordings


def shape(xml: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return the body's elements with their attribute names, in order."""
    body = etree.fromstring(xml.encode()).find("{http://www.w3.org/2003/05/soap-envelope}Body")
    return [(str(item.tag), tuple(sorted(item.attrib))) for item in body.iter()]


def messages(xml: str) -> list[tuple[int, bytes]]:
    """Return type and CLIXML of every one-fragment message in a Receive."""
    found = []
    for stream in etree.fromstring(xml.encode()).iter("{http://schemas.microsoft.com/wbem/wsman/1/windows/shell}Stream"):
        data = base64.b64decode(stream.text or "")
        found.append((int.from_bytes(data[25:29], "little"), data[61:]))
    return found


def replay(fleet: Any, file: Any, wanted: Callable[[int], bool]) -> list[tuple[str, str]]:
    """Give the recorded requests to the service and return pairs of recorded and own response."""
    service = fleet.wire.services["EX1"]
    from lab.shells import Trace

    pairs = []
    for number, message in enumerate(yaml.safe_load(file.read_text(encoding="utf-8"))["messages"]):
        if number == 5 and "multiple_commands" in file.name:
            break  # a secure string under the recorded session key, which nobody has
        request = soap.parse(message["request"].encode())
        own = service.handle(request, "LAB\\admin", "host", "10.0.2.2", Trace())
        if wanted(number):
            pairs.append((message["response"], own.decode()))
    return pairs


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("test_psrp_open_runspace", range(20)),
        ("test_psrp_multiple_commands", (0, 1, 2, 3, 4)),
        ("test_psrp_with_jea_configuration", (0, 1, 2, 3, 4, 6, 8)),
        ("test_psrp_error_failed", (0, 1, 2, 3, 5)),
        ("test_psrp_set_runspaces", range(20)),
    ],
)
def test_responses_have_the_structure_of_recorded_ones(wire_lab: Any, recorded: Any, name: str, numbers: Any) -> None:
    file = recorded(f"wsman-captures/{name}.yml")
    fleet = wire_lab()
    configure(fleet, file)
    for theirs, ours in replay(fleet, file, lambda number: number in numbers):
        assert shape(ours) == shape(theirs)
        for (kind, data), (own_kind, own) in zip(messages(theirs), messages(ours), strict=True):
            assert own_kind == kind and own.startswith(b"\xef\xbb\xbf") == data.startswith(b"\xef\xbb\xbf")
            if kind not in (0x00010006,):
                assert clixml_shape(own) == clixml_shape(data)


def configure(fleet: Any, file: Any) -> None:
    """Give the machine the session configuration that a recording names."""
    import re

    name = re.search(r"schemas.microsoft.com/powershell/([\w.]+)", file.read_text(encoding="utf-8"))
    assert name is not None
    mode = "FullLanguage" if name.group(1) == "Microsoft.PowerShell" else "NoLanguage"
    fleet.machines[0].configurations = {name.group(1): mode}


def clixml_shape(data: bytes) -> list[tuple[str, str | None]]:
    """Return tags and names of a CLIXML message; version numbers differ between machines and are left out."""
    root = etree.fromstring(data.removeprefix(b"\xef\xbb\xbf"))
    return [(str(item.tag), item.get("N")) for item in root.iter()]


def test_the_refusal_of_a_script_looks_as_recorded(wire_lab: Any, recorded: Any) -> None:
    file = recorded("wsman-captures/test_psrp_with_jea_configuration.yml")
    fleet = wire_lab()
    configure(fleet, file)
    ((theirs, ours),) = replay(fleet, file, lambda number: number == 7)
    recorded_state, own_state = messages(theirs)[-1], messages(ours)[-1]
    assert own_state[0] == recorded_state[0] == 0x00041006

    def facts(data: bytes) -> dict[str | None, str | None]:
        root = etree.fromstring(data.removeprefix(b"\xef\xbb\xbf"))
        names = ("PipelineState", "FullyQualifiedErrorId", "ErrorCategory_Category", "ErrorCategory_Reason", "ErrorCategory_Message", "Message", "TargetObject")
        return {item.get("N"): item.text for item in root.iter() if item.get("N") in names}

    assert facts(own_state[1]) == facts(recorded_state[1])
