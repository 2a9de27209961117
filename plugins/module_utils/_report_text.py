# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Foreign text made harmless: for HTML, for a spreadsheet cell, for a metric label.

What a server, a feed or a certificate says is shown, never obeyed: control and direction characters become visible
escapes, markup is escaped, a formula becomes text.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import html
import unicodedata
from typing import Any

#: Longest text shown of any single foreign value.
LIMIT = 600

#: What a spreadsheet takes for the beginning of a formula, full-width forms included (OWASP, CSV injection).
FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "|", "%")


def clean(value: Any, limit: int = LIMIT) -> str:
    """Return a value as one line of text: no control, direction or surrogate character survives, None is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return clean(", ".join(clean(item, limit) for item in value), limit)
    if isinstance(value, dict):
        return clean(", ".join(f"{clean(key, limit)}: {clean(item, limit)}" for key, item in value.items()), limit)
    text = str(value)
    if len(text) > limit:
        text = text[:limit] + "\u2026"
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    if character in "\t\r\n":
        return " "
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        return f"\\u{ord(character):04x}"
    return character


def markup(value: Any) -> str:
    """Return a value as HTML text, good inside an element and inside a quoted attribute."""
    return html.escape(clean(value), quote=True)


def cell(value: Any) -> str:
    """Return a value as a CSV field's text that no spreadsheet takes for a formula."""
    text = clean(value)
    return "'" + text if text.lstrip().startswith(FORMULA) else text


def label(value: Any) -> str:
    """Return a value as the text of a Prometheus label, without its quotes."""
    return clean(value).replace("\\", "\\\\").replace('"', '\\"')
