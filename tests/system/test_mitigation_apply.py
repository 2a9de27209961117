# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What others do while a change is under way or was interrupted, and ways back of the second choice: without a wire, step by step."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _apply_states
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, JournalError, MitigationError
from ansible_collections.exchange.mitigation.plugins.module_utils._journal import History
from ansible_collections.exchange.mitigation.plugins.modules import mitigation
from fault_bench import World
from lab_task import Killed, folder, hashes, run
from test_mitigation import ROOT, states

BOTH = ["M1", "M2"]
FULL = os.environ.get("EXCHANGE_MITIGATION_SWEEP") == "full"
THEIRS = b"  <!-- theirs -->\r\n</configuration>"


@pytest.fixture(scope="module")
def fleet() -> Iterator[Any]:
    from lab.builds import ServerPlan
    from lab.fleet import Fleet

    made = Fleet([ServerPlan("EX1", "Exchange2016", "15.1.2507.13"), ServerPlan("OLD1", "Exchange2016", "15.1.2176.2")], mitigations_enabled=False)
    yield made
    assert made.refusals == []
    made.stop()


@pytest.fixture(params=["FullLanguage", "NoLanguage"])
def machine(fleet: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    found = fleet.machine("EX1")
    back = World(fleet, "EX1").save()
    found.language_mode = request.param
    yield found
    fleet.faults.clear()
    found.language_mode = "FullLanguage"
    back()


@pytest.fixture
def journal(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "journal")


def act(fleet: Any, machine: Any, journal: str, **more: Any) -> dict[str, Any]:
    around = {key: more.pop(key) for key in ("before", "after", "check") if key in more}
    return run(mitigation, fleet, machine, {"mitigations": BOTH, "journal_dir": journal, **more}, direct=True, **around)


def path_of(machine: Any, name: str) -> pathlib.Path:
    return folder(machine) / name


def leftovers(machine: Any) -> list[str]:
    return [path.name for path in folder(machine).rglob("*.config") if ".new." in path.name or ".before." in path.name]


def appended(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"</configuration>", THEIRS))


def test_a_file_that_is_created_and_deleted_again(fleet: Any, machine: Any, journal: str) -> None:
    path_of(machine, ROOT).unlink()
    before = hashes(machine)
    assert states(act(fleet, machine, journal)) == {"M1": "applied", "M2": "applied"}
    act(fleet, machine, journal, state="absent")
    assert hashes(machine) == before
    assert leftovers(machine) == []


@pytest.mark.parametrize("side", ["before", "after"])
def test_killed_while_a_file_is_created_or_deleted(fleet: Any, machine: Any, journal: str, side: str) -> None:
    path_of(machine, ROOT).unlink()
    before = hashes(machine)
    for state, wanted in (("applied", {"M1": "applied", "M2": "applied"}), ("absent", {"M1": "absent", "M2": "absent"})):
        for number in range(1, 30, 1 if FULL else 5):
            act(fleet, machine, journal, state="absent" if state == "applied" else "applied")

            def kill(count: int, dummy_kind: str, at: int = number) -> None:
                if count == at:
                    raise Killed

            try:
                act(fleet, machine, journal, state=state, **{side: kill})
            except Killed:
                assert states(act(fleet, machine, journal, state=state)) == wanted
                assert leftovers(machine) == []
            else:
                break
    act(fleet, machine, journal, state="absent")
    assert hashes(machine) == before


def test_what_others_write_right_after_the_replace_is_kept(fleet: Any, machine: Any, journal: str) -> None:
    path, hits = path_of(machine, ROOT), []

    def meddle(dummy_count: int, kind: str) -> None:
        if kind == "change" and not hits and b"exchange.mitigation" in path.read_bytes():
            hits.append(appended(path))

    done = act(fleet, machine, journal, after=meddle)
    assert hits
    assert states(done) == {"M1": "applied", "M2": "applied"}
    assert THEIRS in path.read_bytes()
    assert leftovers(machine) == []
    assert History(journal, "EX1").open_operations() == []


def test_what_others_wrote_after_an_interruption_is_theirs(fleet: Any, machine: Any, journal: str) -> None:
    path = path_of(machine, ROOT)

    def kill(dummy_count: int, kind: str) -> None:
        if kind == "change" and b"exchange.mitigation" in path.read_bytes():
            raise Killed

    with pytest.raises(Killed):
        act(fleet, machine, journal, after=kill)
    appended(path)
    again = act(fleet, machine, journal)
    assert {entry["outcome"] for entry in again["recovered"]} == {"abandoned"}
    assert THEIRS in path.read_bytes()
    assert states(again) == {"M1": "applied", "M2": "applied"}
    assert leftovers(machine) == []


def test_bytes_that_arrive_changed_never_reach_the_file(fleet: Any, machine: Any, journal: str) -> None:
    before = hashes(machine)

    def spoil(dummy_count: int, kind: str) -> None:
        for path in folder(machine).rglob("*.new.config"):
            if kind == "change":
                path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(ApplyError) as caught:
        act(fleet, machine, journal, after=spoil)
    assert caught.value.reason == "read_back_differs"
    assert hashes(machine) == before


def test_an_undo_whose_replace_fails_takes_the_second_way(fleet: Any, machine: Any, journal: str) -> None:
    """The descriptor changed with the replace, so it is taken back; the replace of the way back fails at each of its three points."""
    if machine.language_mode != "FullLanguage":
        pytest.skip("without Replace there is one way only")
    before = hashes(machine)
    path, windows = path_of(machine, ROOT), "C:\\inetpub\\wwwroot\\web.config"
    for fault in ("replace-1175", "replace-1176", "replace-1177"):
        sddl = machine.files.sddl(windows)

        def disturb(dummy_count: int, kind: str, name: str = fault) -> None:
            if kind == "change" and path.exists() and b"exchange.mitigation" in path.read_bytes() and fleet.faults.active(name, machine) is None:
                machine.files.set_sddl(windows, "O:BAG:SYD:(A;;FA;;;WD)")
                fleet.faults.add(name, "EX1")

        with pytest.raises(ApplyError) as caught:
            act(fleet, machine, journal, after=disturb)
        fleet.faults.clear()
        machine.files.set_sddl(windows, sddl)
        assert caught.value.reason == "check_failed"
        assert hashes(machine) == before, fault


def test_a_half_written_application_host_is_unknown_and_nothing_is_written(fleet: Any, machine: Any, journal: str) -> None:
    path = folder(machine) / "Windows/System32/inetsrv/config/applicationHost.config"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    try:
        fleet.access_log.clear()
        try:
            failure = act(fleet, machine, journal)["failure"]
        except MitigationError as exc:
            failure = exc
        assert "applicationHost.config" in failure.message
        assert [ran.cmdlet for ran in fleet.access_log.calls if ran.write] == []
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"path": "C:', b'"path": "D:'), (b'web.config"', b'web.dll"'), (b'"verb": "apply"', b'"verb": "erase"'), (b'"event": "begin"', b'"event": begin')],
)
def test_a_journal_that_was_tampered_with_is_refused(fleet: Any, machine: Any, journal: str, old: bytes, new: bytes) -> None:
    act(fleet, machine, journal)
    before = hashes(machine)
    (file,) = pathlib.Path(journal).glob("*/EX1.jsonl")
    data = file.read_bytes()
    assert old in data
    file.write_bytes(data.replace(old, new, 1))
    with pytest.raises(JournalError) as caught:
        act(fleet, machine, journal, state="absent")
    assert caught.value.reason == "journal_damaged"
    assert hashes(machine) == before


# --- services and application pools

UM = "MSExchangeUM"
SERVICES = ["CVE-2021-26857"]


@pytest.fixture
def old(fleet: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(_apply_states, "PATIENCE", 0.2)
    monkeypatch.setattr(_apply_states, "GRACE", 0.1)
    monkeypatch.setattr(_apply_states, "PAUSE", 0.05)
    machine = fleet.machine("OLD1")
    back, services = World(fleet, "OLD1").save(), machine.services.all()
    yield machine
    fleet.faults.clear()
    for service in services:
        machine.services.add(service)
    back()


def test_a_service_that_somebody_changes_under_way_is_left_alone(fleet: Any, old: Any, journal: str) -> None:
    total: list[int] = []
    act(fleet, old, journal, mitigations=SERVICES, check=True, before=lambda count, kind: total.append(count))

    def meddle(count: int, dummy_kind: str) -> None:
        if count == total[-1] + 1:
            old.services.set_start(UM, "Manual")

    with pytest.raises(ApplyError) as caught:
        act(fleet, old, journal, mitigations=SERVICES, before=meddle)
    assert caught.value.reason == "state_changed"
    found = old.services.get(UM)
    assert (found.state, found.start) == ("Running", "Manual")


def test_a_service_that_neither_stops_nor_comes_back_is_said(fleet: Any, old: Any, journal: str) -> None:
    fleet.faults.add("stop-pending", "OLD1")
    fleet.faults.add("start-fails", "OLD1")
    with pytest.raises(ApplyError) as caught:
        act(fleet, old, journal, mitigations=SERVICES)
    assert caught.value.reason == "undo_failed"
    assert caught.value.details["undone"] is False
    assert "The next run tries again" in caught.value.message
    fleet.faults.clear()
    old.services.remove(UM)
    # It is gone meanwhile: what was left open ends, and the rest of the run says what it finds.
    with contextlib.suppress(MitigationError):
        act(fleet, old, journal, mitigations=SERVICES, state="absent")
    assert History(journal, "OLD1").open_operations() == []


def test_a_service_that_is_removed_under_way_is_said(fleet: Any, old: Any, journal: str) -> None:
    saved = old.services.get(UM)

    def gone(dummy_count: int, kind: str) -> None:
        if kind == "change" and old.services.find(UM) is not None:
            old.services.remove(UM)

    with pytest.raises(ApplyError) as caught:
        act(fleet, old, journal, mitigations=SERVICES, after=gone)
    old.services.add(saved)
    assert caught.value.reason == "undo_failed"
    assert "not there" in caught.value.message
