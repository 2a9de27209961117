# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the statements of one pipeline with the batch behaviour of Windows PowerShell 5.1 (CMDLETS.md 9).

A batch is neither a transaction nor a reliable sequence: after a terminating error the remaining statements still run,
while what the client sees depends on the position of the failing one.
"""

from __future__ import annotations

import dataclasses
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from lab.accesslog import Ran
from lab.binder import Binder, class_of
from lab.cmdlets_exchange import visible as granted
from lab.jea import Capability
from lab.kernel import REGISTRY, Definition, ErrorInfo, Invocation, LabRefusal, Obj, Terminating

OBJECT_NOT_FOUND = 13
PARSER_ERROR = 17
NO_LANGUAGE_TEXT = "The syntax is not supported by this runspace. This can occur if the runspace is in no-language mode."


@dataclasses.dataclass(frozen=True)
class CommandLine:
    """One command as the client sent it; ``merged`` says that it wants its errors on the output stream."""

    name: str
    arguments: tuple[tuple[str | None, Any], ...] = ()
    is_script: bool = False
    merged: bool = False


class Runspace:
    """What outlives a pipeline: variables, loaded snap-ins, who is logged on, and how much of the language there is."""

    def __init__(self, fleet: Any, machine: Any, endpoint: str, user: str, language_mode: str, capability: Capability | None = None) -> None:
        self.fleet = fleet
        self.machine = machine
        self.endpoint = endpoint
        self.user = user
        self.language_mode = language_mode
        #: what a JEA endpoint lets a session see; None where no role capability stands behind it
        self.capability = capability
        self.endpoints: list[str] = [endpoint]
        self.variables: dict[str, Any] = {}
        #: the URL of the endpoint as the client wrote it, with its query (serializationLevel)
        self.url = ""
        #: whether this session can log on elsewhere as its user
        self.delegated = False
        self.stopping = threading.Event()

    def find(self, name: str) -> Definition | None:
        """Return the definition of a cmdlet that this runspace can see, or None."""
        visible = getattr(self.machine, "visible_commands", None)
        if self.endpoint == "host" and self.language_mode == "NoLanguage" and visible is not None and name.lower() not in {item.lower() for item in visible}:
            return None
        for endpoint in self.endpoints:
            definition = REGISTRY.get((endpoint, name.lower()))
            if definition is None:
                continue
            if self.capability is not None and endpoint == "host":
                return self.capability.shown(definition)
            # Exchange's own endpoint has only what the user's roles hold; a snap-in in the host's session asks for no role.
            if self.endpoint == "exchange" and endpoint == "exchange" and not granted(self.fleet, self.user, name):
                return None
            if self.language_mode in definition.languages:
                return definition
        return None


class Sink(Protocol):
    """Where a pipeline writes; ``state`` is Completed, Failed or Stopped, sent once."""

    def output(self, value: Any) -> None:
        """Send an object."""

    def error(self, info: ErrorInfo) -> None:
        """Send an error record."""

    def state(self, state: str, error: ErrorInfo | None = None) -> None:
        """Send the final state."""


class Stopped(Exception):
    """The client stopped the pipeline."""


class ActionStop(Exception):
    """A non-terminating error met ErrorAction Stop."""

    def __init__(self, info: ErrorInfo) -> None:
        super().__init__(info.message)
        self.info = info


def refuse(fleet: Any, text: str) -> None:
    """Record that the lab was asked for something it does not know, where tests look for it."""
    refusals = getattr(fleet, "refusals", None)
    if refusals is not None:
        refusals.append(text)


def statements_of(commands: Sequence[tuple[CommandLine, bool]]) -> list[list[CommandLine]]:
    """Split commands at their end-of-statement marks."""
    statements: list[list[CommandLine]] = [[]]
    for command, end in commands:
        statements[-1].append(command)
        if end:
            statements.append([])
    return [statement for statement in statements if statement]


def static_view(runspace: Runspace, statements: Sequence[Sequence[CommandLine]]) -> tuple[list[str], bool]:
    """Return the names of all commands and whether any of them would change the server, without running anything."""
    names: list[str] = []
    write = False
    for command in (command for statement in statements for command in statement):
        names.append("<script>" if command.is_script else command.name)
        definition = None if command.is_script else runspace.find(command.name)
        if definition is not None:
            try:
                write = write or definition.write(Binder(definition, runspace.endpoint).bind(command.arguments, piped=True))
            except (Terminating, LabRefusal):
                continue
    return names, write


def rewrapped(value: Any) -> Any:
    """Return an object as a proxy of JEA writes it: wrapped once more, its notes repeated (recorded: test_psrp_with_jea_configuration, message 5)."""
    return Obj(types=value.types, to_string=value.to_string, notes=value.notes, value=value) if isinstance(value, Obj) else value


class Runner:
    """Runs one pipeline to its end, in the thread that calls it."""

    def __init__(self, runspace: Runspace, sink: Sink) -> None:
        self._runspace = runspace
        self._sink = sink
        self._closed = False
        self._lost = False

    def run(self, statements: Sequence[Sequence[CommandLine]], pipeline_input: Iterable[Any] = ()) -> None:
        """Run the statements; the sink gets output, errors and exactly one state."""
        count = len(statements)
        try:
            for index, statement in enumerate(statements, start=1):
                if any(command.is_script for command in statement):
                    self._state("Failed", self._script(statement))
                    return
                try:
                    self._statement(statement, pipeline_input if index == 1 else ())
                except ActionStop as stop:
                    self._state("Failed", stop.info)
                    return
                except Terminating as error:
                    if index == 1 and count > 1:
                        self._error(error.info)
                    else:
                        self._state("Failed", error.info)
                    if index == 1 and count > 2:
                        self._lost = True
                if index == 2 and self._lost:
                    self._state("Completed")
        except Stopped:
            self._state("Stopped", ErrorInfo("The pipeline has been stopped.", "PipelineStopped", 14, "System.Management.Automation.PipelineStoppedException"))
            return
        self._state("Completed")

    def _state(self, state: str, error: ErrorInfo | None = None) -> None:
        if not self._closed:
            self._closed = True
            self._sink.state(state, error)

    def _output(self, value: Any) -> None:
        if not self._closed:
            self._sink.output(value)

    def _error(self, info: ErrorInfo) -> None:
        if not self._closed:
            self._sink.error(info)

    def _script(self, statement: Sequence[CommandLine]) -> ErrorInfo:
        text = next(command.name for command in statement if command.is_script)
        return ErrorInfo(NO_LANGUAGE_TEXT, "ScriptsNotAllowed", PARSER_ERROR, "System.Management.Automation.ParseException", text)

    def _statement(self, statement: Sequence[CommandLine], pipeline_input: Iterable[Any]) -> None:
        """Bind every command, then pull objects through the chain under the machine's lock."""
        runspace = self._runspace
        with runspace.machine.lock:
            self._check_stop()
            parts = []
            for place, command in enumerate(statement):
                definition = runspace.find(command.name)
                if definition is None:
                    self._note_unknown(command.name)
                    self._note_beyond(command.name)
                    text = (
                        f"The term '{command.name}' is not recognized as the name of a cmdlet, function, script file, or operable program. "
                        "Check the spelling of the name, or if a path was included, verify that the path is correct and try again."
                    )
                    kind = "System.Management.Automation.CommandNotFoundException"
                    raise Terminating(ErrorInfo(text, "CommandNotFoundException", OBJECT_NOT_FOUND, kind, command.name, command.name))
                if command.merged:
                    raise self._refusal(definition.name, "the lab does not merge streams")
                try:
                    piped = place > 0 or not isinstance(pipeline_input, tuple)
                    bound = Binder(definition, runspace.endpoint).bind(command.arguments, piped)
                except LabRefusal as refusal:
                    raise self._refusal(definition.name, str(refusal)) from None
                except Terminating as error:
                    self._note_beyond(f"{definition.name}: {error.info.message}")
                    if runspace.capability is None and error.info.fqid.startswith(("NamedParameterNotFound", "PositionalParameterNotFound")):
                        refuse(runspace.fleet, f"{runspace.machine.name}: {definition.name}: {error.info.message}")
                    raise
                parts.append((definition, bound))
            stream: Iterable[Any] = pipeline_input
            for definition, bound in parts:
                stream = self._start(definition, bound, stream)
            proxied = parts[-1][0].proxy
            for value in stream:
                self._check_stop()
                self._output(rewrapped(value) if proxied else value)

    def _start(self, definition: Definition, bound: dict[str, Any], stream: Iterable[Any]) -> Iterator[Any]:
        runspace = self._runspace
        default = str(runspace.variables.get("erroractionpreference", "Continue"))
        action = str(bound.get("ErrorAction", default)).lower()
        parameters = {name: value for name, value in bound.items() if name not in ("ErrorAction", "WarningAction", "Verbose")}
        invocation = Invocation(runspace.machine, parameters, stream, self._reporter(definition, action), runspace)
        log = getattr(runspace.fleet, "access_log", None)
        if log is not None and hasattr(log, "ran"):
            log.ran(Ran(runspace.machine.name, runspace.endpoint, runspace.user, definition.name, parameters, definition.write(bound)))
        return self._guard(definition, invocation)

    def _reporter(self, definition: Definition, action: str) -> Callable[[ErrorInfo], None]:
        def report(info: ErrorInfo) -> None:
            info = self._named(info, definition)
            if action == "stop":
                raise ActionStop(info)
            if action not in ("silentlycontinue", "ignore"):
                self._error(info)

        return report

    def _guard(self, definition: Definition, invocation: Invocation) -> Iterator[Any]:
        """Run a body; name the cmdlet in its errors, and make everything unexpected a refusal that tests see."""
        try:
            for value in definition.body(invocation):
                self._check_stop()
                yield value
        except Terminating as error:
            raise Terminating(self._named(error.info, definition)) from error
        except LabRefusal as refusal:
            raise self._refusal(definition.name, str(refusal)) from refusal
        except (Stopped, ActionStop, GeneratorExit):
            raise
        except Exception as error:
            where = "".join(traceback.format_exception(error)[-3:])
            raise self._refusal(definition.name, f"{type(error).__name__}: {error}\n{where}") from error

    @staticmethod
    def _named(info: ErrorInfo, definition: Definition) -> ErrorInfo:
        if info.fqid == "ProviderNotFound":
            info = dataclasses.replace(info, fqid=f"{info.fqid},{class_of(definition.name)}")
        return info if info.activity else dataclasses.replace(info, activity=definition.name)

    def _refusal(self, name: str, text: str) -> Terminating:
        refuse(self._runspace.fleet, f"{self._runspace.machine.name}: {name}: {text}")
        return Terminating(ErrorInfo(f"The lab refuses {name}: {text}", "LabRefusal", 11, "LabRefusal", name, name))

    def _note_unknown(self, name: str) -> None:
        """A cmdlet that no endpoint has is a gap of the lab; one that this endpoint hides is Windows' own answer."""
        if not any(known == name.lower() for dummy, known in REGISTRY):
            refuse(self._runspace.fleet, f"{self._runspace.machine.name}: unknown cmdlet {name}")

    def _note_beyond(self, what: str) -> None:
        """Record what a JEA endpoint was asked for beyond its capability, where tests look for it."""
        if self._runspace.capability is not None:
            beyond = getattr(self._runspace.fleet, "beyond", [])
            beyond.append(f"{self._runspace.machine.name}: {self._runspace.capability.name}: {what}")

    def _check_stop(self) -> None:
        if self._runspace.stopping.is_set():
            raise Stopped
