# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two ways a notice leaves the controller: a mail server, and a webhook.

Each is bounded in time as a whole. No exception of a library passes: their texts hold URLs and answers of servers, and a
webhook's URL is its password. Every failure is a DeliveryError with a code and a sentence of our own.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import email.message
import os
import re
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.exchange.mitigation.plugins.module_utils import _deps
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import DeliveryError, InvalidInput, MitigationError
from ansible_collections.exchange.mitigation.plugins.module_utils._fetch import adapter, causes

try:
    import requests
    import urllib3.exceptions
except ImportError:
    requests = None  # type: ignore[assignment]  # the entry point requires it

MAIL_PORTS = {"starttls": 587, "tls": 465, "none": 25}

TRIES = 3
PAUSES = (1.0, 2.0)  #: seconds before the second and the third try
LONGEST_PAUSE = 30.0  #: what a Retry-After may ask for at most
WORTH_ANOTHER_TRY = frozenset({429, 500, 502, 503, 504})


@dataclasses.dataclass(frozen=True)
class MailServer:
    """How to reach the mail server. ``encryption``: starttls, tls or none."""

    host: str
    port: int
    encryption: str
    username: str | None
    password: str | None
    ca_path: str | None
    timeout: float


@dataclasses.dataclass(frozen=True)
class Webhook:
    """How to reach a webhook. ``proxy`` None takes the environment's, an empty one uses none."""

    name: str
    kind: str
    url: str
    proxy: str | None
    ca_path: str | None
    headers: Mapping[str, str]
    timeout: float


def bounded(work: Callable[[float], Any], seconds: float, late: DeliveryError) -> Any:
    """Return what ``work(deadline)`` returns, or raise what it raises; after ``seconds`` raise ``late`` and leave it behind."""
    found: list[Any] = []
    failed: list[BaseException] = []

    def target() -> None:
        try:
            found.append(work(time.monotonic() + seconds))
        except BaseException as exc:  # pylint: disable=broad-except  # carried to the thread that waits
            failed.append(exc)

    # A server that sends one octet a minute, or a name server, can stall any single call; only a thread bounds them all.
    thread = threading.Thread(target=target, name="exchange.mitigation notice", daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not found:
        raise late
    return found[0]


def _authorities(ca_path: str | None) -> None:
    if ca_path is not None and not os.path.exists(ca_path):
        raise InvalidInput(f"ca_path {ca_path} does not exist on the controller.")


# --- mail --------------------------------------------------------------------------------------------------------------------


def check_mail(server: MailServer) -> None:
    """Refuse settings that cannot be meant; raises InvalidInput."""
    if server.encryption == "none" and server.username:
        raise InvalidInput("mail: a password is not sent without encryption. Use encryption starttls or tls.", "insecure_connection")
    if server.username and not server.password:
        raise InvalidInput("mail: username is set and password is not.", "credentials_missing")
    if not f"{server.username or ''}{server.password or ''}".isascii():
        raise InvalidInput("mail: username and password can have ASCII characters only; Python's SMTP client sends no others.")
    _authorities(server.ca_path)


def send_mail(server: MailServer, message: email.message.EmailMessage, sender: str, recipients: Sequence[str]) -> list[str]:
    """Send; return the recipients that the server refused while it took the others. Raises DeliveryError."""
    late = DeliveryError(f"The mail server {server.host} did not finish within {server.timeout:g} seconds.", "mail_timeout")
    refused: list[str] = bounded(lambda deadline: _mail(server, message, sender, recipients, deadline), server.timeout, late)
    return refused


def _mail(server: MailServer, message: email.message.EmailMessage, sender: str, recipients: Sequence[str], deadline: float) -> list[str]:
    where = f"The mail server {server.host}:{server.port}"
    left = max(0.1, deadline - time.monotonic())
    try:
        with _connected(server, left) as client:
            if server.encryption == "starttls":
                client.ehlo_or_helo_if_needed()
                if not client.has_extn("starttls"):
                    raise DeliveryError(f"{where} does not offer STARTTLS; nothing was sent. Use encryption tls, or mend the server.", "mail_tls_missing")
                client.starttls(context=_context(server.ca_path))
            if server.username:
                client.login(server.username, server.password or "")
            return sorted(client.send_message(message, sender, list(recipients)))
    except MitigationError:
        raise
    except smtplib.SMTPAuthenticationError as exc:
        raise DeliveryError(f"{where} refuses the user name or the password ({exc.smtp_code}).", "mail_auth") from None
    except smtplib.SMTPNotSupportedError:
        raise DeliveryError(f"{where} offers no authentication that fits, or cannot take these addresses.", "mail_auth") from None
    except smtplib.SMTPRecipientsRefused as exc:
        codes = ", ".join(sorted({str(answer[0]) for answer in exc.recipients.values()}))
        raise DeliveryError(f"{where} refuses every recipient ({codes}).", "mail_recipients") from None
    except smtplib.SMTPSenderRefused as exc:
        raise DeliveryError(f"{where} refuses the sender ({exc.smtp_code}).", "mail_sender") from None
    except smtplib.SMTPResponseException as exc:
        raise DeliveryError(f"{where} refuses the mail ({exc.smtp_code}).", "mail_refused") from None
    except ssl.SSLCertVerificationError as exc:
        raise DeliveryError(f"{where} shows a certificate that is not trusted: {exc.verify_message}. Set ca_path.", "mail_tls") from None
    except ssl.SSLError:
        raise DeliveryError(f"{where} does not complete the TLS handshake; the protocol must be 1.2 or newer. Check encryption and port.", "mail_tls") from None
    except smtplib.SMTPException as exc:
        if isinstance(exc.__context__, TimeoutError):  # smtplib takes a silence for a connection that was closed
            raise DeliveryError(f"{where} did not answer in time.", "mail_timeout") from None
        raise DeliveryError(f"{where} broke off, or does not speak SMTP. Check encryption and port.", "mail_refused") from None
    except (socket.gaierror, UnicodeError):  # two dots in a row are no name at all
        raise DeliveryError(f"{where} does not resolve.", "mail_connect") from None
    except TimeoutError:
        raise DeliveryError(f"{where} did not answer in time.", "mail_timeout") from None
    except OSError as exc:
        raise DeliveryError(f"{where} does not accept the connection: {exc.strerror or type(exc).__name__}.", "mail_connect") from None


def _connected(server: MailServer, timeout: float) -> smtplib.SMTP:
    if server.encryption == "tls":
        return smtplib.SMTP_SSL(server.host, server.port, timeout=timeout, context=_context(server.ca_path))
    return smtplib.SMTP(server.host, server.port, timeout=timeout)


def _context(ca_path: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_path)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


# --- webhook -----------------------------------------------------------------------------------------------------------------


def check_webhook(hook: Webhook) -> None:
    """Refuse settings that cannot be meant, without repeating the URL; raises InvalidInput, MissingLibrary."""
    _deps.require("requests")
    try:
        parts = urlsplit(hook.url)
        host = parts.hostname or ""
        usable = parts.scheme in ("http", "https") and bool(host.encode("idna")) and parts.username is None and (parts.port or 1) > 0
        usable = usable and not re.search(r"\s|^[^:]*%", host)
    except ValueError:
        usable = False
    if not usable:
        raise InvalidInput(f"webhook {hook.name}: url is not an https URL without user name.", "url_not_allowed")
    if parts.scheme == "http" and hook.kind != "json":
        raise InvalidInput(f"webhook {hook.name}: the URL is the password of the channel and is not sent in the clear. Use https.", "insecure_connection")
    if any(character in "\r\n" or ord(character) > 255 for pair in hook.headers.items() for text in pair for character in text):
        raise InvalidInput(f"webhook {hook.name}: a header has a line end in it, or a character that HTTP does not carry.")
    _authorities(hook.ca_path)


def post(hook: Webhook, body: bytes, sleep: Callable[[float], None] = time.sleep) -> int:
    """Post a body; return the status. Tries again, boundedly, after 429, 5xx and a connection that never was. Raises DeliveryError."""
    late = DeliveryError(f"The webhook {hook.name} did not answer within {hook.timeout:g} seconds, all tries together.", "webhook_timeout")
    status: int = bounded(lambda deadline: _post(hook, body, deadline, sleep), hook.timeout, late)
    return status


def _post(hook: Webhook, body: bytes, deadline: float, sleep: Callable[[float], None]) -> int:
    number = 0
    while True:
        pause = PAUSES[min(number, len(PAUSES) - 1)]
        number += 1
        try:
            status, asked = _try(hook, body, deadline)
            if 200 <= status < 300:
                return status
            pause = pause if asked is None else asked
            failure = DeliveryError(f"The webhook {hook.name} answers {status}.", "webhook_status", status=status)
            again = status in WORTH_ANOTHER_TRY
        except DeliveryError as exc:
            failure, again = exc, exc.reason == "webhook_connect"
        if number == TRIES or not again or time.monotonic() + pause > deadline:
            raise failure
        sleep(pause)


def _try(hook: Webhook, body: bytes, deadline: float) -> tuple[int, float | None]:
    """Return the status, and the seconds that a Retry-After asks for."""
    left = max(0.1, deadline - time.monotonic())
    proxies = {"http": hook.proxy, "https": hook.proxy} if hook.proxy else {}
    if hook.proxy is None:
        proxies = dict(requests.utils.get_environ_proxies(hook.url))
    try:
        with requests.Session() as session:
            session.trust_env = False  # no .netrc; proxies were taken above
            session.mount("https://", adapter(hook.ca_path))
            with session.post(
                hook.url,
                data=body,
                headers={"User-Agent": "exchange.mitigation", **hook.headers, "Content-Type": "application/json; charset=utf-8"},
                proxies=proxies,
                verify=hook.ca_path or True,
                allow_redirects=False,
                stream=True,  # the answer's body tells nothing
                timeout=(max(1.0, left / TRIES), left),
            ) as response:
                return response.status_code, _retry_after(response.headers.get("Retry-After"))
    except Exception as exc:  # pylint: disable=broad-except  # the libraries raise many types, with the URL in their texts
        raise _failure(hook, exc) from None


def _retry_after(text: str | None) -> float | None:
    if text is None or not text.strip().isascii() or not text.strip().isdigit():
        return None
    return min(float(text.strip()[:6]), LONGEST_PAUSE)


def _failure(hook: Webhook, exc: BaseException) -> DeliveryError:
    """Return the DeliveryError for what requests and urllib3 raised."""
    chain = causes(exc)
    said = f"The webhook {hook.name}"
    # The webhook's own URL was looked at before, so a name that is none is that of the proxy.
    astray = (requests.exceptions.ProxyError, urllib3.exceptions.ProxyError, requests.exceptions.InvalidURL, urllib3.exceptions.LocationParseError)
    if any(isinstance(cause, astray) for cause in chain):
        return DeliveryError(f"The proxy does not lead to the webhook {hook.name}, or wants other credentials.", "webhook_proxy")
    if any(isinstance(cause, socket.gaierror) for cause in chain) or "NameResolutionError" in {type(cause).__name__ for cause in chain}:
        return DeliveryError(f"{said} has a host that does not resolve.", "webhook_connect")
    for cause in chain:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return DeliveryError(f"{said} shows a certificate that is not trusted. Set ca_path.", "webhook_tls")
    if any(isinstance(cause, (ssl.SSLError, requests.exceptions.SSLError)) for cause in chain):
        return DeliveryError(f"{said} does not complete the TLS handshake; the protocol must be 1.2 or newer.", "webhook_tls")
    if any(isinstance(cause, (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError, ConnectionRefusedError)) for cause in chain):
        return DeliveryError(f"{said} does not accept the connection.", "webhook_connect")
    if any(isinstance(cause, (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)) for cause in chain):
        return DeliveryError(f"{said} did not answer in time.", "webhook_timeout")
    return DeliveryError(f"{said} broke off ({type(exc).__name__}).", "webhook_broken")
