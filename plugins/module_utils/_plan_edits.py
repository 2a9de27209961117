# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Support: how the planned edit of one file is made, checked on paper and shown.

Pure. Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Container, Iterable, Mapping, Sequence

from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConfigurationError, Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_config import Configuration, Effective, Rule
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_edit import NEW_FILE, Draft, Splice, is_block
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sections import GLOBAL, INBOUND, OUTBOUND, settings
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sites import directories, key
from ansible_collections.exchange.mitigation.plugins.module_utils._mitigations._values import (
    InboundRule,
    Mitigation,
    OutboundRule,
    RewriteAction,
    precondition_of,
)
from ansible_collections.exchange.mitigation.plugins.module_utils._plan_values import FileEdit, ParseCheck, Record
from ansible_collections.exchange.mitigation.plugins.module_utils._verdict import Verdict

#: What IIS is asked for to parse a section (CMDLETS.md 5).
FILTERS: Mapping[str, tuple[str, ...]] = {
    INBOUND: ("/system.webServer/rewrite/rules",),
    OUTBOUND: ("/system.webServer/rewrite/outboundRules", "/system.webServer/rewrite/outboundRules/preConditions"),
    GLOBAL: ("/system.webServer/rewrite/globalRules",),
}
#: The sections in which rules of a kind stand.
SECTIONS: Mapping[str, str] = {"inbound": INBOUND, "global": GLOBAL}


@dataclasses.dataclass
class FileChange:
    """A file while the plan is made: its draft, the sections touched, the ids it is for. ``exact`` replaces the draft's bytes."""

    draft: Draft
    sddl: str
    sections: list[str] = dataclasses.field(default_factory=list)
    purposes: list[str] = dataclasses.field(default_factory=list)
    exact: tuple[bytes | None] | None = None
    #: The rules that go: what they reach is what the change concerns, where the file is applicationHost.config.
    reach: list[Rule] = dataclasses.field(default_factory=list)

    @property
    def after(self) -> bytes | None:
        """The bytes that the plan leaves."""
        if self.exact is not None:
            return self.exact[0]
        return None if self.draft.before is None and self.draft.data == NEW_FILE else self.draft.data

    def copy(self) -> FileChange:
        """Return one that can go on by itself."""
        return FileChange(self.draft.copy(), self.sddl, list(self.sections), list(self.purposes), self.exact, list(self.reach))

    def note(self, identifier: str, section: str) -> None:
        """Remember what the change is for."""
        if identifier not in self.purposes:
            self.purposes.append(identifier)
        if section not in self.sections:
            self.sections.append(section)


class Changes:
    """The files that a plan changes, in the order in which it came to them."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.files: dict[str, FileChange] = {}

    def copy(self) -> Changes:
        """Return one that can go on by itself."""
        other = Changes(self.configuration)
        other.files = {name: change.copy() for name, change in self.files.items()}
        return other

    def of(self, file: str) -> FileChange:
        """Return the change of a file, begun where it is new. Raises ConfigurationError where it was not read."""
        if key(file) not in self.files:
            state = self.configuration.state_of(file)
            self.files[key(file)] = FileChange(Draft(state.path, state.data), state.sddl)
        return self.files[key(file)]

    def insert(self, mitigation: Mitigation, action: RewriteAction, rules: Sequence[InboundRule | OutboundRule], site: str) -> None:
        """Plan rules of an action into its file. Raises Refused or ConfigurationError."""
        configuration = self.configuration
        file = configuration.file_for(site, action.path)
        if configuration.state_of(file).data is None and not action.create_file:
            raise Refused(f"{file} does not exist, but {site}{action.path} cannot work without it; repair the installation first", "file_missing", file=file)
        change = self.of(file)
        for rule in reversed(rules) if action.first else rules:
            lock = configuration.lock_on(site, action.path, rule.section, file)
            if lock is not None:
                raise Refused(f"{file}: the section {rule.section} is locked for this path by {lock}; unlock it and run again", "section_locked", file=file)
            _refuse_second_section(change.draft, rule.section, action.place)
            change.draft.insert(rule.section, action.place, *rule.elements(), action.first)
            change.note(mitigation.id, rule.section)

    def remove(self, mitigation: Mitigation, rules: Iterable[Rule], site: str, path: str) -> None:
        """Plan rules, and preconditions that nothing else uses, out of their files. Raises Refused."""
        wanted = {rule.origin: rule for rule in rules}
        effective = self.configuration.effective_rewrite(site, path)
        staying = [rule for rule in effective.outbound if rule.origin not in wanted]
        used = {found.origin for rule in staying if (found := precondition_of(rule, effective)) is not None}
        for rule in list(wanted.values()):
            found = precondition_of(rule, effective) if rule.kind == "outbound" else None
            if found is not None and found.origin not in used and not used_elsewhere(self.configuration, found, wanted):
                wanted[found.origin] = found
        by_file: dict[str, list[Rule]] = {}
        for rule in wanted.values():
            by_file.setdefault(rule.file, []).append(rule)
        for file, group in by_file.items():
            change = self.of(file)
            change.draft.remove([_present(change.draft, rule) for rule in group])
            for rule in group:
                change.note(mitigation.id, SECTIONS.get(rule.kind, OUTBOUND))
            change.reach += group
            if change.draft.before is not None and _is_our_new_file(change.draft.data, change.draft.before):
                change.exact = (None,)

    def restore(self, file: str, data: bytes | None) -> None:
        """Plan exact bytes for a file."""
        self.of(file).exact = (data,)

    def result(self) -> Configuration:
        """Return the configuration as the plan leaves it."""
        configuration = self.configuration
        for change in self.files.values():
            configuration = configuration.with_file(change.draft.file, change.after)
        return configuration

    def edits(self) -> tuple[FileEdit, ...]:
        """Return the finished edits, those that change nothing left out.

        applicationHost.config comes last, so that a rule that moves from there is in force all the time, unless the two would
        stand in each other's way: then it comes first.
        """
        changed = [change for change in self.files.values() if change.after != change.draft.before]
        host = [change for change in changed if self._is_host(change)]
        rest = [change for change in changed if not self._is_host(change)]
        if host and rest:
            first = Changes(self.configuration)
            first.files = {key(change.draft.file): change for change in rest}
            try:
                first.refuse_breaking()
            except (Refused, ConfigurationError):
                return tuple(map(self._edit, (*host, *rest)))
        return tuple(map(self._edit, (*rest, *host)))

    def _is_host(self, change: FileChange) -> bool:
        return key(change.draft.file) == key(self.configuration.application_host.path)

    def _places(self, change: FileChange) -> list[tuple[str, str]]:
        """Return the places (site, URL path) that a change concerns: those that read the file, and of which everything is known."""
        if not self._is_host(change):
            return self.configuration.places_reading(change.draft.file)
        known = self.configuration.places_read()
        return [place for place in known if not change.reach or any(rule.concerns(*place) for rule in change.reach)]

    def _edit(self, change: FileChange) -> FileEdit:
        draft, after = change.draft, change.after
        splices = draft.splices() if change.exact is None else _whole(draft.before or b"", after or b"")
        # IIS is asked about the file itself, too: sites whose files were not read have to go on with it.
        places = [*([("", "")] if self._is_host(change) else []), *self._places(change)]
        checks = tuple(ParseCheck(text, pspath(site, path)) for section in change.sections for site, path in places for text in FILTERS[section])
        return FileEdit(draft.file, draft.before, after, change.sddl, tuple(change.purposes), splices, checks)

    def refuse_breaking(self) -> None:
        """Work the plan out on paper. Raises Refused where IIS would answer 500.19 on a path that works today, ConfigurationError where it cannot be known."""
        result = self.result()
        for change in self.files.values():
            for site, path in self._places(change):
                now = {(p.kind, p.message.casefold()) for p in self.configuration.effective_rewrite(site, path).problems if p.fatal}
                for problem in result.effective_rewrite(site, path).problems:
                    if problem.fatal and not now:
                        raise Refused(
                            f"{site}{path} would answer 500.19 after this change: {problem.message}",
                            "would_break",
                            path=path,
                            file=problem.file,
                            line=problem.line,
                        )


def pspath(site: str, path: str) -> str:
    """Return the path by which IIS's cmdlets know a place, without the IIS: drive (CMDLETS.md 5)."""
    return f"MACHINE/WEBROOT/APPHOST/{site}{path}".rstrip("/")


def used_elsewhere(configuration: Configuration, precondition: Rule, going: Container[tuple[str, tuple[int, int]]] = ()) -> bool:
    """Say whether a precondition of applicationHost.config may serve other rules: on every place that it reaches, those not read included."""
    if key(precondition.file) != key(configuration.application_host.path):
        return False
    known = configuration.places_read()
    for site in configuration.sites:
        for path in directories(site):
            if not precondition.concerns(site.name, path):
                continue
            if (site.name, path) not in known:
                return True
            effective = configuration.effective_rewrite(site.name, path)
            for rule in effective.outbound:
                found = precondition_of(rule, effective)
                if found is not None and found.origin == precondition.origin and rule.origin not in going:
                    return True
    return False


def digest(data: bytes | None) -> str | None:
    """Return the SHA-256 of bytes, None for no file."""
    return None if data is None else hashlib.sha256(data).hexdigest()


def _whole(before: bytes, after: bytes) -> tuple[Splice, ...]:
    """Return the one splice between two texts that keeps what they begin and end with."""
    head = 0
    while head < min(len(before), len(after)) and before[head] == after[head]:
        head += 1
    tail = 0
    while tail < min(len(before), len(after)) - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    splice = Splice(head, before[head : len(before) - tail], after[head : len(after) - tail])
    return (splice,) if splice.removed or splice.inserted else ()


def _refuse_second_section(draft: Draft, section: str, place: str) -> None:
    """Refuse where the file sets the section elsewhere for its own path: IIS would find it twice."""
    for setting in settings(draft.document(), section):
        block = setting.location is not None and is_block(setting.location)
        if setting.target == () and (block if place == "root" else not block):
            where = "at the top level" if setting.location is None else "in a location block"
            raise Refused(
                f"{draft.file}, line {setting.element.line}: <{setting.element.tag}> stands there already, {where}; "
                "a second one elsewhere in the file is not allowed. "
                "Move those rules or remove them, then run again",
                "section_twice",
                file=draft.file,
                line=setting.element.line,
            )
        if setting.target == () and "configSource" in setting.element.attributes:
            raise Refused(
                f"{draft.file}, line {setting.element.line}: <{setting.element.tag}> lives in {setting.element.attributes['configSource']}, "
                "which this collection does not edit",
                "section_elsewhere",
                file=draft.file,
                line=setting.element.line,
            )


def _present(draft: Draft, rule: Rule) -> tuple[int, int]:
    """Return where a rule of the original file stands in the draft."""
    shift = 0
    for splice in draft.splices():
        if splice.start <= rule.span[0]:
            shift += len(splice.inserted) - len(splice.removed)
    return rule.span[0] + shift, rule.span[1] + shift


def _is_our_new_file(now: bytes, before: bytes) -> bool:
    """Say whether a file that a removal leaves empty is one that this collection had created."""
    return now == NEW_FILE and before != NEW_FILE


def removable(mitigation: Mitigation, verdict: Verdict, configuration: Configuration, site: str | None, foreign: bool) -> dict[int, list[Rule]]:
    """Return the rules of a mitigation that ``absent`` takes out, by action: those that do the job, enabled or not, and stray preconditions."""
    found: dict[int, list[Rule]] = {}
    for index, (action, finding) in enumerate(zip(mitigation.rewrites, verdict.findings, strict=False)):
        effective = configuration.effective_rewrite(action.on(site), action.path)
        rules = [rule for rule in finding.active + finding.inactive + finding.earlier if foreign or mitigation.names.maker(rule.name) != "other"]
        known = {rule.origin for rule in (*finding.active, *finding.inactive, *finding.misnamed)}
        seconds = [rule for problem in effective.problems if problem.kind == "duplicate" for rule in problem.rules]
        for rule in seconds:
            same = foreign and any(wanted.same_behaviour(rule, effective) for wanted in action.rules)
            if rule.origin not in known and (same or mitigation.names.maker(rule.name) != "other"):
                rules.append(rule)
        used = {p.origin for rule in effective.outbound if (p := precondition_of(rule, effective)) is not None}
        going = {rule.origin for rule in rules}
        rules += [
            rule
            for rule in effective.preconditions
            if mitigation.names.maker(rule.name) != "other" and rule.origin not in used and not used_elsewhere(configuration, rule, going)
        ]
        if rules:
            found[index] = list({rule.origin: rule for rule in rules}.values())
    return found


def with_doubles(rules: Sequence[Rule], effective: Effective) -> list[Rule]:
    """Return rules together with those that stand a second time under their names: they would take their place."""
    names = {(rule.kind, rule.name.casefold()) for rule in rules}
    doubles = [rule for problem in effective.problems if problem.kind == "duplicate" for rule in problem.rules if (rule.kind, rule.name.casefold()) in names]
    return list({rule.origin: rule for rule in (*rules, *doubles)}.values())


def by_journal(change: FileChange, journal: Sequence[Record]) -> list[bytes | None]:
    """Return the earlier states of a file that the journal can prove, the oldest first.

    The walk goes back while the present bytes are what an operation left, and only through operations made for the ids that
    this plan removes.
    """
    states: list[bytes | None] = []
    present = change.draft.before
    ours = set(change.purposes)
    for record in reversed(journal):
        if key(record.path) != key(change.draft.file):
            continue
        if record.after != present or not set(record.mitigations) <= ours:
            break
        present = record.before
        states.insert(0, present)
    return states
