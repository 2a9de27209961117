# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab against conversations recorded from real Windows servers, 2008 R2 to 2019: structure, faults, refusals."""

from __future__ import annotations

import collections
import pathlib
from typing import Any

import conformance
import yaml

ACCEPTED = pathlib.Path(__file__).with_name("conformance_accepted.yml")


def test_answers_are_built_as_recorded_ones_but_for_the_listed_differences(wire_lab: Any, recorded: Any) -> None:
    rows: list[conformance.Compared] = []
    for file in sorted(recorded("wsman-captures").glob("test_*.yml")):
        rows += conformance.Replay(wire_lab().wire.services["EX1"], file).run()
    count = collections.Counter(row.outcome for row in rows)
    in_scope = count["matched"] + count["differs"]
    left = collections.Counter(row.why for row in rows if row.outcome == "out of scope")
    print(f"CONFORMANCE {count['matched']} of {in_scope} in scope match; {count['differs']} accepted; out of scope {dict(left)}")
    accepted = {key: entry["reason"] for entry in yaml.safe_load(ACCEPTED.read_text("utf-8")) for key in entry["messages"]}
    assert {row.key: row.why for row in rows if row.outcome == "differs" and row.key not in accepted} == {}
    assert accepted.keys() <= {row.key for row in rows if row.outcome == "differs"}, "no longer different"
    assert all(accepted.values())
    assert in_scope > 300
    assert count["matched"] / in_scope >= 0.95
