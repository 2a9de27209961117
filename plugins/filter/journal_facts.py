# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter journal_facts."""

from __future__ import annotations

DOCUMENTATION = r"""
name: journal_facts
short_description: What the journal says of hosts
version_added: 0.1.0
author:
  - exchange.mitigation contributors
description:
  - Reads the journal that M(exchange.mitigation.mitigation) keeps on the controller. Changes nothing.
  - A host whose journal cannot be read is left out.
options:
  _input:
    description: Names of hosts, as in the inventory.
    type: list
    elements: str
    required: true
  journal_dir:
    description: Where the journal is. Unset it is the default of O(exchange.mitigation.mitigation#module:journal_dir).
    type: str
"""

EXAMPLES = r"""
- name: Ids that this collection blocked, per host
  ansible.builtin.debug:
    msg: "{{ ansible_play_hosts_all | exchange.mitigation.journal_facts }}"
"""

RETURN = r"""
_value:
  description: Per host a dictionary with V(blocked), the ids this collection blocked and did not unblock since, and V(runs), the ids of its runs, oldest first.
  type: dict
"""

import os
from collections.abc import Callable
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._errors import MitigationError
from ansible_collections.exchange.mitigation.plugins.module_utils._journal import History
from ansible_collections.exchange.mitigation.plugins.module_utils._mitigate import default_journal_dir
from ansible_collections.exchange.mitigation.plugins.plugin_utils._filters import plain, untrusted


def journal_facts(hosts: Any, journal_dir: Any = None) -> Any:
    """Return what the journal says of these hosts."""
    directory = os.path.expanduser(str(journal_dir)) if journal_dir else default_journal_dir(os.environ)
    result: dict[str, Any] = {}
    for host in map(str, plain(hosts, "journal_facts")):
        try:
            history = History(directory, host)
        except MitigationError:
            continue
        if history.operations or history.blocked_ids:
            result[host] = {"blocked": list(history.blocked_ids), "runs": history.run_ids()}
    return untrusted(result)


class FilterModule:
    """The filter, by its name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter."""
        return {"journal_facts": journal_facts}
