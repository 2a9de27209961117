# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a simulated server knows besides the bytes on its C: (ACLs, registry, services, pools, events), as one JSON file beside it."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any


class Sidecar:
    """A dictionary of sections that is written back after each change (``hold`` joins many changes into one write)."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.data: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
        self._held = 0

    def section(self, name: str) -> dict[str, Any]:
        """Return a section, empty at first; call ``save`` after changing it."""
        found: dict[str, Any] = self.data.setdefault(name, {})
        return found

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return a section that is a list."""
        found: list[dict[str, Any]] = self.data.setdefault(name, [])
        return found

    def save(self) -> None:
        """Write the file in one step, so that a killed lab finds the old or the new state."""
        if self._held:
            return
        beside = self.path.with_suffix(".part")
        beside.write_text(json.dumps(self.data, indent=1, ensure_ascii=False), "utf-8")
        os.replace(beside, self.path)

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Join the changes of a block into one write at its end."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            self.save()
