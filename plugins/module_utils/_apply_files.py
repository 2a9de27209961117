# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage apply: one file, from its bytes before to its bytes after; IIS is asked afterwards, the old bytes are back when it refuses.

The sequence is CMDLETS.md 2.1: write the new bytes beside, read them back, compare the target once more, replace in one
call that keeps the security descriptor and leaves a backup, read back, let IIS parse.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import contextlib
import datetime
import ntpath
import secrets
import time
from collections.abc import Callable

from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import PSObject, plain
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, CmdletError, ConnectionFailure, JournalError, MitigationError
from ansible_collections.exchange.mitigation.plugins.module_utils._journal import Journal, Operation, digest
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Answer, Session, Statement, call
from ansible_collections.exchange.mitigation.plugins.module_utils._observe import content, failed, file_bytes, security
from ansible_collections.exchange.mitigation.plugins.module_utils._plan import FileEdit
from ansible_collections.exchange.mitigation.plugins.module_utils._untrusted import word

#: The .NET method call is refused by a ConstrainedLanguage session (CMDLETS.md 0, row 2); a JEA session does not have the cmdlet.
CONSTRAINED = "MethodInvocationNotSupportedInConstrainedLanguage"
NOT_LISTED = "CommandNotFoundException"

#: What another process that has the file open comes to, in any language (CMDLETS.md 2); other refusals of the file system come to the same.
IN_USE = ("MethodInvocationError", "IOError")
#: Seconds to wait before the file is replaced once more while another process has it open: a virus scanner, a backup, IIS itself.
PAUSES = (0.5, 1.0, 2.0)

#: The file on which all of IIS depends.
APPLICATION_HOST = "applicationhost.config"
#: A JEA session says so by itself; to try would be a refused command in the server's log.
OFFERED: Statement = (call("Get-Command", Name="ForEach-Object"),)

descriptor = security


class FileMoved(MitigationError):
    """A file was changed by something else between observing and replacing it; nothing was written to it."""

    reason = "file_changed"


def descriptor_of(answer: Answer) -> str:
    """Return the security descriptor that Get-Acl brought, as text. Raises CmdletError."""
    if answer.errors:
        raise failed(answer)
    item = answer.objects[0] if answer.objects else None
    return (word(item.get("Sddl")) or "") if isinstance(item, PSObject) else ""


class Files:
    """Brings files of one host from before to after, and back."""

    def __init__(self, host: Session, journal: Journal, now: Callable[[], datetime.datetime], progress: Callable[[str], None]) -> None:
        self.host = host
        self.journal = journal
        self.now = now
        self.progress = progress
        #: whether the session lets a method be called; None until it was asked
        self._calls: bool | None = None

    def make(self, edit: FileEdit, verb: str, sddl: str) -> Operation:
        """Carry one edit out and verify it. Raises FileMoved, ApplyError, JournalError (the bytes before are back), ConnectionFailure."""
        operation = self._operation(edit, verb, sddl)
        self.journal.begin(self.now(), operation)
        self.progress(f"{operation.path}: writing {len(operation.after or b'')} bytes beside it")
        try:
            self._prepare(operation)
        except FileMoved:
            self._discard(operation.temporary)
            self._end(operation, "abandoned")
            raise
        except CmdletError as exc:
            what = f"{operation.path}: the new bytes could not be written beside it, the file is untouched: {exc.message}"
            try:
                self._discard(operation.temporary)
                self._end(operation, "abandoned", error=exc.message)
            except CmdletError as other:
                what += f" The next run removes what may be left of them ({other.message})"
            raise ApplyError(what, "write_failed", file=operation.path) from exc
        try:
            self._end(operation, "replacing")
        except JournalError:
            self._discard(operation.temporary)
            raise
        self.progress(f"{operation.path}: replacing")
        try:
            self._replace_patiently(operation)
        except ConnectionFailure:
            # The answer is lost, not necessarily the effect: look, never send it again (DESIGN.md 5).
            self.progress(f"{operation.path}: the answer was lost, looking at the file")
            self._settle(operation, "the connection broke during the replace call")
        except CmdletError as exc:
            self._settle(operation, exc.message)
        self._verify(operation)
        return operation

    def close(self, operation: Operation) -> None:
        """Say that it stands, and take the backup away."""
        if operation.before is not None:
            self._remove(operation.backup)
        self._end(operation, "closed")

    def undo(self, operation: Operation, why: str) -> None:
        """Take a replaced file back to its bytes before. Raises ApplyError ``undo_failed``, ConnectionFailure."""
        self.progress(f"{operation.path}: putting the bytes before back")
        discarded = operation.temporary
        self._note(operation, "undoing", error=why)
        trouble = ""
        try:
            if operation.before is None:
                self._move(operation.path, discarded)
            elif operation.after is None:
                self._move(operation.backup, operation.path)
            else:
                self._swap(operation.backup, operation.path, discarded)
        except CmdletError as exc:
            trouble = f" ({exc.message})"
        if self._restored(operation) != "before":
            self._note(operation, "unsettled", error=why + trouble)
            raise ApplyError(
                f"{operation.path}: {why}; putting the bytes before back failed too{trouble}; they are in the journal {self.journal.path}"
                + (f" and in {operation.backup}" if operation.before is not None else ""),
                "undo_failed",
                file=operation.path,
                undone=False,
            )
        self._clear(operation)
        self._note(operation, "undone")

    def recover(self, operation: Operation) -> str:
        """Bring an interrupted operation to an end and return the journal's word for it: after only where IIS parses it, else before."""
        state = self._look(operation)
        self.progress(f"{operation.path}: an interrupted run left it {state}")
        if operation.event == "verified" and state != "before":
            event = "closed"
        else:
            if state in ("missing", "torn"):
                state = self._restored(operation)
            if state == "before":
                event = "recovered_before"
            elif state == "after":
                try:
                    problem = "its run was taking it back" if operation.event in ("undoing", "unsettled") else self._problem(operation)
                except FileMoved:
                    problem, event = None, "abandoned"
                else:
                    event = "recovered_after"
                if problem is not None:
                    self.undo(operation, problem)
                    return "undone"
            else:
                # Someone else wrote the file since; it is theirs now, only our leftovers go.
                event = "abandoned"
        self._clear(operation)
        self._end(operation, event)
        return event

    # One file

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
        answers = self.host.read([*reads, OFFERED] if self._calls is None else reads)
        if self._calls is None:
            self._calls = bool(answers[-1].objects)
        if operation.after is not None and file_bytes(answers[1]) != operation.after:
            self._discard(operation.temporary)
            self._end(operation, "abandoned")
            raise ApplyError(
                f"{operation.temporary}: read back other bytes than were written; the target is untouched", "read_back_differs", file=operation.path
            )
        if file_bytes(answers[0]) != operation.before:
            raise FileMoved(f"{operation.path} was changed by something else just now; it is untouched by this task", file=operation.path)

    def _replace_patiently(self, operation: Operation) -> None:
        """Replace, again after a while where another process has the file open and it is still as before."""
        for pause in PAUSES:
            try:
                self._replace(operation)
                return
            except CmdletError as exc:
                if not any(sign in exc.fqid for sign in IN_USE) or self._look(operation) != "before":
                    raise
                self.progress(f"{operation.path}: {exc.message}; trying again in {pause:g} seconds")
                time.sleep(pause)
        self._replace(operation)

    def _replace(self, operation: Operation) -> None:
        if operation.after is None:
            self._move(operation.path, operation.backup)
        elif operation.before is None:
            self._move(operation.temporary, operation.path)
        else:
            self._swap(operation.temporary, operation.path, operation.backup)

    def _swap(self, source: str, target: str, backup: str) -> None:
        """Put source in target's place, target's old bytes into backup; the target keeps its security descriptor."""
        if self._calls is None:
            (answer,) = self.host.read([OFFERED])
            self._calls = bool(answer.objects)
        if self._calls:
            try:
                replace = call("ForEach-Object", MemberName="Replace", ArgumentList=[target, backup])
                self.host.change((call("Get-Item", LiteralPath=source, Force=True), replace))
                return
            except CmdletError as exc:
                if CONSTRAINED not in exc.fqid and not exc.fqid.startswith(NOT_LISTED):
                    raise
                self._calls = False
        if ntpath.basename(target).lower() == APPLICATION_HOST:
            # Copying leaves a moment in which the file is half written, and all of IIS depends on this one.
            raise CmdletError(
                "this session cannot replace the file in one step, which is needed where all of IIS depends on it; "
                "use a session in FullLanguage mode that is not a JEA endpoint, or remove the rule in IIS Manager",
                target=target,
            )
        # Copying over an existing file keeps its descriptor too, with a short window of torn reads (CMDLETS.md 2.1). The copy
        # beside it holds the same secrets, so it is protected in the same way.
        self.host.change((call("Copy-Item", LiteralPath=target, Destination=backup),))
        self.host.change((call("Get-Acl", LiteralPath=target), call("Set-Acl", LiteralPath=backup)))
        self.host.change((call("Copy-Item", LiteralPath=source, Destination=target, Force=True),))
        self._discard(source)

    def _move(self, source: str, target: str) -> None:
        """Rename within a folder; where the session does not list that, copy and remove."""
        try:
            self.host.change((call("Rename-Item", LiteralPath=source, NewName=ntpath.basename(target)),))
        except CmdletError as exc:
            if not exc.fqid.startswith(NOT_LISTED):
                raise
            self.host.change((call("Copy-Item", LiteralPath=source, Destination=target),))
            self._remove(source)

    def _settle(self, operation: Operation, why: str) -> None:
        """After a replace of unknown outcome: return if the file is after, else bring it to before and raise."""
        state = self._look(operation)
        if state == "after":
            self._discard(operation.temporary)
            return
        if state in ("missing", "torn"):
            state = self._restored(operation)
        if state != "before":
            self._end(operation, "unsettled", error=why)
            raise ApplyError(
                f"{operation.path}: replacing it failed ({why}) and it now holds neither the bytes before nor after; "
                f"the bytes before are in the journal {self.journal.path}",
                "file_unsettled",
                file=operation.path,
                undone=False,
            )
        self._clear(operation)
        self._end(operation, "abandoned", error=why)
        raise ApplyError(f"{operation.path}: replacing it failed, the file is as before: {why}", "replace_failed", file=operation.path, undone=True)

    def _look(self, operation: Operation) -> str:
        """Tell whether the file is before, after, missing or torn with the backup left, or something else."""
        target, backup = (file_bytes(answer) for answer in self.host.read([content(operation.path), content(operation.backup)]))
        if target == operation.after:
            return "after"
        if target == operation.before:
            return "before"
        if backup is None or backup != operation.before:
            return "other"
        if target is None:
            return "missing"
        # Copying over it was cut short: what stands there is the beginning of what was being written.
        return "torn" if any(whole is not None and whole.startswith(target) for whole in (operation.after, operation.before)) else "other"

    def _restored(self, operation: Operation) -> str:
        """Bring the file back from its backup by the second means, where the first did not; return what it is then."""
        state = self._look(operation)
        try:
            if state == "missing":
                self._move(operation.backup, operation.path)
            elif state == "torn" or (state == "after" and operation.before is not None and operation.after is not None):
                self.host.change((call("Copy-Item", LiteralPath=operation.backup, Destination=operation.path, Force=True),))
            else:
                return state
        except CmdletError as exc:
            self.progress(f"{operation.path}: {exc.message}")
        return self._look(operation)

    def _verify(self, operation: Operation) -> None:
        """Read bytes and descriptor back and let IIS parse; on a refusal the bytes before come back at once."""
        self.progress(f"{operation.path}: asking IIS to parse {len(operation.checks)} sections")
        try:
            problem = self._problem(operation)
        except FileMoved:
            # Whoever wrote it now had our bytes before him: they are his, and they stay. The task reads and plans anew.
            self._clear(operation)
            self._end(operation, "abandoned")
            raise
        if problem is None:
            try:
                self._end(operation, "verified")
            except JournalError as exc:
                self.undo(operation, exc.message)
                raise JournalError(f"{exc.message}; {operation.path} is as before", exc.reason, file=operation.path, undone=True) from exc
            return
        self.undo(operation, problem)
        raise ApplyError(f"{operation.path}: {problem}; the bytes before are back", "check_failed", file=operation.path, undone=True)

    def _problem(self, operation: Operation) -> str | None:
        """Return what speaks against the file as it is now, None where nothing does. Raises FileMoved where it is not what was written."""
        reads: list[Statement] = [content(operation.path), security(operation.path), *(_parse(*check) for check in operation.checks)]
        answers = self.host.read(reads)
        if file_bytes(answers[0]) != operation.after:
            raise FileMoved(f"{operation.path} was changed by something else right after it was replaced; what stands there is kept", file=operation.path)
        if operation.before is not None and operation.after is not None and descriptor_of(answers[1]) != operation.sddl:
            return f"its security descriptor changed from {operation.sddl} to {descriptor_of(answers[1])}"
        for (section, pspath), answer in zip(operation.checks, answers[2:]):
            if answer.errors:
                return f"IIS refuses {section} at {pspath}: {' '.join(answer.errors[0].message.split())}"
        return None

    # Small steps

    def _clear(self, operation: Operation) -> None:
        """Remove what stands beside the file."""
        for leftover in (operation.temporary, operation.backup):
            self._discard(leftover)

    def _discard(self, path: str) -> None:
        (answer,) = self.host.read([(call("Test-Path", LiteralPath=path, PathType="Leaf"),)])
        if answer.errors:
            raise failed(answer)
        if answer.objects and plain(answer.objects[0]) is True:
            self._remove(path)

    def _remove(self, path: str) -> None:
        self.host.change((call("Remove-Item", LiteralPath=path, Force=True, Confirm=False),))

    def _note(self, operation: Operation, event: str, **fields: str) -> None:
        """Write down a step of the way back, which is taken also where the journal takes no more: its begin tells what it needs."""
        with contextlib.suppress(JournalError):
            self._end(operation, event, **fields)

    def _end(self, operation: Operation, event: str, **fields: str) -> None:
        self.journal.append(self.now(), event, operation=operation.operation_id, sha256_after=digest(operation.after), **fields)


def _parse(section: str, pspath: str) -> Statement:
    return (call("Get-WebConfiguration", Filter=section, PSPath=pspath),)
