# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the journal keeps of one operation: a file, or the state of a service or application pool, from before to after.

Pure. A record that does not hold together is refused, so that nothing is ever done by one that was changed.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import ntpath
import re
from collections.abc import Mapping
from typing import Any, Union

SERVICE = "service"
POOL = "pool"
VERBS = ("apply", "remove")

_SERVICE_STATES, _POOL_STATES = ("Running", "Stopped", "Paused"), ("Started", "Stopped")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._$-]{0,255}")


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

    @property
    def target(self) -> str:
        """What it is about, for a sentence and as a key."""
        return self.path


@dataclasses.dataclass(frozen=True)
class Transition:
    """One service or application pool, from before to after.

    ``before`` and ``after`` are pairs: state and start mode of a service, state and autoStart of a pool.
    """

    run_id: str
    operation_id: str
    kind: str
    name: str
    before: tuple[str, Any]
    after: tuple[str, Any]
    mitigations: tuple[str, ...]
    verb: str
    event: str
    time: str

    @property
    def target(self) -> str:
        """What it is about, for a sentence and as a key."""
        return f"{self.kind} {self.name}"


Entry = Union[Operation, Transition]  # noqa: UP007


def digest(data: bytes | None) -> str | None:
    """Return the SHA-256 of bytes as hex, None for a file that does not exist."""
    return None if data is None else hashlib.sha256(data).hexdigest()


def fields_of(entry: Entry) -> dict[str, Any]:
    """Return what is written of an operation when it begins: everything that undoing or recovering it needs."""
    common = {"operation": entry.operation_id, "mitigations": list(entry.mitigations), "verb": entry.verb}
    if isinstance(entry, Transition):
        return {**common, "kind": entry.kind, "name": entry.name, "before": list(entry.before), "after": list(entry.after)}
    return {
        **common,
        "path": entry.path,
        "before": _encoded(entry.before),
        "after": _encoded(entry.after),
        "before_sha256": entry.before_sha256,
        "after_sha256": entry.after_sha256,
        "sddl": entry.sddl,
        "temporary": entry.temporary,
        "backup": entry.backup,
        "checks": [list(check) for check in entry.checks],
    }


def entry_from(record: Mapping[str, Any], run_id: str) -> Entry:
    """Return the operation of a ``begin`` record. Raises ValueError, KeyError or TypeError for one that does not hold together."""
    if record["verb"] not in VERBS:
        raise ValueError(f"{record['verb']!r} is no verb of this module")
    return _transition(record, run_id) if record.get("kind") else _operation(record, run_id)


def _operation(record: Mapping[str, Any], run_id: str) -> Operation:
    before, after = _decoded(record["before"]), _decoded(record["after"])
    if digest(before) != record["before_sha256"] or digest(after) != record["after_sha256"]:
        raise ValueError("the bytes do not have the recorded SHA-256")
    path, temporary, backup = (str(record[name]) for name in ("path", "temporary", "backup"))
    stem = ntpath.splitext(path)[0]
    if ntpath.splitext(path)[1].lower() != ".config" or not all(other.startswith(stem + ".") and other.endswith(".config") for other in (temporary, backup)):
        raise ValueError("the paths are not those of one configuration file and what stands beside it")
    return Operation(
        run_id=run_id,
        operation_id=str(record["operation"]),
        path=path,
        before=before,
        after=after,
        sddl=str(record["sddl"]),
        temporary=temporary,
        backup=backup,
        mitigations=tuple(str(entry) for entry in record["mitigations"]),
        verb=str(record["verb"]),
        checks=tuple((str(section), str(pspath)) for section, pspath in record["checks"]),
        event="begin",
        time=str(record["time"]),
    )


def _transition(record: Mapping[str, Any], run_id: str) -> Transition:
    kind, name = str(record["kind"]), str(record["name"])
    if kind not in (SERVICE, POOL) or not _NAME.fullmatch(name):
        raise ValueError(f"{kind} {name!r} is neither a service nor an application pool")
    pairs = []
    for state, mode in (record["before"], record["after"]):
        known = state in _SERVICE_STATES and mode in ("Auto", "Manual", "Disabled") if kind == SERVICE else state in _POOL_STATES and isinstance(mode, bool)
        if not known:
            raise ValueError(f"{state!r}, {mode!r} is no state of a {kind}")
        pairs.append((state, mode))
    return Transition(
        run_id=run_id,
        operation_id=str(record["operation"]),
        kind=kind,
        name=name,
        before=pairs[0],
        after=pairs[1],
        mitigations=tuple(str(entry) for entry in record["mitigations"]),
        verb=str(record["verb"]),
        event="begin",
        time=str(record["time"]),
    )


def _encoded(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def _decoded(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text, validate=True)
