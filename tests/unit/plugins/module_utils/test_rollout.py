# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches, windows and the gate between batches."""

from __future__ import annotations

import datetime
from collections import Counter
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput
from ansible_collections.exchange.mitigation.plugins.module_utils._rollout import (
    Limits,
    Server,
    batches,
    gate,
    limits_of,
    plan,
    servers_of,
    sizes_of,
    unhealthy,
)
from ansible_collections.exchange.mitigation.plugins.module_utils._windows import closed
from hypothesis import given, settings
from hypothesis import strategies as st

UTC = datetime.timezone.utc
NOW = datetime.datetime(2026, 11, 24, 12, 0, tzinfo=UTC)  # a Tuesday

fleets = st.lists(st.tuples(st.sampled_from([None, "DAG1", "dag1", "DAG2", "DAG3"]), st.booleans()), max_size=60).map(
    lambda rows: [Server(f"EX{index}", dag, canary) for index, (dag, canary) in enumerate(rows)]
)
serials = st.one_of(
    st.none(),
    st.integers(1, 50),
    st.lists(st.one_of(st.integers(1, 30), st.integers(1, 100).map(lambda number: f"{number}%")), min_size=1, max_size=5),
)


@settings(max_examples=300, deadline=None)
@given(fleets, serials)
def test_every_server_once_no_two_of_one_dag_canary_first_none_too_large(servers: list[Server], serial: Any) -> None:
    made = batches(servers, serial)
    assert Counter(server.host for batch in made for server in batch) == Counter(server.host for server in servers)
    for batch in made:
        assert batch, "an empty batch"
        dags = [server.dag.casefold() for server in batch if server.dag]
        assert len(dags) == len(set(dags))
    sizes = sizes_of(serial, len(servers))
    assert all(len(batch) <= (sizes[index] if index < len(sizes) else sizes[-1]) for index, batch in enumerate(made))
    if servers:
        first = next((server for server in servers if server.canary), servers[0])
        assert first in made[0]
        assert len(made[0]) <= sizes[0]


@settings(max_examples=100, deadline=None)
@given(fleets)
def test_all_at_once_needs_no_more_batches_than_the_largest_dag_has_members(servers: list[Server]) -> None:
    largest = max(Counter(server.dag.casefold() for server in servers if server.dag).values(), default=min(1, len(servers)))
    assert len(batches(servers, "100%")) == largest


@pytest.mark.parametrize(
    ("serial", "total", "sizes"),
    [
        (None, 40, [1, 2, 4, 8, 8, 8, 8, 8]),
        ([1, "25%", "100%"], 8, [1, 2, 8]),
        (2, 5, [2, 2, 2]),
        ("1", 2, [1, 1]),
        ("[1, 2]", 4, [1, 2, 2]),
        ("1,50%", 4, [1, 2, 2]),
        ("100%", 3, [3]),
        ("1%", 3, [1, 1, 1]),
        ([1], 0, [1]),
    ],
)
def test_serial_as_ansible_reads_it(serial: Any, total: int, sizes: list[int]) -> None:
    made = sizes_of(serial, total)
    assert made[: len(sizes)] == sizes and sum(made) >= total


@pytest.mark.parametrize("serial", [0, "0%", "x", [1, "-2"], [True], {}, ["1.5"], ","])
def test_serial_that_cannot_be_meant(serial: Any) -> None:
    with pytest.raises(InvalidInput):
        sizes_of(serial, 3)


def test_exchange_says_who_belongs_together_and_else_the_variable() -> None:
    organization = {"servers": [{"name": "EX1", "fqdn": "ex1.example.com", "dag": "DAG1"}, {"name": "EX2", "fqdn": "ex2.example.com", "dag": None}]}
    rows = [{"exchange_mitigation_dag": "other"}, {"exchange_mitigation_dag": "DAG9"}, {"ansible_host": "ex1.example.com"}, {}]
    found = servers_of(["ex1.example.com", "ex2", "alias", "stranger"], organization, rows, NOW)
    assert [server.dag for server in found] == ["DAG1", "DAG9", "DAG1", None]


@pytest.mark.parametrize("value", [True, "yes", "EX2", ["EX2", "EX9"]])
def test_canaries_by_name_or_by_host_variable(value: Any) -> None:
    rows: list[dict[str, Any]] = [{}, {"exchange_mitigation_canary": value}]
    assert [server.canary for server in servers_of(["EX1", "EX2"], {}, rows, NOW)] == [False, True]
    assert plan(servers_of(["EX1", "EX2"], {}, rows, NOW))["order"] == ["EX2", "EX1"]


def test_a_closed_window_leaves_a_server_out_and_check_mode_shows_it() -> None:
    servers = [Server("EX1", closed="it is late"), Server("EX2")]
    made = plan(servers)
    assert (made["order"], made["left_out"]) == (["EX2"], {"EX1": "it is late"})
    assert "EX1: left alone, it is late." in made["says"]
    checked = plan(servers, check=True)
    assert checked["order"] == ["EX1", "EX2"] and any("a real run would leave it alone" in line for line in checked["says"])
    nothing = plan([Server("EX1", closed="it is late")])
    assert nothing["says"][-1] == "Nothing is done: it is late."


def test_unknown_membership_is_said() -> None:
    assert "set exchange_mitigation_dag" in plan([Server("EX1"), Server("EX2")], membership_known=False)["says"][-1]
    assert "set exchange_mitigation_dag" not in " ".join(plan([Server("EX1", "D"), Server("EX2")], membership_known=False)["says"])


MADE = {"order": ["A", "B", "C", "D"], "batches": [["A"], ["B"], ["C", "D"]]}
DONE = {"state": "done"}


@pytest.mark.parametrize(
    ("states", "host", "limits", "go", "words"),
    [
        ({}, "A", Limits(), True, ""),
        ({"A": DONE}, "B", Limits(), True, ""),
        ({"A": {"state": "failed", "reason": "health_failed"}}, "B", Limits(), False, "A failed (health_failed). Not touched: B, C, D."),
        ({"A": {"state": "unreachable", "reason": "tcp"}}, "B", Limits(), False, "A unreachable (tcp)"),
        ({}, "B", Limits(), False, "A dropped out of the run"),
        ({"A": {"state": "refused", "reason": "url_rewrite_missing"}}, "B", Limits(), True, ""),
        ({"A": {"state": "refused", "reason": "url_rewrite_missing"}}, "B", Limits(halt_on_refused=True), False, "url_rewrite_missing"),
        ({"A": {"state": "left_out"}}, "B", Limits(), True, ""),
        ({"A": {"state": "failed"}}, "B", Limits(max_fail_percentage=25), True, ""),
        ({"A": {"state": "failed"}, "B": {"state": "failed"}}, "C", Limits(max_fail_percentage=25), False, "B failed"),
        ({"A": {"state": "failed"}, "B": {"state": "failed"}}, "C", Limits(max_fail_percentage=100), True, ""),
        ({"A": DONE}, "B", Limits(stop_after=1), False, "exchange_mitigation_stop_after"),
        ({"A": DONE, "B": DONE}, "C", Limits(stop_after=2), False, "Not touched: C, D"),
        ({"A": DONE}, "B", Limits(approval="variable"), False, "exchange_mitigation_approved=true"),
        ({"A": DONE}, "B", Limits(approval="variable", approved=True), True, ""),
        ({"A": DONE, "B": DONE}, "C", Limits(approval="pause"), True, ""),
    ],
)
def test_gate(states: dict[str, Any], host: str, limits: Limits, go: bool, words: str) -> None:
    judged = gate(MADE, states, host, {}, limits)
    assert judged["go"] is go and words in judged["says"]
    assert gate(MADE, states, host, {}, limits, check=True)["go"] is True


def test_gate_asks_once_after_the_first_batch() -> None:
    limits = Limits(approval="pause")
    assert [gate(MADE, {"A": DONE, "B": DONE}, host, {}, limits)["ask"] for host in "ABC"] == [False, True, False]


def test_only_done_and_left_out_are_healthy() -> None:
    assert [unhealthy({"state": state}) for state in ("done", "left_out", "refused", "failed", "unreachable", "", "anything")] == [False] * 3 + [True] * 4


def test_limits_from_variables() -> None:
    given_as_text = {"max_fail_percentage": "10", "stop_after": "2", "approval": "Variable", "approved": "yes", "halt_on_refused": "false"}
    assert limits_of(given_as_text) == Limits(10, False, 2, "variable", True)
    assert limits_of({"approval": "none"}) == limits_of({}) == Limits()
    for wrong in ({"approval": "maybe"}, {"stop_after": "x"}, {"max_fail_percentage": []} | {"max_fail_percentage": "x"}):
        with pytest.raises(InvalidInput):
            limits_of(wrong)


@pytest.mark.parametrize(
    ("window", "moment", "is_open"),
    [
        (None, "2026-11-24T12:00", True),
        (True, "2026-11-24T12:00", True),
        (False, "2026-11-24T12:00", False),
        ("closed", "2026-11-24T12:00", False),
        ("yes", "2026-11-24T12:00", True),
        ({"from": "12:00", "to": "13:00"}, "2026-11-24T12:00", True),
        ({"from": "11:00", "to": "12:00"}, "2026-11-24T12:00", False),
        ({"from": 720, "to": 780}, "2026-11-24T12:59", True),
        ({"from": "22:00", "to": "04:00"}, "2026-11-24T23:00", True),
        ({"from": "22:00", "to": "04:00"}, "2026-11-24T03:59", True),
        ({"from": "22:00", "to": "04:00"}, "2026-11-24T04:00", False),
        ({"from": "22:00", "to": "04:00", "days": ["mon"]}, "2026-11-24T03:00", True),
        ({"from": "22:00", "to": "04:00", "days": ["tue"]}, "2026-11-24T03:00", False),
        ({"days": ["Tuesday"]}, "2026-11-24T12:00", True),
        ({"days": "sat, sun"}, "2026-11-24T12:00", False),
        ({"from": "13:00", "to": "14:00", "timezone": "Europe/Berlin"}, "2026-11-24T12:30", True),
        ({"from": "13:00", "to": "14:00", "timezone": "Europe/Berlin"}, "2026-07-24T12:30", False),
        ([{"days": ["sat"]}, {"from": "12:00", "to": "13:00"}], "2026-11-24T12:00", True),
        ([{"days": ["sat"]}, False], "2026-11-24T12:00", False),
    ],
)
def test_windows(window: Any, moment: str, is_open: bool) -> None:
    if isinstance(window, dict) and "timezone" not in window:
        window = {**window, "timezone": "UTC"}
    if isinstance(window, list):
        window = [{**one, "timezone": "UTC"} if isinstance(one, dict) else one for one in window]
    why = closed(window, datetime.datetime.fromisoformat(moment).replace(tzinfo=UTC))
    assert (why == "") is is_open
    assert is_open or "window" in why


def test_a_closed_window_says_when_it_is_open() -> None:
    why = closed({"from": "22:00", "to": "04:00", "days": ["sat", "sun"], "timezone": "Europe/Berlin"}, NOW)
    assert why == "it is outside the maintenance window (sat, sun 22:00 to 04:00 Europe/Berlin)"


@pytest.mark.parametrize(
    "window", [{"at": "1"}, {"from": "25:00"}, {"from": "noon"}, {"days": ["someday"]}, {"timezone": "Mars/Base"}, 7, "often", {"from": True}]
)
def test_windows_that_cannot_be_meant(window: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        closed(window, NOW)
    assert caught.value.reason == "invalid_window"
