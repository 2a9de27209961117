# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans with what a local document defines: several rules of one mitigation, some of them there already, some of an earlier form."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _local, _xml_guard
from ansible_collections.exchange.mitigation.plugins.module_utils._mitigations._values import ServiceAction, ServiceState
from ansible_collections.exchange.mitigation.plugins.module_utils._plan import Request, plan, rollback
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils import iis_samples as samples
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.plan_samples import EM_ON, FACTS, files, made, records
from attacks.cases_local import APPLIES, INBOUND, OUTBOUND, SERVICE, STATUS, config, content

SECOND = INBOUND.replace("zeroday", "another")


def definitions(*configs: str) -> tuple[Any, ...]:
    """Return what an (unsigned) local document defines."""
    document = _local.parse(_xml_guard.parse(content(*configs).encode()), "local")
    assert isinstance(document, _local.LocalDocument)
    return document.definitions


def request(*actions: str, **options: Any) -> Request:
    found = definitions(config("".join(actions)))
    return Request(("LOCAL-2026.1",), feed=("LOCAL-2026.1",), local=found, **options)


def test_all_of_it_and_the_way_back() -> None:
    server = samples.server()
    wanted = request(INBOUND, SECOND, OUTBOUND)
    result = plan(wanted, server, FACTS)
    assert result.refusals == () and len(result.edits) == 2
    after = made(server, result)
    again = plan(wanted, after, FACTS)
    assert [v.state for v in again.verdicts] == ["applied"] and not again.changed
    absent = dataclasses.replace(wanted, state="absent")
    for journal in ((), records(result.edits)):
        back = plan(absent, after, FACTS, journal)
        assert back.refusals == () and files(made(after, back)) == files(server)
    assert files(made(after, rollback(after, FACTS, records(result.edits)))) == files(server)


@pytest.mark.parametrize("present", [pair for n in (1, 2) for pair in itertools.combinations((INBOUND, SECOND, OUTBOUND), n)])
def test_what_is_missing_is_added_and_nothing_twice(present: tuple[str, ...]) -> None:
    """Whatever part of it is in force: the rest comes, once, and undo takes all."""
    server = samples.server()
    wanted = request(INBOUND, SECOND, OUTBOUND)
    # The same names as in the whole: a document of fewer actions numbers its rules anew, so the whole is applied and the rest taken out.
    whole = made(server, plan(wanted, server, FACTS))
    rest = tuple(action for action in wanted.local[0].actions for text in (INBOUND, SECOND, OUTBOUND) if _is(action, text) and text not in present)
    parts = dataclasses.replace(wanted.local[0], actions=rest)
    partly = made(whole, plan(dataclasses.replace(wanted, local=(parts,), state="absent", on_conflict="skip"), whole, FACTS))
    result = plan(wanted, partly, FACTS)
    assert result.refusals == () and result.changed
    after = made(partly, result)
    names = [rule.name for path in ("/", "/owa") for rule in _rules(after, path) if rule.level == path]
    assert len(names) == len(set(names)) == 3
    assert not plan(wanted, after, FACTS).changed


def _is(action: Any, text: str) -> bool:
    return getattr(action.rules[0], "pattern", "text/html") in text


def _rules(server: Any, path: str) -> list[Any]:
    effective = server.effective_rewrite(samples.SITE, path)
    return [*effective.inbound, *effective.outbound]


def test_an_earlier_form_is_a_conflict_until_told() -> None:
    server = samples.server()
    first = made(server, plan(request(INBOUND, OUTBOUND), server, FACTS))
    later = request(SECOND, OUTBOUND)
    assert [r.reason for r in plan(later, first, FACTS).refusals] == ["conflicting"]
    after = made(first, plan(dataclasses.replace(later, on_conflict="replace"), first, FACTS))
    assert [v.state for v in plan(later, after, FACTS).verdicts] == ["applied"]
    assert [rule.name for rule in _rules(after, "/")] == ["exchange.mitigation LOCAL-2026.1 - inbound"]
    assert files(made(after, plan(dataclasses.replace(later, state="absent"), after, FACTS))) == files(server)


def test_em_has_no_part_in_it() -> None:
    for when in ("leave", "take_over"):
        result = plan(request(INBOUND, when_em_active=when), samples.server(), EM_ON)
        assert [outcome.action for outcome in result.outcomes] == ["apply"] and result.block_ids == ()


def test_a_block_is_honoured() -> None:
    result = plan(request(INBOUND), samples.server(), dataclasses.replace(FACTS, blocked=("LOCAL-2026",)))
    assert [outcome.reason for outcome in result.outcomes] == ["blocked"] and not result.changed


def test_the_status_matters_the_other_way_round_it_does_not() -> None:
    """A document that wants a status gets it; one that wants the request dropped is content with another end of it."""
    server = samples.server()
    status = INBOUND.replace('answer="abort"', 'answer="404"')
    dropped = made(server, plan(request(INBOUND), server, FACTS))
    assert [r.reason for r in plan(request(status), dropped, FACTS).refusals] == ["conflicting"]
    answered = made(server, plan(request(status), server, FACTS))
    assert b'type="CustomResponse" statusCode="404"' in (answered.state_of(samples.ROOT_FILE).data or b"")
    assert [v.state for v in plan(request(INBOUND), answered, FACTS).verdicts] == ["applied"]


def test_several_conditions_are_all_there() -> None:
    server = samples.server()
    wanted = request(STATUS)
    result = plan(wanted, server, FACTS)
    after = made(server, result)
    (rule,) = [rule for rule in _rules(after, "/ecp") if rule.level == "/ecp"]
    assert [condition["input"] for condition in rule.conditions] == ["{REQUEST_METHOD}", "{REQUEST_URI}"]
    half = after.with_file(rule.file, (after.state_of(rule.file).data or b"").replace(b'<add input="{REQUEST_METHOD}" pattern="^POST$" />', b""))
    assert [v.state for v in plan(wanted, half, FACTS).verdicts] == ["conflicting"]


@pytest.mark.parametrize(
    ("build", "needed"),
    [((15, 2, 1544, 47), "yes"), ((15, 2, 1544, 48), "no"), ((15, 2, 1258, 12), "yes"), ((15, 2, 2562, 17), "no"), ((15, 1, 2507, 6), "no")],
)
def test_builds(build: Any, needed: str) -> None:
    (one,) = definitions(config(before=APPLIES))
    assert one.needed(build) == needed


def test_services_and_rules_are_one_mitigation_and_come_and_go_together() -> None:
    server = samples.server()
    wanted = request(INBOUND, SERVICE)
    name = next(action.names[0] for action in wanted.local[0].actions if isinstance(action, ServiceAction))
    running = dataclasses.replace(FACTS, services={name.lower(): ServiceState("Running", "Auto")})
    result = plan(wanted, server, running)
    assert result.refusals == () and len(result.edits) == 1
    assert [(change.name, change.after.state) for change in result.services] == [(name, "Stopped")]
    after = dataclasses.replace(running, services={name.lower(): result.services[0].after})
    assert not plan(wanted, made(server, result), after, kept=result.services).changed
    back = plan(dataclasses.replace(wanted, state="absent"), made(server, result), after, kept=result.services)
    assert [change.after for change in back.services] == [ServiceState("Running", "Auto")]
    assert files(made(made(server, result), back)) == files(server)
