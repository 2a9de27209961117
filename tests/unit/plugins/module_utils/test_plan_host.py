# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tests of plans for rules that stand in applicationHost.config: at server level, as global rules, in a location tag."""

from __future__ import annotations

import dataclasses

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_config import Configuration
from ansible_collections.exchange.mitigation.plugins.module_utils._plan import FileEdit, plan, rollback
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils import iis_samples as samples
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.plan_samples import EM_ON, FACTS, made, records, request

FIXED = dataclasses.replace(FACTS, build=(15, 2, 2562, 45))
M1_EM = samples.M1_RULE.format(name="EEMS M1.1 PowerShell - inbound")
M1_HAND = samples.M1_RULE.format(name="by hand")
M2_EM = samples.M2_RULES.format(maker="EEMS M2.1")
OTHER_SITE = '<site name="Other" id="9"><application path="/" applicationPool="P"><virtualDirectory path="/" physicalPath="E:\\other" /></application></site>'


def section(inner: str, location: str | None = None) -> str:
    """Return a rewrite section of applicationHost.config, in a location tag where one is named."""
    text = f"<system.webServer><rewrite>{inner}</rewrite></system.webServer>"
    return text if location is None else f'<location path="{location}">{text}</location>'


def server(inner: str, location: str | None = None, **more: bytes | None) -> Configuration:
    """Return the made-up server with a section in applicationHost.config."""
    return samples.server(extra=samples.MODULE + section(inner, location), **more)


def places(edit: FileEdit) -> set[str]:
    """Return where IIS is asked to parse."""
    return {check.pspath.removeprefix("MACHINE/WEBROOT/APPHOST") for check in edit.checks}


def data(configuration: Configuration) -> bytes:
    """Return the bytes of applicationHost.config."""
    assert configuration.application_host.data is not None
    return configuration.application_host.data


@pytest.mark.parametrize("location", [None, samples.SITE, f"{samples.SITE}/"])
@pytest.mark.parametrize("state", ["absent", "retired"])
def test_taken_out_where_it_stands(location: str | None, state: str) -> None:
    before = server(f"<rules><rule name='theirs'><match url='x' /></rule>{M1_EM}</rules>", location)
    facts = FACTS if state == "absent" else FIXED
    planned = plan(request("M1", state=state), before, facts)
    (edit,) = planned.edits
    assert (edit.path, edit.purposes, planned.refusals) == (samples.HOST_PATH, ("M1",), ())
    assert places(edit) == {"", *(f"/{samples.SITE}{path.rstrip('/')}" for path in samples.APPLICATIONS)}
    assert [d["before"].startswith('<rule name="EEMS M1.1') for d in planned.diff] == [True]
    assert "whole server" in planned.effects_text
    after = made(before, planned)
    assert data(after) == data(before).replace(M1_EM.encode(), b"")
    assert plan(request("M1", state=state), after, facts).changed is False
    back = rollback(after, facts, records(planned.edits))
    assert data(made(after, back)) == data(before)


def test_containers_go_with_the_last_rule() -> None:
    before = server(f"<rules>{M1_EM}</rules>")
    after = made(before, plan(request("M1", state="absent"), before, FACTS))
    assert data(after) == data(samples.server())


def test_a_rule_made_by_hand_stays_unless_it_is_included() -> None:
    before = server(f"<rules>{M1_HAND}</rules>", samples.SITE)
    kept = plan(request("M1", state="absent"), before, FACTS)
    assert (kept.changed, [o.reason for o in kept.outcomes], "include_foreign" in kept.warnings[0]) == (False, ["foreign"], True)
    after = made(before, plan(request("M1", state="absent", include_foreign=True), before, FACTS))
    assert after.effective_rewrite(samples.SITE, "/").inbound == ()


def test_a_global_rule() -> None:
    before = server(f"<globalRules>{M1_HAND}</globalRules>")
    assert plan(request("M1"), before, FACTS).outcomes[0].reason == "applied"
    planned = plan(request("M1", state="absent", include_foreign=True), before, FACTS)
    assert "/system.webServer/rewrite/globalRules" in {check.filter for check in planned.edits[0].checks}
    assert "by hand" in planned.diff[0]["before"]
    assert made(before, planned).global_rules == ()


def test_relocated_into_the_file_first() -> None:
    before = server(M2_EM, f"{samples.SITE}/owa")
    assert plan(request("M2"), before, FACTS).outcomes[0].reason == "applied"
    planned = plan(request("M2", relocate=True), before, EM_ON)
    assert ([e.path for e in planned.edits], planned.block_ids) == ([samples.OWA_FILE, samples.HOST_PATH], ("M2.1.0", "M2"))
    assert places(planned.edits[1]) == {"", f"/{samples.SITE}/owa", f"/{samples.SITE}/owa/Calendar"}
    after = made(before, planned)
    effective = after.effective_rewrite(samples.SITE, "/owa")
    assert [(r.name, r.reach) for r in effective.outbound] == [("exchange.mitigation M2 OWA CSP - outbound", "application")]
    assert (b"EEMS" in data(after), effective.broken) == (False, False)
    assert plan(request("M2", relocate=True), after, EM_ON).edits == ()
    back = made(after, rollback(after, FACTS, records(planned.edits)))
    assert (data(back), back.state_of(samples.OWA_FILE).data) == (data(before), samples.OWA_CONFIG)


def test_applicationhost_first_where_both_would_stand_in_each_others_way() -> None:
    name = "exchange.mitigation M1 PowerShell - inbound"
    before = server(f'<rules><rule name="{name}"><match url="x" /></rule></rules>', samples.SITE)
    planned = plan(request("M1", on_conflict="replace"), before, FACTS)
    assert [e.path for e in planned.edits] == [samples.HOST_PATH, samples.ROOT_FILE]
    assert [r.file for r in made(before, planned).effective_rewrite(samples.SITE, "/").inbound] == [samples.ROOT_FILE]


@pytest.mark.parametrize(("sites", "user", "stays"), [(True, False, True), (False, True, True), (False, False, False)])
def test_a_precondition_that_may_serve_others_stays(sites: bool, user: bool, stays: bool) -> None:
    """At server level it serves every site: those that were not read, and applications with rules of their own."""
    own = '<outboundRules><rule name="theirs" preCondition="EEMS M2.1 OWA SPA HTML shell - precondition"><match pattern="x" /></rule></outboundRules>'
    ecp = f"<configuration>{section(own)}</configuration>".encode() if user else samples.ECP_CONFIG
    before = server(M2_EM, None, ecp=ecp)
    if sites:
        before = before.with_file(samples.HOST_PATH, data(before).replace(b"</sites>", OTHER_SITE.encode() + b"</sites>"))
    planned = plan(request("M2", state="absent"), before, FACTS)
    after = made(before, planned)
    assert after.effective_rewrite(samples.SITE, "/owa").outbound == ()
    assert [bool(e.path == samples.HOST_PATH) for e in planned.edits] == [True]
    assert (b"<preCondition " in data(after)) is stays
    assert plan(request("M2", state="absent"), after, FACTS).changed is False


def test_a_place_that_is_not_understood_is_left_out_of_the_questions() -> None:
    before = server(f"<rules>{M1_EM}</rules>", None, ecp=b"<configuration>")
    assert (samples.SITE, "/ecp") not in before.places_read()
    assert plan(request("M1", state="absent"), before, FACTS).edits == ()
    assert before.state_of(samples.HOST_PATH).data == data(before)
