# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which endpoint a task means: from its options, their variables and the host's connection to a session.

Note that this plugin util is private to the collection and may change at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.exchange.mitigation.plugins.module_utils._cmdlets import EXCHANGE, HOST
from ansible_collections.exchange.mitigation.plugins.module_utils._deps import require
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConnectionFailure, InvalidInput, Refused
from ansible_collections.exchange.mitigation.plugins.plugin_utils._exchange_faults import judge
from ansible_collections.exchange.mitigation.plugins.plugin_utils._session import PsrpSession
from ansible_collections.exchange.mitigation.plugins.plugin_utils._snapin import SnapinSession
from ansible_collections.exchange.mitigation.plugins.plugin_utils._transport import Link, exchange_link, psrp_link, winrm_link

WINDOWS = ("winrm", "psrp")

#: Exchange's endpoint (FACTS.md 8): the virtual directory and the session configuration.
EXCHANGE_PATH = "PowerShell"
EXCHANGE_CONFIGURATION = "Microsoft.Exchange"
EXCHANGE_PORTS = {"http": 80, "https": 443}

DEFAULT_CONFIGURATION = "Microsoft.PowerShell"


def connection_option(connection: Any, *names: str) -> Any:
    """Return the first option of a connection plugin that is set, None where the plugin has none of them."""
    for name in names:
        try:
            value = connection.get_option(name)
        except (KeyError, AttributeError):
            continue
        if value is not None:
            return value
    return None


def connection_password(connection: Any) -> str | None:
    """Return the password of the host's connection, so that it can be kept out of results."""
    value = connection_option(connection, "remote_password", "password")
    return str(value) if value else None


def _extra(connection: Any, name: str) -> Any:
    extras = connection_option(connection, "_extras")
    return extras.get("ansible_winrm_" + name) if isinstance(extras, Mapping) else None


def _trust(connection: Any) -> tuple[Any, bool]:
    """Return the CA path of a winrm or psrp connection and whether it checks certificates."""
    if connection.transport == "winrm":
        path = _extra(connection, "ca_trust_path")
        return (None if path == "legacy_requests" else path), _extra(connection, "server_cert_validation") != "ignore"
    return connection_option(connection, "ca_cert"), connection_option(connection, "cert_validation") != "ignore"


def _timeouts(connection: Any) -> dict[str, int]:
    """Return the time limits of a winrm or psrp connection, in seconds, under the names of pypsrp's WSMan; those that are not set are left out."""
    if connection.transport == "psrp":
        found = {name: connection_option(connection, name) for name in ("connection_timeout", "read_timeout", "operation_timeout")}
    elif connection.transport == "winrm":
        both = connection_option(connection, "connection_timeout")
        found = {
            "read_timeout": _extra(connection, "read_timeout_sec") or (both and both + 10),
            "operation_timeout": _extra(connection, "operation_timeout_sec") or both,
        }
    else:
        found = {}
    return {name: int(value) for name, value in found.items() if value}


def host_session(connection: Any, params: Mapping[str, Any]) -> PsrpSession:
    """Return a session to the Windows endpoint of the task's own connection, not yet opened."""
    kind = connection.transport
    if kind not in WINDOWS:
        raise Refused(
            f"This module works on the Windows host through the host's own connection, and this task runs over the connection '{kind}': "
            "give the host ansible_connection winrm or psrp, and do not delegate the task.",
            reason="connection_unsupported",
        )
    require("pypsrp")
    address = connection_option(connection, "remote_addr")
    user = connection_option(connection, "remote_user")
    configuration = params.get("host_configuration_name") or DEFAULT_CONFIGURATION

    def opener() -> Link:
        if kind == "psrp":
            return psrp_link(connection)
        require("winrm")
        return winrm_link(connection, configuration)

    return PsrpSession(HOST, opener, f"{address} ({_url(connection)})", user)


def _url(connection: Any) -> str:
    scheme = connection_option(connection, "scheme", "protocol")
    port = connection_option(connection, "port")
    if scheme is None:
        scheme = "http" if port == 5985 else "https"
    path = str(connection_option(connection, "path") or "wsman").lstrip("/")
    return f"{scheme}://{connection_option(connection, 'remote_addr')}:{port or (5985 if scheme == 'http' else 5986)}/{path}"


def exchange_arguments(connection: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of pypsrp's WSMan for the Exchange endpoint: the task's options, else the host's connection."""
    windows = connection.transport in WINDOWS
    host = params.get("exchange_host") or (connection_option(connection, "remote_addr") if windows else None)
    if not host:
        raise InvalidInput(
            "No Exchange server to connect to is known, because this task does not run over winrm or psrp: set exchange_host "
            "(or the variable exchange_mitigation_exchange_host) to the name of one.",
            reason="exchange_host_missing",
        )
    scheme = params.get("exchange_scheme") or "http"
    auth = params.get("exchange_auth") or "kerberos"
    if auth == "basic" and scheme == "http":
        raise InvalidInput("exchange_auth basic over exchange_scheme http would send the password in the clear: use https.", reason="insecure_connection")
    if auth == "kerberos":
        require("gssapi")
        require("krb5")
    ca_path, validate = _trust(connection) if windows else (None, True)
    ca_path = params.get("exchange_ca_path") or ca_path
    if params.get("exchange_validate_certs") is not None:
        validate = params["exchange_validate_certs"]
    arguments = {
        "server": str(host),
        "port": int(params.get("exchange_port") or EXCHANGE_PORTS[scheme]),
        "username": params.get("exchange_username") or (connection_option(connection, "remote_user") if windows else None),
        "password": params.get("exchange_password") or (connection_password(connection) if windows else None),
        "ssl": scheme == "https",
        "path": EXCHANGE_PATH,
        "auth": auth,
        # The name that Exchange's alternate service account has; a server's own account answers to it as well.
        "negotiate_service": "HTTP",
        "cert_validation": (str(ca_path) if ca_path else True) if validate else False,
        **_timeouts(connection),
    }
    if auth in ("basic", "ntlm") and (not arguments["username"] or arguments["password"] is None):
        raise InvalidInput(
            f"exchange_auth {auth} needs a user and a password: set exchange_username and exchange_password, or let the host's connection have them.",
            reason="credentials_missing",
        )
    # Options of a connection may carry tags of ansible-core, which pypsrp and requests do not expect.
    return {name: str.__str__(value) if isinstance(value, str) else value for name, value in arguments.items()}


def exchange_session(connection: Any, params: Mapping[str, Any]) -> PsrpSession:
    """Return a session to Exchange's own endpoint, not yet opened."""
    require("pypsrp")
    arguments = exchange_arguments(connection, params)
    scheme = "https" if arguments["ssl"] else "http"
    url = urlsplit(f"{scheme}://{arguments['server']}:{arguments['port']}/{EXCHANGE_PATH}").geturl()

    where = f"{arguments['server']} ({url})"
    offered: list[str] = []

    def opener() -> Link:
        offered.clear()
        return exchange_link(arguments, EXCHANGE_CONFIGURATION, offered)

    def judged(exc: BaseException) -> ConnectionFailure:
        return judge(exc, where, arguments, offered[0] if offered else None)

    return PsrpSession(EXCHANGE, opener, where, arguments["username"], judge=judged)


def snapin_session(connection: Any, host: PsrpSession) -> SnapinSession:
    """Return a session to the snap-in of Exchange within the runspace of the host's session."""
    auth, delegated = logon(connection)
    return SnapinSession(host, auth, delegated)


def logon(connection: Any) -> tuple[str, bool]:
    """Return how the host's connection logs on, and whether the server can log on elsewhere with that."""
    if connection.transport == "winrm":
        methods = [str(item) for item in connection_option(connection, "transport") or []]
        forwarded = str(_extra(connection, "kerberos_delegation")).lower() in ("true", "yes", "1")
    else:
        methods = [str(connection_option(connection, "auth") or "negotiate")]
        forwarded = bool(connection_option(connection, "negotiate_delegate"))
    delegated = "credssp" in methods or (forwarded and bool({"kerberos", "negotiate"} & set(methods)))
    return "/".join(methods) or "its logon", delegated
