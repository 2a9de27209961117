# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage apply: services and application pools, from one state to another, verified by reading back.

The start mode goes first, so that a server that restarts in between comes up as it is meant to be; then the stop, which
does not wait by itself, since Stop-Service waits for ever (CMDLETS.md 4); then it is looked at, for a bounded time.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import contextlib
import datetime
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, CmdletError, ConnectionFailure, JournalError, MitigationError
from ansible_collections.exchange.mitigation.plugins.module_utils._journal import Journal
from ansible_collections.exchange.mitigation.plugins.module_utils._journal_records import POOL, SERVICE, Transition
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Session, Statement, call
from ansible_collections.exchange.mitigation.plugins.module_utils._plan import PoolChange, ServiceChange
from ansible_collections.exchange.mitigation.plugins.module_utils._states import APPHOST, read_states

#: Seconds for a service or pool to reach its state, to begin to move at all, and between two looks.
PATIENCE = 60.0
GRACE = 3.0
PAUSE = 1.0

#: Win32_Service's words for a start mode, in those of Set-Service.
STARTUP_TYPES = {"Auto": "Automatic", "Manual": "Manual", "Disabled": "Disabled"}
RUNNING = ("Running", "Started")
#: How the names of states between two others end: Stop Pending, Starting.
MOVING = ("Pending", "Starting", "Stopping", "Unknown")


class States:
    """Brings services and application pools of one host from before to after, and back."""

    def __init__(
        self,
        host: Session,
        journal: Journal,
        now: Callable[[], datetime.datetime],
        progress: Callable[[str], None],
        sleep: Callable[[float], None],
    ) -> None:
        self.host = host
        self.journal = journal
        self.now = now
        self.progress = progress
        self.sleep = sleep

    def make(self, change: ServiceChange | PoolChange, verb: str) -> Transition:
        """Carry one change out and verify it. Raises ApplyError, with the state from before restored, or ConnectionFailure."""
        entry = Transition(
            run_id=self.journal.run_id,
            operation_id=secrets.token_hex(4),
            kind=SERVICE if isinstance(change, ServiceChange) else POOL,
            name=change.name,
            before=(change.before[0], change.before[1]),
            after=(change.after[0], change.after[1]),
            mitigations=tuple(change.purposes),
            verb=verb,
            event="begin",
            time=self.now().isoformat(),
        )
        self.journal.begin(self.now(), entry)
        seen = self._look(entry)
        if seen != entry.before:
            self._end(entry, "abandoned")
            raise ApplyError(
                f"{entry.target} is {_shown(seen)}, no longer {_shown(entry.before)}: something else changed it just now; it is untouched by this task. "
                "Run again",
                "state_changed",
            )
        self._end(entry, "changing")
        try:
            self._bring(entry, entry.after)
        except ConnectionFailure:
            # The answer is lost, not necessarily the effect: look, never send it again (DESIGN.md 5).
            self.progress(f"{entry.target}: the answer was lost, looking at it")
            if self._settled(entry, entry.after) != entry.after:
                self.undo(entry, "the connection broke")
                raise ApplyError(f"{entry.target}: changing it failed, it is as before: the connection broke", "change_failed", undone=True) from None
        except CmdletError as exc:
            self.undo(entry, exc.message)
            raise ApplyError(f"{entry.target}: changing it failed, it is as before: {exc.message}", "change_failed", undone=True) from exc
        except ApplyError as exc:
            self.undo(entry, exc.message)
            raise ApplyError(f"{exc.message}; it is as before", exc.reason, undone=True) from exc
        try:
            self._end(entry, "verified")
        except JournalError as exc:
            self.undo(entry, exc.message)
            raise JournalError(f"{exc.message}; {entry.target} is as before", exc.reason, undone=True) from exc
        return entry

    def close(self, entry: Transition) -> None:
        """Say that it stands."""
        self._end(entry, "closed")

    def undo(self, entry: Transition, why: str) -> None:
        """Take a change back. Raises ApplyError where the state from before cannot be reached, ConnectionFailure."""
        self.progress(f"{entry.target}: going back to {_shown(entry.before)}")
        self._note(entry, "undoing", error=why)
        try:
            self._bring(entry, entry.before)
        except ConnectionFailure:
            raise
        except MitigationError as exc:
            self._note(entry, "unsettled", error=exc.message)
            raise ApplyError(
                f"{entry.target}: {why}; going back to {_shown(entry.before)} failed too ({exc.message}). The next run tries again", "undo_failed", undone=False
            ) from exc
        self._note(entry, "undone")

    def recover(self, entry: Transition) -> str:
        """Bring an interrupted change to an end and return the journal's word for it: after only where it is there already."""
        seen = self._settled(entry, entry.after)
        if entry.event == "verified" and seen != entry.before:
            self._end(entry, "closed")
            return "closed"
        self.progress(f"{entry.target}: an interrupted run left it {_shown(seen)}")
        if seen == entry.after and entry.event not in ("undoing", "unsettled"):
            event = "recovered_after"
        elif seen == entry.before:
            event = "recovered_before"
        elif seen is not None and all(part in (one, two) for part, one, two in zip(seen, entry.before, entry.after)):
            self._bring(entry, entry.before)
            event = "recovered_before"
        else:
            # Neither of ours: someone else changed it since, and it is theirs now.
            event = "abandoned"
        self._end(entry, event)
        return event

    # Small steps

    def _bring(self, entry: Transition, wanted: tuple[str, Any]) -> None:
        """Bring it to a state from whatever it is in. Raises ApplyError where it does not get there, CmdletError, ConnectionFailure."""
        seen = self._look(entry)
        if seen is None:
            raise ApplyError(f"{entry.target} is not there any more", "state_unreachable")
        if seen[1] != wanted[1]:
            self.progress(f"{entry.target}: {_mode(entry, wanted)}")
            self.host.change(_set_mode(entry, wanted[1]))
        if wanted[0] in RUNNING and seen[0].endswith(MOVING):
            # One that is still stopping cannot be started.
            seen = self._settled(entry, wanted) or seen
        if seen[0] != wanted[0]:
            self.progress(f"{entry.target}: {'starting' if wanted[0] in RUNNING else 'stopping'}")
            self.host.change(_set_state(entry, wanted[0] in RUNNING))
        last = self._settled(entry, wanted, GRACE)
        if last != wanted:
            raise ApplyError(f"{entry.target} is {_shown(last)} after {PATIENCE:.0f} seconds, not {_shown(wanted)}", "state_not_reached")

    def _settled(self, entry: Transition, wanted: tuple[str, Any], grace: float = 0.0) -> tuple[str, Any] | None:
        """Look until it is as wanted or in no transition any more, for a bounded time; return the last look."""
        waited = 0.0
        while True:
            seen = self._look(entry)
            moving = seen is not None and seen[0].endswith(MOVING)
            if seen == wanted or waited >= (PATIENCE if moving else grace):
                return seen
            self.sleep(PAUSE)
            waited += PAUSE

    def _look(self, entry: Transition) -> tuple[str, Any] | None:
        services, pools = ([entry.name], []) if entry.kind == SERVICE else ([], [entry.name])
        found = read_states(self.host, services, pools)
        seen = found.services.get(entry.name.lower()) if entry.kind == SERVICE else found.pools.get(entry.name.lower())
        return None if seen is None else (seen[0], seen[1])

    def _note(self, entry: Transition, event: str, **fields: str) -> None:
        """Write down a step of the way back, which is taken also where the journal takes no more: its begin tells what it needs."""
        with contextlib.suppress(JournalError):
            self._end(entry, event, **fields)

    def _end(self, entry: Transition, event: str, **fields: str) -> None:
        self.journal.append(self.now(), event, operation=entry.operation_id, **fields)


def _set_mode(entry: Transition, mode: Any) -> Statement:
    if entry.kind == SERVICE:
        return (call("Set-Service", Name=entry.name, StartupType=STARTUP_TYPES[mode]),)
    pool = f"/system.applicationHost/applicationPools/add[@name='{entry.name}']"
    return (call("Set-WebConfigurationProperty", PSPath=APPHOST, Filter=pool, Name="autoStart", Value=mode),)


def _set_state(entry: Transition, run: bool) -> Statement:
    if entry.kind == SERVICE:
        return (call("Start-Service", Name=[entry.name]),) if run else (call("Stop-Service", Name=[entry.name], NoWait=True),)
    return (call("Start-WebAppPool" if run else "Stop-WebAppPool", Name=entry.name),)


def _mode(entry: Transition, wanted: Sequence[Any]) -> str:
    return f"start mode {wanted[1]}" if entry.kind == SERVICE else f"autoStart {str(wanted[1]).lower()}"


def _shown(state: Sequence[Any] | None) -> str:
    if state is None:
        return "not there"
    return f"{state[0]} ({state[1] if isinstance(state[1], str) else 'autoStart ' + str(state[1]).lower()})"
