# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A session into a machine of the lab without a wire, for sweeps over what a module asks for, step by step.

Values go through the lab's own CLIXML writer and the collection's reader, so they are what they are over the wire.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import decode
from ansible_collections.exchange.mitigation.plugins.module_utils._cmdlets import CHANGES, enforce, enforce_statement
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import CmdletError, CmdletNotAllowed
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Answer, ErrorRecord, Statement
from ansible_collections.exchange.mitigation.plugins.plugin_utils._psrp import CATEGORIES

from lab import clixml
from lab.kernel import ErrorInfo
from lab.pipeline import CommandLine, Runner, Runspace


class Sink:
    """Keeps what a pipeline writes."""

    def __init__(self) -> None:
        self.objects: list[Any] = []
        self.errors: list[ErrorRecord] = []

    def output(self, value: Any) -> None:
        """Keep an object as the client would decode it."""
        self.objects.append(decode(clixml.write(value)))

    def error(self, info: ErrorInfo) -> None:
        """Keep an error record."""
        self.errors.append(ErrorRecord(info.message, info.fqid, CATEGORIES[info.category], info.exception, info.target))

    def state(self, dummy_state: str, error: ErrorInfo | None = None) -> None:
        """Keep the error that ended the pipeline."""
        if error is not None:
            self.error(error)


class DirectSession:
    """The Session protocol, straight into the lab."""

    def __init__(self, fleet: Any, machine: Any, endpoint: str) -> None:
        self.endpoint = endpoint
        self._runspace = Runspace(fleet, machine, endpoint, fleet.admin, machine.language_mode if endpoint == "host" else "NoLanguage")

    def read(self, statements: Sequence[Statement]) -> list[Answer]:
        """Run reads one by one."""
        if any(enforce(part).effect == CHANGES for statement in statements for part in statement):
            raise CmdletNotAllowed("a change was sent as a read")
        return [self._run(statement) for statement in statements]

    def change(self, statement: Statement) -> Answer:
        """Run one change; raises CmdletError."""
        answer = self._run(statement, ErrorAction="Stop")
        if answer.errors:
            error, cmdlet = answer.errors[0], statement[-1].cmdlet
            raise CmdletError(f"{cmdlet} failed: {error.message}", cmdlet, error.fqid, error.category, error.exception, error.target)
        return Answer(statement, answer.objects, ())

    def close(self) -> None:
        """Nothing is open."""

    def _run(self, statement: Statement, **more: Any) -> Answer:
        enforce_statement(statement, self.endpoint)
        sink = Sink()
        line = [CommandLine(item.cmdlet, tuple({**item.parameters, **more}.items())) for item in statement]
        Runner(self._runspace, sink).run([line])
        return Answer(statement, tuple(sink.objects), tuple(sink.errors))
