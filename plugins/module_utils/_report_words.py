# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of the report: the closed vocabulary of a cell and of a server at a glance, and what they are made from.

Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STATES = ("applied", "absent", "disabled", "conflicting", "unsupported", "unknown")
NEEDED = ("yes", "no", "unknown")

#: A cell of the matrix: key -> (word in the cell, what it means). Worst first.
CELLS: dict[str, tuple[str, str]] = {
    "missing": ("missing", "needed by this build, absent, not blocked"),
    "disabled": ("disabled", "the rule is there but switched off"),
    "conflicting": ("conflicting", "a rule of this name behaves differently"),
    "unknown": ("unknown", "could not be told; the reason stands with the server"),
    "blocked": ("blocked", "needed by this build, absent, on the blocked list"),
    "unsupported": ("unsupported", "published, but this collection has no such action"),
    "leftover": ("left over", "applied, and no longer needed by this build"),
    "applied": ("applied", "mitigation applied, fix not installed"),
    "kept": ("applied, fixed", "this build carries the fix, and Microsoft still asks for the mitigation"),
    "idle": ("not needed", "absent, and not needed by this build"),
}

#: A server at a glance: key -> words. Worst first.
BUCKETS: dict[str, str] = {
    "action": "needs action",
    "unknown": "unknown",
    "differs": "setting differs",
    "blocked": "needed but blocked",
    "cleanup": "cleanup due",
    "applied": "mitigation applied, fix not installed",
    "kept": "mitigation applied, fix installed",
    "idle": "no mitigation needed",
}

#: Which cells put a server into which bucket.
BUCKET_OF = {
    "missing": "action",
    "disabled": "action",
    "conflicting": "action",
    "unknown": "unknown",
    "unsupported": "unknown",
    "blocked": "blocked",
    "leftover": "cleanup",
    "applied": "applied",
    "kept": "kept",
    "idle": "idle",
}

#: Kinds of action in the words of Get-Mitigations.ps1 and the documentation.
TYPES = {"rewrite": "IIS URL Rewrite rule", "service": "Exchange service", "app_pool": "App Pool", "apppool": "App Pool", "none": "Do nothing"}


def number(build: Any) -> tuple[int, ...]:
    """Return a build as numbers, an empty tuple for anything that is none: unknown compares with nothing."""
    parts = str(build).split(".") if build else []
    return tuple(int(part) for part in parts) if parts and all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts) else ()


def has_fix(verdict: Mapping[str, Any], build: Any) -> bool:
    """Tell whether this build is known to carry the fix: Microsoft keeps M2 in force beyond it (FACTS.md 5)."""
    have, need = number(build), number(verdict.get("code_fix"))
    return bool(have) and bool(need) and have >= need


def cell_of(verdict: Mapping[str, Any], build: Any = None) -> str:
    """Return the key in CELLS for a verdict on a server of this build. Anything outside the closed vocabulary is unknown."""
    state, needed = verdict.get("state"), verdict.get("needed")
    if state in ("disabled", "conflicting", "unsupported"):
        return str(state)
    if state == "applied":
        return "leftover" if needed == "no" else "kept" if needed == "yes" and has_fix(verdict, build) else "applied"
    if state == "absent" and needed == "yes":
        return "blocked" if verdict.get("blocked") else "missing"
    if state == "absent" and needed == "no":
        return "idle"
    return "unknown"


def em_words(server: Mapping[str, Any]) -> str:
    """Return how EM is on a server, in the words of HealthChecker where they are known (FACTS.md 5)."""
    em = server["em"]
    if em["supported"] is False:
        return "none in this build"
    if em["state"]:
        return str(em["state"])
    if em["server_enabled"] is None:
        return "unknown"
    return f"switched {'on' if em['server_enabled'] else 'off'}, service unknown"


def count(number: int, noun: str = "server") -> str:
    """Return a number with its noun."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def natural(identifier: str) -> tuple[Any, ...]:
    """Return a key that sorts M2 before M10, M2.1 behind M2, and EX2 before EX10."""
    parts: list[Any] = []
    for part in identifier.replace("-", ".").split("."):
        head = part.rstrip("0123456789")
        digits = part[len(head):]
        parts.append((head.casefold(), int(digits[:9]) if digits.isascii() and digits.isdigit() else -1))
    return tuple(parts)
