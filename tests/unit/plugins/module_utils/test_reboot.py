# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a restart is pending, and a restart that is proven by a newer start of Windows, or by name is not."""

from __future__ import annotations

import datetime
import types
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _reboot
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, CmdletError, ConnectionFailure
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.fake_host import DENIED, FakeHost, item

BEFORE = datetime.datetime(2026, 11, 24, 3, tzinfo=datetime.timezone.utc)
AFTER = BEFORE + datetime.timedelta(minutes=4)
DOWN = ConnectionFailure("10.0.0.1 does not answer.")


def booted(when: Any) -> tuple[Any, ...]:
    """Return Windows' answer about its last start."""
    return (item(LastBootUpTime=when),)


@pytest.fixture(autouse=True)
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waiting takes no time: every sleep moves the clock, and is kept."""
    pauses: list[float] = []
    monkeypatch.setattr(_reboot, "time", types.SimpleNamespace(sleep=pauses.append, monotonic=lambda: sum(pauses)))
    return pauses


@pytest.mark.parametrize(
    ("flags", "values", "reasons"),
    [
        ((False, False), (), ()),
        ((True, True), (), ("component_servicing", "windows_update")),
        ((False,), (item(PSChildName="Session Manager", PendingFileRenameOperations=[r"\??\C:\old.dll"]),), ("file_rename",)),
        ((False, False), (item(PSChildName="UpdateExeVolatile", Flags=1),), ("update_exe",)),
        ((False, True), ("no object", item(PSChildName="UpdateExeVolatile", Flags=0), item(PSChildName="Session Manager")), ("windows_update",)),
    ],
)
def test_why_a_restart_is_pending(flags: tuple[bool, ...], values: tuple[Any, ...], reasons: tuple[str, ...]) -> None:
    """A key that is there without its value, and what is no key at all, say nothing."""
    host = FakeHost({"Test-Path": flags, "Get-ItemProperty": values})
    statements = _reboot.pending_statements()
    assert _reboot.pending_reasons(dict(zip(statements, host.read(list(statements.values()))))) == reasons


@pytest.mark.parametrize("answer", [(), ("a text",), booted("yesterday"), booted(None)], ids=["nothing", "text", "word", "null"])
def test_a_server_that_does_not_tell_when_it_started_is_an_error(answer: tuple[Any, ...]) -> None:
    with pytest.raises(CmdletError, match="does not tell LastBootUpTime") as caught:
        _reboot.last_boot(FakeHost({"Get-CimInstance": answer}))
    assert caught.value.reason == "answer_malformed"


def test_the_time_is_taken_from_the_first_object_that_has_one() -> None:
    assert _reboot.last_boot(FakeHost({"Get-CimInstance": (item(), *booted(AFTER))})) == AFTER


def test_a_restart_is_awaited_through_everything_that_a_starting_server_says(slept: list[float]) -> None:
    """Down, WMI not up yet, still the old start: none of them is the end of the wait."""
    host = FakeHost({"Get-CimInstance": [DOWN, (), booted(BEFORE), booted(AFTER)]})
    lines: list[str] = []
    assert _reboot.restart(host, BEFORE, 600, lines.append) == AFTER
    assert (host.changes, len(slept)) == ([("Restart-Computer", {"Force": True})], 3)
    assert lines == ["restarting the server, waiting up to 600 seconds"]


def test_a_server_that_does_not_come_back_is_named_as_such(slept: list[float]) -> None:
    with pytest.raises(ApplyError, match=r"did not come back within 60 seconds after its restart: 10\.0\.0\.1 does not answer\.") as caught:
        _reboot.wait_for_boot(FakeHost({"Get-CimInstance": DOWN}), BEFORE, 60)
    assert (caught.value.reason, caught.value.details) == ("reboot_timeout", {"last_boot": BEFORE.isoformat()})
    assert sum(slept) <= 60 and max(slept) == _reboot.POLL


def test_a_server_that_did_not_restart_is_named_as_such() -> None:
    """It was away for a moment and answers again, with the start it had before."""
    with pytest.raises(ApplyError, match=r"answers, but its last start is still 2026-11-24T03:00:00\+00:00 after 60 seconds") as caught:
        _reboot.wait_for_boot(FakeHost({"Get-CimInstance": [DOWN, booted(BEFORE)]}), BEFORE, 60)
    assert caught.value.reason == "reboot_timeout"


def test_the_connection_that_the_restart_itself_ends_is_no_failure() -> None:
    lost = ConnectionFailure("The connection was closed.", change_sent=True)
    assert _reboot.restart(FakeHost({"Restart-Computer": lost, "Get-CimInstance": [DOWN, booted(AFTER)]}), BEFORE, 60, str) == AFTER


def test_a_restart_that_was_never_sent_is_unreachable() -> None:
    """Nothing is waited for: the server has not been told anything."""
    with pytest.raises(ConnectionFailure) as caught:
        _reboot.restart(FakeHost({"Restart-Computer": DOWN, "Get-CimInstance": booted(AFTER)}), BEFORE, 60, str)
    assert caught.value is DOWN


def test_a_restart_that_the_server_refuses_is_its_error() -> None:
    with pytest.raises(CmdletError, match="Access is denied"):
        _reboot.restart(FakeHost({"Restart-Computer": DENIED}), BEFORE, 60, str)
