# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Retired and relocated: taken out where the build is fixed and nowhere else, moved without a moment without it, blocks lifted last."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._plan import EmFacts, Plan, Request, ServerFacts, plan
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils import iis_samples as samples
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.plan_samples import made, records, request

OLD, FIXED = (15, 2, 2562, 43), (15, 2, 2562, 45)
EM = EmFacts(True, True, True, ("PING1",))
FACTS = ServerFacts(build=FIXED, blocked=(), em=EM, rewrite_dll=True)
SHOWN = dataclasses.replace(FACTS, em=dataclasses.replace(EM, applied=("PING1", "M2.1.0")))
RETIRE = request("M2", state="retired")
STALE = samples.server(owa=samples.owa_outside("EEMS M2.1"))


def names(server: Any, path: str = "/owa") -> list[str]:
    effective = server.effective_rewrite(samples.SITE, path)
    return [rule.name for rule in effective.inbound + effective.outbound + effective.preconditions]


def settled(facts: ServerFacts, result: Plan) -> ServerFacts:
    blocked = [i for i in (*(facts.blocked or ()), *result.block_ids) if i not in result.unblock_ids]
    return dataclasses.replace(facts, blocked=tuple(blocked))


# Where


def test_a_server_that_still_needs_it_is_left_untouched() -> None:
    result = plan(RETIRE, STALE, dataclasses.replace(FACTS, build=OLD))
    assert (result.changed, result.refusals, result.failures, result.outcomes[0].reason) == (False, (), (), "still_needed")
    assert result.outcomes[0].message == "M2: left untouched: the build 15.2.2562.43 still needs it (needed up to 15.2.2562.43)"
    (outcome,) = plan(RETIRE, STALE, dataclasses.replace(FACTS, build=(15, 2, 1258, 39))).outcomes
    assert outcome.message.endswith("(no update of this cumulative update ends that)")


def test_needed_wins_even_where_the_configuration_is_not_understood() -> None:
    result = plan(RETIRE, samples.server(owa=b"<"), dataclasses.replace(FACTS, build=OLD))
    assert (result.refusals, result.failures, result.outcomes[0].reason) == ((), (), "still_needed")


@pytest.mark.parametrize("build", [None, (15, 0, 1497, 48)])
def test_an_unknown_build_is_refused(build: Any) -> None:
    result = plan(RETIRE, STALE, dataclasses.replace(FACTS, build=build))
    assert result.changed is False
    assert result.refusals[0].reason in ("build_unknown", "unsupported_product")


def test_a_build_older_than_the_product_is_not_fixed() -> None:
    result = plan(request("M1", state="retired"), STALE, dataclasses.replace(FACTS, build=(15, 1, 200, 1)))
    assert (result.changed, result.outcomes[0].reason) == (False, "never_needed")


def test_m1_left_behind_on_se_is_retired() -> None:
    server = samples.server(root=samples.in_root(samples.M1_RULE.format(name="EEMS M1.1 PowerShell - inbound") + '<rule name="theirs" />'))
    result = plan(request("M1", state="retired"), server, FACTS)
    assert (result.block_ids, names(made(server, result), "/")) == (("M1",), ["theirs"])


def test_a_malformed_file_is_a_failure_of_this_one_only() -> None:
    server = samples.server(root=samples.in_root(samples.M1_RULE.format(name="PowerShell - inbound")), owa=b"<")
    result = plan(request("M1", "M2", state="retired"), server, FACTS)
    assert [(r.id, r.reason) for r in result.refusals] == [("M1", "configuration_malformed"), ("M2", "configuration_malformed")]
    server = samples.server(ecp=b"<", owa=samples.owa_outside("EEMS M2.1"))
    result = plan(request("M1", "M2", state="retired"), server, FACTS)
    assert ([(f.id, f.reason) for f in result.failures], [e.path for e in result.edits]) == ([("M1", "configuration_malformed")], [samples.OWA_FILE])


# Block first, remove, lift


def test_block_first_then_remove_then_nothing() -> None:
    result = plan(RETIRE, STALE, SHOWN)
    assert result.block_ids == ("M2.1.0", "M2")
    gone = made(STALE, result)
    assert names(gone) == []
    again = plan(dataclasses.replace(RETIRE, blocked_by_us=result.block_ids), gone, settled(SHOWN, result), records(result.edits))
    assert (again.changed, again.refusals, again.outcomes[0].reason) == (False, (), "absent")


def test_the_feeds_id_is_blocked_too() -> None:
    ask = Request(("all",), state="retired", feed=("PING1", "M2.1"))
    assert plan(ask, STALE, SHOWN).block_ids == ("M2.1.0", "M2.1")


def test_nothing_there_is_nothing_blocked() -> None:
    assert not plan(RETIRE, samples.server(), FACTS).changed


def test_shown_by_em_but_not_there_is_blocked() -> None:
    result = plan(RETIRE, samples.server(), SHOWN)
    assert (result.block_ids, result.edits) == (("M2.1.0", "M2"), ())
    assert not plan(RETIRE, samples.server(), settled(SHOWN, result)).changed


@pytest.mark.parametrize("em", [EmFacts(False, True, True), EmFacts(True, False, True), EmFacts(True, True, False)])
def test_where_em_does_nothing_nothing_is_blocked(em: EmFacts) -> None:
    result = plan(RETIRE, STALE, dataclasses.replace(FACTS, em=em))
    assert (result.block_ids, len(result.edits)) == ((), 1)


def test_where_em_is_half_known_it_is_blocked_and_where_unknown_it_is_said() -> None:
    assert plan(RETIRE, STALE, dataclasses.replace(FACTS, em=EmFacts(True, None, True))).block_ids == ("M2",)
    result = plan(RETIRE, STALE, dataclasses.replace(FACTS, em=None, blocked=None))
    assert (result.block_ids, len(result.edits)) == ((), 1)
    assert any("brings it back is unknown" in text for text in result.warnings)


def test_foreign_rules_stay_unless_told() -> None:
    server = samples.server(owa=samples.owa_inside(samples.M2_RULES.format(maker="hand made")))
    left = plan(RETIRE, server, FACTS)
    assert (left.changed, left.outcomes[0].reason) == (False, "foreign")
    taken = plan(dataclasses.replace(RETIRE, include_foreign=True), server, FACTS)
    assert names(made(server, taken)) == []


OURS = {"blocked": ("M2", "M1", "X9")}


def unblock(facts: ServerFacts, by_us: tuple[str, ...], server: Any = None, **options: Any) -> Plan:
    ask = dataclasses.replace(RETIRE, unblock=True, blocked_by_us=by_us, **options)
    return plan(ask, samples.server() if server is None else server, dataclasses.replace(facts, **OURS))


def test_only_our_blocks_are_lifted() -> None:
    assert unblock(FACTS, ("m2", "M1")).unblock_ids == ("M2",)
    assert unblock(FACTS, ("M1",)).changed is False
    assert unblock(FACTS, ()).changed is False
    assert plan(dataclasses.replace(RETIRE, blocked_by_us=("M2",)), samples.server(), dataclasses.replace(FACTS, **OURS)).changed is False


def test_a_block_is_not_lifted_where_it_cannot_be() -> None:
    assert unblock(dataclasses.replace(FACTS, build=OLD), ("M2",)).changed is False
    kept = unblock(SHOWN, ("M2",))
    assert (kept.changed, "stays blocked while EM shows it" in kept.outcomes[0].message) == (False, True)
    # A list that EM does not write any more says nothing.
    off = dataclasses.replace(SHOWN, em=dataclasses.replace(EM, organization_enabled=False, applied=("M2.1.0",)))
    assert unblock(off, ("M2",)).unblock_ids == ("M2",)


def test_lifting_comes_last_and_does_not_flap() -> None:
    facts = dataclasses.replace(FACTS, blocked=("M2",))
    ask = dataclasses.replace(RETIRE, unblock=True, blocked_by_us=("M2",))
    result = plan(ask, STALE, facts)
    assert (result.block_ids, len(result.edits), result.unblock_ids) == ((), 1, ("M2",))
    again = plan(dataclasses.replace(ask, blocked_by_us=()), made(STALE, result), settled(facts, result))
    assert (again.changed, again.refusals) == (False, ())


def test_what_is_to_be_lifted_at_once_is_not_blocked_first_unless_em_would_write_it() -> None:
    ask = dataclasses.replace(RETIRE, unblock=True)
    quiet = plan(ask, STALE, FACTS)
    assert (quiet.block_ids, quiet.unblock_ids, len(quiet.edits)) == ((), (), 1)
    shown = plan(ask, STALE, SHOWN)
    assert (shown.block_ids, shown.unblock_ids) == (("M2.1.0", "M2"), ())
    again = plan(dataclasses.replace(ask, blocked_by_us=shown.block_ids), made(STALE, shown), settled(SHOWN, shown))
    assert again.changed is False


# Relocate

NEEDS = dataclasses.replace(SHOWN, build=OLD)
MOVE = request("M2", relocate=True)


@pytest.mark.parametrize(("maker", "blocks"), [("EEMS M2.1", ("M2.1.0", "M2")), ("EOMT", ("M2.1.0", "M2"))])
def test_m2_is_moved_into_the_block(maker: str, blocks: tuple[str, ...]) -> None:
    server = samples.server(owa=samples.owa_outside(maker))
    assert server.effective_rewrite(samples.SITE, "/owa/Calendar").broken
    result = plan(MOVE, server, NEEDS)
    assert (result.block_ids, result.outcomes[0].action, result.refusals) == (blocks, "replace", ())
    moved = made(server, result)
    assert names(moved) == ["exchange.mitigation M2 OWA CSP - outbound", "exchange.mitigation M2 OWA SPA HTML shell - precondition"]
    assert not moved.effective_rewrite(samples.SITE, "/owa/Calendar").broken
    assert moved.effective_rewrite(samples.SITE, "/owa").outbound[0].location == "."
    again = plan(dataclasses.replace(MOVE, blocked_by_us=result.block_ids), moved, settled(NEEDS, result), records(result.edits))
    assert (again.changed, again.refusals) == (False, ())
    back = plan(request("M2", state="absent"), moved, settled(NEEDS, result), records(result.edits))
    assert names(made(moved, back)) == []


def test_nothing_is_moved_that_stands_right_or_is_somebody_elses() -> None:
    inside = samples.server(owa=samples.owa_inside(samples.M2_RULES.format(maker="EEMS M2.1")))
    assert not plan(MOVE, inside, NEEDS).changed
    theirs = samples.server(owa=samples.owa_outside("hand made"))
    assert not plan(MOVE, theirs, NEEDS).changed


def test_a_blocked_id_is_not_moved() -> None:
    server = samples.server(owa=samples.owa_outside("EEMS M2.1"))
    facts = dataclasses.replace(NEEDS, blocked=("M2",))
    held = plan(MOVE, server, facts)
    assert held.changed is False
    assert any("500.19" in text for text in held.warnings)
    forced = plan(dataclasses.replace(MOVE, honour_blocked=False), server, facts)
    assert (forced.block_ids, len(forced.edits)) == ((), 1)


def test_not_moved_where_em_is_unknown() -> None:
    server = samples.server(owa=samples.owa_outside("EEMS M2.1"))
    result = plan(MOVE, server, dataclasses.replace(NEEDS, em=None))
    assert [r.reason for r in result.refusals] == ["em_state_unknown"]


def test_without_relocate_the_cure_is_named() -> None:
    result = plan(request("M2"), samples.server(owa=samples.owa_outside("EEMS M2.1")), NEEDS)
    assert any("relocate: true" in text for text in result.warnings)
    assert result.changed is False


def test_nothing_to_move_is_left_to_em() -> None:
    result = plan(MOVE, samples.server(), NEEDS)
    assert (result.changed, result.outcomes[0].reason) == (False, "left_to_em")


# Two rules of one mitigation

ANON = """<rule name="X-AnonResource-Backend Abort - inbound" stopProcessing="false"><match url=".*" />
<conditions><add input="{HTTP_COOKIE}" pattern="(.*)X-AnonResource-Backend(.*)" /></conditions><action type="AbortRequest" /></rule>"""
RESOURCE = ANON.replace("X-AnonResource-Backend Abort", "X-BEResource Abort").replace("(.*)X-AnonResource-Backend(.*)", "(.*)X-BEResource=(.+)/(.+)~(.+)")
LOGON = dataclasses.replace(FACTS, build=(15, 1, 2176, 2), em=None)
OUR_NAMES = ["exchange.mitigation CVE-2021-26855 X-AnonResource-Backend - inbound", "exchange.mitigation CVE-2021-26855 X-BEResource - inbound"]


def both(rules: str, **options: Any) -> tuple[Any, Plan]:
    server = samples.server(root=samples.in_root(rules))
    return server, plan(request("CVE-2021-26855", **options), server, LOGON)


def test_two_rules_there_and_back() -> None:
    server, result = both('<rule name="theirs" />')
    after = made(server, result)
    assert names(after, "/ecp") == [*OUR_NAMES, "theirs"]
    assert not plan(request("CVE-2021-26855"), after, LOGON).changed
    back = plan(request("CVE-2021-26855", state="absent"), after, LOGON)
    assert names(made(after, back), "/") == ["theirs"]


@pytest.mark.parametrize(("there", "missing"), [(ANON, OUR_NAMES[1]), (RESOURCE, OUR_NAMES[0])])
def test_only_the_missing_one_is_written(there: str, missing: str) -> None:
    server, result = both(there)
    assert [v.state for v in result.verdicts] == ["absent"]
    assert "is not there" in (result.verdicts[0].reason or "")
    after = made(server, result)
    assert names(after, "/")[0] == missing
    assert len(names(after, "/")) == 2
    (verdict,) = plan(request("CVE-2021-26855"), after, LOGON).verdicts
    assert (verdict.state, verdict.duplicates, len(verdict.evidence)) == ("applied", (), 2)


def test_microsofts_script_made_both() -> None:
    (verdict,) = both(ANON + RESOURCE)[1].verdicts
    assert (verdict.state, verdict.maker) == ("applied", "eomt")
    server, result = both(ANON + RESOURCE + '<rule name="theirs" />', state="absent")
    assert names(made(server, result), "/") == ["theirs"]


def test_a_name_of_it_that_does_something_else() -> None:
    wrong = ANON.replace("(.*)X-Anon", "X-Anon")
    server, result = both(wrong + RESOURCE)
    assert [(r.reason) for r in result.refusals] == ["conflicting"]
    server, result = both(wrong + RESOURCE, on_conflict="replace")
    assert names(made(server, result), "/") == [OUR_NAMES[0], "X-BEResource Abort - inbound"]


def test_duplicates_are_of_one_rule() -> None:
    (verdict,) = both(ANON + RESOURCE + ANON.replace("X-AnonResource-Backend Abort - inbound", "hand made"))[1].verdicts
    assert [d["rule"] for d in verdict.duplicates] == ["X-AnonResource-Backend Abort - inbound", "hand made"]
