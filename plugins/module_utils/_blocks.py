# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Blocking ids for EM and lifting our own blocks again: read, replace the whole list, read back, and keep it in the journal.

Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError
from ansible_collections.exchange.mitigation.plugins.module_utils._exchange import blocked_after, read_server, wait_until
from ansible_collections.exchange.mitigation.plugins.module_utils._journal import Journal
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Task, call

#: Seconds for the domain controller that took a block to show it.
READ_BACK = 10


def settle(task: Task, identity: str, unsure: Sequence[str], journal: Journal) -> None:
    """Find out whether blocks that an interrupted run was setting are there, and write that down."""
    present = {identifier.casefold() for identifier in read_server(task.exchange, identity)["mitigations_blocked"]}
    for event, ids in (
        ("blocked", [identifier for identifier in unsure if identifier.casefold() in present]),
        ("unblocked", [identifier for identifier in unsure if identifier.casefold() not in present]),
    ):
        if ids:
            journal.append(task.now(), event, ids=ids)


def block(task: Task, identity: str, ids: Sequence[str], journal: Journal) -> list[str]:
    """Block ids for EM before any file is touched (DESIGN.md 4) and return those that were not blocked already.

    Raises ApplyError where the block does not show, CmdletError, ConnectionFailure.
    """
    current = read_server(task.exchange, identity)
    wanted = blocked_after(current["mitigations_blocked"], {"add": list(ids)})
    missing = [identifier for identifier in wanted if identifier not in current["mitigations_blocked"]]
    if not missing:
        return []
    journal.append(task.now(), "blocking", ids=missing, before=current["mitigations_blocked"])
    task.progress(f"blocking {', '.join(missing)} for EM")
    if not _replaced(task, identity, wanted, current):
        raise ApplyError(f"{identity} does not show the block of {', '.join(missing)} that was just set; nothing was changed", "block_not_visible")
    journal.append(task.now(), "blocked", ids=missing)
    return missing


def lift(task: Task, identity: str, ids: Sequence[str], journal: Journal) -> list[str]:
    """Take ids out of the server's MitigationsBlocked and return those that were in it. Raises like ``block``."""
    current = read_server(task.exchange, identity)
    wanted = blocked_after(current["mitigations_blocked"], {"remove": list(ids)})
    lifted = [identifier for identifier in current["mitigations_blocked"] if identifier not in wanted]
    if lifted:
        task.progress(f"lifting the block of {', '.join(lifted)}")
        journal.append(task.now(), "unblocking", ids=lifted, before=current["mitigations_blocked"])
        if not _replaced(task, identity, wanted, current):
            raise ApplyError(f"{identity} still shows the block of {', '.join(lifted)} that was just lifted; run again", "block_not_lifted")
    journal.append(task.now(), "unblocked", ids=list(ids))
    return lifted


def _replaced(task: Task, identity: str, wanted: list[str], current: Mapping[str, Any]) -> bool:
    """Replace the whole list at the domain controller that was read, and tell whether it shows it."""
    controller = current["domain_controller"]
    where = {"DomainController": controller} if controller else {}
    task.exchange.change((call("Set-ExchangeServer", Identity=identity, MitigationsBlocked=wanted, **where, Confirm=False),))
    shown = {identifier.casefold() for identifier in wanted}
    return wait_until(
        lambda: read_server(task.exchange, identity, controller),
        lambda now: {identifier.casefold() for identifier in now["mitigations_blocked"]} == shown,
        READ_BACK,
    )[1]
