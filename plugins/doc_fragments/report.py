# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation that the filters share which render the report."""

from __future__ import annotations


class ModuleDocFragment:
    """What goes into a filter that renders the report, and how."""

    DOCUMENTATION = r"""
author:
  - exchange.mitigation contributors
description:
  - Renders the report that P(exchange.mitigation.report_rows#filter) made. The four renderers show the same rows.
  - Text from servers and feeds is escaped and never templated.
options:
  _input:
    description: What P(exchange.mitigation.report_rows#filter) returned.
    type: dict
    required: true
"""
