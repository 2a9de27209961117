# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module mitigation returns, read off the plan: the same in check mode and after a real run.

Pure. Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils import _catalogue
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import MitigationError, Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._facts import Survey
from ansible_collections.exchange.mitigation.plugins.module_utils._journal import Journal, Operation, Transition
from ansible_collections.exchange.mitigation.plugins.module_utils._journal_records import POOL, Entry
from ansible_collections.exchange.mitigation.plugins.module_utils._mitigations._values import Mitigation
from ansible_collections.exchange.mitigation.plugins.module_utils._plan import FileEdit, Plan, PoolChange, Refusal, Step
from ansible_collections.exchange.mitigation.plugins.module_utils._verdict import Verdict, unsupported, verdict


def verdicts_after(
    ids: Sequence[str], found: Survey, made: Plan | None = None, ours: Sequence[str] = (), local: Sequence[Mitigation] = ()
) -> list[Verdict]:
    """Return the verdicts on these ids as they are once the plan is carried out; without one, as they are now.

    ``local`` are the mitigations that a local document defines.
    """
    configuration = found.snapshot.configuration
    blocked = found.blocked
    services, pools = dict(found.states.services), dict(found.states.pools)
    changed: list[str] = []
    if made is not None:
        for edit in made.edits:
            if configuration is not None:
                configuration = configuration.with_file(edit.path, edit.after)
        services |= {change.name.lower(): change.after for change in made.services}
        pools |= {change.name.lower(): change.after for change in made.pools}
        changed = [service.name for service in made.services] + [pool.name for pool in made.pools]
        if blocked is not None:
            lifted = {identifier.casefold() for identifier in made.unblock_ids}
            blocked = [identifier for identifier in [*blocked, *made.block_ids] if identifier.casefold() not in lifted]
    results = []
    for identifier in ids:
        mitigation = _catalogue.find(identifier, local)
        if mitigation is None:
            results.append(unsupported(identifier, blocked))
            continue
        results.append(
            verdict(
                mitigation,
                configuration,
                found.build,
                blocked,
                (identifier,),
                found.snapshot.problem,
                found.site,
                services=services,
                pools=pools,
                ours=[*ours, *changed],
            )
        )
    return results


def result_of(made: Plan, found: Survey, journal: Journal, ours: Sequence[str], local: Sequence[Mitigation] = ()) -> dict[str, Any]:
    """Return the module's result."""
    actions = {outcome.id: outcome for outcome in made.outcomes}
    mitigations = []
    for one in verdicts_after([entry.id for entry in made.verdicts], found, made, ours, local):
        outcome = actions.get(one.id)
        mitigations.append(dict(one.as_dict(), action=outcome.action if outcome else "none", explanation=outcome.message if outcome else None))
    return {
        "mitigations": mitigations,
        "steps": [step_of(step) for step in made.steps],
        "effects": list(made.effects),
        "side_effects": list(made.side_effects),
        "blocked_ids": list(made.block_ids),
        "unblocked_ids": list(made.unblock_ids),
        "ignored": [outcome.id for outcome in made.outcomes if outcome.reason == "nothing_to_do"],
        "run_id": journal.run_id if made.changed else None,
        "journal": journal.path if made.changed else None,
        "health": None,
        "recovered": [],
    }


def step_of(step: Step) -> dict[str, Any]:
    """Return one step: a file, a service or an application pool."""
    if isinstance(step, FileEdit):
        action = "create" if step.before is None else "delete" if step.after is None else "replace"
        checks = [{"filter": check.filter, "path": check.pspath} for check in step.checks]
        return {"file": step.path, "action": action, "mitigations": list(step.purposes), "checks": checks}
    kind = "pool" if isinstance(step, PoolChange) else "service"
    action = "stop" if step.after[0] == "Stopped" else "start"
    return {kind: step.name, "action": action, "mitigations": list(step.purposes), "before": step.before._asdict(), "after": step.after._asdict()}


def backed_up(entry: Entry) -> dict[str, Any]:
    """Return what the journal keeps of one change: the hashes of a file, the state of a service or pool."""
    if isinstance(entry, Operation):
        return {"file": entry.path, "before_sha256": entry.before_sha256, "after_sha256": entry.after_sha256}
    return {entry.kind: entry.name, "before": _state(entry, entry.before), "after": _state(entry, entry.after)}


def _state(entry: Transition, pair: tuple[str, Any]) -> dict[str, Any]:
    return {"state": pair[0], "auto_start" if entry.kind == POOL else "start_mode": pair[1]}


def recovered(entry: Entry, event: str) -> dict[str, Any]:
    """Return what an interrupted operation was brought to."""
    what = {"file": entry.path} if isinstance(entry, Operation) else {entry.kind: entry.name}
    return {**what, "run_id": entry.run_id, "outcome": event}


def diff_of(made: Plan, found: Survey) -> list[dict[str, str]]:
    """Return the plan's diff, after what it changes in MitigationsBlocked."""
    if not made.block_ids and not made.unblock_ids:
        return list(made.diff)
    header = f"{found.snapshot.name}: MitigationsBlocked"
    before = list(found.blocked or ())
    lifted = {identifier.casefold() for identifier in made.unblock_ids}
    after = [identifier for identifier in [*before, *made.block_ids] if identifier.casefold() not in lifted]
    lines = ["".join(f"{identifier}\n" for identifier in ids) for ids in (before, after)]
    return [{"before_header": header, "after_header": header, "before": lines[0], "after": lines[1]}, *made.diff]


def refusal_of(refusals: Sequence[Refusal], result: dict[str, Any]) -> Refused:
    """All refusals in one exception, so that a server's owner mends everything at once; the code is the first one's."""
    first = refusals[0]
    message = " ".join(f"{refusal.message.rstrip('.')}." for refusal in refusals)
    details = {**first.details, "mitigations": result["mitigations"], "refusals": [{"id": r.id, "reason": r.reason, "msg": r.message} for r in refusals]}
    return Refused(message, first.reason, **details)


def failure_of(failures: Sequence[Refusal]) -> MitigationError | None:
    """Return what is raised after everything else is done, if anything."""
    if not failures:
        return None
    details = {**failures[0].details, "refusals": [{"id": failure.id, "reason": failure.reason, "msg": failure.message} for failure in failures]}
    return Refused(" ".join(f"{failure.message.rstrip('.')}." for failure in failures), failures[0].reason, **details)
