# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the filters share: plain values in, and text out that Ansible never takes for a template.

Note that this plugin util is private to the collection and may change at any time.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible.utils.unsafe_proxy import wrap_var
from ansible_collections.exchange.mitigation.plugins.module_utils._report import recognised


def plain(value: Any, name: str) -> Any:
    """Return a value without the marks Ansible puts on strings and containers; fail with a sentence for anything else."""
    try:
        return json.loads(json.dumps(value, default=str))
    except (TypeError, ValueError, RecursionError) as exc:
        raise AnsibleFilterError(f"exchange.mitigation.{name}: the value is not made of plain lists and dictionaries: {exc}") from exc


def results_of(value: Any, name: str) -> list[Any]:
    """Return the results of a run as a plain list, or fail with a sentence."""
    results = plain(value, name)
    if not isinstance(results, list):
        raise AnsibleFilterError(f"exchange.mitigation.{name}: expected a list of results, one of each host, not {type(value).__name__}.")
    return results


def report_of(value: Any, name: str) -> dict[str, Any]:
    """Return the report that report_rows made, or fail with a sentence."""
    report: dict[str, Any] = plain(value, name)
    if not recognised(report):
        raise AnsibleFilterError(f"exchange.mitigation.{name}: expected what exchange.mitigation.report_rows returns.")
    return report


def untrusted(value: Any) -> Any:
    """Return a value marked so that nothing in it is ever templated: it holds text of servers and feeds."""
    return wrap_var(value)


def renderer(name: str, render: Callable[[Mapping[str, Any]], str]) -> Callable[[Any], Any]:
    """Return the filter of this name that renders the report."""

    def apply(report: Any) -> Any:
        return untrusted(render(report_of(report, name)))

    return apply


def moment(value: Any, name: str) -> datetime.datetime:
    """Return a time from ISO 8601 with its offset, now for none; fail with a sentence for anything else."""
    if value is None or value == "":
        return datetime.datetime.now(datetime.timezone.utc)
    try:
        when = datetime.datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError as exc:
        raise AnsibleFilterError(f"exchange.mitigation.{name}: {value!r} is no time in ISO 8601.") from exc
    if when.tzinfo is None:
        raise AnsibleFilterError(f"exchange.mitigation.{name}: the time {value!r} has no offset from UTC.")
    return when
