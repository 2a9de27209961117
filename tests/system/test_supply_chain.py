# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where code comes from: nothing that ships fetches or makes any, and the test environment is pinned and hashed."""

from __future__ import annotations

import ast
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHIPPED = ("plugins", "roles", "playbooks", "extensions", "meta")
LINTED = ("plugins", "extensions", "roles")

#: Calls that run text or unpack objects; by their last two names.
RUNS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.execv", "os.execve", "os.spawnv", "runpy.run_path", "runpy.run_module",
    "pickle.load", "pickle.loads", "marshal.load", "marshal.loads", "shelve.open", "yaml.load", "yaml.unsafe_load", "yaml.full_load",
    "imp.load_source", "importlib.util.spec_from_file_location", "util.spec_from_file_location", "machinery.SourceFileLoader", "ctypes.CDLL",
}  # fmt: skip
#: Modules whose only use would be to start programs or to install.
STARTS = {"subprocess", "pty", "pip", "ensurepip", "setuptools", "pickle", "marshal", "shelve", "runpy", "imp", "zipimport", "ctypes", "code", "codeop"}
#: What in YAML, or in text of any kind, fetches code or starts it.
FETCHES = re.compile(
    r"ansible-galaxy|pip3? install|\bpip:|ansible\.builtin\.(?:pip|script|shell|command|raw|unarchive|git|get_url|apt|dnf|yum|package)\b"
    r"|win_(?:get_url|shell|command|powershell|package|chocolatey)|Install-(?:Module|Package|Script)|Invoke-Expression|\biex\b|DownloadString|\bcurl\b|\bwget\b"
    r"|lookup\(['\"](?:ansible\.builtin\.)?(?:pipe|url)"
)
TELLS = re.compile(r"pip3? install [\w\[\]{},'. -]+")
#: Where code is imported by a name that is made at run time, and what the name is made of.
IMPORTERS = {
    "plugins/module_utils/_deps.py": "a library of the table",
    "plugins/module_utils/_catalogue.py": "a file of its own folder",
    "plugins/plugin_utils/_controller.py": "the module of the action's own name",
}


def sources() -> list[pathlib.Path]:
    return sorted(path for name in SHIPPED for path in (ROOT / name).rglob("*.py"))


def named(node: ast.expr) -> str:
    """Return the last two names of what is called."""
    if isinstance(node, ast.Attribute):
        return f"{named(node.value).rpartition('.')[2]}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def test_nothing_that_ships_runs_text_or_starts_programs() -> None:
    assert len(sources()) > 100
    wrong = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and named(node.func) in RUNS:
                wrong.append((path.name, node.lineno, named(node.func)))
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [name.name for name in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                wrong += [(path.name, node.lineno, name) for name in names if name.split(".")[0] in STARTS]
    assert wrong == []


def test_code_is_imported_by_a_made_name_in_few_places() -> None:
    found = {str(path.relative_to(ROOT)) for path in sources() if "importlib.import_module" in path.read_text("utf-8")}
    assert found == set(IMPORTERS)


def test_nothing_that_ships_fetches_code() -> None:
    wrong = []
    for name in SHIPPED:
        for path in sorted((ROOT / name).rglob("*")):
            if path.suffix not in (".yml", ".yaml", ".py", ".j2", ".ps1", ".psm1", ".psd1", ".psrc", ".pssc", ".sh") or not path.is_file():
                continue
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
                # Python starts no programs (above), and its sentences tell the reader what to install.
                code = line.partition("#")[0] if path.suffix != ".py" else TELLS.sub("", line)
                if FETCHES.search(code) and not line.lstrip().startswith(("- I(", "#", "description:")):
                    wrong.append((str(path.relative_to(ROOT)), number, line.strip()[:120]))
    assert wrong == []


def test_the_check_has_teeth() -> None:
    for line in ("ansible.builtin.get_url: {}", "x = 'pip install y'", "Invoke-Expression $x", "ansible.builtin.shell: ls", "{{ lookup('pipe', 'x') }}"):
        assert FETCHES.search(line), line


def test_the_collection_needs_no_other_collection() -> None:
    assert re.search(r"^dependencies: \{\}$", (ROOT / "galaxy.yml").read_text("utf-8"), re.MULTILINE)


def test_the_lock_has_every_requirement_and_only_hashes() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "tests" / "lock.py"), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("lxml==", "lxmk==", "lxml has 0 versions"),
        ("pytest==", "pytest==1.0.0 #", "does not allow"),
        ("sha256:", "md5:", "no SHA-256"),
        ("aiosmtpd==", "aiosmtpd>=", "not pinned"),
    ],
)
def test_the_check_of_the_lock_has_teeth(monkeypatch: pytest.MonkeyPatch, old: str, new: str, said: str) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests"))
    import lock

    text = lock.LOCK.read_text("utf-8")
    if "#" in new:  # another version
        text = re.sub(r"^pytest==\S+", "pytest==1.0.0", text, flags=re.MULTILINE)
    else:
        text = re.sub(rf"^{re.escape(old)}" if "==" in old else re.escape(old), new, text, flags=re.MULTILINE)
    assert any(said in problem for problem in lock.problems(text)), lock.problems(text)


def test_every_exception_from_bandit_says_why() -> None:
    wrong = []
    for name in LINTED:
        for path in sorted((ROOT / name).rglob("*.py")):
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
                if "nosec" in line and not re.search(r"# nosec B\d{3}  # \w.{8,}", line):
                    wrong.append((path.name, number, line.strip()))
    assert wrong == []
