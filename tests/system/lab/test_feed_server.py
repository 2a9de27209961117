# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's feed server: what it answers, counts, and does wrong on request."""

from __future__ import annotations

import http.client
import pathlib
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from lab import document
from lab.feed import FAULTS, Feed
from lab.pki import Pki


@pytest.fixture
def log() -> list[dict[str, Any]]:
    """What the server logs."""
    return []


@pytest.fixture
def feed(tmp_path: pathlib.Path, log: list[dict[str, Any]]) -> Iterator[Feed]:
    """A served feed."""
    made = Feed(Pki(tmp_path / "pki"), tmp_path / "feed", log.append)
    made.start()
    yield made
    made.stop()


def _context(feed: Feed) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(feed.pki.tls_ca_path))


def _connect(feed: Feed) -> http.client.HTTPSConnection:
    return http.client.HTTPSConnection("127.0.0.1", feed.port, context=_context(feed), timeout=10)


def _get(feed: Feed, path: str = "/GetExchangeMitigations") -> tuple[int, bytes, dict[str, str]]:
    connection = _connect(feed)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


def test_answer_is_the_published_document(feed: Feed, log: list[dict[str, Any]]) -> None:
    status, body, headers = _get(feed)
    assert (status, body) == (200, feed.published.data)
    assert (headers["content-type"], headers["cache-control"], headers["expires"]) == ("application/xml; charset=utf-8", "no-cache", "-1")
    assert {"x-correlationid", "x-officefe", "x-officeversion", "x-officecluster"} <= set(headers)
    assert _get(feed, "/getexchangemitigations")[1] == body
    assert feed.fetches == 2
    assert all(record.pop("bytes_in") > 50 for record in log)
    assert log == [{"server": "feed", "endpoint": "feed", "action": "GET", "cmdlets": [], "write": False, "bytes_out": len(body), "status": 200}] * 2


def test_only_the_lab_ca_is_behind_it(feed: Feed) -> None:
    with pytest.raises(urllib.error.URLError, match="certificate verify failed"):
        urllib.request.urlopen(feed.url, timeout=5, context=ssl.create_default_context())
    assert feed.fetches == 0
    assert _get(feed)[0] == 200


def test_other_paths_are_not_counted(feed: Feed) -> None:
    assert _get(feed, "/")[0] == 404
    assert feed.fetches == 0
    for shape in document.SHAPES:
        status, body, dummy = _get(feed, f"/shapes/{shape}")
        assert status == 200 and body.endswith(b"</EOCS>")
    assert feed.fetches == 0


def test_published_document_changes(feed: Feed) -> None:
    before = _get(feed)[1]
    made = feed.publish([document.ping(), document.config("M3", "A new one", "foreign")], version="1.0.5")
    assert _get(feed)[1] == made.data != before
    assert (feed.folder / "feed.xml").read_bytes() == made.data and made.ids == ("PING1", "M3")


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        ("feed-content-type", 200, "text/html; charset=utf-8"),
        ("feed-redirect", 302, "text/html"),
        ("feed-404", 404, "text/html"),
        ("feed-500", 500, "text/html"),
        ("feed-forged", 200, "application/xml; charset=utf-8"),
        ("feed-unsigned", 200, "application/xml; charset=utf-8"),
    ],
)
def test_faults(feed: Feed, fault: str, status: int, kind: str) -> None:
    feed.fault = fault
    found, body, headers = _get(feed)
    assert (found, headers["content-type"]) == (status, kind)
    assert body != feed.published.data and feed.fetches == 1
    assert (headers.get("location") == "/elsewhere") == (fault == "feed-redirect")
    assert (b"<Signature" in body) == (fault == "feed-forged")


def test_truncated_answer(feed: Feed) -> None:
    feed.fault = "feed-truncated"
    with pytest.raises(http.client.IncompleteRead):
        _get(feed)


def test_huge_answer_goes_on(feed: Feed) -> None:
    feed.fault = "feed-huge"
    connection = _connect(feed)
    connection.request("GET", "/GetExchangeMitigations")
    assert len(connection.getresponse().read(8 << 20)) == 8 << 20
    connection.close()


def test_slow_answer_is_slow(feed: Feed) -> None:
    feed.fault = "feed-slow"
    connection = _connect(feed)
    begin = time.monotonic()
    connection.request("GET", "/GetExchangeMitigations")
    assert connection.getresponse().read(2) == b"<?" and time.monotonic() - begin > 0.9
    connection.close()


def test_every_fault_is_tested() -> None:
    assert set(FAULTS) == {
        *("feed-content-type", "feed-redirect", "feed-404", "feed-500", "feed-forged", "feed-unsigned"),
        *("feed-truncated", "feed-huge", "feed-slow"),
    }
