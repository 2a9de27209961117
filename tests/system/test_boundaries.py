# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must not know each other does not: the collection and the lab, the pure stages and the world."""

from __future__ import annotations

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
#: Stages that take bytes, snapshots and a clock as arguments (DESIGN.md 3).
PURE = (
    "_verify", "_parse", "_plan", "_plan_edits", "_plan_values", "_verdict", "_report", "_iis_config", "_iis_edit",
    "_iis_rules", "_iis_sections", "_iis_sites", "_builds", "_xml_spans",
)
WORLD = ("ansible.", "os", "socket", "time", "requests", "pypsrp", "winrm", "subprocess", "fcntl")


def imported(path: pathlib.Path) -> set[str]:
    """Return the names of the modules that a file imports, wherever it does."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


def files(*folders: str) -> list[pathlib.Path]:
    return sorted(path for name in folders for path in (ROOT / name).rglob("*.py"))


def test_the_lab_never_imports_the_collection() -> None:
    assert files("tests/lab")
    wrong = {path.name: name for path in files("tests/lab") for name in imported(path) if name.startswith("ansible_collections")}
    assert wrong == {}


def test_the_collection_never_imports_the_lab_or_its_codec() -> None:
    assert files("plugins")
    wrong = {path.name: name for path in files("plugins") for name in imported(path) if name.split(".")[0] in ("lab", "tests", "psrpcore")}
    assert wrong == {}


@pytest.mark.parametrize("name", PURE)
def test_a_pure_stage_imports_no_world(name: str) -> None:
    path = ROOT / "plugins" / "module_utils" / f"{name}.py"
    wrong = [entry for entry in imported(path) for world in WORLD if entry == world.rstrip(".") or entry.startswith(world.rstrip(".") + ".")]
    assert wrong == []


def test_check_mode_is_read_in_one_place() -> None:
    def reads(path: pathlib.Path) -> bool:
        return any(isinstance(node, ast.Attribute) and node.attr == "check_mode" for node in ast.walk(ast.parse(path.read_text("utf-8"))))

    assert [path.name for path in files("plugins") if reads(path)] == ["_controller.py"]


def test_no_script_text_in_the_collection() -> None:
    words = ("add_script", "IsScript", "EncodedCommand", "powershell.exe")
    wrong = [(path.name, word) for path in files("plugins") for word in words if word in path.read_text("utf-8")]
    assert wrong == []
