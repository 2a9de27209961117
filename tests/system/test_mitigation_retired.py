# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""EM's M2 moved to where it breaks nothing, and taken out once the server is patched: against the lab, in every variant of EM."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.modules import mitigation, server_info
from lab_task import folder, hashes, run

OWA = "Program Files/Microsoft/Exchange Server/V15/FrontEnd/HttpProxy/owa/web.config"
PATHS = ("/owa/", "/owa/Calendar", "/owa/Integrated", "/owa/oma")
EX_SETUP = "C:\\Program Files\\Microsoft\\Exchange Server\\V15\\Bin\\ExSetup.exe"
VARIANTS = ("skips", "adds", "replaces")


@pytest.fixture
def journal(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "journal")


def ask(machine: Any, url: str) -> Any:
    return machine.iis.request("GET", url, {"Host": machine.fqdn})


def answers(machine: Any) -> list[Any]:
    return [getattr(ask(machine, path), "status", "aborted") for path in PATHS]


def policy(machine: Any) -> str:
    return dict(ask(machine, "/owa/").headers).get("Content-Security-Policy") or ""


def blocked(fleet: Any, machine: Any) -> list[str]:
    return list(fleet.organization.settings(machine.name).get("MitigationsBlocked") or [])


def verdict(fleet: Any, machine: Any) -> dict[str, Any]:
    (found,) = [entry for entry in run(server_info, fleet, machine, {})["server"]["mitigations"] if entry["id"] == "M2"]
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_m2_is_relocated_beside_em_and_stays(lab_fleet: Any, journal: str, variant: str) -> None:
    machine = lab_fleet.machine("EX1")
    lab_fleet.em_cycle(variant)
    assert answers(machine) == [200, 500, 500, 500]
    options = {"mitigations": ["M2"], "journal_dir": journal}
    left = run(mitigation, lab_fleet, machine, options)
    assert left["changed"] is False
    assert any("relocate: true" in text for text in left["warnings"])
    before = hashes(machine)
    checked = run(mitigation, lab_fleet, machine, {**options, "relocate": True}, check=True)
    assert (checked["changed"], hashes(machine)) == (True, before)
    moved = run(mitigation, lab_fleet, machine, {**options, "relocate": True})
    assert (moved["blocked_ids"], moved["diff"]) == (checked["blocked_ids"], checked["diff"])
    assert set(moved["blocked_ids"]) == set(blocked(lab_fleet, machine))
    for dummy in range(3):
        assert answers(machine) == [200, 200, 200, 200]
        assert policy(machine).count("script-src-attr 'none'") == 1
        assert run(mitigation, lab_fleet, machine, {**options, "relocate": True})["changed"] is False
        lab_fleet.em_cycle(variant)
    found = verdict(lab_fleet, machine)
    assert (found["state"], found["maker"], found["breaks"], found["duplicates"]) == ("applied", "us", [], [])


@pytest.mark.parametrize("variant", VARIANTS)
def test_retired_once_patched_and_nowhere_before(lab_fleet: Any, journal: str, patched: Any, variant: str) -> None:
    machine = lab_fleet.machine("EX1")
    stock = (folder(machine) / OWA).read_bytes()
    lab_fleet.em_cycle(variant)
    options = {"mitigations": ["M2"], "state": "retired", "journal_dir": journal}
    before = hashes(machine)
    needed = run(mitigation, lab_fleet, machine, {**options, "unblock": True})
    assert (needed["changed"], hashes(machine), blocked(lab_fleet, machine)) == (False, before, [])
    assert "still needs it" in needed["mitigations"][0]["explanation"]

    patched()
    retired = run(mitigation, lab_fleet, machine, options)
    assert (retired["changed"], (folder(machine) / OWA).read_bytes(), answers(machine)) == (True, stock, [200] * 4)
    assert set(retired["blocked_ids"]) == set(blocked(lab_fleet, machine)) != set()
    for dummy in range(2):
        lab_fleet.em_cycle(variant)
        assert run(mitigation, lab_fleet, machine, options)["changed"] is False
    lifted = run(mitigation, lab_fleet, machine, {**options, "unblock": True})
    assert (lifted["changed"], blocked(lab_fleet, machine)) == (True, [])
    for dummy in range(2):
        lab_fleet.em_cycle(variant)
        assert run(mitigation, lab_fleet, machine, {**options, "unblock": True})["changed"] is False
    assert ((folder(machine) / OWA).read_bytes(), blocked(lab_fleet, machine)) == (stock, [])


def test_a_block_of_somebody_else_is_never_lifted(lab_fleet: Any, journal: str, patched: Any) -> None:
    machine = lab_fleet.machine("EX1")
    lab_fleet.organization.change(machine.name, {"MitigationsBlocked": ["M2"]})
    lab_fleet.organization.directory.settle()
    patched()
    result = run(mitigation, lab_fleet, machine, {"mitigations": ["M2"], "state": "retired", "unblock": True, "journal_dir": journal})
    assert (result["changed"], blocked(lab_fleet, machine)) == (False, ["M2"])
