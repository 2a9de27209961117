# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CLIXML, the XML in which PowerShell writes objects, to plain Python values (MS-PSRP 2.2.5, CMDLETS.md 0.1).

Decoded values: str, bool, int, float, bytes, datetime, uuid.UUID, list, dict, None, or PSObject.
Durations (TS), decimals (D), versions, URIs, XML documents, script blocks and encrypted strings stay text as written.
A cycle or a shared object becomes the same Python object. What a server can make large for nothing is bounded: bytes, depth,
and how large the objects are once every reference is followed.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import datetime
import re
import uuid
import xml.etree.ElementTree as ET  # nosec B405  # everything passes gated() first
from collections.abc import Callable, Iterator
from typing import Any

#: Bytes of one document; the largest that is wanted is a configuration file of some 100 KiB.
MAX_BYTES = 16 * 1024 * 1024
#: Tags and attributes of one document, by their marks: a parser makes objects of a hundred bytes of four.
MAX_MARKS = 600_000
#: Objects within objects. PowerShell's own serialiser stops after a few levels.
MAX_DEPTH = 100
#: References to an object from within itself, of one document. Each multiplies what showing the object would take.
MAX_CYCLES = 8
#: Values of one document once every reference is followed, as anything that shows or compares them does.
MAX_VALUES = 200_000


class ClixmlError(ValueError):
    """The text is not CLIXML."""


@dataclasses.dataclass
class PSObject:
    """An object with a type and members.

    ``properties`` holds adapted properties and notes together, notes win; ``value`` is the primitive, list or dict
    that the object wraps (an enum wraps its number); ``to_string`` what PowerShell's ToString() gave.
    """

    type_names: tuple[str, ...] = ()
    properties: dict[str, Any] = dataclasses.field(default_factory=dict)
    value: Any = None
    to_string: str | None = None

    def get(self, name: str, default: Any = None) -> Any:
        """Return a member by its name, in any case; ``default`` where there is none."""
        if name in self.properties:
            return self.properties[name]
        lowered = name.lower()
        for key, value in self.properties.items():
            if key.lower() == lowered:
                return value
        return default

    def has(self, name: str) -> bool:
        """Tell whether the member is there, even as null."""
        missing = object()
        return self.get(name, missing) is not missing

    def is_a(self, type_name: str) -> bool:
        """Tell whether this type name, or it after ``Deserialized.``, is among the object's types."""
        return any(name.removeprefix("Deserialized.").lower() == type_name.lower() for name in self.type_names)


def plain(value: Any) -> Any:
    """Return what a wrapping object wraps, anything else as it is."""
    for dummy in range(MAX_DEPTH):  # an object may wrap itself
        if not isinstance(value, PSObject) or value.value is None:
            return value
        value = value.value
    return None


def text(value: Any) -> str | None:
    """Return how PowerShell shows a value: ToString of an object, None for null."""
    if value is None:
        return None
    if isinstance(value, PSObject):
        if value.to_string is not None:
            return value.to_string
        inner = plain(value)
        return None if isinstance(inner, PSObject) else text(inner)
    if isinstance(value, bool):
        return "True" if value else "False"
    return str(value)


def strings(value: Any) -> list[str]:
    """Return a list of texts from a multi-valued property: null and empty are both ``[]`` (FACTS.md 4.2)."""
    value = plain(value)
    if value is None:
        return []
    items = value if isinstance(value, list) else [value]
    # An item that is itself a list or a dictionary is none that any property has.
    shown = (text(item) for item in items if not isinstance(plain(item), (list, dict, bytes)) or (isinstance(item, PSObject) and item.to_string))
    return [item for item in shown if item is not None]


#: A short text alone, with nothing in it that XML or CLIXML writes otherwise: most messages are such.
_TEXT = re.compile(r"<S>([ !-%'-;=?-^`-~]{0,200})</S>")


def decode(xml: str | bytes) -> Any:
    """Return the one object of a PSRP message. Raises ClixmlError."""
    short = _TEXT.fullmatch(xml) if isinstance(xml, str) else None
    if short is not None:
        return short[1]
    root = _parse(xml)
    if _tag(root) == "Objs":
        values = _decoded(root)
        if len(values) != 1:
            raise ClixmlError(f"the document holds {len(values)} objects, not one")
        return values[0]
    return _guarded(root)


def gated(data: bytes) -> bytes:
    """Return what a server sent once it is safe to give it to an XML parser; raises ClixmlError.

    Neither CLIXML nor SOAP has a document type, and both come in UTF-8. In UTF-16, which a parser takes as well, a document type
    would not be seen in the bytes; it cannot be written without a NUL byte. No other encoding that expat knows spells it otherwise.
    """
    if len(data) > MAX_BYTES:
        raise ClixmlError(f"the document has {len(data)} bytes, more than {MAX_BYTES}")
    if max(data.count(b"<"), data.count(b"=")) > MAX_MARKS:
        raise ClixmlError(f"the document has more than {MAX_MARKS} tags or attributes")
    if b"\0" in data:
        raise ClixmlError("the document is not in UTF-8")
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise ClixmlError("the document declares a type or entities, which CLIXML never does")
    return data


def _parse(xml: str | bytes) -> ET.Element:
    data = xml.encode("utf-8", "surrogatepass") if isinstance(xml, str) else xml
    data = gated(data.removeprefix(b"\xef\xbb\xbf"))
    try:
        return ET.fromstring(data)  # nosec B314  # without a document type there are no entities, see gated()
    except (ET.ParseError, ValueError, LookupError) as exc:
        raise ClixmlError(f"not well-formed: {exc}") from exc


def _decoded(root: ET.Element) -> list[Any]:
    decoder = _Decoder()
    return [_guarded(child, decoder) for child in root]


def _guarded(element: ET.Element, decoder: _Decoder | None = None) -> Any:
    try:
        return (decoder or _Decoder()).value(element)
    except RecursionError as exc:
        raise ClixmlError("objects are nested too deeply") from exc
    except (ValueError, OverflowError, binascii.Error) as exc:
        raise exc if isinstance(exc, ClixmlError) else ClixmlError(f"a value cannot be read: {exc}") from exc


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


_ESCAPE = re.compile(r"_[xX]([0-9A-Fa-f]{4})_")


def unescape(value: str) -> str:
    """Return the text that ``_xHHHH_`` escapes stand for; surrogate pairs become one character."""
    if "_" not in value:
        return value
    found = _ESCAPE.sub(lambda match: chr(int(match.group(1), 16)), value)
    if any("\ud800" <= char <= "\udfff" for char in found):
        return found.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return found


_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)?")


def moment(value: str) -> datetime.datetime:
    """Return a ``<DT>``: aware and in UTC where the wire names a zone, naive where it does not. Precision ends at microseconds."""
    match = _TIME.fullmatch(value.strip())
    if match is None:
        raise ClixmlError(f"not a date: {value!r}")
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    micro = int((fraction or "0")[:6].ljust(6, "0"))
    naive = datetime.datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), micro)
    if zone is None:
        return naive
    if zone == "Z":
        return naive.replace(tzinfo=datetime.timezone.utc)
    sign = -1 if zone[0] == "-" else 1
    offset = datetime.timezone(sign * datetime.timedelta(hours=int(zone[1:3]), minutes=int(zone[4:6])))
    aware = naive.replace(tzinfo=offset)
    try:
        return aware.astimezone(datetime.timezone.utc)
    except OverflowError:
        return aware


def _boolean(value: str) -> bool:
    lowered = value.strip().lower()
    if lowered not in ("true", "false", "1", "0"):
        raise ClixmlError(f"not a boolean: {value!r}")
    return lowered in ("true", "1")


def _integer(value: str) -> int:
    """Return a number of .NET, of which the largest has 64 bits."""
    number = int(value) if len(value) <= 40 else None
    if number is None or not -(2**63) <= number < 2**64:
        raise ClixmlError(f"not a number of 64 bits: {value[:40]!r}")
    return number


def _character(value: str) -> str:
    """Return a ``<C>``: one UTF-16 code unit; half of a pair stands for nothing by itself."""
    number = _integer(value)
    if not 0 <= number <= 0xFFFF:
        raise ClixmlError(f"not a character: {number}")
    return "\ufffd" if 0xD800 <= number <= 0xDFFF else chr(number)


_PRIMITIVES: dict[str, Callable[[str], Any]] = {
    "S": unescape,
    "ToString": unescape,
    "URI": unescape,
    "XD": unescape,
    "SBK": unescape,
    "SS": str,
    "TS": str,
    "D": str,
    "Version": str,
    "C": _character,
    "B": _boolean,
    "DT": moment,
    "BA": lambda value: base64.b64decode(value, validate=False),
    "G": lambda value: uuid.UUID(value.strip()),
    "Sg": float,
    "Db": float,
    **dict.fromkeys(("By", "SB", "U16", "I16", "U32", "I32", "U64", "I64"), _integer),
}

_LISTS = ("LST", "IE", "STK", "QUE")
_MEMBERS = ("Props", "MS")


class _Decoder:
    """The state of one document: objects and type names that later elements refer to."""

    def __init__(self) -> None:
        self.objects: dict[str, Any] = {}
        self.types: dict[str, tuple[str, ...]] = {}
        self.sizes: dict[str, int] = {}
        self.count = 0
        self.cycles = 0
        self.depth = 0

    def value(self, element: ET.Element) -> Any:
        """Return the value of an element. Raises ClixmlError."""
        before = self.count
        self.count += 1
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ClixmlError("objects are nested too deeply")
        tag, reference = _tag(element), element.get("RefId", "")
        if tag == "Obj":
            self.sizes.pop(reference, None)  # the same number may be given again
        found = self._value(element, tag)
        self.depth -= 1
        if tag == "Obj":
            self.sizes[reference] = self.count - before
        elif tag == "Ref":
            self.cycles += reference not in self.sizes
            self.count += self.sizes.get(reference, 0)
        if self.cycles > MAX_CYCLES:
            raise ClixmlError(f"objects refer to themselves more than {MAX_CYCLES} times")
        if self.count > MAX_VALUES:
            raise ClixmlError(f"the objects hold more than {MAX_VALUES} values")
        return found

    def _value(self, element: ET.Element, tag: str) -> Any:
        primitive = _PRIMITIVES.get(tag)
        if primitive is not None:
            return primitive(element.text or "")
        if tag == "Nil":
            return None
        if tag == "Ref":
            reference = element.get("RefId", "")
            if reference not in self.objects:
                raise ClixmlError(f"reference to unknown object {reference!r}")
            return self.objects[reference]
        if tag == "Obj":
            return self._object(element)
        if tag in _LISTS:
            return [self.value(child) for child in element]
        if tag == "DCT":
            return dict(self._entries(element))
        raise ClixmlError(f"unknown element {tag!r}")

    def _object(self, element: ET.Element) -> Any:
        children = [(_tag(child), child) for child in element]
        names = {tag for tag, dummy in children}
        types = self._type_names(children)
        reference = element.get("RefId")
        bare = not names.intersection(_MEMBERS)
        container = next((child for tag, child in children if tag in _LISTS or tag == "DCT"), None)
        if bare and container is not None and not names.difference(_LISTS, ("DCT", "TN", "TNRef", "ToString")):
            return self._container(container, reference)
        found = PSObject(types)
        if reference is not None:
            self.objects[reference] = found
        notes: set[str] = set()
        for tag, child in children:  # in the order of the document, because type names are defined where they first occur
            if tag in ("TN", "TNRef"):
                continue
            if tag == "ToString":
                found.to_string = unescape(child.text or "")
            elif tag == "MS":
                notes.update(self._members(found, child, set()))
            elif tag == "Props":
                self._members(found, child, notes)
            else:
                found.value = self.value(child)
        inner = found.value
        if isinstance(inner, PSObject) and inner is not found:
            # A proxy of JEA wraps an object once more, and repeats its notes outside (CMDLETS.md 9): it is one object for whoever reads it.
            known = {key.lower() for key in found.properties}
            found.properties.update({key: value for key, value in inner.properties.items() if key.lower() not in known})
            found.value = inner.value
        return found

    def _container(self, element: ET.Element, reference: str | None) -> Any:
        # Registered before it is filled, so that an item can refer to the container.
        if _tag(element) == "DCT":
            table: dict[Any, Any] = {}
            if reference is not None:
                self.objects[reference] = table
            table.update(self._entries(element))
            return table
        items: list[Any] = []
        if reference is not None:
            self.objects[reference] = items
        items.extend(self.value(child) for child in element)
        return items

    def _members(self, found: PSObject, section: ET.Element, hidden: set[str]) -> set[str]:
        spelled = {key.lower(): key for key in found.properties}
        seen = set()
        for child in section:
            name = unescape(child.get("N", ""))
            value = self.value(child)
            lowered = name.lower()
            if lowered in hidden:
                continue
            other = spelled.get(lowered)
            if other is not None:
                del found.properties[other]
            spelled[lowered] = name
            found.properties[name] = value
            seen.add(lowered)
        return seen

    def _entries(self, element: ET.Element) -> Iterator[tuple[Any, Any]]:
        for entry in element:
            if _tag(entry) != "En":
                raise ClixmlError(f"unknown element {_tag(entry)!r} in a dictionary")
            parts = {child.get("N", ""): child for child in entry}
            if "Key" not in parts or "Value" not in parts:
                raise ClixmlError("a dictionary entry without key or value")
            key = plain(self.value(parts["Key"]))
            try:
                hash(key)
            except TypeError:
                key = text(key)
            yield key, self.value(parts["Value"])

    def _type_names(self, children: list[tuple[str, ET.Element]]) -> tuple[str, ...]:
        for tag, child in children:
            if tag == "TN":
                found = tuple(unescape(name.text or "") for name in child)
                self.types[child.get("RefId", "")] = found
                return found
            if tag == "TNRef":
                return self.types.get(child.get("RefId", ""), ())
        return ()
