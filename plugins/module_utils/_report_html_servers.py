# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The servers of the page, each with what to do next, the exact diff, and the evidence.

Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._report_parts import PRODUCTS, cell, chip, code, diff, scroll, when
from ansible_collections.exchange.mitigation.plugins.module_utils._report_style import TONE_OF_BUCKET
from ansible_collections.exchange.mitigation.plugins.module_utils._report_text import markup
from ansible_collections.exchange.mitigation.plugins.module_utils._report_words import BUCKETS, CELLS, TYPES, em_words, natural

#: Up to so many servers every server's evidence stands open (then only where action is needed); beyond GROUPED, servers that look alike are behind one click.
OPEN = 4
GROUPED = 16


def servers(report: Mapping[str, Any]) -> str:
    """Return the section: servers by what they look like, worst first."""
    every = list(enumerate(report["servers"]))
    grouped = len(every) > GROUPED
    parts: list[str] = []
    for key, words in BUCKETS.items():
        group = sorted(((index, server) for index, server in every if server["bucket"] == key), key=lambda pair: natural(pair[1]["name"]))
        if not group:
            continue
        body = "".join(_server(report, index, server, grouped, len(every) <= OPEN or (not grouped and key == "action")) for index, server in group)
        if grouped:
            head = f'<summary>{chip(TONE_OF_BUCKET[key], words)}<b class="tally">{len(group)}</b></summary>'
            body = f'<details class="group" data-bucket="{key}"{" open" if not parts else ""}>{head}<div class="members">{body}</div></details>'
        parts.append(body)
    few = "" if grouped else " class=\"few\""
    return f'<section id="servers"{few} aria-labelledby="h-servers"><h2 id="h-servers">The servers and the evidence</h2>{"".join(parts)}</section>\n'


def _server(report: Mapping[str, Any], index: int, server: Mapping[str, Any], grouped: bool, opened: bool) -> str:
    tone = TONE_OF_BUCKET[server["bucket"]]
    about = " \u00b7 ".join(str(text) for text in (PRODUCTS.get(str(server["product"]), server["product"]), server["build"]) if text)
    steps = "".join(f"<li>{markup(step)}</li>" for step in server["next"])
    following = f'<div class="next t-{tone}"><h4>What to do next</h4><ol>{steps}</ol></div>' if steps else ""
    reason = f'<div><h4>Why nothing is known</h4><code>{markup(server["reason"])}</code></div>' if server["reason"] else ""
    words = "unreachable: unknown" if server["contact"] == "unreachable" else BUCKETS[server["bucket"]]
    telling = [one for one in server["mitigations"] if one["cell"] != "idle"][:4]
    glance = "".join(chip(one["cell"], f"{one['id']} {CELLS[one['cell']][0]}") for one in telling)
    mark = f'<span class="cells">{glance}</span>' if grouped and server["contact"] == "ok" else chip(tone, words)
    # The id stands inside, so that a link to it opens the details without a script.
    return (
        f'<details class="server" data-bucket="{server["bucket"]}"{" open" if opened else ""}><summary><h3>{markup(server["name"])}'
        f"<small>{markup(about)}</small></h3>{mark}</summary>"
        f'<div class="body" id="s{index}">{following}{reason}{_plan(server)}{_evidence(server)}{_effects(server)}{_facts(report, server)}</div></details>'
    )


def _plan(server: Mapping[str, Any]) -> str:
    """Return the exact diff: of the settings, and of the files where it was asked for."""
    settings = "".join(
        f'<div><small>{markup(item.get("setting"))}</small>{diff(item.get("diff") or [])}</div>' for item in server["drift"] if item.get("scope") == "server"
    )
    files = "".join(f"<div><small>{markup(part['title'])}</small>{diff(part['lines'])}</div>" for part in server["plan"])
    return f'<div><h4>Exact diff</h4><div class="diffs">{settings}{files}</div></div>' if settings or files else ""


def _facts(report: Mapping[str, Any], server: Mapping[str, Any]) -> str:
    em, system, feed = server["em"], server["os"], report["feed"]
    service = " / ".join(str(text) for text in (em["service"], em["start_type"]) if text)
    judged = f"{code(str(feed.get('sha256') or '')[:16])} signed {markup(when(feed.get('signed_at')))}" if feed else "not read in this run"
    facts = [
        ("Observed", markup(when(server["observed_at"]))),
        ("Feed", judged),
        ("Host in the inventory", markup(server["host"])),
        ("FQDN", markup(server["fqdn"])),
        ("Build", code(server["build"]) + (f" <small>{markup(server['build_name'])}</small>" if server["build_name"] else "")),
        ("Operating system", markup(" ".join(str(text) for text in (system.get("caption"), system.get("version")) if text))),
        ("EM", markup(em_words(server))),
        ("Service MSExchangeMitigation", markup(service)),
        ("Applied by EM", markup(", ".join(map(str, em["applied"])) or "nothing")),
        ("Last written by EM", markup(when(em["applied_time"]))),
        ("Blocked", markup(", ".join(map(str, em["blocked"])) or "nothing")),
        *([("Blocks of ours that can be lifted", markup(", ".join(server["our_blocks"])))] if server["our_blocks"] else []),
    ]
    return "<dl>" + "".join(f"<div><dt>{name}</dt><dd>{value or 'unknown'}</dd></div>" for name, value in facts) + "</dl>"


def _evidence(server: Mapping[str, Any]) -> str:
    if not server["mitigations"]:
        return ""
    rows = "".join(_evidence_row(server, verdict) for verdict in server["mitigations"])
    table = (
        '<table class="evidence"><thead><tr><th scope="col">Mitigation</th><th scope="col">State</th>'
        f'<th scope="col">Needed by build</th><th scope="col">Rule and file</th></tr></thead><tbody>{rows}</tbody></table>'
    )
    return scroll(f"Evidence of {server['name']}", table)


def _evidence_row(server: Mapping[str, Any], verdict: Mapping[str, Any]) -> str:
    kind = TYPES.get(str(verdict["kind"]), verdict["kind"])
    bounds = [("build", server["build"]), ("applies up to", verdict["highest_applicable"]), ("fixed in", verdict["code_fix"])]
    limits = "".join(f"<small>{name} {markup(value)}</small>" for name, value in bounds if value)
    places = "".join(_place(item) for item in verdict["evidence"]) or ("" if verdict["reason"] else "<small>no rule found</small>")
    said = f"<small>{markup(verdict['reason'])}</small>" if verdict["reason"] else ""
    return (
        f'<tr><th scope="row">{markup(verdict["id"])}<small>{markup(verdict["cve"])}</small><small>{markup(kind)}</small></th>'
        f'<td>{cell(verdict)}</td><td>{markup(verdict["needed"])}{limits}</td><td>{places}{said}</td></tr>'
    )


def _place(item: Mapping[str, Any]) -> str:
    line = f" : {markup(item.get('line'))}" if item.get("line") else ""
    location = f"<small>in location {markup(item.get('location'))}</small>" if item.get("location") else ""
    return f"{markup(item.get('rule'))}<code>{markup(item.get('file'))}{line}</code>{location}"


def _effects(server: Mapping[str, Any]) -> str:
    found = _unique(text for verdict in server["mitigations"] if verdict["cell"] in _FELT for text in verdict["side_effects"])
    if not found:
        return ""
    return "<div><h4>Side effects to expect</h4><ul class=\"plain\">" + "".join(f"<li>{markup(text)}</li>" for text in found) + "</ul></div>"


#: Where somebody feels a mitigation's side effects, or will once it is applied.
_FELT = ("applied", "kept", "leftover", "missing", "disabled")


def _unique(values: Iterable[Any]) -> Sequence[str]:
    return list(dict.fromkeys(str(value.get("text")) if isinstance(value, Mapping) else str(value) for value in values))
