# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module notify against a real mail server and a real web server: what arrives, how often, and what never shows."""

from __future__ import annotations

import datetime
import pathlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.exchange.mitigation.plugins.module_utils import _notice_send
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import DeliveryError, InvalidInput, MitigationError
from ansible_collections.exchange.mitigation.plugins.modules import notify
from receivers import PASSWORD, USER, body, smtp, web

pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH")

FEED = {
    "feed": {"path": "/nowhere", "sha256": "0" * 64, "domain": "microsoft"},
    "mitigations": [
        {"id": "PING1", "description": "heartbeat", "supported": True, "kind": "none"},
        {"id": "M2", "description": "OWA", "supported": True, "kind": "rewrite"},
    ],
}
ADDRESSES = {"from": "exchange@example.com", "to": ["team@example.com", "second@example.com"]}


class Task:
    """What the action base hands to a module."""

    inventory_hostname = "localhost"

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params
        self.warnings: list[str] = []

    @property
    def host(self) -> Any:
        """There is no host."""
        raise AssertionError("the module notify contacts no host")

    exchange = host

    def now(self) -> datetime.datetime:
        """The current time."""
        return datetime.datetime.now(datetime.timezone.utc)

    def warn(self, message: str) -> None:
        """Keep a warning."""
        self.warnings.append(message)

    def progress(self, message: str) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from lab.pki import Pki

    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def files(pki: Any) -> Any:
    return pki.server("receiver", ["receiver.lab.example"], ["127.0.0.1"])


@pytest.fixture
def tell(tmp_path: pathlib.Path) -> Callable[..., dict[str, Any]]:
    def run(check: bool = False, **options: Any) -> dict[str, Any]:
        options = {"feed": FEED, "state_dir": str(tmp_path / "state"), **options}
        validated = ArgumentSpecValidator(**notify.SPEC).validate(options)
        assert not validated.error_messages, validated.error_messages
        task = Task(validated.validated_parameters)
        decision = notify.run(task)  # type: ignore[arg-type]
        result = dict(decision.result, changed=decision.changed)
        if not check and decision.effect is not None:
            result.update(decision.effect())
        return {**result, "warnings": task.warnings}

    return run


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_notice_send, "PAUSES", (0.05, 0.05))


def mail(box: Any, **more: Any) -> dict[str, Any]:
    return {"host": box.host, "port": box.port, "encryption": "none", **ADDRESSES, **more}


# --- mail --------------------------------------------------------------------------------------------------------------------


def test_a_mail_arrives_once(tell: Callable[..., dict[str, Any]]) -> None:
    with smtp() as box:
        first = tell(mail=mail(box))
        second = tell(mail=mail(box))
    assert [message["Subject"] for message in box.messages] == ["[exchange.mitigation] Exchange mitigations: 1 published"]
    assert "M2 is published (OWA); this collection can apply it." in body(box.messages[0])
    assert "PING1" not in body(box.messages[0])
    assert box.envelopes == [("exchange@example.com", ["team@example.com", "second@example.com"], False, False)]
    assert (first["changed"], second["changed"]) == (True, False)
    assert first["channels"] == [{"name": "mail", "kind": "mail", "new": 1, "sent": True, "reason": None, "msg": None}]
    assert second["channels"][0] | {"new": 0, "sent": False} == second["channels"][0]


@pytest.mark.parametrize("encryption", ["starttls", "tls"])
def test_a_mail_is_sent_under_tls_with_a_password(tell: Callable[..., dict[str, Any]], pki: Any, files: Any, encryption: str) -> None:
    with smtp(files, encryption, auth=True) as box:
        tell(mail=mail(box, encryption=encryption, ca_path=str(pki.tls_ca_path), username=USER, password=PASSWORD))
    assert [envelope[2:] for envelope in box.envelopes] == [(True, True)]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"encryption": "starttls", "username": USER, "password": "wr0ng-secret"}, "mail_auth"),
        ({"encryption": "starttls", "ca_path": None}, "mail_tls"),
        ({"encryption": "tls"}, "mail_tls"),
        ({"encryption": "none"}, "mail_sender"),
        ({"encryption": "starttls", "port": 9}, "mail_connect"),
    ],
    ids=["wrong-password", "unknown-authority", "no-tls-here", "tls-required", "nobody-there"],
)
def test_a_failure_has_a_code_a_sentence_and_no_secret(
    tell: Callable[..., dict[str, Any]], pki: Any, files: Any, options: dict[str, Any], reason: str
) -> None:
    with smtp(files, "starttls", auth=True) as box, pytest.raises(DeliveryError) as caught:
        tell(mail=mail(box, **{"ca_path": str(pki.tls_ca_path), **options}))
    assert caught.value.reason == reason
    assert caught.value.details["channels"][0]["reason"] == reason
    assert "secret" not in str(caught.value.details) + caught.value.message
    assert box.messages == []


def test_nothing_is_sent_to_a_server_without_starttls(tell: Callable[..., dict[str, Any]]) -> None:
    with smtp() as box, pytest.raises(DeliveryError) as caught:
        tell(mail=mail(box, encryption="starttls"))
    assert caught.value.reason == "mail_tls_missing"


def test_what_was_not_delivered_is_told_by_the_next_run(tell: Callable[..., dict[str, Any]]) -> None:
    with smtp() as box:
        box.answer = "451 later"
        with pytest.raises(DeliveryError) as caught:
            tell(mail=mail(box))
        assert caught.value.reason == "mail_refused"
        box.answer = "250 taken"
        tell(mail=mail(box))
        tell(mail=mail(box))
    assert len(box.messages) == 1


def test_a_refused_recipient_is_a_warning_and_the_others_are_told_once(tell: Callable[..., dict[str, Any]]) -> None:
    with smtp() as box:
        box.refuse = {"second@example.com"}
        result = tell(mail=mail(box))
        tell(mail=mail(box))
    assert [envelope[1] for envelope in box.envelopes] == [["team@example.com"]]
    assert "second@example.com" in result["warnings"][0]


def test_a_silent_mail_server_ends_in_time(tell: Callable[..., dict[str, Any]]) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        with pytest.raises(DeliveryError) as caught:
            tell(mail={"host": "127.0.0.1", "port": silent.getsockname()[1], "encryption": "none", "timeout": 1, **ADDRESSES})
    assert caught.value.reason == "mail_timeout"
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize("address", ["team@example.com\r\nBcc: all@example.com", "team", "a@b, c@d", "Name <a@b>"])
def test_an_address_cannot_end_a_header(tell: Callable[..., dict[str, Any]], address: str) -> None:
    with pytest.raises(InvalidInput):
        tell(mail={"host": "127.0.0.1", "from": "exchange@example.com", "to": [address]})


def test_a_password_is_not_sent_in_the_clear(tell: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(InvalidInput) as caught:
        tell(mail={"host": "127.0.0.1", "encryption": "none", "username": USER, "password": PASSWORD, **ADDRESSES})
    assert caught.value.reason == "insecure_connection"


def test_the_report_is_mailed_by_every_run(tell: Callable[..., dict[str, Any]], tmp_path: pathlib.Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("<!doctype html><title>fleet</title>", "utf-8")
    report = {"headline": "2 servers, nothing differs from what is wanted", "lines": ["EX1: fine", "EX2: fine"], "servers": []}
    with smtp() as box:
        tell(mail=mail(box), report=report, report_file=str(page))
        tell(mail=mail(box), report=report, report_file=str(page))
    assert len(box.messages) == 2
    assert ["M2 is published" in body(message) for message in box.messages] == [True, False]
    for message in box.messages:
        assert "EX2: fine" in body(message)
        (attached,) = message.iter_attachments()
        assert (attached.get_filename(), attached.get_content_type()) == ("report.html", "text/html")
        assert "<title>fleet</title>" in attached.get_content()
    assert "2 servers, nothing differs" in box.messages[1]["Subject"]


# --- webhooks ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["teams", "slack", "json"])
def test_a_post_arrives_once_in_the_shape_of_its_kind(tell: Callable[..., dict[str, Any]], pki: Any, files: Any, kind: str) -> None:
    with web(files) as box:
        hook = {"kind": kind, "url": box.url, "ca_path": str(pki.tls_ca_path), "proxy": ""}
        tell(webhooks=[hook], report_url="https://reports.example.com/")
        again = tell(webhooks=[hook])
    assert again["changed"] is False
    (post,) = box.posts
    assert box.headers[0]["Content-Type"] == "application/json; charset=utf-8"
    line = "M2 is published (OWA); this collection can apply it."
    if kind == "teams":
        assert post["type"] == "message"
        (attachment,) = post["attachments"]
        assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
        card = attachment["content"]
        assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
        assert line in [run["text"] for block in card["body"] for run in block["inlines"]]
        assert card["actions"][0]["url"] == "https://reports.example.com/"
    elif kind == "slack":
        assert post["text"].startswith("Exchange mitigations")
        assert {block["text"]["type"] for block in post["blocks"] if "text" in block} == {"plain_text"}
        assert any(line in block["text"]["text"] for block in post["blocks"] if "text" in block)
    else:
        assert (post["schema"], post["source"]) == (1, "exchange.mitigation")
        assert [(event["kind"], event["id"], event["text"]) for event in post["events"]] == [("published", "published/microsoft/M2", line)]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("statuses", "requests"), [([429, 503], 3), ([500], 2), ([502, 504], 3)])
def test_a_busy_channel_is_asked_again_and_told_once(tell: Callable[..., dict[str, Any]], statuses: list[int], requests: int) -> None:
    with web() as box:
        box.statuses = list(statuses)
        tell(webhooks=[{"url": box.url, "proxy": ""}])
        tell(webhooks=[{"url": box.url, "proxy": ""}])
    assert (len(box.posts), box.requests) == (1, requests)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("statuses", "requests"), [([503] * 9, 3), ([400] * 9, 1), ([404] * 9, 1), ([302] * 9, 1)])
def test_tries_are_bounded_and_a_redirect_is_not_followed(tell: Callable[..., dict[str, Any]], statuses: list[int], requests: int) -> None:
    with web() as box, web() as other:
        box.statuses, box.location = statuses, other.url
        with pytest.raises(DeliveryError) as caught:
            tell(webhooks=[{"url": box.url, "proxy": ""}])
    assert caught.value.reason == "webhook_status"
    assert (box.requests, other.requests, box.posts) == (requests, 0, [])


def test_a_wait_that_is_longer_than_the_time_left_ends_at_once(tell: Callable[..., dict[str, Any]]) -> None:
    with web() as box:
        box.statuses, box.retry_after = [429] * 9, "3600"
        begun = time.monotonic()
        with pytest.raises(DeliveryError):
            tell(webhooks=[{"url": box.url, "timeout": 5, "proxy": ""}])
    assert box.requests == 1
    assert time.monotonic() - begun < 3


@pytest.mark.usefixtures("quick")
def test_a_channel_that_fails_keeps_no_other_from_being_told(tell: Callable[..., dict[str, Any]]) -> None:
    with web() as good, web() as bad, smtp() as box:
        bad.statuses = [500] * 3
        hooks = [{"name": "bad", "url": bad.url, "proxy": ""}, {"name": "good", "url": good.url, "proxy": ""}]
        with pytest.raises(DeliveryError) as caught:
            tell(webhooks=hooks, mail=mail(box))
        assert [(row["name"], row["sent"]) for row in caught.value.details["channels"]] == [("mail", True), ("bad", False), ("good", True)]
        result = tell(webhooks=hooks, mail=mail(box), required=False)
    assert (len(good.posts), len(bad.posts), len(box.messages)) == (1, 1, 1)
    assert [row["new"] for row in result["channels"]] == [0, 1, 0]


def test_the_url_shows_in_no_failure(tell: Callable[..., dict[str, Any]], files: Any) -> None:
    hooks: list[dict[str, Any]] = [
        {"name": "authority", "kind": "teams"},
        {"name": "nobody", "url": "https://127.0.0.1:9/hook/Pl4nted-T0ken"},
        {"name": "proxied", "url": "https://hooks.invalid/hook/Pl4nted-T0ken", "proxy": "http://user:Pl4nted-Pr0xy@127.0.0.1:9"},
        {"name": "nowhere", "url": "https://hooks.invalid/hook/Pl4nted-T0ken", "proxy": ""},
    ]
    with web(files) as box:
        hooks[0] |= {"url": box.url, "proxy": ""}
        with pytest.raises(DeliveryError) as caught:
            tell(webhooks=[{"timeout": 5, **hook} for hook in hooks])
    reasons = {row["name"]: row["reason"] for row in caught.value.details["channels"]}
    assert reasons == {"authority": "webhook_tls", "nobody": "webhook_connect", "proxied": "webhook_proxy", "nowhere": "webhook_connect"}
    assert "Pl4nted" not in repr(caught.value.details) + caught.value.message
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("hooks", "word"),
    [
        ([{"url": "ftp://example.com/Pl4nted"}], "https"),
        ([{"url": "https://user:Pl4nted@example.com/"}], "user name"),
        ([{"url": "https://[Pl4nted"}], "https"),
        ([{"kind": "slack", "url": "http://127.0.0.1/Pl4nted"}], "https"),
        ([{"url": "https://example.com/1"}, {"url": "https://example.com/2"}], "two channels"),
        ([{"url": "https://example.com/1", "headers": {"X": "1\r\nY: 2"}}], "line end"),
        ([], "nobody"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(tell: Callable[..., dict[str, Any]], hooks: list[dict[str, Any]], word: str) -> None:
    with pytest.raises(MitigationError) as caught:
        tell(webhooks=hooks)
    assert word in caught.value.message.lower()
    assert "Pl4nted" not in caught.value.message


def test_headers_are_sent(tell: Callable[..., dict[str, Any]]) -> None:
    with web() as box:
        tell(webhooks=[{"url": box.url, "proxy": "", "headers": {"Authorization": "Bearer 1"}}])
    assert box.headers[0]["Authorization"] == "Bearer 1"


# --- memory ------------------------------------------------------------------------------------------------------------------


def test_check_mode_sends_and_remembers_nothing(tell: Callable[..., dict[str, Any]], tmp_path: pathlib.Path) -> None:
    with web() as box, smtp() as post:
        result = tell(check=True, webhooks=[{"url": box.url, "proxy": ""}], mail=mail(post))
    assert (box.requests, post.messages) == (0, [])
    assert result["changed"] is True
    assert [row["new"] for row in result["channels"]] == [1, 1]
    assert not list((tmp_path / "state").glob("notice-*"))


def test_a_new_url_for_the_same_name_is_the_same_channel(tell: Callable[..., dict[str, Any]]) -> None:
    with web() as box, web(path="/another/Pl4nted") as other:
        tell(webhooks=[{"name": "team", "url": box.url, "proxy": ""}])
        tell(webhooks=[{"name": "team", "url": other.url, "proxy": ""}])
    assert (box.requests, other.requests) == (1, 0)


def test_two_runs_at_once_tell_once(tell: Callable[..., dict[str, Any]]) -> None:
    with smtp() as box:
        threads = [threading.Thread(target=tell, kwargs={"mail": mail(box)}) for dummy in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(box.messages) == 1


def test_no_secret_is_in_the_state(tell: Callable[..., dict[str, Any]], pki: Any, files: Any, tmp_path: pathlib.Path) -> None:
    with web() as box, smtp(files, "tls", auth=True) as post:
        tell(
            webhooks=[{"url": box.url, "proxy": "", "headers": {"X-Key": "Pl4nted-Header"}}],
            mail=mail(post, encryption="tls", ca_path=str(pki.tls_ca_path), username=USER, password=PASSWORD),
        )
    kept = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}
    assert not any(b"Pl4nted" in path.read_bytes() for path in kept)


def test_a_damaged_memory_is_said_and_nothing_is_sent(tell: Callable[..., dict[str, Any]], tmp_path: pathlib.Path) -> None:
    with smtp() as box:
        tell(mail=mail(box))
        (kept,) = (tmp_path / "state").glob("notice-*.json")
        kept.write_text("{}", "utf-8")
        with pytest.raises(MitigationError) as caught:
            tell(mail=mail(box))
    assert caught.value.reason == "state_damaged"
    assert len(box.messages) == 1


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield
