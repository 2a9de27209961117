# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter drift."""

from __future__ import annotations

DOCUMENTATION = r"""
name: drift
short_description: Where a fleet differs from what the variables ask for
version_added: 0.1.0
author:
  - exchange.mitigation contributors
description:
  - Compares switches and blocked lists with what one session to Exchange read for the whole fleet, and mitigations with the verdicts of every server.
  - What could not be read is listed as unknown and counts neither as a difference nor as agreement.
options:
  _input:
    description: >-
      Per host a dictionary with V(host), V(server) as M(exchange.mitigation.server_info) returned it, and V(desired) with the keys
      V(organization_enabled), V(server_enabled), V(blocked) (a dictionary with V(set), V(add), V(remove)) and V(mitigations).
    type: list
    elements: dict
    required: true
  organization:
    description: What M(exchange.mitigation.organization_info) returned as C(organization).
    type: dict
"""

EXAMPLES = r"""
- name: Fail when anything differs
  ansible.builtin.assert:
    that: (results | exchange.mitigation.drift(organization=organization)).count == 0
"""

RETURN = r"""
_value:
  description: A dictionary with the lists V(items) and V(unknown), and V(count), the number of items.
  type: dict
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._drift import drift as compare
from ansible_collections.exchange.mitigation.plugins.plugin_utils._filters import plain, results_of, untrusted


def drift(results: Any, organization: Any = None) -> Any:
    """Return the differences."""
    return untrusted(compare(results_of(results, "drift"), plain(organization, "drift")))


class FilterModule:
    """The filter, by its name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter."""
        return {"drift": drift}
