# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions against the lab: a real connection plugin of Ansible for a machine of a running fleet."""

from __future__ import annotations

from typing import Any

from ansible.playbook.play_context import PlayContext
from ansible.plugins.loader import connection_loader
from ansible_collections.exchange.mitigation.plugins.plugin_utils._endpoints import exchange_session, host_session
from ansible_collections.exchange.mitigation.plugins.plugin_utils._session import PsrpSession

#: Connection plugin, and whether it goes over TLS (with Basic) or over HTTP (with NTLM and message encryption).
WAYS = (("winrm", False), ("winrm", True), ("psrp", False), ("psrp", True))
NAMES = [f"{kind}-{'basic-tls' if secure else 'ntlm-http'}" for kind, secure in WAYS]


def connection(fleet: Any, machine: Any, kind: str, secure: bool, **changed: Any) -> Any:
    """Return Ansible's own connection plugin with the options that an inventory would give; ``changed`` options last."""
    plugin = connection_loader.get(kind, PlayContext())
    options: dict[str, Any] = {
        "remote_addr": machine.address,
        "port": fleet.port(machine, "wsman_https" if secure else "wsman_http"),
        "remote_user": fleet.admin,
        "remote_password": fleet.password,
    }
    authority = str(fleet.pki.tls_ca_path)
    if kind == "winrm":
        extras: dict[str, Any] = {"ansible_winrm_ca_trust_path": authority} if secure else {"ansible_winrm_message_encryption": "always"}
        options |= {"scheme": "https" if secure else "http", "transport": ["basic" if secure else "ntlm"]}
        plugin.set_options(var_options={"_extras": extras}, direct=options | changed)
    else:
        options |= {"protocol": "https" if secure else "http", "auth": "basic" if secure else "ntlm"}
        options |= {"ca_cert": authority} if secure else {"message_encryption": "always"}
        plugin.set_options(var_options={"_extras": {}}, direct=options | changed)
    return plugin


def host(fleet: Any, machine: Any, kind: str = "winrm", secure: bool = False, **changed: Any) -> PsrpSession:
    """Return a session to the host endpoint of a machine."""
    return host_session(connection(fleet, machine, kind, secure, **changed), {})


def exchange(fleet: Any, machine: Any, secure: bool = False, kind: str = "winrm", **changed: Any) -> PsrpSession:
    """Return a session to the Exchange endpoint of a machine, with the options that the lab's inventory gives; user and password are the connection's."""
    params = {
        "exchange_port": fleet.port(machine, "web_https" if secure else "web_http"),
        "exchange_scheme": "https" if secure else "http",
        "exchange_auth": "basic" if secure else "ntlm",
        "exchange_ca_path": str(fleet.pki.tls_ca_path),
    }
    return exchange_session(connection(fleet, machine, kind, secure and kind == "psrp"), params | changed)
