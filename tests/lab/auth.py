# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is at the other end of a connection: Basic over TLS, NTLM and SPNEGO with message encryption and channel bindings.

In the Kerberos tier also Kerberos, bare or within SPNEGO, with the keys of kdc.py; CredSSP hands the password on.
NTLM state belongs to the TCP connection. The credential store of pyspnego is process-wide (NTLM_USER_FILE), so it is switched per machine.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import pathlib
import struct
import tempfile
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import spnego
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from spnego._ntlm_raw.crypto import lmowfv1, ntowfv1
from spnego.channel_bindings import GssChannelBindings
from spnego.exceptions import SpnegoError

from lab.kernel import LabRefusal

SPNEGO = "application/HTTP-SPNEGO-session-encrypted"
KERBEROS = "application/HTTP-Kerberos-session-encrypted"
CREDSSP = "application/HTTP-CredSSP-session-encrypted"
DEFAULT_AUTH: dict[str, tuple[str, ...]] = {
    "wsman_http": ("negotiate", "ntlm"),
    "wsman_https": ("negotiate", "ntlm", "basic"),
    "web_http": ("negotiate", "ntlm"),
    "web_https": ("negotiate", "ntlm", "basic"),
}
#: With a KDC: Windows takes Kerberos as well, and Exchange nothing else, as after a default installation (WINRM.md C).
KERBEROS_AUTH: dict[str, tuple[str, ...]] = {
    "wsman_http": ("negotiate", "kerberos", "ntlm"),
    "wsman_https": ("negotiate", "kerberos", "ntlm", "basic"),
    "web_http": ("kerberos",),
    "web_https": ("kerberos",),
}
#: The mechanism that an initial token names after its two bytes of frame (RFC 2743 3.1).
_MECHANISM_KERBEROS = bytes.fromhex("06092a864886f712010202")
_MECHANISM_SPNEGO = bytes.fromhex("06062b0601050502")


_environment = threading.Lock()


class Credentials:
    """The NTLM users of one machine in a file of hashes; pyspnego looks at NTLM_USER_FILE, which is set only while it looks."""

    def __init__(self, users: Mapping[str, str]) -> None:
        handle, self._path = tempfile.mkstemp(prefix="lab-ntlm-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            for number, (name, password) in enumerate(users.items(), start=1000):
                hashes = ":".join(binascii.hexlify(value).decode("ascii").upper() for value in (lmowfv1(password), ntowfv1(password)))
                file.write(f"{name}:{number}:{hashes}:[U]:LCT-1589398321\n")

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Make these the users that an acceptor of this process knows, one acceptor at a time."""
        with _environment:
            before = os.environ.get("NTLM_USER_FILE")
            os.environ["NTLM_USER_FILE"] = self._path
            try:
                yield
            finally:
                if before is None:
                    del os.environ["NTLM_USER_FILE"]
                else:
                    os.environ["NTLM_USER_FILE"] = before

    def remove(self) -> None:
        """Delete the file."""
        pathlib.Path(self._path).unlink(missing_ok=True)


def bindings_of(certificate_pem: str | os.PathLike[str]) -> GssChannelBindings:
    """Return the tls-server-end-point bindings of a server certificate (RFC 5929; SHA-256 unless the certificate has a longer hash)."""
    certificate = x509.load_pem_x509_certificate(pathlib.Path(certificate_pem).read_bytes())
    algorithm = certificate.signature_hash_algorithm
    name = algorithm.name if algorithm is not None and algorithm.name in ("sha384", "sha512") else "sha256"
    der = certificate.public_bytes(serialization.Encoding.DER)
    return GssChannelBindings(application_data=b"tls-server-end-point:" + hashlib.new(name, der).digest())


class Refused(Exception):
    """The request is answered with 401; ``headers`` are the WWW-Authenticate values."""

    def __init__(self, headers: list[str], first: bool) -> None:
        super().__init__("401")
        self.headers = headers
        self.first = first


class Unencrypted(Exception):
    """The request is not encrypted and AllowUnencrypted is false: HTTP 500 without a body."""


class Undecipherable(Exception):
    """The body was sealed with another key: HTTP 400."""


class Connection:
    """The logon state of one TCP connection."""

    def __init__(self, users: Mapping[str, str], credentials: Credentials, modes: tuple[str, ...], tls: bool, bindings: GssChannelBindings | None) -> None:
        self._credentials = credentials
        self._users = {name.lower(): (name, password) for name, password in users.items()}
        self._modes = tuple(mode.lower() for mode in modes)
        self._tls = tls
        self._bindings = bindings
        self._ctx: Any = None
        self.user: str | None = None
        #: whether the server can log on elsewhere as this user: CredSSP, or Kerberos with a forwarded ticket
        self.delegated = False
        #: NTLM, Kerberos, CredSSP or Basic, of the logon that stands
        self.mechanism = ""
        self.reply: str | None = None
        self.protocol = SPNEGO

    @property
    def modes(self) -> tuple[str, ...]:
        """The configured authentication modes."""
        return self._modes

    def forget(self) -> None:
        """Drop the logon: the next request must authenticate again."""
        self._ctx = None
        self.user = None
        self.delegated = False

    def challenge(self) -> list[str]:
        """Return the WWW-Authenticate values of a fresh 401."""
        offered = []
        if "negotiate" in self._modes or "ntlm" in self._modes:
            offered.append("Negotiate")
        if "kerberos" in self._modes:
            offered.append("Kerberos")
        if "credssp" in self._modes:
            offered.append("CredSSP")
        if "basic" in self._modes and self._tls:
            offered.append('Basic realm="WSMAN"')
        return offered

    def authenticate(self, header: str | None) -> str:
        """Return the user of a request; raises Refused, with the next token where a handshake goes on."""
        self.reply = None
        scheme, value = (header or "").partition(" ")[::2]
        scheme = scheme.lower()
        if not scheme:
            if self.user is not None and self._ctx is not None:
                return self.user
            raise Refused(self.challenge(), first=True)
        if scheme == "basic":
            return self._basic(value)
        if scheme in ("negotiate", "ntlm", "kerberos", "credssp"):
            return self._negotiate(scheme, value)
        raise Refused(self.challenge(), first=False)

    def _basic(self, value: str) -> str:
        """Basic is a logon per request; over HTTP right credentials meet AllowUnencrypted=false."""
        self.forget()
        try:
            name, password = base64.b64decode(value, validate=True).decode("utf-8").partition(":")[::2]
        except (binascii.Error, UnicodeDecodeError):
            raise Refused(self.challenge(), first=False) from None
        known = self._users.get(name.lower())
        if known is None or known[1] != password or ("basic" not in self._modes and self._tls):
            raise Refused(self.challenge(), first=False)
        if not self._tls:
            raise Unencrypted
        self.mechanism = "Basic"
        return known[0]

    def _negotiate(self, scheme: str, value: str) -> str:
        try:
            token = base64.b64decode(value, validate=True)
        except binascii.Error:
            raise Refused(self.challenge(), first=False) from None
        if token.startswith(b"NTLMSSP\x00\x01") or self.user is not None or self._ctx is None:
            self.forget()
            self._ctx = self._context(scheme, token)
        try:
            with self._credentials.current():
                answer = self._ctx.step(token)
        except (SpnegoError, ValueError, AttributeError, struct.error):  # AttributeError: pyspnego over a token that gssapi refused
            self.forget()
            raise Refused(self.challenge(), first=False) from None
        shown = {"kerberos": "Kerberos", "credssp": "CredSSP"}.get(scheme, "Negotiate")
        text = f"{shown} {base64.b64encode(answer).decode('ascii')}" if answer else None
        if not self._ctx.complete:
            raise Refused([text or shown], first=False)
        principal = str(self._ctx.client_principal or "")
        known = self._users.get(principal.lower()) or self._users.get(_account(principal))
        if known is None:
            self.forget()
            raise Refused(self.challenge(), first=False)
        self.user = known[0]
        self.delegated = scheme == "credssp" or bool(self._ctx.context_attr & spnego.ContextReq.delegate)
        self.mechanism = "CredSSP" if scheme == "credssp" else {"ntlm": "NTLM", "kerberos": "Kerberos"}[str(self._ctx.negotiated_protocol)]
        self.reply = text
        return self.user

    def _context(self, scheme: str, token: bytes) -> Any:
        """Return the acceptor of a mechanism."""
        if scheme == "credssp":
            wanted = "credssp"
        elif token.startswith(b"NTLMSSP"):
            wanted = "ntlm"
        elif _MECHANISM_KERBEROS in token[:24]:
            wanted = "kerberos"
        elif scheme == "kerberos" or _MECHANISM_SPNEGO not in token[:24]:
            raise Refused(self.challenge(), first=False)
        else:
            wanted = "negotiate"
        # Negotiate takes either mechanism bare; what offers the Kerberos scheme only, takes it in that scheme only.
        if wanted not in self._modes and not (scheme != "kerberos" and wanted in ("ntlm", "kerberos") and "negotiate" in self._modes):
            raise Refused(self.challenge(), first=False)
        if scheme == "negotiate" and not {"negotiate", "ntlm"} & set(self._modes):
            raise Refused(self.challenge(), first=False)
        # Python's own SPNEGO has NTLM beside the system's Kerberos; the system's has none.
        options = spnego.NegotiateOptions.use_negotiate if wanted in ("negotiate", "credssp") else spnego.NegotiateOptions.none
        with self._credentials.current():
            try:
                return spnego.server(protocol=wanted, channel_bindings=self._bindings if wanted != "credssp" else None, options=options)
            except (SpnegoError, ValueError) as error:
                raise LabRefusal(f"there is no acceptor for {wanted} here: {error}") from error

    def open(self, content_type: str, body: bytes) -> tuple[bytes, bool]:
        """Return the plain body and whether it was encrypted; raises Unencrypted, Undecipherable."""
        if not content_type.lower().startswith(("multipart/encrypted", "multipart/x-multi-encrypted")):
            if not self._tls and body:
                raise Unencrypted
            return body, False
        if self._ctx is None:
            raise Undecipherable("no security context on this connection")
        self.protocol = next((known for known in (KERBEROS, CREDSSP) if known.lower() in content_type.lower()), SPNEGO)
        return b"".join(self._parts(body)), True

    def _parts(self, body: bytes) -> Iterator[bytes]:
        """Yield the plain parts: one, or with CredSSP one for every 16 KB."""
        marker = b"\tContent-Type: application/octet-stream\r\n"
        end = body.rfind(b"--Encrypted Boundary--")
        start = body.find(marker)
        if start < 0 or end < 0:
            raise Undecipherable("no encrypted part")
        head = body[:start]
        while True:
            following = body.find(b"--Encrypted Boundary\r\n\tContent-Type: " + self.protocol.encode("ascii"), start)
            data = body[start + len(marker) : end if following < 0 else following]
            size = int.from_bytes(data[:4], "little")
            declared = head.rpartition(b"Length=")[2].split(b"\r\n")[0]
            try:
                plain = bytes(self._ctx.unwrap_winrm(data[4 : 4 + size], data[4 + size :]))
            except (SpnegoError, ValueError, struct.error) as error:
                raise Undecipherable(str(error)) from None
            if not declared.isdigit() or int(declared) != len(plain):
                raise Undecipherable("the declared length is not the length of the message")
            yield plain
            if following < 0:
                return
            start = body.find(marker, following)
            head = body[following:start]

    def seal(self, body: bytes, spaced: bool) -> tuple[str, bytes]:
        """Return content type and encrypted body; ``spaced`` writes Exchange's boundary with a space."""
        boundary = b"-- Encrypted Boundary" if spaced else b"--Encrypted Boundary"
        size = 16384 if self.protocol == CREDSSP else max(len(body), 1)
        parts = [body[start : start + size] for start in range(0, max(len(body), 1), size)]
        data = b"".join(self._sealed(part, boundary) for part in parts) + boundary + b"--\r\n"
        kind = "x-multi-encrypted" if len(parts) > 1 else "encrypted"
        return f'multipart/{kind};protocol="{self.protocol}";boundary="Encrypted Boundary"', data

    def _sealed(self, body: bytes, boundary: bytes) -> bytes:
        wrapped = self._ctx.wrap_winrm(body)
        length = len(body) + wrapped.padding_length
        return bytes(
            boundary
            + f"\r\n\tContent-Type: {self.protocol}\r\n\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length={length}\r\n".encode("ascii")
            + boundary
            + b"\r\n\tContent-Type: application/octet-stream\r\n"
            + len(wrapped.header).to_bytes(4, "little")
            + wrapped.header
            + wrapped.data
        )


def _account(principal: str) -> str:
    r"""Return ``domain\name`` in lower case for a principal ``name@DOMAIN.EXAMPLE``; other names as they are."""
    name, realm = principal.partition("@")[::2]
    return (f"{realm.partition('.')[0]}\\{name}" if realm else name).lower()
