# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Catalogue: the values that describe a mitigation: rules as behaviour, where they belong, which builds need them.

Pure. Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from ansible_collections.exchange.mitigation.plugins.module_utils._builds import RTM, Branch, Build, build_of, cumulative_update, product_of
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_config import Effective, Rule
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_edit import Xml
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sections import INBOUND, OUTBOUND

#: Where a rule stands in its file: at the top level, inherited by child applications, or inside the location block that they do not inherit.
ROOT = "root"
LOCATION = "location"

#: Patterns that match every URL.
_ANYTHING = frozenset({".*", "(.*)", "^.*$", "^(.*)$"})


def _is(attributes: Mapping[str, str], name: str, default: str, wanted: str) -> bool:
    return attributes.get(name, default).casefold() == wanted.casefold()


def _regular_expressions(rule: Rule) -> bool:
    return _is(rule.attributes, "patternSyntax", "ECMAScript", "ECMAScript")


@dataclasses.dataclass(frozen=True)
class InboundRule:
    """A rule that ends a request whose ``input`` fits ``pattern``, and every pair of ``also`` too.

    ``status`` is what it answers, None to drop the connection.
    """

    name: str
    input: str
    pattern: str
    section: str = INBOUND
    also: tuple[tuple[str, str], ...] = ()
    status: int | None = None

    def elements(self) -> tuple[Xml, Xml | None]:
        """Return the rule as XML; an inbound rule has no precondition."""
        pairs = ((self.input, self.pattern), *self.also)
        conditions = tuple(Xml("add", (("input", source), ("pattern", pattern))) for source, pattern in pairs)
        action: tuple[tuple[str, str], ...] = (("type", "AbortRequest"),)
        if self.status is not None:
            action = (("type", "CustomResponse"), ("statusCode", str(self.status)), ("statusReason", "Blocked"), ("statusDescription", "Blocked"))
        return (
            Xml(
                "rule",
                (("name", self.name), ("stopProcessing", "true")),
                (Xml("match", (("url", ".*"),)), Xml("conditions", (), conditions), Xml("action", action)),
            ),
            None,
        )

    def candidates(self, effective: Effective) -> tuple[Rule, ...]:
        """Return the rules of the kind this one is."""
        return effective.inbound

    def same_behaviour(self, rule: Rule, effective: Effective) -> bool:
        """Say whether a rule does the same, whatever its name, enabled or not: HealthChecker's test (FACTS.md 2.2)."""
        if not _regular_expressions(rule) or rule.match.get("url") not in _ANYTHING or not _is(rule.match, "negate", "false", "false"):
            return False
        if rule.action.get("type", "None") not in ("AbortRequest", "CustomResponse"):
            return False
        if not _is(rule.attributes, "stopProcessing", "false", "true") and len(effective.inbound) > 1:
            return False
        if self.status is not None and (rule.action.get("type"), rule.action.get("statusCode")) != ("CustomResponse", str(self.status)):
            return False
        wanted = {(self.input, self.pattern), *self.also}
        if self.also:
            same = rule.grouping == "MatchAll" and len(rule.conditions) == len(wanted)
            return same and all(any(self._same_condition(condition, pair) for condition in rule.conditions) for pair in wanted)
        if rule.grouping == "MatchAll" and len(rule.conditions) != 1:
            return False
        return any(self._same_condition(condition, (self.input, self.pattern)) for condition in rule.conditions)

    @staticmethod
    def _same_condition(condition: Mapping[str, str], wanted: tuple[str, str]) -> bool:
        return (
            (condition.get("input"), condition.get("pattern")) == wanted
            and _is(condition, "matchType", "Pattern", "Pattern")
            and _is(condition, "ignoreCase", "true", "true")
            and _is(condition, "negate", "false", "false")
        )


@dataclasses.dataclass(frozen=True)
class OutboundRule:
    """A rule that rewrites a response header where its precondition holds. ``inputs`` are pairs of input and pattern."""

    name: str
    server_variable: str
    value: str
    precondition: str
    inputs: tuple[tuple[str, str], ...]
    section: str = OUTBOUND

    def elements(self) -> tuple[Xml, Xml | None]:
        """Return the rule and its precondition as XML."""
        rule = Xml(
            "rule",
            (("name", self.name), ("preCondition", self.precondition), ("patternSyntax", "ECMAScript"), ("stopProcessing", "false")),
            (
                Xml("match", (("serverVariable", self.server_variable), ("pattern", "(.*)"))),
                Xml("action", (("type", "Rewrite"), ("value", self.value))),
            ),
        )
        precondition = Xml(
            "preCondition",
            (("name", self.precondition), ("logicalGrouping", "MatchAll"), ("patternSyntax", "ECMAScript")),
            tuple(Xml("add", (("input", source), ("pattern", pattern))) for source, pattern in self.inputs),
        )
        return rule, precondition

    def candidates(self, effective: Effective) -> tuple[Rule, ...]:
        """Return the rules of the kind this one is."""
        return effective.outbound

    def same_behaviour(self, rule: Rule, effective: Effective) -> bool:
        """Say whether a rule does the same, whatever its name, enabled or not: server variable, action, precondition (FACTS.md 2.4)."""
        if not _regular_expressions(rule) or rule.conditions or "filterByTags" in rule.match or "customTags" in rule.match:
            return False
        if (
            not _is(rule.match, "serverVariable", "", self.server_variable)
            or rule.match.get("pattern") != "(.*)"
            or not _is(rule.match, "negate", "false", "false")
        ):
            return False
        if rule.action.get("type", "None") != "Rewrite" or rule.action.get("value") != self.value or not _is(rule.action, "replace", "true", "true"):
            return False
        precondition = precondition_of(rule, effective)
        if precondition is None or not _regular_expressions(precondition) or not _is(precondition.attributes, "logicalGrouping", "MatchAll", "MatchAll"):
            return False
        plain = all(_is(c, "negate", "false", "false") and _is(c, "ignoreCase", "true", "true") for c in precondition.conditions)
        return plain and sorted((c.get("input", ""), c.get("pattern", "")) for c in precondition.conditions) == sorted(self.inputs)


def precondition_of(rule: Rule, effective: Effective) -> Rule | None:
    """Return the precondition that an outbound rule names, where it is in force."""
    wanted = rule.attributes.get("preCondition", "").casefold()
    return next((p for p in effective.preconditions if p.name.casefold() == wanted), None) if wanted else None


@dataclasses.dataclass(frozen=True)
class Revision:
    """An earlier form of a rule that somebody published, and why it does not suffice."""

    rule: InboundRule | OutboundRule
    weakness: str


@dataclasses.dataclass(frozen=True)
class RewriteAction:
    """Rules on one path of a site. ``create_file``: the path may have no web.config yet. ``first``: before other rules."""

    site: str
    path: str
    place: str
    rules: tuple[InboundRule | OutboundRule, ...]
    create_file: bool = False
    first: bool = False
    earlier: tuple[Revision, ...] = ()


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Which builds of one product need a mitigation: by cumulative update the highest build it applies to and the build that fixes the code.

    ``branches`` maps the first three numbers of a build to (highest applicable, code fix).
    """

    lowest: Build
    branches: Mapping[Branch, tuple[Build, Build]]

    def needed(self, build: Build) -> bool:
        """Say whether a build needs it. A branch that never got the fix needs it, a branch newer than all that did brings it along."""
        if build < self.lowest:
            return False
        if build[:3] in self.branches:
            highest, fix = self.branches[build[:3]]
            return build <= highest or build < fix
        return build[:3] < max(self.branches)

    def highest_applicable(self) -> dict[str, Build]:
        """Return the highest builds it applies to, by cumulative update."""
        return {cumulative_update(highest) or "": highest for highest, dummy in self.branches.values()}

    def code_fix(self, build: Build) -> Build | None:
        """Return the build of the same cumulative update that fixes the code, None where there is none."""
        return self.branches[build[:3]][1] if build[:3] in self.branches else None


@dataclasses.dataclass(frozen=True)
class SideEffect:
    """What a mitigation is known to damage while it is in force."""

    text: str
    paths: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Names:
    """The names under which a mitigation's rules are made: EM's as a pattern, EOMT's and ours as they are."""

    em: str
    eomt: tuple[str, ...]
    us: tuple[str, ...]

    def maker(self, name: str) -> str:
        """Return em, eomt, us or other for a rule's name."""
        folded = name.casefold()
        if folded in (n.casefold() for n in self.us):
            return "us"
        if re.match(self.em, name, re.IGNORECASE):
            return "em"
        return "eomt" if folded in (n.casefold() for n in self.eomt) else "other"


@dataclasses.dataclass(frozen=True)
class Mitigation:
    """One mitigation. ``pattern`` matches the ids it goes by in a feed, ``applicability`` is by product; a product that it lacks never needs it."""

    id: str
    pattern: str
    cve: str | None
    title: str
    actions: tuple[RewriteAction, ...]
    applicability: Mapping[str, Bounds]
    side_effects: tuple[SideEffect, ...]
    names: Names
    kind: str = "rewrite"

    def matches(self, identifier: str) -> bool:
        """Say whether an id of a feed means this mitigation: ``M1``, ``M1.1``, never ``M10`` or ``M01``."""
        return re.fullmatch(self.pattern, identifier, re.ASCII) is not None

    def needed(self, build: Build | None) -> str:
        """Return ``yes``, ``no`` or ``unknown`` for a build."""
        product = product_of(build)
        if build is None or product is None:
            return "unknown"
        bounds = self.applicability.get(product)
        return "yes" if bounds is not None and bounds.needed(build) else "no"


def bounds(product: str, highest: str, code_fix: str) -> Bounds:
    """Return the bounds of a product from the names of two updates, such as ``Oct22SU`` and ``Nov22SU``."""
    last, fix = build_of(product, highest), build_of(product, code_fix)
    return Bounds(RTM[product], {build[:3]: (build, fix[name]) for name, build in last.items()})
