# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the tests of the Exchange part run cmdlets: in process, through the lab's own pipeline, without a socket."""

from __future__ import annotations

import dataclasses
from typing import Any

from lab.fleet import Fleet
from lab.kernel import ErrorInfo
from lab.pipeline import CommandLine, Runner, Runspace


@dataclasses.dataclass
class Result:
    """What a pipeline sent."""

    objects: list[Any] = dataclasses.field(default_factory=list)
    errors: list[ErrorInfo] = dataclasses.field(default_factory=list)
    final: str = ""
    reason: ErrorInfo | None = None

    def output(self, value: Any) -> None:
        """Take an object."""
        self.objects.append(value)

    def error(self, info: ErrorInfo) -> None:
        """Take an error record."""
        self.errors.append(info)

    def state(self, state: str, error: ErrorInfo | None = None) -> None:
        """Take the final state."""
        self.final, self.reason = state, error


def run(fleet: Fleet, server: str, cmdlet: str, user: str | None = None, **parameters: Any) -> Result:
    """Run one cmdlet at a server's Exchange endpoint."""
    result = Result()
    runspace = Runspace(fleet, fleet.machine(server), "exchange", user or fleet.admin, "NoLanguage")
    Runner(runspace, result).run([[CommandLine(cmdlet, tuple(parameters.items()))]])
    return result


def settings(fleet: Fleet, server: str, of: str, **parameters: Any) -> dict[str, Any]:
    """Return the properties of one server object as another server's endpoint shows it."""
    result = run(fleet, server, "Get-ExchangeServer", Identity=of, **parameters)
    assert result.final == "Completed" and len(result.objects) == 1, result
    props: dict[str, Any] = result.objects[0].props
    return props
