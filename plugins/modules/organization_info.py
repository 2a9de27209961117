#!/usr/bin/python
# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module organization_info: the organisation and all its servers, read in one Exchange session."""

from __future__ import annotations

DOCUMENTATION = r"""
module: organization_info
short_description: Read an Exchange organization and its servers
version_added: 0.1.0
description:
  - Returns the settings of the organization that concern Emergency Mitigation, and every Exchange server with its build,
    roles, site and Emergency Mitigation fields.
  - Opens one session to Exchange for the whole organization. Run it once per play and hand RV(organization) to
    M(exchange.mitigation.server_info) and M(exchange.mitigation.mitigation).
  - An Exchange 2013 or older server that answers for itself is refused. Edge servers and machines without the Mailbox role have no
    such endpoint.
  - Needs no connection to the Windows host itself, so it also works delegated to the controller with explicit options.
extends_documentation_fragment:
  - exchange.mitigation.exchange
  - exchange.mitigation.attributes
  - exchange.mitigation.attributes.info_module
  - exchange.mitigation.attributes.actiongroup
seealso:
  - module: exchange.mitigation.organization
  - module: exchange.mitigation.server
author:
  - exchange.mitigation contributors (@exchange-mitigation)
"""

EXAMPLES = r"""
- name: Read the organization once for all servers of the play
  exchange.mitigation.organization_info:
  register: exchange
  run_once: true

- name: Show servers on which Emergency Mitigation is off
  ansible.builtin.debug:
    msg: "{{ exchange.organization.servers | rejectattr('mitigations_enabled') | map(attribute='name') | list }}"
  run_once: true

- name: Read it from the controller, with Basic authentication over TLS
  exchange.mitigation.organization_info:
    exchange_host: ex1.example.com
    exchange_scheme: https
    exchange_auth: basic
    exchange_username: EXAMPLE\reader
    exchange_password: "{{ vault_exchange_reader }}"
    exchange_ca_path: /etc/pki/example/ca.pem
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
organization:
  description: The organization as Exchange shows it.
  returned: success
  type: dict
  contains:
    name:
      description: Name of the organization.
      type: str
      returned: success
      sample: Example
    mitigations_enabled:
      description: Whether Emergency Mitigation is on for the organization. V(none) where the answering server has no such setting.
      type: bool
      returned: success
      sample: true
    em_supported:
      description: Whether the Exchange server that answered has this setting at all. It came with the updates of September 2021.
      type: bool
      returned: success
      sample: true
    domain_controller:
      description: The domain controller that the answer comes from.
      type: str
      returned: success
      sample: dc1.example.com
    dags:
      description: Database availability groups and their members, V(none) where the account may not read them.
      type: list
      elements: dict
      returned: success
      sample: [{name: DAG01, servers: [EX1, EX2]}]
    servers:
      description: All Exchange servers, ordered by name.
      type: list
      elements: dict
      returned: success
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
          description: The version as Exchange shows it. It may name an older update than the one installed.
          type: str
          returned: success
          sample: Version 15.2 (Build 2562.17)
        build:
          description: The build that RV(organization.servers[].version) tells, V(none) where it tells none.
          type: str
          returned: success
          sample: 15.2.2562.17
        product:
          description: V(Exchange2016), V(Exchange2019), V(ExchangeSE), V(older) or V(unknown).
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
        dag:
          description: The database availability group that the server is a member of. V(none) where it is in none, or RV(organization.dags) is V(none).
          type: str
          returned: success
          sample: DAG01
        mitigations_enabled:
          description: Whether Emergency Mitigation is on for the server. V(none) on a server from before it.
          type: bool
          returned: success
          sample: true
        mitigations_blocked:
          description: Ids that Emergency Mitigation does not apply on the server.
          type: list
          elements: str
          returned: success
          sample: [M1]
        mitigations_applied:
          description: Ids that Emergency Mitigation says it has applied.
          type: list
          elements: str
          returned: success
          sample: [PING1, M2.1.0]
        mitigations_applied_time:
          description: When Emergency Mitigation last wrote, in ISO 8601, V(none) where it never did.
          type: str
          returned: success
          sample: "2026-10-01T08:12:37Z"
        data_collection_enabled:
          description: Whether the server sends diagnostic data to Microsoft.
          type: bool
          returned: success
          sample: false
        internet_web_proxy:
          description: The proxy that Emergency Mitigation uses.
          type: str
          returned: success
          sample: http://proxy.example.com:8080/
        domain_controller:
          description: The domain controller that the values come from.
          type: str
          returned: success
          sample: dc1.example.com
        em_supported:
          description: Whether the server's roles and build have Emergency Mitigation.
          type: bool
          returned: success
          sample: true
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._exchange import find_server, read_organization
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Decision, Task
from ansible_collections.exchange.mitigation.plugins.module_utils._options import EXCHANGE_OPTIONS

SPEC = {"argument_spec": dict(**EXCHANGE_OPTIONS)}


def run(task: Task) -> Decision:
    """Read organisation and servers; nothing is ever changed."""
    organization = read_organization(task.exchange, groups=True)
    answering = find_server(organization, str(task.params["exchange_host"] or task.inventory_hostname))
    if answering is not None and answering["product"] == "older":
        raise Refused(
            f"{answering['name']} runs {answering['version']} and does not know what newer servers say of Emergency Mitigation. "
            "Set exchange_host to an Exchange 2016, 2019 or SE server.",
            "unsupported_product",
        )
    task.progress(f"organization {organization['name']} has {len(organization['servers'])} servers")
    return Decision(result={"organization": organization})


def main() -> None:
    """Fail with a sentence: the work is done by the action plugin of the same name."""
    module = AnsibleModule(supports_check_mode=True, **SPEC)
    module.fail_json(msg="exchange.mitigation.organization_info runs on the controller, through its action plugin.", reason="action_plugin_missing")


if __name__ == "__main__":
    main()
