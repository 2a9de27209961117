# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Support: the plan that takes a run of the journal back.

Pure. Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.exchange.mitigation.plugins.module_utils import _catalogue as catalogue
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConfigurationError, Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_config import Configuration
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sections import INBOUND, OUTBOUND
from ansible_collections.exchange.mitigation.plugins.module_utils._mitigations._values import Mitigation, PoolState, ServiceState
from ansible_collections.exchange.mitigation.plugins.module_utils._plan_edits import Changes, removable
from ansible_collections.exchange.mitigation.plugins.module_utils._plan_show import diff_of, effects_of
from ansible_collections.exchange.mitigation.plugins.module_utils._plan_states import Kept, taken_back
from ansible_collections.exchange.mitigation.plugins.module_utils._plan_values import Plan, PoolChange, Record, Refusal, ServerFacts, ServiceChange, Step
from ansible_collections.exchange.mitigation.plugins.module_utils._verdict import verdict
from ansible_collections.exchange.mitigation.plugins.module_utils._verdict_states import shown


def rollback(
    configuration: Configuration | None,
    facts: ServerFacts,
    operations: Sequence[Record],
    site: str | None = None,
    kept: Kept = (),
    local: Sequence[Mitigation] = (),
) -> Plan:
    """Return the plan that takes operations of the journal back, newest first: the exact bytes where the file is as they left it.

    A file that was changed since keeps those changes; our rules are taken out of it instead, and a warning says so. ``kept`` are
    the changes of services and pools to take back: each part that still is as they left it goes back to what it was.
    Without a configuration only these can be taken back.
    """
    back_to = _Rollback(configuration, facts, site, tuple(local))
    for record in reversed(operations):
        back_to.file(record)
    for change in reversed(kept):
        back_to.state(change)
    return back_to.plan()


class _Rollback:
    """Makes one plan that takes things back."""

    def __init__(self, configuration: Configuration | None, facts: ServerFacts, site: str | None, local: tuple[Mitigation, ...]) -> None:
        self.configuration = configuration
        self.facts = facts
        self.site = site
        self.local = local
        self.changes = Changes(configuration) if configuration is not None else None
        self.states: dict[tuple[str, str], ServiceChange | PoolChange] = {}
        self.warnings: list[str] = []
        self.refusals: list[Refusal] = []

    def plan(self) -> Plan:
        """Return the plan."""
        if self.refusals:
            return Plan(refusals=tuple(self.refusals), warnings=tuple(self.warnings))
        edits = self.changes.edits() if self.changes is not None else ()
        changed = [change for change in self.states.values() if change.before != change.after]
        services = tuple(change for change in changed if isinstance(change, ServiceChange))
        pools = tuple(change for change in changed if isinstance(change, PoolChange))
        steps: tuple[Step, ...] = (*edits, *services, *pools)
        return Plan(
            edits=edits,
            services=services,
            pools=pools,
            warnings=tuple(self.warnings),
            diff=tuple(diff_of(steps)),
            effects=tuple(effects_of(steps, self.configuration)),
        )

    def state(self, record: ServiceChange | PoolChange) -> None:
        """Take one change of a service or pool back."""
        at = (type(record).__name__, record.name.casefold())
        known: Mapping[str, ServiceState | PoolState | None] = (self.facts.services if isinstance(record, ServiceChange) else self.facts.pools) or {}
        folded = {name.casefold(): state for name, state in known.items()}
        if at[1] not in folded:
            self.refusals.append(Refusal(None, "state_not_read", f"{record.name}: its state was not read, so it cannot be taken back"))
            return
        planned = self.states.get(at)
        now = planned.after if planned is not None else folded[at[1]]
        if now is None:
            self.warnings.append(f"{record.name} does not exist on this server any more; nothing is taken back")
            return
        after = taken_back(now, record.after, record.before)
        if now not in (record.after, record.before):
            self.warnings.append(f"{record.name} was changed since the run ({shown(now)}); only what still is as the run left it is taken back")
        begun = planned.before if planned is not None else now
        purposes = tuple(dict.fromkeys((*(planned.purposes if planned is not None else ()), *record.purposes)))
        if isinstance(begun, ServiceState) and isinstance(after, ServiceState):
            self.states[at] = ServiceChange(record.name, begun, after, purposes)
        if isinstance(begun, PoolState) and isinstance(after, PoolState):
            self.states[at] = PoolChange(record.name, begun, after, purposes)

    def file(self, record: Record) -> None:
        """Take one edit of a file back."""
        if self.changes is None:
            self.refusals.append(Refusal(None, "configuration_not_read", f"{record.path}: the IIS configuration was not read, so it cannot be taken back"))
            return
        try:
            change = self.changes.of(record.path)
            for mitigation in self._known(record):
                for section in dict.fromkeys(rule.section for action in mitigation.rewrites for rule in action.rules):
                    change.note(mitigation.id, section)
            for identifier in self._undefined(record):
                # Its document is not at hand: IIS is asked about every section that the file holds.
                held = (record.before or b"") + (record.after or b"")
                for section in (section for section in (INBOUND, OUTBOUND) if f"<{section.rpartition('/')[2]}".encode() in held):
                    change.note(identifier, section)
            if change.after == record.after:
                self.changes.restore(record.path, record.before)
            elif change.after != record.before:
                self.warnings.append(
                    f"{record.path} was changed since the run; its present content is kept and only the rules of this collection are taken out"
                )
                self._take_out(self.changes, record)
        except (Refused, ConfigurationError) as error:
            self.refusals.append(Refusal(None, error.reason, error.message, dict(error.details)))

    def _known(self, record: Record) -> list[Mitigation]:
        found = [next((m for m in self.local if m.matches(identifier)), None) or catalogue.find(identifier) for identifier in record.mitigations]
        return [mitigation for mitigation in found if mitigation is not None]

    def _undefined(self, record: Record) -> list[str]:
        """Return the ids of local documents that were not given."""
        return [i for i in record.mitigations if catalogue.is_local(i) and not any(m.matches(i) for m in self.local)]

    def _take_out(self, changes: Changes, record: Record) -> None:
        """Take our own rules out of a file as the plan leaves it so far. Raises Refused where a local document is needed to know them."""
        for identifier in self._undefined(record):
            raise Refused(
                f"{identifier}: {record.path} was changed since the run, so only its rules can be taken out, and a local document defines them; give its feed",
                "local_definition_needed",
                file=record.path,
            )
        configuration = changes.result()
        inner = Changes(configuration)
        for mitigation in self._known(record):
            one = verdict(mitigation, configuration, self.facts.build, site=self.site, services=self.facts.services, pools=self.facts.pools)
            if not one.findings and one.problem is not None:
                raise one.problem
            for index, rules in removable(mitigation, one, configuration, self.site, False).items():
                action = mitigation.rewrites[index]
                inner.remove(mitigation, [rule for rule in rules if mitigation.names.maker(rule.name) == "us"], action.on(self.site), action.path)
        for change in inner.files.values():
            changes.restore(change.draft.file, change.after)
