# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the wire at the messages of every module that talks to a server, and a table of what became of them.

``make test`` takes one message of each module for each kind; EXCHANGE_MITIGATION_SWEEP=full (``make sweep``) takes every message.
"""

from __future__ import annotations

import collections
import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
import wire_bench
from ansible_collections.exchange.mitigation.plugins.module_utils import _apply_states, _install, _reboot, _services
from session_live import WAYS

from lab import em_log

FULL = os.environ.get("EXCHANGE_MITIGATION_SWEEP") == "full"
#: kind -> the lab's fault and its options
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "connection-refused": ("refuse", {}),
    "reset": ("reset", {}),
    "dropped-before": ("drop-before", {}),
    "dropped-after": ("drop-after", {}),
    "stalled-before": ("stall-before", {}),
    "stalled-after": ("stall-after", {}),
    "task-timeout": ("stall-after", {}),
    "http-401": ("http-401", {}),
    "fault-2150858793": ("http-500", {"code": 2150858793}),
    "fault-2150858843": ("http-500", {"code": 2150858843}),
    "fault-2150858811": ("http-500", {"code": 2150858811}),
    "fault-2150859173": ("http-500", {"code": 2150859173}),
    "fault-2150859174": ("http-500", {"code": 2150859174}),
    "fault-87": ("http-500", {"code": 87}),
    "truncated": ("truncate", {}),
    "truncated-envelope": ("cut-envelope", {}),
    "corrupted": ("corrupt", {}),
    "wrong-relates-to": ("wrong-relates-to", {}),
    "fragment-order": ("fragment-order", {}),
    "reboot": ("reboot", {}),
}
#: Held from the first Create on, so there is one case per endpoint.
QUOTAS = {"shells-30": ("quota", "host"), "sessions-18": ("session-budget", "exchange")}
REASONS = {"shells-30": "shell_quota", "sessions-18": "throttled"}
#: Hours that the clock of the server is wrong.
SKEWS = (5.0, -5.0, 30 * 24.0)
#: The sample goes over one way of each connection plugin.
WAYS_TAKEN = WAYS if FULL else (WAYS[0], WAYS[3])
#: The sample runs every how many failed cases of a writing module again.
AGAIN = 1 if FULL else 3
MODULES = [subject.name for subject in wire_bench.SUBJECTS]
CASES = [(kind, name) for name in MODULES for kind in KINDS]


class Table:
    """Outcomes by kind and module."""

    def __init__(self) -> None:
        self.cells: dict[tuple[str, str], collections.Counter[str]] = collections.defaultdict(collections.Counter)
        self.started = time.monotonic()

    def note(self, kind: str, module: str, outcome: str) -> None:
        """Count one case."""
        self.cells[kind, module][outcome] += 1

    def show(self) -> str:
        """Return the table: one line per kind, one column per module, o ok, f failed, u unreachable, t the task's timeout."""
        kinds = list(dict.fromkeys(kind for kind, dummy in self.cells))
        modules = [name for name in MODULES if any(module == name for dummy, module in self.cells)]
        rows = [["fault", *modules]]
        for kind in kinds:
            rows.append([kind, *(" ".join(f"{count}{outcome[0]}" for outcome, count in sorted(self.cells[kind, name].items())) or "-" for name in modules)])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        total = sum(sum(cell.values()) for cell in self.cells.values())
        lines = ["  ".join(value.ljust(width) for value, width in zip(row, widths)).rstrip() for row in rows]
        return "\n".join([*lines, f"SWEEP wire: {total} cases in {time.monotonic() - self.started:.0f} s (o ok, f failed, u unreachable, t timeout)"])


@pytest.fixture(scope="module")
def fleet() -> Iterator[Any]:
    with wire_bench.fleet() as running:
        yield running
        assert running.scripts_received == 0, "a script was sent"
        assert running.refusals == [], "the lab was asked for something that it does not know"


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    made = Table()
    yield made
    print("\n" + made.show())


@pytest.fixture(scope="module")
def benches(fleet: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    made: dict[Any, wire_bench.WireBench] = {}

    def bench(name: str, way: tuple[str, bool]) -> wire_bench.WireBench:
        if (name, way) not in made:
            subject = next(subject for subject in wire_bench.SUBJECTS if subject.name == name)
            made[name, way] = wire_bench.WireBench(fleet, subject, way, tmp_path_factory.mktemp(name))
        made[name, way].restore()
        return made[name, way]

    return bench


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_reboot, "POLL", 0.1)
    monkeypatch.setattr(_reboot, "FIRST_POLL", 0.05)
    monkeypatch.setattr(_install, "BUSY_POLL", 0.05)
    monkeypatch.setattr(_install, "LOST", 1.0)
    monkeypatch.setattr(_install, "SETTLE", 0.3)
    monkeypatch.setattr(_services, "POLL", 0.05)
    for name, value in (("PATIENCE", 0.2), ("GRACE", 0.1), ("PAUSE", 0.05)):
        monkeypatch.setattr(_apply_states, name, value)


def chosen(total: int, number: int) -> list[int]:
    """Return the messages to hit: all, or one that differs from kind to kind and goes through the whole run."""
    return list(range(1, total + 1)) if FULL else [1 + (number * 7) % total]


@pytest.mark.parametrize(("kind", "name"), CASES, ids=[f"{name}-{kind}" for kind, name in CASES])
def test_a_fault_at_a_message(benches: Any, table: Table, monkeypatch: pytest.MonkeyPatch, kind: str, name: str) -> None:
    place = CASES.index((kind, name))
    bench = benches(name, WAYS_TAKEN[place % len(WAYS_TAKEN)])
    fault, options = KINDS[kind]
    with contextlib.ExitStack() as patches:
        if kind.startswith("stalled"):
            wire_bench.impatient(monkeypatch)
        if kind == "task-timeout":
            options = {"then": wire_bench.interrupting(patches)}
        happened = 0
        totals = list(bench.totals.items())
        for endpoint, total in totals if FULL else totals[place // 2 % len(totals) :][:1]:
            for number in chosen(total, place):
                bench.restore()
                armed = bench.fleet.faults.add(fault, bench.machine.name, at=number, endpoint=endpoint, **options)
                case = bench.run(f"{name}: {kind} at message {number} of {total} ({endpoint}, {'-'.join(map(str, bench.way))})", armed)
                happened += case.fired
                assert len(case.left) <= (2 if kind == "connection-refused" else 1 if case.hit == "Delete" else 0), f"{case.what}: left open: {case.left}"
                bench.judge(case)
                lawful(kind, case, bench)
                table.note(kind, name, case.outcome)
                if bench.subject.writes and (FULL or (case.outcome != "ok" and place % AGAIN == 0)):
                    bench.finish(case)
        assert happened > 0
    bench.restore()


def lawful(kind: str, case: wire_bench.Case, bench: wire_bench.WireBench) -> None:
    """What class a result has to be of."""
    if case.hit == "Delete" and kind != "task-timeout":  # a timeout while the session is closed ends the task all the same
        assert case.outcome == "ok", f"{case.what}: the work was done when the session was closed, yet it is {case.outcome}: {case.result}"
    elif kind == "task-timeout":
        assert case.outcome == "timeout", case.what
    elif not bench.subject.writes and case.outcome == "ok":
        assert comparable(case.result) == comparable(bench.clean), f"{case.what}: ok, but not what a run without a fault returns"
    elif not bench.subject.writes:
        assert case.outcome == "unreachable", f"{case.what}: {case.outcome} {case.result}"


def comparable(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result without what is another one in every run."""
    return {key: value for key, value in result.items() if key not in ("bookmark",)}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("kind", QUOTAS)
def test_no_session_is_to_be_had(benches: Any, table: Table, kind: str, name: str) -> None:
    fault, endpoint = QUOTAS[kind]
    bench = benches(name, WAYS[MODULES.index(name) % len(WAYS)])
    if endpoint not in bench.totals:
        pytest.skip(f"{name} opens no session at the {endpoint} endpoint")
    bench.fleet.faults.add(fault, bench.machine.name, endpoint=endpoint)
    case = bench.run(f"{name}: {kind}")
    bench.judge(case)
    table.note(kind, name, case.outcome)
    assert (case.outcome, case.result["reason"], case.left) == ("unreachable", REASONS[kind], []), case.result
    assert "close other sessions" in case.result["msg"]
    assert bench.look() == bench.before
    assert not [ran for ran in case.calls if ran.write]
    bench.restore()


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("hours", SKEWS)
def test_a_clock_that_is_wrong_by_hours(benches: Any, table: Table, hours: float, name: str) -> None:
    """The result is that of a server whose clock is right, but for the times that the server itself tells."""
    bench = benches(name, WAYS_TAKEN[0])
    skew = bench.fleet.faults.add("clock-skew", bench.machine.name, hours=hours)
    if name == "event_info":
        bench.machine.events.add("MSExchange Mitigation Service", 1008, "An error.")
        em_log.write(bench.machine, "FetchMitigation", "Warning", "told by the clock of the server")
    case = bench.run(f"{name}: clock {hours:+g} hours")
    bench.judge(case)
    table.note(f"clock {hours:+g} h", name, case.outcome)
    assert (case.outcome, case.left) == ("ok", []), case.result
    assert skew.seen > 0
    assert name == "event_info" or bench.look() == bench.after
    if name == "event_info":
        assert 1008 in [event["id"] for event in case.result["events"]]
        assert [line["message"] for line in case.result["log"]["lines"]][:1] == ["told by the clock of the server"]
    elif not bench.subject.writes:
        assert comparable(case.result) == comparable(bench.clean)
    bench.restore()
