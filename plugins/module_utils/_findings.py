# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an administrator should know of a server, as codes with a sentence each. Pure: facts in, findings out.

Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Any

#: EM looks for mitigations every hour (FACTS.md 5). It writes at each success, so a day without one is no chance.
SILENT_HOURS = 24

Facts = Mapping[str, Any]


def hours_since(moment: Any, now: datetime.datetime) -> int | None:
    """Return the full hours since a time in ISO 8601, None without one; never below 0, clocks differ."""
    if not moment:
        return None
    try:
        then = datetime.datetime.fromisoformat(str(moment).replace("Z", "+00:00"))
    except ValueError:
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=datetime.timezone.utc)
    return max(0, int((now - then).total_seconds() // 3600))


def _silent(facts: Facts) -> bool:
    hours = facts["em"]["last_success_hours"]
    return facts["em"]["state"] == "Enabled" and hours is not None and hours >= SILENT_HOURS


def _missing(facts: Facts) -> list[str]:
    return [entry["id"] for entry in facts["mitigations"] if entry["needed"] == "yes" and entry["state"] not in ("applied", "unknown")]


def _unreached(facts: Facts) -> bool:
    return facts["reachability"] is not None and facts["reachability"]["state"] == "unreachable"


#: Code, when it holds, and what it says (with the facts at hand).
_TABLE: tuple[tuple[str, Callable[[Facts], bool], Callable[[Facts], str]], ...] = (
    (
        "mitigation_missing",
        lambda facts: bool(_missing(facts)),
        lambda facts: f"This build needs {', '.join(_missing(facts))} and does not have it in force.",
    ),
    (
        "em_unavailable",
        lambda facts: not facts["em"]["supported"],
        lambda facts: "This build has no Emergency Mitigation service: it came with Exchange 2016 CU22, 2019 CU11 and SE.",
    ),
    (
        "em_disabled",
        lambda facts: facts["em"]["supported"] and facts["em"]["state"].startswith("Disabled"),
        lambda facts: f"Emergency Mitigation is off: {facts['em']['state']}.",
    ),
    (
        "em_service_not_running",
        lambda facts: facts["em"]["supported"] and (facts["em"]["service"] or {}).get("state") != "Running",
        lambda facts: "The service MSExchangeMitigation does not run, so nothing is applied by itself.",
    ),
    (
        "em_silent",
        _silent,
        lambda facts: f"Emergency Mitigation last reported success {facts['em']['last_success_hours']} hours ago, though it works every hour.",
    ),
    (
        "em_cannot_read_newer_feeds",
        lambda facts: facts["em"]["supported"] and facts["em"]["can_read_newer_feeds"] is False,
        lambda facts: (
            "Emergency Mitigation of this build cannot use files released from July 2026 on; the update of June 2026 brings that. "
            "This collection can apply mitigations all the same."
        ),
    ),
    (
        "url_rewrite_missing",
        lambda facts: not facts["url_rewrite"]["installed"],
        lambda facts: "URL Rewrite is not installed completely, so no rewrite rule can be in force.",
    ),
    (
        "ucrt_missing",
        lambda facts: facts["ucrt"]["update_needed"] is True and facts["ucrt"]["installed"] is False,
        lambda facts: "This Windows lacks the Universal C Runtime (KB2999226), which URL Rewrite 2.1 needs.",
    ),
    (
        "reboot_pending",
        lambda facts: bool(facts["pending_reboot"]),
        lambda facts: f"Windows waits for a restart ({', '.join(facts['pending_reboot'])}); Exchange setup and Windows Installer may refuse until then.",
    ),
    (
        "proxies_differ",
        lambda facts: facts["proxies"]["agree"] is False,
        lambda facts: (
            "InternetWebProxy and the proxy of WinHTTP are not the same: Emergency Mitigation uses the first, Windows the second."
        ),
    ),
    (
        "feed_unreachable",
        _unreached,
        lambda facts: f"{facts['reachability']['url']} cannot be reached from this server.",
    ),
)

CODES = tuple(code for code, dummy_holds, dummy_says in _TABLE)


def findings(facts: Facts) -> list[dict[str, str]]:
    """Return code and text of everything that holds for the facts of a server (``server_info``'s shape), in the table's order."""
    return [{"code": code, "text": says(facts)} for code, holds, says in _TABLE if holds(facts)]
