# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server side of PSRP: psrpcore reads what clients send, records and objects are written as Windows writes them.

Message shapes are those of recorded conversations (WINRM.md A, E): a byte order mark before each message, no
PipelineState(Running), RunspacePoolState in a Receive of its own.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections import deque
from typing import Any
from xml.etree import ElementTree

import psrpcore
from psrpcore import types as pstypes
from psrpcore.types import PSRPMessageType

from lab import clixml
from lab.kernel import ErrorInfo, LabRefusal, Obj
from lab.pipeline import CommandLine
from lab.records import error_record

BOM = b"\xef\xbb\xbf"
FRAGMENT = 32 * 1024
HEADER = 21
GATHER_SECONDS = 0.3
GATHER_BYTES = 300_000
STATES = {"Stopped": 3, "Completed": 4, "Failed": 5}
_DICTIONARY = ("System.Management.Automation.PSPrimitiveDictionary", "System.Collections.Hashtable", "System.Object")
_CALL_ID = re.compile(rb'<I64 N="ci">(-?\d+)</I64>', re.IGNORECASE)
_COUNT = re.compile(rb'<I32 N="(?:Min|Max)Runspaces">(-?\d+)</I32>')


class Outbox:
    """Messages that wait for Receive, cut into fragments that fit the client's envelope."""

    def __init__(self) -> None:
        self._messages: deque[tuple[int, bytes, bool]] = deque()
        self._offset = 0
        self._fragment = 0
        self.size = 0

    def add(self, object_id: int, message: bytes, alone: bool = False) -> None:
        """Append a message; one that stands ``alone`` shares its Receive with no other."""
        self._messages.append((object_id, message, alone))
        self.size += len(message)

    def __bool__(self) -> bool:
        return bool(self._messages)

    def take(self, budget: int) -> list[bytes]:
        """Return as many fragments as fit ``budget`` bytes of base64 text, at least one when there is any."""
        fragments: list[bytes] = []
        while self._messages:
            object_id, message, alone = self._messages[0]
            if fragments and alone:
                break
            room = min(FRAGMENT, budget * 3 // 4 - 200) - HEADER
            left = len(message) - self._offset
            if fragments and room < min(left, FRAGMENT - HEADER):
                break
            part = message[self._offset : self._offset + max(room, 256)]
            self._offset += len(part)
            self.size -= len(part)
            end = self._offset >= len(message)
            flags = (1 if self._fragment == 0 else 0) | (2 if end else 0)
            head = object_id.to_bytes(8, "big") + self._fragment.to_bytes(8, "big") + bytes([flags]) + len(part).to_bytes(4, "big")
            fragments.append(head + part)
            budget -= (len(part) + HEADER + 2) // 3 * 4 + 200
            self._fragment += 1
            if end:
                self._messages.popleft()
                self._offset = self._fragment = 0
                if alone:
                    break
        return fragments


class _Core(psrpcore.ServerRunspacePool):
    """psrpcore's pool, which hands its messages to ours."""

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self._pool = pool

    def prepare_message(self, message: Any, message_type: Any = None, pipeline_id: uuid.UUID | None = None, stream_type: Any = None) -> None:
        """Serialise a protocol message and queue it."""
        kind = message_type or PSRPMessageType.get_message_id(type(message))
        if kind in (PSRPMessageType.ApplicationPrivateData, PSRPMessageType.SessionCapability):
            data = self._pool.private_data() if kind == PSRPMessageType.ApplicationPrivateData else self._pool.capability()
            self._pool.emit(kind, data, pipeline_id, alone=self._pool.restricted)
            return
        element = pstypes.serialize(message, self._cipher, our_capability=self.our_capability, their_capability=self.their_capability)
        data = ElementTree.tostring(element, encoding="utf-8", method="xml")
        self._pool.emit(kind, data, pipeline_id, alone=kind == PSRPMessageType.RunspacePoolState)

    def _process_message(self, message: Any) -> Any:
        """Answer the availability messages here: clients write CI where psrpcore reads ci (WINRM.md A)."""
        availability = (
            PSRPMessageType.SetMaxRunspaces,
            PSRPMessageType.SetMinRunspaces,
            PSRPMessageType.GetAvailableRunspaces,
            PSRPMessageType.ResetRunspaceState,
        )
        if message.message_type not in availability:
            return super()._process_message(message)
        self._pool.availability(message.message_type, bytes(message.data))
        return None


class Pipeline:
    """One pipeline of a pool: its commands once they have arrived, its input, its outbox and its state."""

    def __init__(self, pool: Pool, pid: uuid.UUID) -> None:
        self.pool = pool
        self.pid = pid
        self.outbox = Outbox()
        self.commands: list[tuple[CommandLine, bool]] = []
        self.no_input = True
        self.input: list[Any] = []
        self.ready = False
        self.finished = False
        self.done_sent = False
        self.stopping = threading.Event()
        self.thread: threading.Thread | None = None
        #: for lab.bench: what it sent, whether it is Ansible's wrapper, and the answer to that
        self.kept: list[tuple[Any, bytes]] | None = None
        self.wrapper = False
        self.canned: bytes | None = None
        psrpcore.ServerPipeline(pool.core, pid)

    def output(self, value: Any) -> None:
        """Queue an output object."""
        self.pool.emit(PSRPMessageType.PipelineOutput, clixml.write(value), self.pid)

    def error(self, info: ErrorInfo) -> None:
        """Queue an error record."""
        self.pool.emit(PSRPMessageType.ErrorRecord, error_record(info, stream=True), self.pid)

    def progress(self, activity: str) -> None:
        """Queue the progress record that the first pipeline of a session carries."""
        kind = Obj(
            types=("System.Management.Automation.ProgressRecordType", "System.Enum", "System.ValueType", "System.Object"), value=1, to_string="Completed"
        )
        notes = {
            "Activity": activity,
            "ActivityId": 0,
            "StatusDescription": " ",
            "CurrentOperation": None,
            "ParentActivityId": -1,
            "PercentComplete": -1,
            "Type": kind,
            "SecondsRemaining": -1,
        }
        self.pool.emit(PSRPMessageType.ProgressRecord, clixml.write(Obj(notes=notes)), self.pid)

    def state(self, state: str, error: ErrorInfo | None = None) -> None:
        """Queue the final state; nothing follows it."""
        with self.pool.changed:
            if self.finished:
                return
            record = error_record(error, member="ExceptionAsErrorRecord") if error is not None else b""
            number = b'<I32 N="PipelineState">%d</I32>' % STATES[state]
            self.pool.emit(PSRPMessageType.PipelineState, b'<Obj RefId="0"><MS>' + number + record + b"</MS></Obj>", self.pid)
            self.finished = True
            self.pool.changed.notify_all()


class Pool:
    """A runspace pool. ``changed`` guards everything and is notified when something is there to receive.

    A ``restricted`` endpoint is slower to open: each message of the opening comes in its own Receive (recorded for JEA).
    """

    def __init__(self, version: str = "5.1.17763.5830", build: str = "10.0.17763.5830", restricted: bool = False) -> None:
        self.restricted = restricted
        self.changed = threading.Condition(threading.RLock())
        self.outbox = Outbox()
        self.pipelines: dict[uuid.UUID, Pipeline] = {}
        self.core = _Core(self)
        self.closed = False
        self._objects = 0
        self._version = version
        self._build = build
        self._runspaces = {"max": 1, "min": 1}

    @staticmethod
    def capability() -> bytes:
        """Return the SessionCapability message."""
        versions = {"protocolversion": "2.3", "PSVersion": "2.0", "SerializationVersion": "1.1.0.1"}
        return clixml.write(Obj(notes={name: Obj(types=("System.Version",), value=text) for name, text in versions.items()}))

    def private_data(self) -> bytes:
        """Return the ApplicationPrivateData message: the PSVersionTable of Windows PowerShell 5.1."""

        def version(text: str) -> Obj:
            return Obj(types=("System.Version",), value=text)

        compatible = [version(text) for text in ("1.0", "2.0", "3.0", "4.0", "5.0", self._version)]
        table = {
            "PSVersion": version(self._version),
            "PSEdition": "Desktop",
            "PSCompatibleVersions": Obj(types=("System.Version[]", "System.Array", "System.Object"), value=compatible),
            "CLRVersion": version("4.0.30319.42000"),
            "BuildVersion": version(self._build),
            "WSManStackVersion": version("3.0"),
            "PSRemotingProtocolVersion": version("2.3"),
            "SerializationVersion": version("1.1.0.1"),
        }
        data = Obj(types=_DICTIONARY, value={"PSVersionTable": Obj(types=_DICTIONARY, value=table)})
        return clixml.write(Obj(notes={"ApplicationPrivateData": data}))

    def emit(self, kind: Any, data: bytes, pid: uuid.UUID | None, alone: bool = False) -> None:
        """Queue a message for the pool or one of its pipelines."""
        with self.changed:
            pipeline = self.pipelines.get(pid) if pid is not None else None
            if pid is not None and (pipeline is None or pipeline.finished):
                return
            if pipeline is not None and pipeline.kept is not None:
                pipeline.kept.append((kind, data))
            self._objects += 1
            head = (1).to_bytes(4, "little") + int(kind).to_bytes(4, "little") + self.core.runspace_pool_id.bytes_le + (pid or uuid.UUID(int=0)).bytes_le
            (pipeline.outbox if pipeline is not None else self.outbox).add(self._objects, head + BOM + data, alone)
            self.changed.notify_all()

    def availability(self, kind: Any, data: bytes) -> None:
        """Answer SetMaxRunspaces, SetMinRunspaces, GetAvailableRunspaces and ResetRunspaceState."""
        found, count = _CALL_ID.search(data), _COUNT.search(data)
        call = int(found.group(1)) if found else 0
        answer = b'<B N="SetMinMaxRunspacesResponse">true</B>'
        if kind == PSRPMessageType.GetAvailableRunspaces:
            busy = sum(1 for pipeline in self.pipelines.values() if not pipeline.finished)
            answer = b'<I32 N="SetMinMaxRunspacesResponse">%d</I32>' % max(0, self._runspaces["max"] - busy)
        elif kind in (PSRPMessageType.SetMaxRunspaces, PSRPMessageType.SetMinRunspaces):
            wanted = int(count.group(1)) if count else 0
            if wanted > 0:
                self._runspaces["max" if kind == PSRPMessageType.SetMaxRunspaces else "min"] = wanted
            else:
                answer = b'<B N="SetMinMaxRunspacesResponse">false</B>'
        message = b'<Obj RefId="0"><MS>' + answer + b'<I64 N="ci">%d</I64></MS></Obj>' % call
        self.emit(PSRPMessageType.RunspaceAvailability, message, None)

    def receive(self, data: bytes) -> list[Pipeline]:
        """Take fragments in; return the pipelines that became ready to run."""
        ready = []
        with self.changed:
            self.core.receive_data(psrpcore.PSRPPayload(data, psrpcore.StreamType.default, None))
            while True:
                event = self.core.next_event()
                pid = getattr(event, "pipeline_id", None)
                pipeline = self.pipelines.get(pid) if pid is not None else None
                if isinstance(event, psrpcore.CreatePipelineEvent) and pipeline is not None:
                    pipeline.commands = [(_command(command), command.end_of_statement) for command in event.pipeline.commands]
                    pipeline.no_input = bool(event.pipeline.no_input)
                    pipeline.ready = pipeline.no_input
                elif isinstance(event, psrpcore.PipelineInputEvent) and pipeline is not None:
                    pipeline.input.append(plain(event.data))
                elif isinstance(event, psrpcore.EndOfPipelineInputEvent) and pipeline is not None:
                    pipeline.ready = True
                elif isinstance(event, psrpcore.GetCommandMetadataEvent):
                    raise LabRefusal("the lab does not answer GetCommandMetadata")
                if pipeline is not None and pipeline.ready and pipeline.thread is None and pipeline not in ready:
                    ready.append(pipeline)
                if event is None and not self.core._incoming_messages:
                    return ready

    def create(self, first: bytes) -> Pipeline:
        """Register the pipeline whose first fragment this is; the id stands in the fragment (WINRM.md A)."""
        pipeline = Pipeline(self, uuid.UUID(bytes_le=first[HEADER + 24 : HEADER + 40]))
        with self.changed:
            self.pipelines[pipeline.pid] = pipeline
        return pipeline

    def forget(self, pipeline: Pipeline) -> None:
        """Drop a pipeline after its Signal."""
        with self.changed:
            self.pipelines.pop(pipeline.pid, None)
            self.core.pipeline_table.pop(pipeline.pid, None)

    def wait(self, pipeline: Pipeline | None, seconds: float) -> bool:
        """Wait until there is something to receive; False when the time is over or the pool was closed.

        Output of a running pipeline is gathered for a moment or until it fills an envelope, as Windows' block buffering does.
        """
        deadline = time.monotonic() + seconds
        with self.changed:
            while not self.closed:
                if self.outbox if pipeline is None else pipeline.finished or pipeline.outbox.size > GATHER_BYTES:
                    return True
                if pipeline is not None and pipeline.outbox:
                    deadline = min(deadline, time.monotonic() + GATHER_SECONDS)
                left = deadline - time.monotonic()
                if left <= 0:
                    return bool(pipeline is not None and pipeline.outbox)
                self.changed.wait(left)
            return False

    def close(self) -> None:
        """Stop everything and wake whoever waits."""
        with self.changed:
            self.closed = True
            for pipeline in self.pipelines.values():
                pipeline.stopping.set()
            self.changed.notify_all()


def _command(command: Any) -> CommandLine:
    arguments = tuple((str(name) if name is not None else None, plain(value)) for name, value in command.parameters)
    merges = (command.merge_my, command.merge_error, command.merge_warning, command.merge_verbose, command.merge_debug, command.merge_information)
    return CommandLine(str(command.command_text), arguments, bool(command.is_script), any(int(merge or 0) for merge in merges))


def plain(value: Any) -> Any:
    """Return a value that psrpcore decoded as plain Python or Obj."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, pstypes.PSSecureString):
        return Obj(types=("System.Security.SecureString", "System.Object"), live=str(value.decrypt()))
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, pstypes.PSObject):
        meta = value.PSObject
        props = {item.name: plain(item.get_value(value)) for item in meta.adapted_properties}
        notes = {item.name: plain(item.get_value(value)) for item in meta.extended_properties}
        return Obj(types=tuple(meta.type_names), props=props, notes=notes, to_string=meta.to_string)
    return value
