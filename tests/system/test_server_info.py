# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module server_info over the wire: one documented shape on every machine, what surrounds Exchange, the way to the feed."""

from __future__ import annotations

import datetime
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from ansible_collections.exchange.mitigation.plugins.modules import organization_info, server_info
from installer_lab import Kept
from lab_task import run
from session_live import NAMES, WAYS

CONNECTIONS = "HKLM:\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Internet Settings\\Connections"
SESSION_MANAGER = "HKLM:\\SYSTEM\\CurrentControlSet\\Control\\Session Manager"
PROXY = "http://proxy.lab.example:8080/"


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    from lab.builds import ServerPlan, default_plan
    from lab.fleet import Fleet

    with Fleet([*default_plan(3), ServerPlan("OLD", "Exchange2019", "15.2.792.3")]) as fleet:
        yield fleet


@pytest.fixture
def fleet(running: Any) -> Iterator[Any]:
    running.access_log.clear()
    kept = [Kept(machine) for machine in running.machines]
    yield running
    for one in kept:
        one.restore()
        for name in ("way", "proxy_way"):
            if hasattr(one.machine, name):
                delattr(one.machine, name)
        running.organization.change(one.machine.name, {"InternetWebProxy": None, "MitigationsAppliedTime": None, "MitigationsApplied": None})
    running.organization.directory.settle()
    assert running.scripts_received == 0
    assert running.refusals == []
    assert running._server.open_shells() == []


def look(fleet: Any, name: str, **options: Any) -> dict[str, Any]:
    way = {key: options.pop(key) for key in ("kind", "secure") if key in options}
    found: dict[str, Any] = run(server_info, fleet, fleet.machine(name), options, **way)["server"]
    return found


def codes(found: Mapping[str, Any]) -> list[str]:
    return [entry["code"] for entry in found["findings"]]


def undocumented(value: Any, documented: Mapping[str, Any], place: str = "") -> set[str]:
    """Every key that a value has and its documentation has not, or the other way round."""
    wrong: set[str] = set()
    for name in value.keys() ^ documented.keys():
        wrong.add(f"{place}{name}")
    for name in value.keys() & documented.keys():
        inner = documented[name].get("contains")
        for item in value[name] if isinstance(value[name], list) else [value[name]]:
            if inner and isinstance(item, dict):
                wrong |= undocumented(item, inner, f"{place}{name}.")
    return wrong


@pytest.mark.parametrize("gather", [[], ["reachability"]], ids=["plain", "reachability"])
@pytest.mark.parametrize(("kind", "secure"), WAYS, ids=NAMES)
def test_one_documented_shape_and_nothing_written(fleet: Any, kind: str, secure: bool, gather: list[str]) -> None:
    documented = yaml.safe_load(server_info.RETURN)["server"]["contains"]
    organization = run(organization_info, fleet, fleet.machine("EX1"), {})["organization"]
    for name in ("EX3", "OLD"):
        options = {"gather": gather, "organization": organization}
        found = run(server_info, fleet, fleet.machine(name), options, kind=kind, secure=secure)
        assert found["changed"] is False
        assert undocumented(found["server"], documented) == set()
        assert (found["server"]["reachability"] is None) is (not gather)
        assert run(server_info, fleet, fleet.machine(name), options, check=True, kind=kind, secure=secure) == found
    assert fleet.access_log.writes() == []


@pytest.mark.parametrize(("kind", "secure"), WAYS, ids=NAMES)
def test_organization_info_has_the_documented_shape(fleet: Any, kind: str, secure: bool) -> None:
    documented = yaml.safe_load(organization_info.RETURN)["organization"]["contains"]
    found = run(organization_info, fleet, fleet.machine("EX1"), {}, kind=kind, secure=secure)
    assert undocumented(found["organization"], documented) == set()
    assert len(found["organization"]["servers"]) == 4


@pytest.mark.parametrize(("kind", "secure"), WAYS, ids=NAMES)
def test_requests_stay_few(fleet: Any, kind: str, secure: bool) -> None:
    """At most 3 pipelines and 12 requests per server, also where services and pools are asked for."""
    organization = run(organization_info, fleet, fleet.machine("EX1"), {})["organization"]
    for machine in fleet.machines:
        fleet.access_log.clear()
        look(fleet, machine.name, organization=organization, kind=kind, secure=secure)
        assert len(fleet.access_log.select(action="Command")) == 2
        assert len(fleet.access_log.select(action="Create")) == 1
        assert len(fleet.access_log.records) <= 12


def test_effective_state_in_the_words_of_healthchecker(fleet: Any) -> None:
    organization = run(organization_info, fleet, fleet.machine("EX1"), {})["organization"]
    for own, server, state in (
        (True, True, "Enabled"), (False, True, "Disabled on org level"), (True, False, "Disabled on server level"), (False, False, "Disabled"),
        (None, True, "Failed to query config"), (True, None, "Failed to query config"),
    ):  # fmt: skip
        servers = [{**entry, "mitigations_enabled": server} for entry in organization["servers"]]
        found = look(fleet, "EX1", organization={**organization, "mitigations_enabled": own, "servers": servers})
        assert found["em"]["state"] == state
        assert ("em_disabled" in codes(found)) is state.startswith("Disabled")


def test_last_success(fleet: Any) -> None:
    now = datetime.datetime.now(datetime.timezone.utc)
    for hours, silent in ((0, False), (23, False), (30, True)):
        fleet.organization.change("EX3", {"MitigationsAppliedTime": now - datetime.timedelta(hours=hours, minutes=5), "MitigationsApplied": ["PING1"]})
        fleet.organization.directory.settle()
        found = look(fleet, "EX3")
        assert (found["em"]["last_success_hours"], "em_silent" in codes(found)) == (hours, silent)


def test_builds_that_cannot_read_newer_feeds(fleet: Any) -> None:
    seen = {machine.name: look(fleet, machine.name) for machine in fleet.machines}
    assert {name: found["em"]["can_read_newer_feeds"] for name, found in seen.items()} == {"EX1": False, "EX2": True, "EX3": False, "OLD": False}
    assert {name for name, found in seen.items() if "em_cannot_read_newer_feeds" in codes(found)} == {"EX1", "EX3"}
    assert "em_unavailable" in codes(seen["OLD"])


def test_restarts_and_proxies(fleet: Any) -> None:
    machine = fleet.machine("EX1")
    found = look(fleet, "EX1")
    assert (found["pending_reboot"], found["proxies"]) == (
        [], {"internet_web_proxy": None, "winhttp": {"state": "direct", "proxy": None, "bypass": None}, "agree": True},
    )  # fmt: skip
    machine.registry.set(SESSION_MANAGER, "PendingFileRenameOperations", ["\\??\\C:\\x", ""], "REG_MULTI_SZ")
    text = b"proxy.lab.example:8080"
    blob = struct.pack("<IIII", 0x28, 3, 3, len(text)) + text + struct.pack("<I", 7) + b"<local>"
    machine.registry.set(CONNECTIONS, "WinHttpSettings", blob.hex(), "REG_BINARY")
    found = look(fleet, "EX1")
    assert (found["pending_reboot"], found["proxies"]["agree"]) == (["file_rename"], False)
    assert {"reboot_pending", "proxies_differ"} <= set(codes(found))
    fleet.organization.change("EX1", {"InternetWebProxy": PROXY})
    fleet.organization.directory.settle()
    found = look(fleet, "EX1")
    assert found["proxies"] == {
        "internet_web_proxy": PROXY, "winhttp": {"state": "proxy", "proxy": "proxy.lab.example:8080", "bypass": "<local>"}, "agree": True,
    }  # fmt: skip


def test_the_way_to_the_feed(fleet: Any) -> None:
    from lab.cmdlets_network import Way

    def way(name: str) -> tuple[Any, ...]:
        found = look(fleet, name, gather=["reachability"])
        assert ("feed_unreachable" in codes(found)) is (found["reachability"]["state"] == "unreachable")
        return tuple(found["reachability"][key] for key in ("state", "dns", "tcp", "tls", "http", "status", "via"))

    machine = fleet.machine("EX1")
    assert way("EX1") == ("reachable", "ok", "ok", "ok", "ok", 200, None)
    assert way("EX2") == ("unreachable", "failed", "failed", "unknown", "unknown", None, None)
    for own, expected in (
        (Way(tcp=False), ("unreachable", "ok", "failed", "unknown", "unknown", None, None)),
        (Way(trusted=False), ("unreachable", "ok", "ok", "failed", "unknown", None, None)),
        (Way(status=503), ("unreachable", "ok", "ok", "ok", "failed", 503, None)),
    ):
        machine.way = own
        assert way("EX1") == expected
    machine.way = Way(dns=False, tcp=False)
    fleet.organization.change("EX1", {"InternetWebProxy": PROXY})
    fleet.organization.directory.settle()
    assert way("EX1") == ("reachable", "ok", "ok", "ok", "ok", 200, PROXY)
    machine.proxy_way = Way(status=407)
    assert way("EX1") == ("unreachable", "ok", "ok", "unknown", "failed", 407, PROXY)


def test_constrained_language_leaves_the_port_unknown(fleet: Any) -> None:
    fleet.machine("EX1").language_mode = "ConstrainedLanguage"
    found = look(fleet, "EX1", gather=["reachability"])["reachability"]
    assert (found["dns"], found["tcp"], found["http"], found["state"]) == ("ok", "ok", "ok", "reachable")
    fleet.machine("EX2").language_mode = "ConstrainedLanguage"
    found = look(fleet, "EX2", gather=["reachability"])["reachability"]
    assert (found["dns"], found["tcp"], found["state"]) == ("failed", "unknown", "unreachable")
