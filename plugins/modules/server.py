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
  - Sets whether Emergency Mitigation is on for a server, which mitigations it must not apply there, whether the server sends
    diagnostic data, and through which proxy it goes to the internet.
  - Lists of ids are read, computed and replaced whole, so that ids which others have blocked stay blocked.
  - Blocking an id does not remove a mitigation that is applied already, see M(exchange.mitigation.mitigation).
  - C(MitigationsApplied) belongs to the Emergency Mitigation service and is never written.
  - Edge servers, Exchange 2013 and older, and builds from before Emergency Mitigation are refused.
extends_documentation_fragment:
  - exchange.mitigation.settings
  - exchange.mitigation.exchange
  - exchange.mitigation.attributes
  - exchange.mitigation.attributes.actiongroup
options:
  identity:
    description:
      - Name or FQDN of the Exchange server, in any case.
      - If not set, the name of the host in the inventory. Where that has dots, its first part is tried too.
    type: str
  mitigations_enabled:
    description:
      - Whether Emergency Mitigation is on for the server. It works only where it is on for the organization as well.
    type: bool
  mitigations_blocked:
    description:
      - Ids that Emergency Mitigation must not apply on the server, as C(MitigationsApplied) shows them.
      - Ids are compared in any case and kept as Exchange shows them. An id that nobody knows is blocked with a warning.
      - A list that is left out or null asks for nothing.
    type: dict
    suboptions:
      add:
        description: Ids to block in addition to those that are blocked. None may stand under O(mitigations_blocked.remove) too.
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
    type: bool
  internet_web_proxy:
    description:
      - The proxy that Exchange, and with it Emergency Mitigation, uses to reach the internet, as scheme, host and port. An empty
        text removes it.
      - Windows' own services need the proxy of WinHTTP beside it, see RV(exchange.mitigation.server_info#module:server.proxies).
    type: str
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

- name: Servers of the branch go through its proxy and send no diagnostic data
  exchange.mitigation.server:
    internet_web_proxy: http://proxy.example.com:8080
    data_collection_enabled: false

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
  description:
    - The server as Exchange shows it after the task, in check mode as it would be.
    - The keys are those of a server in RV(exchange.mitigation.organization_info#module:organization.servers). C(domain_controller)
      is the domain controller that was written to and read from.
  returned: success
  type: dict
  sample:
    name: EX1
    fqdn: ex1.example.com
    version: Version 15.2 (Build 2562.17)
    build: 15.2.2562.17
    product: ExchangeSE
    roles: [Mailbox]
    edition: Enterprise
    site: Default-First-Site-Name
    mitigations_enabled: true
    mitigations_blocked: [M2.1.0]
    mitigations_applied: [PING1]
    mitigations_applied_time: "2026-10-01T08:12:37Z"
    data_collection_enabled: false
    internet_web_proxy: http://proxy.example.com:8080/
    domain_controller: dc1.example.com
    em_supported: true
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._exchange import SERVER_SETTINGS, plan_settings, read_server
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Decision, Task
from ansible_collections.exchange.mitigation.plugins.module_utils._options import EXCHANGE_OPTIONS, SETTINGS_OPTIONS
from ansible_collections.exchange.mitigation.plugins.module_utils._settings import warn_of_unknown, write

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
        internet_web_proxy={"type": "str"},
        **SETTINGS_OPTIONS,
        **EXCHANGE_OPTIONS,
    ),
}


def run(task: Task) -> Decision:
    """Compare the wanted settings with the present ones; the effect writes only what differs."""
    identity = task.params["identity"] or task.inventory_hostname
    current = read_server(task.exchange, identity)
    refuse(current)
    plan = plan_settings(SERVER_SETTINGS, task.params, current)
    warn_of_unknown(task, current, plan.after.get("mitigations_blocked", []))
    if not plan.parameters:
        return Decision(result={"server": current})
    name = str(current["name"])

    def effect() -> dict[str, Any]:
        return write(task, "server", current, plan, "Set-ExchangeServer", {"Identity": name}, lambda controller: read_server(task.exchange, name, controller))

    return Decision(result={"server": {**current, **plan.after}}, changed=True, diff=plan.diff, effect=effect)


def refuse(server: dict[str, Any]) -> None:
    """Raise Refused for a server that has no Emergency Mitigation, or that the answering server cannot set it for."""
    name, version = server["name"], server["version"]
    if "Edge" in server["roles"]:
        raise Refused(f"{name} is an Edge Transport server; Emergency Mitigation exists on Mailbox servers only", "edge_server")
    if server["product"] == "older":
        raise Refused(f"{name} runs {version}; Exchange 2016, 2019 or SE is needed", "unsupported_product")
    if not server["em_supported"]:
        raise Refused(
            f"{name} ({', '.join(server['roles']) or 'no role'}, {version}) has no Emergency Mitigation: it came with Exchange 2016 CU22, 2019 CU11 and SE",
            "em_not_supported",
        )
    if server["mitigations_enabled"] is None:
        raise Refused(
            f"The Exchange server that answered is older than Emergency Mitigation and cannot set it for {name}. Set exchange_host to {server['fqdn']}.",
            "em_not_supported",
        )


def main() -> None:
    """Fail with a sentence: the work is done by the action plugin of the same name."""
    module = AnsibleModule(supports_check_mode=True, **SPEC)
    module.fail_json(msg="exchange.mitigation.server runs on the controller, through its action plugin.", reason="action_plugin_missing")


if __name__ == "__main__":
    main()
