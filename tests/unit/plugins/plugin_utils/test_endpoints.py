# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The time limits of the host's connection hold for Exchange's endpoint, because sentences about timeouts name them as the remedy."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.plugin_utils._endpoints import exchange_arguments

LIMITS = ("connection_timeout", "read_timeout", "operation_timeout")


class Connection:
    """A connection plugin with these options."""

    def __init__(self, transport: str, **options: Any) -> None:
        self.transport = transport
        self.options: dict[str, Any] = {"remote_addr": "ex1", "remote_user": "u", "remote_password": "p", **options}

    def get_option(self, name: str) -> Any:
        """Return an option; KeyError where the plugin has none of that name."""
        return self.options[name]


@pytest.mark.parametrize(
    ("connection", "limits"),
    [
        (Connection("winrm", connection_timeout=None, _extras={}), {}),
        (Connection("winrm", connection_timeout=60, _extras={}), {"read_timeout": 70, "operation_timeout": 60}),
        (
            Connection("winrm", _extras={"ansible_winrm_read_timeout_sec": "90", "ansible_winrm_operation_timeout_sec": "80"}),
            {"read_timeout": 90, "operation_timeout": 80},
        ),
        (
            Connection("psrp", connection_timeout=30, read_timeout=130, operation_timeout=120),
            {"connection_timeout": 30, "read_timeout": 130, "operation_timeout": 120},
        ),
        (Connection("local"), {}),
    ],
    ids=["winrm", "winrm-timeout", "winrm-extras", "psrp", "local"],
)
def test_time_limits(connection: Connection, limits: dict[str, int]) -> None:
    given = {"exchange_auth": "ntlm", "exchange_host": "ex1", "exchange_username": "u", "exchange_password": "p"}
    arguments = exchange_arguments(connection, given)
    assert {name: arguments[name] for name in LIMITS if name in arguments} == limits
