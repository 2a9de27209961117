# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as a value: what every renderer shows, made once from the results of a run.

Pure: results, the organisation, the feed, the differences and a time go in, plain values come out. HTML, CSV, JSON and
metrics are made from the same value, so that they cannot contradict each other. Nothing here is ever called protected or
safe: an applied mitigation reads "mitigation applied, fix not installed", and what is not known reads unknown.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._drift import as_dict, as_list, covers, server_of
from ansible_collections.exchange.mitigation.plugins.module_utils._report_text import clean

#: Version of the shape that ``build`` returns and ``report.json`` holds.
SCHEMA = 1

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
_BUCKET_OF = {
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


def build(
    results: Iterable[Mapping[str, Any]],
    organization: Mapping[str, Any] | None = None,
    feed: Mapping[str, Any] | None = None,
    drift: Mapping[str, Any] | None = None,
    generated_at: str = "",
    run_id: str | None = None,
    hosts: Iterable[Any] = (),
) -> dict[str, Any]:
    """Return the report.

    ``results``: per host ``{host, server, unreachable, reason, msg}``, ``server`` as ``server_info`` returned it or None.
    ``organization``: as ``organization_info``; ``feed``: the whole result of the ``feed`` module; ``drift``: as ``_drift.drift``.
    ``generated_at``: ISO-8601, UTC. ``hosts``: every host of the run; one without a result is part of the report too.
    """
    known, published, differences = as_dict(organization), as_dict(feed), as_dict(drift)
    seen = [as_dict(result) for result in results]
    missing = [str(host) for host in hosts if str(host) not in {str(result.get("host")) for result in seen}]
    seen += [{"host": host, "reason": "not_observed", "msg": "The run stopped for this host before it was observed."} for host in missing]
    columns = _columns(seen, published)
    servers = [_server(host, known, columns, differences) for host in seen]
    report = {
        "schema": SCHEMA,
        "generated_at": generated_at,
        "run_id": run_id or None,
        "organization": {"name": known.get("name"), "mitigations_enabled": known.get("mitigations_enabled")},
        "feed": _feed(published),
        "mitigations": [_column(column, servers) for column in columns],
        "servers": servers,
        "drift": {
            "count": len(as_list(differences.get("items"))),
            "items": as_list(differences.get("items")),
            "unknown": as_list(differences.get("unknown")),
        },
        "summary": {
            "servers": len(servers),
            "unreachable": sum(1 for server in servers if server["contact"] == "unreachable"),
            "buckets": {key: sum(1 for server in servers if server["bucket"] == key) for key in BUCKETS},
        },
    }
    report["headline"] = headline(report)
    report["lines"] = lines(report)
    return report


def headline(report: Mapping[str, Any]) -> str:
    """Return the one sentence that says how the fleet is; what is unknown is said before anything reassuring."""
    summary = report["summary"]
    total, counts = summary["servers"], summary["buckets"]
    if not total:
        return "No server in this run"
    parts = []
    if counts["action"]:
        parts.append(f"{counts['action']} of {count(total)} {'needs' if counts['action'] == 1 else 'need'} action")
    if counts["unknown"]:
        parts.append(f"{counts['unknown']} unknown" if parts else f"{counts['unknown']} of {count(total)} unknown")
    if parts:
        return ", ".join(parts)
    if report["drift"]["count"]:
        return f"{count(report['drift']['count'], 'difference')} on {count(total)}"
    if counts["blocked"]:
        return f"{counts['blocked']} of {count(total)} without a needed mitigation, by decision"
    return f"{count(total)}, nothing differs from what is wanted"


def lines(report: Mapping[str, Any]) -> list[str]:
    """Return the report in a few lines for the console: the headline, a line per server, a line per difference (40 at most)."""
    said = [clean(report["headline"])]
    for server in report["servers"][:40]:
        cells = ", ".join(f"{verdict['id']} {CELLS[verdict['cell']][0]}" for verdict in server["mitigations"])
        about = clean(server["reason"], 160) if server["contact"] != "ok" else f"{cells or 'no mitigation'}; EM {em_words(server)}"
        said.append(clean(f"{server['name']} ({server['build'] or 'build unknown'}): {about}"))
    said += [clean(f"differs: {as_dict(item).get('server') or 'organisation'}: {as_dict(item).get('text')}") for item in report["drift"]["items"][:40]]
    more = max(0, len(report["servers"]) - 40) + max(0, report["drift"]["count"] - 40)
    return [*said, f"... and {more} more, see the report"] if more else said


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


def to_json(report: Mapping[str, Any]) -> str:
    """Return the report as JSON text, keys in their order, characters outside ASCII escaped."""
    return json.dumps(report, indent=2, default=str) + "\n"


def _feed(result: dict[str, Any]) -> dict[str, Any]:
    if not result:
        return {}
    place = as_dict(result.get("feed"))
    signer = as_dict(result.get("signer"))
    return {
        "sha256": place.get("sha256"),
        "domain": place.get("domain"),
        "version": result.get("version"),
        "signed_at": result.get("signed_at"),
        "time_basis": result.get("time_basis"),
        "signer": signer.get("common_name") or signer.get("subject") or signer.get("name"),
        "custom_roots": bool(result.get("custom_roots")),
        "new": as_list(result.get("new")),
        "withdrawn": as_list(result.get("withdrawn")),
        "ids": [as_dict(entry).get("id") for entry in as_list(result.get("mitigations"))],
    }


def _columns(hosts: Sequence[Mapping[str, Any]], feed: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the mitigations of the report: those that servers give a verdict for, then those of the feed that none knows."""
    columns: list[dict[str, Any]] = []
    for host in hosts:
        for verdict in (as_dict(value) for value in as_list(as_dict(host.get("server")).get("mitigations"))):
            if not any(column["id"] == str(verdict.get("id")) for column in columns):
                columns.append({"id": str(verdict.get("id")), "cve": verdict.get("cve"), "kind": verdict.get("kind"), "description": verdict.get("title")})
    for entry in (as_dict(value) for value in as_list(feed.get("mitigations"))):
        match = next((column for column in columns if covers(column["id"], str(entry.get("id")))), None)
        if match is not None:
            match["description"] = match["description"] or entry.get("description")
        elif entry.get("kind") != "none":
            columns.append({"id": str(entry.get("id")), "cve": None, "kind": entry.get("kind"), "description": entry.get("description")})
    return sorted(columns, key=lambda column: _natural(column["id"]))


def _natural(identifier: str) -> tuple[Any, ...]:
    """Sort M2 before M10 and M2.1 behind M2."""
    parts: list[Any] = []
    for part in identifier.replace("-", ".").split("."):
        head = part.rstrip("0123456789")
        digits = part[len(head):]
        parts.append((head.casefold(), int(digits[:9]) if digits.isascii() and digits.isdigit() else -1))
    return tuple(parts)


def _column(column: dict[str, Any], servers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    cells = [verdict["cell"] for server in servers for verdict in server["mitigations"] if verdict["id"] == column["id"]]
    return {**column, "cells": {key: cells.count(key) for key in CELLS}}


def _server(host: dict[str, Any], organization: dict[str, Any], columns: Sequence[Mapping[str, Any]], drift: dict[str, Any]) -> dict[str, Any]:
    seen = as_dict(host.get("server"))
    entry = server_of(organization, seen.get("name"), seen.get("fqdn"), host.get("host"))
    contact = "ok" if seen else "unreachable" if host.get("unreachable") else "failed"
    reason = None if seen else str(host.get("msg") or host.get("reason") or "nothing was read from this server").removeprefix("Task failed: ")
    verdicts = [_verdict(column, seen, contact) for column in columns]
    differences = [item for item in as_list(drift.get("items")) if as_dict(item).get("host") == host.get("host")]
    server = {
        "host": str(host.get("host")),
        "name": str(seen.get("name") or entry.get("name") or host.get("host")),
        "fqdn": seen.get("fqdn") or entry.get("fqdn"),
        "product": seen.get("product") or entry.get("product"),
        "build": seen.get("build") or entry.get("build"),
        "build_name": seen.get("build_name"),
        "site": entry.get("site"),
        "os": as_dict(seen.get("os")),
        "contact": contact,
        "reason_code": None if seen else host.get("reason") or ("unreachable" if contact == "unreachable" else None),
        "reason": reason,
        "configuration_problem": seen.get("configuration_problem"),
        "em": _em(seen, entry),
        "url_rewrite": as_dict(seen.get("url_rewrite")),
        "mitigations": verdicts,
        "drift": differences,
    }
    server["bucket"] = _bucket(server)
    server["next"] = next_steps(server)
    return server


def _em(seen: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of EM on a server; a server that could not be reached still has what Active Directory says of it."""
    em = as_dict(seen.get("em"))
    service = as_dict(em.get("service"))
    return {
        "supported": em.get("supported", entry.get("em_supported")),
        "state": em.get("state"),
        "server_enabled": em.get("server_enabled", entry.get("mitigations_enabled")),
        "service": service.get("status") or service.get("state"),
        "start_type": service.get("start_type") or service.get("start_mode"),
        "applied": as_list(em.get("applied", entry.get("mitigations_applied"))),
        "applied_time": em.get("applied_time", entry.get("mitigations_applied_time")),
        "blocked": as_list(em.get("blocked", entry.get("mitigations_blocked"))),
        "can_read_newer_feeds": em.get("can_read_newer_feeds"),
    }


def _verdict(column: Mapping[str, Any], seen: dict[str, Any], contact: str) -> dict[str, Any]:
    verdicts = [as_dict(value) for value in as_list(seen.get("mitigations"))]
    found = next((value for value in verdicts if str(value.get("id")) == column["id"]), None)
    if found is None:
        reason = "the server gave no verdict for it" if seen else "unreachable" if contact == "unreachable" else "the server could not be read"
        found = {"state": "unsupported" if seen else "unknown", "needed": "unknown", "reason": reason}
    state, needed = found.get("state"), found.get("needed")
    return {
        **{key: found.get(key) for key in ("maker", "blocked", "block_can_be_lifted", "reason")},
        "id": column["id"],
        "cve": found.get("cve") or column.get("cve"),
        "kind": found.get("kind") or column.get("kind"),
        "state": state if state in STATES else "unknown",
        "needed": needed if needed in NEEDED else "unknown",
        "cell": cell_of(found, seen.get("build")),
        "blocked_ids": as_list(found.get("blocked_ids")),
        "breaks": as_list(found.get("breaks")),
        "evidence": [as_dict(value) for value in as_list(found.get("evidence"))],
        "duplicates": as_list(found.get("duplicates")),
        "highest_applicable": found.get("highest_applicable"),
        "code_fix": found.get("code_fix"),
        "side_effects": as_list(found.get("side_effects")),
    }


def _bucket(server: Mapping[str, Any]) -> str:
    if server["contact"] != "ok":
        return "unknown"
    buckets = {_BUCKET_OF[verdict["cell"]] for verdict in server["mitigations"]} or {"idle"}
    if any(as_dict(item).get("scope") == "server" for item in server["drift"]):
        buckets.add("differs")
    return next(key for key in BUCKETS if key in buckets)


def next_steps(server: Mapping[str, Any]) -> list[str]:
    """Return what to do next on a server, one sentence each, most urgent first."""
    if server["contact"] == "unreachable":
        return ["Make the connection work (ansible.windows.win_ping is the test), then run again; until then nothing is known of this server."]
    if server["contact"] == "failed":
        return ["Mend what the message says, then run again; until then nothing is known of this server's mitigations."]
    cells: dict[str, list[str]] = {key: [v["id"] for v in server["mitigations"] if v["cell"] == key] for key in CELLS}
    steps: list[str] = []
    if server["configuration_problem"]:
        steps.append(f"Mend the IIS configuration: {server['configuration_problem']}")
    if cells["missing"] and as_dict(server["url_rewrite"]).get("installed") is False:
        steps.append("Install URL Rewrite: without it no rule is written here.")
    if cells["missing"] or cells["disabled"]:
        steps.append(f"Run exchange.mitigation.mitigate on this server for {', '.join(cells['missing'] + cells['disabled'])}.")
    if cells["conflicting"]:
        steps.append(f"Look at the rules of {', '.join(cells['conflicting'])} below; on_conflict: replace writes the known one over it.")
    steps += [str(as_dict(item).get("text")) for item in server["drift"] if as_dict(item).get("scope") == "server"]
    for verdict in server["mitigations"]:
        if verdict["breaks"]:
            steps.append(f"The rule of {verdict['id']} damages {', '.join(map(str, verdict['breaks']))}; when_em_active: take_over writes one that does not.")
        if verdict["duplicates"]:
            steps.append(f"{verdict['id']} is there more than once; remove the second by hand or with include_foreign.")
    if cells["blocked"]:
        steps.append(f"{', '.join(cells['blocked'])}: needed, and blocked by decision; lift the block or install the update that carries the fix.")
    if cells["unsupported"]:
        steps.append(f"Read the advisory for {', '.join(cells['unsupported'])}: this collection has no action for it.")
    if cells["applied"]:
        fixes = sorted((v["code_fix"] for v in server["mitigations"] if v["cell"] == "applied" and number(v["code_fix"])), key=number)
        text = f" (build {fixes[-1]} or newer)" if fixes else ""
        names = " and ".join(cells["applied"])
        verb = "stands" if len(cells["applied"]) == 1 else "stand"
        steps.append(f"Install the security update that carries the fix{text}; until then {names} {verb} in for it.")
    if cells["kept"]:
        steps.append(f"Keep {', '.join(cells['kept'])} until a later update is installed: this build has the fix, and Microsoft still asks for the mitigation.")
    if cells["leftover"]:
        steps.append(f"Remove {', '.join(cells['leftover'])}: this build no longer needs it.")
    if as_dict(server["em"]).get("can_read_newer_feeds") is False:
        steps.append("EM on this build cannot read the feeds published since July 2026; this collection can still apply them.")
    return steps
