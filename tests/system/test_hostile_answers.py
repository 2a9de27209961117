# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of another kind in every place that a module reads: a sample of what ``python tests/system/hostile_answers.py`` runs in full."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator
from typing import Any

import hostile_answers
import pytest

CASES = int(os.environ.get("EXCHANGE_MITIGATION_CASES", "60"))


@pytest.fixture(scope="module")
def fleet() -> Iterator[Any]:
    from lab.fleet import Fleet

    with Fleet(1) as running:
        hostile_answers.prepare(running.machine("EX1"))
        yield running


@pytest.mark.parametrize("name", hostile_answers.MODULES)
def test_lies(fleet: Any, tmp_path: pathlib.Path, name: str) -> None:
    """A result that is JSON without control characters, or an error of the project's own."""
    liar = hostile_answers.Liar(fleet, fleet.machine("EX1"), name, str(tmp_path / "journal"))
    cases = liar.cases()
    assert len(cases) > 1000
    for case in hostile_answers.sample(cases, CASES, seed=3):
        liar.run(case)
