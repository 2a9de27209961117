# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered: the rules against rollback, the files, the lock; and the handle that later tasks open."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import threading
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _feed_handle, _state
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput, Refused, VerifyError
from ansible_collections.exchange.mitigation.plugins.module_utils._state import Accepted, Consent, Memory, State, judge

UTC = datetime.timezone.utc
NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=UTC)
EARLY, LATE = NOW - datetime.timedelta(days=9), NOW - datetime.timedelta(days=1)


NOTHING = Consent()


def accepted(sha: str = "a", version: str = "1.0.4", signed: datetime.datetime | None = None, ids: tuple[str, ...] = ("PING1",)) -> Accepted:
    """Return a document."""
    return Accepted(sha * 64, sha.upper() * 64, version, signed, "c" * 64, ids)


def refused(document: Accepted, mark: Accepted | None, consent: Consent = NOTHING) -> str:
    """Return the reason of the refusal."""
    with pytest.raises(VerifyError) as caught:
        judge(document, Memory(mark=mark, last=mark), consent)
    return caught.value.reason


@pytest.mark.parametrize(
    ("new", "mark", "reason"),
    [
        (accepted("b", "1.0.3"), accepted("a", "1.0.4"), "rollback_version"),
        (accepted("b", "1.0.9"), accepted("a", "1.0.11"), "rollback_version"),
        (accepted("b", "1.0.4", EARLY), accepted("a", "1.0.4", LATE), "rollback_time"),
        (accepted("b", "1.0.4", LATE), accepted("a", "1.0.4", LATE), "rollback_time"),
        (accepted("b", "1.0.5", EARLY), accepted("a", "1.0.4", LATE), "rollback_time"),
        (accepted("b", "1.0.5"), accepted("a", "1.0.4", LATE), "rollback_untimed"),
        (accepted("b", "1.0.4"), accepted("a", "1.0.4"), "same_version_other_content"),
        (accepted("b", "1.0"), accepted("a", "1"), "same_version_other_content"),
        (accepted("b", "500.0"), accepted("a", "1.0"), "version_leap"),
    ],
)
def test_not_newer(new: Accepted, mark: Accepted, reason: str) -> None:
    """Every rule of TRUST.md 3 refuses with its own code."""
    assert refused(new, mark) == reason


@pytest.mark.parametrize(
    ("new", "mark", "raises_mark"),
    [
        (accepted("a"), accepted("a"), False),
        (accepted("a", signed=EARLY), accepted("a", signed=LATE), False),
        (accepted("a", signed=LATE), accepted("a", signed=EARLY), False),
        (accepted("a"), accepted("a", signed=EARLY), False),
        (accepted("a", signed=EARLY), accepted("a"), True),
        (accepted("b", "1.0.5"), accepted("a", "1.0.4"), True),
        (accepted("b", "1.0.4", LATE), accepted("a", "1.0.4", EARLY), True),
        (accepted("b", "1.0.4", LATE), accepted("a", "1.0.4"), True),
        (accepted("b", "1.0.5", LATE, ()), accepted("a", "1.0.4", EARLY, ("M1", "M2")), True),
    ],
)
def test_same_or_newer(new: Accepted, mark: Accepted, raises_mark: bool) -> None:
    """The same content, a later one, and a withdrawal are accepted."""
    assert judge(new, Memory(mark=mark, last=mark), Consent()).raises_mark is raises_mark


def test_first_use() -> None:
    """Accepted with a word, or refused unless approved by either hash."""
    assert judge(accepted(), Memory(), Consent()).first
    assert refused(accepted(), None, Consent("refuse")) == "first_use_refused"
    for approved in ("a" * 64, "A" * 64):
        assert judge(accepted(), Memory(), Consent("refuse", frozenset({approved}))).first


def test_approval_is_no_way_back() -> None:
    """An approved hash settles a tie and a leap, never a rollback."""
    approved = Consent(approved_sha256=frozenset({"b" * 64}))
    mark = Memory(mark=accepted("a"))
    assert judge(accepted("b"), mark, approved).raises_mark
    assert judge(accepted("b", "500.0"), mark, approved).raises_mark
    assert refused(accepted("b", "1.0.3"), accepted("a"), approved) == "rollback_version"


def test_allow_older_needs_no_more_than_a_reason_and_keeps_the_mark() -> None:
    """The older document is used; the mark stays; a tie is not older."""
    older = Consent(allow_older="lab")
    judgement = judge(accepted("b", "1.0.3"), Memory(mark=accepted("a")), older)
    assert (judgement.raises_mark, judgement.override) == (False, "rollback_version: lab")
    assert refused(accepted("b"), accepted("a"), older) == "same_version_other_content"


@pytest.fixture
def state(tmp_path: pathlib.Path) -> State:
    """A prepared state."""
    made = State(str(tmp_path / "deep" / "state"), "microsoft")
    assert made.prepare() == []
    return made


def test_nothing_is_remembered_before_commit(state: State) -> None:
    """Preparing and loading write no file."""
    assert state.load() == Memory()
    assert [path.name for path in state.directory.iterdir()] == ["feeds"]


def test_commit_and_load(state: State) -> None:
    """What was committed is loaded; files are private; the fetch time only moves forward and only by fetches."""
    document = accepted(signed=EARLY)
    state.commit(document, Consent(), NOW, True)
    memory = state.load()
    assert (memory.mark, memory.last, memory.fetched_at) == (document, document, NOW)
    assert [entry["event"] for entry in memory.audit] == ["first"]
    state.commit(document, Consent(), NOW - datetime.timedelta(days=1), True)
    state.commit(document, Consent(), NOW + datetime.timedelta(days=1), False)
    assert state.load().fetched_at == NOW
    assert len(state.load().audit) == 1
    for path in (state.directory, state.file, *state.directory.iterdir()):
        assert path.stat().st_mode & 0o077 == 0


def test_older_by_permission_is_audited_and_the_mark_stays(state: State) -> None:
    """After an allowed older document the newer one is still the mark."""
    newer, older = accepted("a", "1.0.5", LATE, ("M1",)), accepted("b", "1.0.4", EARLY, ("PING1",))
    state.commit(newer, Consent(), NOW, True)
    state.commit(older, Consent(allow_older="ticket 7"), NOW, False)
    memory = state.load()
    assert (memory.mark, memory.last) == (newer, older)
    assert memory.audit[-1]["override"] == "rollback_version: ticket 7" and memory.audit[-1]["event"] == "older"
    with pytest.raises(VerifyError):
        state.commit(older, Consent(), NOW, False)


def test_a_faster_run_with_a_newer_document_wins(state: State) -> None:
    """The judgement is repeated under the lock."""
    state.commit(accepted("b", "1.0.5", LATE), Consent(), NOW, True)
    with pytest.raises(VerifyError) as caught:
        state.commit(accepted("a", "1.0.4", EARLY), Consent(), NOW, True)
    assert caught.value.reason == "rollback_version"
    assert state.load().mark == accepted("b", "1.0.5", LATE)


def test_parallel_runs(state: State) -> None:
    """Whatever the order, the highest version stays the mark and the file stays readable."""

    def distinct(number: int) -> Accepted:
        return Accepted(f"{number:064x}", f"{number:064x}", f"1.0.{number}", None, "c" * 64, ())

    def run(number: int) -> None:
        try:
            state.commit(distinct(number), Consent(), NOW, True)
        except VerifyError as exc:
            assert exc.reason == "rollback_version"

    threads = [threading.Thread(target=run, args=(number,)) for number in range(1, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    mark = state.load().mark
    assert mark is not None and mark.version == "1.0.12"
    assert not list(state.directory.glob(".*.new"))


def test_lock_is_waited_for_but_not_for_ever(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another holder of the lock makes the run refuse, with nothing written."""
    monkeypatch.setattr(_state, "LOCK_SECONDS", 0.1)
    other = State(str(state.directory), "microsoft")
    with state._locked(), pytest.raises(Refused) as caught:
        other.commit(accepted(), Consent(), NOW, True)
    assert caught.value.reason == "state_locked"
    assert not state.file.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"format": 1}', b"\xff", b'{"format": 2, "domain": "microsoft", "mark": null, "last": null, "fetched_at": null, "audit": []}'],
)
def test_damaged_file_is_no_first_use(state: State, content: bytes) -> None:
    """A state that cannot be read stops the run; it never counts as none."""
    state.file.write_bytes(content)
    state.file.chmod(0o600)
    with pytest.raises(VerifyError) as caught:
        state.load()
    assert caught.value.reason == "state_damaged"


def test_a_state_with_a_time_without_an_offset_is_damaged(state: State) -> None:
    """Times are compared across controllers: one whose zone is not known is no time."""
    state.commit(accepted(signed=EARLY), Consent(), NOW, True)
    genuine = state.file.read_text("utf-8")
    for moment in (NOW, EARLY):
        assert f'"{moment.isoformat()}"' in genuine
        state.file.write_text(genuine.replace(f'"{moment.isoformat()}"', f'"{moment.replace(tzinfo=None).isoformat()}"'), "utf-8")
        with pytest.raises(VerifyError) as caught:
            state.load()
        assert caught.value.reason == "state_damaged" and str(state.file) in caught.value.message


def test_a_state_without_a_mark(state: State) -> None:
    """A file that says that nothing was accepted yet is a first use, with what else it remembers."""
    state.commit(accepted(), Consent(), NOW, True)
    state.file.write_text(json.dumps({**json.loads(state.file.read_text("utf-8")), "mark": None, "last": None}), "utf-8")
    memory = state.load()
    assert (memory.mark, memory.last, memory.fetched_at, len(memory.audit)) == (None, None, NOW, 1)
    assert judge(accepted(), memory, Consent()).first


@pytest.mark.parametrize("what", ["directory", "pipe"])
def test_something_else_in_place_of_the_state(state: State, what: str) -> None:
    """What is no file is neither waited for nor taken for a first use."""
    if what == "directory":
        state.file.mkdir(mode=0o700)
    else:
        os.mkfifo(state.file, 0o600)
    with pytest.raises(VerifyError) as caught:
        state.load()
    assert caught.value.reason == "state_damaged" and str(state.file) in caught.value.message


def test_state_of_another_domain(state: State) -> None:
    """A copied file of another domain is not read."""
    state.commit(accepted(), Consent(), NOW, True)
    other = State(str(state.directory), "microsoft-123")
    state.file.rename(other.file)
    with pytest.raises(VerifyError):
        other.load()


def test_symbolic_link_in_place_of_the_state(state: State, tmp_path: pathlib.Path) -> None:
    """A link is not followed."""
    (tmp_path / "x").write_text("{}")
    state.file.symlink_to(tmp_path / "x")
    with pytest.raises(VerifyError):
        state.load()


def test_writable_by_others(state: State) -> None:
    """A file that others can write proves nothing; a directory is closed, with a warning."""
    state.commit(accepted(), Consent(), NOW, True)
    state.file.chmod(0o666)
    with pytest.raises(VerifyError) as caught:
        state.load()
    assert caught.value.reason == "state_unsafe"
    state.directory.chmod(0o777)
    assert "could be written by others" in state.prepare()[0]
    assert state.directory.stat().st_mode & 0o777 == 0o700


def test_directory_of_another_user(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory of somebody else is refused."""
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(VerifyError) as caught:
        state.prepare()
    assert caught.value.reason == "state_unsafe"


def test_directory_that_cannot_be_made(tmp_path: pathlib.Path) -> None:
    """A file in the way is an option that cannot be meant."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput):
        State(str(tmp_path / "file" / "state"), "microsoft").prepare()


def test_full_disk(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails leaves the old state, no rest, and one sentence."""
    state.commit(accepted(), Consent(), NOW, True)

    def full(dummy: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InvalidInput) as caught:
        state.commit(accepted("b", "1.0.5"), Consent(), NOW, True)
    assert caught.value.reason == "state_unwritable" and "No space left" in caught.value.message
    assert state.load().mark == accepted()
    assert not list(state.directory.glob(".*.new"))


def test_old_copies_go(state: State) -> None:
    """Only the newest copies are kept."""
    for number in range(_state.KEPT_COPIES + 5):
        path = state.keep(b"x", f"{number:064x}", {})
        os.utime(path, (number, number))
    names = sorted(path.name for path in (state.directory / "feeds").iterdir())
    assert len(names) == 2 * _state.KEPT_COPIES
    assert f"{0:064x}.xml" not in names and path.name in names


def handle(state: State, data: bytes = b"<x/>", **record: Any) -> dict[str, str]:
    """Keep bytes with a record that claims their proof, and return the handle."""
    import hashlib

    sha = hashlib.sha256(data).hexdigest()
    path = state.keep(data, sha, {"sha256": sha, "domain": "microsoft", "octets_sha256": "0" * 64, **record})
    return {"path": str(path), "sha256": sha, "domain": "microsoft"}


def opened(feed: Any) -> str:
    """Return the reason why a handle is refused."""
    with pytest.raises(VerifyError) as caught:
        _feed_handle.load_feed(feed)
    return caught.value.reason


def test_handle_with_other_bytes(state: State) -> None:
    """A file that was exchanged after the feed task is refused."""
    feed = handle(state)
    pathlib.Path(feed["path"]).write_bytes(b"<y/>")
    assert opened(feed) == "feed_bytes_differ"


def test_handle_without_record(state: State) -> None:
    """A file with the right hash is not verified by having it."""
    feed = handle(state)
    pathlib.Path(feed["path"]).with_suffix(".json").unlink()
    assert opened(feed) == "feed_not_verified"


def test_handle_with_a_record_of_something_else(state: State) -> None:
    """The record binds bytes, signed octets and trust domain."""
    assert opened(handle(state, domain="local")) == "feed_not_verified"
    assert opened(handle(state, sha256="1" * 64)) == "feed_not_verified"
    assert opened(handle(state)) == "feed_not_verified"
    assert opened({**handle(state), "domain": "local"}) == "feed_not_verified"


def test_handle_elsewhere(state: State, tmp_path: pathlib.Path) -> None:
    """A copy under another name, a link, a file that others can write, no file."""
    feed = handle(state)
    other = tmp_path / "copy.xml"
    other.write_bytes(b"<x/>")
    other.chmod(0o600)
    assert opened({**feed, "path": str(other)}) == "feed_not_verified"
    link = tmp_path / pathlib.Path(feed["path"]).name
    link.symlink_to(feed["path"])
    assert opened({**feed, "path": str(link)}) == "feed_not_verified"
    pathlib.Path(feed["path"]).chmod(0o666)
    assert opened(feed) == "feed_not_verified"
    assert opened({**feed, "path": str(tmp_path / "none")}) == "feed_not_verified"


@pytest.mark.parametrize("feed", ["x", None, {}, {"path": "a", "sha256": "b"}, {"path": "", "sha256": "b", "domain": "microsoft"}, {"feed": "x"}])
def test_handle_that_is_none(feed: Any) -> None:
    """Something else than the result of the feed task is an invalid option."""
    with pytest.raises(InvalidInput):
        _feed_handle.load_feed(feed)


def test_state_file_is_json(state: State) -> None:
    """An administrator can read it."""
    state.commit(accepted(signed=EARLY), Consent(), NOW, True)
    assert json.loads(state.file.read_text())["mark"]["signed_at"] == EARLY.isoformat()
