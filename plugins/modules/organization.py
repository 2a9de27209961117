#!/usr/bin/python
# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module organization: settings of the organisation that concern Emergency Mitigation."""

from __future__ import annotations

DOCUMENTATION = r"""
module: organization
short_description: Switch Emergency Mitigation for an Exchange organization
version_added: 0.1.0
description:
  - Sets what the organization as a whole says about Emergency Mitigation. Where it is off for the organization, it is
    off on every server, whatever the server's own setting says.
  - The organization has this one setting; C(MitigationsBlocked), C(DataCollectionEnabled) and C(InternetWebProxy) belong to
    each server, see M(exchange.mitigation.server).
  - Needs no connection to the Windows host itself. Run it once per play.
  - An Exchange server that answers with a build from before Emergency Mitigation is refused.
extends_documentation_fragment:
  - exchange.mitigation.settings
  - exchange.mitigation.exchange
  - exchange.mitigation.attributes
  - exchange.mitigation.attributes.actiongroup
options:
  mitigations_enabled:
    description:
      - Whether Emergency Mitigation is on for the organization.
    type: bool
seealso:
  - module: exchange.mitigation.organization_info
  - module: exchange.mitigation.server
author:
  - exchange.mitigation contributors (@exchange-mitigation)
"""

EXAMPLES = r"""
- name: Emergency Mitigation is on for the organization
  exchange.mitigation.organization:
    mitigations_enabled: true
  run_once: true

- name: Show what switching it off would change
  exchange.mitigation.organization:
    mitigations_enabled: false
  check_mode: true
  diff: true
  run_once: true

- name: Switch it on from the controller, over TLS
  exchange.mitigation.organization:
    mitigations_enabled: true
    exchange_host: ex1.example.com
    exchange_scheme: https
    exchange_auth: negotiate
    exchange_username: EXAMPLE\admin
    exchange_password: "{{ vault_exchange_admin }}"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
organization:
  description: The organization's settings after the task, in check mode as they would be.
  returned: success
  type: dict
  contains:
    name:
      description: Name of the organization.
      type: str
      returned: success
      sample: Example
    mitigations_enabled:
      description: Whether Emergency Mitigation is on for the organization.
      type: bool
      returned: success
      sample: true
    em_supported:
      description: Whether the Exchange server that answered has this setting at all. It came with the updates of September 2021.
      type: bool
      returned: success
      sample: true
    domain_controller:
      description: The domain controller that was written to and read from.
      type: str
      returned: success
      sample: dc1.example.com
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._exchange import ORGANIZATION_SETTINGS, plan_settings, read_settings
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Decision, Task
from ansible_collections.exchange.mitigation.plugins.module_utils._options import EXCHANGE_OPTIONS, SETTINGS_OPTIONS
from ansible_collections.exchange.mitigation.plugins.module_utils._settings import write

SPEC = {
    "argument_spec": dict(
        mitigations_enabled={"type": "bool"},
        **SETTINGS_OPTIONS,
        **EXCHANGE_OPTIONS,
    ),
}


def run(task: Task) -> Decision:
    """Compare the wanted settings with the present ones; the effect writes only what differs."""
    current = read_settings(task.exchange)
    if not current["em_supported"]:
        raise Refused(
            "The Exchange server that answered has no setting for Emergency Mitigation: it is older than the updates of September 2021 "
            "(2016 CU22, 2019 CU11). Set exchange_host to a server that has it.",
            reason="em_not_supported",
        )
    plan = plan_settings(ORGANIZATION_SETTINGS, task.params, current)
    if not plan.parameters:
        return Decision(result={"organization": current})

    def effect() -> dict[str, Any]:
        return write(task, "organization", current, plan, "Set-OrganizationConfig", {}, lambda controller: read_settings(task.exchange, controller))

    return Decision(result={"organization": {**current, **plan.after}}, changed=True, diff=plan.diff, effect=effect)


def main() -> None:
    """Fail with a sentence: the work is done by the action plugin of the same name."""
    module = AnsibleModule(supports_check_mode=True, **SPEC)
    module.fail_json(msg="exchange.mitigation.organization runs on the controller, through its action plugin.", reason="action_plugin_missing")


if __name__ == "__main__":
    main()
