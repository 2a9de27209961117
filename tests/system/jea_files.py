# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The JEA files in docs/jea: ``python tests/system/jea_files.py`` (with the collection on the path) writes them anew."""

from __future__ import annotations

import pathlib
import sys

from ansible_collections.exchange.mitigation.plugins.module_utils import _jea

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "docs" / "jea"


def differing() -> list[str]:
    """Return the files that are not what the table makes of them, and those that it does not make."""
    made = _jea.files()
    there = {str(path.relative_to(FOLDER).as_posix()) for path in FOLDER.rglob("*") if path.is_file()}
    stale = {name for name, text in made.items() if name in there and (FOLDER / name).read_bytes() != text.encode("ascii")}
    return sorted(stale | (there ^ set(made)))


def main() -> int:
    """Write the files."""
    for problem in _jea.problems():
        print(problem, file=sys.stderr)
    for name, text in _jea.files().items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("ascii"))
    return 1 if _jea.problems() else 0


if __name__ == "__main__":
    sys.exit(main())
