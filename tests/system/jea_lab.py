# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module run through a session configuration of the lab: over winrm by the task's option, over psrp by the connection's."""

from __future__ import annotations

from typing import Any

import lab_task
from ansible_collections.exchange.mitigation.plugins.plugin_utils._endpoints import host_session
from session_live import connection


def run(module: Any, fleet: Any, machine: Any, options: dict[str, Any], configuration: str, kind: str = "winrm", check: bool = False) -> dict[str, Any]:
    """Run a module through a configuration and return its result; exceptions pass."""
    if kind == "psrp":
        plugin = connection(fleet, machine, "psrp", False, configuration_name=configuration)
        session = host_session(plugin, {})
    else:
        session = host_session(connection(fleet, machine, "winrm", False), {"host_configuration_name": configuration})
    given = lab_task.host
    lab_task.host = lambda *dummy: session
    try:
        return lab_task.run(module, fleet, machine, options, check)
    finally:
        lab_task.host = given
