# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Support: an XML file as a tree of elements that know the byte offsets where they stand.

One expat pass; expat reports offsets into the original bytes in every encoding, so an edit can be a splice of bytes.
Pure. Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import codecs
import dataclasses
import functools
import re
from collections.abc import Iterator
from xml.parsers import expat

from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConfigurationError

#: Codecs in which a markup character is the same single code unit as in ASCII, by Python's normalised name.
ASCII_COMPATIBLE = frozenset({"utf-8", "ascii", "iso8859-1", "cp1252"})
#: A tag from its ``<`` to its ``>``; quotes may hold a ``>``.
_TAG = re.compile(rb"<[^>\"']*(?:(?:\"[^\"]*\"|'[^']*')[^>\"']*)*>")
#: Configuration files nest about ten elements deep; more than this is not one.
MAX_DEPTH = 200
#: Bytes and elements of a file: many times what a server with a thousand sites has.
MAX_BYTES = 16 * 1024 * 1024
MAX_ELEMENTS = 200_000


class _Source:
    """The bytes of a file, the codec of a slice of them, and where its tags end."""

    __slots__ = ("codec", "data", "sniffed")

    def __init__(self, data: bytes, sniffed: str | None) -> None:
        self.data = data
        self.sniffed = sniffed
        self.codec = sniffed or "utf-8"

    def tag_end(self, start: int) -> int:
        """Return the offset behind the ``>`` of the tag at ``start``, all of which expat has seen; quotes may hold a ``>``."""
        if self.sniffed is None:
            return next(_TAG.finditer(self.data, start)).end()
        low = 0 if self.sniffed == "utf-16-le" else 1
        at, quote = start, 0
        while True:
            unit = 0 if self.data[at + 1 - low] else self.data[at + low]
            at += 2
            if quote:
                quote = 0 if unit == quote else quote
            elif unit in (0x22, 0x27):
                quote = unit
            elif unit == 0x3E:
                return at


class Element:
    """One element. Offsets are bytes: ``start`` of its tag, ``content`` after the start tag, ``closing`` at the end tag, ``end`` behind it.

    A self-closing element has ``content == closing == end``. All but ``start`` are found when they are asked for: most never are.
    """

    __slots__ = ("attributes", "children", "finish", "line", "parent", "source", "start", "tag")

    def __init__(self, tag: str, attributes: dict[str, str], line: int, start: int, parent: Element | None, source: _Source) -> None:
        self.tag = tag
        self.attributes = attributes
        self.line = line
        self.start = start
        #: where expat says that it ends: at its end tag, or behind a self-closing one
        self.finish = start
        self.children: list[Element] = []
        self.parent = parent
        self.source = source

    @property
    def content(self) -> int:
        """Offset behind the start tag."""
        return self.source.tag_end(self.start)

    @property
    def closing(self) -> int:
        """Offset of the end tag."""
        return self.content if self.self_closing else self.finish

    @property
    def end(self) -> int:
        """Offset behind the end tag."""
        return self.content if self.self_closing else self.source.tag_end(self.finish)

    @property
    def self_closing(self) -> bool:
        """True for ``<a/>``."""
        return self.source.data[self.start : self.content].decode(self.source.codec)[-2:-1] == "/"

    def all(self, tag: str) -> list[Element]:
        """Return the child elements of that tag, in order."""
        return [child for child in self.children if child.tag == tag]

    def first(self, tag: str) -> Element | None:
        """Return the first child element of that tag."""
        return next((child for child in self.children if child.tag == tag), None)

    def walk(self, *tags: str) -> list[Element]:
        """Return every element reached by following the tags downwards."""
        found = [self]
        for tag in tags:
            found = [child for element in found for child in element.all(tag)]
        return found

    def ancestors(self) -> Iterator[Element]:
        """Yield the parent, its parent and so on."""
        element = self.parent
        while element is not None:
            yield element
            element = element.parent


@dataclasses.dataclass(frozen=True)
class Document:
    """A parsed file: its bytes, the codec of a slice (without byte order mark), the root element, the line break it uses."""

    file: str
    data: bytes
    codec: str
    root: Element
    newline: str

    def text(self, start: int, end: int) -> str:
        """Return the bytes between two offsets as text."""
        return self.data[start:end].decode(self.codec)

    def source(self, element: Element) -> str:
        """Return the whole element as it stands in the file."""
        return self.text(element.start, element.end)

    def encode(self, text: str) -> bytes:
        """Return text as bytes of this file."""
        return text.encode(self.codec)

    def space_before(self, offset: int) -> str:
        """Return the run of white space that ends at an offset."""
        width = 2 if self.codec.startswith("utf-16") else 1
        blanks = {self.encode(character) for character in " \t\r\n"}
        start = offset
        while start >= width and self.data[start - width : start] in blanks:
            start -= width
        return self.text(start, offset)


class _Malformed(Exception):
    """Why and in which line a file cannot be parsed; becomes a ConfigurationError that names the file."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line
        self.what = what


def _sniff(data: bytes) -> str | None:
    """Return the UTF-16 codec that the first bytes show, else None: by a mark, or as expat does by a character with a zero byte."""
    if data.startswith(codecs.BOM_UTF16_LE) or data[1:2] == b"\0":
        return "utf-16-le"
    if data.startswith((codecs.BOM_UTF16_BE, b"\0")):
        return "utf-16-be"
    return None


class _Builder:
    """Receives expat's events and builds the tree."""

    def __init__(self, data: bytes, sniffed: str | None) -> None:
        self.source = _Source(data, sniffed)
        #: the root element, once there is one: expat refuses a second, and a file without any
        self.roots: list[Element] = []
        self.count = 0
        self.open: list[Element] = []
        self.parser = expat.ParserCreate()
        self.parser.ordered_attributes = False
        self.parser.XmlDeclHandler = self.declaration
        self.parser.StartDoctypeDeclHandler = self.doctype
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.finish

    def declaration(self, dummy_version: str, encoding: str | None, dummy_standalone: int) -> None:
        """Take over the declared encoding; expat itself refuses one that contradicts the bytes."""
        if self.source.sniffed is not None or encoding is None:
            return
        try:
            name = codecs.lookup(encoding).name
        except LookupError:
            name = ""
        if name not in ASCII_COMPATIBLE:
            raise _Malformed(self.parser.CurrentLineNumber, f"the encoding {encoding!r} is not one of UTF-8, UTF-16, ISO-8859-1, Windows-1252")
        self.source.codec = name

    def doctype(self, *dummy: object) -> None:
        """Refuse a document type: configuration files have none, and entities live there."""
        raise _Malformed(self.parser.CurrentLineNumber, "a document type declaration is not accepted in a configuration file")

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Open an element."""
        if len(self.open) >= MAX_DEPTH:
            raise _Malformed(self.parser.CurrentLineNumber, f"elements are nested deeper than {MAX_DEPTH}")
        self.count += 1
        if self.count > MAX_ELEMENTS:
            raise _Malformed(self.parser.CurrentLineNumber, f"there are more than {MAX_ELEMENTS} elements")
        parent = self.open[-1] if self.open else None
        element = Element(tag, attributes, self.parser.CurrentLineNumber, self.parser.CurrentByteIndex, parent, self.source)
        if parent is None:
            self.roots.append(element)
        else:
            parent.children.append(element)
        self.open.append(element)

    def finish(self, dummy_tag: str) -> None:
        """Close the innermost element."""
        self.open.pop().finish = self.parser.CurrentByteIndex


@functools.lru_cache(maxsize=64)
def _tree(data: bytes) -> Document:
    if len(data) > MAX_BYTES:
        raise _Malformed(1, f"the file has more than {MAX_BYTES} bytes")
    builder = _Builder(data, _sniff(data))
    try:
        builder.parser.Parse(data, True)
    except expat.ExpatError as error:
        raise _Malformed(error.lineno, f"the XML is not well formed ({expat.ErrorString(error.code)})") from error
    except (ValueError, UnicodeError, LookupError) as error:
        raise _Malformed(builder.parser.CurrentLineNumber, f"the text cannot be decoded ({error})") from error
    text = data.decode(builder.source.codec, "replace")
    newline = "\r\n" if text.count("\r\n") * 2 > text.count("\n") or "\n" not in text else "\n"
    return Document(file="", data=data, codec=builder.source.codec, root=builder.roots[0], newline=newline)


def parse(data: bytes, file: str) -> Document:
    """Parse the bytes of a configuration file. Raises ConfigurationError with ``file`` and ``line`` when it cannot be read.

    Trees are shared between equal bytes: they are never changed.
    """
    try:
        return dataclasses.replace(_tree(data), file=file)
    except _Malformed as error:
        raise ConfigurationError(
            f"{file}, line {error.line}: {error.what}. IIS cannot read the file like this; repair it, or restore it from a backup, and run again.",
            file=file,
            line=error.line,
            problem=error.what,
        ) from error
