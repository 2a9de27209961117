# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Support: a file on the controller is replaced whole, or stays as it was.

Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile


def replace(path: pathlib.Path, data: bytes, mode: int = 0o600) -> None:
    """Replace a file atomically and for good; raises OSError, after which the file is what it was before and nothing else is left."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".new")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fchmod(handle, mode)
            os.fsync(handle)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    # The file is in place; that its name is on the disk as well is asked for, and not every file system can do it.
    with contextlib.suppress(OSError):
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
