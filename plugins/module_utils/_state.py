# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller remembers of each trust domain: the high-water mark, the last fetch, and the verified bytes.

The rules against rollback are those of TRUST.md 3. A file per domain, mode 0600, replaced atomically under a lock.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import errno
import fcntl
import json
import os
import pathlib
import stat
import time
from collections.abc import Iterator, Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput, Refused, VerifyError
from ansible_collections.exchange.mitigation.plugins.module_utils._local_files import replace
from ansible_collections.exchange.mitigation.plugins.module_utils._parse import version_key
from ansible_collections.exchange.mitigation.plugins.module_utils._reasons import unproven

FORMAT = 1
MAX_LEAP = 100  #: how far the first number of a version may go up at once
BASELINE = "1.0.4"  #: the version of Microsoft's only publicly known document (TRUST.md 1), what a first use is compared with
KEPT_AUDIT = 100
KEPT_COPIES = 20
LOCK_SECONDS = 20.0


@dataclasses.dataclass(frozen=True)
class Accepted:
    """A verified document as the rules see it. ``sha256`` is of the signed octets, ``file_sha256`` of the bytes as they came."""

    sha256: str
    file_sha256: str
    version: str
    signed_at: datetime.datetime | None
    signer_sha256: str
    ids: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Memory:
    """What is remembered: ``mark`` the highest document ever accepted, ``last`` the one accepted last, ``fetched_at`` the last fetch."""

    mark: Accepted | None = None
    last: Accepted | None = None
    fetched_at: datetime.datetime | None = None
    audit: tuple[dict[str, Any], ...] = ()


@dataclasses.dataclass(frozen=True)
class Consent:
    """What the administrator allows beyond the rules. ``baseline`` is a version that even a first document is not absurdly far ahead of."""

    first_use: str = "accept"
    approved_sha256: frozenset[str] = frozenset()
    allow_older: str | None = None
    baseline: str | None = None

    def approves(self, document: Accepted) -> bool:
        """Say whether the hash of the document, as bytes or as signed octets, is approved."""
        return bool(self.approved_sha256.intersection((document.sha256, document.file_sha256)))


@dataclasses.dataclass(frozen=True)
class Judgement:
    """A document that may be used: whether it is the first, whether it becomes the mark, and why it was let through if it is older."""

    first: bool
    raises_mark: bool
    override: str = ""


def judge(document: Accepted, memory: Memory, consent: Consent) -> Judgement:
    """Hold a document against what is remembered; raises VerifyError."""
    mark = memory.mark
    if mark is None:
        if consent.first_use == "refuse" and not consent.approves(document):
            raise unproven(
                "first_use_refused",
                f"No document was accepted before, and neither {document.file_sha256} (file) nor {document.sha256} (signed octets) is approved.",
            )
        if consent.baseline is not None:
            _refuse_leap(document, consent.baseline, consent)
        return Judgement(True, True)
    if document.sha256 == mark.sha256:
        # Whoever strips the timestamp on first use must not leave a mark without time for ever; a later stamp of the same is none newer.
        return Judgement(False, mark.signed_at is None and document.signed_at is not None)
    try:
        return _judge_other(document, mark, consent)
    except VerifyError as exc:
        if exc.reason.startswith("rollback_") and consent.allow_older is not None:
            return Judgement(False, False, f"{exc.reason}: {consent.allow_older}")
        raise


def _judge_other(document: Accepted, mark: Accepted, consent: Consent) -> Judgement:
    """Judge a document that is not the mark itself."""
    new, old = version_key(document.version), version_key(mark.version)
    if new < old:
        raise unproven("rollback_version", f"Version {document.version} is lower than {mark.version}, which was accepted before.")
    _refuse_leap(document, mark.version, consent)
    if mark.signed_at is not None:
        if document.signed_at is None:
            raise unproven("rollback_untimed", "The document has no proven signing time, the one accepted before had one.")
        if document.signed_at <= mark.signed_at:
            raise unproven(
                "rollback_time",
                f"The document was signed at {document.signed_at.isoformat()}, not later than {mark.signed_at.isoformat()}, and differs.",
            )
    elif document.signed_at is None and new == old and not consent.approves(document):
        raise unproven(
            "same_version_other_content",
            f"Version {document.version} was accepted before with other content, and neither has a signing time. Hash of the file: {document.file_sha256}.",
        )
    return Judgement(False, True)


def _refuse_leap(document: Accepted, version: str, consent: Consent) -> None:
    """Refuse a version so far ahead that as a mark it would shut out every genuine document after it; raises VerifyError."""
    new, old = (version_key(text)[:1] or (0,) for text in (document.version, version))
    if new[0] > old[0] + MAX_LEAP and not consent.approves(document):
        raise unproven("version_leap", f"Version {document.version} is absurdly far ahead of {version}. Hash of the file: {document.file_sha256}.")


class State:
    """The directory with a domain's memory. Nothing is written before ``keep`` or ``commit``."""

    lock_name = ".lock"
    lock_seconds: float | None = None

    def __init__(self, directory: str, domain: str) -> None:
        self.directory = pathlib.Path(os.path.expanduser(os.path.expandvars(directory))).absolute()
        self.domain = domain
        self.file = self.directory / f"feed-{domain}.json"

    def prepare(self) -> list[str]:
        """Make the directory (0700) and return warnings; raises VerifyError for one that is not ours alone."""
        warnings: list[str] = []
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for place in (self.directory, self.directory / "feeds"):
                place.mkdir(mode=0o700, exist_ok=True)
                info = place.stat()
                if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid():
                    raise unproven("state_unsafe", f"{place} does not belong to the user who runs Ansible.")
                if info.st_mode & 0o022:
                    warnings.append(f"{place} could be written by others; its mode is 0700 now. Check that what it holds is yours.")
                if info.st_mode & 0o077:
                    place.chmod(0o700)
        except OSError as exc:
            raise InvalidInput(f"state_dir {self.directory} cannot be used: {exc.strerror}.", "state_unwritable") from exc
        return warnings

    def load(self) -> Memory:
        """Return what is remembered, nothing where there is no file; raises VerifyError for a file that cannot be read."""
        data = stored(self.file, alone=True)
        if data is None:
            return Memory()
        try:
            raw = json.loads(data)
            if raw["format"] != FORMAT or raw["domain"] != self.domain:
                raise ValueError
            return Memory(_accepted(raw["mark"]), _accepted(raw["last"]), _time(raw["fetched_at"]), tuple(raw["audit"]))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, VerifyError):
            raise unproven("state_damaged", f"{self.file} is not a state of this trust domain.") from None

    def commit(self, document: Accepted, consent: Consent, now: datetime.datetime, fetched: bool) -> None:
        """Judge once more under the lock and remember the document; raises VerifyError if another run was faster with a newer one."""
        with self._locked():
            memory = self.load()
            judgement = judge(document, memory, consent)
            audit = memory.audit
            if judgement.first or judgement.raises_mark or judgement.override:
                audit = (*audit, _entry(document, judgement, now, fetched))[-KEPT_AUDIT:]
            raw = {
                "format": FORMAT,
                "domain": self.domain,
                "mark": _raw(document if judgement.raises_mark else memory.mark),
                "last": _raw(document),
                "fetched_at": (max(now, memory.fetched_at or now) if fetched else memory.fetched_at),
                "audit": list(audit),
            }
            self._write(self.file, json.dumps(raw, indent=1, default=datetime.datetime.isoformat).encode())

    def keep(self, data: bytes, sha256: str, record: dict[str, Any]) -> pathlib.Path:
        """Store verified bytes and the record of their verification for later tasks; return the path of the bytes."""
        path = self.directory / "feeds" / f"{sha256}.xml"
        with self._locked():
            self._write(path, data)
            self._write(path.with_suffix(".json"), json.dumps(record, indent=1, default=datetime.datetime.isoformat).encode())
            self._forget_old(path)
        return path

    def _forget_old(self, current: pathlib.Path) -> None:
        copies = sorted((p for p in current.parent.glob("*.xml") if p != current), key=lambda p: p.stat().st_mtime, reverse=True)
        for old in copies[KEPT_COPIES - 1:]:
            for name in (old.with_suffix(".json"), old):
                with contextlib.suppress(OSError):
                    name.unlink()

    def copy(self, sha256: str) -> bytes | None:
        """Return the kept bytes of a hash, unproven until verified again, or None."""
        try:
            return (self.directory / "feeds" / f"{sha256}.xml").read_bytes()
        except OSError:
            return None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the directory's lock; raises Refused when another run keeps it."""
        try:
            handle = os.open(self.directory / self.lock_name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise InvalidInput(f"state_dir {self.directory} cannot be used: {exc.strerror}.", "state_unwritable") from exc
        deadline = time.monotonic() + (self.lock_seconds or LOCK_SECONDS)
        try:
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError as exc:
                    if exc.errno not in (errno.EAGAIN, errno.EACCES) or time.monotonic() > deadline:
                        raise Refused(f"Another run holds the lock of {self.directory}; nothing was written.", "state_locked") from exc
                    time.sleep(0.05)
            yield
        finally:
            os.close(handle)

    def _write(self, path: pathlib.Path, data: bytes) -> None:
        """Replace a file atomically; mode 0600. Raises InvalidInput where the directory does not take it."""
        try:
            replace(path, data)
        except OSError as exc:
            raise InvalidInput(f"{path} cannot be written: {exc.strerror}. What it held before is unchanged.", "state_unwritable") from exc


def stored(path: pathlib.Path, alone: bool = False) -> bytes | None:
    """Return what a file of the state holds, None where there is none; raises VerifyError for what cannot be read as a file.

    With ``alone`` also for one that somebody else may have written.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise unproven("state_damaged", f"{path} cannot be opened: {exc.strerror}.") from exc
    try:
        with os.fdopen(handle, "rb", closefd=False) as stream:
            if alone and not _ours(os.fstat(handle)):
                raise unproven("state_unsafe", f"{path} belongs to another user or can be written by others.")
            return stream.read()
    except OSError as exc:
        raise unproven("state_damaged", f"{path} cannot be read: {exc.strerror}.") from exc
    finally:
        os.close(handle)


def _ours(info: os.stat_result) -> bool:
    return info.st_uid == os.geteuid() and not info.st_mode & 0o022


def _time(text: Any) -> datetime.datetime | None:
    if text is None:
        return None
    value = datetime.datetime.fromisoformat(text)
    if value.tzinfo is None:
        raise ValueError
    return value


def _raw(document: Accepted | None) -> dict[str, Any] | None:
    return None if document is None else dataclasses.asdict(document)


def _accepted(raw: Any) -> Accepted | None:
    if raw is None:
        return None
    version_key(raw["version"])
    ids: Sequence[str] = raw["ids"]
    return Accepted(raw["sha256"], raw["file_sha256"], raw["version"], _time(raw["signed_at"]), raw["signer_sha256"], tuple(ids))


def _entry(document: Accepted, judgement: Judgement, now: datetime.datetime, fetched: bool) -> dict[str, Any]:
    """Return a line of the audit."""
    return {
        "at": now.isoformat(),
        "sha256": document.sha256,
        "file_sha256": document.file_sha256,
        "version": document.version,
        "event": "older" if judgement.override else "first" if judgement.first else "newer" if judgement.raises_mark else "same",
        "override": judgement.override,
        "from": "url" if fetched else "file",
    }
