# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as one self-contained page: the fleet at a glance, the matrix, what differs, the evidence per server.

No script at all: the filters are radio buttons and style rules, the servers are details elements, and the page's own
content security policy allows nothing but its own style sheet (by hash). All foreign text passes ``markup``.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._report_style import SIGNS, TONE_OF_BUCKET, style
from ansible_collections.exchange.mitigation.plugins.module_utils._report_text import markup
from ansible_collections.exchange.mitigation.plugins.module_utils._report_words import BUCKETS, CELLS, TYPES, count, em_words

#: Up to so many servers the fleet is drawn as named tiles, and every server's evidence stands open.
NAMED = 40
OPEN = 8

MAKERS = {"em": "by EM", "eomt": "by EOMT", "us": "by this collection", "other": "by someone else"}
PRODUCTS = {"Exchange2016": "Exchange 2016", "Exchange2019": "Exchange 2019", "ExchangeSE": "Exchange SE"}


def to_html(report: Mapping[str, Any]) -> str:
    """Return the page."""
    sheet, said = style(BUCKETS), markup(report["headline"])
    digest = base64.b64encode(hashlib.sha256(sheet.encode("utf-8")).digest()).decode("ascii")
    return "".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'\">\n",
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="referrer" content="no-referrer">\n',
            f"<title>Exchange emergency mitigation: {said}</title>\n<style>{sheet}</style>\n</head>\n<body>\n",
            '<a class="skip" href="#servers">To the servers</a>\n',
            _signs(),
            _header(report),
            '<main class="in">\n',
            _glance(report),
            _matrix(report),
            _drift(report["drift"]),
            _servers(report),
            _legend(report),
            "</main>\n</body>\n</html>\n",
        ]
    )


def _when(value: Any) -> Any:
    """Return an ISO-8601 time as one reads it, to the minute; anything else as it is."""
    try:
        moment = datetime.datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        return value
    if moment.tzinfo is not None:
        moment = moment.astimezone(datetime.timezone.utc)
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _signs() -> str:
    symbols = "".join(f'<symbol id="i-{name}" viewBox="0 0 16 16"><path fill-rule="evenodd" d="{path}"/></symbol>' for name, path in SIGNS.items())
    return f'<svg class="sprite" width="0" height="0" aria-hidden="true">{symbols}</svg>\n'


def _sign(name: str) -> str:
    return f'<svg class="sign" aria-hidden="true"><use href="#i-{name}"/></svg>'


def _chip(tone: str, words: str) -> str:
    return f'<span class="chip t-{tone}">{_sign(tone)}{markup(words)}</span>'


def _code(value: Any) -> str:
    return f"<code>{markup(value)}</code>" if value not in (None, "", []) else "unknown"


def _header(report: Mapping[str, Any]) -> str:
    feed, organization = report["feed"], report["organization"]
    enabled = {True: "on", False: "off"}.get(organization["mitigations_enabled"], "unknown")
    facts = [("Observed", _when(report["generated_at"])), ("EM for the organisation", enabled)]
    if feed:
        words = "roots of your own" if feed.get("custom_roots") else feed.get("domain")
        facts += [("Feed", f"{str(feed.get('sha256') or 'unknown')[:12]}, version {feed.get('version') or 'unknown'}")]
        facts += [("signed", _when(feed.get("signed_at"))), ("trust", words)]
    else:
        facts += [("Feed", "not read in this run")]
    spans = "".join(f"<span>{markup(name)} <b>{markup(value) or 'unknown'}</b></span>" for name, value in facts)
    said = report["headline"]
    over = " \u00b7 ".join(["Exchange emergency mitigation", *([organization["name"]] if organization["name"] else [])])
    return f'<header><div class="in"><p class="over">{markup(over)}</p><h1>{markup(said)}</h1><p class="meta">{spans}</p></div></header>\n'


def _glance(report: Mapping[str, Any]) -> str:
    counts = report["summary"]["buckets"]
    numbers = "".join(
        f'<li class="t-{TONE_OF_BUCKET[key]}{"" if counts[key] else " zero"}"><b>{counts[key]}{_sign(TONE_OF_BUCKET[key])}</b><span>{words}</span></li>'
        for key, words in BUCKETS.items()
        if counts[key] or key in ("action", "unknown", "applied")
    )
    order = list(BUCKETS)
    servers = sorted(enumerate(report["servers"]), key=lambda pair: (order.index(pair[1]["bucket"]), pair[1]["name"].casefold()))
    many = len(servers) > NAMED
    tiles = "".join(_tile(index, server, many) for index, server in servers)
    fleet = f'<ul class="fleet{" many" if many else ""}" aria-label="Every server">{tiles}</ul>' if tiles else ""
    head = '<section aria-labelledby="h-glance"><h2 id="h-glance">The fleet at a glance</h2>'
    return f'{head}<ul class="counts">{numbers}</ul>{fleet}</section>\n' + _bars(report)


def _tile(index: int, server: Mapping[str, Any], many: bool) -> str:
    tone, words, name = TONE_OF_BUCKET[server["bucket"]], BUCKETS[server["bucket"]], markup(server["name"])
    if server["contact"] == "unreachable":
        words = "unreachable: unknown"
    said = f"{name}: {words}"
    inner = "" if many else f"<span><b>{name}</b><small>{words}</small></span>"
    label = f' title="{said}" aria-label="{said}"' if many else ""
    return f'<li data-bucket="{server["bucket"]}"><a class="t-{tone}" href="#s{index}"{label}>{_sign(tone)}{inner}</a></li>'


def _bars(report: Mapping[str, Any]) -> str:
    rows = "".join(_bar(column, report["summary"]["servers"]) for column in report["mitigations"])
    if not rows:
        return ""
    return f'<section aria-labelledby="h-bars"><h2 id="h-bars">By mitigation</h2><ul class="bars">{rows}</ul></section>\n'


def _bar(column: Mapping[str, Any], total: int) -> str:
    present = [(key, column["cells"][key]) for key in CELLS if column["cells"][key]]
    rects, at = [], 0.0
    for key, number in present:
        width = 100.0 * number / max(total, 1)
        rects.append(f'<rect class="t-{key}" x="{at:.3f}" y="0" width="{width:.3f}" height="10"/>')
        at += width
    spoken = ", ".join(f"{number} {CELLS[key][0]}" for key, number in present)
    keys = "".join(f'<i class="t-{key}">{_sign(key)}{number} {CELLS[key][0]}</i>' for key, number in present)
    drawn = f'<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{markup(spoken)}">{"".join(rects)}</svg>'
    about = " \u00b7 ".join(str(text) for text in (column.get("cve"), column.get("description")) if text)
    return f'<li><span><b>{markup(column["id"])}</b><small>{markup(about)}</small></span>{drawn}<span class="key">{keys}</span></li>'


def _filters(report: Mapping[str, Any]) -> str:
    counts = report["summary"]["buckets"]
    choices = [("all", f"all {report['summary']['servers']}"), *((key, f"{words} {counts[key]}") for key, words in BUCKETS.items() if counts[key])]
    if len(choices) < 3:
        return ""
    buttons = "".join(
        f'<input type="radio" name="f" id="f-{key}"{" checked" if key == "all" else ""}><label for="f-{key}">{markup(words)}</label>' for key, words in choices
    )
    return f'<fieldset class="filters"><legend>Show</legend>{buttons}</fieldset>'


def _matrix(report: Mapping[str, Any]) -> str:
    columns = report["mitigations"]
    head = "".join(f'<th scope="col">{markup(column["id"])}<small>{markup(column.get("cve"))}</small></th>' for column in columns)
    body = "".join(_matrix_row(index, server) for index, server in enumerate(report["servers"]))
    table = (
        '<div class="scroll" tabindex="0" role="region" aria-labelledby="h-matrix"><table class="matrix"><thead><tr>'
        f'<th scope="col">Server</th>{head}<th scope="col">EM on the server</th><th scope="col">Blocked</th><th scope="col">URL Rewrite</th></tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
    return f'<section aria-labelledby="h-matrix"><h2 id="h-matrix">Server \u00d7 mitigation</h2>{_filters(report)}{table}</section>\n'


def _matrix_row(index: int, server: Mapping[str, Any]) -> str:
    about = " \u00b7 ".join(str(text) for text in (PRODUCTS.get(str(server["product"]), server["product"]), server["build"]) if text)
    cells = "".join(f"<td>{_cell(verdict)}</td>" for verdict in server["mitigations"])
    rewrite = server["url_rewrite"]
    installed = rewrite.get("installed")
    words = (rewrite.get("version") or "installed") if installed else "not installed" if installed is False else "unknown"
    blocked = ", ".join(map(str, server["em"]["blocked"])) or "\u2013"
    return (
        f'<tr data-bucket="{server["bucket"]}"><th scope="row"><a href="#s{index}">{markup(server["name"])}</a><small>{markup(about)}</small></th>{cells}'
        f"<td>{markup(em_words(server))}{_differs(server)}</td><td>{markup(blocked)}</td><td>{markup(words)}</td></tr>"
    )


def _differs(server: Mapping[str, Any]) -> str:
    settings = [item.get("setting") for item in server["drift"] if item.get("scope") == "server"]
    return f"<small>{_chip('differs', 'differs: ' + ', '.join(map(str, settings)))}</small>" if settings else ""


def _cell(verdict: Mapping[str, Any]) -> str:
    key = verdict["cell"]
    notes = []
    if verdict["state"] in ("applied", "disabled", "conflicting") and verdict["maker"]:
        notes.append(MAKERS.get(str(verdict["maker"]), str(verdict["maker"])))
    if verdict["needed"] == "unknown" and key not in ("unknown", "unsupported"):
        notes.append("need unknown")
    if verdict["blocked"] and key != "blocked":
        notes.append("blocked")
    small = f"<small>{markup('; '.join(notes))}</small>" if notes else ""
    damage = f'<small class="harm">{_sign("missing")} breaks {markup(verdict["breaks"])}</small>' if verdict["breaks"] else ""
    return _chip(key, CELLS[key][0]) + small + damage


def _drift(drift: Mapping[str, Any]) -> str:
    items, unknown = drift["items"], drift["unknown"]
    if not items and not unknown:
        body = '<p class="empty">Nothing differs from what the variables ask for.</p>'
    else:
        body = (
            '<div class="scroll" tabindex="0" role="region" aria-labelledby="h-drift"><table><thead><tr><th scope="col">Where</th><th scope="col">What</th>'
            '<th scope="col">Wanted</th><th scope="col">Found</th><th scope="col">In words</th></tr></thead><tbody>'
            + "".join(_drift_row(item) for item in [*items, *unknown])
            + "</tbody></table></div>"
        )
    number = f"<small>{count(len(items), 'difference')}, {len(unknown)} unknown</small>"
    return f'<section aria-labelledby="h-drift"><h2 id="h-drift">What differs {number}</h2>{body}</section>\n'


def _drift_row(item: Mapping[str, Any]) -> str:
    kind = str(item.get("kind"))
    tone = kind if kind in SIGNS else "differs"
    where = item.get("server") or "the organisation"
    return (
        f'<tr><th scope="row">{markup(where)}</th><td>{_chip(tone, str(item.get("setting")))}</td><td>{markup(_value(item.get("wanted")))}</td>'
        f'<td>{markup(_value(item.get("actual")))}</td><td>{markup(item.get("text"))}</td></tr>'
    )


def _value(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "nothing"
    return str(value)


def _servers(report: Mapping[str, Any]) -> str:
    opened = len(report["servers"]) <= OPEN
    body = "".join(_server(index, server, opened) for index, server in enumerate(report["servers"]))
    return f'<section id="servers" aria-labelledby="h-servers"><h2 id="h-servers">The servers and the evidence</h2>{body}</section>\n'


def _server(index: int, server: Mapping[str, Any], opened: bool) -> str:
    tone = TONE_OF_BUCKET[server["bucket"]]
    about = PRODUCTS.get(str(server["product"]), server["product"])
    steps = "".join(f"<li>{markup(step)}</li>" for step in server["next"])
    following = f'<div class="next t-{tone}"><h4>What to do next</h4><ol>{steps}</ol></div>' if steps else ""
    reason = f'<div><h4>Why nothing is known</h4><code>{markup(server["reason"])}</code></div>' if server["reason"] else ""
    words = "unreachable: unknown" if server["contact"] == "unreachable" else BUCKETS[server["bucket"]]
    return (
        f'<details id="s{index}" data-bucket="{server["bucket"]}"{" open" if opened else ""}><summary><h3>{markup(server["name"])}'
        f"<small>{markup(about)}</small></h3>{_chip(tone, words)}</summary>"
        f'<div class="body">{following}{reason}{_facts(server)}{_evidence(server)}{_effects(server)}</div></details>'
    )


def _facts(server: Mapping[str, Any]) -> str:
    em, system = server["em"], server["os"]
    service = " / ".join(str(text) for text in (em["service"], em["start_type"]) if text)
    facts = [
        ("Host in the inventory", markup(server["host"])),
        ("FQDN", markup(server["fqdn"])),
        ("Build", _code(server["build"]) + (f" <small>{markup(server['build_name'])}</small>" if server["build_name"] else "")),
        ("Operating system", markup(" ".join(str(text) for text in (system.get("caption"), system.get("version")) if text))),
        ("EM", markup(em_words(server))),
        ("Service MSExchangeMitigation", markup(service)),
        ("Applied by EM", markup(", ".join(map(str, em["applied"])) or "nothing")),
        ("Last written by EM", markup(_when(em["applied_time"]))),
        ("Blocked", markup(", ".join(map(str, em["blocked"])) or "nothing")),
    ]
    return "<dl>" + "".join(f"<div><dt>{name}</dt><dd>{value or 'unknown'}</dd></div>" for name, value in facts) + "</dl>"


def _evidence(server: Mapping[str, Any]) -> str:
    if not server["mitigations"]:
        return ""
    rows = "".join(_evidence_row(verdict) for verdict in server["mitigations"])
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Evidence"><table class="evidence"><thead><tr><th scope="col">Mitigation</th>'
        '<th scope="col">State</th><th scope="col">Needed by build</th><th scope="col">Evidence</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _evidence_row(verdict: Mapping[str, Any]) -> str:
    kind = TYPES.get(str(verdict["kind"]), verdict["kind"])
    bounds = [("up to", verdict["highest_applicable"]), ("fixed in", verdict["code_fix"])]
    limits = "".join(f"<small>{name} {markup(value)}</small>" for name, value in bounds if value)
    places = "".join(_place(item) for item in verdict["evidence"]) or ("" if verdict["reason"] else "<small>no rule found</small>")
    said = f"<small>{markup(verdict['reason'])}</small>" if verdict["reason"] else ""
    return (
        f'<tr><th scope="row">{markup(verdict["id"])}<small>{markup(verdict["cve"])}</small><small>{markup(kind)}</small></th>'
        f'<td>{_cell(verdict)}</td><td>{markup(verdict["needed"])}{limits}</td><td>{places}{said}</td></tr>'
    )


def _place(item: Mapping[str, Any]) -> str:
    line = f" : {markup(item.get('line'))}" if item.get("line") else ""
    location = f"<small>in location {markup(item.get('location'))}</small>" if item.get("location") else ""
    return f"{markup(item.get('rule'))}<code>{markup(item.get('file'))}{line}</code>{location}"


def _effects(server: Mapping[str, Any]) -> str:
    found = _unique(text for verdict in server["mitigations"] if verdict["state"] in ("applied", "disabled") for text in verdict["side_effects"])
    if not found:
        return ""
    return "<div><h4>Side effects to expect</h4><ul class=\"plain\">" + "".join(f"<li>{markup(text)}</li>" for text in found) + "</ul></div>"


def _unique(values: Iterable[Any]) -> Sequence[str]:
    return list(dict.fromkeys(str(value.get("text")) if isinstance(value, Mapping) else str(value) for value in values))


def _legend(report: Mapping[str, Any]) -> str:
    entries = "".join(f"<li>{_chip(key, word)}<span>{markup(meaning)}</span></li>" for key, (word, meaning) in CELLS.items())
    feed = report["feed"]
    origin = ""
    if feed:
        signed = f"signed {markup(_when(feed.get('signed_at')))} by {markup(feed.get('signer')) or 'unknown'}"
        origin = f"<p>Feed <code>{markup(feed.get('sha256'))}</code>, {signed}.</p>"
    run = f"<p>Run <code>{markup(report['run_id'])}</code>.</p>" if report["run_id"] else ""
    return (
        f'<section aria-labelledby="h-legend"><h2 id="h-legend">The words</h2><ul class="legend">{entries}</ul></section>\n<footer>{origin}{run}'
        "<p>A mitigation is no update, and no proof that nobody got in before it. Detection is by what a rule does, not by its name.</p></footer>\n"
    )
