# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate before the XML parser: bytes in, a tree without surprises out (TRUST.md 2, steps 1 and 2).

Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

from typing import Any
from xml.parsers import expat

from ansible_collections.exchange.mitigation.plugins.module_utils._reasons import unproven

try:
    from lxml import etree
except ImportError:
    etree = None  # the entry points require it

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32
MAX_ELEMENTS = 20_000
MAX_NAMESPACES = 64  #: declarations in the whole document; canonicalizing thousands of them takes minutes
MAX_ATTRIBUTES = 32  #: of one element, namespace declarations included

_BOM = b"\xef\xbb\xbf"


class _Counter:
    """The handlers of one streaming pass; they build nothing."""

    def __init__(self) -> None:
        self.depth = 0
        self.elements = 0
        self.namespaces = 0

    def declaration(self, version: str, encoding: str | None, dummy: int) -> None:
        """Allow XML 1.0 in UTF-8 only."""
        if version != "1.0":
            raise unproven("xml_version", "The XML declaration names a version other than 1.0.")
        if encoding is not None and encoding.lower() != "utf-8":
            raise unproven("encoding_not_allowed", "The XML declaration names an encoding other than UTF-8.")

    def doctype(self, *dummy: Any) -> None:
        """Refuse the DOCTYPE before its first declaration is read."""
        raise unproven("doctype", "The document has a DOCTYPE.")

    def instruction(self, *dummy: Any) -> None:
        """Refuse a processing instruction."""
        raise unproven("processing_instruction", "The document has a processing instruction.")

    def start(self, dummy: str, attributes: list[str]) -> None:
        """Count; attributes arrive as names and values in turn."""
        self.depth += 1
        self.elements += 1
        if self.depth > MAX_DEPTH:
            raise unproven("too_deep", f"Elements are nested deeper than {MAX_DEPTH}.")
        if self.elements > MAX_ELEMENTS:
            raise unproven("too_many_elements", f"There are more than {MAX_ELEMENTS} elements.")
        if len(attributes) > 2 * MAX_ATTRIBUTES:
            raise unproven("too_many_attributes", f"An element has more than {MAX_ATTRIBUTES} attributes.")
        self.namespaces += sum(name.startswith("xmlns") for name in attributes[::2])
        if self.namespaces > MAX_NAMESPACES:
            raise unproven("too_many_namespaces", f"There are more than {MAX_NAMESPACES} namespace declarations.")

    def end(self, dummy: str) -> None:
        """Count back."""
        self.depth -= 1


def checked(data: bytes) -> bytes:
    """Return the bytes without byte order mark once nothing speaks against parsing them; raises VerifyError."""
    if not isinstance(data, bytes):
        raise TypeError("a document is bytes, never text")
    if not data:
        raise unproven("empty", "The document is empty.")
    if len(data) > MAX_BYTES:
        raise unproven("too_large", f"The document has {len(data)} bytes, more than {MAX_BYTES}.")
    if b"\0" in data:
        raise unproven("nul_byte", "The document contains a NUL byte.")
    if data.startswith(_BOM):
        data = data[len(_BOM):]
        if data.startswith(_BOM):
            raise unproven("not_utf8", "The document begins with two byte order marks.")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise unproven("not_utf8", f"Byte {exc.start} is not UTF-8.") from None

    counter = _Counter()
    parser = expat.ParserCreate("utf-8")
    parser.ordered_attributes = True
    parser.XmlDeclHandler = counter.declaration
    parser.StartDoctypeDeclHandler = counter.doctype
    parser.ProcessingInstructionHandler = counter.instruction
    parser.StartElementHandler = counter.start
    parser.EndElementHandler = counter.end
    try:
        parser.Parse(data, True)
    except expat.ExpatError as exc:
        raise unproven("not_well_formed", f"Line {exc.lineno}: {expat.errors.messages.get(exc.code, 'unknown')}.") from None
    return data


def parse(data: bytes) -> Any:
    """Return the lxml root of checked bytes, with nothing resolved, defaulted or stripped; raises VerifyError."""
    parser = etree.XMLParser(
        resolve_entities=False,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        no_network=True,
        huge_tree=False,
        recover=False,
        remove_blank_text=False,
        remove_comments=False,
        remove_pis=False,
        strip_cdata=False,
        ns_clean=False,
    )
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as exc:
        raise unproven("not_well_formed", f"Line {exc.lineno or 0}: not well-formed XML with namespaces.") from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise unproven("doctype", "The document has a DOCTYPE.")
    return root


def canonical(root: Any) -> bytes:
    """Return the whole document of a root as Canonical XML 1.0 without comments; raises VerifyError."""
    try:
        octets = etree.tostring(root.getroottree(), method="c14n", exclusive=False, with_comments=False)
    except etree.C14NError:
        raise unproven("not_well_formed", "The document has no canonical form (a relative namespace name, for example).") from None
    return bytes(octets)
