# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal: what is written, what is read back, what damage it recognises."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import errno
import json
import os
import pathlib
import stat
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _journal
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput, JournalError

NOW = datetime.datetime(2026, 11, 24, 3, 46, 2, tzinfo=datetime.timezone.utc)


def operation(run_id: str, number: int, after: bytes | None = b"after", path: str = r"C:\inetpub\wwwroot\web.config") -> _journal.Operation:
    return _journal.Operation(
        run_id=run_id,
        operation_id=f"op{number}",
        path=path,
        before=b"\xef\xbb\xbfbefore",
        after=after,
        sddl="O:BAG:SY",
        temporary=path.replace("web.config", "web.op.new.config"),
        backup=path.replace("web.config", "web.op.before.config"),
        mitigations=("M1",),
        verb="apply",
        checks=(("/system.webServer/rewrite/rules", "MACHINE/WEBROOT/APPHOST/Default Web Site"),),
        event="begin",
        time=(NOW + datetime.timedelta(seconds=number)).isoformat(),
    )


def written(
    directory: pathlib.Path, run_id: str, number: int, *events: str, host: str = "ex1", path: str = r"C:\inetpub\wwwroot\web.config"
) -> _journal.Journal:
    journal = _journal.Journal(str(directory), host, run_id)
    wanted = operation(run_id, number, path=path)
    journal.begin(NOW + datetime.timedelta(seconds=number), wanted)
    for event in events:
        journal.append(NOW + datetime.timedelta(seconds=number), event, operation=wanted.operation_id)
    return journal


def test_what_is_begun_is_read_back_whole(tmp_path: pathlib.Path) -> None:
    written(tmp_path, "run1", 1)
    (found,) = _journal.History(str(tmp_path), "ex1").operations
    assert found == operation("run1", 1)


def test_directories_0700_and_files_0600(tmp_path: pathlib.Path) -> None:
    journal = written(tmp_path / "journal", "run1", 1)
    assert stat.S_IMODE(os.stat(journal.path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(journal.path)).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(tmp_path / "journal").st_mode) == 0o700


@pytest.mark.parametrize("events", [(), ("replacing",), ("replacing", "verified"), ("replacing", "undoing"), ("replacing", "unsettled")])
def test_an_operation_without_an_end_is_open(tmp_path: pathlib.Path, events: tuple[str, ...]) -> None:
    written(tmp_path, "run1", 1, *events)
    assert len(_journal.History(str(tmp_path), "ex1").open_operations()) == 1


@pytest.mark.parametrize("end", _journal.ENDS)
def test_an_ended_operation_is_not_open(tmp_path: pathlib.Path, end: str) -> None:
    written(tmp_path, "run1", 1, "replacing", end)
    assert not _journal.History(str(tmp_path), "ex1").open_operations()


def test_in_force_is_oldest_first_and_can_name_a_run(tmp_path: pathlib.Path) -> None:
    written(tmp_path, "run1", 1, "verified", "closed")
    written(tmp_path, "run2", 2, "verified", "closed")
    written(tmp_path, "run3", 3, "undone")
    history = _journal.History(str(tmp_path), "ex1")
    assert [entry.run_id for entry in history.in_force()] == ["run1", "run2"]
    assert [entry.run_id for entry in history.in_force("run1")] == ["run1"]


def test_a_torn_last_line_is_no_record_and_is_cut_off_by_the_next(tmp_path: pathlib.Path) -> None:
    journal = written(tmp_path, "run1", 1, "replacing")
    with open(journal.path, "ab") as file:
        file.write(b'{"event": "verif')
    assert _journal.History(str(tmp_path), "ex1").open_operations()[0].event == "replacing"
    journal.append(NOW, "closed", operation="op1")
    assert not _journal.History(str(tmp_path), "ex1").open_operations()


def test_a_changed_byte_in_the_saved_file_is_noticed(tmp_path: pathlib.Path) -> None:
    journal = written(tmp_path, "run1", 1, "closed")
    data = pathlib.Path(journal.path).read_bytes()
    pathlib.Path(journal.path).write_bytes(data.replace(base64.b64encode(b"after"), base64.b64encode(b"aftes")))
    with pytest.raises(JournalError) as caught:
        _journal.History(str(tmp_path), "ex1")
    assert caught.value.reason == "journal_damaged"


def test_a_directory_that_cannot_be_made_stops_the_run(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError) as caught:
        written(tmp_path / "file", "run1", 1)
    assert caught.value.reason == "journal_unusable"


def test_a_second_run_on_the_same_host_refuses_and_another_host_does_not(tmp_path: pathlib.Path) -> None:
    with _journal.Journal(str(tmp_path), "ex1", "run1").locked():
        with pytest.raises(JournalError) as caught, _journal.Journal(str(tmp_path), "ex1", "run2").locked():
            pass
        assert caught.value.reason == "host_locked"
        with _journal.Journal(str(tmp_path), "ex2", "run2").locked():
            pass
    with _journal.Journal(str(tmp_path), "ex1", "run3").locked():
        pass


@pytest.mark.parametrize("run_id", ["", "../up", "a/b", ".hidden", "x" * 101, "a b"])
def test_a_run_id_that_is_no_folder_name_is_refused(tmp_path: pathlib.Path, run_id: str) -> None:
    with pytest.raises(InvalidInput):
        _journal.Journal(str(tmp_path), "ex1", run_id)


def test_hosts_whose_names_look_alike_as_files_stay_apart(tmp_path: pathlib.Path) -> None:
    one, two = (_journal.Journal(str(tmp_path), host, "run1").path for host in ("ex/1", "ex_1"))
    assert one != two


def test_prune_keeps_the_last_word_on_every_file_and_open_operations(tmp_path: pathlib.Path) -> None:
    written(tmp_path, "run000", 0, "closed", path=r"C:\other\web.config")
    written(tmp_path, "run001", 1, "replacing", path=r"C:\third\web.config")
    for number in range(2, _journal.KEPT_RUNS + 5):
        written(tmp_path, f"run{number:03}", number, "closed")
    _journal.History(str(tmp_path), "ex1").prune()
    left = _journal.History(str(tmp_path), "ex1").run_ids()
    assert left[:2] == ["run000", "run001"]
    assert left[2:] == [f"run{number:03}" for number in range(5, _journal.KEPT_RUNS + 5)]


def test_run_ids_sort_by_time() -> None:
    assert _journal.new_run_id(NOW) < _journal.new_run_id(NOW + datetime.timedelta(seconds=1))


def test_blocks_are_remembered_until_they_are_lifted(tmp_path: pathlib.Path) -> None:
    journal = written(tmp_path, "run1", 1, "closed")
    journal.append(NOW, "blocked", ids=["M1", "M2.1.0"])
    assert _journal.History(str(tmp_path), "ex1").blocked_ids == ("M1", "M2.1.0")
    _journal.Journal(str(tmp_path), "ex1", "run2").append(NOW + datetime.timedelta(hours=1), "unblocked", ids=["m1"])
    assert _journal.History(str(tmp_path), "ex1").blocked_ids == ("M2.1.0",)


def test_a_later_run_ends_what_an_earlier_one_left_open(tmp_path: pathlib.Path) -> None:
    written(tmp_path, "run1", 1, "replacing")
    _journal.Journal(str(tmp_path), "ex1", "run0").append(NOW + datetime.timedelta(hours=1), "recovered_before", operation="op1")
    assert not _journal.History(str(tmp_path), "ex1").open_operations()


def test_the_journal_of_another_computer_is_not_used(tmp_path: pathlib.Path) -> None:
    journal = _journal.Journal(str(tmp_path), "mail", "run1")
    journal.begin(NOW, operation("run1", 1))
    _journal.History(str(tmp_path), "mail").written_on("EX1")
    journal.server = "EX1"
    journal.append(NOW, "closed", operation=operation("run1", 1).operation_id)
    history = _journal.History(str(tmp_path), "mail")
    for name in ("EX1", "ex1", ""):
        history.written_on(name)
    with pytest.raises(JournalError) as caught:
        history.written_on("EX2")
    assert caught.value.reason == "journal_of_another"
    assert "EX1" in caught.value.message and "EX2" in caught.value.message


def transition(**changed: Any) -> _journal.Transition:
    wanted = _journal.Transition(
        run_id="run1", operation_id="op1", kind="service", name="MSExchangeMitigation", before=("Running", "Auto"), after=("Stopped", "Disabled"),
        mitigations=("M9",), verb="apply", event="begin", time=NOW.isoformat(),
    )  # fmt: skip
    return dataclasses.replace(wanted, **changed)


def refusal_of(directory: pathlib.Path, entry: _journal.Operation | _journal.Transition, damage: dict[str, Any]) -> str:
    """Write a record, change it, and return the sentence of the refusal."""
    journal = _journal.Journal(str(directory), "ex1", "run1")
    journal.begin(NOW, entry)
    assert _journal.History(str(directory), "ex1").operations == (dataclasses.replace(entry, time=NOW.isoformat()),)
    file = pathlib.Path(journal.path)
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), **damage}) + "\n", "utf-8")
    with pytest.raises(JournalError) as caught:
        _journal.History(str(directory), "ex1")
    assert caught.value.reason == "journal_damaged"
    assert f"{file} line 1: not a journal record" in caught.value.message and "move the file away" in caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"path": "C:\\Windows\\System32\\drivers\\etc\\hosts"}, "not those of one configuration file"),
        ({"path": "C:\\inetpub\\wwwroot\\default.aspx"}, "not those of one configuration file"),
        ({"temporary": "C:\\elsewhere\\web.op.new.config"}, "not those of one configuration file"),
        ({"backup": "C:\\inetpub\\wwwroot\\web.aspx"}, "not those of one configuration file"),
        ({"verb": "format"}, "'format' is no verb"),
        ({"before": None}, "SHA-256"),
        ({"after": "****"}, "not a journal record"),
    ],
)
def test_a_record_of_a_file_that_no_run_wrote_is_refused(tmp_path: pathlib.Path, damage: dict[str, Any], said: str) -> None:
    """What an undo would write, and where, is taken from the journal, so only a record that holds together counts."""
    assert said in refusal_of(tmp_path, operation("run1", 1), damage)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"kind": "driver"}, "driver 'MSExchangeMitigation' is neither a service nor an application pool"),
        ({"name": "a'; b"}, "is neither a service nor an application pool"),
        ({"name": ""}, "is neither a service nor an application pool"),
        ({"before": ["Running", "Boot"]}, "'Running', 'Boot' is no state of a service"),
        ({"after": ["Started", "Auto"]}, "'Started', 'Auto' is no state of a service"),
        ({"kind": "pool"}, "'Running', 'Auto' is no state of a pool"),
        ({"after": ["Stopped"]}, "not a journal record"),
    ],
)
def test_a_record_of_a_service_that_no_run_wrote_is_refused(tmp_path: pathlib.Path, damage: dict[str, Any], said: str) -> None:
    """Nobody makes an undo start, stop or disable what the collection never touched."""
    assert said in refusal_of(tmp_path, transition(), damage)


def test_a_write_that_is_cut_short_stops_the_run_and_the_next_record_stands_on_its_own(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk may take a part of a line and report no error; then nothing is changed, and the rest of the line goes."""
    journal = written(tmp_path, "run1", 1, "replacing")
    genuine = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: genuine(descriptor, data[:20]))
    with pytest.raises(JournalError) as caught:
        journal.append(NOW, "verified", operation="op1")
    assert caught.value.reason == "journal_unusable"
    assert "only 20 of " in caught.value.message and "nothing more is changed" in caught.value.message
    monkeypatch.undo()
    assert _journal.History(str(tmp_path), "ex1").open_operations()[0].event == "replacing"
    journal.append(NOW, "closed", operation="op1")
    assert pathlib.Path(journal.path).read_bytes().count(b"\n") == 3
    assert not _journal.History(str(tmp_path), "ex1").open_operations()


def test_a_file_system_without_locks_is_no_other_run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network shares know no locks: the task says that, and not that another run is under way."""

    def refuse(dummy_descriptor: int, dummy_how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(_journal.fcntl, "flock", refuse)
    with pytest.raises(JournalError) as caught, _journal.Journal(str(tmp_path), "ex1", "run1").locked():
        pytest.fail("a change would be made without a lock")
    assert caught.value.reason == "journal_unusable"
    assert os.strerror(errno.ENOLCK) in caught.value.message and "see to journal_dir" in caught.value.message


def test_a_journal_directory_of_another_user_is_not_written_to(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner could write what an undo sends to a server."""
    place = tmp_path / "journal"
    place.mkdir(mode=0o700)
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    with pytest.raises(JournalError) as caught:
        written(place, "run1", 1)
    with pytest.raises(JournalError) as locking, _journal.Journal(str(place), "ex1", "run1").locked():
        pytest.fail("a change would be made")
    for refusal in (caught.value, locking.value):
        assert refusal.reason == "journal_unusable" and f"{place} belongs to another user" in refusal.message
    assert [path.name for path in place.iterdir()] == []
