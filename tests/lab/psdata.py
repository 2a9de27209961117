# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads PowerShell data files (.psrc, .pssc, .psd1): hashtables, lists, texts in single quotes, numbers, $true and $false; nothing else."""

from __future__ import annotations

import re
from typing import Any

from .kernel import LabRefusal

_TOKEN = re.compile(r"\s+|#[^\n]*|(?P<text>'(?:[^']|'')*')|(?P<open>@[({])|(?P<mark>[})=,;])|(?P<word>\$?[A-Za-z][A-Za-z0-9]*|\d+)")


class _Reader:
    """One pass over the tokens; a line break ends an entry of a hashtable, and lists go on behind a comma."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        place = 0
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                raise LabRefusal(f"not PowerShell data at line {text.count(chr(10), 0, place) + 1}: {text[place : place + 30]!r}")
            if match.lastgroup:
                self.tokens.append(match.group())
            place = match.end()

    def take(self, expected: str = "") -> str:
        """Return the next token."""
        token = self.tokens.pop(0) if self.tokens else ""
        if not token or (expected and token != expected):
            raise LabRefusal(f"PowerShell data: {expected or 'more'} was expected, not {token!r}")
        return token

    def next(self, *wanted: str) -> bool:
        """Tell whether the next token is one of these."""
        return bool(self.tokens) and self.tokens[0] in wanted

    def value(self) -> Any:
        """Read a value; several with commas between them are a list."""
        first = self.one()
        if not self.next(","):
            return first
        found = [first]
        while self.next(","):
            self.take()
            found.append(self.one())
        return found

    def one(self) -> Any:
        """Read a value up to a comma."""
        token = self.take()
        if token.startswith("'"):
            return token[1:-1].replace("''", "'")
        if token == "@{":
            return self.table()
        if token == "@(":
            inner = [] if self.next(")") else self.value()
            self.take(")")
            return inner if isinstance(inner, list) else [inner]
        if token.lower() in ("$true", "$false"):
            return token.lower() == "$true"
        if token.isdigit():
            return int(token)
        raise LabRefusal(f"PowerShell data: {token!r} is no value")

    def table(self) -> dict[str, Any]:
        """Read the entries of a hashtable, without its beginning."""
        found: dict[str, Any] = {}
        while not self.next("}"):
            key = self.take()
            key = key[1:-1].replace("''", "'") if key.startswith("'") else key
            if key.lower() in (known.lower() for known in found):
                raise LabRefusal(f"PowerShell data: the key {key} stands twice")
            self.take("=")
            found[key] = self.value()
            while self.next(";"):
                self.take()
        self.take("}")
        return found


def read(text: str) -> dict[str, Any]:
    """Return the hashtable that a data file holds."""
    reader = _Reader(text)
    reader.take("@{")
    found = reader.table()
    if reader.tokens:
        raise LabRefusal(f"PowerShell data: {reader.tokens[0]!r} behind the end")
    return found
