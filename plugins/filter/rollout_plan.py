# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter rollout_plan."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout_plan
short_description: The batches of a rollout
version_added: 0.1.0
author:
  - exchange.mitigation contributors
description:
  - Puts hosts into batches, canaries first, every host once, never two members of one database availability group in a batch.
  - Hosts whose maintenance window is closed are left out, except in check mode.
options:
  _input:
    description: The names of the hosts, in order.
    type: list
    elements: str
    required: true
  organization:
    description: What M(exchange.mitigation.organization_info) returned as RV(exchange.mitigation.organization_info#module:organization). It may be empty.
    type: dict
  variables:
    description: >-
      Lists in the order of the hosts, under the keys V(ansible_host), V(exchange_mitigation_dag), V(exchange_mitigation_canary) and
      V(exchange_mitigation_maintenance_window).
    type: dict
  serial:
    description: Sizes of the batches, numbers and percents, as Ansible's own C(serial). Unset, V([1, 2, "10%", "20%"]).
    type: raw
  check:
    description: Whether this is check mode.
    type: bool
    default: false
  now:
    description: The time in ISO 8601, with its offset. Unset, now.
    type: str
"""

EXAMPLES = r"""
- name: Show the batches
  ansible.builtin.debug:
    msg: "{{ (groups['exchange_servers'] | exchange.mitigation.rollout_plan(exchange.organization, serial=[1, '25%'])).says }}"
"""

RETURN = r"""
_value:
  description: A dictionary with V(order), V(sizes), V(batches), V(left_out) and the sentences V(says).
  type: dict
"""

import datetime
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.exchange.mitigation.plugins.module_utils._drift import as_dict
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import MitigationError
from ansible_collections.exchange.mitigation.plugins.module_utils._rollout import plan, servers_of
from ansible_collections.exchange.mitigation.plugins.plugin_utils._filters import moment, plain, untrusted


def rollout_plan(hosts: Any, organization: Any = None, variables: Any = None, serial: Any = None, check: Any = False, now: Any = None) -> Any:
    """Return the plan."""
    hosts, organization, variables, serial = plain([hosts, organization, variables or {}, serial], "rollout_plan")
    organization = as_dict(organization)
    rows = [{name: values[index] for name, values in variables.items() if index < len(values)} for index in range(len(hosts))]
    when: datetime.datetime = moment(now, "rollout_plan")
    try:
        servers = servers_of(hosts, organization, rows, when)
        return untrusted(plan(servers, serial, organization.get("dags") is not None, bool(check)))
    except MitigationError as exc:
        raise AnsibleFilterError(exc.message) from exc


class FilterModule:
    """The filter, by its name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter."""
        return {"rollout_plan": rollout_plan}
