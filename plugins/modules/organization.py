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
  - Writes to the domain controller that the present value came from, reads it back there, and waits for a limited time
    until the endpoint shows the new value.
  - Needs no connection to the Windows host itself. Run it once per play.
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
  mitigations_enabled:
    description:
      - Whether Emergency Mitigation is on for the organization.
      - If not set, nothing is changed.
    type: bool
  replication_timeout:
    description:
      - Seconds to wait after a change until the endpoint shows it without being asked for a certain domain controller.
      - The change is made in any case. A wait that ends without the new value is a warning.
    type: int
    default: 60
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
    domain_controller:
      description: The domain controller that was written to and read from.
      type: str
      returned: success
      sample: dc1.example.com
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._exchange import ORGANIZATION_SETTINGS, plan_settings, read_settings, wait_until
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Decision, Task, call
from ansible_collections.exchange.mitigation.plugins.module_utils._options import EXCHANGE_OPTIONS

SPEC = {
    "argument_spec": dict(
        mitigations_enabled={"type": "bool"},
        replication_timeout={"type": "int", "default": 60},
        **EXCHANGE_OPTIONS,
    ),
}

#: Seconds for the domain controller that took the change to show it.
READ_BACK = 10


def run(task: Task) -> Decision:
    """Compare the wanted settings with the present ones; the effect writes only what differs."""
    current = read_settings(task.exchange)
    plan = plan_settings(ORGANIZATION_SETTINGS, task.params, current)
    if plan.parameters and current["mitigations_enabled"] is None:
        raise Refused(
            "The answering Exchange server has no setting for Emergency Mitigation: it is older than the September 2021 updates. "
            "Set exchange_host to a server that has it.",
            reason="em_not_supported",
        )
    if not plan.parameters:
        return Decision(result={"organization": current})

    def effect() -> dict[str, Any]:
        controller = current["domain_controller"]
        where = {"DomainController": controller} if controller else {}
        task.exchange.change((call("Set-OrganizationConfig", **plan.parameters, **where, Confirm=False),))
        after, done = wait_until(lambda: read_settings(task.exchange, controller), plan.done, READ_BACK)
        if not done:
            raise ApplyError(
                f"Set-OrganizationConfig reported no error, but {controller} still shows the old settings.", reason="change_not_visible", organization=after
            )
        if task.params["replication_timeout"] > 0:
            seen = wait_until(lambda: read_settings(task.exchange), plan.done, task.params["replication_timeout"])[1]
            if not seen:
                task.warn(
                    f"The organization was changed on {controller}, but the endpoint still answers with the old settings after "
                    f"{task.params['replication_timeout']} seconds: Active Directory replicates later."
                )
        return {"organization": after}

    return Decision(result={"organization": {**current, **plan.after}}, changed=True, diff=plan.diff, effect=effect)


def main() -> None:
    """Fail with a sentence: the work is done by the action plugin of the same name."""
    module = AnsibleModule(supports_check_mode=True, **SPEC)
    module.fail_json(msg="exchange.mitigation.organization runs on the controller, through its action plugin.", reason="action_plugin_missing")


if __name__ == "__main__":
    main()
