# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What later tasks get from the feed task: a path and a hash, opened again only if the bytes and the record of their proof agree.

Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
import stat
from collections.abc import Mapping
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils import _dsig, _local, _parse, _verify, _xml_guard
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput, VerifyError
from ansible_collections.exchange.mitigation.plugins.module_utils._reasons import unproven


@dataclasses.dataclass(frozen=True)
class Handle:
    """``feed`` of the feed task's result: the file with the verified bytes, their SHA-256, the trust domain."""

    path: str
    sha256: str
    domain: str


def handle_of(feed: Any) -> Handle:
    """Return the handle in an option value: the ``feed`` of a result, or the whole result; raises InvalidInput."""
    value = feed.get("feed", feed) if isinstance(feed, Mapping) else feed
    if not isinstance(value, Mapping) or not all(isinstance(value.get(key), str) and value[key] for key in ("path", "sha256", "domain")):
        raise InvalidInput("feed is not the result of exchange.mitigation.feed: it needs path, sha256 and domain.")
    return Handle(value["path"], value["sha256"].lower(), value["domain"])


def record(sha256: str, domain: str, verified: _verify.Verified, now: datetime.datetime, custom_roots: bool) -> dict[str, Any]:
    """Return the record that is kept beside verified bytes; ``sha256`` is of the bytes as they came."""
    return {
        "sha256": sha256,
        "octets_sha256": verified.octets_sha256,
        "domain": domain,
        "custom_roots": custom_roots,
        "verified_at": now.isoformat(),
        "time_basis": verified.time_basis,
        "signer_sha256": verified.signer["sha256"],
    }


def _read(path: pathlib.Path, limit: int) -> bytes:
    """Return a file that only the user who runs Ansible can write; raises VerifyError."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as stream:
            info = os.fstat(handle)
            if not stat.S_ISREG(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o022:
                raise unproven("feed_not_verified", f"{path} is not a file that only the user who runs Ansible can write.")
            return stream.read(limit + 1)
    except OSError as exc:
        raise unproven("feed_not_verified", f"{path} cannot be read: {exc.strerror}.") from exc


def load_feed(feed: Any) -> _parse.Document:
    """Return the document that the feed task verified; raises VerifyError for other bytes or without the record of the proof.

    ``feed`` is what exchange.mitigation.feed returned; in the trust domain ``local`` it gives a LocalDocument.
    The signature is not judged again: the bytes are those that were judged.
    """
    handle = handle_of(feed)
    _verify.require_libraries()
    path = pathlib.Path(handle.path)
    data = _read(path, _xml_guard.MAX_BYTES)
    found = hashlib.sha256(data).hexdigest()
    if found != handle.sha256:
        raise unproven("feed_bytes_differ", f"{path} has SHA-256 {found}, not {handle.sha256}.", expected=handle.sha256, found=found)
    if path.name != f"{found}.xml":
        raise unproven("feed_not_verified", f"{path} is not where the feed task keeps verified bytes.")
    try:
        known = json.loads(_read(path.with_suffix(".json"), 64 * 1024))
    except ValueError:
        raise unproven("feed_not_verified", f"The record beside {path} cannot be read.") from None
    if not isinstance(known, dict) or known.get("sha256") != found or known.get("domain") != handle.domain:
        raise unproven("feed_not_verified", f"The record beside {path} is for other bytes or another trust domain.")
    try:
        root = _xml_guard.parse(_xml_guard.checked(data))
        octets = _dsig.without_signature(root, _dsig.find_signature(root))
    except VerifyError as exc:
        raise unproven("feed_not_verified", f"{path} is not a signed document ({exc.reason}).") from exc
    if hashlib.sha256(octets).hexdigest() != known.get("octets_sha256"):
        raise unproven("feed_not_verified", f"The record beside {path} is for other content.")
    return _local.parse(_xml_guard.parse(octets), handle.domain)
