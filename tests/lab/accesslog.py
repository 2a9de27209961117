# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The access log: one JSON line per HTTP request, and the same in memory together with the cmdlets that really ran."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from typing import Any

#: The keys of a line, in this order.
KEYS = ("server", "endpoint", "action", "cmdlets", "write", "bytes_in", "bytes_out", "status")


@dataclasses.dataclass(frozen=True)
class Ran:
    """One cmdlet that was started, with its bound parameters."""

    server: str
    endpoint: str
    user: str
    cmdlet: str
    parameters: dict[str, Any]
    write: bool


class AccessLog:
    """Records of all requests; written to ``path`` as JSON lines where one is given, and kept in memory unless ``keep`` is false."""

    def __init__(self, path: str | os.PathLike[str] | None = None, keep: bool = True) -> None:
        self.keep = keep
        self.records: list[dict[str, Any]] = []
        self.calls: list[Ran] = []
        self._lock = threading.Lock()
        self._handle: int | None = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600) if path is not None else None

    def write(self, record: dict[str, Any]) -> None:
        """Append a record; missing keys become their empty value."""
        empty: dict[str, Any] = {"server": "", "endpoint": "", "action": "", "cmdlets": [], "write": False, "bytes_in": 0, "bytes_out": 0, "status": 0}
        line = {key: record.get(key, empty[key]) for key in KEYS}
        with self._lock:
            if self.keep:
                self.records.append(line)
            if self._handle is not None:
                os.write(self._handle, (json.dumps(line) + "\n").encode("utf-8"))

    def ran(self, call: Ran) -> None:
        """Append a cmdlet that was started."""
        if self.keep:
            with self._lock:
                self.calls.append(call)

    def select(self, **wanted: Any) -> list[dict[str, Any]]:
        """Return the records whose keys have the wanted values."""
        with self._lock:
            return [record for record in self.records if all(record.get(key) == value for key, value in wanted.items())]

    def writes(self) -> list[dict[str, Any]]:
        """Return the records that changed something."""
        return self.select(write=True)

    def clear(self) -> None:
        """Forget what is in memory; the file keeps its lines."""
        with self._lock:
            self.records.clear()
            self.calls.clear()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._handle is not None:
                os.close(self._handle)
                self._handle = None
