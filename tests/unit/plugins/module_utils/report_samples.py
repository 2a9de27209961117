# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Results as the modules return them, for the tests of the report: a small fleet, and one of any size."""

from __future__ import annotations

from typing import Any

OWA = r"C:\Program Files\Microsoft\Exchange Server\V15\FrontEnd\HttpProxy\owa\web.config"
ROOT = r"C:\inetpub\wwwroot\web.config"

FEED: dict[str, Any] = {
    "feed": {"path": "/state/feed.xml", "sha256": "9c2e7f41" * 8, "domain": "microsoft"},
    "version": "1.0.61",
    "signed_at": "2026-05-19T08:12:44+00:00",
    "time_basis": "timestamp",
    "signer": {"common_name": "Exchange OCS Signing"},
    "custom_roots": False,
    "mitigations": [
        {"id": "PING1", "description": "EEMS Heartbeat probe.", "actions": [{"type": "DoNothing", "scope": "Server"}], "supported": True, "kind": "none"},
        {"id": "M1.1", "description": "PowerShell over Autodiscover", "actions": [], "supported": True, "kind": "rewrite"},
        {"id": "M2.1.0", "description": "OWA content security policy", "actions": [], "supported": True, "kind": "rewrite"},
    ],
    "new": ["M2.1.0"],
    "withdrawn": [],
}


def verdict(identifier: str, state: str, needed: str, **other: Any) -> dict[str, Any]:
    """Return a verdict as server_info gives it."""
    first = identifier.startswith("M1")
    base: dict[str, Any] = {
        "id": identifier,
        "cve": "CVE-2022-41040" if first else "CVE-2026-42897",
        "kind": "rewrite",
        "state": state,
        "needed": needed,
        "blocked": False,
        "blocked_ids": [],
        "maker": None,
        "breaks": [],
        "block_can_be_lifted": False,
        "reason": None,
        "evidence": [],
        "duplicates": [],
        "highest_applicable": "15.2.986.30" if first else "15.2.1748.46",
        "code_fix": "15.2.986.36" if first else "15.2.1748.48",
        "side_effects": [] if first else ["OWA: printing a calendar fails", "OWA: inline images may be missing in the reading pane"],
    }
    if state in ("applied", "disabled", "conflicting"):
        base["maker"] = "em"
        base["evidence"] = [{"file": ROOT if first else OWA, "line": 42, "rule": f"EEMS {identifier} rule", "location": None if first else "."}]
    return {**base, **other}


def result(host: str, product: str, build: str, *verdicts: dict[str, Any], **other: Any) -> dict[str, Any]:
    """Return what the report role hands over for one reachable host."""
    server: dict[str, Any] = {
        "name": host.upper(),
        "fqdn": f"{host}.example.test",
        "product": product,
        "build": build,
        "os": {"caption": "Microsoft Windows Server 2022 Standard", "version": "10.0.20348", "language": "en-US"},
        "em": {
            "supported": True,
            "state": "Enabled",
            "organization_enabled": True,
            "server_enabled": True,
            "service": {"status": "Running", "start_type": "Automatic"},
            "applied": ["PING1"],
            "applied_time": "2026-06-10T12:08:37+00:00",
            "blocked": [],
            "can_read_newer_feeds": True,
        },
        "url_rewrite": {"installed": True, "version": "7.2.1993", "module_loaded": True, "section_declared": True},
        "mitigations": list(verdicts),
    }
    desired = {"organization_enabled": True, "server_enabled": True, "blocked": {}, "mitigations": ["all"]}
    return {"host": host, "server": {**server, **other}, "unreachable": False, "desired": desired}


def unreachable(host: str, message: str = "ntlm: HTTPSConnectionPool: connection refused") -> dict[str, Any]:
    """Return what the report role hands over for a host that did not answer."""
    return {"host": host, "server": None, "unreachable": True, "msg": message, "desired": {"mitigations": ["all"]}}


def fleet() -> list[dict[str, Any]]:
    """Return six servers, one for each thing a server can look like."""
    results = [
        result("ex1", "Exchange2016", "15.1.2507.6", verdict("M1", "absent", "yes"), verdict("M2", "applied", "yes", breaks=["/owa/Calendar"])),
        result("ex2", "Exchange2019", "15.2.1544.41", verdict("M1", "absent", "no"), verdict("M2", "applied", "yes", maker="us")),
        result("ex3", "ExchangeSE", "15.2.2562.43", verdict("M1", "absent", "no"), verdict("M2", "absent", "yes", blocked=True, blocked_ids=["M2.1.0"])),
        result("ex4", "ExchangeSE", "15.2.2562.53", verdict("M1", "absent", "no"), verdict("M2", "applied", "no", maker="eomt")),
        result("ex5", "ExchangeSE", "15.2.2562.53", verdict("M1", "absent", "no"), verdict("M2", "absent", "no")),
        unreachable("ex6"),
    ]
    results[1]["server"]["em"]["server_enabled"] = False
    results[1]["server"]["em"]["state"] = "Disabled on server level"
    return results


def organization(results: list[dict[str, Any]], enabled: bool = True) -> dict[str, Any]:
    """Return the organisation that owns these servers."""
    servers = []
    for item in results:
        seen = item["server"] or {}
        em = seen.get("em", {})
        servers.append(
            {
                "name": item["host"].upper(),
                "fqdn": f"{item['host']}.example.test",
                "build": seen.get("build", "15.2.2562.41"),
                "product": seen.get("product", "ExchangeSE"),
                "mitigations_enabled": em.get("server_enabled", True),
                "mitigations_blocked": em.get("blocked", []),
                "mitigations_applied": em.get("applied", []),
                "mitigations_applied_time": None,
                "em_supported": True,
            }
        )
    return {"name": "Example Organisation", "mitigations_enabled": enabled, "servers": servers}


def large(number: int, width: int = 2) -> list[dict[str, Any]]:
    """Return a fleet of ``number`` servers with ``width`` mitigations each, every state among them."""
    shapes = [("applied", "yes"), ("absent", "no"), ("applied", "yes"), ("absent", "yes"), ("applied", "no"), ("absent", "no"), ("unknown", "unknown")]
    results = []
    for index in range(number):
        if index % 29 == 28:
            results.append(unreachable(f"mbx{index:03}"))
            continue
        cells = [verdict(f"M{column + 1}", *shapes[(index * 5 + column * column) % (7 if index % 11 == 0 else 3)]) for column in range(width)]
        results.append(result(f"mbx{index:03}", ("Exchange2016", "Exchange2019", "ExchangeSE")[index % 3], "15.2.2562.43", *cells))
    return results
