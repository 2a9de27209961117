# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's DNS: every name below lab.example is this machine. On PYTHONPATH it holds for a whole ansible-playbook."""

from __future__ import annotations

import socket
from typing import Any

_genuine = socket.getaddrinfo


def resolve(host: Any, *arguments: Any, **named: Any) -> Any:
    """Resolve a name as before, those of the lab to loopback."""
    text = host.decode() if isinstance(host, bytes) else host
    return _genuine("127.0.0.1" if isinstance(text, str) and text.lower().endswith(".lab.example") else host, *arguments, **named)


socket.getaddrinfo = resolve
