# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage 1, fetch: a URL or a file on the controller in, at most 1 MiB of bytes out, or a FetchError that names the hop.

https with verification and TLS 1.2 or newer, no redirect, one deadline for everything, a bounded number of tries.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import os
import pathlib
import socket
import ssl
import stat
import threading
import time
import zlib
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.exchange.mitigation.plugins.module_utils import _deps
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import FetchError, InvalidInput
from ansible_collections.exchange.mitigation.plugins.module_utils._reasons import shown, unfetched
from ansible_collections.exchange.mitigation.plugins.module_utils._xml_guard import MAX_BYTES

try:
    import requests
    import requests.adapters
    import urllib3.exceptions
except ImportError:
    requests = None  # type: ignore[assignment]  # the entry point requires it

DEFAULT_SOURCE = "https://officeclient.microsoft.com/GetExchangeMitigations"
TRIES = 3
PAUSES = (0.5, 1.0)  #: seconds before the second and the third try

_WORTH_ANOTHER_TRY = frozenset({"dns", "tcp", "proxy", "content_broken", "busy"})
_CHUNK = 64 * 1024


def is_url(source: str) -> bool:
    """Say whether a source is a URL; everything else is a path on the controller."""
    return "://" in source


def read_file(path: str) -> bytes:
    """Return the bytes of a regular file, read once and never more than one byte above the limit; raises FetchError."""
    place = pathlib.Path(os.path.expanduser(os.path.expandvars(path)))
    try:
        handle = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe must not block
        with os.fdopen(handle, "rb") as stream:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise unfetched("file", f"{shown(place)} is not a regular file.")
            return stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as exc:
        raise unfetched("file", f"{shown(place)} cannot be read: {getattr(exc, 'strerror', None) or type(exc).__name__}.") from exc


def fetch(url: str, proxy: str | None = None, ca_path: str | None = None, timeout: float = 30.0) -> bytes:
    """Return the body at an https URL; raises FetchError with the hop that failed as its reason.

    ``proxy`` None takes the environment's, an empty one uses none. ``ca_path`` replaces every other certificate authority.
    ``timeout`` bounds all tries together, in seconds.
    """
    _deps.require("requests")
    parts = urlsplit(url)
    if parts.scheme.lower() != "https" or not parts.hostname or parts.username is not None or parts.password is not None:
        raise unfetched("url_not_allowed", "The source is not an https URL without user name.")
    if ca_path is not None and not os.path.exists(ca_path):
        raise InvalidInput(f"ca_path {ca_path} does not exist on the controller.")
    work = _Work(url, parts.hostname, proxy, ca_path, time.monotonic() + timeout)
    # A name server or a server that sends one octet a minute can stall any single call; only a thread bounds them all.
    thread = threading.Thread(target=work.run, name="exchange.mitigation fetch", daemon=True)
    thread.start()
    try:
        thread.join(timeout)
    finally:
        work.cancelled = True
    if work.failure is not None:
        raise work.failure
    if work.body is None:
        raise unfetched("deadline", f"{shown(parts.hostname)} did not answer completely within {timeout:g} seconds{work.last}.")
    return work.body


class _Work:
    """All tries of one fetch, run in a thread of their own."""

    def __init__(self, url: str, host: str, proxy: str | None, ca_path: str | None, deadline: float) -> None:
        self.url = url
        self.host = shown(host)
        self.ca_path = ca_path
        self.deadline = deadline
        self.body: bytes | None = None
        self.failure: BaseException | None = None
        self.cancelled = False
        self.last = ""
        if proxy is None:
            self.proxies = dict(requests.utils.get_environ_proxies(url))
        else:
            self.proxies = {"https": proxy} if proxy else {}

    def run(self) -> None:
        """Try until there is a body or a failure that stays; the outcome is in ``body`` or ``failure``."""
        try:
            for number in range(TRIES):
                try:
                    self.body = self._try()
                    return
                except FetchError as exc:
                    hop = "busy" if exc.details.get("status") in (429, 500, 502, 503, 504) else exc.reason
                    if hop not in _WORTH_ANOTHER_TRY or number == TRIES - 1 or self.cancelled:
                        raise
                    self.last = f"; before that: {exc.message}"
                    time.sleep(max(0.0, min(PAUSES[number], self.deadline - time.monotonic())))
        except BaseException as exc:  # pylint: disable=broad-except  # carried to the thread that waits
            self.failure = exc

    def _try(self) -> bytes:
        left = max(0.1, self.deadline - time.monotonic())
        try:
            with requests.Session() as session:
                session.trust_env = False  # no .netrc; proxies were taken above
                session.mount("https://", adapter(self.ca_path))
                with session.get(
                    self.url,
                    headers={"Accept": "application/xml, text/xml", "Accept-Encoding": "identity", "User-Agent": "exchange.mitigation"},
                    proxies=self.proxies,
                    verify=self.ca_path or True,
                    allow_redirects=False,
                    stream=True,
                    timeout=(max(1.0, left / TRIES), left),
                ) as response:
                    self._check(response)
                    return self._body(response)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, UnicodeError, zlib.error) as exc:
            raise self._hop(exc) from exc

    def _check(self, response: Any) -> None:
        """Refuse every answer but 200 with XML; raises FetchError."""
        status = response.status_code
        if 300 <= status < 400:
            raise unfetched("redirect", f"{self.host} answers with a redirect ({status}).", status=status)
        if status == 407:
            raise unfetched("proxy_authentication", "The proxy answers 407.", status=status)
        if status != 200:
            raise unfetched("http_status", f"{self.host} answers {status}.", status=status)
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind not in ("application/xml", "text/xml") and not (kind.startswith("application/") and kind.endswith("+xml")):
            raise unfetched("content_type", f"{self.host} answers with content type {shown(kind, 60) or '(none)'}.")

    def _body(self, response: Any) -> bytes:
        """Return the body, counted before and after decompression; raises FetchError."""
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding in ("", "identity"):
            unpack = None
        elif encoding in ("gzip", "x-gzip", "deflate"):
            unpack = zlib.decompressobj(zlib.MAX_WBITS | 32)
        else:
            raise unfetched("content_broken", f"{self.host} answers with content encoding {shown(encoding, 40)}.")
        body = bytearray()
        received = 0
        for chunk in response.raw.stream(_CHUNK, decode_content=False):
            received += len(chunk)
            if self.cancelled or time.monotonic() > self.deadline:
                raise unfetched("deadline", f"{self.host} did not answer completely in time.")
            body += chunk if unpack is None else unpack.decompress(chunk, MAX_BYTES + 1 - len(body))
            if received > MAX_BYTES or len(body) > MAX_BYTES:
                raise unfetched("content_too_large", f"{self.host} answers with more than {MAX_BYTES} bytes.")
        if unpack is not None and (not unpack.eof or unpack.unused_data):
            raise unfetched("content_broken", f"{self.host} answers with a compressed body that is cut short or has something behind it.")
        return bytes(body)

    def _hop(self, exc: BaseException) -> FetchError:
        """Return the FetchError that names the hop, from the chain of exceptions of requests and urllib3."""
        chain = causes(exc)
        text = " ".join(str(cause) for cause in chain)
        if any(isinstance(cause, (requests.exceptions.ProxyError, urllib3.exceptions.ProxyError)) for cause in chain):
            if "407" in text:
                return unfetched("proxy_authentication", "The proxy answers 407.")
            return unfetched("proxy", f"The proxy does not lead to {self.host}.")
        if any(isinstance(cause, socket.gaierror) for cause in chain) or "NameResolutionError" in {type(cause).__name__ for cause in chain}:
            return unfetched("dns", f"{self.host} does not resolve.")
        for cause in chain:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return unfetched("tls_certificate", f"The certificate of {self.host} is not trusted: {shown(cause.verify_message)}.")
        if any(isinstance(cause, (ssl.SSLError, requests.exceptions.SSLError)) for cause in chain):
            return unfetched("tls", f"The TLS handshake with {self.host} failed.")
        if any(isinstance(cause, (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError, ConnectionRefusedError)) for cause in chain):
            return unfetched("tcp", f"{self.host} does not accept the connection.")
        if any(isinstance(cause, (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)) for cause in chain):
            return unfetched("deadline", f"{self.host} did not answer in time.")
        if any(isinstance(cause, (requests.exceptions.InvalidURL, requests.exceptions.InvalidProxyURL, UnicodeError)) for cause in chain):
            return unfetched("url_not_allowed", "The source or the proxy is not a URL that can be used.")
        return unfetched("content_broken", f"The answer of {self.host} broke off ({type(exc).__name__}).")


def causes(exc: BaseException) -> list[BaseException]:
    """Return an exception with everything it was raised from or carries as argument or reason."""
    found: list[BaseException] = []
    waiting: list[BaseException] = [exc]
    while waiting:
        one = waiting.pop(0)
        if one in found:
            continue
        found.append(one)
        candidates = [one.__cause__, one.__context__, getattr(one, "reason", None), getattr(one, "original_error", None), *one.args]
        waiting.extend(item for item in candidates if isinstance(item, BaseException))
    return found


def adapter(ca_path: str | None) -> Any:
    """Return a requests adapter that speaks TLS 1.2 or newer; without ``ca_path`` the system's authorities count beside certifi's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_path is None:
        context.load_default_certs()

    class Adapter(requests.adapters.HTTPAdapter):
        """Hands the context to direct and to proxied connections."""

        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            """Make the pool for direct connections."""
            super().init_poolmanager(*args, ssl_context=context, **kwargs)

        def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
            """Make the pool for connections through a proxy."""
            return super().proxy_manager_for(*args, ssl_context=context, **kwargs)

    return Adapter(max_retries=0)
