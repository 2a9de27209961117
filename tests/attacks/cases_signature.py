# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Signature games: wrapping, several signatures, transforms, references, algorithms, digests, keys."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence

from .authorities import Pki, key
from .case import Case
from .documents import C14N, CONTENT, DSIG, ENVELOPED, PING, RSA_SHA, b64, key_value, rsa_sign, sign, signed_info

EVIL = CONTENT.replace("PING1", "M1")
XSLT, XPATH = "http://www.w3.org/TR/1999/REC-xslt-19991116", "http://www.w3.org/TR/1999/REC-xpath-19991116"
FILTER2, BASE64 = "http://www.w3.org/2002/06/xmldsig-filter2", DSIG + "base64"
EXCLUSIVE, C14N11 = "http://www.w3.org/2001/10/xml-exc-c14n#", "http://www.w3.org/2006/12/xml-c14n11"


def cases(pki: Pki) -> Iterator[Case]:
    """Yield the documents of this concern."""
    yield from _valid(pki)
    yield from _wrapping(pki)
    yield from _games(pki)
    yield from _grammar(pki)


def _valid(pki: Pki) -> Iterator[Case]:
    for digest in ("sha384", "sha512"):
        info = signed_info(CONTENT, algorithm=RSA_SHA + digest, digest=digest)
        yield Case(f"valid-{digest}", sign(pki, info=info, digest=digest).bytes())
    yield Case("valid-enveloped-alone", sign(pki, info=signed_info(CONTENT, transforms=[ENVELOPED])).bytes())
    yield Case("valid-without-key-value", sign(pki).but(key_value="").bytes())
    yield Case("valid-foreign-key-value", sign(pki).but(key_value=key_value(key("evil"))).bytes())
    spaced = CONTENT.replace('<EOCS version="1.0.4">', '<EOCS version="1.0.4" xml:lang="en">')
    yield Case(
        "valid-xml-lang-signed",
        sign(pki, spaced, info=signed_info(spaced, namespaces=f' xmlns="{DSIG}" xml:lang="en"')).but(info_delivered=signed_info(spaced, namespaces="")).bytes(),
    )
    extra = CONTENT.replace('<EOCS version="1.0.4">', '<EOCS xmlns:x="urn:x" version="1.0.4">')
    yield Case(
        "valid-unused-namespace-signed",
        sign(pki, extra, info=signed_info(extra, namespaces=f' xmlns="{DSIG}" xmlns:x="urn:x"')).but(info_delivered=signed_info(extra, namespaces="")).bytes(),
    )
    prefixed = signed_info(CONTENT, namespaces=f' xmlns:ds="{DSIG}"', prefix="ds:")
    yield Case(
        "valid-ds-prefix",
        sign(pki, info=prefixed, prefix="ds:")
        .but(info_delivered=signed_info(CONTENT, namespaces="", prefix="ds:"), signature_tag=f'<ds:Signature xmlns:ds="{DSIG}">')
        .bytes(),
    )
    for name, content in (
        ("unknown-elements", CONTENT.replace("<ActionList>", '<Applicability lowest="15.1"><Product>Exchange2016</Product></Applicability><ActionList>')),
        ("no-action-list", '<EOCS version="1.0.5"><Config id="M2"><Rule kind="outbound">x</Rule></Config></EOCS>'),
        ("no-config", '<EOCS version="1.0.5"></EOCS>'),
        ("several-configs", CONTENT.replace("</EOCS>", PING.replace("PING1", "M1") + PING.replace("PING1", "M2.1.0") + "</EOCS>")),
        ("text-with-entities", CONTENT.replace("Heartbeat", "a &lt;b> &amp; &quot;c&quot;")),
        ("text-beyond-the-basic-plane", CONTENT.replace("Heartbeat", "\U0001f600 \u00fc \u4e2d")),
    ):
        yield Case(f"valid-content-{name}", sign(pki, content).bytes())


def _wrapping(pki: Pki) -> Iterator[Case]:
    good = sign(pki)
    signature, text = good.signature(), good.text()
    body = CONTENT.replace("</EOCS>", signature + "</EOCS>")
    yield Case("unsigned", CONTENT.encode(), "unsigned")
    yield Case("unsigned-other-namespace", CONTENT.replace("</EOCS>", "<Signature/></EOCS>").encode(), "unsigned")
    yield Case("wrap-original-in-config", EVIL.replace("</EOCS>", f'<Config id="X">{body}</Config>{signature}</EOCS>').encode(), "many_signatures")
    yield Case("wrap-evil-outside-signed-root", EVIL.replace("</EOCS>", body + "</EOCS>").encode(), "signature_position")
    yield Case(
        "wrap-original-in-object",
        EVIL.replace("</EOCS>", signature.replace("</Signature>", f'<Object Id="o">{CONTENT}</Object></Signature>') + "</EOCS>").encode(),
        "signature_grammar",
    )
    yield Case("wrap-signature-in-config", EVIL.replace("</Config>", signature + "</Config>").encode(), "signature_position")
    yield Case("wrap-signature-first", text.replace(signature, "").replace('1.0.4">', '1.0.4">' + signature).encode(), "signature_position")
    yield Case("wrap-config-after-signature", text.replace("</EOCS>", PING.replace("PING1", "M1") + "</EOCS>").encode(), "signature_position")
    yield Case("wrap-text-after-signature", good.but(after="M1").bytes(), "signature_position")
    yield Case("wrap-comment-after-signature", good.but(after="<!-- -->").bytes(), "signature_position")
    yield Case("two-signatures-same", text.replace(signature, signature * 2).encode(), "many_signatures")
    evil = sign(pki, EVIL, leaf=pki.evil_leaf, leaf_key=key("evil"), certificates=[pki.evil_leaf, pki.evil_root]).signature()
    yield Case("two-signatures-evil-first", CONTENT.replace("</EOCS>", evil + signature + "</EOCS>").encode(), "many_signatures")
    yield Case("two-signatures-evil-last", CONTENT.replace("</EOCS>", signature + evil + "</EOCS>").encode(), "many_signatures")
    yield Case("two-signatures-lower-case", text.replace("<ActionList>", "<signature/><ActionList>").encode(), "many_signatures")
    yield Case("two-signatures-other-namespace", text.replace("<ActionList>", '<Signature xmlns="urn:x"/><ActionList>').encode(), "many_signatures")
    yield Case("signature-of-another-document", EVIL.replace("</EOCS>", signature + "</EOCS>").encode(), "digest_mismatch")
    yield Case("root-renamed", text.replace("EOCS", "eocs").encode(), "root_element")
    yield Case("root-wrapped", f"<All>{body}</All>".encode(), "root_element")
    newline = CONTENT.replace("</EOCS>", "\n</EOCS>")
    yield Case("white-space-after-signature-not-signed", sign(pki).but(after="\n").bytes(), "digest_mismatch")
    yield Case("valid-white-space-after-signature", sign(pki, info=signed_info(newline)).but(after="\n").bytes())


def _games(pki: Pki) -> Iterator[Case]:
    def with_info(name: str, reason: str, content: str = CONTENT, digest: str = "sha256", **changes: object) -> Case:
        return Case(name, sign(pki, content, info=signed_info(content, **changes), digest=digest).bytes(), reason)  # type: ignore[arg-type]

    for name, steps in (
        ("none-but-c14n", [C14N]),
        ("xpath", [XPATH]),
        ("xslt", [XSLT]),
        ("filter2", [ENVELOPED, FILTER2]),
        ("base64", [ENVELOPED, BASE64]),
        ("exclusive", [ENVELOPED, EXCLUSIVE]),
        ("c14n-1.1", [ENVELOPED, C14N11]),
        ("with-comments", [ENVELOPED, C14N + "#WithComments"]),
        ("swapped", [C14N, ENVELOPED]),
        ("twice-enveloped", [ENVELOPED, ENVELOPED]),
        ("unknown", [ENVELOPED, "urn:x"]),
    ):
        yield with_info(f"transform-{name}", "transform_not_allowed", transforms=steps)
    yield with_info("transform-three", "signature_grammar", transforms=[ENVELOPED, C14N, C14N])
    yield with_info("transform-empty-list", "signature_grammar", transforms=[])
    for name, uri in (
        ("fragment", ' URI="#x"'),
        ("xpointer-root", ' URI="#xpointer(/)"'),
        ("http", ' URI="http://127.0.0.1:9/"'),
        ("file", ' URI="file:///etc/passwd"'),
        ("missing", ""),
        ("with-id", ' Id="r" URI=""'),
        ("with-type", f' Type="{DSIG}Object" URI=""'),
    ):
        yield with_info(f"reference-{name}", "reference_not_allowed", uri=uri)
    two = signed_info(CONTENT)
    reference = re.search("<Reference.*</Reference>", two)
    assert reference is not None
    doubled = two.replace(reference[0], reference[0] * 2)
    yield Case("reference-twice", sign(pki, info=doubled).bytes(), "signature_grammar")
    yield Case("reference-none", sign(pki, info=two.replace(reference[0], "")).bytes(), "signature_grammar")
    yield with_info("canonicalization-exclusive", "algorithm_not_allowed", c14n=EXCLUSIVE)
    yield with_info("canonicalization-with-comments", "algorithm_not_allowed", c14n=C14N + "#WithComments")
    for name, algorithm in (
        ("rsa-sha1", DSIG + "rsa-sha1"),
        ("hmac-sha256", "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256"),
        ("hmac-sha1", DSIG + "hmac-sha1"),
        ("ecdsa", "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"),
        ("dsa", DSIG + "dsa-sha1"),
        ("pss", "http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1"),
        ("md5", "http://www.w3.org/2001/04/xmldsig-more#rsa-md5"),
        ("empty", ""),
        ("none", "none"),
    ):
        yield with_info(f"algorithm-{name}", "algorithm_not_allowed", algorithm=algorithm)
    yield Case("digest-sha1", sign(pki, info=signed_info(CONTENT).replace("xmlenc#sha256", "xmlenc#sha1")).bytes(), "algorithm_not_allowed")
    yield Case(
        "digest-sha1-of-dsig",
        sign(pki, info=re.sub('DigestMethod Algorithm="[^"]*"', f'DigestMethod Algorithm="{DSIG}sha1"', signed_info(CONTENT))).bytes(),
        "algorithm_not_allowed",
    )
    yield Case(
        "hmac-output-length",
        sign(pki, info=two.replace('rsa-sha256"></SignatureMethod>', 'rsa-sha256"><HMACOutputLength>0</HMACOutputLength></SignatureMethod>')).bytes(),
        "signature_grammar",
    )
    yield Case(
        "algorithm-swapped-after-signing",
        sign(pki).but(info_delivered=signed_info(CONTENT, algorithm=RSA_SHA + "sha512", namespaces="")).bytes(),
        "signature_mismatch",
    )
    yield Case("digest-replaced-after-signing", sign(pki).but(content=EVIL, info_delivered=signed_info(EVIL, namespaces="")).bytes(), "signature_mismatch")
    yield with_info("digest-empty", "base64_malformed", digest_value="")
    yield with_info("digest-cut-short", "digest_mismatch", digest_value=b64(b"x" * 16))
    yield with_info("digest-not-base64", "base64_malformed", digest_value="*" * 44)
    good = sign(pki)
    yield Case("value-zeros", good.but(value=b"\0" * 256).bytes(), "signature_mismatch")
    yield Case("value-short", good.but(value=good.value[:-1]).bytes(), "signature_mismatch")
    yield Case("value-long", good.but(value=b"\0" + good.value).bytes(), "signature_mismatch")
    yield Case("value-empty", good.but(value_delivered="").bytes(), "base64_malformed")
    loose = b64(good.value)
    last = loose[-3]
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/":
        if letter != last and base64.b64decode(loose[:-3] + letter + "==") == good.value:
            yield Case("value-base64-with-loose-bits", good.but(value_delivered=loose[:-3] + letter + "==").bytes(), "base64_malformed")
            break
    at = good.certificates[0].index(b"\xa0\x03\x02\x01\x02\x02") + 7  # behind version, tag and length of the serial number
    negative = good.certificates[0][:at] + bytes([good.certificates[0][at] | 0x80]) + good.certificates[0][at + 1 :]
    yield Case("certificate-negative-serial", good.but(certificates=(negative, *good.certificates[1:])).bytes(), "certificate_malformed")
    yield Case("value-url-safe-base64", good.but(value_delivered=b64(b"\xff\xff" * 128).replace("/", "_")).bytes(), "base64_malformed")
    yield Case("value-of-plain-digest", good.but(value=rsa_sign(CONTENT, key("leaf"))).bytes(), "signature_mismatch")
    yield Case("value-by-intermediate", good.but(value=rsa_sign(good.info, key("middle"))).bytes(), "signature_mismatch")
    yield Case("value-by-embedded-root", good.but(value=rsa_sign(good.info, key("root"))).bytes(), "signature_mismatch")


def _grammar(pki: Pki) -> Iterator[Case]:
    good = sign(pki)
    text, signature = good.text(), good.signature()

    def changed(pairs: Sequence[tuple[str, str, str, str]]) -> Iterator[Case]:
        for name, old, new, reason in pairs:
            assert old in text, name
            yield Case(name, text.replace(old, new, 1).encode(), reason)

    certificate = re.search("<X509Certificate>.*?</X509Certificate>", text)
    data = re.search("<X509Data>.*?</X509Data>", text)
    assert certificate is not None and data is not None
    yield from changed(
        [
            ("grammar-signature-with-id", f'<Signature xmlns="{DSIG}">', f'<Signature Id="s" xmlns="{DSIG}">', "signature_grammar"),
            ("grammar-text-in-signature", "<SignatureValue>", "x<SignatureValue>", "signature_grammar"),
            ("grammar-foreign-element", "<KeyInfo>", '<Config xmlns="" id="M1"/><KeyInfo>', "signature_grammar"),
            ("grammar-retrieval-method", "<X509Data>", '<RetrievalMethod URI="#x"/><X509Data>', "signature_grammar"),
            ("grammar-key-name", "<X509Data>", "<KeyName>leaf</KeyName><X509Data>", "signature_grammar"),
            ("grammar-pgp-data", "<X509Data>", "<PGPData/><X509Data>", "signature_grammar"),
            ("grammar-no-certificate", data[0], "", "signature_grammar"),
            ("grammar-x509-subject-name", data[0], "<X509Data><X509SubjectName>CN=x</X509SubjectName></X509Data>", "signature_grammar"),
            ("grammar-two-x509-data", data[0], data[0] * 2, "signature_grammar"),
            ("grammar-element-in-value", "<SignatureValue>", "<SignatureValue><a/>", "signature_grammar"),
            ("grammar-object-unknown", '<Object Id="ts-countersig">', '<Object Id="other">', "signature_grammar"),
            ("grammar-object-with-type", '<Object Id="ts-countersig">', '<Object Id="ts-countersig" MimeType="x">', "signature_grammar"),
            ("grammar-manifest", '<Object Id="ts-countersig">', '<Object Id="m"><Manifest/></Object><Object Id="ts-countersig">', "signature_grammar"),
            ("grammar-value-missing", f"<SignatureValue>{b64(good.value)}</SignatureValue>", "", "signature_grammar"),
            ("certificate-broken-base64", certificate[0], "<X509Certificate>M*</X509Certificate>", "base64_malformed"),
            ("certificate-broken-der", certificate[0], "<X509Certificate>MAA=</X509Certificate>", "certificate_malformed"),
            (
                "certificate-with-bytes-behind",
                certificate[0],
                f"<X509Certificate>{b64(good.certificates[0] + b'x')}</X509Certificate>",
                "certificate_malformed",
            ),
        ]
    )
    yield Case("certificate-bomb", text.replace(certificate[0], certificate[0] * 17).encode(), "signature_grammar")
    moved = re.sub("(<SignedInfo>.*</SignedInfo>)(<SignatureValue>.*</SignatureValue>)", r"\2\1", signature)
    yield Case("grammar-parts-swapped", text.replace(signature, moved).encode(), "signature_grammar")
    yield Case("grammar-object-twice", text.replace("</Signature>", good.object(b64(good.token or b"")) + "</Signature>").encode(), "signature_grammar")
