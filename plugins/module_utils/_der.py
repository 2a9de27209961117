# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A strict reader of DER, and of the little BER that Microsoft's timestamps need (indefinite and long lengths).

Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import datetime
import re

MAX_DEPTH = 24

BOOLEAN, INTEGER, OCTET_STRING, NULL, OBJECT_IDENTIFIER = 0x01, 0x02, 0x04, 0x05, 0x06
UTF8_STRING, GENERALIZED_TIME, SEQUENCE, SET = 0x0C, 0x18, 0x30, 0x31

_CONSTRUCTED = 0x20
_TIME = re.compile(r"(\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})(?:\.(\d{1,9}))?Z")


class DerError(ValueError):
    """The bytes are not the encoding that was expected."""


@dataclasses.dataclass(frozen=True)
class Value:
    """One value: identifier octet, content octets and the whole encoding. ``children`` is empty for a primitive."""

    tag: int
    content: bytes
    raw: bytes
    children: tuple[Value, ...] = ()

    def expect(self, tag: int) -> Value:
        """Return the value itself if it has the tag; raises DerError."""
        if self.tag != tag:
            raise DerError(f"tag {self.tag:#04x} where {tag:#04x} was expected")
        return self

    def oid(self) -> str:
        """Return an OBJECT IDENTIFIER in dotted form."""
        content = self.expect(OBJECT_IDENTIFIER).content
        if not content or content[-1] & 0x80:
            raise DerError("object identifier cut short")
        numbers: list[int] = []
        number = 0
        begin = True
        for octet in content:
            if begin and octet == 0x80:
                raise DerError("object identifier padded")
            number = number << 7 | octet & 0x7F
            begin = not octet & 0x80
            if begin:
                numbers.append(number)
                number = 0
        first = min(numbers[0] // 40, 2)
        return ".".join(map(str, [first, numbers[0] - 40 * first, *numbers[1:]]))

    def integer(self) -> int:
        """Return an INTEGER."""
        content = self.expect(INTEGER).content
        if not content or (len(content) > 1 and (content[0], content[1] >> 7) in ((0, 0), (0xFF, 1))):
            raise DerError("integer not minimal")
        return int.from_bytes(content, "big", signed=True)

    def octets(self) -> bytes:
        """Return the bytes of an OCTET STRING; a constructed one is joined from its parts."""
        if self.tag == OCTET_STRING | _CONSTRUCTED:
            return b"".join(child.octets() for child in self.children)
        return self.expect(OCTET_STRING).content

    def time(self) -> datetime.datetime:
        """Return a GeneralizedTime in UTC; finer than microseconds is cut off."""
        match = _TIME.fullmatch(self.expect(GENERALIZED_TIME).content.decode("ascii", "replace"))
        if match is None:
            raise DerError("time not in the form YYYYMMDDhhmmss[.f]Z")
        year, month, day, hour, minute, second = (int(match[i]) for i in range(1, 7))
        micro = int((match[7] or "0").ljust(6, "0")[:6])
        try:
            return datetime.datetime(year, month, day, hour, minute, second, micro, datetime.timezone.utc)
        except ValueError:
            raise DerError("no such time") from None


def decode(data: bytes, ber: bool = False) -> Value:
    """Return the one value that the bytes encode; raises DerError, also for bytes behind it.

    ``ber`` allows indefinite lengths, long lengths that are not minimal, and strings in parts.
    """
    value, end = _read(data, 0, len(data), ber, 0)
    if end != len(data):
        raise DerError(f"{len(data) - end} bytes behind the value")
    return value


def _read(data: bytes, start: int, stop: int, ber: bool, depth: int) -> tuple[Value, int]:
    """Return the value at ``start`` and the position behind it."""
    if depth > MAX_DEPTH:
        raise DerError(f"nested deeper than {MAX_DEPTH}")
    if start + 2 > stop:
        raise DerError("cut short")
    tag = data[start]
    if tag & 0x1F == 0x1F:
        raise DerError("tag number above 30")
    position = start + 2
    length = data[start + 1]
    if length == 0x80:
        if not ber or not tag & _CONSTRUCTED:
            raise DerError("indefinite length")
        return _read_indefinite(data, start, stop, depth)
    if length > 0x80:
        count = length & 0x7F
        if count > 4 or position + count > stop:
            raise DerError("length of length")
        length = int.from_bytes(data[position:position + count], "big")
        if not ber and (length < 0x80 or length >> 8 * (count - 1) == 0):
            raise DerError("length not minimal")
        position += count
    end = position + length
    if end > stop:
        raise DerError("cut short")
    children: list[Value] = []
    if tag & _CONSTRUCTED:
        inner = position
        while inner < end:
            child, inner = _read(data, inner, end, ber, depth + 1)
            children.append(child)
    return Value(tag, data[position:end], data[start:end], tuple(children)), end


def _read_indefinite(data: bytes, start: int, stop: int, depth: int) -> tuple[Value, int]:
    """Return the constructed value of indefinite length at ``start``, which two zero bytes end."""
    children: list[Value] = []
    position = start + 2
    while data[position:min(position + 2, stop)] != b"\0\0":
        child, position = _read(data, position, stop, True, depth + 1)
        children.append(child)
    end = position + 2
    return Value(data[start], data[start + 2:position], data[start:end], tuple(children)), end
