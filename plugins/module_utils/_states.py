# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Support: how services and application pools are asked for their state, in one pipeline of reads.

Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import PSObject, plain
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import CmdletError
from ansible_collections.exchange.mitigation.plugins.module_utils._mitigations._values import Mitigation, PoolState, ServiceState
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Answer, Session, Statement, call
from ansible_collections.exchange.mitigation.plugins.module_utils._untrusted import word

APPHOST = "MACHINE/WEBROOT/APPHOST"


@dataclasses.dataclass(frozen=True)
class States:
    """What was read, by lower-case name; None where there is no such service or pool."""

    services: Mapping[str, ServiceState | None] = dataclasses.field(default_factory=dict)
    pools: Mapping[str, PoolState | None] = dataclasses.field(default_factory=dict)


def names_of(mitigations: Sequence[Mitigation]) -> tuple[list[str], list[str]]:
    """Return the services and the application pools that these mitigations change."""
    services = [name for mitigation in mitigations for action in mitigation.services for name in action.names]
    pools = [action.name for mitigation in mitigations for action in mitigation.pools]
    return list(dict.fromkeys(services)), list(dict.fromkeys(pools))


def read_states(host: Session, services: Sequence[str], pools: Sequence[str]) -> States:
    """Read them in one pipeline. Raises CmdletError where the server does not say, ConnectionFailure."""
    statements = state_statements(services, pools)
    return states_from(host.read(statements), services, pools) if statements else States()


def state_statements(services: Sequence[str], pools: Sequence[str]) -> list[Statement]:
    """Return the reads for these services and pools, for ``states_from``."""
    statements: list[Statement] = []
    if services:
        wanted = " OR ".join(f"Name='{name}'" for name in services)
        statements.append((call("Get-CimInstance", ClassName="Win32_Service", Filter=wanted, Property=["Name", "State", "StartMode"]),))
    for name in pools:
        pool = f"/system.applicationHost/applicationPools/add[@name='{name}']"
        statements.append((call("Get-WebConfiguration", Filter=pool, PSPath=APPHOST),))
        statements.append((call("Get-WebAppPoolState", Name=name),))
    return statements


def states_from(answers: Sequence[Answer], services: Sequence[str], pools: Sequence[str]) -> States:
    """Return the states from the answers to ``state_statements``. Raises CmdletError where the server does not say."""
    found: dict[str, ServiceState | None] = {name.lower(): None for name in services}
    if services:
        for item in _objects(answers[0]):
            found[(word(item.get("Name")) or "").lower()] = ServiceState((word(item.get("State")) or ""), (word(item.get("StartMode")) or ""))
    behind = answers[1 if services else 0 :]
    return States(found, {name.lower(): _pool(behind[2 * i], behind[2 * i + 1]) for i, name in enumerate(pools)})


def _pool(configured: Answer, state: Answer) -> PoolState | None:
    elements = _objects(configured)
    if not elements:
        return None
    auto_start = plain(elements[0].get("autoStart"))
    values = [word(item.get("Value")) or "" for item in _objects(state)]
    if not isinstance(auto_start, bool) or not values:
        raise CmdletError("The application pool's state or autoStart was expected, the server sent neither.", "Get-WebAppPoolState", reason="answer_malformed")
    return PoolState(values[0], auto_start)


def _objects(answer: Answer) -> list[PSObject]:
    if answer.errors:
        error = answer.errors[0]
        cmdlet = answer.statement[0].cmdlet
        raise CmdletError(f"{cmdlet}: {error.message}", cmdlet, error.fqid, error.category, error.exception, error.target)
    return [item for item in answer.objects if isinstance(item, PSObject)]
