# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of the report: a cell, a server's EM, counts and the order of names."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _drift, _report, _report_words
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.report_samples import FEED, organization, result, verdict

FIX = "15.2.1748.48"


@pytest.mark.parametrize(
    ("em", "words"),
    [
        ({"supported": False, "state": "Enabled", "server_enabled": True}, "none in this build"),
        ({"supported": True, "state": "Disabled on server level", "server_enabled": False}, "Disabled on server level"),
        ({"supported": None, "state": None, "server_enabled": None}, "unknown"),
        ({"supported": True, "state": "", "server_enabled": True}, "switched on, service unknown"),
        ({"supported": None, "state": None, "server_enabled": False}, "switched off, service unknown"),
    ],
)
def test_how_em_is_on_a_server(em: dict[str, Any], words: str) -> None:
    """A build without EM has none, whatever a switch in the directory says; what is not known is said to be unknown."""
    results = [result("ex1", "Exchange2019", "15.2.1748.40", verdict("M2", "applied", "yes"))]
    results[0]["server"]["em"].update(em)
    known = organization(results)
    (server,) = _report.build(results, known, FEED, _drift.drift(results, known), "2026-06-12T06:00:04Z")["servers"]
    assert _report_words.em_words(server) == words


@pytest.mark.parametrize(
    ("state", "needed", "build", "cell"),
    [
        ("applied", "yes", "15.2.1748.40", "applied"),
        ("applied", "yes", FIX, "kept"),
        ("applied", "yes", "15.2.x", "applied"),
        ("applied", "yes", None, "applied"),
        ("applied", "no", FIX, "leftover"),
        ("applied", "unknown", FIX, "applied"),
        ("absent", "no", FIX, "idle"),
        ("absent", "unknown", FIX, "unknown"),
        ("absent", "yes", FIX, "missing"),
        ("disabled", "no", FIX, "disabled"),
        ("safe", "no", FIX, "unknown"),
        (None, None, None, "unknown"),
    ],
)
def test_cells(state: Any, needed: Any, build: Any, cell: str) -> None:
    """A build that cannot be read carries no fix."""
    assert _report_words.cell_of(verdict("M2", state, needed, code_fix=FIX), build) == cell


def test_a_blocked_id_is_not_simply_missing() -> None:
    assert _report_words.cell_of(verdict("M2", "absent", "yes", blocked=True)) == "blocked"


def test_names_sort_by_their_numbers() -> None:
    """By any number that a feed may write, too; digits of another script are no number here."""
    wanted = ["", "EX-2", "EX-10", "m2", "M2.1.0", "M10", "M" + "9" * 5000, "M\u0663"]
    assert sorted(set(wanted), key=_report_words.natural) == wanted


def test_counts() -> None:
    assert [_report_words.count(number) for number in (0, 1, 2)] == ["0 servers", "1 server", "2 servers"]
