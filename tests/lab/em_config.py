# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edits a web.config the way the simulated EM service does: as a writer that goes through IIS's configuration API would leave it.

A section stands at most once per file and path, else IIS refuses the file (register: em-section-twice). So a rule goes into
the section where the file already has it for that path, within a path-less ``<location>`` too; otherwise a new section is made
outside every ``<location>``, at the end of the file, as the recorded file shows it.
"""

from __future__ import annotations

import dataclasses
import xml.parsers.expat
from collections.abc import Iterator

SERVER = "system.webServer"


class Unusable(Exception):
    """The file cannot be edited: malformed, or not UTF-8."""


@dataclasses.dataclass
class Element:
    """An element with its byte offsets: ``start`` of its tag, ``inner`` behind the tag, ``close`` of its end tag, ``end`` behind it."""

    name: str
    attributes: dict[str, str]
    start: int
    inner: int
    close: int = 0
    end: int = 0
    children: list[Element] = dataclasses.field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether it is written as ``<name/>``."""
        return self.inner == self.end

    def named(self, name: str) -> Iterator[Element]:
        """Iterate over the children of a name."""
        return (child for child in self.children if child.name == name)

    def walk(self) -> Iterator[Element]:
        """Iterate over everything below."""
        for child in self.children:
            yield child
            yield from child.walk()


def parse(data: bytes) -> Element:
    """Return the root element; raises Unusable."""
    parser = xml.parsers.expat.ParserCreate()
    stack: list[Element] = []
    roots: list[Element] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        begin = parser.CurrentByteIndex
        element = Element(name, attributes, begin, _behind_tag(data, begin))
        (stack[-1].children if stack else roots).append(element)
        stack.append(element)

    def end(dummy: str) -> None:
        element = stack.pop()
        if data[element.inner - 2 : element.inner] == b"/>":
            element.close = element.end = element.inner
        else:
            element.close = parser.CurrentByteIndex
            element.end = data.index(b">", element.close) + 1

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise Unusable("the file is not UTF-8")
    try:
        parser.Parse(data, True)
    except (xml.parsers.expat.ExpatError, ValueError) as error:
        raise Unusable(str(error)) from error
    return roots[0]


def _behind_tag(data: bytes, begin: int) -> int:
    quote = b""
    for index in range(begin, len(data)):
        character = data[index : index + 1]
        if quote:
            quote = b"" if character == quote else quote
        elif character in (b'"', b"'"):
            quote = character
        elif character == b">":
            return index + 1
    raise Unusable("a tag does not end")


class WebConfig:
    """One web.config's bytes, edited in place."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.root = parse(data)

    # -- reading

    def sections(self, section: str, outside_only: bool = False) -> list[Element]:
        """Return the elements of a section such as ``rewrite/rules`` that apply to the file's own path."""
        places = [self.root]
        if not outside_only:
            places += [place for place in self.root.named("location") if place.attributes.get("path", ".") in ("", ".")]
        found = [server for place in places for server in place.named(SERVER)]
        for part in section.split("/"):
            found = [child for element in found for child in element.named(part)]
        return found

    def rules(self, section: str) -> list[Element]:
        """Return the rules of a section."""
        return [rule for element in self.sections(section) for rule in element.named("rule")]

    def preconditions(self, section: str) -> list[Element]:
        """Return the preconditions of a section."""
        groups = [group for element in self.sections(section) for group in element.named("preConditions")]
        return [entry for group in groups for entry in group.named("preCondition")]

    # -- writing

    def add(self, section: str, lines: list[str], outside_only: bool = False) -> None:
        """Put lines (indented from zero) at the end of a section, which is made outside every location when it is missing."""
        places = self.sections(section, outside_only)
        if places:
            self._append(places[0], lines, self._depth(places[0]) + 1)
            return
        group, leaf = section.split("/")
        wrapped = [f"<{leaf}>", *("    " + line for line in lines), f"</{leaf}>"]
        groups = self.sections(group, outside_only=True)
        if groups:
            self._append(groups[0], wrapped, self._depth(groups[0]) + 1)
            return
        wrapped = [f"<{group}>", *("    " + line for line in wrapped), f"</{group}>"]
        servers = list(self.root.named(SERVER))
        if servers:
            self._append(servers[0], wrapped, 2)
            return
        self._append(self.root, [f"<{SERVER}>", *("    " + line for line in wrapped), f"</{SERVER}>"], 1)

    def add_precondition(self, section: str, lines: list[str]) -> None:
        """Put a precondition beside the rules of a section that is already there."""
        place = self.sections(section)[0]
        group = next(place.named("preConditions"), None)
        if group is not None:
            self._append(group, lines, self._depth(group) + 1)
        else:
            self._append(place, ["<preConditions>", *("    " + line for line in lines), "</preConditions>"], self._depth(place) + 1)

    def remove(self, element: Element) -> None:
        """Cut an element with the line it stands on."""
        begin, end = element.start, element.end
        while begin > 0 and self.data[begin - 1 : begin] in (b" ", b"\t"):
            begin -= 1
        if self.data[begin - 2 : begin] == b"\r\n":
            begin -= 2
        elif self.data[begin - 1 : begin] == b"\n":
            begin -= 1
        self._splice(begin, end, b"")

    def _depth(self, wanted: Element) -> int:
        def search(element: Element, depth: int) -> int:
            if element is wanted:
                return depth
            return max((search(child, depth + 1) for child in element.children), default=-1)

        return search(self.root, 0)

    def _append(self, parent: Element, lines: list[str], depth: int) -> None:
        newline = "\r\n" if b"\r\n" in self.data else "\n"
        text = "".join(f"{'    ' * depth}{line}{newline}" for line in lines)
        if parent.empty:
            tag = self.data[parent.start : parent.inner].rstrip(b"/>").rstrip()
            whole = tag.decode() + ">" + newline + text + "    " * (depth - 1) + f"</{parent.name}>"
            self._splice(parent.start, parent.end, whole.encode())
            return
        begin = parent.close
        while self.data[begin - 1 : begin] in (b" ", b"\t"):
            begin -= 1
        if self.data[begin - 1 : begin] != b"\n":
            begin, text = parent.close, newline + text + "    " * (depth - 1)
        self._splice(begin, begin, text.encode())

    def _splice(self, begin: int, end: int, text: bytes) -> None:
        self.data = self.data[:begin] + text + self.data[end:]
        self.root = parse(self.data)
