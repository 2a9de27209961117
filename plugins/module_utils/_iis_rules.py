# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Support: a rewrite rule as a value, and how the collections of a rewrite section take entries in.

Collection keys compare without case, ``<remove>`` of an unknown name is no error, a second entry of the same name answers
HTTP 500.19 (FACTS.md 2.4). Pure. Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sections import OUTBOUND, Setting
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sites import is_prefix, segments
from ansible_collections.exchange.mitigation.plugins.module_utils._xml_spans import Element

INBOUND_RULE = "inbound"
OUTBOUND_RULE = "outbound"
PRECONDITION = "precondition"
GLOBAL_RULE = "global"

_KNOWN = {"rule": frozenset({"rule", "clear", "remove"}), "preCondition": frozenset({"preCondition", "clear", "remove"})}
_BESIDE_RULES = frozenset({"preConditions", "customTags"})


@dataclasses.dataclass(frozen=True)
class Rule:
    """A rule or precondition and where it stands.

    ``attributes``, ``match``, ``conditions`` and ``action`` hold attributes as written (defaults not filled in). For a
    precondition ``conditions`` are its inputs. ``location`` is the path of the location tag, None outside any.
    ``level`` is the URL path whose configuration holds it; ``reach`` is ``application`` where child applications do not
    inherit it, else ``children``. ``span`` are the byte offsets of the element.
    """

    name: str
    kind: str
    attributes: Mapping[str, str]
    match: Mapping[str, str]
    conditions: tuple[Mapping[str, str], ...]
    grouping: str
    action: Mapping[str, str]
    file: str
    line: int
    span: tuple[int, int]
    location: str | None
    level: str
    reach: str

    @property
    def enabled(self) -> bool:
        """True unless switched off."""
        return self.attributes.get("enabled", "true").lower() != "false"

    @property
    def locked(self) -> bool:
        """True where files further down may not take it away."""
        return self.attributes.get("lockItem", "false").lower() == "true"

    def concerns(self, site: str, path: str) -> bool:
        """Say whether a rule of applicationHost.config is for a place of a site: outside any location tag it is for all of them."""
        place = segments(f"{site}{path}")
        return is_prefix(segments(self.location or ""), place)

    @property
    def origin(self) -> tuple[str, tuple[int, int]]:
        """The same element read twice (a shared folder) has the same origin."""
        return self.file.lower(), self.span

    def evidence(self) -> dict[str, object]:
        """Return where it stands, for a result."""
        return {"file": self.file, "line": self.line, "rule": self.name, "location": self.location}


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something in the configuration of a path. ``fatal`` ones make IIS answer 500.19 there.

    ``kind``: duplicate, locked, section_twice, section_split (at the top level and in a location tag), section_undeclared,
    unrecognized. ``rules`` are those concerned.
    """

    kind: str
    message: str
    file: str
    line: int
    fatal: bool
    rules: tuple[Rule, ...] = ()


class Collection:
    """The entries of one collection while the levels of a path are walked."""

    def __init__(self, tag: str, kind: str) -> None:
        self.tag = tag
        self.kind = kind
        self.entries: dict[str, Rule] = {}
        self.problems: list[Problem] = []
        self.dropped: list[tuple[Rule, str, int]] = []
        self.ranks: dict[str, int] = {}

    def take(self, container: Element, setting: Setting, file: str, level: str, reach: str, rank: int = 0) -> None:
        """Apply the children of a container in order. ``rank`` is the file's place in the order of files: a locked rule holds against later ones."""
        for child in container.children:
            name = child.attributes.get("name")
            if child.tag == "clear":
                self._drop(list(self.entries.values()), file, child.line, rank)
            elif child.tag == "remove" and name is not None:
                self._drop([rule for rule in self.entries.values() if rule.name.casefold() == name.casefold()], file, child.line, rank)
            elif child.tag == self.tag and name is not None:
                rule = rule_of(child, self.kind, setting, file, level, reach)
                if rule.name.casefold() not in self.entries:
                    self.ranks[rule.name.casefold()] = rank
                self._add(rule)
            elif child.tag in _KNOWN[self.tag] or (setting.section != OUTBOUND or self.tag != "rule" or child.tag not in _BESIDE_RULES):
                what = f"<{child.tag}> lacks its name" if child.tag in _KNOWN[self.tag] else f"<{child.tag}> is not an element of <{container.tag}>"
                self.problems.append(Problem("unrecognized", f"{file}, line {child.line}: {what}", file, child.line, True))

    def _drop(self, rules: list[Rule], file: str, line: int, rank: int) -> None:
        held = [rule for rule in rules if rule.locked and rank > self.ranks[rule.name.casefold()]]
        if held:
            message = f"{file}, line {line}: {held[0].name!r} is locked by {held[0].file}, line {held[0].line}"
            self.problems.append(Problem("locked", message, file, line, True, tuple(held)))
        for rule in rules:
            del self.entries[rule.name.casefold()]
            self.dropped.append((rule, file, line))

    def _add(self, rule: Rule) -> None:
        earlier = self.entries.get(rule.name.casefold())
        if earlier is None:
            self.entries[rule.name.casefold()] = rule
            return
        if earlier.origin == rule.origin:
            message = f"{rule.file}, line {rule.line}: {rule.name!r} is read twice, at {earlier.level} and at {rule.level}, which share this file"
        else:
            message = f"{rule.file}, line {rule.line}: {rule.name!r} stands a second time; the first is {earlier.file}, line {earlier.line}"
        self.problems.append(Problem("duplicate", message, rule.file, rule.line, True, (earlier, rule)))


def rule_of(element: Element, kind: str, setting: Setting, file: str, level: str, reach: str) -> Rule:
    """Return an element of a rewrite collection as a value."""
    if kind == PRECONDITION:
        holder: Element | None = element
    else:
        holder = element.first("conditions")
    match, action = element.first("match"), element.first("action")
    return Rule(
        name=element.attributes.get("name", ""),
        kind=kind,
        attributes=dict(element.attributes),
        match=dict(match.attributes) if match is not None else {},
        conditions=tuple(dict(e.attributes) for e in holder.all("add")) if holder is not None else (),
        grouping=holder.attributes.get("logicalGrouping", "MatchAll") if holder is not None else "MatchAll",
        action=dict(action.attributes) if action is not None else {},
        file=file,
        line=element.line,
        span=(element.start, element.end),
        location=setting.location_path,
        level=level,
        reach=reach,
    )
