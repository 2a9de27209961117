# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What changed in the feed since the last look: proven bytes and what is remembered in, events out.

An event holds ids, hashes, the version and the times, and nothing that a rulebook could take for a template: ids are
checked by the parser, texts of the document are left out.
Pure but for ``Seen``. Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils import _deps, _xml_guard
from ansible_collections.exchange.mitigation.plugins.module_utils._reasons import unproven
from ansible_collections.exchange.mitigation.plugins.module_utils._state import State, stored

try:
    from lxml import etree
except ImportError:
    etree = None  # the entry point requires it

PUBLISHED, CHANGED, WITHDRAWN, UNTRUSTED = TYPES = ("published", "changed", "withdrawn", "untrusted")

FORMAT = 1

#: Refused documents that are remembered, so that each is told once.
MAX_REFUSED = 100


@dataclasses.dataclass(frozen=True)
class Memory:
    """``configs``: the hash of each Config by its id, None before the first look. ``refused``: ``reason sha256`` of each refused document."""

    configs: Mapping[str, str] | None = None
    refused: tuple[str, ...] = ()


def digests(data: bytes) -> dict[str, str]:
    """Return the SHA-256 of each Config's canonical XML by its id, from bytes that were proven before; raises VerifyError."""
    _deps.require("lxml")
    root = _xml_guard.parse(_xml_guard.checked(data))
    return {
        str(element.get("id")): hashlib.sha256(etree.tostring(element, method="c14n", with_comments=False, exclusive=False)).hexdigest()
        for element in root.iterchildren("Config")
    }


def changes(memory: Memory, configs: Mapping[str, str], result: Mapping[str, Any], at: datetime.datetime) -> Iterator[tuple[dict[str, Any], Memory]]:
    """Yield each event of a proven document with the memory that is right once it is out. ``result``: what the module feed returned."""
    known = dict(memory.configs or {})
    about = {
        "feed": {**{key: result["feed"][key] for key in ("path", "sha256", "domain")}, "version": result["version"], "signed_at": result["signed_at"]},
        "at": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    supported = {entry["id"]: {"supported": entry["supported"], "kind": entry["kind"]} for entry in result["mitigations"]}
    for identifier, digest in configs.items():
        if known.get(identifier) != digest:
            kind = CHANGED if identifier in known else PUBLISHED
            known[identifier] = digest
            yield {"type": kind, "id": identifier, "sha256": digest, **supported[identifier], **about}, Memory(dict(known), ())
    for identifier in [identifier for identifier in known if identifier not in configs]:
        digest = known.pop(identifier)
        yield {"type": WITHDRAWN, "id": identifier, "sha256": digest, "supported": None, "kind": None, **about}, Memory(dict(known), ())


def refusal(memory: Memory, reason: str, sha256: str, at: datetime.datetime) -> tuple[dict[str, Any], Memory] | None:
    """Return the event of a refused document with the memory once it is out; None where it was told already."""
    line = f"{reason} {sha256}"
    if line in memory.refused:
        return None
    event = {"type": UNTRUSTED, "reason": reason, "sha256": sha256, "at": at.strftime("%Y-%m-%dT%H:%M:%SZ")}
    return event, Memory(memory.configs, (*memory.refused, line)[-MAX_REFUSED:])


class Seen(State):
    """What an event source has told of a trust domain: a file beside the domain's state, replaced atomically."""

    def __init__(self, directory: str, key: str) -> None:
        super().__init__(directory, key)
        self.file = self.directory / f"events-{key}.json"

    def memory(self) -> Memory:
        """Return what is remembered; raises VerifyError ``state_damaged`` for a file that cannot be read."""
        data = stored(self.file)
        if data is None:
            return Memory()
        try:
            raw = json.loads(data)
            if raw["format"] != FORMAT or raw["domain"] != self.domain:
                raise ValueError
            configs = None if raw["configs"] is None else {str(key): str(value) for key, value in raw["configs"].items()}
            return Memory(configs, tuple(map(str, raw["refused"])))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise unproven("state_damaged", f"{self.file} is not what an event source keeps of this trust domain.") from None

    def store(self, memory: Memory) -> None:
        """Remember. Raises InvalidInput where the directory does not take it."""
        raw = {"format": FORMAT, "domain": self.domain, "configs": memory.configs, "refused": list(memory.refused)}
        with self._locked():
            self._write(self.file, json.dumps(raw, indent=1).encode())
