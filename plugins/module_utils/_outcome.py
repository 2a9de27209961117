# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run did, a line per server: for the console at the end of a changing playbook.

Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._drift import as_dict, as_list
from ansible_collections.exchange.mitigation.plugins.module_utils._report_text import clean


def outcomes(hosts: Iterable[Any], results: Iterable[Any], check: bool = False) -> list[str]:
    """Return a line per host. ``results`` are those of the ``mitigation`` module in the order of ``hosts``, empty where it was not run."""
    return [clean(f"{host}: {_words(as_dict(result), check)}") for host, result in zip(hosts, results, strict=True)]


def _words(result: Mapping[str, Any], check: bool) -> str:
    if not result:
        return "not reached in this run"
    if result.get("unreachable"):
        return f"unreachable: {result.get('msg') or 'no answer'}"
    if result.get("skipped"):
        return "left out"
    verdicts = [as_dict(value) for value in as_list(result.get("mitigations"))]
    states = ", ".join(f"{verdict.get('id')} {verdict.get('state')}" + _need(verdict) for verdict in verdicts)
    if result.get("failed"):
        return f"failed ({result.get('reason') or 'failed'}): {result.get('msg')}"
    changed = "would change" if check else "changed"
    return (changed if result.get("changed") else "unchanged") + (f"; {states}" if states else "")


def _need(verdict: Mapping[str, Any]) -> str:
    if verdict.get("state") == "absent" and verdict.get("needed") == "no":
        return " (not needed by this build)"
    return " (blocked)" if verdict.get("state") == "absent" and verdict.get("blocked") else ""
