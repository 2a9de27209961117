# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's Office Config Service: publishes signed documents and serves them over TLS, with switchable faults and counted fetches."""

from __future__ import annotations

import dataclasses
import datetime
import http.server
import pathlib
import ssl
import threading
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from . import document
from .kernel import LabRefusal
from .pki import RELEASED, Pki

PATH = "/GetExchangeMitigations"
CONTENT_TYPE = "application/xml; charset=utf-8"

#: What the feed server can do wrong, by name.
FAULTS = {
    "feed-content-type": "answers with text/html, as a captive portal does",
    "feed-redirect": "answers 302 to another path",
    "feed-huge": "never stops sending",
    "feed-slow": "sends one byte a second",
    "feed-404": "answers 404",
    "feed-500": "answers 500",
    "feed-truncated": "closes the connection in the middle of the document",
    "feed-forged": "serves a document with one byte of its content changed",
    "feed-unsigned": "serves the document without its signature",
}


@dataclasses.dataclass(frozen=True)
class Published:
    """A published document: its bytes, the Configs in it and when it was signed and released."""

    data: bytes
    configs: tuple[document.Config, ...]
    version: str
    signed_at: datetime.datetime

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of its Configs."""
        return tuple(config.id for config in self.configs)


def default_configs(m1: str = "nested", m2: str = "json") -> tuple[document.Config, ...]:
    """Return the Configs of the lab's first document; the arguments are shapes of ``document.SHAPES``."""
    return (
        document.ping(),
        document.config("M1", "URL Rewrite mitigation for CVE-2022-41040", m1),
        document.config("M2", "URL Rewrite mitigation for CVE-2026-42897", m2),
    )


class Feed:
    """The published document and the server that answers with it. Not started by the constructor."""

    def __init__(self, pki: Pki, folder: pathlib.Path, log: Callable[[dict[str, Any]], None] | None = None, address: str = "127.0.0.1", port: int = 0) -> None:
        self.pki = pki
        self.folder = folder
        self.fault: str | None = None
        self._log = log or (lambda dummy: None)
        self._address = (address, port)
        self._server: _Server | None = None
        self._lock = threading.Lock()
        self._fetches = 0
        folder.mkdir(parents=True, exist_ok=True)
        self.published = self.make()
        self._store()

    # -- documents

    def make(
        self,
        configs: Iterable[document.Config] | None = None,
        version: str = "1.0.4",
        signer: str = "good",
        signed_at: datetime.datetime = RELEASED,
        stamped: bool = True,
        foreign_timestamp: bool = False,
        imprint: bytes | None = None,
    ) -> Published:
        """Return a signed document without publishing it; ``signer`` is one of ``pki.SIGNERS``."""
        chosen = tuple(default_configs() if configs is None else configs)
        authority = None
        if stamped:
            authority = self.pki.foreign_timestamper() if foreign_timestamp else self.pki.timestamper(signed_at)
        data = document.sign(document.unsigned(chosen, version), self.pki.signer(signer), signed_at, authority, imprint)
        return Published(data, chosen, version, signed_at)

    def publish(
        self, configs: Iterable[document.Config] | None = None, version: str = "1.0.4", signed_at: datetime.datetime | None = None, **options: Any
    ) -> Published:
        """Serve another document from now on; without ``signed_at`` it is signed now, which old EM services cannot read (FACTS.md 3)."""
        at = signed_at or datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
        made = self.make(configs, version, signed_at=at, **options)
        with self._lock:
            self.published = made
        self._store()
        return made

    def expired(self) -> Published:
        """Return a document whose signer has expired and whose timestamp lies in the signer's time: as the real one is today."""
        return self.make(signer="expired", signed_at=datetime.datetime(2025, 3, 4, 5, 6, 7, tzinfo=datetime.timezone.utc))

    def shaped(self, shape: str) -> Published:
        """Return a document whose M1 and M2 both have one invented shape."""
        return self.make(default_configs(shape, shape))

    def _store(self) -> None:
        (self.folder / "feed.xml").write_bytes(self.published.data)

    # -- server

    @property
    def fetches(self) -> int:
        """How many GET requests for the document came over TLS."""
        with self._lock:
            return self._fetches

    @property
    def url(self) -> str:
        """The document's address."""
        return f"https://{self._address[0]}:{self.port}{PATH}"

    @property
    def port(self) -> int:
        """The port the server listens on."""
        if self._server is None:
            raise LabRefusal("the feed server is not started")
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Listen and answer in a thread of its own."""
        files = self.pki.server("feed", ["officeclient.lab.example"], ["127.0.0.1"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(files.certificate, files.key)
        self._server = _Server(self._address, _Handler)
        self._server.feed = self
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="lab-feed", daemon=True).start()

    def stop(self) -> None:
        """Close the listener; answers under way are cut."""
        if self._server is not None:
            self._server.stopping.set()
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def note(self, status: int, received: int, sent: int, counted: bool) -> None:
        """Count and log a request."""
        with self._lock:
            self._fetches += counted
        record = {"server": "feed", "endpoint": "feed", "action": "GET", "cmdlets": [], "write": False}
        self._log({**record, "bytes_in": received, "bytes_out": sent, "status": status})

    def body(self, path: str) -> bytes | None:
        """Return the document for a path: the published one, or one with a given shape below /shapes."""
        if path.lower() == PATH.lower():
            with self._lock:
                data = self.published.data
            if self.fault == "feed-forged":
                return data.replace(b'desc="EEMS', b'desc="FEMS', 1)
            if self.fault == "feed-unsigned":
                return document.unsigned(self.published.configs, self.published.version)
            return data
        if path.startswith("/shapes/") and path[8:] in document.SHAPES:
            return self.shaped(path[8:]).data
        return None


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256
    feed: Feed

    def __init__(self, address: tuple[str, int], handler: type[http.server.BaseHTTPRequestHandler]) -> None:
        self.stopping = threading.Event()
        super().__init__(address, handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that does not trust the certificate or goes away is no fault of the lab."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "Microsoft-HTTPAPI/2.0"
    sys_version = ""
    wbufsize = -1
    timeout = 60
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(10)
        self.request.do_handshake()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing goes to the console; the access log has it."""

    def do_GET(self) -> None:
        feed = self.server.feed
        fault = feed.fault
        path = self.path.partition("?")[0]
        body = feed.body(path)
        wanted = path.lower() == PATH.lower()
        if body is None or fault == "feed-404":
            self._answer(404, b"<html><body>Not Found</body></html>", "text/html", wanted)
        elif fault == "feed-500":
            self._answer(500, b"<html><body>Internal Server Error</body></html>", "text/html", wanted)
        elif fault == "feed-redirect":
            self._answer(302, b"", "text/html", wanted, {"Location": "/elsewhere"})
        elif fault == "feed-content-type":
            self._answer(200, b"<html><body>Welcome to the guest network</body></html>", "text/html; charset=utf-8", wanted)
        elif fault == "feed-truncated":
            self._begin(200, CONTENT_TYPE, len(body))
            self._cut(body[: len(body) // 2], wanted)
        elif fault == "feed-huge":
            self._endless(body, wanted)
        elif fault == "feed-slow":
            self._drip(body, wanted)
        else:
            self._answer(200, body, CONTENT_TYPE, wanted)

    def _note(self, status: int, sent: int, counted: bool) -> None:
        received = len(self.requestline) + 4 + sum(len(name) + len(value) + 4 for name, value in self.headers.items())
        self.server.feed.note(status, received, sent, counted)

    def _begin(self, status: int, kind: str, length: int | None, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        office = {"X-CorrelationId": str(uuid.uuid4()), "X-OfficeFE": "LabFrontEnd", "X-OfficeVersion": "16.0.0.0", "X-OfficeCluster": "lab", "Expires": "-1"}
        for name, value in {"Cache-Control": "no-cache", "Content-Type": kind, **office, **(headers or {})}.items():
            self.send_header(name, value)
        if length is None:
            self.send_header("Connection", "close")
            self.close_connection = True
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _answer(self, status: int, body: bytes, kind: str, counted: bool, headers: dict[str, str] | None = None) -> None:
        self._note(status, len(body), counted)
        self._begin(status, kind, len(body), headers)
        self.wfile.write(body)
        self.wfile.flush()

    def _cut(self, part: bytes, counted: bool) -> None:
        self._note(200, len(part), counted)
        self.wfile.write(part)
        self.wfile.flush()
        self.close_connection = True

    def _endless(self, body: bytes, counted: bool) -> None:
        self._note(200, 0, counted)
        self._begin(200, CONTENT_TYPE, None)
        block = b" " * 65536
        self.wfile.write(body[: -len(b"</EOCS>")])
        while not self.server.stopping.is_set():
            self.wfile.write(block)

    def _drip(self, body: bytes, counted: bool) -> None:
        self._note(200, 0, counted)
        self._begin(200, CONTENT_TYPE, len(body))
        for offset in range(len(body)):
            self.wfile.write(body[offset : offset + 1])
            self.wfile.flush()
            if self.server.stopping.wait(1):
                return
