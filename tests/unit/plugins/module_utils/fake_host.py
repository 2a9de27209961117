# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Windows endpoint for tests: each cmdlet answers as told, and what was asked and changed is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import PSObject
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import CmdletError
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Answer, ErrorRecord, Statement

GONE = ErrorRecord("Cannot find path.", "PathNotFound,Microsoft.PowerShell.Commands.GetContentCommand", "ObjectNotFound", "ItemNotFoundException", "")
DENIED = ErrorRecord("Access is denied.", "UnauthorizedAccess,Test", "PermissionDenied", "System.UnauthorizedAccessException", "")


def item(**properties: Any) -> PSObject:
    """Return an object with these properties."""
    return PSObject(properties=properties)


class FakeHost:
    """``told``: cmdlet (the last of a statement, else the first) to its answer; a cmdlet that is not told writes nothing.

    An answer is a tuple of objects, an ErrorRecord, an exception to raise, a function of the first cmdlet's parameters that
    returns one of these, or a list of them: one for each time, the last for all times after it.
    """

    def __init__(self, told: Mapping[str, Any]) -> None:
        self.told = {cmdlet: list(answer) if isinstance(answer, list) else answer for cmdlet, answer in told.items()}
        self.changes: list[tuple[str, dict[str, Any]]] = []

    def read(self, statements: Sequence[Statement]) -> list[Answer]:
        """Answer each statement."""
        return [self._answer(statement) for statement in statements]

    def change(self, statement: Statement) -> Answer:
        """Keep the change and answer; an error record is raised, as a session does."""
        self.changes.append((statement[-1].cmdlet, dict(statement[-1].parameters)))
        answer = self._answer(statement)
        if answer.errors:
            error = answer.errors[0]
            raise CmdletError(error.message, statement[-1].cmdlet, error.fqid, error.category, error.exception, error.target)
        return answer

    def _answer(self, statement: Statement) -> Answer:
        cmdlet = statement[-1].cmdlet if statement[-1].cmdlet in self.told else statement[0].cmdlet
        found = self.told.get(cmdlet, ())
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        if callable(found):
            found = found(statement[0].parameters)
        if isinstance(found, Exception):
            raise found
        return Answer(statement, (), (found,)) if isinstance(found, ErrorRecord) else Answer(statement, tuple(found), ())
