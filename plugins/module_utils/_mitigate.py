# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module mitigation does, in order: recover, observe, plan; then block, apply, verify and probe, and last lift blocks.

Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils import _blocks, _catalogue, _health
from ansible_collections.exchange.mitigation.plugins.module_utils._apply import Applier, FileMoved
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import (
    ApplyError,
    ConfigurationError,
    ConnectionFailure,
    InvalidInput,
    MitigationError,
)
from ansible_collections.exchange.mitigation.plugins.module_utils._facts import Survey, survey
from ansible_collections.exchange.mitigation.plugins.module_utils._feed_handle import load_feed
from ansible_collections.exchange.mitigation.plugins.module_utils._journal import History, Journal, Transition, checked_run_id, new_run_id
from ansible_collections.exchange.mitigation.plugins.module_utils._journal_records import SERVICE, Entry
from ansible_collections.exchange.mitigation.plugins.module_utils._local import LocalDocument
from ansible_collections.exchange.mitigation.plugins.module_utils._mitigate_result import (
    backed_up,
    diff_of,
    failure_of,
    recovered,
    refusal_of,
    result_of,
    verdicts_after,
)
from ansible_collections.exchange.mitigation.plugins.module_utils._mitigations._values import Mitigation, PoolState, ServiceState
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Decision, Task
from ansible_collections.exchange.mitigation.plugins.module_utils._plan import (
    EmFacts,
    Outcome,
    Plan,
    PoolChange,
    Refusal,
    Request,
    ServerFacts,
    ServiceChange,
    plan,
    rollback,
)

#: What ``undo_run_id`` calls the last run of the journal that applied something on the host.
LAST = "last"


@dataclasses.dataclass(frozen=True)
class Wish:
    """A task's request, with the part of it that does not depend on the server."""

    request: Request
    undo_run_id: str | None
    health: _health.Wish | None


def decide(task: Task) -> Decision:
    """Observe and plan. Raises Refused, InvalidInput, CmdletError, ConnectionFailure; the effect does the rest."""
    params = task.params
    directory = params["journal_dir"] or default_journal_dir(os.environ)
    run_id = checked_run_id(params["run_id"]) if params["run_id"] else new_run_id(task.now())
    journal = Journal(directory, task.inventory_hostname, run_id)
    history = History(directory, task.inventory_hostname)
    wish = _wish(params)
    left_open = history.open_operations()
    if left_open:
        task.warn(f"an interrupted run left {len(left_open)} changes of this server unsettled; they are brought to before or after first")
    found = _survey(task, wish, history)
    journal.server = found.snapshot.name
    history.written_on(found.snapshot.name)
    made = _plan(wish, found, history, task)
    result = result_of(made, found, journal, _ours(history), wish.request.local)
    if made.refusals and not left_open:
        raise refusal_of(made.refusals, result)
    for warning in made.warnings:
        task.warn(warning)

    def effect() -> dict[str, Any]:
        with journal.locked():
            return _carry_out(task, wish, made, found, journal, left_open)

    return Decision(
        result=result,
        changed=made.changed or bool(left_open),
        diff=diff_of(made, found),
        effect=effect if made.changed or left_open else None,
        failure=failure_of(made.failures),
    )


def default_journal_dir(environment: Mapping[str, str]) -> str:
    """Return where the journal is kept unless told otherwise, below XDG_STATE_HOME."""
    base = environment.get("XDG_STATE_HOME") or os.path.join(environment.get("HOME") or os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, "exchange.mitigation", "journal")


def _wish(params: Mapping[str, Any]) -> Wish:
    ids = tuple(str(entry).strip() for entry in params["mitigations"] or ())
    state, undo = params["state"], params["undo_run_id"]
    if undo and state != "absent":
        raise InvalidInput("undo_run_id goes with state: absent", "invalid_combination")
    if undo and ids:
        raise InvalidInput("undo_run_id says what to undo; leave mitigations out", "invalid_combination")
    if not undo and not ids and state == "absent":
        raise InvalidInput("state: absent needs mitigations or undo_run_id", "mitigations_required")
    if params["unblock"] and state != "retired":
        raise InvalidInput("unblock goes with state: retired; elsewhere a block would be lifted that keeps EM away", "invalid_combination")
    if params["relocate"] and state != "applied":
        raise InvalidInput("relocate goes with state: applied", "invalid_combination")
    feed: tuple[str, ...] | None = None
    do_nothing: frozenset[str] = frozenset()
    definitions: tuple[Mitigation, ...] = ()
    if params["feed"]:
        document = load_feed(params["feed"])
        feed = document.ids
        if isinstance(document, LocalDocument):
            definitions = document.definitions
        else:
            do_nothing = frozenset(config.id for config in document.configs if config.does_nothing)
    request = Request(
        mitigations=ids or ("all",),
        state=state,
        feed=feed,
        do_nothing=do_nothing,
        honour_blocked=params["honour_blocked"],
        when_em_active=params["when_em_active"],
        on_unsupported=params["on_unsupported"],
        on_conflict=params["on_conflict"],
        include_foreign=params["include_foreign"],
        site=params["site"],
        relocate=params["relocate"],
        unblock=params["unblock"],
        local=definitions,
    )
    return Wish(request, checked_run_id(undo) if undo else None, _health.wish_of(params["health"]))


# --- observing and planning --------------------------------------------------------------------------------------------------


def _survey(task: Task, wish: Wish, history: History) -> Survey:
    """Read the server, with the services and pools that the request or the journal is about."""
    ids = [*wish.request.mitigations, *((wish.request.feed or ()) if "all" in wish.request.mitigations else ())]
    found = (_catalogue.find(identifier, wish.request.local) for identifier in ids)
    wanted = [mitigation for mitigation in found if mitigation is not None]
    kept = history.states_in_force(_undone_run(wish, history), "apply") if wish.undo_run_id else []
    services = [entry.name for entry in kept if entry.kind == SERVICE]
    files = [entry.path for entry in history.in_force(_undone_run(wish, history), "apply")] if wish.undo_run_id else []
    return survey(task, wanted, services, [entry.name for entry in kept if entry.kind != SERVICE], files)


def _undone_run(wish: Wish, history: History) -> str | None:
    return history.last_run() if wish.undo_run_id == LAST else wish.undo_run_id


def _plan(wish: Wish, found: Survey, history: History, task: Task) -> Plan:
    snapshot, entry, build = found.snapshot, found.entry, found.build
    em = None
    if entry is not None:
        em = EmFacts(
            organization_enabled=found.organization.get("mitigations_enabled"),
            server_enabled=entry.get("mitigations_enabled"),
            service_running=snapshot.service is not None and snapshot.service.state == "Running",
            applied=tuple(entry.get("mitigations_applied") or ()),
        )
    facts = ServerFacts(
        build=build,
        blocked=None if found.blocked is None else tuple(found.blocked),
        em=em,
        rewrite_dll=snapshot.url_rewrite.dll is not None,
        services=found.states.services,
        pools=found.states.pools,
    )
    if wish.undo_run_id is not None:
        return _undo(wish, found, facts, history, task)
    request = dataclasses.replace(wish.request, blocked_by_us=history.blocked_ids)
    kept = [_change(one) for one in history.states_in_force()]
    return plan(request, snapshot.configuration, facts, history.in_force(), snapshot.problem, kept=kept)


def _undo(wish: Wish, found: Survey, facts: ServerFacts, history: History, task: Task) -> Plan:
    """Plan the way back from one run of the journal."""
    snapshot = found.snapshot
    if snapshot.configuration is None:
        problem = snapshot.problem or ConfigurationError(f"{snapshot.application_host.path} does not exist", "configuration_not_read", file=None, line=None)
        return Plan(refusals=(Refusal(None, problem.reason, problem.message),))
    run_id = _undone_run(wish, history)
    operations = history.in_force(run_id, verb="apply") if run_id else []
    states = history.states_in_force(run_id, verb="apply") if run_id else []
    if not operations and not states:
        what = "any run" if run_id is None else run_id
        task.warn(f"the journal {history.directory} knows nothing that {what} applied on {history.host}; name mitigations to undo without it")
        return Plan()
    made_for = [entry.mitigations for entry in operations] + [entry.mitigations for entry in states]
    made = rollback(snapshot.configuration, facts, operations, found.site, kept=[_change(one) for one in states], local=wish.request.local)
    ids = list(dict.fromkeys(identifier for mitigations in made_for for identifier in mitigations))
    action, reason = ("remove", "undo") if made.steps else ("none", "absent")
    outcomes = tuple(Outcome(identifier, action, reason, f"{identifier}: as before the run {run_id}") for identifier in ids)
    return dataclasses.replace(made, outcomes=outcomes, verdicts=tuple(verdicts_after(ids, found, ours=_ours(history), local=wish.request.local)))


def _change(entry: Transition) -> ServiceChange | PoolChange:
    if entry.kind == SERVICE:
        return ServiceChange(entry.name, ServiceState(*entry.before), ServiceState(*entry.after), entry.mitigations)
    return PoolChange(entry.name, PoolState(*entry.before), PoolState(*entry.after), entry.mitigations)


def _ours(history: History) -> list[str]:
    """Services and pools that this collection changed last by applying something."""
    last = {entry.target.lower(): entry for entry in history.states_in_force()}
    return [entry.name for entry in last.values() if entry.verb == "apply"]


# --- the effect --------------------------------------------------------------------------------------------------------------


def _carry_out(task: Task, wish: Wish, made: Plan, found: Survey, journal: Journal, left_open: Sequence[Entry]) -> dict[str, Any]:
    applier = Applier(task.host, journal, task.now, task.progress)
    mended = [recovered(done.entry, done.event) for done in applier.recover(left_open)]
    if left_open:
        made, found = _again(task, wish, journal)
    watch = _watch(task, wish, made, found)
    if watch is not None:
        watch.before()
    blocked: list[str] = []
    try:
        moved = False
        while True:
            blocked += _block(task, made, found, journal)
            try:
                entries = applier.apply(made.steps, "apply" if wish.request.state == "applied" else "remove", watch.confirm if watch else None)
                break
            except FileMoved as exc:
                # Somebody else writes too: what they wrote is read and planned with, once (DESIGN.md 5).
                if moved:
                    message = f"{exc.message}; it changed again while it was planned anew, so nothing was written. Run again when nobody else writes it"
                    raise ApplyError(message, "file_changed", **exc.details) from exc
                moved = True
                task.progress(f"{exc.message}; reading and planning once more")
                made, found = _again(task, wish, journal)
                if watch is not None:
                    watch.expected = _expected(made, found)
    except ConnectionFailure:
        raise
    except MitigationError as exc:
        _lift_again(task, found, blocked, journal, exc)
        raise
    if made.unblock_ids and found.entry is not None:
        _blocks.lift(task, str(found.entry["name"]), made.unblock_ids, journal)
    history = History(journal.directory, journal.host)
    history.prune()
    result = result_of(made, found, journal, _ours(history), wish.request.local)
    result["recovered"] = mended
    result["backed_up"] = [backed_up(entry) for entry in entries]
    result["health"] = watch.result if watch is not None and made.steps else None
    result["changed"] = made.changed or bool(mended)
    return result


def _again(task: Task, wish: Wish, journal: Journal) -> tuple[Plan, Survey]:
    """Observe and plan anew with what the journal knows by now."""
    history = History(journal.directory, journal.host)
    found = _survey(task, wish, history)
    made = _plan(wish, found, history, task)
    if made.refusals:
        raise refusal_of(made.refusals, result_of(made, found, journal, _ours(history), wish.request.local))
    return made, found


def _block(task: Task, made: Plan, found: Survey, journal: Journal) -> list[str]:
    """Settle what an interrupted run left of its blocks, then block the plan's ids."""
    if found.entry is None:
        return []
    identity = str(found.entry["name"])
    unsure = History(journal.directory, journal.host).unsure_blocks
    if unsure:
        _blocks.settle(task, identity, unsure, journal)
    return _blocks.block(task, identity, made.block_ids, journal) if made.block_ids else []


def _lift_again(task: Task, found: Survey, blocked: Sequence[str], journal: Journal, why: MitigationError) -> None:
    """The change was taken back, so EM is let in again where this run kept it out."""
    if not blocked or found.entry is None or why.details.get("undone") is False:
        return
    try:
        _blocks.lift(task, str(found.entry["name"]), blocked, journal)
    except MitigationError as exc:
        task.warn(f"the change failed and was taken back, but {', '.join(blocked)} stays blocked for EM: {exc.message}")


# --- health ------------------------------------------------------------------------------------------------------------------


def _watch(task: Task, wish: Wish, made: Plan, found: Survey) -> _health.Watch | None:
    """Return the probes of this run, None where none are wanted or nothing is changed on the server itself."""
    health = wish.health
    if health is None or not made.steps:
        return None
    base = health.url or f"https://{(found.entry or {}).get('fqdn') or found.snapshot.name}"
    ask = _health.from_host(task.host, base, health) if health.source == "host" else _health.from_controller(base, health)
    ids = [outcome.id for outcome in made.outcomes if outcome.action in ("apply", "replace")]
    return _health.Watch(health, ask, base, _expected(made, found), ids, task.warn)


def _expected(made: Plan, found: Survey) -> Any:
    """Return a function that tells whether a path is meant to be out of service once the plan is carried out: its pool is stopped."""
    stopped = {change.name.casefold() for change in made.pools if change.after.state == "Stopped"}
    stopped |= {name for name, state in found.states.pools.items() if state is not None and state.state == "Stopped"}
    stopped -= {change.name.casefold() for change in made.pools if change.after.state != "Stopped"}
    configuration = found.snapshot.configuration

    def expected(path: str) -> bool:
        if configuration is None or not stopped:
            return False
        application = configuration.site(found.site).application_of(path.partition("?")[0])
        return application is not None and application.pool.casefold() in stopped

    return expected
