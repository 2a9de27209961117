# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must not know each other does not: the collection and the lab, the pure stages and the world."""

from __future__ import annotations

import ast
import graphlib
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
UTILS = "ansible_collections.exchange.mitigation.plugins.module_utils"
#: Packages with which a pure file could reach the world, or read its clock.
WORLD = (
    "ansible", "fcntl", "glob", "http", "io.open", "os", "pathlib", "pypsrp", "requests", "shutil", "signal", "smtplib", "socket", "ssl",
    "subprocess", "tempfile", "threading", "time", "urllib.request", "winrm",
)


def layers() -> dict[str, tuple[int, bool]]:
    """Return file -> (height, pure) as docs/architecture.md has it."""
    rows = re.findall(r"^\| (\d) [a-z]+ \| (yes|no) \| (.+) \|$", ARCHITECTURE.read_text("utf-8"), re.MULTILINE)
    found: dict[str, tuple[int, bool]] = {}
    for height, pure, names in rows:
        for name in re.findall(r"`(\w+)`", names):
            assert name not in found, f"{name} stands in two layers"
            found[name] = (int(height), pure == "yes")
    return found


def util_of(path: pathlib.Path) -> str:
    """Return the file of module_utils, or its folder, that a path belongs to."""
    return path.relative_to(ROOT / "plugins" / "module_utils").parts[0].removesuffix(".py")


def uses() -> dict[str, set[str]]:
    """Return file -> the files of module_utils that it imports."""
    found: dict[str, set[str]] = {}
    for path in files("plugins/module_utils"):
        if path.name == "__init__.py" and path.parent.name == "module_utils":
            continue
        names = found.setdefault(util_of(path), set())
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(UTILS):
                below = (node.module or "")[len(UTILS) :].strip(".")
                names |= {below.split(".")[0]} if below else {entry.name for entry in node.names}
        names.discard(util_of(path))
    return found


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


def test_the_architecture_page_names_every_file_once() -> None:
    assert set(layers()) == set(uses())


def test_imports_go_down_and_never_in_a_circle() -> None:
    height = {name: entry[0] for name, entry in layers().items()}
    graph = uses()
    wrong = [(name, other) for name, others in graph.items() for other in others if height[other] > height[name]]
    assert wrong == []
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_a_pure_file_imports_nothing_that_is_not_pure() -> None:
    pure = {name for name, entry in layers().items() if entry[1]}
    # _deps only imports libraries, and says what is missing.
    wrong = [(name, other) for name, others in uses().items() if name in pure for other in others - pure - {"_deps"}]
    assert wrong == []


@pytest.mark.parametrize("name", sorted(name for name, entry in layers().items() if entry[1]))
def test_a_pure_file_imports_no_world(name: str) -> None:
    util = ROOT / "plugins" / "module_utils" / name
    paths = sorted(util.rglob("*.py")) if util.is_dir() else [util.with_suffix(".py")]
    wrong = [entry for path in paths for entry in imported(path) for world in WORLD if entry == world or entry.startswith(world + ".")]
    assert wrong == []


def test_modules_import_nothing_of_ansible_but_the_module_class() -> None:
    wrong = {
        (path.name, entry)
        for path in files("plugins/modules")
        for entry in imported(path)
        if entry.split(".")[0] == "ansible" and entry != "ansible.module_utils.basic"
    }
    assert wrong == set()


def test_only_the_controller_side_talks_to_ansible() -> None:
    wrong = {(path.name, entry) for path in files("plugins/module_utils") for entry in imported(path) if entry.split(".")[0] == "ansible"}
    assert wrong == set()


def test_check_mode_is_read_in_one_place() -> None:
    def reads(path: pathlib.Path) -> bool:
        return any(isinstance(node, ast.Attribute) and node.attr == "check_mode" for node in ast.walk(ast.parse(path.read_text("utf-8"))))

    assert [path.name for path in files("plugins") if reads(path)] == ["_controller.py"]


#: What the message that creates a pipeline says of every command (MS-PSRP 2.2.3.12), in this form alone.
NO_SCRIPT = '<B N="IsScript">false</B>'


def test_no_script_text_in_the_collection() -> None:
    words = ("add_script", "IsScript", "EncodedCommand", "powershell.exe")
    wrong = [(path.name, word) for path in files("plugins") for word in words if word in path.read_text("utf-8").replace(NO_SCRIPT, "")]
    assert wrong == []
