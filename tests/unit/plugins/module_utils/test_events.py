# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of the EM log, times and bookmarks: a line never fails, whatever it is."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _events
from ansible_collections.exchange.mitigation.plugins.module_utils._cmdlets import HOST, enforce_statement
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import CmdletError, InvalidInput
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Answer, ErrorRecord, Statement
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.made_up_host import DENIED, GONE, Host, item
from hypothesis import given, settings
from hypothesis import strategies as st

NOW = datetime.datetime(2026, 11, 24, 12, 0, tzinfo=datetime.timezone.utc)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        (
            "FetchMitigation,S:LogLevel=Warning;S:Message=Connection attempted against untrusted endpoint",
            {"time": None, "event": "FetchMitigation", "level": "Warning", "message": "Connection attempted against untrusted endpoint", "data": {}},
        ),
        (
            "2026-11-24T04:10:11.1234567Z,EX1,FetchMitigation,S:LogLevel=Error;S:Message=Exception : a; b=c;S:Source=Engine;S:Stack=at X",
            {"time": "2026-11-24T04:10:11.123Z", "event": "FetchMitigation", "level": "Error", "message": "Exception : a; b=c",
             "data": {"Source": "Engine", "Stack": "at X"}},
        ),
        ("2026-11-24 04:10:11,5 +x,Start,S:LogLevel=Info", {"time": "2026-11-24T04:10:11.500Z", "event": "Start", "level": "Info", "message": None}),
        ("2026-11-24T04:10:11+01:00 something else", {"time": "2026-11-24T03:10:11.000Z", "event": None, "message": None}),
        ("2026-99-99T04:10:11Z,A,S:LogLevel=x", {"time": None, "event": "A"}),
        ("Ereignis,S:LogLevel=Fehler;S:Message=Größe überschritten", {"event": "Ereignis", "level": "Fehler", "message": "Größe überschritten"}),
        ("garbage", {"time": None, "event": None, "level": None, "message": None, "data": {}, "raw": "garbage"}),
    ],
)  # fmt: skip
def test_lines(line: str, wanted: dict[str, Any]) -> None:
    entry = _events.parse_line(line, "f")
    assert {name: entry[name] for name in wanted} == wanted
    assert (entry["raw"], entry["file"]) == (line, "f")


def test_comments_and_empty_lines_are_left_out() -> None:
    assert _events.parse_lines(["\ufeff#Software: x", "", "  ", "#Fields: a"]) == []


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["S:LogLevel=", "S:Message=", ";", ",", "2026-11-24T04:10:11Z", "9999-99-99T99:99:99", "Ä", "{{", "=", "Event", "\n"])
                | st.text(max_size=5), max_size=12).map("".join))  # fmt: skip
def test_no_line_fails(line: str) -> None:
    entry = _events.parse_line(line)
    assert entry["raw"] == line[: _events.MAX_TEXT]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("24h", NOW - datetime.timedelta(hours=24)), (" 7D ", NOW - datetime.timedelta(days=7)), ("90m", NOW - datetime.timedelta(minutes=90)),
        ("2026-11-01T08:00:00Z", datetime.datetime(2026, 11, 1, 8, tzinfo=datetime.timezone.utc)),
        ("2026-11-01T08:00:00+02:00", datetime.datetime(2026, 11, 1, 6, tzinfo=datetime.timezone.utc)),
    ],
)  # fmt: skip
def test_since(text: str, moment: datetime.datetime) -> None:
    assert _events.since_of(text, NOW) == moment


@pytest.mark.parametrize("given_bookmark", [{"record_id": "x"}, {"time": "2026-11-01"}, {"log_time": "2026-11-01T00:00:00"}])
def test_bookmarks_that_are_none(given_bookmark: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        _events.Bookmark.of(given_bookmark)


def test_a_bookmark_survives_its_round() -> None:
    facts = {"record_id": 7, "time": "2026-11-24T04:10:11.123Z", "log_time": None}
    assert _events.Bookmark.of(facts).facts() == facts


def test_the_filter() -> None:
    question = _events.Question(NOW - datetime.timedelta(hours=1), NOW, ids=(1005, 1008))
    assert _events.xpath(question, None) == (
        "*[System[Provider[@Name='MSExchange Mitigation Service'] and (EventID=1005 or EventID=1008) and TimeCreated[timediff(@SystemTime)<=3600001]]]"
    )
    assert _events.xpath(question, 12).endswith("and EventRecordID>12]]")
    assert enforce_statement(_events.events_statement(_events.xpath(question, None), 5), HOST)


# Answers of a server

FOLDER = "D:\\Exchange\\Logging\\MitigationService"
NO_EVENTS = ErrorRecord("No events were found.", "NoMatchingEventsFound,Microsoft.PowerShell.Commands.GetWinEventCommand", "ObjectNotFound", "", "")
QUESTION = _events.Question(NOW - datetime.timedelta(hours=24), NOW)


def server(**files: tuple[int, list[str]]) -> Host:
    """Return a server without events and with files in the log folder: hours since the last write, and the lines."""
    host = Host()
    host.answer("Get-WinEvent", errors=[NO_EVENTS])
    found = [item(FullName=f"{FOLDER}\\{name}.log", LastWriteTimeUtc=NOW - datetime.timedelta(hours=hours)) for name, (hours, dummy) in files.items()]
    host.answer("Get-ChildItem", *found)

    def lines(statement: Statement) -> Answer:
        name = statement[0].parameters["LiteralPath"].rpartition("\\")[2].removesuffix(".log")
        return Answer(statement, tuple(files[name][1]), ())

    host.answers["Get-Content"] = lines
    return host


@pytest.mark.parametrize(
    ("cmdlet", "about"),
    [("Get-WinEvent", ""), ("Get-ChildItem", FOLDER), ("Get-Content", FOLDER), ("Get-ItemProperty", "ExchangeServer"), ("Get-CimInstance", "Win32_")],
)
def test_an_account_that_may_not_read_is_no_empty_log(cmdlet: str, about: str) -> None:
    """A missing right fails with the cmdlet and the server's words, so that nobody takes it for a quiet night."""
    host = server(today=(1, ["2026-11-24T10:00:00Z,A,S:LogLevel=Info"]))
    assert len(_events.gather(host, QUESTION)["log"]["lines"]) == 1
    host.answer(cmdlet, errors=[DENIED])
    with pytest.raises(CmdletError) as caught:
        _events.gather(host, QUESTION)
    assert (caught.value.reason, caught.value.details["cmdlet"]) == ("cmdlet_failed", cmdlet)
    assert "Access is denied." in caught.value.message and about in caught.value.message


def test_files_from_before_the_question_are_not_read() -> None:
    """Only what was written since can hold a line that is asked for; a line without a time is shown as it is."""
    lines = ["2026-11-24T10:00:00Z,New,S:LogLevel=Info", "2026-11-20T10:00:00Z,Early,S:LogLevel=Info", "?"]
    host = server(old=(48, ["2026-11-22T10:00:00Z,Old,S:LogLevel=Info"]), new=(1, lines))
    log = _events.gather(host, QUESTION)["log"]
    assert (log["files"], log["exists"], log["truncated"]) == (["new.log"], True, False)
    assert [line["raw"] for line in log["lines"]] == ["?", lines[0]]


def test_a_folder_and_files_that_are_gone_are_no_fault() -> None:
    host = server(today=(1, []))
    host.answer("Get-Content", errors=[GONE])
    log = _events.gather(host, QUESTION)["log"]
    assert (log["exists"], log["files"], log["lines"]) == (True, [], [])
    host.answer("Get-ChildItem", errors=[GONE])
    log = _events.gather(host, QUESTION)["log"]
    assert (log["folder"], log["exists"]) == (FOLDER, False)
