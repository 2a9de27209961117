# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults while applying, undoing and retiring: everything is as before or as after, or in a named window that the next run mends.

``make test`` takes a sample of faults and messages; with EXCHANGE_MITIGATION_SWEEP=full every fault hits every message of every
situation in ``fault_bench``, which takes long, and ends with the number of cases.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator
from typing import Any

import fault_bench
import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _apply_states, _mitigate
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, ConnectionFailure, MitigationError
from ansible_collections.exchange.mitigation.plugins.module_utils._journal import History
from ansible_collections.exchange.mitigation.plugins.module_utils._plan import Plan
from ansible_collections.exchange.mitigation.plugins.modules import mitigation
from lab_task import Killed, contents, folder, put_back, run
from test_mitigation import ATTACK, OWA, ROOT, options, states, status

WIRE_FAULTS = ("drop-before", "drop-after", "http-401", "http-500", "truncate", "wrong-relates-to", "reboot")
#: What can become of a step: its connection is lost, or the controller is, before or after its effect.
STEP_FAULTS = ("lost-before", "lost-after", "killed-before", "killed-after")
FILE_FAULTS = ("locked-file", "disk-full", "replace-1175", "replace-1176", "replace-1177")
COPY_FAULTS = ("locked-file", "disk-full", "copy-torn")
STATE_FAULTS = ("stop-pending", "start-fails", "disk-full")
FULL = os.environ.get("EXCHANGE_MITIGATION_SWEEP") == "full"
#: The sample takes every how many steps; the faults begin at different ones.
STRIDE = 1 if FULL else 11

#: situation -> faults of the wire with the part of the run that they hit, for the sample
WIRE_SAMPLE: dict[str, list[tuple[str, float | None]]] = {
    "apply-rules": [("drop-after", 0.55), ("reboot", 0.8)],
    "undo-rules": [("truncate", 0.7)],
    "retire-rules-and-unblock": [("http-401", 0.9)],
    "apply-states": [("drop-after", 0.6)],
}
WIRE_ALL: dict[str, list[tuple[str, float | None]]] = {name: [(fault, None) for fault in WIRE_FAULTS] for name in fault_bench.SITUATIONS}
WIRE_CASES = [(name, fault, part) for name, chosen in (WIRE_ALL if FULL else WIRE_SAMPLE).items() for fault, part in chosen]


def faults_of(situation: str) -> tuple[str, ...]:
    """Return what can go wrong on the server in a situation."""
    return STATE_FAULTS if situation.endswith("-states") else COPY_FAULTS if situation.endswith(("constrained", "jea")) else FILE_FAULTS


STEP_CASES = [(name, fault) for name in fault_bench.SITUATIONS for fault in (*STEP_FAULTS, *faults_of(name))]


@pytest.fixture(scope="module")
def faulty_fleet() -> Iterator[Any]:
    with fault_bench.fleet() as fleet:
        yield fleet


@pytest.fixture(scope="module")
def situations(faulty_fleet: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Prepare a situation when it is first asked for, and end the one before."""
    current: list[fault_bench.Bench] = []
    counted: list[str] = []

    def prepared(name: str, direct: bool) -> fault_bench.Bench:
        if not current or (current[0].situation.name, current[0].direct) != (name, direct):
            end()
            current.append(fault_bench.Bench(faulty_fleet, fault_bench.SITUATIONS[name], tmp_path_factory.mktemp(name), direct))
        return current[0]

    def end() -> None:
        for bench in current:
            how = "steps" if bench.direct else "messages"
            counted.append(f"SWEEP {bench.situation.name} ({how}): {bench.cases} cases, {bench.windows} in a named window")
            bench.close()
        current.clear()

    yield prepared
    end()
    if FULL:
        print("\n" + "\n".join(counted))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_apply_states, "PATIENCE", 0.2)
    monkeypatch.setattr(_apply_states, "GRACE", 0.1)
    monkeypatch.setattr(_apply_states, "PAUSE", 0.05)


@pytest.mark.parametrize(("name", "fault"), STEP_CASES, ids=["-".join(case) for case in STEP_CASES])
def test_fault_at_every_step(situations: Any, name: str, fault: str) -> None:
    """Every request of the module to its sessions, without a wire between: what the faults of the wire come down to."""
    bench = situations(name, True)
    happened = 0
    for number in range(1 + STEP_CASES.index((name, fault)) % min(STRIDE, bench.steps), bench.steps + 1, STRIDE):
        bench.begin()

        def reached(count: int, dummy_kind: str, at: int = number) -> None:
            if count != at:
                return
            if fault.startswith("killed"):
                raise Killed
            if fault.startswith("lost"):
                raise ConnectionFailure(f"lost at step {at}", "connection_reset")
            bench.fleet.faults.add(fault, bench.machine.name, **({"seconds": 0.3} if fault == "stop-pending" else {}))

        caught = bench.case(f"{fault} step {number} of {bench.steps}", **{"after" if fault.endswith("-after") else "before": reached})
        happened += caught is not None or not fault.startswith("killed")
    assert happened > 0, bench.steps


@pytest.mark.parametrize(("name", "fault", "part"), WIRE_CASES, ids=[f"{name}-{fault}" for name, fault, dummy in WIRE_CASES])
def test_fault_at_every_message(situations: Any, name: str, fault: str, part: float | None) -> None:
    bench = situations(name, False)
    happened = 0
    # At Exchange's endpoint there are messages only where ids are blocked or lifted.
    for endpoint in ("host", "exchange") if bench.situation.em else ("host",):
        total = bench.total[endpoint]
        # Reading is the same in every situation: one of them goes through it, the others begin where the first change does.
        first = bench.first_change if endpoint == "host" and name != "apply-rules" else 1
        for number in range(first, total + 1) if part is None else (max(first, round(total * part)),):
            bench.begin()
            armed = bench.fleet.faults.add(fault, bench.machine.name, at=number, endpoint=endpoint)
            bench.case(f"{fault} at message {number} of {total} ({endpoint})")
            happened += armed.fired
            left = bench.fleet._server.open_shells()
            assert left == [] or number in (1, total), f"a session was left open by {fault} at message {number} of {total}"
            if left:
                bench.fleet._server.reboot(bench.machine)
    assert happened > 0


class Bench:
    """One server with M1 and M2 wanted: its files before and after, and how a case is begun and judged."""

    def __init__(self, fleet: Any, directory: pathlib.Path) -> None:
        self.fleet = fleet
        self.machine = fleet.machine("EX1")
        self.directory = directory
        self.number = 0
        self.before = contents(self.machine)
        fleet.organization.mitigations_enabled = False  # nothing to block: the messages are those of the files alone
        run(mitigation, fleet, self.machine, options(self.journal))
        self.after = contents(self.machine)
        self.reset()

    @property
    def journal(self) -> str:
        """The journal directory of this case."""
        return str(self.directory / f"journal{self.number}")

    def reset(self) -> None:
        """Begin a new case on the files as before."""
        self.fleet.faults.clear()
        put_back(self.machine, self.before)
        self.number += 1

    def files(self) -> dict[str, str]:
        """Say of each of the two files whether it is before, after, missing or other."""
        found = {}
        for name in (ROOT, OWA):
            path = folder(self.machine) / name
            data = path.read_bytes() if path.exists() else None
            found[name] = "missing" if data is None else "before" if data == self.before[path] else "after" if data == self.after[path] else "other"
        return found

    def leftovers(self) -> list[str]:
        """Name the configuration files that belong to neither state."""
        return [path.name for path in contents(self.machine) if path not in self.before]

    def close_left_open(self, number: int, total: int) -> None:
        """A session may only be left to the server's idle timeout where the fault hit its opening or its closing message."""
        left = self.fleet._server.open_shells()
        assert left == [] or number in (1, total), f"a session was left open by the fault at message {number} of {total}"
        if left:
            self.fleet._server.reboot(self.machine)

    def finish(self) -> None:
        """Run again without a fault: everything is after, nothing is left over; then undo: everything is before."""
        self.fleet.faults.clear()
        again = run(mitigation, self.fleet, self.machine, options(self.journal))
        assert states(again) == {"M1": "applied", "M2": "applied"}
        assert self.files() == {ROOT: "after", OWA: "after"}
        assert self.leftovers() == []
        assert History(self.journal, "EX1").open_operations() == []
        assert status(self.machine, ATTACK) == "aborted"
        run(mitigation, self.fleet, self.machine, {"state": "absent", "mitigations": ["M1", "M2"], "journal_dir": self.journal})
        assert self.files() == {ROOT: "before", OWA: "before"}
        assert self.leftovers() == []


@pytest.fixture
def bench(lab_fleet: Any, tmp_path: pathlib.Path) -> Bench:
    return Bench(lab_fleet, tmp_path)


def test_the_named_window_with_only_the_backup_left_is_repaired(bench: Bench) -> None:
    """Error 1177: the target is renamed to the backup and the new file is not in its place yet (CMDLETS.md 2)."""
    path = folder(bench.machine) / OWA

    def crash(dummy_count: int, kind: str) -> None:
        data = path.read_bytes() if path.exists() else None
        if kind == "change" and data == bench.after[path]:
            backup = next(entry for entry in path.parent.iterdir() if entry.name.endswith(".before.config"))
            path.unlink()
            assert backup.read_bytes() == bench.before[path]
            raise Killed

    with pytest.raises(Killed):
        run(mitigation, bench.fleet, bench.machine, options(bench.journal), after=crash)
    assert bench.files()[OWA] == "missing"
    again = run(mitigation, bench.fleet, bench.machine, options(bench.journal))
    assert {entry["outcome"] for entry in again["recovered"]} >= {"recovered_before"}
    bench.finish()


def test_an_interrupted_run_is_announced_in_check_mode_and_not_touched(bench: Bench) -> None:
    def kill(count: int, kind: str) -> None:
        if kind == "change" and count > 3:
            raise Killed

    with pytest.raises(Killed):
        run(mitigation, bench.fleet, bench.machine, options(bench.journal), after=kill)
    state, log = bench.files(), len(bench.fleet.access_log.writes())
    checked = run(mitigation, bench.fleet, bench.machine, options(bench.journal), check=True)
    assert checked["changed"] is True
    assert "interrupted run" in checked["warnings"][0]
    assert bench.files() == state
    assert len(bench.fleet.access_log.writes()) == log


def test_a_file_changed_underneath_is_read_and_planned_again_once(bench: Bench) -> None:
    path = folder(bench.machine) / ROOT
    hits = []

    def meddle(dummy_count: int, kind: str) -> None:
        if kind == "change" and not hits:
            hits.append(path.write_bytes(path.read_bytes().replace(b"</configuration>", b"  <!-- theirs -->\r\n</configuration>")))

    result = run(mitigation, bench.fleet, bench.machine, options(bench.journal), after=meddle)
    assert states(result) == {"M1": "applied", "M2": "applied"}
    assert b"<!-- theirs -->" in path.read_bytes()
    assert bench.leftovers() == []


def test_a_file_that_never_stands_still_fails_and_keeps_what_others_wrote(bench: Bench) -> None:
    path = folder(bench.machine) / ROOT

    def meddle(dummy_count: int, kind: str) -> None:
        if kind == "change":
            path.write_bytes(path.read_bytes() + b"\r\n")

    with pytest.raises(ApplyError) as caught:
        run(mitigation, bench.fleet, bench.machine, options(bench.journal), after=meddle)
    assert caught.value.reason == "file_changed"
    assert b"exchange.mitigation" not in path.read_bytes()
    assert bench.files()[OWA] == "before"
    assert bench.leftovers() == []


def test_a_refusal_by_iis_puts_both_files_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plan is right on paper and IIS refuses all the same, as with a schema that differs from ours."""
    genuine = _mitigate.plan

    def spoiled(*arguments: Any, **more: Any) -> Plan:
        import dataclasses

        made = genuine(*arguments, **more)
        wrong = (b'stopProcessing="false"', b'stopProcessing="perhaps"')
        edits = [dataclasses.replace(edit, after=edit.after.replace(*wrong)) for edit in made.edits if edit.after]
        return dataclasses.replace(made, edits=tuple(edits))

    monkeypatch.setattr(_mitigate, "plan", spoiled)
    with pytest.raises(ApplyError) as caught:
        run(mitigation, bench.fleet, bench.machine, options(bench.journal))
    assert caught.value.reason == "check_failed"
    assert "IIS refuses" in caught.value.message
    assert bench.files() == {ROOT: "before", OWA: "before"}
    assert bench.leftovers() == []
    assert [operation.event for operation in History(bench.journal, "EX1").operations] == ["undone", "undone"]
    monkeypatch.undo()
    bench.finish()


def test_the_journal_is_written_before_the_server_is(bench: Bench) -> None:
    """Without a journal nothing is sent: the directory cannot be made."""
    blocked = bench.directory / "file"
    blocked.write_text("")
    bench.fleet.access_log.clear()
    with pytest.raises(MitigationError) as caught:
        run(mitigation, bench.fleet, bench.machine, options(str(blocked / "journal")))
    assert caught.value.reason == "journal_unusable"
    assert bench.fleet.access_log.writes() == []
