# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who receives notices in the tests: a real SMTP server and a real HTTP or HTTPS server, both on loopback."""

from __future__ import annotations

import contextlib
import email
import email.message
import email.policy
import http.server
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

USER, PASSWORD = "exchange-notice", "Pl4nted-Mail-Passw0rd"


class Mailbox:
    """What an SMTP server received. ``refuse``: recipients that it answers 550 to; ``answer`` replaces its answer to DATA."""

    def __init__(self) -> None:
        self.host, self.port = "127.0.0.1", 0
        self.messages: list[email.message.EmailMessage] = []
        self.envelopes: list[tuple[str, list[str], bool, bool]] = []  #: sender, recipients, under TLS, authenticated
        self.refuse: set[str] = set()
        self.answer = "250 taken"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        """Take or refuse a recipient."""
        if address in self.refuse:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Keep a mail."""
        if self.answer.startswith("250"):
            self.messages.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
            secure = server.transport.get_extra_info("ssl_object") is not None
            self.envelopes.append((envelope.mail_from, list(envelope.rcpt_tos), secure, bool(session.authenticated)))
        return self.answer


def body(message: email.message.EmailMessage) -> str:
    """Return the text of a mail."""
    part = message.get_body(("plain",))
    return "" if part is None else str(part.get_content())


@contextlib.contextmanager
def smtp(files: Any = None, encryption: str = "none", auth: bool = False) -> Iterator[Mailbox]:
    """Run an SMTP server; ``files`` is a certificate of the lab's authority, for ``starttls`` and ``tls``."""
    from aiosmtpd.controller import Controller
    from aiosmtpd.smtp import AuthResult

    box = Mailbox()
    context = None
    if files is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.key)

    def authenticator(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> Any:
        right = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=right, handled=right, auth_data=USER if right else None)

    controller = Controller(
        box,
        hostname="127.0.0.1",
        port=0,
        ssl_context=context if encryption == "tls" else None,
        tls_context=context if encryption == "starttls" else None,
        require_starttls=encryption == "starttls",
        auth_required=auth,
        auth_require_tls=encryption == "starttls",
        authenticator=authenticator if auth else None,
    )

    def knock() -> None:
        """Knock at the port that the system chose; the controller would take the one it was given."""
        with socket.create_connection(controller.server.sockets[0].getsockname()[:2], 5):
            pass

    controller._trigger_server = knock  # type: ignore[method-assign]
    controller.start()
    box.port = controller.server.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        controller.stop()


class Inbox:
    """What an HTTP server received. ``statuses`` are answered one by one, then 200; ``retry_after`` goes with every other status."""

    def __init__(self) -> None:
        self.url = ""
        self.posts: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.requests = 0
        self.statuses: list[int] = []
        self.retry_after: str | None = None
        self.location: str | None = None


@contextlib.contextmanager
def web(files: Any = None, path: str = "/hook/Pl4nted-T0ken") -> Iterator[Inbox]:
    """Run an HTTP server, with ``files`` an HTTPS server."""
    box = Inbox()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            box.requests += 1
            status = box.statuses.pop(0) if box.statuses else 200
            if 200 <= status < 300:
                box.posts.append(json.loads(data))
                box.paths.append(self.path)
                box.headers.append(dict(self.headers.items()))
            self.send_response(status)
            if status >= 300 and box.retry_after is not None:
                self.send_header("Retry-After", box.retry_after)
            if box.location is not None:
                self.send_header("Location", box.location)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *arguments: Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if files is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    box.url = f"{'http' if files is None else 'https'}://127.0.0.1:{server.server_address[1]}{path}"
    try:
        yield box
    finally:
        server.shutdown()
        server.server_close()
