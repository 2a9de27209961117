# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a simulated cmdlet is: its parameters, the objects it writes, its errors, and the registry that holds all of them.

Nothing answers by default: an unknown cmdlet, parameter or class raises.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any


@dataclasses.dataclass
class Obj:
    """An object on the output pipe.

    ``props`` are adapted properties (``<Props>``), ``notes`` extended ones (``<MS>``), ``value`` a primitive, list or
    dict that the object wraps, ``to_string`` its ToString. ``live`` is the lab's own thing behind it, for methods.
    Values inside are str, bool, int (I32), I64, Float, bytes, datetime, uuid.UUID, list, dict, None or Obj.
    The author of a cmdlet applies the depth rules of CMDLETS.md 0.1 (a complex property is the string of it).
    """

    types: tuple[str, ...] = ()
    props: dict[str, Any] = dataclasses.field(default_factory=dict)
    notes: dict[str, Any] = dataclasses.field(default_factory=dict)
    value: Any = None
    to_string: str | None = None
    live: Any = None


class I64(int):
    """An integer that goes over the wire as I64."""


class U32(int):
    """An integer that goes over the wire as U32."""


@dataclasses.dataclass
class ErrorInfo:
    """An error record. ``category`` is the number of ErrorCategory, ``exception`` the .NET type name."""

    message: str
    fqid: str
    category: int = 0
    exception: str = "System.Exception"
    target: str = ""
    activity: str = ""


class Terminating(Exception):
    """A statement-terminating error."""

    def __init__(self, info: ErrorInfo) -> None:
        super().__init__(info.message)
        self.info = info


class LabRefusal(Exception):
    """The lab does not know what was asked; a test must see this, never a default answer."""


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A parameter of a cmdlet.

    ``kind``: string, string[], bool, switch, int, object (any value, live objects too), bytes, hashtable, mvp, uri, datetime.
    ``pattern``: what each text must match, in any case (ValidatePattern).
    """

    kind: str = "string"
    position: int | None = None
    mandatory: bool = False
    values: tuple[str, ...] = ()
    from_pipeline: bool = False
    pattern: str = ""


@dataclasses.dataclass
class Invocation:
    """One running cmdlet: its machine, bound parameters (canonical names), pipeline input and where errors go."""

    machine: Any
    parameters: dict[str, Any]
    input: Iterable[Any]
    error: Callable[[ErrorInfo], None]
    session: Any = None

    def get(self, name: str, default: Any = None) -> Any:
        """Return a bound parameter or the default."""
        return self.parameters.get(name, default)


Body = Callable[[Invocation], Iterator[Any]]


@dataclasses.dataclass(frozen=True)
class Definition:
    """A cmdlet the lab knows: ``write`` tells (from the parameters) whether the call changes the server.

    ``proxy``: a function of JEA stands before it, whose own name its binding errors carry.
    """

    name: str
    parameters: dict[str, Parameter]
    body: Body
    write: Callable[[dict[str, Any]], bool]
    where: tuple[str, ...]
    languages: tuple[str, ...]
    proxy: bool = False


REGISTRY: dict[tuple[str, str], Definition] = {}

#: Parameters that every cmdlet takes.
COMMON = {
    "ErrorAction": Parameter(values=("SilentlyContinue", "Stop", "Continue", "Inquire", "Ignore")),
    "WarningAction": Parameter(values=("SilentlyContinue", "Stop", "Continue", "Inquire", "Ignore")),
    "Verbose": Parameter("switch"),
}


def cmdlet(
    name: str,
    parameters: dict[str, Parameter],
    write: bool | Callable[[dict[str, Any]], bool] = False,
    where: tuple[str, ...] = ("host",),
    languages: tuple[str, ...] = ("FullLanguage", "ConstrainedLanguage", "NoLanguage"),
) -> Callable[[Body], Body]:
    """Register a cmdlet for the endpoints in ``where`` (host, exchange)."""

    def register(body: Body) -> Body:
        writes = write if callable(write) else (lambda bound, fixed=write: fixed)
        for endpoint in where:
            key = (endpoint, name.lower())
            if key in REGISTRY:
                raise LabRefusal(f"{name} is registered twice for {endpoint}")
            REGISTRY[key] = Definition(name, parameters, body, writes, where, languages)
        return body

    return register
