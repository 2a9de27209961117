# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell by mail and webhook what happened to mitigations, each event once."""

from __future__ import annotations

DOCUMENTATION = r"""
module: notify
short_description: Tell by mail and webhook what happened to mitigations, once per event
version_added: 0.1.0
description:
  - Finds out what there is to tell from the results of other tasks, and tells it by mail, to Microsoft Teams, to Slack or to any receiver of JSON.
  - A mitigation is published, is applied, could not be applied, a server differs from what is wanted, or a cleanup is due. Each is told once to each
    channel, and stays told as long as it lasts. When a later run sees that it is over and it comes again, it is told again.
  - An event counts as told after the channel took it. What could not be delivered is told by the next run.
  - Contacts no managed host. Run it once, delegated to localhost.
options:
  mail:
    description:
      - Where to send mail.
    type: dict
    suboptions:
      host:
        description:
          - Name of the mail server.
        type: str
        required: true
      port:
        description:
          - Port of the mail server. The default is V(587) for O(mail.encryption=starttls), V(465) for V(tls) and V(25) for V(none).
        type: int
      encryption:
        description:
          - With V(starttls), nothing is sent to a server that does not offer it. V(tls) is TLS from the first octet.
          - With V(none), no password is sent.
        type: str
        choices: [starttls, tls, none]
        default: starttls
      username:
        description:
          - User for the mail server. Without it, no authentication takes place.
        type: str
      password:
        description:
          - Password of the user.
        type: str
      from:
        description:
          - Address of the sender.
        type: str
        required: true
      to:
        description:
          - Addresses of the recipients.
        type: list
        elements: str
        required: true
      subject_prefix:
        description:
          - What stands before every subject.
        type: str
        default: "[exchange.mitigation]"
      ca_path:
        description:
          - PEM file with the certificate authorities that may have issued the server's certificate, in place of the system's.
        type: path
      timeout:
        description:
          - Seconds within which the mail must be sent.
        type: int
        default: 30
  webhooks:
    description:
      - Where to post. A channel that answers 429, 500, 502, 503 or 504, or does not accept the connection, is tried three times at most.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - Name of the channel, under which is remembered what it was told. A new URL for the same name is the same channel.
          - The default is the kind. Two channels must have different names.
        type: str
      kind:
        description:
          - With V(teams), an adaptive card is posted, as the workflow C(When a Teams webhook request is received) takes it.
          - With V(slack), blocks are posted to an incoming webhook.
          - With V(json), every event is posted as it is returned in RV(events), with C(schema), C(source), C(title), C(at), C(run_id), C(report_url) beside.
        type: str
        choices: [teams, slack, json]
        default: json
      url:
        description:
          - The URL. Whoever knows it can post, so it is kept out of every output. It must be https, except for O(webhooks[].kind=json).
          - A redirect is not followed.
        type: str
        required: true
      proxy:
        description:
          - URL of the proxy, with user name and password where it wants them.
          - Without it, the proxies of the environment are used. An empty string uses none.
        type: str
      headers:
        description:
          - Headers to send, such as an authorization. Their values are kept out of every output.
        type: dict
      ca_path:
        description:
          - PEM file with the certificate authorities that may have issued the server's certificate, in place of all others.
        type: path
      timeout:
        description:
          - Seconds within which the channel must have answered, all tries together.
        type: int
        default: 30
  feed:
    description:
      - The whole result of M(exchange.mitigation.feed), for what is published.
    type: dict
  outcomes:
    description:
      - By the name of the host, the result of M(exchange.mitigation.mitigation), for what was applied or failed. Empty for a host without one.
    type: dict
  states:
    description:
      - By the name of the host, how it came out of a rollout, with C(state), C(reason) and C(msg). A host that failed before O(outcomes) has anything
        of it is told as failed. Empty for a host without one.
    type: dict
  report:
    description:
      - What P(exchange.mitigation.report_rows#filter) returned, for what differs and what is due for cleanup.
    type: dict
  events:
    description:
      - The kinds of event to tell.
    type: list
    elements: str
    choices: [published, applied, failed, drift, cleanup]
    default: [published, applied, failed, drift, cleanup]
  report_file:
    description:
      - An HTML file on the controller. When set, a mail with this file attached is sent by every run, with the lines of O(report) and what is news in it.
      - Has no effect on webhooks.
    type: path
  report_url:
    description:
      - Where the report can be read. It is shown with every message.
    type: str
  run_id:
    description:
      - Name of the run. It is shown with every message.
    type: str
  required:
    description:
      - Whether the task fails when a channel could not be reached, after the others were told. Without it, there is a warning.
    type: bool
    default: true
  state_dir:
    description:
      - Directory on the controller for what is remembered of each channel. It gets mode 0700.
      - The default is C(exchange_mitigation) below E(XDG_STATE_HOME), or below C(~/.local/state).
      - Without lasting state everything is told by every run. A container's home is not lasting.
    type: path
extends_documentation_fragment:
  - exchange.mitigation.attributes
  - exchange.mitigation.attributes.actiongroup
attributes:
  check_mode:
    support: full
    details:
      - Sends nothing and remembers nothing. RV(events) and RV(channels) tell what would be sent.
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
      - The same events are sent once to each channel. With O(report_file), a mail is sent each time.
requirements:
  - requests (on the controller, for O(webhooks))
seealso:
  - module: exchange.mitigation.feed
  - module: exchange.mitigation.mitigation
author:
  - exchange.mitigation contributors (@exchange-mitigation)
"""

EXAMPLES = r"""
- name: Tell what is published, by mail
  exchange.mitigation.notify:
    feed: "{{ published }}"
    mail:
      host: mail.example.com
      username: exchange-notice
      password: "{{ vault_mail_password }}"
      from: exchange-notice@example.com
      to:
        - exchange-team@example.com
  delegate_to: localhost
  run_once: true

- name: Tell what was applied and what failed, in Teams
  exchange.mitigation.notify:
    outcomes: "{{ dict(ansible_play_hosts_all | zip(ansible_play_hosts_all | map('extract', hostvars) | map(attribute='outcome', default={}))) }}"
    webhooks:
      - kind: teams
        url: "{{ vault_teams_url }}"
        proxy: http://proxy.example.com:3128
  delegate_to: localhost
  run_once: true

- name: Mail the report at every run, and post to Slack only what differs
  exchange.mitigation.notify:
    report: "{{ exchange_mitigation_report }}"
    report_file: /var/www/exchange/report.html
    report_url: https://reports.example.com/exchange/report.html
    events:
      - drift
      - cleanup
    mail:
      host: mail.example.com
      encryption: tls
      from: exchange-notice@example.com
      to:
        - exchange-team@example.com
    webhooks:
      - kind: slack
        url: "{{ vault_slack_url }}"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
events:
  description: What this run saw and O(events) asks for, told before or not.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: One of V(published), V(applied), V(failed), V(drift), V(cleanup).
      type: str
      sample: applied
    id:
      description: The event's stable identity.
      type: str
      sample: applied/ex1/M2
    host:
      description: The host in the inventory, null for what concerns all.
      type: str
      sample: ex1
    server:
      description: The server's own name.
      type: str
      sample: EX1
    mitigation:
      description: The mitigation, where the event is about one.
      type: str
      sample: M2
    reason:
      description: A stable code, where there is one.
      type: str
      sample: url_rewrite_missing
    text:
      description: One line for people.
      type: str
      sample: M2 (CVE-2026-42897) is applied on EX1, by this collection.
channels:
  description: Each channel and what it was told.
  returned: success, and when a channel failed
  type: list
  elements: dict
  contains:
    name:
      description: Name of the channel, V(mail) for mail.
      type: str
      sample: mail
    kind:
      description: One of V(mail), V(teams), V(slack), V(json).
      type: str
      sample: mail
    new:
      description: How many events it had not been told.
      type: int
      sample: 2
    sent:
      description: Whether a message went out.
      type: bool
      sample: true
    reason:
      description: Stable code of what went wrong, null where nothing did.
      type: str
      sample: mail_auth
    msg:
      description: What went wrong, null where nothing did.
      type: str
      sample: null
reason:
  description: Stable code of the first channel that failed.
  returned: failure
  type: str
  sample: webhook_status
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.exchange.mitigation.plugins.module_utils import _notice
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Decision, Task
from ansible_collections.exchange.mitigation.plugins.module_utils._notify import decide

SPEC = dict(
    argument_spec=dict(
        mail=dict(
            type="dict",
            options={
                "host": dict(type="str", required=True),
                "port": dict(type="int"),
                "encryption": dict(type="str", choices=["starttls", "tls", "none"], default="starttls"),
                "username": dict(type="str"),
                "password": dict(type="str", no_log=True),
                "from": dict(type="str", required=True),
                "to": dict(type="list", elements="str", required=True),
                "subject_prefix": dict(type="str", default="[exchange.mitigation]"),
                "ca_path": dict(type="path"),
                "timeout": dict(type="int", default=30),
            },
        ),
        webhooks=dict(
            type="list",
            elements="dict",
            options=dict(
                name=dict(type="str"),
                kind=dict(type="str", choices=["teams", "slack", "json"], default="json"),
                url=dict(type="str", required=True, no_log=True),
                proxy=dict(type="str", no_log=True),
                headers=dict(type="dict", no_log=True),
                ca_path=dict(type="path"),
                timeout=dict(type="int", default=30),
            ),
        ),
        feed=dict(type="dict"),
        outcomes=dict(type="dict"),
        states=dict(type="dict"),
        report=dict(type="dict"),
        events=dict(type="list", elements="str", choices=list(_notice.KINDS), default=list(_notice.KINDS)),
        report_file=dict(type="path"),
        report_url=dict(type="str"),
        run_id=dict(type="str"),
        required=dict(type="bool", default=True),
        state_dir=dict(type="path"),
    ),
    required_one_of=[("mail", "webhooks")],
)


def run(task: Task) -> Decision:
    """Find out what there is to tell; the effect tells it."""
    return decide(task, os.environ)


def main() -> None:
    """Refuse to run without the action plugin."""
    module = AnsibleModule(supports_check_mode=True, **SPEC)
    module.fail_json(msg="exchange.mitigation.notify runs on the controller through its action plugin of the same name.", reason="needs_action_plugin")


if __name__ == "__main__":
    main()
