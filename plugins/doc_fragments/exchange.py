# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the options that reach Exchange's own endpoint."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragment exchange.mitigation.exchange."""

    DOCUMENTATION = r"""
options:
  exchange_access:
    description:
      - How Exchange's cmdlets are reached.
      - V(remote) is Exchange's own remote PowerShell endpoint, which the other C(exchange_) options describe. The roles of the user apply.
      - V(snapin) loads the snap-in of Exchange's management tools into the session of the host's own connection. It needs a logon that the
        server can hand on to Active Directory, which is CredSSP or Kerberos with delegation. Microsoft does not support the snap-in,
        and the roles of the user do not apply to it. The other C(exchange_) options are not used.
      - If not set, the variable C(exchange_mitigation_exchange_access) is used, then V(remote).
    type: str
    choices:
      - remote
      - snapin
  exchange_host:
    description:
      - Name of an Exchange server whose remote PowerShell endpoint is used. Any server of the organization will do.
      - With Kerberos it must be the name that the service principal has, usually the FQDN.
      - If not set, the variable C(exchange_mitigation_exchange_host) is used, then the address of the host's connection.
    type: str
  exchange_port:
    description:
      - Port of the endpoint.
      - If not set, the variable C(exchange_mitigation_exchange_port) is used, then V(80) for V(http) and V(443) for V(https).
    type: int
  exchange_scheme:
    description:
      - Whether the endpoint is reached by HTTP or HTTPS. Messages over HTTP are encrypted by the authentication protocol.
      - If not set, the variable C(exchange_mitigation_exchange_scheme) is used, then V(http), which is what a default installation offers.
    type: str
    choices:
      - http
      - https
  exchange_auth:
    description:
      - How to authenticate. A default installation of Exchange offers Kerberos only.
      - V(kerberos) needs the Python libraries C(gssapi) and C(krb5), see the requirements.
      - V(basic) is refused over HTTP.
      - If not set, the variable C(exchange_mitigation_exchange_auth) is used, then V(kerberos).
    type: str
    choices:
      - kerberos
      - negotiate
      - ntlm
      - basic
  exchange_username:
    description:
      - User for the endpoint, such as V(admin@EXAMPLE.COM).
      - If not set, the variable C(exchange_mitigation_exchange_username) is used, then the user of the host's connection.
    type: str
  exchange_password:
    description:
      - Password of the user. With Kerberos it can be left out where a ticket is at hand.
      - If not set, the variable C(exchange_mitigation_exchange_password) is used, then the password of the host's connection.
    type: str
  exchange_ca_path:
    description:
      - File with the certificates of the authorities that the endpoint's TLS certificate is checked against.
      - If not set, the variable C(exchange_mitigation_exchange_ca_path) is used, then the CA file of the host's connection.
    type: path
  exchange_validate_certs:
    description:
      - Whether the endpoint's TLS certificate is checked.
      - If not set, the variable C(exchange_mitigation_exchange_validate_certs) is used, then what the host's connection says.
    type: bool
requirements:
  - pypsrp >= 0.8.0 on the controller
  - gssapi and krb5 (C(pip install pypsrp[kerberos])) on the controller for O(exchange_auth=kerberos)
notes:
  - The options of the endpoint can be set once for many tasks, as C(group/exchange.mitigation.exchange) in C(module_defaults) or as variables.
  - Exchange limits the sessions of a user in the whole organization. Run tasks that read the organization once per play,
    and set C(throttle) on tasks that change servers where many hosts run at the same time.
  - The time limits of the endpoint are those of the host's connection, such as C(ansible_winrm_connection_timeout).
  - Cmdlets run under the role-based access control of Exchange. No script is sent, only cmdlets and typed parameters.
"""
