# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guides as data: their blocks, to be run as they are printed, and the tables in them that the code writes.

``python tests/system/guides.py`` (with the collection on the path) brings the tables up to date.
"""

from __future__ import annotations

import dataclasses
import pathlib
import platform
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping

import reason_codes
import reason_rows
from ansible_collections.exchange.mitigation.plugins.module_utils import _access, _deps, _jea, _reasons, _rights
from ansible_collections.exchange.mitigation.plugins.module_utils import _local_profile as profile

GUIDES = pathlib.Path(__file__).resolve().parents[2] / "docs" / "docsite" / "rst"
_BLOCK = re.compile(r"^\.\. code-block:: (\w+)\n(?:   :caption: ([^\n]+)\n)?\n((?:   [^\n]*\n|\n)+)", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Block:
    """A code block: its language, its caption (a file's name, or what a command is about), its text."""

    language: str
    caption: str
    text: str


def guide(name: str) -> str:
    """Return the text of a guide."""
    return (GUIDES / f"{name}.rst").read_text("utf-8")


def blocks(name: str) -> list[Block]:
    """Return the code blocks of a guide in order."""
    return [Block(language, caption, textwrap.dedent(text).strip("\n") + "\n") for language, caption, text in _BLOCK.findall(guide(name))]


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (head, *rows):
        for number, cell in enumerate(row):
            lines.append(f"   {'*' if number == 0 else ' '} - {cell}")
    return "\n".join(lines) + "\n"


def _code(values: Iterable[str]) -> str:
    return ", ".join(f"``{value}``" for value in values)


def reasons() -> str:
    """Return the tables of reason codes."""
    parts: tuple[tuple[str, Mapping[str, _reasons.Reason]], ...] = (
        ("The document, and what is remembered of documents:", _reasons.VERIFY_REASONS),
        ("The way to it:", _reasons.FETCH_REASONS),
        ("Options and surroundings:", _reasons.OPTION_REASONS),
    )
    return "\n".join(
        f"{title}\n\n" + _table(("reason", "cause", "what to do"), ((f"``{code}``", reason.cause, reason.cure) for code, reason in table.items()))
        for title, table in parts
    )


def profile_lists() -> str:
    """Return the lists of the profile."""
    return _table(
        ("list", "what is in it"),
        (
            *((f"``path`` on the site *{site}*", _code(paths)) for site, paths in profile.SITES.items()),
            ("``answer``", _code(profile.ANSWERS) + ". ``abort`` drops the connection, a number is the status that is sent."),
            ("``header``", _code(profile.HEADERS)),
            (
                "``input``",
                f"{_code(profile.REQUEST_VARIABLES)}, every request header as ``HTTP_NAME`` except {_code(profile.FORBIDDEN_INPUTS)}; "
                f"for a response header also {_code(profile.RESPONSE_VARIABLES)}",
            ),
            ("``service``", _code(profile.SERVICES) + f". Never {_code(profile.FORBIDDEN_SERVICES)}."),
            ("``pool``", _code(profile.POOLS)),
        ),
    )


#: What stands in the table of Exchange access for what differs from case to case.
PLACES = {"user": "USER", "host": "NAME", "auth": "METHOD", "offered": "METHODS", "detail": "DETAIL"}


def access_sentences() -> dict[str, str]:
    """Return the sentence of every failure of Exchange access by its code, with PLACES and SERVER, PYTHON, VERSION."""
    missing = str(_deps.missing_library("gssapi")).replace(sys.executable, "PYTHON").replace(platform.python_version(), "VERSION")
    return {"missing_library": missing} | {code: row.sentence("SERVER", **PLACES) for code, row in _access.ACCESS.items()}


def access() -> str:
    """Return the tables of Exchange access."""
    sentences = access_sentences()
    parts = (
        ("On the way to Exchange's own endpoint:", ("missing_library", *_access.REMOTE)),
        ("With the snap-in on the server:", tuple(_access.SNAPIN)),
    )
    tables = (
        head + "\n\n" + _table(("``reason``", "the sentence"), ((f"``{code}``", sentences[code].replace("\\", "\\\\")) for code in codes))
        for head, codes in parts
    )
    return "\n".join(tables)


def rights() -> str:
    """Return the table of least rights per module."""
    head = ("module", "on the Windows server", "JEA endpoint", "role group of Exchange (management role)")
    return _table(head, ((f"``{name}``", need.windows, need.jea, need.exchange) for name, need in _rights.MODULES.items()))


def capabilities() -> str:
    """Return the table of cmdlets that the JEA endpoints offer."""
    rows = [
        (f"``{name}``", _code([*narrow.parameters, *([narrow.piped] if narrow.piped else [])]), "both" if name in _jea.READS else "writer")
        for name, narrow in _jea.offered(_jea.WRITER).items()
    ]
    return _table(("cmdlet", "parameters", "endpoint"), rows)


#: What the code writes, by the name in the guide's markers.
GENERATED = {"reasons": reasons, "profile": profile_lists, "access": access, "rights": rights, "capabilities": capabilities}


def filled(text: str) -> str:
    """Return a guide's text with what the code writes between the markers."""
    for name, made in GENERATED.items():
        begin, end = f".. {name}: begin\n", f".. {name}: end\n"
        if begin in text:
            head, rest = text.split(begin, 1)
            text = head + begin + "\n" + made() + "\n" + end + rest.split(end, 1)[1]
    return text


def troubleshooting() -> str:
    """Return the tables of every reason code that the code can return, by area."""
    found = reason_codes.codes()
    own = {code for rows in reason_rows.AREAS.values() for code in rows}
    parts = [(title, {code: row for code, row in rows.items() if code in found}) for title, rows in reason_rows.AREAS.items()]
    parts += [(title, {code: row for code, row in rows.items() if code in found and code not in own}) for title, rows in reason_codes.explained()]
    rest = sorted(set(found) - {code for dummy, rows in parts for code in rows})
    if rest:
        raise ValueError(f"no cause and cure for {', '.join(rest)}: write them into tests/system/reason_rows.py")
    return "\n".join(
        f"{title}\n{'~' * len(title)}\n\n" + _table(("reason", "cause", "what to do"), ((f"``{code}``", *row) for code, row in sorted(rows.items())))
        for title, rows in parts
        if rows
    )


GENERATED["troubleshooting"] = troubleshooting


def main() -> int:
    """Write the tables."""
    for path in sorted(GUIDES.glob("*.rst")):
        path.write_text(filled(path.read_text("utf-8")), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
