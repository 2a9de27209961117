#!/usr/bin/python
# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module mitigation: mitigations on one server, applied, taken back or retired."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mitigation
short_description: Apply mitigations to an Exchange server, take them back, or retire them
version_added: 0.1.0
description:
  - Brings the rewrite rules of the wanted mitigations into the server's IIS configuration where its build needs them, stops the
    services and application pools that a mitigation turns off, or takes all that back.
  - A rule is recognised by what it does, whoever made it, so a mitigation that EM or EOMT applied counts as applied.
  - Every file is edited on the controller, only at the place that the mitigation owns. Before the change the bytes are in the
    journal; the new file replaces the old one in one call that keeps its security descriptor; then IIS is asked to parse it on
    the path and on every application that inherits it. When IIS refuses, the bytes from before are back at once.
  - A service or application pool is a step like a file. Its state and start mode from before are in the journal, the new ones are
    read back, and the way back restores exactly those.
  - All steps are taken or none. When one fails, or a required O(health) check after the last one does, those before it are
    undone in reverse.
  - Refused before anything is written are servers without a working URL Rewrite, files that cannot be understood, locked
    sections, and mitigations that this version does not know.
options:
  mitigations:
    description:
      - Ids such as V(M1) and V(M2), or V(all) for everything that the feed publishes.
      - Named mitigations work without O(feed), from the catalogue that ships with the collection.
      - Defaults to V(all) for O(state=applied) and O(state=retired). Required for O(state=absent) unless O(undo_run_id) is set; V(all) is
        refused there.
    type: list
    elements: str
  feed:
    description:
      - What a task of M(exchange.mitigation.feed) in the same run returned as C(feed).
      - Its file is hashed again; other bytes than those that were proven are refused.
    type: dict
  state:
    description:
      - V(applied) brings mitigations into force where the build of the server needs them.
      - V(absent) takes them out, also those that EM or EOMT made. Where EM is at work the ids are blocked first, else it would bring
        them back within the hour. A service or pool goes back to what the journal knows of it, else to what Exchange's setup makes of it.
      - V(retired) takes them out, after the same block, where the build of the server carries the fix, and leaves every server that
        still needs them as it is.
    type: str
    choices: [applied, absent, retired]
    default: applied
  undo_run_id:
    description:
      - For O(state=absent), undo what this run of the journal applied on this server, whatever it was.
      - V(last) means the last run that applied something on this server.
    type: str
  organization:
    description:
      - What a task of M(exchange.mitigation.organization_info) returned as C(organization).
      - If not set, this module opens one session to Exchange itself. A value that was read before
        M(exchange.mitigation.server) changed the blocked list is out of date, so leave it out then.
    type: dict
  organization_variable:
    description:
      - Name of the variable that holds the value of O(organization), such as V(exchange_mitigation_organization) or V(read.organization).
      - With many servers this is much cheaper than O(organization), which Ansible would copy, with all servers in it, for every one of them.
      - Its value is taken as it is; nothing in it is a template.
      - An empty dictionary means that the organization was asked and did not say; what Exchange keeps is unknown then, and nobody asks again.
    type: str
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
      - V(take_over) blocks it for EM, removes EM's rule and writes one that does not break the applications below the path. Where the
        organization does not list the server there is nothing to block, and a warning says so.
    type: str
    choices: [leave, take_over]
    default: leave
  relocate:
    description:
      - For O(state=applied), whether a rule of M2 that EM wrote where C(/owa/Calendar) reads it twice is moved to where it does no harm.
      - The id is blocked for EM first and read back, then EM's rule is removed and the same one is written inside the location block,
        in one edit. Other mitigations stay EM's, as O(when_em_active) says.
    type: bool
    default: false
  on_unsupported:
    description:
      - What a mitigation of the feed does that this version does not know. V(fail) fails after the known ones are done, V(warn) warns.
    type: str
    choices: [fail, warn]
    default: fail
  on_conflict:
    description:
      - What to do with a rule that has a name of the mitigation and does something else, or that is switched off.
      - With V(fail) the mitigation is left as it is, and the task fails for it once the others are done, as it does for one whose
        files cannot be understood.
    type: str
    choices: [fail, replace, skip]
    default: fail
  include_foreign:
    description:
      - For O(state=absent) and O(state=retired), whether rules of the same effect are removed too that neither EM, EOMT nor this
        collection made.
    type: bool
    default: false
  unblock:
    description:
      - For O(state=retired), whether blocks of these ids that this collection set are lifted after the removal. The journal knows which.
      - Blocks that somebody else set always stay.
    type: bool
    default: false
  health:
    description:
      - HTTP probes of the server, taken before the first step and after the last, and compared. If not set, there are none.
      - A path fails when it answered with a status below 500 before and now answers with 500 or above, or takes the request and gives no
        answer. It is asked a second time before that counts.
      - A path that failed before is not this change's failure. Neither is one whose application pool the mitigation stops on purpose.
      - A probe that does not reach the server says nothing, and its state is V(unknown).
    type: dict
    suboptions:
      from:
        description:
          - Who asks. V(controller) uses the Python library requests, without proxy, redirects or credentials.
          - V(host) lets the server ask itself through C(Invoke-WebRequest), which follows redirects and needs a session in FullLanguage or
            ConstrainedLanguage.
        type: str
        choices: [controller, host]
        default: controller
      url:
        description:
          - Scheme and host, such as V(https://mail.example.com), with a port where it is not the usual one.
          - If not set, C(https://) and the FQDN of the server.
        type: str
      ca_path:
        description: File of the authorities that the server's certificate is checked against, for O(health.from=controller).
        type: path
      paths:
        description:
          - The paths to ask for.
          - If not set, C(healthcheck.htm) of OWA, ECP, EWS, Autodiscover, ActiveSync, OAB and MAPI, and C(/owa/Calendar/).
        type: list
        elements: str
      timeout:
        description: Seconds for one probe.
        type: int
        default: 10
      required:
        description:
          - Whether a failed check undoes the change and fails the task with V(health_failed), and V(unknown) counts as failed.
          - Where the probes do not reach the server beforehand the task is refused with V(health_unreachable) and changes nothing.
          - If V(false), a failed check is a warning and is returned.
        type: bool
        default: false
      attack_probe:
        description:
          - Whether the harmless probe of each mitigation that is applied is sent too, and has to be stopped, or for M2 has to come back
            with the policy. One that gets through counts as a failed check.
        type: bool
        default: false
  journal_dir:
    description:
      - Directory on the controller for the journal, which holds the bytes of every changed file before and after. Created with mode 0700.
      - Undoing needs these bytes, so whatever secrets stand in a configuration file (connection strings, machine keys) stand in the journal too,
        in files of mode 0600 and nowhere else. Neither output nor diffs nor reports have them. Keep backups of this folder accordingly.
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
    details: The diff shows the elements that the module owns, the same in check mode. Probes of O(health) are not sent in check mode.
  idempotent:
    support: full
seealso:
  - module: exchange.mitigation.feed
  - module: exchange.mitigation.server
  - module: exchange.mitigation.server_info
notes:
  - MitigationsApplied belongs to EM and is never written.
  - A changed web.config restarts the ASP.NET application domains that read it. The return value RV(effects) says which.
  - The start mode of a service is set before it is stopped or started, so that a server that restarts in between comes up as it is meant
    to be. A stop is waited for at most a minute.
  - Rules are written to web.config files only. A rule of a mitigation that stands in applicationHost.config, at the level of the server or
    in a location tag, is removed or relocated from there like any other. A rule at the level of the server is in force on every site, and so
    is its removal. The file is replaced in one step or not at all; a session in ConstrainedLanguage mode or a JEA endpoint cannot do that
    and is refused. An empty location tag stays.
  - An application pool's autoStart is set by IIS itself in applicationHost.config, which afterwards names the value even where it is the
    default.
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

- name: Move EM's M2 to where it does not break the published calendars, and leave the rest to EM
  exchange.mitigation.mitigation:
    mitigations: [M2]
    relocate: true

- name: Apply M2, and undo it when a page that worked before does not work any more
  exchange.mitigation.mitigation:
    mitigations: [M2]
    health:
      url: "https://{{ inventory_hostname }}"
      ca_path: /etc/pki/exchange/ca.pem
      required: true
      attack_probe: true

- name: Retire what the installed update has made superfluous, and let EM in again
  exchange.mitigation.mitigation:
    mitigations: [M1, M2]
    state: retired
    unblock: true

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
      description: What the task did, V(apply), V(replace), V(remove), V(unblock) or V(none).
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
  description: >-
    What the task changed, in order. A file with the questions that IIS had to answer afterwards; a service or an application pool with its
    state before and after.
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
  description: Ids that were blocked for EM before the change, those that MitigationsApplied showed and the feed's.
  returned: success
  type: list
  elements: str
  sample: ["M2.1.0", "M2"]
unblocked_ids:
  description: Ids of blocks of this collection that were lifted after the change.
  returned: success
  type: list
  elements: str
  sample: []
health:
  description: What the probes saw. Null where O(health) is not set, nothing was changed, or in check mode.
  returned: success, and when the required check failed
  type: dict
  contains:
    state:
      description: V(healthy), V(failed), or V(unknown) where a probe could not be judged.
      type: str
      sample: healthy
    from:
      description: Who asked.
      type: str
      sample: controller
    url:
      description: Scheme and host that were asked.
      type: str
      sample: https://ex1.example.com
    required:
      description: Whether the check was required.
      type: bool
      sample: true
    paths:
      description: >-
        Each path with what it answered V(before) and V(after), a status, V(closed) or V(unreachable), and its state, V(healthy), V(failed),
        V(failed_before), V(expected) or V(unknown).
      type: list
      elements: dict
      sample: [{path: /owa/healthcheck.htm, before: "200", after: "200", state: healthy}]
    attack_probes:
      description: Each mitigation's probe in the same way; its state is V(stopped), V(passed) or V(unknown).
      type: list
      elements: dict
      sample: [{id: M1, path: "/autodiscover/autodiscover.json?powershell", before: "200", after: closed, state: stopped}]
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
  description: >-
    The changed files with the SHA-256 of their bytes before and after, and services and application pools with their states. The bytes
    are in the journal.
  returned: changed, not in check mode
  type: list
  elements: dict
  sample:
    - file: C:\inetpub\wwwroot\web.config
      before_sha256: 0a4d55a8d778e5022fab701977c5d840bbc486d0ce1b6b2a1d6d1f1e3a5b7c9d
      after_sha256: 4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce
recovered:
  description: Files, services and application pools that an interrupted run had left between before and after, and what they were brought to.
  returned: success
  type: list
  elements: dict
  sample:
    - file: C:\inetpub\wwwroot\web.config
      run_id: 20261124T034602Z-1f2e3d
      outcome: recovered_before
reason:
  description: Stable code of a failure, such as V(url_rewrite_missing), V(unsupported_mitigation), V(conflicting), V(check_failed)
    or V(health_failed).
  returned: failure
  type: str
  sample: url_rewrite_missing
refused:
  description: Whether the failure is a refusal by name, which stops no rollout, instead of something that went wrong.
  returned: failure
  type: bool
  sample: true
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.exchange.mitigation.plugins.module_utils._mitigate import decide
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Decision, Task
from ansible_collections.exchange.mitigation.plugins.module_utils._options import EXCHANGE_OPTIONS, HOST_OPTIONS

SPEC = {
    "argument_spec": dict(
        mitigations={"type": "list", "elements": "str"},
        feed={"type": "dict"},
        state={"type": "str", "choices": ["applied", "absent", "retired"], "default": "applied"},
        undo_run_id={"type": "str"},
        organization={"type": "dict"},
        organization_variable={"type": "str"},
        identity={"type": "str"},
        site={"type": "str", "default": "Default Web Site"},
        honour_blocked={"type": "bool", "default": True},
        when_em_active={"type": "str", "choices": ["leave", "take_over"], "default": "leave"},
        on_unsupported={"type": "str", "choices": ["fail", "warn"], "default": "fail"},
        on_conflict={"type": "str", "choices": ["fail", "replace", "skip"], "default": "fail"},
        relocate={"type": "bool", "default": False},
        include_foreign={"type": "bool", "default": False},
        unblock={"type": "bool", "default": False},
        health={
            "type": "dict",
            "options": {
                "from": {"type": "str", "choices": ["controller", "host"], "default": "controller"},
                "url": {"type": "str"},
                "ca_path": {"type": "path"},
                "paths": {"type": "list", "elements": "str"},
                "timeout": {"type": "int", "default": 10},
                "required": {"type": "bool", "default": False},
                "attack_probe": {"type": "bool", "default": False},
            },
        },
        journal_dir={"type": "path"},
        run_id={"type": "str"},
        **EXCHANGE_OPTIONS,
        **HOST_OPTIONS,
    ),
    "mutually_exclusive": [("organization", "organization_variable")],
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
