# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The register of assumptions of the ways to Exchange: every row is complete and its test is there."""

from __future__ import annotations

import pathlib

import pytest
import yaml

HERE = pathlib.Path(__file__).resolve().parent
ROWS = yaml.safe_load((HERE.parent / "lab" / "assumptions" / "access.yml").read_text("utf-8"))


def test_ids_are_unique() -> None:
    assert len({row["id"] for row in ROWS}) == len(ROWS) > 10


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row["id"]))
def test_row_is_complete(row: dict[str, str]) -> None:
    assert list(row) == ["id", "what", "source", "test", "check"]
    assert row["source"] in {"documentation", "recording", "assumed"}
    assert all(isinstance(value, str) and value.strip() for value in row.values())
    file, name = row["test"].split("::")
    assert f"def {name}(" in (HERE / file).read_text("utf-8")
