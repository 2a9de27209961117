# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of plans share: facts, a journal in memory, and carrying out a plan on paper."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils import _iis_edit as edit
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_config import Configuration
from ansible_collections.exchange.mitigation.plugins.module_utils._plan import EmFacts, FileEdit, Plan, Request, ServerFacts

#: Exchange 2019 CU11 as it came out needs both mitigations.
FACTS = ServerFacts(build=(15, 2, 986, 5), blocked=(), em=EmFacts(True, False, True), rewrite_dll=True)
EM_ON = dataclasses.replace(FACTS, em=EmFacts(True, True, True, ("PING1", "M2.1.0")))
BOTH = Request(("M1", "M2"))


@dataclasses.dataclass(frozen=True)
class Record:
    """An operation of the journal."""

    path: str
    before: bytes | None
    after: bytes | None
    mitigations: tuple[str, ...]


def invert(splices: Sequence[edit.Splice]) -> tuple[edit.Splice, ...]:
    """Return the splices that take others back."""
    found, shift = [], 0
    for splice in splices:
        found.append(edit.Splice(splice.start + shift, splice.inserted, splice.removed))
        shift += len(splice.inserted) - len(splice.removed)
    return tuple(found)


def records(edits: tuple[FileEdit, ...]) -> list[Record]:
    """Return what the journal says of edits that were made."""
    return [Record(e.path, e.before, e.after, e.purposes) for e in edits]


def made(server: Configuration, result: Plan) -> Configuration:
    """Return the server after a plan."""
    for one in result.edits:
        assert server.state_of(one.path).data == one.before
        assert edit.apply(one.before or b"", one.splices) == (one.after or b"")
        server = server.with_file(one.path, one.after)
    return server


def request(*ids: str, **options: Any) -> Request:
    """Return a request."""
    return Request(ids, **options)


def files(server: Configuration) -> dict[str, bytes | None]:
    """Return the bytes of every file."""
    return {path: state.data for path, state in server.files.items()}
