# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action of the module report: it runs on the controller."""

from __future__ import annotations

from ansible_collections.exchange.mitigation.plugins.plugin_utils._controller import ControllerAction


class ActionModule(ControllerAction):
    """Runs exchange.mitigation.report in the worker process."""
