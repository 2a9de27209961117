# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module run through a session configuration of the lab: over winrm by the task's option, over psrp by the connection's."""

from __future__ import annotations

from typing import Any
from unittest import mock

import lab_task
from ansible_collections.exchange.mitigation.plugins.plugin_utils._endpoints import host_session
from ansible_collections.exchange.mitigation.plugins.plugin_utils._session import PsrpSession
from session_live import connection, exchange


def session(fleet: Any, machine: Any, configuration: str, kind: str = "winrm") -> PsrpSession:
    """Return a session to a configuration of the host."""
    if kind == "psrp":
        return host_session(connection(fleet, machine, "psrp", False, configuration_name=configuration), {})
    return host_session(connection(fleet, machine, "winrm", False), {"host_configuration_name": configuration})


def run(
    module: Any, fleet: Any, machine: Any, options: dict[str, Any], configuration: str, kind: str = "winrm", check: bool = False, viewer: bool = False
) -> dict[str, Any]:
    """Run a module through a configuration and return its result; exceptions pass. ``viewer``: as the View-Only user at Exchange."""
    user = {"exchange_username": fleet.viewer, "exchange_password": fleet.users[fleet.viewer]} if viewer else {}
    with (
        mock.patch.object(lab_task, "host", lambda *dummy: session(fleet, machine, configuration, kind)),
        mock.patch.object(lab_task, "exchange", lambda *dummy: exchange(fleet, machine, False, **user)),
    ):
        return lab_task.run(module, fleet, machine, options, check)
