# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as CSV: a row per server and mitigation, the columns of Get-Mitigations.ps1 first (FACTS.md 7), then ours.

Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._report_text import cell
from ansible_collections.exchange.mitigation.plugins.module_utils._report_words import TYPES

COLUMNS = (
    "Server", "ID", "Type", "Description", "Status",
    "Host", "Product", "Build", "CVE", "State", "Needed", "Blocked", "BlockedIds", "Maker", "Rule", "File", "Line", "Location", "Breaks",
    "HighestApplicable", "CodeFix", "Contact", "EMState", "EMService", "EMApplied", "EMAppliedTime", "EMBlocked", "URLRewrite", "Drift", "Reason",
    "FeedSha256", "FeedSignedAt", "ObservedAt", "GeneratedAt", "Bucket", "SideEffects", "LiftableBlocks", "Next",
)


def to_csv(report: Mapping[str, Any]) -> str:
    """Return the report as CSV (RFC 4180, every field quoted, UTF-8 without BOM); formulas are neutralised."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in rows(report):
        writer.writerow([cell(row.get(column)) for column in COLUMNS])
    return out.getvalue()


def rows(report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a dict per row; a server without any mitigation has one row without an ID."""
    descriptions = {column["id"]: column.get("description") for column in report["mitigations"]}
    for server in report["servers"]:
        common = _server(report, server)
        if not server["mitigations"]:
            yield {**common, "Status": "Unknown" if server["contact"] != "ok" else "", "Reason": server["reason"]}
        for verdict in server["mitigations"]:
            first = verdict["evidence"][0] if verdict["evidence"] else {}
            yield {
                **common,
                "ID": verdict["id"],
                "Type": TYPES.get(str(verdict["kind"]), verdict["kind"]),
                "Description": descriptions.get(verdict["id"]) or verdict["cve"],
                "Status": status(verdict),
                "CVE": verdict["cve"],
                "State": verdict["state"],
                "Needed": verdict["needed"],
                "Blocked": "unknown" if verdict["blocked"] is None else verdict["blocked"],
                "BlockedIds": verdict["blocked_ids"],
                "Maker": verdict["maker"],
                "Rule": first.get("rule"),
                "File": first.get("file"),
                "Line": first.get("line"),
                "Location": first.get("location"),
                "Breaks": verdict["breaks"],
                "HighestApplicable": verdict["highest_applicable"],
                "CodeFix": verdict["code_fix"],
                "SideEffects": verdict["side_effects"],
                "Drift": next((item["kind"] for item in server["drift"] if item.get("setting") == verdict["id"]), None),
                "Reason": verdict["reason"] or server["reason"],
            }


def status(verdict: Mapping[str, Any]) -> str:
    """Return the word of Get-Mitigations.ps1 where it has one (Applied, Blocked), else the state."""
    if verdict["state"] == "absent" and verdict["blocked"]:
        return "Blocked"
    return str(verdict["state"]).capitalize()


def _server(report: Mapping[str, Any], server: Mapping[str, Any]) -> dict[str, Any]:
    em, rewrite, feed = server["em"], server["url_rewrite"], report["feed"]
    installed = rewrite.get("installed")
    return {
        "Server": server["name"],
        "Host": server["host"],
        "Product": server["product"],
        "Build": server["build"],
        "Contact": server["contact"],
        "EMState": em["state"],
        "EMService": em["service"],
        "EMApplied": em["applied"],
        "EMAppliedTime": em["applied_time"],
        "EMBlocked": em["blocked"],
        "URLRewrite": (rewrite.get("version") or "yes") if installed else "no" if installed is False else "unknown",
        "FeedSha256": feed.get("sha256"),
        "FeedSignedAt": feed.get("signed_at"),
        "ObservedAt": server["observed_at"],
        "GeneratedAt": report["generated_at"],
        "Bucket": server["bucket"],
        "LiftableBlocks": server["our_blocks"],
        "Next": server["next"],
    }
