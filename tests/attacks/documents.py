# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes signed documents in Microsoft's form from text that is canonical already, so that no canonicalizer is needed.

Every part can be replaced, before or after signing.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from .authorities import DAY, Key, Pki, der, key

DSIG = "http://www.w3.org/2000/09/xmldsig#"
C14N = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
ENVELOPED = DSIG + "enveloped-signature"
RSA_SHA = "http://www.w3.org/2001/04/xmldsig-more#rsa-"
DIGEST = {
    "sha1": DSIG + "sha1",
    "sha256": "http://www.w3.org/2001/04/xmlenc#sha256",
    "sha384": "http://www.w3.org/2001/04/xmldsig-more#sha384",
    "sha512": "http://www.w3.org/2001/04/xmlenc#sha512",
}
_HASHES: dict[str, Any] = {"sha1": hashes.SHA1, "sha256": hashes.SHA256, "sha384": hashes.SHA384, "sha512": hashes.SHA512}

DECLARATION = '<?xml version="1.0" encoding="utf-8"?>\n'
PING = (
    '  <Config desc="Heartbeat" id="PING1">\n    <ActionList>\n      <Action desc="Ping" scope="Server" type="DoNothing">\n'
    "        <Value>DoNothing</Value>\n      </Action>\n    </ActionList>\n  </Config>\n"
)
CONTENT = f'<EOCS version="1.0.4">\n{PING}</EOCS>'


def b64(data: bytes) -> str:
    """Return base64 text."""
    return base64.b64encode(data).decode("ascii")


def signed_info(
    content: str,
    *,
    algorithm: str = RSA_SHA + "sha256",
    digest: str = "sha256",
    transforms: Sequence[str] = (ENVELOPED, C14N),
    c14n: str = C14N,
    uri: str = ' URI=""',
    digest_value: str | None = None,
    namespaces: str = f' xmlns="{DSIG}"',
    prefix: str = "",
) -> str:
    """Return SignedInfo in canonical form. ``namespaces`` are what the canonical apex shows, sorted by the caller."""
    value = b64(hashlib.new(digest, content.encode()).digest()) if digest_value is None else digest_value
    p = prefix
    steps = "".join(f'<{p}Transform Algorithm="{step}"></{p}Transform>' for step in transforms)
    return (
        f'<{p}SignedInfo{namespaces}><{p}CanonicalizationMethod Algorithm="{c14n}"></{p}CanonicalizationMethod>'
        f'<{p}SignatureMethod Algorithm="{algorithm}"></{p}SignatureMethod><{p}Reference{uri}><{p}Transforms>{steps}</{p}Transforms>'
        f'<{p}DigestMethod Algorithm="{DIGEST[digest]}"></{p}DigestMethod><{p}DigestValue>{value}</{p}DigestValue></{p}Reference></{p}SignedInfo>'
    )


def rsa_sign(text: str, signing_key: Key, digest: str = "sha256") -> bytes:
    """Return the RSA signature of a canonical text."""
    assert isinstance(signing_key, rsa.RSAPrivateKey)
    return signing_key.sign(text.encode(), padding.PKCS1v15(), _HASHES[digest]())


def key_value(certificate_key: Key, prefix: str = "") -> str:
    """Return a KeyValue element of an RSA key."""
    numbers = certificate_key.public_key().public_numbers()
    assert isinstance(numbers, rsa.RSAPublicNumbers)
    modulus, exponent = (b64(n.to_bytes((n.bit_length() + 7) // 8, "big")) for n in (numbers.n, numbers.e))
    p = prefix
    return f"<{p}KeyValue><{p}RSAKeyValue><{p}Modulus>{modulus}</{p}Modulus><{p}Exponent>{exponent}</{p}Exponent></{p}RSAKeyValue></{p}KeyValue>"


@dataclasses.dataclass(frozen=True)
class Parts:
    """The parts of a document; ``replace`` any of them. ``content`` is what is delivered, before the signature goes in."""

    content: str
    info: str
    value: bytes
    certificates: tuple[bytes, ...]
    key_value: str
    token: bytes | None
    time_certificates: tuple[bytes, ...]
    declaration: str = DECLARATION
    info_delivered: str | None = None
    value_delivered: str | None = None
    certificates_delivered: str | None = None
    object_delivered: str | None = None
    signature_tag: str = f'<Signature xmlns="{DSIG}">'
    after: str = ""
    prefix: str = ""

    def signature(self) -> str:
        """Return the Signature element."""
        p = self.prefix
        info = self.info.replace(f' xmlns="{DSIG}"', "", 1) if self.info_delivered is None else self.info_delivered
        value = b64(self.value) if self.value_delivered is None else self.value_delivered
        data = "".join(f"<{p}X509Certificate>{b64(c)}</{p}X509Certificate>" for c in self.certificates)
        data = f"<{p}X509Data>{data}</{p}X509Data>" if self.certificates_delivered is None else self.certificates_delivered
        thing = self.object_delivered
        if thing is None:
            thing = "" if self.token is None else self.object(b64(self.token))
        return (
            f"{self.signature_tag}{info}<{p}SignatureValue>{value}</{p}SignatureValue><{p}KeyInfo>{self.key_value}{data}</{p}KeyInfo>{thing}"
            f"</{self.signature_tag.split()[0][1:].rstrip('>')}>"
        )

    def object(self, text: str, identifier: str = "ts-countersig", form: str = "cms-timestamp-message") -> str:
        """Return the Object element with a token's text."""
        p = self.prefix
        data = "".join(f"<{p}X509Certificate>{b64(c)}</{p}X509Certificate>" for c in self.time_certificates)
        return (
            f'<{p}Object Id="{identifier}"><{p}X509Data>{data}</{p}X509Data><CounterSignature xmlns="http://schemas.microsoft.com/xmldsig/timestamp/2003" '
            f'ts-format="{form}">{text}</CounterSignature></{p}Object>'
        )

    def text(self) -> str:
        """Return the document with the signature as last child of the root."""
        head, end, tail = self.content.rpartition("</EOCS>")
        return self.declaration + head + self.signature() + self.after + end + tail

    def bytes(self) -> bytes:
        """Return the document as UTF-8."""
        return self.text().encode()

    def but(self, **changes: Any) -> Parts:
        """Return the parts with changes, signature kept."""
        return dataclasses.replace(self, **changes)


def sign(
    pki: Pki,
    content: str = CONTENT,
    *,
    leaf: x509.Certificate | None = None,
    leaf_key: Key | None = None,
    certificates: Sequence[x509.Certificate] | None = None,
    digest: str = "sha256",
    info: str | None = None,
    stamp: Callable[[bytes], bytes | None] | None = None,
    prefix: str = "",
) -> Parts:
    """Return the parts of a document signed by ``leaf``. ``stamp`` makes the token from the signature's value; the default one is good."""
    signer = pki.leaf if leaf is None else leaf
    signing_key = key("leaf") if leaf_key is None else leaf_key
    text = signed_info(content) if info is None else info
    value = rsa_sign(text, signing_key, digest)
    made = pki.stamp(value, pki.now - 30 * DAY) if stamp is None else stamp(value)
    chain = [signer, pki.middle, pki.root] if certificates is None else certificates
    return Parts(
        content=content,
        info=text,
        value=value,
        certificates=tuple(map(der, chain)),
        key_value=key_value(signing_key, prefix),
        token=made,
        time_certificates=tuple(map(der, (pki.time_leaf, pki.time_middle))),
        prefix=prefix,
    )
