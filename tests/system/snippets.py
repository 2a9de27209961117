# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The code blocks of everything that a user or a maintainer reads: which of them a test executes, and why the others are not.

A block that cannot be executed carries a mark on the line before it, a comment that a reader does not see::

    .. not executed: REASON              in the guides
    <!-- not executed: REASON -->        in Markdown

``python tests/system/snippets.py`` (with the collection on the path) counts them.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
import sys
import textwrap

ROOT = pathlib.Path(__file__).resolve().parents[2]
GUIDES = ROOT / "docs" / "docsite" / "rst"

#: Which test executes the blocks of a document, all of them or it fails. Others may stand in a test file with ``EXECUTES = (...)``.
EXECUTED = {
    "README.md": "tests/system/test_readme.py",
    "roles/README.md": "tests/system/test_readme.py",
    "tests/real/README.md": "tests/system/test_real.py",
    "docs/docsite/rst/guide_start.rst": "tests/system/test_guides_start.py",
    "docs/docsite/rst/guide_coexistence.rst": "tests/system/test_guides_start.py",
    "docs/docsite/rst/guide_troubleshooting.rst": "tests/system/test_guides_start.py",
    "docs/docsite/rst/guide_maintainers.rst": "tests/system/test_guides_maintainers.py",
    "docs/docsite/rst/guide_air_gap.rst": "tests/system/test_guides.py",
    "docs/docsite/rst/guide_day_zero.rst": "tests/system/test_guides.py",
    "docs/docsite/rst/guide_drift_report.rst": "tests/system/test_guides_start.py",
    "docs/docsite/rst/guide_rollout.rst": "tests/system/test_guide_rollout.py",
    "docs/docsite/rst/guide_notice.rst": "tests/system/test_guide_notice.py",
    "docs/docsite/rst/guide_permissions.rst": "tests/system/test_guide_permissions.py",
}
#: Blocks in Python are executed by these.
PYTHON = {"CONTRIBUTING.md": "tests/unit/plugins/module_utils/test_catalogue.py"}
#: A block all of whose lines stand in it is executed by continuous integration.
CI = ROOT / ".ci" / "run"

_RST = re.compile(
    r"^(?P<indent> *)(?:\.\. not executed: (?P<reason>[^\n]+)\n\n(?P=indent))?\.\. code-block:: (?P<language>\S+)\n"
    r"(?:(?P=indent)   :caption: (?P<caption>[^\n]+)\n)?\n(?P<text>(?:(?P=indent)   [^\n]*\n|\n)+)",
    re.MULTILINE,
)
_MARKDOWN = re.compile(
    r"^(?:<!-- not executed: (?P<reason>[^\n]+?) -->\n\n?)?```(?P<language>\S*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
#: A literal block without a language: nothing says what it is, so it is not allowed in a guide.
BARE = re.compile(r"^(?!\.\. )(?:[^\n]*[^:\n])?::\n\n   ", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Snippet:
    """A code block: where it stands, its language, its caption (a file's name, or what a command is about), its text, why it is not executed."""

    document: str
    line: int
    language: str
    caption: str
    text: str
    reason: str | None


def path_of(name: str) -> pathlib.Path:
    """Return the file of a document, which a guide's bare name stands for as well."""
    return GUIDES / f"{name}.rst" if not name.endswith((".md", ".rst")) else ROOT / name


def of(name: str) -> list[Snippet]:
    """Return the code blocks of a document in order."""
    path = path_of(name)
    text = path.read_text("utf-8")
    document = path.relative_to(ROOT).as_posix()
    found = []
    for block in (_RST if path.suffix == ".rst" else _MARKDOWN).finditer(text):
        body = textwrap.dedent(block["text"]).strip("\n") + "\n"
        caption = block.groupdict().get("caption") or ""
        if path.suffix == ".md" and block["language"] == "yaml" and body.startswith("# "):
            # In Markdown a file's first line is its name.
            caption = re.match(r"# (\S+\.yml)?", body)[1] or ""  # type: ignore[index]
        found.append(Snippet(document, text.count("\n", 0, block.start("language")) + 1, block["language"], caption, body, block["reason"]))
    return found


def documents() -> list[str]:
    """Return the names of everything that is looked at."""
    patterns = ("*.md", "docs/*.md", "docs/docsite/rst/*.rst", "roles/*.md", "roles/*/README.md", "tests/*/README.md", ".github/**/*.md")
    paths = {path for pattern in patterns for path in ROOT.glob(pattern)}
    return sorted(path.relative_to(ROOT).as_posix() for path in paths if path.name != "CHANGELOG.md")


def more() -> dict[str, str]:
    """Return what test files say of themselves: ``EXECUTES = ("guide_name", ...)``, the documents whose blocks they execute."""
    found = {}
    for path in sorted((ROOT / "tests" / "system").glob("test_*.py")):
        said = re.search(r"^EXECUTES = \(([^)]*)\)$", path.read_text("utf-8"), re.MULTILINE)
        for name in re.findall(r'"([^"]+)"', said[1]) if said else ():
            found[path_of(name).relative_to(ROOT).as_posix()] = path.relative_to(ROOT).as_posix()
    return found


def executed_by(snippet: Snippet) -> str | None:
    """Return what executes a block, None where nothing does."""
    if snippet.language in ("sh", "shell") and CI.exists():
        lines = {line.strip() for line in CI.read_text("utf-8").splitlines()}
        wanted = [line.split("#")[0].strip() for line in snippet.text.splitlines()]
        if all(line in lines for line in wanted if line):
            return ".ci/run"
    if snippet.language == "python":
        return PYTHON.get(snippet.document)
    if snippet.language not in ("yaml", "sh", "shell"):
        return None
    if re.fullmatch(r"roles/\w+/README\.md", snippet.document):
        return "tests/system/test_readme.py"
    return EXECUTED.get(snippet.document) or more().get(snippet.document)


def main() -> int:
    """Print a line for each document."""
    total, run = 0, 0
    for name in documents():
        found = of(name)
        done = [one for one in found if one.reason is None and executed_by(one)]
        total, run = total + len(found), run + len(done)
        if found:
            print(f"{name}: {len(found)} blocks, {len(done)} executed")
            for one in found:
                if one.reason is not None or one not in done:
                    print(f"   line {one.line}, {one.language}: {one.reason or 'NOBODY EXECUTES IT'}")
    print(f"{total} code blocks, {run} executed as they are printed, {total - run} marked with a reason")
    return 0


if __name__ == "__main__":
    sys.exit(main())
