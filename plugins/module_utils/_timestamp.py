# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The countersignature: an RFC 3161 token over the signature's value, judged under its own pinned root (TRUST.md 0 and 2).

It proves "signed no later than". A token that cannot be judged counts as absent: whoever can damage it can also delete it.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
from collections.abc import Iterable, Sequence

from ansible_collections.exchange.mitigation.plugins.module_utils import _certificates, _der
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import VerifyError

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
except ImportError:
    pass  # the entry points require it

MAX_TOKEN = 64 * 1024  #: Microsoft's has 5 KiB

SIGNED_DATA = "1.2.840.113549.1.7.2"
TST_INFO = "1.2.840.113549.1.9.16.1.4"
CONTENT_TYPE = "1.2.840.113549.1.9.3"
MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.47"
RSA_ENCRYPTION = "1.2.840.113549.1.1.1"

_HASHES = {"2.16.840.1.101.3.4.2.1": "sha256", "2.16.840.1.101.3.4.2.2": "sha384", "2.16.840.1.101.3.4.2.3": "sha512"}
_RSA_WITH = {"1.2.840.113549.1.1.11": "sha256", "1.2.840.113549.1.1.12": "sha384", "1.2.840.113549.1.1.13": "sha512"}

_CONTEXT_0, _CONTEXT_1 = 0xA0, 0xA1
_KEY_ID = 0x80  #: [0] IMPLICIT OCTET STRING, a signer identified by key
_EXTENSIONS = 0xA1  #: [1] in TSTInfo


class Absent(Exception):
    """The token proves nothing; the text says why."""


@dataclasses.dataclass(frozen=True)
class Timestamp:
    """A proven time and the chain of the authority that stated it, root last."""

    time: datetime.datetime
    chain: tuple[x509.Certificate, ...]


@dataclasses.dataclass(frozen=True)
class _Token:
    """The parts of a SignedData that has one signer."""

    content: bytes
    certificates: tuple[bytes, ...]
    signer_id: _der.Value
    digest_algorithm: str
    attributes: _der.Value
    signature_algorithm: str
    signature: bytes


def judge(
    token: bytes,
    signed: bytes,
    embedded: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    revocation: _certificates.Revocation,
    denied: frozenset[str],
) -> Timestamp:
    """Return the time that the token proves for the ``signed`` bytes; raises Absent.

    ``embedded`` are certificates that came beside the token; ``roots`` are the pinned timestamp roots.
    """
    if len(token) > MAX_TOKEN:
        raise Absent(f"the token has {len(token)} bytes, more than {MAX_TOKEN}")
    try:
        parts = _split(token)
        time = _stated_time(parts.content, signed)
        own = []
        for one in parts.certificates[: _certificates.MAX_CERTIFICATES]:
            own.append(_certificates.load(one))
        pool = _certificates.distinct([*own, *embedded])
        signer = _signer(parts, pool)
        _check_signature(parts, signer)
    except _der.DerError as exc:
        raise Absent(f"the token is not what RFC 3161 describes: {exc}") from None
    except VerifyError as exc:
        raise Absent(f"the token holds a certificate that cannot be read ({exc.reason})") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Absent("the token cannot be read") from None
    if _certificates.usages(signer) != [_certificates.TIME_STAMPING]:
        raise Absent("the token's signer is not a timestamp authority")
    proven = _certificates.chain(signer, pool, roots, time, (_certificates.TIME_STAMPING,))
    if proven is None:
        raise Absent("no chain leads from the token's signer to a pinned timestamp root at the stated time")
    if denied.intersection(map(_certificates.fingerprint, proven)):
        raise Absent("a certificate of the timestamp authority is denied")
    if revocation.judge(proven, time) == "revoked":
        raise Absent("a certificate of the timestamp authority is revoked")
    return Timestamp(time, proven)


def _one(values: Sequence[_der.Value], what: str) -> _der.Value:
    if len(values) != 1:
        raise _der.DerError(f"{len(values)} of {what}, not one")
    return values[0]


def _fields(value: _der.Value, least: int, what: str) -> list[_der.Value]:
    fields = list(value.expect(_der.SEQUENCE).children)
    if len(fields) < least:
        raise _der.DerError(f"{what} cut short")
    return fields


def _algorithm(value: _der.Value, known: dict[str, str], what: str) -> str:
    """Return our name of an AlgorithmIdentifier whose parameters are NULL or absent."""
    fields = _fields(value, 1, what)
    if len(fields) > 2 or (len(fields) == 2 and fields[1].raw != b"\x05\x00"):
        raise _der.DerError(f"{what} has parameters")
    name = known.get(fields[0].oid())
    if name is None:
        raise _der.DerError(f"{what} is not in the allow list")
    return name


def _split(token: bytes) -> _Token:
    """Return the parts of ContentInfo, SignedData and its only SignerInfo."""
    info = _fields(_der.decode(token, ber=True), 2, "ContentInfo")
    if len(info) != 2 or info[0].oid() != SIGNED_DATA:
        raise _der.DerError("not SignedData")
    data = _fields(_one(info[1].expect(_CONTEXT_0).children, "SignedData"), 4, "SignedData")
    data[0].integer()
    data[1].expect(_der.SET)
    content = _fields(data[2], 2, "EncapsulatedContentInfo")
    if content[0].oid() != TST_INFO:
        raise _der.DerError("the content is not TSTInfo")
    octets = _one(content[1].expect(_CONTEXT_0).children, "TSTInfo").octets()
    certificates: list[bytes] = []
    for value in data[3:-1]:
        if value.tag == _CONTEXT_0:
            certificates.extend(child.raw for child in value.children if child.tag == _der.SEQUENCE)  # others are attribute certificates
        else:
            value.expect(_CONTEXT_1)
    signer = _fields(_one(data[-1].expect(_der.SET).children, "SignerInfo"), 6, "SignerInfo")
    signer[0].integer()
    signer[3].expect(_CONTEXT_0)
    return _Token(
        content=octets,
        certificates=tuple(certificates),
        signer_id=signer[1],
        digest_algorithm=_algorithm(signer[2], _HASHES, "the digest algorithm"),
        attributes=signer[3],
        signature_algorithm=_algorithm(signer[4], {RSA_ENCRYPTION: "", **_RSA_WITH}, "the signature algorithm"),
        signature=signer[5].octets(),
    )


def _stated_time(content: bytes, signed: bytes) -> datetime.datetime:
    """Return genTime of a TSTInfo whose imprint is of the signed bytes."""
    fields = _fields(_der.decode(content), 5, "TSTInfo")
    if fields[0].integer() != 1:
        raise _der.DerError("version of TSTInfo")
    fields[1].oid()
    imprint = _fields(fields[2], 2, "messageImprint")
    algorithm = _algorithm(imprint[0], _HASHES, "the imprint's algorithm")
    if len(imprint) != 2 or imprint[1].octets() != hashlib.new(algorithm, signed).digest():
        raise Absent("the token is for another signature")
    fields[3].integer()
    for extensions in fields[5:]:
        if extensions.tag == _EXTENSIONS and any(len(extension.children) > 2 for extension in extensions.children):
            raise _der.DerError("critical extension in TSTInfo")
    return fields[4].time()


def _attribute(token: _Token, wanted: str) -> _der.Value:
    """Return the one value of the one signed attribute of a type."""
    found = [attribute for attribute in token.attributes.children if _fields(attribute, 2, "attribute")[0].oid() == wanted]
    return _one(_one(found, "attribute " + wanted).children[1].expect(_der.SET).children, "value of " + wanted)


def _signer(token: _Token, pool: Iterable[x509.Certificate]) -> x509.Certificate:
    """Return the certificate that the signer identifier and the signed signing-certificate attribute both name."""
    essential = _fields(_fields(_attribute(token, SIGNING_CERTIFICATE_V2), 1, "SigningCertificateV2")[0], 1, "certificates")[0]
    fields = _fields(essential, 1, "ESSCertIDv2")
    algorithm = "sha256"
    if fields[0].tag == _der.SEQUENCE:
        algorithm = _algorithm(fields.pop(0), _HASHES, "the certificate's digest algorithm")
    if not fields:
        raise _der.DerError("ESSCertIDv2 cut short")
    digest = fields[0].octets()
    named = [c for c in pool if hashlib.new(algorithm, _certificates.der(c)).digest() == digest and _identifies(token.signer_id, c)]
    if len(named) != 1:
        raise Absent("the certificate of the token's signer is not there")
    return named[0]


def _identifies(signer_id: _der.Value, certificate: x509.Certificate) -> bool:
    """Say whether a SignerIdentifier (issuer and serial, or key identifier) names the certificate."""
    if signer_id.tag == _KEY_ID:
        try:
            return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest == signer_id.content
        except x509.ExtensionNotFound:
            return False
    issuer, serial = _fields(signer_id, 2, "signer identifier")[:2]
    return certificate.issuer.public_bytes() == issuer.raw and certificate.serial_number == serial.integer()


def _check_signature(token: _Token, signer: x509.Certificate) -> None:
    """Prove content type, content digest and the signature over the attributes; raises Absent."""
    if _attribute(token, CONTENT_TYPE).oid() != TST_INFO:
        raise Absent("the signed content type is not TSTInfo")
    if _attribute(token, MESSAGE_DIGEST).octets() != hashlib.new(token.digest_algorithm, token.content).digest():
        raise Absent("the token's content was changed")
    octets = bytes([_der.SET]) + token.attributes.raw[1:]
    _der.decode(octets)  # signed are the DER octets, under the tag of SET
    name = token.signature_algorithm or token.digest_algorithm
    key = signer.public_key()
    if not _certificates.key_allowed(signer) or not isinstance(key, rsa.RSAPublicKey) or not _certificates.may_sign(signer):
        raise Absent("the key of the token's signer is not allowed")
    algorithm = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}[name]
    try:
        key.verify(token.signature, octets, padding.PKCS1v15(), algorithm)
    except InvalidSignature:
        raise Absent("the token's signature does not match") from None
