# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolve-DnsName and Test-NetConnection: what a server of the lab sees of the network around it (CMDLETS.md 8)."""

from __future__ import annotations

import dataclasses
import urllib.parse
from collections.abc import Iterator
from typing import Any

from lab.kernel import Invocation, Obj, Parameter, cmdlet
from lab.providers import UNLISTED, record

#: Names by which the fleet's feed is reached, and the proxy of the lab's network.
FEED_HOST, PROXY_HOST, PROXY_PORT = "officeclient.microsoft.com", "proxy.lab.example", 8080
_RESOURCE_UNAVAILABLE = 21
_WIN32, _RESOLVE = "System.ComponentModel.Win32Exception", "Microsoft.DnsClient.Commands.ResolveDnsName"
_NET_ROUTE = ("TestNetConnectionResult", "System.Object")


@dataclasses.dataclass(frozen=True)
class Way:
    """A server's way to the internet: whether names are resolved, connections come about, the certificate is trusted; the status that comes back."""

    dns: bool = True
    tcp: bool = True
    trusted: bool = True
    status: int = 200


def way(machine: Any) -> Way:
    """Return a machine's own way: ``machine.way`` where a test has set one, else by whether it has internet."""
    own: Way | None = getattr(machine, "way", None)
    if own is not None:
        return own
    internet = machine.fleet is None or machine.fleet.reaches_feed(machine)
    return Way() if internet else Way(dns=False, tcp=False)


def reach(machine: Any, url: str, proxy: str | None) -> Way | None:
    """Return the way to a URL of the internet, None for one that the lab does not have."""
    if (urllib.parse.urlsplit(url).hostname or "").lower() != FEED_HOST:
        return None
    if proxy is None:
        return way(machine)
    parts = urllib.parse.urlsplit(proxy)
    if (parts.hostname or "").lower() != PROXY_HOST or parts.port != PROXY_PORT:
        return Way(dns=False, tcp=False)
    found: Way = getattr(machine, "proxy_way", Way())
    return found


def _resolves(machine: Any, name: str) -> str | None:
    if name.lower() == PROXY_HOST:
        return "192.0.2.8"
    return "203.0.113.10" if name.lower() == FEED_HOST and way(machine).dns else None


@cmdlet(
    "Resolve-DnsName",
    {"Name": Parameter(position=0, mandatory=True), "Type": Parameter(values=("A",)), "DnsOnly": Parameter("switch")},
    languages=UNLISTED,
)
def resolve_dns_name(inv: Invocation) -> Iterator[Any]:
    """A record of type A; a name that does not exist is a non-terminating error."""
    name = str(inv.get("Name"))
    address = _resolves(inv.machine, name)
    if address is None:
        message = f"{name} : DNS name does not exist"
        code = "DNS_ERROR_RCODE_NAME_ERROR"
        inv.error(record("Resolve-DnsName", code, message, _RESOURCE_UNAVAILABLE, _WIN32, name, _RESOLVE))
        return
    types = ("Microsoft.DnsClient.Commands.DnsRecord_A", "Microsoft.DnsClient.Commands.DnsRecord", "System.Object")
    yield Obj(types, {"Name": name, "Type": "A", "TTL": 60, "DataLength": 4, "Section": "Answer", "IPAddress": address})


@cmdlet(
    "Test-NetConnection",
    {
        "ComputerName": Parameter(position=0, mandatory=True),
        "Port": Parameter("int", mandatory=True),
        "InformationLevel": Parameter(values=("Detailed", "Quiet")),
    },
    languages=("FullLanguage",),
)
def test_net_connection(inv: Invocation) -> Iterator[Any]:
    """The result of one attempt; a failed one is a warning and TcpTestSucceeded false. A function, which a constrained session does not have."""
    name, port = str(inv.get("ComputerName")), int(inv.get("Port"))
    address = _resolves(inv.machine, name)
    open_ = address is not None and (
        (name.lower() == PROXY_HOST and port == PROXY_PORT) or (name.lower() == FEED_HOST and port == 443 and way(inv.machine).tcp)
    )
    if inv.get("InformationLevel") == "Quiet":
        yield open_
        return
    props = {
        "ComputerName": name, "RemoteAddress": address, "RemotePort": port, "InterfaceAlias": "Ethernet", "SourceAddress": "10.0.0.5",
        "NameResolutionSucceeded": address is not None, "TcpTestSucceeded": open_,
    }  # fmt: skip
    yield Obj(_NET_ROUTE, props)
