# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the server that no other file has: access denied, a file in use, no IIS cmdlets, long paths, another language, maintenance.

``host_faults.HOST_FAULTS`` says where the others are.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _apply_files
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, MitigationError
from ansible_collections.exchange.mitigation.plugins.module_utils._journal import History
from ansible_collections.exchange.mitigation.plugins.modules import mitigation, server_info
from host_faults import HOST_FAULTS
from installer_lab import Kept
from lab_task import folder, hashes, run
from test_mitigation import OWA, ROOT, options, states

TESTS = pathlib.Path(__file__).resolve().parents[1]
WEB_CONFIG = "C:\\inetpub\\wwwroot\\web.config"


@pytest.fixture
def machine(lab_fleet: Any) -> Any:
    kept = Kept(lab_fleet.machine("EX1"))
    yield kept.machine
    kept.machine.files.locks.clear()
    kept.restore()


@pytest.fixture
def journal(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "journal")


@pytest.mark.parametrize("fault", HOST_FAULTS)
def test_every_fault_of_the_server_has_a_test(fault: str) -> None:
    for where in HOST_FAULTS[fault]:
        file, name = where.split("::")
        assert re.search(rf"^def {re.escape(name)}\(", (TESTS / file).read_text("utf-8"), re.MULTILINE), f"{fault}: {where} is not there"


def test_access_is_denied(lab_fleet: Any, machine: Any, journal: str) -> None:
    before = hashes(machine)
    machine.files.set_attributes(WEB_CONFIG, ("ReadOnly",))
    with pytest.raises(ApplyError) as caught:
        run(mitigation, lab_fleet, machine, options(journal))
    assert caught.value.reason == "replace_failed"
    assert "is denied" in caught.value.message and WEB_CONFIG in caught.value.message
    assert hashes(machine) == before
    assert History(journal, "EX1").open_operations() == []


@pytest.mark.parametrize("attempts", [1, 2, 3, 4])
def test_a_file_in_use_is_tried_again_a_few_times(lab_fleet: Any, machine: Any, journal: str, monkeypatch: pytest.MonkeyPatch, attempts: int) -> None:
    """Another process closes the file after so many pauses; after three the task gives up, and the file is as before."""
    before = hashes(machine)
    fault = lab_fleet.faults.add("locked-file", "EX1", path=WEB_CONFIG)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == attempts:
            lab_fleet.faults.remove(fault)

    monkeypatch.setattr(_apply_files.time, "sleep", pause)
    if attempts <= len(_apply_files.PAUSES):
        result = run(mitigation, lab_fleet, machine, options(journal))
        assert states(result) == {"M1": "applied", "M2": "applied"}
        assert {path for path, digest in hashes(machine).items() if before.get(path) != digest} == {ROOT, OWA}
        assert len(pauses) == attempts
    else:
        with pytest.raises(ApplyError) as caught:
            run(mitigation, lab_fleet, machine, options(journal))
        assert caught.value.reason == "replace_failed" and "Unable to remove the file" in caught.value.message
        assert hashes(machine) == before
        assert len(pauses) == len(_apply_files.PAUSES)
    assert History(journal, "EX1").open_operations() == []


def test_the_iis_cmdlets_are_missing(lab_fleet: Any, machine: Any, journal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the module WebAdministration nobody can ask IIS, so the files stay as they are."""
    from lab.kernel import REGISTRY

    before = hashes(machine)
    for name in [name for endpoint, name in REGISTRY if endpoint == "host" and "web" in name and name != "invoke-webrequest"]:
        monkeypatch.delitem(REGISTRY, ("host", name))
    lab_fleet.access_log.clear()
    with pytest.raises(MitigationError) as caught:
        run(mitigation, lab_fleet, machine, options(journal))
    assert "Get-Web" in caught.value.message and "\n" not in caught.value.message
    assert hashes(machine) == before
    lab_fleet.refusals.clear()


def test_a_path_that_leaves_no_room_for_the_files_beside_it(lab_fleet: Any, machine: Any, journal: str) -> None:
    files = machine.files
    owa = next(app.path for app in machine.iis.applications() if app.path.lower() == "/owa")
    host = "C:\\Windows\\System32\\inetsrv\\config\\applicationHost.config"
    old = "C:\\" + OWA.rpartition("/")[0].replace("/", "\\")
    long = "C:\\" + "\\".join(["d" * 46] * 5)
    assert owa and 230 < len(long) < 248
    files.make_folder(long)
    files.write(long + "\\web.config", files.read("C:\\" + OWA.replace("/", "\\")))
    text = files.read(host)
    pattern = re.compile(re.escape(old).encode() + rb'(?=")', re.IGNORECASE)
    expanded = re.compile(rb'physicalPath="[^"]*HttpProxy\\owa"', re.IGNORECASE)
    files.write(host, expanded.sub(lambda dummy: b'physicalPath="' + long.encode() + b'"', pattern.sub(lambda dummy: long.encode(), text)))
    before = hashes(machine)
    with pytest.raises(ApplyError) as caught:
        run(mitigation, lab_fleet, machine, options(journal))
    assert caught.value.reason == "write_failed" and "too long" in caught.value.message and long in caught.value.message
    assert hashes(machine) == before


@pytest.mark.parametrize("language", [1031, 1041])
def test_a_server_in_another_language(lab_fleet: Any, machine: Any, journal: str, language: int) -> None:
    """Nothing of what is decided on is a text of the server."""
    before = hashes(machine)
    machine.set_os(dataclasses.replace(machine.os, language=language, caption="Microsoft Windows Server 2016 Standard (andere Sprache)"))
    for service in machine.services.all():
        machine.services.add(dataclasses.replace(service, display=f"Dienst {service.name} \u00e4\u6f22"))
    told = run(server_info, lab_fleet, machine, {})["server"]
    assert told["os"]["caption"].endswith("(andere Sprache)")
    result = run(mitigation, lab_fleet, machine, options(journal))
    assert states(result) == {"M1": "applied", "M2": "applied"}
    run(mitigation, lab_fleet, machine, {"state": "absent", "undo_run_id": "last", "journal_dir": journal})
    assert hashes(machine) == before


def test_a_server_in_maintenance(lab_fleet: Any, machine: Any, journal: str) -> None:
    """Its Exchange services and pools are stopped; the files can be changed and read all the same, and nothing is started."""
    for service in machine.services.all():
        if service.name.startswith("MSExchange") and service.state == "Running":
            service.state = "Stopped"
            machine.services.add(service)
    pools = [name for name in ("MSExchangeOWAAppPool", "MSExchangeAutodiscoverAppPool") if machine.pools.state(name) == "Started"]
    for name in pools:
        machine.pools.stop(name)
    told = run(server_info, lab_fleet, machine, {})["server"]
    assert told["em"]["service"]["state"].lower() == "stopped"
    result = run(mitigation, lab_fleet, machine, options(journal))
    assert states(result) == {"M1": "applied", "M2": "applied"}
    assert not [service.name for service in machine.services.all() if service.name.startswith("MSExchange") and service.state == "Running"]
    assert all(machine.pools.state(name) == "Stopped" for name in pools)
    assert folder(machine).joinpath(ROOT).exists()
