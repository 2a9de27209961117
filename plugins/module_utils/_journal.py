# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal: what a run is about to do to one server, written and synced on the controller before it is done.

``<journal_dir>/<run_id>/<host>.jsonl``, one JSON object a line, directories 0700, files 0600. A run that was
interrupted anywhere leaves operations without an end; ``History.open_operations`` finds them for the next run.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import fcntl
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput, JournalError

#: Events that end an operation; anything else leaves it open.
ENDS = ("closed", "undone", "abandoned", "recovered_before", "recovered_after")
#: Events after which the file holds what the operation wanted.
IN_FORCE = ("verified", "closed", "recovered_after")
#: Runs of one host that are kept beyond those that still stand on the server.
KEPT_RUNS = 50

RUN_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")


@dataclasses.dataclass(frozen=True)
class Operation:
    """One file of one server, from before to after. ``before`` or ``after`` None: the file does not exist then.

    ``temporary`` is where the new bytes are written first, ``backup`` where the replaced file stands meanwhile.
    ``mitigations`` are the ids it was made for, ``verb`` is ``apply`` or ``remove``, ``event`` the last one written,
    ``checks`` the pairs of section filter and PSPath that IIS has to parse afterwards.
    """

    run_id: str
    operation_id: str
    path: str
    before: bytes | None
    after: bytes | None
    sddl: str
    temporary: str
    backup: str
    mitigations: tuple[str, ...]
    verb: str
    checks: tuple[tuple[str, str], ...]
    event: str
    time: str

    @property
    def before_sha256(self) -> str | None:
        """SHA-256 of the bytes before, None without a file."""
        return digest(self.before)

    @property
    def after_sha256(self) -> str | None:
        """SHA-256 of the bytes after, None without a file."""
        return digest(self.after)


def digest(data: bytes | None) -> str | None:
    """Return the SHA-256 of bytes as hex, None for a file that does not exist."""
    return None if data is None else hashlib.sha256(data).hexdigest()


def new_run_id(now: datetime.datetime) -> str:
    """Return a run id that sorts by time: ``20261124T034602Z-1f2e3d``."""
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def checked_run_id(run_id: str) -> str:
    """Return the id if it can stand as a folder's name; raises InvalidInput."""
    if not RUN_ID.match(run_id):
        raise InvalidInput(f"run_id {run_id!r} is not usable as a folder name: letters, digits, dot, dash and underscore, at most 100", "invalid_run_id")
    return run_id


class Journal:
    """The journal of one host; a run's file is created with its first event."""

    def __init__(self, directory: str, host: str, run_id: str) -> None:
        self.directory = directory
        self.host = host
        self.run_id = checked_run_id(run_id)
        self.path = os.path.join(directory, run_id, _file_name(host))

    def append(self, now: datetime.datetime, event: str, **fields: Any) -> None:
        """Write one event and sync it to disk. Raises JournalError; the caller then does not change the server."""
        record = {"time": now.isoformat(), "event": event, "host": self.host, **fields}
        try:
            _make_directory(self.directory)
            _make_directory(os.path.dirname(self.path))
            line = json.dumps(record, sort_keys=True).encode() + b"\n"
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                _drop_torn_line(descriptor)
                written = os.write(descriptor, line)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if written != len(line):
                raise OSError(f"only {written} of {len(line)} bytes were written")
        except OSError as exc:
            raise JournalError(f"{self.path}: the journal cannot be written ({exc}); nothing is changed without it; see to journal_dir") from exc

    def begin(self, now: datetime.datetime, operation: Operation) -> None:
        """Record an operation with everything that undoing or recovering it needs."""
        self.append(
            now,
            "begin",
            operation=operation.operation_id,
            path=operation.path,
            before=_encoded(operation.before),
            after=_encoded(operation.after),
            before_sha256=operation.before_sha256,
            after_sha256=operation.after_sha256,
            sddl=operation.sddl,
            temporary=operation.temporary,
            backup=operation.backup,
            mitigations=list(operation.mitigations),
            verb=operation.verb,
            checks=[list(check) for check in operation.checks],
        )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs of this controller away from the host; raises JournalError where one is under way."""
        try:
            _make_directory(self.directory)
            descriptor = os.open(os.path.join(self.directory, "." + _file_name(self.host) + ".lock"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise JournalError(f"{self.directory}: the journal cannot be written ({exc}); nothing is changed without it; see to journal_dir") from exc
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as exc:
                raise JournalError(f"another run is changing {self.host} right now; wait for it to end and run again", "host_locked") from exc
            yield
        finally:
            os.close(descriptor)


class History:
    """All operations of one host that this controller's journal knows, oldest first."""

    def __init__(self, directory: str, host: str) -> None:
        self.directory = directory
        self.host = host
        #: Ids that this collection blocked on the host and did not unblock since.
        self.blocked_ids: tuple[str, ...] = ()
        self.operations = tuple(self._read())

    def open_operations(self) -> list[Operation]:
        """Operations without an end: their run was interrupted."""
        return [operation for operation in self.operations if operation.event not in ENDS]

    def in_force(self, run_id: str | None = None, verb: str | None = None) -> list[Operation]:
        """Operations that were made and verified, oldest first; of one run or with one verb only, if named."""
        return [
            operation
            for operation in self.operations
            if operation.event in IN_FORCE and run_id in (None, operation.run_id) and verb in (None, operation.verb)
        ]

    def last_run(self) -> str | None:
        """The last run that applied something on this host."""
        applied = self.in_force(verb="apply")
        return applied[-1].run_id if applied else None

    def run_ids(self) -> list[str]:
        """Run ids with operations of this host, oldest first."""
        return list(dict.fromkeys(operation.run_id for operation in self.operations))

    def prune(self) -> None:
        """Remove the oldest runs of this host beyond KEPT_RUNS, never one with the last word on a file or an open operation."""
        last = {operation.path.lower(): operation.run_id for operation in self.operations}
        needed = set(last.values()) | {operation.run_id for operation in self.open_operations()}
        for run_id in self.run_ids()[:-KEPT_RUNS]:
            if run_id not in needed:
                folder = os.path.join(self.directory, run_id)
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(folder, _file_name(self.host)))
                    os.rmdir(folder)

    def _read(self) -> Iterator[Operation]:
        try:
            runs = sorted(entry.name for entry in os.scandir(self.directory) if entry.is_dir() and RUN_ID.match(entry.name))
        except FileNotFoundError:
            return
        except OSError as exc:
            raise JournalError(f"{self.directory}: the journal cannot be read ({exc}); see to journal_dir") from exc
        records: list[tuple[dict[str, Any], str]] = []
        for run_id in runs:
            records.extend((record, run_id) for record in _records(os.path.join(self.directory, run_id, _file_name(self.host))))
        # A later run ends what an earlier one left open, in its own file.
        records.sort(key=lambda entry: str(entry[0]["time"]))
        operations = {str(record["operation"]): _begun(record, run_id) for record, run_id in records if record["event"] == "begin"}
        blocked: dict[str, str] = {}
        for record, dummy in records:
            event, operation = record["event"], operations.get(str(record.get("operation")))
            # An end stays the end, whatever the clock of a later line says.
            if operation is not None and event != "begin" and operation.event not in ENDS:
                operations[operation.operation_id] = dataclasses.replace(operation, event=event)
            for identifier in record.get("ids", ()):
                if event == "blocked":
                    blocked[identifier.casefold()] = identifier
                elif event == "unblocked":
                    blocked.pop(identifier.casefold(), None)
        self.blocked_ids = tuple(blocked.values())
        yield from operations.values()


def _records(path: str) -> list[dict[str, Any]]:
    """Return the records of one file; raises JournalError for one that was not written by this module."""
    try:
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise JournalError(f"{path}: the journal cannot be read ({exc}); see to journal_dir") from exc
    records = []
    # What stands behind the last line end was being written when the controller died; what it announces was never sent.
    for number, line in enumerate(lines[:-1], 1):
        try:
            record = json.loads(line)
            if record["event"] == "begin":
                _begun(record, "")
            records.append({**record, "time": str(record["time"]), "ids": tuple(map(str, record.get("ids", ())))})
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise JournalError(
                f"{path} line {number}: not a journal record ({exc}); it was changed by something else; move the file away", "journal_damaged"
            ) from exc
    return records


def _begun(record: dict[str, Any], run_id: str) -> Operation:
    before, after = _decoded(record["before"]), _decoded(record["after"])
    if digest(before) != record["before_sha256"] or digest(after) != record["after_sha256"]:
        raise ValueError("the bytes do not have the recorded SHA-256")
    return Operation(
        run_id=run_id,
        operation_id=str(record["operation"]),
        path=str(record["path"]),
        before=before,
        after=after,
        sddl=str(record["sddl"]),
        temporary=str(record["temporary"]),
        backup=str(record["backup"]),
        mitigations=tuple(str(entry) for entry in record["mitigations"]),
        verb=str(record["verb"]),
        checks=tuple((str(section), str(pspath)) for section, pspath in record["checks"]),
        event="begin",
        time=str(record["time"]),
    )


def _encoded(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _decoded(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text, validate=True)


def _file_name(host: str) -> str:
    """Inventory names are free text; a readable part and a hash keep them apart as file names."""
    readable = re.sub(r"[^A-Za-z0-9.-]", "_", host)[:80]
    return readable + ("" if readable == host else "-" + hashlib.sha256(host.encode()).hexdigest()[:8]) + ".jsonl"


def _drop_torn_line(descriptor: int) -> None:
    """Cut off what a killed controller left of a line, so that the next record stands on its own."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        os.ftruncate(descriptor, os.pread(descriptor, size, 0).rfind(b"\n") + 1)


def _make_directory(path: str) -> None:
    os.makedirs(path, mode=0o700, exist_ok=True)
