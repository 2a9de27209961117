# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""IIS configuration files as trees with line numbers, and the error that the native configuration reader raises."""

from __future__ import annotations

import dataclasses
import functools
from xml.parsers import expat

INVALID_DATA = 0x8007000D
LOCK_VIOLATION = 0x80070021
ALREADY_EXISTS = 0x800700B7
FILE_NOT_FOUND = 0x80070003

NOT_WELL_FORMED = "Configuration file is not well-formed XML"


class ConfigError(Exception):
    r"""What IIS refuses. ``file`` with its ``\\?\`` prefix, ``line`` 0 when unknown, ``code`` an HRESULT."""

    def __init__(self, file: str, line: int, message: str, code: int) -> None:
        self.file = file
        self.line = line
        self.message = message
        self.code = code
        super().__init__(self.text())

    def text(self) -> str:
        """Return the message as the COM error carries it."""
        return f"Filename: {self.file}\r\nLine number: {self.line}\r\nError: {self.message}\r\n\r\n"


@dataclasses.dataclass
class Node:
    """An element of a file."""

    name: str
    attributes: dict[str, str]
    line: int
    children: list[Node] = dataclasses.field(default_factory=list)

    def named(self, name: str) -> list[Node]:
        """Return the child elements of that name."""
        return [child for child in self.children if child.name == name]


@dataclasses.dataclass(frozen=True)
class Malformed:
    """Where a file stops being XML (or being configuration)."""

    line: int
    message: str = NOT_WELL_FORMED


class _DoctypeSeen(Exception):
    pass


@functools.lru_cache(maxsize=512)
def parse(data: bytes) -> Node | Malformed:
    """Parse a file's bytes; the result is shared between callers and must not be changed.

    A document type declaration is refused, as XmlLite does by default.
    """
    parser = expat.ParserCreate()
    top = Node("", {}, 0)
    stack = [top]

    def start(name: str, attributes: dict[str, str]) -> None:
        node = Node(name, attributes, parser.CurrentLineNumber)
        stack[-1].children.append(node)
        stack.append(node)

    def end(dummy: str) -> None:
        stack.pop()

    def doctype(*dummy: object) -> None:
        raise _DoctypeSeen

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        return Malformed(error.lineno)
    except (_DoctypeSeen, LookupError, ValueError):
        return Malformed(parser.CurrentLineNumber)
    root = top.children[0]
    if root.name != "configuration":
        return Malformed(root.line, f"Unrecognized element '{root.name}'")
    return root
