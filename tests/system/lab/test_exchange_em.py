# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulated EM service: when it acts, what it writes, and what IIS then answers."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import pytest
from exchange_calls import run, settings

from lab import document, em
from lab.builds import ServerPlan
from lab.em_config import Unusable, WebConfig, parse
from lab.fleet import Fleet
from lab.iis_engine import WebAnswer
from lab.machine import Machine
from lab.pki import RELEASED

ATTACK = "/autodiscover/autodiscover.json?@evil.example/PowerShell/"
OWA = "%ExchangeInstallPath%FrontEnd\\HttpProxy\\owa\\web.config"
ROOT = "C:\\inetpub\\wwwroot\\web.config"
#: The rule as this project's collection places it: inside the location block of the stock file.
OURS = (
    b'<rewrite><outboundRules><rule name="ours" preCondition="ours - precondition" patternSyntax="ECMAScript" stopProcessing="false">'
    b'<match serverVariable="RESPONSE_Content_Security_Policy" pattern="(.*)" /><action type="Rewrite" value="{R:1}; script-src-attr \'none\'" />'
    b'</rule><preConditions><preCondition name="ours - precondition"><add input="{RESPONSE_CONTENT_TYPE}" pattern="^text/html" />'
    b"</preCondition></preConditions></outboundRules></rewrite>"
)
SERVERS = [
    ServerPlan("EX1", "Exchange2016", "15.1.2507.13"),
    ServerPlan("AIRGAP", "Exchange2019", "15.2.1748.46", internet=False),
    ServerPlan("BARE", "ExchangeSE", "15.2.2562.43", url_rewrite=False),
    ServerPlan("FIXED", "ExchangeSE", "15.2.2562.45"),
    ServerPlan("STOPPED", "Exchange2019", "15.2.1748.46", em_service="Stopped"),
    ServerPlan("OLD", "Exchange2019", "15.2.922.7"),
]


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """A fleet without listeners."""
    made = Fleet(SERVERS, lag=0)
    yield made
    made.stop()


def _files(machine: Machine) -> tuple[bytes, bytes]:
    return machine.files.read(ROOT), machine.files.read(OWA)


def _status(machine: Machine, path: str) -> int:
    answer = machine.iis.request("GET", path)
    return answer.status if isinstance(answer, WebAnswer) else 0


def _apply_ours(machine: Machine) -> None:
    before = machine.files.read(OWA)
    place = before.index(b"<system.webServer>", before.index(b"<location")) + len(b"<system.webServer>")
    machine.files.write(OWA, before[:place] + OURS + before[place:])


def test_em_reports_what_it_applied(fleet: Fleet) -> None:
    assert fleet.em_cycle() == {
        "EX1": ["PING1", "M1.1", "M2.1.0"],
        "AIRGAP": None,
        "BARE": ["PING1"],
        "FIXED": ["PING1"],
        "STOPPED": None,
        "OLD": None,
    }
    shown = settings(fleet, "EX1", "EX1")
    assert shown["MitigationsApplied"].value == ["PING1", "M1.1", "M2.1.0"]
    assert abs((datetime.datetime.now(datetime.timezone.utc) - shown["MitigationsAppliedTime"]).total_seconds()) < 60
    assert settings(fleet, "EX1", "AIRGAP")["MitigationsAppliedTime"] is None


def test_em_writes_its_rules_outside_the_location(fleet: Fleet) -> None:
    machine = fleet.machine("EX1")
    root, owa = _files(machine)
    fleet.em_cycle()
    for before, after, name in zip((root, owa), _files(machine), ("EEMS M1.1 PowerShell - inbound", "EEMS M2.1 OWA CSP - outbound"), strict=True):
        assert after.index(f'name="{name}"'.encode()) > after.rindex(b"</location>")
        added = after[after.index(b"    <system.webServer>", after.rindex(b"</location>")) : after.rindex(b"</configuration>")]
        assert before == after.replace(added, b"", 1)
        assert (b"\r\n" in after) == (b"\r\n" in before)
    assert _files(fleet.machine("FIXED"))[1].count(b"EEMS") == 0


def test_em_mitigates(fleet: Fleet) -> None:
    machine = fleet.machine("EX1")
    assert _status(machine, ATTACK) != 0
    fleet.em_cycle()
    assert _status(machine, ATTACK) == 0
    answer = machine.iis.request("GET", "/owa/")
    assert isinstance(answer, WebAnswer) and answer.status == 200
    assert "script-src-attr 'none'" in {name.lower(): value for name, value in answer.headers.items()}["content-security-policy"]


def test_em_breaks_the_calendar_and_not_owa(fleet: Fleet) -> None:
    machine = fleet.machine("EX1")
    assert _status(machine, "/owa/Calendar/") == 200
    fleet.em_cycle()
    assert (_status(machine, "/owa/"), _status(machine, "/owa/Calendar/")) == (200, 500)


def test_em_is_idempotent_in_every_variant(fleet: Fleet) -> None:
    machine = fleet.machine("EX1")
    fleet.em_cycle()
    files = _files(machine)
    for variant in em.VARIANTS:
        fleet.em_cycle(variant)
        assert _files(machine) == files


def test_em_does_nothing_where_it_is_off(fleet: Fleet) -> None:
    machine = fleet.machine("EX1")
    before = _files(machine)
    run(fleet, "EX1", "Set-OrganizationConfig", MitigationsEnabled=False)
    assert fleet.em_cycle()["EX1"] is None
    run(fleet, "EX1", "Set-OrganizationConfig", MitigationsEnabled=True)
    run(fleet, "EX1", "Set-ExchangeServer", Identity="EX1", MitigationsEnabled=False)
    assert fleet.em_cycle()["EX1"] is None
    assert _files(machine) == before and settings(fleet, "EX1", "EX1")["MitigationsAppliedTime"] is None
    run(fleet, "EX1", "Set-ExchangeServer", Identity="EX1", MitigationsEnabled=True)
    fleet.em_cycle()
    applied = _files(machine)
    run(fleet, "EX1", "Set-OrganizationConfig", MitigationsEnabled=False)
    fleet.em_cycle()
    assert _files(machine) == applied != before


def test_em_adds_a_deleted_rule_again(fleet: Fleet) -> None:
    machine = fleet.machine("EX1")
    before = machine.files.read(OWA)
    fleet.em_cycle()
    applied = machine.files.read(OWA)
    machine.files.write(OWA, before)
    fleet.em_cycle()
    assert machine.files.read(OWA) == applied


@pytest.mark.parametrize(
    ("blocked", "exact", "prefix"),
    [
        (["M2"], ["PING1", "M1.1"], ["PING1", "M1.1"]),
        (["m2.1.0"], ["PING1", "M1.1"], ["PING1", "M1.1"]),
        (["M2.1"], ["PING1", "M1.1", "M2.1.0"], ["PING1", "M1.1"]),
        (["M20", "M"], ["PING1", "M1.1", "M2.1.0"], ["PING1", "M1.1", "M2.1.0"]),
        (["PING1", "M1"], ["M2.1.0"], ["M2.1.0"]),
    ],
)
def test_blocking_by_id(fleet: Fleet, blocked: list[str], exact: list[str], prefix: list[str]) -> None:
    run(fleet, "EX1", "Set-ExchangeServer", Identity="EX1", MitigationsBlocked=blocked)
    assert fleet.em_cycle()["EX1"] == exact
    assert fleet.em_cycle(blocking="prefix")["EX1"] == prefix


def test_blocking_does_not_remove(fleet: Fleet) -> None:
    fleet.em_cycle()
    run(fleet, "EX1", "Set-ExchangeServer", Identity="EX1", MitigationsBlocked=["M1", "M2"])
    files = _files(fleet.machine("EX1"))
    assert fleet.em_cycle()["EX1"] == ["PING1"] and _files(fleet.machine("EX1")) == files


def test_old_builds_cannot_read_newer_documents(fleet: Fleet) -> None:
    fleet.em_cycle()
    fleet.feed.publish()
    assert fleet.em_cycle()["EX1"] is None and fleet.em_cycle()["FIXED"] == ["PING1"]
    assert settings(fleet, "EX1", "EX1")["MitigationsApplied"].value == ["PING1", "M1.1", "M2.1.0"]
    fleet.feed.publish([document.ping()], signed_at=RELEASED)
    assert fleet.em_cycle()["EX1"] == ["PING1"]


def test_em_logs_events(fleet: Fleet) -> None:
    fleet.em_cycle()
    rows = {machine.name: [(row["id"], row["level"]) for row in machine.events.rows()] for machine in fleet.machines}
    assert rows["EX1"] == [(1005, "Information"), (1005, "Information")]
    assert rows["AIRGAP"] == rows["BARE"] == [(1008, "Error")]
    assert rows["STOPPED"] == rows["OLD"] == []


@pytest.mark.parametrize("variant", em.VARIANTS)
def test_owa_never_answers_500_beside_our_rule(fleet: Fleet, variant: str) -> None:
    machine = fleet.machine("EX1")
    _apply_ours(machine)
    ours = machine.files.read(OWA)
    for dummy in range(2):
        fleet.em_cycle(variant)
        assert (_status(machine, "/owa/"), _status(machine, "/owa/Calendar/")) == (200, 200)
    names = [rule.attributes["name"] for rule in WebConfig(machine.files.read(OWA)).rules("rewrite/outboundRules")]
    expected = {"skips": ["ours"], "adds": ["ours", em.M2.name], "replaces": [em.M2.name]}
    assert names == expected[variant]
    assert (machine.files.read(OWA) == ours) == (variant == "skips")


def test_em_adds_into_the_section_that_is_there(fleet: Fleet) -> None:
    machine = fleet.machine("EX1")
    _apply_ours(machine)
    fleet.em_cycle("adds")
    data = machine.files.read(OWA)
    assert data.count(b"<outboundRules>") == 1 and data.index(em.M2.name.encode()) < data.index(b"</location>")


def test_a_section_that_stands_twice_is_refused(fleet: Fleet) -> None:
    machine = fleet.machine("EX1")
    _apply_ours(machine)
    fleet.em_cycle("adds", placement="outside")
    assert machine.files.read(OWA).count(b"<outboundRules>") == 2
    answer = machine.iis.request("GET", "/owa/")
    assert isinstance(answer, WebAnswer) and (answer.status, answer.substatus) == (500, 19)


def test_replaces_keeps_other_rules_and_shared_preconditions(fleet: Fleet) -> None:
    machine = fleet.machine("EX1")
    _apply_ours(machine)
    other = b'<rule name="other" preCondition="ours - precondition"><match serverVariable="RESPONSE_X" pattern=".*" />'
    other += b'<action type="Rewrite" value="1" /></rule>'
    data = machine.files.read(OWA)
    machine.files.write(OWA, data.replace(b"<preConditions>", other + b"<preConditions>", 1))
    fleet.em_cycle("replaces")
    config = WebConfig(machine.files.read(OWA))
    assert [rule.attributes["name"] for rule in config.rules("rewrite/outboundRules")] == ["other", em.M2.name]
    assert [entry.attributes["name"] for entry in config.preconditions("rewrite/outboundRules")] == ["ours - precondition", em.M2.precondition]
    assert _status(machine, "/owa/") == 200


def test_em_leaves_a_malformed_file_alone(fleet: Fleet) -> None:
    machine = fleet.machine("EX1")
    machine.files.write(OWA, b"<configuration><system.web></configuration>")
    assert fleet.em_cycle()["EX1"] == ["PING1", "M1.1"]
    assert machine.files.read(OWA) == b"<configuration><system.web></configuration>"
    assert machine.events.rows()[-1]["id"] == 1008


@pytest.mark.parametrize("data", [b"<a/>", b"<a b=\">\" c='/>'></a>", b"\xef\xbb\xbf<a>\r\n  <b x='1'/>\r\n</a>", "<a ä='ö'>ü<b/></a>".encode()])
def test_offsets_are_those_of_the_bytes(data: bytes) -> None:
    root = parse(data)
    assert data[root.start : root.start + 2] == b"<a" and data[root.end - 1 : root.end] == b">" and root.end == len(data)
    for child in root.children:
        assert data[child.start : child.end].startswith(b"<b") and data[child.start : child.end].endswith(b"/>") and child.empty


@pytest.mark.parametrize("data", [b"", b"<a>", "<a/>".encode("utf-16"), b"<a></b>"])
def test_unusable_files_are_named_so(data: bytes) -> None:
    with pytest.raises(Unusable):
        parse(data)
