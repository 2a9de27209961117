# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Argument specs that several modules share; the documentation fragments of the same names describe them.

None of the options for connections has a default here: an unset one is taken from the variable ``exchange_mitigation_<option>``,
then from the host's connection.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

from typing import Any

#: How to reach Exchange's own endpoint (fragment ``exchange``).
EXCHANGE_OPTIONS: dict[str, dict[str, Any]] = {
    "exchange_access": {"type": "str", "choices": ["remote", "snapin"]},
    "exchange_host": {"type": "str"},
    "exchange_port": {"type": "int"},
    "exchange_scheme": {"type": "str", "choices": ["http", "https"]},
    "exchange_auth": {"type": "str", "choices": ["kerberos", "negotiate", "ntlm", "basic"]},
    "exchange_username": {"type": "str"},
    "exchange_password": {"type": "str", "no_log": True},
    "exchange_ca_path": {"type": "path"},
    "exchange_validate_certs": {"type": "bool"},
}

#: How to use the Windows endpoint of the host's connection (fragment ``host``).
HOST_OPTIONS: dict[str, dict[str, Any]] = {
    "host_configuration_name": {"type": "str"},
}

#: How to write settings to Exchange (fragment ``settings``).
SETTINGS_OPTIONS: dict[str, dict[str, Any]] = {
    "replication_timeout": {"type": "int", "default": 60},
}

#: Options that may come from a variable ``exchange_mitigation_<option>``.
FROM_VARIABLES = (*EXCHANGE_OPTIONS, *HOST_OPTIONS)
