# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of the controller: its disk is full or read-only at every write, its files are another user's or were tampered with.

EXCHANGE_MITIGATION_SWEEP=full takes every write of every situation instead of some of a few.
"""

from __future__ import annotations

import errno
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import fault_bench
import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _apply_states
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput, JournalError, MitigationError
from ansible_collections.exchange.mitigation.plugins.modules import feed, mitigation
from full_disk import Taking
from lab_task import run
from test_mitigation_local import DROP, Office, entry

FULL = os.environ.get("EXCHANGE_MITIGATION_SWEEP") == "full"
SITUATIONS = tuple(fault_bench.SITUATIONS) if FULL else ("apply-rules-with-block", "undo-rules", "apply-states")
STRIDE = 1 if FULL else 5


@pytest.fixture(scope="module")
def fleet() -> Iterator[Any]:
    with fault_bench.fleet() as running:
        yield running


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PATIENCE", 0.2), ("GRACE", 0.1), ("PAUSE", 0.05)):
        monkeypatch.setattr(_apply_states, name, value)


def parts(bench: fault_bench.Bench, seen: dict[Any, Any]) -> dict[Any, Any]:
    """Return files, services and pools, without what stands beside the files; a block that stays is the next run's to settle."""
    return {key: seen.get(key) for key in {**bench.before, **bench.after} if key != "blocked"}


@pytest.mark.parametrize("once", [False, True], ids=["stays-full", "full-once"])
@pytest.mark.parametrize("name", SITUATIONS)
def test_the_journal_takes_no_more(fleet: Any, tmp_path: pathlib.Path, name: str, once: bool) -> None:
    bench = fault_bench.Bench(fleet, fault_bench.SITUATIONS[name], tmp_path, direct=True)
    outcomes: dict[str, int] = {}
    number, left = 1, 1
    while left:
        bench.begin()
        with pytest.MonkeyPatch.context() as patch:
            taking = Taking(patch, tmp_path, number, once)
            caught: MitigationError | None = None
            try:
                bench.run()
            except MitigationError as exc:
                caught = exc
        left = taking.fired
        if left:
            what = f"{name}: write {number}"
            assert isinstance(caught, JournalError), what
            assert (caught.reason, "\n" in caught.message, "No space left on device" in caught.message) == ("journal_unusable", False, True), what
            assert "nothing more is changed" in caught.message, caught.message
            bench.judge(what)
            now = parts(bench, bench.world.look())
            assert now in (parts(bench, bench.before), parts(bench, bench.after)), f"{what}: some of it is changed and not taken back: {caught.message}"
            changed = now != parts(bench, bench.before)
            outcomes["after" if changed else "before"] = outcomes.get("after" if changed else "before", 0) + 1
            bench.finish(what)
        number += STRIDE
    bench.close()
    print(f"SWEEP journal {name} {'once' if once else 'stays full'}: {sum(outcomes.values())} cases {outcomes}")
    assert sum(outcomes.values()) > 1


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EACCES], ids=lambda value: errno.errorcode[value])
def test_the_state_of_the_feed_takes_no_more(fleet: Any, tmp_path: pathlib.Path, error: int) -> None:
    office = Office(tmp_path)
    options = office.document("1", entry("LOCAL-1", DROP))
    machine = fleet.machine("EX1")
    state = pathlib.Path(options["state_dir"])
    number = 1
    while True:
        with pytest.MonkeyPatch.context() as patch:
            taking = Taking(patch, state, number, error=error)
            caught: MitigationError | None = None
            try:
                run(feed, fleet, machine, {**options, "state_dir": str(state)})
            except MitigationError as exc:
                caught = exc
        if not taking.fired:
            break
        if caught is not None:
            assert isinstance(caught, InvalidInput) and caught.reason == "state_unwritable", caught
            assert os.strerror(error) in caught.message and "\n" not in caught.message
        assert not list(state.rglob(".*.new")), "a rest of a write stays"
        number += 1
    assert number > 8
    assert caught is None


def test_a_home_that_is_read_only(fleet: Any, tmp_path: pathlib.Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path))
        patch.delenv("XDG_STATE_HOME", raising=False)
        Taking(patch, tmp_path, 1, error=errno.EROFS)
        with pytest.raises(JournalError) as caught:
            run(mitigation, fleet, fleet.machine("EX1"), {"mitigations": ["M1"]}, direct=True)
    assert "Read-only file system" in caught.value.message and "journal_dir" in caught.value.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["mode", "owner", "link", "nested"])
def test_a_journal_that_is_not_ours_alone(fleet: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Bytes of the journal go to the server when a run is undone, so nobody else may have written them."""
    bench = fault_bench.Bench(fleet, fault_bench.SITUATIONS["undo-rules"], tmp_path, direct=True)
    bench.begin()
    (file,) = pathlib.Path(bench.journal).rglob("*.jsonl")
    if how == "mode":
        file.chmod(0o666)
    elif how == "link":
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    elif how == "nested":
        file.write_bytes(file.read_bytes() + b"[" * 200_000 + b"\n")
    else:
        uid = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    with pytest.raises(JournalError) as caught:
        bench.run()
    monkeypatch.undo()
    assert caught.value.reason == ("journal_damaged" if how == "nested" else "journal_unusable")
    assert "\n" not in caught.value.message and str(file) in caught.value.message
    assert bench.world.look() == bench.before
    bench.close()


def test_a_journal_directory_open_to_others_is_closed_to_them(fleet: Any, tmp_path: pathlib.Path) -> None:
    bench = fault_bench.Bench(fleet, fault_bench.SITUATIONS["apply-rules"], tmp_path, direct=True)
    bench.begin()
    place = pathlib.Path(bench.journal)
    place.mkdir()
    place.chmod(0o777)
    bench.run()
    assert place.stat().st_mode & 0o777 == 0o700
    bench.close()
