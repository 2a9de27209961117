# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter report_metrics."""

from __future__ import annotations

DOCUMENTATION = r"""
name: report_metrics
short_description: The report as metrics
version_added: 0.1.0
extends_documentation_fragment:
  - exchange.mitigation.report
"""

EXAMPLES = r"""
- name: Write the report
  ansible.builtin.copy:
    content: "{{ report | exchange.mitigation.report_metrics | string }}"
    dest: /srv/reports/metrics.prom
    mode: "0640"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
_value:
  description: Gauges in the Prometheus text format, for the textfile collector of node_exporter.
  type: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._report_metrics import to_metrics
from ansible_collections.exchange.mitigation.plugins.plugin_utils._filters import renderer


class FilterModule:
    """The filter, by its name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter."""
        return {"report_metrics": renderer("report_metrics", to_metrics)}
