# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Blocks for EM: set and lifted as a whole list, read back at the domain controller that took it, and kept in the journal."""

from __future__ import annotations

import datetime
import pathlib
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _blocks, _exchange
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, CmdletError
from ansible_collections.exchange.mitigation.plugins.module_utils._journal import History, Journal
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.fake_host import DENIED, FakeHost, item

NOW = datetime.datetime(2026, 11, 24, 3, tzinfo=datetime.timezone.utc)


class Task:
    """A task whose Exchange endpoint knows one server; ``deaf`` takes a change and does not show it."""

    def __init__(self, *blocked: str, deaf: bool = False, refuses: bool = False, controller: str | None = "dc1.example.com") -> None:
        self.blocked = list(blocked)
        self.deaf, self.controller = deaf, controller
        self.exchange = FakeHost({"Get-ExchangeServer": self._server, "Set-ExchangeServer": DENIED if refuses else self._set})
        self.lines: list[str] = []

    def _server(self, dummy_parameters: Any) -> tuple[Any, ...]:
        return (item(Name="EX1", Fqdn="ex1.example.com", MitigationsBlocked=list(self.blocked), OriginatingServer=self.controller),)

    def _set(self, parameters: Any) -> tuple[Any, ...]:
        self.blocked = self.blocked if self.deaf else parameters["MitigationsBlocked"]
        return ()

    def now(self) -> datetime.datetime:
        """Return a fixed time."""
        return NOW

    def progress(self, message: str) -> None:
        """Keep a line."""
        self.lines.append(message)

    @property
    def sent(self) -> list[dict[str, Any]]:
        """The parameters of each change."""
        return [parameters for dummy, parameters in self.exchange.changes]


@pytest.fixture(autouse=True)
def no_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting takes no time: every sleep moves the clock."""
    now = [0.0]
    monkeypatch.setattr(_exchange.wait_until, "__defaults__", (lambda seconds: now.__setitem__(0, now[0] + seconds), lambda: now[0]))


@pytest.fixture
def journal(tmp_path: pathlib.Path) -> Journal:
    """Return an empty journal of ex1."""
    return Journal(str(tmp_path), "ex1", "run1")


def ours(journal: Journal) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return which blocks the next run takes for ours, and of which of them it is not sure."""
    history = History(str(pathlib.Path(journal.path).parent.parent), "ex1")
    return history.blocked_ids, history.unsure_blocks


def test_what_is_blocked_already_is_neither_sent_nor_taken_for_ours(journal: Journal) -> None:
    """Somebody else's block, written in another case, must not be lifted by this collection later."""
    task = Task("m2", "PING1")
    assert _blocks.block(task, "EX1", ["M2"], journal) == []
    assert (task.sent, task.lines, ours(journal)) == ([], [], ((), ()))


def test_a_block_is_added_to_the_list_where_it_was_read(journal: Journal) -> None:
    task = Task("PING1")
    assert _blocks.block(task, "EX1", ["M2", "M2.1.0"], journal) == ["M2", "M2.1.0"]
    whole = ["PING1", "M2", "M2.1.0"]
    assert task.sent == [{"Identity": "EX1", "MitigationsBlocked": whole, "DomainController": "dc1.example.com", "Confirm": False}]
    assert (task.lines, ours(journal)) == (["blocking M2, M2.1.0 for EM"], (("M2", "M2.1.0"), ()))


def test_a_server_that_names_no_controller_is_asked_without_one(journal: Journal) -> None:
    task = Task(controller=None)
    _blocks.block(task, "EX1", ["M2"], journal)
    assert task.sent == [{"Identity": "EX1", "MitigationsBlocked": ["M2"], "Confirm": False}]


def test_a_block_that_does_not_show_stops_the_run_and_the_next_one_finds_out(journal: Journal) -> None:
    """The files are not touched without the block: EM would take the rule out again. What became of the block is unsure."""
    task = Task(deaf=True)
    with pytest.raises(ApplyError, match="EX1 does not show the block of M2 that was just set; nothing was changed") as caught:
        _blocks.block(task, "EX1", ["M2"], journal)
    assert caught.value.reason == "block_not_visible"
    assert ours(journal) == (("M2",), ("M2",))
    _blocks.settle(task, "EX1", ["M2"], journal)
    assert ours(journal) == ((), ())


def test_a_block_that_shows_later_is_settled_as_ours(journal: Journal) -> None:
    task = Task(deaf=True)
    with pytest.raises(ApplyError):
        _blocks.block(task, "EX1", ["M1", "M2"], journal)
    task.blocked = ["m2"]
    _blocks.settle(task, "EX1", ["M1", "M2"], journal)
    assert ours(journal) == (("M2",), ())


def test_a_block_that_exchange_refuses_is_its_error(journal: Journal) -> None:
    with pytest.raises(CmdletError, match="Access is denied"):
        _blocks.block(Task(refuses=True), "EX1", ["M2"], journal)
    assert ours(journal) == (("M2",), ("M2",))


def test_lifting_takes_ours_out_and_leaves_the_others(journal: Journal) -> None:
    task = Task("PING1")
    _blocks.block(task, "EX1", ["M2"], journal)
    assert _blocks.lift(task, "EX1", ["M2"], journal) == ["M2"]
    assert (task.blocked, ours(journal), task.lines[-1]) == (["PING1"], ((), ()), "lifting the block of M2")


def test_a_block_that_somebody_lifted_before_is_only_written_down(journal: Journal) -> None:
    task = Task()
    _blocks.block(task, "EX1", ["M2"], journal)
    task.blocked = []
    assert _blocks.lift(task, "EX1", ["M2"], journal) == []
    assert (len(task.sent), ours(journal)) == (1, ((), ()))


def test_a_block_that_still_shows_after_it_was_lifted_is_an_error_and_stays_ours(journal: Journal) -> None:
    task = Task()
    _blocks.block(task, "EX1", ["M2"], journal)
    task.deaf = True
    with pytest.raises(ApplyError, match="EX1 still shows the block of M2 that was just lifted; run again") as caught:
        _blocks.lift(task, "EX1", ["M2"], journal)
    assert caught.value.reason == "block_not_lifted"
    assert ours(journal)[0] == ("M2",)
