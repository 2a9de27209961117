# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Add-PSSnapin: the snap-in of Exchange's management tools brings Exchange's cmdlets into a runspace of the host (CMDLETS.md 9, FACTS.md 8)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .kernel import ErrorInfo, Invocation, Parameter, cmdlet

SNAPINS = ("microsoft.exchange.management.powershell.snapin", "microsoft.exchange.management.powershell.e2010")
_COMMAND = "Microsoft.PowerShell.Commands.AddPSSnapinCommand"
_EXCEPTION = "System.Management.Automation.PSArgumentException"
FULL = ("FullLanguage", "ConstrainedLanguage")


@cmdlet("Add-PSSnapin", {"Name": Parameter("string[]", 0, mandatory=True), "PassThru": Parameter("switch")}, languages=FULL)
def add_pssnapin(invocation: Invocation) -> Iterator[Any]:
    """Add snap-ins to the runspace; where none of that name is registered, or the language is constrained, it is an error."""
    session, machine = invocation.session, invocation.machine
    for name in invocation.get("Name"):
        known = name.lower() in SNAPINS and "ExchangeInstallPath" in machine.environment
        if not known:
            text = f"The Windows PowerShell snap-in '{name}' is not installed on this computer."
            invocation.error(ErrorInfo(text, f"AddPSSnapInRead,{_COMMAND}", 5, _EXCEPTION, name))
        elif session.language_mode == "ConstrainedLanguage":
            text = f"Cannot load the Windows PowerShell snap-in {name}: it is not signed by a publisher that the policy of this computer trusts."
            invocation.error(ErrorInfo(text, f"AddPSSnapInRead,{_COMMAND}", 5, "System.Management.Automation.PSSecurityException", name))
        elif "exchange" in session.endpoints:
            text = f"Cannot add Windows PowerShell snap-in {name} because it is already added. Verify the name of the snap-in and try again."
            invocation.error(ErrorInfo(text, f"AddPSSnapInRead,{_COMMAND}", 5, _EXCEPTION, name))
        else:
            session.endpoints.append("exchange")
    yield from ()
