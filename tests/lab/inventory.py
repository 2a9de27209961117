# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory of a running lab, as YAML or INI: ``ansible-playbook -i FILE`` works with it as it stands."""

from __future__ import annotations

import os
import pathlib
import shlex
from typing import TYPE_CHECKING, Any

import yaml

from .kdc import principal

if TYPE_CHECKING:
    from .fleet import Fleet


def connection(fleet: Fleet, machine: Any, index: int) -> dict[str, Any]:
    """Return a host's connection variables: types alternate, and four hosts in a row have all combinations with the ways to log on."""
    secure = index % 4 in (1, 2)
    port = fleet.port(machine, "wsman_https" if secure else "wsman_http")
    found: dict[str, Any] = {
        "ansible_host": machine.address,
        "ansible_port": port,
        "ansible_user": fleet.admin,
        "ansible_password": fleet.password,
    }
    authority = str(fleet.pki.tls_ca_path)
    if index % 2 == 0:
        found |= {
            "ansible_connection": "winrm",
            "ansible_winrm_scheme": "https" if secure else "http",
            "ansible_winrm_transport": "basic" if secure else "ntlm",
            "ansible_winrm_server_cert_validation": "validate",
        }
        if secure:
            found["ansible_winrm_ca_trust_path"] = authority
        else:
            found["ansible_winrm_message_encryption"] = "always"
    else:
        found |= {
            "ansible_connection": "psrp",
            "ansible_psrp_protocol": "https" if secure else "http",
            "ansible_psrp_auth": "basic" if secure else "ntlm",
            "ansible_psrp_cert_validation": "validate",
        }
        if secure:
            found["ansible_psrp_ca_cert"] = authority
        else:
            found["ansible_psrp_message_encryption"] = "always"
    found |= {
        "exchange_mitigation_exchange_host": machine.address,
        "exchange_mitigation_exchange_port": fleet.port(machine, "web_https" if secure else "web_http"),
        "exchange_mitigation_exchange_scheme": "https" if secure else "http",
        "exchange_mitigation_exchange_auth": "basic" if secure else "ntlm",
        "exchange_mitigation_exchange_ca_path": authority,
        "lab_http_url": f"http://{machine.address}:{fleet.port(machine, 'web_http')}",
        "lab_files": str(machine.root),
    }
    return found


def with_kerberos(fleet: Fleet, machine: Any, found: dict[str, Any]) -> dict[str, Any]:
    """Return the variables of a host whose lab has a KDC: named by its FQDN, user as a principal, Exchange by its defaults."""
    changed: dict[str, Any] = {"ansible_host": machine.fqdn, "ansible_user": principal(fleet.admin), "exchange_mitigation_exchange_host": machine.fqdn}
    if found["ansible_connection"] == "winrm":
        changed |= {"ansible_winrm_transport": "kerberos", "ansible_winrm_kinit_env_vars": ["KRB5_CONFIG"]}
    else:
        changed["ansible_psrp_auth"] = "kerberos"
    return {name: value for name, value in (found | changed).items() if name != "exchange_mitigation_exchange_auth"}


def shared(fleet: Fleet) -> dict[str, Any]:
    """Return the variables of all hosts: where the feed is, whom to trust, where the controller keeps its state."""
    return {
        "exchange_mitigation_feed_source": fleet.feed.url,
        "exchange_mitigation_feed_ca_path": str(fleet.pki.tls_ca_path),
        "exchange_mitigation_trust": {"roots": [str(fleet.pki.feed_root_path)], "timestamp_roots": [str(fleet.pki.timestamp_root_path)]},
        "exchange_mitigation_state_dir": str(fleet.state / "controller" / "state"),
        "exchange_mitigation_journal_dir": str(fleet.state / "controller" / "journal"),
        "exchange_mitigation_url_rewrite_source": str(fleet.package_path),
    }


def content(fleet: Fleet) -> dict[str, Any]:
    """Return the inventory as Ansible's YAML inventory plugin reads it."""
    hosts = {machine.name: connection(fleet, machine, index) for index, machine in enumerate(fleet.machines)}
    if fleet.kdc is not None:
        hosts = {machine.name: with_kerberos(fleet, machine, hosts[machine.name]) for machine in fleet.machines}
    groups = {
        "exchange_servers": {"hosts": hosts},
        "lab_winrm": {"hosts": {name: {} for name in list(hosts)[::2]}},
        "lab_psrp": {"hosts": {name: {} for name in list(hosts)[1::2]}},
    }
    return {"all": {"children": groups, "vars": shared(fleet)}}


def _ini(tree: dict[str, Any]) -> str:
    lines: list[str] = []
    for group, members in tree["all"]["children"].items():
        lines.append(f"[{group}]")
        for host, variables in members["hosts"].items():
            lines.append(" ".join([host, *(shlex.quote(f"{name}={value}") for name, value in variables.items())]))
        lines.append("")
    lines.append("[all:vars]")
    lines += [f"{name}={value!r}" if not isinstance(value, str) else f"{name}={value}" for name, value in tree["all"]["vars"].items()]
    return "\n".join(lines) + "\n"


def write(fleet: Fleet, path: pathlib.Path) -> None:
    """Write the inventory, readable by its owner only because the passwords are in it; the suffix .ini asks for INI."""
    tree = content(fleet)
    text = _ini(tree) if path.suffix.lower() in (".ini", ".cfg") else yaml.safe_dump(tree, sort_keys=False, width=200)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
