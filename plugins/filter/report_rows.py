# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter report_rows."""

from __future__ import annotations

DOCUMENTATION = r"""
name: report_rows
short_description: The results of a run as one report
version_added: 0.1.0
author:
  - exchange.mitigation contributors
description:
  - Makes the value from which P(exchange.mitigation.report_html#filter), P(exchange.mitigation.report_csv#filter),
    P(exchange.mitigation.report_json#filter) and P(exchange.mitigation.report_metrics#filter) render the same content.
  - A server that could not be read is part of it, with everything unknown.
options:
  _input:
    description:
      - Per host a dictionary with V(host), V(server) as M(exchange.mitigation.server_info) returned it, V(unreachable), V(reason) and V(msg).
      - Optionally V(observed_at) (ISO 8601), V(events) as M(exchange.mitigation.event_info) returned them, and V(diff) as
        M(exchange.mitigation.mitigation) returned it in check mode.
    type: list
    elements: dict
    required: true
  organization:
    description: What M(exchange.mitigation.organization_info) returned as C(organization).
    type: dict
  feed:
    description: The whole result of M(exchange.mitigation.feed).
    type: dict
  drift:
    description:
      - What P(exchange.mitigation.drift#filter) returned.
      - With V(true) it is compared here, to the same end, which saves taking the results of hundreds of servers in hand once more.
    type: raw
  generated_at:
    description: The time of the report, ISO 8601, UTC.
    type: str
    default: ''
  run_id:
    description: The id of the run that made the changes, where there is one.
    type: str
  hosts:
    description: Every host of the run. One that has no result is part of the report too, as unknown.
    type: list
    elements: str
    default: []
  previous:
    description:
      - The report of the run before, as P(exchange.mitigation.report_json#filter) wrote it (text) or as a dictionary.
      - What is new and what was fixed is told by it.
      - Anything that is no such report counts as none.
    type: raw
  journal:
    description: What P(exchange.mitigation.journal_facts#filter) returned. Which of our blocks can be lifted, and when our runs were, is told by it.
    type: dict
"""

EXAMPLES = r"""
- name: Make the report
  ansible.builtin.set_fact:
    report: >-
      {{ results | exchange.mitigation.report_rows(organization=organization, feed=feed, drift=differences, generated_at=now(utc=true).isoformat() ~ 'Z') }}
"""

RETURN = r"""
_value:
  description: The report; its shape is that of report.json.
  type: dict
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._drift import drift as compare
from ansible_collections.exchange.mitigation.plugins.module_utils._report import build
from ansible_collections.exchange.mitigation.plugins.plugin_utils._filters import plain, results_of, untrusted


def report_rows(
    results: Any,
    organization: Any = None,
    feed: Any = None,
    drift: Any = None,
    generated_at: str = "",
    run_id: str | None = None,
    hosts: Any = (),
    previous: Any = None,
    journal: Any = None,
) -> Any:
    """Return the report as a value."""
    rows = results_of(results, "report_rows")
    values = [organization, feed, drift, run_id, hosts, _report(previous), journal]
    organization, feed, drift, run_id, hosts, previous, journal = plain(values, "report_rows")
    if drift is True:
        drift = compare(rows, organization)
    return untrusted(build(rows, organization, feed, drift, str(generated_at), run_id, hosts, previous, journal))


def _report(value: Any) -> Any:
    """Return an earlier report from its text; None for what is none, such as a file of something else."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, Mapping) and value.get("schema") == 1 else None


class FilterModule:
    """The filter, by its name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter."""
        return {"report_rows": report_rows}
