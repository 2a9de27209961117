# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server of the lab sees of the network around it, and the rows of the register for it."""

from __future__ import annotations

import pathlib
import re
import types
from typing import Any

import pytest
import yaml

from lab.cmdlets_network import Way
from lab.direct import one, run
from lab.kernel import REGISTRY, Terminating
from lab.machine import Machine
from lab.stock import Stock, make

HERE = pathlib.Path(__file__).resolve().parent
ROWS: list[dict[str, Any]] = yaml.safe_load((HERE.parents[1] / "lab" / "assumptions" / "network.yml").read_text("utf-8"))
FEED, URL = "officeclient.microsoft.com", "https://officeclient.microsoft.com/GetExchangeMitigations"
CONNECTIONS = "HKLM:\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Internet Settings\\Connections"


@pytest.fixture
def machine(tmp_path: pathlib.Path) -> Any:
    made: Any = make(tmp_path, Stock("EX1"))
    made.fleet = types.SimpleNamespace(reaches_feed=lambda dummy: True)
    return made


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_row_is_complete_and_its_test_exists(row: dict[str, Any]) -> None:
    assert set(row) == {"id", "what", "source", "reference", "test", "check"}
    assert all(isinstance(value, str) and value.strip() for value in row.values())
    assert row["source"] in ("documentation", "recording", "assumed")
    file, name = row["test"].split("::")
    assert re.search(rf"^def {re.escape(name)}\(", (HERE / file).read_text("utf-8"), re.MULTILINE)


def test_names(machine: Machine) -> None:
    assert one(machine, "Resolve-DnsName", Name=FEED, Type="A", DnsOnly=True).props["IPAddress"] == "203.0.113.10"
    output, errors = run(machine, "Resolve-DnsName", Name="none.invalid", Type="A", DnsOnly=True)
    assert (output, [error.fqid for error in errors]) == ([], ["DNS_ERROR_RCODE_NAME_ERROR,Microsoft.DnsClient.Commands.ResolveDnsName"])


def test_connections(machine: Any) -> None:
    assert one(machine, "Test-NetConnection", ComputerName=FEED, Port=443).props["TcpTestSucceeded"] is True
    assert one(machine, "Test-NetConnection", ComputerName=FEED, Port=80).props["TcpTestSucceeded"] is False
    machine.way = Way(tcp=False)
    assert one(machine, "Test-NetConnection", ComputerName=FEED, Port=443).props["TcpTestSucceeded"] is False
    assert one(machine, "Test-NetConnection", ComputerName="proxy.lab.example", Port=8080).props["TcpTestSucceeded"] is True


def test_connections_need_full_language() -> None:
    assert REGISTRY[("host", "test-netconnection")].languages == ("FullLanguage",)


@pytest.mark.parametrize(
    ("way", "said"),
    [(Way(trusted=False), "trust relationship"), (Way(status=403), "(403) Forbidden"), (Way(tcp=False), "Unable to connect"), (Way(False, False), "resolved")],
)
def test_the_feed_through_the_web(machine: Any, way: Way, said: str) -> None:
    assert one(machine, "Invoke-WebRequest", Uri=URL, UseBasicParsing=True, TimeoutSec=5).props["StatusCode"] == 200
    machine.way = way
    with pytest.raises(Terminating, match=re.escape(said)) as caught:
        run(machine, "Invoke-WebRequest", Uri=URL, UseBasicParsing=True, TimeoutSec=5)
    assert caught.value.info.fqid.startswith("WebCmdletWebResponseException,")
    proxied = one(machine, "Invoke-WebRequest", Uri=URL, UseBasicParsing=True, TimeoutSec=5, Proxy="http://proxy.lab.example:8080/")
    assert proxied.props["StatusCode"] == 200


def test_winhttp_settings(machine: Machine) -> None:
    output, errors = run(machine, "Get-ItemProperty", LiteralPath=CONNECTIONS)
    assert (output, len(errors)) == ([], 1)
    machine.registry.set(CONNECTIONS, "WinHttpSettings", "280000000000000001000000" + "00000000" * 2, "REG_BINARY")
    assert one(machine, "Get-ItemProperty", LiteralPath=CONNECTIONS).notes["WinHttpSettings"] == bytes([0x28]) + bytes(7) + bytes([1]) + bytes(11)
