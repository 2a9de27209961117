# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shell service of one machine: WinRS shells that only open and close, PSRP shells that run pipelines, quotas and timeouts.

A shell is visible to its owner only. Nothing here knows about HTTP.
"""

from __future__ import annotations

import base64
import dataclasses
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape

from psrpcore import PSRPCoreError

from lab import jea, soap
from lab.kernel import ErrorInfo, LabRefusal
from lab.pipeline import Runner, Runspace, refuse, statements_of, static_view
from lab.psrp import Pipeline, Pool

SHELLS_PER_USER = 30
COMMANDS_PER_SHELL = 1000
MAX_IDLE = 7200.0
UNKNOWN = 2150858843
#: How WinRM passes on that Exchange's own authorization refused (as a signed number -2144108477).
EXCHANGE_DENIED = 2150858819
_counting = threading.Lock()


class SessionBudget:
    """Sessions at the Exchange endpoints of a whole organisation: so many per user (PowerShellMaxConcurrency)."""

    def __init__(self, limit: int = 18) -> None:
        self.limit = limit
        self.most = 0
        self.opened = 0
        self.refused = 0
        self._used: dict[str, int] = {}
        self._lock = threading.Lock()

    def acquire(self, user: str) -> bool:
        """Take one session; False when the user has no more."""
        with self._lock:
            used = self._used.get(user.lower(), 0)
            if used >= self.limit:
                self.refused += 1
                return False
            self._used[user.lower()] = used + 1
            self.opened += 1
            self.most = max(self.most, used + 1)
            return True

    def release(self, user: str) -> None:
        """Give one session back."""
        with self._lock:
            self._used[user.lower()] = max(0, self._used.get(user.lower(), 0) - 1)

    def in_use(self, user: str | None = None) -> int:
        """Return how many sessions a user, or everybody, has open."""
        with self._lock:
            return sum(self._used.values()) if user is None else self._used.get(user.lower(), 0)


@dataclasses.dataclass
class Shell:
    """One shell; ``pool`` and ``runspace`` are there for PSRP, ``commands`` maps CommandId to pipeline."""

    shell_id: str
    owner: str
    uri: str
    endpoint: str
    client: str
    idle: float
    streams: tuple[str, str]
    locale: str = "en-US"
    pool: Pool | None = None
    runspace: Runspace | None = None
    commands: dict[str, Pipeline] = dataclasses.field(default_factory=dict)
    first: bool = True
    born: float = dataclasses.field(default_factory=time.monotonic)
    used: float = dataclasses.field(default_factory=time.monotonic)

    def describe(self, powershell: bool) -> str:
        """Return the rsp:Shell element (recorded)."""
        more = "<rsp:ProcessId>2464</rsp:ProcessId>" if powershell else ""
        tail = (
            "<rsp:MaxIdleTimeOut>PT2147483.647S</rsp:MaxIdleTimeOut><rsp:Locale>en-US</rsp:Locale><rsp:DataLocale>en-US</rsp:DataLocale>"
            "<rsp:CompressionMode>NoCompression</rsp:CompressionMode><rsp:ProfileLoaded>Yes</rsp:ProfileLoaded><rsp:Encoding>UTF8</rsp:Encoding>"
            "<rsp:BufferMode>Block</rsp:BufferMode><rsp:State>Connected</rsp:State>"
            if powershell
            else ""
        )
        return (
            f'<rsp:Shell xmlns:rsp="{soap.SHELL}"><rsp:ShellId>{self.shell_id}</rsp:ShellId><rsp:ResourceUri>{escape(self.uri)}</rsp:ResourceUri>'
            f"<rsp:Owner>{escape(self.owner)}</rsp:Owner><rsp:ClientIP>{self.client}</rsp:ClientIP>{more}"
            f"<rsp:IdleTimeOut>PT{self.idle:.3f}S</rsp:IdleTimeOut><rsp:InputStreams>{escape(self.streams[0])}</rsp:InputStreams>"
            f"<rsp:OutputStreams>{escape(self.streams[1])}</rsp:OutputStreams>{tail}"
            "<rsp:ShellRunTime>P0DT0H0M0S</rsp:ShellRunTime><rsp:ShellInactivity>P0DT0H0M0S</rsp:ShellInactivity></rsp:Shell>"
        )


@dataclasses.dataclass
class Trace:
    """What the access log says about one request."""

    action: str = ""
    cmdlets: list[str] = dataclasses.field(default_factory=list)
    write: bool = False
    started: list[Pipeline] = dataclasses.field(default_factory=list)


class ShellService:
    """All shells of one machine, at its host endpoint and at its Exchange endpoint."""

    def __init__(self, fleet: Any, machine: Any) -> None:
        self.fleet = fleet
        self.machine = machine
        self.shells: dict[str, Shell] = {}
        self._lock = threading.RLock()
        self._offered = jea.endpoints()

    # What the server asks

    def handle(self, request: soap.Request, user: str, endpoint: str, client: str, trace: Trace, denied: str = "", delegated: bool = False) -> bytes:
        """Do what a request asks and return the response envelope; raises soap.Fault. ``denied`` names an armed quota fault."""
        trace.action = request.action
        if request.timeout < 0:
            raise soap.Fault(2150858767)
        if request.action == "Create":
            return soap.response(request, self._create(request, user, endpoint, client, denied, delegated))
        if request.action == "Get" and request.resource_uri == soap.CONFIG_URI:
            return soap.response(request, soap.config_body())
        if request.action in ("Disconnect", "Reconnect", "Connect") or request.action not in soap.ACTIONS.values():
            refuse(self.fleet, f"{self.machine.name}: the lab has no WS-Management action {request.action}")
            raise soap.Fault(2150858817)
        shell = self._shell(request.shell_id, user, endpoint)
        shell.used = time.monotonic()
        try:
            body = getattr(self, f"_{request.action.lower()}")(request, shell, trace)
        finally:
            shell.used = time.monotonic()
        return soap.response(request, body)

    def open_shells(self) -> list[Shell]:
        """Return the shells that are open now."""
        self._expire()
        with self._lock:
            return list(self.shells.values())

    def running(self) -> list[Pipeline]:
        """Return the pipelines that have not ended."""
        with self._lock:
            return [pipeline for shell in self.shells.values() for pipeline in shell.commands.values() if pipeline.ready and not pipeline.finished]

    def vanish(self) -> None:
        """Lose all shells at once, as in a restart."""
        with self._lock:
            shells = list(self.shells.values())
        for shell in shells:
            self._close(shell)

    # Shells

    def _shell(self, shell_id: str, user: str, endpoint: str) -> Shell:
        self._expire()
        with self._lock:
            shell = self.shells.get(shell_id)
        if shell is None or shell.owner.lower() != user.lower() or shell.endpoint != endpoint:
            text = "The WS-Management service cannot process the request because the request contained invalid selectors for the resource. "
            raise soap.Fault(UNKNOWN, text, provider=True)
        return shell

    def _expire(self) -> None:
        now = time.monotonic()
        with self._lock:
            idle = [shell for shell in self.shells.values() if now - shell.used > shell.idle and not self._busy(shell)]
        for shell in idle:
            self._close(shell)

    @staticmethod
    def _busy(shell: Shell) -> bool:
        return any(pipeline.ready and not pipeline.finished for pipeline in list(shell.commands.values()))

    def _close(self, shell: Shell) -> None:
        with self._lock:
            if self.shells.pop(shell.shell_id, None) is None:
                return
        if shell.pool is not None:
            shell.pool.close()
        if shell.endpoint == "exchange":
            self.fleet.sessions.release(shell.owner)

    def _create(self, request: soap.Request, user: str, endpoint: str, client: str, denied: str, delegated: bool) -> str:
        self._expire()
        if endpoint == "exchange":
            self._authorize(user)
        found = self._language(request.resource_uri, endpoint)
        mode = found.language_mode if found is not None else None
        powershell = found is not None
        given = str(request.body.get("ShellId") or "") if request.body is not None else ""
        asked = request.text("rsp:IdleTimeOut")
        shell = Shell(
            shell_id=(given or str(uuid.uuid4())).upper(),
            owner=user,
            uri=request.resource_uri,
            endpoint=endpoint,
            client=client,
            idle=min(soap.duration(asked, MAX_IDLE), 43200.0) if asked else MAX_IDLE,
            streams=(request.text("rsp:InputStreams", "stdin"), request.text("rsp:OutputStreams", "stdout stderr")),
        )
        if found is not None:
            shell.runspace = Runspace(self.fleet, self.machine, endpoint, user, found.language_mode, found.capability)
            shell.runspace.url = request.to
            shell.runspace.delegated = delegated
            shell.pool = Pool(restricted=endpoint == "host" and mode == "NoLanguage")
            opening = request.text("ps:creationXml")
            if not opening:
                raise soap.Fault(87)
            shell.pool.receive(base64.b64decode(opening))
        with self._lock:
            mine = sum(1 for other in self.shells.values() if other.owner.lower() == user.lower() and other.endpoint == "host")
            if denied == "quota" or (endpoint == "host" and mine >= SHELLS_PER_USER):
                raise soap.Fault(2150859173, soap.shells_exceeded(SHELLS_PER_USER))
            if endpoint == "exchange" and (denied == "session-budget" or not self.fleet.sessions.acquire(user)):
                raise soap.Fault(2150859173, soap.shells_exceeded(self.fleet.sessions.limit))
            if shell.shell_id in self.shells:
                if endpoint == "exchange":
                    self.fleet.sessions.release(user)
                raise soap.Fault(2150858752, "A shell with this identifier exists already. ")
            self.shells[shell.shell_id] = shell
        return (
            f"<x:ResourceCreated><a:Address>{escape(request.to)}</a:Address><a:ReferenceParameters>"
            f"<w:ResourceURI>{escape(request.resource_uri)}</w:ResourceURI><w:SelectorSet>"
            f'<w:Selector Name="ShellId">{shell.shell_id}</w:Selector></w:SelectorSet></a:ReferenceParameters></x:ResourceCreated>' + shell.describe(powershell)
        )

    def _authorize(self, user: str) -> None:
        """Refuse who may not use Exchange's remote PowerShell at all; raises the fault."""
        known = user.lower()
        name = f"lab.example/Users/{user.rpartition(chr(92))[2]}"
        if known in {item.lower() for item in getattr(self.fleet, "no_remote_powershell", ())}:
            stamp = f"[Server={self.machine.name},RequestId={uuid.uuid4()},TimeStamp=11/1/2026 3:15:00 AM] "
            raise soap.Fault(EXCHANGE_DENIED, f"{stamp}Access is denied. ")
        roles = getattr(self.fleet, "roles", None)
        if roles is not None and known not in roles:
            failure = f"[AuthZRequestId={uuid.uuid4()}][FailureCategory=AuthZ-CmdletAccessDeniedException] "
            raise soap.Fault(EXCHANGE_DENIED, f'{failure}The user "{name}" isn\'t assigned to any management roles. ')

    def _language(self, uri: str, endpoint: str) -> jea.Endpoint | None:
        """Return the session configuration, None for the command shell; raises the fault of an unknown URI."""
        name = uri[len(soap.POWERSHELL_URI) :] if uri.startswith(soap.POWERSHELL_URI) else ""
        if endpoint == "exchange" and name.lower() == "microsoft.exchange":
            return jea.Endpoint(name, "NoLanguage")
        if endpoint == "host" and uri == soap.CMD_URI:
            return None
        if endpoint == "host" and name:
            default = {"Microsoft.PowerShell": getattr(self.machine, "language_mode", "FullLanguage")}
            for known, mode in (getattr(self.machine, "configurations", None) or default).items():
                if known.lower() == name.lower():
                    return jea.Endpoint(known, str(mode))
            if name.lower() in self._offered:
                return self._offered[name.lower()]
        raise soap.Fault(2150858811)

    # Actions: each returns the body of the response

    def _get(self, dummy_request: soap.Request, shell: Shell, dummy_trace: Trace) -> str:
        return shell.describe(shell.pool is not None).replace(
            "</rsp:Shell>", "<rsp:MemoryUsed>58MB</rsp:MemoryUsed><rsp:ChildProcesses>0</rsp:ChildProcesses></rsp:Shell>"
        )

    def _delete(self, dummy_request: soap.Request, shell: Shell, dummy_trace: Trace) -> str:
        self._close(shell)
        return ""

    def _command(self, request: soap.Request, shell: Shell, trace: Trace) -> str:
        if shell.pool is None:
            trace.cmdlets = ["<script>"]
            self._count_script(f"command line {request.text('rsp:Command')[:60]}")
            raise soap.Fault(2147942405, "The lab runs no command lines: nothing but cmdlets with typed parameters may cross the wire. ")
        if len(shell.commands) >= COMMANDS_PER_SHELL:
            raise soap.Fault(2150859241)
        data = base64.b64decode(request.text("rsp:Arguments"))
        pipeline = shell.pool.create(data)
        command_id = str(request.body.get("CommandId") or pipeline.pid).upper()
        shell.commands[command_id] = pipeline
        bench = getattr(self.fleet, "bench", None)
        if bench is None or not bench.take(self.machine.name, shell.endpoint, pipeline, data, trace):
            self._take_in(shell, data, trace)
            if bench is not None and trace.write:
                bench.forget(pipeline)
        return f"<rsp:CommandResponse><rsp:CommandId>{command_id}</rsp:CommandId></rsp:CommandResponse>"

    def _send(self, request: soap.Request, shell: Shell, trace: Trace) -> str:
        streams = request.body.xpath("rsp:Stream", namespaces=soap.NS) if request.body is not None else []
        for stream in streams:
            command_id = str(stream.get("CommandId") or "").upper()
            if shell.pool is None or (command_id and command_id not in shell.commands):
                raise soap.Fault(UNKNOWN)
            data = base64.b64decode(stream.text or "")
            if command_id and shell.commands[command_id].wrapper:
                self.fleet.bench.feed(shell.commands[command_id], data)
            else:
                self._take_in(shell, data, trace)
        return "<rsp:SendResponse/>"

    def _receive(self, request: soap.Request, shell: Shell, dummy_trace: Trace) -> str:
        wanted = request.body.xpath("rsp:DesiredStream", namespaces=soap.NS) if request.body is not None else []
        if shell.pool is None or not wanted:
            raise soap.Fault(87)
        command_id = str(wanted[0].get("CommandId") or "").upper()
        pipeline = shell.commands.get(command_id)
        if command_id and (pipeline is None or pipeline.done_sent):
            raise soap.Fault(UNKNOWN)
        if not shell.pool.wait(pipeline, request.timeout):
            raise soap.Fault(995 if shell.pool.closed else 2150858793)
        label = f' CommandId="{command_id}"' if command_id else ""
        with shell.pool.changed:
            outbox = pipeline.outbox if pipeline is not None else shell.pool.outbox
            fragments = outbox.take(min(request.max_envelope, soap.MAX_ENVELOPE) - 3000)
            body = "".join(f'<rsp:Stream Name="stdout"{label}>{base64.b64encode(fragment).decode("ascii")}</rsp:Stream>' for fragment in fragments)
            if pipeline is not None and pipeline.finished and not pipeline.outbox:
                pipeline.done_sent = True
                body += f'<rsp:CommandState{label} State="{soap.SHELL}/CommandState/Done"><rsp:ExitCode>0</rsp:ExitCode></rsp:CommandState>'
        return f"<rsp:ReceiveResponse>{body}</rsp:ReceiveResponse>"

    def _signal(self, request: soap.Request, shell: Shell, dummy_trace: Trace) -> str:
        command_id = str(request.body.get("CommandId") or "").upper() if request.body is not None else ""
        code = request.text("rsp:Code").lower()
        pipeline = shell.commands.get(command_id)
        if pipeline is None or shell.pool is None:
            raise soap.Fault(UNKNOWN)
        pipeline.stopping.set()
        if not pipeline.finished and pipeline.thread is not None:
            pipeline.thread.join(2)
        if not pipeline.finished:
            pipeline.state("Stopped")
        if code.endswith("/terminate"):
            shell.commands.pop(command_id, None)
            shell.pool.forget(pipeline)
        return "<rsp:SignalResponse/>"

    # Pipelines

    def _take_in(self, shell: Shell, data: bytes, trace: Trace) -> None:
        """Give fragments to the pool and start what became ready; what the lab cannot read fails the request."""
        if shell.pool is None or shell.runspace is None:
            raise soap.Fault(UNKNOWN)
        try:
            ready = shell.pool.receive(data)
        except (LabRefusal, ValueError, PSRPCoreError) as error:
            refuse(self.fleet, f"{self.machine.name}: {type(error).__name__}: {error}")
            raise soap.Fault(2150858752, f"LabRefusal: {error}") from None
        for pipeline in ready:
            statements = statements_of(pipeline.commands)
            names, write = static_view(shell.runspace, statements)
            trace.cmdlets.extend(names)
            trace.write = trace.write or write
            if "<script>" in names:
                self._count_script("pipeline " + " ".join(names))
            trace.started.append(pipeline)
            pipeline.thread = threading.Thread(target=self._run, args=(shell, pipeline, statements), daemon=True)
            pipeline.thread.start()

    def _count_script(self, what: str) -> None:
        with _counting:
            self.fleet.scripts_received = int(getattr(self.fleet, "scripts_received", 0)) + 1
        refuse(self.fleet, f"{self.machine.name}: script refused: {what}")

    def _run(self, shell: Shell, pipeline: Pipeline, statements: Any) -> None:
        runspace = shell.runspace
        if runspace is None:
            return
        if shell.first:
            shell.first = False
            if runspace.language_mode != "NoLanguage":
                pipeline.progress("Preparing modules for first use.")
        view = _View(runspace, pipeline)
        try:
            Runner(view, pipeline).run(statements, iter(pipeline.input) if not pipeline.no_input else ())
        except LabRefusal as refusal:
            refuse(self.fleet, f"{self.machine.name}: {refusal}")
            pipeline.state("Failed", ErrorInfo(f"The lab refuses: {refusal}", "LabRefusal", 11, "LabRefusal"))


class _View(Runspace):
    """A runspace as one pipeline sees it: everything is shared but the stop signal."""

    def __init__(self, runspace: Runspace, pipeline: Pipeline) -> None:
        self.__dict__ = dict(runspace.__dict__)
        self.stopping = pipeline.stopping


def each(services: dict[str, ShellService]) -> Iterator[tuple[str, Shell]]:
    """Yield machine name and shell of everything that is open."""
    for name, service in services.items():
        for shell in service.open_shells():
            yield name, shell
