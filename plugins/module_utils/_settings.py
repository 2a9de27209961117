# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing settings to Exchange: on the domain controller that they were read from, read back there, then waited for elsewhere.

Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils import _catalogue
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, ConnectionFailure
from ansible_collections.exchange.mitigation.plugins.module_utils._exchange import SettingsPlan, added_ids, wait_until
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Task, call

#: Seconds for the domain controller that took the change to show it.
READ_BACK = 10


def write(
    task: Task,
    key: str,
    current: Mapping[str, Any],
    plan: SettingsPlan,
    cmdlet: str,
    target: Mapping[str, Any],
    read: Callable[[str | None], dict[str, Any]],
) -> dict[str, Any]:
    """Send one cmdlet with all that differs and return the state that it left, under ``key``.

    ``target`` are the parameters that name the object, ``read`` reads it on a domain controller, or (None) where the endpoint likes.
    An answer that is lost is no reason to write again: the state tells whether the change was made.
    Raises ApplyError ``change_not_visible``, CmdletError, ConnectionFailure.
    """
    what, controller = str(current["name"]), current["domain_controller"]
    where = {"DomainController": controller} if controller else {}
    lost: ConnectionFailure | None = None
    try:
        task.exchange.change((call(cmdlet, **target, **plan.parameters, **where, Confirm=False),))
    except ConnectionFailure as exc:
        if not exc.details.get("change_sent"):
            raise
        lost = exc
        task.progress(f"the answer to {cmdlet} was lost; looking whether {what} has changed")
    after, done = wait_until(lambda: read(controller), plan.done, READ_BACK)
    if not done:
        if lost is not None:
            raise lost
        raise ApplyError(f"{cmdlet} reported no error, but {controller} still shows the old settings of {what}.", reason="change_not_visible", **{key: after})
    seconds = task.params["replication_timeout"]
    if seconds > 0 and not wait_until(lambda: read(None), plan.done, seconds)[1]:
        task.warn(
            f"{what} was changed on {controller}, but the endpoint still answers with the old settings after {seconds} seconds: "
            "Active Directory replicates later."
        )
    return {key: after}


def warn_of_unknown(task: Task, current: Mapping[str, Any], after: list[str]) -> None:
    """Warn of ids that are newly blocked and that neither the catalogue nor the server knows. They are written all the same."""
    shown = {str(item).lower() for item in current.get("mitigations_applied") or []}
    unknown = [
        item
        for item in added_ids(current.get("mitigations_blocked") or [], after)
        if item.lower() not in shown and not _catalogue.find(item) and not _catalogue.is_heartbeat(item) and not _catalogue.is_local(item)
    ]
    if unknown:
        task.warn(
            f"This version of the collection does not know {', '.join(unknown)}, and MitigationsApplied of {current['name']} does not show it. "
            "It is blocked as written: Emergency Mitigation compares ids as it publishes them."
        )
