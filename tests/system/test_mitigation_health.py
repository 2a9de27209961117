# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health probes against the lab's HTTP: what they compare, when they undo, and what they never hold against a change."""

from __future__ import annotations

import pathlib
import ssl
import urllib.request
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _apply, _health
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, InvalidInput, Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._journal import History
from ansible_collections.exchange.mitigation.plugins.modules import mitigation
from lab_task import hashes, run
from test_mitigation import OWA, folder, options, states

PATHS = ["/owa/", "/owa/Calendar/", "/ecp/"]


@pytest.fixture
def journal(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "journal")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_health, "PAUSE", 0.05)


def health(fleet: Any, machine: Any, **more: Any) -> dict[str, Any]:
    url = f"https://127.0.0.1:{fleet.port(machine, 'web_https')}"
    return {"url": url, "ca_path": str(fleet.pki.tls_ca_path), "timeout": 5, "paths": PATHS, **more}


def from_host(**more: Any) -> dict[str, Any]:
    return {"from": "host", "timeout": 5, "paths": PATHS, **more}


@pytest.mark.parametrize("source", ["controller", "host"])
def test_a_good_change_is_healthy_and_stops_the_attack(lab_fleet: Any, journal: str, source: str) -> None:
    machine = lab_fleet.machine("EX1")
    machine.sidecar.section("web")["owa_content_security_policy"] = "default-src 'self'"
    wanted = health(lab_fleet, machine) if source == "controller" else from_host()
    done = run(mitigation, lab_fleet, machine, options(journal, health={**wanted, "required": source == "controller", "attack_probe": True}))
    machine.sidecar.section("web").clear()
    found = done["health"]
    assert [(entry["path"], entry["before"], entry["after"], entry["state"]) for entry in found["paths"]] == [(path, "200", "200", "healthy") for path in PATHS]
    probes = {entry["id"]: (entry["before"], entry["state"]) for entry in found["attack_probes"]}
    if source == "controller":
        assert found["state"] == "healthy"
        assert probes == {"M1": ("200", "stopped"), "M2": ("200", "stopped")}
    else:
        # .NET's sentence for an answer that never came is translated, so it says nothing.
        assert probes == {"M1": ("200", "unknown"), "M2": ("200", "stopped")}


def broken(fleet: Any, machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is verified last breaks /ecp for a reason that IIS's parser does not see."""
    genuine = _apply.Files.make

    def spoiling(self: Any, *arguments: Any) -> Any:
        made = genuine(self, *arguments)
        if machine.pools.state("MSExchangeECPAppPool") == "Started":
            machine.pools.stop("MSExchangeECPAppPool")
        return made

    monkeypatch.setattr(_apply.Files, "make", spoiling)


@pytest.mark.parametrize("source", ["controller", "host"])
def test_a_required_check_that_fails_is_undone_and_said_so(lab_fleet: Any, journal: str, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    machine = lab_fleet.machine("EX1")
    before = hashes(machine)
    broken(lab_fleet, machine, monkeypatch)
    wanted = health(lab_fleet, machine, required=True) if source == "controller" else from_host(required=True)
    with pytest.raises(ApplyError) as caught:
        run(mitigation, lab_fleet, machine, options(journal, health=wanted))
    machine.pools.restart()
    assert caught.value.reason == "health_failed"
    assert caught.value.details["undone"] is True
    assert "/ecp/ (200 before, 503 now)" in caught.value.message
    assert "taken back" in caught.value.message
    assert {entry["path"]: entry["state"] for entry in caught.value.details["health"]["paths"]}["/ecp/"] == "failed"
    assert hashes(machine) == before
    assert [entry.event for entry in History(journal, "EX1").operations] == ["undone", "undone"]
    # The block that this run set went with it, so EM is let in again.
    assert not lab_fleet.organization.settings("EX1").get("MitigationsBlocked")


def test_a_check_that_is_not_required_warns_and_the_change_stays(lab_fleet: Any, journal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = lab_fleet.machine("EX1")
    broken(lab_fleet, machine, monkeypatch)
    done = run(mitigation, lab_fleet, machine, options(journal, health=health(lab_fleet, machine)))
    machine.pools.restart()
    assert states(done) == {"M1": "applied", "M2": "applied"}
    assert done["health"]["state"] == "failed"
    assert any("/ecp/" in warning and "stays" in warning for warning in done["warnings"])


def test_what_failed_before_is_not_held_against_the_change(lab_fleet: Any, journal: str) -> None:
    machine = lab_fleet.machine("EX1")
    machine.pools.stop("MSExchangeECPAppPool")
    done = run(mitigation, lab_fleet, machine, options(journal, health=health(lab_fleet, machine, required=True)))
    machine.pools.restart()
    assert {entry["path"]: entry["state"] for entry in done["health"]["paths"]} == {"/owa/": "healthy", "/owa/Calendar/": "healthy", "/ecp/": "failed_before"}
    assert done["health"]["state"] == "healthy"


def test_a_page_that_was_broken_and_is_mended_is_healthy(lab_fleet: Any, journal: str) -> None:
    """EM's M2 makes /owa/Calendar answer 500.19; taking it over mends that."""
    machine = lab_fleet.machine("EX1")
    lab_fleet.em_cycle("adds")
    done = run(mitigation, lab_fleet, machine, options(journal, health=health(lab_fleet, machine, required=True)))
    assert {entry["path"]: (entry["before"], entry["state"]) for entry in done["health"]["paths"]}["/owa/Calendar/"] == ("500", "healthy")


@pytest.mark.parametrize("required", [True, False])
def test_a_server_that_is_not_reached_is_unknown_or_refused_beforehand(lab_fleet: Any, journal: str, required: bool) -> None:
    machine = lab_fleet.machine("EX1")
    before = hashes(machine)
    wanted = {"url": "http://127.0.0.1:9", "timeout": 2, "required": required, "paths": PATHS}
    if required:
        with pytest.raises(Refused) as caught:
            run(mitigation, lab_fleet, machine, options(journal, health=wanted))
        assert caught.value.reason == "health_unreachable"
        assert hashes(machine) == before
        assert lab_fleet.access_log.writes() == []
        return
    done = run(mitigation, lab_fleet, machine, options(journal, health=wanted))
    assert states(done) == {"M1": "applied", "M2": "applied"}
    assert done["health"]["state"] == "unknown"
    assert {entry["state"] for entry in done["health"]["paths"]} == {"unknown"}


def test_a_certificate_that_is_not_trusted_is_not_reached(lab_fleet: Any, journal: str) -> None:
    machine = lab_fleet.machine("EX1")
    wanted = {key: value for key, value in health(lab_fleet, machine, required=True).items() if key != "ca_path"}
    with pytest.raises(Refused) as caught:
        run(mitigation, lab_fleet, machine, options(journal, health=wanted))
    assert "CERTIFICATE_VERIFY_FAILED" in caught.value.message or "certificate" in caught.value.message.lower()


def test_nothing_is_probed_in_check_mode_nor_where_nothing_changes(lab_fleet: Any, journal: str) -> None:
    machine = lab_fleet.machine("EX1")
    wanted = options(journal, health={"url": "http://127.0.0.1:9", "required": True, "timeout": 2})
    checked = run(mitigation, lab_fleet, machine, wanted, check=True)
    assert (checked["changed"], checked["health"]) == (True, None)
    run(mitigation, lab_fleet, machine, options(journal))
    again = run(mitigation, lab_fleet, machine, wanted)
    assert (again["changed"], again["health"]) == (False, None)


def test_an_attack_that_gets_through_fails_the_check(lab_fleet: Any, journal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule is in force as far as IIS's configuration says, and a module in front answers all the same."""
    machine = lab_fleet.machine("EX1")
    before = (folder(machine) / OWA).read_bytes()
    monkeypatch.setitem(_health.PROBES, "M1", _health.Probe("/owa/?x"))
    with pytest.raises(ApplyError) as caught:
        run(mitigation, lab_fleet, machine, options(journal, health=health(lab_fleet, machine, required=True, attack_probe=True)))
    assert "the probe of M1 still gets through (200)" in caught.value.message
    assert (folder(machine) / OWA).read_bytes() == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"paths": ["owa"]},
        {"url": "https://user:word@ex1"},
        {"url": "https://ex1/owa"},
        {"url": "ftp://ex1"},
        {"timeout": 0},
        {"from": "host", "ca_path": "/tmp/ca.pem"},
    ],
)
def test_options_that_cannot_be_meant(lab_fleet: Any, journal: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        run(mitigation, lab_fleet, lab_fleet.machine("EX1"), options(journal, health=wrong))


def test_the_lab_serves_what_is_probed(lab_fleet: Any) -> None:
    """The probes of this file are real requests, not calls into the lab."""
    machine = lab_fleet.machine("EX1")
    trusted = ssl.create_default_context(cafile=str(lab_fleet.pki.tls_ca_path))
    with urllib.request.urlopen(f"https://127.0.0.1:{lab_fleet.port(machine, 'web_https')}/owa/", context=trusted) as answer:
        assert answer.status == 200
