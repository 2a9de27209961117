# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage apply: carry out the steps of a plan on a server, all of them or none, journal first.

What one step is for a file stands in ``_apply_files``, for a service or an application pool in ``_apply_states``.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Callable, Sequence

from ansible_collections.exchange.mitigation.plugins.module_utils._apply_files import FileMoved, Files, descriptor, descriptor_of
from ansible_collections.exchange.mitigation.plugins.module_utils._apply_states import States
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, ConnectionFailure, JournalError, MitigationError
from ansible_collections.exchange.mitigation.plugins.module_utils._journal import Journal, Operation, Transition
from ansible_collections.exchange.mitigation.plugins.module_utils._journal_records import Entry
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Session
from ansible_collections.exchange.mitigation.plugins.module_utils._plan import FileEdit, Step

__all__ = ["Applier", "Done", "FileMoved"]


@dataclasses.dataclass(frozen=True)
class Done:
    """What an interrupted operation came to: ``event`` is the journal's word for it."""

    entry: Entry
    event: str


class Applier:
    """Carries out the steps of one plan on one host."""

    def __init__(
        self,
        host: Session,
        journal: Journal,
        now: Callable[[], datetime.datetime],
        progress: Callable[[str], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.host = host
        self.journal = journal
        self.now = now
        self.files = Files(host, journal, now, progress)
        self.states = States(host, journal, now, progress, sleep)

    def apply(self, steps: Sequence[Step], verb: str, confirm: Callable[[], None] | None = None) -> list[Entry]:
        """Take all steps or none: when one fails, or ``confirm`` after the last one does, those before it are taken back in reverse.

        Raises FileMoved (nothing written to that file, the others taken back), ApplyError or what ``confirm`` raised, ConnectionFailure.
        """
        existing = [step.path for step in steps if isinstance(step, FileEdit) and step.before is not None]
        known = dict(zip(existing, map(descriptor_of, self.host.read([descriptor(path) for path in existing])))) if existing else {}
        made: list[Entry] = []
        try:
            for step in steps:
                if isinstance(step, FileEdit):
                    made.append(self.files.make(step, verb, known.get(step.path, "")))
                else:
                    made.append(self.states.make(step, verb))
            if confirm is not None:
                confirm()
        except ConnectionFailure:
            # Nothing can be taken back without a connection: the journal has it, the next run ends it.
            raise
        except MitigationError as exc:
            self._take_back(made, exc)
            raise
        for entry in made:
            if isinstance(entry, Operation):
                self.files.close(entry)
            else:
                self.states.close(entry)
        return made

    def recover(self, entries: Sequence[Entry]) -> list[Done]:
        """Bring interrupted operations to before or after, by what the server shows; newest first."""
        return [Done(entry, self._recover(entry)) for entry in reversed(entries)]

    def _recover(self, entry: Entry) -> str:
        return self.states.recover(entry) if isinstance(entry, Transition) else self.files.recover(entry)

    def _take_back(self, made: Sequence[Entry], why: MitigationError) -> None:
        """Undo in reverse, every one of them, also when one of them fails; then that failure is what the task reports."""
        failed: list[ApplyError] = []
        for entry in reversed(made):
            try:
                if isinstance(entry, Transition):
                    self.states.undo(entry, why.message)
                else:
                    self.files.undo(entry, why.message)
            except ApplyError as exc:
                failed.append(exc)
        if failed:
            raise ApplyError(" ".join(f"{exc.message.rstrip('.')}." for exc in failed), "undo_failed", **{**why.details, **failed[0].details}) from why
        if made and isinstance(why, (ApplyError, JournalError)):
            why.message += "; what had been changed is taken back"
            why.details.setdefault("undone", True)
