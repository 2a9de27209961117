# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time: expired signers, timestamps good and bad, explicit times."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from cryptography import x509

from .authorities import CODE_SIGNING, DAY, SERVER_AUTH, TIME_STAMPING, Pki, crl, der, issue, key, name, usage
from .case import Case
from .documents import b64, sign

SECOND = DAY / 86400


def cases(pki: Pki) -> Iterator[Case]:
    """Yield the documents of this concern."""
    now = pki.now
    begin, end = now - 400 * DAY, now - 100 * DAY
    inside = now - 200 * DAY
    old = pki.signer(begin=begin, end=end)

    def expired(stamp: Callable[[bytes], bytes | None]) -> Any:
        return sign(pki, leaf=old, stamp=stamp)

    def stamped(case: str, reason: str | None, when: Any = inside, **changes: Any) -> Case:
        parts = expired(lambda value: pki.stamp(value, when, **changes))
        return Case(case, parts.bytes(), reason, basis="timestamp", signed=reason is None)

    yield stamped("valid-expired-with-timestamp", None)
    yield stamped("valid-timestamp-at-first-second", None, begin)
    yield stamped("valid-timestamp-at-last-second", None, end)
    yield stamped("valid-timestamp-definite-lengths", None, indefinite=False)
    yield stamped("valid-timestamp-sha512-imprint", None, imprint_algorithm="sha512")
    yield stamped("valid-timestamp-sha512-signature", None, algorithm="sha512")
    yield stamped("valid-timestamp-by-key-identifier", None, by_key_identifier=True)
    yield stamped("valid-timestamp-certificates-beside-only", None, certificates=[])
    yield Case(
        "valid-timestamp-certificates-inside-only",
        expired(lambda v: pki.stamp(v, inside)).but(time_certificates=()).bytes().replace(b"<X509Data></X509Data>", b""),
        basis="timestamp",
    )
    tired = pki.stamper(end=now - 150 * DAY)
    yield stamped("valid-timestamp-authority-expired-since", None, signer=tired)
    critical = pki.stamper(ekus_critical=True, key_usage=usage("digital_signature"))
    yield stamped("valid-timestamp-authority-critical-usage", None, signer=critical)

    yield stamped("valid-timestamp-signing-certificate-sha512", None, essential_algorithm="sha512")
    yield stamped("valid-timestamp-with-revocation-lists", None, revocation_lists=True)

    expired_code = "certificate_expired"
    yield stamped("timestamp-too-large", expired_code, certificates=[pki.time_leaf, pki.time_middle, *[pki.time_root] * 90])
    yield stamped("timestamp-signing-certificate-sha1", expired_code, essential_algorithm="sha1")
    yield stamped("timestamp-digest-parameters", expired_code, odd_parameters=True)
    yield Case("expired-without-timestamp", expired(lambda _value: None).bytes(), expired_code)
    yield stamped("timestamp-before-validity", expired_code, begin - DAY)
    yield stamped("timestamp-after-validity", expired_code, end + SECOND)
    yield stamped("timestamp-in-the-future", expired_code, now + DAY)
    yield stamped("timestamp-of-another-value", expired_code, imprint=hashlib.sha256(b"other").digest())
    yield stamped("timestamp-of-base64-text", expired_code, imprint=hashlib.sha256(b64(b"x").encode()).digest())
    yield stamped("timestamp-sha1-imprint", expired_code, imprint_algorithm="sha1")
    yield stamped("timestamp-wrong-content-digest", expired_code, digest=b"\0" * 32)
    yield stamped("timestamp-wrong-content-type", expired_code, content_type="data")
    yield stamped("timestamp-wrong-signed-content-type", expired_code, signed_content_type="data")
    yield stamped("timestamp-without-signing-certificate", expired_code, name_of_signer=False)
    yield stamped("timestamp-wrong-signing-certificate", expired_code, essential=b"\0" * 32)
    yield stamped("timestamp-version-2", expired_code, version="v2")
    yield stamped("timestamp-critical-extension", expired_code, critical_extension=True)
    yield stamped("timestamp-authority-may-not-sign", expired_code, signer=pki.stamper(key_usage=usage("key_encipherment")))
    yield stamped("timestamp-signer-identifier-of-another", expired_code, serial=1)
    yield stamped("timestamp-two-signers", expired_code, signers=2)
    yield stamped("timestamp-no-signer", expired_code, signers=0)
    yield stamped("timestamp-signed-by-other-key", expired_code, signer_key=key("evil"))
    yield stamped("timestamp-by-the-signer-itself", expired_code, signer=old, signer_key=key("leaf"), certificates=[old, pki.middle])
    under_root = pki.stamper(issuer=pki.middle, issuer_key=key("middle"))
    yield stamped("timestamp-under-code-signing-root", expired_code, signer=under_root, certificates=[under_root, pki.middle, pki.root])
    evil = pki.stamper(issuer=pki.evil_root, issuer_key=key("evil root"))
    yield stamped("timestamp-under-stranger", expired_code, signer=evil, certificates=[evil, pki.evil_root])
    yield stamped("timestamp-authority-not-yet-valid", expired_code, signer=pki.stamper(begin=inside + DAY))
    yield stamped("timestamp-authority-expired-then", expired_code, signer=pki.stamper(end=inside - DAY))
    yield stamped("timestamp-authority-other-usage", expired_code, signer=pki.stamper(ekus=[CODE_SIGNING]))
    yield stamped("timestamp-authority-more-usages", expired_code, signer=pki.stamper(ekus=[TIME_STAMPING, SERVER_AUTH]))
    yield stamped("timestamp-authority-no-usage", expired_code, signer=pki.stamper(ekus=[]))
    yield stamped("timestamp-authority-is-authority", expired_code, signer=pki.stamper(authority=True))
    weak = pki.stamper(subject_key=key("weak", 1024))
    yield stamped("timestamp-authority-rsa-1024", expired_code, signer=weak, signer_key=key("weak", 1024))
    elliptic = pki.stamper(subject_key=key("elliptic", 256))
    yield stamped("timestamp-authority-elliptic", expired_code, signer=elliptic, signer_key=key("elliptic", 256))
    wrong = issue(name("Test Time-Stamp PCA"), key("wrong"), pki.time_root, key("time root"), now - 2000 * DAY, now + DAY, authority=True, ekus=[SERVER_AUTH])
    below = pki.stamper(issuer=wrong, issuer_key=key("wrong"))
    yield stamped("timestamp-intermediate-other-usage", expired_code, signer=below, certificates=[below, wrong])

    token = pki.stamp(b"", inside)
    good = expired(lambda value: pki.stamp(value, inside))
    assert good.token is not None
    for case, raw in (
        ("bytes-behind", good.token + b"\0"),
        ("enveloped-data", good.token.replace(b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02", b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x03", 1)),
        ("cut-short", good.token[:-3]),
        ("empty-sequence", b"\x30\x00"),
        ("random", bytes(range(256))),
        ("of-empty-value", token),
        ("endless-nesting", b"\x30\x80" * 5000),
        ("huge-length", b"\x30\x84\xff\xff\xff\xff"),
        ("negative-time", good.token.replace(b"Z", b"X")),
        ("changed-inside", good.token[:-40] + bytes([good.token[-40] ^ 1]) + good.token[-39:]),
    ):
        yield Case(f"timestamp-{case}", good.but(token=raw).bytes(), expired_code)
    fresh = sign(pki)
    assert fresh.token is not None
    yield Case("timestamp-not-base64", good.but(object_delivered=good.object("*" * 40)).bytes(), expired_code)
    yield Case("timestamp-empty", good.but(object_delivered=good.object("")).bytes(), expired_code)
    yield Case("timestamp-other-format", good.but(object_delivered=good.object(b64(good.token), form="other")).bytes(), expired_code)
    yield Case("mix-and-match-timestamp-of-another-document", good.but(token=fresh.token).bytes(), expired_code)

    yield Case("valid-current-broken-timestamp", fresh.but(token=fresh.token[:-3]).bytes(), signed=False)
    yield Case("valid-current-no-timestamp", sign(pki, stamp=lambda _value: None).bytes(), signed=False)
    yield Case("valid-current-timestamp-in-the-future", sign(pki, stamp=lambda value: pki.stamp(value, now + DAY)).bytes(), signed=False)
    yield Case(
        "valid-current-timestamp-of-stranger",
        sign(pki, stamp=lambda value: pki.stamp(value, inside, signer=evil, certificates=[evil, pki.evil_root])).bytes(),
        signed=False,
    )

    early = sign(pki, stamp=lambda value: pki.stamp(value, now - 150 * DAY)).bytes()
    yield Case("valid-current-timestamp-before-validity", early, signed=False)
    soon = pki.signer(begin=now + 60 * SECOND, end=now + 9 * DAY)
    ahead = sign(pki, leaf=soon, stamp=lambda value: pki.stamp(value, now + 120 * SECOND)).bytes()
    yield Case("not-yet-valid-with-timestamp-of-tomorrow", ahead, "certificate_not_yet_valid")

    half = issue(name("Old PCA"), key("old middle"), pki.root, key("root"), now - 800 * DAY, now - 20 * DAY, authority=True, key_usage=usage("key_cert_sign"))
    leaf = pki.signer(issuer=half, issuer_key=key("old middle"))
    chain = [leaf, half, pki.root]
    yield Case("valid-intermediate-expired-with-timestamp", sign(pki, leaf=leaf, certificates=chain).bytes(), basis="timestamp", signed=True)
    yield Case("intermediate-expired-without-timestamp", sign(pki, leaf=leaf, certificates=chain, stamp=lambda _value: None).bytes(), expired_code)
    yield Case(
        "intermediate-expired-timestamp-after", sign(pki, leaf=leaf, certificates=chain, stamp=lambda v: pki.stamp(v, now - 10 * DAY)).bytes(), expired_code
    )

    data = expired(lambda _value: None).bytes()
    yield Case("valid-archive-at-explicit-time", data, basis="explicit", at=inside)
    yield Case("archive-at-time-after-expiry", data, expired_code, at=end + DAY)
    yield Case("archive-at-time-before-validity", data, "certificate_not_yet_valid", at=begin - DAY)
    with_token = good.bytes()
    yield Case("revoked-timestamp-authority", with_token, expired_code, crls=(crl(pki.time_middle, key("time middle"), now - DAY, now + DAY, [pki.time_leaf]),))
    yield Case("denied-timestamp-authority", with_token, expired_code, denied=(hashlib.sha256(der(pki.time_leaf)).hexdigest(),))
    yield Case(
        "key-compromise-revoked-though-timestamped", with_token, "revoked", crls=(crl(pki.middle, key("middle"), now - 50 * DAY, now - 40 * DAY, [old]),)
    )
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
    yield stamped("timestamp-authority-unknown-critical", expired_code, signer=pki.stamper(extra=[(unknown, True)]))
