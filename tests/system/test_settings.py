# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules organization, server and organization_info over the wire: check, run, state, again; with replication that takes its time."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _settings
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import CmdletError, ConnectionFailure
from ansible_collections.exchange.mitigation.plugins.modules import organization, organization_info, server
from lab_task import run
from session_live import NAMES, WAYS

from playbooks import play

FIELDS = ("MitigationsEnabled", "MitigationsBlocked", "DataCollectionEnabled", "InternetWebProxy", "MitigationsApplied")


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    from lab.fleet import Fleet

    with Fleet(3, lag=0.3) as fleet:
        yield fleet


@pytest.fixture
def fleet(running: Any) -> Iterator[Any]:
    running.faults.clear()
    running.access_log.clear()
    yield running
    running.faults.clear()
    running.organization.mitigations_enabled = True
    for machine in running.machines:
        running.organization.change(
            machine.name,
            {"MitigationsEnabled": True, "MitigationsBlocked": None, "DataCollectionEnabled": True, "InternetWebProxy": None, "MitigationsApplied": None},
        )
    running.organization.directory.settle()
    assert running.scripts_received == 0
    assert running.refusals == []
    assert running._server.open_shells() == []


def shown(fleet: Any, name: str) -> dict[str, Any]:
    """What every domain controller knows, once all have heard of it."""
    fleet.organization.directory.settle()
    found = fleet.organization.settings(name)
    return {field: found.get(field) for field in FIELDS if field in found}


@pytest.mark.parametrize(("kind", "secure"), WAYS, ids=NAMES)
def test_organization_check_run_again(fleet: Any, kind: str, secure: bool) -> None:
    machine, way = fleet.machine("EX2"), {"kind": kind, "secure": secure}
    for wanted in (False, True):
        options = {"mitigations_enabled": wanted}
        fleet.access_log.clear()
        checked = run(organization, fleet, machine, options, check=True, **way)
        assert (checked["changed"], fleet.organization.mitigations_enabled, fleet.access_log.writes()) == (True, not wanted, [])
        done = run(organization, fleet, machine, options, **way)
        assert (done["organization"], done["diff"]) == (checked["organization"], checked["diff"])
        assert done["diff"] == {"before": {"mitigations_enabled": not wanted}, "after": {"mitigations_enabled": wanted}}
        assert shown(fleet, "Lab") == {"MitigationsEnabled": wanted}
        assert len(fleet.access_log.writes()) == 1
        again = run(organization, fleet, machine, options, **way)
        assert (again["changed"], again["diff"], len(fleet.access_log.writes())) == (False, None, 1)
        assert run(organization_info, fleet, machine, {}, **way)["organization"]["mitigations_enabled"] is wanted


@pytest.mark.parametrize(("kind", "secure"), WAYS, ids=NAMES)
def test_server_check_run_again(fleet: Any, kind: str, secure: bool) -> None:
    machine, way = fleet.machine("EX3"), {"kind": kind, "secure": secure}
    fleet.organization.change("EX3", {"MitigationsApplied": ["PING1", "M2.1.0"], "MitigationsBlocked": ["X1"]})
    fleet.organization.directory.settle()
    options = {
        "mitigations_enabled": False, "mitigations_blocked": {"add": ["m2.1.0", "x1"], "remove": ["M1"]}, "data_collection_enabled": False,
        "internet_web_proxy": "http://Proxy.lab.example:8080",
    }  # fmt: skip
    before = shown(fleet, "EX3")
    checked = run(server, fleet, machine, options, check=True, **way)
    assert (checked["changed"], shown(fleet, "EX3"), fleet.access_log.writes()) == (True, before, [])
    done = run(server, fleet, machine, options, **way)
    assert (done["server"], done["diff"], done["warnings"]) == (checked["server"], checked["diff"], [])
    assert set(done["diff"]["after"]) == {"mitigations_enabled", "mitigations_blocked", "data_collection_enabled", "internet_web_proxy"}
    assert shown(fleet, "EX3") == before | {
        "MitigationsEnabled": False, "MitigationsBlocked": ["X1", "m2.1.0"], "DataCollectionEnabled": False,
        "InternetWebProxy": "http://proxy.lab.example:8080/",
    }  # fmt: skip
    assert len(fleet.access_log.writes()) == 1
    again = run(server, fleet, machine, options, **way)
    assert (again["changed"], again["diff"], len(fleet.access_log.writes())) == (False, None, 1)
    (entry,) = [found for found in run(organization_info, fleet, machine, {}, **way)["organization"]["servers"] if found["name"] == "EX3"]
    assert {key: entry[key] for key in done["server"] if key != "domain_controller"} == {
        key: value for key, value in done["server"].items() if key != "domain_controller"
    }
    back = run(server, fleet, machine, {"mitigations_blocked": {"set": []}, "internet_web_proxy": ""}, **way)
    assert (back["server"]["mitigations_blocked"], back["server"]["internet_web_proxy"]) == ([], None)
    assert (shown(fleet, "EX3")["MitigationsBlocked"] or [], shown(fleet, "EX3")["InternetWebProxy"]) == ([], None)
    assert run(server, fleet, machine, {"mitigations_blocked": {"set": []}, "internet_web_proxy": ""}, **way)["changed"] is False


def test_null_and_empty_lists_are_the_same(fleet: Any) -> None:
    machine = fleet.machine("EX1")
    for present in (None, []):
        fleet.organization.change("EX1", {"MitigationsBlocked": present})
        fleet.organization.directory.settle()
        for wanted in ({"set": []}, {"add": []}, {"remove": ["M1"]}, {"add": None, "remove": None}, {}):
            done = run(server, fleet, machine, {"mitigations_blocked": wanted})
            assert (done["changed"], done["server"]["mitigations_blocked"]) == (False, [])
    assert fleet.access_log.writes() == []


def test_replication_is_waited_for(fleet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the change the endpoint turns to another domain controller, which hears of it later."""
    machine, organization_ = fleet.machine("EX1"), fleet.organization
    first, second = organization_.directory.controllers

    def written() -> bool:
        return any(ran.write for ran in fleet.access_log.calls)

    monkeypatch.setattr(organization_, "controller_of", lambda name: second if written() else first)
    monkeypatch.setattr(organization_.directory, "lag", 1.5)
    for module, options, item in ((server, {"mitigations_blocked": {"add": ["M1"]}}, "EX1"), (organization, {"mitigations_enabled": False}, "Lab")):
        for seconds in (30, 1, 0):
            fleet.access_log.calls.clear()
            begun = time.monotonic()
            done = run(module, fleet, machine, {**options, "replication_timeout": seconds})
            took = time.monotonic() - begun
            assert done["changed"] is True
            assert [ran.parameters["DomainController"] for ran in fleet.access_log.calls if ran.write] == [first]
            assert (seconds == 30) is (took >= 1.4)
            assert [("replicates later" in text) for text in done["warnings"]] == ([True] if seconds == 1 else [])
            organization_.change(item, {"MitigationsBlocked": None} if module is server else {"MitigationsEnabled": True}, first)
            organization_.directory.settle()


@pytest.mark.parametrize("module", [organization, server], ids=["organization", "server"])
@pytest.mark.parametrize("fault", ["drop-before", "drop-after", "http-500"])
def test_a_fault_at_every_message(fleet: Any, module: Any, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever message is lost, the setting is before or after, nothing is written twice, and the second run ends it."""
    monkeypatch.setattr(_settings, "READ_BACK", 0.5)
    machine, cmdlet = fleet.machine("EX1"), {organization: "Set-OrganizationConfig", server: "Set-ExchangeServer"}[module]
    options, item = {"mitigations_enabled": False, "replication_timeout": 5}, {organization: "Lab", server: "EX1"}[module]
    outcomes = []
    for number in range(1, 30):
        fleet.access_log.clear()
        fleet.access_log.calls.clear()
        armed = fleet.faults.add(fault, "EX1", at=number)
        try:
            outcome = "changed" if run(module, fleet, machine, options)["changed"] else "unchanged"
        except (ConnectionFailure, CmdletError):
            outcome = "failed"
        fleet.faults.clear()
        assert sum(1 for ran in fleet.access_log.calls if ran.cmdlet == cmdlet) <= 1
        after = shown(fleet, item)["MitigationsEnabled"] is False
        assert after or outcome == "failed"
        assert run(module, fleet, machine, options)["changed"] is not after
        fleet.organization.change(item, {"MitigationsEnabled": True})
        fleet.organization.directory.settle()
        fleet._server.reboot(machine)  # a session whose opening or closing was lost stays until it expires
        if not armed.fired:
            break
        outcomes.append(outcome)
    assert len(outcomes) >= 8
    if fault == "drop-after":
        assert "changed" in outcomes  # the answer to the change itself


def test_a_viewer_may_read_and_not_write(fleet: Any) -> None:
    from session_live import exchange

    machine = fleet.machine("EX1")
    session = exchange(fleet, machine, exchange_username=fleet.viewer, exchange_password=fleet.users[fleet.viewer])

    class Viewer:
        params: ClassVar[dict[str, Any]] = {"mitigations_enabled": False, "replication_timeout": 1, "exchange_host": None}
        inventory_hostname = "EX1"

        def __init__(self) -> None:
            self.exchange = session

        def progress(self, message: str) -> None:
            assert message

    try:
        assert organization_info.run(Viewer()).result["organization"]["name"] == "Lab"  # type: ignore[arg-type]
        decision = organization.run(Viewer())  # type: ignore[arg-type]
        assert decision.effect is not None
        with pytest.raises(CmdletError) as caught:
            decision.effect()
        assert caught.value.reason == "cmdlet_not_available"
    finally:
        session.close()


def test_the_role_sets_every_setting_of_a_server(fleet: Any, tmp_path: pathlib.Path) -> None:
    book = tmp_path / "configure.yml"
    book.write_text("- hosts: EX1\n  gather_facts: false\n  roles: [exchange.mitigation.configure]\n", "utf-8")
    for proxy, shown_proxy in (("http://proxy.lab.example:8080", "http://proxy.lab.example:8080/"), ("none", None)):
        wanted = {
            "exchange_mitigation_server_enabled": False, "exchange_mitigation_blocked_add": ["M1"], "exchange_mitigation_data_collection_enabled": False,
            "exchange_mitigation_internet_web_proxy": proxy,
        }  # fmt: skip
        done = play(fleet, tmp_path, str(book), **wanted)
        assert (done.code, done.recap["EX1"]["changed"]) == (0, 1), done.text
        found = shown(fleet, "EX1")
        assert (found["MitigationsEnabled"], found["MitigationsBlocked"], found["DataCollectionEnabled"]) == (False, ["M1"], False)
        assert found["InternetWebProxy"] == shown_proxy
        assert play(fleet, tmp_path, str(book), **wanted).recap["EX1"]["changed"] == 0
