# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a report of the fleet, in every form, as files on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: report
short_description: Write a report of the fleet as files on the controller
version_added: 0.1.0
description:
  - Renders one report as a page for people, a table for spreadsheets, a value for programs and metrics for node_exporter, all with the same content.
  - A file is replaced whole or stays as it was; whoever reads it meanwhile never sees half of one. A file that holds the same already is left alone.
  - Contacts no managed host. Run it once.
options:
  report:
    description:
      - The report, as P(exchange.mitigation.report_rows#filter) returned it.
      - One of this and O(report_variable) is needed.
    type: dict
  report_variable:
    description:
      - Name of the variable that holds the report. It is taken as it is, neither rendered nor shown with the arguments of the task, which a report of
        hundreds of servers is worth.
    type: str
  path:
    description:
      - Folder on the controller. It is made where it is missing, and those above it, too.
    type: path
    required: true
  formats:
    description:
      - Which files are written. V(html) is C(report.html), V(csv) is C(report.csv), V(json) is C(report.json) and V(metrics) is C(metrics.prom).
    type: list
    elements: str
    choices: [html, csv, json, metrics]
    default: [html, csv, json, metrics]
  mode:
    description:
      - Mode of the files, in octal digits.
    type: raw
    default: '0640'
  directory_mode:
    description:
      - Mode of a folder that is made, in octal digits. One that is there keeps its own.
    type: raw
    default: '0750'
extends_documentation_fragment:
  - exchange.mitigation.attributes
  - exchange.mitigation.attributes.actiongroup
attributes:
  check_mode:
    support: full
    details:
      - Writes nothing. RV(written) names what would be.
  connection:
    support: N/A
    details:
      - Contacts no managed host.
  diff_mode:
    support: N/A
    details:
      - Nothing of a managed host changes.
  idempotent:
    support: full
    details:
      - A file that holds the same already is not written. The time of a report is part of it.
notes:
  - A report is not a change of any server. The role P(exchange.mitigation.report#role) writes it in check mode, too, with C(check_mode=false).
seealso:
  - plugin: exchange.mitigation.report_rows
    plugin_type: filter
  - plugin: exchange.mitigation.report_html
    plugin_type: filter
author:
  - exchange.mitigation contributors (@exchange-mitigation)
"""

EXAMPLES = r"""
- name: Write the report, in check mode too
  exchange.mitigation.report:
    report: "{{ results | exchange.mitigation.report_rows(organization=organization) }}"
    path: /var/www/exchange
  check_mode: false
  changed_when: false
  run_once: true

- name: Write only what node_exporter collects
  exchange.mitigation.report:
    report: "{{ exchange_mitigation_report }}"
    path: /var/lib/node_exporter
    formats:
      - metrics
    mode: "0644"
  run_once: true

- name: Write the report of many servers
  exchange.mitigation.report:
    report_variable: exchange_mitigation_report
    path: ~/exchange-report
  run_once: true
"""

RETURN = r"""
files:
  description: The file of each form.
  returned: success
  type: dict
  sample:
    html: /var/www/exchange/report.html
    csv: /var/www/exchange/report.csv
    json: /var/www/exchange/report.json
    metrics: /var/www/exchange/metrics.prom
written:
  description: The files that were written, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample:
    - /var/www/exchange/report.html
reason:
  description: Stable code of what went wrong.
  returned: failure
  type: str
  sample: output_unwritable
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Decision, Task
from ansible_collections.exchange.mitigation.plugins.module_utils._report_files import FORMS, decide

SPEC = dict(
    argument_spec=dict(
        report=dict(type="dict"),
        report_variable=dict(type="str"),
        path=dict(type="path", required=True),
        formats=dict(type="list", elements="str", choices=list(FORMS), default=list(FORMS)),
        mode=dict(type="raw", default="0640"),
        directory_mode=dict(type="raw", default="0750"),
    ),
    required_one_of=[("report", "report_variable")],
    mutually_exclusive=[("report", "report_variable")],
)


def run(task: Task) -> Decision:
    """Render the report; the effect writes it."""
    return decide(task)


def main() -> None:
    """Refuse to run without the action plugin."""
    module = AnsibleModule(supports_check_mode=True, **SPEC)
    module.fail_json(msg="exchange.mitigation.report runs on the controller through its action plugin of the same name.", reason="needs_action_plugin")


if __name__ == "__main__":
    main()
