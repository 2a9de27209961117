# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter that makes a row per host out of what the tasks registered."""

from __future__ import annotations

from typing import Any

from ansible_collections.exchange.mitigation.plugins.filter.observed_rows import observed_rows

ATTACHED = {"observed_at": "2026-11-24T10:00:00Z", "desired": {"mitigations": ["M2"]}}


def rows(*known: dict[str, Any]) -> list[dict[str, Any]]:
    return list(observed_rows(list(known), [f"ex{number}" for number, dummy in enumerate(known, 1)]))


def test_a_row_has_what_was_seen_and_what_was_attached() -> None:
    server = {"name": "EX1", "mitigations": []}
    (row,) = rows({
        "exchange_mitigation_observed": {"server": server, "attached": ATTACHED},
        "exchange_mitigation_told": {"events": [{"id": 1005}]},
        "exchange_mitigation_planned": {"diff": [{"before": "a", "after": "b"}]},
    })
    assert row == ATTACHED | {
        "host": "ex1", "server": server, "unreachable": False, "reason": "", "msg": "", "events": [{"id": 1005}], "diff": [{"before": "a", "after": "b"}],
    }


def test_a_host_that_did_not_answer_keeps_what_is_wanted_and_one_that_never_ran_is_left_out() -> None:
    gone = {"unreachable": True, "reason": "connection_refused", "msg": "ex1 refused", "attached": ATTACHED}
    found = rows({"exchange_mitigation_observed": gone}, {}, {"exchange_mitigation_observed": {"failed": True, "msg": "no"}, "exchange_mitigation_told": None})
    assert [(row["host"], row["unreachable"], row["reason"]) for row in found] == [("ex1", True, "connection_refused"), ("ex3", False, "")]
    assert found[0]["desired"] == {"mitigations": ["M2"]} and "desired" not in found[1]


def test_what_is_attached_cannot_pose_as_what_was_seen() -> None:
    (row,) = rows({"exchange_mitigation_observed": {"attached": {"host": "other", "server": {"name": "x"}, "reason": "x"}}})
    assert (row["host"], row["server"], row["reason"]) == ("ex1", {}, "")
