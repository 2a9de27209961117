# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the options of the feed module to the verifier's policy: files read, hashes and times checked, sentences for what is wrong.

Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils import _certificates, _roots
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput
from ansible_collections.exchange.mitigation.plugins.module_utils._parse import LOCAL
from ansible_collections.exchange.mitigation.plugins.module_utils._verify import SIGNER_COMMON_NAME, SIGNER_EKUS, SIGNER_ORGANIZATION, Policy

try:
    from cryptography import x509
except ImportError:
    x509 = None  # type: ignore[assignment]  # the entry points require it

_HASH = re.compile(r"[0-9a-f]{64}")
_OID = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]*))+")
_MAX_PEM = 4 * 1024 * 1024
_MAX_CRL = 64 * 1024 * 1024


def hashes(values: Iterable[str] | None, option: str) -> frozenset[str]:
    """Return SHA-256 values in lower case; colons and spaces, as certificate viewers show them, may stand between. Raises InvalidInput."""
    found = set()
    for value in values or ():
        compact = value.lower().replace(":", "").replace(" ", "")
        if not _HASH.fullmatch(compact):
            raise InvalidInput(f"{option}: {value!r} is not a SHA-256 of 64 hexadecimal digits.")
        found.add(compact)
    return frozenset(found)


def moment(text: str | None, option: str) -> datetime.datetime | None:
    """Return an ISO-8601 time that says its offset; raises InvalidInput."""
    if text is None:
        return None
    try:
        value = datetime.datetime.fromisoformat(text.strip().replace("Z", "+00:00").replace("z", "+00:00"))
    except ValueError:
        raise InvalidInput(f"{option}: {text!r} is not a time such as 2021-12-07T15:37:24Z.") from None
    if value.tzinfo is None:
        raise InvalidInput(f"{option}: {text!r} does not say its offset from UTC; end it with Z.")
    return value.astimezone(datetime.timezone.utc)


def _read(path: str, option: str, limit: int) -> bytes:
    place = os.path.expanduser(os.path.expandvars(path))
    try:
        with open(place, "rb") as stream:
            data = stream.read(limit + 1)
    except (OSError, ValueError) as exc:
        raise InvalidInput(f"{option}: {place} cannot be read: {getattr(exc, 'strerror', None) or exc}.") from exc
    if len(data) > limit:
        raise InvalidInput(f"{option}: {place} is larger than {limit} bytes.")
    return data


def _roots_of(values: Iterable[str] | None, option: str) -> tuple[x509.Certificate, ...]:
    """Return the certificates of files, or of PEM text given in place of a file."""
    found: list[x509.Certificate] = []
    for value in values or ():
        data = value.encode() if "-----BEGIN CERTIFICATE-----" in value else _read(value, option, _MAX_PEM)
        found.extend(_roots.read_certificates(data, f"{option}: the certificate" if data == value.encode() else f"{option}: {value}"))
    return tuple(_certificates.distinct(found))


def policy(trust: Mapping[str, Any], verify_at: datetime.datetime | None) -> tuple[Policy, bool]:
    """Return the policy of option ``trust``, and whether its signing roots are the user's own; raises InvalidInput."""
    roots = _roots_of(trust.get("roots"), "trust.roots")
    timestamp_roots = _roots_of(trust.get("timestamp_roots"), "trust.timestamp_roots")
    local = trust["domain"] == LOCAL
    if local:
        _check_local(trust, roots)
    common_name, organization = (
        given if local or given is not None else default
        for given, default in ((trust.get("signer_common_name"), SIGNER_COMMON_NAME), (trust.get("signer_organization"), SIGNER_ORGANIZATION))
    )
    usages = trust.get("required_ekus")
    usages = ((_certificates.CODE_SIGNING,) if local else SIGNER_EKUS) if usages is None else tuple(usages)
    for usage in usages:
        if not _OID.fullmatch(usage):
            raise InvalidInput(f"trust.required_ekus: {usage!r} is not a dotted object identifier.")
    if not usages:
        raise InvalidInput("trust.required_ekus is empty: then every certificate under the root could sign the feed.")
    if not common_name or not organization:
        raise InvalidInput("trust.signer_common_name and trust.signer_organization must not be empty.")
    return (
        Policy(
            roots=roots or _roots.microsoft(),
            timestamp_roots=timestamp_roots if timestamp_roots or local else _roots.microsoft_timestamp(),
            common_name=common_name,
            organization=organization,
            required_ekus=usages,
            crls=tuple(_roots.read_crl(_read(path, "trust.crls", _MAX_CRL), f"trust.crls: {path}") for path in trust.get("crls") or ()),
            denied_sha256=hashes(trust.get("denied_sha256"), "trust.denied_sha256"),
            revocation_required=trust["revocation"] == "required",
            explicit_time=verify_at,
        ),
        bool(roots or timestamp_roots),
    )


def _check_local(trust: Mapping[str, Any], roots: tuple[x509.Certificate, ...]) -> None:
    """Refuse a local trust domain that does not say who signs, or that leans on Microsoft; raises InvalidInput."""
    missing = [name for name in ("roots", "signer_common_name", "signer_organization") if not trust.get(name)]
    if missing:
        wanted = ", ".join(f"trust.{name}" for name in missing)
        raise InvalidInput(f"trust.domain local has no defaults: say who signs your organisation's documents with {wanted}.", "local_trust_incomplete")
    pinned = {_roots.ROOT_2011_SHA256, _roots.ROOT_2010_SHA256}
    if pinned.intersection(map(_certificates.fingerprint, roots)):
        raise InvalidInput("trust.roots holds a root of Microsoft: what they sign is never a local document.", "local_trust_foreign")


def state_key(domain: str, chosen: Policy, custom: bool) -> str:
    """Return the name of the domain's state: own roots have a state of their own, so that a lab never moves Microsoft's mark."""
    if not custom:
        return domain
    pins = sorted(map(_certificates.fingerprint, (*chosen.roots, *chosen.timestamp_roots)))
    return f"{domain}-{hashlib.sha256(''.join(pins).encode()).hexdigest()[:12]}"


def default_state_dir(environment: Mapping[str, str]) -> str:
    """Return the place that the XDG base directory specification gives to state."""
    base = environment.get("XDG_STATE_HOME", "")
    return os.path.join(base if os.path.isabs(base) else os.path.join("~", ".local", "state"), "exchange_mitigation")


def is_ephemeral(environment: Mapping[str, str]) -> bool:
    """Say whether the home directory will be gone after this run: in the containers of automation controllers."""
    return bool(environment.get("AWX_ISOLATED_DATA_DIR") or environment.get("container")) or any(map(os.path.exists, ("/run/.containerenv", "/.dockerenv")))
