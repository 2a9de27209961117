# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as a value: one row for every server, a closed vocabulary, unknown said aloud, nothing called safe."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _drift, _report, _report_csv, _report_html, _report_metrics
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.report_samples import (
    FEED,
    fleet,
    large,
    organization,
    result,
    unreachable,
    verdict,
)


def report(results: list[dict[str, Any]] | None = None, **options: Any) -> dict[str, Any]:
    """Return the report of the sample fleet."""
    results = fleet() if results is None else results
    known = organization(results)
    return _report.build(results, known, FEED, _drift.drift(results, known), "2026-06-12T06:00:04Z", "20260612T060000Z-1a2b3c", **options)


def by_name(made: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the servers by name."""
    return {server["name"]: server for server in made["servers"]}


def test_every_server_has_its_bucket() -> None:
    buckets = {name: server["bucket"] for name, server in by_name(report()).items()}
    assert buckets == {"EX1": "action", "EX2": "differs", "EX3": "blocked", "EX4": "cleanup", "EX5": "idle", "EX6": "unknown"}


def test_a_server_that_did_not_answer_is_unknown_in_every_column_and_keeps_what_the_directory_says() -> None:
    server = by_name(report())["EX6"]
    assert {(cell["state"], cell["needed"], cell["cell"]) for cell in server["mitigations"]} == {("unknown", "unknown", "unknown")}
    assert (server["build"], server["em"]["server_enabled"], server["contact"]) == ("15.2.2562.41", True, "unreachable")
    assert "connection refused" in server["reason"]


def test_a_host_without_any_result_is_in_the_report() -> None:
    made = report(hosts=["ex1", "ex2", "ex3", "ex4", "ex5", "ex6", "ex7"])
    assert by_name(made)["ex7"]["bucket"] == "unknown"
    assert made["summary"]["servers"] == 7


@pytest.mark.parametrize(("state", "needed"), list(itertools.product([*_report.STATES, "protected", "", None], [*_report.NEEDED, "maybe", None])))
def test_the_vocabulary_is_closed(state: Any, needed: Any) -> None:
    made = report([result("ex1", "ExchangeSE", "15.2.2562.43", verdict("M1", state, needed))])
    cell = made["servers"][0]["mitigations"][0]
    assert cell["state"] in _report.STATES
    assert cell["needed"] in _report.NEEDED
    assert cell["cell"] in _report.CELLS
    assert made["servers"][0]["bucket"] in _report.BUCKETS
    if state not in _report.STATES or (state == "absent" and needed not in ("yes", "no")):
        assert cell["cell"] == "unknown"


def test_the_columns_are_those_of_the_servers_and_of_the_feed_without_the_heartbeat() -> None:
    feed = {**FEED, "mitigations": [*FEED["mitigations"], {"id": "M3.1", "description": "new", "supported": False, "kind": None}]}
    made = _report.build(fleet(), organization(fleet()), feed)
    assert [column["id"] for column in made["mitigations"]] == ["M1", "M2", "M3.1"]
    assert by_name(made)["EX1"]["mitigations"][2]["state"] == "unsupported"
    assert by_name(made)["EX6"]["mitigations"][2]["state"] == "unknown"


def test_columns_are_in_the_order_people_expect() -> None:
    cells = [verdict(name, "applied", "yes") for name in ("M10", "M2.1", "M2", "LOCAL-1", "M1")]
    made = _report.build([result("ex1", "ExchangeSE", "15.2.2562.43", *cells)])
    assert [column["id"] for column in made["mitigations"]] == ["LOCAL-1", "M1", "M2", "M2.1", "M10"]


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ([], "No server in this run"),
        ([unreachable("ex1")], "1 of 1 server unknown"),
        (fleet(), "1 of 6 servers needs action, 1 unknown"),
        ([result("ex1", "ExchangeSE", "1", verdict("M1", "applied", "yes"), verdict("M2", "absent", "no"))], "1 server, nothing differs from what is wanted"),
        (
            [result("ex1", "ExchangeSE", "1", verdict("M1", "absent", "no"), verdict("M2", "absent", "yes", blocked=True))],
            "1 of 1 server without a needed mitigation, by decision",
        ),
    ],
)
def test_the_headline_says_what_is_worst(results: list[dict[str, Any]], words: str) -> None:
    assert report(results)["headline"] == words


def test_next_steps_name_what_to_do() -> None:
    servers = by_name(report())
    assert "mitigate on this server for M1" in servers["EX1"]["next"][0]
    assert any("/owa/Calendar" in step for step in servers["EX1"]["next"])
    assert any("15.2.1748.48" in step for step in servers["EX2"]["next"])
    assert any("no longer needs it" in step for step in servers["EX4"]["next"])
    assert servers["EX5"]["next"] == []
    assert "win_ping" in servers["EX6"]["next"][0]


@pytest.mark.parametrize("render", [_report.to_json, _report_csv.to_csv, _report_html.to_html, _report_metrics.to_metrics])
def test_nothing_is_ever_called_protected_or_safe(render: Any) -> None:
    text = re.sub(r"<style>.*?</style>", "", render(report()), flags=re.DOTALL)
    assert not re.search(r"\b(protected|safe|secure|vulnerable)\b", text, re.IGNORECASE)


def test_the_page_says_what_applied_means() -> None:
    assert "mitigation applied, fix not installed" in _report_html.to_html(report())


def test_json_is_the_report() -> None:
    made = report()
    assert json.loads(_report.to_json(made)) == json.loads(json.dumps(made))


@pytest.mark.parametrize(
    "results",
    [None, [], 5, [None], [{"host": 1}], [{"host": "a", "server": "text"}], [{"server": {"mitigations": "M1", "em": 4, "os": []}}]],
)
def test_results_of_any_shape_make_a_report(results: Any) -> None:
    made = _report.build(results if isinstance(results, list) else [], results, results, results)
    assert "<main" in _report_html.to_html(made)
    assert _report_csv.to_csv(made).startswith('"Server","ID","Type","Description","Status",')
    assert _report_metrics.to_metrics(made)


def test_five_hundred_servers_stay_small() -> None:
    made = report(large(500, 10))
    page = _report_html.to_html(made)
    assert made["summary"]["servers"] == 500
    assert len(page) < 6_000_000
    assert page.count('<details class="server"') == 500


@pytest.mark.parametrize(
    ("build", "needed", "cell"),
    [
        ("15.2.1748.47", "yes", "applied"),
        ("15.2.1748.48", "yes", "kept"),
        ("15.2.1748.100", "yes", "kept"),
        ("15.2.1748.48", "unknown", "applied"),
        ("15.2.1748.48", "no", "leftover"),
        (None, "yes", "applied"),
        ("15.2.x", "yes", "applied"),
    ],
)
def test_a_build_with_the_fix_is_not_said_to_lack_it(build: Any, needed: str, cell: str) -> None:
    made = report([result("ex1", "Exchange2019", build, verdict("M1", "absent", "no"), verdict("M2", "applied", needed))])
    assert made["servers"][0]["mitigations"][1]["cell"] == cell
