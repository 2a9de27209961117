# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rollout: which servers one after the other, and whether the next batch may begin. Pure: values and a clock in, values out.

Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils import _windows
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput
from ansible_collections.exchange.mitigation.plugins.module_utils._exchange import find_server

#: One server, two, a tenth of all, then a fifth at a time.
DEFAULT_SERIAL: tuple[int | str, ...] = (1, 2, "10%", "20%")


@dataclasses.dataclass(frozen=True)
class Server:
    """A server of the run: its name in the inventory, its DAG where it is in one, whether it goes first, why it may not be changed now."""

    host: str
    dag: str | None = None
    canary: bool = False
    closed: str = ""


def sizes_of(serial: Any, total: int) -> list[int]:
    """Return how many servers each batch may have at most, as Ansible reads ``serial``: numbers and percents of all, the last one again and again."""
    if serial is None or serial == "" or serial == []:
        serial = list(DEFAULT_SERIAL)
    if isinstance(serial, str):
        serial = [part for part in re.split(r"[\s,\[\]'\"]+", serial) if part]
    entries = list(serial) if isinstance(serial, (list, tuple)) else [serial]
    sizes = [_size(entry, total) for entry in entries]
    if not sizes:
        raise InvalidInput("exchange_mitigation_serial names no batch.", "invalid_serial")
    while sum(sizes) < total:
        sizes.append(sizes[-1])
    return sizes


def _size(entry: Any, total: int) -> int:
    match = re.fullmatch(r"(\d{1,6})(%?)", str(entry).strip())
    if not match or isinstance(entry, bool) or int(match[1]) == 0:
        raise InvalidInput(
            f"exchange_mitigation_serial takes numbers and percents above 0, such as [1, 5, \"20%\"], not {entry!r}.", "invalid_serial"
        )
    return max(1, total * min(int(match[1]), 100) // 100) if match[2] else int(match[1])


def batches(servers: Iterable[Server], serial: Any = None) -> list[list[Server]]:
    """Return batches: every server once, canaries first, none larger than ``serial`` allows, never two members of one DAG in one.

    Servers stay in their order as far as that goes; members of the DAG with most members left come first, so that few batches are needed.
    """
    given = list(servers)
    waiting = [server for server in given if server.canary] + [server for server in given if not server.canary]
    sizes = iter(sizes_of(serial, len(waiting)))
    size = 1
    found: list[list[Server]] = []
    while waiting:
        size = next(sizes, size)
        left = Counter(_key(server) for server in waiting if server.dag)
        # The first batch is whoever the user put first; from the second on, what is hard to place is placed early.
        ranked = waiting if not found else sorted(waiting, key=lambda server: (not server.canary, -left[_key(server)] if server.dag else -1))
        chosen: list[Server] = []
        for server in ranked:
            if len(chosen) < size and not (server.dag and _key(server) in map(_key, chosen)):
                chosen.append(server)
        chosen.sort(key=waiting.index)
        found.append(chosen)
        waiting = [server for server in waiting if server not in chosen]
    return found


def _key(server: Server) -> str:
    return (server.dag or "").casefold()


def servers_of(
    hosts: Sequence[str],
    organization: Mapping[str, Any],
    variables: Sequence[Mapping[str, Any]],
    now: datetime.datetime,
) -> list[Server]:
    """Return the servers of the run from what Exchange said and from the variables of each host, in the order of ``hosts``.

    Exchange's word on a DAG counts where there is one; else the variable ``exchange_mitigation_dag``.
    """
    found = []
    for host, own in zip(hosts, variables, strict=True):
        known = find_server(organization, host) or find_server(organization, str(own.get("ansible_host") or "-")) or {}
        dag = known.get("dag") or own.get("exchange_mitigation_dag") or None
        canary = own.get("exchange_mitigation_canary")
        first = host in canary if isinstance(canary, list) else canary is True or str(canary).lower() in ("true", "yes", host.lower())
        closed = _windows.closed(own.get("exchange_mitigation_maintenance_window"), now)
        found.append(Server(host, str(dag) if dag else None, first, closed))
    return found


def plan(servers: Sequence[Server], serial: Any = None, membership_known: bool = True, check: bool = False) -> dict[str, Any]:
    """Return what the playbook goes by: ``order``, ``sizes``, ``batches`` (lists of names), ``left_out`` (host: why) and ``says`` (sentences).

    Check mode changes nothing, so there a closed window leaves nobody out.
    """
    left_out = {} if check else {server.host: server.closed for server in servers if server.closed}
    made = batches([server for server in servers if server.host not in left_out], serial)
    names = [[server.host for server in batch] for batch in made]
    says = [f"Batch {number} of {len(made)}: {', '.join(_named(server) for server in batch)}" for number, batch in enumerate(made, 1)]
    if check:
        says += [f"{server.host}: {server.closed}; a real run would leave it alone now." for server in servers if server.closed]
    says += [f"{host}: left alone, {why}." for host, why in left_out.items()]
    if not membership_known and len(servers) > 1 and not any(server.dag for server in servers):
        says.append("It is not known which servers are members of one DAG; set exchange_mitigation_dag for those that are.")
    if servers and not made:
        says.append("Nothing is done: " + "; ".join(dict.fromkeys(left_out.values())) + ".")
    order = [host for batch in names for host in batch]
    return {"order": order, "sizes": [len(batch) for batch in names], "batches": names, "left_out": left_out, "says": says}


def _named(server: Server) -> str:
    return f"{server.host} ({server.dag})" if server.dag else server.host


@dataclasses.dataclass(frozen=True)
class Limits:
    """What stops a rollout: unhealthy servers (percent of all, 0: the first), refusals, a number of batches, a missing approval."""

    max_fail_percentage: float = 0
    halt_on_refused: bool = False
    stop_after: int = 0
    approval: str = ""
    approved: bool = False


def gate(
    made: Mapping[str, Any],
    states: Mapping[str, Mapping[str, Any]],
    host: str,
    closed: Mapping[str, str],
    limits: Limits,
    check: bool = False,
) -> dict[str, Any]:
    """Return whether the batch that ``host`` is in may begin: ``go``, ``ask`` (somebody has to say yes), ``says`` (why not), ``closed`` (host: why).

    ``states`` is what each server came to so far; a server of an earlier batch without a state dropped out of the run and counts as unhealthy.
    """
    all_batches = [list(batch) for batch in made.get("batches", [])]
    number = next((index for index, batch in enumerate(all_batches) if host in batch), 0)
    if check:
        return {"go": True, "ask": False, "says": "", "closed": {}, "batch": number + 1}
    before = [name for batch in all_batches[:number] for name in batch]
    rest = [name for batch in all_batches[number:] for name in batch]
    bad = [name for name in before if unhealthy(states.get(name) or {}, limits.halt_on_refused)]
    says, ask = "", False
    if bad and len(bad) * 100 > limits.max_fail_percentage * max(1, len(made.get("order", []))):
        says = f"Halted before batch {number + 1} of {len(all_batches)}: {', '.join(_why(name, states.get(name) or {}) for name in bad)}."
    elif limits.stop_after and number >= limits.stop_after:
        says = f"Stopped after batch {number} of {len(all_batches)}, as exchange_mitigation_stop_after asks."
    elif number == 1 and limits.approval == "variable" and not limits.approved:
        says = "Stopped after the first batch: approval is needed. Look at it, then run again with exchange_mitigation_approved=true."
    elif number == 1 and limits.approval == "pause" and not limits.approved:
        ask = True
    if says:
        says += f" Not touched: {', '.join(rest)}."
    return {"go": not says, "ask": ask, "says": says, "closed": {name: why for name, why in closed.items() if why}, "batch": number + 1}


def unhealthy(state: Mapping[str, Any], refused_too: bool = False) -> bool:
    """Tell whether what a server came to stops the rollout. A refusal changed nothing on it, so it stops nobody unless asked to."""
    return state.get("state") not in ("done", "left_out") and (refused_too or state.get("state") != "refused")


def _why(name: str, state: Mapping[str, Any]) -> str:
    if not state:
        return f"{name} dropped out of the run"
    return f"{name} {state.get('state')} ({state.get('reason') or 'no reason given'})"


def limits_of(options: Mapping[str, Any]) -> Limits:
    """Return the limits from the playbook's variables; raises InvalidInput for an approval that there is not."""
    approval = str(options.get("approval") or "").strip().lower()
    if approval not in ("", "none", "pause", "variable"):
        raise InvalidInput(f"exchange_mitigation_approval is none, pause or variable, not {approval!r}.", "invalid_approval")
    try:
        percentage, stop_after = float(options.get("max_fail_percentage") or 0), int(options.get("stop_after") or 0)
    except (TypeError, ValueError) as exc:
        raise InvalidInput("exchange_mitigation_max_fail_percentage and exchange_mitigation_stop_after are numbers.", "invalid_number") from exc
    return Limits(percentage, _true(options.get("halt_on_refused")), stop_after, "" if approval == "none" else approval, _true(options.get("approved")))


def _true(value: Any) -> bool:
    return value is True or str(value).strip().lower() in ("true", "yes", "1", "on")
