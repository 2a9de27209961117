# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of what every module promises."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragment exchange.mitigation.attributes."""

    DOCUMENTATION = r"""
options: {}
attributes:
  action:
    description: Runs on the controller, through an action plugin of the same name.
    support: full
  async:
    description: Can be used with the C(async) keyword.
    support: partial
    details: With C(poll) above 0 the task runs in the foreground and is ended after C(async) seconds. C(poll=0) is refused.
  become:
    description: Can be used with the C(become) keyword.
    support: none
  check_mode:
    description: Can run in check mode and return the changed status and the values to come, without any write reaching a server.
  connection:
    description: Uses the host's configured connection.
    support: full
    details: Connections C(winrm) and C(psrp), without copying anything to the host.
  delegation:
    description: Can be used with C(delegate_to).
    support: full
  diff_mode:
    description: Returns what changed, or would change in check mode, when in diff mode.
  idempotent:
    description: When run twice in a row with the same options, the second run changes nothing and says so.
  platform:
    description: Operating systems of the managed hosts.
    support: full
    platforms: windows
notes:
  - A failed task returns a stable code in C(reason). R(The guide on troubleshooting,ansible_collections.exchange.mitigation.docsite.guide_troubleshooting)
    has the cause and the cure of each.
"""

    INFO_MODULE = r"""
options: {}
attributes:
  check_mode:
    support: full
    details: This module changes nothing.
  diff_mode:
    support: N/A
    details: This module changes nothing.
  idempotent:
    support: full
    details: This module changes nothing.
"""

    ACTIONGROUP = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/exchange.mitigation.all) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - exchange.mitigation.all
"""
