# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loads every file of cmdlets, each of which registers its own."""

from __future__ import annotations

import importlib
import pathlib
import pkgutil


def load_cmdlets() -> None:
    """Import all ``cmdlets_*`` of this package; a second call does nothing."""
    for module in pkgutil.iter_modules([str(pathlib.Path(__file__).parent)]):
        if module.name.startswith("cmdlets_"):
            importlib.import_module(f"{__package__}.{module.name}")
