# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs: switches and lists against the organisation, mitigations against verdicts, and unknown as neither."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _drift

ORGANIZATION: dict[str, Any] = {
    "name": "Example",
    "mitigations_enabled": False,
    "servers": [
        {"name": "EX1", "fqdn": "ex1.example.test", "mitigations_enabled": True, "mitigations_blocked": ["M1"], "mitigations_applied": ["PING1", "M2.1.0"]},
        {"name": "EX2", "fqdn": "ex2.example.test", "mitigations_enabled": None, "mitigations_blocked": None},
    ],
}


def host(name: str, desired: dict[str, Any], *verdicts: dict[str, Any], **other: Any) -> dict[str, Any]:
    """Return a result of a host that was read."""
    return {"host": name, "server": {"name": name.upper(), "mitigations": list(verdicts)}, "desired": desired, **other}


def kinds(result: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return what differs, short."""
    return [(item["server"], item["setting"], item["kind"]) for item in result["items"]]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("M2", "M2.1.0", True),
        ("m2.1", "M2", True),
        ("M1", "M10", False),
        ("M1", "M01", False),
        ("M2.1", "M2.10", False),
        ("PING1", "PING1", True),
        ("", "M1", False),
    ],
)
def test_ids_cover_each_other_by_dotted_prefix_only(one: str, other: str, same: bool) -> None:
    for pair in ((one, other), (other, one)):
        assert _drift.covers(*pair) is same


@pytest.mark.parametrize("name", ["EX1", "ex1", "ex1.example.test", "EX1.other.domain"])
def test_a_server_is_found_by_name_or_fqdn(name: str) -> None:
    assert _drift.server_of(ORGANIZATION, name)["name"] == "EX1"


def test_a_server_that_is_not_there_is_empty() -> None:
    assert _drift.server_of(ORGANIZATION, "EX10", "", None) == {}


@pytest.mark.parametrize(
    ("current", "blocked", "wanted"),
    [
        (["M1"], {"add": ["PING1"]}, ["M1", "PING1"]),
        (["M1"], {"add": ["m1"]}, ["M1"]),
        (["M1", "M2"], {"remove": ["m2"]}, ["M1"]),
        (["M1"], {"set": []}, []),
        (["M1"], {"set": ["M2"], "add": ["M3"]}, ["M2", "M3"]),
        (["M1"], {"set": ""}, ["M1"]),
        (["M1"], {"add": "M2, M3"}, ["M1", "M2", "M3"]),
    ],
)
def test_a_blocked_list_is_computed_from_the_present_one(current: list[str], blocked: dict[str, Any], wanted: list[str]) -> None:
    assert _drift.wanted_block(current, blocked) == wanted


@pytest.mark.parametrize("value", [True, "true", "yes", "On"])
def test_a_switch_may_be_text(value: Any) -> None:
    result = _drift.drift([host("ex1", {"organization_enabled": value})], ORGANIZATION)
    assert kinds(result) == [(None, "MitigationsEnabled", "differs")]


@pytest.mark.parametrize("value", [None, "", "perhaps"])
def test_a_switch_that_is_not_set_is_not_compared(value: Any) -> None:
    assert _drift.drift([host("ex1", {"organization_enabled": value, "server_enabled": value})], ORGANIZATION) == {"items": [], "unknown": [], "count": 0}


def test_wishes_that_contradict_each_other_are_told() -> None:
    result = _drift.drift([host("ex1", {"organization_enabled": True}), host("ex2", {"organization_enabled": False})], ORGANIZATION)
    assert kinds(result) == [(None, "MitigationsEnabled", "ambiguous")]


def test_what_cannot_be_read_is_unknown_and_no_difference() -> None:
    hosts = [host("ex2", {"server_enabled": True, "organization_enabled": True}), host("ex9", {"blocked": {"add": ["M1"]}})]
    result = _drift.drift(hosts, {"servers": ORGANIZATION["servers"]})
    assert result["items"] == []
    found = [(item["server"], item["setting"]) for item in result["unknown"]]
    assert found == [(None, "MitigationsEnabled"), ("EX2", "MitigationsEnabled"), ("EX9", "MitigationsBlocked")]


def test_the_switches_of_a_server_that_is_down_are_still_compared() -> None:
    down = {"host": "ex1", "server": None, "unreachable": True, "desired": {"server_enabled": False, "blocked": {"set": []}, "mitigations": ["all"]}}
    result = _drift.drift([down], ORGANIZATION)
    assert kinds(result) == [("EX1", "MitigationsEnabled", "differs"), ("EX1", "MitigationsBlocked", "differs")]
    assert [item["text"] for item in result["unknown"]] == ["Nothing is known of this server: unreachable."]


@pytest.mark.parametrize(
    ("state", "needed", "blocked", "kind"),
    [
        ("absent", "yes", False, "missing"),
        ("absent", "yes", True, None),
        ("absent", "no", False, None),
        ("applied", "yes", False, None),
        ("applied", "no", False, "leftover"),
        ("applied", "unknown", False, None),
        ("disabled", "yes", False, "disabled"),
        ("disabled", "no", False, None),
        ("conflicting", "yes", False, "conflicting"),
    ],
)
def test_mitigations_differ_by_state_and_need(state: str, needed: str, blocked: bool, kind: str | None) -> None:
    result = _drift.drift([host("ex1", {"mitigations": ["all"]}, {"id": "M1", "state": state, "needed": needed, "blocked": blocked})], ORGANIZATION)
    assert kinds(result) == ([("EX1", "M1", kind)] if kind else [])
    assert result["unknown"] == []


@pytest.mark.parametrize(("state", "needed"), [("unknown", "yes"), ("absent", "unknown"), ("unknown", "unknown")])
def test_an_unknown_mitigation_is_unknown(state: str, needed: str) -> None:
    result = _drift.drift([host("ex1", {"mitigations": ["all"]}, {"id": "M1", "state": state, "needed": needed, "reason": "file locked"})], ORGANIZATION)
    assert result["items"] == []
    assert "file locked" in result["unknown"][0]["text"]


def test_only_wanted_mitigations_are_compared() -> None:
    verdicts = [{"id": name, "state": "absent", "needed": "yes"} for name in ("M1", "M2", "M10")]
    assert kinds(_drift.drift([host("ex1", {"mitigations": ["M2.1"]}, *verdicts)], ORGANIZATION)) == [("EX1", "M2", "missing")]
    assert _drift.drift([host("ex1", {"mitigations": []}, *verdicts)], ORGANIZATION)["count"] == 0


def test_ids_to_block_include_what_em_calls_them_on_this_server() -> None:
    assert _drift.block_ids(["M1", "M2"], ORGANIZATION, "ex1") == ["M1", "M2", "M2.1.0"]
    assert _drift.block_ids(["M1"], ORGANIZATION, "ex1") == ["M1"]
    assert _drift.block_ids(["M2"], {}, "ex1") == ["M2"]


@pytest.mark.parametrize(
    ("state", "wishes", "told"),
    [("unknown", ["M1"], 1), ("applied", ["M1"], 1), ("applied", [], 1), ("absent", ["M1"], 0), ("unknown", ["all"], 1), ("applied", ["LOCAL-1"], 0)],
)
def test_a_local_mitigation_on_a_server_is_always_told(state: str, wishes: list[str], told: int) -> None:
    verdict = {"id": "LOCAL-1", "state": state, "needed": "unknown" if state == "unknown" else "yes", "reason": "no definition"}
    result = _drift.drift([host("ex1", {"mitigations": wishes}, verdict)], ORGANIZATION)
    assert ([item["setting"] for item in result["unknown"]], result["items"]) == (["LOCAL-1"] * told, [])
