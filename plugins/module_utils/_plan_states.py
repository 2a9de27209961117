# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Support: what a plan does to services and application pools, there and back by the journal.

Pure. Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._mitigations._values import (
    POOL_DEFAULT,
    SERVICE_DEFAULT,
    Mitigation,
    PoolState,
    ServiceState,
)
from ansible_collections.exchange.mitigation.plugins.module_utils._plan_values import PoolChange, ServiceChange
from ansible_collections.exchange.mitigation.plugins.module_utils._verdict_states import POOL, SERVICE, Standing

Kept = Sequence[ServiceChange | PoolChange]


def standing_records(mitigation: Mitigation, kept: Kept, kind: str, name: str) -> list[ServiceChange | PoolChange]:
    """Return the journal's last changes of a service or pool that put a mitigation's action in force, the oldest first."""
    found: list[ServiceChange | PoolChange] = []
    for record in reversed(kept):
        if (isinstance(record, ServiceChange) == (kind == SERVICE)) and record.name.casefold() == name.casefold():
            if record.after != _wanted(mitigation, name, record.after):
                break
            found.insert(0, record)
    return found


def ours(mitigation: Mitigation, kept: Kept) -> tuple[str, ...]:
    """Return the services and pools of a mitigation that are as the journal says this collection made them."""
    names = [(SERVICE, name) for action in mitigation.services for name in action.names] + [(POOL, action.name) for action in mitigation.pools]
    return tuple(name for kind, name in names if standing_records(mitigation, kept, kind, name))


def _wanted(mitigation: Mitigation, name: str, state: ServiceState | PoolState) -> ServiceState | PoolState:
    if isinstance(state, ServiceState):
        return next((action.after(state) for action in mitigation.services if name.casefold() in (n.casefold() for n in action.names)), state)
    return next((action.after(state) for action in mitigation.pools if action.name.casefold() == name.casefold()), state)


def back(mitigation: Mitigation, standing: Standing, kept: Kept, foreign: bool) -> ServiceState | PoolState | None:
    """Return what a service or pool is set back to, None where it stays as it is.

    By the journal: each part that still is as this collection left it goes back to what it was before the first of our changes
    that stand. Without it, only with ``foreign``: as Exchange's setup leaves it.
    """
    now = standing.now
    if now is None:
        return None
    records = standing_records(mitigation, kept, standing.kind, standing.name)
    if records:
        target = taken_back(now, records[-1].after, records[0].before)
    elif foreign and kept_down(now):
        target = SERVICE_DEFAULT if isinstance(now, ServiceState) else POOL_DEFAULT
    else:
        return None
    return None if target == now else target


def taken_back(now: ServiceState | PoolState, made: ServiceState | PoolState, was: ServiceState | PoolState) -> ServiceState | PoolState:
    """Return a state in which each part that still is as it was ``made`` is as it ``was`` before."""
    parts: list[Any] = [old if present == left else present for present, left, old in zip(now, made, was, strict=True)]
    return ServiceState(*parts) if isinstance(now, ServiceState) else PoolState(*parts)


def kept_down(state: ServiceState | PoolState) -> bool:
    """Say whether somebody made sure that a service or pool does not start."""
    return state.start_mode == "Disabled" if isinstance(state, ServiceState) else not state.auto_start


class StateChanges:
    """The services and pools that a plan changes, in the order in which it came to them."""

    def __init__(self, changes: Mapping[tuple[str, str], ServiceChange | PoolChange] | None = None) -> None:
        self.changes = dict(changes or {})

    def copy(self) -> StateChanges:
        """Return one that can go on by itself."""
        return StateChanges(self.changes)

    def set(self, standing: Standing, after: ServiceState | PoolState, identifier: str) -> None:
        """Plan a service or pool to be in another state."""
        at = (standing.kind, standing.name.casefold())
        purposes = (*(self.changes[at].purposes if at in self.changes else ()), identifier)
        if isinstance(standing.now, ServiceState) and isinstance(after, ServiceState):
            self.changes[at] = ServiceChange(standing.name, standing.now, after, purposes)
        if isinstance(standing.now, PoolState) and isinstance(after, PoolState):
            self.changes[at] = PoolChange(standing.name, standing.now, after, purposes)

    @property
    def services(self) -> tuple[ServiceChange, ...]:
        """The services."""
        return tuple(change for change in self.changes.values() if isinstance(change, ServiceChange) and change.before != change.after)

    @property
    def pools(self) -> tuple[PoolChange, ...]:
        """The pools."""
        return tuple(change for change in self.changes.values() if isinstance(change, PoolChange) and change.before != change.after)
