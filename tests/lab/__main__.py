# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts the lab: ``python tests/lab --servers N --state DIR --inventory FILE``."""

from __future__ import annotations

import pathlib
import sys

if __package__ in (None, ""):
    # Run by its path, the folder itself is first on the search path, and its modules would shadow the standard library's.
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

from lab.cli import main

if __name__ == "__main__":
    sys.exit(main())
