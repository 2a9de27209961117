# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""metrics.prom keeps to the Prometheus text format as ``promtool check metrics`` reads it, and says what the issue asks of it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _drift, _report, _report_metrics
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils import report_fleet
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.report_samples import FEED, fleet, large, organization

_SAMPLE = re.compile(r'^(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>.*)\})? (?P<value>[-+]?[0-9.]+(?:e[-+]?[0-9]+)?|NaN|[-+]Inf)$')
_LABEL = re.compile(r'(?P<name>[a-zA-Z_][a-zA-Z0-9_]*)="(?P<value>(?:[^"\\\n]|\\[\\n"])*)"(?:,|$)')


def lint(text: str) -> list[str]:
    """Return what the parser or the linter of Prometheus would say of a text: format first, then its naming rules."""
    problems: list[str] = []
    if text and not text.endswith("\n"):
        problems.append("no line end at the end")
    helped: dict[str, str] = {}
    typed: dict[str, str] = {}
    seen: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
    order: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("# HELP "):
            name, dummy, words = line[7:].partition(" ")
            problems += [f"{number}: second HELP"] if name in helped else []
            problems += [f"{number}: empty HELP"] if not words else []
            helped[name] = words
            continue
        if line.startswith("# TYPE "):
            name, dummy, kind = line[7:].partition(" ")
            problems += [f"{number}: second TYPE"] if name in typed else []
            problems += [f"{number}: {kind} is no type"] if kind not in ("counter", "gauge", "histogram", "summary", "untyped") else []
            problems += [f"{number}: a gauge must not end in _total or _count"] if re.search(r"_(total|count|bucket|sum|info)$", name) else []
            typed[name] = kind
            continue
        found = _SAMPLE.match(line)
        if found is None:
            problems.append(f"{number}: no sample: {line[:80]}")
            continue
        name = found["name"]
        problems += [f"{number}: {name} has no HELP or TYPE before it"] if name not in helped or name not in typed else []
        if not order or order[-1] != name:
            problems += [f"{number}: samples of {name} stand apart"] if name in order else []
            order.append(name)
        labels, at = [], 0
        while found["labels"] and at < len(found["labels"]):
            label = _LABEL.match(found["labels"], at)
            if label is None:
                problems.append(f"{number}: bad labels {found['labels'][at:at + 40]}")
                break
            labels.append((label["name"], label["value"]))
            at = label.end()
        problems += [f"{number}: a label twice"] if len({key for key, dummy in labels}) != len(labels) else []
        key = (name, tuple(sorted(labels)))
        problems += [f"{number}: the same sample twice"] if key in seen else []
        seen.add(key)
    return problems


def metrics(results: list[dict[str, Any]], **more: Any) -> str:
    known = organization(results)
    return _report_metrics.to_metrics(_report.build(results, known, FEED, _drift.drift(results, known), report_fleet.NOW, **more))


@pytest.mark.parametrize("results", [[], fleet(), large(60, 4), report_fleet.results(200)], ids=["none", "six", "sixty", "two-hundred"])
def test_prometheus_takes_it(results: list[dict[str, Any]]) -> None:
    assert lint(metrics(results)) == []


@pytest.mark.parametrize(
    "text",
    [
        "a 1",
        "a 1\n",
        "# HELP a x\n# TYPE a gauge\na{b=1} 1\n",
        "# HELP a x\n# TYPE a gauge\na 1\na 1\n",
        '# HELP a x\n# TYPE a gauge\na{b="\\q"} 1\n',
        "# HELP a x\n# TYPE a gauge\na one\n",
        "# HELP a_total x\n# TYPE a_total gauge\na_total 1\n",
        '# HELP a x\n# TYPE a gauge\na{b="1",b="2"} 1\n',
        "# HELP a x\n# TYPE a gauge\n# HELP b x\n# TYPE b gauge\na 1\nb 1\na 2\n",
    ],
)
def test_the_check_finds_what_is_wrong(text: str) -> None:
    assert lint(text) != []


def test_what_the_alerts_need_is_there() -> None:
    results = fleet()
    results[0]["events"] = [
        {"time": "2026-06-12T05:00:00Z", "id": 1005, "meaning": "success"},
        {"time": "2026-06-12T05:30:00Z", "id": 1008, "meaning": "error"},
    ]
    text = metrics(results)
    assert 'exchange_mitigation_em_service_running{server="EX1",host="ex1"} 1' in text
    assert 'exchange_mitigation_em_last_success_timestamp_seconds{server="EX1",host="ex1"} 1781240400' in text
    assert 'exchange_mitigation_em_last_success_timestamp_seconds{server="EX2",host="ex2"} 1781093317' in text
    assert 'exchange_mitigation_em_last_success_timestamp_seconds{server="EX6"' not in text
    assert "\nexchange_mitigation_drift 3\n" in text
    assert "\nexchange_mitigation_drift_new 0\n" in text
    assert 'exchange_mitigation_verdict{server="EX1",host="ex1",mitigation="M1",state="absent",needed="yes",blocked="no"} 1' in text


@pytest.mark.parametrize(
    ("said", "sample"),
    [
        ("2026-06-12T05:00:00", "1781240400"),
        ("2026-06-12T05:00:00Z", "1781240400"),
        ("2026-06-12T07:00:00+02:00", "1781240400"),
        ("last week", None),
        (None, None),
    ],
)
def test_times_of_servers(said: str | None, sample: str | None) -> None:
    """A time without a zone is UTC, not the controller's own zone; what is no time has no sample rather than a wrong one."""
    results = fleet()
    results[0]["server"]["em"]["applied_time"] = said
    found = re.search(r'exchange_mitigation_em_applied_timestamp_seconds\{server="EX1",host="ex1"\} (\S+)', metrics(results))
    assert (found and found[1]) == sample
