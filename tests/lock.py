# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock of the test environment: one version and its SHA-256 for every package, for each Python that the tests run on.

``python tests/lock.py`` makes ``tests/requirements.lock`` anew, with the interpreters that are here; ``--check`` asks nobody and says
whether the lock has everything that the requirement files name. Installing from it: ``pip install --require-hashes -r tests/requirements.lock``.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOCK = ROOT / "tests" / "requirements.lock"
SOURCES = ("requirements.txt", "tests/requirements.txt")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")

HEAD = """\
# The test environment, pinned and hashed, for Python {pythons} on Linux x86-64 (wheels only). Made by: python tests/lock.py
# pip install --require-hashes --only-binary :all: -r tests/requirements.lock
"""


def interpreter(version: str) -> str | None:
    """Return a Python of this version that starts; one on PATH may be the shim of a version manager that starts nothing."""
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT", pathlib.Path.home() / ".pyenv")) / "versions"
    for candidate in (*map(str, pyenv.glob(f"{version}.*/bin/python")), shutil.which(f"python{version}")):
        if candidate is None:
            continue
        show = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
        if subprocess.run([candidate, "-c", show], capture_output=True, text=True, check=False).stdout.strip() == version:
            return candidate
    return None


def resolved(python: str, folder: pathlib.Path) -> dict[str, tuple[str, str]]:
    """Return version and SHA-256 by name, as pip resolves them for this interpreter from its index; folders of wheels set up here are left out."""
    kept = ("PIP_CERT", "PIP_INDEX_URL", "PIP_PROXY", "PIP_DEFAULT_TIMEOUT")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_") or name in kept} | {"PIP_CONFIG_FILE": os.devnull}
    subprocess.run([python, "-m", "venv", str(folder / "venv")], check=True, env=environment)
    pip = [str(folder / "venv" / "bin" / "python"), "-m", "pip"]
    subprocess.run([*pip, "install", "-qq", "--upgrade", "pip"], check=True, env=environment)
    report = folder / "report.json"
    command = [*pip, "install", "-qq", "--dry-run", "--ignore-installed", "--only-binary", ":all:", "--report", str(report)]
    subprocess.run([*command, *(part for name in SOURCES for part in ("-r", str(ROOT / name)))], check=True, env=environment)
    found = {}
    for item in json.loads(report.read_text("utf-8"))["install"]:
        sha256 = item["download_info"]["archive_info"]["hashes"]["sha256"]
        found[canonicalize_name(item["metadata"]["name"])] = (item["metadata"]["version"], sha256)
    return found


def written(made: dict[str, dict[str, tuple[str, str]]]) -> str:
    """Return the text of a lock: a line per package and version, with a marker where not every Python has it."""
    lines = [HEAD.format(pythons=", ".join(made))]
    for name in sorted({name for found in made.values() for name in found}):
        versions: dict[str, list[str]] = {}
        for python, found in made.items():
            if name in found:
                versions.setdefault(found[name][0], []).append(python)
        for version, pythons in versions.items():
            marker = "" if len(pythons) == len(made) else " ; " + " or ".join(f'python_version == "{python}"' for python in pythons)
            hashes = sorted({made[python][name][1] for python in pythons})
            lines.append(f"{name}=={version}{marker}" + "".join(f" \\\n    --hash=sha256:{sha256}" for sha256 in hashes) + "\n")
    return "".join(lines)


def entries(text: str) -> Iterator[tuple[Requirement, list[str]]]:
    """Yield the requirements of a lock with their hashes."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith("#"):
            requirement, *hashes = re.split(r"\s+--hash=", line.strip())
            yield Requirement(requirement), hashes


def problems(text: str) -> list[str]:
    """Return what is wrong with a lock: a package that it lacks or has in a version that is not allowed, anything without a hash."""
    locked = list(entries(text))
    shape = re.compile("sha256:[0-9a-f]{64}")
    found = [f"{one}: no SHA-256" for one, hashes in locked if not hashes or not all(shape.fullmatch(each) for each in hashes)]
    found += [f"{one}: not pinned" for one, dummy in locked if not re.fullmatch(r"==[0-9][^,*]*", str(one.specifier))]
    for source in SOURCES:
        for line in (ROOT / source).read_text("utf-8").splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            wanted = Requirement(line)
            same = [one for one, dummy in locked if canonicalize_name(one.name) == canonicalize_name(wanted.name)]
            for python in PYTHONS:
                pins = [one for one in same if not one.marker or one.marker.evaluate({"python_version": python})]
                if len(pins) != 1:
                    found.append(f"{source}: {wanted.name} has {len(pins)} versions in the lock for Python {python}, not one")
                elif not wanted.specifier.contains(str(pins[0].specifier)[2:], prereleases=True):
                    found.append(f"{source}: {wanted} does not allow {pins[0]}")
    return found


def main(arguments: list[str]) -> int:
    """Make the lock, or check it."""
    if arguments != ["--check"]:
        made = {}
        for python in PYTHONS:
            program = interpreter(python)
            if program is None:
                print(f"Python {python} is not here; the lock is for all of {', '.join(PYTHONS)}", file=sys.stderr)
                return 1
            with tempfile.TemporaryDirectory() as folder:
                made[python] = resolved(program, pathlib.Path(folder))
        LOCK.write_text(written(made), "utf-8")
    text = LOCK.read_text("utf-8")
    wrong = problems(text)
    print("\n".join(wrong) or f"{LOCK.name}: {len(list(entries(text)))} pins, nothing is missing")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
