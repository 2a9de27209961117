# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's feed, made and served by code that shares nothing with the verifier nor with the corpus: fetched over TLS, proven, refused."""

from __future__ import annotations

import datetime
import pathlib
from collections.abc import Iterator

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _fetch, _parse, _roots, _verify
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import FetchError, VerifyError

from lab import document, pki
from lab.feed import Feed


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Feed]:
    """A feed server on loopback."""
    folder = tmp_path_factory.mktemp("feed")
    made = Feed(pki.Pki(folder / "pki"), folder / "feed")
    made.start()
    yield made
    made.stop()


def policy(feed: Feed) -> _verify.Policy:
    """Trust the lab's roots."""
    roots, stamps = (_roots.read_certificates(pathlib.Path(p).read_bytes(), str(p)) for p in (feed.pki.feed_root_path, feed.pki.timestamp_root_path))
    return _verify.Policy(tuple(roots), tuple(stamps))


def proven(feed: Feed, data: bytes) -> tuple[_verify.Verified, _parse.Document]:
    """Return the proof of a document, today."""
    verified = _verify.verify(data, policy(feed), datetime.datetime.now(datetime.timezone.utc))
    return verified, _parse.parse(verified.root)


def test_published_document(feed: Feed) -> None:
    """Fetched through TLS with the lab's authority, and every id is there."""
    data = _fetch.fetch(feed.url, ca_path=str(feed.pki.tls_ca_path), timeout=20)
    verified, parsed = proven(feed, data)
    assert data == feed.published.data
    assert parsed.ids == feed.published.ids and parsed.version == feed.published.version
    assert (verified.time_basis, verified.signed_at) == ("now", feed.published.signed_at)


@pytest.mark.parametrize("shape", sorted(document.SHAPES))
def test_every_invented_shape_is_carried_unread(feed: Feed, shape: str) -> None:
    """Opaque contents change nothing about the envelope."""
    data = _fetch.fetch(feed.url.rpartition("/")[0] + f"/shapes/{shape}", ca_path=str(feed.pki.tls_ca_path), timeout=20)
    assert proven(feed, data)[1].ids == feed.published.ids


def test_expired_signer_with_timestamp(feed: Feed) -> None:
    """As Microsoft's document of 2021 is today."""
    published = feed.expired()
    verified, dummy = proven(feed, published.data)
    assert (verified.time_basis, verified.signed_at) == ("timestamp", published.signed_at)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"signer": "expired", "stamped": False}, "certificate_expired"),
        ({"signer": "expired"}, "certificate_expired"),
        ({"signer": "expired", "foreign_timestamp": True, "signed_at": datetime.datetime(2025, 3, 4, tzinfo=datetime.timezone.utc)}, "certificate_expired"),
        ({"signer": "expired", "imprint": b"x" * 32, "signed_at": datetime.datetime(2025, 3, 4, tzinfo=datetime.timezone.utc)}, "certificate_expired"),
        ({"signer": "unknown-root"}, "chain_untrusted"),
        ({"signer": "no-ca-intermediate"}, "chain_untrusted"),
        ({"signer": "wrong-cn"}, "signer_changed"),
        ({"signer": "wrong-organization"}, "signer_changed"),
        ({"signer": "wrong-eku"}, "eku_missing"),
    ],
)
def test_bad_signers(feed: Feed, options: dict[str, object], reason: str) -> None:
    """Every variant of the lab's signer is refused with its code."""
    with pytest.raises(VerifyError) as caught:
        proven(feed, feed.make(**options).data)  # type: ignore[arg-type]
    assert caught.value.reason == reason


@pytest.mark.parametrize(("fault", "reason"), [("feed-forged", "digest_mismatch"), ("feed-unsigned", "unsigned")])
def test_forged_on_the_way(feed: Feed, fault: str, reason: str) -> None:
    """TLS does not help where the server itself lies."""
    feed.fault = fault
    try:
        data = _fetch.fetch(feed.url, ca_path=str(feed.pki.tls_ca_path), timeout=20)
    finally:
        feed.fault = None
    with pytest.raises(VerifyError) as caught:
        proven(feed, data)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("feed-404", "http_status"),
        ("feed-500", "http_status"),
        ("feed-redirect", "redirect"),
        ("feed-content-type", "content_type"),
        ("feed-truncated", "content_broken"),
        ("feed-huge", "content_too_large"),
        ("feed-slow", "deadline"),
    ],
)
def test_faults_of_the_server(feed: Feed, fault: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fault has its hop."""
    monkeypatch.setattr(_fetch, "PAUSES", (0.0, 0.0))
    feed.fault = fault
    try:
        with pytest.raises(FetchError) as caught:
            _fetch.fetch(feed.url, ca_path=str(feed.pki.tls_ca_path), timeout=2 if fault == "feed-slow" else 20)
    finally:
        feed.fault = None
    assert caught.value.reason == reason


def test_server_of_an_unknown_authority(feed: Feed) -> None:
    """The lab's certificate means nothing without its authority."""
    with pytest.raises(FetchError) as caught:
        _fetch.fetch(feed.url, timeout=20)
    assert caught.value.reason == "tls_certificate"
