# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What servers, feeds and certificates say is shown and never obeyed: no script, no formula, no template, no forged line."""

from __future__ import annotations

import csv
import html.parser
import io
import re
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _drift, _outcome, _report, _report_csv, _report_html, _report_metrics, _report_text
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.report_samples import FEED, fleet, organization, result, unreachable, verdict

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "'><svg/onload=alert(1)>",
    "</style><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
    "javascript:alert(1)",
    "{{ lookup('pipe', 'id') }}",
    "{% for x in y %}",
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(A1:A9)",
    "\t=1+1",
    "\r\n=1+1",
    "\uff1d1+1",
    'x"} 1\nexchange_mitigation_drift 0\n#',
    "a\\",
    "\u202egnp.exe",
    "\x00\x1b[31mred",
    "\ud800",
    "]]>",
    "<!--",
    "&lt;script&gt;",
    "x" * 100_000,
]


class Page(html.parser.HTMLParser):
    """The elements of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element."""
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "path", "rect", "use", "input", "link", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Check that elements nest."""
        if tag not in ("path", "rect", "use"):
            assert self.open.pop() == tag


def poisoned(text: str) -> dict[str, Any]:
    """Return a report in which every foreign text is hostile."""
    evil = verdict(text, "applied", "yes", maker=text, breaks=[text], reason=text, side_effects=[text], duplicates=[text])
    evil |= {"blocked_ids": [text], "cve": text, "kind": text, "title": text}
    evil["evidence"] = [{"file": text, "line": text, "rule": text, "location": text}]
    evil["highest_applicable"], evil["code_fix"] = {text: text}, text
    seen = result("ex1", text, text, evil, name=text, fqdn=text, build_name=text, configuration_problem=text)
    for key in ("state", "applied_time"):
        seen["server"]["em"][key] = text
    seen["server"]["em"] |= {"applied": [text], "blocked": [text], "service": {"state": text, "start_mode": text}}
    seen["server"]["os"] = {"caption": text, "version": text}
    seen["server"]["url_rewrite"]["version"] = text
    results = [seen, unreachable(text, text), {"host": "ex3", "server": None, "reason": text, "msg": text, "desired": {"mitigations": [text]}}]
    known = {**organization(fleet()), "name": text}
    feed = {**FEED, "version": text, "signed_at": text, "signer": {"common_name": text}, "mitigations": [{"id": text, "description": text, "kind": text}]}
    feed["feed"] = {"sha256": text, "domain": text}
    return _report.build(results, known, feed, _drift.drift(results, known), text, text, hosts=[text])


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_makes_no_element_and_no_attribute(text: str) -> None:
    calm, evil = Page(_report_html.to_html(poisoned("calm"))), Page(_report_html.to_html(poisoned(text)))
    assert evil.open == []
    assert {tag for tag, dummy in evil.elements} == {tag for tag, dummy in calm.elements}
    assert "script" not in {tag for tag, dummy in evil.elements}
    for tag, attributes in evil.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style" or name == "src"], tag
        target = attributes.get("href")
        assert target is None or target.startswith("#")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_no_formula_and_no_second_row(text: str) -> None:
    made = poisoned(text)
    rows = list(csv.reader(io.StringIO(_report_csv.to_csv(made), newline="")))
    assert {len(row) for row in rows} == {len(_report_csv.COLUMNS)}
    assert len(rows) == 1 + sum(max(1, len(server["mitigations"])) for server in made["servers"])
    for row in rows:
        for field in row:
            assert not field.lstrip().startswith(("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\t", "\r")), field


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_forges_no_metric(text: str) -> None:
    sample = re.compile(r'^exchange_mitigation_[a-z_]+(\{[a-z0-9_]+="(?:[^"\\\n]|\\.)*"(?:,[a-z0-9_]+="(?:[^"\\\n]|\\.)*")*\})? [-+0-9.e]+$')
    lines = _report_metrics.to_metrics(poisoned(text)).splitlines()
    assert [line for line in lines if not line.startswith("# ") and not sample.match(line)] == []
    assert sum(1 for line in lines if line.startswith("exchange_mitigation_drift ")) == 1


@pytest.mark.parametrize("text", HOSTILE)
def test_the_console_gets_one_line_each(text: str) -> None:
    for line in [*poisoned(text)["lines"], *_outcome.outcomes([text], [{"failed": True, "reason": text, "msg": text}])]:
        assert line.isprintable()


def test_long_text_is_cut_and_direction_characters_are_visible() -> None:
    assert len(_report_text.clean("x" * 100_000)) == _report_text.LIMIT + 1
    assert _report_text.clean("\u202egnp.exe") == "\\u202egnp.exe"
    assert _report_text.clean(None) == ""
    assert _report_text.clean([True, None, {"a": 1}]) == "yes, , a: 1"


def test_the_page_needs_nothing_from_elsewhere_and_allows_nothing_but_its_style() -> None:
    page = _report_html.to_html(poisoned("calm"))
    tags = {tag for tag, dummy in Page(page).elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "form", "base"}
    assert "url(" not in page
    assert "@import" not in page
    assert re.search(r"default-src 'none'; style-src 'sha256-[A-Za-z0-9+/=]{44}'", page)


def test_the_page_has_headers_and_labels() -> None:
    elements = Page(_report_html.to_html(poisoned("calm"))).elements
    assert all("scope" in attributes for tag, attributes in elements if tag == "th")
    assert all("aria-hidden" in attributes or "aria-label" in attributes for tag, attributes in elements if tag == "svg")
    identifiers = [attributes["id"] for dummy, attributes in elements if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    targets = {str(attributes["href"])[1:] for tag, attributes in elements if tag in ("a", "use")}
    assert targets <= set(identifiers)


def test_the_columns_of_get_mitigations_come_first() -> None:
    results = fleet()
    rows = list(csv.DictReader(io.StringIO(_report_csv.to_csv(_report.build(results, organization(results), FEED)))))
    found = {(row["Server"], row["ID"]): row for row in rows}
    assert list(rows[0])[:5] == ["Server", "ID", "Type", "Description", "Status"]
    assert found["EX3", "M2"]["Status"] == "Blocked"
    assert found["EX1", "M2"]["Status"] == "Applied"
    assert found["EX1", "M2"]["Rule"] == "EEMS M2 rule"
    assert found["EX6", "M1"]["Status"] == "Unknown"
    assert found["EX1", "M1"]["Type"] == "IIS URL Rewrite rule"


def test_metrics_tell_what_is_known_and_leave_out_what_is_not() -> None:
    results = fleet()
    known = organization(results)
    text = _report_metrics.to_metrics(_report.build(results, known, FEED, _drift.drift(results, known), "2026-06-12T06:00:04Z"))
    assert 'exchange_mitigation_server_reachable{server="EX6",host="ex6"} 0' in text
    assert "exchange_mitigation_report_timestamp_seconds 1781244004" in text
    assert 'exchange_mitigation_em_service_running{server="EX1",host="ex1"} 1' in text
    assert 'exchange_mitigation_em_service_running{server="EX6"' not in text
    assert 'mitigation="M2",state="applied",needed="no",blocked="no",maker="eomt"} 1' in text


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ({}, "not reached in this run"),
        ({"unreachable": True, "msg": "refused"}, "unreachable: refused"),
        ({"failed": True, "reason": "url_rewrite_missing", "msg": "URL Rewrite is missing"}, "failed (url_rewrite_missing): URL Rewrite is missing"),
        ({"changed": True, "mitigations": [{"id": "M1", "state": "applied"}]}, "changed; M1 applied"),
        ({"skipped": True, "changed": False, "skip_reason": "Conditional result was False"}, "left out"),
        ({"changed": False, "mitigations": [{"id": "M1", "state": "absent", "needed": "no"}]}, "unchanged; M1 absent (not needed by this build)"),
    ],
)
def test_outcomes_are_a_line_per_host(outcome: dict[str, Any], words: str) -> None:
    assert _outcome.outcomes(["ex1"], [outcome]) == [f"ex1: {words}"]
