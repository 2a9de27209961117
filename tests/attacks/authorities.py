# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A public key infrastructure for tests: authorities, certificates, revocation lists and timestamps, good and bad.

Written apart from the verifier: on cryptography's builders and asn1crypto, never on the collection's code.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
from collections.abc import Sequence
from typing import Any

from asn1crypto import algos, cms, core, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

UTC = datetime.timezone.utc
DAY = datetime.timedelta(days=1)

CODE_SIGNING = "1.3.6.1.5.5.7.3.3"
XML_SIGNING = "1.3.6.1.4.1.311.76.57.1.11"
TIME_STAMPING = "1.3.6.1.5.5.7.3.8"
SERVER_AUTH = "1.3.6.1.5.5.7.3.1"
SIGNER = "Microsoft Exchange XML Signing"
MICROSOFT = "Microsoft Corporation"

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def key(label: str, bits: int = 2048) -> Key:
    """Return the key of a label; the same one each time. ``bits`` 256 means P-256, 2049 means 2048 with exponent 3."""
    return _key(label, bits)


@functools.cache
def _key(dummy_label: str, bits: int) -> Key:
    return ec.generate_private_key(ec.SECP256R1()) if bits == 256 else rsa.generate_private_key(3 if bits == 2049 else 65537, bits - bits % 2)


def pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate in PEM form."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def der(certificate: x509.Certificate) -> bytes:
    """Return a certificate in DER form."""
    return certificate.public_bytes(serialization.Encoding.DER)


def name(common_name: str | Sequence[str], organization: str | Sequence[str] | None = MICROSOFT) -> x509.Name:
    """Return a distinguished name; several values make several attributes."""
    commons = [common_name] if isinstance(common_name, str) else list(common_name)
    organizations = [] if organization is None else [organization] if isinstance(organization, str) else list(organization)
    attributes = [x509.NameAttribute(NameOID.COUNTRY_NAME, "US")]
    attributes += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, value) for value in organizations]
    attributes += [x509.NameAttribute(NameOID.COMMON_NAME, value) for value in commons]
    return x509.Name(attributes)


def usage(*granted: str, critical: bool = True) -> tuple[x509.KeyUsage, bool]:
    """Return a key usage extension with the granted bits."""
    bits = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{bit: bit in granted for bit in bits}), critical


def issue(
    subject: x509.Name,
    subject_key: Key,
    issuer: x509.Certificate | None,
    issuer_key: Key,
    begin: datetime.datetime,
    end: datetime.datetime,
    authority: bool | None = False,
    path_length: int | None = None,
    ekus: Sequence[str] = (),
    ekus_critical: bool = False,
    key_usage: tuple[x509.KeyUsage, bool] | None = None,
    extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
    digest: Any = hashes.SHA256,
) -> x509.Certificate:
    """Return a certificate; ``issuer`` None signs it by itself, ``authority`` None leaves basic constraints out."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(subject_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(subject_key.public_key()), critical=False)
    )
    if authority is not None:
        builder = builder.add_extension(x509.BasicConstraints(authority, path_length if authority else None), critical=True)
    if issuer is not None:
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    if ekus:
        builder = builder.add_extension(x509.ExtendedKeyUsage([x509.ObjectIdentifier(eku) for eku in ekus]), critical=ekus_critical)
    if key_usage is not None:
        builder = builder.add_extension(*key_usage[:1], critical=key_usage[1])
    for extension, critical in extra:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuer_key, digest())


def crl(
    issuer: x509.Certificate,
    issuer_key: Key,
    begin: datetime.datetime,
    end: datetime.datetime,
    revoked: Sequence[x509.Certificate] = (),
    extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> bytes:
    """Return a revocation list in DER form."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.subject).last_update(begin).next_update(end)
    for certificate in revoked:
        builder = builder.add_revoked_certificate(x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(begin).build())
    for extension, critical in extra:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def token(
    value: bytes,
    when: datetime.datetime,
    signer: x509.Certificate,
    signer_key: Key,
    certificates: Sequence[x509.Certificate],
    *,
    imprint: bytes | None = None,
    imprint_algorithm: str = "sha256",
    digest: bytes | None = None,
    content_type: str = "tst_info",
    signed_content_type: str = "tst_info",
    name_of_signer: bool = True,
    essential: bytes | None = None,
    signers: int = 1,
    indefinite: bool = True,
    version: str = "v1",
    critical_extension: bool = False,
    serial: int | None = None,
    by_key_identifier: bool = False,
    algorithm: str = "sha256",
    essential_algorithm: str | None = None,
    revocation_lists: bool = False,
    odd_parameters: bool = False,
) -> bytes:
    """Return an RFC 3161 token over ``value``; the keywords make it wrong in one way each, or right in another form."""
    info = tsp.TSTInfo(
        {
            "version": version,
            "policy": "1.3.6.1.4.1.601.10.3.1",
            "message_imprint": {
                "hash_algorithm": {"algorithm": imprint_algorithm, "parameters": core.Null()},
                "hashed_message": hashlib.new(imprint_algorithm, value).digest() if imprint is None else imprint,
            },
            "serial_number": 4711,
            "gen_time": when,
            "accuracy": {"millis": 500},
            **({"extensions": [{"extn_id": "1.3.6.1.4.1.99999.1", "critical": True, "extn_value": b"\x05\x00"}]} if critical_extension else {}),
        }
    ).dump()
    attributes = [
        cms.CMSAttribute({"type": "content_type", "values": [signed_content_type]}),
        cms.CMSAttribute({"type": "message_digest", "values": [hashlib.new(algorithm, info).digest() if digest is None else digest]}),
    ]
    named: dict[str, Any] = {"cert_hash": hashlib.new(essential_algorithm or "sha256", der(signer)).digest() if essential is None else essential}
    if essential_algorithm is not None:
        named["hash_algorithm"] = {"algorithm": essential_algorithm}
    if name_of_signer:
        attributes.append(
            cms.CMSAttribute(
                {
                    "type": "signing_certificate_v2",
                    "values": [tsp.SigningCertificateV2({"certs": [named]})],
                }
            )
        )
    signed = cms.CMSAttributes(attributes)
    if isinstance(signer_key, rsa.RSAPrivateKey):
        signature = signer_key.sign(signed.dump(), padding.PKCS1v15(), {"sha1": hashes.SHA1, "sha256": hashes.SHA256, "sha512": hashes.SHA512}[algorithm]())
    else:
        signature = signer_key.sign(signed.dump(), ec.ECDSA(hashes.SHA256()))
    parsed = asn1_x509.Certificate.load(der(signer))
    identifier = (
        cms.SignerIdentifier("subject_key_identifier", parsed.key_identifier)
        if by_key_identifier
        else cms.SignerIdentifier("issuer_and_serial_number", {"issuer": parsed.issuer, "serial_number": parsed.serial_number if serial is None else serial})
    )
    one = cms.SignerInfo(
        {
            "version": "v3" if by_key_identifier else "v1",
            "sid": identifier,
            "digest_algorithm": algos.DigestAlgorithm({"algorithm": algorithm, **({"parameters": core.Null()} if odd_parameters else {})}),
            "signed_attrs": signed,
            "signature_algorithm": algos.SignedDigestAlgorithm(
                {"algorithm": f"{algorithm}_rsa" if isinstance(signer_key, rsa.RSAPrivateKey) else "sha256_ecdsa"}
            ),
            "signature": signature,
        }
    )
    data = cms.SignedData(
        {
            "version": "v3",
            "digest_algorithms": [algos.DigestAlgorithm({"algorithm": algorithm})],
            "encap_content_info": {"content_type": content_type, "content": core.ParsableOctetString(info)},
            "certificates": [cms.CertificateChoices("certificate", asn1_x509.Certificate.load(der(c))) for c in certificates],
            **({"crls": []} if revocation_lists else {}),
            "signer_infos": [one] * signers,
        }
    ).dump()
    if odd_parameters:  # an empty octet string in place of NULL in the SignerInfo, which comes last
        oid = algos.DigestAlgorithmId(algorithm).dump()
        head, null, tail = data.rpartition(oid + b"\x05\x00")
        data = head + null[:-2] + b"\x04\x00" + tail
    if not indefinite:
        return cms.ContentInfo({"content_type": "signed_data", "content": cms.SignedData.load(data)}).dump()
    return b"\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02\xa0\x80" + data + b"\0\0\0\0"


class Pki:
    """Everything that a good document needs, relative to one ``now``."""

    def __init__(self, now: datetime.datetime) -> None:
        self.now = now
        long = (now - 3000 * DAY, now + 3000 * DAY)
        authority = usage("digital_signature", "key_cert_sign", "crl_sign", critical=False)
        self.root = issue(name("Test Root Certificate Authority 2011"), key("root"), None, key("root"), *long, authority=True, key_usage=authority)
        self.middle = issue(name("Test Code Signing PCA"), key("middle"), self.root, key("root"), *long, authority=True, key_usage=authority)
        self.leaf = self.signer()
        self.time_root = issue(
            name("Test Root Certificate Authority 2010"), key("time root"), None, key("time root"), *long, authority=True, key_usage=authority
        )
        policies = x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.3.6.1.4.1.311.46.3"), None)])
        self.time_middle = issue(
            name("Test Time-Stamp PCA"),
            key("time middle"),
            self.time_root,
            key("time root"),
            *long,
            authority=True,
            key_usage=authority,
            extra=[(policies, True)],
        )
        self.time_leaf = self.stamper()
        self.evil_root = issue(
            name("Test Root Certificate Authority 2011"), key("evil root"), None, key("evil root"), *long, authority=True, key_usage=authority
        )
        self.evil_leaf = self.signer(issuer=self.evil_root, issuer_key=key("evil root"), subject_key=key("evil"))

    def signer(self, **changes: Any) -> x509.Certificate:
        """Return a signer's certificate like Microsoft's, with changes."""
        options: dict[str, Any] = {
            "subject": name(SIGNER),
            "subject_key": key("leaf"),
            "issuer": self.middle,
            "issuer_key": key("middle"),
            "begin": self.now - 100 * DAY,
            "end": self.now + 200 * DAY,
            "ekus": [CODE_SIGNING, XML_SIGNING],
        }
        return issue(**{**options, **changes})

    def stamper(self, **changes: Any) -> x509.Certificate:
        """Return a timestamp authority's certificate like Microsoft's of 2021, with changes."""
        options: dict[str, Any] = {
            "subject": name("Test Time-Stamp Service"),
            "subject_key": key("time leaf"),
            "issuer": self.time_middle,
            "issuer_key": key("time middle"),
            "begin": self.now - 2000 * DAY,
            "end": self.now + 200 * DAY,
            "ekus": [TIME_STAMPING],
        }
        return issue(**{**options, **changes})

    def stamp(self, value: bytes, when: datetime.datetime, **changes: Any) -> bytes:
        """Return a token by the good timestamp authority, with changes."""
        signer, signer_key = changes.pop("signer", self.time_leaf), changes.pop("signer_key", key("time leaf"))
        return token(value, when, signer, signer_key, changes.pop("certificates", [signer, self.time_middle]), **changes)
