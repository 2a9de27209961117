# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server said, made fit for a result: plain values, and no character that a terminal obeys.

Ansible prints warnings, diffs and, since ansible-core 2.19, error messages as they are, so an escape sequence in the name of a rule
would reach the administrator's terminal. Such characters are shown as ``\\u001b``, as the report does; everything else stays.
Pure. Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import PSObject, plain, text

#: Control characters but tab and line breaks, a carriage return alone, what turns the direction of text, separators, halves of pairs.
_OBEYED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]|\r(?!\n)")
#: Levels of a result; nothing that this collection returns is nested nearly as deeply.
MAX_DEPTH = 60


def harmless(value: Any) -> Any:
    """Return a value of plain types in which nothing is obeyed by a terminal or a program that reads JSON."""
    return _harmless(value, 0)


def shown(value: str) -> str:
    """Return text with every character visible that a terminal would obey."""
    return _OBEYED.sub(lambda match: f"\\u{ord(match.group()):04x}", value)


def word(value: Any) -> str | None:
    """Return what is text, number or truth as text, or what an object shows itself as; None for null, lists and the like.

    For the members of a server's answer: whatever it sends in place of a name does not get further than this.
    """
    found = plain(value) if not isinstance(value, PSObject) or value.to_string is None else value.to_string
    return text(found) if isinstance(found, (str, int, float)) else None


def number(value: Any) -> int | None:
    """Return a whole number, None for anything else; True is none."""
    found = plain(value)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def truth(value: Any) -> bool | None:
    """Return True or False, None for anything else."""
    found = plain(value)
    return found if isinstance(found, bool) else None


def _harmless(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return shown(value) if _OBEYED.search(value) else value
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else str(value)  # JSON has neither infinity nor NaN
    if depth >= MAX_DEPTH:
        return "..."
    if isinstance(value, Mapping):
        return {(key if key is None or isinstance(key, int) else shown(str(key))): _harmless(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_harmless(item, depth + 1) for item in value]
    if isinstance(value, PSObject):
        return _harmless(word(value), depth + 1)
    return shown(str(value))
