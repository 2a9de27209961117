# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why Exchange's endpoint could not be used: exceptions become the sentences of ``_access``.

Kerberos errors are told apart by their numbers (RFC 4120 7.5.9 and MIT's own), refusals of Exchange by fault code and FailureCategory.
What no row fits is judged as at any other endpoint.
Note that this plugin util is private to the collection and may change at any time.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._access import inaccessible
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConnectionFailure
from ansible_collections.exchange.mitigation.plugins.plugin_utils._faults import classify, exceptions_of

#: Offset of the krb5 error table; below 128 the number is that of RFC 4120.
KRB5 = -1765328384
#: Numbers within the table -> reason.
KERBEROS: Mapping[int, str] = {
    1: "kerberos_account_locked",  # KDC_ERR_NAME_EXP
    6: "kerberos_user_unknown",  # KDC_ERR_C_PRINCIPAL_UNKNOWN
    7: "kerberos_spn_unknown",  # KDC_ERR_S_PRINCIPAL_UNKNOWN
    18: "kerberos_account_locked",  # KDC_ERR_CLIENT_REVOKED
    23: "kerberos_account_locked",  # KDC_ERR_KEY_EXPIRED
    24: "kerberos_password_wrong",  # KDC_ERR_PREAUTH_FAILED
    31: "kerberos_password_wrong",  # KRB_AP_ERR_BAD_INTEGRITY: the answer cannot be decrypted
    32: "kerberos_ticket_expired",  # KRB_AP_ERR_TKT_EXPIRED
    37: "kerberos_clock_skew",  # KRB_AP_ERR_SKEW
    68: "kerberos_realm_unreachable",  # KDC_ERR_WRONG_REALM
    141: "kerberos_no_ticket",  # KRB5_CC_NOTFOUND
    154: "kerberos_realm_unreachable",  # KRB5_REALM_UNKNOWN
    156: "kerberos_realm_unreachable",  # KRB5_KDC_UNREACH
    195: "kerberos_no_ticket",  # KRB5_FCC_NOFILE
}
#: Exceptions of gssapi -> reason.
CREDENTIALS: Mapping[str, str] = {"ExpiredCredentialsError": "kerberos_ticket_expired", "MissingCredentialsError": "kerberos_no_ticket"}
_LIBRARIES = ("spnego", "gssapi", "krb5")

#: WS-Management fault with which WinRM passes on a refusal of Exchange's own authorization.
EXCHANGE_DENIED = 2150858819
_ACCESS_DENIED = 5
_QUOTAS = ("shell_quota", "user_quota", "operation_quota")


def judge(exc: BaseException, where: str, arguments: Mapping[str, Any], offered: str | None = None) -> ConnectionFailure:
    """Return the failure that an exception means at Exchange's endpoint.

    ``arguments`` are those of pypsrp's WSMan; ``offered`` is the WWW-Authenticate header of its first answer, None without one.
    """
    general = classify(exc, where, arguments.get("username"))
    user = arguments.get("username")
    host = str(arguments.get("server", ""))
    reason, detail = _reason(exc, general, arguments, offered)
    if reason is None:
        return general
    names = _schemes(offered)
    failure = inaccessible(reason, where, user=user, host=host, auth=_shown(arguments.get("auth")), offered=" and ".join(names), detail=detail)
    failure.details.update({name: value for name, value in general.details.items() if name != "endpoint"})
    return failure


def _reason(exc: BaseException, general: ConnectionFailure, arguments: Mapping[str, Any], offered: str | None) -> tuple[str | None, str]:
    """Return the code of the table, None where it has none, and a detail for its sentence."""
    number = kerberos_number(exc)
    if number is not None or general.reason == "kerberos_failed":
        return _kerberos(number, exc, arguments), _first_line(exc)
    if _refused(exc, general):
        return _authentication(arguments, offered), ""
    text = _fault_text(exc)
    if "MaxConcurrency" in text or "maximum number of connections allowed" in text or general.reason in _QUOTAS:
        return "throttled", ""
    if "CmdletAccessDenied" in text or "assigned to any management roles" in text:
        return "role_missing", ""
    if _fault_code(exc) in (EXCHANGE_DENIED, _ACCESS_DENIED) and general.reason != "endpoint_not_found":
        return "remote_powershell_disabled", ""
    if _status(exc) == 403:
        return ("remote_powershell_disabled" if arguments.get("ssl") else "ssl_required"), ""
    if general.reason in ("endpoint_not_found", "tls_failed"):
        return general.reason, _innermost(exc)
    return None, ""


def _kerberos(number: int | None, exc: BaseException, arguments: Mapping[str, Any]) -> str:
    reason = KERBEROS.get(number, "kerberos_failed") if number is not None else "kerberos_failed"
    if reason == "kerberos_failed":  # gssapi judges the credentials that it is asked for by itself, without a number
        kinds = {type(cause).__name__ for cause in exceptions_of(exc)}
        reason = next((code for kind, code in CREDENTIALS.items() if kind in kinds), reason)
    if reason in ("kerberos_user_unknown", "kerberos_no_ticket") and "\\" in str(arguments.get("username") or ""):
        return "kerberos_user_form"
    if reason == "kerberos_spn_unknown" and is_address(str(arguments.get("server", ""))):
        return "kerberos_ip_address"
    return reason


def _authentication(arguments: Mapping[str, Any], offered: str | None) -> str:
    """Return why a 401 was the last word: the method is not offered, or what it sent is refused."""
    auth = arguments.get("auth")
    names = [name.lower() for name in _schemes(offered)]
    if names:
        if auth == "basic" and "basic" not in names:
            return "basic_disabled"
        if auth in ("ntlm", "negotiate") and not {"negotiate", "ntlm"} & set(names):
            return "ntlm_refused"
        if auth == "kerberos" and not {"negotiate", "kerberos"} & set(names):
            return "kerberos_refused"
    return "kerberos_ticket_refused" if auth == "kerberos" else "authentication_refused"


def kerberos_number(exc: BaseException) -> int | None:
    """Return the number within the krb5 table of the first Kerberos error in a chain, None where there is none."""
    for cause in exceptions_of(exc):
        if type(cause).__module__.partition(".")[0] not in _LIBRARIES:
            continue
        for name in ("err_code", "min_code"):
            code = getattr(cause, name, None)
            if isinstance(code, int) and code:
                number = (code - KRB5) % 2**32
                if number < 256:
                    return number
    return None


def is_address(host: str) -> bool:
    """Tell whether a host is given by an IP address."""
    try:
        ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    return True


def _refused(exc: BaseException, general: ConnectionFailure) -> bool:
    """Tell whether the logon failed; an ImportError is Negotiate that would have to be Kerberos and has no library for it."""
    return general.reason in ("authentication_refused", "authentication_not_offered") or isinstance(exc, ImportError)


def _schemes(offered: str | None) -> list[str]:
    """Return the authentication schemes of a WWW-Authenticate header, which may hold several challenges."""
    known = ("Negotiate", "Kerberos", "NTLM", "Basic", "CredSSP")
    words = [part.split()[0] for part in (offered or "").split(",") if part.split()]
    return [name for name in known if name.lower() in {word.lower() for word in words}]


def _shown(auth: Any) -> str:
    return {"ntlm": "NTLM", "negotiate": "Negotiate with NTLM"}.get(str(auth), str(auth or ""))


def _faults(exc: BaseException) -> Iterator[BaseException]:
    return (cause for cause in exceptions_of(exc) if type(cause).__name__ == "WSManFaultError")


def _fault_code(exc: BaseException) -> int | None:
    return next((code for code in (getattr(cause, "code", None) for cause in _faults(exc)) if isinstance(code, int)), None)


def _fault_text(exc: BaseException) -> str:
    return " ".join(str(getattr(cause, name, None) or "") for cause in _faults(exc) for name in ("reason", "provider_fault"))


def _status(exc: BaseException) -> int | None:
    transport = next((cause for cause in exceptions_of(exc) if type(cause).__name__ == "WinRMTransportError"), None)
    code = getattr(transport, "code", None)
    return code if isinstance(code, int) else None


def _innermost(exc: BaseException) -> str:
    return _short(list(exceptions_of(exc))[-1])


def _first_line(exc: BaseException) -> str:
    return _short(exc)


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 200 else text[:197] + "..."
