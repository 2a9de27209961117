# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compared with the run before: what is new, what is resolved, and what a run that saw less must not call resolved."""

from __future__ import annotations

import copy
import json
import pathlib
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _drift, _report, _report_compare, _report_html, _report_timeline
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.report_samples import FEED, fleet, organization, result, unreachable, verdict

BEFORE, NOW = "2026-06-11T06:00:00Z", "2026-06-12T06:00:00Z"


def made(results: list[dict[str, Any]], when: str = NOW, previous: Any = None, feed: Any = "the usual", known: Any = None, **more: Any) -> dict[str, Any]:
    """Return a report; the organisation is what the results say unless given."""
    known = organization(results) if known is None else known
    return _report.build(results, known, FEED if feed == "the usual" else feed, _drift.drift(results, known), when, previous=previous, **more)


def one(state: str, needed: str = "yes", host: str = "ex1") -> dict[str, Any]:
    return result(host, "ExchangeSE", "15.2.2562.43", verdict("M2", state, needed, code_fix="15.2.2562.51"))


def keys(items: list[dict[str, Any]]) -> set[tuple[Any, Any]]:
    return {(item["host"], item["setting"]) for item in items}


def test_without_a_run_before_nothing_is_new() -> None:
    changes = made(fleet())["changes"]
    assert changes["since"] is None
    assert not any(changes[key] for key in changes if key != "since")


@pytest.mark.parametrize("previous", [None, {}, [], "text", {"generated_at": ""}, {"schema": 1}])
def test_what_is_no_report_counts_as_none(previous: Any) -> None:
    assert made(fleet(), previous=previous)["changes"]["since"] is None


@pytest.mark.parametrize("previous", [{"generated_at": BEFORE}, {"generated_at": BEFORE, "drift": 3, "servers": "x", "feed": [1]}])
def test_a_damaged_report_breaks_nothing(previous: Any) -> None:
    assert made(fleet(), previous=previous)["changes"]["since"] == BEFORE


def test_the_same_fleet_again_has_nothing_new() -> None:
    changes = made(fleet(), previous=json.loads(_report.to_json(made(fleet(), BEFORE))))["changes"]
    assert changes == {
        "since": BEFORE, "new": [], "fixed": [], "appeared": [], "withdrawn": [], "verdicts": [], "joined": [], "absent": [],
    }


def test_new_and_resolved() -> None:
    before = made([one("applied"), one("absent", host="ex2")], BEFORE)
    changes = made([one("absent"), one("applied", host="ex2")], previous=before)["changes"]
    assert keys(changes["new"]) == {("ex1", "M2")}
    assert keys(changes["fixed"]) == {("ex2", "M2")}
    assert {(row["server"], row["before"], row["after"]) for row in changes["verdicts"]} == {("EX1", "applied", "missing"), ("EX2", "missing", "applied")}


def test_another_value_of_the_same_setting_is_not_another_difference() -> None:
    def blocked(ids: list[str]) -> dict[str, Any]:
        row = one("applied")
        row["server"]["em"]["blocked"] = ids
        row["desired"]["blocked"] = {"set": []}
        return row

    changes = made([blocked(["M1"])], previous=made([blocked(["M2"])], BEFORE))["changes"]
    assert (changes["new"], changes["fixed"]) == ([], [])


@pytest.mark.parametrize("now", [[unreachable("ex1")], [one("unknown", "unknown")], []], ids=["unreachable", "unknown", "left-out"])
def test_what_was_not_seen_is_not_resolved(now: list[dict[str, Any]]) -> None:
    changes = made(now, previous=made([one("absent")], BEFORE), known=organization([one("absent")]))["changes"]
    assert changes["fixed"] == []


@pytest.mark.parametrize("before", [[unreachable("ex1")], [one("unknown", "unknown")]])
def test_what_was_unknown_before_is_not_new_by_being_known(before: list[dict[str, Any]]) -> None:
    previous = made(before, BEFORE, known={**organization([one("absent")])})
    changes = made([one("absent")], previous=previous)["changes"]
    # The unreachable server's mitigations were unknown as a whole, so its difference is seen for the first time.
    assert keys(changes["new"]) <= {("ex1", "M2")}
    if before[0]["server"]:
        assert changes["new"] == []


def test_a_server_that_joined_is_no_new_difference_and_is_named() -> None:
    changes = made([one("applied"), one("absent", host="ex9")], previous=made([one("applied"), one("applied", host="ex3")], BEFORE))["changes"]
    assert (changes["new"], changes["joined"], changes["absent"]) == ([], ["EX9"], ["EX3"])


def test_the_organisation_is_compared_too() -> None:
    rows = [one("applied")]
    off = made(rows, BEFORE, known=organization(rows, enabled=False))
    assert [item["setting"] for item in made(rows, previous=off)["changes"]["fixed"]] == ["MitigationsEnabled"]
    blind = {**organization(rows), "mitigations_enabled": None}
    assert made(rows, previous=off, known=blind)["changes"]["fixed"] == []


def test_what_appeared_in_the_feed_and_what_left_it() -> None:
    older = {**FEED, "mitigations": [*FEED["mitigations"][:2], {"id": "M0.9"}], "feed": {**FEED["feed"], "sha256": "0" * 64}}
    changes = made(fleet(), previous=made(fleet(), BEFORE, feed=older))["changes"]
    assert (changes["appeared"], changes["withdrawn"]) == (["M2.1.0"], ["M0.9"])
    assert made(fleet(), previous=made(fleet(), BEFORE, feed=None))["changes"]["appeared"] == []
    other = {**older, "feed": {**older["feed"], "domain": "local"}}
    assert made(fleet(), previous=made(fleet(), BEFORE, feed=other))["changes"]["appeared"] == []


def test_only_our_blocks_are_offered_and_only_where_they_are_not_needed() -> None:
    def row(host: str, lift: bool) -> dict[str, Any]:
        return result(host, "ExchangeSE", "1", verdict("M2", "absent", "no", blocked=True, blocked_ids=["M2", "M2.1.0"], block_can_be_lifted=lift))

    journal = {"ex1": {"blocked": ["m2"], "runs": []}, "ex2": {"blocked": ["M2"]}}
    report = made([row("ex1", True), row("ex2", False), row("ex3", True)], journal=journal)
    assert report["liftable"] == [{"host": "ex1", "server": "EX1", "ids": ["M2"]}]
    assert any("can be lifted" in step for step in report["servers"][0]["next"])
    assert any("our block can be lifted: EX1: M2" in line for line in report["lines"])


@pytest.mark.parametrize(
    ("wanted", "actual", "lines"),
    [
        (True, False, ["- off", "+ on"]),
        (["M1", "M3"], ["m1", "M2"], ["  m1", "- M2", "+ M3"]),
        ([], ["M2"], ["- M2"]),
        ("applied", "absent", ["- absent", "+ applied"]),
        (None, True, []),
    ],
)
def test_a_difference_has_its_exact_diff(wanted: Any, actual: Any, lines: list[str]) -> None:
    assert _drift._diff(wanted, actual) == lines


def test_the_diff_of_a_file_becomes_lines() -> None:
    row = {**one("absent"), "diff": [{"before_header": "web.config", "after_header": "web.config", "before": "a\nb\n", "after": "a\nc\nb\n"}]}
    plan = made([row])["servers"][0]["plan"]
    assert plan == [{"title": "web.config", "lines": ["@@ -1,2 +1,3 @@", " a", "+c", " b"]}]


def test_the_timeline_is_in_order_and_groups_by_the_hour() -> None:
    rows = [one("applied", host=f"ex{number}") for number in range(1, 8)]
    for number, row in enumerate(rows):
        row["server"]["em"]["applied_time"] = f"2026-06-12T01:0{number}:00+00:00"
        row["events"] = [{"time": "2026-06-12T02:00:00.123Z", "id": 1008, "meaning": "error", "message": "x"}]
    rows[0]["events"].append({"time": "2030-01-01T00:00:00Z", "id": 1005, "meaning": "success", "message": "a clock that is wrong"})
    report = made(rows, previous=made(rows, BEFORE), journal={"ex1": {"runs": ["20260610T081500Z-4be2a1", "free-name"]}})
    found = [(entry["lane"], entry["count"], len(entry["servers"])) for entry in report["timeline"]]
    assert found == [("feed", 1, 0), ("run", 1, 1), ("report", 1, 0), ("em", 7, 7), ("event", 7, 7), ("report", 1, 0)]
    assert report["timeline"] == sorted(report["timeline"], key=lambda entry: str(entry["time"]))


@pytest.mark.parametrize("value", ["", None, "soon", "2026-13-01", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", 5, [], {}])
def test_a_time_that_is_none_is_left_out(value: Any) -> None:
    assert _report_timeline.moment(value) is None
    row = one("applied")
    row["server"]["em"]["applied_time"] = value
    row["events"] = [{"time": value, "id": 1005, "meaning": "success"}]
    assert _report_html.to_html(made([row]))


def test_comparing_changes_neither_report() -> None:
    before = made(fleet(), BEFORE)
    kept = copy.deepcopy(before)
    made(fleet()[1:], previous=before)
    assert before == kept
    assert _report_compare.changes(made(fleet()), before)["since"] == BEFORE


def test_the_journal_is_read_from_its_folder(tmp_path: pathlib.Path) -> None:
    import datetime

    from ansible_collections.exchange.mitigation.plugins.filter.journal_facts import journal_facts
    from ansible_collections.exchange.mitigation.plugins.module_utils._journal import Journal

    moment = datetime.datetime(2026, 6, 12, tzinfo=datetime.timezone.utc)
    journal = Journal(str(tmp_path), "ex1", "20260612T000000Z-abcdef")
    journal.append(moment, "blocking", ids=["M2"], before=[])
    journal.append(moment, "blocked", ids=["M2"])
    (tmp_path / "20260612T000000Z-abcdef" / "ex3.jsonl").write_text("no journal\n", "utf-8")
    assert journal_facts(["ex1", "ex2", "ex3"], str(tmp_path)) == {"ex1": {"blocked": ["M2"], "runs": []}}
    assert journal_facts(["ex1"], str(tmp_path / "none")) == {}
