# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory of the controller that takes no more, from its k-th write on or at that one alone: full, or read-only."""

from __future__ import annotations

import errno
import os
import pathlib
from typing import Any


class Taking:
    """Counts what is written below a folder, and refuses from number ``at`` on, or that one alone with ``once``."""

    def __init__(self, patch: Any, folder: pathlib.Path, at: int | None = None, once: bool = False, error: int = errno.ENOSPC) -> None:
        self.folder = str(folder)
        self.at = at
        self.once = once
        self.error = error
        self.seen = 0
        self.fired = 0
        genuine = {name: getattr(os, name) for name in ("open", "mkdir", "write", "fsync", "replace")}

        def opened(path: Any, flags: int, *more: Any, **named: Any) -> int:
            if flags & os.O_CREAT and not os.path.exists(path):
                self._count(path)
            return int(genuine["open"](path, flags, *more, **named))

        def made(path: Any, *more: Any, **named: Any) -> None:
            if not os.path.exists(path):
                self._count(path)
            genuine["mkdir"](path, *more, **named)

        def written(descriptor: int, data: bytes) -> int:
            self._count(os.readlink(f"/proc/self/fd/{descriptor}"))
            return int(genuine["write"](descriptor, data))

        def synced(descriptor: int) -> None:
            self._count(os.readlink(f"/proc/self/fd/{descriptor}"))
            genuine["fsync"](descriptor)

        def replaced(source: Any, target: Any, **named: Any) -> None:
            self._count(target)
            genuine["replace"](source, target, **named)

        for name, mine in (("open", opened), ("mkdir", made), ("write", written), ("fsync", synced), ("replace", replaced)):
            patch.setattr(os, name, mine)

    def _count(self, path: Any) -> None:
        if not str(os.fspath(path)).startswith(self.folder):
            return
        self.seen += 1
        if self.at is not None and (self.seen == self.at or (self.seen > self.at and not self.once)):
            self.fired += 1
            raise OSError(self.error, os.strerror(self.error), str(path))
