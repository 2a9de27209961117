# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter rollout_gate."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_gate
short_description: Whether the next batch of a rollout may begin
version_added: 0.1.0
author:
  - exchange.mitigation contributors
description:
  - Looks at what the servers of earlier batches came to, at the maintenance windows and at the approval, and says why a rollout stops where it does.
options:
  _input:
    description: What P(exchange.mitigation.rollout_plan#filter) returned.
    type: dict
    required: true
  states:
    description: What each host came to, in the order of RV(exchange.mitigation.rollout_plan#filter:_value) V(order); an empty dictionary for none.
    type: list
    elements: dict
    required: true
  host:
    description: A host of the batch.
    type: str
    required: true
  windows:
    description: The maintenance windows of the hosts, in the same order as O(states).
    type: list
    elements: raw
    required: true
  limits:
    description: A dictionary with V(max_fail_percentage), V(halt_on_refused), V(stop_after), V(approval) and V(approved).
    type: dict
  check:
    description: Whether this is check mode, in which every batch may begin.
    type: bool
    default: false
  now:
    description: The time in ISO 8601, with its offset. Unset, now.
    type: str
"""

EXAMPLES = r"""
- name: Stop where a server of an earlier batch is unhealthy
  ansible.builtin.meta: end_play
  when: not (made | exchange.mitigation.rollout_gate(states, inventory_hostname, windows)).go
"""

RETURN = r"""
_value:
  description: A dictionary with V(go), V(ask), the sentence V(says), V(closed) (host and why it is left alone) and the number V(batch).
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import MitigationError
from ansible_collections.exchange.mitigation.plugins.module_utils._rollout import gate, limits_of
from ansible_collections.exchange.mitigation.plugins.module_utils._windows import closed
from ansible_collections.exchange.mitigation.plugins.plugin_utils._filters import moment, plain, untrusted


def rollout_gate(made: Any, states: Any, host: Any, windows: Any, limits: Any = None, check: Any = False, now: Any = None) -> Any:
    """Return the judgement."""
    made, states, windows, limits = plain([made, states, windows, limits or {}], "rollout_gate")
    when = moment(now, "rollout_gate")
    try:
        shut = {name: closed(window, when) for name, window in zip(made["order"], windows)}
        return untrusted(gate(made, dict(zip(made["order"], states)), str(host), shut, limits_of(limits), bool(check)))
    except MitigationError as exc:
        raise AnsibleFilterError(exc.message) from exc


class FilterModule:
    """The filter, by its name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter."""
        return {"rollout_gate": rollout_gate}
