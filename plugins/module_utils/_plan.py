# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage plan: what has to change on one server, as a value. ``changed``, check mode and diff are read off it.

Pure: takes what was observed and what is wanted, changes neither. Refusals leave a plan without edits: nothing is written.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.exchange.mitigation.plugins.module_utils import _catalogue as catalogue
from ansible_collections.exchange.mitigation.plugins.module_utils._builds import can_read_newer_feeds, format_build, has_em, product_of
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConfigurationError, InvalidInput, Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_config import Configuration
from ansible_collections.exchange.mitigation.plugins.module_utils._mitigations._values import Mitigation
from ansible_collections.exchange.mitigation.plugins.module_utils._plan_decide import Aside, Decider, Work, aside
from ansible_collections.exchange.mitigation.plugins.module_utils._plan_edits import Changes, by_journal, removable
from ansible_collections.exchange.mitigation.plugins.module_utils._plan_rollback import rollback
from ansible_collections.exchange.mitigation.plugins.module_utils._plan_show import diff_of, effects_of
from ansible_collections.exchange.mitigation.plugins.module_utils._plan_states import Kept, ours
from ansible_collections.exchange.mitigation.plugins.module_utils._plan_values import (
    EmFacts,
    FileEdit,
    Outcome,
    ParseCheck,
    Plan,
    PoolChange,
    Record,
    Refusal,
    Request,
    ServerFacts,
    ServiceChange,
    Step,
)
from ansible_collections.exchange.mitigation.plugins.module_utils._verdict import Verdict, unsupported, verdict

__all__ = [
    "EmFacts",
    "FileEdit",
    "Outcome",
    "ParseCheck",
    "Plan",
    "PoolChange",
    "Refusal",
    "Request",
    "ServerFacts",
    "ServiceChange",
    "Step",
    "plan",
    "rollback",
]


class _Planner:
    """Makes one plan."""

    def __init__(
        self,
        request: Request,
        configuration: Configuration | None,
        facts: ServerFacts,
        journal: Sequence[Record],
        problem: ConfigurationError | None,
        kept: Kept,
    ) -> None:
        self.request = request
        self.configuration = configuration
        self.facts = facts
        self.journal = journal
        self.problem = problem
        self.kept = kept
        self.decider = Decider(request, configuration, facts, kept)
        self.work = Work(configuration)
        self.verdicts: list[Verdict] = []
        self.outcomes: list[Outcome] = []
        self.refusals: list[Refusal] = []
        self.asides: list[Refusal] = []
        self.failures: list[Refusal] = []

    def run(self) -> Plan:
        """Go through the wanted ids, then check the edits on paper."""
        known: dict[str, tuple[Mitigation, list[str]]] = {}
        for identifier, published in self._wanted().items():
            mitigation = self._find(identifier, published)
            if mitigation is not None:
                known.setdefault(mitigation.id, (mitigation, []))[1].append(identifier)
            elif identifier in self.request.do_nothing or catalogue.is_heartbeat(identifier):
                self.outcomes.append(Outcome(identifier, "none", "nothing_to_do", f"{identifier}: changes nothing by design"))
            else:
                self._unsupported(identifier)
        for mitigation, identifiers in known.values():
            self._one(mitigation, identifiers)
        return self._finish()

    def _wanted(self) -> dict[str, bool]:
        """Return the wanted ids, each with whether it is one of the feed's and not one that the user named."""
        request = self.request
        if request.state not in ("applied", "absent", "retired"):
            raise InvalidInput(f"state {request.state!r} is not planned here", "invalid_state")
        wanted = dict.fromkeys((i for i in request.mitigations if i != "all"), False)
        if "all" in request.mitigations:
            if request.state == "absent":
                raise InvalidInput("mitigations: all is refused for state absent; name the ids", "all_refused")
            if request.feed is None:
                raise InvalidInput("mitigations: all means the feed's, but no feed was given; give feed, or name the ids", "feed_required")
            for identifier in request.feed:
                wanted.setdefault(identifier, True)
        return wanted

    def _find(self, identifier: str, published: bool) -> Mitigation | None:
        local = next((mitigation for mitigation in self.request.local if mitigation.matches(identifier)), None)
        return local or (catalogue.find_published(identifier) if published else catalogue.find(identifier))

    def _unsupported(self, identifier: str) -> None:
        one = unsupported(identifier, self.facts.blocked)
        self.verdicts.append(one)
        self.outcomes.append(Outcome(identifier, "none", "unsupported", f"{identifier}: {one.reason}"))
        if self.request.on_unsupported == "fail":
            self.failures.append(Refusal(identifier, "unsupported_mitigation", f"{identifier} is not applied: {one.reason}"))
        else:
            self.work.warnings.append(f"{identifier} is not applied: {one.reason}")

    def _verdict(self, mitigation: Mitigation, configuration: Configuration | None, config_ids: Sequence[str] = ()) -> Verdict:
        facts = self.facts
        return verdict(
            mitigation,
            configuration,
            facts.build,
            facts.blocked,
            config_ids,
            self.problem,
            self.request.site,
            facts.services,
            facts.pools,
            ours(mitigation, self.kept),
        )

    def _one(self, mitigation: Mitigation, identifiers: Sequence[str]) -> None:
        """Decide on one mitigation; what it plans counts only where its result holds on paper."""
        config_ids = [i for i in self.request.feed or () if mitigation.matches(i)] or list(identifiers)
        one = self._verdict(mitigation, self.configuration, config_ids)
        self.verdicts.append(one)
        work = self.work.copy()
        try:
            outcome = self.decider.decide(mitigation, one, config_ids, work)
            if work.changes is not None and outcome.action != "none":
                work.changes.refuse_breaking()
                if outcome.action in ("apply", "replace") and mitigation.rewrites:
                    self._refuse_ineffective(mitigation, work.changes.result())
        except Aside as error:
            self.asides.append(Refusal(mitigation.id, error.reason, error.message, dict(error.details)))
            self.outcomes.append(Outcome(mitigation.id, "none", error.reason, error.message))
        except (Refused, ConfigurationError) as error:
            named = aside(mitigation.id, error)
            self.refusals.append(Refusal(mitigation.id, named.reason, named.message, dict(named.details)))
        else:
            self.outcomes.append(outcome)
            self.work = work

    def _refuse_ineffective(self, mitigation: Mitigation, result: Configuration) -> None:
        """Refuse what, on paper, is not what was asked for."""
        again = self._verdict(mitigation, result)
        broken = [finding.reason for finding in again.findings if finding.state != "applied"]
        if broken or again.breaks or not again.findings:
            why = next((reason for reason in broken if reason), None) or again.reason or f"{', '.join(again.breaks)} would answer 500.19"
            raise Refused(f"{mitigation.id}: the rule would not be in force as written: {why}", "would_not_apply")

    # Exact bytes from before

    def _restore_exactly(self, changes: Changes) -> None:
        """Where the journal proves the bytes from before our own edits, those are what an undo leaves."""
        for change in list(changes.files.values()):
            planned = change.exact
            for state in by_journal(change, self.journal):
                change.exact = (state,)
                if self._all_gone(changes.result(), change.purposes):
                    break
                change.exact = planned

    def _all_gone(self, configuration: Configuration, purposes: Sequence[str]) -> bool:
        for one in self.verdicts:
            mitigation = self._find(one.id, False)
            if mitigation is None or one.id not in purposes:
                continue
            again = self._verdict(mitigation, configuration)
            if not again.findings or removable(mitigation, again, configuration, self.request.site, self.request.include_foreign):
                return False
            if self.request.on_conflict == "replace" and any(finding.misnamed for finding in again.findings):
                return False
        return True

    # The end

    def _finish(self) -> Plan:
        work = self.work
        edits: tuple[FileEdit, ...] = ()
        if work.changes is not None and not self.refusals:
            try:
                if self.request.state != "applied":
                    self._restore_exactly(work.changes)
                    work.changes.refuse_breaking()
                edits = work.changes.edits()
            except (Refused, ConfigurationError) as error:
                self.refusals.append(Refusal(None, error.reason, error.message, dict(error.details)))
        build = self.facts.build
        if build is not None and has_em(build) and not can_read_newer_feeds(build):
            work.warnings.append(
                f"The EM service of build {format_build(build)} cannot use feeds released from July 2026 on; install the June 2026 update or newer."
            )
        # Where nothing else is to be done, one that is left aside is the task's refusal; else it fails once the others are done.
        if self.refusals or work.empty:
            self.refusals += self.asides
        else:
            self.failures += self.asides
        if self.refusals:
            return Plan(tuple(self.verdicts), tuple(self.outcomes), (), (), tuple(self.refusals), tuple(self.failures), tuple(work.warnings))
        steps: tuple[Step, ...] = (*edits, *work.states.services, *work.states.pools)
        return Plan(
            verdicts=tuple(self.verdicts),
            outcomes=tuple(self.outcomes),
            block_ids=tuple(work.blocks),
            edits=edits,
            failures=tuple(self.failures),
            warnings=tuple(work.warnings),
            diff=tuple(diff_of(steps)),
            effects=tuple(effects_of(steps, self.configuration)),
            side_effects=tuple(work.side_effects),
            services=work.states.services,
            pools=work.states.pools,
            unblock_ids=tuple(work.unblocks),
        )


def plan(
    request: Request,
    configuration: Configuration | None,
    facts: ServerFacts,
    journal: Sequence[Record] = (),
    problem: ConfigurationError | None = None,
    kept: Sequence[ServiceChange | PoolChange] = (),
) -> Plan:
    """Return the plan for one server.

    ``configuration`` None: it could not be understood, ``problem`` says why. ``journal`` are the operations of this server
    that still stand, oldest first, ``kept`` what it says of services and pools, likewise.
    Raises InvalidInput for a request that cannot be meant; everything else is in the plan.
    """
    if facts.build is not None and product_of(facts.build) is None:
        refusal = Refusal(None, "unsupported_product", f"build {format_build(facts.build)} is not Exchange 2016, 2019 or SE")
        return Plan(refusals=(refusal,))
    return _Planner(request, configuration, facts, journal, problem, kept).run()
