# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates: names, usages, keys, chains, revocation, key compromise."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from cryptography import x509

from .authorities import CODE_SIGNING, DAY, MICROSOFT, SERVER_AUTH, SIGNER, XML_SIGNING, Pki, crl, der, issue, key, name, usage
from .case import Case
from .documents import CONTENT, sign


def cases(pki: Pki) -> Iterator[Case]:
    """Yield the documents of this concern."""
    yield from _leaves(pki)
    yield from _chains(pki)
    yield from _revocation(pki)
    yield from bombs(pki)


def _leaves(pki: Pki) -> Iterator[Case]:
    def by(leaf: x509.Certificate, label: str = "leaf", *others: x509.Certificate, bits: int = 2048) -> bytes:
        return sign(pki, leaf=leaf, leaf_key=key(label, bits), certificates=[leaf, *(others or (pki.middle, pki.root))]).bytes()

    def made(case: str, reason: str | None, **changes: Any) -> Case:
        return Case(case, by(pki.signer(**changes)), reason)

    yield made("valid-key-usage-digital-signature", None, key_usage=usage("digital_signature"))
    yield made("valid-no-basic-constraints", None, authority=None)
    yield made("valid-more-usages", None, ekus=[CODE_SIGNING, XML_SIGNING, "1.3.6.1.4.1.311.76.8.1"])
    yield made("valid-ekus-critical", None, ekus_critical=True)
    yield Case("valid-rsa-3072", by(pki.signer(subject_key=key("leaf 3072", 3072)), "leaf 3072", bits=3072))

    yield made("name-other-common-name", "signer_changed", subject=name("Microsoft Exchange Mitigation Signing"))
    yield made("name-other-organization", "signer_changed", subject=name(SIGNER, "Contoso"))
    yield made("name-lower-case", "signer_changed", subject=name(SIGNER.lower()))
    yield made("name-trailing-blank", "signer_changed", subject=name(SIGNER + " "))
    yield made("name-prefix-only", "signer_changed", subject=name(SIGNER + " X"))
    yield made("name-homoglyph", "signer_changed", subject=name(SIGNER.replace("o", "\u043e", 1)))
    yield made("name-no-break-space", "signer_changed", subject=name(SIGNER.replace(" ", "\u00a0")))
    yield made("name-two-common-names", "signer_changed", subject=name([SIGNER, "other"]))
    yield made("name-two-organizations", "signer_changed", subject=name(SIGNER, [MICROSOFT, "Contoso"]))
    yield made("name-no-organization", "signer_changed", subject=name(SIGNER, None))
    yield made("name-template-text", "signer_changed", subject=name("{{ lookup('pipe', 'id') }}"))
    yield made("eku-code-signing-only", "eku_missing", ekus=[CODE_SIGNING])
    yield made("eku-xml-signing-only", "eku_missing", ekus=[XML_SIGNING])
    yield made("eku-any", "eku_missing", ekus=["2.5.29.37.0"])
    yield made("eku-server", "eku_missing", ekus=[SERVER_AUTH])
    yield made("eku-none", "eku_missing", ekus=[])
    yield made("usage-key-encipherment-only", "key_usage", key_usage=usage("key_encipherment"))
    yield made("usage-certificates-only", "key_usage", key_usage=usage("key_cert_sign"))
    yield made("leaf-is-authority", "signer_is_ca", authority=True)
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
    yield made("leaf-unknown-critical-extension", "chain_untrusted", extra=[(unknown, True)])
    yield made("valid-unknown-extension", None, extra=[(unknown, False)])
    yield made("expired-without-timestamp-root", "certificate_expired", end=pki.now - 40 * DAY, begin=pki.now - 90 * DAY)
    yield made("not-yet-valid", "certificate_not_yet_valid", begin=pki.now + DAY, end=pki.now + 9 * DAY)
    yield Case("key-rsa-1024", by(pki.signer(subject_key=key("weak", 1024)), "weak", bits=1024), "key_not_allowed")
    yield Case("key-exponent-3", by(pki.signer(subject_key=key("three", 2049)), "three", bits=2049), "key_not_allowed")
    elliptic = pki.signer(subject_key=key("elliptic", 256))
    yield Case("key-elliptic", sign(pki, certificates=[elliptic, pki.middle]).bytes(), "key_not_allowed")

    yield Case("stranger-self-signed", by(pki.signer(issuer=None, issuer_key=key("evil"), subject_key=key("evil")), "evil"), "chain_untrusted")
    yield Case("stranger-under-own-root", by(pki.evil_leaf, "evil", pki.evil_root), "chain_untrusted")
    yield Case("stranger-with-good-chain-beside", by(pki.evil_leaf, "evil", pki.evil_root, pki.middle, pki.root), "chain_untrusted")
    other = pki.signer(subject=name("nobody"), issuer=pki.evil_root, issuer_key=key("evil root"), subject_key=key("evil"))
    yield Case("stranger-with-other-name", by(other, "evil", pki.evil_root), "signer_missing")
    yield Case("stranger-with-genuine-certificate", sign(pki, leaf_key=key("evil")).bytes(), "signature_mismatch")
    yield Case("stranger-two-of-the-name", sign(pki, certificates=[pki.leaf, pki.evil_leaf, pki.middle]).bytes(), "signer_ambiguous")
    second = pki.signer()
    yield Case("two-genuine-of-the-name", sign(pki, certificates=[pki.leaf, second, pki.middle]).bytes(), "signer_ambiguous")
    yield Case("root-signs-by-itself", by(pki.root, "root"), "signer_missing")
    yield Case("intermediate-signs-by-itself", by(pki.middle, "middle"), "signer_missing")
    named = issue(name(SIGNER), key("evil"), None, key("evil"), pki.now - DAY, pki.now + DAY, authority=True, ekus=[CODE_SIGNING, XML_SIGNING])
    yield Case("self-signed-authority-of-the-name", by(named, "evil", named), "signer_is_ca")


def _chains(pki: Pki) -> Iterator[Case]:
    begin, end = pki.now - 900 * DAY, pki.now + 900 * DAY

    def under(case: str, reason: str | None, issuer: x509.Certificate | None = None, signing: str = "root", **changes: Any) -> Case:
        options: dict[str, Any] = {"authority": True, "key_usage": usage("key_cert_sign", "crl_sign"), **changes}
        label = options.pop("label", "other middle")
        middle = issue(
            name("Test Code Signing PCA 2024"), key(label), issuer or pki.root, key(signing), options.pop("begin", begin), options.pop("end", end), **options
        )
        leaf = pki.signer(issuer=middle, issuer_key=key(label))
        return Case(case, sign(pki, leaf=leaf, certificates=[leaf, middle, pki.middle]).bytes(), reason)

    yield under("valid-rotated-intermediate", None)
    yield under("valid-intermediate-with-both-usages", None, ekus=[CODE_SIGNING, XML_SIGNING])
    yield under("valid-intermediate-any-usage", None, ekus=["2.5.29.37.0"])
    yield under("intermediate-for-servers", "chain_untrusted", ekus=[SERVER_AUTH])
    yield under("intermediate-not-authority", "chain_untrusted", authority=False)
    yield under("intermediate-without-constraints", "chain_untrusted", authority=None)
    yield under("intermediate-may-not-sign-certificates", "chain_untrusted", key_usage=usage("digital_signature"))
    yield under("intermediate-under-stranger", "chain_untrusted", issuer=pki.evil_root, signing="evil root")
    yield under("intermediate-signed-by-stranger-in-roots-name", "chain_untrusted", signing="evil root")
    yield under("intermediate-under-timestamp-root", "chain_untrusted", issuer=pki.time_root, signing="time root")
    yield under("intermediate-under-leaf", "chain_untrusted", issuer=pki.leaf, signing="leaf")
    narrow = issue(name("Narrow"), key("narrow"), pki.root, key("root"), begin, end, authority=True, path_length=0, key_usage=usage("key_cert_sign"))
    below = issue(name("Below"), key("below"), narrow, key("narrow"), begin, end, authority=True, key_usage=usage("key_cert_sign"))
    leaf = pki.signer(issuer=below, issuer_key=key("below"))
    yield Case("path-length-exceeded", sign(pki, leaf=leaf, certificates=[leaf, below, narrow]).bytes(), "chain_untrusted")
    wide = issue(name("Wide"), key("wide"), pki.root, key("root"), begin, end, authority=True, key_usage=usage("key_cert_sign"))
    deeper = issue(name("Deeper"), key("deeper"), wide, key("wide"), begin, end, authority=True, key_usage=usage("key_cert_sign"))
    leaf = pki.signer(issuer=deeper, issuer_key=key("deeper"))
    yield Case("valid-two-intermediates", sign(pki, leaf=leaf, certificates=[leaf, deeper, wide]).bytes())
    direct = pki.signer(issuer=pki.root, issuer_key=key("root"))
    yield Case("valid-directly-under-root", sign(pki, leaf=direct, certificates=[direct]).bytes())

    yield Case("valid-chain-reversed", sign(pki, certificates=[pki.root, pki.middle, pki.leaf]).bytes())
    yield Case("valid-leaf-in-the-middle", sign(pki, certificates=[pki.middle, pki.leaf, pki.root]).bytes())
    yield Case("valid-root-not-embedded", sign(pki, certificates=[pki.leaf, pki.middle]).bytes())
    yield Case("valid-leaf-twice", sign(pki, certificates=[pki.leaf, pki.leaf, pki.middle]).bytes())
    yield Case("valid-useless-certificates-beside", sign(pki, certificates=[pki.leaf, pki.time_leaf, pki.middle, pki.evil_root]).bytes())
    yield Case("intermediate-missing", sign(pki, certificates=[pki.leaf, pki.root]).bytes(), "chain_untrusted")
    yield Case("leaf-missing", sign(pki, certificates=[pki.middle, pki.root]).bytes(), "signer_missing")


def bombs(pki: Pki) -> Iterator[Case]:
    """Yield documents that make a careless verifier work for a long time."""
    begin, end = pki.now - 900 * DAY, pki.now + 900 * DAY
    first = issue(name("Bomb"), key("bomb"), None, key("bomb"), begin, end, authority=True)
    others = [issue(name("Bomb"), key("bomb"), first, key("bomb"), begin, end, authority=True) for dummy in range(14)]
    leaf = pki.signer(issuer=first, issuer_key=key("bomb"), subject_key=key("evil"))
    yield Case(
        "bomb-authorities-of-one-name-and-key", sign(pki, leaf=leaf, leaf_key=key("evil"), certificates=[leaf, first, *others]).bytes(), "chain_untrusted"
    )
    text = sign(pki).text()
    yield Case("bomb-comments", text.replace("<ActionList>", "<!---->" * 140_000 + "<ActionList>").encode())
    yield Case("bomb-comments-beside-text", text.replace("<Value>", "<Value>" + "<!---->" * 140_000).encode(), "comment_in_text")
    yield Case("bomb-comments-in-signedinfo", text.replace("<SignatureMethod", "<!---->" * 140_000 + "<SignatureMethod").encode())
    yield Case("bomb-cdata", text.replace("<Value>", "<Value>" + "<![CDATA[x]]>" * 75_000).encode(), "digest_mismatch")
    yield Case("bomb-references", text.replace("<Value>", "<Value>" + "&#65;" * 200_000).encode(), "digest_mismatch")
    yield Case("bomb-base64", text.replace("<SignatureValue>", "<SignatureValue>" + "A" * 1_000_000).encode(), "signature_mismatch")
    names = " ".join(f'xmlns:a{n}="urn:{n}"' for n in range(30))
    yield Case("bomb-namespaces", text.replace("<ActionList>", f"<ActionList {names}>" + f"<a {names}/>" * 1600).encode(), "too_many_namespaces")
    deep = "".join(f"<a {' '.join(f'xmlns:b{d}{chr(97 + n)}=' + chr(34) + 'urn:x' + chr(34) for n in range(26))}>" for d in range(24))
    yield Case("bomb-namespaces-nested", text.replace("<ActionList>", deep + "<a/>" * 19_000 + "</a>" * 24 + "<ActionList>").encode(), "too_many_namespaces")
    few = "".join(f'<a xmlns:b{d}="urn:x" xmlns:c{d}="urn:x">' for d in range(26))
    yield Case(
        "bomb-namespaces-below-the-limit", text.replace("<ActionList>", few + "<a/>" * 19_000 + "</a>" * 26 + "<ActionList>").encode(), "digest_mismatch"
    )
    small = sign(pki)
    for label, raw in (("small-values", b"\x30\x83\x09\x27\xc0" + b"\x05\x00" * 300_000), ("nested", b"\x30\x80" * 300_000)):
        yield Case(f"bomb-token-{label}", small.but(token=raw).bytes(), signed=False)
    spaced = sign(pki, CONTENT.replace("<Value>DoNothing", "<Value>" + "x" * 900_000)).bytes()
    yield Case("valid-one-long-text", spaced)


def _revocation(pki: Pki) -> Iterator[Case]:
    data, begin, end = sign(pki).bytes(), pki.now - DAY, pki.now + DAY
    leaves = crl(pki.middle, key("middle"), begin, end)
    middles = crl(pki.root, key("root"), begin, end)
    listed = crl(pki.middle, key("middle"), begin, end, [pki.leaf])
    stale = crl(pki.middle, key("middle"), pki.now - 500 * DAY, pki.now - 400 * DAY, [pki.leaf])
    point = x509.IssuingDistributionPoint(None, None, True, False, None, False, False)
    yield Case("valid-crls-good", data, revocation="good", crls=(leaves, middles))
    yield Case("valid-crls-good-required", data, revocation="good", crls=(leaves, middles), required=True)
    yield Case("valid-crl-of-leaf-only", data, revocation="unknown", crls=(leaves,))
    yield Case("crl-of-leaf-only-required", data, "revocation_unknown", crls=(leaves,), required=True)
    yield Case("crl-none-required", data, "revocation_unknown", required=True)
    yield Case("revoked-leaf", data, "revoked", crls=(listed, middles))
    yield Case("revoked-leaf-in-old-crl", data, "revoked", crls=(stale,))
    yield Case("revoked-leaf-in-old-crl-beside-new", data, "revoked", crls=(leaves, stale))
    yield Case("revoked-intermediate", data, "revoked", crls=(crl(pki.root, key("root"), begin, end, [pki.middle]),))
    yield Case("revoked-leaf-in-partial-crl", data, "revoked", crls=(crl(pki.middle, key("middle"), begin, end, [pki.leaf], [(point, True)]),))
    yield Case("valid-partial-crl-does-not-count", data, revocation="unknown", crls=(crl(pki.middle, key("middle"), begin, end, (), [(point, True)]), middles))
    yield Case("valid-stale-crl-does-not-count", data, revocation="unknown", crls=(crl(pki.middle, key("middle"), pki.now - 9 * DAY, pki.now - DAY), middles))
    yield Case("valid-future-crl-does-not-count", data, revocation="unknown", crls=(crl(pki.middle, key("middle"), pki.now + DAY, pki.now + 9 * DAY), middles))
    yield Case("valid-forged-crl-without-effect", data, revocation="unknown", crls=(crl(pki.middle, key("evil"), begin, end, [pki.leaf]),))
    yield Case("valid-crl-of-stranger-without-effect", data, revocation="unknown", crls=(crl(pki.evil_root, key("evil root"), begin, end, [pki.leaf]),))
    silent = issue(
        name("Silent PCA"), key("silent"), pki.root, key("root"), pki.now - 9 * DAY, pki.now + 9 * DAY, authority=True, key_usage=usage("key_cert_sign")
    )
    under = pki.signer(issuer=silent, issuer_key=key("silent"))
    unlisted = sign(pki, leaf=under, certificates=[under, silent]).bytes()
    yield Case("valid-crl-of-issuer-that-may-make-none", unlisted, crls=(crl(silent, key("silent"), begin, end, [under]),))
    yield Case("denied-leaf", data, "denied", denied=(hashlib.sha256(der(pki.leaf)).hexdigest(),))
    yield Case("denied-intermediate", data, "denied", denied=(hashlib.sha256(der(pki.middle)).hexdigest(),))
    yield Case("denied-document", data, "denied", denied=(hashlib.sha256(data).hexdigest(),))
