# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The root of an Authenticode signature: the server tells who signed, not under whom, so the chain is built from the package.

Windows has said that the signature is valid, with all of its own roots. This names the root where it is one of those that the
collection ships, and otherwise says unknown; nothing is trusted because of it.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ansible_collections.exchange.mitigation.plugins.module_utils import _certificates, _roots
from ansible_collections.exchange.mitigation.plugins.module_utils._deps import optional, require

if TYPE_CHECKING:
    from cryptography import x509
else:
    x509 = optional("cryptography.x509")

UNKNOWN = "unknown"
#: Certificates of a package that are looked at; signer, intermediates and those of the timestamp are fewer than ten.
MAX_CERTIFICATES = 64
MAX_LENGTH = 8192


def shipped_roots() -> tuple[x509.Certificate, ...]:
    """Return the roots of Microsoft that the collection ships."""
    return (*_roots.microsoft(), *_roots.microsoft_timestamp())


def embedded(data: bytes) -> list[x509.Certificate]:
    """Return the certificates that stand in a package in one piece each, wherever its format has put them."""
    require("cryptography")
    found: list[x509.Certificate] = []
    tries = 0
    position = data.find(b"\x30\x82")
    while position >= 0 and tries < MAX_CERTIFICATES:
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        end = position + 4 + length
        following = position + 1
        # A certificate is a long sequence that begins with a long sequence.
        if data[position + 4 : position + 6] == b"\x30\x82" and 256 <= length <= MAX_LENGTH and end <= len(data):
            tries += 1
            try:
                found.append(x509.load_der_x509_certificate(data[position:end]))
                following = end
            except ValueError:
                pass
        position = data.find(b"\x30\x82", following)
    return found


def root_of(leaf: x509.Certificate, pool: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]) -> str:
    """Return the common name of the root among ``roots`` that a chain leads to, each step proven by its signature; else unknown."""
    current = leaf
    for dummy in range(6):
        for root in roots:
            if _issued(current, root):
                names = root.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
                return str(names[0].value) if names else UNKNOWN
        following = next((c for c in pool if _certificates.is_authority(c) and c != current and _issued(current, c)), None)
        if following is None:
            return UNKNOWN
        current = following
    return UNKNOWN


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    if certificate.issuer != issuer.subject:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:  # pylint: disable=broad-except  # the library raises several types, all of them mean no
        return False
    return True
