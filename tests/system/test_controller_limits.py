# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A controller whose process may make no file larger than so many bytes (ulimit -f, systemd's LimitFSIZE): a kind of full disk.

Unlike a full disk it takes the beginning of what is written and reports that as a success; only the next byte is refused.
EXCHANGE_MITIGATION_SWEEP=full cuts every record of the journal instead of some.
"""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from ansible_collections.exchange.mitigation.plugins.module_utils._journal import History
from lab_task import contents, put_back, restored, started
from test_mitigation_local import DROP, Office, entry

from playbooks import play

#: Python itself makes small files where processes are to share something; with less it does not start.
LEAST = 1024
FULL = os.environ.get("EXCHANGE_MITIGATION_SWEEP") == "full"


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    yield from started(1)


@pytest.fixture
def fleet(running: Any) -> Iterator[Any]:
    yield from restored(running)


def book(folder: pathlib.Path, module: str, options: dict[str, Any]) -> str:
    """Write a playbook of one task and return its path."""
    path = folder / f"{module}.yml"
    tasks = [{f"exchange.mitigation.{module}": options}]
    path.write_text(yaml.safe_dump([{"hosts": "EX1", "gather_facts": False, "tasks": tasks}]), "utf-8")
    return str(path)


def cuts(journal: pathlib.Path) -> dict[str, int]:
    """Return, by number and event, a size that ends within that record of a whole journal."""
    (file,) = journal.rglob("*.jsonl")
    found, offset = {}, 0
    for number, line in enumerate(file.read_bytes().splitlines(keepends=True), 1):
        found[f"{number} {json.loads(line)['event']}"] = offset + len(line) // 2
        offset += len(line)
    return {name: size for name, size in found.items() if size >= LEAST}


def test_a_record_of_the_journal_is_cut_by_a_limit(fleet: Any, tmp_path: pathlib.Path) -> None:
    """The task fails with a sentence, nothing is written on the server before what was there is saved whole, and the next run completes."""
    machine = fleet.machine("EX1")
    before = contents(machine)
    journal = tmp_path / "journal"
    whole = book(tmp_path, "mitigation", {"mitigations": ["M1", "M2"], "journal_dir": str(journal), "run_id": "whole"})
    assert play(fleet, tmp_path, whole).code == 0
    after = contents(machine)
    places = cuts(journal)
    put_back(machine, before)
    first = next(iter(places))
    chosen = places if FULL else {name: places[name] for name in (first, [n for n in places if n.endswith("begin")][-1])}
    assert len(chosen) > 1 and first.endswith("begin"), places
    for number, (name, size) in enumerate(chosen.items()):
        place = tmp_path / f"journal{number}"
        options = {"mitigations": ["M1", "M2"], "journal_dir": str(place), "run_id": "whole"}
        fleet.access_log.clear()
        failed = play(fleet, tmp_path, book(tmp_path, "mitigation", options), file_size=size)
        (result,) = failed.failures
        assert (failed.code, result["reason"], "\n" in result["msg"]) == (2, "journal_unusable", False), failed.text
        assert "the journal cannot be written" in result["msg"] and "nothing more is changed" in result["msg"], name
        assert "bytes were written" in result["msg"] or "File too large" in result["msg"], name
        now = {path: data for path, data in contents(machine).items() if path in before or path in after}
        assert now in (before, after), f"{name}: some of it is changed and not taken back"
        saved = History(str(place), "EX1").operations
        if name == first:
            assert (fleet.access_log.writes(), now, saved) == ([], before, ()), "written without a saved state before"
        done = play(fleet, tmp_path, book(tmp_path, "mitigation", {**options, "run_id": "again"}))
        assert done.code == 0, done.text
        assert contents(machine) == after, name
        assert History(str(place), "EX1").open_operations() == []
        put_back(machine, before)


def test_a_document_is_cut_by_a_limit(fleet: Any, tmp_path: pathlib.Path) -> None:
    """No half of it stands where later tasks look for it, nothing is remembered of it, and what was accepted before is what it was."""
    office = Office(tmp_path)
    state = tmp_path / "state"

    def kept() -> dict[str, bytes]:
        return {str(path.relative_to(state)): path.read_bytes() for path in state.rglob("*") if path.is_file() and path.name != ".lock"}

    for version, entries in (("1", [entry("LOCAL-1", DROP)]), ("2", [entry("LOCAL-1", DROP), entry("LOCAL-2", DROP)])):
        options = office.document(version, *entries)
        size = pathlib.Path(options["source"]).stat().st_size
        assert size > LEAST
        before = kept() if state.exists() else {}
        failed = play(fleet, tmp_path, book(tmp_path, "feed", options), file_size=size - 1)
        (result,) = failed.failures
        assert (failed.code, result["reason"], "\n" in result["msg"]) == (2, "state_unwritable", False), failed.text
        assert "File too large" in result["msg"] and "What it held before is unchanged" in result["msg"]
        assert kept() == before
        assert play(fleet, tmp_path, book(tmp_path, "feed", options)).code == 0
        assert len(kept()) == len(before) + (2 if before else 3)
