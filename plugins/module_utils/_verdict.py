# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage verdict: what is the case with one mitigation on one server, in closed vocabularies, never one boolean.

Detection is by behaviour, not by rule name; the name only tells the maker (FACTS.md 2.2, 2.4). What cannot be read is
``unknown`` with the place, never absent. Pure. Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._builds import Build, format_build, product_of
from ansible_collections.exchange.mitigation.plugins.module_utils._catalogue import is_local, related
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConfigurationError
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_config import Configuration, Effective, Problem, Rule
from ansible_collections.exchange.mitigation.plugins.module_utils._mitigations._values import (
    ROOT,
    InboundRule,
    Mitigation,
    OutboundRule,
    PoolState,
    Revision,
    RewriteAction,
    ServiceState,
    precondition_of,
    shadowing,
)
from ansible_collections.exchange.mitigation.plugins.module_utils._verdict_states import Standing, standings

#: Worst first: a mitigation of several rules is in the worst state of them.
STATES = ("unknown", "conflicting", "disabled", "absent", "applied", "unsupported")


@dataclasses.dataclass(frozen=True)
class Finding:
    """What was found of one action: rules that do the job, the same switched off, known names that do something else.

    ``lost`` are applications that should inherit the rule and do not; ``earlier`` those of ``misnamed`` that are published
    earlier revisions. ``incurable``: writing the rule anew does not help. ``parts`` are the findings of the single rules of an
    action with several. ``notes`` are worth a warning.
    """

    state: str
    reason: str | None
    active: tuple[Rule, ...] = ()
    inactive: tuple[Rule, ...] = ()
    misnamed: tuple[Rule, ...] = ()
    lost: tuple[str, ...] = ()
    earlier: tuple[Rule, ...] = ()
    incurable: bool = False
    parts: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that speak for the state."""
        return self.active or self.inactive or self.misnamed


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The verdict on one mitigation; ``as_dict`` is its public shape, ``findings`` what the plan works from."""

    id: str
    cve: str | None
    kind: str
    title: str | None
    state: str
    needed: str
    blocked: bool | None
    blocked_ids: tuple[str, ...]
    maker: str | None
    breaks: tuple[str, ...]
    block_can_be_lifted: bool
    reason: str | None
    evidence: tuple[dict[str, Any], ...]
    duplicates: tuple[dict[str, Any], ...]
    highest_applicable: dict[str, str]
    code_fix: str | None
    side_effects: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    standings: tuple[Standing, ...] = ()
    problem: ConfigurationError | None = dataclasses.field(default=None, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the shape that modules return."""
        return {
            "id": self.id,
            "cve": self.cve,
            "kind": self.kind,
            "title": self.title,
            "state": self.state,
            "needed": self.needed,
            "blocked": self.blocked,
            "blocked_ids": list(self.blocked_ids),
            "maker": self.maker,
            "breaks": list(self.breaks),
            "block_can_be_lifted": self.block_can_be_lifted,
            "reason": self.reason,
            "evidence": [dict(entry) for entry in self.evidence],
            "duplicates": [dict(entry) for entry in self.duplicates],
            "highest_applicable": dict(self.highest_applicable),
            "code_fix": self.code_fix,
            "side_effects": list(self.side_effects),
        }


def verdict(
    mitigation: Mitigation,
    configuration: Configuration | None,
    build: Build | None,
    blocked_ids: Iterable[str] | None = None,
    config_ids: Sequence[str] = (),
    problem: ConfigurationError | None = None,
    site: str | None = None,
    services: Mapping[str, ServiceState | None] | None = None,
    pools: Mapping[str, PoolState | None] | None = None,
    ours: Collection[str] = (),
) -> Verdict:
    """Return the verdict on a mitigation.

    ``blocked_ids`` is the server's MitigationsBlocked, None where it is not known; ``config_ids`` are the feed's ids for this
    mitigation (default: its own). Without a configuration the state is unknown for the reason in ``problem``. ``site`` stands
    in for the catalogue's where the site was renamed. ``services`` and ``pools`` are as in ServerFacts; ``ours`` are the names of
    services and pools that the journal says this collection changed.
    """
    findings: tuple[Finding, ...] = ()
    breaks: tuple[str, ...] = ()
    found = standings(mitigation, services, pools, ours)
    why: str | None
    if configuration is None and mitigation.rewrites:
        problem = problem or ConfigurationError("the IIS configuration was not read", "configuration_not_read", file=None, line=None)
    elif configuration is not None:
        problem = None
        try:
            findings = tuple(examine(mitigation, action, configuration, action.on(site)) for action in mitigation.rewrites)
            breaks = _breaks(mitigation, findings, configuration, site)
        except ConfigurationError as error:
            problem, findings = error, ()
    unread = next((standing for standing in found if standing.state == "unknown"), None)
    if unread is not None and (problem is None or not mitigation.rewrites):
        problem = ConfigurationError(str(unread.reason), "state_not_read", file=None, line=None)
    elif not mitigation.rewrites:
        problem = None
    if problem is not None:
        state, why, maker = "unknown", problem.message, None
        evidence: tuple[dict[str, Any], ...] = tuple(dict(standing.evidence()) for standing in found)
        if mitigation.rewrites:
            evidence = ({"file": problem.details.get("file"), "line": problem.details.get("line"), "rule": None, "location": None}, *evidence)
    else:
        parts: list[Finding | Standing] = [*findings, *found]
        worst = min(parts, key=lambda part: STATES.index(part.state))
        state, why, maker = worst.state, worst.reason, _maker(mitigation, worst, found)
        rules = {rule.origin: rule for finding in findings for rule in finding.rules}
        evidence = (*(dict(rule.evidence()) for rule in rules.values()), *(dict(standing.evidence()) for standing in found))
    needed = mitigation.needed(build)
    blocking = _blocking(blocked_ids, config_ids or (mitigation.id,))
    bounds = mitigation.applicability.get(product_of(build) or "")
    fix = bounds.code_fix(build) if bounds is not None and build is not None else None
    return Verdict(
        id=mitigation.id,
        cve=mitigation.cve,
        kind=mitigation.kind,
        title=mitigation.title,
        state=state,
        needed=needed,
        blocked=None if blocking is None else bool(blocking),
        blocked_ids=blocking or (),
        maker=maker,
        breaks=breaks,
        block_can_be_lifted=bool(blocking) and needed == "no",
        reason=why,
        evidence=evidence,
        duplicates=tuple(
            _duplicate(mitigation, rule) for finding in findings for part in finding.parts if len(part.active) > 1 for rule in part.active
        ),
        highest_applicable={} if bounds is None else {name: format_build(value) for name, value in bounds.highest_applicable().items()},
        code_fix=None if fix is None else format_build(fix),
        side_effects=tuple(effect.text for effect in mitigation.side_effects),
        findings=findings,
        standings=found,
        problem=problem,
    )


def unsupported(identifier: str, blocked_ids: Iterable[str] | None = None) -> Verdict:
    """Return the verdict on an id that the catalogue lacks: nothing is guessed (DESIGN.md 4)."""
    blocking = _blocking(blocked_ids, (identifier,))
    return Verdict(
        id=identifier,
        cve=None,
        kind="unsupported",
        title=None,
        state="unsupported",
        needed="unknown",
        blocked=None if blocking is None else bool(blocking),
        blocked_ids=blocking or (),
        maker=None,
        breaks=(),
        block_can_be_lifted=False,
        reason=_undefined(identifier),
        evidence=(),
        duplicates=(),
        highest_applicable={},
        code_fix=None,
        side_effects=(),
    )


def _undefined(identifier: str) -> str:
    if is_local(identifier):
        return f"{identifier} is defined by a local document: give its feed"
    return f"the catalogue of this version does not know {identifier}; update the collection, or see the advisory"


def _blocking(blocked_ids: Iterable[str] | None, config_ids: Sequence[str]) -> tuple[str, ...] | None:
    if blocked_ids is None:
        return None
    return tuple(blocked for blocked in blocked_ids if any(related(blocked, identifier) for identifier in config_ids))


def _duplicate(mitigation: Mitigation, rule: Rule) -> dict[str, Any]:
    return {"rule": rule.name, "maker": mitigation.names.maker(rule.name), "file": rule.file, "line": rule.line}


def _maker(mitigation: Mitigation, worst: Finding | Standing, found: Sequence[Standing]) -> str | None:
    if isinstance(worst, Finding):
        return mitigation.names.maker(worst.rules[0].name) if worst.rules else None
    there = [standing for standing in found if standing.now is not None]
    if worst.state != "applied" or not there:
        return None
    return "us" if all(standing.ours for standing in there) else "other"


def examine(mitigation: Mitigation, action: RewriteAction, configuration: Configuration, site: str) -> Finding:
    """Look for one action's rules where they have to be in force. Raises ConfigurationError where a file cannot be understood."""
    configuration.physical_path(site, action.path)
    parts = tuple(_examine_rule(mitigation, action, rule, configuration, site) for rule in action.rules)
    worst = min(parts, key=lambda finding: STATES.index(finding.state))

    def gathered(rules: Iterable[tuple[Rule, ...]]) -> tuple[Rule, ...]:
        return tuple({rule.origin: rule for group in rules for rule in group}.values())

    return dataclasses.replace(
        worst,
        active=gathered(part.active for part in parts),
        inactive=gathered(part.inactive for part in parts),
        misnamed=gathered(part.misnamed for part in parts),
        lost=tuple(dict.fromkeys(path for part in parts for path in part.lost)),
        earlier=gathered(part.earlier for part in parts),
        incurable=any(part.incurable for part in parts),
        parts=parts,
        notes=tuple(note for part in parts for note in part.notes),
    )


def _examine_rule(mitigation: Mitigation, action: RewriteAction, wanted: InboundRule | OutboundRule, configuration: Configuration, site: str) -> Finding:
    effective = configuration.effective_rewrite(site, action.path)
    candidates = wanted.candidates(effective)
    same = [rule for rule in candidates if wanted.same_behaviour(rule, effective)]
    active = tuple(rule for rule in same if rule.enabled)
    inactive = tuple(rule for rule in same if not rule.enabled)
    others = [rule for one in mitigation.rewrites for r in one.rules if r is not wanted for rule in candidates if r.same_behaviour(rule, effective)]
    misnamed = tuple(rule for rule in candidates if rule not in same and rule not in others and mitigation.names.maker(rule.name) != "other")
    earlier = tuple(rule for rule in misnamed if _revision(action, rule, effective) is not None)
    rest = Finding("absent", None, active, inactive, misnamed, (), earlier)
    # What lies below must be understood in any case: a rule may be put above it.
    lost = _lost_below(action, wanted, configuration, site)
    if active:
        return _in_force(mitigation, action, lost, configuration, site, rest)
    if inactive:
        return dataclasses.replace(
            rest, state="disabled", reason=f"the rule {inactive[0].name!r} is switched off ({inactive[0].file}, line {inactive[0].line})"
        )
    if misnamed:
        return dataclasses.replace(rest, state="conflicting", reason=_misnamed(action, misnamed[0], effective))
    return rest if len(action.rules) == 1 else dataclasses.replace(rest, reason=f"the rule on {_about(wanted)} is not there")


def _about(wanted: InboundRule | OutboundRule) -> str:
    return f"{wanted.input} {wanted.pattern}" if isinstance(wanted, InboundRule) else wanted.server_variable


def _lost_below(action: RewriteAction, wanted: InboundRule | OutboundRule, configuration: Configuration, site: str) -> list[str]:
    """Return the applications and folders below that should inherit the rule and do not."""
    lost = []
    for path in _inheriting(action, configuration, site):
        inherited = configuration.effective_rewrite(site, path)
        if not any(rule.enabled and wanted.same_behaviour(rule, inherited) for rule in wanted.candidates(inherited)):
            lost.append(path)
    return lost


def _inheriting(action: RewriteAction, configuration: Configuration, site: str) -> list[str]:
    if action.place != ROOT:
        return []
    return [*configuration.applications_below(site, action.path), *configuration.folders_below(site, action.path)]


def _in_force(mitigation: Mitigation, action: RewriteAction, lost: Sequence[str], configuration: Configuration, site: str, rest: Finding) -> Finding:
    """Judge a rule that is there: whether something keeps it from doing its work."""
    active = rest.active
    idle = dataclasses.replace(rest, state="disabled", active=(), inactive=active + rest.inactive)
    if not configuration.rewrite.module:
        reason = "the rule is there, but the module RewriteModule is not loaded, so nothing carries it out"
        return dataclasses.replace(idle, reason=reason, incurable=True)
    gone = configuration.module_gone(site, action.path)
    if gone is not None:
        reason = f"the rule is there, but {gone[0]}, line {gone[1]}, takes the module RewriteModule away, so nothing carries it out"
        return dataclasses.replace(idle, reason=reason, incurable=True)
    if lost:
        reason = _lost(configuration, site, lost, active)
        if all(mitigation.names.maker(rule.name) == "other" for rule in active):
            return dataclasses.replace(rest, reason=reason, active=(), lost=tuple(lost))
        return dataclasses.replace(rest, state="conflicting", reason=reason, lost=tuple(lost), incurable=True)
    for path in _inheriting(action, configuration, site):
        gone = configuration.module_gone(site, path)
        if gone is not None:
            reason = f"{gone[0]}, line {gone[1]}, takes the module RewriteModule away, so the rule is not carried out on {path}"
            return dataclasses.replace(rest, state="conflicting", reason=reason, lost=(path,), incurable=True)
    effective = configuration.effective_rewrite(site, action.path)
    shadows = [shadowing(rule, effective) for rule in active]
    if all(any(whole for dummy, whole in shadow) for shadow in shadows):
        before = next(rule for rule, whole in shadows[0] if whole)
        reason = f"the rule is there, but {before.name!r} ({before.file}, line {before.line}) comes before it and ends the processing of every request"
        return dataclasses.replace(idle, reason=reason)
    notes: tuple[str, ...] = ()
    if all(shadows):
        before = shadows[0][0][0]
        notes = (
            f"{before.name!r} ({before.file}, line {before.line}) comes before the rule {active[0].name!r} and ends the processing of rules "
            "for the requests that it matches; they pass",
        )
    return dataclasses.replace(rest, state="applied", reason=notes[0] if notes else None, notes=notes)


def _lost(configuration: Configuration, site: str, lost: Sequence[str], active: Sequence[Rule]) -> str:
    for path in lost:
        for rule, file, line in configuration.effective_rewrite(site, path).dropped:
            if rule.origin in {r.origin for r in active}:
                return f"the rule {rule.name!r} is taken away below: {file}, line {line}; it is not in force on {', '.join(lost)}"
    return f"the rule {active[0].name!r} does not reach {', '.join(lost)} ({active[0].file}, line {active[0].line})"


def _misnamed(action: RewriteAction, rule: Rule, effective: Effective) -> str:
    place = f"{rule.file}, line {rule.line}"
    revision = _revision(action, rule, effective)
    if revision is not None:
        return f"the rule {rule.name!r} is an earlier revision that does not suffice ({revision.weakness}): {place}"
    return f"the rule {rule.name!r} has a name of this mitigation but does something else: {place}"


def _revision(action: RewriteAction, rule: Rule, effective: Effective) -> Revision | None:
    return next((revision for revision in action.earlier if revision.rule.same_behaviour(rule, effective)), None)


def _breaks(mitigation: Mitigation, findings: Sequence[Finding], configuration: Configuration, site: str | None) -> tuple[str, ...]:
    """Return the paths where IIS answers 500.19 because of a rule of this mitigation."""
    broken: dict[str, None] = {}
    for action, finding in zip(mitigation.rewrites, findings, strict=False):
        rules = finding.active + finding.inactive + finding.misnamed
        name = action.on(site)
        for path in [action.path, *configuration.applications_below(name, action.path), *configuration.folders_below(name, action.path)]:
            effective = configuration.effective_rewrite(name, path)
            if any(_concerns(problem, mitigation, rules, configuration.effective_rewrite(name, action.path)) for problem in effective.problems):
                broken[path] = None
    return tuple(broken)


def _concerns(problem: Problem, mitigation: Mitigation, rules: Sequence[Rule], effective: Effective) -> bool:
    if not problem.fatal:
        return False
    if not problem.rules:
        return problem.file.lower() in {rule.file.lower() for rule in rules}
    origins = {rule.origin for rule in rules}
    origins |= {found.origin for rule in rules if (found := precondition_of(rule, effective)) is not None}
    return any(rule.origin in origins or mitigation.names.maker(rule.name) != "other" for rule in problem.rules)
