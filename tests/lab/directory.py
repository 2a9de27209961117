# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory with two domain controllers: what is written on one appears on the other after the replication lag."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any

from .kernel import LabRefusal


@dataclasses.dataclass
class _Value:
    value: Any
    stamp: int


@dataclasses.dataclass(frozen=True)
class _Pending:
    due: float
    controller: str
    item: str
    attribute: str
    value: Any
    stamp: int


class Directory:
    """Attributes of objects, per domain controller. The later write wins wherever it arrives; a stamp orders the writes."""

    def __init__(self, controllers: tuple[str, ...], lag: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.controllers = controllers
        self.lag = lag
        self._clock = clock
        self._lock = threading.RLock()
        self._stamp = 0
        self._data: dict[str, dict[str, dict[str, _Value]]] = {controller: {} for controller in controllers}
        self._pending: list[_Pending] = []
        #: called after each write
        self.changed: Callable[[], None] = lambda: None

    def controller(self, name: str) -> str | None:
        """Return the domain controller of that name or FQDN as the directory spells it, or None."""
        for controller in self.controllers:
            if name.lower() in {controller.lower(), controller.lower().partition(".")[0]}:
                return controller
        return None

    def create(self, item: str, attributes: dict[str, Any]) -> None:
        """Put an object on every domain controller at once."""
        with self._lock:
            self._stamp += 1
            for controller in self.controllers:
                if item in self._data[controller]:
                    raise LabRefusal(f"{item} is in the directory already")
                self._data[controller][item] = {name: _Value(value, self._stamp) for name, value in attributes.items()}

    def read(self, controller: str, item: str) -> dict[str, Any] | None:
        """Return an object's attributes as that domain controller knows them now, or None."""
        with self._lock:
            self._replicate()
            found = self._data[controller].get(item)
            return None if found is None else {name: entry.value for name, entry in found.items()}

    def write(self, controller: str, item: str, attributes: dict[str, Any]) -> None:
        """Change attributes on one domain controller; the others follow after the lag."""
        with self._lock:
            self._replicate()
            self._stamp += 1
            for name, value in attributes.items():
                self._data[controller][item][name] = _Value(value, self._stamp)
                for other in self.controllers:
                    if other != controller:
                        self._pending.append(_Pending(self._clock() + self.lag, other, item, name, value, self._stamp))
            self._replicate()
        self.changed()

    def newest(self) -> dict[str, dict[str, Any]]:
        """Return every object as it will be once everything has replicated."""
        with self._lock:
            found: dict[str, dict[str, Any]] = {}
            for item in self._data[self.controllers[0]]:
                known = [self._data[controller][item] for controller in self.controllers]
                found[item] = {name: max((entry[name] for entry in known), key=lambda value: value.stamp).value for name in known[0]}
            return found

    def settle(self) -> None:
        """Replicate everything at once."""
        with self._lock:
            self._replicate(everything=True)

    def _replicate(self, everything: bool = False) -> None:
        now = self._clock()
        waiting: list[_Pending] = []
        for change in self._pending:
            if not everything and change.due > now:
                waiting.append(change)
                continue
            known = self._data[change.controller][change.item]
            if change.attribute not in known or known[change.attribute].stamp < change.stamp:
                known[change.attribute] = _Value(change.value, change.stamp)
        self._pending = waiting
