# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a notice leaves the controller, and what is said where it does not: servers that are silent, odd or not there at all."""

from __future__ import annotations

import contextlib
import email.message
import pathlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _notice_send
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import DeliveryError, InvalidInput, MitigationError
from ansible_collections.exchange.mitigation.plugins.module_utils._notice_send import MailServer, Webhook

SECRET = "Pl4nted-T0ken"


@contextlib.contextmanager
def listening(*answers: bytes, silent: bool = False) -> Iterator[int]:
    """Listen on loopback; send each answer to one connection after it has said something, and close it, or be ``silent`` until the end."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)

        def serve() -> None:
            for answer in answers:
                with contextlib.suppress(OSError), listener.accept()[0] as connection:
                    if answer[:3] == b"220":
                        connection.sendall(answer)
                    connection.recv(65536)
                    if answer[:3] != b"220":
                        connection.sendall(answer)
                    if silent:
                        over.wait(10)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
    thread.join(10)


def mail_server(port: int = 25, **more: Any) -> MailServer:
    """Return a mail server without encryption on loopback."""
    options = {"host": "127.0.0.1", "encryption": "none", "username": None, "password": None, "ca_path": None, "timeout": 5.0}
    return MailServer(**{**options, "port": port, **more})


def webhook(url: str, **more: Any) -> Webhook:
    """Return a webhook that no proxy stands before."""
    return Webhook(**{"name": "chat", "kind": "json", "url": url, "proxy": "", "ca_path": None, "headers": {}, "timeout": 5.0, **more})


def mailed(server: MailServer) -> list[str]:
    """Mail something."""
    message = email.message.EmailMessage()
    message.set_content("text")
    return _notice_send.send_mail(server, message, "a@example.com", ["b@example.com"])


def failure(work: Callable[[], Any]) -> DeliveryError:
    """Return the error of a delivery, which never shows what the URL has in it."""
    with pytest.raises(DeliveryError) as caught:
        work()
    assert SECRET not in caught.value.message + repr(caught.value.details)
    assert caught.value.__cause__ is None
    return caught.value


def refusal(check: Callable[[Any], None], settings: Any) -> MitigationError:
    """Return the error of settings that cannot be meant."""
    with pytest.raises(InvalidInput) as caught:
        check(settings)
    assert SECRET not in caught.value.message
    return caught.value


# --- settings ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "reason", "said"),
    [
        ({"username": "u", "password": SECRET}, "insecure_connection", "a password is not sent without encryption"),
        ({"username": "u", "encryption": "tls"}, "credentials_missing", "username is set and password is not"),
        ({"username": "u", "password": SECRET + "\u00fc", "encryption": "tls"}, "invalid_input", "ASCII characters only"),
        ({"ca_path": "/nowhere/ca.pem"}, "invalid_input", "ca_path /nowhere/ca.pem does not exist on the controller"),
    ],
)
def test_settings_of_the_mail_server_that_cannot_be_meant(settings: dict[str, Any], reason: str, said: str) -> None:
    found = refusal(_notice_send.check_mail, mail_server(**settings))
    assert (found.reason, said in found.message) == (reason, True)


@pytest.mark.parametrize(
    ("settings", "reason", "said"),
    [
        ({"kind": "slack", "url": f"http://hooks.example.com/{SECRET}"}, "insecure_connection", "is not sent in the clear"),
        ({"url": f"https://hooks.example.com:0x/{SECRET}"}, "url_not_allowed", "is not an https URL"),
        ({"url": f"https://hooks..example.com/{SECRET}"}, "url_not_allowed", "is not an https URL"),
        ({"url": f"https://hooks example.com/{SECRET}"}, "url_not_allowed", "is not an https URL"),
        ({"url": f"https://{'h' * 64}.example.com/{SECRET}"}, "url_not_allowed", "is not an https URL"),
        ({"url": f"https://hooks%00.example.com/{SECRET}"}, "url_not_allowed", "is not an https URL"),
        ({"url": f"https:///{SECRET}"}, "url_not_allowed", "is not an https URL"),
        ({"headers": {"X-Key": f"{SECRET}\u20ac"}}, "invalid_input", "a character that HTTP does not carry"),
        ({"headers": {"X-Key": f"{SECRET}\r\nX: y"}}, "invalid_input", "a line end"),
        ({"ca_path": "/nowhere/ca.pem"}, "invalid_input", "ca_path /nowhere/ca.pem does not exist on the controller"),
    ],
)
def test_settings_of_a_webhook_that_cannot_be_meant(settings: dict[str, Any], reason: str, said: str) -> None:
    found = refusal(_notice_send.check_webhook, webhook(**{"url": "https://hooks.example.com/", **settings}))
    assert (found.reason, said in found.message) == (reason, True)


def test_settings_that_can_be_meant_pass(tmp_path: pathlib.Path) -> None:
    authorities = tmp_path / "ca.pem"
    authorities.touch()
    _notice_send.check_mail(mail_server(username="u", password="p", encryption="starttls", ca_path=str(authorities)))
    for host in ("hooks.example.com", "hooks.example.com.", "chat_1:8443", "[::1]", "[fe80::1%25eth0]", "192.0.2.1", "b\u00fccher.example"):
        _notice_send.check_webhook(webhook(f"https://{host}/", headers={"X-Key": "\u00e9"}, ca_path=str(authorities)))


# --- mail --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["mail..example.com", "m" * 64 + ".example.com"])
def test_a_name_that_is_none_does_not_resolve(host: str) -> None:
    """A second dot by mistake is not said to be a server that speaks something else."""
    found = failure(lambda: mailed(mail_server(host=host)))
    assert (found.reason, found.message) == ("mail_connect", f"The mail server {host}:25 does not resolve.")


def test_a_server_that_goes_silent_is_late_and_does_not_speak_another_language(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the connection's own patience ends just before that of the whole delivery."""
    monkeypatch.setattr(_notice_send, "bounded", lambda work, dummy_seconds, dummy_late: work(time.monotonic() + 0.5))
    with listening(b"220 mail.example.com\r\n", silent=True) as port:
        found = failure(lambda: mailed(mail_server(port)))
    assert (found.reason, found.message) == ("mail_timeout", f"The mail server 127.0.0.1:{port} did not answer in time.")


@pytest.mark.parametrize(
    ("answer", "encryption", "reason", "said"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "tls", "mail_tls", "does not complete the TLS handshake"),
        (b"220 mail.example.com\r\n", "none", "mail_refused", "broke off, or does not speak SMTP"),
    ],
)
def test_a_port_where_something_else_answers(answer: bytes, encryption: str, reason: str, said: str) -> None:
    with listening(answer) as port:
        found = failure(lambda: mailed(mail_server(port, encryption=encryption)))
    assert (found.reason, said in found.message) == (reason, True)


def test_a_port_where_nobody_is() -> None:
    with listening() as port:
        pass
    found = failure(lambda: mailed(mail_server(port)))
    assert (found.reason, "does not accept the connection" in found.message) == ("mail_connect", True)


# --- webhook -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proxy", ["http://", "http://user:Pl4nted-T0ken@:8080", "http://proxy..example.com:8080", "http://127.0.0.1:9"])
def test_a_proxy_that_leads_nowhere_is_not_taken_for_the_webhook(proxy: str) -> None:
    found = failure(lambda: _notice_send.post(webhook("https://hooks.example.com/", proxy=proxy), b"{}", lambda dummy: None))
    assert (found.reason, "The proxy does not lead to the webhook chat" in found.message) == ("webhook_proxy", True)


def test_a_port_that_speaks_no_tls() -> None:
    with listening(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        found = failure(lambda: _notice_send.post(webhook(f"https://127.0.0.1:{port}/{SECRET}"), b"{}"))
    assert (found.reason, "does not complete the TLS handshake" in found.message) == ("webhook_tls", True)


def test_a_port_that_says_nothing_to_a_handshake() -> None:
    with listening(b"", silent=True) as port:
        found = failure(lambda: _notice_send.post(webhook(f"https://127.0.0.1:{port}/{SECRET}"), b"{}"))
    assert (found.reason, found.message) == ("webhook_timeout", "The webhook chat did not answer in time.")


def test_a_connection_that_ends_without_an_answer_is_not_tried_again() -> None:
    """The message may have been taken: a second one would tell it twice."""
    pauses: list[float] = []
    with listening(b"") as port:
        found = failure(lambda: _notice_send.post(webhook(f"http://127.0.0.1:{port}/{SECRET}"), b"{}", pauses.append))
    assert (found.reason, found.message, pauses) == ("webhook_broken", "The webhook chat broke off (ConnectionError).", [])


def answer(status: str, *headers: str) -> bytes:
    """Return an HTTP answer without a body."""
    return "\r\n".join([f"HTTP/1.1 {status}", "Content-Length: 0", *headers, "", ""]).encode()


@pytest.mark.parametrize(
    ("headers", "pauses"),
    [
        ((), [1.0, 2.0]),
        (("Retry-After: 0",), [0.0, 0.0]),
        (("Retry-After: 3",), [3.0, 3.0]),
        (("Retry-After: Wed, 21 Oct 2026 07:28:00 GMT",), [1.0, 2.0]),
        (("Retry-After: \u00b2".encode().decode("latin-1"),), [1.0, 2.0]),
    ],
    ids=["none", "at once", "seconds", "date", "no digit"],
)
def test_a_busy_channel_is_tried_so_often_and_no_more(headers: tuple[str, ...], pauses: list[float]) -> None:
    slept: list[float] = []
    with listening(*[answer("503 Busy", *headers)] * _notice_send.TRIES) as port:
        found = failure(lambda: _notice_send.post(webhook(f"http://127.0.0.1:{port}/{SECRET}"), b"{}", slept.append))
    assert (found.reason, found.message, found.details) == ("webhook_status", "The webhook chat answers 503.", {"status": 503})
    assert slept == pauses


def test_a_channel_that_takes_it_at_the_last_try_has_it() -> None:
    with listening(answer("503 Busy"), answer("429 Slow down"), answer("204 Taken")) as port:
        assert _notice_send.post(webhook(f"http://127.0.0.1:{port}/{SECRET}"), b"{}", lambda dummy: None) == 204
