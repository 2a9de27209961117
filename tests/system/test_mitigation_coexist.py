# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Beside a running EM: the M2 trap, relocate, take over, retire; attack requests before and after. No flapping, no double, never 500.19."""

from __future__ import annotations

import http.client
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.modules import mitigation, server_info
from fault_bench import EX_SETUP
from lab_task import contents, folder, hashes, put_back, run
from test_mitigation import CHILDREN, OWA, ROOT, options, policy, states, status

VARIANTS = ("skips", "adds", "replaces")
POLICY = "script-src-attr 'none'"

#: The published attack on CVE-2022-41040, and the spellings that passed earlier patterns (FACTS.md 2.2).
SPELLINGS = (
    "/autodiscover/autodiscover.json?a@foo.var/owa/?&Email=autodiscover/autodiscover.json?a@foo.var&Protocol=XYZ&FooProtocol=Powershell",
    "/autodiscover/autodiscover.json?a%40foo.var/owa/?&Email=autodiscover/autodiscover.json&FooProtocol=Powershell",
    "/autodiscover/autodiscover.json?foo.var/powershell",
    "/%61utodiscover/%61utodiscover.json?x=%50owershell",
    "/autodiscover/%61utodiscover%2ejson?x/p%6fwershell",
    "/AutoDiscover/AutoDiscover.xml?&FooProtocol=POWERSHELL",
    "/owa/?powershell/../autodiscover/x",
)
#: The cookies of CVE-2021-26855, and requests that look alike and must pass.
COOKIES = ("X-AnonResource-Backend=localhost/ecp/x.js?~3", "X-BEResource=localhost/owa/auth/logon.aspx?~1942062522", "a=b; x-beresource=ex1/ews/a~1")
HARMLESS = ("/owa/", "/autodiscover/autodiscover.xml", "/owa/?x=power", "/ecp/")


@pytest.fixture
def journal(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "journal")


def sent(fleet: Any, machine: Any, path: str, cookie: str | None = None) -> int | str:
    """Send a request over HTTP as it is spelt and return its status, or that the connection was closed."""
    connection = http.client.HTTPConnection("127.0.0.1", fleet.port(machine, "web_http"), timeout=10)
    try:
        connection.putrequest("GET", path, skip_host=True)
        connection.putheader("Host", machine.fqdn)
        if cookie:
            connection.putheader("Cookie", cookie)
        connection.endheaders()
        return connection.getresponse().status
    except (http.client.RemoteDisconnected, ConnectionResetError):
        return "closed"
    finally:
        connection.close()


def names(machine: Any, path: str) -> list[str]:
    """Return the names of the mitigation's rules in a file, preconditions left out."""
    import re

    text = (folder(machine) / path).read_bytes().decode()
    return re.findall(r'<rule name="([^"]*)"', text)


# --- attack requests


@pytest.mark.parametrize("maker", ["us", "em"])
def test_the_attack_on_cve_2022_41040_in_every_spelling(lab_fleet: Any, journal: str, maker: str) -> None:
    machine = lab_fleet.machine("EX1")
    assert {sent(lab_fleet, machine, path) for path in SPELLINGS} <= {200, 404}
    harmless = {path: sent(lab_fleet, machine, path) for path in HARMLESS}
    if maker == "us":
        run(mitigation, lab_fleet, machine, options(journal, mitigations=["M1"]))
    else:
        lab_fleet.em_cycle("adds")
    assert {path: sent(lab_fleet, machine, path) for path in SPELLINGS} == dict.fromkeys(SPELLINGS, "closed")
    if maker == "us":
        assert {path: sent(lab_fleet, machine, path) for path in HARMLESS} == harmless


@pytest.fixture(scope="module")
def old_fleet() -> Iterator[Any]:
    from lab.builds import ServerPlan
    from lab.fleet import Fleet

    with Fleet([ServerPlan("OLD1", "Exchange2016", "15.1.2176.2"), ServerPlan("OLD2", "Exchange2019", "15.2.792.3")]) as fleet:
        yield fleet


@pytest.mark.parametrize("name", ["OLD1", "OLD2"])
def test_the_attack_on_cve_2021_26855(old_fleet: Any, journal: str, name: str) -> None:
    machine = old_fleet.machine(name)
    saved = contents(machine)
    assert {sent(old_fleet, machine, "/ecp/x.js", cookie) for cookie in COOKIES} == {200}
    done = run(mitigation, old_fleet, machine, {"mitigations": ["CVE-2021-26855"], "journal_dir": journal})
    assert states(done) == {"CVE-2021-26855": "applied"}
    assert {cookie: sent(old_fleet, machine, "/ecp/x.js", cookie) for cookie in COOKIES} == dict.fromkeys(COOKIES, "closed")
    assert sent(old_fleet, machine, "/ecp/x.js", "cadata=X; other=BEResource") == 200
    run(mitigation, old_fleet, machine, {"state": "absent", "mitigations": ["CVE-2021-26855"], "journal_dir": journal})
    assert contents(machine) == saved
    assert old_fleet.refusals == []


# --- the M2 trap


def test_the_m2_trap(lab_fleet: Any, journal: str) -> None:
    """Outside the location block the calendars answer 500.19; as this collection writes it they answer 200, with the header on /owa."""
    machine = lab_fleet.machine("EX1")
    lab_fleet.em_cycle("adds")
    answer = machine.iis.request("GET", "/owa/Calendar/", {"Host": machine.fqdn})
    assert (answer.status, answer.substatus) == (500, 19)
    assert sent(lab_fleet, machine, "/owa/Calendar/") == 500
    run(mitigation, lab_fleet, machine, options(journal, mitigations=["M2"]))
    assert [sent(lab_fleet, machine, path + "/") for path in ("/owa", *CHILDREN)] == [200] * 4
    assert POLICY in (policy(machine, "/owa/") or "")
    assert [policy(machine, path) for path in CHILDREN] == [None] * 3


# --- EM's three variants


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("way", ["relocate", "take_over"])
def test_several_cycles_without_flapping(lab_fleet: Any, journal: str, variant: str, way: str) -> None:
    """EM first, then we, then EM and we in turn: after our first run no file changes any more, nothing is there twice, all answer 200."""
    machine = lab_fleet.machine("EX1")
    lab_fleet.em_cycle(variant)
    assert status(machine, "/owa/Calendar/") == 500
    more = {"relocate": True, "when_em_active": "leave"} if way == "relocate" else {}
    wanted = options(journal, mitigations=["M2"], **more)
    checked = run(mitigation, lab_fleet, machine, wanted, check=True)
    assert lab_fleet.access_log.writes() == []
    first = run(mitigation, lab_fleet, machine, wanted)
    assert checked["diff"] == first["diff"]
    assert first["changed"] is True
    assert set(first["blocked_ids"]) == {"M2.1.0", "M2"}
    settled = hashes(machine)
    for dummy in range(3):
        lab_fleet.em_cycle(variant)
        assert hashes(machine) == settled, "EM changed a file again"
        again = run(mitigation, lab_fleet, machine, wanted, direct=True)
        assert again["changed"] is False
        assert hashes(machine) == settled
        assert [status(machine, path + "/") for path in ("/owa", *CHILDREN)] == [200] * 4
        assert POLICY in (policy(machine, "/owa/") or "")
    assert len(names(machine, OWA)) == 1
    (one,) = [entry for entry in run(server_info, lab_fleet, machine, {}, direct=True)["server"]["mitigations"] if entry["id"] == "M2"]
    assert (one["state"], one["breaks"], one["duplicates"]) == ("applied", [], [])


def test_relocate_leaves_the_rest_to_em(lab_fleet: Any, journal: str) -> None:
    machine = lab_fleet.machine("EX1")
    lab_fleet.em_cycle("adds")
    root = (folder(machine) / ROOT).read_bytes()
    done = run(mitigation, lab_fleet, machine, options(journal, relocate=True, when_em_active="leave"))
    assert states(done) == {"M1": "applied", "M2": "applied"}
    assert (folder(machine) / ROOT).read_bytes() == root
    assert names(machine, ROOT) == ["EEMS M1.1 PowerShell - inbound"]
    assert "M1" not in done["blocked_ids"]


# --- retired


@pytest.fixture
def updated(lab_fleet: Any) -> Iterator[Any]:
    """EX1 after its update, by a function that installs it."""
    machine = lab_fleet.machine("EX1")
    version = machine.version_of(EX_SETUP)

    def install() -> None:
        machine.set_version(EX_SETUP, **{**version, "FileVersion": "15.01.2507.071", "ProductVersion": "15.01.2507.071"})

    yield install
    machine.set_version(EX_SETUP, **version)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("maker", ["us", "em"])
def test_retired_is_blocked_removed_and_let_in_again(lab_fleet: Any, journal: str, updated: Any, variant: str, maker: str) -> None:
    machine = lab_fleet.machine("EX1")
    before = hashes(machine)
    wanted = {"state": "retired", "mitigations": ["M1", "M2"], "journal_dir": journal, "unblock": True}
    if maker == "us":
        run(mitigation, lab_fleet, machine, options(journal), direct=True)
    else:
        lab_fleet.em_cycle(variant)
    # The build still needs both: nothing happens.
    early = run(mitigation, lab_fleet, machine, wanted, direct=True)
    assert early["changed"] is False
    updated()
    lab_fleet.access_log.clear()
    checked = run(mitigation, lab_fleet, machine, wanted, check=True)
    assert lab_fleet.access_log.writes() == []
    done = run(mitigation, lab_fleet, machine, wanted)
    assert checked["diff"] == done["diff"]
    assert states(done) == {"M1": "absent", "M2": "absent"}
    assert names(machine, ROOT) == names(machine, OWA) == []
    if maker == "us":
        assert hashes(machine) == before
        assert set(done["unblocked_ids"]) >= {"M1", "M2"}
    assert run(mitigation, lab_fleet, machine, wanted, direct=True)["changed"] is False


def test_a_block_that_somebody_else_set_stays(lab_fleet: Any, journal: str, updated: Any) -> None:
    machine = lab_fleet.machine("EX1")
    lab_fleet.organization.change("EX1", {"MitigationsBlocked": ["M1"]})
    run(mitigation, lab_fleet, machine, options(journal, mitigations=["M2"]), direct=True)
    updated()
    done = run(mitigation, lab_fleet, machine, {"state": "retired", "mitigations": ["M1", "M2"], "journal_dir": journal, "unblock": True}, direct=True)
    assert "M1" not in done["unblocked_ids"]
    assert lab_fleet.organization.settings("EX1")["MitigationsBlocked"] == ["M1"]


def test_absent_removes_what_em_made_and_keeps_em_away(lab_fleet: Any, journal: str) -> None:
    machine = lab_fleet.machine("EX1")
    stock = contents(machine)
    for variant in VARIANTS:
        put_back(machine, stock)
        lab_fleet.organization.change("EX1", {"MitigationsBlocked": None})
        lab_fleet.em_cycle(variant)
        done = run(mitigation, lab_fleet, machine, {"state": "absent", "mitigations": ["M1", "M2"], "journal_dir": journal}, direct=True)
        assert set(done["blocked_ids"]) >= {"M1.1", "M2.1.0"}
        lab_fleet.em_cycle(variant)
        assert names(machine, ROOT) == names(machine, OWA) == []
