# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""For the speed comparison only (``--bench-wrapper``): servers whose work costs nothing, whoever asks.

Two things that the lab never does otherwise. A pipeline of cmdlets that was run before and changes nothing is answered from memory, and
the script in which Ansible wraps its own Windows modules is answered with canned JSON, chosen by a text that the module's arguments contain.
What is left to the lab is the wire: logons, encryption, messages. So neither side is charged for Python that stands in for Windows.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
import re
from typing import Any

from psrpcore.types import PSRPMessageType

from lab import clixml
from lab.kernel import LabRefusal
from lab.psrp import BOM, HEADER, STATES, Pipeline

_MARKER = re.compile(rb"~[be]:\d+:([0-9a-f]{16})")
_SCRIPT = b'<B N="IsScript">true</B>'
_MESSAGE = 40


@dataclasses.dataclass
class Remembered:
    """What a pipeline answered: the messages of ``source`` once it has ended, its cmdlets, and the nonce of its markers."""

    source: Pipeline
    cmdlets: list[str]
    nonce: bytes


class Bench:
    """Answers from memory for one fleet. ``path``: JSON, a list of [text in the module's arguments, result of the module]."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._memory: dict[tuple[str, str, bytes], Remembered] = {}

    @functools.cached_property
    def _canned(self) -> list[tuple[bytes, bytes]]:
        """The canned answers, read when the first wrapper arrives."""
        try:
            rows = json.loads(self._path.read_text("utf-8"))
            return [(str(needle).encode("utf-8"), clixml.write(json.dumps(answer))) for needle, answer in rows]
        except (OSError, ValueError, TypeError) as error:
            raise LabRefusal(f"{self._path} is no list of [text, answer]: {error}") from None

    def take(self, machine: str, endpoint: str, pipeline: Pipeline, data: bytes, trace: Any) -> bool:
        """Answer a new pipeline from memory, or as a wrapper once its input is there; False where it has to be run."""
        if data[16] & 3 != 3 or int.from_bytes(data[HEADER + 4 : HEADER + 8], "little") != PSRPMessageType.CreatePipeline:
            return False
        message = data[HEADER + _MESSAGE : HEADER + int.from_bytes(data[17:21], "big")].removeprefix(BOM)
        if _SCRIPT in message:
            trace.cmdlets.append("<wrapper>")
            pipeline.wrapper = True
            return True
        found = _MARKER.search(message)
        nonce = found[1] if found else b""
        key = (machine, endpoint, message.replace(nonce, b"") if nonce else message)
        known = self._memory.get(key)
        if known is None or not known.source.finished:
            pipeline.kept = []
            self._memory[key] = Remembered(pipeline, trace.cmdlets, nonce)
            return False
        trace.cmdlets.extend(known.cmdlets)
        messages = known.source.kept or []
        self._emit(pipeline, [(kind, text.replace(known.nonce, nonce) if nonce else text) for kind, text in messages])
        return True

    def forget(self, pipeline: Pipeline) -> None:
        """Never answer this one from memory: it changes something."""
        for key, known in list(self._memory.items()):
            if known.source is pipeline:
                del self._memory[key]

    def feed(self, pipeline: Pipeline, data: bytes) -> None:
        """Take input of a wrapper; at its end it is answered."""
        if pipeline.canned is None:
            pipeline.canned = next((answer for needle, answer in self._canned if needle in data), None)
        while data:
            length = int.from_bytes(data[17:21], "big")
            start, kind = data[16] & 1, int.from_bytes(data[HEADER + 4 : HEADER + 8], "little")
            data = data[HEADER + length :]
            if start and kind == PSRPMessageType.EndOfPipelineInput:
                answer = pipeline.canned or clixml.write(json.dumps({"failed": True, "msg": "the lab has no canned answer for this module"}))
                state = b'<Obj RefId="0"><MS><I32 N="PipelineState">%d</I32></MS></Obj>' % STATES["Completed"]
                self._emit(pipeline, [(PSRPMessageType.PipelineOutput, answer), (PSRPMessageType.PipelineState, state)])

    @staticmethod
    def _emit(pipeline: Pipeline, messages: list[tuple[Any, bytes]]) -> None:
        pool = pipeline.pool
        with pool.changed:
            for kind, text in messages:
                pool.emit(kind, text, pipeline.pid)
            pipeline.ready = pipeline.finished = True
            pool.changed.notify_all()
