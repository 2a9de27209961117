# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook prepare, run as a user does, against a fleet of which one server lacks URL Rewrite."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
from installer_lab import Kept, our_folders
from lab_task import hashes

from playbooks import calls, play


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    from lab.fleet import Fleet

    with Fleet(3) as fleet:
        yield fleet


@pytest.fixture
def fleet(running: Any) -> Iterator[Any]:
    running.faults.clear()
    running.access_log.clear()
    kept = [Kept(machine) for machine in running.machines]
    yield running
    for one in kept:
        one.restore()
    assert running.scripts_received == 0
    assert running.refusals == []
    assert running._server.open_shells() == []


def test_check_prepare_again_then_mitigate(fleet: Any, tmp_path: pathlib.Path) -> None:
    before = {machine.name: hashes(machine) for machine in fleet.machines}
    checked = play(fleet, tmp_path, "prepare", "--check", "--diff")
    assert checked.code == 0, checked.text
    assert {name: recap["changed"] for name, recap in checked.recap.items()} == {"EX1": 0, "EX2": 0, "EX3": 1}
    assert "7.2.1993 or newer" in checked.text
    assert fleet.access_log.writes() == []
    assert {machine.name: hashes(machine) for machine in fleet.machines} == before

    done = play(fleet, tmp_path, "prepare", "-v")
    assert done.code == 0, done.text
    assert {name: recap["changed"] for name, recap in done.recap.items()} == {"EX1": 0, "EX2": 0, "EX3": 1}
    assert "uploading rewrite_amd64_en-US.msi: 0.2 of 0.2 MiB (100 %)" in done.text
    assert "EX3: URL Rewrite install: service running" in done.text
    assert all(our_folders(machine) == [] for machine in fleet.machines)

    fleet.access_log.clear()
    again = play(fleet, tmp_path, "prepare")
    assert (again.code, {recap["changed"] for recap in again.recap.values()}) == (0, {0})
    assert fleet.access_log.writes() == []
    assert max(len(fleet.access_log.select(server=machine.name)) for machine in fleet.machines) < 40

    mitigated = play(fleet, tmp_path, "mitigate", exchange_mitigation_when_em_active="take_over")
    assert mitigated.code == 0, mitigated.text


def test_restarts_one_at_a_time_and_before_exchange(fleet: Any, tmp_path: pathlib.Path) -> None:
    from lab.installer import Package
    from lab.variants import rewrite, without_exchange

    boots = {machine.name: machine.os.last_boot for machine in fleet.machines}
    for machine in fleet.machines:
        rewrite(machine, "none")
    without_exchange(fleet.machine("EX2"))
    package = tmp_path / "p.msi"
    package.write_bytes(Package(exits=(3010,), signer=fleet.pki.signer().der).data())
    variables = {"exchange_mitigation_url_rewrite_source": str(package), "exchange_mitigation_reboot": "if_required"}
    done = play(fleet, tmp_path, "prepare", "--forks", "3", **variables)
    assert done.code == 0, done.text
    assert calls(fleet, "Restart-Computer") == 3
    assert all(machine.os.last_boot > boots[machine.name] for machine in fleet.machines)
    starts = [ran.server for ran in fleet.access_log.calls if ran.cmdlet in ("Start-Process", "Restart-Computer")]
    assert [starts[index] == starts[index + 1] for index in (0, 2, 4)] == [True] * 3
    assert "EX2: URL Rewrite install: service not there" in done.text


def test_a_server_that_is_refused_does_not_stop_the_others(fleet: Any, tmp_path: pathlib.Path) -> None:
    from lab.variants import rewrite, windows

    for name in ("EX1", "EX3"):
        rewrite(fleet.machine(name), "none")
    windows(fleet.machine("EX1"), "2012R2", "fr", ucrt=False)
    done = play(fleet, tmp_path, "prepare")
    assert done.code == 2
    assert "install KB2999226 first" in done.text
    assert {name: (recap["failed"], recap["changed"]) for name, recap in done.recap.items()} == {"EX1": (1, 0), "EX2": (0, 0), "EX3": (0, 1)}
