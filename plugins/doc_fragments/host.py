# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the option that concerns the Windows endpoint of the host's connection."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragment exchange.mitigation.host."""

    DOCUMENTATION = r"""
options:
  host_configuration_name:
    description:
      - PowerShell session configuration to use on the host, such as the name of a JEA endpoint.
      - Only for hosts with C(ansible_connection=winrm). With C(psrp) the connection's own C(ansible_psrp_configuration_name) counts.
      - If not set, the variable C(exchange_mitigation_host_configuration_name) is used, then V(Microsoft.PowerShell).
    type: str
requirements:
  - pypsrp >= 0.8.0 on the controller
  - pywinrm >= 0.4.3 on the controller for hosts with C(ansible_connection=winrm)
notes:
  - The host is reached through its own connection, C(winrm) or C(psrp), with the credentials of the inventory.
  - No script is sent, only cmdlets and typed parameters, so that constrained language mode and JEA endpoints work as well.
"""
