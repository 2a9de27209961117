# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage plan: what has to change on one server, as a value. ``changed``, check mode and diff are read off it.

Pure: takes what was observed and what is wanted, changes neither. Refusals leave a plan without edits: nothing is written.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils import _catalogue as catalogue
from ansible_collections.exchange.mitigation.plugins.module_utils._builds import can_read_newer_feeds, format_build, has_em, product_of
from ansible_collections.exchange.mitigation.plugins.module_utils._catalogue._values import Mitigation, RewriteAction
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConfigurationError, InvalidInput, Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_config import Configuration, Rule
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sections import INBOUND, OUTBOUND
from ansible_collections.exchange.mitigation.plugins.module_utils._plan_edits import Changes, by_journal, diff_of, lasting_loss, removable
from ansible_collections.exchange.mitigation.plugins.module_utils._plan_values import (
    EmFacts,
    FileEdit,
    Outcome,
    ParseCheck,
    Plan,
    Record,
    Refusal,
    Request,
    ServerFacts,
)
from ansible_collections.exchange.mitigation.plugins.module_utils._verdict import Verdict, unsupported, verdict

__all__ = ["EmFacts", "FileEdit", "Outcome", "ParseCheck", "Plan", "Refusal", "Request", "ServerFacts", "plan", "rollback"]


class _Planner:
    """Makes one plan."""

    def __init__(
        self, request: Request, configuration: Configuration | None, facts: ServerFacts, journal: Sequence[Record], problem: ConfigurationError | None
    ) -> None:
        self.request = request
        self.configuration = configuration
        self.facts = facts
        self.journal = journal
        self.problem = problem
        self.changes = Changes(configuration) if configuration is not None else None
        self.verdicts: list[Verdict] = []
        self.outcomes: list[Outcome] = []
        self.blocks: list[str] = []
        self.refusals: list[Refusal] = []
        self.failures: list[Refusal] = []
        self.warnings: list[str] = []
        self.side_effects: list[str] = []

    def run(self) -> Plan:
        """Go through the wanted ids, then check the edits on paper."""
        known: dict[str, tuple[Mitigation, list[str]]] = {}
        for identifier in self._wanted():
            mitigation = catalogue.find(identifier, self.request.definitions)
            if mitigation is not None:
                known.setdefault(mitigation.id, (mitigation, []))[1].append(identifier)
            elif identifier in self.request.do_nothing or catalogue.is_heartbeat(identifier):
                self._none(identifier, "nothing_to_do", "changes nothing by design")
            else:
                self._unsupported(identifier)
        for mitigation, identifiers in known.values():
            config_ids = [i for i in self.request.feed or () if mitigation.matches(i)] or identifiers
            one = verdict(mitigation, self.configuration, self.facts.build, self.facts.blocked, config_ids, self.problem, self.request.site)
            self.verdicts.append(one)
            try:
                if self.request.state == "applied":
                    self._apply(mitigation, one, config_ids)
                else:
                    self._absent(mitigation, one, config_ids)
            except (Refused, ConfigurationError) as error:
                self._refuse(mitigation.id, error.reason, error.message, error.details)
        return self._finish()

    def _wanted(self) -> list[str]:
        request = self.request
        if request.state not in ("applied", "absent"):
            raise InvalidInput(f"state {request.state!r} is not planned here", "invalid_state")
        wanted = list(request.mitigations)
        if "all" in wanted:
            if request.state == "absent":
                raise InvalidInput("mitigations: all is refused for state absent; name the ids", "all_refused")
            if request.feed is None:
                raise InvalidInput("mitigations: all means the feed's, but no feed was given; give feed, or name the ids", "feed_required")
            wanted = [i for i in wanted if i != "all"] + list(request.feed)
        return list(dict.fromkeys(wanted))

    def _unsupported(self, identifier: str) -> None:
        one = unsupported(identifier, self.facts.blocked)
        self.verdicts.append(one)
        self._none(identifier, "unsupported", str(one.reason))
        if self.request.on_unsupported == "fail":
            self.failures.append(Refusal(identifier, "unsupported_mitigation", f"{identifier} is not applied: {one.reason}"))
        else:
            self.warnings.append(f"{identifier} is not applied: {one.reason}")

    def _none(self, identifier: str, reason: str, message: str) -> None:
        self.outcomes.append(Outcome(identifier, "none", reason, f"{identifier}: {message}"))

    def _refuse(self, identifier: str | None, reason: str, message: str, details: Any = None) -> None:
        self.refusals.append(Refusal(identifier, reason, message if identifier is None else f"{identifier}: {message}", dict(details or {})))

    # state: applied

    def _apply(self, mitigation: Mitigation, one: Verdict, config_ids: Sequence[str]) -> None:
        request, facts = self.request, self.facts
        if one.needed == "no":
            build = format_build(facts.build) if facts.build is not None else ""
            return self._none(one.id, "not_needed", f"the build {build} does not need it")
        if one.needed == "unknown":
            return self._refuse(
                one.id, "build_unknown", "the server's build is unknown or no build of Exchange 2016, 2019 or SE, so whether it is needed is unknown"
            )
        foreign_blocks = [b for b in one.blocked_ids if b.casefold() not in {ours.casefold() for ours in request.blocked_by_us}]
        if request.honour_blocked and foreign_blocks and one.state != "applied":
            return self._none(one.id, "blocked", f"it is blocked on this server ({', '.join(foreign_blocks)}); honour_blocked: false overrules that")
        if one.state == "unknown":
            problem = one.problem
            return self._refuse(one.id, problem.reason if problem else "configuration_unknown", str(one.reason), problem.details if problem else {})
        active = self._em_active(one)
        replaced: list[Rule] = []
        if active is None and one.state != "applied" and request.when_em_active == "leave":
            return self._refuse(
                one.id,
                "em_state_unknown",
                "whether EM is active on this server is unknown, so who is to write is unknown; give organization, or when_em_active: take_over",
            )
        if one.breaks and request.when_em_active == "leave":
            self.warnings.append(
                f"{one.id}: the rule made by {one.maker} makes {', '.join(one.breaks)} answer 500.19; when_em_active: take_over writes one that does not"
            )
        if active and one.state != "applied" and request.when_em_active == "leave":
            return self._none(one.id, "left_to_em", f"EM is active on this server and looks after it; state: {one.state}")
        em_made = [rule for finding in one.findings for rule in finding.active + finding.inactive if mitigation.names.maker(rule.name) == "em"]
        if em_made:
            em_made += self._em_again(mitigation, em_made)
        if request.when_em_active == "take_over" and em_made and not (request.honour_blocked and foreign_blocks):
            replaced += em_made
        if one.state == "applied" and not replaced:
            if active and request.when_em_active == "take_over":
                self._block(mitigation, config_ids)
            return self._none(one.id, "applied", f"it is in force, made by {one.maker}")
        if one.state in ("conflicting", "disabled") and not self._resolve(mitigation, one, replaced):
            return None
        missing = self._missing(mitigation, one, replaced)
        if missing:
            self._refuse_without_rewrite(mitigation)
        self._remove(mitigation, one, replaced)
        for entry in missing:
            self._insert(mitigation, entry)
        if active is not False:
            self._block(mitigation, config_ids)
        action = "replace" if replaced else "apply"
        self.outcomes.append(Outcome(one.id, action, action, f"{one.id}: {mitigation.title}"))
        self.side_effects += [f"{mitigation.id}: {effect.text}" for effect in mitigation.side_effects]
        return None

    def _resolve(self, mitigation: Mitigation, one: Verdict, replaced: list[Rule]) -> bool:
        """Deal with rules in the way, by on_conflict. Returns False where nothing more is done."""
        if self.request.on_conflict == "skip":
            self._none(one.id, one.state, f"left as it is: {one.reason}")
            self.warnings.append(f"{one.id} is not applied: {one.reason}")
            return False
        if self.request.on_conflict == "fail":
            self._refuse(one.id, one.state, f"{one.reason}. on_conflict: replace writes it anew, skip leaves it")
            return False
        if any(lasting_loss(finding) for finding in one.findings) or (self.configuration is not None and not self.configuration.rewrite.module):
            self._refuse(one.id, one.state, f"{one.reason}. Writing the rule anew cannot cure that")
            return False
        known = {rule.origin for rule in replaced}
        replaced += [
            r
            for f in one.findings
            for r in f.inactive + f.misnamed
            if r.origin not in known and (mitigation.names.maker(r.name) != "other" or self.request.include_foreign)
        ]
        return True

    @staticmethod
    def _missing(mitigation: Mitigation, one: Verdict, replaced: Sequence[Rule]) -> list[RewriteAction]:
        """Return the actions that have to be written: those not in force, and those that lose a rule without one of ours staying."""
        gone = {rule.origin for rule in replaced}
        found = []
        for action, finding in zip(mitigation.actions, one.findings, strict=False):
            staying = [rule for rule in finding.active if rule.origin not in gone]
            ours = any(mitigation.names.maker(rule.name) == "us" for rule in staying)
            if not ours and (finding.state != "applied" or len(staying) < len(finding.active)):
                found.append(action)
        return found

    def _em_again(self, mitigation: Mitigation, known: Sequence[Rule]) -> list[Rule]:
        """Return rules of EM that stand a second time under the same name: when the first goes, they would come into force."""
        if self.configuration is None:
            return []
        found = {rule.origin: rule for rule in known}
        for action in mitigation.actions:
            for problem in self.configuration.effective_rewrite(self.request.site or action.site, action.path).problems:
                if problem.kind == "duplicate":
                    found.update({rule.origin: rule for rule in problem.rules if mitigation.names.maker(rule.name) == "em" and rule.kind != "precondition"})
        return list(found.values())[len(known) :]

    def _insert(self, mitigation: Mitigation, action: RewriteAction) -> None:
        if self.changes is not None:
            self.changes.insert(mitigation, action, self.request.site or action.site)

    def _remove(self, mitigation: Mitigation, one: Verdict, rules: Sequence[Rule]) -> None:
        """Plan rules out, each where its action is, so that its precondition goes with it."""
        assert self.changes is not None
        left = {rule.origin: rule for rule in rules}
        for action, finding in zip(mitigation.actions, one.findings, strict=False):
            own = [left.pop(rule.origin) for rule in (*finding.active, *finding.inactive, *finding.misnamed) if rule.origin in left]
            own += [left.pop(origin) for origin, rule in list(left.items()) if rule.name.casefold() in {entry.name.casefold() for entry in own}]
            if own:
                self.changes.remove(mitigation, own, self.request.site or action.site, action.path)

    def _refuse_without_rewrite(self, mitigation: Mitigation) -> None:
        assert self.configuration is not None
        support, missing = self.configuration.rewrite, []
        for section in dict.fromkeys(rule.section for action in mitigation.actions for rule in action.rules):
            if not (support.rules_declared if section == INBOUND else support.outbound_declared):
                missing.append(f"the section {section} is not declared in applicationHost.config")
        if not support.module:
            missing.append("the module RewriteModule is not loaded")
        if self.facts.rewrite_dll is False:
            missing.append("rewrite.dll is not on the disk")
        if missing:
            raise Refused(
                f"URL Rewrite is not usable on this server: {'; '.join(missing)}. Install it (module url_rewrite) and run again",
                "url_rewrite_missing",
                missing=missing,
            )

    def _em_active(self, one: Verdict) -> bool | None:
        """Whether EM will write this id; a block keeps it away, a build without EM has none."""
        build = self.facts.build
        if build is None or not has_em(build) or one.blocked or catalogue.is_local(one.id):
            return False
        return None if self.facts.em is None else self.facts.em.active

    def _block(self, mitigation: Mitigation, config_ids: Sequence[str]) -> None:
        """Note the ids that have to be blocked: those that EM shows as applied and the feed's (DESIGN.md 5)."""
        shown = [i for i in (self.facts.em.applied if self.facts.em is not None else ()) if mitigation.matches(i)]
        self.blocks += [i for i in dict.fromkeys([*shown, *config_ids]) if i not in (self.facts.blocked or ()) and i not in self.blocks]

    # state: absent

    def _absent(self, mitigation: Mitigation, one: Verdict, config_ids: Sequence[str]) -> None:
        if one.state == "unknown":
            problem = one.problem
            return self._refuse(one.id, problem.reason if problem else "configuration_unknown", str(one.reason), problem.details if problem else {})
        assert self.configuration is not None and self.changes is not None
        found = removable(mitigation, one, self.configuration, self.request.site, self.request.include_foreign)
        misnamed = [(i, rule) for i, finding in enumerate(one.findings) for rule in finding.misnamed if rule not in finding.earlier]
        if misnamed and self.request.on_conflict == "fail":
            return self._refuse(one.id, "conflicting", f"{one.reason or misnamed[0][1].name}. on_conflict: replace removes it, skip leaves it")
        if self.request.on_conflict == "replace":
            for index, rule in misnamed:
                found.setdefault(index, []).append(rule)
        for index, rules in found.items():
            action = mitigation.actions[index]
            self.changes.remove(mitigation, rules, self.request.site or action.site, action.path)
        if self._em_active(one) is True:
            self._block(mitigation, config_ids)
        left = [
            rule.name
            for finding in one.findings
            for rule in finding.active
            if mitigation.names.maker(rule.name) == "other" and not self.request.include_foreign
        ]
        if left:
            self.warnings.append(f"{one.id}: made by others and left in force: {', '.join(left)}; include_foreign: true removes them")
        if found:
            names = ", ".join(rule.name for rules in found.values() for rule in rules)
            self.outcomes.append(Outcome(one.id, "remove", "remove", f"{one.id}: {names}"))
        else:
            self._none(one.id, "foreign" if left else "absent", "only rules of others are there" if left else "nothing of it is there")
        return None

    def _restore_exactly(self) -> None:
        """Where the journal proves the bytes from before our own edits, those are what an undo leaves."""
        assert self.changes is not None
        for change in list(self.changes.files.values()):
            planned = change.exact
            for state in by_journal(change, self.journal):
                change.exact = (state,)
                if self._all_gone(self.changes.result(), change.purposes):
                    break
                change.exact = planned

    def _all_gone(self, configuration: Configuration, purposes: Sequence[str]) -> bool:
        for one in self.verdicts:
            mitigation = catalogue.find(one.id, self.request.definitions)
            if mitigation is None or one.id not in purposes:
                continue
            again = verdict(mitigation, configuration, self.facts.build, site=self.request.site)
            if again.state == "unknown" or removable(mitigation, again, configuration, self.request.site, self.request.include_foreign):
                return False
            if self.request.on_conflict == "replace" and any(finding.misnamed for finding in again.findings):
                return False
        return True

    # The end

    def _finish(self) -> Plan:
        edits: tuple[FileEdit, ...] = ()
        effects: list[str] = []
        if self.changes is not None and not self.refusals:
            try:
                if self.request.state == "absent":
                    self._restore_exactly()
                self.changes.refuse_breaking()
                self._refuse_ineffective(self.changes.result())
                edits = self.changes.edits()
                effects = [_effect(edit, self.changes.configuration) for edit in edits]
            except (Refused, ConfigurationError) as error:
                self._refuse(None, error.reason, error.message, error.details)
        build = self.facts.build
        if build is not None and has_em(build) and not can_read_newer_feeds(build):
            self.warnings.append(
                f"The EM service of build {format_build(build)} cannot use feeds released from July 2026 on; install the June 2026 update or newer."
            )
        if self.refusals:
            return Plan(tuple(self.verdicts), tuple(self.outcomes), (), (), tuple(self.refusals), tuple(self.failures), tuple(self.warnings))
        return Plan(
            tuple(self.verdicts),
            tuple(self.outcomes),
            tuple(self.blocks),
            edits,
            (),
            tuple(self.failures),
            tuple(self.warnings),
            tuple(diff_of(edits)),
            tuple(effects),
            tuple(self.side_effects),
        )

    def _refuse_ineffective(self, result: Configuration) -> None:
        """Refuse a plan whose result, on paper, is not what was asked for."""
        for outcome in self.outcomes:
            mitigation = catalogue.find(outcome.id, self.request.definitions)
            if mitigation is None or outcome.action not in ("apply", "replace"):
                continue
            again = verdict(mitigation, result, self.facts.build, site=self.request.site)
            if again.state != "applied" or again.breaks:
                why = again.reason or f"{', '.join(again.breaks)} would answer 500.19"
                raise Refused(f"{outcome.id}: the rule would not be in force as written: {why}", "would_not_apply")


def _effect(edit: FileEdit, configuration: Configuration) -> str:
    verb = "is created" if edit.before is None else "is deleted" if edit.after is None else "is rewritten"
    places = ", ".join(f"{site}{path}" for site, path in configuration.places_reading(edit.path))
    return f"{edit.path} {verb} for {', '.join(edit.purposes)}; IIS restarts the application domains of {places}, worker processes go on."


def plan(
    request: Request,
    configuration: Configuration | None,
    facts: ServerFacts,
    journal: Sequence[Record] = (),
    problem: ConfigurationError | None = None,
) -> Plan:
    """Return the plan for one server.

    ``configuration`` None: it could not be understood, ``problem`` says why. ``journal`` are the operations of this server
    that still stand, oldest first. Raises InvalidInput for a request that cannot be meant; everything else is in the plan.
    """
    if facts.build is not None and product_of(facts.build) is None:
        refusal = Refusal(None, "unsupported_product", f"build {format_build(facts.build)} is not Exchange 2016, 2019 or SE")
        return Plan(refusals=(refusal,))
    return _Planner(request, configuration, facts, journal, problem).run()


def rollback(
    configuration: Configuration,
    facts: ServerFacts,
    operations: Sequence[Record],
    site: str | None = None,
    definitions: Sequence[Mitigation] = (),
) -> Plan:
    """Return the plan that takes operations of the journal back, newest first: the exact bytes where the file is as they left it.

    A file that was changed since keeps those changes; our rules are taken out of it instead, and a warning says so. For that,
    ``definitions`` are needed of the ids that a local document defines.
    """
    changes = Changes(configuration)
    warnings: list[str] = []
    refusals: list[Refusal] = []
    for record in reversed(operations):
        try:
            change = changes.of(record.path)
            for identifier in record.mitigations:
                for section in _sections(identifier, record, definitions):
                    change.note(identifier, section)
            if change.after == record.after:
                changes.restore(record.path, record.before)
            elif change.after != record.before:
                warnings.append(f"{record.path} was changed since the run; its present content is kept and only the rules of this collection are taken out")
                _take_out(changes, record, facts, site, definitions)
        except (Refused, ConfigurationError) as error:
            refusals.append(Refusal(None, error.reason, error.message, dict(error.details)))
    if refusals:
        return Plan(refusals=tuple(refusals), warnings=tuple(warnings))
    edits = changes.edits()
    return Plan(edits=edits, warnings=tuple(warnings), diff=tuple(diff_of(edits)), effects=tuple(_effect(edit, configuration) for edit in edits))


def _sections(identifier: str, record: Record, definitions: Sequence[Mitigation]) -> list[str]:
    """Return the sections that an operation touched for an id; without a definition, those that its file holds."""
    mitigation = catalogue.find(identifier, definitions)
    if mitigation is not None:
        return list(dict.fromkeys(rule.section for action in mitigation.actions for rule in action.rules))
    held = (record.before or b"") + (record.after or b"")
    return [section for section in (INBOUND, OUTBOUND) if f"<{section.rpartition('/')[2]}".encode() in held]


def _take_out(changes: Changes, record: Record, facts: ServerFacts, site: str | None, definitions: Sequence[Mitigation]) -> None:
    """Take our own rules out of a file as the plan leaves it so far. Raises Refused where a local document is needed to know them."""
    configuration = changes.result()
    inner = Changes(configuration)
    for identifier in record.mitigations:
        mitigation = catalogue.find(identifier, definitions)
        if mitigation is None and catalogue.is_local(identifier):
            raise Refused(
                f"{identifier}: {record.path} was changed since the run, so only its rules can be taken out, and a local document defines them; give its feed",
                "local_definition_needed",
                file=record.path,
            )
        if mitigation is None:
            continue
        one = verdict(mitigation, configuration, facts.build, site=site)
        if one.problem is not None:
            raise one.problem
        for index, rules in removable(mitigation, one, configuration, site, False).items():
            action = mitigation.actions[index]
            inner.remove(mitigation, [rule for rule in rules if mitigation.names.maker(rule.name) == "us"], site or action.site, action.path)
    for change in inner.files.values():
        changes.restore(change.draft.file, change.after)
