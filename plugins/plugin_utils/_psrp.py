# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One PowerShell pipeline of cmdlets and typed parameters over a pypsrp pool, and what the server wrote, in order.

pypsrp leaves some values as raw XML and drops others (WINRM.md C). So its serializer is replaced by a Recorder that
keeps the XML of every output and error message in their order of arrival, for the collection's own decoder.
Note that this plugin util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import ClixmlError, PSObject, decode, gated, plain
from ansible_collections.exchange.mitigation.plugins.module_utils._deps import optional
from ansible_collections.exchange.mitigation.plugins.module_utils._model import ErrorRecord, Statement
from ansible_collections.exchange.mitigation.plugins.module_utils._untrusted import word
from ansible_collections.exchange.mitigation.plugins.plugin_utils._pipeline_xml import Unwritable, create_pipeline, ready

#: None without pypsrp; require("pypsrp") raises MissingLibrary before any of them is used.
complex_objects = optional("pypsrp.complex_objects")
messages = optional("pypsrp.messages")
powershell = optional("pypsrp.powershell")
serializer = optional("pypsrp.serializer")
Serializer: Any = getattr(serializer, "Serializer", object)

OUTPUT = "output"
ERROR = "error"

#: ErrorCategory (System.Management.Automation), by its number.
CATEGORIES = (
    "NotSpecified", "OpenError", "CloseError", "DeviceError", "DeadlockDetected", "InvalidArgument", "InvalidData", "InvalidOperation", "InvalidResult",
    "InvalidType", "MetadataError", "NotImplemented", "NotInstalled", "ObjectNotFound", "OperationStopped", "OperationTimeout", "SyntaxError",
    "ParserError", "PermissionDenied", "ResourceBusy", "ResourceExists", "ResourceUnavailable", "ReadError", "WriteError", "FromStdErr", "SecurityError",
    "ProtocolError", "ConnectionError", "AuthenticationError", "LimitsExceeded", "QuotaExceeded", "NotEnabled",
)

#: Characters of an error's texts; Exchange writes the longest, of some hundred.
MAX_MESSAGE = 4000

#: Characters that one pipeline may write.
MAX_OUTPUT = 48 * 1024 * 1024

#: Host methods that wait for an answer (MS-PSRP 2.2.3.17): ReadLine, secure ReadLine, Prompt, PromptForCredential twice, PromptForChoice.
PROMPTS = (11, 12, 23, 24, 25, 26)


class Recorder(Serializer):  # type: ignore[misc]
    """pypsrp's serializer, except that output and error messages are kept as XML instead of being decoded."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[str, str]] = []
        self.prompts: list[int] = []
        #: the next message that creates a pipeline, where it is written already
        self.prepared: bytes | None = None
        #: characters of output that came
        self.size = 0

    def serialize(self, value: Any, metadata: Any = None, parent: Any = None, clear: bool = True) -> Any:
        """Write a message; one that was prepared is taken as it is."""
        if self.prepared is not None and isinstance(value, messages.CreatePipeline):
            return self.prepared
        return super().serialize(value, metadata, parent, clear)

    def begin(self) -> None:
        """Forget what came before: a pipeline begins."""
        self.events.clear()
        self.prompts.clear()
        self.size = 0

    def deserialize(self, element: Any, metadata: Any = None, clear: bool = True) -> Any:
        """Decode a message, or keep it; ``element`` is text for a whole message and an element for a part of one."""
        if not isinstance(element, str):
            return super().deserialize(element, metadata, clear)
        gated(element.encode("utf-8", "surrogatepass"))
        self.size += len(element)
        if self.size > MAX_OUTPUT:
            raise ClixmlError(f"the pipeline wrote more than {MAX_OUTPUT} characters")
        if metadata is None:
            self.events.append((OUTPUT, element))
            return None
        if metadata.object is messages.ApplicationPrivateData:
            return messages.ApplicationPrivateData({})  # what the server says of itself when a pool opens: long, and nobody asks for it
        if metadata.object is messages.ErrorRecordMessage:
            self.events.append((ERROR, element))
            return messages.ErrorRecordMessage()
        if metadata.object is messages.PipelineState:
            message = decode(element)
            if message.get("ExceptionAsErrorRecord") is not None:
                self.events.append((ERROR, element))
            return messages.PipelineState(state=message.get("PipelineState"))
        if metadata.object is messages.PipelineHostCall:
            method = plain(decode(element).get("mi"))
            if method in PROMPTS:
                self.prompts.append(method)
        return super().deserialize(element, metadata, clear)


def record(pool: Any) -> Recorder:
    """Make a pool record what the server writes, and return the recorder."""
    recorder = Recorder()
    recorder.cipher = pool._serializer.cipher  # pylint: disable=protected-access
    pool._serializer = recorder  # pylint: disable=protected-access
    pool._fragmenter.serializer = recorder  # pylint: disable=protected-access
    return recorder


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a pipeline ended: decoded events in order of arrival, whether it failed or was stopped, whether it asked for input."""

    events: tuple[tuple[str, Any], ...]
    failed: bool
    prompted: bool

    @property
    def objects(self) -> tuple[Any, ...]:
        """The outputs."""
        return tuple(value for kind, value in self.events if kind == OUTPUT)

    @property
    def errors(self) -> tuple[ErrorRecord, ...]:
        """The error records, non-terminating ones too: a pipeline with them may well say Completed."""
        return tuple(value for kind, value in self.events if kind == ERROR)


class Pipeline:
    """One pipeline in a pool; ``id`` is kept, because the server counts it until it is terminated or its shell deleted."""

    def __init__(self, pool: Any, recorder: Recorder, statements: Sequence[Statement]) -> None:
        self.pool = pool
        self.recorder = recorder
        self.statements = tuple(statements)
        self.limit: float | None = None
        self.shell = powershell.PowerShell(pool)

    def spell(self) -> None:
        """Give all commands to pypsrp, which then writes the message itself."""
        for position, statement in enumerate(self.statements):
            if position:
                self.shell.add_statement()
            for call in statement:
                self.shell.add_cmdlet(call.cmdlet)
                for name, value in call.parameters.items():
                    self.shell.add_parameter(name, wire(value))

    def run(self) -> Outcome:
        """Run it to its end. Raises what the transport raises, TimeoutError after ``limit`` seconds."""
        self.recorder.begin()
        self.pool.connection.transport.begin()
        end = None if self.limit is None else time.monotonic() + self.limit
        self.recorder.prepared = self._message()
        try:
            self.shell.begin_invoke()
        finally:
            self.recorder.prepared = None
        while self.shell.state == complex_objects.PSInvocationState.RUNNING:
            if end is not None and time.monotonic() > end:
                raise TimeoutError(f"the pipeline ran for more than {self.limit} seconds")
            self.shell.poll_invoke()
            if self.recorder.prompts:
                self.shell.stop()
        events = tuple((kind, decode(xml) if kind == OUTPUT else error_record(decode(xml))) for kind, xml in self.recorder.events)
        return Outcome(events, self.shell.state != complex_objects.PSInvocationState.COMPLETED, bool(self.recorder.prompts))

    def _message(self) -> bytes | None:
        """Return the message that creates it; None where pypsrp has to write it."""
        if ready(self.pool):
            try:
                message = create_pipeline(self.statements, wire, self.recorder._serialize_string)  # pylint: disable=protected-access
            except Unwritable:
                pass
            else:
                self.shell.add_cmdlet(self.statements[0][0].cmdlet)  # pypsrp begins none without a command
                return message
        self.spell()
        return None

    def terminate(self) -> None:
        """Tell the server that the finished pipeline is not needed any more."""
        command = self.shell._command_id or self.shell.id  # pylint: disable=protected-access
        self.pool.shell.signal(powershell.SignalCode.TERMINATE, command)
        self.pool.pipelines.pop(self.shell.id, None)


def wire(value: Any) -> Any:
    """Return a value in the type that pypsrp sends as meant: bytes as BA, bool as B, list as LST, None as Nil."""
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        number = int(value)
        return number if -(2**31) <= number < 2**31 else serializer.TaggedValue("I64", number)
    if isinstance(value, bytes):
        return bytes(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return {wire(key): wire(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [wire(item) for item in value]
    return value


def error_record(message: Any) -> ErrorRecord:
    """Return the error record of a decoded ERROR_RECORD or PIPELINE_STATE message (MS-PSRP 2.2.2.20, 2.2.2.21)."""
    found = message.get("ExceptionAsErrorRecord") if isinstance(message, PSObject) and message.has("ExceptionAsErrorRecord") else message
    if not isinstance(found, PSObject):
        return ErrorRecord((word(found) or "")[:MAX_MESSAGE] or "an error without a text", "", CATEGORIES[0], "", "")
    exception = found.get("Exception")
    name = exception.type_names[0] if isinstance(exception, PSObject) and exception.type_names else word(found.get("ErrorCategory_Reason")) or ""
    said = exception.get("Message") if isinstance(exception, PSObject) else exception
    shown = word(found.get("ErrorDetails_Message")) or word(said) or found.to_string or ""
    number = found.get("ErrorCategory_Category")
    category = CATEGORIES[number] if isinstance(number, int) and 0 <= number < len(CATEGORIES) else CATEGORIES[0]
    target = word(found.get("TargetObject")) or word(found.get("ErrorCategory_TargetName")) or ""
    fqid = word(found.get("FullyQualifiedErrorId")) or ""
    return ErrorRecord(shown[:MAX_MESSAGE], fqid[:MAX_MESSAGE], category, name[:MAX_MESSAGE].removeprefix("Deserialized."), target[:MAX_MESSAGE])
