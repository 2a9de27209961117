# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Emergency Mitigation service of a lab server: one call is one hourly cycle (FACTS.md 2.1, 2.4, 4.4, 5).

What EM does with a rule of the same behaviour under another name is not documented; hence three variants.
EM's own id (in MitigationsApplied), the id in its rule names and the Config's id in the feed are three strings for one thing.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable
from typing import Any

from . import builds, em_log
from .document import M2_PATTERN
from .em_config import Element, Unusable, WebConfig
from .files import FileProblem
from .kernel import LabRefusal
from .organization import NAME

SERVICE = "MSExchangeMitigation"
PROVIDER = "MSExchange Mitigation Service"
APPLIED_EVENT, NOTHING_NEW_EVENT, ERROR_EVENT = 1005, 1006, 1008

#: skips: leaves the file alone when a rule of that behaviour is there under any name. adds: looks for its own name only.
#: replaces: removes rules of that behaviour under other names, then adds its own.
VARIANTS = ("skips", "adds", "replaces")

#: Documents released from here on cannot be read by builds before June 2026 (FACTS.md 3).
NEWER = datetime.datetime(2026, 7, 1, tzinfo=datetime.timezone.utc)


@dataclasses.dataclass(frozen=True)
class Rule:
    """A rewrite rule that EM makes, and how it recognises the behaviour."""

    config: str
    applied_as: str
    name: str
    section: str
    file: str
    lines: tuple[str, ...]
    same: Callable[[Element], bool]
    precondition: str = ""
    precondition_lines: tuple[str, ...] = ()


def _blocks_powershell(rule: Element) -> bool:
    actions = [child.attributes.get("type") for child in rule.named("action")]
    patterns = [node.attributes.get("pattern") for node in rule.walk() if node.name == "add"]
    return actions == ["AbortRequest"] and "(?=.*autodiscover)(?=.*powershell)" in patterns and rule.attributes.get("enabled", "true") == "true"


def _adds_policy(rule: Element) -> bool:
    variables = [child.attributes.get("serverVariable", "").lower() for child in rule.named("match")]
    values = [child.attributes.get("value") for child in rule.named("action")]
    enabled = rule.attributes.get("enabled", "true") == "true"
    return enabled and variables == ["response_content_security_policy"] and values == ["{R:1}; script-src-attr 'none'"]


M1 = Rule(
    "M1",
    "M1.1",
    "EEMS M1.1 PowerShell - inbound",
    "rewrite/rules",
    "%SystemDrive%\\inetpub\\wwwroot\\web.config",
    (
        '<rule name="EEMS M1.1 PowerShell - inbound" stopProcessing="true">',
        '    <match url=".*" />',
        "    <conditions>",
        '        <add input="{UrlDecode:{REQUEST_URI}}" pattern="(?=.*autodiscover)(?=.*powershell)" />',
        "    </conditions>",
        '    <action type="AbortRequest" />',
        "</rule>",
    ),
    _blocks_powershell,
)
M2 = Rule(
    "M2",
    "M2.1.0",
    "EEMS M2.1 OWA CSP - outbound",
    "rewrite/outboundRules",
    "%ExchangeInstallPath%FrontEnd\\HttpProxy\\owa\\web.config",
    (
        '<rule name="EEMS M2.1 OWA CSP - outbound" preCondition="EEMS M2.1 OWA SPA HTML shell - precondition"'
        ' patternSyntax="ECMAScript" stopProcessing="false">',
        '    <match serverVariable="RESPONSE_Content_Security_Policy" pattern="(.*)" />',
        '    <action type="Rewrite" value="{R:1}; script-src-attr \'none\'" />',
        "</rule>",
    ),
    _adds_policy,
    "EEMS M2.1 OWA SPA HTML shell - precondition",
    (
        '<preCondition name="EEMS M2.1 OWA SPA HTML shell - precondition" logicalGrouping="MatchAll" patternSyntax="ECMAScript">',
        '    <add input="{RESPONSE_CONTENT_TYPE}" pattern="^text/html" />',
        f'    <add input="{{REQUEST_URI}}" pattern="{M2_PATTERN}" />',
        "</preCondition>",
    ),
)
RULES = {"M1": M1, "M2": M2}


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """How this lab's EM behaves where nothing is documented.

    ``variant``: one of VARIANTS. ``blocking``: ``exact`` (a blocked id equals the Config's id or EM's own) or ``prefix`` (or is
    a dotted prefix of either). ``placement``: ``api`` (see em_config) or ``outside`` (always outside every location, as a
    text editor would: then IIS refuses the file when the section is also inside one).
    """

    variant: str = "skips"
    blocking: str = "exact"
    placement: str = "api"

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS or self.blocking not in ("exact", "prefix") or self.placement not in ("api", "outside"):
            raise LabRefusal(f"EM does not behave like {self}")


class EmergencyMitigation:
    """The EM service of one machine."""

    def __init__(self, machine: Any, fleet: Any, behaviour: Behaviour) -> None:
        self.machine = machine
        self.fleet = fleet
        self.behaviour = behaviour

    def cycle(self) -> list[str] | None:
        """Run one cycle; returns the ids that it reports as applied, or None where it did not get that far."""
        machine, organization = self.machine, self.fleet.organization
        build = builds.parse(machine.build)
        with machine.lock:
            if not builds.has_em(build) or not machine.services.running(SERVICE):
                return None
            settings = organization.settings(machine.name)
            published = self._fetch(build)
            if published is None:
                return None
            controller = organization.controller_of(machine.name)
            enabled = organization.settings(NAME, controller)["MitigationsEnabled"]
            if enabled is not True or settings["MitigationsEnabled"] is not True:
                return None
            applied = [done for config in published.configs if (done := self._apply(config.id, build, settings["MitigationsBlocked"] or [])) is not None]
            now = machine.now()
            organization.change(machine.name, {"MitigationsApplied": applied or None, "MitigationsAppliedTime": now}, controller)
            return applied

    def _fetch(self, build: builds.Version) -> Any:
        """Return the published document, or log why not. EM's own fetches are not counted as the controller's."""
        text = "An unexpected exception occurred. Diagnostic information: Exception encountered while fetching mitigations : "
        if not self.fleet.reaches_feed(self.machine):
            self._event(ERROR_EVENT, text + "The remote name could not be resolved: 'officeclient.microsoft.com'", "Error")
            return None
        published = self.fleet.feed.published
        if published.signed_at >= NEWER and not builds.reads_newer(build):
            self._event(ERROR_EVENT, text + "The configuration file cannot be used by this version of the service", "Error")
            return None
        return published

    def _apply(self, config: str, build: builds.Version, blocked: list[str]) -> str | None:
        """Handle one Config; returns the id for MitigationsApplied, or None."""
        rule = RULES.get(config)
        shown = rule.applied_as if rule else config
        if self._blocked((config, shown), blocked):
            self._event(NOTHING_NEW_EVENT, f"Mitigation {shown} is blocked by the administrator.")
            return None
        if config.startswith("PING"):
            return shown
        if rule is None or not builds.needs(config, build):
            return None
        try:
            if not self._rewrite_installed():
                raise Unusable("the URL Rewrite module is not installed")
            if self._ensure(rule):
                self._event(APPLIED_EVENT, f"Mitigation {shown} was applied.")
        except (Unusable, FileProblem) as problem:
            self._event(ERROR_EVENT, f"An unexpected exception occurred. Diagnostic information: Mitigation {shown} : {problem}", "Error")
            return None
        return shown

    def _blocked(self, ids: tuple[str, ...], blocked: list[str]) -> bool:
        for own in ids:
            for other in blocked:
                one, two = own.lower(), other.lower()
                if one == two or (self.behaviour.blocking == "prefix" and (one.startswith(two + ".") or two.startswith(one + "."))):
                    return True
        return False

    def _rewrite_installed(self) -> bool:
        files = self.machine.files
        text = files.read("%windir%\\System32\\inetsrv\\config\\applicationHost.config")
        return b"RewriteModule" in text and files.is_file("%windir%\\System32\\inetsrv\\rewrite.dll")

    def _ensure(self, rule: Rule) -> bool:
        """Make the rule be there; returns whether the file changed."""
        path = self._path(rule)
        files = self.machine.files
        before = files.read(path) if files.is_file(path) else b'<?xml version="1.0" encoding="UTF-8"?>\r\n<configuration>\r\n</configuration>'
        config = WebConfig(before)
        own = [element for element in config.rules(rule.section) if element.attributes.get("name") == rule.name]
        if self.behaviour.variant == "skips" and any(map(rule.same, config.rules(rule.section))):
            return False
        if self.behaviour.variant == "replaces":
            self._remove_others(config, rule)
            own = [element for element in config.rules(rule.section) if element.attributes.get("name") == rule.name]
        if not own:
            self._add(config, rule)
        if config.data == before:
            return False
        files.write(path, config.data)
        return True

    def _add(self, config: WebConfig, rule: Rule) -> None:
        outside = self.behaviour.placement == "outside"
        config.add(rule.section, list(rule.lines), outside)
        known = {element.attributes.get("name") for element in config.preconditions(rule.section)}
        if rule.precondition and rule.precondition not in known:
            config.add_precondition(rule.section, list(rule.precondition_lines))

    @staticmethod
    def _remove_others(config: WebConfig, rule: Rule) -> None:
        while True:
            others = [element for element in config.rules(rule.section) if rule.same(element) and element.attributes.get("name") != rule.name]
            if not others:
                return
            named = others[0].attributes.get("preCondition")
            config.remove(others[0])
            users = {element.attributes.get("preCondition") for element in config.rules(rule.section)}
            for element in config.preconditions(rule.section):
                if named and element.attributes.get("name") == named and named not in users:
                    config.remove(element)
                    break

    def _path(self, rule: Rule) -> str:
        return str(self.machine.files.expand(rule.file.replace("%ExchangeInstallPath%", self.machine.exchange_path)))

    def _event(self, number: int, message: str, level: str = "Information") -> None:
        self.machine.events.add(PROVIDER, number, message, level)
        em_log.write(self.machine, "FetchMitigation" if "fetching" in message else "ApplyMitigation", level, message)
