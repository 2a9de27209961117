# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The values that pass between the stages, and the seams between a module and what runs it.

Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ansible_collections.exchange.mitigation.plugins.module_utils._errors import MitigationError


@dataclasses.dataclass(frozen=True)
class Call:
    """One cmdlet with its typed parameters. ``parameters`` keep the cmdlet's own spelling."""

    cmdlet: str
    parameters: Mapping[str, Any]


#: One statement: cmdlets joined by the PowerShell pipeline, first to last.
Statement = tuple[Call, ...]


def call(cmdlet: str, **parameters: Any) -> Call:
    """Return a Call; ``call("Get-Content", LiteralPath=path, Encoding="Byte", Raw=True)``."""
    return Call(cmdlet, parameters)


@dataclasses.dataclass(frozen=True)
class ErrorRecord:
    """An error record as a cmdlet wrote it (WINRM.md A, CMDLETS.md)."""

    message: str
    fqid: str
    category: str
    exception: str
    target: str


@dataclasses.dataclass(frozen=True)
class Answer:
    """What one statement returned: decoded objects and the error records, in order of arrival."""

    statement: Statement
    objects: tuple[Any, ...]
    errors: tuple[ErrorRecord, ...]


class Session(Protocol):
    """A runspace on one endpoint, opened on first use."""

    def read(self, statements: Sequence[Statement]) -> list[Answer]:
        """Run independent reads in one pipeline, each between two markers; a gap is read again alone."""

    def change(self, statement: Statement) -> Answer:
        """Run one changing statement alone, with ErrorAction Stop; raises CmdletError."""


class Task(Protocol):
    """What a module's ``run`` is given by the action base."""

    params: Mapping[str, Any]
    inventory_hostname: str

    @property
    def host(self) -> Session:
        """The Windows endpoint of the task's own connection."""

    @property
    def exchange(self) -> Session:
        """The Exchange endpoint."""

    def now(self) -> datetime.datetime:
        """The current time, aware, UTC."""

    def warn(self, message: str) -> None:
        """Show a warning with the result."""

    def progress(self, message: str) -> None:
        """Show a line at -v."""


@dataclasses.dataclass
class Decision:
    """What a module decided to do: the whole answer of check mode, and the effect that check mode leaves out.

    ``result`` is returned as it is, together with ``changed`` and ``diff``. ``effect`` makes the change and returns
    what to merge over ``result``; None means that there is nothing to do. An effect that is no change of a server
    (the high-water mark of a feed) may stand beside ``changed=False``. ``failure`` is raised after the effect, and in
    check mode all the same: the task did, or would do, what it could and fails with the whole result.
    """

    result: dict[str, Any]
    changed: bool = False
    diff: dict[str, Any] | list[dict[str, Any]] | None = None
    effect: Callable[[], dict[str, Any]] | None = None
    failure: MitigationError | None = None
