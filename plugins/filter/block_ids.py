# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter block_ids."""

from __future__ import annotations

DOCUMENTATION = r"""
name: block_ids
short_description: The ids that keep EM from applying a mitigation
version_added: 0.1.0
author:
  - exchange.mitigation contributors
description:
  - Adds to ids those that EM itself says it has applied on the server for the same mitigations, such as V(M2.1.0) for V(M2).
positional: organization, host
options:
  _input:
    description: The ids.
    type: list
    elements: str
    required: true
  organization:
    description: What M(exchange.mitigation.organization_info) returned as C(organization).
    type: dict
    required: true
  host:
    description: Name or FQDN of the server.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Block M2, whatever EM calls it
  exchange.mitigation.server:
    mitigations_blocked:
      add: "{{ ['M2'] | exchange.mitigation.block_ids(organization, inventory_hostname) }}"
"""

RETURN = r"""
_value:
  description: The ids to block.
  type: list
  elements: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._drift import as_dict, as_list
from ansible_collections.exchange.mitigation.plugins.module_utils._drift import block_ids as extend
from ansible_collections.exchange.mitigation.plugins.plugin_utils._filters import plain, untrusted


def block_ids(wanted: Any, organization: Any, host: Any) -> Any:
    """Return the ids to block."""
    wanted, organization, host = plain([wanted, organization, host], "block_ids")
    return untrusted(extend(as_list(wanted), as_dict(organization), str(host)))


class FilterModule:
    """The filter, by its name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter."""
        return {"block_ids": block_ids}
