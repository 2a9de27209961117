# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which servers are in the inventory, under which names and in which groups; what cannot be used as a name is named."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _inventory

MAILBOX = {"products": ("Exchange2019", "ExchangeSE"), "roles": ("Mailbox",)}


def server(name: Any, /, **more: Any) -> dict[str, Any]:
    """Return a server as organization_info tells it."""
    base = {"name": name, "fqdn": f"{str(name).lower()}.example.com", "product": "ExchangeSE", "roles": ["Mailbox"], "site": "Main"}
    return {**base, "em_supported": True, "mitigations_enabled": True, **more}


def hosts(*servers: Any, switch: Any = True, **wanted: Any) -> tuple[dict[str, _inventory.Found], list[str]]:
    """Return the hosts by name, and the names that cannot be used."""
    found, unusable = _inventory.hosts({"servers": list(servers), "mitigations_enabled": switch}, _inventory.Wanted(**{**MAILBOX, **wanted}))
    return {entry.name: entry for entry in found}, unusable


@pytest.mark.parametrize(
    ("switch", "more", "state"),
    [
        (True, {}, "on"),
        (False, {}, "off"),
        (True, {"mitigations_enabled": False}, "off"),
        (None, {"mitigations_enabled": False}, "off"),
        (None, {}, "unknown"),
        (True, {"mitigations_enabled": None}, "unknown"),
        (True, {"em_supported": False}, "unsupported"),
        (True, {"em_supported": None}, "unsupported"),
    ],
)
def test_a_server_stands_in_the_group_of_what_both_switches_come_to(switch: Any, more: dict[str, Any], state: str) -> None:
    """A build without EM is unsupported, whatever its switch says; a switch that nobody told is never taken for on."""
    found, dummy = hosts(server("EX1", **more), switch=switch)
    host = found["ex1.example.com"]
    assert (host.server["em_state"], host.groups) == (
        state, ("exchange_servers", "exchange_se", "exchange_role_mailbox", "exchange_site_main", f"exchange_em_{state}"),
    )  # fmt: skip


def test_what_is_not_asked_for_is_not_there() -> None:
    others = (server("EX2", product="Exchange2016"), server("EDGE", roles=["Edge"]), server("EX3", site="Branch"), server("TEST9"), "no server")
    servers = (server("EX1"), *others)
    assert list(hosts(*servers, sites=("MAIN",), exclude=("test*",))[0]) == ["ex1.example.com"]
    assert list(hosts(*servers, roles=())[0]) == ["ex1.example.com", "edge.example.com", "ex3.example.com", "test9.example.com"]


@pytest.mark.parametrize("hostile", ["{{ lookup('pipe', 'id') }}", "-oProxyCommand=x", "ex1:&all", "a b", "", None])
def test_a_name_that_is_more_than_a_name_is_left_out_and_told(hostile: Any) -> None:
    """The other name of the server is taken where that one is good; a second server of a taken name is not merged into the first."""
    found, unusable = hosts(server("EX1", fqdn=hostile), server(hostile, fqdn=hostile), server("EX1", fqdn=hostile))
    assert [(host.name, host.address) for host in found.values()] == [("EX1", "EX1")]
    assert unusable == [str(hostile or ""), "EX1"]


def test_short_names_keep_the_full_address() -> None:
    found, dummy = hosts(server("EX1"), hostnames="name")
    assert [(host.name, host.address) for host in found.values()] == [("EX1", "ex1.example.com")]


def test_groups_of_unknown_and_unspeakable_things_stay_apart() -> None:
    names = [_inventory.group(site) for site in ("Main", "main!", "main?", "{{ x }}", "\u6771\u4eac", "\ud800")]
    assert len(set(names)) == len(names)
    assert all(name.replace("_", "a").isalnum() and name.isascii() for name in names)
    bare = _inventory.groups({"product": "Exchange2030"}, "unknown")
    assert list(bare) == ["exchange_servers", "exchange_unknown", "exchange_em_unknown"]
