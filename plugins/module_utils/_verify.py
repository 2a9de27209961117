# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage 2, verify: bytes, a policy and a time in; proven octets out, or a VerifyError with its reason.

The order of checks and the time policy are those of TRUST.md 2. Pure: no IO, no clock, no Ansible.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import warnings
from collections.abc import Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils import _certificates, _deps, _dsig, _timestamp, _xml_guard
from ansible_collections.exchange.mitigation.plugins.module_utils._certificates import iso
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput, VerifyError
from ansible_collections.exchange.mitigation.plugins.module_utils._reasons import unproven

try:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import rsa
except ImportError:
    pass  # the entry points require it

SIGNER_COMMON_NAME = "Microsoft Exchange XML Signing"
SIGNER_ORGANIZATION = "Microsoft Corporation"
#: Code signing, and Microsoft's own usage that only the mitigation signer was seen with (TRUST.md 1).
SIGNER_EKUS = (_certificates.CODE_SIGNING, "1.3.6.1.4.1.311.76.57.1.11")

#: How far a timestamp may be ahead of the controller's clock and still be recorded. It never makes a document valid.
CLOCK_SKEW = datetime.timedelta(minutes=5)


@dataclasses.dataclass(frozen=True)
class Policy:
    """Whom to trust. ``roots`` and ``timestamp_roots`` are the only anchors; ``explicit_time`` is for archives alone."""

    roots: tuple[x509.Certificate, ...]
    timestamp_roots: tuple[x509.Certificate, ...]
    common_name: str = SIGNER_COMMON_NAME
    organization: str = SIGNER_ORGANIZATION
    required_ekus: tuple[str, ...] = SIGNER_EKUS
    crls: tuple[x509.CertificateRevocationList, ...] = ()
    denied_sha256: frozenset[str] = frozenset()
    revocation_required: bool = False
    explicit_time: datetime.datetime | None = None

    def __post_init__(self) -> None:
        if any(not _certificates.is_pinnable(root) for root in (*self.roots, *self.timestamp_roots)):
            raise InvalidInput("A root must be a certificate authority that signed itself; anything else would end a chain too early.", "root_not_pinnable")


@dataclasses.dataclass(frozen=True)
class Verified:
    """What is proven. Only ``octets`` (canonical, without the signature) and the ``root`` parsed from them are handed on."""

    octets: bytes
    root: Any
    signer: dict[str, Any]
    time_basis: str
    signed_at: datetime.datetime | None
    revocation: str
    timestamp_note: str

    @property
    def octets_sha256(self) -> str:
        """Return the SHA-256 of the signed octets in hex."""
        return hashlib.sha256(self.octets).hexdigest()


def require_libraries() -> None:
    """Raise MissingLibrary where lxml or cryptography is missing or too old to judge a document."""
    _deps.require("lxml")
    _deps.require("cryptography")


def verify(data: bytes, policy: Policy, now: datetime.datetime) -> Verified:
    """Return what the document proves at the time ``now``; raises VerifyError and nothing else (MissingLibrary before it begins)."""
    require_libraries()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the libraries would print what they think of a hostile certificate
            return _verify(data, policy, now)
    except VerifyError:
        raise
    except Exception as exc:  # pylint: disable=broad-except  # whatever a hostile document provokes, it is not proven
        raise unproven("unexpected", f"The document provoked {type(exc).__name__} in the verifier.") from exc


def _verify(data: bytes, policy: Policy, now: datetime.datetime) -> Verified:
    clean = _xml_guard.checked(data)
    root = _xml_guard.parse(clean)
    signature = _dsig.read_signature(_dsig.find_signature(root))
    pool = _certificates.distinct(map(_certificates.load, signature.certificates))
    leaf = _signer(pool, signature, policy, now)
    key = leaf.public_key()
    if not isinstance(key, rsa.RSAPublicKey) or not _dsig.key_matches(key, signature):
        raise unproven("signature_mismatch", "The signature does not match the signer's key.")
    octets = _dsig.content_octets(root, signature)
    _check_denied([hashlib.sha256(data).hexdigest(), hashlib.sha256(octets).hexdigest()], policy)
    _check_purpose(leaf, pool, policy)

    revocation = _certificates.Revocation(policy.crls)
    stamp, note = _countersignature(signature, leaf, policy, revocation, policy.explicit_time or now)
    proven, basis, at = _chain(leaf, pool, policy, stamp, note, now)
    _check_denied([_certificates.fingerprint(certificate) for certificate in proven], policy)
    state = revocation.judge(proven, policy.explicit_time or now)
    if state == "revoked":
        raise unproven("revoked", "A certificate of the signer's chain is revoked.", **_details(leaf, pool))
    if state == "unknown" and policy.revocation_required:
        raise unproven("revocation_unknown", "Nothing current says that the signer's chain is not revoked.", **_details(leaf, pool))
    return Verified(
        octets=octets,
        root=_xml_guard.parse(octets),
        signer={
            **_certificates.describe(leaf),
            "common_name": policy.common_name,
            "organization": policy.organization,
            "judged_at": iso(at),
            "chain": [_certificates.describe(certificate) for certificate in proven],
        },
        time_basis=basis,
        signed_at=None if stamp is None else stamp.time,
        revocation=state,
        timestamp_note=note,
    )


def _details(leaf: x509.Certificate, pool: Sequence[x509.Certificate]) -> dict[str, Any]:
    """Return the unproven chain for a refusal: what an administrator compares with Microsoft's announcement."""
    return {"signer_chain": [_certificates.describe(certificate) for certificate in _certificates.loose_chain(leaf, pool)]}


def _printed(leaf: x509.Certificate, pool: Sequence[x509.Certificate]) -> str:
    """Return the unproven chain as one line."""
    return "; ".join(
        f"{d['subject']} (issuer {d['issuer']}, EKUs {', '.join(d['ekus']) or 'none'}, {d['not_before']} to {d['not_after']}, SHA-256 {d['sha256']})"
        for d in map(_certificates.describe, _certificates.loose_chain(leaf, pool))
    )


def _signer(pool: Sequence[x509.Certificate], signature: _dsig.Signature, policy: Policy, now: datetime.datetime) -> x509.Certificate:
    """Return the one certificate with the signer's name and an allowed key; tell a new signer from an attack."""
    named = [certificate for certificate in pool if _certificates.has_name(certificate, policy.common_name, policy.organization)]
    if len(named) > 1:
        raise unproven("signer_ambiguous", f"{len(named)} certificates have the signer's name.")
    if not named:
        raise _stranger(pool, signature, policy, now)
    leaf = named[0]
    if not _certificates.key_allowed(leaf):
        raise unproven("key_not_allowed", "The signer's key is not RSA of 2048 to 8192 bits with a usual exponent.", **_details(leaf, pool))
    return leaf


def _stranger(pool: Sequence[x509.Certificate], signature: _dsig.Signature, policy: Policy, now: datetime.datetime) -> VerifyError:
    """Return the refusal of a document in which nobody has the expected name."""
    for certificate in pool:
        if _certificates.is_authority(certificate) or not _certificates.key_allowed(certificate):
            continue
        key = certificate.public_key()
        if not isinstance(key, rsa.RSAPublicKey) or not _dsig.key_matches(key, signature):
            continue
        times = (now, certificate.not_valid_before_utc, certificate.not_valid_after_utc)
        if any(_certificates.chain(certificate, pool, policy.roots, at, (_certificates.CODE_SIGNING,)) for at in times):
            return unproven(
                "signer_changed",
                f"Signed under a pinned root, but not by {policy.common_name} of {policy.organization}: {_printed(certificate, pool)}.",
                **_details(certificate, pool),
            )
        return unproven("signer_missing", f"Signed by a stranger: {_printed(certificate, pool)}.", **_details(certificate, pool))
    return unproven("signer_missing", "No embedded certificate has the signer's name.")


def _check_denied(hashes: Sequence[str], policy: Policy) -> None:
    found = policy.denied_sha256.intersection(hashes)
    if found:
        raise unproven("denied", f"SHA-256 {min(found)} is denied.")


def _check_purpose(leaf: x509.Certificate, pool: Sequence[x509.Certificate], policy: Policy) -> None:
    """Refuse a leaf that may not sign this: a CA, another key usage, a missing extended key usage."""
    if _certificates.is_authority(leaf) or _certificates.der(leaf) in map(_certificates.der, policy.roots):
        raise unproven("signer_is_ca", "The signer's certificate is an authority.", **_details(leaf, pool))
    if not _certificates.may_sign(leaf):
        raise unproven("key_usage", "The signer's certificate may not sign data.", **_details(leaf, pool))
    missing = sorted(set(policy.required_ekus).difference(_certificates.usages(leaf)))
    if missing:
        raise unproven("eku_missing", f"The signer lacks the usages {', '.join(missing)}: {_printed(leaf, pool)}.", **_details(leaf, pool))


def _countersignature(
    signature: _dsig.Signature,
    leaf: x509.Certificate,
    policy: Policy,
    revocation: _certificates.Revocation,
    now: datetime.datetime,
) -> tuple[_timestamp.Timestamp | None, str]:
    """Return the proven timestamp, or None and why it does not count."""
    if signature.token is None:
        return None, "there is no timestamp"
    try:
        token = _dsig.decode_base64(signature.token, "The timestamp")
        embedded = [_certificates.load(_dsig.decode_base64(text, "A certificate")) for text in signature.token_certificates]
        stamp = _timestamp.judge(token, signature.value, embedded, policy.timestamp_roots, revocation, policy.denied_sha256)
    except (VerifyError, _timestamp.Absent) as exc:
        return None, f"the timestamp does not count: {exc}"
    if stamp.time > now + CLOCK_SKEW:
        return None, f"the timestamp does not count: {iso(stamp.time)} is in the future"
    if not leaf.not_valid_before_utc <= stamp.time <= leaf.not_valid_after_utc:
        return None, f"the timestamp does not count: {iso(stamp.time)} is outside the signer's validity"
    return stamp, ""


def _chain(
    leaf: x509.Certificate,
    pool: Sequence[x509.Certificate],
    policy: Policy,
    stamp: _timestamp.Timestamp | None,
    note: str,
    now: datetime.datetime,
) -> tuple[tuple[x509.Certificate, ...], str, datetime.datetime]:
    """Return the proven chain, the basis of its time and that time: strict now; only if that fails, the timestamp's."""

    def at(time: datetime.datetime) -> tuple[x509.Certificate, ...] | None:
        return _certificates.chain(leaf, pool, policy.roots, time, policy.required_ekus)

    if policy.explicit_time is not None:
        basis, judged = "explicit", policy.explicit_time
        found = at(judged)
    else:
        basis, judged = "now", now
        found = at(now)
        if found is None and stamp is not None and stamp.time <= now:
            basis, judged = "timestamp", stamp.time
            found = at(judged)
    if found is not None:
        return found, basis, judged

    dates = f"valid {iso(leaf.not_valid_before_utc)} to {iso(leaf.not_valid_after_utc)}"
    reference = policy.explicit_time or now
    if not any(at(time) for time in _moments(leaf, pool)):
        code, sentence = "chain_untrusted", f"No chain leads to a pinned root: {_printed(leaf, pool)}."
    elif reference < leaf.not_valid_before_utc:
        code, sentence = "certificate_not_yet_valid", f"At {iso(reference)} the signer is not valid yet ({dates})."
    else:
        why = note or "the timestamp does not help"
        code, sentence = "certificate_expired", f"At {iso(reference)} the signer or its issuer is not valid ({dates}), and {why}."
    raise unproven(code, sentence, **_details(leaf, pool))


def _moments(leaf: x509.Certificate, pool: Sequence[x509.Certificate]) -> set[datetime.datetime]:
    """Return the times within the leaf's validity at which a chain can begin or cease to exist."""
    edges = {leaf.not_valid_before_utc, leaf.not_valid_after_utc}
    for certificate in pool:
        edges.update((certificate.not_valid_before_utc, certificate.not_valid_after_utc))
    return {edge for edge in edges if leaf.not_valid_before_utc <= edge <= leaf.not_valid_after_utc}
