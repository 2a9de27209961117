# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as metrics for node_exporter's textfile collector.

What is unknown has no sample, except where the sample itself says unknown.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._report_text import label
from ansible_collections.exchange.mitigation.plugins.module_utils._report_words import BUCKETS

_PREFIX = "exchange_mitigation_"
Sample = tuple[Mapping[str, Any], float]


def to_metrics(report: Mapping[str, Any]) -> str:
    """Return the report in the Prometheus text format, all gauges."""
    servers = report["servers"]
    feed = report["feed"]
    families: list[tuple[str, str, list[Sample]]] = [
        ("report_timestamp_seconds", "When the report was made.", _time({}, report["generated_at"])),
        ("feed_signed_timestamp_seconds", "When the feed of this run was signed.", _time({"sha256": feed.get("sha256")}, feed.get("signed_at"))),
        ("organization_enabled", "MitigationsEnabled of the organisation.", _switch({}, report["organization"]["mitigations_enabled"])),
        ("servers", "Servers by what they look like at a glance.", [({"bucket": key}, report["summary"]["buckets"][key]) for key in BUCKETS]),
        ("server_reachable", "Whether the server could be read.", [(_name(server), float(server["contact"] == "ok")) for server in servers]),
        ("server_enabled", "MitigationsEnabled of the server.", [s for v in servers for s in _switch(_name(v), v["em"]["server_enabled"])]),
        ("em_service_running", "Whether MSExchangeMitigation runs.", [s for v in servers for s in _running(v)]),
        ("em_applied_timestamp_seconds", "MitigationsAppliedTime.", [s for v in servers for s in _time(_name(v), v["em"]["applied_time"])]),
        ("em_last_success_timestamp_seconds", "The later of MitigationsAppliedTime and EM's last event of success.", [s for v in servers for s in _success(v)]),
        ("url_rewrite_installed", "Whether URL Rewrite is there.", [s for v in servers for s in _switch(_name(v), v["url_rewrite"].get("installed"))]),
        ("verdict", "One sample per server and mitigation, always 1; the labels say what is the case.", [s for v in servers for s in _verdicts(v)]),
        ("server_drift", "Differences on this server.", [(_name(server), float(len(server["drift"]))) for server in servers]),
        ("drift", "Differences in all.", [({}, float(report["drift"]["count"]))]),
        ("drift_new", "Differences that the report before did not have.", [({}, float(len(report["changes"]["new"])))]),
        ("liftable_blocks", "Blocks set by this collection that can be lifted.", [({}, float(sum(len(one["ids"]) for one in report["liftable"])))]),
        ("drift_unknown", "Comparisons that could not be made.", [({}, float(len(report["drift"]["unknown"])))]),
    ]
    return "".join(_family(name, text, samples) for name, text, samples in families if samples)


def _family(name: str, text: str, samples: Iterable[Sample]) -> str:
    lines = [f"# HELP {_PREFIX}{name} {text}", f"# TYPE {_PREFIX}{name} gauge"]
    for labels, value in samples:
        inner = ",".join(f'{key}="{label(item)}"' for key, item in labels.items() if item not in (None, ""))
        lines.append(f"{_PREFIX}{name}{'{' + inner + '}' if inner else ''} {value:.17g}")
    return "\n".join(lines) + "\n"


def _name(server: Mapping[str, Any]) -> dict[str, Any]:
    return {"server": server["name"], "host": server["host"]}


def _switch(labels: Mapping[str, Any], value: Any) -> list[Sample]:
    return [(labels, float(value))] if isinstance(value, bool) else []


def _running(server: Mapping[str, Any]) -> list[Sample]:
    status = server["em"]["service"]
    return [(_name(server), float(str(status).casefold() == "running"))] if status else []


def _time(labels: Mapping[str, Any], value: Any) -> list[Sample]:
    """Return a sample for an ISO-8601 time; one without a zone is UTC, one that cannot be read has none."""
    try:
        moment = datetime.datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        return []
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.timezone.utc)
    return [(labels, moment.timestamp())]


def _success(server: Mapping[str, Any]) -> list[Sample]:
    times = [server["em"]["applied_time"], *(event["time"] for event in server["events"] if event["meaning"] == "success")]
    found = [sample for value in times for sample in _time(_name(server), value)]
    return [max(found, key=lambda sample: sample[1])] if found else []


def _verdicts(server: Mapping[str, Any]) -> list[Sample]:
    return [
        ({**_name(server), "mitigation": v["id"], "state": v["state"], "needed": v["needed"], "blocked": v["blocked"], "maker": v["maker"]}, 1.0)
        for v in server["mitigations"]
    ]
