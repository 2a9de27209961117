# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One HTTP connection: its logon, its requests, and the faults that happen at a message.

A handler object is a TCP connection, so NTLM state lives here. A response leaves in one write and Nagle is off: headers and
body apart cost 40 ms each (WINRM.md A).
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import time
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from lab import auth, damage, soap
from lab.kernel import LabRefusal
from lab.pipeline import refuse
from lab.shells import Trace

if TYPE_CHECKING:
    from lab.faults import Fault
    from lab.httpd import Listener


class Dropped(Exception):
    """The connection ends here without an answer."""


class Handler(BaseHTTPRequestHandler):
    """One connection: its logon, its requests."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    server: Listener
    timeout = 300

    def setup(self) -> None:
        """Finish the TLS handshake in this thread."""
        if isinstance(self.request, ssl.SSLSocket):
            self.request.settimeout(30)
            self.request.do_handshake()
        super().setup()
        listener = self.server
        modes = listener.auth_modes()
        self.logon = auth.Connection(listener.machine.users, listener.wire.credentials(listener.machine), modes, listener.tls, listener.bindings)
        self.trace = Trace()
        self.user = ""
        self.bytes_in = 0

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent; the access log has what matters."""

    def version_string(self) -> str:
        """Return the Server header."""
        return "Microsoft-HTTPAPI/2.0" if self.server.endpoint.startswith("wsman") else "Microsoft-IIS/10.0"

    def do_POST(self) -> None:
        """Serve a POST: WS-Management or IIS."""
        self.serve()

    do_GET = do_HEAD = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = do_POST

    # One request

    def serve(self) -> None:
        """Read the request, answer it, log it."""
        self.trace = Trace(action=self.command)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.bytes_in = len(body) + len(self.requestline) + 4 + sum(len(name) + len(value) + 4 for name, value in self.headers.items())
        path = self.path.partition("?")[0].rstrip("/").lower()
        listener = self.server
        if listener.wire.delay:
            time.sleep(listener.wire.delay)
        try:
            if listener.wire.unreachable(listener.machine):
                raise Dropped
            if listener.endpoint.startswith("wsman"):
                if path == "/wsman":
                    self._wsman(body, "host")
                else:
                    self._answer(404, b"", {})
            elif path == "/powershell":
                if self._closed_to_exchange():
                    return
                if getattr(listener.machine, "publishes_exchange", True):
                    self._wsman(body, "exchange")
                else:
                    self._answer(404, b"", {})  # only the Mailbox role publishes it
            else:
                self._web()
        except Dropped:
            self._reset(0)
        except LabRefusal as refusal:
            refuse(listener.wire.fleet, f"{listener.machine.name}: {refusal}")
            self._answer(500, f"LabRefusal: {refusal}".encode(), {"Content-Type": "text/plain"})

    def _wsman(self, body: bytes, endpoint: str) -> None:
        """Authenticate, decrypt, dispatch, encrypt."""
        if self.command != "POST":
            self._answer(405, b"", {"Allow": "POST"})
            return
        if len(body) > soap.MAX_ENVELOPE + 4096:
            raise LabRefusal(f"a request of {len(body)} bytes is larger than MaxEnvelopeSizekb allows; the face of that fault is not known")
        try:
            self.user = self.logon.authenticate(self.headers.get("Authorization"))
            plain, encrypted = self.logon.open(self.headers.get("Content-Type") or "", body)
            if self.headers.get("Authorization") and getattr(self.server.wire.fleet.access_log, "keep", True):
                listener = self.server
                getattr(listener.wire.fleet, "logons", []).append((listener.machine.name, listener.endpoint, self.logon.mechanism))
        except auth.Refused as refused:
            self._unauthorized(refused.headers, refused.first)
            return
        except auth.Unencrypted:
            self._answer(500, b"", {})
            return
        except auth.Undecipherable:
            self.close_connection = True
            self._answer(400, b"", {"Connection": "close"})
            return
        if not plain:
            self._answer(200, b"", {})
            return
        try:
            request = soap.parse(plain)
        except soap.NotSoap:
            self._answer(400, b"", {})
            return
        self._message(request, endpoint, encrypted)

    def _closed_to_exchange(self) -> bool:
        """Answer for IIS where the virtual directory /PowerShell is gone or requires TLS; looked at once per logon."""
        listener = self.server
        if self.logon.user is not None:
            return False
        iis: Any = getattr(listener.machine, "iis", None)
        if hasattr(iis, "publishes") and not iis.publishes("/powershell"):
            self._answer(404, b"", {})
        elif getattr(listener.machine, "exchange_requires_tls", False) and not listener.tls:
            self._answer(403, b"<html><body><h2>403 - Forbidden: Access is denied.</h2></body></html>", {"Content-Type": "text/html"})
        else:
            return False
        return True

    def _message(self, request: soap.Request, endpoint: str, encrypted: bool) -> None:
        """Do one message, with the faults that are due at it."""
        listener = self.server
        machine, wire = listener.machine, listener.wire
        self.trace.action = request.action
        due = {item.name: item for item in wire.faults.message(machine.name, endpoint, request.action)}
        if "slow" in due:
            time.sleep(float(due["slow"].options.get("seconds", 1)))
        if "reboot" in due:
            wire.reboot(machine, float(due["reboot"].options.get("seconds", 0)), spare=self.connection)
            raise Dropped
        if "refuse" in due:
            wire.close_ports(machine, spare=self.connection)
            raise Dropped
        if "reset" in due:
            listener.abrupt(self.connection)
            raise Dropped
        if "drop-before" in due:
            raise Dropped
        if "stall-before" in due:
            self._stall(due["stall-before"])
        if "http-401" in due:
            self.logon.forget()
            self._unauthorized(self.logon.challenge(), True)
            return
        status = 200
        try:
            if "http-500" in due:
                raise soap.Fault(int(due["http-500"].options.get("code", 2150858752)))
            denied = next((name for name in ("quota", "session-budget") if name in due), "")
            answer = wire.services[machine.name].handle(request, self.user, endpoint, self.client_address[0], self.trace, denied, self.logon.delegated)
        except soap.Fault as fault:
            status = 500
            answer = soap.fault(request.message_id, fault.code, fault.message, str(getattr(machine, "fqdn", machine.name)), fault.provider)
        if "drop-after" in due or "stall-after" in due:
            for pipeline in self.trace.started:
                if pipeline.thread is not None:
                    pipeline.thread.join(60)
            if "stall-after" in due:
                self._stall(due["stall-after"])
            raise Dropped
        if "wrong-relates-to" in due:
            answer = answer.replace(request.message_id.encode(), b"uuid:00000000-0000-0000-0000-000000000000")
        for name, change in damage.KINDS.items():
            if name in due:
                answer = change(answer)
        headers = {"Content-Type": "application/soap+xml;charset=UTF-8"}
        if encrypted:
            headers["Content-Type"], answer = self.logon.seal(answer, spaced=endpoint == "exchange")
        self._answer(status, answer, headers, cut="truncate" in due)

    def _stall(self, fault: Fault) -> None:
        """Wait until the client gives up, which is when it closes the connection."""
        then = fault.options.get("then")
        if callable(then):
            then()
        select.select([self.connection], [], [], float(fault.options.get("seconds", 60)))
        raise Dropped

    def _web(self) -> None:
        """Let the machine's IIS answer."""
        listener = self.server
        answer = listener.machine.iis.request(self.command, self.path, dict(self.headers.items()))
        if not hasattr(answer, "status"):
            raise Dropped
        headers = answer.headers.items() if hasattr(answer.headers, "items") else answer.headers
        self._answer(int(answer.status), bytes(answer.body or b""), {str(name): str(value) for name, value in headers})

    # Answers

    def _unauthorized(self, challenges: list[str], first: bool) -> None:
        """401 without a body; HTTP.sys closes after the first one, IIS keeps the connection."""
        close = first and self.server.endpoint.startswith("wsman")
        headers = {"Connection": "close"} if close else {}
        self.close_connection = self.close_connection or close
        self._answer(401, b"", headers, challenges)

    def _answer(self, status: int, body: bytes, headers: dict[str, str], challenges: list[str] | None = None, cut: bool = False) -> None:
        """Send one response in one write and log it."""
        self.send_response_only(status)
        given = {name.lower() for name in headers}
        own = {"Server": self.version_string(), "Date": self.date_time_string()}
        for name, value in (*((name, value) for name, value in own.items() if name.lower() not in given), *headers.items()):
            if name.lower() != "content-length":
                self.send_header(name, value)
        for challenge in challenges if challenges is not None else ([self.logon.reply] if self.logon.reply else []):
            self.send_header("WWW-Authenticate", challenge)
        self.send_header("Content-Length", str(len(body)))
        head = sum(len(part) for part in getattr(self, "_headers_buffer", ()))
        self._log(status, head + len(body))  # before the client can know: whoever has the answer finds the record
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        self.wfile.flush()
        if cut:
            self._reset(None)

    def _reset(self, status: int | None) -> None:
        """End the connection as a reset; ``status`` None: the request is already logged."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if status is not None:
            self._log(status, 0)

    def _log(self, status: int, bytes_out: int) -> None:
        listener = self.server
        record = {
            "server": listener.machine.name,
            "endpoint": listener.endpoint,
            "action": self.trace.action,
            "cmdlets": list(self.trace.cmdlets),
            "write": self.trace.write,
            "bytes_in": self.bytes_in,
            "bytes_out": bytes_out,
            "status": status,
        }
        listener.wire.fleet.access_log.write(record)

    def handle(self) -> None:
        """Serve requests until the peer goes away."""
        with contextlib.suppress(ConnectionError, TimeoutError, ssl.SSLError):
            super().handle()

    def finish(self) -> None:
        """Close the files of the connection; a peer that went away is no error."""
        with contextlib.suppress(OSError, ValueError):
            super().finish()
