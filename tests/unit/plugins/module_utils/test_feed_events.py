# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an event source remembers of a feed: told once, over a restart too; a file that is not its own stops it."""

from __future__ import annotations

import datetime
import json
import pathlib
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _feed_events
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import VerifyError
from ansible_collections.exchange.mitigation.plugins.module_utils._feed_events import Memory, Seen

NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.timezone.utc)
RESULT: dict[str, Any] = {
    "feed": {"path": "/state/x.xml", "sha256": "a" * 64, "domain": "microsoft"},
    "version": "1.0.5",
    "signed_at": None,
    "mitigations": [{"id": "M1", "supported": True, "kind": "rewrite"}, {"id": "M2", "supported": True, "kind": "rewrite"}],
}


@pytest.fixture
def seen(tmp_path: pathlib.Path) -> Seen:
    """Return the memory of a trust domain in a prepared directory."""
    made = Seen(str(tmp_path), "microsoft")
    assert made.prepare() == []
    return made


def test_what_is_stored_is_remembered(seen: Seen) -> None:
    assert seen.memory() == Memory()
    for memory in (Memory({"M1": "1" * 64}, ("digest_mismatch " + "b" * 64,)), Memory(None, ("unsigned " + "c" * 64,)), Memory({})):
        seen.store(memory)
        assert Seen(str(seen.directory), "microsoft").memory() == memory
    assert seen.file.stat().st_mode & 0o777 == 0o600


GENUINE = {"format": 1, "domain": "microsoft", "configs": {"M1": "1" * 64}, "refused": []}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"null", b"[]", b"{}", b"\xff", b"[" * 200_000,
        json.dumps({**GENUINE, "format": 2}).encode(), json.dumps({**GENUINE, "domain": "local-123"}).encode(),
        json.dumps({**GENUINE, "configs": []}).encode(), json.dumps({**GENUINE, "refused": None}).encode(),
        json.dumps({key: value for key, value in GENUINE.items() if key != "refused"}).encode(),
    ],
)  # fmt: skip
def test_a_memory_that_is_none_is_not_taken_for_a_first_look(seen: Seen, content: bytes) -> None:
    """Another format, another trust domain, a file that broke: told is what was told, and nothing is told anew because of it."""
    seen.file.write_bytes(content)
    with pytest.raises(VerifyError) as caught:
        seen.memory()
    assert caught.value.reason == "state_damaged"
    assert f"{seen.file} is not what an event source keeps of this trust domain" in caught.value.message


@pytest.mark.parametrize("what", ["link", "directory"])
def test_something_else_in_its_place(seen: Seen, tmp_path: pathlib.Path, what: str) -> None:
    if what == "link":
        (tmp_path / "x").write_text(json.dumps(GENUINE), "utf-8")
        seen.file.symlink_to(tmp_path / "x")
    else:
        seen.file.mkdir()
    with pytest.raises(VerifyError) as caught:
        seen.memory()
    assert caught.value.reason == "state_damaged" and str(seen.file) in caught.value.message


def test_every_change_once_and_the_memory_as_far_as_it_got() -> None:
    """An event source that dies between two events tells the second one later, and the first one never again."""
    before = Memory({"M1": "1" * 64, "M9": "9" * 64}, ("unsigned " + "c" * 64,))
    now = {"M1": "f" * 64, "M2": "2" * 64}
    told = list(_feed_events.changes(before, now, RESULT, NOW))
    assert [(event["type"], event["id"]) for event, dummy in told] == [("changed", "M1"), ("published", "M2"), ("withdrawn", "M9")]
    assert [event["supported"] for event, dummy in told] == [True, True, None]
    assert told[-1][1] == Memory(now)
    for number, (dummy, memory) in enumerate(told, 1):
        assert [event["id"] for event, dummy in _feed_events.changes(memory, now, RESULT, NOW)] == ["M1", "M2", "M9"][number:]


def test_a_refused_document_is_told_once_and_the_oldest_is_forgotten() -> None:
    memory = Memory({"M1": "1" * 64})
    for number in range(_feed_events.MAX_REFUSED + 1):
        told = _feed_events.refusal(memory, "unsigned", f"{number:064x}", NOW)
        assert told is not None and told[0]["type"] == "untrusted"
        memory = told[1]
        assert _feed_events.refusal(memory, "unsigned", f"{number:064x}", NOW) is None
    assert (len(memory.refused), memory.configs) == (_feed_events.MAX_REFUSED, {"M1": "1" * 64})
    assert _feed_events.refusal(memory, "unsigned", f"{0:064x}", NOW) is not None
