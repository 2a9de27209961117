# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter outcomes."""

from __future__ import annotations

DOCUMENTATION = r"""
name: outcomes
short_description: What a run did, a line per server
version_added: 0.1.0
author:
  - exchange.mitigation contributors
description:
  - Makes a line per host from the results of M(exchange.mitigation.mitigation), failed and unreachable hosts included.
positional: hosts, check
options:
  _input:
    description: The results, in the order of O(hosts); an empty dictionary for a host without one.
    type: list
    elements: dict
    required: true
  hosts:
    description: The names of the hosts.
    type: list
    elements: str
    required: true
  check:
    description: Whether the results are those of check mode.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Say what happened
  ansible.builtin.debug:
    msg: "{{ results | exchange.mitigation.outcomes(ansible_play_hosts_all) }}"
"""

RETURN = r"""
_value:
  description: A line per host.
  type: list
  elements: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._outcome import outcomes as compose
from ansible_collections.exchange.mitigation.plugins.plugin_utils._filters import plain, untrusted


def outcomes(results: Any, hosts: Any, check: Any = False) -> Any:
    """Return the lines."""
    results, hosts, check = plain([results, hosts, check], "outcomes")
    return untrusted(compose(hosts, results, bool(check)))


class FilterModule:
    """The filter, by its name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter."""
        return {"outcomes": outcomes}
