# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The register of assumptions of machine and IIS: every row is complete, its test is there, and every cmdlet has a row."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import pytest
import yaml

from lab import cmdlets_acl, cmdlets_files, cmdlets_iis, cmdlets_registry, cmdlets_services, cmdlets_system
from lab.kernel import REGISTRY

HERE = pathlib.Path(__file__).resolve().parent
ROWS: list[dict[str, Any]] = yaml.safe_load((HERE.parents[1] / "lab" / "assumptions" / "machine.yml").read_text("utf-8"))
MODULES = (cmdlets_acl, cmdlets_files, cmdlets_iis, cmdlets_registry, cmdlets_services, cmdlets_system)


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_row_is_complete_and_its_test_exists(row: dict[str, Any]) -> None:
    assert set(row) == {"id", "what", "source", "reference", "test", "check"}
    assert all(isinstance(value, str) and value.strip() for value in row.values())
    assert row["source"] in ("documentation", "recording", "assumed")
    file, name = row["test"].split("::")
    assert re.search(rf"^def {re.escape(name)}\(", (HERE / file).read_text("utf-8"), re.MULTILINE)


def test_ids_are_unique() -> None:
    assert len({row["id"] for row in ROWS}) == len(ROWS)


def test_every_cmdlet_has_a_row() -> None:
    text = " ".join(row["what"] for row in ROWS)
    own = [definition.name for definition in REGISTRY.values() if definition.body.__module__ in {module.__name__ for module in MODULES}]
    assert len(own) == 27
    assert [name for name in own if name not in text] == []
