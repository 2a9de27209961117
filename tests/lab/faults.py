# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults by name: what can be made to go wrong, where and when.

A message is a WS-Management request that was authenticated and decrypted; each fault counts the messages of its server from
the moment it was added, beginning with 1. ``at=k`` means: at message k.
"""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

from lab.kernel import LabRefusal

#: name -> (kind, one line). Kind "message" happens once at message k (default 1), "state" holds from message k on (default at once).
KNOWN: dict[str, tuple[str, str]] = {
    "drop-before": ("message", "close the connection at message k without doing what it asks"),
    "reset": ("message", "reset the connection at message k without doing what it asks"),
    "refuse": ("message", "drop the connection at message k without doing what it asks; from then on connections are refused"),
    "drop-after": ("message", "do what message k asks (a pipeline to its end), then close the connection without an answer"),
    "http-401": ("message", "answer message k with 401, as if the logon had expired"),
    "http-500": ("message", "answer message k with HTTP 500 and a WS-Management fault; option code (default 2150858752)"),
    "truncate": ("message", "do what message k asks, then send half of the answer and close the connection"),
    "cut-envelope": ("message", "do what message k asks, then send a complete answer whose envelope ends in the middle"),
    "corrupt": ("message", "do what message k asks, then damage the middle of the answer's envelope"),
    "fragment-order": ("message", "do what message k asks, then send its first two fragments in the wrong order, or a single one as if it were the second"),
    "stall-before": ("message", "at message k say nothing and do nothing until the client gives up; options seconds (default 60), then (a function to call)"),
    "stall-after": ("message", "do what message k asks, then say nothing until the client gives up; options as for stall-before"),
    "wrong-relates-to": ("message", "answer message k with the RelatesTo of another request"),
    "reboot": ("message", "at message k the server restarts: all its shells and connections are gone; option seconds: unreachable that long"),
    "slow": ("state", "answer every message from k on late; option seconds (default 1)"),
    "quota": ("state", "answer every Create from message k on as if the user had 30 shells"),
    "session-budget": ("state", "answer every Create at the Exchange endpoint from message k on as if the user had 18 sessions"),
    "clock-skew": ("state", "the clock of the server is wrong; option hours (default 5), below 0 where it is slow"),
    "locked-file": ("state", "files cannot be replaced or written: sharing violation; option path limits it to one file"),
    "disk-full": ("state", "no file can grow: the disk is full"),
    "replace-1175": ("state", "replacing a file fails and leaves it as it is: it could not be removed"),
    "replace-1176": ("state", "replacing a file fails and leaves it as it is: the new one could not be moved"),
    "replace-1177": ("state", "replacing a file fails halfway: the old bytes stand under the backup's name only"),
    "copy-torn": ("state", "copying over an existing file writes half of it and fails: the disk is full"),
    "stop-pending": ("state", "a service that is told to stop stays in StopPending; option seconds (default for ever)"),
    "start-fails": ("state", "a service that is told to start does not"),
}


@dataclasses.dataclass(eq=False)
class Fault:
    """One fault that was added; ``seen`` messages so far, ``fired`` times it happened."""

    name: str
    server: str | None = None
    at: int | None = None
    endpoint: str | None = None
    action: str | None = None
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    seen: int = 0
    fired: int = 0
    #: The WS-Management action of the message at which it last happened.
    hit: str = ""

    @property
    def kind(self) -> str:
        """message or state."""
        return KNOWN[self.name][0]

    def concerns(self, server: str) -> bool:
        """Tell whether the fault is meant for this server."""
        return self.server in (None, "", "*") or str(self.server).lower() == server.lower()


class Faults:
    """The faults of one fleet."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    @staticmethod
    def describe() -> list[str]:
        """Return one line per known fault."""
        width = max(map(len, KNOWN))
        return [f"{name.ljust(width)}  {text}" for name, (dummy, text) in KNOWN.items()]

    def add(self, name: str, server: str | None = None, at: int | None = None, endpoint: str | None = None, action: str | None = None, **options: Any) -> Fault:
        """Arm a fault and return it; raises LabRefusal for an unknown name."""
        if name not in KNOWN:
            raise LabRefusal(f"there is no fault {name!r}; known are {', '.join(KNOWN)}")
        fault = Fault(name, server, at, endpoint, action, options)
        with self._lock:
            self._faults.append(fault)
        return fault

    def parse(self, text: str) -> Fault:
        """Arm a fault given as ``NAME[:server[:k]]``."""
        name, rest = text.partition(":")[::2]
        server, number = rest.partition(":")[::2]
        if number and not number.isdigit():
            raise LabRefusal(f"fault {text!r}: {number!r} is not the number of a message")
        return self.add(name, server or None, int(number) if number else None)

    def remove(self, fault: Fault) -> None:
        """Disarm a fault."""
        with self._lock:
            if fault in self._faults:
                self._faults.remove(fault)

    def clear(self) -> None:
        """Disarm all."""
        with self._lock:
            self._faults.clear()

    def message(self, server: str, endpoint: str, action: str) -> list[Fault]:
        """Count a message and return the faults that happen at it."""
        due = []
        with self._lock:
            for fault in self._faults:
                if not fault.concerns(server) or fault.endpoint not in (None, endpoint) or fault.action not in (None, action):
                    continue
                fault.seen += 1
                if fault.kind == "message" and fault.seen == (fault.at or 1):
                    fault.fired += 1
                    fault.hit = action
                    due.append(fault)
                elif fault.kind == "state" and fault.seen >= (fault.at or 0):
                    due.append(fault)
        return due

    def active(self, name: str, machine: Any) -> Fault | None:
        """Return the fault of that name which holds on the machine now, or None."""
        server = str(getattr(machine, "name", machine))
        with self._lock:
            for fault in self._faults:
                if fault.name == name and fault.concerns(server) and fault.seen >= (fault.at or 0):
                    return fault
        return None
