# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the filters take as the results of a run."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.exchange.mitigation.plugins.filter.drift import drift
from ansible_collections.exchange.mitigation.plugins.filter.report_rows import report_rows
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.report_samples import fleet, organization


@pytest.mark.parametrize("value", ["x" * 100_000, {"host": "ex1"}, 7, None], ids=["text", "mapping", "number", "nothing"])
@pytest.mark.parametrize("subject", [drift, report_rows])
def test_anything_but_a_list_is_refused_with_a_sentence(subject: Any, value: Any) -> None:
    with pytest.raises(AnsibleFilterError, match=r"expected a list of results, one of each host, not (str|dict|int|NoneType)"):
        subject(value)


def test_an_empty_run_is_a_report() -> None:
    assert drift([])["count"] == 0
    assert report_rows([])["servers"] == []


def test_a_report_compares_as_the_filter_drift_does() -> None:
    rows = [{**row, "desired": {"organization_enabled": False, "mitigations": ["all"]}} for row in fleet()]
    known = organization(fleet())
    made = report_rows(rows, known, drift=True, generated_at="2026-06-01T00:00:00Z")
    assert made["drift"]["count"] > 0
    assert made == report_rows(rows, known, drift=drift(rows, known), generated_at="2026-06-01T00:00:00Z")
    assert made != report_rows(rows, known, generated_at="2026-06-01T00:00:00Z")
