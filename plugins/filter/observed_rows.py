# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter observed_rows."""

from __future__ import annotations

DOCUMENTATION = r"""
name: observed_rows
short_description: What a run observed, a row per host
version_added: 0.1.0
author:
  - exchange.mitigation contributors
description:
  - Puts together what the tasks of the role P(exchange.mitigation.report#role) registered for each host, for the filters
    P(exchange.mitigation.drift#filter) and P(exchange.mitigation.report_rows#filter).
  - It works on all hosts at once, so that no task has to do it for every host.
options:
  _input:
    description:
      - The variables of each host, that is C(hosts | map('extract', hostvars\)).
      - Read are V(exchange_mitigation_observed), V(exchange_mitigation_told) and V(exchange_mitigation_planned), what the modules
        M(exchange.mitigation.server_info), M(exchange.mitigation.event_info) and M(exchange.mitigation.mitigation) returned.
    type: list
    elements: dict
    required: true
  hosts:
    description: Names of the hosts, in the same order.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Keep a row per host
  ansible.builtin.set_fact:
    rows: "{{ ansible_play_hosts_all | map('extract', hostvars) | exchange.mitigation.observed_rows(ansible_play_hosts_all) }}"
"""

RETURN = r"""
_value:
  description:
    - Per host that was observed a dictionary with V(host), V(server), V(unreachable), V(reason), V(msg), V(events) and V(diff), together with
      what was given to O(exchange.mitigation.server_info#module:attach). A host that no task registered anything for is left out.
  type: list
  elements: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.exchange.mitigation.plugins.plugin_utils._filters import plain, untrusted


def observed_rows(variables: Any, hosts: Any) -> Any:
    """Return a row per host that was observed."""
    rows: list[dict[str, Any]] = []
    for host, known in zip(plain(hosts, "observed_rows"), variables):
        observed = _registered(known, "exchange_mitigation_observed")
        if not observed:
            continue
        attached = observed.get("attached")
        rows.append({
            **(attached if isinstance(attached, Mapping) else {}),
            "host": host,
            "server": observed.get("server") or {},
            "unreachable": bool(observed.get("unreachable")),
            "reason": observed.get("reason") or "",
            "msg": observed.get("msg") or "",
            "events": _registered(known, "exchange_mitigation_told").get("events") or [],
            "diff": _registered(known, "exchange_mitigation_planned").get("diff") or [],
        })
    return untrusted(plain(rows, "observed_rows"))


def _registered(known: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = known.get(name)
    return value if isinstance(value, Mapping) else {}


class FilterModule:
    """The filter, by its name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter."""
        return {"observed_rows": observed_rows}
