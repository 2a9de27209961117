#!/usr/bin/python
# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module server_info: one Exchange server as it is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: server_info
short_description: Show the state of Emergency Mitigation on an Exchange server
version_added: 0.1.0
description:
  - Reads product and build, the Emergency Mitigation (EM) service, URL Rewrite, the rewrite rules in force on the Exchange
    paths and a verdict on every mitigation that this collection knows.
  - The rules are understood on the controller, from the bytes of the server's IIS configuration files, and recognised by what
    they do, whoever made them and whatever they are called.
  - An unchanged server costs one PowerShell session with two pipelines.
options:
  organization:
    description:
      - The value RV(exchange.mitigation.organization_info#module:organization) of an M(exchange.mitigation.organization_info)
        task that ran once for all servers.
      - If not set, this module opens one session to Exchange itself. Exchange limits those sessions per user, so hand the value
        over when there is more than one server.
    type: dict
  feed:
    description:
      - The value RV(exchange.mitigation.feed#module:feed) of an M(exchange.mitigation.feed) task.
      - With a document of the trust domain V(local) its mitigations get a verdict, too. Without it, a local mitigation whose rules are on
        the server is shown as V(unknown).
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
extends_documentation_fragment:
  - exchange.mitigation.host
  - exchange.mitigation.exchange
  - exchange.mitigation.attributes
  - exchange.mitigation.attributes.info_module
  - exchange.mitigation.attributes.actiongroup
seealso:
  - module: exchange.mitigation.organization_info
  - module: exchange.mitigation.mitigation
notes:
  - A verdict never says that a server is protected. A mitigation that is applied stands in for a fix that is not installed.
author:
  - exchange.mitigation contributors (@exchange-mitigation)
"""

EXAMPLES = r"""
- name: Read the organization once for all servers
  exchange.mitigation.organization_info:
  register: organization
  run_once: true

- name: Look at every server
  exchange.mitigation.server_info:
    organization: "{{ organization.organization }}"
  register: state

- name: Show what is applied and what is needed
  ansible.builtin.debug:
    msg: "{{ item.id }} ({{ item.cve }}): {{ item.state }}, needed: {{ item.needed }}"
  loop: "{{ state.server.mitigations }}"
  loop_control:
    label: "{{ item.id }}"

- name: Stop where a needed mitigation is missing
  ansible.builtin.assert:
    that: state.server.mitigations | selectattr('needed', 'eq', 'yes') | rejectattr('state', 'eq', 'applied') | length == 0
    fail_msg: A mitigation that this build needs is not applied.

- name: Judge the mitigations of a local document, too
  exchange.mitigation.server_info:
    organization: "{{ organization.organization }}"
    feed: "{{ local.feed }}"

- name: Look at a server whose Exchange site has another name
  exchange.mitigation.server_info:
    site: Mail
    organization: "{{ organization.organization }}"
"""

RETURN = r"""
server:
  description: The server.
  returned: success
  type: dict
  contains:
    name:
      description: Name that Windows gives itself.
      type: str
      sample: EX1
    fqdn:
      description: FQDN in the organization, null where the organization does not list the server.
      type: str
      sample: ex1.contoso.com
    product:
      description: V(Exchange2016), V(Exchange2019), V(ExchangeSE) or V(unknown).
      type: str
      sample: Exchange2019
    build:
      description: Build from the version resource of ExSetup.exe, null where it cannot be read.
      type: str
      sample: 15.2.1748.46
    build_name:
      description: Cumulative update and security update of that build, null for one that this version does not know.
      type: str
      sample: CU15 Jun26SU
    os:
      description: Caption, version, build, language (LCID) and time of the last start of Windows.
      type: dict
      sample:
        caption: Microsoft Windows Server 2022 Standard
        version: 10.0.20348
        build: "20348"
        language: 1033
        last_boot: "2026-11-01T04:12:09+00:00"
    exchange_path:
      description: Folder in which Exchange is installed.
      type: str
      sample: C:\Program Files\Microsoft\Exchange Server\V15\
    em:
      description: Emergency Mitigation on this server. Values that Exchange keeps are null where the organization does not list the server.
      type: dict
      contains:
        supported:
          description: Whether this build has the EM service.
          type: bool
          sample: true
        state:
          description:
            - The effective state. V(Enabled), V(Disabled on org level), V(Disabled on server level), V(Disabled) for both, or
              V(Failed to query config).
          type: str
          sample: Enabled
        organization_enabled:
          description: MitigationsEnabled of the organization.
          type: bool
          sample: true
        server_enabled:
          description: MitigationsEnabled of the server.
          type: bool
          sample: true
        service:
          description: State and start mode of the service MSExchangeMitigation, null where there is none.
          type: dict
          sample: {"name": "MSExchangeMitigation", "state": "Running", "start_mode": "Auto"}
        applied:
          description: MitigationsApplied, written by EM alone.
          type: list
          elements: str
          sample: ["PING1"]
        applied_time:
          description: MitigationsAppliedTime, the last time EM wrote, null if never.
          type: str
          sample: "2026-11-24T03:00:12+00:00"
        blocked:
          description: MitigationsBlocked.
          type: list
          elements: str
          sample: []
        can_read_newer_feeds:
          description:
            - Whether EM of this build can use files released from July 2026 on, null where the build is unknown.
            - This collection can apply mitigations on builds where EM cannot.
          type: bool
          sample: true
    url_rewrite:
      description: The IIS URL Rewrite module.
      type: dict
      contains:
        installed:
          description: Whether the file is there, IIS loads it and the configuration sections are declared.
          type: bool
          sample: true
        version:
          description: Version in the registry.
          type: str
          sample: 7.2.1993
        dll_version:
          description: Version of rewrite.dll, null without the file.
          type: str
          sample: 7.2.1993.2351
        module_loaded:
          description: Whether applicationHost.config loads RewriteModule, null where the file cannot be understood.
          type: bool
          sample: true
        section_declared:
          description: Whether applicationHost.config declares the rewrite sections, null where the file cannot be understood.
          type: bool
          sample: true
    rewrite_rules:
      description: Rewrite rules in force on the Exchange paths, whoever made them.
      type: list
      elements: dict
      sample:
        - rule: EEMS M1.1 PowerShell - inbound
          kind: inbound
          enabled: true
          file: C:\inetpub\wwwroot\web.config
          line: 44
          paths: ["/", "/owa", "/ecp"]
    configuration_problem:
      description: Why the IIS configuration cannot be understood, with file and line, null if it can.
      type: str
      sample: null
    mitigations:
      description: One verdict for each mitigation that the catalogue knows.
      type: list
      elements: dict
      contains:
        id:
          description: Id of the mitigation.
          type: str
          sample: M2
        cve:
          description: The vulnerability it stands against.
          type: str
          sample: CVE-2026-42897
        kind:
          description: Kind of action, V(rewrite), V(service) or V(app_pool).
          type: str
          sample: rewrite
        title:
          description: What it does.
          type: str
          sample: Forbid script in attributes on OWA's pages by a Content-Security-Policy header
        state:
          description:
            - V(applied); V(absent); V(disabled), there but switched off; V(conflicting), a known name that does something
              else; V(unsupported), not in the catalogue; V(unknown) with RV(server.mitigations[].reason).
            - A service counts as V(applied) when it is stopped and disabled, an application pool when it is stopped and does not start
              by itself. Anything less is V(absent), and the reason says what is missing.
          type: str
          sample: applied
        needed:
          description: Whether this build needs it, V(yes), V(no) or V(unknown).
          type: str
          sample: "yes"
        blocked:
          description: Whether MitigationsBlocked keeps EM from it, null where that is not known.
          type: bool
          sample: false
        blocked_ids:
          description: The entries of MitigationsBlocked that do.
          type: list
          elements: str
          sample: []
        maker:
          description: Who made it, V(em), V(eomt), V(us) or V(other), null where there is nothing.
          type: str
          sample: us
        breaks:
          description: URL paths on which IIS answers an error because of it.
          type: list
          elements: str
          sample: []
        block_can_be_lifted:
          description: Whether it is blocked and this build no longer needs it.
          type: bool
          sample: false
        reason:
          description: Why the state is what it is, null where there is nothing to say.
          type: str
          sample: null
        evidence:
          description: The rules that speak for the state, with file, line and location; services and pools by name and state.
          type: list
          elements: dict
          sample: [{"file": "C:\\inetpub\\wwwroot\\web.config", "line": 44, "rule": "EEMS M1.1 PowerShell - inbound", "location": null}]
        duplicates:
          description: Rules of the same effect under different names, empty where there is only one.
          type: list
          elements: dict
          sample: []
        highest_applicable:
          description: The highest builds of this product that it applies to, by cumulative update.
          type: dict
          sample: {"CU14": "15.2.1544.41", "CU15": "15.2.1748.46"}
        code_fix:
          description: The build of this cumulative update that carries the fix, null where there is none.
          type: str
          sample: 15.2.1748.46
        side_effects:
          description: What is known to suffer while it is applied.
          type: list
          elements: str
          sample: ["OWA: Print Calendar fails."]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.exchange.mitigation.plugins.module_utils._facts import server_facts, survey
from ansible_collections.exchange.mitigation.plugins.module_utils._feed_handle import load_feed
from ansible_collections.exchange.mitigation.plugins.module_utils._local import LocalDocument
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Decision, Task
from ansible_collections.exchange.mitigation.plugins.module_utils._options import EXCHANGE_OPTIONS, HOST_OPTIONS

SPEC = dict(
    argument_spec=dict(
        organization=dict(type="dict"),
        feed=dict(type="dict"),
        identity=dict(type="str"),
        site=dict(type="str", default="Default Web Site"),
        **EXCHANGE_OPTIONS,
        **HOST_OPTIONS,
    ),
)


def run(task: Task) -> Decision:
    """Read the server; nothing is ever changed."""
    document = load_feed(task.params["feed"]) if task.params["feed"] else None
    local = document.definitions if isinstance(document, LocalDocument) else ()
    return Decision({"server": server_facts(survey(task, local), local)})


def main() -> None:
    """Fail with a sentence: the work is done by the action plugin of the same name."""
    module = AnsibleModule(supports_check_mode=True, **SPEC)
    module.fail_json(msg="exchange.mitigation.server_info runs on the controller, through its action plugin.", reason="action_plugin_missing")


if __name__ == "__main__":
    main()
