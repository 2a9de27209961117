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

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._drift import as_dict, as_list, covers, server_of, switch
from ansible_collections.exchange.mitigation.plugins.module_utils._report_compare import changes
from ansible_collections.exchange.mitigation.plugins.module_utils._report_next import next_steps
from ansible_collections.exchange.mitigation.plugins.module_utils._report_text import clean
from ansible_collections.exchange.mitigation.plugins.module_utils._report_timeline import timeline
from ansible_collections.exchange.mitigation.plugins.module_utils._report_words import (
    BUCKET_OF,
    BUCKETS,
    CELLS,
    NEEDED,
    STATES,
    cell_of,
    count,
    em_words,
    natural,
)

#: Version of the shape that ``build`` returns and ``report.json`` holds.
SCHEMA = 1


def recognised(value: Any) -> bool:
    """Tell whether a value is a report that ``build`` returned."""
    return isinstance(value, dict) and value.get("schema") == SCHEMA and "servers" in value


def build(
    results: Iterable[Mapping[str, Any]],
    organization: Mapping[str, Any] | None = None,
    feed: Mapping[str, Any] | None = None,
    drift: Mapping[str, Any] | None = None,
    generated_at: str = "",
    run_id: str | None = None,
    hosts: Iterable[Any] = (),
    previous: Any = None,
    journal: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the report.

    ``results``: per host ``{host, server, unreachable, reason, msg}``, ``server`` as ``server_info`` returned it or None.
    ``organization``: as ``organization_info``; ``feed``: the whole result of the ``feed`` module; ``drift``: as ``_drift.drift``.
    ``generated_at``: ISO-8601, UTC. ``hosts``: every host of the run; one without a result is part of the report too.
    ``previous``: the report of the run before. ``journal``: per host ``{blocked, runs}``, what the collection's own journal says.
    """
    known, published, differences = as_dict(organization), as_dict(feed), as_dict(drift)
    seen = [as_dict(result) for result in results]
    missing = [str(host) for host in hosts if str(host) not in {str(result.get("host")) for result in seen}]
    seen += [{"host": host, "reason": "not_observed", "msg": "The run stopped for this host before it was observed."} for host in missing]
    columns = _columns(seen, published)
    ours = as_dict(journal)
    servers = [_server({"observed_at": generated_at, **host}, known, columns, differences, as_dict(ours.get(str(host.get("host"))))) for host in seen]
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "generated_at": generated_at,
        "run_id": run_id or None,
        "organization": {"name": clean(known.get("name")) or None, "mitigations_enabled": switch(known.get("mitigations_enabled"))},
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
    report["changes"] = changes(report, previous)
    report["liftable"] = [{"host": server["host"], "server": server["name"], "ids": server["our_blocks"]} for server in servers if server["our_blocks"]]
    report["timeline"] = timeline(report)
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
    said += _news(report["changes"], report["liftable"])
    more = max(0, len(report["servers"]) - 40) + max(0, report["drift"]["count"] - 40)
    return [*said, f"... and {more} more, see the report"] if more else said


def _news(made: Mapping[str, Any], liftable: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is new since the report before, and which of our blocks can be lifted, in a few lines."""
    said = []
    if made["since"]:
        said.append(clean(f"since {made['since']}: {len(made['new'])} new, {len(made['fixed'])} no longer differ"))
        said += [clean(f"new: {as_dict(item).get('server') or 'organisation'}: {as_dict(item).get('text')}") for item in made["new"][:20]]
        said += [clean(f"no longer differs: {as_dict(item).get('server') or 'organisation'}: {as_dict(item).get('setting')}") for item in made["fixed"][:20]]
        if made["appeared"]:
            said.append(clean(f"in the feed since then: {', '.join(made['appeared'])}"))
    said += [clean(f"our block can be lifted: {one['server']}: {', '.join(one['ids'])}") for one in liftable[:20]]
    return said


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
    return sorted(columns, key=lambda column: natural(column["id"]))


def _column(column: dict[str, Any], servers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    cells = [verdict["cell"] for server in servers for verdict in server["mitigations"] if verdict["id"] == column["id"]]
    return {**column, "cells": {key: cells.count(key) for key in CELLS}}


def _server(
    host: dict[str, Any], organization: dict[str, Any], columns: Sequence[Mapping[str, Any]], drift: dict[str, Any], ours: dict[str, Any]
) -> dict[str, Any]:
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
        "observed_at": host["observed_at"] or None,
        "reason_code": None if seen else host.get("reason") or ("unreachable" if contact == "unreachable" else None),
        "reason": reason,
        "configuration_problem": seen.get("configuration_problem"),
        "em": _em(seen, entry),
        "url_rewrite": as_dict(seen.get("url_rewrite")),
        "mitigations": verdicts,
        "drift": differences,
        "our_blocks": _ours(verdicts, ours),
        "runs": [str(run) for run in as_list(ours.get("runs"))][-5:],
        "events": [_event(as_dict(event)) for event in as_list(host.get("events"))[:50]],
        "plan": [_file(as_dict(part)) for part in as_list(host.get("diff"))][:20],
    }
    server["bucket"] = _bucket(server)
    server["next"] = next_steps(server)
    return server


def _ours(verdicts: Sequence[Mapping[str, Any]], ours: Mapping[str, Any]) -> list[str]:
    """Return the ids that stand on the blocked list, were put there by this collection, and are no longer needed by this build."""
    mine = {str(identifier).casefold() for identifier in as_list(ours.get("blocked"))}
    found = [str(one) for verdict in verdicts if verdict["block_can_be_lifted"] for one in verdict["blocked_ids"]]
    return list(dict.fromkeys(identifier for identifier in found if identifier.casefold() in mine))


def _event(event: Mapping[str, Any]) -> dict[str, Any]:
    return {"time": event.get("time"), "id": event.get("id"), "meaning": event.get("meaning"), "message": clean(event.get("message"), 300)}


def _file(part: Mapping[str, Any]) -> dict[str, Any]:
    """Return a part of a module's diff as the lines of a unified one."""
    before, after = (str(part.get(key) or "").splitlines() for key in ("before", "after"))
    lines = [line.rstrip("\n") for line in difflib.unified_diff(before, after, lineterm="", n=2)][2:]
    return {"title": str(part.get("after_header") or part.get("before_header") or ""), "lines": lines[:200]}


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
    buckets = {BUCKET_OF[verdict["cell"]] for verdict in server["mitigations"]} or {"idle"}
    if any(as_dict(item).get("scope") == "server" for item in server["drift"]):
        buckets.add("differs")
    return next(key for key in BUCKETS if key in buckets)
