# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetching, against a TLS server on loopback that misbehaves on request; every hop's failure has its name."""

from __future__ import annotations

import contextlib
import datetime
import gzip
import http.server
import os
import pathlib
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _fetch
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import FetchError, InvalidInput
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

BODY = b"<EOCS version='1.0.4'/>"


def certificate(directory: pathlib.Path, host: str) -> pathlib.Path:
    """Write a self-signed certificate with its key; return the file."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.timezone.utc)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(key, hashes.SHA256())
    )
    path = directory / f"{host}.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path, and counts."""

    server: Server

    def log_message(self, *dummy: Any) -> None:
        """Say nothing."""

    def answer(self, body: bytes, status: int = 200, kind: str = "application/xml; charset=utf-8", **headers: str) -> None:
        """Send an answer; header names with underscores for hyphens."""
        self.send_response(status)
        for key, value in {"Content-Type": kind, "Content-Length": str(len(body)), **{k.replace("_", "-"): v for k, v in headers.items()}}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        """Misbehave as the path says."""
        path = self.path.strip("/")
        self.server.seen.append(path)
        seen = self.server.seen.count(path)
        if path == "good":
            self.answer(BODY)
        elif path == "xml-suffix":
            self.answer(BODY, kind="application/soap+xml")
        elif path == "gzip":
            self.answer(gzip.compress(BODY), Content_Encoding="gzip")
        elif path == "deflate":
            self.answer(zlib.compress(BODY), Content_Encoding="deflate")
        elif path == "bomb":
            self.answer(gzip.compress(b" " * 30_000_000, 1), Content_Encoding="gzip")
        elif path == "cut-gzip":
            self.answer(gzip.compress(BODY)[:-4], Content_Encoding="gzip")
        elif path == "brotli":
            self.answer(BODY, Content_Encoding="br")
        elif path == "html":
            self.answer(b"<html/>", kind="text/html")
        elif path == "no-type":
            self.answer(BODY, kind="")
        elif path == "large":
            self.answer(b" " * (1024 * 1024 + 1))
        elif path == "limit":
            self.answer(b" " * (1024 * 1024))
        elif path == "redirect":
            self.answer(b"", 302, Location="https://127.0.0.1/good")
        elif path == "missing":
            self.answer(BODY, 404)
        elif path == "busy-once":
            self.answer(BODY, 503 if seen == 1 else 200)
        elif path == "busy":
            self.answer(BODY, 503)
        elif path == "cut":
            self.send_response(200)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(BODY)
            self.close_connection = True
        elif path == "endless":
            self.send_response(200)
            self.send_header("Content-Type", "application/xml")
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(b" " * 65536)
            self.close_connection = True
        elif path == "drip":
            self.send_response(200)
            self.send_header("Content-Type", "application/xml")
            self.end_headers()
            with contextlib.suppress(OSError):
                for dummy in range(100):
                    self.wfile.write(b" ")
                    time.sleep(0.2)
            self.close_connection = True
        elif path == "drip-header":
            with contextlib.suppress(OSError):
                for dummy in range(100):
                    self.wfile.write(b"H")
                    self.wfile.flush()
                    time.sleep(0.2)
            self.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    """A TLS server that remembers what was asked."""

    daemon_threads = True
    seen: list[str]

    def handle_error(self, *dummy: Any) -> None:
        """A client that leaves is no error here."""


@contextlib.contextmanager
def serving(path: pathlib.Path, highest: ssl.TLSVersion | None = None) -> Iterator[Server]:
    """Run the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    if highest is not None:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = highest
    server = Server(("127.0.0.1", 0), Handler)
    server.seen = []
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The server's certificate, which is its own authority."""
    return certificate(tmp_path_factory.mktemp("tls"), "localhost")


@pytest.fixture
def server(pem: pathlib.Path) -> Iterator[Server]:
    """A server for the name localhost."""
    with serving(pem) as running:
        yield running


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses, and no proxy of this machine."""
    monkeypatch.setattr(_fetch, "PAUSES", (0.0, 0.0))
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def url(server: Server, path: str) -> str:
    """Return a URL of the server."""
    return f"https://localhost:{server.server_address[1]}/{path}"


def refused(source: str, **options: Any) -> FetchError:
    """Return the error of a fetch."""
    with pytest.raises(FetchError) as caught:
        _fetch.fetch(source, **options)
    return caught.value


@pytest.mark.parametrize("path", ["good", "xml-suffix", "gzip", "deflate"])
def test_body(server: Server, pem: pathlib.Path, path: str) -> None:
    """The bytes arrive as they were sent, decompressed where the server insists."""
    assert _fetch.fetch(url(server, path), ca_path=str(pem)) == BODY
    assert server.seen == [path]


def test_largest_body(server: Server, pem: pathlib.Path) -> None:
    """One mebibyte is allowed."""
    assert len(_fetch.fetch(url(server, "limit"), ca_path=str(pem))) == 1024 * 1024


@pytest.mark.parametrize(
    ("path", "reason", "tries"),
    [
        ("large", "content_too_large", 1),
        ("endless", "content_too_large", 1),
        ("bomb", "content_too_large", 1),
        ("html", "content_type", 1),
        ("no-type", "content_type", 1),
        ("redirect", "redirect", 1),
        ("missing", "http_status", 1),
        ("busy", "http_status", 3),
        ("cut", "content_broken", 3),
        ("cut-gzip", "content_broken", 3),
        ("brotli", "content_broken", 3),
    ],
)
def test_answers_that_are_refused(server: Server, pem: pathlib.Path, path: str, reason: str, tries: int) -> None:
    """Each has its code, and only what may pass is tried again, three times at most."""
    error = refused(url(server, path), ca_path=str(pem))
    assert error.reason == reason and "localhost" in error.message
    assert len(server.seen) == tries


def test_another_try_helps(server: Server, pem: pathlib.Path) -> None:
    """A server that is busy once is asked again."""
    assert _fetch.fetch(url(server, "busy-once"), ca_path=str(pem)) == BODY
    assert server.seen == ["busy-once"] * 2


@pytest.mark.parametrize("path", ["drip", "drip-header"])
def test_one_deadline_for_everything(server: Server, pem: pathlib.Path, path: str) -> None:
    """A server that sends an octet now and then does not keep the task waiting."""
    begin = time.monotonic()
    assert refused(url(server, path), ca_path=str(pem), timeout=1).reason == "deadline"
    assert time.monotonic() - begin < 2


def test_certificate_that_is_not_trusted(server: Server) -> None:
    """Without the private authority the connection is refused, and nothing was asked."""
    assert refused(url(server, "good")).reason == "tls_certificate"
    assert server.seen == []


def test_certificate_for_another_name(tmp_path: pathlib.Path) -> None:
    """The name counts."""
    other = certificate(tmp_path, "other.example")
    with serving(other) as server:
        assert refused(url(server, "good"), ca_path=str(other)).reason == "tls_certificate"


def test_old_protocol(pem: pathlib.Path) -> None:
    """TLS 1.1 is refused."""
    with serving(pem, ssl.TLSVersion.TLSv1_1) as server:
        assert refused(url(server, "good"), ca_path=str(pem)).reason == "tls"


def test_no_tls_at_all(pem: pathlib.Path) -> None:
    """A plain server is not a TLS server."""
    plain = Server(("127.0.0.1", 0), Handler)
    plain.seen = []
    threading.Thread(target=plain.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        assert refused(url(plain, "good"), ca_path=str(pem)).reason == "tls"
    finally:
        plain.shutdown()
        plain.server_close()


def closed_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_nobody_listens(pem: pathlib.Path) -> None:
    """TCP is a hop of its own."""
    assert refused(f"https://localhost:{closed_port()}/", ca_path=str(pem)).reason == "tcp"


def test_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS is a hop of its own."""

    def resolve(*dummy: Any, **dummy_options: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert refused("https://feed.invalid/").reason == "dns"


@contextlib.contextmanager
def proxying(target: int | None, password: str = "") -> Iterator[tuple[int, list[str]]]:
    """Run a proxy that connects to a port on loopback, or only answers 502; it may want a password."""
    seen: list[str] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, dummy = listener.accept()
                head = b""
                while b"\r\n\r\n" not in head:
                    head += client.recv(4096)
                seen.append(head.decode().split("\r\n")[0])
                if password and f"Basic {password}" not in head.decode():
                    client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                    client.close()
                elif target is None:
                    client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
                    client.close()
                else:
                    upstream = socket.create_connection(("127.0.0.1", target))
                    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                    for pair in ((client, upstream), (upstream, client)):
                        threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1], seen
    finally:
        listener.close()


def test_through_a_proxy(server: Server, pem: pathlib.Path) -> None:
    """The name is resolved by the proxy, and the certificate is still the server's."""
    with proxying(server.server_address[1]) as (port, seen):
        assert _fetch.fetch(url(server, "good"), proxy=f"http://127.0.0.1:{port}", ca_path=str(pem)) == BODY
    assert seen == [f"CONNECT localhost:{server.server_address[1]} HTTP/1.1"] or seen[0].startswith("CONNECT localhost:")


def test_proxy_of_the_environment(server: Server, pem: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the option the environment counts; an empty option means none."""
    with proxying(server.server_address[1]) as (port, seen):
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        assert _fetch.fetch(url(server, "good"), ca_path=str(pem)) == BODY
        assert len(seen) == 1
        assert _fetch.fetch(url(server, "good"), proxy="", ca_path=str(pem)) == BODY
        assert len(seen) == 1


def test_proxy_with_password(server: Server, pem: pathlib.Path) -> None:
    """User and password go to the proxy; wrong ones are named, and never shown."""
    with proxying(server.server_address[1], "dXNlcjpwQHNz") as (port, dummy):
        assert _fetch.fetch(url(server, "good"), proxy=f"http://user:p%40ss@127.0.0.1:{port}", ca_path=str(pem)) == BODY
        error = refused(url(server, "good"), proxy=f"http://user:sesame@127.0.0.1:{port}", ca_path=str(pem))
    assert error.reason == "proxy_authentication" and "sesame" not in error.message + repr(error.details)


def test_proxy_that_does_not_lead_there(server: Server, pem: pathlib.Path) -> None:
    """The proxy is a hop of its own, absent or unwilling."""
    with proxying(None) as (port, dummy):
        assert refused(url(server, "good"), proxy=f"http://127.0.0.1:{port}", ca_path=str(pem)).reason == "proxy"
    assert refused(url(server, "good"), proxy=f"http://127.0.0.1:{closed_port()}", ca_path=str(pem)).reason == "proxy"


@pytest.mark.parametrize("source", ["http://localhost/", "ftp://localhost/", "https:///x", "https://user:secret@localhost/", "file:///etc/passwd"])
def test_url_that_is_not_allowed(source: str) -> None:
    """https without user name, nothing else."""
    error = refused(source)
    assert error.reason == "url_not_allowed" and "secret" not in error.message


def test_missing_ca_path(tmp_path: pathlib.Path) -> None:
    """A file that is not there is an invalid option, not a failed handshake."""
    with pytest.raises(InvalidInput):
        _fetch.fetch("https://localhost/", ca_path=str(tmp_path / "none.pem"))


def test_file(tmp_path: pathlib.Path) -> None:
    """The bytes of a file; never more than one above the limit."""
    path = tmp_path / "feed.xml"
    path.write_bytes(BODY)
    assert _fetch.read_file(str(path)) == BODY
    path.write_bytes(b" " * (3 * 1024 * 1024))
    assert len(_fetch.read_file(str(path))) == 1024 * 1024 + 1


def test_what_is_no_file(tmp_path: pathlib.Path) -> None:
    """Absent, a directory, a pipe (which does not block), a name with NUL."""
    os.mkfifo(tmp_path / "pipe")
    for name in ("none", ".", "pipe", "a\0b"):
        with pytest.raises(FetchError) as caught:
            _fetch.read_file(str(tmp_path / name))
        assert caught.value.reason == "file"


def test_what_is_a_url() -> None:
    """A scheme makes a URL; everything else is a path."""
    assert [_fetch.is_url(source) for source in ("https://x/", "FILE:///x", "/a/b.xml", "feed.xml", "~/x")] == [True, True, False, False, False]
