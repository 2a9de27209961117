# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates for tests: authorities that issue each other, and their revocation lists; made anew, none of them is anybody's."""

from __future__ import annotations

import dataclasses
import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

BEGIN = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
END = datetime.datetime(2036, 1, 1, tzinfo=datetime.timezone.utc)


def named(**attributes: str) -> x509.Name:
    """Return a name; attributes as in NameOID."""
    return x509.Name([x509.NameAttribute(getattr(NameOID, key), value) for key, value in attributes.items()])


@dataclasses.dataclass(frozen=True)
class Party:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def crl(self) -> x509.CertificateRevocationList:
        """Return a revocation list of this authority without entries."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject).last_update(BEGIN).next_update(END)
        return builder.sign(self.key, hashes.SHA256())


def issue(name: str | x509.Name, issuer: Party | None = None, key: ec.EllipticCurvePrivateKey | None = None, ca: bool = True) -> Party:
    """Return a party whose certificate ``issuer`` signed, or it itself; ``key`` to certify a key that is there already."""
    subject = named(COMMON_NAME=name) if isinstance(name, str) else name
    key = key or ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(BEGIN)
        .not_valid_after(END)
        .add_extension(x509.BasicConstraints(ca, None), True)
        .sign(issuer.key if issuer else key, hashes.SHA256())
    )
    return Party(certificate, key)
