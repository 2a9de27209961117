# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal: what a run is about to do to one server, written and synced on the controller before it is done.

``<journal_dir>/<run_id>/<host>.jsonl``, one JSON object a line, directories 0700, files 0600. A run that was
interrupted anywhere leaves operations without an end; ``History.open_operations`` finds them for the next run.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput, JournalError
from ansible_collections.exchange.mitigation.plugins.module_utils._journal_records import Entry, Operation, Transition, digest, entry_from, fields_of

__all__ = ["History", "Journal", "Operation", "Transition", "checked_run_id", "digest", "new_run_id"]

#: Events that end an operation; anything else leaves it open.
ENDS = ("closed", "undone", "abandoned", "recovered_before", "recovered_after")
#: Events after which the file holds what the operation wanted.
IN_FORCE = ("verified", "closed", "recovered_after")
#: Runs of one host that are kept beyond those that still stand on the server.
KEPT_RUNS = 50

RUN_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")


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
        #: The computer's own name, once it is known: the inventory's name may lead to another machine one day.
        self.server = ""

    def append(self, now: datetime.datetime, event: str, **fields: Any) -> None:
        """Write one event and sync it to disk. Raises JournalError; the caller then does not change the server."""
        record = {"time": now.isoformat(), "event": event, "host": self.host, **({"server": self.server} if self.server else {}), **fields}
        try:
            _make_directory(self.directory)
            _make_directory(os.path.dirname(self.path))
            _refuse_foreign(self.path)
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
            raise _unwritable(self.path, exc) from exc

    def begin(self, now: datetime.datetime, entry: Entry) -> None:
        """Record an operation with everything that undoing or recovering it needs."""
        self.append(now, "begin", **fields_of(entry))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs of this controller away from the host; raises JournalError where one is under way."""
        try:
            _make_directory(self.directory)
            descriptor = os.open(os.path.join(self.directory, "." + _file_name(self.host) + ".lock"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise _unwritable(self.directory, exc) from exc
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as exc:
                if exc.errno not in (errno.EAGAIN, errno.EACCES):
                    raise _unwritable(self.directory, exc) from exc
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
        #: Those of them of which it is not known whether the block was set before its run was interrupted.
        self.unsure_blocks: tuple[str, ...] = ()
        #: The computer that the newest record with a name in it is about.
        self.server = ""
        self.operations = tuple(self._read())

    def written_on(self, server: str) -> None:
        """Raise JournalError ``journal_of_another`` where what is recorded of this host happened on another computer."""
        if server and self.server and server.casefold() != self.server.casefold():
            raise JournalError(
                f"the journal {self.directory} knows {self.host} as the computer {self.server}, and now it is {server}. Nothing was changed. If the "
                f"inventory's address is wrong or shared by several servers, mend it; if {self.host} is another server from now on, move its journal "
                "files away",
                "journal_of_another", expected=self.server, found=server,
            )

    def open_operations(self) -> list[Entry]:
        """Operations without an end: their run was interrupted."""
        return [entry for entry in self.operations if entry.event not in ENDS]

    def in_force(self, run_id: str | None = None, verb: str | None = None) -> list[Operation]:
        """Files that were changed and verified, oldest first; of one run or with one verb only, if named."""
        return [entry for entry in self._standing(run_id, verb) if isinstance(entry, Operation)]

    def states_in_force(self, run_id: str | None = None, verb: str | None = None) -> list[Transition]:
        """Services and application pools that were changed and verified, likewise."""
        return [entry for entry in self._standing(run_id, verb) if isinstance(entry, Transition)]

    def _standing(self, run_id: str | None, verb: str | None) -> list[Entry]:
        return [entry for entry in self.operations if entry.event in IN_FORCE and run_id in (None, entry.run_id) and verb in (None, entry.verb)]

    def last_run(self) -> str | None:
        """The last run that applied something on this host."""
        applied = self._standing(None, "apply")
        return applied[-1].run_id if applied else None

    def run_ids(self) -> list[str]:
        """Run ids with operations of this host, oldest first."""
        return list(dict.fromkeys(operation.run_id for operation in self.operations))

    def prune(self) -> None:
        """Remove the oldest runs of this host beyond KEPT_RUNS, never one with the last word on something or an open operation."""
        last = {entry.target.lower(): entry.run_id for entry in self.operations}
        needed = set(last.values()) | {operation.run_id for operation in self.open_operations()}
        for run_id in self.run_ids()[:-KEPT_RUNS]:
            if run_id not in needed:
                folder = os.path.join(self.directory, run_id)
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(folder, _file_name(self.host)))
                    os.rmdir(folder)

    def _read(self) -> Iterator[Entry]:
        try:
            runs = sorted(entry.name for entry in os.scandir(self.directory) if entry.is_dir() and RUN_ID.match(entry.name))
        except FileNotFoundError:
            return
        except OSError as exc:
            raise JournalError(f"{self.directory}: the journal cannot be read ({_why(exc)}); see to journal_dir") from exc
        records: list[tuple[dict[str, Any], str]] = []
        for run_id in runs:
            records.extend((record, run_id) for record in _records(os.path.join(self.directory, run_id, _file_name(self.host))))
        # A later run ends what an earlier one left open, in its own file.
        records.sort(key=lambda entry: str(entry[0]["time"]))
        operations = {str(record["operation"]): entry_from(record, run_id) for record, run_id in records if record["event"] == "begin"}
        blocked: dict[str, str] = {}
        unsure: dict[str, str] = {}
        for record, dummy in records:
            self.server = str(record.get("server") or self.server)
            event, operation = record["event"], operations.get(str(record.get("operation")))
            # An end stays the end, whatever the clock of a later line says.
            if operation is not None and event != "begin" and operation.event not in ENDS:
                operations[operation.operation_id] = dataclasses.replace(operation, event=event)
            for identifier in record.get("ids", ()):
                if event in ("blocking", "blocked"):
                    blocked[identifier.casefold()] = identifier
                elif event == "unblocked":
                    blocked.pop(identifier.casefold(), None)
                if event == "blocking":
                    unsure[identifier.casefold()] = identifier
                elif event in ("blocked", "unblocked"):
                    unsure.pop(identifier.casefold(), None)
        self.blocked_ids = tuple(blocked.values())
        self.unsure_blocks = tuple(unsure.values())
        yield from operations.values()


def _records(path: str) -> list[dict[str, Any]]:
    """Return the records of one file; raises JournalError for one that was not written by this module."""
    try:
        _refuse_foreign(path)
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise JournalError(f"{path}: the journal cannot be read ({_why(exc)}); see to journal_dir") from exc
    records = []
    # What stands behind the last line end was being written when the controller died; what it announces was never sent.
    for number, line in enumerate(lines[:-1], 1):
        try:
            record = json.loads(line)
            if record["event"] == "begin":
                entry_from(record, "")
            records.append({**record, "time": str(record["time"]), "ids": tuple(map(str, record.get("ids", ())))})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            raise JournalError(
                f"{path} line {number}: not a journal record ({exc}); it was changed by something else; move the file away", "journal_damaged"
            ) from exc
    return records


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
    """Make a directory of mode 0700, or make it so. Raises OSError for one that is not ours."""
    os.makedirs(path, mode=0o700, exist_ok=True)
    info = os.stat(path)
    if info.st_uid != os.geteuid():
        raise OSError(errno.EPERM, f"{path} belongs to another user")
    if info.st_mode & 0o077:
        os.chmod(path, 0o700)


def _refuse_foreign(path: str) -> None:
    """Raise OSError for a file that another user may have written: what stands in it goes to servers when a run is undone."""
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(info.st_mode):
        raise OSError(errno.EPERM, f"{path} is no regular file")
    if info.st_uid != os.geteuid() or info.st_mode & 0o022:
        raise OSError(errno.EPERM, f"{path} belongs to another user or can be written by others")


def _unwritable(place: str, exc: OSError) -> JournalError:
    return JournalError(f"{place}: the journal cannot be written ({_why(exc)}); nothing more is changed without it; see to journal_dir")


def _why(exc: OSError) -> str:
    return exc.strerror or str(exc)
