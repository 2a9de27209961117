#!/usr/bin/python
# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module mitigation: mitigations on one server, applied or taken back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mitigation
short_description: Apply mitigations to an Exchange server, or take them back
version_added: 0.1.0
description:
  - Brings the rewrite rules of the wanted mitigations into the server's IIS configuration where its build needs them, or takes
    them out again.
  - A rule is recognised by what it does, whoever made it, so a mitigation that EM or EOMT applied counts as applied.
  - Every file is edited on the controller, only at the place that the mitigation owns. Before the change the bytes are in the
    journal; the new file replaces the old one in one call that keeps its security descriptor; then IIS is asked to parse it on
    the path and on every application that inherits it. When IIS refuses, the bytes from before are back at once.
  - Refused before anything is written are servers without a working URL Rewrite, files that cannot be understood, locked
    sections, and mitigations that this version does not know.
options:
  mitigations:
    description:
      - Ids such as V(M1) and V(M2), or V(all) for everything that the feed publishes.
      - Named mitigations work without O(feed), from the catalogue that ships with the collection.
      - Defaults to V(all) for O(state=applied). Required for O(state=absent) unless O(undo_run_id) is set; V(all) is refused there.
    type: list
    elements: str
  feed:
    description:
      - The value RV(exchange.mitigation.feed#module:feed) of an M(exchange.mitigation.feed) task of the same run.
      - Its file is hashed again; other bytes than those that were proven are refused.
    type: dict
  state:
    description:
      - V(applied) brings mitigations into force where the build of the server needs them.
      - V(absent) takes them out.
    type: str
    choices: [applied, absent]
    default: applied
  undo_run_id:
    description:
      - For O(state=absent), undo what this run of the journal applied on this server, whatever it was.
      - V(last) means the last run that applied something on this server.
    type: str
  organization:
    description:
      - The value RV(exchange.mitigation.organization_info#module:organization) of an M(exchange.mitigation.organization_info) task.
      - If not set, this module opens one session to Exchange itself. A value from before a change of O(honour_blocked)'s list is
        out of date, so leave it out after M(exchange.mitigation.server).
    type: dict
  identity:
    description:
      - Name or FQDN of the server in the organization.
      - If not set, the name that Windows gives itself is used.
    type: str
  site:
    description:
      - Name of the IIS site that publishes Exchange, where it was renamed.
    type: str
    default: Default Web Site
  honour_blocked:
    description:
      - Whether a mitigation that the server's MitigationsBlocked names is left alone. An entry means an id that it equals or
        that is a dotted prefix of it, or the other way round.
      - Blocks that this module set itself to take over from EM do not count.
    type: bool
    default: true
  when_em_active:
    description:
      - What to do where Exchange's own EM service is at work, that is, on for the organization and the server, running, and not
        kept away by a block.
      - V(leave) leaves the mitigation to EM and only reports.
      - V(take_over) blocks it for EM, removes EM's rule and writes one that does not break the applications below the path.
    type: str
    choices: [leave, take_over]
    default: leave
  on_unsupported:
    description:
      - What a mitigation of the feed does that this version does not know. V(fail) fails after the known ones are done, V(warn) warns.
    type: str
    choices: [fail, warn]
    default: fail
  on_conflict:
    description:
      - What to do with a rule that has a name of the mitigation and does something else, or that is switched off.
    type: str
    choices: [fail, replace, skip]
    default: fail
  include_foreign:
    description:
      - For O(state=absent), whether rules of the same effect are removed too that neither EM, EOMT nor this collection made.
    type: bool
    default: false
  journal_dir:
    description:
      - Directory on the controller for the journal, which holds the bytes of every changed file before and after. Created with mode 0700.
      - Keep it between runs. An undo that is exact to the byte, and the repair after an interrupted run, come from it.
      - If not set, C(exchange.mitigation/journal) below C(XDG_STATE_HOME) is used.
    type: path
  run_id:
    description:
      - Name of this run in the journal, the same for all servers of a rollout, so that the rollout can be undone as one.
      - If not set, a name is made from the time.
    type: str
extends_documentation_fragment:
  - exchange.mitigation.host
  - exchange.mitigation.exchange
  - exchange.mitigation.attributes
  - exchange.mitigation.attributes.actiongroup
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: The diff shows the elements that the module owns, the same in check mode.
  idempotent:
    support: full
seealso:
  - module: exchange.mitigation.feed
  - module: exchange.mitigation.server
  - module: exchange.mitigation.server_info
notes:
  - MitigationsApplied belongs to EM and is never written.
  - A changed web.config restarts the ASP.NET application domains that read it. The return value RV(effects) says which.
  - Between the two renames inside the replace call the file is missing for a moment, and until IIS has parsed the new file a
    mistake would be served. The journal detects an interruption in either window and the next run repairs it.
author:
  - exchange.mitigation contributors (@exchange-mitigation)
"""

EXAMPLES = r"""
- name: Prove the feed once
  exchange.mitigation.feed:
  delegate_to: localhost
  run_once: true
  register: published

- name: Apply what the feed publishes and the build needs
  exchange.mitigation.mitigation:
    feed: "{{ published.feed }}"
    on_unsupported: warn

- name: Apply one mitigation from the catalogue, without a feed
  exchange.mitigation.mitigation:
    mitigations: [M2]

- name: Take M2 over from EM, whose rule breaks the published calendars
  exchange.mitigation.mitigation:
    mitigations: [M2]
    when_em_active: take_over

- name: Take M2 out again
  exchange.mitigation.mitigation:
    mitigations: [M2]
    state: absent

- name: Undo the last rollout on this server, to the byte
  exchange.mitigation.mitigation:
    state: absent
    undo_run_id: last
"""

RETURN = r"""
mitigations:
  description: A verdict on each mitigation as it is after the task, or would be after it in check mode.
  returned: success, and when refused
  type: list
  elements: dict
  contains:
    id:
      description: Id in the catalogue.
      type: str
      sample: M2
    state:
      description: V(applied), V(absent), V(disabled), V(conflicting), V(unsupported) or V(unknown).
      type: str
      sample: applied
    needed:
      description: Whether the build of the server needs it, V(yes), V(no) or V(unknown).
      type: str
      sample: "yes"
    action:
      description: What the task did, V(apply), V(replace), V(remove) or V(none).
      type: str
      sample: apply
    explanation:
      description: Why, in a sentence.
      type: str
      sample: "M2: Forbid script in attributes on OWA's pages by a Content-Security-Policy header"
  sample:
    - id: M2
      cve: CVE-2026-42897
      kind: rewrite
      state: applied
      needed: "yes"
      blocked: false
      maker: us
      breaks: []
      action: apply
steps:
  description: The files that the task changed, in order, with the questions that IIS had to answer afterwards.
  returned: success
  type: list
  elements: dict
  sample:
    - file: C:\Program Files\Microsoft\Exchange Server\V15\FrontEnd\HttpProxy\owa\web.config
      action: replace
      mitigations: [M2]
      checks:
        - filter: /system.webServer/rewrite/outboundRules
          path: MACHINE/WEBROOT/APPHOST/Default Web Site/owa
effects:
  description: What the change does to the running server.
  returned: success
  type: list
  elements: str
  sample: ["C:\\inetpub\\wwwroot\\web.config is rewritten for M1; IIS restarts the application domains of Default Web Site/, worker processes go on."]
side_effects:
  description: What is known to suffer from the mitigations that were applied.
  returned: success
  type: list
  elements: str
  sample: ["M2: OWA: Print Calendar fails."]
blocked_ids:
  description: Ids that were blocked for EM before the change.
  returned: success
  type: list
  elements: str
  sample: []
ignored:
  description: Ids of the feed that change nothing by design.
  returned: success
  type: list
  elements: str
  sample: ["PING1"]
run_id:
  description: The run in the journal, null where nothing changed.
  returned: success
  type: str
  sample: 20261124T034602Z-1f2e3d
journal:
  description: The journal of this server and run, null where nothing changed.
  returned: success
  type: str
  sample: /var/lib/ansible/journal/20261124T034602Z-1f2e3d/ex1.jsonl
backed_up:
  description: The changed files with the SHA-256 of their bytes before and after. The bytes are in the journal.
  returned: changed, not in check mode
  type: list
  elements: dict
  sample:
    - file: C:\inetpub\wwwroot\web.config
      before_sha256: 0a4d55a8d778e5022fab701977c5d840bbc486d0ce1b6b2a1d6d1f1e3a5b7c9d
      after_sha256: 4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce
recovered:
  description: Files that an interrupted run had left between before and after, and what they were brought to.
  returned: success
  type: list
  elements: dict
  sample: []
reason:
  description: Stable code of a failure, such as V(url_rewrite_missing), V(unsupported_mitigation), V(conflicting) or V(check_failed).
  returned: failure
  type: str
  sample: url_rewrite_missing
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.exchange.mitigation.plugins.module_utils._mitigate import decide
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Decision, Task
from ansible_collections.exchange.mitigation.plugins.module_utils._options import EXCHANGE_OPTIONS, HOST_OPTIONS

SPEC = {
    "argument_spec": dict(
        mitigations={"type": "list", "elements": "str"},
        feed={"type": "dict"},
        state={"type": "str", "choices": ["applied", "absent"], "default": "applied"},
        undo_run_id={"type": "str"},
        organization={"type": "dict"},
        identity={"type": "str"},
        site={"type": "str", "default": "Default Web Site"},
        honour_blocked={"type": "bool", "default": True},
        when_em_active={"type": "str", "choices": ["leave", "take_over"], "default": "leave"},
        on_unsupported={"type": "str", "choices": ["fail", "warn"], "default": "fail"},
        on_conflict={"type": "str", "choices": ["fail", "replace", "skip"], "default": "fail"},
        include_foreign={"type": "bool", "default": False},
        journal_dir={"type": "path"},
        run_id={"type": "str"},
        **EXCHANGE_OPTIONS,
        **HOST_OPTIONS,
    ),
}


def run(task: Task) -> Decision:
    """Observe and plan; the effect applies."""
    return decide(task)


def main() -> None:
    """Fail with a sentence: the work is done by the action plugin of the same name."""
    module = AnsibleModule(supports_check_mode=True, **SPEC)
    module.fail_json(msg="exchange.mitigation.mitigation runs on the controller, through its action plugin.", reason="action_plugin_missing")


if __name__ == "__main__":
    main()
