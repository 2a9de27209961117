# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter report_html."""

from __future__ import annotations

DOCUMENTATION = r"""
name: report_html
short_description: The report as a self-contained page
version_added: 0.1.0
extends_documentation_fragment:
  - exchange.mitigation.report
"""

EXAMPLES = r"""
- name: Write the report
  ansible.builtin.copy:
    content: "{{ report | exchange.mitigation.report_html | string }}"
    dest: /srv/reports/report.html
    mode: "0640"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
_value:
  description: One page without script and without anything from elsewhere.
  type: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._report_html import to_html
from ansible_collections.exchange.mitigation.plugins.plugin_utils._filters import renderer


class FilterModule:
    """The filter, by its name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter."""
        return {"report_html": renderer("report_html", to_html)}
