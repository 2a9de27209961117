# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that lies: every value that a module reads, replaced one at a time by something of another kind.

The true answers are read from the lab once; then the module runs over them again and again without a wire, each time with one of
the places changed. What must hold is one law: a result that is JSON without control characters, or an error of the project's own.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import json
import random
import re
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import PSObject
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import MitigationError
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Answer, ErrorRecord, Session, Statement
from ansible_collections.exchange.mitigation.plugins.module_utils._untrusted import harmless
from ansible_collections.exchange.mitigation.plugins.modules import (
    event_info,
    mitigation,
    organization,
    organization_info,
    server,
    server_info,
    service,
    url_rewrite,
)
from session_direct import DirectSession

UTC = datetime.timezone.utc
ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egpj"
TEMPLATE = "{{ lookup('ansible.builtin.pipe', 'id') }}"
NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=UTC)
#: A result may hold the bytes that were read; a decoder of the collection's own bounds them.
LARGEST = 16 * 1024 * 1024


def cyclic() -> list[Any]:
    """Return a list that holds itself."""
    found: list[Any] = []
    found.append(found)
    return found


def itself() -> PSObject:
    """Return an object that wraps itself."""
    found = PSObject(("Some.Type",))
    found.value = found
    found.properties["Self"] = found
    return found


def deep(levels: int = 90) -> Any:
    """Return lists within lists."""
    found: Any = "x"
    for dummy in range(levels):
        found = [found]
    return found


#: What a place may hold instead. All of it can come over the wire: the decoder makes exactly such values.
ODD: tuple[Any, ...] = (
    None,
    "",
    "x",
    " ",
    ESCAPES,
    TEMPLATE,
    "\x00",
    "=cmd|'/c calc'!A0",
    "<script>alert(1)</script>",
    "a" * 200_000,
    "\u0661\u0662",
    "1.2.3",
    "15.2.1748.99999999999999999999",
    "9" * 30,
    "9" * 5000,
    "1." * 5000,
    "C:\\..\\..\\x",
    "\\\\evil\\share",
    True,
    False,
    0,
    -1,
    2**63,
    2**64 - 1,
    1.5,
    float("nan"),
    float("inf"),
    b"",
    b"\xff\xfe\x00",
    b"<configuration/>",
    b"<",
    [],
    ["a", None, 1, {"b": []}],
    [PSObject()],
    {"a": 1},
    {1: 2},
    {None: []},
    PSObject(),
    PSObject(value=[]),
    PSObject(value=7, to_string="Seven"),
    PSObject(to_string=ESCAPES),
    PSObject(("A",), {"Name": ["x"], "Value": {}}),
    datetime.datetime.min,
    datetime.datetime.max,
    datetime.datetime(1, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=14))),
    datetime.datetime(9999, 12, 31, 23, 59, tzinfo=datetime.timezone(datetime.timedelta(hours=-14))),
    uuid.UUID(int=0),
    cyclic(),
    itself(),
    deep(),
)

#: What stands for a whole answer.
ANSWERS: tuple[tuple[Any, ...], ...] = ((), (None,), ("x",), ([],), (PSObject(),), (itself(),), (cyclic(),), (b"\xff",), (5, 5, 5), (PSObject(),) * 300)
ERRORS = tuple(
    ErrorRecord(message, fqid, category, exception, target)
    for message, fqid, category, exception, target in (
        ("", "", "", "", ""),
        (ESCAPES + TEMPLATE, ESCAPES, "NotSpecified", "X", ESCAPES),
        ("m" * 100_000, "PathNotFound,x", "ObjectNotFound", "Microsoft.Exchange.Configuration.Tasks.ManagementObjectNotFoundException", "t"),
        ("x", "NoMatchingEventsFound,x", "", "", ""),
    )
)  # fmt: skip

#: Module and options.
MODULES: dict[str, tuple[Any, dict[str, Any]]] = {
    "server_info": (server_info, {}),
    "organization_info": (organization_info, {}),
    "event_info": (event_info, {"since": "9000d"}),
    "event_info, bookmark": (event_info, {"bookmark": {"record_id": 3, "time": "2026-11-01T00:00:00Z"}}),
    "mitigation": (mitigation, {"mitigations": ["M1", "M2"], "state": "applied"}),
    "mitigation, services": (mitigation, {"mitigations": ["CVE-2021-26857", "CVE-2021-27065"], "state": "applied"}),
    "mitigation, absent": (mitigation, {"mitigations": ["M2"], "state": "absent"}),
    "mitigation, retired": (mitigation, {"mitigations": ["M1"], "state": "retired"}),
    "organization": (organization, {"mitigations_enabled": False}),
    "server": (server, {"mitigations_blocked": {"add": ["M1"]}, "mitigations_enabled": True, "data_collection_enabled": False}),
    "service": (service, {"state": "restarted"}),
    "url_rewrite": (url_rewrite, {"state": "absent"}),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Place:
    """Where something is changed: a statement, ``errors`` or the number of an object, and the member of it, None for the whole."""

    statement: str
    number: int
    member: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Case:
    """One lie."""

    place: Place
    value: Any
    kind: str


class Book:
    """The true answers by statement; what was never read before is asked of the lab."""

    def __init__(self, live: Session) -> None:
        self.live = live
        self.known: dict[str, Answer] = {}
        self.case: Case | None = None

    def read(self, statements: Sequence[Statement]) -> list[Answer]:
        """Answer reads."""
        return [self._answer(statement) for statement in statements]

    def change(self, statement: Statement) -> Answer:
        """A module in check mode changes nothing."""
        raise AssertionError(f"a change was sent: {statement}")

    def _answer(self, statement: Statement) -> Answer:
        key = repr(statement)
        if key not in self.known:
            try:
                (self.known[key],) = self.live.read([statement])
            except MitigationError:
                raise
            except Exception as exc:  # what a lie made the module ask for, the lab may not even know
                self.known[key] = Answer(statement, (), (ErrorRecord(str(exc)[:200], "PathNotFound,lab", "ObjectNotFound", "", ""),))
        answer = self.known[key]
        if self.case is None or self.case.place.statement != key:
            return answer
        return changed(answer, self.case)


def changed(answer: Answer, case: Case) -> Answer:
    """Return the answer with the lie in it."""
    if case.kind == "answer":
        return dataclasses.replace(answer, objects=case.value, errors=())
    if case.kind == "error":
        return dataclasses.replace(answer, objects=(), errors=(case.value,))
    objects = copy.deepcopy(list(answer.objects))
    if not case.place.member:
        objects[case.place.number] = case.value
    else:
        target = objects[case.place.number]
        for name in case.place.member[:-1]:
            target = target.properties[name] if name != "*" else target.value
        if case.place.member[-1] == "*":
            target.value = case.value
        elif case.kind == "gone":
            target.properties.pop(case.place.member[-1], None)
        else:
            target.properties[case.place.member[-1]] = case.value
    return dataclasses.replace(answer, objects=tuple(objects))


def members(value: Any, depth: int = 3) -> Iterator[tuple[str, ...]]:
    """Yield the members of an object, and theirs."""
    if not isinstance(value, PSObject) or not depth:
        return
    for name, item in value.properties.items():
        yield (name,)
        for more in members(item, depth - 1):
            yield (name, *more)
    if value.value is not None:
        yield ("*",)


class OddTask:
    """The Task protocol over books."""

    def __init__(self, params: dict[str, Any], host: Book, exchange: Book, name: str) -> None:
        self.params = params
        self.inventory_hostname = name
        self.host: Session = host
        self.exchange: Session = exchange
        self.warnings: list[str] = []

    def now(self) -> datetime.datetime:
        """A fixed time."""
        return NOW

    def warn(self, message: str) -> None:
        """Keep a warning."""
        self.warnings.append(message)

    def progress(self, message: str) -> None:
        """Keep a line."""
        self.warnings.append(message)


class Liar:
    """One module against one server whose answers can be changed."""

    def __init__(self, fleet: Any, machine: Any, name: str, journal: str) -> None:
        self.module, options = MODULES[name]
        if self.module is mitigation:
            options = {**options, "journal_dir": journal}
        validated = ArgumentSpecValidator(**self.module.SPEC).validate(options)
        assert not validated.error_messages, validated.error_messages
        self.params: dict[str, Any] = validated.validated_parameters
        self.name = machine.name
        self.books = {"host": Book(DirectSession(fleet, machine, "host")), "exchange": Book(DirectSession(fleet, machine, "exchange"))}
        self.run(None)

    def cases(self) -> list[Case]:
        """Return every lie about every place that the true run read."""
        found: list[Case] = []
        for book in self.books.values():
            for key, answer in list(book.known.items()):
                whole = Place(key, 0, ())
                found += [Case(whole, value, "answer") for value in ANSWERS] + [Case(whole, value, "error") for value in ERRORS]
                for number, item in enumerate(answer.objects[:4]):
                    for member in ((), *members(item)):
                        place = Place(key, number, member)
                        found += [Case(place, value, "value") for value in ODD]
                        found += [Case(place, None, "gone")] if member and member[-1] != "*" else []
        return found

    def run(self, case: Case | None) -> str:
        """Run the module in check mode; returns how it ended. Raises AssertionError where the law is broken."""
        for book in self.books.values():
            book.case = case
        task = OddTask(copy.deepcopy(self.params), self.books["host"], self.books["exchange"], self.name)
        begin = time.process_time()
        try:
            decision = self.module.run(task)
            result, end = [decision.result, decision.diff, task.warnings], "result"
            if decision.failure is not None:
                result += [decision.failure.message, decision.failure.details]
        except MitigationError as exc:
            result, end = [exc.message, exc.details, task.warnings], exc.reason
        said = json.dumps(harmless(result), ensure_ascii=False, allow_nan=False)
        took = time.process_time() - begin
        assert took < 3, f"{took:.1f} s"
        assert len(said.encode("utf-8")) < LARGEST
        assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e]", said)
        assert "PSObject(" not in said and "<ansible_collections" not in said, "an object's inside was shown"
        return end


def sample(cases: list[Case], count: int, seed: int) -> list[Case]:
    """Return so many of the cases, or all."""
    return cases if count >= len(cases) else random.Random(seed).sample(cases, count)


def prepare(machine: Any) -> None:
    """Give the machine an event and a line of the log, so that their members are places too."""
    from lab import em_log

    em_log.write(machine, "FetchMitigation", "Warning", "text", NOW)
    machine.events.add("MSExchange Mitigation Service", 1005, "text", "Information", time=NOW)


def main(arguments: list[str]) -> int:
    """Print how the lies ended, by module."""
    import collections
    import pathlib
    import tempfile
    import traceback

    from lab.fleet import Fleet

    count = int(arguments[0]) if arguments else 10**9
    wrong = 0
    with Fleet(1) as fleet, tempfile.TemporaryDirectory() as folder:
        machine = fleet.machine("EX1")
        prepare(machine)
        for name in arguments[1:] or MODULES:
            begin = time.perf_counter()
            liar = Liar(fleet, machine, name, folder)
            ends: collections.Counter[str] = collections.Counter()
            broken: dict[str, Case] = {}
            chosen = sample(liar.cases(), count, 1)
            for case in chosen:
                try:
                    ends[liar.run(case)] += 1
                except Exception as exc:
                    at = traceback.extract_tb(exc.__traceback__)[-1]
                    broken.setdefault(f"{type(exc).__name__} at {pathlib.Path(at.filename).name}:{at.lineno}: {str(exc)[:80]}", case)
            shown = ", ".join(f"{end} {number}" for end, number in ends.most_common(5))
            print(f"{name:24} {len(chosen):7} lies, {len(broken)} ways to break the law, {time.perf_counter() - begin:.0f} s ({shown})", flush=True)
            for key, case in broken.items():
                print(f"    {key}\n        {case.place} {str(case.value)[:100]!r}")
            wrong += len(broken)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
