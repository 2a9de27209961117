# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An address that leads to another server from some moment on: a name with several addresses, a load balancer, an old DNS record."""

from __future__ import annotations

import os
import pathlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConnectionFailure, JournalError
from ansible_collections.exchange.mitigation.plugins.module_utils._journal import History
from ansible_collections.exchange.mitigation.plugins.modules import mitigation
from ansible_collections.exchange.mitigation.plugins.plugin_utils import _session
from lab_task import contents, hashes, put_back, restored, run, started

APPLY = {"mitigations": ["M1", "M2"], "run_id": "first", "when_em_active": "take_over"}
UNDO = {"state": "absent", "undo_run_id": "first"}


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    yield from started(2)


@pytest.fixture
def fleet(running: Any) -> Iterator[Any]:
    yield from restored(running, sessions_stay=True)


class Address:
    """The address of EX1; ``flip`` makes every connection from now on lead to EX2, and asks for a new one at each message."""

    def __init__(self, fleet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.usual = _session.IDLE_LIMIT
        self.flipped = False
        first, second = (fleet.port(fleet.machine(name), "wsman_http") for name in ("EX1", "EX2"))
        real = socket.getaddrinfo

        def resolve(host: Any, port: Any, *args: Any, **more: Any) -> Any:
            return real(host, second if self.flipped and port == first else port, *args, **more)

        monkeypatch.setattr(socket, "getaddrinfo", resolve)

    def flip(self) -> None:
        """Lead to EX2."""
        self.flipped = True
        self.monkeypatch.setattr(_session, "IDLE_LIMIT", -1)

    def back(self) -> None:
        """Lead to EX1 again."""
        self.flipped = False
        self.monkeypatch.setattr(_session, "IDLE_LIMIT", self.usual)


@pytest.mark.parametrize("wanted", [APPLY, UNDO], ids=["apply", "undo"])
def test_at_every_step(fleet: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, wanted: dict[str, Any]) -> None:
    """The other server is never written to, the run ends as unreachable, and the next run completes what was begun."""
    address = Address(fleet, monkeypatch)
    first, second = fleet.machine("EX1"), fleet.machine("EX2")
    before = {machine.name: contents(machine) for machine in fleet.machines}
    untouched, other = hashes(first), hashes(second)
    steps: list[int] = []

    def round_of(step: int | None) -> bool:
        journal = str(tmp_path / f"journal-{step}")
        if wanted is UNDO:
            run(mitigation, fleet, first, {**APPLY, "journal_dir": journal})

        def note(number: int, dummy: str) -> None:
            steps.append(number)
            if number == step:
                address.flip()

        caught = None
        try:
            run(mitigation, fleet, first, {**wanted, "journal_dir": journal}, before=note)
        except ConnectionFailure as exc:
            caught = exc
        address.back()
        assert hashes(second) == other
        if caught is not None:
            assert caught.reason == "other_machine"
            assert "EX1" in caught.message and "EX2" in caught.message
            run(mitigation, fleet, first, {**wanted, "journal_dir": journal})
        assert History(journal, "EX1").open_operations() == []
        if wanted is UNDO:
            assert hashes(first) == untouched
        else:
            assert hashes(first) != untouched
            run(mitigation, fleet, first, {**UNDO, "journal_dir": journal})
            assert hashes(first) == untouched
        for machine in fleet.machines:
            put_back(machine, before[machine.name])
        return caught is not None

    assert not round_of(None)
    last = max(steps)
    assert last >= 8
    # The first step is the observation itself: whoever answers it is the server that this run is about.
    tried = range(2, last + 1, 1 if os.environ.get("EXCHANGE_MITIGATION_SWEEP") else last // 4)
    assert [round_of(step) for step in tried] == [True] * len(tried)


def test_a_journal_is_not_carried_out_on_another_server(fleet: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = str(tmp_path / "journal")
    run(mitigation, fleet, fleet.machine("EX1"), {**APPLY, "journal_dir": journal})
    address = Address(fleet, monkeypatch)
    address.flipped = True
    states = {machine.name: hashes(machine) for machine in fleet.machines}
    for wanted in (UNDO, {**APPLY, "run_id": "second"}):
        with pytest.raises(JournalError) as caught:
            run(mitigation, fleet, fleet.machine("EX1"), {**wanted, "journal_dir": journal})
        assert caught.value.reason == "journal_of_another"
    assert {machine.name: hashes(machine) for machine in fleet.machines} == states
