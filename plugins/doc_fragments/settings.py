# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of what the modules that write settings to Exchange have in common."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragment exchange.mitigation.settings."""

    DOCUMENTATION = r"""
options:
  replication_timeout:
    description:
      - Seconds to wait after a change until the endpoint shows it without being asked for a certain domain controller.
      - The change is made in any case. A wait that ends without the new value is a warning. V(0) does not wait.
    type: int
    default: 60
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
notes:
  - An option that is left out leaves its setting as it is. One cmdlet carries all that differs.
  - A change is written to the domain controller that the present values came from, read back there, and then waited for at the
    endpoint. Where the answer to the change is lost, the setting is read instead of written again.
"""
