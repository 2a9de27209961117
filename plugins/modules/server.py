#!/usr/bin/python
# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module server: settings of one Exchange server that concern Emergency Mitigation."""

from __future__ import annotations

DOCUMENTATION = r"""
module: server
short_description: Switch and block Emergency Mitigation on an Exchange server
version_added: 0.1.0
description:
  - Sets whether Emergency Mitigation is on for a server, which mitigations it must not apply there, and whether the
    server sends diagnostic data.
  - Lists of ids are read, computed and replaced whole, so that ids which others have blocked stay blocked.
  - Writes to the domain controller that the present values came from, reads them back there, and waits for a limited
    time until the endpoint shows them.
  - Blocking an id does not remove a mitigation that is applied already, see M(exchange.mitigation.mitigation).
  - C(MitigationsApplied) belongs to the Emergency Mitigation service and is never written.
  - Edge servers and builds from before Emergency Mitigation are refused.
extends_documentation_fragment:
  - exchange.mitigation.exchange
  - exchange.mitigation.attributes
  - exchange.mitigation.attributes.actiongroup
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  identity:
    description:
      - Name or FQDN of the Exchange server, in any case.
      - If not set, the name of the host in the inventory. Where that has dots, its first part is tried too.
    type: str
  mitigations_enabled:
    description:
      - Whether Emergency Mitigation is on for the server. It works only where it is on for the organization as well.
      - If not set, nothing is changed.
    type: bool
  mitigations_blocked:
    description:
      - Ids that Emergency Mitigation must not apply on the server, as C(MitigationsApplied) shows them.
      - Ids are compared in any case and kept as Exchange shows them.
    type: dict
    suboptions:
      add:
        description: Ids to block in addition to those that are blocked.
        type: list
        elements: str
      remove:
        description: Ids to block no longer. An id that is not blocked is no error.
        type: list
        elements: str
      set:
        description:
          - The whole list. An empty list blocks nothing.
          - Mutually exclusive with O(mitigations_blocked.add) and O(mitigations_blocked.remove).
        type: list
        elements: str
  data_collection_enabled:
    description:
      - Whether the server sends diagnostic data about mitigations to Microsoft.
      - If not set, nothing is changed.
    type: bool
  replication_timeout:
    description:
      - Seconds to wait after a change until the endpoint shows it without being asked for a certain domain controller.
      - The change is made in any case. A wait that ends without the new values is a warning.
    type: int
    default: 60
seealso:
  - module: exchange.mitigation.organization
  - module: exchange.mitigation.organization_info
author:
  - exchange.mitigation contributors (@exchange-mitigation)
"""

EXAMPLES = r"""
- name: Emergency Mitigation is on for every server of the play, two at a time
  exchange.mitigation.server:
    mitigations_enabled: true
  throttle: 2

- name: Block one mitigation on one server, whatever else is blocked there
  exchange.mitigation.server:
    identity: ex2.example.com
    mitigations_blocked:
      add:
        - M2.1.0
  run_once: true

- name: Nothing is blocked any more
  exchange.mitigation.server:
    mitigations_blocked:
      set: []

- name: Show what would change, from the controller
  exchange.mitigation.server:
    identity: EX1
    mitigations_enabled: false
    data_collection_enabled: false
    exchange_host: ex1.example.com
    exchange_username: admin@EXAMPLE.COM
  delegate_to: localhost
  check_mode: true
  diff: true
  run_once: true
"""

RETURN = r"""
server:
  description: The server as Exchange shows it after the task, in check mode as it would be. The keys are those of one server of
    M(exchange.mitigation.organization_info).
  returned: success
  type: dict
  contains:
    name:
      description: Name of the server.
      type: str
      returned: success
      sample: EX1
    fqdn:
      description: Full name of the server.
      type: str
      returned: success
      sample: ex1.example.com
    version:
      description: The version as Exchange shows it.
      type: str
      returned: success
      sample: Version 15.2 (Build 2562.17)
    build:
      description: The build that the version tells.
      type: str
      returned: success
      sample: 15.2.2562.17
    product:
      description: V(Exchange2016), V(Exchange2019) or V(ExchangeSE).
      type: str
      returned: success
      sample: ExchangeSE
    roles:
      description: The server's roles.
      type: list
      elements: str
      returned: success
      sample: [Mailbox]
    edition:
      description: The edition.
      type: str
      returned: success
      sample: Enterprise
    site:
      description: The Active Directory site.
      type: str
      returned: success
      sample: Default-First-Site-Name
    mitigations_enabled:
      description: Whether Emergency Mitigation is on for the server.
      type: bool
      returned: success
      sample: true
    mitigations_blocked:
      description: Ids that are blocked.
      type: list
      elements: str
      returned: success
      sample: [M2.1.0]
    mitigations_applied:
      description: Ids that Emergency Mitigation says it has applied.
      type: list
      elements: str
      returned: success
      sample: [PING1]
    mitigations_applied_time:
      description: When Emergency Mitigation last wrote, in ISO 8601.
      type: str
      returned: success
      sample: "2026-10-01T08:12:37Z"
    data_collection_enabled:
      description: Whether the server sends diagnostic data.
      type: bool
      returned: success
      sample: false
    internet_web_proxy:
      description: The proxy that Emergency Mitigation uses.
      type: str
      returned: success
      sample: http://proxy.example.com:8080/
    domain_controller:
      description: The domain controller that was written to and read from.
      type: str
      returned: success
      sample: dc1.example.com
    em_supported:
      description: Always V(true), because other servers are refused.
      type: bool
      returned: success
      sample: true
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._exchange import SERVER_SETTINGS, plan_settings, read_server, wait_until
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Decision, Task, call
from ansible_collections.exchange.mitigation.plugins.module_utils._options import EXCHANGE_OPTIONS

SPEC = {
    "argument_spec": dict(
        identity={"type": "str"},
        mitigations_enabled={"type": "bool"},
        mitigations_blocked={
            "type": "dict",
            "options": {
                "add": {"type": "list", "elements": "str"},
                "remove": {"type": "list", "elements": "str"},
                "set": {"type": "list", "elements": "str"},
            },
            "mutually_exclusive": [["add", "set"], ["remove", "set"]],
        },
        data_collection_enabled={"type": "bool"},
        replication_timeout={"type": "int", "default": 60},
        **EXCHANGE_OPTIONS,
    ),
}

#: Seconds for the domain controller that took the change to show it.
READ_BACK = 10


def run(task: Task) -> Decision:
    """Compare the wanted settings with the present ones; the effect writes only what differs."""
    identity = task.params["identity"] or task.inventory_hostname
    current = read_server(task.exchange, identity)
    if not current["em_supported"]:
        shown = f"{current['name']} ({', '.join(current['roles']) or 'no role'}, {current['version']})"
        raise Refused(f"{shown} has no Emergency Mitigation: it needs the Mailbox role and Exchange 2016 CU22, 2019 CU11 or SE.", reason="em_not_supported")
    plan = plan_settings(SERVER_SETTINGS, task.params, current)
    if not plan.parameters:
        return Decision(result={"server": current})

    def effect() -> dict[str, Any]:
        name, controller = current["name"], current["domain_controller"]
        where = {"DomainController": controller} if controller else {}
        task.exchange.change((call("Set-ExchangeServer", Identity=name, **plan.parameters, **where, Confirm=False),))
        after, done = wait_until(lambda: read_server(task.exchange, name, controller), plan.done, READ_BACK)
        if not done:
            raise ApplyError(
                f"Set-ExchangeServer reported no error, but {controller} still shows the old settings of {name}.", reason="change_not_visible", server=after
            )
        if task.params["replication_timeout"] > 0:
            seen = wait_until(lambda: read_server(task.exchange, name), plan.done, task.params["replication_timeout"])[1]
            if not seen:
                task.warn(
                    f"{name} was changed on {controller}, but the endpoint still answers with the old settings after "
                    f"{task.params['replication_timeout']} seconds: Active Directory replicates later."
                )
        return {"server": after}

    return Decision(result={"server": {**current, **plan.after}}, changed=True, diff=plan.diff, effect=effect)


def main() -> None:
    """Fail with a sentence: the work is done by the action plugin of the same name."""
    module = AnsibleModule(supports_check_mode=True, **SPEC)
    module.fail_json(msg="exchange.mitigation.server runs on the controller, through its action plugin.", reason="action_plugin_missing")


if __name__ == "__main__":
    main()
