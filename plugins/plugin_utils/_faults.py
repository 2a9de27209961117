# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What went wrong on the way to a server, as one sentence and one reason code.

Exceptions of pypsrp, pywinrm, requests, spnego and of Ansible's connection plugins become ConnectionFailure.
They are told apart by type, fault code and error number first, by text only where a library offers nothing else.
Note that this plugin util is private to the collection and may change at any time.
"""

from __future__ import annotations

import errno
import re
import socket
import struct
import xml.etree.ElementTree as ET  # nosec B405  # only the name of its error
from collections.abc import Iterator

from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import ClixmlError
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConnectionFailure

#: WS-Management fault codes (WINRM.md E): reason, what happened, what to do.
FAULTS: dict[int, tuple[str, str, str]] = {
    5: ("access_denied", "denied access to the endpoint", "use an account that is allowed to connect to it"),
    2150858793: ("operation_timeout", "did not answer within the operation timeout", "try again, or raise the connection's timeout"),
    2150858811: ("endpoint_not_found", "has no such endpoint (resource URI)", "check the session configuration and the URL"),
    2150858817: ("endpoint_not_found", "does not know the resource", "check the session configuration and the URL"),
    2150858843: ("session_lost", "no longer knows the session", "run the task again; the service or the server restarted meanwhile"),
    2150859173: ("shell_quota", "has reached the number of concurrent shells of this user", "close other sessions or raise MaxShellsPerUser"),
    2150859174: ("operation_quota", "has reached the number of concurrent operations of this user", "close other sessions or raise the quota"),
    2150859179: ("user_quota", "has reached the number of concurrent users", "close other sessions or raise MaxConcurrentUsers"),
    2150859236: ("shell_quota", "has reached the number of shells of this endpoint", "close other sessions or raise the endpoint's quota"),
    2150859237: ("user_quota", "has reached the number of users of this endpoint", "close other sessions or raise the endpoint's quota"),
    2150859238: ("shell_quota", "has reached the number of shells of this endpoint", "close other sessions or raise the endpoint's quota"),
    2150859239: ("operation_quota", "has reached the number of operations of this endpoint", "close other sessions or raise the endpoint's quota"),
    2150859240: ("operation_quota", "has reached the number of operations of this user", "close other sessions or raise the endpoint's quota"),
    2150859241: ("operation_quota", "has reached the number of commands of this session", "run the task again"),
}

_STATUS: dict[int, tuple[str, str, str]] = {
    400: ("connection_lost", "rejected the message (HTTP 400), which happens when an encrypted connection was replaced", "run the task again"),
    403: ("access_denied", "forbids access (HTTP 403)", "use an account that is allowed to connect"),
    404: ("endpoint_not_found", "has nothing at this address (HTTP 404)", "check scheme, port and path"),
    503: ("service_unavailable", "is not available (HTTP 503)", "check that the service runs"),
}


#: What the libraries raise over an answer that is not what they expect.
_NO_MESSAGE = (ET.ParseError, ClixmlError, UnicodeError, LookupError, AttributeError, TypeError, ArithmeticError, RecursionError, struct.error)


def classify(exc: BaseException, where: str, user: str | None = None) -> ConnectionFailure:
    """Return the failure that an exception means. ``where`` names server and address, such as ``ex1 (http://ex1:5985/wsman)``."""
    if isinstance(exc, ConnectionFailure):
        return exc
    reason, what, remedy, cause = _judge(exc, user)
    detail = f" ({cause})" if cause else ""
    return ConnectionFailure(f"{where} {what}{detail}: {remedy}.", reason=reason, endpoint=where)


_WMI_CODE = re.compile(r"<(?:\w+:)?error_Code\b[^>]*>\s*(\d+)\s*<")


def wmi_code(response: object) -> int | None:
    """Return the code of a fault whose detail is an MSFT_WmiError, which is how quotas are often told and pypsrp does not read."""
    found = _WMI_CODE.search(response) if isinstance(response, str) else None
    return int(found.group(1)) if found else None


def never_connected(failure: ConnectionFailure) -> bool:
    """Tell whether no message can have reached the server, so that there is nothing to clean up there."""
    return failure.reason in {
        "authentication_not_offered", "authentication_refused", "connection_refused", "connection_timeout", "endpoint_not_found", "host_unreachable",
        "kerberos_failed", "name_not_resolved", "proxy_failed", "tls_failed",
    }


def _judge(exc: BaseException, user: str | None) -> tuple[str, str, str, str]:
    names = {cls.__name__ for cls in type(exc).__mro__}
    module = type(exc).__module__.partition(".")[0]
    if names & {"AuthenticationError", "InvalidCredentialsError", "BasicAuthDisabledError"} and module in ("pypsrp", "winrm"):
        account = f" {user}" if user else ""
        return "authentication_refused", f"refused the credentials of the user{account}", "check user, password and authentication method", ""
    if isinstance(exc, ValueError) and "incompatible with the specified auth_provider" in str(exc):
        return "authentication_not_offered", "does not offer the authentication method", "choose one that it offers", _text(exc)
    if "WSManFaultError" in names:
        return _fault(exc)
    if "WinRMTransportError" in names:
        return _status(int(getattr(exc, "code", 0) or 0))
    if module == "requests":
        return _request(exc, names)
    if module in ("spnego", "gssapi", "krb5", "kerberos") or "SpnegoError" in names:
        remedy = "check the Kerberos ticket, realm and service name, or use another authentication method"
        return "kerberos_failed", "could not be authenticated to", remedy, _text(exc)
    if module == "ansible":
        return _plugin(exc, user)
    if isinstance(exc, OSError):
        return _socket(exc)
    if isinstance(exc, _NO_MESSAGE) or "FragmentError" in names:
        return "answer_malformed", "gave an answer that is no WS-Management or PowerShell message", "check that the address is that of WinRM", _text(exc)
    if "InvalidPSRPOperation" in names or "InvalidRunspacePoolStateError" in names:
        return "session_broken", "ended the PowerShell session", "run the task again; see the server's event log if it stays", _text(exc)
    return "connection_failed", "could not be used", "check the connection options of the host", f"{type(exc).__name__}: {_text(exc)}"


def _fault(exc: BaseException) -> tuple[str, str, str, str]:
    codes = [getattr(exc, name, None) for name in ("wmierror_code", "wsman_fault_code", "code")]
    code = next((item for item in codes if item in FAULTS), next((item for item in codes if item is not None), None))
    detail = _text(getattr(exc, "provider_fault", None) or getattr(exc, "reason", None) or "")
    if isinstance(code, int) and code in FAULTS:
        reason, what, remedy = FAULTS[code]
        return reason, what, remedy, f"fault {code}"
    return "wsman_fault", "answered with a WS-Management fault", "see the text of the fault", _text(f"{code}: {detail}" if detail else code)


def _status(code: int) -> tuple[str, str, str, str]:
    if code == 401:
        return "authentication_refused", "refused the credentials", "check user, password and authentication method", ""
    if code in _STATUS:
        return (*_STATUS[code], "")
    return "http_error", f"answered with HTTP status {code}", "see the log of the web server", ""


def _request(exc: BaseException, names: set[str]) -> tuple[str, str, str, str]:
    if "SSLError" in names:
        return "tls_failed", "could not be trusted over TLS", "check the certificate and the CA path of the connection", _innermost(exc)
    if "RetryError" in names:
        return (*_STATUS[503], _innermost(exc))
    if "ProxyError" in names:
        return "proxy_failed", "could not be reached through the proxy", "check the proxy settings", _innermost(exc)
    if "ConnectTimeout" in names:
        return "connection_timeout", "did not accept a connection in time", "check address, port and firewall", ""
    if "ReadTimeout" in names or "Timeout" in names:
        return "read_timeout", "did not answer in time", "check the server, or raise the connection's timeout", ""
    for cause in exceptions_of(exc):
        if isinstance(cause, socket.gaierror) or type(cause).__name__ == "NameResolutionError":
            return _name()
        if isinstance(cause, TimeoutError):
            return "read_timeout", "did not answer in time", "check the server, or raise the connection's timeout", ""
        if isinstance(cause, OSError) and cause.errno in _ERRNO:
            return (*_ERRNO[cause.errno], "")
    return _lost(_innermost(exc))


_ERRNO: dict[int, tuple[str, str, str]] = {
    errno.ECONNREFUSED: ("connection_refused", "refused the connection", "check address and port, and that the service runs"),
    errno.EHOSTUNREACH: ("host_unreachable", "cannot be reached", "check the network"),
    errno.ENETUNREACH: ("host_unreachable", "cannot be reached", "check the network"),
    errno.ETIMEDOUT: ("connection_timeout", "did not accept a connection in time", "check address, port and firewall"),
}


def _socket(exc: OSError) -> tuple[str, str, str, str]:
    if isinstance(exc, socket.gaierror):
        return _name()
    if isinstance(exc, TimeoutError):
        return "read_timeout", "did not answer in time", "check the server, or raise the connection's timeout", ""
    if exc.errno in _ERRNO:
        return (*_ERRNO[exc.errno], "")
    if isinstance(exc, FileNotFoundError):
        return "connection_failed", "could not be used", "check the paths among the connection options", _text(exc)
    return _lost(_text(exc))


def _name() -> tuple[str, str, str, str]:
    return "name_not_resolved", "has a name that cannot be resolved", "check the host name and DNS", ""


def _lost(detail: str) -> tuple[str, str, str, str]:
    return "connection_lost", "closed the connection", "run the task again, it sees the state anew", detail


def _plugin(exc: BaseException, user: str | None) -> tuple[str, str, str, str]:
    """Judge what Ansible's connection plugin raised: by the exception it was made from, else by its text."""
    for cause in exceptions_of(exc):
        if cause is not exc and type(cause).__module__.partition(".")[0] in ("pypsrp", "winrm", "requests", "spnego"):
            return _judge(cause, user)
    message = _text(exc)
    if "credentials were rejected" in message or "failed to authenticate" in message:
        return "authentication_refused", "refused the credentials", "check user, password and authentication method", message
    if message.startswith("Kerberos auth failure") or "kinit" in message:
        return "kerberos_failed", "could not be authenticated to", "try kinit on this controller, and write the user as user@REALM", message
    if "timed out" in message:
        return "connection_timeout", "did not answer in time", "check address, port and firewall", message
    return "connection_failed", "could not be connected to", "check the connection options of the host", message


def exceptions_of(exc: BaseException) -> Iterator[BaseException]:
    """Yield an exception and everything it was made from: causes, contexts, and exceptions among its arguments."""
    queue: list[BaseException] = [exc]
    seen: set[int] = set()
    while queue:
        current = queue.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        more = [current.__cause__, current.__context__, getattr(current, "base_error", None), getattr(current, "reason", None), *current.args]
        queue.extend(item for item in more if isinstance(item, BaseException))


def _innermost(exc: BaseException) -> str:
    return _text(list(exceptions_of(exc))[-1])


def _text(value: object) -> str:
    shown = " ".join(str(value).split())
    return shown if len(shown) <= 300 else shown[:297] + "..."
