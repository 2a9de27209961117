# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each channel was told, kept in the state directory: a file per channel, held under a lock while its message is sent.

The lock makes two runs at once tell an event once. The file is written after the delivery, so a run that dies between the
two tells it twice rather than never.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping

from ansible_collections.exchange.mitigation.plugins.module_utils._notice import Entry
from ansible_collections.exchange.mitigation.plugins.module_utils._reasons import unproven
from ansible_collections.exchange.mitigation.plugins.module_utils._state import State, stored

FORMAT = 1


class Told(State):
    """What the channel ``name`` was told. Nothing is written before ``store``."""

    def __init__(self, directory: str, name: str, seconds: float) -> None:
        super().__init__(directory, "notice")
        self.name = name
        key = hashlib.sha256(name.encode()).hexdigest()[:16]
        self.file = self.directory / f"notice-{key}.json"
        self.lock_name = f".notice-{key}.lock"
        self.lock_seconds = seconds

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the channel; raises Refused ``state_locked`` when another run keeps it longer than ``seconds``."""
        with self._locked():
            yield

    def entries(self) -> dict[str, Entry]:
        """Return what was told, nothing where there is no file; raises VerifyError for a file that cannot be read."""
        data = stored(self.file)
        if data is None:
            return {}
        try:
            raw = json.loads(data)
            if raw["format"] != FORMAT or raw["channel"] != self.name:
                raise ValueError
            return {str(key): Entry(str(value["scope"]), str(value["at"]), str(value["occurrence"])) for key, value in raw["told"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise unproven("state_damaged", f"{self.file} is not what this collection keeps of the channel {self.name}.") from None

    def store(self, entries: Mapping[str, Entry]) -> None:
        """Replace the file atomically; mode 0600. Raises InvalidInput where the directory does not take it."""
        told = {key: {"scope": entry.scope, "at": entry.at, "occurrence": entry.occurrence} for key, entry in sorted(entries.items())}
        self._write(self.file, json.dumps({"format": FORMAT, "channel": self.name, "told": told}, indent=1).encode())
