# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Emergency Mitigation tells of itself: its events in the Application log, and the lines of its own log folder.

Texts are in the server's language and kept as they are; ids and providers are not localised. The format of the log folder is not
documented beyond ``Event,S:LogLevel=Level;S:Message=Text`` (FACTS.md 7), so everything else about a line is optional here.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import ntpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import PSObject, plain, strings
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Answer, Session, Statement, call
from ansible_collections.exchange.mitigation.plugins.module_utils._observe import ABSENT, EDGE_KEY, SETUP_KEY, failed, refuse_machine
from ansible_collections.exchange.mitigation.plugins.module_utils._untrusted import number, word

PROVIDER = "MSExchange Mitigation Service"
LOG = "Application"
#: What the documented ids mean; the others are not documented.
MEANINGS: Mapping[int, str] = {1005: "success", 1006: "success", 1008: "error"}
LEVELS: Mapping[int, str] = {0: "information", 1: "critical", 2: "error", 3: "warning", 4: "information", 5: "verbose"}

#: Files of the log folder that are read at most, newest first; there is a new one every day.
MAX_FILES = 10
MAX_TEXT = 4000
#: Characters of a line that are looked at, and pairs that are taken out of it.
MAX_LINE = 64_000
MAX_PAIRS = 100

_DURATION = re.compile(r"(\d{1,6})\s*([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_NONE = "NoMatchingEventsFound,"


def since_of(text: str, now: datetime.datetime) -> datetime.datetime:
    """Return the moment of an ISO-8601 time with its offset, or of a duration such as ``24h`` before ``now``. Raises InvalidInput."""
    found = _DURATION.fullmatch(text.strip().lower())
    if found:
        try:
            return now - datetime.timedelta(seconds=int(found[1]) * _UNITS[found[2]])
        except OverflowError as exc:
            raise InvalidInput(f"since: {text} is before time began") from exc
    try:
        moment = datetime.datetime.fromisoformat(text.strip().replace("Z", "+00:00").replace("z", "+00:00"))
    except ValueError as exc:
        raise InvalidInput(f"since takes a time such as 2026-11-01T08:00:00Z or a duration such as 24h or 7d, not {text!r}") from exc
    if moment.tzinfo is None:
        raise InvalidInput(f"since: {text} has no offset; add Z for UTC or one such as +01:00")
    return moment


@dataclasses.dataclass(frozen=True)
class Bookmark:
    """How far an earlier task got: the newest record of the event log, the newest time of the log folder."""

    record_id: int | None = None
    time: datetime.datetime | None = None
    log_time: datetime.datetime | None = None

    @staticmethod
    def of(given: Mapping[str, Any]) -> Bookmark:
        """Read what a task returned. Raises InvalidInput."""
        try:
            number = given.get("record_id")
            moments = [
                datetime.datetime.fromisoformat(str(given[name]).replace("Z", "+00:00")) if given.get(name) else None for name in ("time", "log_time")
            ]
            if any(moment is not None and moment.tzinfo is None for moment in moments):
                raise ValueError("a time without an offset")
            return Bookmark(int(number) if number is not None else None, *moments)
        except (ValueError, TypeError) as exc:
            raise InvalidInput(f"bookmark takes what an earlier task returned as bookmark: {exc}") from exc

    def facts(self) -> dict[str, Any]:
        """Return the shape for users."""
        return {"record_id": self.record_id, "time": iso(self.time), "log_time": iso(self.log_time)}


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked for: events since a moment or after a record, newest first, no more than ``limit``."""

    since: datetime.datetime
    now: datetime.datetime
    after: Bookmark | None = None
    ids: Sequence[int] = ()
    limit: int = 100
    log_limit: int = 200
    logs: bool = True


def xpath(question: Question, after: int | None) -> str:
    """Return the filter (CMDLETS.md 7): one string of numbers and constants, so that nothing of it needs quoting."""
    parts = [f"Provider[@Name='{PROVIDER}']"]
    if question.ids:
        parts.append("(" + " or ".join(f"EventID={number:d}" for number in question.ids) + ")")
    if after is not None:
        parts.append(f"EventRecordID>{after:d}")
    else:
        milliseconds = max(int((question.now - question.since).total_seconds() * 1000) + 1, 1)
        parts.append(f"TimeCreated[timediff(@SystemTime)<={milliseconds:d}]")
    return f"*[System[{' and '.join(parts)}]]"


def events_statement(query: str, limit: int) -> Statement:
    """The read of events."""
    return (call("Get-WinEvent", LogName=LOG, FilterXPath=query, MaxEvents=limit),)


def gather(host: Session, question: Question) -> dict[str, Any]:
    """Read events and log lines in at most three pipelines. Raises Refused, CmdletError, ConnectionFailure."""
    after = question.after.record_id if question.after is not None else None
    statements: dict[str, Statement] = {
        "system": (call("Get-CimInstance", ClassName="Win32_OperatingSystem", Property=["CSName", "LocalDateTime"]),),
        "setup": (call("Get-ItemProperty", LiteralPath=[SETUP_KEY]),),
        "edge": (call("Test-Path", LiteralPath=EDGE_KEY),),
        "events": events_statement(xpath(question, after), question.limit + 1),
    }
    if after is not None:
        statements["newest"] = events_statement(f"*[System[Provider[@Name='{PROVIDER}']]]", 1)
    answers = dict(zip(statements, host.read(list(statements.values()))))
    system, setup = _first(answers["system"]), _first(answers["setup"])
    name = (word(system.get("CSName")) or "") if system is not None else ""
    question = _by_its_clock(question, plain(system.get("LocalDateTime")) if system is not None else None)
    edge = any(plain(value) is True for value in answers["edge"].objects)
    refuse_machine(name or "this machine", edge, dict(setup.properties) if setup is not None else None)

    found = _events(answers["events"])
    cleared = False
    if after is not None:
        newest = _events(answers["newest"])
        cleared = not found and (not newest or newest[0]["record_id"] < after)
        if cleared and newest:
            since = question.after.time if question.after is not None and question.after.time else question.since
            (answer,) = host.read([events_statement(xpath(dataclasses.replace(question, since=since), None), question.limit + 1)])
            found = _events(answer)
    truncated = len(found) > question.limit
    found = found[: question.limit]
    lines: dict[str, Any] = {"folder": None, "exists": None, "files": [], "lines": [], "truncated": False}
    if question.logs:
        path = word(setup.get("MsiInstallPath")) if setup is not None else None
        lines = read_lines(host, ntpath.join(path, "Logging", "MitigationService"), question) if path else lines
    newest_line = max((entry["time"] for entry in lines["lines"] if entry["time"]), default=None)
    before = question.after or Bookmark()
    bookmark = Bookmark(
        found[0]["record_id"] if found else (None if cleared else before.record_id),
        _moment(found[0]["time"]) if found else (question.now if cleared or before.time is None else before.time),
        _moment(newest_line) if newest_line else before.log_time,
    )
    return {
        "server": name,
        "events": found,
        "truncated": truncated,
        "event_log_cleared": cleared,
        "log": lines,
        "bookmark": bookmark.facts(),
    }


def _by_its_clock(question: Question, shown: Any) -> Question:
    """Return the question in the time of a server whose clock differs from ours by more than a minute: its lines tell that time."""
    if not isinstance(shown, datetime.datetime) or shown.tzinfo is None or abs(shown - question.now) < datetime.timedelta(minutes=1):
        return question
    try:
        return dataclasses.replace(question, now=shown, since=question.since + (shown - question.now))
    except OverflowError:  # a clock at the ends of time is none
        return question


def _events(answer: Answer) -> list[dict[str, Any]]:
    """Return events, newest first. That there are none is an answer. Raises CmdletError for any other error."""
    if answer.errors and not answer.objects:
        if answer.errors[0].fqid.startswith(_NONE):
            return []
        raise failed(answer)
    found = [_event(item) for item in answer.objects if isinstance(item, PSObject)]
    return sorted(found, key=lambda entry: int(entry["record_id"]), reverse=True)


def _event(item: PSObject) -> dict[str, Any]:
    identifier, level = number(item.get("Id")), number(item.get("Level"))
    when = plain(item.get("TimeCreated"))
    return {
        "record_id": number(item.get("RecordId")) or 0,
        "time": iso(when) if isinstance(when, datetime.datetime) else None,
        "id": identifier,
        "meaning": MEANINGS.get(identifier or 0, "other"),
        "level": LEVELS.get(level, str(level)) if level is not None else None,
        "provider": (word(item.get("ProviderName")) or ""),
        "message": (word(item.get("Message")) or "")[:MAX_TEXT],
    }


# The log folder


def read_lines(host: Session, folder: str, question: Question) -> dict[str, Any]:
    """Return the newest lines of the log folder. A missing folder, and a file that rotation takes away meanwhile, are no errors."""
    (listing,) = host.read([(call("Get-ChildItem", LiteralPath=folder, File=True),)])
    if listing.errors and not listing.objects:
        if listing.errors[0].fqid.startswith(ABSENT):
            return {"folder": folder, "exists": False, "files": [], "lines": [], "truncated": False}
        raise failed(listing)
    begin = question.since
    if question.after is not None and question.after.log_time is not None:
        begin = question.after.log_time
    files = []
    for item in listing.objects:
        written = plain(item.get("LastWriteTimeUtc")) if isinstance(item, PSObject) else None
        if isinstance(item, PSObject) and isinstance(written, datetime.datetime):
            moment = written if written.tzinfo is not None else written.replace(tzinfo=datetime.timezone.utc)
            path = word(item.get("FullName"))
            if moment >= begin and path:
                files.append((moment, path))
    files.sort(reverse=True)
    chosen = [path for dummy, path in files[:MAX_FILES]]
    statements = [(call("Get-Content", LiteralPath=path, Encoding="UTF8", Tail=question.log_limit + 1, ReadCount=0),) for path in chosen]
    lines: list[dict[str, Any]] = []
    read: list[str] = []
    truncated = len(files) > MAX_FILES
    for path, answer in zip(chosen, host.read(statements) if statements else []):
        if answer.errors and not answer.objects:
            if answer.errors[0].fqid.startswith(ABSENT):
                continue
            raise failed(answer)
        read.append(ntpath.basename(path))
        texts = [line for item in answer.objects for line in strings(plain(item))]
        truncated = truncated or len(texts) > question.log_limit
        for entry in reversed(parse_lines(texts, ntpath.basename(path))):
            if _wanted(entry, begin, question):
                lines.append(entry)
    if all(entry["time"] for entry in lines):  # else the order of the files and of the lines in them is what there is
        lines.sort(key=lambda entry: str(entry["time"]), reverse=True)
    return {"folder": folder, "exists": True, "files": read, "lines": lines[: question.log_limit], "truncated": truncated or len(lines) > question.log_limit}


def _wanted(entry: Mapping[str, Any], begin: datetime.datetime, question: Question) -> bool:
    moment = _moment(entry["time"])
    if moment is None:  # a line without a time
        return True
    return moment > begin if question.after is not None and question.after.log_time is not None else moment >= begin


# A name is bounded on both sides, or a line of one long word would be tried from each of its characters to its end.
_ENTRY = re.compile(r"\b(?P<event>\w{1,100}),\s{0,20}(?=S:\w{1,100}=)")
_PAIR = re.compile(r"(?:^|;)\s{0,20}S:(\w{1,100})=")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,7}))?(Z|[+-]\d\d:?\d\d)?")


def parse_lines(lines: Sequence[str], file: str = "") -> list[dict[str, Any]]:
    """Return an entry per line, comments and empty ones left out. What is not understood stays in ``raw``; a line never fails."""
    return [parse_line(line, file) for line in lines if line.strip() and not line.lstrip("\ufeff ").startswith("#")]


def parse_line(line: str, file: str = "") -> dict[str, Any]:
    """Return {file, time, event, level, message, data, raw} of one line; what is not there is None."""
    entry: dict[str, Any] = {"file": file, "time": None, "event": None, "level": None, "message": None, "data": {}, "raw": line[:MAX_TEXT]}
    line = line[:MAX_LINE]
    found = _ENTRY.search(line)
    stamp = _TIME.search(line[: found.start()] if found else line[:100])
    if stamp:
        entry["time"] = _stamp(stamp)
    if not found:
        return entry
    entry["event"] = found["event"]
    pairs = line[found.end() :]
    marks = list(_PAIR.finditer(pairs))[:MAX_PAIRS]
    for position, mark in enumerate(marks):
        end = marks[position + 1].start() if position + 1 < len(marks) else len(pairs)
        name, value = mark[1], pairs[mark.end() : end].strip()[:MAX_TEXT]
        if name in ("LogLevel", "Message") and entry["level" if name == "LogLevel" else "message"] is None:
            entry["level" if name == "LogLevel" else "message"] = value
        else:
            entry["data"][name] = value
    return entry


def _stamp(found: re.Match[str]) -> str | None:
    """Return a time stamp that ``_TIME`` matched as ISO-8601 in UTC; one without an offset is UTC, as in Exchange's other logs."""
    offset = "+00:00" if found[4] in (None, "Z") else found[4] if ":" in found[4] else found[4][:3] + ":" + found[4][3:]
    try:
        return iso(datetime.datetime.fromisoformat(f"{found[1]}T{found[2]}.{(found[3] or '0')[:6]:<06}{offset}"))
    except ValueError:
        return None


def iso(moment: datetime.datetime | None) -> str | None:
    """Return a time as ISO-8601 in UTC."""
    if moment is None:
        return None
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.timezone.utc)
    with contextlib.suppress(OverflowError):  # at the ends of time it stays in its own zone
        aware = aware.astimezone(datetime.timezone.utc)
    return aware.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _moment(text: str | None) -> datetime.datetime | None:
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


def _first(answer: Answer) -> PSObject | None:
    if answer.errors and not answer.objects and not answer.errors[0].fqid.startswith(ABSENT):
        raise failed(answer)
    return next((item for item in answer.objects if isinstance(item, PSObject)), None)
