# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Support: edits of a configuration file as byte splices; everything outside a splice stays as it is, to the byte.

Pure. Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from xml.sax.saxutils import escape  # nosec B406  # writes, parses nothing

from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sections import Setting, settings
from ansible_collections.exchange.mitigation.plugins.module_utils._xml_spans import Document, Element, parse

#: What a file is that did not exist.
NEW_FILE = b'<?xml version="1.0" encoding="UTF-8"?>\r\n<configuration>\r\n</configuration>\r\n'
#: The location block that a rule goes into when children must not inherit it.
BLOCK = (("path", "."), ("inheritInChildApplications", "false"))
#: Containers that mean nothing when they hold nothing.
_CONTAINERS = frozenset({"rules", "globalRules", "outboundRules", "preConditions", "rewrite", "system.webServer"})


@dataclasses.dataclass(frozen=True)
class Xml:
    """An element to write: attributes in order, children in order, no text."""

    tag: str
    attributes: tuple[tuple[str, str], ...] = ()
    children: tuple[Xml, ...] = ()

    def render(self, indent: str, unit: str, newline: str) -> str:
        """Return the element as text, the first line without its indentation."""
        attributes = "".join(f' {name}="{escape(value, {chr(34): "&quot;"})}"' for name, value in self.attributes)
        if not self.children:
            return f"<{self.tag}{attributes} />"
        inner = indent + unit
        lines = [f"<{self.tag}{attributes}>"] + [inner + child.render(inner, unit, newline) for child in self.children] + [f"{indent}</{self.tag}>"]
        return newline.join(lines)


@dataclasses.dataclass(frozen=True)
class Splice:
    """Bytes ``removed`` at ``start`` and ``inserted`` instead."""

    start: int
    removed: bytes
    inserted: bytes


def apply(data: bytes, splices: Sequence[Splice]) -> bytes:
    """Return the data with the splices made; they are ordered and do not overlap. Raises ValueError where the data is not what they remove."""
    parts, at = [], 0
    for splice in splices:
        end = splice.start + len(splice.removed)
        if splice.start < at or data[splice.start : end] != splice.removed:
            raise ValueError(f"the bytes at {splice.start} are not those that the edit was planned for")
        parts += [data[at : splice.start], splice.inserted]
        at = end
    return b"".join(parts) + data[at:]


@dataclasses.dataclass(frozen=True)
class _Piece:
    """A run of the result: kept bytes ``start`` to ``end`` of the original, or new bytes (``start`` is -1)."""

    start: int
    end: int
    new: bytes = b""

    @property
    def length(self) -> int:
        return len(self.new) if self.start < 0 else self.end - self.start

    def cut(self, low: int, high: int) -> _Piece:
        """Return a part of it."""
        return _Piece(-1, -1, self.new[low:high]) if self.start < 0 else _Piece(self.start + low, self.start + high)


class Draft:
    """A file while it is edited: it knows the original and the present bytes. ``before`` None: the file does not exist yet."""

    def __init__(self, file: str, before: bytes | None) -> None:
        self.file = file
        self.before = before
        self.data = NEW_FILE if before is None else before
        self._pieces = [_Piece(-1, -1, NEW_FILE)] if before is None else [_Piece(0, len(before))]

    def copy(self) -> Draft:
        """Return one that can go on by itself."""
        other = Draft(self.file, self.before)
        other.data, other._pieces = self.data, list(self._pieces)
        return other

    def document(self) -> Document:
        """Parse the present bytes. Raises ConfigurationError."""
        return parse(self.data, self.file)

    def splice(self, start: int, end: int, inserted: bytes) -> None:
        """Replace present bytes."""
        result: list[_Piece] = []
        at, done = 0, False
        for piece in self._pieces:
            low, high = max(0, min(start - at, piece.length)), max(0, min(end - at, piece.length))
            if low:
                result.append(piece.cut(0, low))
            if not done and at + piece.length >= start:
                result.append(_Piece(-1, -1, inserted))
                done = True
            if high < piece.length:
                result.append(piece.cut(high, piece.length))
            at += piece.length
        if not done:
            result.append(_Piece(-1, -1, inserted))
        self._pieces = [piece for piece in result if piece.length]
        self.data = self.data[:start] + inserted + self.data[end:]

    def splices(self) -> tuple[Splice, ...]:
        """Return the edit so far against the original bytes."""
        original = self.before or b""
        found: list[Splice] = []
        at, inserted = 0, b""
        for piece in [*self._pieces, _Piece(len(original), len(original))]:
            if piece.start < 0:
                inserted += piece.new
                continue
            if inserted or piece.start > at:
                found.append(Splice(at, original[at : piece.start], inserted))
            at, inserted = piece.end, b""
        return tuple(splice for splice in found if splice.removed != splice.inserted)

    def insert(self, section: str, place: str, entry: Xml, precondition: Xml | None, first: bool) -> None:
        """Insert a rule into a section, at the top level (``root``) or inside the location block (``location``), and its precondition.

        Containers that are missing are created. A section that stands in the other place is the caller's to refuse.
        """
        document = self.document()
        container = next((s.element for s in settings(document, section) if _fits(s, place)), None)
        if container is None:
            holders = (Xml("preConditions", (), (precondition,)),) if precondition is not None else ()
            self._create(document, section.split("/"), place, (entry, *holders))
            return
        rules = [child for child in container.children if child.tag in ("rule", "clear", "remove")]
        cleared = [child for child in rules if child.tag != "rule"]
        before = cleared if first else rules
        self._insert(document, container, before[-1] if before else None, entry)
        if precondition is None:
            return
        document = self.document()
        container = next(s.element for s in settings(document, section) if _fits(s, place))
        holder = container.first("preConditions")
        if holder is None:
            self._insert(document, container, _last(container), Xml("preConditions", (), (precondition,)))
        else:
            self._insert(document, holder, _last(holder), precondition)

    def _create(self, document: Document, tags: list[str], place: str, entries: tuple[Xml, ...]) -> None:
        """Create the containers of a section that are missing, with entries in the innermost."""
        chain = document.root
        missing = [(tag, ()) for tag in tags]
        if place != "root":
            block = next((e for e in document.root.all("location") if is_block(e) and e.first(tags[0]) is not None), None)
            block = block or next((e for e in document.root.all("location") if is_block(e)), None)
            if block is None:
                self._insert(document, chain, _last(chain), _nested([("location", BLOCK), *missing], entries))
                return
            chain = block
        depth = 0
        while depth < len(tags) - 1 and (found := chain.first(tags[depth])) is not None:
            chain, depth = found, depth + 1
        self._insert(document, chain, _last(chain), _nested(missing[depth:], entries))

    def _insert(self, document: Document, parent: Element, after: Element | None, entry: Xml) -> None:
        """Insert an element into a parent behind one of its children (None: as the first), in the file's own manner."""
        newline = document.newline
        outer = _indent(document, parent)
        unit = _unit(document, parent)
        inner = next((indent for indent in (_own_indent(document, child) for child in parent.children) if indent is not None), outer + unit)
        text = newline + inner + entry.render(inner, unit, newline)
        if parent.self_closing:
            body = document.source(parent)[:-2].rstrip()
            start = parent.start + len(document.encode(body))
            self.splice(start, parent.end, document.encode(f">{text}{newline}{outer}</{parent.tag}>"))
            return
        at = parent.content if after is None else after.end
        if not parent.children and "\n" not in document.text(at, parent.closing):
            text += newline + outer
        self.splice(at, at, document.encode(text))

    def remove(self, spans: Sequence[tuple[int, int]]) -> None:
        """Remove elements by the offsets where they start and end now, with their lines, and containers left without meaning."""
        for start, dummy in sorted(set(spans), reverse=True):
            document = self.document()
            element = _at(document.root, start)
            while element.parent is not None and element.parent.parent is not None and _only(document, element.parent, element):
                element = element.parent
            space = document.space_before(element.start)
            line = max(space.rfind("\n"), space.rfind("\r"))
            if space[line - 1 : line + 1] == "\r\n" and line > 0:
                line -= 1
            own = len(document.encode(space[line:])) if line >= 0 else 0
            self.splice(element.start - own, element.end, b"")


def is_block(location: Element) -> bool:
    """Say whether a location tag is for the file's own path, not inherited by child applications, and locks nothing."""
    attributes = location.attributes
    return (
        attributes.get("path", ".") in ("", ".")
        and attributes.get("inheritInChildApplications", "true").lower() == "false"
        and attributes.get("overrideMode", "Inherit") != "Deny"
        and attributes.get("allowOverride", "true").lower() != "false"
    )


def _fits(setting: Setting, place: str) -> bool:
    if place == "root":
        return setting.location is None
    return setting.location is not None and is_block(setting.location)


def _nested(containers: Sequence[tuple[str, tuple[tuple[str, str], ...]]], entries: tuple[Xml, ...]) -> Xml:
    for tag, attributes in reversed(containers):
        entries = (Xml(tag, attributes, entries),)
    return entries[0]


def _last(element: Element) -> Element | None:
    return element.children[-1] if element.children else None


def _own_indent(document: Document, element: Element) -> str | None:
    """Return the indentation of an element that begins its line, else None."""
    space = document.space_before(element.start)
    at = max(space.rfind("\n"), space.rfind("\r"))
    return space[at + 1 :] if at >= 0 else None


def _indent(document: Document, element: Element) -> str:
    return _own_indent(document, element) or ""


def _unit(document: Document, near: Element) -> str:
    """Return one step of indentation: as the nearest ancestor indents, else the first children of the file, else two blanks."""
    for parent in [near, *near.ancestors()]:
        outer = _indent(document, parent)
        for child in parent.children:
            inner = _own_indent(document, child)
            if inner is not None and inner.startswith(outer) and inner != outer:
                return inner[len(outer) :]
    return "  "


def _at(root: Element, start: int) -> Element:
    """Return the element that starts at an offset."""
    element = root
    while element.start != start:
        element = next(child for child in element.children if child.start <= start < child.end)
    return element


def _only(document: Document, parent: Element, child: Element) -> bool:
    """Say whether a container means nothing without its one child: no attributes of its own, no other content, comments included."""
    bare = parent.tag in _CONTAINERS and not parent.attributes
    ours = parent.tag == "location" and parent.attributes == dict(BLOCK)
    if not (bare or ours):
        return False
    rest = document.text(parent.content, child.start) + document.text(child.end, parent.closing)
    return not rest.strip()
