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
  - Reads product and build, the Emergency Mitigation (EM) service, what mitigations need of Windows, the proxies, the rewrite rules
    in force on the Exchange paths and a verdict on every mitigation that this collection knows. RV(server.findings) says what of
    it deserves attention.
  - The rules are understood on the controller, from the bytes of the server's IIS configuration files, and recognised by what
    they do, whoever made them and whatever they are called.
  - A server costs one PowerShell session with two pipelines and at most 12 HTTP requests where the organization is handed over.
    O(gather=reachability) costs two pipelines more.
  - Refused are Edge servers, Exchange 2013 and older, machines with the management tools alone and machines without Exchange.
    Builds from before EM are read; what EM keeps is null or empty there.
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
  gather:
    description:
      - What else to find out.
      - V(reachability) lets the server itself try the way to O(feed_url), through its own C(InternetWebProxy) where it has one.
        It needs full language mode for the test of the port, which is unknown otherwise, and can take half a minute where packets are dropped.
    type: list
    elements: str
    choices: [reachability]
    default: []
  feed_url:
    description:
      - The address that V(reachability) tries.
    type: str
    default: https://officeclient.microsoft.com/GetExchangeMitigations
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

- name: Find out whether servers reach the feed by themselves
  exchange.mitigation.server_info:
    organization: "{{ organization.organization }}"
    gather: [reachability]
  register: network

- name: Show what deserves attention
  ansible.builtin.debug:
    msg: "{{ network.server.findings | map(attribute='text') | list }}"

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
      description: Name that Windows gives itself (Win32_OperatingSystem, C(CSName)).
      type: str
      sample: EX1
    fqdn:
      description: FQDN in the organization, null where the organization does not list the server (Get-ExchangeServer, C(Fqdn)).
      type: str
      sample: ex1.contoso.com
    product:
      description: V(Exchange2016), V(Exchange2019), V(ExchangeSE) or V(unknown) (from RV(server.build)).
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
      description: Caption, version, build, language (LCID) and time of the last start of Windows (Win32_OperatingSystem).
      type: dict
      sample:
        caption: Microsoft Windows Server 2022 Standard
        version: 10.0.20348
        build: "20348"
        language: 1033
        last_boot: "2026-11-01T04:12:09+00:00"
    exchange_path:
      description: Folder in which Exchange is installed (registry, C(MsiInstallPath), else the environment variable C(ExchangeInstallPath)).
      type: str
      sample: C:\Program Files\Microsoft\Exchange Server\V15\
    em:
      description: Emergency Mitigation on this server. Values that Exchange keeps are null where the organization does not list the server.
      type: dict
      contains:
        supported:
          description: Whether this build has the EM service (from RV(server.build), else from C(AdminDisplayVersion)).
          type: bool
          sample: true
        state:
          description:
            - The effective state in the words of Microsoft's HealthChecker, from both switches below. V(Enabled), V(Disabled on org level),
              V(Disabled on server level), V(Disabled) for both, or V(Failed to query config) where one is not known.
          type: str
          sample: Enabled
        organization_enabled:
          description: MitigationsEnabled of the organization (Get-OrganizationConfig).
          type: bool
          sample: true
        server_enabled:
          description: MitigationsEnabled of the server (Get-ExchangeServer).
          type: bool
          sample: true
        service:
          description: State and start mode of the service MSExchangeMitigation, null where there is none (Win32_Service).
          type: dict
          sample: {"name": "MSExchangeMitigation", "state": "Running", "start_mode": "Auto"}
        applied:
          description: MitigationsApplied, written by EM alone (Get-ExchangeServer).
          type: list
          elements: str
          sample: ["PING1"]
        applied_time:
          description:
            - The last time that EM wrote what it had applied, which is its last success; null if never and on builds that do not
              keep it (Get-ExchangeServer, C(MitigationsAppliedTime)).
          type: str
          sample: "2026-11-24T03:00:12Z"
        last_success_hours:
          description: Full hours since RV(server.em.applied_time), by the controller's clock, null without one. EM works every hour.
          type: int
          sample: 0
        blocked:
          description: MitigationsBlocked (Get-ExchangeServer).
          type: list
          elements: str
          sample: []
        data_collection_enabled:
          description: Whether the server sends diagnostic data (Get-ExchangeServer, C(DataCollectionEnabled)).
          type: bool
          sample: false
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
          description: Version in the registry (registry, IIS Extensions, C(Version)).
          type: str
          sample: 7.2.1993
        dll_version:
          description: Version of rewrite.dll, null without the file (version resource of the file).
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
    ucrt:
      description: The Universal C Runtime, which URL Rewrite 2.1 needs.
      type: dict
      contains:
        update_needed:
          description: Whether this Windows (2012, 2012 R2) needs KB2999226 for it (version of Windows).
          type: bool
          sample: false
        installed:
          description: Whether ucrtbase.dll is in System32, null where that could not be read.
          type: bool
          sample: true
    pending_reboot:
      description:
        - Why Windows waits for a restart, empty for not at all, null where that could not be read. V(component_servicing), V(windows_update),
          V(file_rename) and V(update_exe) (registry keys that HealthChecker and SetupAssist read too).
      type: list
      elements: str
      sample: []
    proxies:
      description: The proxies of the server. EM needs the first, Windows the second, so they should be the same.
      type: dict
      contains:
        internet_web_proxy:
          description: The proxy that Exchange uses (Get-ExchangeServer, C(InternetWebProxy)).
          type: str
          sample: http://proxy.example.com:8080/
        winhttp:
          description: The proxy of WinHTTP (registry, C(WinHttpSettings)). C(state) is V(direct), V(proxy) or V(unknown).
          type: dict
          sample: {"state": "proxy", "proxy": "proxy.example.com:8080", "bypass": "*.example.com"}
        agree:
          description: Whether both are the same place or both are none, null where one is not known.
          type: bool
          sample: true
    reachability:
      description: The way from the server to O(feed_url), null unless O(gather=reachability).
      type: dict
      contains:
        state:
          description: V(reachable), V(unreachable) or V(unknown).
          type: str
          sample: reachable
        url:
          description: The address that was tried.
          type: str
          sample: https://officeclient.microsoft.com/GetExchangeMitigations
        via:
          description: The proxy that was used, null for none (Get-ExchangeServer, C(InternetWebProxy)). Names and port are then those of the proxy.
          type: str
          sample: null
        dns:
          description: V(ok), V(failed) or V(unknown) (Resolve-DnsName).
          type: str
          sample: ok
        addresses:
          description: The addresses found (Resolve-DnsName).
          type: list
          elements: str
          sample: ["203.0.113.10"]
        tcp:
          description: V(ok), V(failed) or V(unknown) (Test-NetConnection, C(TcpTestSucceeded)).
          type: str
          sample: ok
        tls:
          description:
            - V(ok) where an answer came through TLS (Invoke-WebRequest). V(failed) only where Windows says in English that it does not trust
              the certificate, because the error has no type of its own; else V(unknown).
          type: str
          sample: ok
        http:
          description: V(ok), V(failed) for an answer from 400 on, or V(unknown) (Invoke-WebRequest).
          type: str
          sample: ok
        status:
          description: Status of the answer (Invoke-WebRequest), null without one.
          type: int
          sample: 200
        message:
          description: What Windows said, in its own language, null where all went well.
          type: str
          sample: null
    findings:
      description: What deserves attention, empty where nothing does.
      type: list
      elements: dict
      contains:
        code:
          description:
            - V(mitigation_missing), V(em_unavailable), V(em_disabled), V(em_service_not_running), V(em_silent), V(em_cannot_read_newer_feeds),
              V(url_rewrite_missing), V(ucrt_missing), V(reboot_pending), V(proxies_differ) or V(feed_unreachable).
          type: str
          sample: em_cannot_read_newer_feeds
        text:
          description: The same as a sentence.
          type: str
          sample: Windows waits for a restart (file_rename); Exchange setup and Windows Installer may refuse until then.
    rewrite_rules:
      description: Rewrite rules in force on the Exchange paths, whoever made them (applicationHost.config and the web.config files).
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
from ansible_collections.exchange.mitigation.plugins.module_utils._surroundings import reach, statements

#: Where servers fetch the feed themselves.
DEFAULT_SOURCE = "https://officeclient.microsoft.com/GetExchangeMitigations"

SPEC = dict(
    argument_spec=dict(
        organization=dict(type="dict"),
        feed=dict(type="dict"),
        identity=dict(type="str"),
        site=dict(type="str", default="Default Web Site"),
        gather=dict(type="list", elements="str", choices=["reachability"], default=[]),
        feed_url=dict(type="str", default=DEFAULT_SOURCE),
        **EXCHANGE_OPTIONS,
        **HOST_OPTIONS,
    ),
)


def run(task: Task) -> Decision:
    """Read the server; nothing is ever changed."""
    document = load_feed(task.params["feed"]) if task.params["feed"] else None
    local = document.definitions if isinstance(document, LocalDocument) else ()
    found = survey(task, local, beside=statements)
    way = None
    if "reachability" in task.params["gather"]:
        task.progress(f"trying the way to {task.params['feed_url']}")
        way = reach(task.host, task.params["feed_url"], (found.entry or {}).get("internet_web_proxy"))
    return Decision({"server": server_facts(found, task.now(), way, local)})


def main() -> None:
    """Fail with a sentence: the work is done by the action plugin of the same name."""
    module = AnsibleModule(supports_check_mode=True, **SPEC)
    module.fail_json(msg="exchange.mitigation.server_info runs on the controller, through its action plugin.", reason="action_plugin_missing")


if __name__ == "__main__":
    main()
