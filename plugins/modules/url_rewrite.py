#!/usr/bin/python
# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module url_rewrite: the IIS URL Rewrite module, which mitigations and Exchange setup need."""

from __future__ import annotations

DOCUMENTATION = r"""
module: url_rewrite
short_description: Install, upgrade, repair or remove IIS URL Rewrite
version_added: 0.1.0
description:
  - Sees to it that the IIS URL Rewrite module is there, which rewrite mitigations need, and which Exchange setup demands before a
    cumulative update.
  - Serves any supported Windows Server with IIS, with or without Exchange.
  - What is installed is told by the registry, C(rewrite.dll) and C(applicationHost.config) together, never by a display name, which
    depends on the language of the server.
  - The package is brought to a fresh folder that only administrators can write to, hashed there, its Authenticode signature is checked
    there, and that copy is run with Windows Installer. Folder, package and log are removed afterwards in any case.
  - Every exit code of Windows Installer is understood. A busy installer is waited for; where an installation fails, the reason from its
    log is in the message.
  - A lost answer is never followed by a second installation. The server is looked at again instead.
  - Windows Installer cannot be run through a JEA endpoint. This module refuses there by name.
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
    support: full
options:
  state:
    description:
      - V(present) for URL Rewrite of at least O(version). Older ones are upgraded, broken ones repaired, newer ones left alone.
      - V(absent) removes it. Refused while a configuration file of IIS still has a rewrite section, see O(ignore_rules).
    type: str
    choices: [present, absent]
    default: present
  version:
    description:
      - The lowest version that is enough, compared by numbers.
      - The package of URL Rewrite 2.1 calls itself 7.2.1993, its file 7.1.1993. Versions 7 are therefore compared by their third number.
    type: str
    default: 7.2.1993
  source:
    description:
      - The package, such as C(rewrite_amd64_en-US.msi). Needed only where something has to be installed. Its form says where it is.
      - A path on the controller, which is sent to the server over the connection of the task.
      - A path on the server beginning with a drive, such as V(D:\\install\\rewrite_amd64.msi).
      - A path on a share, such as V(\\\\files\\install\\rewrite_amd64.msi). The server can read it only with a delegated logon (CredSSP, or
        Kerberos with delegation).
      - An C(https) URL that the server fetches.
    type: str
  sha256:
    description:
      - SHA-256 of the package. Any other package is refused.
      - Needed where O(source) is a share or a URL.
    type: str
  signer_organization:
    description: The organization (O) that the package has to be signed by.
    type: str
    default: Microsoft Corporation
  proxy:
    description: Proxy that the server uses to fetch a URL in O(source), such as V(http://proxy.example.com:8080), without a user name and password.
    type: str
  product_code:
    description:
      - For O(state=absent), the product code to remove. If not set, it is found by version and publisher among the installed products.
    type: str
  ignore_rules:
    description:
      - For O(state=absent), remove URL Rewrite although configuration files have rewrite sections. Every site that has one answers 500.19 then.
    type: bool
    default: false
  busy_timeout:
    description: Seconds to wait for another installation that Windows Installer is busy with.
    type: int
    default: 600
  reboot:
    description:
      - V(if_required) restarts the server where this installation asks for it, and waits until it is back, which a newer boot time proves.
      - A restart that something else wants is reported and left to others.
    type: str
    choices: [never, if_required]
    default: never
  reboot_timeout:
    description: Seconds to wait for the server after a restart.
    type: int
    default: 900
notes:
  - The user has to be a local administrator.
  - Set C(timeout) of the task for an upper limit of the installation as a whole.
seealso:
  - module: exchange.mitigation.mitigation
  - module: exchange.mitigation.service
author:
  - exchange.mitigation contributors (@exchange-mitigation)
"""

EXAMPLES = r"""
- name: URL Rewrite 2.1 or newer is installed, from a package on the controller
  exchange.mitigation.url_rewrite:
    source: files/rewrite_amd64_en-US.msi
    reboot: if_required

- name: What would be done, and why
  exchange.mitigation.url_rewrite:
    source: files/rewrite_amd64_en-US.msi
  check_mode: true
  diff: true

- name: The server fetches the package itself
  exchange.mitigation.url_rewrite:
    source: https://mirror.example.com/rewrite_amd64_de-DE.msi
    sha256: 5d0b3d1cd4d4ea1d2a4a4a2e2b9d7c3f0f6a1b8c9d0e1f2a3b4c5d6e7f809102
    proxy: http://proxy.example.com:8080

- name: Remove it from a server that no longer has any rewrite rule
  exchange.mitigation.url_rewrite:
    state: absent
"""

RETURN = r"""
action:
  description: What was done, in check mode what would be done. V(none), V(install), V(upgrade), V(repair) or V(remove).
  returned: success
  type: str
  sample: install
why:
  description: Why, as a sentence.
  returned: success
  type: str
  sample: URL Rewrite is not installed
url_rewrite:
  description: What the server has after the task, in check mode what it has now.
  returned: success
  type: dict
  contains:
    installed:
      description: Whether registry, file, module and section are all there.
      type: bool
      returned: success
      sample: true
    version:
      description: The version, from the registry, else from the file.
      type: str
      returned: success
      sample: 7.2.1993
    registry_version:
      description: The version that the registry says.
      type: str
      returned: success
      sample: 7.2.1993
    dll_version:
      description: The version that C(rewrite.dll) says.
      type: str
      returned: success
      sample: 7.1.1993.2351
    module:
      description: Whether C(applicationHost.config) registers and loads the module.
      type: bool
      returned: success
      sample: true
    section:
      description: Whether C(applicationHost.config) declares the sections.
      type: bool
      returned: success
      sample: true
server:
  description: What matters about the server.
  returned: success
  type: dict
  contains:
    name:
      description: Name of the server.
      type: str
      returned: success
      sample: EX3
    os:
      description: Caption, version, build and language of Windows.
      type: dict
      returned: success
      sample: {caption: Microsoft Windows Server 2022 Standard, version: 10.0.20348, build: "20348", language: 1033, product_type: 3}
    iis_version:
      description: Version of IIS, null where there is none.
      type: str
      returned: success
      sample: "10.0"
    universal_c_runtime:
      description: Whether the Universal C Runtime is there. Newer servers than Windows Server 2012 R2 have it themselves.
      type: bool
      returned: success
      sample: true
pending_reboot:
  description: What wants a restart of the server, before and after the task. V(component_servicing), V(windows_update), V(file_rename), V(update_exe).
  returned: success
  type: dict
  sample: {before: [], after: [file_rename]}
exit_code:
  description: Exit code of Windows Installer. Null where it was not run, or its answer was lost.
  returned: success
  type: int
  sample: 3010
reboot_required:
  description: Whether this installation still wants a restart. Null in check mode, where nobody can know.
  returned: success
  type: bool
  sample: false
rebooted:
  description: Whether the server was restarted.
  returned: success
  type: bool
  sample: true
package:
  description: What was run. Null where nothing was.
  returned: success
  type: dict
  contains:
    sha256:
      description: SHA-256 of the copy on the server.
      type: str
      returned: success
      sample: 5d0b3d1cd4d4ea1d2a4a4a2e2b9d7c3f0f6a1b8c9d0e1f2a3b4c5d6e7f809102
    signature:
      description: What Windows says about the signature, who signed, and the root of the chain as far as it can be built.
      type: dict
      returned: success
      sample: {status: Valid, root: unknown, signer: {subject: "CN=Microsoft Corporation,O=Microsoft Corporation"}}
reason:
  description:
    - Why the task failed, as a stable code.
    - Before anything was written, V(invalid_input), V(source_needed), V(source_unreadable), V(package_mismatch), V(iis_missing), V(unsupported_os),
      V(ucrt_missing), V(state_unknown), V(endpoint_restricted), V(rules_in_use) and V(product_unknown).
    - Before anything was installed, V(folder_unsafe), V(source_unreadable), V(package_mismatch), V(signature_invalid) and V(signer_changed).
    - By Windows Installer, V(installer_busy), V(install_failed), V(another_version), V(product_unknown), V(package_unreadable),
      V(package_unsuitable), V(install_forbidden) and V(installer_unavailable).
    - Afterwards, V(not_effective), V(install_interrupted) and V(reboot_timeout).
  returned: failure
  type: str
  sample: installer_busy
"""

import hashlib
import re
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.exchange.mitigation.plugins.module_utils import _install, _package, _url_rewrite
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput, Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Decision, Task
from ansible_collections.exchange.mitigation.plugins.module_utils._options import HOST_OPTIONS

SPEC: dict[str, Any] = {
    "argument_spec": dict(
        state={"type": "str", "choices": ["present", "absent"], "default": "present"},
        version={"type": "str", "default": _url_rewrite.LATEST},
        source={"type": "str"},
        sha256={"type": "str"},
        signer_organization={"type": "str", "default": "Microsoft Corporation"},
        proxy={"type": "str", "no_log": True},
        product_code={"type": "str"},
        ignore_rules={"type": "bool", "default": False},
        busy_timeout={"type": "int", "default": 600},
        reboot={"type": "str", "choices": ["never", "if_required"], "default": "never"},
        reboot_timeout={"type": "int", "default": 900},
        **HOST_OPTIONS,
    ),
}

_WHERE = "https://www.iis.net/downloads/microsoft/url-rewrite"


def run(task: Task) -> Decision:
    """Look at the server and decide; the effect installs."""
    params = task.params
    _check(params)
    found = _url_rewrite.observe(task.host)
    _install.refuse_restricted(found)
    judgement = _url_rewrite.judge(found, params["version"])
    action = _url_rewrite.action_for(judgement, params["state"])
    _url_rewrite.refuse_unsuitable(found, action)
    wish = _wish(task, found, action) if action != "none" else _install.Wish("none", params["version"])
    result = {
        "action": action,
        "why": judgement.why,
        "url_rewrite": found.facts(),
        "server": {"name": found.name, "os": dict(found.os), "iis_version": found.iis_version, "universal_c_runtime": found.ucrt},
        "pending_reboot": {"before": list(found.pending), "after": list(found.pending)},
        "exit_code": None,
        "reboot_required": False if action == "none" else None,
        "rebooted": False,
        "package": None,
    }
    if action == "none" and not found.leftovers:
        return Decision(result=result)
    installer = _install.Installer(task.host, found, wish, task.progress, task.warn)
    return Decision(result=result, changed=True, diff=_diff(found, params, action), effect=installer.run)


def _check(params: Any) -> None:
    """Refuse options that cannot be meant, before the server is asked anything."""
    if not _url_rewrite.version_key(params["version"]):
        raise InvalidInput(f"version takes numbers such as {_url_rewrite.LATEST}, not {params['version']!r}")
    sha256 = _package.check_sha256(params["sha256"])
    for name in ("busy_timeout", "reboot_timeout"):
        if params[name] < 0:
            raise InvalidInput(f"{name} takes seconds from 0 on, not {params[name]}")
    if params["proxy"] and not re.fullmatch(r"https?://[^\s\"'`@/]+/?", params["proxy"]):
        raise InvalidInput("proxy takes a URL such as http://proxy.example.com:8080; the server cannot use a user name and password in it")
    if params["product_code"] is not None and not _url_rewrite.is_product_code(params["product_code"]):
        raise InvalidInput("product_code takes the form {9BCA2118-F753-4A1E-BCF3-5A820729965C}")
    source = params["source"]
    if source is not None and _package.kind_of(source) in (_package.UNC, _package.URL) and sha256 is None:
        raise InvalidInput("sha256 is needed where source is a share or a URL: what arrives there can be changed on the way")


def _wish(task: Task, found: _url_rewrite.Machine, action: str) -> _install.Wish:
    """Gather what the action needs and refuse what would fail, in check mode too. Writes nothing."""
    params = task.params
    common = {"busy_timeout": params["busy_timeout"], "reboot": params["reboot"], "reboot_timeout": params["reboot_timeout"]}
    if action == "remove":
        used = [] if params["ignore_rules"] else _url_rewrite.rules_in_use(task.host, found)
        if used:
            raise Refused(
                f"{found.name}: configuration files have a rewrite section: {', '.join(used[:5])}{f' and {len(used) - 5} more' if len(used) > 5 else ''}; "
                "without URL Rewrite their sites answer 500.19. Remove the rules first, or set ignore_rules.", "rules_in_use", files=used,
            )  # fmt: skip
        return _install.Wish(action, params["version"], product=_url_rewrite.find_product(task.host, found, params["product_code"]), **common)
    source = params["source"]
    if source is None:
        raise Refused(
            f"{found.name}: {_url_rewrite.judge(found, params['version']).why}; name the package in source (it is at {_WHERE})", "source_needed", action=action
        )
    kind = _package.kind_of(source)
    sha256 = _package.check_sha256(params["sha256"])
    data = None
    if kind == _package.CONTROLLER:
        data = _package.read_package(source)
        _package.compare(hashlib.sha256(data).hexdigest(), sha256, source)
    elif kind == _package.HOST:
        _package.check_on_host(task.host, source, sha256, params["signer_organization"])
    return _install.Wish(
        action, params["version"], source, kind, data, sha256, params["signer_organization"], params["proxy"] or None, **common
    )


def _diff(found: _url_rewrite.Machine, params: Any, action: str) -> dict[str, Any]:
    before = {"url_rewrite": found.version or "absent", **found.traces(), "leftovers": list(found.leftovers)}
    after = dict(before, leftovers=[])
    if action == "remove":
        after.update(url_rewrite="absent", registry=False, dll=False, module=False, section=False)
    elif action != "none":
        after.update(url_rewrite=f"{params['version']} or newer", registry=True, dll=True, module=True, section=True)
    return {"before": before, "after": after, "before_header": f"{found.name} (URL Rewrite)", "after_header": f"{found.name} (URL Rewrite)"}


def main() -> None:
    """Fail with a sentence: the work is done by the action plugin of the same name."""
    module = AnsibleModule(supports_check_mode=True, **SPEC)
    module.fail_json(msg="exchange.mitigation.url_rewrite runs on the controller, through its action plugin.", reason="action_plugin_missing")


if __name__ == "__main__":
    main()
