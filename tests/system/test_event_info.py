# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module event_info against the lab: events and log lines since a time or a bookmark, bounded, newest first."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput, Refused
from ansible_collections.exchange.mitigation.plugins.modules import event_info
from installer_lab import Kept
from lab_task import run
from session_live import NAMES, WAYS

PROVIDER = "MSExchange Mitigation Service"
NOW = datetime.datetime.now(datetime.timezone.utc)


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    from lab.fleet import Fleet

    with Fleet(2) as fleet:
        yield fleet


@pytest.fixture
def fleet(running: Any) -> Iterator[Any]:
    running.access_log.clear()
    kept = [Kept(machine) for machine in running.machines]
    yield running
    for one in kept:
        one.restore()
    assert running.access_log.writes() == []
    assert running.scripts_received == 0
    assert running.refusals == []
    assert running._server.open_shells() == []


def add(machine: Any, number: int, hours: float, text: str = "text", level: str = "Information", provider: str = PROVIDER) -> None:
    machine.events.add(provider, number, text, level, time=NOW - datetime.timedelta(hours=hours))


def log(machine: Any, hours: float, text: str, **pairs: str) -> str:
    from lab import em_log

    return em_log.write(machine, "FetchMitigation", "Warning", text, NOW - datetime.timedelta(hours=hours), **pairs)


def ids(result: dict[str, Any]) -> list[int]:
    return [event["id"] for event in result["events"]]


@pytest.mark.parametrize(("kind", "secure"), WAYS, ids=NAMES)
def test_events_and_lines_newest_first(fleet: Any, kind: str, secure: bool) -> None:
    machine = fleet.machine("EX1")
    for number, hours, level in ((1005, 30, "Information"), (1006, 3, "Information"), (1008, 2, "Error"), (1000, 1, "Information")):
        add(machine, number, hours, f"text {number}", level)
    add(machine, 1008, 1.5, "of another provider", "Error", "MSExchange Common")
    log(machine, 2, "Fetching mitigations from https://officeclient.microsoft.com")
    log(machine, 1, "Exception encountered; and more", Source="MitigationEngine")
    found = run(event_info, fleet, machine, {}, kind=kind, secure=secure)
    assert found["changed"] is False
    assert found["server"] == "EX1"
    assert [(event["id"], event["meaning"], event["level"], event["message"]) for event in found["events"]] == [
        (1000, "other", "information", "text 1000"), (1008, "error", "error", "text 1008"), (1006, "success", "information", "text 1006"),
    ]  # fmt: skip
    assert [line["message"] for line in found["log"]["lines"]] == [
        "Exception encountered; and more", "Fetching mitigations from https://officeclient.microsoft.com",
    ]  # fmt: skip
    newest = found["log"]["lines"][0]
    assert (newest["event"], newest["level"], newest["data"]) == ("FetchMitigation", "Warning", {"Source": "MitigationEngine"})
    assert found["truncated"] is found["log"]["truncated"] is found["event_log_cleared"] is False


def test_what_em_itself_writes(fleet: Any) -> None:
    fleet.em_cycle("skips")
    one, two = (run(event_info, fleet, fleet.machine(name), {}) for name in ("EX1", "EX2"))
    assert {event["id"] for event in one["events"]} == {1005}
    assert {event["meaning"] for event in two["events"]} == {"error"}
    assert two["log"]["lines"][0]["message"].startswith("An unexpected exception occurred. Diagnostic information: Exception encountered while fetching")


@pytest.mark.parametrize(("since", "expected"), [("90m", [1]), ("150m", [2, 1][::-1]), ("1w", [3, 2, 1][::-1]), ("1s", [])])
def test_since(fleet: Any, since: str, expected: list[int]) -> None:
    machine = fleet.machine("EX1")
    for hours in (3, 2, 1):
        add(machine, hours, hours)
    assert ids(run(event_info, fleet, machine, {"since": since})) == expected
    moment = (NOW - datetime.timedelta(hours=2.5)).astimezone(datetime.timezone(datetime.timedelta(hours=5))).isoformat()
    assert ids(run(event_info, fleet, machine, {"since": moment})) == [1, 2]


def test_it_is_bounded(fleet: Any) -> None:
    machine = fleet.machine("EX1")
    for number in range(12):
        add(machine, number, 2 - number / 100)
        log(machine, 2 - number / 100, f"line {number}")
    found = run(event_info, fleet, machine, {"limit": 10, "log_limit": 5})
    assert ids(found) == list(range(11, 1, -1))
    assert [line["message"] for line in found["log"]["lines"]] == [f"line {number}" for number in range(11, 6, -1)]
    assert (found["truncated"], found["log"]["truncated"]) == (True, True)
    assert run(event_info, fleet, machine, {"limit": 12, "log_limit": 50})["truncated"] is False


def test_ids_alone(fleet: Any) -> None:
    machine = fleet.machine("EX1")
    for number in (1005, 1006, 1008):
        add(machine, number, 1)
    assert ids(run(event_info, fleet, machine, {"ids": [1005, 1008], "logs": False})) == [1008, 1005]
    assert ids(run(event_info, fleet, machine, {"ids": [1006]})) == [1006]


def test_a_bookmark_returns_only_what_is_new(fleet: Any) -> None:
    machine = fleet.machine("EX1")
    add(machine, 1, 48)
    add(machine, 2, 1)
    log(machine, 1, "old")
    first = run(event_info, fleet, machine, {})
    assert (ids(first), [line["message"] for line in first["log"]["lines"]]) == ([2], ["old"])
    same = run(event_info, fleet, machine, {"bookmark": first["bookmark"]})
    assert (ids(same), same["log"]["lines"], same["bookmark"]) == ([], [], first["bookmark"])
    add(machine, 3, 0.5)
    log(machine, 0.5, "new")
    second = run(event_info, fleet, machine, {"bookmark": first["bookmark"]})
    assert (ids(second), [line["message"] for line in second["log"]["lines"]]) == ([3], ["new"])


def test_a_cleared_event_log_is_noticed(fleet: Any) -> None:
    machine = fleet.machine("EX1")
    for number in range(5):
        add(machine, number, 3)
    first = run(event_info, fleet, machine, {})
    machine.events.rows()
    machine.sidecar.rows("events").clear()
    add(machine, 9, 1)
    second = run(event_info, fleet, machine, {"bookmark": first["bookmark"]})
    assert (ids(second), second["event_log_cleared"]) == ([9], True)
    assert "was cleared" in second["warnings"][0]


def test_no_events_no_folder_no_files(fleet: Any) -> None:
    machine = fleet.machine("EX1")
    empty = run(event_info, fleet, machine, {})
    assert (empty["events"], empty["log"]["exists"], empty["log"]["lines"]) == ([], True, [])
    machine.files.delete(empty["log"]["folder"], recurse=True)
    none = run(event_info, fleet, machine, {})
    assert (none["log"]["exists"], none["log"]["lines"]) == (False, [])


def test_rotation(fleet: Any) -> None:
    machine = fleet.machine("EX1")
    paths = [log(machine, hours, f"day {hours // 24}") for hours in (50, 26, 1)]
    found = run(event_info, fleet, machine, {"since": "7d"})
    assert [line["message"] for line in found["log"]["lines"]] == ["day 0", "day 1", "day 2"]
    assert len(found["log"]["files"]) == len(set(paths))

    def rotate(number: int, kind: str) -> None:
        if number == 2 and machine.files.is_file(paths[0]):  # between the listing and the reading
            machine.files.delete(paths[0])

    found = run(event_info, fleet, machine, {"since": "7d"}, after=rotate)
    assert [line["message"] for line in found["log"]["lines"]] == ["day 0", "day 1"]


def test_texts_stay_in_the_language_of_the_server(fleet: Any) -> None:
    from lab.variants import windows

    machine = fleet.machine("EX1")
    windows(machine, "2019", "de")
    add(machine, 1008, 1, "Unerwartete Ausnahme. Größe: {{ 7 * 7 }}", "Error")
    event = run(event_info, fleet, machine, {})["events"][0]
    assert (event["id"], event["level"], event["message"]) == (1008, "error", "Unerwartete Ausnahme. Größe: {{ 7 * 7 }}")


def test_three_pipelines_at_most(fleet: Any) -> None:
    machine = fleet.machine("EX1")
    log(machine, 1, "x")
    run(event_info, fleet, machine, {})
    assert len(fleet.access_log.select(action="Command")) == 3
    fleet.access_log.clear()
    run(event_info, fleet, machine, {"logs": False})
    assert len(fleet.access_log.select(action="Command")) == 1


@pytest.mark.parametrize(
    "options",
    [{"since": "yesterday"}, {"since": "2026-11-01T08:00:00"}, {"since": "2999-01-01T00:00:00Z"}, {"limit": 0}, {"log_limit": 5001}, {"ids": [70000]},
     {"bookmark": {"time": "now"}}, {"since": "999999w"}],
)  # fmt: skip
def test_what_cannot_be_meant(fleet: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        run(event_info, fleet, fleet.machine("EX1"), options)


def test_a_machine_without_exchange_is_refused(fleet: Any) -> None:
    from lab.variants import without_exchange

    without_exchange(fleet.machine("EX1"))
    with pytest.raises(Refused) as caught:
        run(event_info, fleet, fleet.machine("EX1"), {})
    assert caught.value.reason == "no_exchange"
