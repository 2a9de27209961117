# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module mitigation does, in order: recover, observe, plan; then block, apply and verify.

Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils import _catalogue
from ansible_collections.exchange.mitigation.plugins.module_utils._apply import Applier, FileMoved
from ansible_collections.exchange.mitigation.plugins.module_utils._catalogue._values import Mitigation
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, ConfigurationError, InvalidInput, MitigationError, Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._exchange import blocked_after, read_server, wait_until
from ansible_collections.exchange.mitigation.plugins.module_utils._facts import Survey, survey
from ansible_collections.exchange.mitigation.plugins.module_utils._feed_handle import load_feed
from ansible_collections.exchange.mitigation.plugins.module_utils._journal import History, Journal, Operation, checked_run_id, new_run_id
from ansible_collections.exchange.mitigation.plugins.module_utils._local import LocalDocument
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Decision, Task, call
from ansible_collections.exchange.mitigation.plugins.module_utils._plan import EmFacts, FileEdit, Outcome, Plan, Refusal, Request, ServerFacts, plan, rollback
from ansible_collections.exchange.mitigation.plugins.module_utils._verdict import Verdict, unsupported, verdict

#: What ``undo_run_id`` calls the last run of the journal that applied something on the host.
LAST = "last"

#: Seconds for the domain controller that took a block to show it.
READ_BACK = 10


@dataclasses.dataclass(frozen=True)
class Wish:
    """A task's request, with the part of it that does not depend on the server."""

    request: Request
    undo_run_id: str | None


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
        task.warn(f"an interrupted run left {len(left_open)} files of this server unsettled; they are brought to before or after first")
    found = survey(task)
    made = _plan(wish, found, history, task)
    result = _result(made, found, journal, wish)
    if made.refusals and not left_open:
        raise _refusal(made.refusals, result)
    for warning in made.warnings:
        task.warn(warning)

    def effect() -> dict[str, Any]:
        with journal.locked():
            return _carry_out(task, wish, made, found, journal, left_open)

    return Decision(
        result=result,
        changed=made.changed or bool(left_open),
        diff=_diff(made, found),
        effect=effect if made.changed or left_open else None,
        failure=_failure(made.failures),
    )


def _diff(made: Plan, found: Survey) -> list[dict[str, str]]:
    """The plan's diff, after what it adds to MitigationsBlocked."""
    if not made.block_ids:
        return list(made.diff)
    header = f"{found.snapshot.name}: MitigationsBlocked"
    before = list(found.blocked or ())
    lines = ["".join(f"{identifier}\n" for identifier in ids) for ids in (before, [*before, *made.block_ids])]
    return [{"before_header": header, "after_header": header, "before": lines[0], "after": lines[1]}, *made.diff]


def default_journal_dir(environment: Mapping[str, str]) -> str:
    """Return where the journal is kept unless told otherwise, below XDG_STATE_HOME."""
    base = environment.get("XDG_STATE_HOME") or os.path.join(environment.get("HOME") or os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, "exchange.mitigation", "journal")


def _wish(params: Mapping[str, Any]) -> Wish:
    ids = tuple(str(entry).strip() for entry in params["mitigations"] or ())
    undo = params["undo_run_id"]
    if undo and params["state"] != "absent":
        raise InvalidInput("undo_run_id goes with state: absent", "invalid_combination")
    if undo and ids:
        raise InvalidInput("undo_run_id says what to undo; leave mitigations out", "invalid_combination")
    if not undo and not ids and params["state"] == "absent":
        raise InvalidInput("state: absent needs mitigations or undo_run_id", "mitigations_required")
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
        state=params["state"],
        feed=feed,
        do_nothing=do_nothing,
        honour_blocked=params["honour_blocked"],
        when_em_active=params["when_em_active"],
        on_unsupported=params["on_unsupported"],
        on_conflict=params["on_conflict"],
        include_foreign=params["include_foreign"],
        site=params["site"],
        definitions=definitions,
    )
    return Wish(request, checked_run_id(undo) if undo else None)


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
    )
    if wish.undo_run_id is not None:
        if snapshot.configuration is None:
            problem = snapshot.problem or ConfigurationError(f"{snapshot.application_host.path} does not exist", "configuration_not_read", file=None, line=None)
            return Plan(refusals=(Refusal(None, problem.reason, problem.message),))
        run_id = history.last_run() if wish.undo_run_id == LAST else wish.undo_run_id
        operations = history.in_force(run_id, verb="apply") if run_id else []
        if not operations:
            what = "any run" if run_id is None else run_id
            task.warn(f"the journal {history.directory} knows nothing that {what} applied on {history.host}; name mitigations to undo without it")
            return Plan()
        made = rollback(snapshot.configuration, facts, operations, found.site, wish.request.definitions)
        ids = list(dict.fromkeys(identifier for operation in operations for identifier in operation.mitigations))
        action, reason = ("remove", "undo") if made.edits else ("none", "absent")
        outcomes = tuple(Outcome(identifier, action, reason, f"{identifier}: as before the run {run_id}") for identifier in ids)
        return dataclasses.replace(made, outcomes=outcomes, verdicts=tuple(_verdicts(ids, found, wish.request.definitions)))
    request = dataclasses.replace(wish.request, blocked_by_us=history.blocked_ids)
    return plan(request, snapshot.configuration, facts, history.in_force(), snapshot.problem)


def _verdicts(
    ids: Sequence[str], found: Survey, definitions: Sequence[Mitigation], edits: Sequence[FileEdit] = (), block_ids: Sequence[str] = ()
) -> list[Verdict]:
    """Return the verdicts on these ids as they are once the edits and blocks are made."""
    configuration = found.snapshot.configuration
    blocked = None if found.blocked is None else [*found.blocked, *block_ids]
    for edit in edits:
        if configuration is not None:
            configuration = configuration.with_file(edit.path, edit.after)
    made = []
    for identifier in ids:
        mitigation = _catalogue.find(identifier, definitions)
        if mitigation is None:
            made.append(unsupported(identifier, blocked))
        else:
            made.append(verdict(mitigation, configuration, found.build, blocked, (identifier,), found.snapshot.problem, found.site))
    return made


def _result(made: Plan, found: Survey, journal: Journal, wish: Wish) -> dict[str, Any]:
    actions = {outcome.id: outcome for outcome in made.outcomes}
    mitigations = []
    for one in _verdicts([entry.id for entry in made.verdicts], found, wish.request.definitions, made.edits, made.block_ids):
        outcome = actions.get(one.id)
        mitigations.append(dict(one.as_dict(), action=outcome.action if outcome else "none", explanation=outcome.message if outcome else None))
    return {
        "mitigations": mitigations,
        "steps": [_step(edit) for edit in made.edits],
        "effects": list(made.effects),
        "side_effects": list(made.side_effects),
        "blocked_ids": list(made.block_ids),
        "ignored": [outcome.id for outcome in made.outcomes if outcome.reason == "nothing_to_do"],
        "run_id": journal.run_id if made.changed else None,
        "journal": journal.path if made.changed else None,
        "recovered": [],
    }


def _step(edit: FileEdit) -> dict[str, Any]:
    action = "create" if edit.before is None else "delete" if edit.after is None else "replace"
    checks = [{"filter": check.filter, "path": check.pspath} for check in edit.checks]
    return {"file": edit.path, "action": action, "mitigations": list(edit.purposes), "checks": checks}


def _refusal(refusals: Sequence[Refusal], result: dict[str, Any]) -> Refused:
    """All refusals in one exception, so that a server's owner mends everything at once; the code is the first one's."""
    first = refusals[0]
    message = " ".join(f"{refusal.message.rstrip('.')}." for refusal in refusals)
    details = {**first.details, "mitigations": result["mitigations"], "refusals": [{"id": r.id, "reason": r.reason, "msg": r.message} for r in refusals]}
    return Refused(message, first.reason, **details)


def _failure(failures: Sequence[Refusal]) -> MitigationError | None:
    if not failures:
        return None
    return Refused(" ".join(f"{failure.message.rstrip('.')}." for failure in failures), failures[0].reason)


def _carry_out(task: Task, wish: Wish, made: Plan, found: Survey, journal: Journal, left_open: Sequence[Operation]) -> dict[str, Any]:
    applier = Applier(task.host, journal, task.now, task.progress)
    recovered = [{"file": done.operation.path, "run_id": done.operation.run_id, "outcome": done.event} for done in applier.recover(left_open)]
    if left_open:
        made, found = _again(task, wish, journal)
    for attempt in (1, 2):
        _block(task, made, found, journal)
        try:
            operations = applier.apply(made.edits, "apply" if wish.request.state == "applied" else "remove")
            break
        except FileMoved as exc:
            # Somebody else writes too: what they wrote is read and planned with, once (DESIGN.md 5).
            if attempt == 2:
                message = f"{exc.message}; it changed again while it was planned anew, so nothing was written. Run again when nobody else writes it"
                raise ApplyError(message, "file_changed", **exc.details) from exc
            task.progress(f"{exc.message}; reading and planning once more")
            made, found = _again(task, wish, journal)
    History(journal.directory, journal.host).prune()
    result = _result(made, found, journal, wish)
    result["recovered"] = recovered
    result["backed_up"] = [
        {"file": operation.path, "before_sha256": operation.before_sha256, "after_sha256": operation.after_sha256} for operation in operations
    ]
    result["changed"] = made.changed or bool(recovered)
    return result


def _again(task: Task, wish: Wish, journal: Journal) -> tuple[Plan, Survey]:
    """Observe and plan anew with what the journal knows by now."""
    found = survey(task)
    made = _plan(wish, found, History(journal.directory, journal.host), task)
    if made.refusals:
        raise _refusal(made.refusals, _result(made, found, journal, wish))
    return made, found


def _block(task: Task, made: Plan, found: Survey, journal: Journal) -> None:
    """Block the plan's ids for EM and read them back, before any file is touched (DESIGN.md 4)."""
    if not made.block_ids or found.entry is None:
        return
    identity = str(found.entry["name"])
    current = read_server(task.exchange, identity)
    wanted = blocked_after(current["mitigations_blocked"], {"add": list(made.block_ids)})
    missing = [identifier for identifier in wanted if identifier not in current["mitigations_blocked"]]
    if not missing:
        return
    controller = current["domain_controller"]
    where = {"DomainController": controller} if controller else {}
    journal.append(task.now(), "blocking", ids=missing, before=current["mitigations_blocked"])
    task.progress(f"blocking {', '.join(missing)} for EM")
    task.exchange.change((call("Set-ExchangeServer", Identity=identity, MitigationsBlocked=wanted, **where, Confirm=False),))
    if not wait_until(lambda: read_server(task.exchange, identity, controller), lambda now: set(wanted) <= set(now["mitigations_blocked"]), READ_BACK)[1]:
        raise ApplyError(f"{identity} does not show the block of {', '.join(missing)} that was just set; no file was touched", "block_not_visible")
    journal.append(task.now(), "blocked", ids=missing)
