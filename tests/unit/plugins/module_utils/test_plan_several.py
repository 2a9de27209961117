# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mitigations of several actions: rules on two paths, rules and services together; local ones, that no catalogue has."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _catalogue as catalogue
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_config import Configuration
from ansible_collections.exchange.mitigation.plugins.module_utils._mitigations._values import (
    LOCATION,
    ROOT,
    InboundRule,
    Mitigation,
    Names,
    RewriteAction,
    ServiceAction,
    ServiceState,
    SideEffect,
)
from ansible_collections.exchange.mitigation.plugins.module_utils._plan import Plan, Request, plan, rollback
from ansible_collections.exchange.mitigation.plugins.module_utils._verdict import verdict
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils import iis_samples as samples
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.plan_samples import EM_ON, FACTS, files, made, records

SITE = "Default Web Site"
FIRST = InboundRule("exchange.mitigation LOCAL-7 one", "{HTTP_X}", "^one$")
SECOND = InboundRule("exchange.mitigation LOCAL-7 two", "{HTTP_X}", "^two$")
UP, DOWN = ServiceState("Running", "Auto"), ServiceState("Stopped", "Disabled")


def mitigation(*actions: Any, identifier: str = "LOCAL-7", published: bool = False) -> Mitigation:
    """Return one with these actions that every build of M1 needs."""
    m1 = catalogue.find("M1")
    assert m1 is not None
    return Mitigation(
        id=identifier,
        pattern=identifier,
        cve="",
        title="Seven",
        actions=actions,
        applicability=m1.applicability,
        side_effects=(SideEffect("something"),),
        names=Names(em=r"EEMS LOCAL-7 ", eomt=(), us=(FIRST.name, SECOND.name)),
        published=published,
    )


ON_ROOT = RewriteAction(SITE, "/", ROOT, (FIRST,), create_file=True, first=True)
ON_OWA = RewriteAction(SITE, "/owa", LOCATION, (SECOND,))
TWO_PATHS = mitigation(ON_ROOT, ON_OWA)
MIXED = mitigation(ON_OWA, ServiceAction(("MSExchangePop3",)))


def written(rule: InboundRule, name: str) -> str:
    return (
        f'<rule name="{name}" stopProcessing="true"><match url=".*" /><conditions><add input="{rule.input}" pattern="{rule.pattern}" />'
        '</conditions><action type="AbortRequest" /></rule>'
    )


def ask(one: Mitigation, **options: Any) -> Request:
    return Request((one.id,), local=(one,), **options)


def names(server: Configuration, path: str) -> list[str]:
    return [rule.name for rule in server.effective_rewrite(SITE, path).inbound]


def test_two_paths_there_and_back() -> None:
    server = samples.server()
    result = plan(ask(TWO_PATHS), server, FACTS)
    assert [e.path for e in result.edits] == [samples.ROOT_FILE, samples.OWA_FILE]
    after = made(server, result)
    # /owa/Calendar shares the folder of /owa, so it reads the block as its own, once.
    assert [names(after, path) for path in ("/ecp", "/owa", "/owa/Calendar")] == [[FIRST.name], [FIRST.name, SECOND.name], [FIRST.name, SECOND.name]]
    assert not plan(ask(TWO_PATHS), after, FACTS).changed
    for journal in (records(result.edits), []):
        gone = made(after, plan(ask(TWO_PATHS, state="absent"), after, FACTS, journal))
        assert names(gone, "/owa") == []
    assert files(made(after, plan(ask(TWO_PATHS, state="absent"), after, FACTS, records(result.edits)))) == files(server)
    assert files(made(after, rollback(after, FACTS, records(result.edits), local=(TWO_PATHS,)))) == files(server)


def test_only_the_path_that_lacks_it_is_written() -> None:
    server = samples.server(root=samples.in_root(written(FIRST, "hand made")))
    result = plan(ask(TWO_PATHS), server, FACTS)
    assert [e.path for e in result.edits] == [samples.OWA_FILE]
    assert (result.verdicts[0].state, result.verdicts[0].maker) == ("absent", None)
    after = made(server, result)
    (again,) = plan(ask(TWO_PATHS), after, FACTS).verdicts
    assert (again.state, {e["rule"] for e in again.evidence}) == ("applied", {"hand made", SECOND.name})


def test_what_is_replaced_on_the_second_path_is_taken_from_the_second_path() -> None:
    published = dataclasses.replace(TWO_PATHS, published=True)
    inside = samples.owa_inside(f"<rules>{written(SECOND, 'EEMS LOCAL-7 two')}</rules>")
    server = samples.server(root=samples.in_root(written(FIRST, FIRST.name)), owa=inside)
    result = plan(ask(published, when_em_active="take_over"), server, EM_ON)
    assert ([e.path for e in result.edits], result.block_ids, result.outcomes[0].action) == ([samples.OWA_FILE], ("LOCAL-7",), "replace")
    assert names(made(server, result), "/owa") == [FIRST.name, SECOND.name]


def test_conflicts_on_the_second_path_only() -> None:
    wrong = samples.owa_inside(f"<rules>{written(SECOND, 'EEMS LOCAL-7 two').replace('^two$', '^other$')}</rules>")
    server = samples.server(owa=wrong)
    refused = plan(ask(TWO_PATHS), server, FACTS)
    assert ([r.reason for r in refused.refusals], refused.edits) == (["conflicting"], ())
    result = plan(ask(TWO_PATHS, on_conflict="replace"), server, FACTS)
    assert names(made(server, result), "/owa") == [FIRST.name, SECOND.name]
    with_foreign = made(server, plan(ask(TWO_PATHS, state="absent", on_conflict="replace"), server, FACTS))
    assert names(with_foreign, "/owa") == []


def test_rules_and_a_service_together() -> None:
    server, facts = samples.server(), dataclasses.replace(FACTS, services={"msexchangepop3": UP})
    result = plan(ask(MIXED), server, facts)
    assert [type(step).__name__ for step in result.steps] == ["FileEdit", "ServiceChange"]
    assert (len(result.diff), len(result.effects)) == (2, 2)
    after, down = made(server, result), dataclasses.replace(facts, services={"msexchangepop3": DOWN})
    (found,) = plan(ask(MIXED), after, down, kept=result.services).verdicts
    assert (found.state, found.maker, len(found.evidence)) == ("applied", "us", 2)
    half = plan(ask(MIXED), after, facts)
    assert (half.edits, [s.after for s in half.services]) == ((), [DOWN])
    half = plan(ask(MIXED), server, down)
    assert (len(half.edits), half.services) == (1, ())
    undo = plan(ask(MIXED, state="absent"), after, down, records(result.edits), kept=result.services)
    assert (files(made(after, undo)), undo.services[0].after) == (files(server), UP)


@pytest.mark.parametrize(("server", "services", "reason"), [({}, None, "state_not_read"), ({"owa": b"<"}, {"msexchangepop3": UP}, "configuration_malformed")])
def test_one_half_unknown_is_unknown(server: Any, services: Any, reason: str) -> None:
    result = plan(ask(MIXED), samples.server(**server), dataclasses.replace(FACTS, services=services))
    assert ([v.state for v in result.verdicts], [r.reason for r in result.refusals]) == (["unknown"], [reason])


def test_without_a_configuration_a_mixed_one_is_unknown_and_a_service_alone_is_not() -> None:
    facts = dataclasses.replace(FACTS, services={"msexchangepop3": UP})
    alone = mitigation(ServiceAction(("MSExchangePop3",)), identifier="LOCAL-8")
    result = plan(Request(("LOCAL-7", "LOCAL-8"), local=(MIXED, alone)), None, facts)
    assert ([s.name for s in result.services], [(f.id, f.reason) for f in result.failures]) == (["MSExchangePop3"], [("LOCAL-7", "configuration_not_read")])


def test_local_ones_are_all_of_their_document_and_unknown_to_the_catalogue() -> None:
    result = plan(Request(("all",), feed=("LOCAL-7",), local=(TWO_PATHS,)), samples.server(), EM_ON)
    assert (len(result.edits), result.block_ids, result.failures) == (2, (), ())
    lacking = plan(Request(("all",), feed=("LOCAL-7",)), samples.server(), EM_ON)
    assert [f.reason for f in lacking.failures] == ["unsupported_mitigation"]


def test_a_duplicate_is_named_for_the_rule_it_doubles() -> None:
    server = samples.server(root=samples.in_root(written(FIRST, FIRST.name) + written(FIRST, "hand made")))
    found = verdict(TWO_PATHS, server, FACTS.build)
    assert [d["rule"] for d in found.duplicates] == [FIRST.name, "hand made"]


def test_plans_are_values() -> None:
    assert plan(ask(TWO_PATHS), samples.server(), FACTS) == plan(ask(TWO_PATHS), samples.server(), FACTS)
    assert (Plan().changed, Plan().steps, Plan().effects_text) == (False, (), "")
