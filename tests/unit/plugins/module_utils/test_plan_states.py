# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services and application pools: verdicts, apply, undo by the journal, what others did, rollback."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _catalogue as catalogue
from ansible_collections.exchange.mitigation.plugins.module_utils._mitigations._values import PoolState, ServiceState
from ansible_collections.exchange.mitigation.plugins.module_utils._plan import Plan, PoolChange, Request, ServerFacts, ServiceChange, plan, rollback
from ansible_collections.exchange.mitigation.plugins.module_utils._verdict import Verdict, verdict
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils import iis_samples as samples
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.plan_samples import made, request

RUNNING, STOPPED, DISABLED = ServiceState("Running", "Auto"), ServiceState("Stopped", "Auto"), ServiceState("Stopped", "Disabled")
UP, DOWN = PoolState("Started", True), PoolState("Stopped", False)
UM, ECP = "CVE-2021-26857", "CVE-2021-27065"

#: Exchange 2016 CU19 as it came out: before March 2021, before EM.
FACTS = ServerFacts(
    build=(15, 1, 2176, 2),
    blocked=(),
    rewrite_dll=True,
    services={"msexchangeum": RUNNING, "msexchangeumcr": ServiceState("Running", "Manual")},
    pools={"msexchangeecpapppool": UP, "msexchangeoabapppool": UP},
)


def after(facts: ServerFacts, result: Plan) -> ServerFacts:
    """Return the server after a plan."""
    services, pools = dict(facts.services or {}), dict(facts.pools or {})
    for service in result.services:
        assert services[service.name.lower()] == service.before != service.after
        services[service.name.lower()] = service.after
    for pool in result.pools:
        assert pools[pool.name.lower()] == pool.before != pool.after
        pools[pool.name.lower()] = pool.after
    blocked = [i for i in (*(facts.blocked or ()), *result.block_ids) if i not in result.unblock_ids]
    return dataclasses.replace(facts, services=services, pools=pools, blocked=tuple(blocked))


def look(identifier: str, **states: Any) -> Verdict:
    """Return the verdict on a mitigation."""
    mitigation = catalogue.find(identifier)
    assert mitigation is not None
    return verdict(mitigation, None, FACTS.build, (), **states)


@pytest.mark.parametrize(
    ("first", "second", "state", "maker", "word"),
    [
        (DISABLED, DISABLED, "applied", "other", None),
        (RUNNING, RUNNING, "absent", None, "MSExchangeUM is Running, Auto"),
        (DISABLED, RUNNING, "absent", None, "MSExchangeUMCR is Running, Auto"),
        (STOPPED, DISABLED, "absent", None, "wanted is Stopped, Disabled"),
        (ServiceState("Running", "Disabled"), DISABLED, "absent", None, "Running, Disabled"),
        (ServiceState("Stop Pending", "Disabled"), DISABLED, "absent", None, "Stop Pending"),
        (None, DISABLED, "applied", "other", "no service MSExchangeUM"),
        (None, None, "applied", None, "no service MSExchangeUM"),
    ],
)
def test_verdict_on_services(first: Any, second: Any, state: str, maker: str | None, word: str | None) -> None:
    found = look(UM, services={"MSExchangeUM": first, "MSExchangeUMCR": second})
    assert (found.kind, found.state, found.maker, found.needed, found.breaks) == ("service", state, maker, "yes", ())
    assert (word or "") in (found.reason or "")
    assert [str(e["rule"])[:20] for e in found.evidence] == ["service MSExchangeUM", "service MSExchangeUM"]


@pytest.mark.parametrize(
    ("pool", "state"), [(DOWN, "applied"), (UP, "absent"), (PoolState("Stopped", True), "absent"), (PoolState("Started", False), "absent"), (None, "applied")]
)
def test_verdict_on_pools(pool: Any, state: str) -> None:
    found = look(ECP, pools={"MSExchangeECPAppPool": pool})
    assert (found.kind, found.state) == ("app_pool", state)


@pytest.mark.parametrize("states", [{}, {"services": None}, {"services": {}}, {"services": {"MSExchangeUM": DISABLED}}])
def test_what_was_not_read_is_unknown_never_applied(states: Any) -> None:
    found = look(UM, **states)
    assert (found.state, found.problem is not None) == ("unknown", True)
    assert "was not read" in (found.reason or "")
    result = plan(request(UM), samples.server(), dataclasses.replace(FACTS, services=states.get("services")))
    assert [(r.id, r.reason) for r in result.refusals] == [(UM, "state_not_read")]


def test_ours_by_the_journal() -> None:
    down = {"MSExchangeUM": DISABLED, "MSExchangeUMCR": DISABLED}
    assert look(UM, services=down, ours=("msexchangeum", "MSExchangeUMCR")).maker == "us"
    assert look(UM, services=down, ours=("MSExchangeUM",)).maker == "other"


def test_there_and_back() -> None:
    server = samples.server()
    result = plan(request(UM, ECP), server, FACTS)
    assert (result.refusals, result.failures, result.edits, result.block_ids, result.changed) == ((), (), (), (), True)
    assert [(s.name, s.before, s.after, s.purposes) for s in result.services] == [
        ("MSExchangeUM", RUNNING, DISABLED, (UM,)),
        ("MSExchangeUMCR", ServiceState("Running", "Manual"), DISABLED, (UM,)),
    ]
    assert result.pools == (PoolChange("MSExchangeECPAppPool", UP, DOWN, (ECP,)),)
    assert result.steps == (*result.services, *result.pools)
    down = after(FACTS, result)
    assert [v.state for v in plan(request(UM, ECP), server, down).verdicts] == ["applied", "applied"]
    assert not plan(request(UM, ECP), server, down).changed
    kept = [*result.services, *result.pools]
    assert [v.maker for v in plan(request(UM, ECP), server, down, kept=kept).verdicts] == ["us", "us"]
    undo = plan(request(UM, ECP, state="absent"), server, down, kept=kept)
    assert after(down, undo) == FACTS
    assert [o.action for o in undo.outcomes] == ["remove", "remove"]
    assert not plan(request(UM, ECP, state="absent"), server, FACTS, kept=[*kept, *undo.services, *undo.pools]).changed
    assert after(down, rollback(server, down, [], kept=kept)) == FACTS
    assert after(down, rollback(None, down, [], kept=kept)) == FACTS


def test_the_plan_is_told() -> None:
    result = plan(request(UM, ECP), samples.server(), FACTS)
    headers = [f"service MSExchangeUM ({UM})", f"service MSExchangeUMCR ({UM})", f"application pool MSExchangeECPAppPool ({ECP})"]
    assert [d["before_header"] for d in result.diff] == [d["after_header"] for d in result.diff] == headers
    assert (result.diff[0]["before"], result.diff[0]["after"]) == ("Running, Auto\n", "Stopped, Disabled\n")
    assert (result.diff[2]["before"], result.diff[2]["after"]) == ("Started, autoStart true\n", "Stopped, autoStart false\n")
    assert "goes from Running, Auto to Stopped, Disabled" in result.effects[0]
    assert any("503" in text for text in result.side_effects)


def test_the_applications_of_a_pool_are_told() -> None:
    server = samples.server()
    data = (server.application_host.data or b"").replace(b'path="/ecp" applicationPool="P"', b'path="/ecp" applicationPool="MSExchangeECPAppPool"')
    named = type(server)(dataclasses.replace(server.application_host, data=data), server.files, server.environment)
    result = plan(request(ECP), named, FACTS)
    assert result.effects[0].endswith("its worker processes end, and Default Web Site/ecp answer 503.")
    back = plan(request(ECP, state="absent"), named, after(FACTS, result), kept=result.pools)
    assert back.effects[0].endswith("Default Web Site/ecp answer again.")


def test_half_done_is_finished_and_the_first_before_counts() -> None:
    server = samples.server()
    first = plan(request(ECP), server, FACTS)
    # Managed Availability starts the pool again.
    started = dataclasses.replace(FACTS, pools={"msexchangeecpapppool": PoolState("Started", False)})
    second = plan(request(ECP), server, started, kept=first.pools)
    assert second.pools == (PoolChange("MSExchangeECPAppPool", PoolState("Started", False), DOWN, (ECP,)),)
    undo = plan(request(ECP, state="absent"), server, after(started, second), kept=[*first.pools, *second.pools])
    assert undo.pools == (PoolChange("MSExchangeECPAppPool", DOWN, UP, (ECP,)),)
    # Undone while it runs: only what still is ours goes back.
    undo = plan(request(ECP, state="absent"), server, started, kept=first.pools)
    assert undo.pools == (PoolChange("MSExchangeECPAppPool", PoolState("Started", False), UP, (ECP,)),)


def test_what_others_did_stays_unless_told() -> None:
    server, down = samples.server(), dataclasses.replace(FACTS, services={"msexchangeum": DISABLED, "msexchangeumcr": DISABLED})
    left = plan(request(UM, state="absent"), server, down)
    assert (left.changed, left.outcomes[0].reason) == (False, "foreign")
    assert "service MSExchangeUM, service MSExchangeUMCR; include_foreign: true" in left.warnings[0]
    taken = plan(request(UM, state="absent", include_foreign=True), server, down)
    assert {s.after for s in taken.services} == {RUNNING}
    # A service that merely does not run is nobody's mitigation.
    idle = dataclasses.replace(FACTS, services={"msexchangeum": STOPPED, "msexchangeumcr": STOPPED})
    assert not plan(request(UM, state="absent", include_foreign=True), server, idle).changed


def test_an_undo_of_the_journal_makes_it_foreign_again() -> None:
    server = samples.server()
    there = ServiceChange("MSExchangeUM", RUNNING, DISABLED, (UM,))
    down = dataclasses.replace(FACTS, services={"msexchangeum": DISABLED, "msexchangeumcr": None})
    back = ServiceChange("MSExchangeUM", DISABLED, RUNNING, (UM,))
    assert plan(request(UM, state="absent"), server, down, kept=[there]).services == (dataclasses.replace(back),)
    assert plan(request(UM, state="absent"), server, down, kept=[there, back]).services == ()


def test_one_pool_for_two_purposes_is_one_change() -> None:
    from ansible_collections.exchange.mitigation.plugins.module_utils._mitigations._values import NO_NAMES, Mitigation, PoolAction

    base = catalogue.find(ECP)
    assert base is not None
    other = Mitigation("LOCAL-ECP", "LOCAL-ECP", "", "x", (PoolAction("msexchangeecpapppool"),), base.applicability, (), NO_NAMES, "app_pool", False)
    result = plan(request(ECP, "LOCAL-ECP", local=(other,)), samples.server(), FACTS)
    assert [(p.purposes, p.after) for p in result.pools] == [((ECP, "LOCAL-ECP"), DOWN)]


def test_rollback_keeps_what_changed_since() -> None:
    change = ServiceChange("MSExchangeUM", RUNNING, DISABLED, (UM,))
    manual = dataclasses.replace(FACTS, services={"msexchangeum": ServiceState("Stopped", "Manual")})
    result = rollback(None, manual, [], kept=[change])
    assert result.services == (ServiceChange("MSExchangeUM", ServiceState("Stopped", "Manual"), ServiceState("Running", "Manual"), (UM,)),)
    assert "was changed since" in result.warnings[0]
    assert rollback(None, FACTS, [], kept=[change]).changed is False
    assert [r.reason for r in rollback(None, dataclasses.replace(FACTS, services=None), [], kept=[change]).refusals] == ["state_not_read"]
    gone = rollback(None, dataclasses.replace(FACTS, services={"msexchangeum": None}), [], kept=[change])
    assert (gone.changed, "does not exist" in gone.warnings[0]) == (False, True)


def test_rollback_of_files_needs_the_configuration() -> None:
    from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.plan_samples import Record

    assert [r.reason for r in rollback(None, FACTS, [Record(samples.ROOT_FILE, b"a", b"b", ("M1",))]).refusals] == ["configuration_not_read"]


@pytest.mark.parametrize("build", [(15, 1, 2176, 9), (15, 1, 2507, 6), (15, 2, 792, 3), (15, 2, 2562, 17)])
def test_unified_messaging_is_needed_on_2016_before_march_2021_only(build: Any) -> None:
    result = plan(request(UM), samples.server(), dataclasses.replace(FACTS, build=build))
    assert [(o.action, o.reason) for o in result.outcomes] == [("none", "not_needed")]


def test_a_service_does_not_wait_for_url_rewrite_nor_for_a_broken_file() -> None:
    broken = samples.server(root=b"<broken")
    result = plan(request(UM, "CVE-2021-26855"), broken, FACTS)
    assert [s.name for s in result.services] == ["MSExchangeUM", "MSExchangeUMCR"]
    assert [(f.id, f.reason) for f in result.failures] == [("CVE-2021-26855", "configuration_malformed")]
    assert made(broken, result) is broken


def test_named_ones_are_never_meant_by_a_feed() -> None:
    ask = Request(("all",), feed=("CVE-2021-26857", "PING1"))
    result = plan(ask, samples.server(), FACTS)
    assert [(f.id, f.reason) for f in result.failures] == [("CVE-2021-26857", "unsupported_mitigation")]
    assert plan(dataclasses.replace(ask, mitigations=("all", "CVE-2021-26857")), samples.server(), FACTS).services
