#!/usr/bin/python
# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module event_info: what Emergency Mitigation told of itself."""

from __future__ import annotations

DOCUMENTATION = r"""
module: event_info
short_description: Events and log lines of Emergency Mitigation
version_added: 0.1.0
description:
  - Reads the events of the provider C(MSExchange Mitigation Service) from the Application log, and the lines of the service's own log
    folder C(Logging\MitigationService), newest first and no more than asked for.
  - Texts are returned as the server wrote them, in its language, beside the event's number, which is the same in all languages.
  - The format of the log folder is not documented. Lines that are not understood are returned as they are.
  - A missing folder, and a file that is rotated away in the meantime, are no errors.
extends_documentation_fragment:
  - exchange.mitigation.host
  - exchange.mitigation.attributes
  - exchange.mitigation.attributes.info_module
  - exchange.mitigation.attributes.actiongroup
options:
  since:
    description:
      - The oldest time to return, in ISO 8601 with an offset such as V(2026-11-01T08:00:00Z), or a duration before now such as V(90m), V(24h) or V(7d).
      - Events and log lines are compared by the clock of the server, from how long ago that is.
      - Ignored for what O(bookmark) covers.
    type: str
    default: 24h
  bookmark:
    description:
      - RV(bookmark) of an earlier task on the same server. Only what came after it is returned.
      - Where the event log was cleared since, events since the bookmark's time are returned.
    type: dict
    suboptions:
      record_id:
        description: Number of the newest event.
        type: int
      time:
        description: Time of the newest event.
        type: str
      log_time:
        description: Time of the newest log line. Lines of the same millisecond are not returned again.
        type: str
  ids:
    description: Numbers of the events to return. If empty, all of the provider.
    type: list
    elements: int
    default: []
  limit:
    description: How many events to return at most, from 1 to 1000.
    type: int
    default: 100
  logs:
    description: Whether to read the log folder as well.
    type: bool
    default: true
  log_limit:
    description: How many log lines to return at most, from 1 to 5000.
    type: int
    default: 200
seealso:
  - module: exchange.mitigation.server_info
  - module: exchange.mitigation.service
author:
  - exchange.mitigation contributors (@exchange-mitigation)
"""

EXAMPLES = r"""
- name: What Emergency Mitigation did in the last week
  exchange.mitigation.event_info:
    since: 7d
  register: told

- name: Its errors alone
  exchange.mitigation.event_info:
    ids: [1008]
    since: "2026-11-01T00:00:00Z"
    logs: false

- name: Only what is new since the last task
  exchange.mitigation.event_info:
    bookmark: "{{ told.bookmark }}"
"""

RETURN = r"""
server:
  description: Name of the server.
  returned: success
  type: str
  sample: EX1
events:
  description: Events, newest first.
  returned: success
  type: list
  elements: dict
  contains:
    record_id:
      description: Number of the record in the log.
      type: int
      returned: success
      sample: 48213
    time:
      description: When, in ISO 8601, UTC.
      type: str
      returned: success
      sample: "2026-11-24T04:10:11.123Z"
    id:
      description: Number of the event.
      type: int
      returned: success
      sample: 1008
    meaning:
      description: V(success) for 1005 and 1006, V(error) for 1008, V(other) for numbers that are not documented.
      type: str
      returned: success
      sample: error
    level:
      description: V(information), V(warning), V(error), V(critical) or V(verbose).
      type: str
      returned: success
      sample: error
    provider:
      description: The provider.
      type: str
      returned: success
      sample: MSExchange Mitigation Service
    message:
      description: The text, in the language of the server, shortened to 4000 characters. Empty where the server lacks the text.
      type: str
      returned: success
      sample: "An unexpected exception occurred. Diagnostic information: ..."
truncated:
  description: Whether there are more events than were returned.
  returned: success
  type: bool
  sample: false
event_log_cleared:
  description: Whether the event log was cleared since the bookmark.
  returned: success
  type: bool
  sample: false
log:
  description: The log folder of the service.
  returned: success
  type: dict
  contains:
    folder:
      description: The folder, null where it was not looked at.
      type: str
      returned: success
      sample: C:\Program Files\Microsoft\Exchange Server\V15\Logging\MitigationService
    exists:
      description: Whether the folder is there.
      type: bool
      returned: success
      sample: true
    files:
      description: The files that were read, newest first.
      type: list
      elements: str
      returned: success
      sample: [MitigationService_20261124-1.LOG]
    lines:
      description: Lines, newest first. Parts of a line that are not understood are null.
      type: list
      elements: dict
      returned: success
      sample:
        - file: MitigationService_20261124-1.LOG
          time: "2026-11-24T04:10:11.123Z"
          event: FetchMitigation
          level: Warning
          message: Connection attempted against untrusted endpoint
          data: {}
          raw: FetchMitigation,S:LogLevel=Warning;S:Message=Connection attempted against untrusted endpoint
    truncated:
      description: Whether there are more lines or files than were read.
      type: bool
      returned: success
      sample: false
bookmark:
  description: How far this task got, for O(bookmark) of a later one.
  returned: success
  type: dict
  sample: {record_id: 48213, time: "2026-11-24T04:10:11.123Z", log_time: "2026-11-24T04:10:11.123Z"}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.exchange.mitigation.plugins.module_utils import _events
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Decision, Task
from ansible_collections.exchange.mitigation.plugins.module_utils._options import HOST_OPTIONS

SPEC: dict[str, Any] = {
    "argument_spec": dict(
        since={"type": "str", "default": "24h"},
        bookmark={"type": "dict", "options": {"record_id": {"type": "int"}, "time": {"type": "str"}, "log_time": {"type": "str"}}},
        ids={"type": "list", "elements": "int", "default": []},
        limit={"type": "int", "default": 100},
        logs={"type": "bool", "default": True},
        log_limit={"type": "int", "default": 200},
        **HOST_OPTIONS,
    ),
}


def run(task: Task) -> Decision:
    """Read; there is nothing to change."""
    params, now = task.params, task.now()
    for name, highest in (("limit", 1000), ("log_limit", 5000)):
        if not 1 <= params[name] <= highest:
            raise InvalidInput(f"{name} takes 1 to {highest}, not {params[name]}")
    if any(not 0 <= number <= 65535 for number in params["ids"]):
        raise InvalidInput("ids takes numbers of events, from 0 to 65535")
    since = _events.since_of(params["since"], now)
    if since > now:
        raise InvalidInput(f"since: {params['since']} is in the future")
    after = _events.Bookmark.of(params["bookmark"]) if params["bookmark"] else None
    question = _events.Question(since, now, after, tuple(params["ids"]), params["limit"], params["log_limit"], params["logs"])
    found = _events.gather(task.host, question)
    if found["event_log_cleared"]:
        task.warn("the event log was cleared since the bookmark; events since the bookmark's time are returned")
    return Decision(result=found)


def main() -> None:
    """Fail with a sentence: the work is done by the action plugin of the same name."""
    module = AnsibleModule(supports_check_mode=True, **SPEC)
    module.fail_json(msg="exchange.mitigation.event_info runs on the controller, through its action plugin.", reason="action_plugin_missing")


if __name__ == "__main__":
    main()
