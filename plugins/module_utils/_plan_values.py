# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Support: the values of a plan: what is wanted, what is known, what will be done.

Pure. Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

from ansible_collections.exchange.mitigation.plugins.module_utils._builds import Build
from ansible_collections.exchange.mitigation.plugins.module_utils._catalogue._values import Mitigation
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_edit import Splice
from ansible_collections.exchange.mitigation.plugins.module_utils._verdict import Verdict


@dataclasses.dataclass(frozen=True)
class ParseCheck:
    """One question to IIS after the edit: ``Get-WebConfiguration -Filter filter -PSPath pspath``."""

    filter: str
    pspath: str


@dataclasses.dataclass(frozen=True)
class FileEdit:
    """One file from before to after; None where it does not exist. ``purposes`` are mitigation ids, ``splices`` the edit against ``before``."""

    path: str
    before: bytes | None
    after: bytes | None
    sddl: str
    purposes: tuple[str, ...]
    splices: tuple[Splice, ...]
    checks: tuple[ParseCheck, ...]


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Why nothing, or not everything, is done: ``reason`` is a stable code; ``details`` are plain values."""

    id: str | None
    reason: str
    message: str
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Record(Protocol):
    """An operation of the journal, as ``_journal.Operation`` has it."""

    @property
    def path(self) -> str:
        """The file."""

    @property
    def before(self) -> bytes | None:
        """Its bytes before, None where it did not exist."""

    @property
    def after(self) -> bytes | None:
        """Its bytes after."""

    @property
    def mitigations(self) -> tuple[str, ...]:
        """The ids it was made for."""


@dataclasses.dataclass(frozen=True)
class EmFacts:
    """Exchange's own EM on this server; None is unknown. ``applied`` is MitigationsApplied."""

    organization_enabled: bool | None
    server_enabled: bool | None
    service_running: bool | None
    applied: tuple[str, ...] = ()

    @property
    def active(self) -> bool | None:
        """Whether EM writes on this server (FACTS.md 5): on for both, service running; one firm no suffices."""
        parts = (self.organization_enabled, self.server_enabled, self.service_running)
        if False in parts:
            return False
        return None if None in parts else True


@dataclasses.dataclass(frozen=True)
class ServerFacts:
    """What the plan knows of the server beside its IIS configuration; None is unknown.

    ``blocked`` is MitigationsBlocked. ``em`` None: the server's EM settings are not known, or its build has no EM.
    ``rewrite_dll``: whether URL Rewrite's library is on the disk.
    """

    build: Build | None
    blocked: tuple[str, ...] | None = None
    em: EmFacts | None = None
    rewrite_dll: bool | None = None


@dataclasses.dataclass(frozen=True)
class Request:
    """What is wanted. ``mitigations`` are ids or ``all``; ``feed`` the ids of the verified feed, None without one.

    ``do_nothing`` are ids whose only action is DoNothing. ``blocked_by_us`` are blocks that this collection has set: they do not
    hold it back. ``site`` is the front-end site's name where it is not Microsoft's. ``definitions`` are what a local document
    defines, beside the catalogue.
    """

    mitigations: tuple[str, ...]
    state: str = "applied"
    feed: tuple[str, ...] | None = None
    do_nothing: frozenset[str] = frozenset()
    honour_blocked: bool = True
    when_em_active: str = "leave"
    on_unsupported: str = "fail"
    on_conflict: str = "fail"
    include_foreign: bool = False
    blocked_by_us: tuple[str, ...] = ()
    site: str | None = None
    definitions: tuple[Mitigation, ...] = ()


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What becomes of one id: ``action`` is apply, replace, remove or none; ``reason`` a code that says why none."""

    id: str
    action: str
    reason: str
    message: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything a run will do, in order: ``block_ids`` are blocked first, then ``edits`` are written.

    ``refusals`` not empty: nothing is done. ``failures`` are raised after the rest is done. ``diff`` shows the edits.
    """

    verdicts: tuple[Verdict, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    block_ids: tuple[str, ...] = ()
    edits: tuple[FileEdit, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    failures: tuple[Refusal, ...] = ()
    warnings: tuple[str, ...] = ()
    diff: tuple[dict[str, str], ...] = ()
    effects: tuple[str, ...] = ()
    side_effects: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything is to be done."""
        return bool(self.edits or self.block_ids)

    @property
    def effects_text(self) -> str:
        """What the change does to the running server, in sentences."""
        return "\n".join(self.effects)
