# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests share: where the lab is imported from, and the recorded data of real servers."""

from __future__ import annotations

import os
import pathlib
import sys
from collections.abc import Callable

import pytest

TESTS = pathlib.Path(__file__).resolve().parent
ROOT = TESTS.parent
RECORDED = ROOT.parent / "shared" / "data"

sys.path.insert(0, str(TESTS))


@pytest.fixture(scope="session")
def recorded() -> Callable[[str], pathlib.Path]:
    """Return the path of a recorded file; skip where the recordings are absent, unless they are required."""

    def path(name: str) -> pathlib.Path:
        file = RECORDED / name
        if not file.exists():
            if os.environ.get("EXCHANGE_MITIGATION_REQUIRE_RECORDED") == "1":
                pytest.fail(f"recorded file {name} is missing and EXCHANGE_MITIGATION_REQUIRE_RECORDED=1")
            pytest.skip(f"recorded file {name} is not here")
        return file

    return path
