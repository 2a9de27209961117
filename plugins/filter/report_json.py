# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter report_json."""

from __future__ import annotations

DOCUMENTATION = r"""
name: report_json
short_description: The report as JSON
version_added: 0.1.0
extends_documentation_fragment:
  - exchange.mitigation.report
"""

EXAMPLES = r"""
- name: Write the report
  ansible.builtin.copy:
    content: "{{ report | exchange.mitigation.report_json | string }}"
    dest: /srv/reports/report.json
    mode: "0640"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
_value:
  description: JSON text. Its schema is docs/schema/report.schema.json of the collection.
  type: str
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._report import to_json
from ansible_collections.exchange.mitigation.plugins.plugin_utils._filters import renderer


class FilterModule:
    """The filter, by its name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter."""
        return {"report_json": renderer("report_json", to_json)}
