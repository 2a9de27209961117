# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The published schema: report.json keeps to it, and it is no schema that anything keeps to."""

from __future__ import annotations

import copy
import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _drift, _report, _report_timeline, _report_words
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils import report_fleet
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.report_samples import FEED, fleet, large, organization

jsonschema = pytest.importorskip("jsonschema")
FILE = pathlib.Path(__file__).resolve().parents[4] / "docs" / "schema" / "report.schema.json"


def faults(report: Any) -> list[str]:
    """Return what is wrong with a report, as it is written."""
    schema = json.loads(FILE.read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return [f"{error.json_path}: {error.message[:200]}" for error in jsonschema.Draft202012Validator(schema).iter_errors(report)]


def written(report: dict[str, Any]) -> Any:
    """Return a report as a reader of report.json gets it."""
    return json.loads(_report.to_json(report))


@pytest.mark.parametrize(
    "made",
    [
        _report.build([], None, None),
        _report.build(fleet(), organization(fleet()), FEED, _drift.drift(fleet(), organization(fleet())), report_fleet.NOW),
        _report.build(large(60), organization(large(60)), None, _drift.drift(large(60), None), report_fleet.NOW),
        report_fleet.report(12),
        report_fleet.report(3, 5),
    ],
    ids=["empty", "fleet", "large-without-feed", "twelve", "three"],
)
def test_every_report_keeps_to_the_schema(made: dict[str, Any]) -> None:
    assert faults(written(made)) == []


def _drop(report: dict[str, Any]) -> None:
    del report["changes"]


def _state(report: dict[str, Any]) -> None:
    report["servers"][0]["mitigations"][0]["state"] = "protected"


def _bucket(report: dict[str, Any]) -> None:
    report["servers"][0]["bucket"] = "safe"


def _more(report: dict[str, Any]) -> None:
    report["servers"][0]["secret"] = "x"


def _diff(report: dict[str, Any]) -> None:
    report["drift"]["items"][0]["diff"] = "- off"


@pytest.mark.parametrize("spoil", [_drop, _state, _bucket, _more, _diff])
def test_the_schema_refuses_what_is_no_report(spoil: Callable[[dict[str, Any]], None]) -> None:
    made = copy.deepcopy(written(report_fleet.report(12)))
    assert faults(made) == []
    spoil(made)
    assert len(faults(made)) == 1


def test_the_schema_knows_the_same_words() -> None:
    schema = json.loads(FILE.read_text("utf-8"))
    verdict, server = schema["$defs"]["verdict"]["properties"], schema["$defs"]["server"]["properties"]
    assert verdict["cell"]["enum"] == list(_report_words.CELLS)
    assert verdict["state"]["enum"] == list(_report_words.STATES)
    assert server["bucket"]["enum"] == list(_report_words.BUCKETS)
    assert schema["properties"]["timeline"]["items"]["properties"]["lane"]["enum"] == list(_report_timeline.LANES)
    assert schema["$defs"]["item"]["properties"]["kind"]["enum"] == [*_drift.KINDS, "unknown"]
