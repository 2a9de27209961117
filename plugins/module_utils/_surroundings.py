# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What surrounds Exchange on a server: pending restarts, the Universal C Runtime, the proxy of WinHTTP, and the way to the feed.

The first three come with the first pipeline of a server, the way to the feed costs two pipelines of its own.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import ntpath
import re
import struct
import urllib.parse
from collections.abc import Mapping
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import PSObject, plain
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Answer, Session, Statement, call
from ansible_collections.exchange.mitigation.plugins.module_utils._reboot import pending_reasons, pending_statements
from ansible_collections.exchange.mitigation.plugins.module_utils._registry_keys import CONNECTIONS

#: First bytes of WinHttpSettings, and the flags behind them (assumed, see the lab's register: winhttp-settings).
_WINHTTP_HEADS, _DIRECT, _PROXY = (0x18, 0x28), 1, 3
_STATUS = re.compile(r"\((\d{3})\)")
#: What .NET says in English of a certificate that Windows does not trust; in other languages it stays unknown.
_UNTRUSTED = "trust relationship"
SECONDS = 20


# --- with the first pipeline -------------------------------------------------------------------------------------------------


def statements(windows: str) -> dict[str, Statement]:
    """The reads, by name."""
    return {
        **pending_statements(),
        "ucrt": (call("Test-Path", LiteralPath=ntpath.join(windows, "System32", "ucrtbase.dll"), PathType="Leaf"),),
        "winhttp": (call("Get-ItemProperty", LiteralPath=CONNECTIONS),),
    }


def pending_reboot(answers: Mapping[str, Answer]) -> list[str] | None:
    """Return why Windows wants a restart, empty for not at all, None where it does not say."""
    if "pending_flags" not in answers or not answers["pending_flags"].objects:
        return None
    return list(pending_reasons(answers))


def ucrt(answers: Mapping[str, Answer], os_version: Any) -> dict[str, bool | None]:
    """Return whether this Windows needs the update that brings the Universal C Runtime (2012, 2012 R2; all later ones have it), and whether it is there."""
    numbers = tuple(int(part) for part in re.findall(r"\d{1,9}", str(os_version or ""))[:2])
    found = answers["ucrt"].objects if "ucrt" in answers else ()
    needed = (6, 0) <= numbers < (10, 0) if numbers else None
    return {"update_needed": needed, "installed": True if needed is False else plain(found[0]) is True if found else None}


def winhttp(answers: Mapping[str, Answer]) -> dict[str, Any]:
    """Return the proxy of WinHTTP: ``state`` direct, proxy or unknown, ``proxy`` and ``bypass`` as Windows keeps them."""
    answer = answers.get("winhttp")
    bag = next((item for item in answer.objects if isinstance(item, PSObject)), None) if answer else None
    value = plain(bag.get("WinHttpSettings")) if bag is not None else None
    if value is None:
        gone = answer is not None and (bag is not None or not answer.errors or answer.errors[0].fqid.startswith("PathNotFound,"))
        return {"state": "direct" if gone else "unknown", "proxy": None, "bypass": None}
    return parse_winhttp(value) if isinstance(value, bytes) else {"state": "unknown", "proxy": None, "bypass": None}


def parse_winhttp(data: bytes) -> dict[str, Any]:
    """Return what the bytes of WinHttpSettings say; anything that does not fit to the last length is unknown."""
    unknown: dict[str, Any] = {"state": "unknown", "proxy": None, "bypass": None}
    try:
        head, dummy_counter, flags = struct.unpack_from("<III", data)
        if head not in _WINHTTP_HEADS or flags not in (_DIRECT, _PROXY):
            return unknown
        texts, place = [], 12
        for dummy in range(2):
            (length,) = struct.unpack_from("<I", data, place)
            if place + 4 + length > len(data):
                return unknown
            texts.append(data[place + 4 : place + 4 + length].decode("ascii"))
            place += 4 + length
    except (struct.error, UnicodeDecodeError):
        return unknown
    proxy, bypass = texts
    if (flags == _PROXY) is not bool(proxy):
        return unknown
    return {"state": "proxy" if proxy else "direct", "proxy": proxy or None, "bypass": bypass or None}


def proxies(own: str | None, known: bool, system: Mapping[str, Any]) -> dict[str, Any]:
    """Return both proxies and whether they agree; EM needs the one and Windows, for revocation lists, the other (FACTS.md 7).

    ``own`` is InternetWebProxy, ``known`` whether the organisation told it.
    """
    agree: bool | None = None
    if known and system["state"] != "unknown":
        agree = _place(own) == _place(_for_https(system["proxy"]))
    return {"internet_web_proxy": own, "winhttp": dict(system), "agree": agree}


def _for_https(proxy: str | None) -> str | None:
    """Return the proxy that WinHTTP uses for HTTPS, from ``host:port`` or ``http=host:port;https=host:port``."""
    if not proxy or "=" not in proxy:
        return proxy
    entries = dict(entry.split("=", 1) for entry in re.split(r"[;\s]+", proxy) if "=" in entry)
    return entries.get("https")


def _place(proxy: str | None) -> tuple[str, int] | None:
    if not proxy:
        return None
    try:
        parts = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        return (parts.hostname or "").lower(), parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return proxy.lower(), 0


# --- the way to the feed -----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Reach:
    """The way from a server to a URL, step by step: each ``ok``, ``failed`` or ``unknown``. ``status`` is that of HTTP.

    With a proxy, names and connection are those of the proxy.
    """

    url: str
    via: str | None
    dns: str
    addresses: tuple[str, ...]
    tcp: str
    tls: str
    http: str
    status: int | None
    message: str | None

    @property
    def verdict(self) -> str:
        """reachable, unreachable or unknown, as a whole."""
        if self.http == "ok":
            return "reachable"
        return "unreachable" if "failed" in (self.tcp, self.tls, self.http) or (self.dns == "failed" and self.tcp != "ok") else "unknown"

    def as_dict(self) -> dict[str, Any]:
        """Return the shape for users."""
        return {**dataclasses.asdict(self), "addresses": list(self.addresses), "state": self.verdict}


def reach(host: Session, url: str, via: str | None) -> Reach:
    """Try the way to a URL from the server itself, in two pipelines. Nothing that fails is an error here.

    Only what is typed counts: the records of DNS, TcpTestSucceeded, StatusCode, and the status in brackets that every language has.
    """
    parts = urllib.parse.urlsplit(via or url)
    name, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    named, connected = host.read([
        (call("Resolve-DnsName", Name=name, Type="A", DnsOnly=True),),
        (call("Test-NetConnection", ComputerName=name, Port=port, WarningAction="SilentlyContinue"),),
    ])  # fmt: skip
    addresses = tuple(str(item.get("IPAddress")) for item in named.objects if isinstance(item, PSObject) and item.get("IPAddress"))
    dns = "ok" if addresses else "failed" if any("DNS_ERROR_" in error.fqid for error in named.errors) else "unknown"
    opened = next((plain(item.get("TcpTestSucceeded")) for item in connected.objects if isinstance(item, PSObject)), None)
    tcp = {True: "ok", False: "failed"}.get(opened, "unknown") if isinstance(opened, bool) else "unknown"
    more = {"Proxy": via} if via else {}
    (answer,) = host.read([(call("Invoke-WebRequest", Uri=url, UseBasicParsing=True, TimeoutSec=SECONDS, **more),)])
    tls, http, status, message = _judged(answer)
    if status is not None:
        tcp = "ok"  # an answer came, whatever the test of the port says
    return Reach(url, via, dns, addresses, tcp, tls, http, status, message)


def _judged(answer: Answer) -> tuple[str, str, int | None, str | None]:
    """Return TLS, HTTP, status and the raw text of an answer of Invoke-WebRequest."""
    found = next((item for item in answer.objects if isinstance(item, PSObject)), None)
    status = plain(found.get("StatusCode")) if found is not None else None
    if isinstance(status, int):
        return "ok", "ok" if status < 400 else "failed", status, None
    if not answer.errors:
        return "unknown", "unknown", None, None
    message = " ".join(answer.errors[0].message.split())[:300]
    bracketed = _STATUS.search(message)
    if bracketed:
        # 407 is the proxy's own answer: nothing was said of the server behind it.
        code = int(bracketed[1])
        return ("unknown" if code == 407 else "ok"), "failed", code, message
    return ("failed" if _UNTRUSTED in message else "unknown"), "unknown", None, message
