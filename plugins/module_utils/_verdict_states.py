# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Support: what is the case with the services and application pools of a mitigation.

``applied`` is all of it: stopped, and kept from starting (Disabled; autoStart false). Anything less is ``absent`` with the reason:
a stopped service that starts with the next boot protects nobody, and applying overwrites nothing that somebody made. What the
server does not have at all cannot run: ``applied`` with the reason. What was not read is ``unknown``.
Pure. Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import TypeVar

from ansible_collections.exchange.mitigation.plugins.module_utils._mitigations._values import Mitigation, PoolState, ServiceState

State = TypeVar("State", ServiceState, PoolState)

SERVICE = "service"
POOL = "pool"


@dataclasses.dataclass(frozen=True)
class Standing:
    """What was found of one service or pool: as it is ``now`` (None where it does not exist or was not read) and as it is ``wanted``.

    ``ours`` says that the journal has this collection's change of it.
    """

    kind: str
    name: str
    state: str
    now: ServiceState | PoolState | None
    wanted: ServiceState | PoolState | None
    reason: str | None
    ours: bool

    def evidence(self) -> dict[str, object]:
        """Return what was seen, in the shape in which rules are shown."""
        seen = "not read" if self.state == "unknown" else "not there" if self.now is None else shown(self.now)
        return {"file": None, "line": None, "rule": f"{title(self.kind)} {self.name}: {seen}", "location": None}


def title(kind: str) -> str:
    """Return ``service`` or ``application pool``."""
    return "service" if kind == SERVICE else "application pool"


def shown(state: ServiceState | PoolState) -> str:
    """Return a state in words: ``Running, Auto``; ``Started, autoStart true``."""
    if isinstance(state, ServiceState):
        return f"{state.state}, {state.start_mode}"
    return f"{state.state}, autoStart {str(state.auto_start).lower()}"


def standings(
    mitigation: Mitigation,
    services: Mapping[str, ServiceState | None] | None,
    pools: Mapping[str, PoolState | None] | None,
    ours: Collection[str] = (),
) -> tuple[Standing, ...]:
    """Look at every service and pool that a mitigation is about, in its order."""
    mine = {name.casefold() for name in ours}
    found = []
    for action in mitigation.services:
        for name in action.names:
            read, service = _look(services, name)
            found.append(_standing(SERVICE, name, read, service, None if service is None else action.after(service), name.casefold() in mine))
    for pool_action in mitigation.pools:
        read, pool = _look(pools, pool_action.name)
        wanted = None if pool is None else pool_action.after(pool)
        found.append(_standing(POOL, pool_action.name, read, pool, wanted, pool_action.name.casefold() in mine))
    return tuple(found)


def _standing(
    kind: str, name: str, read: bool, now: ServiceState | PoolState | None, wanted: ServiceState | PoolState | None, ours: bool
) -> Standing:
    if not read:
        return Standing(kind, name, "unknown", None, None, f"the {title(kind)} {name} was not read, so its state is unknown", ours)
    if now is None or wanted is None:
        return Standing(kind, name, "applied", None, None, f"this server has no {title(kind)} {name}", ours)
    if now == wanted:
        return Standing(kind, name, "applied", now, wanted, None, ours)
    return Standing(kind, name, "absent", now, wanted, f"the {title(kind)} {name} is {shown(now)}; wanted is {shown(wanted)}", ours)


def _look(states: Mapping[str, State | None] | None, name: str) -> tuple[bool, State | None]:
    """Return whether a name was read, and its state."""
    folded = {known.casefold(): state for known, state in (states or {}).items()}
    return name.casefold() in folded, folded.get(name.casefold())
