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
import hashlib
from collections.abc import Mapping
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._report_compare import item_key
from ansible_collections.exchange.mitigation.plugins.module_utils._report_html_servers import servers
from ansible_collections.exchange.mitigation.plugins.module_utils._report_html_timeline import timeline
from ansible_collections.exchange.mitigation.plugins.module_utils._report_parts import PRODUCTS, cell, chip, diff, scroll, sign, signs, when
from ansible_collections.exchange.mitigation.plugins.module_utils._report_style import SIGNS, TONE_OF_BUCKET, style
from ansible_collections.exchange.mitigation.plugins.module_utils._report_text import markup
from ansible_collections.exchange.mitigation.plugins.module_utils._report_words import BUCKETS, CELLS, count, em_words, natural

#: Up to so many servers the fleet is drawn as named tiles.
NAMED = 40
#: Rows beyond which a table scrolls within the page, under its headers.
TALL = 25
#: Lines of a list in the panel of what is new.
NEWS = 6


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
            signs(),
            _header(report),
            '<main class="in">\n',
            _glance(report),
            f'<div class="pair">{_bars(report)}{_news(report)}</div>\n',
            _matrix(report),
            _drift(report),
            timeline(report),
            servers(report),
            _legend(report),
            "</main>\n</body>\n</html>\n",
        ]
    )


def _header(report: Mapping[str, Any]) -> str:
    feed, organization = report["feed"], report["organization"]
    enabled = {True: "on", False: "off"}.get(organization["mitigations_enabled"], "unknown")
    facts = [("Observed", when(report["generated_at"])), ("EM for the organisation", enabled)]
    if feed:
        words = "roots of your own" if feed.get("custom_roots") else feed.get("domain")
        facts += [("Feed", f"{str(feed.get('sha256') or 'unknown')[:12]}, version {feed.get('version') or 'unknown'}")]
        facts += [("signed", when(feed.get("signed_at"))), ("trust", words)]
    else:
        facts += [("Feed", "not read in this run")]
    spans = "".join(f"<span>{markup(name)} <b>{markup(value) or 'unknown'}</b></span>" for name, value in facts)
    said = report["headline"]
    over = " \u00b7 ".join(["Exchange emergency mitigation", *([organization["name"]] if organization["name"] else [])])
    return f'<header><div class="in"><p class="over">{markup(over)}</p><h1>{markup(said)}</h1><p class="meta">{spans}</p></div></header>\n'


def _glance(report: Mapping[str, Any]) -> str:
    counts = report["summary"]["buckets"]
    numbers = "".join(
        f'<li class="t-{TONE_OF_BUCKET[key]}{"" if counts[key] else " zero"}"><b>{counts[key]}{sign(TONE_OF_BUCKET[key])}</b><span>{words}</span></li>'
        for key, words in BUCKETS.items()
        if counts[key] or key in ("action", "unknown", "applied")
    )
    order = list(BUCKETS)
    servers = sorted(enumerate(report["servers"]), key=lambda pair: (order.index(pair[1]["bucket"]), natural(pair[1]["name"])))
    many = len(servers) > NAMED
    tiles = "".join(_tile(index, server, many) for index, server in servers)
    fleet = f'<ul class="fleet{" many" if many else ""}" aria-label="Every server">{tiles}</ul>' if tiles else ""
    head = '<section aria-labelledby="h-glance"><h2 id="h-glance">The fleet at a glance</h2>'
    parts = [(TONE_OF_BUCKET[key], counts[key], words) for key, words in BUCKETS.items() if counts[key]]
    return f'{head}{_stack(parts, len(servers), "stack")}<ul class="counts">{numbers}</ul>{fleet}</section>\n'


def _tile(index: int, server: Mapping[str, Any], many: bool) -> str:
    tone, words, name = TONE_OF_BUCKET[server["bucket"]], BUCKETS[server["bucket"]], markup(server["name"])
    if server["contact"] == "unreachable":
        words = "unreachable: unknown"
    said = f"{name}: {words}"
    inner = "" if many else f"<span><b>{name}</b><small>{words}</small></span>"
    label = f' title="{said}" aria-label="{said}"' if many else ""
    return f'<li data-bucket="{server["bucket"]}"><a class="t-{tone}" href="#s{index}"{label}>{sign(tone)}{inner}</a></li>'


def _bars(report: Mapping[str, Any]) -> str:
    rows = "".join(_bar(column, report["summary"]["servers"]) for column in report["mitigations"])
    if not rows:
        return ""
    return f'<section aria-labelledby="h-bars"><h2 id="h-bars">By mitigation</h2><ul class="bars">{rows}</ul></section>\n'


def _bar(column: Mapping[str, Any], total: int) -> str:
    present = [(key, column["cells"][key]) for key in CELLS if column["cells"][key]]
    keys = "".join(f'<i class="t-{key}">{sign(key)}{number} {CELLS[key][0]}</i>' for key, number in present)
    drawn = _stack([(key, number, CELLS[key][0]) for key, number in present], total, "bar")
    about = " \u00b7 ".join(str(text) for text in (column.get("cve"), column.get("description")) if text)
    return f'<li><span><b>{markup(column["id"])}</b><small>{markup(about)}</small></span>{drawn}<span class="key">{keys}</span></li>'


def _stack(parts: list[tuple[str, int, str]], total: int, kind: str) -> str:
    """Return a bar of parts, each a tone, a number and a word."""
    rects, at = [], 0.0
    for tone, number, dummy in parts:
        width = 100.0 * number / max(total, 1)
        rects.append(f'<rect class="t-{tone}" x="{at:.3f}" y="0" width="{width:.3f}" height="10"/>')
        at += width
    spoken = ", ".join(f"{number} {words}" for dummy, number, words in parts)
    return f'<svg class="{kind}" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{markup(spoken)}">{"".join(rects)}</svg>'


def _news(report: Mapping[str, Any]) -> str:
    """Return what is new since the report before, and which of our blocks can be lifted."""
    made = report["changes"]
    blocks = []
    if made["since"]:
        blocks = [
            ("missing", "new differences", [_about(item, str(item.get("kind"))) for item in made["new"]], len(made["new"])),
            ("applied", "resolved", [_about(item, "") for item in made["fixed"]], len(made["fixed"])),
            ("differs", "new in the feed", made["appeared"], len(made["appeared"])),
        ]
        if made["withdrawn"]:
            blocks.append(("unsupported", "withdrawn from the feed", made["withdrawn"], len(made["withdrawn"])))
        if made["absent"]:
            blocks.append(("unknown", "servers not in this run", made["absent"], len(made["absent"])))
    lift = report["liftable"]
    if lift or made["since"]:
        number = sum(len(one["ids"]) for one in lift)
        blocks.append(("leftover", "of our blocks to lift", [f"{one['server']}: {', '.join(one['ids'])}" for one in lift], number))
    rows = "".join(_news_block(*block) for block in blocks)
    words = f"since {when(made['since'])}" if made["since"] else "no earlier report to compare with"
    body = f'<ul class="news">{rows}</ul>' if rows else '<p class="empty">The next run tells here what is new and what was fixed.</p>'
    return f'<section aria-labelledby="h-news"><h2 id="h-news">What is new <small>{markup(words)}</small></h2>{body}</section>'


def _about(item: Mapping[str, Any], kind: str) -> str:
    return f"{item.get('server') or 'the organisation'}: {item.get('setting')} {kind}".rstrip()


def _news_block(tone: str, words: str, entries: list[str], number: int) -> str:
    shown = "".join(f"<li>{markup(entry)}</li>" for entry in entries[:NEWS])
    more = f"<li>and {len(entries) - NEWS} more</li>" if len(entries) > NEWS else ""
    listed = f"<ul>{shown}{more}</ul>" if entries else ""
    return f'<li class="t-{tone}{"" if number else " zero"}"><b>{number}</b><span>{words}</span>{listed}</li>'


def _filters(report: Mapping[str, Any]) -> str:
    counts = report["summary"]["buckets"]
    choices = [("all", f"all {report['summary']['servers']}"), *((key, f"{words} {counts[key]}") for key, words in BUCKETS.items() if counts[key])]
    if len(choices) < 3 or report["summary"]["servers"] < 5:
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
        f'<table class="matrix"><thead><tr><th scope="col">Server</th>{head}<th scope="col">EM on the server</th><th scope="col">Blocked</th>'
        f'<th scope="col">URL Rewrite</th></tr></thead><tbody>{body}</tbody></table>'
    )
    box = scroll("Server and mitigation", table, "tall" if len(report["servers"]) > TALL else "")
    return f'<section aria-labelledby="h-matrix"><h2 id="h-matrix">Server \u00d7 mitigation</h2>{_filters(report)}{box}</section>\n'


def _matrix_row(index: int, server: Mapping[str, Any]) -> str:
    about = " \u00b7 ".join(str(text) for text in (PRODUCTS.get(str(server["product"]), server["product"]), server["build"]) if text)
    cells = "".join(f"<td>{cell(verdict)}</td>" for verdict in server["mitigations"])
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
    return f"<small>{chip('differs', 'differs: ' + ', '.join(map(str, settings)))}</small>" if settings else ""


def _drift(report: Mapping[str, Any]) -> str:
    items, unknown = report["drift"]["items"], report["drift"]["unknown"]
    new = {item_key(item) for item in report["changes"]["new"]}
    if not items and not unknown:
        body = '<p class="empty">Nothing differs from what the variables ask for.</p>'
    else:
        table = (
            '<table class="drift"><thead><tr><th scope="col">Where</th><th scope="col">What</th><th scope="col">Exact diff</th>'
            '<th scope="col">In words</th></tr></thead><tbody>'
            + "".join(_drift_row(item, item_key(item) in new) for item in [*items, *unknown])
            + "</tbody></table>"
        )
        body = scroll("What differs", table, "tall" if len(items) + len(unknown) > TALL else "")
    number = f"<small>{count(len(items), 'difference')}, {len(unknown)} unknown</small>"
    return f'<section aria-labelledby="h-drift"><h2 id="h-drift">What differs {number}</h2>{body}</section>\n'


def _drift_row(item: Mapping[str, Any], new: bool) -> str:
    kind = str(item.get("kind"))
    tone = kind if kind in SIGNS else "differs"
    where = item.get("server") or "the organisation"
    mark = '<small class="fresh">new</small>' if new else ""
    return (
        f'<tr><th scope="row">{markup(where)}{mark}</th><td>{chip(tone, str(item.get("setting")))}</td>'
        f"<td>{diff(item.get('diff') or []) or 'unknown'}</td><td>{markup(item.get('text'))}</td></tr>"
    )


def _legend(report: Mapping[str, Any]) -> str:
    entries = "".join(f"<li>{chip(key, word)}<span>{markup(meaning)}</span></li>" for key, (word, meaning) in CELLS.items())
    feed = report["feed"]
    origin = ""
    if feed:
        signed = f"signed {markup(when(feed.get('signed_at')))} by {markup(feed.get('signer')) or 'unknown'}"
        origin = f"<p>Feed <code>{markup(feed.get('sha256'))}</code>, {signed}.</p>"
    run = f"<p>Run <code>{markup(report['run_id'])}</code>.</p>" if report["run_id"] else ""
    return (
        f'<section aria-labelledby="h-legend"><h2 id="h-legend">The words</h2><ul class="legend">{entries}</ul></section>\n<footer>{origin}{run}'
        "<p>A mitigation is no update, and no proof that nobody got in before it. Detection is by what a rule does, not by its name.</p></footer>\n"
    )
