# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a document of the corpus is and what must become of it."""

from __future__ import annotations

import dataclasses
import datetime


@dataclasses.dataclass(frozen=True)
class Case:
    """A document. ``reason`` is the code of the refusal, None for a document that must be accepted.

    ``domain`` is the trust domain it is read in.
    ``crls`` are files given to the verifier, ``denied`` hashes, ``at`` an explicit time; ``basis`` and ``revocation`` are expected of an accepted one.
    """

    name: str
    data: bytes
    reason: str | None = None
    basis: str = "now"
    revocation: str = "unknown"
    crls: tuple[bytes, ...] = ()
    denied: tuple[str, ...] = ()
    required: bool = False
    at: datetime.datetime | None = None
    signed: bool | None = None
    domain: str = "microsoft"
