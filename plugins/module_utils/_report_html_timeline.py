# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The timeline of the page: a picture with a lane per kind, the recent past wide and the far past narrow, and the same as a list.

Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._report_parts import sign, when
from ansible_collections.exchange.mitigation.plugins.module_utils._report_text import markup
from ansible_collections.exchange.mitigation.plugins.module_utils._report_timeline import LANES, moment, names

#: Entries that the list shows at once; older ones stand behind a click.
SHOWN = 8
LANE = 30
TONES = {"success": "applied", "error": "missing", "information": "differs"}
_TICKS = ((1, "1 h"), (24, "1 day"), (168, "1 week"), (730, "1 month"), (4380, "6 months"), (8760, "1 year"), (43800, "5 years"))
_MARKS = {"missing": "M0-7 7 5H-7z", "differs": "M0-6 6 0 0 6-6 0z"}


def timeline(report: Mapping[str, Any]) -> str:
    """Return the section."""
    entries = report["timeline"]
    end = moment(report["generated_at"])
    if end is None or not entries:
        return ""
    ages = [max(0.0, (end - (moment(entry["time"]) or end)).total_seconds() / 3600) for entry in entries]
    oldest = max(*ages, 24.0)
    lanes = [lane for lane in LANES if any(entry["lane"] == lane for entry in entries)]
    height = LANE * len(lanes)
    drawn = [f'<line class="lane" x1="0" x2="100%" y1="{LANE * row + 15}" y2="{LANE * row + 15}"/>' for row in range(len(lanes))]
    last = _at(0, oldest)
    drawn.append(f'<text class="tick end" x="{last + 1:.2f}%" y="{height + 16}">now</text>')
    for hours, words in _TICKS:
        at = _at(hours, oldest)
        if hours < oldest and last - at > 10 and at > 4:
            drawn.append(f'<line class="grid" x1="{at:.2f}%" x2="{at:.2f}%" y1="0" y2="{height}"/>')
            drawn.append(f'<text class="tick" x="{at:.2f}%" y="{height + 16}">{words}</text>')
            last = at
    for entry, age in zip(entries, ages):
        drawn.append(_mark(entry, _at(age, oldest), LANE * lanes.index(entry["lane"]) + 15))
    labels = "".join(f"<span>{words}</span>" for lane, words in LANES.items() if lane in lanes)
    said = f"Times of {len(entries)} entries in {len(lanes)} lanes; the same entries stand in the list below."
    picture = (
        f'<div class="time"><div class="lanes" aria-hidden="true">{labels}</div>'
        f'<svg class="plot" width="100%" height="{height + 22}" role="img" aria-label="{said}">{"".join(drawn)}</svg></div>'
    )
    rows = [_row(entry) for entry in reversed(entries)]
    older = f'<details class="older"><summary>{len(rows) - SHOWN} older</summary><ol class="log">{"".join(rows[SHOWN:])}</ol></details>' if rows[SHOWN:] else ""
    return f'<section aria-labelledby="h-time"><h2 id="h-time">Timeline</h2>{picture}<ol class="log">{"".join(rows[:SHOWN])}</ol>{older}</section>\n'


def _at(age: float, oldest: float) -> float:
    """Return where an age (hours) stands, in percent from the left: logarithmic, so that today does not vanish beside last year."""
    return 2 + 96 * (1 - math.log1p(age) / math.log1p(oldest))


def _mark(entry: Mapping[str, Any], at: float, height: int) -> str:
    tone = TONES[entry["meaning"]]
    title = f"<title>{markup(when(entry['time']))}: {markup(entry['text'])}</title>"
    if tone in _MARKS:
        return f'<svg class="t-{tone}" x="{at:.2f}%" y="{height}" overflow="visible"><path class="mark" d="{_MARKS[tone]}"/>{title}</svg>'
    radius = 5 + min(6.0, math.log2(max(1, entry["count"])))
    return f'<circle class="mark t-{tone}" cx="{at:.2f}%" cy="{height}" r="{radius:.1f}">{title}</circle>'


def _row(entry: Mapping[str, Any]) -> str:
    tone = TONES[entry["meaning"]]
    where = f" <small>{markup(names(entry['servers']))}</small>" if entry["servers"] else ""
    number = f" <small>{entry['count']} times</small>" if entry["count"] > max(1, len(entry["servers"])) else ""
    return f'<li class="t-{tone}"><time>{markup(when(entry["time"]))}</time>{sign(tone)}<span>{markup(entry["text"])}{where}{number}</span></li>'
