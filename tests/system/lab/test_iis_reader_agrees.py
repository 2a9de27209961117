# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's reader and the lab's IIS are two implementations of the same rules: they have to agree on every path.

Generated servers, one for each seed; ``EXCHANGE_MITIGATION_CASES`` says how many.
"""

from __future__ import annotations

import os
import pathlib

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConfigurationError
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_config import Configuration, Rule
from ansible_collections.exchange.mitigation.plugins.module_utils._plan import Request, ServerFacts, plan
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils import iis_samples as samples
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.iis_generated import Generated, generate

from lab.iis_config import IisConfiguration, Site
from lab.iis_merge import Entry
from lab.iis_xml import ConfigError
from lab.machine import Machine

CASES = int(os.environ.get("EXCHANGE_MITIGATION_CASES", "60"))
Shown = tuple[str, tuple[tuple[str, str], ...], tuple[tuple[str, str], ...], tuple[str, int]]


def _rule(rule: Rule) -> Shown:
    attributes = {name: value for name, value in rule.attributes.items() if not name.startswith("lock")}
    return (rule.name, tuple(sorted(attributes.items())), tuple(sorted(rule.action.items())), (rule.file.lower(), rule.line))


def _entry(entry: Entry) -> Shown:
    assert entry.source is not None
    action = tuple(sorted(entry.children["action"].attributes.items())) if "action" in entry.children else ()
    return (entry.get("name"), tuple(sorted(entry.attributes.items())), action, (entry.source.file.lower(), entry.line))


def by_reader(configuration: Configuration, path: str, outbound: bool) -> list[Shown] | str:
    """Return the rules that the collection sees on a path, or ``broken``."""
    try:
        effective = configuration.effective_rewrite(samples.SITE, path)
    except ConfigurationError:
        return "broken"
    kinds = {"outbound", "precondition"} if outbound else {"inbound"}
    if any(p.fatal and (_section(p.message, outbound) if not p.rules else p.rules[0].kind in kinds) for p in effective.problems):
        return "broken"
    return [_rule(rule) for rule in (effective.outbound + effective.preconditions if outbound else effective.inbound)]


def _section(message: str, outbound: bool) -> bool:
    """Say whether a problem without rules is about the section."""
    return ("outboundRules" in message) == outbound


def by_lab(configuration: IisConfiguration, site: Site, path: str, outbound: bool) -> list[Shown] | str:
    """Return the rules that the lab's IIS has on a path, or ``broken``."""
    try:
        section = configuration.section(f"system.webServer/rewrite/{'outboundRules' if outbound else 'rules'}", site, path)
    except ConfigError:
        return "broken"
    return [_entry(item) for item in [*section.items, *(section.child("preConditions").items if outbound else [])]]


def lab_of(server: Generated, directory: pathlib.Path) -> IisConfiguration:
    """Write a server's files into a lab machine."""
    machine = Machine(directory)
    for path, data in {samples.HOST_PATH: server.application_host, **server.files}.items():
        machine.files.make_folder(path.rpartition("\\")[0])
        machine.files.write(path, data)
    return machine.iis.configuration


@pytest.mark.parametrize("seed", range(CASES))
def test_the_same_rules_on_every_path(seed: int, tmp_path: pathlib.Path) -> None:
    server = generate(seed)
    mine, theirs = server.configuration(), lab_of(server, tmp_path)
    site = theirs.site(samples.SITE)
    for path in server.paths:
        for outbound in (False, True):
            assert by_reader(mine, path, outbound) == by_lab(theirs, site, path, outbound), (seed, path, outbound)


@pytest.mark.parametrize("seed", range(CASES))
def test_the_same_rules_after_a_plan(seed: int, tmp_path: pathlib.Path) -> None:
    """What the plan says of its result on paper is what the lab's IIS makes of the written bytes."""
    server = generate(seed, broken=False)
    mine, theirs = server.configuration(), lab_of(server, tmp_path)
    ask = Request(("M1", "M2", "CVE-2021-26855"), on_conflict="replace", include_foreign=bool(seed % 2))
    edits = plan(ask, mine, ServerFacts(build=(15, 1, 2176, 2), blocked=(), rewrite_dll=True)).edits
    machine = Machine(tmp_path)
    for one in edits:
        assert one.after is not None
        machine.files.make_folder(one.path.rpartition("\\")[0])
        machine.files.write(one.path, one.after)
        mine = mine.with_file(one.path, one.after)
    site = theirs.site(samples.SITE)
    for path in server.paths if edits else ():
        for outbound in (False, True):
            assert by_reader(mine, path, outbound) == by_lab(theirs, site, path, outbound), (seed, path, outbound)
    for check in {check for one in edits for check in one.checks}:
        assert check.pspath.startswith(f"MACHINE/WEBROOT/APPHOST/{samples.SITE}")


def test_the_generated_servers_are_worth_comparing() -> None:
    seen = [by_reader(server.configuration(), path, outbound) for server in map(generate, range(60)) for path in server.paths for outbound in (False, True)]
    assert sum(one == "broken" for one in seen) > len(seen) / 10
    assert sum(isinstance(one, list) and len(one) > 1 for one in seen) > len(seen) / 15
