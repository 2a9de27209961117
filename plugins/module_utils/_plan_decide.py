# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Support: what becomes of one mitigation, by its verdict, the server's facts and what is wanted.

A decision is worked out on a copy of the plan so far (``Work``), so that one that fails leaves nothing behind.
Pure. Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from ansible_collections.exchange.mitigation.plugins.module_utils._builds import cumulative_update, format_build, has_em
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConfigurationError, MitigationError, Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_config import Configuration, Rule
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sections import INBOUND
from ansible_collections.exchange.mitigation.plugins.module_utils._mitigations._values import LOCATION, Mitigation
from ansible_collections.exchange.mitigation.plugins.module_utils._plan_edits import Changes, removable, with_doubles
from ansible_collections.exchange.mitigation.plugins.module_utils._plan_states import Kept, StateChanges, back
from ansible_collections.exchange.mitigation.plugins.module_utils._plan_values import Outcome, Request, ServerFacts
from ansible_collections.exchange.mitigation.plugins.module_utils._verdict import Finding, Verdict
from ansible_collections.exchange.mitigation.plugins.module_utils._verdict_states import title


class Aside(MitigationError):
    """One mitigation is left as it is, and the task fails for it once the others are done: nothing was planned for it."""

    reason = "left_aside"


class Work:
    """A plan while it is made."""

    def __init__(self, configuration: Configuration | None) -> None:
        self.changes = Changes(configuration) if configuration is not None else None
        self.states = StateChanges()
        self.blocks: list[str] = []
        self.unblocks: list[str] = []
        self.warnings: list[str] = []
        self.side_effects: list[str] = []

    def copy(self) -> Work:
        """Return one that can go on by itself."""
        other = Work(None)
        other.changes = self.changes.copy() if self.changes is not None else None
        other.states = self.states.copy()
        other.blocks, other.unblocks = list(self.blocks), list(self.unblocks)
        other.warnings, other.side_effects = list(self.warnings), list(self.side_effects)
        return other

    @property
    def empty(self) -> bool:
        """Whether nothing is to be done."""
        touched = self.changes is not None and any(change.after != change.draft.before for change in self.changes.files.values())
        return not (touched or self.states.services or self.states.pools or self.blocks or self.unblocks)


_Part = TypeVar("_Part")


def _understood(part: _Part | None) -> _Part:
    """Return what is there wherever the configuration was understood; raises ConfigurationError elsewhere."""
    if part is None:
        raise ConfigurationError("the IIS configuration was not read", "configuration_not_read", file=None, line=None)
    return part


class Decider:
    """Decides for one server."""

    def __init__(self, request: Request, configuration: Configuration | None, facts: ServerFacts, kept: Kept) -> None:
        self.request = request
        self.configuration = configuration
        self.facts = facts
        self.kept = kept

    def decide(self, mitigation: Mitigation, one: Verdict, config_ids: Sequence[str], work: Work) -> Outcome:
        """Plan one mitigation into ``work``. Raises Aside for this one, Refused or ConfigurationError for the whole plan."""
        if self.request.state == "applied":
            return self._apply(mitigation, one, config_ids, work)
        if self.request.state == "retired":
            return self._retire(mitigation, one, config_ids, work)
        return self._remove(mitigation, one, config_ids, work)

    # state: applied

    def _apply(self, mitigation: Mitigation, one: Verdict, config_ids: Sequence[str], work: Work) -> Outcome:
        request = self.request
        if one.needed == "no":
            return _none(one, "not_needed", f"the build {self._build()} does not need it")
        self._refuse_unknown_build(one)
        foreign_blocks = [b for b in one.blocked_ids if b.casefold() not in {ours.casefold() for ours in request.blocked_by_us}]
        held = request.honour_blocked and bool(foreign_blocks)
        if held and one.state != "applied":
            return _none(one, "blocked", f"it is blocked on this server ({', '.join(foreign_blocks)}); honour_blocked: false overrules that")
        _refuse_unknown_state(one)
        active = self._em_active(mitigation, one)
        takes_over = request.when_em_active == "take_over"
        replaced = {index: self._to_replace(mitigation, one, index) if not held else [] for index in range(len(one.findings))}
        if active is None and (one.state != "applied" or any(replaced.values())) and not takes_over:
            raise Refused(
                f"{one.id}: whether EM is active on this server is unknown, so who is to write is unknown; give organization, or when_em_active: take_over",
                "em_state_unknown",
            )
        if one.breaks and not any(replaced.values()):
            cure = "relocate: true moves it to where it does not" if not takes_over else "nothing was replaced because the id is blocked"
            work.warnings.append(f"{one.id}: the rule made by {one.maker} makes {', '.join(one.breaks)} answer 500.19; {cure}")
        work.warnings += [f"{one.id}: {note}" for finding in one.findings for note in finding.notes]
        if active and one.state != "applied" and not takes_over and not any(replaced.values()):
            return _none(one, "left_to_em", f"EM is active on this server and looks after it; state: {one.state}")
        if one.state == "applied" and not any(replaced.values()):
            if active and takes_over:
                self._block(mitigation, config_ids, work)
            return _none(one, "applied", f"it is in force, made by {one.maker}" if one.maker else f"it is in force: {one.reason}")
        if one.state in ("conflicting", "disabled"):
            if request.on_conflict == "skip":
                work.warnings.append(f"{one.id} is not applied: {one.reason}")
                return _none(one, one.state, f"left as it is: {one.reason}")
            self._resolve(mitigation, one, replaced)
        self._write(mitigation, one, replaced, work)
        if active is None and self.facts.em is None:
            work.warnings.append(
                f"{one.id}: it is not blocked for EM, because what the organization says of this server is unknown; where EM is active it may write "
                "a rule of its own beside this one; give organization"
            )
        elif active is not False:
            self._block(mitigation, config_ids, work)
        work.side_effects += [f"{mitigation.id}: {effect.text}" for effect in mitigation.side_effects]
        action = "replace" if any(replaced.values()) else "apply"
        return Outcome(one.id, action, action, f"{one.id}: {mitigation.title}")

    def _to_replace(self, mitigation: Mitigation, one: Verdict, index: int) -> list[Rule]:
        """Return the rules of others that are replaced by ours: EM's when it is taken over, those in the wrong place when they are relocated."""
        finding, action = one.findings[index], mitigation.rewrites[index]
        rules = finding.active + finding.inactive
        found = [rule for rule in rules if self.request.when_em_active == "take_over" and mitigation.names.maker(rule.name) == "em"]
        if self.request.relocate and action.place == LOCATION:
            found += [rule for rule in rules if rule not in found and rule.reach == "children" and mitigation.names.maker(rule.name) in ("em", "eomt")]
        return found

    def _resolve(self, mitigation: Mitigation, one: Verdict, replaced: dict[int, list[Rule]]) -> None:
        """Add the rules in the way, by on_conflict. Raises Aside."""
        if self.request.on_conflict == "fail":
            raise Aside(f"{one.id}: {one.reason}. on_conflict: replace writes it anew, skip leaves it", one.state)
        if any(finding.incurable for finding in one.findings):
            raise Aside(f"{one.id}: {one.reason}. Writing the rule anew cannot cure that", one.state)
        for index, finding in enumerate(one.findings):
            known = {rule.origin for rule in replaced[index]}
            replaced[index] += [
                rule
                for rule in finding.inactive + finding.misnamed
                if rule.origin not in known and (mitigation.names.maker(rule.name) != "other" or self.request.include_foreign)
            ]

    def _write(self, mitigation: Mitigation, one: Verdict, replaced: dict[int, list[Rule]], work: Work) -> None:
        inserted = {}
        for index, (action, finding) in enumerate(zip(mitigation.rewrites, one.findings, strict=True)):
            parts = zip(action.rules, finding.parts, strict=True)
            inserted[index] = [rule for rule, part in parts if not _covered(mitigation, part, replaced[index])]
        if any(inserted.values()):
            self._refuse_without_rewrite(mitigation)
        for index, action in enumerate(mitigation.rewrites):
            changes, configuration = _understood(work.changes), _understood(self.configuration)
            site = action.on(self.request.site)
            if replaced[index]:
                doubled = with_doubles(replaced[index], configuration.effective_rewrite(site, action.path))
                changes.remove(mitigation, doubled, site, action.path)
            changes.insert(mitigation, action, inserted[index], site)
        for standing in one.standings:
            if standing.state == "absent" and standing.wanted is not None:
                work.states.set(standing, standing.wanted, mitigation.id)

    def _refuse_without_rewrite(self, mitigation: Mitigation) -> None:
        missing: list[str] = []
        support = _understood(self.configuration).rewrite
        for section in dict.fromkeys(rule.section for action in mitigation.rewrites for rule in action.rules):
            if not (support.rules_declared if section == INBOUND else support.outbound_declared):
                missing.append(f"the section {section} is not declared in applicationHost.config")
        if not support.module:
            missing.append("the module RewriteModule is not loaded")
        if self.facts.rewrite_dll is False:
            missing.append("rewrite.dll is not on the disk")
        if missing:
            raise Refused(
                f"{mitigation.id}: URL Rewrite is not usable on this server: {'; '.join(missing)}. Install it (module url_rewrite) and run again",
                "url_rewrite_missing",
                missing=missing,
            )

    # states: absent, retired

    def _retire(self, mitigation: Mitigation, one: Verdict, config_ids: Sequence[str], work: Work) -> Outcome:
        """Take a mitigation out where its build is above every build that needs it, and nowhere else."""
        self._refuse_unknown_build(one)
        if one.needed == "yes":
            last = one.highest_applicable.get(cumulative_update(self.facts.build) or "") if self.facts.build is not None else None
            until = f"needed up to {last}" if last else "no update of this cumulative update ends that"
            return _none(one, "still_needed", f"left untouched: the build {self._build()} still needs it ({until})")
        if self.facts.build is None or not mitigation.fixed(self.facts.build):
            return _none(one, "never_needed", f"left untouched: the build {self._build()} is not above the builds that need it")
        return self._remove(mitigation, one, config_ids, work)

    def _remove(self, mitigation: Mitigation, one: Verdict, config_ids: Sequence[str], work: Work) -> Outcome:
        _refuse_unknown_state(one)
        found = self._rules_to_remove(mitigation, one)
        for index, rules in found.items():
            action = mitigation.rewrites[index]
            _understood(work.changes).remove(mitigation, rules, action.on(self.request.site), action.path)
        names = [rule.name for rules in found.values() for rule in rules]
        for standing in one.standings:
            after = back(mitigation, standing, self.kept, self.request.include_foreign)
            if after is not None:
                work.states.set(standing, after, mitigation.id)
                names.append(f"{title(standing.kind)} {standing.name}")
        self._block_for_removal(mitigation, one, config_ids, bool(names), work)
        left = [] if self.request.include_foreign else _left(mitigation, one)
        if left:
            work.warnings.append(f"{one.id}: made by others and left in force: {', '.join(left)}; include_foreign: true removes them")
        lifted, kept = self._unblock(mitigation, one, work)
        said = f"{one.id}: {', '.join(names)}" if names else f"{one.id}: {'only what others made' if left else 'nothing of it'} is there"
        if lifted:
            said += f"; {', '.join(lifted)} is not blocked any more"
        if kept:
            said += f"; {', '.join(kept)} stays blocked while EM shows it as applied"
        if names:
            return Outcome(one.id, "remove", "remove", said)
        if lifted:
            return Outcome(one.id, "unblock", "unblock", said)
        return Outcome(one.id, "none", "foreign" if left else "absent", said)

    def _rules_to_remove(self, mitigation: Mitigation, one: Verdict) -> dict[int, list[Rule]]:
        if self.configuration is None:
            return {}
        found = removable(mitigation, one, self.configuration, self.request.site, self.request.include_foreign)
        misnamed = [(i, rule) for i, finding in enumerate(one.findings) for rule in finding.misnamed if rule not in finding.earlier]
        if misnamed and self.request.on_conflict == "fail":
            why = one.reason or f"the rule {misnamed[0][1].name!r} has a name of this mitigation but does something else"
            raise Aside(f"{one.id}: {why}. on_conflict: replace removes it, skip leaves it", "conflicting")
        for index, rule in misnamed if self.request.on_conflict == "replace" else ():
            found.setdefault(index, []).append(rule)
        return found

    def _block_for_removal(self, mitigation: Mitigation, one: Verdict, config_ids: Sequence[str], removes: bool, work: Work) -> None:
        """Block before removing, so that EM does not bring it back within the hour."""
        active = self._em_active(mitigation, one)
        if self.request.state == "absent":
            if active:
                self._block(mitigation, config_ids, work)
            return
        shown = self._shown(mitigation)
        if active is None and self.facts.em is None and removes:
            work.warnings.append(f"{one.id}: whether EM brings it back is unknown, because what the organization says of this server is; give organization")
        elif active is not False and (shown or (removes and not self.request.unblock)):
            self._block(mitigation, config_ids, work)

    def _unblock(self, mitigation: Mitigation, one: Verdict, work: Work) -> tuple[list[str], list[str]]:
        """Lift the blocks of ours that nothing needs any more. Returns the ids lifted, and those kept because EM would still apply them."""
        if self.request.state != "retired" or not self.request.unblock or not one.block_can_be_lifted:
            return [], []
        ours = {identifier.casefold() for identifier in self.request.blocked_by_us}
        mine = [identifier for identifier in one.blocked_ids if identifier.casefold() in ours]
        if self._shown(mitigation) and (self.facts.em is None or self.facts.em.active is not False):
            return [], mine
        work.unblocks += [identifier for identifier in mine if identifier not in work.unblocks]
        return mine, []

    # What is known

    def _build(self) -> str:
        return format_build(self.facts.build) if self.facts.build is not None else ""

    def _refuse_unknown_build(self, one: Verdict) -> None:
        if one.needed == "unknown":
            raise Refused(
                f"{one.id}: the server's build is unknown or no build of Exchange 2016, 2019 or SE, so whether it is needed is unknown", "build_unknown"
            )

    def _em_active(self, mitigation: Mitigation, one: Verdict) -> bool | None:
        """Whether EM will write this mitigation; a block keeps it away, a build without EM has none, and some EM never had."""
        build = self.facts.build
        if build is None or not has_em(build) or one.blocked or not mitigation.published:
            return False
        return None if self.facts.em is None else self.facts.em.active

    def _shown(self, mitigation: Mitigation) -> list[str]:
        """Return the ids under which EM shows a mitigation as applied."""
        return [i for i in (self.facts.em.applied if self.facts.em is not None else ()) if mitigation.published and mitigation.matches(i)]

    def _block(self, mitigation: Mitigation, config_ids: Sequence[str], work: Work) -> None:
        """Note the ids that have to be blocked: those that EM shows as applied and the feed's (DESIGN.md 5)."""
        wanted = dict.fromkeys([*self._shown(mitigation), *config_ids])
        work.blocks += [i for i in wanted if i not in (self.facts.blocked or ()) and i not in work.blocks]


def _covered(mitigation: Mitigation, part: Finding, replaced: Sequence[Rule]) -> bool:
    """Say whether a rule need not be written: ours is in force, or another's and nothing of this part is replaced."""
    gone = {rule.origin for rule in replaced}
    staying = [rule for rule in part.active if rule.origin not in gone]
    if any(mitigation.names.maker(rule.name) == "us" for rule in staying):
        return True
    return bool(staying) and not any(rule.origin in gone for rule in part.active + part.inactive)


def _left(mitigation: Mitigation, one: Verdict) -> list[str]:
    """Return what others made that stays in force."""
    rules = [rule.name for finding in one.findings for rule in finding.active if mitigation.names.maker(rule.name) == "other"]
    held = [s for s in one.standings if s.state == "applied" and s.now is not None and not s.ours]
    return rules + [f"{title(s.kind)} {s.name}" for s in held]


def _none(one: Verdict, reason: str, message: str) -> Outcome:
    return Outcome(one.id, "none", reason, f"{one.id}: {message}")


def _refuse_unknown_state(one: Verdict) -> None:
    if one.state == "unknown":
        problem = one.problem
        details: dict[str, Any] = dict(problem.details) if problem is not None else {}
        raise Aside(f"{one.id}: {one.reason}", problem.reason if problem is not None else "configuration_unknown", **details)


def aside(identifier: str, error: MitigationError) -> Aside:
    """Return an error that came up while one mitigation was worked out, with the mitigation's id in its sentence."""
    message = error.message if error.message.startswith(f"{identifier}: ") else f"{identifier}: {error.message}"
    return Aside(message, error.reason, **error.details)


__all__ = ["Aside", "Decider", "Work", "aside"]
