# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proxies, restarts and the way to the feed, from answers as they come; findings from facts."""

from __future__ import annotations

import datetime
import struct
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _findings, _surroundings
from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import PSObject
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Answer, ErrorRecord, call


def blob(proxy: str, bypass: str = "", head: int = 0x28, flags: int | None = None) -> bytes:
    texts = [proxy.encode(), bypass.encode()]
    flags = flags if flags is not None else 3 if proxy else 1
    return struct.pack("<III", head, 7, flags) + b"".join(struct.pack("<I", len(text)) + text for text in texts)


@pytest.mark.parametrize(
    ("data", "state", "proxy", "bypass"),
    [
        (blob("p:8080", "*.x;<local>"), "proxy", "p:8080", "*.x;<local>"), (blob("", head=0x18), "direct", None, None),
        (blob("p:1") + bytes(8), "proxy", "p:1", None),
        (b"", "unknown", None, None), (blob("p:1", head=0x46), "unknown", None, None), (blob("p:1", flags=5), "unknown", None, None),
        (blob("p:1", flags=1), "unknown", None, None), (blob("p:8080")[:-6], "unknown", None, None), (blob("", flags=3), "unknown", None, None),
        (struct.pack("<IIII", 0x28, 0, 3, 2**31) + b"p", "unknown", None, None), (blob("p").replace(b"p", b"\xff"), "unknown", None, None),
    ],
)  # fmt: skip
def test_winhttp(data: bytes, state: str, proxy: str | None, bypass: str | None) -> None:
    assert _surroundings.parse_winhttp(data) == {"state": state, "proxy": proxy, "bypass": bypass}


@pytest.mark.parametrize(
    ("own", "known", "state", "system", "agree"),
    [
        (None, True, "direct", None, True), ("http://P:8080/", True, "proxy", "p:8080", True), ("http://p:8080/", True, "proxy", "http=q:1;https=p:8080", True),
        ("http://p:8080/", True, "direct", None, False), (None, True, "proxy", "p:8080", False), (None, True, "proxy", "http=p:8080", True),
        ("http://p/", True, "proxy", "p:80", True), (None, False, "direct", None, None), ("http://p/", True, "unknown", None, None),
        ("http://p:8080/", True, "proxy", "p:8081", False),
    ],
)  # fmt: skip
def test_proxies(own: str | None, known: bool, state: str, system: str | None, agree: bool | None) -> None:
    assert _surroundings.proxies(own, known, {"state": state, "proxy": system, "bypass": None})["agree"] is agree


@pytest.mark.parametrize(
    ("version", "file", "expected"),
    [
        ("6.3.9600", False, (True, False)),
        ("6.3.9600", True, (True, True)),
        ("10.0.14393", False, (False, True)),
        ("6.2.9200", None, (True, None)),
        ("", True, (None, True)),
        ("9" * 5000, True, (False, True)),
    ],
)
def test_ucrt(version: str, file: bool | None, expected: tuple[bool | None, bool | None]) -> None:
    answers = {"ucrt": Answer((), (file,) if file is not None else (), ())}
    assert tuple(_surroundings.ucrt(answers, version).values()) == expected


def error(fqid: str, message: str) -> ErrorRecord:
    return ErrorRecord(message, fqid, "", "System.Net.WebException", "")


WEB = "WebCmdletWebResponseException,Microsoft.PowerShell.Commands.InvokeWebRequestCommand"
DNS_GONE = error("DNS_ERROR_RCODE_NAME_ERROR,Microsoft.DnsClient.Commands.ResolveDnsName", "gone")
HIDDEN = error("CommandNotFoundException", "not recognized")


class Host:
    """A server whose three cmdlets answer as told."""

    def __init__(self, named: Any, connected: Any, answered: Any) -> None:
        self.answers = {"Resolve-DnsName": named, "Test-NetConnection": connected, "Invoke-WebRequest": answered}
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def read(self, statements: Any) -> list[Answer]:
        found = []
        for (item,) in statements:
            self.calls.append((item.cmdlet, dict(item.parameters)))
            value = self.answers[item.cmdlet]
            found.append(Answer((item,), (), (value,)) if isinstance(value, ErrorRecord) else Answer((item,), (PSObject(properties=value),), ()))
        return found

    def change(self, dummy: Any) -> Answer:
        raise AssertionError


FOUND, OPEN, SHUT = {"IPAddress": "203.0.113.10"}, {"TcpTestSucceeded": True}, {"TcpTestSucceeded": False}


@pytest.mark.parametrize(
    ("named", "connected", "answered", "steps", "status", "state"),
    [
        (FOUND, OPEN, {"StatusCode": 200}, ("ok", "ok", "ok", "ok"), 200, "reachable"),
        (DNS_GONE, SHUT, error(WEB, "Der Remotename konnte nicht aufgelöst werden"), ("failed", "failed", "unknown", "unknown"), None, "unreachable"),
        (FOUND, SHUT, error(WEB, "Unable to connect"), ("ok", "failed", "unknown", "unknown"), None, "unreachable"),
        (FOUND, OPEN, error(WEB, "No trust relationship could be established."), ("ok", "ok", "failed", "unknown"), None, "unreachable"),
        (FOUND, OPEN, error(WEB, "Es konnte keine Vertrauensstellung hergestellt werden."), ("ok", "ok", "unknown", "unknown"), None, "unknown"),
        (FOUND, OPEN, error(WEB, "Der Remoteserver meldet (503) Server nicht verfügbar."), ("ok", "ok", "ok", "failed"), 503, "unreachable"),
        (FOUND, OPEN, error(WEB, "(407) Proxy Authentication Required."), ("ok", "ok", "unknown", "failed"), 407, "unreachable"),
        (HIDDEN, HIDDEN, {"StatusCode": 200}, ("unknown", "ok", "ok", "ok"), 200, "reachable"),
        (HIDDEN, HIDDEN, HIDDEN, ("unknown", "unknown", "unknown", "unknown"), None, "unknown"),
    ],
)  # fmt: skip
def test_reach(named: Any, connected: Any, answered: Any, steps: tuple[str, ...], status: int | None, state: str) -> None:
    host = Host(named, connected, answered)
    found = _surroundings.reach(host, "https://feed.example/x", None).as_dict()
    assert (tuple(found[key] for key in ("dns", "tcp", "tls", "http")), found["status"], found["state"]) == (steps, status, state)
    assert [name for name, dummy in host.calls] == ["Resolve-DnsName", "Test-NetConnection", "Invoke-WebRequest"]


def test_a_proxy_is_what_is_looked_up() -> None:
    host = Host(FOUND, OPEN, {"StatusCode": 200})
    found = _surroundings.reach(host, "https://feed.example/x", "http://proxy.example:8080/")
    assert (found.via, host.calls[0][1]["Name"], host.calls[1][1]["Port"], host.calls[2][1]["Proxy"]) == (
        "http://proxy.example:8080/", "proxy.example", 8080, "http://proxy.example:8080/",
    )  # fmt: skip


def test_answers_that_say_nothing() -> None:
    assert _surroundings.pending_reboot({}) is None
    assert _surroundings.winhttp({})["state"] == "unknown"
    gone = Answer((call("Get-ItemProperty"),), (), (error("PathNotFound,x", "gone"),))
    assert _surroundings.winhttp({"winhttp": gone})["state"] == "direct"
    denied = Answer((call("Get-ItemProperty"),), (), (error("AccessDenied,x", "no"),))
    assert _surroundings.winhttp({"winhttp": denied})["state"] == "unknown"


# --- findings ------------------------------------------------------------------------------------------------------------------

NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.timezone.utc)


def facts(**changed: Any) -> dict[str, Any]:
    em = {
        "supported": True, "state": "Enabled", "service": {"state": "Running"}, "last_success_hours": 0, "can_read_newer_feeds": True,
        **changed.pop("em", {}),
    }  # fmt: skip
    return {
        "em": em, "mitigations": [{"id": "M1", "needed": "no", "state": "absent"}], "url_rewrite": {"installed": True},
        "ucrt": {"update_needed": False, "installed": True}, "pending_reboot": [], "proxies": {"agree": True}, "reachability": None, **changed,
    }  # fmt: skip


CASES: dict[str, dict[str, Any]] = {
    "mitigation_missing": {"mitigations": [{"id": "M2", "needed": "yes", "state": "disabled"}]},
    "em_unavailable": {"em": {"supported": False, "service": None}},
    "em_disabled": {"em": {"state": "Disabled on org level"}},
    "em_service_not_running": {"em": {"service": {"state": "Stopped"}}},
    "em_silent": {"em": {"last_success_hours": 24}},
    "em_cannot_read_newer_feeds": {"em": {"can_read_newer_feeds": False}},
    "url_rewrite_missing": {"url_rewrite": {"installed": False}},
    "ucrt_missing": {"ucrt": {"update_needed": True, "installed": False}},
    "reboot_pending": {"pending_reboot": ["file_rename"]},
    "proxies_differ": {"proxies": {"agree": False}},
    "feed_unreachable": {"reachability": {"state": "unreachable", "url": "https://x/"}},
}


def test_every_finding_alone_and_none_on_a_sound_server() -> None:
    assert tuple(CASES) == _findings.CODES
    assert _findings.findings(facts()) == []
    for code, changed in CASES.items():
        (one,) = _findings.findings(facts(**{key: dict(value) if isinstance(value, dict) else value for key, value in changed.items()}))
        assert one["code"] == code
        assert one["text"].endswith(".")


@pytest.mark.parametrize(
    "quiet",
    [{"em": {"state": "Disabled", "last_success_hours": 99, "supported": False}}, {"em": {"last_success_hours": None}},
     {"pending_reboot": None}, {"proxies": {"agree": None}},
     {"mitigations": [{"id": "M2", "needed": "yes", "state": "unknown"}]}, {"reachability": {"state": "unknown", "url": "https://x/"}}],
)  # fmt: skip
def test_what_is_not_known_is_no_finding(quiet: dict[str, Any]) -> None:
    assert [found["code"] for found in _findings.findings(facts(**quiet))] in ([], ["em_unavailable"])


@pytest.mark.parametrize(
    ("moment", "hours"),
    [
        (None, None),
        ("", None),
        ("2026-11-24T11:00:01Z", 0),
        ("2026-11-23T12:00:00+00:00", 24),
        ("2026-11-24T10:00:00", 2),
        ("2027-01-01T00:00:00Z", 0),
        ("soon", None),
    ],
)
def test_hours_since(moment: str | None, hours: int | None) -> None:
    assert _findings.hours_since(moment, NOW) == hours
