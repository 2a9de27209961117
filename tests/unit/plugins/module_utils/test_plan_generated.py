# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The laws of plans over generated servers, one for each seed, with every state, mitigation and option.

``EXCHANGE_MITIGATION_CASES`` says how many.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import random
import re

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _catalogue as catalogue
from ansible_collections.exchange.mitigation.plugins.module_utils import _iis_edit as edit
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConfigurationError
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_config import Configuration
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sites import directories
from ansible_collections.exchange.mitigation.plugins.module_utils._mitigations._values import PoolState, ServiceState
from ansible_collections.exchange.mitigation.plugins.module_utils._plan import (
    EmFacts,
    FileEdit,
    Plan,
    PoolChange,
    Request,
    ServerFacts,
    ServiceChange,
    plan,
    rollback,
)
from ansible_collections.exchange.mitigation.plugins.module_utils._xml_spans import parse
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils import iis_samples as samples
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.iis_generated import generate
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.plan_samples import files, invert, made, records

CASES = int(os.environ.get("EXCHANGE_MITIGATION_CASES", "250"))
IDS = ("M1", "M2", "CVE-2021-26855", "CVE-2021-26857", "CVE-2021-26858", "CVE-2021-27065")
SERVICES = (ServiceState("Running", "Auto"), ServiceState("Stopped", "Disabled"), ServiceState("Running", "Disabled"), ServiceState("Stopped", "Manual"), None)
POOLS = (PoolState("Started", True), PoolState("Stopped", False), PoolState("Started", False), PoolState("Stopped", True), None)
#: Before March 2021 all six are needed; then M1 and M2; then M2; then none.
BUILDS = ((15, 1, 2176, 2), (15, 1, 2176, 2), (15, 2, 792, 3), (15, 2, 986, 5), (15, 2, 986, 5), (15, 2, 2562, 43), (15, 2, 2562, 53))
_CONTAINERS = re.compile(r"</?(?:rules|outboundRules|preConditions|rewrite|system\.webServer|location)(?:\s[^<>]*)?>")
_ELEMENT = re.compile(r'<(rule|preCondition)\b[^<>]*?name="([^"]*)"[^<>]*?(?:/>|>.*?</\1>)', re.DOTALL)
#: What happened in all cases, for who runs many of them by hand.
SEEN: collections.Counter[str] = collections.Counter()


def facts_of(pick: random.Random) -> ServerFacts:
    """Return what is known of a server."""
    flags = (True, True, True, False, None)
    applied = pick.choice(((), ("PING1", "M2.1.0"), ("M1.1", "M2.1.0")))
    em = EmFacts(pick.choice(flags), pick.choice(flags), pick.choice(flags), applied) if pick.random() < 0.8 else None
    return ServerFacts(
        build=pick.choice(BUILDS) if pick.random() < 0.97 else None,
        blocked=pick.choice(((), (), ("M2",), ("M1", "M2.1.0"))),
        em=em,
        rewrite_dll=pick.choice((True, True, None)) if pick.random() < 0.95 else False,
        services={name: pick.choice(SERVICES) for name in ("msexchangeum", "msexchangeumcr")} if pick.random() < 0.9 else None,
        pools={name: pick.choice(POOLS) for name in ("msexchangeecpapppool", "msexchangeoabapppool")} if pick.random() < 0.9 else None,
    )


def request_of(pick: random.Random) -> Request:
    """Return what is wanted."""
    return Request(
        mitigations=tuple(pick.sample(IDS, pick.choice((1, 2, 6)))),
        state=pick.choice(("applied", "applied", "applied", "absent", "retired")),
        on_conflict=pick.choice(("fail", "replace", "replace", "skip")),
        when_em_active=pick.choice(("leave", "take_over")),
        include_foreign=pick.random() < 0.3,
        honour_blocked=pick.random() < 0.7,
        relocate=pick.random() < 0.4,
        unblock=pick.random() < 0.4,
        blocked_by_us=pick.choice(((), ("M2",), ("M1", "M2.1.0"))),
    )


def after(facts: ServerFacts, result: Plan) -> ServerFacts:
    """Return what is known of the server after a plan."""
    services, pools = dict(facts.services or {}), dict(facts.pools or {})
    services.update({change.name.lower(): change.after for change in result.services})
    pools.update({change.name.lower(): change.after for change in result.pools})
    blocked = [i for i in (*(facts.blocked or ()), *result.block_ids) if i not in result.unblock_ids]
    return dataclasses.replace(facts, services=services or facts.services, pools=pools or facts.pools, blocked=tuple(blocked))


def works(server: Configuration, paths: tuple[str, ...]) -> set[str]:
    """Return the paths that do not answer 500.19."""
    found = set()
    for path in paths:
        try:
            if not server.effective_rewrite(samples.SITE, path).broken:
                found.add(path)
        except ConfigurationError:
            pass
    return found


def only_owned(one: FileEdit, foreign: bool) -> None:
    """Nothing but elements of mitigations goes or comes, with containers that hold nothing else, and the rest is equal to the byte."""
    codec = parse(one.before or one.after or b"", "x").codec
    texts = [(splice.removed, splice.inserted) for splice in one.splices] if one.before is not None and one.after is not None else []
    for gone, come in texts:
        for data, allowed in ((gone, ("em", "eomt", "us", *(("other",) if foreign else ()))), (come, ("us", "em", "eomt", *(("other",) if foreign else ())))):
            text = data.decode(codec)
            if "name=" not in text and not _CONTAINERS.sub("", text).strip(" \t\r\n/<>"):
                continue
            for match in _ELEMENT.finditer(text):
                makers = {mitigation.names.maker(match[2]) for mitigation in catalogue.all()} - {"other"} or {"other"}
                assert makers & set(allowed), match[0]


def foreign_rules(server: Configuration) -> list[str]:
    """Return every rule of others in every file that can be read, as it is written."""
    found = []
    for path, state in server.files.items():
        try:
            document = parse(state.data, path) if state.data is not None else None
        except ConfigurationError:
            continue
        elements = [document.root] if document is not None else []
        for element in elements:
            elements += element.children
            name = element.attributes.get("name", "")
            foreign = element.tag in ("clear", "remove") or all(mitigation.names.maker(name) == "other" for mitigation in catalogue.all())
            if document is not None and foreign and element.tag in ("rule", "preCondition", "clear", "remove"):
                found.append(f"{path}: {document.source(element)}")
    return sorted(found)


@pytest.mark.parametrize("seed", range(CASES))
def test_laws(seed: int) -> None:
    generated, pick = generate(seed, broken=seed % 3 == 0), random.Random(-seed - 1)
    server, facts, ask = generated.configuration(), facts_of(pick), request_of(pick)
    before = files(server)
    result = plan(ask, server, facts)
    SEEN["cases"] += 1
    assert files(server) == before
    assert result == plan(ask, server, facts)
    if result.refusals:
        SEEN["refused"] += 1
        SEEN.update(f"  refused: {refusal.reason}" for refusal in result.refusals[:1])
        assert (result.steps, result.block_ids, result.unblock_ids, result.diff) == ((), (), (), ())
        return
    SEEN.update(f"  {outcome.action}: {outcome.reason}" for outcome in result.outcomes)
    SEEN["edited"] += bool(result.edits)
    SEEN["states changed"] += bool(result.services or result.pools)
    SEEN["with failures"] += bool(result.failures)
    if ask.state == "retired" and facts.build is not None:
        for outcome in result.outcomes:
            mitigation = catalogue.find(outcome.id)
            assert mitigation is not None
            assert outcome.action == "none" or mitigation.fixed(facts.build)
    then, now = made(server, result), after(facts, result)
    for one in result.edits:
        assert edit.apply(one.after or b"", invert(one.splices)) == (one.before or b"")
        only_owned(one, ask.include_foreign)
    if not ask.include_foreign:
        assert foreign_rules(then) == foreign_rules(server)
    # Every application and virtual directory; web.config files of plain folders below are not read on a real server.
    places = tuple(directories(server.site(samples.SITE)))
    assert works(server, places) <= works(then, places)
    # Back by the run's journal: the bytes and states from before.
    kept: list[ServiceChange | PoolChange] = [*result.services, *result.pools]
    back = rollback(then, now, records(result.edits), kept=kept)
    assert back.refusals == ()
    assert files(made(then, back)) == before
    gone = after(now, back)
    assert (gone.services, gone.pools) == (facts.services, facts.pools)
    # A second run has nothing to do.
    ours = tuple(i for i in (*ask.blocked_by_us, *result.block_ids) if i not in result.unblock_ids)
    again = plan(dataclasses.replace(ask, blocked_by_us=ours), then, now, records(result.edits), kept=kept)
    assert not again.changed, (again.steps, again.block_ids, again.unblock_ids)
    assert {r.id for r in again.refusals} == {f.id for f in result.failures} or not again.refusals
    if ask.state != "applied":
        return
    # Apply, then undo with the journal: as before, where nothing of it was there before.
    nothing = plan(dataclasses.replace(ask, state="absent"), server, facts)
    undo = plan(dataclasses.replace(ask, state="absent", blocked_by_us=ours), then, now, records(result.edits), kept=kept)
    if not nothing.refusals and not nothing.edits and not undo.refusals and not any(outcome.action == "replace" for outcome in result.outcomes):
        SEEN["undone"] += bool(undo.steps)
        assert files(made(then, undo)) == before
    if not undo.refusals:
        assert not plan(dataclasses.replace(ask, state="absent", blocked_by_us=ours), made(then, undo), after(now, undo)).edits


def test_the_cases_are_worth_it() -> None:
    if SEEN["cases"] >= 200:
        print(dict(SEEN))
        assert SEEN["edited"] > SEEN["cases"] / 20
        assert SEEN["states changed"] > SEEN["cases"] / 20
        assert SEEN["undone"] > SEEN["cases"] / 100
