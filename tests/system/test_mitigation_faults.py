# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults at every step of applying and undoing: each file is as before or as after, or the next run mends it.

``make test`` takes a sample of the messages; with EXCHANGE_MITIGATION_SWEEP=full every message is hit.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _mitigate
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, MitigationError
from ansible_collections.exchange.mitigation.plugins.module_utils._journal import History
from ansible_collections.exchange.mitigation.plugins.module_utils._plan import Plan
from ansible_collections.exchange.mitigation.plugins.modules import mitigation
from lab_task import Killed, contents, folder, put_back, run
from test_mitigation import ATTACK, OWA, ROOT, options, states, status

WIRE_FAULTS = ("drop-before", "drop-after", "http-401", "http-500", "truncate", "wrong-relates-to", "reboot")
FULL = os.environ.get("EXCHANGE_MITIGATION_SWEEP") == "full"
#: Every how many messages the sample hits one; the faults begin at different ones, so that together they meet most.
STRIDE = 1 if FULL else 9
UNDO = {"state": "absent", "undo_run_id": "last"}


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


def messages(bench: Bench, wanted: dict[str, Any]) -> int:
    """Count the messages of a run without a fault."""
    counter = bench.fleet.faults.add("slow", "EX1", endpoint="host", seconds=0)
    run(mitigation, bench.fleet, bench.machine, {**wanted, "journal_dir": bench.journal})
    bench.fleet.faults.remove(counter)
    return int(counter.seen)


@pytest.mark.parametrize("fault", WIRE_FAULTS)
def test_wire_fault_while_applying(bench: Bench, fault: str) -> None:
    total = messages(bench, options(bench.journal))
    assert total > 20
    fired = 0
    for number in range(1 + WIRE_FAULTS.index(fault) % STRIDE, total + 1, STRIDE):
        bench.reset()
        armed = bench.fleet.faults.add(fault, "EX1", at=number, endpoint="host")
        with contextlib.suppress(MitigationError):
            run(mitigation, bench.fleet, bench.machine, options(bench.journal))
        fired += armed.fired
        assert "other" not in bench.files().values(), f"{fault} at message {number}"
        bench.close_left_open(number, total)
        bench.finish()
    assert fired > 0


@pytest.mark.parametrize("fault", WIRE_FAULTS)
def test_wire_fault_while_undoing(bench: Bench, fault: str) -> None:
    run(mitigation, bench.fleet, bench.machine, options(bench.journal))
    total = messages(bench, UNDO)
    fired = 0
    for number in range(1 + WIRE_FAULTS.index(fault) % STRIDE, total + 1, STRIDE):
        bench.reset()
        run(mitigation, bench.fleet, bench.machine, options(bench.journal))
        armed = bench.fleet.faults.add(fault, "EX1", at=number, endpoint="host")
        with contextlib.suppress(MitigationError):
            run(mitigation, bench.fleet, bench.machine, {**UNDO, "journal_dir": bench.journal})
        fired += armed.fired
        assert "other" not in bench.files().values(), f"{fault} at message {number}"
        bench.close_left_open(number, total)
        bench.fleet.faults.clear()
        run(mitigation, bench.fleet, bench.machine, {"state": "absent", "mitigations": ["M1", "M2"], "journal_dir": bench.journal})
        assert bench.files() == {ROOT: "before", OWA: "before"}, f"{fault} at message {number}"
        assert bench.leftovers() == []
        assert History(bench.journal, "EX1").open_operations() == []
    assert fired > 0


@pytest.mark.parametrize("side", ["before", "after"])
def test_controller_killed_at_every_step(bench: Bench, side: str) -> None:
    """SIGKILL leaves no handler to run: what was sent is done, what was not is not, the journal says how far it came."""
    number = 0
    while True:
        number += 1
        bench.reset()
        killed = False

        def kill(count: int, dummy_kind: str, at: int = number) -> None:
            if count == at:
                raise Killed

        try:
            run(mitigation, bench.fleet, bench.machine, options(bench.journal), **{side: kill})
        except Killed:
            killed = True
        assert "other" not in bench.files().values(), f"killed {side} step {number}"
        bench.finish()
        if not killed:
            break
    assert number > 10


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
