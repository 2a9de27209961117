# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When things happened: the feed, EM, its events, our own runs and the reports, as one list, oldest first.

Pure. Times that cannot be read are left out; nothing later than the report is believed.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from typing import Any

#: The lanes of the picture, in their order.
LANES: dict[str, str] = {"feed": "Feed", "em": "EM wrote", "event": "EM events", "run": "Our runs", "report": "Reports"}

#: How many servers an entry names.
NAMED = 5

_RUN = re.compile(r"^(\d{8}T\d{6})Z")


def moment(value: Any) -> datetime.datetime | None:
    """Return an ISO-8601 time, UTC; one without a zone is UTC; None for anything else."""
    try:
        found = datetime.datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        found = None
    if found is None:
        return None
    try:
        return found.replace(tzinfo=datetime.timezone.utc) if found.tzinfo is None else found.astimezone(datetime.timezone.utc)
    except (OverflowError, ValueError):
        return None


def timeline(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return entries ``{time, lane, meaning, text, servers}``; what happened on many servers in one hour is one entry."""
    entries: list[tuple[datetime.datetime, str, str, str, str | None]] = []

    def add(time: Any, lane: str, meaning: str, text: str, server: str | None = None) -> None:
        found = moment(time)
        if found is not None:
            entries.append((found, lane, meaning, text, server))

    feed, changes = report["feed"], report["changes"]
    if feed:
        news = f", new in it: {', '.join(map(str, feed['new']))}" if feed.get("new") else ""
        add(feed.get("signed_at"), "feed", "information", f"Feed {feed.get('version') or ''} signed{news}".replace("  ", " "))
    add(changes["since"], "report", "information", "The report before this one")
    add(report["generated_at"], "report", "information", "This report")
    for server in report["servers"]:
        add(server["em"]["applied_time"], "em", "success", "EM last wrote to its server object", server["name"])
        for event in server["events"]:
            meaning = event["meaning"] if event["meaning"] in ("success", "error") else "information"
            add(event["time"], "event", meaning, f"Event {event['id']} ({event['meaning'] or 'other'})", server["name"])
        for run in server["runs"]:
            found = _RUN.match(run)
            if found:
                time = f"{found[1][:4]}-{found[1][4:6]}-{found[1][6:11]}:{found[1][11:13]}:{found[1][13:15]}"
                add(time, "run", "information", f"Run {run} of this collection", server["name"])
    return _grouped(entries, moment(report["generated_at"]))


def _grouped(entries: Iterable[tuple[datetime.datetime, str, str, str, str | None]], end: datetime.datetime | None) -> list[dict[str, Any]]:
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for time, lane, meaning, text, server in sorted(entries, key=lambda entry: (entry[0], entry[3], entry[4] or "")):
        if end is not None and time > end:
            continue
        key = (time.strftime("%Y%m%d%H"), lane, meaning, text)
        group = groups.setdefault(key, {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ"), "lane": lane, "meaning": meaning, "text": text, "servers": [], "count": 0})
        group["count"] += 1
        if server is not None and server not in group["servers"]:
            group["servers"].append(server)
    return list(groups.values())


def names(servers: list[str]) -> str:
    """Return the names of a few servers, and how many more there are."""
    return ", ".join(servers[:NAMED]) + (f" and {len(servers) - NAMED} more" if len(servers) > NAMED else "")
