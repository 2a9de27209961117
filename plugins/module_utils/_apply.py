# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage apply: bring planned files onto a server, journal first, IIS asked after, the old bytes back when it refuses.

The sequence for one file is CMDLETS.md 2.1: write the new bytes beside, read them back, compare the target once more,
replace in one call that keeps the security descriptor and leaves a backup, read back, let IIS parse.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import datetime
import ntpath
import secrets
from collections.abc import Callable, Sequence

from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import PSObject, plain
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, CmdletError, ConnectionFailure, MitigationError
from ansible_collections.exchange.mitigation.plugins.module_utils._journal import Journal, Operation, digest
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Answer, Session, Statement, call
from ansible_collections.exchange.mitigation.plugins.module_utils._observe import content, failed, file_bytes, security
from ansible_collections.exchange.mitigation.plugins.module_utils._plan import FileEdit

#: The .NET method call is refused by a ConstrainedLanguage session (CMDLETS.md 0, row 2).
CONSTRAINED = "MethodInvocationNotSupportedInConstrainedLanguage"


class FileMoved(MitigationError):
    """A file was changed by something else between observing and replacing it; nothing was written to it."""

    reason = "file_changed"


@dataclasses.dataclass(frozen=True)
class Done:
    """What an operation came to: ``event`` is the journal's word for it."""

    operation: Operation
    event: str


class Applier:
    """Carries out the edits of one plan on one host."""

    def __init__(self, host: Session, journal: Journal, now: Callable[[], datetime.datetime], progress: Callable[[str], None]) -> None:
        self.host = host
        self.journal = journal
        self.now = now
        self.progress = progress

    def apply(self, edits: Sequence[FileEdit], verb: str) -> list[Operation]:
        """Make all edits or none: when one fails, those before it are taken back in reverse.

        Raises FileMoved (nothing written to that file, the others taken back), ApplyError, ConnectionFailure.
        """
        existing = [edit.path for edit in edits if edit.before is not None]
        descriptors = dict(zip(existing, (_sddl(answer) for answer in self.host.read([security(path) for path in existing])))) if existing else {}
        made: list[Operation] = []
        for edit in edits:
            operation = self._operation(edit, verb, descriptors.get(edit.path, ""))
            try:
                self._one(operation)
            except ConnectionFailure:
                raise
            except MitigationError as exc:
                for earlier in reversed(made):
                    self._undo(earlier, exc.message)
                raise
            made.append(operation)
        for operation in made:
            if operation.before is not None:
                self._remove(operation.backup)
            self._end(operation, "closed")
        return made

    def recover(self, operations: Sequence[Operation]) -> list[Done]:
        """Bring interrupted operations to before or after, by what the files say; newest first."""
        return [self._recover(operation) for operation in reversed(operations)]

    # One file

    def _one(self, operation: Operation) -> None:
        self.journal.begin(self.now(), operation)
        self.progress(f"{operation.path}: writing {len(operation.after or b'')} bytes beside it")
        try:
            self._prepare(operation)
        except FileMoved:
            self._discard(operation.temporary)
            self._end(operation, "abandoned")
            raise
        except CmdletError as exc:
            self._discard(operation.temporary)
            self._end(operation, "abandoned", error=exc.message)
            raise ApplyError(
                f"{operation.path}: the new bytes could not be written beside it, the file is untouched: {exc.message}", "write_failed", file=operation.path
            ) from exc
        self._end(operation, "replacing")
        self.progress(f"{operation.path}: replacing")
        try:
            self._replace(operation)
        except ConnectionFailure:
            # The answer is lost, not necessarily the effect: look, never send it again (DESIGN.md 5).
            self.progress(f"{operation.path}: the answer was lost, looking at the file")
            self._settle(operation, "the connection broke during the replace call")
        except CmdletError as exc:
            self._settle(operation, exc.message)
        self._verify(operation)

    def _operation(self, edit: FileEdit, verb: str, sddl: str) -> Operation:
        operation_id = secrets.token_hex(4)
        stem = ntpath.splitext(edit.path)[0]
        return Operation(
            run_id=self.journal.run_id,
            operation_id=operation_id,
            path=edit.path,
            before=edit.before,
            after=edit.after,
            sddl=sddl,
            temporary=f"{stem}.{operation_id}.new.config",
            backup=f"{stem}.{operation_id}.before.config",
            mitigations=tuple(edit.purposes),
            verb=verb,
            checks=tuple((check.filter, check.pspath) for check in edit.checks),
            event="begin",
            time=self.now().isoformat(),
        )

    def _prepare(self, operation: Operation) -> None:
        """Write the new bytes beside the file, read them back and compare the file itself once more."""
        reads: list[Statement] = [content(operation.path)]
        if operation.after is not None:
            self.host.change((call("Set-Content", LiteralPath=operation.temporary, Encoding="Byte", Value=operation.after),))
            reads.append(content(operation.temporary))
        answers = self.host.read(reads)
        if operation.after is not None and file_bytes(answers[1]) != operation.after:
            raise ApplyError(
                f"{operation.temporary}: read back other bytes than were written; the target is untouched", "read_back_differs", file=operation.path
            )
        if file_bytes(answers[0]) != operation.before:
            raise FileMoved(f"{operation.path} was changed by something else just now; it is untouched by this task", file=operation.path)

    def _replace(self, operation: Operation) -> None:
        if operation.after is None:
            self.host.change(_rename(operation.path, operation.backup))
        elif operation.before is None:
            self.host.change(_rename(operation.temporary, operation.path))
        else:
            self._swap(operation.temporary, operation.path, operation.backup)

    def _swap(self, source: str, target: str, backup: str) -> None:
        """Put source in target's place, target's old bytes into backup; the target keeps its security descriptor."""
        try:
            self.host.change((call("Get-Item", LiteralPath=source, Force=True), call("ForEach-Object", MemberName="Replace", ArgumentList=[target, backup])))
        except CmdletError as exc:
            if CONSTRAINED not in exc.fqid:
                raise
            # Copying over an existing file keeps its descriptor too, with a short window of torn reads (CMDLETS.md 2.1).
            self.host.change((call("Copy-Item", LiteralPath=target, Destination=backup),))
            self.host.change((call("Copy-Item", LiteralPath=source, Destination=target, Force=True),))
            self._discard(source)

    def _settle(self, operation: Operation, why: str) -> None:
        """After a replace of unknown outcome: return if the file is after, else bring it to before and raise."""
        state = self._look(operation)
        if state == "after":
            return
        if state == "missing":
            self.host.change(_rename(operation.backup, operation.path))
            state = self._look(operation)
        if state != "before":
            self._end(operation, "unsettled", error=why)
            raise ApplyError(
                f"{operation.path}: replacing it failed ({why}) and it now holds neither the bytes before nor after; "
                f"the bytes before are in the journal {self.journal.path}",
                "file_unsettled",
                file=operation.path,
            )
        self._discard(operation.temporary)
        self._end(operation, "abandoned", error=why)
        raise ApplyError(f"{operation.path}: replacing it failed, the file is as before: {why}", "replace_failed", file=operation.path, undone=True)

    def _look(self, operation: Operation) -> str:
        """Tell whether the file is before, after, missing with the backup left, or something else."""
        target, backup = (file_bytes(answer) for answer in self.host.read([content(operation.path), content(operation.backup)]))
        if target == operation.after:
            return "after"
        if target == operation.before:
            return "before"
        if target is None and backup is not None and backup == operation.before:
            return "missing"
        return "other"

    def _verify(self, operation: Operation) -> None:
        """Read bytes and descriptor back and let IIS parse; on a refusal the bytes before come back at once."""
        self.progress(f"{operation.path}: asking IIS to parse {len(operation.checks)} sections")
        problem = self._problem(operation)
        if problem is None:
            self._end(operation, "verified")
            return
        self._undo(operation, problem)
        raise ApplyError(f"{operation.path}: {problem}; the bytes before are back", "check_failed", file=operation.path, undone=True)

    def _problem(self, operation: Operation) -> str | None:
        reads: list[Statement] = [content(operation.path), security(operation.path), *(_parse(*check) for check in operation.checks)]
        answers = self.host.read(reads)
        if file_bytes(answers[0]) != operation.after:
            return "other bytes than written were read back"
        if operation.before is not None and operation.after is not None and _sddl(answers[1]) != operation.sddl:
            return f"its security descriptor changed from {operation.sddl} to {_sddl(answers[1])}"
        for (section, pspath), answer in zip(operation.checks, answers[2:]):
            if answer.errors:
                return f"IIS refuses {section} at {pspath}: {' '.join(answer.errors[0].message.split())}"
        return None

    def _undo(self, operation: Operation, why: str) -> None:
        """Take a replaced file back to its bytes before."""
        self.progress(f"{operation.path}: putting the bytes before back")
        discarded = operation.temporary
        self._end(operation, "undoing", error=why)
        try:
            if operation.before is None:
                self.host.change(_rename(operation.path, discarded))
            elif operation.after is None:
                self.host.change(_rename(operation.backup, operation.path))
            else:
                self._swap(operation.backup, operation.path, discarded)
        except CmdletError as exc:
            if self._look(operation) != "before":
                self._end(operation, "unsettled", error=exc.message)
                raise ApplyError(
                    f"{operation.path}: {why}; putting the bytes before back failed too ({exc.message}); "
                    f"they are in {operation.backup} and in the journal {self.journal.path}",
                    "undo_failed",
                    file=operation.path,
                    undone=False,
                ) from exc
        state = self._look(operation)
        if state != "before":
            self._end(operation, "unsettled", error=why)
            raise ApplyError(
                f"{operation.path}: {why}; after the undo the file still is not as before; the bytes before are in the journal {self.journal.path}",
                "undo_failed",
                file=operation.path,
                undone=False,
            )
        self._discard(discarded)
        self._end(operation, "undone")

    # Interrupted runs

    def _recover(self, operation: Operation) -> Done:
        """Bring one interrupted operation to an end: after only where IIS parses it, else before."""
        state = self._look(operation)
        self.progress(f"{operation.path}: an interrupted run left it {state}")
        if state == "missing":
            self.host.change(_rename(operation.backup, operation.path))
            state = self._look(operation)
        if operation.event == "verified":
            event = "closed"
        elif state == "other":
            # Someone else wrote the file since; it is theirs now, only our leftovers go.
            event = "abandoned"
        elif state == "before":
            event = "recovered_before"
        else:
            problem = self._problem(operation)
            event = "recovered_after" if problem is None else "undone"
            if problem is not None:
                self._undo(operation, problem)
        for leftover in (operation.temporary, operation.backup):
            self._discard(leftover)
        if event != "undone":
            self._end(operation, event)
        return Done(operation, event)

    # Small steps

    def _discard(self, path: str) -> None:
        (answer,) = self.host.read([(call("Test-Path", LiteralPath=path, PathType="Leaf"),)])
        if answer.errors:
            raise failed(answer)
        if answer.objects and plain(answer.objects[0]) is True:
            self._remove(path)

    def _remove(self, path: str) -> None:
        self.host.change((call("Remove-Item", LiteralPath=path, Force=True, Confirm=False),))

    def _end(self, operation: Operation, event: str, **fields: str) -> None:
        self.journal.append(self.now(), event, operation=operation.operation_id, sha256_after=digest(operation.after), **fields)


def _rename(source: str, target: str) -> Statement:
    return (call("Rename-Item", LiteralPath=source, NewName=ntpath.basename(target)),)


def _parse(section: str, pspath: str) -> Statement:
    return (call("Get-WebConfiguration", Filter=section, PSPath=pspath),)


def _sddl(answer: Answer) -> str:
    if answer.errors:
        raise failed(answer)
    item = answer.objects[0] if answer.objects else None
    return str(item.get("Sddl") or "") if isinstance(item, PSObject) else ""
