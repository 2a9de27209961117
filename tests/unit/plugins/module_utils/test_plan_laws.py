# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The laws of plans, over generated servers."""

from __future__ import annotations

import copy
import dataclasses
import os
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils import _iis_edit as edit
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConfigurationError
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_config import Configuration
from ansible_collections.exchange.mitigation.plugins.module_utils._plan import Request, ServerFacts, plan, rollback
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils import iis_samples as samples
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.plan_samples import EM_ON, FACTS, files, invert, made, records
from hypothesis import given, settings
from hypothesis import strategies as st

INBOUND = st.sampled_from(
    ["<clear />", '<remove name="a" />', '<rule name="b" />', "<!-- c -->", "\r\n  "]
    + [
        samples.M1_RULE.format(name=n)
        for n in ("EEMS M1.1 PowerShell - inbound", "PowerShell - inbound", "RequestBlockingRule1", "exchange.mitigation M1 PowerShell - inbound")
    ]
    + [samples.M1_RULE.format(name="EEMS M1.2 x").replace("AbortRequest", "None"), samples.M1_RULE.format(name="off").replace("stopP", 'enabled="false" stopP')]
)
OUTBOUND = st.sampled_from(
    [samples.M2_RULES.format(maker=maker) for maker in ("EEMS M2.1", "EOMT", "mine", "exchange.mitigation M2")]
    + ["<outboundRules />", "<outboundRules><clear /></outboundRules>", ""]
)


@st.composite
def servers(draw: st.DrawFn) -> Configuration:
    """Return a server with rules of several makers in several places."""
    inner = "".join(draw(st.lists(INBOUND, max_size=4)))
    shape = draw(
        st.sampled_from(
            [
                b"<configuration>%s</configuration>",
                b"<configuration>\r\n  <location path='.' inheritInChildApplications='false'>%s</location>\r\n</configuration>",
            ]
        )
    )
    codec = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
    root = draw(st.sampled_from([samples.in_root(inner, shape).decode().encode(codec), samples.ROOT_CONFIG, None]))
    owa = draw(
        st.sampled_from(
            [
                samples.owa_inside(draw(OUTBOUND)),
                samples.OWA_CONFIG.replace(
                    b"</configuration>", f"<system.webServer><rewrite>{draw(OUTBOUND)}</rewrite></system.webServer></configuration>".encode()
                ),
            ]
        )
    )
    ecp = draw(st.sampled_from([samples.ECP_CONFIG, samples.in_root("".join(draw(st.lists(INBOUND, max_size=1)))), None, b"<broken"]))
    return samples.server(root=root, owa=owa, ecp=ecp)


OPTIONS = st.fixed_dictionaries(
    {
        "mitigations": st.sampled_from([("M1", "M2"), ("M1",), ("M2.1",)]),
        "on_conflict": st.sampled_from(["fail", "replace", "skip"]),
        "when_em_active": st.sampled_from(["leave", "take_over"]),
        "include_foreign": st.booleans(),
        "honour_blocked": st.booleans(),
        "relocate": st.booleans(),
    }
)


@settings(max_examples=int(os.environ.get("EXCHANGE_MITIGATION_CASES", "300")), deadline=None)
@given(servers(), OPTIONS, st.sampled_from([FACTS, EM_ON]))
def test_laws(server: Configuration, options: dict[str, Any], facts: ServerFacts) -> None:
    before = copy.deepcopy(files(server))
    ask = Request(**options)
    result = plan(ask, server, facts)
    assert files(server) == before
    assert result == plan(ask, server, facts)
    if result.refusals:
        assert result.edits == ()
        return
    after = made(server, result)
    for one in result.edits:
        # apply then undo is identity, by splices and by rollback
        assert edit.apply(one.after or b"", invert(one.splices)) == (one.before or b"")
    assert files(made(after, rollback(after, facts, records(result.edits)))) == before
    # what works keeps working
    for path in samples.APPLICATIONS:
        try:
            worked = not server.effective_rewrite(samples.SITE, path).broken
        except ConfigurationError:
            continue
        assert not worked or not after.effective_rewrite(samples.SITE, path).broken
    # nobody else's rule is touched
    for path in ("/", "/owa"):
        try:
            names = [r.name for r in server.effective_rewrite(samples.SITE, path).inbound if r.name == "b"]
        except ConfigurationError:
            continue
        assert [r.name for r in after.effective_rewrite(samples.SITE, path).inbound if r.name == "b"] == names
    # planning an applied plan is empty
    blocked = dataclasses.replace(facts, blocked=result.block_ids)
    again = plan(dataclasses.replace(ask, blocked_by_us=result.block_ids), after, blocked)
    assert not again.changed, (files(server), files(after), result.outcomes, again.outcomes, again.diff)
    # What was left aside while the others were done is left aside still.
    assert {r.id for r in again.refusals} == {f.id for f in result.failures}
    # and so is undoing twice
    undo = plan(dataclasses.replace(ask, state="absent"), after, blocked, records(result.edits))
    if not undo.refusals:
        gone = made(after, undo)
        assert plan(dataclasses.replace(ask, state="absent"), gone, blocked).edits == ()
