# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RFC 3161 tokens in the form of the real document's: CMS SignedData over a TSTInfo, outermost lengths indefinite (TRUST.md 0)."""

from __future__ import annotations

import datetime
import hashlib
import secrets

from asn1crypto import algos, cms, core, tsp
from asn1crypto import x509 as asn1_x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from .pki import Identity

#: The policy in the real token.
POLICY = "1.3.6.1.4.1.601.10.3.1"


def token(stamped: bytes, at: datetime.datetime, authority: Identity, imprint: bytes | None = None) -> bytes:
    """Return a token that states that ``stamped`` existed at ``at``.

    ``stamped`` are the decoded SignatureValue bytes. ``imprint`` replaces the SHA-256 of them, for a token that stamps something else.
    """
    sha256 = algos.DigestAlgorithm({"algorithm": "sha256", "parameters": core.Null()})
    info = tsp.TSTInfo(
        {
            "version": "v1",
            "policy": POLICY,
            "message_imprint": {"hash_algorithm": sha256, "hashed_message": imprint or hashlib.sha256(stamped).digest()},
            "serial_number": secrets.randbits(47),
            "gen_time": at,
            "accuracy": {"millis": 500},
        }
    )
    content = info.dump()
    leaf = asn1_x509.Certificate.load(authority.der)
    attributes = cms.CMSAttributes(
        [
            cms.CMSAttribute({"type": "content_type", "values": ["tst_info"]}),
            cms.CMSAttribute({"type": "message_digest", "values": [hashlib.sha256(content).digest()]}),
            cms.CMSAttribute({"type": "signing_certificate_v2", "values": [_signing_certificate(leaf)]}),
        ]
    )
    signature = authority.key.sign(attributes.dump(), padding.PKCS1v15(), hashes.SHA256())
    signer = cms.SignerInfo(
        {
            "version": "v1",
            "sid": cms.SignerIdentifier({"issuer_and_serial_number": {"issuer": leaf.issuer, "serial_number": leaf.serial_number}}),
            "digest_algorithm": sha256,
            "signed_attrs": attributes,
            "signature_algorithm": {"algorithm": "sha256_rsa", "parameters": core.Null()},
            "signature": signature,
        }
    )
    signed = cms.SignedData(
        {
            "version": "v3",
            "digest_algorithms": [sha256],
            "encap_content_info": {"content_type": "tst_info", "content": core.ParsableOctetString(content)},
            "certificates": [leaf] + [asn1_x509.Certificate.load(issuer.der) for issuer in _issuers(authority)],
            "signer_infos": [signer],
        }
    )
    encoded: bytes = b"\x30\x80" + cms.ContentType("signed_data").dump() + b"\xa0\x80" + signed.dump() + b"\x00\x00\x00\x00"
    return encoded


def _issuers(authority: Identity) -> list[Identity]:
    """The issuers below the root: the root is not embedded (TRUST.md 1)."""
    found: list[Identity] = []
    issuer = authority.issuer
    while issuer and issuer.issuer:
        found.append(issuer)
        issuer = issuer.issuer
    return found


def _signing_certificate(leaf: asn1_x509.Certificate) -> tsp.SigningCertificateV2:
    serial = tsp.IssuerSerial({"issuer": [asn1_x509.GeneralName({"directory_name": leaf.issuer})], "serial_number": leaf.serial_number})
    return tsp.SigningCertificateV2({"certs": [{"cert_hash": hashlib.sha256(leaf.dump()).digest(), "issuer_serial": serial}]})
