# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys of the registry that are read and that the JEA capabilities must therefore offer.

Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

#: Where Windows says that it wants a restart (FACTS.md 6). The first two are keys whose existence is the answer.
COMPONENT_SERVICING = r"HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\RebootPending"
WINDOWS_UPDATE = r"HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\WindowsUpdate\Auto Update\RebootRequired"
SESSION_MANAGER = r"HKLM:\SYSTEM\CurrentControlSet\Control\Session Manager"
UPDATE_EXE = r"HKLM:\SOFTWARE\Microsoft\Updates\UpdateExeVolatile"

#: Where WinHTTP keeps its proxy (FACTS.md 7).
CONNECTIONS = r"HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Internet Settings\Connections"
