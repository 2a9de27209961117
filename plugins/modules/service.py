#!/usr/bin/python
# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module service: the Windows services of Emergency Mitigation."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service
short_description: State and start mode of the Emergency Mitigation service
version_added: 0.1.0
description:
  - Starts, stops and restarts the service of Emergency Mitigation, C(MSExchangeMitigation), and sets its start mode.
  - Waits for a limited time until the service is where it should be. No cmdlet is used that would wait for ever.
  - Where the service cannot be started because of a service that it needs, the message names that service.
  - Services are known by their names, never by a display name, which depends on the language of the server.
  - The service runs also where Emergency Mitigation is switched off, see M(exchange.mitigation.server). After a start its first run comes
    ten minutes later.
  - Servers without it are refused by name. Those are Edge servers, machines with the management tools alone, those without Exchange, and
    builds from before Emergency Mitigation.
extends_documentation_fragment:
  - exchange.mitigation.host
  - exchange.mitigation.attributes
  - exchange.mitigation.attributes.actiongroup
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details: O(state=restarted) restarts the service each time.
options:
  name:
    description:
      - The service.
      - V(MSExchangeFlighting) came with Exchange Server Subscription Edition.
    type: str
    choices: [MSExchangeMitigation, MSExchangeFlighting]
    default: MSExchangeMitigation
  state:
    description:
      - The state of the service.
      - If not set, it is left alone.
    type: str
    choices: [started, stopped, restarted]
  start_mode:
    description:
      - When Windows starts the service.
      - If not set, it is left alone.
    type: str
    choices: [auto, manual, disabled]
  timeout:
    description: Seconds to wait until the service is started or stopped, for each of them.
    type: int
    default: 120
seealso:
  - module: exchange.mitigation.server
  - module: exchange.mitigation.event_info
author:
  - exchange.mitigation contributors (@exchange-mitigation)
"""

EXAMPLES = r"""
- name: Emergency Mitigation runs and is started with Windows
  exchange.mitigation.service:
    state: started
    start_mode: auto

- name: Let it fetch the feed anew, ten minutes from now
  exchange.mitigation.service:
    state: restarted
  throttle: 5

- name: No feature flighting on this server
  exchange.mitigation.service:
    name: MSExchangeFlighting
    state: stopped
    start_mode: disabled
"""

RETURN = r"""
service:
  description: The service after the task, in check mode as it would be.
  returned: success
  type: dict
  contains:
    name:
      description: Name of the service.
      type: str
      returned: success
      sample: MSExchangeMitigation
    state:
      description: V(running), V(stopped), V(start_pending) and so on.
      type: str
      returned: success
      sample: running
    start_mode:
      description: V(auto), V(manual) or V(disabled).
      type: str
      returned: success
      sample: auto
    process_id:
      description: Its process, 0 where it does not run. In check mode the present one.
      type: int
      returned: success
      sample: 4312
    needs:
      description: The services that it depends on with their states, as they were before the task.
      type: dict
      returned: success
      sample: {MSExchangeADTopology: Running}
reason:
  description:
    - Why the task failed, as a stable code.
    - For servers without the service, V(edge_server), V(no_exchange), V(management_tools_only), V(unsupported_product), V(em_not_supported) and
      V(service_missing).
    - For what could not be done, V(service_disabled), V(dependency_down), V(service_timeout), V(service_refused), V(service_broken),
      V(dependents_running), V(start_mode_failed) and V(access_denied).
    - For options that cannot be meant, V(invalid_input).
  returned: failure
  type: str
  sample: dependency_down
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.exchange.mitigation.plugins.module_utils import _services
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput, MitigationError, Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Decision, Task
from ansible_collections.exchange.mitigation.plugins.module_utils._options import HOST_OPTIONS

SPEC: dict[str, Any] = {
    "argument_spec": dict(
        name={"type": "str", "choices": [_services.MITIGATION, _services.FLIGHTING], "default": _services.MITIGATION},
        state={"type": "str", "choices": ["started", "stopped", "restarted"]},
        start_mode={"type": "str", "choices": list(_services.START_MODES)},
        timeout={"type": "int", "default": 120},
        **HOST_OPTIONS,
    ),
    "required_one_of": [["state", "start_mode"]],
}


def run(task: Task) -> Decision:
    """Compare the service with what is wanted; the effect changes only what differs."""
    name, state, mode, timeout = (task.params[option] for option in ("name", "state", "start_mode", "timeout"))
    if mode == "disabled" and state in ("started", "restarted"):
        raise InvalidInput(f"A disabled service cannot be started: take state: stopped with start_mode: disabled, not state: {state}.")
    if timeout < 1:
        raise InvalidInput(f"timeout takes seconds from 1 on, not {timeout}")
    found = _services.read(task.host, name)
    now = found.facts()
    set_mode = mode is not None and mode != now["start_mode"]
    if state in ("started", "restarted") and now["start_mode"] == "disabled" and not set_mode and (state == "restarted" or found.state != _services.RUNNING):
        raise Refused(f"{name} is disabled and cannot be started; set start_mode as well.", "service_disabled", service=name)
    stop = (state == "stopped" and found.state != _services.STOPPED) or (state == "restarted" and found.state != _services.STOPPED)
    start = state == "restarted" or (state == "started" and found.state != _services.RUNNING)
    after = dict(now, start_mode=mode if set_mode else now["start_mode"])
    if start or stop:
        after["state"] = "running" if start else "stopped"
    if not (set_mode or start or stop):
        return Decision(result={"service": now})

    def effect() -> dict[str, Any]:
        if set_mode:
            _services.set_start_mode(task.host, name, mode)
        stopped = False
        try:
            if stop:
                _services.stop(task.host, name, timeout, task.progress)
                stopped = True
            if start:
                _services.start(task.host, name, timeout, task.progress)
        except MitigationError as exc:
            exc.details.update(changed=set_mode or stopped, start_mode_set=set_mode)
            raise
        return {"service": dict(_services.look(task.host, name).facts(), needs=now["needs"])}

    shown = {"before": _shown(now, state == "restarted", False), "after": _shown(after, state == "restarted", True)}
    return Decision(result={"service": after}, changed=True, diff={**shown, "before_header": name, "after_header": name}, effect=effect)


def _shown(facts: dict[str, Any], restarted: bool, after: bool) -> dict[str, Any]:
    shown = {"state": facts["state"], "start_mode": facts["start_mode"]}
    return {**shown, "state": f"{facts['state']} (restarted)"} if restarted and after else shown


def main() -> None:
    """Fail with a sentence: the work is done by the action plugin of the same name."""
    module = AnsibleModule(supports_check_mode=True, **SPEC)
    module.fail_json(msg="exchange.mitigation.service runs on the controller, through its action plugin.", reason="action_plugin_missing")


if __name__ == "__main__":
    main()
