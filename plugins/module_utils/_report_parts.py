# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pieces of the page that several of its parts use: signs, chips, times, diff lines, tables that scroll.

Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._report_style import SIGNS
from ansible_collections.exchange.mitigation.plugins.module_utils._report_text import markup
from ansible_collections.exchange.mitigation.plugins.module_utils._report_timeline import moment
from ansible_collections.exchange.mitigation.plugins.module_utils._report_words import CELLS

MAKERS = {"em": "by EM", "eomt": "by EOMT", "us": "by this collection", "other": "by someone else"}
PRODUCTS = {"Exchange2016": "Exchange 2016", "Exchange2019": "Exchange 2019", "ExchangeSE": "Exchange SE"}


def when(value: Any) -> Any:
    """Return an ISO-8601 time as one reads it, to the minute; anything else as it is."""
    found = moment(value)
    return value if found is None else f"{found:%Y-%m-%d %H:%M} UTC"


def signs() -> str:
    """Return the signs, once, for all that use them."""
    symbols = "".join(f'<symbol id="i-{name}" viewBox="0 0 16 16"><path fill-rule="evenodd" d="{path}"/></symbol>' for name, path in SIGNS.items())
    return f'<svg class="sprite" width="0" height="0" aria-hidden="true">{symbols}</svg>\n'


def sign(name: str) -> str:
    """Return a sign; what it means stands beside it in words."""
    return f'<svg class="sign" aria-hidden="true"><use href="#i-{name}"/></svg>'


def chip(tone: str, words: str) -> str:
    """Return a word with its sign and colour."""
    return f'<span class="chip t-{tone}">{sign(tone)}{markup(words)}</span>'


def code(value: Any) -> str:
    """Return a value in the type of code, or unknown."""
    return f"<code>{markup(value)}</code>" if value not in (None, "", []) else "unknown"


def diff(lines: Iterable[Any]) -> str:
    """Return diff lines; what goes and what comes are told by their sign too, not by colour alone."""
    kinds = {"-": "del", "+": "ins"}
    out = []
    for line in map(str, lines):
        tag = kinds.get(line[:1], "span")
        out.append(f"<{tag}>{markup(line) or '&nbsp;'}</{tag}>")
    return f'<code class="diff">{"".join(out)}</code>' if out else ""


def scroll(label: str, table: str, kind: str = "") -> str:
    """Return a table in a box that scrolls, also by keyboard."""
    return f'<div class="scroll{" " + kind if kind else ""}" tabindex="0" role="region" aria-label="{markup(label)}">{table}</div>'


def cell(verdict: Mapping[str, Any]) -> str:
    """Return what the matrix shows of a verdict."""
    key = verdict["cell"]
    notes = []
    if verdict["state"] in ("applied", "disabled", "conflicting") and verdict["maker"]:
        notes.append(MAKERS.get(str(verdict["maker"]), str(verdict["maker"])))
    if verdict["needed"] == "unknown" and key not in ("unknown", "unsupported"):
        notes.append("need unknown")
    if verdict["blocked"] and key != "blocked":
        notes.append("blocked")
    small = f"<small>{markup('; '.join(notes))}</small>" if notes else ""
    damage = f'<small class="harm">{sign("missing")} breaks {markup(verdict["breaks"])}</small>' if verdict["breaks"] else ""
    return chip(key, CELLS[key][0]) + small + damage
