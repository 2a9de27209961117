# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way in which Exchange cannot be reached: code, what happened and what to change, in one table.

Codes are stable: playbooks test them. The guide on Exchange access shows the same sentences and is tested against this table.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConnectionFailure, Refused


class Access(NamedTuple):
    """One failure: what happened and what to change. Both may name ``user``, ``host``, ``auth``, ``offered`` and ``detail``."""

    what: str
    cure: str

    def sentence(self, where: str, **values: Any) -> str:
        """Return the sentence of a failure. ``where`` names server and address."""
        known = {"user": "the user", "host": "", "auth": "", "offered": "nothing", "detail": ""} | {name: value for name, value in values.items() if value}
        return f"{where} {self.what.format(**known)}: {self.cure.format(**known)}."


_NAME = "write exchange_username as user@REALM with the realm in capital letters, as in ada@EXAMPLE.COM"
_DELEGATED = (
    "log on with ansible_winrm_transport credssp, or kerberos and ansible_winrm_kerberos_delegation true (over psrp: ansible_psrp_auth credssp, or "
    "kerberos and ansible_psrp_negotiate_delegate true), or leave exchange_access at remote"
)

#: Exchange's own endpoint, in the order of what happens on the way to it.
REMOTE: Mapping[str, Access] = {
    "kerberos_no_ticket": Access(
        "was not asked, because there is no Kerberos ticket for {user} and no password",
        "run kinit before the playbook, or set exchange_username and exchange_password",
    ),
    "kerberos_ticket_expired": Access(
        "was not asked, because the Kerberos ticket has expired",
        "run kinit again, or set exchange_password, with which every task fetches a ticket of its own",
    ),
    "kerberos_clock_skew": Access(
        "was not asked, because the clocks of this controller and of the domain controller are too far apart for Kerberos",
        "set the controller's clock by NTP from the domain's time source; 5 minutes are allowed",
    ),
    "kerberos_user_form": Access(
        "was not asked, because {user} is not how Kerberos names a user",
        _NAME,
    ),
    "kerberos_user_unknown": Access(
        "was not asked, because the domain does not know the user {user}",
        _NAME + ", and check the account's name",
    ),
    "kerberos_password_wrong": Access(
        "was not asked, because the domain refuses the password of {user}",
        "check exchange_password, or the password of the host's connection where that is not set",
    ),
    "kerberos_account_locked": Access(
        "was not asked, because the account {user} is disabled, locked or expired",
        "have the account enabled, or its password changed",
    ),
    "kerberos_realm_unreachable": Access(
        "was not asked, because no domain controller of the user's realm was found or answers",
        "check the realm of exchange_username, the realms in krb5.conf or DNS, and port 88 from this controller",
    ),
    "kerberos_ip_address": Access(
        "is given by an IP address, for which Kerberos has no service name",
        "set exchange_host to the server's FQDN",
    ),
    "kerberos_spn_unknown": Access(
        "has a name that is not registered for Kerberos as HTTP/{host}",
        "set exchange_host to the FQDN that Active Directory has for the server, or register the name with setspn -S HTTP/{host} ACCOUNT",
    ),
    "kerberos_ticket_refused": Access(
        "refused the Kerberos ticket for HTTP/{host}",
        "the name is registered on another account, which setspn -Q HTTP/{host} shows (behind a load balancer it must be the alternate service account), "
        "or the server's own clock is wrong",
    ),
    "kerberos_failed": Access(
        "could not be authenticated to with Kerberos ({detail})",
        "try kinit and kvno HTTP/{host} on this controller",
    ),
    "kerberos_refused": Access(
        "does not take Kerberos, only {offered}",
        "check that exchange_host is the server itself and no proxy, or set exchange_auth to what it takes; basic needs exchange_scheme https",
    ),
    "ntlm_refused": Access(
        "does not take {auth}, only {offered}",
        "set exchange_auth to kerberos, which is all that Exchange offers after installation, and install requirements-kerberos.txt",
    ),
    "basic_disabled": Access(
        "does not take Basic authentication, only {offered}",
        "set exchange_auth to kerberos, or enable it with Set-PowerShellVirtualDirectory -BasicAuthentication $true",
    ),
    "authentication_refused": Access(
        "refused the credentials of the user {user}",
        "check exchange_username (DOMAIN\\user for NTLM and Basic) and exchange_password",
    ),
    "tls_failed": Access(
        "has a certificate that is not trusted for this name ({detail})",
        "set exchange_ca_path to the certificate of the authority that issued it, and exchange_host to a name that stands in it",
    ),
    "ssl_required": Access(
        "requires TLS for its PowerShell virtual directory (HTTP 403)",
        "set exchange_scheme to https, and exchange_ca_path to the certificate of the authority that issued the server's",
    ),
    "endpoint_not_found": Access(
        "has no PowerShell virtual directory at this address (HTTP 404)",
        "check that exchange_host and exchange_port lead to the Default Web Site of a Mailbox server; "
        "New-PowerShellVirtualDirectory makes the directory where it is gone",
    ),
    "throttled": Access(
        "has as many sessions of the user {user} as the throttling policy allows (18 by default, in the whole organization)",
        "run the task with throttle: 1 and read the organization once per play, close other sessions of the user, "
        "or give the account a policy with a higher PowerShellMaxConcurrency",
    ),
    "remote_powershell_disabled": Access(
        "denies the user {user} remote PowerShell",
        "enable it with Set-User -Identity ACCOUNT -RemotePowerShellEnabled $true",
    ),
    "role_missing": Access(
        "has no management role for the user {user}",
        "add the account to the role group View-Only Organization Management to read, or Organization Management or Server Management to change",
    ),
}

#: The snap-in on the server, ``exchange_access: snapin``.
SNAPIN: Mapping[str, Access] = {
    "double_hop": Access(
        "runs Exchange's cmdlets under a logon that Active Directory does not take ({auth} hands no credentials on)",
        _DELEGATED,
    ),
    "snapin_missing": Access(
        "has no Exchange snap-in, which the management tools of Exchange bring",
        "run the task on a server with Exchange or its management tools, or leave exchange_access at remote",
    ),
    "snapin_language_mode": Access(
        "does not let its session load the Exchange snap-in, because the session configuration or an application control policy restricts it",
        "set host_configuration_name to Microsoft.PowerShell on a host without the policy, or leave exchange_access at remote",
    ),
}

ACCESS: Mapping[str, Access] = {**REMOTE, **SNAPIN}


def inaccessible(code: str, where: str, **values: Any) -> ConnectionFailure:
    """Return the failure of a code of REMOTE: the endpoint cannot be used, and the task is unreachable."""
    return ConnectionFailure(REMOTE[code].sentence(where, **values), reason=code, endpoint=where)


def unusable(code: str, where: str, **values: Any) -> Refused:
    """Return the refusal of a code of SNAPIN: the host is reached, but its snap-in cannot be used."""
    return Refused(SNAPIN[code].sentence(where, **values), reason=code, endpoint=where)
