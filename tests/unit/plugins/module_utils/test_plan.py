# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans: what is written, what is refused, and the laws of apply and undo."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput
from ansible_collections.exchange.mitigation.plugins.module_utils._plan import EmFacts, Request, ServerFacts, plan, rollback
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils import iis_samples as samples
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.plan_samples import BOTH, EM_ON, FACTS, Record, files, made, records, request


def test_apply_both() -> None:
    server = samples.server()
    result = plan(BOTH, server, FACTS)
    assert [(e.path, e.purposes, e.sddl) for e in result.edits] == [(samples.ROOT_FILE, ("M1",), "O:BA"), (samples.OWA_FILE, ("M2",), "O:BA")]
    assert [(o.id, o.action) for o in result.outcomes] == [("M1", "apply"), ("M2", "apply")]
    assert (result.refusals, result.failures, result.block_ids, result.changed) == ((), (), (), True)
    after = made(server, result)
    assert [v.state for v in plan(BOTH, after, FACTS).verdicts] == ["applied", "applied"]
    assert not any(after.effective_rewrite(samples.SITE, path).problems for path in samples.APPLICATIONS)
    assert [r.name for r in after.effective_rewrite(samples.SITE, "/ecp").inbound] == ["exchange.mitigation M1 PowerShell - inbound"]
    again = plan(BOTH, after, FACTS)
    assert (again.changed, again.edits, again.diff) == (False, (), ())


def test_checks_ask_every_place_that_reads_the_file() -> None:
    first, second = plan(BOTH, samples.server(), FACTS).edits
    base = "MACHINE/WEBROOT/APPHOST/Default Web Site"
    assert [(c.filter, c.pspath) for c in first.checks] == [("/system.webServer/rewrite/rules", base + path) for path in ("", "/owa", "/owa/Calendar", "/ecp")]
    outbound = "/system.webServer/rewrite/outboundRules"
    assert [(c.filter, c.pspath) for c in second.checks] == [
        (f, base + path) for path in ("/owa", "/owa/Calendar") for f in (outbound, outbound + "/preConditions")
    ]


def test_diff_is_the_owned_elements_only() -> None:
    server = samples.server(root=samples.in_root('<rule name="theirs" />'))
    first, second = plan(BOTH, server, FACTS).diff
    assert (first["before"], second["before"]) == ("", "")
    assert first["after"].startswith('<rule name="exchange.mitigation M1') and first["after"].endswith("</rule>\n")
    assert "theirs" not in first["after"]
    assert second["after"].count("<rule ") == second["after"].count("<preCondition ") == 1
    lines = second["after"].splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [lines[0], "</rule>", lines[4], "</preCondition>"]
    assert lines[1].startswith("  <match ")
    assert first["before_header"] == first["after_header"] == f"{samples.ROOT_FILE} (M1)"


def test_effects_and_side_effects_are_told() -> None:
    result = plan(BOTH, samples.server(), FACTS)
    assert "Default Web Site/owa, Default Web Site/owa/Calendar" in result.effects[1]
    assert any("Print Calendar" in text for text in result.side_effects)


def test_absent_by_the_journal_is_byte_identical() -> None:
    for root in (samples.ROOT_CONFIG, b"<configuration><system.webServer><rewrite><rules /></rewrite></system.webServer></configuration>", None):
        server = samples.server(root=root)
        applied = plan(BOTH, server, FACTS)
        undo = plan(dataclasses.replace(BOTH, state="absent"), made(server, applied), FACTS, records(applied.edits))
        assert [o.action for o in undo.outcomes] == ["remove", "remove"]
        assert files(made(made(server, applied), undo)) == files(server)
        assert [(d["before"], d["after"]) for d in undo.diff] == [(d["after"], d["before"]) for d in applied.diff]


def test_absent_without_a_journal() -> None:
    for root in (samples.ROOT_CONFIG, None):
        server = samples.server(root=root)
        after = made(server, plan(BOTH, server, FACTS))
        undo = plan(dataclasses.replace(BOTH, state="absent"), after, FACTS)
        assert files(made(after, undo)) == files(server)
        assert plan(dataclasses.replace(BOTH, state="absent"), made(after, undo), FACTS).edits == ()


def test_the_journal_does_not_bring_back_what_must_be_gone() -> None:
    server = samples.server(owa=samples.owa_outside("EEMS M2.1"))
    taken = plan(request("M2", when_em_active="take_over"), server, EM_ON)
    after = made(server, taken)
    undo = plan(request("M2", state="absent"), after, FACTS, records(taken.edits))
    assert b"OWA CSP" not in (made(after, undo).state_of(samples.OWA_FILE).data or b"")


def test_absent_of_one_of_two_in_the_journal_leaves_the_other() -> None:
    server = samples.server(root=samples.in_root('<rule name="x" />'))
    applied = plan(request("M1"), server, FACTS)
    after = made(server, applied)
    mixed = [Record(e.path, e.before, e.after, ("M1", "M9")) for e in applied.edits]
    undo = plan(request("M1", state="absent"), after, FACTS, mixed)
    assert "exchange.mitigation" not in repr(files(made(after, undo)))
    assert b'name="x"' in (made(after, undo).state_of(samples.ROOT_FILE).data or b"")


@pytest.mark.parametrize("name", ["EEMS M1.1 PowerShell - inbound", "PowerShell - inbound"])
def test_absent_takes_what_em_and_eomt_made(name: str) -> None:
    other = '<rule name="theirs"><match url="x" /></rule>'
    server = samples.server(root=samples.in_root(samples.M1_RULE.format(name=name) + other))
    result = plan(request("M1", state="absent"), server, FACTS)
    assert made(server, result).state_of(samples.ROOT_FILE).data == samples.in_root(other)


def test_absent_takes_an_earlier_revision_of_eomt() -> None:
    rule = samples.M1_RULE.format(name="PowerShell - inbound").replace("(?=.*autodiscover)(?=.*powershell)", r".*autodiscover\.json.*Powershell.*")
    assert [o.action for o in plan(request("M1", state="absent"), samples.server(root=samples.in_root(rule)), FACTS).outcomes] == ["remove"]


def test_absent_leaves_foreign_rules_unless_told() -> None:
    server = samples.server(root=samples.in_root(samples.M1_RULE.format(name="RequestBlockingRule1")))
    left = plan(request("M1", state="absent"), server, FACTS)
    assert (left.edits, left.outcomes[0].reason, "RequestBlockingRule1" in left.warnings[0]) == ((), "foreign", True)
    assert plan(request("M1", state="absent", include_foreign=True), server, FACTS).edits[0].after == b"<configuration></configuration>"


def test_absent_with_em_active_blocks_first() -> None:
    server = samples.server(owa=samples.owa_outside("EEMS M2.1"))
    result = plan(request("M2", state="absent", feed=("M2.1.0",)), server, EM_ON)
    assert (result.block_ids, len(result.edits)) == (("M2.1.0",), 1)
    assert plan(request("M2", state="absent"), server, FACTS).block_ids == ()


def test_a_precondition_that_somebody_else_uses_stays() -> None:
    text = samples.M2_RULES.format(maker="EOMT")
    own = '<rule name="mine" preCondition="EOMT OWA SPA HTML shell - precondition"><match serverVariable="RESPONSE_X" /><action type="None" /></rule>'
    server = samples.server(owa=samples.owa_inside(text.replace("<outboundRules>", "<outboundRules>" + own)))
    data = made(server, plan(request("M2", state="absent"), server, FACTS)).state_of(samples.OWA_FILE).data or b""
    assert own.encode() in data
    assert b'<preCondition name="EOMT' in data
    assert b'<rule name="EOMT' not in data


# Beside EM


def test_leave_is_the_default_beside_em() -> None:
    result = plan(BOTH, samples.server(), EM_ON)
    assert ([o.reason for o in result.outcomes], result.changed) == (["left_to_em", "left_to_em"], False)


def test_leave_tells_what_em_breaks() -> None:
    result = plan(request("M2"), samples.server(owa=samples.owa_outside("EEMS M2.1")), EM_ON)
    assert (result.changed, result.outcomes[0].reason, "/owa/Calendar" in result.warnings[0]) == (False, "applied", True)


def test_take_over_blocks_removes_and_writes() -> None:
    server = samples.server(owa=samples.owa_outside("EEMS M2.1"))
    ask = request("M2", when_em_active="take_over", feed=("M2.1",))
    result = plan(ask, server, EM_ON)
    assert (result.block_ids, [o.action for o in result.outcomes]) == (("M2.1.0", "M2.1"), ["replace"])
    after = made(server, result)
    assert not any(after.effective_rewrite(samples.SITE, path).problems for path in samples.APPLICATIONS)
    assert [r.name for r in after.effective_rewrite(samples.SITE, "/owa").outbound] == ["exchange.mitigation M2 OWA CSP - outbound"]
    blocked = dataclasses.replace(EM_ON, blocked=("M2.1.0", "M2.1"))
    assert plan(dataclasses.replace(ask, blocked_by_us=("M2.1.0", "M2.1")), after, blocked).changed is False
    # interrupted between the block and the write
    assert len(plan(dataclasses.replace(ask, blocked_by_us=("M2.1.0", "M2.1")), server, blocked).edits) == 1


def test_em_beside_ours_never_breaks_a_path() -> None:
    server = samples.server()
    after = made(server, plan(BOTH, server, FACTS))
    root = (after.state_of(samples.ROOT_FILE).data or b"").replace(
        b"</rules>", samples.M1_RULE.format(name="EEMS M1.1 PowerShell - inbound").encode() + b"</rules>"
    )
    beside = after.with_file(samples.ROOT_FILE, root)
    assert not any(beside.effective_rewrite(samples.SITE, path).broken for path in samples.APPLICATIONS)
    ask = request("M1", when_em_active="take_over")
    result = plan(ask, beside, EM_ON)
    assert [r.name for r in made(beside, result).effective_rewrite(samples.SITE, "/").inbound] == ["exchange.mitigation M1 PowerShell - inbound"]


def test_unknown_em_state_is_refused() -> None:
    for em in (None, EmFacts(None, True, True)):
        result = plan(BOTH, samples.server(), dataclasses.replace(FACTS, em=em))
        assert {r.reason for r in result.refusals} == {"em_state_unknown"}


@pytest.mark.parametrize(("em", "blocks"), [(None, ()), (EmFacts(None, True, True), ("M1",))])
def test_take_over_says_what_cannot_be_blocked(em: EmFacts | None, blocks: tuple[str, ...]) -> None:
    """Where the organization does not list the server there is nothing to block; the plan does not claim it, and says what may happen."""
    result = plan(request("M1", when_em_active="take_over"), samples.server(), dataclasses.replace(FACTS, em=em))
    assert ([o.action for o in result.outcomes], result.block_ids) == (["apply"], blocks)
    said = [text for text in result.warnings if text.startswith("M1: it is not blocked for EM") and text.endswith("give organization")]
    assert len(said) == (0 if blocks else 1)


def test_a_build_without_em_needs_no_em_facts() -> None:
    assert len(plan(BOTH, samples.server(), ServerFacts(build=(15, 2, 922, 7))).edits) == 2


# What is not done


@pytest.mark.parametrize(
    ("blocked", "options", "reasons"),
    [
        (("M1",), {}, ["blocked", "apply"]),
        (("M1.1", "M2.1.0"), {}, ["blocked", "blocked"]),
        (("M1",), {"honour_blocked": False}, ["apply", "apply"]),
        (("M1",), {"blocked_by_us": ("m1",)}, ["apply", "apply"]),
    ],
)
def test_blocked_ids_are_honoured(blocked: tuple[str, ...], options: dict[str, Any], reasons: list[str]) -> None:
    result = plan(request("M1", "M2", **options), samples.server(), dataclasses.replace(EM_ON, em=FACTS.em, blocked=blocked))
    assert [o.reason for o in result.outcomes] == reasons


def test_not_needed_writes_nothing_even_into_a_malformed_server() -> None:
    facts = dataclasses.replace(FACTS, build=(15, 2, 2562, 45))
    result = plan(BOTH, samples.server(root=b"<oops"), facts)
    assert ([o.reason for o in result.outcomes], result.refusals, result.verdicts[0].state) == (["not_needed"] * 2, (), "unknown")


def test_ids() -> None:
    result = plan(request("all", feed=("PING1", "M1.1", "M2.1.0", "X9", "M7.1"), do_nothing=frozenset({"X9"})), samples.server(), FACTS)
    assert [(o.id, o.reason) for o in result.outcomes] == [
        ("PING1", "nothing_to_do"),
        ("X9", "nothing_to_do"),
        ("M7.1", "unsupported"),
        ("M1", "apply"),
        ("M2", "apply"),
    ]
    assert ([f.reason for f in result.failures], len(result.edits)) == (["unsupported_mitigation"], 2)
    warned = plan(request("M7.1", on_unsupported="warn"), samples.server(), FACTS)
    assert (warned.failures, "M7.1" in warned.warnings[0]) == ((), True)
    assert len(plan(request("M1", "M1.1", "M1"), samples.server(), FACTS).edits) == 1


@pytest.mark.parametrize(
    ("ask", "reason"),
    [(request("all"), "feed_required"), (request("all", state="absent", feed=()), "all_refused"), (request("M1", state="x"), "invalid_state")],
)
def test_requests_that_cannot_be_meant(ask: Request, reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        plan(ask, samples.server(), FACTS)
    assert caught.value.reason == reason


REFUSALS: list[tuple[str, dict[str, Any], str]] = [
    ("section not declared", {"sections": ""}, "url_rewrite_missing"),
    ("module not registered", {"modules": ""}, "url_rewrite_missing"),
    ("malformed root", {"root": b"<configuration>\n<x></configuration>"}, "configuration_malformed"),
    ("OWA without a file", {"owa": None}, "file_missing"),
    (
        "locked",
        {
            "extra": samples.MODULE
            + f'<location path="{samples.SITE}" overrideMode="Deny"><system.webServer><rewrite><rules /></rewrite></system.webServer></location>'
        },
        "section_locked",
    ),
    (
        "rules in the root's block",
        {"root": samples.in_root('<rule name="x" />', b'<configuration><location inheritInChildApplications="false">%s</location></configuration>')},
        "section_twice",
    ),
    (
        "outbound rules outside OWA's block",
        {"owa": samples.OWA_CONFIG.replace(b"</configuration>", b"<system.webServer><rewrite><outboundRules /></rewrite></system.webServer></configuration>")},
        "section_twice",
    ),
    (
        "configSource",
        {"root": b'<configuration><system.webServer><rewrite><rules configSource="r.config" /></rewrite></system.webServer></configuration>'},
        "configuration_not_read",
    ),
    ("our name in a child", {"ecp": samples.in_root(samples.M1_RULE.format(name="exchange.mitigation M1 PowerShell - inbound"))}, "would_break"),
    ("the child clears", {"ecp": samples.in_root("<clear />")}, "would_not_apply"),
]


@pytest.mark.parametrize(("change", "reason"), [case[1:] for case in REFUSALS], ids=[case[0] for case in REFUSALS])
def test_refused_before_any_write(change: dict[str, Any], reason: str) -> None:
    result = plan(BOTH, samples.server(**change), FACTS)
    assert reason in [r.reason for r in result.refusals]
    assert (result.edits, result.block_ids, result.diff, result.changed) == ((), (), (), False)
    assert all(r.message.endswith((".", "again", "it", "ones")) or len(r.message) > 30 for r in result.refusals)


ASIDE: list[tuple[str, dict[str, Any], str]] = [
    ("malformed child", {"ecp": b"<configuration>\n<x></configuration>"}, "configuration_malformed"),
    (
        "child not readable",
        {"ecp": b"<configuration><system.webServer><rewrite><rules configSource='r' /></rewrite></system.webServer></configuration>"},
        "configuration_not_read",
    ),
    ("conflicting", {"root": samples.in_root('<rule name="EEMS M1.1 PowerShell - inbound" />')}, "conflicting"),
    ("disabled", {"root": samples.in_root(samples.M1_RULE.format(name="x").replace("stopP", 'enabled="false" stopP'))}, "disabled"),
]


@pytest.mark.parametrize(("change", "reason"), [case[1:] for case in ASIDE], ids=[case[0] for case in ASIDE])
def test_one_that_cannot_be_judged_does_not_hold_the_other_up(change: dict[str, Any], reason: str) -> None:
    server = samples.server(**change)
    result = plan(BOTH, server, FACTS)
    assert (result.refusals, [(f.id, f.reason) for f in result.failures]) == ((), [("M1", reason)])
    assert [(o.id, o.action) for o in result.outcomes] == [("M1", "none"), ("M2", "apply")]
    assert [e.path for e in result.edits] == [samples.OWA_FILE]
    after = made(server, result)
    again = plan(BOTH, after, FACTS)
    # Nothing else is left to do, so now it is the refusal of the task.
    assert (again.changed, [(r.id, r.reason) for r in again.refusals]) == (False, [("M1", reason)])
    alone = plan(request("M1"), server, FACTS)
    assert (alone.changed, [r.reason for r in alone.refusals], alone.failures) == (False, [reason], ())


def test_a_malformed_child_is_named_with_its_line() -> None:
    (failure,) = plan(BOTH, samples.server(ecp=b"<configuration>\n<x></configuration>"), FACTS).failures
    assert (failure.details["file"], failure.details["line"]) == (samples.ECP_FILE, 2)


def test_the_library_missing_is_refused() -> None:
    result = plan(BOTH, samples.server(), dataclasses.replace(FACTS, rewrite_dll=False))
    assert {r.reason for r in result.refusals} == {"url_rewrite_missing"}
    assert "rewrite.dll" in result.refusals[0].message


@pytest.mark.parametrize(("build", "reason"), [(None, "build_unknown"), ((15, 0, 1497, 48), "unsupported_product")])
def test_builds_that_cannot_be_judged(build: Any, reason: str) -> None:
    result = plan(request("M1"), samples.server(), dataclasses.replace(FACTS, build=build))
    assert [r.reason for r in result.refusals] == [reason]


def test_configuration_not_understood() -> None:
    assert [r.reason for r in plan(request("M1"), None, FACTS).refusals] == ["configuration_not_read"]


def test_on_conflict() -> None:
    conflicting = samples.server(root=samples.in_root('<rule name="EEMS M1.1 PowerShell - inbound" /><rule name="theirs" />'))
    skipped = plan(request("M1", on_conflict="skip"), conflicting, FACTS)
    assert (skipped.changed, skipped.refusals, skipped.outcomes[0].reason) == (False, (), "conflicting")
    replaced = made(conflicting, plan(request("M1", on_conflict="replace"), conflicting, FACTS))
    assert [r.name for r in replaced.effective_rewrite(samples.SITE, "/").inbound] == ["exchange.mitigation M1 PowerShell - inbound", "theirs"]
    assert [r.reason for r in plan(request("M1", state="absent"), conflicting, FACTS).refusals] == ["conflicting"]
    gone = made(conflicting, plan(request("M1", state="absent", on_conflict="replace"), conflicting, FACTS))
    assert [r.name for r in gone.effective_rewrite(samples.SITE, "/").inbound] == ["theirs"]


def test_old_builds_are_flagged() -> None:
    assert any("June 2026" in text for text in plan(request("M1"), samples.server(), FACTS).warnings)


# Rollback


def test_rollback_is_exact_and_idempotent() -> None:
    server = samples.server(root=None)
    first = plan(request("M1"), server, FACTS)
    after = made(server, first)
    second = plan(request("M2"), after, FACTS)
    done = made(after, second)
    journal = records(first.edits + second.edits)
    back = rollback(done, FACTS, journal)
    assert files(made(done, back)) == files(server)
    assert all(e.checks for e in back.edits)
    assert rollback(server, FACTS, journal).changed is False


def test_rollback_keeps_what_changed_since() -> None:
    server = samples.server()
    applied = plan(BOTH, server, FACTS)
    after = made(server, applied)
    changed = after.with_file(
        samples.ROOT_FILE, (after.state_of(samples.ROOT_FILE).data or b"").replace(b"</configuration>", b"<!-- new -->\r\n</configuration>")
    )
    back = rollback(changed, FACTS, records(applied.edits))
    assert "changed since" in back.warnings[0]
    data = made(changed, back).state_of(samples.ROOT_FILE).data or b""
    assert data == samples.ROOT_CONFIG.replace(b"</configuration>", b"<!-- new -->\r\n</configuration>")


# The recorded server


@pytest.mark.parametrize("root", ["DefaultWebSite", "DefaultWebSite.variant2"])
def test_recorded_server_there_and_back(recorded: Callable[[str], pathlib.Path], root: str) -> None:
    server = samples.recorded_server(recorded, root)
    facts = dataclasses.replace(FACTS, build=(15, 2, 922, 7))
    applied = plan(BOTH, server, facts)
    assert (len(applied.edits), applied.refusals) == (2, ())
    after = made(server, applied)
    for application in server.site(samples.SITE).applications:
        assert not after.effective_rewrite(samples.SITE, application.path).problems
        assert len(after.effective_rewrite(samples.SITE, application.path).inbound) == 1
    assert plan(BOTH, after, facts).changed is False
    for one in applied.edits:
        assert all(s.removed == b"" for s in one.splices)
        assert len(one.splices) == 1
    absent = dataclasses.replace(BOTH, state="absent")
    for journal in (records(applied.edits), []):
        assert files(made(after, plan(absent, after, facts, journal))) == files(server)
    assert len(applied.edits[0].checks) == 14


@pytest.mark.parametrize("root", ["DefaultWebSite", "DefaultWebSite.variant2"])
@pytest.mark.parametrize("order", [("M1", "M2", "CVE-2021-26855"), ("CVE-2021-26855", "M1"), ("CVE-2021-26855",)])
def test_recorded_server_before_march_2021(recorded: Callable[[str], pathlib.Path], root: str, order: tuple[str, ...]) -> None:
    """All rules together in one file, taken out one after the other, in either order, with and without a journal."""
    server = samples.recorded_server(recorded, root)
    facts = dataclasses.replace(FACTS, build=(15, 2, 792, 3), em=None)
    applied = plan(request(*order), server, facts)
    assert (applied.refusals, applied.failures, [v.state for v in applied.verdicts]) == ((), (), ["absent"] * len(order))
    after = made(server, applied)
    assert [v.state for v in plan(request(*order), after, facts).verdicts] == ["applied"] * len(order)
    for application in server.site(samples.SITE).applications:
        assert not after.effective_rewrite(samples.SITE, application.path).problems
    for journal in (records(applied.edits), []):
        rest = after
        for identifier in order:
            rest = made(rest, plan(request(identifier, state="absent"), rest, facts, journal))
        assert files(rest) == files(server)


def test_recorded_malformed_root_is_refused(recorded: Callable[[str], pathlib.Path]) -> None:
    result = plan(request("M1"), samples.recorded_server(recorded, "DefaultWebSite.malformed-with-EEMS-M1.1"), FACTS)
    assert [(r.reason, r.details["line"]) for r in result.refusals] == [("configuration_malformed", 42)]
