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
from typing import NamedTuple, Union

from ansible_collections.exchange.mitigation.plugins.module_utils._builds import RTM, Branch, Build, build_of, cumulative_update, product_of
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_config import Effective, Rule
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_edit import Xml
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sections import INBOUND, OUTBOUND
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sites import DEFAULT_SITE

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

    ``must_stop``: a rule of the same kind without stopProcessing counts only where it is the only one, as HealthChecker has it.
    ``status`` is what it answers, None to drop the connection.
    """

    name: str
    input: str
    pattern: str
    section: str = INBOUND
    must_stop: bool = True
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
        """Return the rules of the kind this one is, the server-wide ones first, as IIS takes them."""
        return effective.server_wide + effective.inbound

    def same_behaviour(self, rule: Rule, effective: Effective) -> bool:
        """Say whether a rule does the same, whatever its name, enabled or not: HealthChecker's test (FACTS.md 2.2)."""
        if not _regular_expressions(rule) or rule.match.get("url") not in _ANYTHING or not _is(rule.match, "negate", "false", "false"):
            return False
        if rule.action.get("type", "None") not in ("AbortRequest", "CustomResponse"):
            return False
        stops = _is(rule.attributes, "stopProcessing", "false", "true")
        if self.must_stop and not stops and len(self.candidates(effective)) > 1:
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


def shadowing(rule: Rule, effective: Effective) -> tuple[tuple[Rule, bool], ...]:
    """Return the rules before an inbound one that can let a request pass it by, each with whether it does so for every request.

    Such a rule stops the processing of rules without ending the request (action None or Rewrite).
    """
    before = effective.server_wide + effective.inbound
    before = before[: before.index(rule)] if rule in before else ()
    found = []
    for other in before:
        passes = other.action.get("type", "None") in ("None", "Rewrite") and _is(other.attributes, "stopProcessing", "false", "true")
        if other.enabled and passes and rule.kind in ("inbound", "global"):
            everything = other.match.get("url") in _ANYTHING and _is(other.match, "negate", "false", "false") and not other.conditions
            found.append((other, everything and _regular_expressions(other)))
    return tuple(found)


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

    def on(self, front_end: str | None) -> str:
        """Return the site: ``front_end``, where given, stands in for Microsoft's name of it."""
        return front_end if front_end and self.site == DEFAULT_SITE else self.site


class ServiceState(NamedTuple):
    """A Windows service as Win32_Service shows it: ``state`` Running, Stopped...; ``start_mode`` Auto, Manual, Disabled."""

    state: str
    start_mode: str


class PoolState(NamedTuple):
    """An application pool: ``state`` Started, Stopped...; ``auto_start`` is its autoStart."""

    state: str
    auto_start: bool


#: What a service or pool is set back to where nothing says how it was: as Exchange's setup leaves it.
SERVICE_DEFAULT = ServiceState("Running", "Auto")
POOL_DEFAULT = PoolState("Started", True)


@dataclasses.dataclass(frozen=True)
class ServiceAction:
    """Windows services that are stopped and, with ``disable``, kept from starting."""

    names: tuple[str, ...]
    stop: bool = True
    disable: bool = True

    def after(self, before: ServiceState) -> ServiceState:
        """Return what a service is once the action is in force."""
        return ServiceState("Stopped" if self.stop else before.state, "Disabled" if self.disable else before.start_mode)


@dataclasses.dataclass(frozen=True)
class PoolAction:
    """An application pool that is stopped and, with ``auto_start`` False, not started by IIS again."""

    name: str
    stop: bool = True
    auto_start: bool = False

    def after(self, before: PoolState) -> PoolState:
        """Return what the pool is once the action is in force."""
        return PoolState("Stopped" if self.stop else before.state, before.auto_start and self.auto_start)


Action = Union[RewriteAction, ServiceAction, PoolAction]  # noqa: UP007  # ansible-test's pylint does not know the other form for classes


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

    def fixed(self, build: Build) -> bool:
        """Say whether a build is above the highest that it applies to: it was needed before, and is not any more."""
        return build >= self.lowest and not self.needed(build)

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
    """The names under which a mitigation's rules are made: EM's as a pattern, EOMT's and ours as they are.

    ``eomt`` stands for Microsoft's scripts: EOMT, EOMTv2, ExchangeMitigations.ps1. A mitigation without rules has NO_NAMES.
    """

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


NO_NAMES = Names(em=r"(?!)", eomt=(), us=())


@dataclasses.dataclass(frozen=True)
class Mitigation:
    """One mitigation. ``pattern`` matches the ids it goes by, ``applicability`` is by product; a product that it lacks never needs it.

    ``kind`` is rewrite, service or app_pool. ``published`` False: EM never had it, so it is for those who name it, and no id of a
    feed means it.
    """

    id: str
    pattern: str
    cve: str | None
    title: str
    actions: tuple[Action, ...]
    applicability: Mapping[str, Bounds]
    side_effects: tuple[SideEffect, ...]
    names: Names
    kind: str = "rewrite"
    published: bool = True

    @property
    def rewrites(self) -> tuple[RewriteAction, ...]:
        """The actions that are rewrite rules."""
        return tuple(action for action in self.actions if isinstance(action, RewriteAction))

    @property
    def services(self) -> tuple[ServiceAction, ...]:
        """The actions on Windows services."""
        return tuple(action for action in self.actions if isinstance(action, ServiceAction))

    @property
    def pools(self) -> tuple[PoolAction, ...]:
        """The actions on application pools."""
        return tuple(action for action in self.actions if isinstance(action, PoolAction))

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

    def fixed(self, build: Build) -> bool:
        """Say whether a build is above every build that needs it: by its product's bounds, or as a later product."""
        bounds = self.applicability.get(product_of(build) or "")
        if bounds is not None:
            return bounds.fixed(build)
        return bool(self.applicability) and build > max(fix for b in self.applicability.values() for dummy, fix in b.branches.values())


def bounds(product: str, highest: str, code_fix: str) -> Bounds:
    """Return the bounds of a product from the names of two updates, such as ``Oct22SU`` and ``Nov22SU``."""
    last, fix = build_of(product, highest), build_of(product, code_fix)
    return Bounds(RTM[product], {build[:3]: (build, fix[name]) for name, build in last.items()})


def bounds_below(product: str, fixes: Mapping[Branch, Build]) -> Bounds:
    """Return the bounds of a product that needs a mitigation below a fix of each cumulative update; the number before it is the last that does."""
    return Bounds(RTM[product], {branch: ((*branch, fix[3] - 1), fix) for branch, fix in fixes.items()})
