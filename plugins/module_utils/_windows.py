# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Maintenance windows: whether a moment lies in one, and a sentence that says so.

A window is true or false, or a mapping with ``from`` and ``to`` (24-hour times, ``to`` not included; a window that ends before it begins
goes over midnight and belongs to the day on which it begins), ``days`` (mon to sun; without: every day) and ``timezone`` (a name such as
Europe/Berlin; without: the controller's). Several in a list: any of them. None: always.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import datetime
import re
import zoneinfo
from collections.abc import Mapping
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)|24:00")


def closed(window: Any, now: datetime.datetime) -> str:
    """Return why nothing may be done at this moment (aware), empty where it may. Raises InvalidInput for what is no window."""
    if window is None or window == "" or window == [] or window is True:
        return ""
    if window is False:
        return "the maintenance window is closed"
    if isinstance(window, str) and window.lower() in ("true", "yes", "open", "false", "no", "closed"):
        return closed(window.lower() in ("true", "yes", "open"), now)
    windows = window if isinstance(window, list) else [window]
    reasons = [_closed(one, now) for one in windows]
    return "" if "" in reasons else f"it is outside the maintenance window ({' or '.join(dict.fromkeys(reasons))})"


def _closed(window: Any, now: datetime.datetime) -> str:
    if isinstance(window, bool):
        return "" if window else "closed"
    if not isinstance(window, Mapping):
        raise InvalidInput(f"A maintenance window is true, false, or a mapping with from, to, days and timezone, not {window!r}.", "invalid_window")
    unknown = sorted(set(map(str, window)) - {"from", "to", "days", "timezone"})
    if unknown:
        raise InvalidInput(f"A maintenance window has from, to, days and timezone; {', '.join(unknown)} is none of them.", "invalid_window")
    begin, end = _minutes(window.get("from", "00:00")), _minutes(window.get("to", "24:00"))
    days = _days(window.get("days"))
    zone = window.get("timezone")
    local = now.astimezone(_zone(str(zone)) if zone else None)
    minute, today = local.hour * 60 + local.minute, local.weekday()
    over_midnight = (minute >= begin and today in days) or (minute < end and (today - 1) % 7 in days)
    if (begin <= minute < end and today in days) if begin < end else over_midnight:
        return ""
    named = "" if len(days) == 7 else ", ".join(DAYS[day] for day in sorted(days)) + " "
    return f"{named}{_shown(begin)} to {_shown(end)} {zone or local.tzname() or 'local time'}"


def _minutes(text: Any) -> int:
    """Return minutes since midnight. YAML reads an unquoted 22:00 as the number 1320, which is the same."""
    if isinstance(text, int) and not isinstance(text, bool) and 0 <= text <= 1440:
        return text
    match = _TIME.fullmatch(str(text))
    if not match:
        raise InvalidInput(f"A maintenance window begins and ends at times such as \"22:00\", not at {text!r}.", "invalid_window")
    return 1440 if match[1] is None else int(match[1]) * 60 + int(match[2])


def _shown(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _days(value: Any) -> set[int]:
    if value is None or value == []:
        return set(range(7))
    names = [str(name).strip().lower()[:3] for name in (value if isinstance(value, list) else str(value).split(","))]
    for name in names:
        if name not in DAYS:
            raise InvalidInput(f"A day of a maintenance window is one of {', '.join(DAYS)}, not {name!r}.", "invalid_window")
    return {DAYS.index(name) for name in names}


def _zone(name: str) -> datetime.tzinfo:
    if name.upper() == "UTC":
        return datetime.timezone.utc
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise InvalidInput(f"The controller does not know the time zone {name!r}.", "invalid_window") from exc
