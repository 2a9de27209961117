# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CLIXML as Windows writes it: kernel.Obj and plain values out, recorded files in.

Element order inside ``<Obj>``: TN or TNRef, ToString, base value, Props, MS. RefIds and type references restart in every
message. The same list, dict or Obj a second time in a message is a ``<Ref>`` (recorded: ServicesDependedOn of a service).
"""

from __future__ import annotations

import base64
import datetime
import os
import re
import uuid
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from lxml import etree

from lab.kernel import I64, U32, LabRefusal, Obj

#: .NET type name -> element of a primitive that Python has no type for; the value is written as text.
PRIMITIVES = {
    "System.Version": "Version",
    "System.Uri": "URI",
    "System.Xml.XmlDocument": "XD",
    "System.TimeSpan": "TS",
    "System.Guid": "G",
    "System.DateTime": "DT",
    "System.Char": "C",
    "System.Byte": "By",
    "System.SByte": "SB",
    "System.Int16": "I16",
    "System.UInt16": "U16",
    "System.UInt64": "U64",
    "System.Single": "Sg",
    "System.Decimal": "D",
    "System.Management.Automation.ScriptBlock": "SBK",
}
_PRIMITIVE_TYPES = {tag: name for name, tag in PRIMITIVES.items()}
ARRAY = ("System.Object[]", "System.Array", "System.Object")
HASHTABLE = ("System.Collections.Hashtable", "System.Object")

_UNDERSCORE = re.compile("_(?=[xX])")
_CONTROL = re.compile("[\u0000-\u001f\u007f-\u009f\ud800-\udfff\U00010000-\U0010ffff]")
_ESCAPED = re.compile("_x([0-9A-Fa-f]{4})_")
_SYSTEM_ENUM = "System.Enum"


def encode_text(value: str) -> str:
    """Return the value with control characters and surrogates as ``_xHHHH_``."""

    def units(match: re.Match[str]) -> str:
        data = match.group(0).encode("utf-16-be", "surrogatepass")
        return "".join(f"_x{data[index]:02X}{data[index + 1]:02X}_" for index in range(0, len(data), 2))

    return _CONTROL.sub(units, _UNDERSCORE.sub("_x005F_", value))


def decode_text(value: str) -> str:
    """Undo encode_text."""
    plain = _ESCAPED.sub(lambda match: chr(int(match.group(1), 16)), value)
    return plain.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def date_text(value: datetime.datetime) -> str:
    """Return a DateTime in round-trip form: Z for UTC, an offset for other zones, nothing for an unspecified kind."""
    text = value.strftime("%Y-%m-%dT%H:%M:%S")
    if value.microsecond:
        text += f".{value.microsecond:06d}".rstrip("0")
    offset = value.utcoffset()
    if offset is None:
        return text
    if not offset:
        return text + "Z"
    minutes = int(offset.total_seconds() // 60)
    return f"{text}{'+' if minutes >= 0 else '-'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


def span_text(value: datetime.timedelta) -> str:
    """Return a TimeSpan as an xs:duration."""
    sign = "-" if value < datetime.timedelta() else ""
    value = abs(value)
    hours, rest = divmod(value.seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    fraction = f".{value.microseconds:06d}".rstrip("0") if value.microseconds else ""
    days = f"{value.days}D" if value.days else ""
    time = "".join(f"{number}{unit}" for number, unit in ((hours, "H"), (minutes, "M")) if number)
    if seconds or fraction or not (days or time):
        time += f"{seconds}{fraction}S"
    return f"{sign}P{days}{'T' + time if time else ''}"


class Writer:
    """Writes one message; keeps the references of that message."""

    def __init__(self) -> None:
        self._refs = 0
        self._seen: dict[int, int] = {}
        self._types: dict[tuple[str, ...], int] = {}
        self._kept: list[Any] = []

    def value(self, value: Any, name: str | None = None) -> str:
        """Return the element of any value, with an N attribute when it has a name."""
        simple = self._simple(value)
        if simple is not None:
            tag, text = simple
            label = f" N={quoteattr(encode_text(name))}" if name is not None else ""
            return f"<{tag}{label} />" if text is None else f"<{tag}{label}>{text}</{tag}>"
        if id(value) in self._seen:
            label = f"N={quoteattr(encode_text(name))} " if name is not None else ""
            return f'<Ref {label}RefId="{self._seen[id(value)]}" />'
        if isinstance(value, (list, tuple)):
            return self._start(value, name) + self._type_names(ARRAY) + self._list(value) + "</Obj>"
        if isinstance(value, dict):
            return self._start(value, name) + self._type_names(HASHTABLE) + self._dict(value) + "</Obj>"
        if isinstance(value, Obj):
            return self._object(value, name)
        raise LabRefusal(f"the lab cannot put a {type(value).__name__} on the wire: {value!r:.80}")

    @staticmethod
    def _simple(value: Any) -> tuple[str, str | None] | None:
        """Return tag and text of a primitive, or None; text None means an empty element."""
        if value is None:
            return "Nil", None
        if isinstance(value, bool):
            return "B", "true" if value else "false"
        if isinstance(value, str):
            return "S", escape(encode_text(value))
        if isinstance(value, int):
            if isinstance(value, I64):
                return "I64", str(int(value))
            if isinstance(value, U32):
                return "U32", str(int(value))
            return ("I32" if -(2**31) <= value < 2**31 else "I64"), str(int(value))
        if isinstance(value, float):
            return "Db", repr(value)
        if isinstance(value, bytes):
            return "BA", base64.b64encode(value).decode("ascii")
        if isinstance(value, datetime.datetime):
            return "DT", date_text(value)
        if isinstance(value, datetime.timedelta):
            return "TS", span_text(value)
        if isinstance(value, uuid.UUID):
            return "G", str(value)
        if isinstance(value, Obj) and value.types and value.types[0] in PRIMITIVES and isinstance(value.value, (str, int, float)):
            if value.props or value.notes:
                return None
            return PRIMITIVES[value.types[0]], escape(encode_text(str(value.value)))
        return None

    def _start(self, value: Any, name: str | None) -> str:
        number = self._refs
        self._refs += 1
        self._seen[id(value)] = number
        self._kept.append(value)
        label = f"N={quoteattr(encode_text(name))} " if name is not None else ""
        return f'<Obj {label}RefId="{number}">'

    def _type_names(self, types: tuple[str, ...]) -> str:
        if not types:
            return ""
        if types in self._types:
            return f'<TNRef RefId="{self._types[types]}" />'
        number = self._types[types] = len(self._types)
        return f'<TN RefId="{number}">' + "".join(f"<T>{escape(name)}</T>" for name in types) + "</TN>"

    def _list(self, value: list[Any] | tuple[Any, ...]) -> str:
        return "<LST>" + "".join(self.value(item) for item in value) + "</LST>" if value else "<LST />"

    def _dict(self, value: dict[Any, Any]) -> str:
        if not value:
            return "<DCT />"
        entries = (f"<En>{self.value(key, 'Key')}{self.value(item, 'Value')}</En>" for key, item in value.items())
        return "<DCT>" + "".join(entries) + "</DCT>"

    def _object(self, obj: Obj, name: str | None) -> str:
        parts = [self._start(obj, name)]
        base = obj.value
        wrapped = base is not None and not isinstance(base, (list, tuple, dict, Obj))
        known = bool(obj.types) and obj.types[0] in PRIMITIVES
        if not (wrapped and known):
            parts.append(self._type_names(obj.types))
        if obj.to_string is not None:
            parts.append(f"<ToString>{escape(encode_text(obj.to_string))}</ToString>")
        if isinstance(base, (list, tuple)):
            parts.append(self._list(base))
        elif isinstance(base, dict):
            parts.append(self._dict(base))
        elif wrapped and known:
            tag = PRIMITIVES[obj.types[0]]
            parts.append(f"<{tag}>{escape(encode_text(str(base)))}</{tag}>")
        elif base is not None:
            parts.append(self.value(base))
        for tag, members in (("Props", obj.props), ("MS", obj.notes)):
            if members:
                parts.append(f"<{tag}>" + "".join(self.value(item, key) for key, item in members.items()) + f"</{tag}>")
        parts.append("</Obj>")
        return "".join(parts)


def write(value: Any) -> bytes:
    """Return one value as the CLIXML of a message, without a byte order mark."""
    return Writer().value(value).encode("utf-8")


class Reader:
    """Reads one CLIXML document into Obj and plain values; ``strip`` removes the prefix of deserialised types."""

    def __init__(self, strip: bool = True) -> None:
        self._strip = strip
        self._objects: dict[str, Any] = {}
        self._types: dict[str, tuple[str, ...]] = {}

    def value(self, element: Any) -> Any:
        """Return the value of an element."""
        tag = etree.QName(element).localname
        text = decode_text(element.text or "")
        if tag == "Nil":
            return None
        if tag == "S":
            return text
        if tag == "B":
            return text == "true"
        if tag == "I32":
            return int(text)
        if tag == "I64":
            return I64(text)
        if tag == "U32":
            return U32(text)
        if tag in ("Db", "Sg"):
            return float(text) if tag == "Db" else Obj(types=("System.Single", "System.ValueType", "System.Object"), value=text)
        if tag == "BA":
            return base64.b64decode(text)
        if tag == "G":
            return uuid.UUID(text)
        if tag == "DT":
            return _date(text)
        if tag == "Ref":
            return self._objects[element.get("RefId")]
        if tag in _PRIMITIVE_TYPES:
            return Obj(types=(_PRIMITIVE_TYPES[tag], "System.Object"), value=text)
        if tag == "Obj":
            return self._object(element)
        raise LabRefusal(f"the lab does not read the CLIXML element {tag}")

    def _object(self, element: Any) -> Any:
        obj = Obj()
        if element.get("RefId") is not None:
            self._objects[element.get("RefId")] = obj
        for child in element:
            tag = etree.QName(child).localname
            if tag == "TN":
                names = tuple(decode_text(item.text or "") for item in child)
                if self._strip:
                    names = tuple(name.removeprefix("Deserialized.") for name in names)
                obj.types = self._types[child.get("RefId")] = names
            elif tag == "TNRef":
                obj.types = self._types[child.get("RefId")]
            elif tag == "ToString":
                obj.to_string = decode_text(child.text or "")
            elif tag in ("Props", "MS"):
                members = obj.props if tag == "Props" else obj.notes
                members.update({decode_text(item.get("N") or ""): self.value(item) for item in child})
            elif tag in ("LST", "IE", "STK", "QUE"):
                obj.value = [self.value(item) for item in child]
            elif tag == "DCT":
                obj.value = {self.value(entry[0]): self.value(entry[1]) for entry in child}
            else:
                base = self.value(child)
                if isinstance(base, Obj) and base.types and base.types[0] in PRIMITIVES and not obj.types:
                    obj.types, base = base.types, base.value
                obj.value = base
        return obj


def _date(text: str) -> datetime.datetime:
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)?", text)
    if not match:
        raise LabRefusal(f"{text!r} is not a CLIXML date")
    fraction = (match.group(2) or "")[:6].ljust(6, "0")
    zone = (match.group(3) or "").replace("Z", "+00:00")
    return datetime.datetime.fromisoformat(f"{match.group(1)}.{fraction}{zone}")


def load_clixml(path: str | os.PathLike[str]) -> list[Obj]:
    """Read a file of Export-Clixml (or captured messages below ``<Objs>``) for serving; primitives come wrapped in an Obj."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
    with open(path, "rb") as file:
        root = etree.fromstring(file.read(), parser)
    reader = Reader()
    children = list(root) if etree.QName(root).localname == "Objs" else [root]
    values = [reader.value(child) for child in children]
    return [value if isinstance(value, Obj) else Obj(value=value) for value in values]


def enum(type_name: str, name: str, number: int) -> Obj:
    """Return an enumeration value as it stands at the top level."""
    return Obj(types=(type_name, _SYSTEM_ENUM, "System.ValueType", "System.Object"), value=number, to_string=name)
