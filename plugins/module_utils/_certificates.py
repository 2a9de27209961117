# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates: names and usages, one chain to a pinned root at one time, and what given CRLs say about it.

Nothing is ever fetched from an address in a certificate (TRUST.md 2, "Revocation").
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import datetime
import hashlib
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._reasons import shown, unproven

try:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError
except ImportError:
    pass  # the entry points require it

MAX_CERTIFICATES = 16
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
MAX_INTERMEDIATES = 5

ANY_USAGE = "2.5.29.37.0"
CODE_SIGNING = "1.3.6.1.5.5.7.3.3"
TIME_STAMPING = "1.3.6.1.5.5.7.3.8"


def load(der: bytes) -> x509.Certificate:
    """Return a certificate, its extensions read once; raises VerifyError."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        dummy = certificate.extensions, certificate.subject, certificate.issuer, certificate.not_valid_before_utc
    except Exception:  # pylint: disable=broad-except  # the library raises types of no common base for what it cannot read
        raise unproven("certificate_malformed", "An embedded certificate cannot be read.") from None
    if certificate.serial_number <= 0:
        raise unproven("certificate_malformed", "An embedded certificate has a serial number that none may have.")
    return certificate


def der(certificate: x509.Certificate) -> bytes:
    """Return the DER bytes."""
    return certificate.public_bytes(Encoding.DER)


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of the DER bytes in hex."""
    return hashlib.sha256(der(certificate)).hexdigest()


def distinct(certificates: Iterable[x509.Certificate]) -> list[x509.Certificate]:
    """Return every certificate once, in order."""
    return list({der(certificate): certificate for certificate in certificates}.values())


def has_name(certificate: x509.Certificate, common_name: str, organization: str) -> bool:
    """Say whether the subject has exactly one CN and one O and they are these, code point for code point."""
    commons = [attribute.value for attribute in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    organizations = [attribute.value for attribute in certificate.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)]
    return commons == [common_name] and organizations == [organization]


def is_authority(certificate: x509.Certificate) -> bool:
    """Say whether basic constraints call the certificate a CA."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def usages(certificate: x509.Certificate) -> list[str]:
    """Return the extended key usages as dotted identifiers, sorted; empty where the extension is absent."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return []
    return sorted(usage.dotted_string for usage in found)


def may_sign(certificate: x509.Certificate) -> bool:
    """Say whether the key usage, where there is one, allows digital signatures (the leaf of 2021 has none)."""
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    except x509.ExtensionNotFound:
        return True


def key_allowed(certificate: x509.Certificate) -> bool:
    """Say whether the key is RSA of 2048 to 8192 bits with an exponent from 65537 to 32 bits."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False
    return isinstance(key, rsa.RSAPublicKey) and MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS and 65537 <= key.public_numbers().e < 1 << 32


def _issuer_key_allowed(certificate: x509.Certificate) -> bool:
    """Say whether the key may stand in a chain: as a signer's, or elliptic; keeps enormous keys out of the path builder."""
    try:
        return key_allowed(certificate) or isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    except (ValueError, UnsupportedAlgorithm):
        return False


def is_pinnable(certificate: x509.Certificate) -> bool:
    """Say whether the certificate can be a pinned root: a CA that signed itself. Anything else would end a chain too early."""
    return is_authority(certificate) and _issuer_key_allowed(certificate) and _issued_by(certificate, certificate)


def _anchored(pool: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Return the authorities of the pool that a root issued, or an authority among them.

    A path builder that is given a stranger's authorities, all of one name and key, walks a tree of them without end.
    """
    waiting = [c for c in pool if is_authority(c) and _issuer_key_allowed(c)]
    issuers = list(roots)
    for issuer in issuers:  # grows
        for certificate in list(waiting):
            if certificate.issuer == issuer.subject and _issued_by(certificate, issuer):
                waiting.remove(certificate)
                issuers.append(certificate)
    return issuers[len(roots):]


def _issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Say whether the issuer's key signed the certificate and the names match."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:  # pylint: disable=broad-except  # the library raises several types, all of them mean no
        return False
    return True


def _check_authority_usage(dummy_policy: Any, dummy_certificate: Any, usage: x509.KeyUsage | None) -> None:
    """Refuse an issuer whose key usage does not allow signing certificates."""
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("the issuer may not sign certificates")


def chain(
    leaf: x509.Certificate,
    pool: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    at: datetime.datetime,
    purposes: Iterable[str],
) -> tuple[x509.Certificate, ...] | None:
    """Return the chain from leaf to a pinned root, all valid ``at``, or None.

    An issuer with extended key usages must have all ``purposes`` (or any) among them.
    """
    wanted = frozenset(purposes)

    def check_purposes(dummy_policy: Any, dummy_certificate: Any, usage: x509.ExtendedKeyUsage | None) -> None:
        """Nest the purposes: an issuer for something else is no issuer of this leaf."""
        if usage is not None:
            found = {item.dotted_string for item in usage}
            if ANY_USAGE not in found and not wanted <= found:
                raise ValueError("the issuer is for another purpose")

    fingerprints = {der(root) for root in roots}
    if not roots or is_authority(leaf) or der(leaf) in fingerprints:
        return None
    issuers = (
        ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, Criticality.CRITICAL, None)
        .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _check_authority_usage)
        .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, check_purposes)
        .may_be_present(x509.CertificatePolicies, Criticality.AGNOSTIC, None)
    )
    leaves = ExtensionPolicy.permit_all().may_be_present(x509.CertificatePolicies, Criticality.AGNOSTIC, None)
    verifier = (
        PolicyBuilder()
        .store(Store(list(roots)))
        .time(at.astimezone(datetime.timezone.utc).replace(tzinfo=None, microsecond=0))
        .max_chain_depth(MAX_INTERMEDIATES)
        .extension_policies(ca_policy=issuers, ee_policy=leaves)
        .build_client_verifier()
    )
    between = _anchored([c for c in pool if der(c) not in fingerprints and der(c) != der(leaf)], roots)
    try:
        found = tuple(verifier.verify(leaf, between).chain)
    except (VerificationError, ValueError, UnsupportedAlgorithm):
        return None
    if len(found) < 2 or der(found[0]) != der(leaf) or der(found[-1]) not in fingerprints:
        return None
    return found


def loose_chain(leaf: x509.Certificate, pool: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    """Return the certificates by issuer name from the leaf up, unproven: only for a message."""
    found = [leaf]
    while len(found) <= MAX_INTERMEDIATES:
        following = next((c for c in pool if c.subject == found[-1].issuer and der(c) not in map(der, found)), None)
        if following is None:
            break
        found.append(following)
    return found


def describe(certificate: x509.Certificate) -> dict[str, Any]:
    """Return what an administrator compares: names, usages, validity and fingerprint."""
    return {
        "subject": _name(certificate.subject),
        "issuer": _name(certificate.issuer),
        "serial": f"{certificate.serial_number:x}",
        "ekus": usages(certificate),
        "not_before": iso(certificate.not_valid_before_utc),
        "not_after": iso(certificate.not_valid_after_utc),
        "sha256": fingerprint(certificate),
    }


def _name(name: x509.Name) -> str:
    """Return a distinguished name, fit to be shown."""
    try:
        return shown(name.rfc4514_string())
    except (ValueError, TypeError):
        return "(unreadable name)"


def iso(when: datetime.datetime) -> str:
    """Return a UTC time as ISO-8601 with Z, milliseconds where there are any."""
    text = when.astimezone(datetime.timezone.utc).isoformat(timespec="milliseconds" if when.microsecond else "seconds")
    return text.replace("+00:00", "Z")


class Revocation:
    """What a set of CRLs says. CRLs that no certificate of the chain signed are without effect."""

    def __init__(self, crls: Sequence[x509.CertificateRevocationList]) -> None:
        self.crls = crls

    def judge(self, proven: Sequence[x509.Certificate], at: datetime.datetime) -> str:
        """Return ``good``, ``unknown`` or ``revoked`` for a chain whose last element is the root."""
        states = [self._judge_one(child, issuer, at) for child, issuer in itertools.pairwise(proven)]
        return "revoked" if "revoked" in states else "unknown" if "unknown" in states else "good"

    def _judge_one(self, child: x509.Certificate, issuer: x509.Certificate, at: datetime.datetime) -> str:
        """Return the state of one certificate: listed revokes at any age, absence counts only from a current, complete list."""
        state = "unknown"
        for crl in self.crls:
            if crl.issuer != issuer.subject or not self._signed_by(crl, issuer):
                continue
            if crl.get_revoked_certificate_by_serial_number(child.serial_number) is not None:
                return "revoked"
            until = crl.next_update_utc
            if until is not None and crl.last_update_utc <= at <= until and not any(extension.critical for extension in crl.extensions):
                state = "good"
        return state

    @staticmethod
    def _signed_by(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
        """Say whether the issuer made the list and may make lists."""
        try:
            if not issuer.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign:
                return False
        except x509.ExtensionNotFound:
            pass
        try:
            key = issuer.public_key()
            return isinstance(key, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey)) and crl.is_signature_valid(key)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            return False
