# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions: reads and changes as structured PowerShell pipelines on one endpoint.

The rules are those that Windows PowerShell imposes (CMDLETS.md 9): a pool of one runspace; a changing statement alone
and with ErrorAction Stop; independent reads together only between markers, and what a marker does not confirm is read
again alone, once; neither Completed nor the number of outputs proves anything. A session that has to be opened again is used
only when the machine says the same name as before: a name of DNS or a load balancer may lead to another one meanwhile.
Note that this plugin util is private to the collection and may change at any time.
"""

from __future__ import annotations

import functools
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import PSObject, plain
from ansible_collections.exchange.mitigation.plugins.module_utils._cmdlets import CHANGES, HOST, enforce_statement
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import CmdletError, CmdletNotAllowed, ConnectionFailure, MitigationError
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Answer, Call, ErrorRecord, Statement, call
from ansible_collections.exchange.mitigation.plugins.module_utils._rights import lacking
from ansible_collections.exchange.mitigation.plugins.module_utils._untrusted import word
from ansible_collections.exchange.mitigation.plugins.plugin_utils._faults import classify
from ansible_collections.exchange.mitigation.plugins.plugin_utils._psrp import ERROR, OUTPUT, Outcome, Pipeline
from ansible_collections.exchange.mitigation.plugins.plugin_utils._transport import Link

#: Pipelines that may be finished but not terminated in one shell. Deleting the shell ends them all without a message each.
LINGERING = 3

#: Seconds without a message after which a connection counts as lost: HTTP.sys closes idle ones after 120 (WINRM.md B).
IDLE_LIMIT = 90

#: What tells one machine from another: every observation reads it anyway.
MACHINE = call("Get-CimInstance", ClassName="Win32_OperatingSystem", Property=["CSName"])

#: Seconds that a read may take although the server answers every message: no cmdlet that reads takes minutes.
READ_LIMIT = 1800


class PsrpSession:
    """A runspace on one endpoint, opened on first use, rebuilt after any fault, never used further after one.

    ``opener`` opens a link; ``where`` names server and address in sentences; ``endpoint`` is ``host`` or ``exchange``.
    """

    def __init__(
        self,
        endpoint: str,
        opener: Callable[[], Link],
        where: str,
        user: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        judge: Callable[[BaseException], ConnectionFailure] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.where = where
        self.user = user
        self._opener = opener
        self._clock = clock
        self._judge = judge or functools.partial(classify, where=where, user=user)
        self._link: Link | None = None
        self._links = 0
        self._busy = False
        self._used = 0.0
        self._machine = ""
        self._finished: list[Pipeline] = []
        # Exchange's endpoint has only its own cmdlets, so nothing can write a marker there (CMDLETS.md 10).
        self._batches = endpoint == HOST

    @property
    def generation(self) -> int | None:
        """The number of the runspace that the next statement will run in, None where it will be a new one."""
        if self._link is not None and self._clock() - self._used > IDLE_LIMIT:
            self._drop()
        return self._links if self._link is not None else None

    def read(self, statements: Sequence[Statement], endpoint: str | None = None) -> list[Answer]:
        """Return one answer per statement. Error records are part of the answer; raises ConnectionFailure and CmdletNotAllowed.

        ``endpoint`` says whose cmdlets they are, where a snap-in has brought those of another into this runspace.
        """
        for statement in statements:
            for row in enforce_statement(statement, endpoint or self.endpoint):
                if row.effect == CHANGES:
                    raise CmdletNotAllowed(f"The cmdlet {row.cmdlet} changes the server and was not sent as a read.", cmdlet=row.cmdlet)
        answers: list[Answer | None] = [None] * len(statements)
        if self._batches and len(statements) > 1:
            answers = self._read_together(statements)
        complete = [answer if answer is not None else self._read_alone(statement) for statement, answer in zip(statements, answers, strict=True)]
        self._machine = self._machine or next(filter(None, map(_machine, complete)), "")
        return complete

    def change(self, statement: Statement, endpoint: str | None = None) -> Answer:
        """Run one changing statement alone, with ErrorAction Stop.

        Raises CmdletError for any error record, ConnectionFailure with ``change_sent`` where the answer is lost: whether
        the change was made is unknown then, and it is not sent again.
        """
        rows = enforce_statement(statement, endpoint or self.endpoint)
        stopping = tuple(Call(item.cmdlet, {**item.parameters, "ErrorAction": "Stop"}) for item in statement)
        outcome = self._run([stopping], changing=True)
        changing = next((row.cmdlet for row in rows if row.effect == CHANGES), rows[-1].cmdlet)
        if outcome.errors:
            raise self.error(changing, outcome.errors[0])
        if outcome.failed:
            raise self.error(changing, ErrorRecord("the pipeline did not complete and left no error record", "", "OperationStopped", "", ""))
        return Answer(statement, outcome.objects, ())

    def error(self, cmdlet: str, record: ErrorRecord) -> CmdletError:
        """Return the exception for an error record."""
        remedy = lacking(cmdlet, self.endpoint, record.fqid, record.exception)
        reason = "cmdlet_not_available" if remedy else None
        message = " ".join(record.message.split()) or record.fqid or "no text"
        return CmdletError(
            f"{cmdlet} failed on {self.where}: {message}{'' if message.endswith('.') else '.'}{remedy}",
            cmdlet, record.fqid, record.category, record.exception, record.target, reason=reason,
        )

    def close(self) -> None:
        """Close the session. Never raises: what is left open here, the server closes when it is idle."""
        link, self._link = self._link, None
        self._finished.clear()
        if link is None:
            return
        try:
            if self._busy:
                link.abandon()
            else:
                link.close()
        except Exception:  # pylint: disable=broad-except  # the outcome of the task stands already
            return
        finally:
            self._busy = False

    def _read_alone(self, statement: Statement) -> Answer:
        outcome = self._run([statement])
        errors = outcome.errors
        if outcome.failed and not errors:
            errors = (ErrorRecord("the pipeline did not complete and left no error record", "", "OperationStopped", "", ""),)
        return Answer(statement, outcome.objects, errors)

    def _read_together(self, statements: Sequence[Statement]) -> list[Answer | None]:
        nonce = secrets.token_hex(8)
        framed: list[Statement] = []
        for position, statement in enumerate(statements):
            framed += [(_marker("b", position, nonce),), statement, (_marker("e", position, nonce),)]
        outcome = self._run(framed)
        answers = frame(statements, outcome, nonce)
        if any(record.fqid.startswith("CommandNotFoundException") and record.target == "Write-Output" for record in outcome.errors):
            self._batches = False  # a JEA endpoint without Write-Output
        return answers

    def _run(self, statements: Sequence[Statement], changing: bool = False) -> Outcome:
        """Run one pipeline; after a fault or an interruption the link is gone."""
        sent = False
        try:
            link = self._opened()
            self._busy = True
            while len(self._finished) >= LINGERING:
                self._finished.pop(0).terminate()
            pipeline = Pipeline(link.pool, link.recorder, statements)
            pipeline.limit = None if changing else READ_LIMIT
            sent = True
            outcome = pipeline.run()
            self._busy = False
            self._used = self._clock()
        except MitigationError:
            raise
        except Exception as exc:  # the libraries raise many types; all of them mean that this link is over
            raise self._fault(exc, changing and sent) from exc
        self._finished.append(pipeline)
        if outcome.prompted:
            names = ", ".join(item.cmdlet for item in statements[0]) if len(statements) == 1 else "a cmdlet"
            raise CmdletError(f"{names} asked for input on {self.where}, where nobody answers; it was stopped.", names, reason="cmdlet_prompted")
        return outcome

    def _opened(self) -> Link:
        if self._link is not None and self._clock() - self._used > IDLE_LIMIT:
            self._drop()
        if self._link is None:
            self._link = self._opener()
            self._links += 1
            self._used = self._clock()
            if self._machine:
                self._prove(self._link)
        return self._link

    def _prove(self, link: Link) -> None:
        """Raise ConnectionFailure ``other_machine`` or ``machine_unproven`` unless this link leads to the machine of the one before."""
        statement = (MACHINE,)
        pipeline = Pipeline(link.pool, link.recorder, [statement])
        pipeline.limit = READ_LIMIT
        self._busy = True
        found = _machine(Answer(statement, pipeline.run().objects, ()))
        self._busy = False
        self._finished.append(pipeline)
        if found.casefold() == self._machine.casefold():
            return
        self._drop()
        if not found:
            raise ConnectionFailure(
                f"{self.where} had to be asked anew and does not tell its name any more, so it is not certain that it is still {self._machine}. "
                "Nothing further was sent to it; run the task again.",
                "machine_unproven",
            )
        raise ConnectionFailure(
            f"{self.where} led to {self._machine} at first and leads to {found} now. Nothing was read there and nothing changed. "
            "Give every server an address of its own in the inventory, not one that several share.",
            "other_machine", expected=self._machine, found=found,
        )

    def _fault(self, exc: Exception, sent: bool) -> ConnectionFailure:
        failure = self._judge(exc)
        if sent:
            failure.details["change_sent"] = True
        self._drop(exc)
        return failure

    def _drop(self, exc: Exception | None = None) -> None:
        link, self._link = self._link, None
        self._busy = False
        self._finished.clear()
        if link is not None:
            link.abandon(exc)


def _machine(answer: Answer) -> str:
    """Return the computer's name, where an answer tells it; else nothing."""
    if answer.statement[0].parameters.get("ClassName") != "Win32_OperatingSystem":
        return ""
    return next((word(item.get("CSName")) or "" for item in answer.objects if isinstance(item, PSObject)), "")


def _marker(side: str, position: int, nonce: str) -> Call:
    return call("Write-Output", InputObject=f"~{side}:{position}:{nonce}")


def frame(statements: Sequence[Statement], outcome: Outcome, nonce: str) -> list[Answer | None]:
    """Return the answer of each statement that both of its markers confirm, None for the others.

    An event outside every pair of markers, or an error that names a cmdlet of another statement, shows that the order
    of arrival cannot be relied on, and no statement counts as confirmed.
    """
    answers: list[Answer | None] = [None] * len(statements)
    current: int | None = None
    objects: list[Any] = []
    errors: list[ErrorRecord] = []
    stray = False
    for kind, value in outcome.events:
        mark = _mark(value, nonce) if kind == OUTPUT else None
        if mark is not None:
            side, position = mark
            if side == "b":
                current, objects, errors = position, [], []
            else:
                if current == position and 0 <= position < len(statements):
                    answers[position] = Answer(statements[position], tuple(objects), tuple(errors))
                current = None
        elif current is None:
            stray = True
        elif kind == ERROR:
            errors.append(value)
            stray = stray or not _plausible(value, statements, current)
        else:
            objects.append(value)
    # The error that ended the whole pipeline stands outside legitimately: what was confirmed before it stays so.
    return [None] * len(statements) if stray and not outcome.failed else answers


def _mark(value: Any, nonce: str) -> tuple[str, int] | None:
    value = plain(value)  # a proxy of JEA wraps even a text
    if not isinstance(value, str):
        return None
    parts = value.split(":")
    if len(parts) == 3 and parts[0] in ("~b", "~e") and parts[2] == nonce and parts[1].isdigit():
        return parts[0][1], int(parts[1])
    return None


def _plausible(record: ErrorRecord, statements: Sequence[Statement], position: int) -> bool:
    """Tell whether an error can be the statement's own, as far as its id ends with the class of one of the cmdlets at hand."""
    source = record.fqid.rpartition(".")[2].lower()
    own = {_class(item) for item in statements[position]}
    others = {_class(item) for statement in statements for item in statement} - own
    return source in own or source not in others


def _class(item: Call) -> str:
    return (item.cmdlet.replace("-", "") + "Command").lower()
