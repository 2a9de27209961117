# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Support: the values of a plan: what is wanted, what is known, what will be done.

Pure. Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, Union

from ansible_collections.exchange.mitigation.plugins.module_utils._builds import Build
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_edit import Splice
from ansible_collections.exchange.mitigation.plugins.module_utils._mitigations._values import Mitigation, PoolState, ServiceState
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
class ServiceChange:
    """One Windows service from before to after; ``purposes`` are mitigation ids. As a record of the journal: what was done."""

    name: str
    before: ServiceState
    after: ServiceState
    purposes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class PoolChange:
    """One application pool from before to after; ``purposes`` are mitigation ids. As a record of the journal: what was done."""

    name: str
    before: PoolState
    after: PoolState
    purposes: tuple[str, ...]


Step = Union[FileEdit, ServiceChange, PoolChange]  # noqa: UP007


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
    ``rewrite_dll``: whether URL Rewrite's library is on the disk. ``services`` and ``pools`` are those that the catalogue names,
    by lower-case name; None where there is no such service or pool on the server. A name that is missing was not read: unknown,
    as all are without the mapping.
    """

    build: Build | None
    blocked: tuple[str, ...] | None = None
    em: EmFacts | None = None
    rewrite_dll: bool | None = None
    services: Mapping[str, ServiceState | None] | None = None
    pools: Mapping[str, PoolState | None] | None = None


@dataclasses.dataclass(frozen=True)
class Request:
    """What is wanted. ``mitigations`` are ids or ``all``; ``feed`` the ids of the verified feed, None without one.

    ``do_nothing`` are ids whose only action is DoNothing. ``blocked_by_us`` are blocks that this collection has set: they do not
    hold it back. ``site`` is the front-end site's name where it is not Microsoft's. ``state`` is applied, absent or retired.
    ``relocate`` moves M2 of EM into the location block, ``unblock`` (state retired) lifts blocks of ours that are not needed any more.
    ``local`` are mitigations of a local document, found by their ids before the catalogue is asked.
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
    relocate: bool = False
    unblock: bool = False
    local: tuple[Mitigation, ...] = ()


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What becomes of one id: ``action`` is apply, replace, remove, unblock or none; ``reason`` a code that says why none."""

    id: str
    action: str
    reason: str
    message: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything a run will do, in this order: ``block_ids`` are blocked and read back, then ``steps``, then ``unblock_ids`` are lifted.

    ``refusals`` not empty: nothing is done. ``failures`` are raised after the rest is done. ``diff`` shows the steps.
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
    services: tuple[ServiceChange, ...] = ()
    pools: tuple[PoolChange, ...] = ()
    unblock_ids: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything is to be done."""
        return bool(self.steps or self.block_ids or self.unblock_ids)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The one order in which the server is changed: files, then services, then pools; an undo goes backwards.

        Each service or pool: on the way to Disabled or not autoStart the start mode first, then the stop; on the way back the start
        mode first, then the start. So a server that restarts in between comes up as it is meant to be.
        """
        return (*self.edits, *self.services, *self.pools)

    @property
    def effects_text(self) -> str:
        """What the change does to the running server, in sentences."""
        return "\n".join(self.effects)
