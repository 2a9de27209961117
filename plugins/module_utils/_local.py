# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage 3 for the trust domain ``local``: the organisation's own mitigations, actions inline, in a closed profile (DESIGN.md 4).

The envelope is Microsoft's; what stands inside a Config is read strictly: an element, attribute or value that the profile
lacks refuses the whole document, each with its own reason. Pure. Note that this module util is private to the collection.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils import _local_profile as profile
from ansible_collections.exchange.mitigation.plugins.module_utils import _parse
from ansible_collections.exchange.mitigation.plugins.module_utils._builds import PRODUCTS, RTM, Branch, Build, parse_build, product_of
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sites import DEFAULT_SITE
from ansible_collections.exchange.mitigation.plugins.module_utils._mitigations._values import (
    LOCATION,
    ROOT,
    Bounds,
    InboundRule,
    Mitigation,
    Names,
    OutboundRule,
    PoolAction,
    RewriteAction,
    ServiceAction,
    SideEffect,
)
from ansible_collections.exchange.mitigation.plugins.module_utils._reasons import shown, unproven

LOCAL = _parse.LOCAL
_RULE_NAME = re.compile(rf"exchange\.mitigation ({profile.IDENTIFIER.pattern}) - (?:inbound|outbound|precondition)(?: [2-9])?", re.ASCII | re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class LocalBounds(Bounds):
    """Which builds of a product need a local mitigation: all below the fix of their cumulative update, all where no fix is named.

    ``branches`` maps the first three numbers of a build to (fix, fix): what the document says has no highest applicable build.
    """

    def needed(self, build: Build) -> bool:
        """Say whether a build needs it. A branch without a named fix needs it, a branch newer than all named ones has it."""
        if build[:3] in self.branches:
            return build < self.branches[build[:3]][1]
        return not self.branches or build[:3] < max(self.branches)

    def highest_applicable(self) -> dict[str, Build]:
        """Return nothing: only the fix is named."""
        return {}


@dataclasses.dataclass(frozen=True)
class LocalMitigation:
    """A Config of a local document. ``rules`` are its rewrite actions, in the order of the document."""

    id: str
    description: str
    cve: str | None
    applicability: Mapping[str, Bounds]
    side_effects: tuple[str, ...]
    rules: tuple[RewriteAction, ...]
    services: tuple[ServiceAction, ...]
    pools: tuple[PoolAction, ...]

    @property
    def kind(self) -> str:
        """The kind of its actions as a verdict names it; ``mixed`` for several."""
        kinds = [name for name, found in (("rewrite", self.rules), ("service", self.services), ("app_pool", self.pools)) if found]
        return kinds[0] if len(kinds) == 1 else "mixed"

    def definition(self) -> Mitigation:
        """Return it as a value of the catalogue."""
        return Mitigation(
            id=self.id,
            pattern=profile.escape(self.id),
            cve=self.cve,
            title=self.description,
            actions=(*self.rules, *self.services, *self.pools),
            applicability=self.applicability,
            side_effects=tuple(map(SideEffect, self.side_effects)),
            names=Names(em=profile.NEVER, eomt=(), us=rule_names(self.id)),
            kind=self.kind,
            published=False,
        )


@dataclasses.dataclass(frozen=True)
class LocalDocument(_parse.Document):
    """A document of the trust domain ``local``: the envelope, and what it means."""

    mitigations: tuple[LocalMitigation, ...] = ()

    @property
    def definitions(self) -> tuple[Mitigation, ...]:
        """Return what the planner can carry out."""
        return tuple(mitigation.definition() for mitigation in self.mitigations)


def rule_name(identifier: str, kind: str, number: int = 1) -> str:
    """Return the name of a rule in the IIS configuration; ``kind`` is inbound, outbound or precondition."""
    return f"exchange.mitigation {identifier} - {kind}" + (f" {number}" if number > 1 else "")


def rule_names(identifier: str) -> tuple[str, ...]:
    """Return every name that a rule of this id can have, so that rules of an earlier form of the document are known as ours."""
    kinds = ("inbound", "outbound", "precondition")
    return tuple(rule_name(identifier, kind, number) for kind in kinds for number in range(1, profile.MAX_ACTIONS + 1))


def named_in(rule: str) -> str | None:
    """Return the id of the local mitigation that a rule was made for, None for rules of other names."""
    found = _RULE_NAME.fullmatch(rule)
    return found[1] if found else None


def parse(root: Any, domain: str) -> _parse.Document:
    """Return the document of either trust domain; a LocalDocument in ``local``. Raises VerifyError."""
    document = _parse.parse(root, domain)
    if domain != LOCAL:
        return document
    read = tuple(_Reader(element, config).mitigation() for element, config in zip(root.iterchildren("Config"), document.configs, strict=True))
    extra = set(root.attrib) - {"version"}
    if extra:
        raise unproven("local_structure", f"EOCS has the attribute {shown(min(extra), 40)}, which the profile lacks.")
    return LocalDocument(document.version, document.configs, read)


def _nameless(rule: InboundRule | OutboundRule) -> InboundRule | OutboundRule:
    if isinstance(rule, InboundRule):
        return dataclasses.replace(rule, name="")
    return dataclasses.replace(rule, name="", precondition="")


class _Reader:
    """Reads one Config; every refusal names its id."""

    def __init__(self, element: Any, config: _parse.Config) -> None:
        self.element = element
        self.id = config.id
        self.description = config.description
        self.counts = {"inbound": 0, "outbound": 0}
        self.rules: list[RewriteAction] = []
        self.services: list[ServiceAction] = []
        self.pools: list[PoolAction] = []

    def refuse(self, code: str, message: str) -> Exception:
        """Return the refusal."""
        return unproven(code, f"{self.id}: {message}")

    def mitigation(self) -> LocalMitigation:
        """Return the Config as a value; raises VerifyError."""
        if not profile.IDENTIFIER.fullmatch(self.id):
            raise self.refuse("config_id_malformed", "an id of a local document is LOCAL- and then letters, digits, hyphens and dots, each between others.")
        self._shape(self.element, {"id", "desc"}, {"cve"}, {"Applies", "SideEffect", "ActionList"})
        self._text(self.description, "the description")
        cve = self.element.get("cve")
        if cve is not None and not profile.CVE.fullmatch(cve):
            raise self.refuse("local_value", f"{shown(cve, 40)} is not a CVE number.")
        lists = self.element.findall("ActionList")
        effects = self.element.findall("SideEffect")
        applicability = self._applies(self.element.findall("Applies"))
        if len(lists) != 1 or self._children(self.element)[-1] is not lists[0] or len(effects) > profile.MAX_SIDE_EFFECTS:
            raise self.refuse("local_structure", f"a Config ends with one ActionList and has at most {profile.MAX_SIDE_EFFECTS} of SideEffect before it.")
        for effect in effects:
            self._shape(effect, {"desc"})
            self._text(effect.get("desc"), "a side effect")
        self._shape(lists[0], set(), set(), {"Action"})
        actions = self._children(lists[0])
        if not 1 <= len(actions) <= profile.MAX_ACTIONS:
            raise self.refuse("local_structure", f"an ActionList holds 1 to {profile.MAX_ACTIONS} of Action, not {len(actions)}.")
        for action in actions:
            self._action(action)
        return LocalMitigation(
            self.id,
            self.description,
            cve,
            applicability,
            tuple(effect.get("desc") for effect in effects),
            tuple(self.rules),
            tuple(self.services),
            tuple(self.pools),
        )

    # Structure

    @staticmethod
    def _children(element: Any) -> list[Any]:
        return [child for child in element if isinstance(child.tag, str)]

    def _shape(self, element: Any, required: set[str], optional: Iterable[str] = (), children: Iterable[str] = ()) -> None:
        """Hold an element against its attributes and the names of its children; there is no text anywhere."""
        where = f"{element.tag} in line {element.sourceline}"
        missing = sorted(required - set(element.attrib))
        unknown = sorted(set(element.attrib) - required - set(optional))
        if missing or unknown:
            what = f"lacks the attribute {missing[0]}" if missing else f"has the attribute {shown(unknown[0], 40)}, which the profile lacks"
            raise self.refuse("local_structure", f"{where} {what}.")
        allowed = set(children)
        for child in self._children(element):
            if child.tag not in allowed:
                raise self.refuse("local_structure", f"{where} holds {shown(child.tag, 40)}, which has no place there.")
        if "".join([element.text or "", *(child.tail or "" for child in element)]).strip(" \t\r\n"):
            raise self.refuse("local_structure", f"{where} holds text.")

    def _text(self, text: str, what: str) -> None:
        if not text.strip() or len(text) > profile.MAX_TEXT or not text.isprintable():
            raise self.refuse("local_value", f"{what} is empty, longer than {profile.MAX_TEXT} characters, or not one printable line.")

    # Which builds

    def _applies(self, elements: Iterable[Any]) -> dict[str, Bounds]:
        """Return the bounds by product; without any Applies every product needs it."""
        found: dict[str, Bounds] = {}
        for element in elements:
            self._shape(element, {"product"}, {"fixed"})
            product = element.get("product")
            if product not in PRODUCTS or product in found:
                raise self.refuse("local_applies", f"{shown(product, 40)} is named twice or is none of {', '.join(PRODUCTS)}.")
            branches: dict[Branch, tuple[Build, Build]] = {}
            for text in element.get("fixed", "").split():
                build = self._build(text)
                if product_of(build) != product or build[:3] in branches:
                    raise self.refuse("local_applies", f"the build {text} is not of {product}, or its cumulative update is named twice.")
                branches[build[:3]] = (build, build)
            found[product] = LocalBounds(RTM[product], branches)
        return found or {product: LocalBounds(RTM[product], {}) for product in PRODUCTS}

    def _build(self, text: str) -> Build:
        try:
            if profile.BUILD.fullmatch(text):
                return parse_build(text)
        except InvalidInput:
            pass
        raise self.refuse("local_applies", f"{shown(text, 40)} is not a build such as 15.2.1748.46.")

    # Actions

    def _action(self, element: Any) -> None:
        kind = element.get("type")
        readers: Mapping[str, Callable[[Any], None]] = {
            profile.INBOUND: self._inbound,
            profile.OUTBOUND: self._outbound,
            profile.SERVICE: self._service,
            profile.POOL: self._pool,
        }
        if kind not in readers:
            raise self.refuse("local_action", f"{shown(kind, 40)} is none of the action types {', '.join(readers)}.")
        if element.get("scope") != "Server":
            raise self.refuse("local_action", "the scope of an action is Server.")
        self._text(element.get("desc") or "", "the description of an action")
        readers[kind](element)

    def _rewrite(self, element: Any, kind: str, own: set[str]) -> tuple[tuple[str, str], tuple[tuple[str, str], ...]]:
        """Return place (site and path) and conditions of a rewrite action."""
        self._shape(element, {"type", "scope", "desc", "path"} | own, {"site"}, {"When"})
        site, path = element.get("site", DEFAULT_SITE), element.get("path")
        if site not in profile.SITES:
            raise self.refuse("local_path", f"{shown(site, 60)} is none of the sites {', '.join(profile.SITES)}.")
        if path not in profile.SITES[site]:
            raise self.refuse("local_path", f"{shown(path, 60)} is none of the paths {', '.join(profile.SITES[site])} of the site {site}.")
        whens = self._children(element)
        if not 1 <= len(whens) <= profile.MAX_CONDITIONS:
            raise self.refuse("local_structure", f"a rewrite action holds 1 to {profile.MAX_CONDITIONS} of When, not {len(whens)}.")
        conditions = []
        for when in whens:
            self._shape(when, {"input", "pattern"})
            source, pattern = when.get("input"), when.get("pattern")
            if not profile.is_input(source, kind == "outbound"):
                raise self.refuse("local_input", f"{profile.quoted(source)} is not an input that the profile has.")
            problem = profile.pattern_problem(pattern)
            if problem:
                raise self.refuse("local_pattern", f"the pattern {profile.quoted(pattern)} {problem}.")
            conditions.append((source, pattern))
        if len(set(conditions)) != len(conditions):
            raise self.refuse("local_structure", "a rewrite action has the same When twice.")
        return (site, path), tuple(conditions)

    def _add(self, at: tuple[str, str], rule: InboundRule | OutboundRule) -> None:
        if (at, _nameless(rule)) in [((known.site, known.path), _nameless(known.rules[0])) for known in self.rules]:
            raise self.refuse("local_structure", "the same rewrite action stands there twice.")
        # At the root a rule is inherited by every application. Below it is not: /owa/Calendar shares /owa's folder and would
        # read it twice (FACTS.md 2.4).
        site, path = at
        place = ROOT if path == "/" else LOCATION
        inbound = isinstance(rule, InboundRule)
        self.rules.append(RewriteAction(site, path, place, (rule,), create_file=path == "/", first=inbound))

    def _inbound(self, element: Any) -> None:
        at, conditions = self._rewrite(element, "inbound", {"answer"})
        answer = element.get("answer")
        if answer not in profile.ANSWERS:
            raise self.refuse("local_answer", f"{shown(answer, 40)} is none of the answers {', '.join(profile.ANSWERS)}.")
        self.counts["inbound"] += 1
        (source, pattern), more = conditions[0], conditions[1:]
        status = None if answer == profile.ABORT else int(answer)
        self._add(at, InboundRule(rule_name(self.id, "inbound", self.counts["inbound"]), source, pattern, also=more, status=status))

    def _outbound(self, element: Any) -> None:
        at, conditions = self._rewrite(element, "outbound", {"header", "value"})
        header, value = element.get("header"), element.get("value")
        if header not in profile.HEADERS:
            raise self.refuse("local_header", f"{shown(header, 60)} is none of the response headers {', '.join(profile.HEADERS)}.")
        if not profile.is_header_value(value):
            raise self.refuse("local_value", f"the value of {header} is not printable ASCII, or has braces other than those around R:0, the value from before.")
        self.counts["outbound"] += 1
        number = self.counts["outbound"]
        variable = "RESPONSE_" + header.replace("-", "_")
        names = rule_name(self.id, "outbound", number), rule_name(self.id, "precondition", number)
        self._add(at, OutboundRule(names[0], variable, value.replace("{R:0}", "{R:1}"), names[1], conditions))

    def _service(self, element: Any) -> None:
        self._shape(element, {"type", "scope", "desc", "service", "stop", "disable"})
        name, stop, disable = element.get("service"), element.get("stop"), element.get("disable")
        if name not in profile.SERVICES:
            raise self.refuse("local_service", f"{shown(name, 60)} is none of the services that a local document may stop. {profile.never(name)}".rstrip())
        if {stop, disable} - {"true", "false"} or "true" not in (stop, disable):
            raise self.refuse("local_value", "stop and disable are true or false, and one of them is true.")
        if any(name in action.names for action in self.services):
            raise self.refuse("local_structure", f"the service {name} stands there twice.")
        self.services.append(ServiceAction((name,), stop == "true", disable == "true"))

    def _pool(self, element: Any) -> None:
        self._shape(element, {"type", "scope", "desc", "pool"})
        name = element.get("pool")
        if name not in profile.POOLS:
            raise self.refuse("local_pool", f"{shown(name, 60)} is none of the application pools that a local document may stop.")
        if PoolAction(name) in self.pools:
            raise self.refuse("local_structure", f"the application pool {name} stands there twice.")
        self.pools.append(PoolAction(name))
