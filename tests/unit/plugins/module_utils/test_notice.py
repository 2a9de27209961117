# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is to tell, once: events from results, what ends them, and how the channels show foreign text."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _drift, _notice, _notice_text, _report
from ansible_collections.exchange.mitigation.plugins.module_utils._notice import Entry, Event, News, observe, remember, settle
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.report_samples import FEED, result, verdict

ORGANIZATION = {"name": "Example", "mitigations_enabled": True, "servers": []}
NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.timezone.utc)


def report(*rows: dict[str, Any]) -> dict[str, Any]:
    """Return the report of these hosts, as the role makes it."""
    return _report.build(rows, ORGANIZATION, None, _drift.drift(rows, ORGANIZATION))


def host(name: str, *verdicts: dict[str, Any], **desired: Any) -> dict[str, Any]:
    """Return a row of one host that asks for all mitigations and nothing else."""
    return {**result(name, "Exchange2019", "15.2.1748.40", *verdicts), "desired": {"mitigations": ["all"], **desired}}


def outcome(*verdicts: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a result of the module mitigation."""
    return {"changed": False, "mitigations": list(verdicts), "effects": [], "run_id": None, **more}


class Channel:
    """A channel that every delivery reaches."""

    def __init__(self) -> None:
        self.memory: dict[str, Entry] = {}

    def tell(self, deliver: bool = True, kinds: tuple[str, ...] = _notice.KINDS, **seen: Any) -> list[str]:
        """Return the identities of what is told."""
        news = settle(self.memory, observe(**seen), kinds)
        self.memory = remember(news, "2026-11-24T12:00:00+00:00") if deliver else news.standing
        return [event.key for event in news.tell]


def test_the_five_kinds_come_from_the_results() -> None:
    seen = observe(
        FEED,
        {
            "ex1": outcome({**verdict("M2", "applied", "yes", maker="us"), "action": "apply"}, changed=True, run_id="r1"),
            "ex2": {"failed": True, "reason": "url_rewrite_missing", "msg": "URL Rewrite is missing.", "refusals": [{"id": "M2"}]},
        },
        report(host("ex3", verdict("M2", "absent", "yes")), host("ex4", verdict("M1", "applied", "no"))),
    )
    told = [(event.kind, event.host, event.mitigation) for event in seen.events]
    assert told == [
        ("published", None, "M1.1"),
        ("published", None, "M2.1.0"),
        ("applied", "ex1", "M2"),
        ("applied", "ex4", "M1"),
        ("failed", "ex2", "M2"),
        ("drift", "ex3", "M2"),
        ("cleanup", "ex4", "M1"),
    ]
    texts = [event.text for event in seen.events]
    assert "M2 (CVE-2026-42897) is applied on ex1, by this collection." in texts
    assert "M2 on ex2: not done (url_rewrite_missing). URL Rewrite is missing." in texts
    assert "EX3: This build needs M2 and does not have it." in texts


def test_an_event_is_told_once_as_long_as_it_lasts_and_again_when_it_returns() -> None:
    channel = Channel()
    missing, there = report(host("ex1", verdict("M2", "absent", "yes"))), report(host("ex1", verdict("M2", "applied", "yes")))
    (first,) = channel.tell(report=missing)
    assert first.startswith("drift/ex1/M2/missing")
    assert channel.tell(report=missing) == []
    assert channel.tell(report=there) == ["applied/ex1/M2"]
    assert channel.tell(report=there) == []
    assert channel.tell(report=missing) == [first]


def test_what_a_run_could_not_see_is_not_over() -> None:
    channel = Channel()
    missing = host("ex1", verdict("M2", "absent", "yes"))
    assert len(channel.tell(report=report(missing))) == 1
    down = {"host": "ex1", "server": None, "unreachable": True, "msg": "no answer"}
    assert channel.tell(report=report(down)) == ["failed/ex1/observe/unreachable"]  # and the difference stays told
    assert channel.tell(report=report(host("ex2"))) == []  # another part of the fleet
    assert channel.tell(report=report(host("ex1", verdict("M2", "unknown", "yes", reason="file locked")))) == []
    assert channel.tell(report=report(missing)) == []
    assert channel.tell(report=report(down)) == ["failed/ex1/observe/unreachable"]  # it had answered in between


def test_what_was_not_delivered_is_news_for_the_next_run() -> None:
    channel = Channel()
    assert channel.tell(deliver=False, feed=FEED) == channel.tell(feed=FEED) != []
    assert channel.tell(feed=FEED) == []


def test_a_withdrawn_mitigation_that_comes_back_is_published_again() -> None:
    channel = Channel()
    shorter = {**FEED, "mitigations": FEED["mitigations"][:2]}
    channel.tell(feed=FEED)
    assert channel.tell(feed=shorter) == []
    assert channel.tell(feed=FEED) == ["published/microsoft/M2.1.0"]


def test_a_feed_of_another_domain_ends_nothing() -> None:
    channel = Channel()
    channel.tell(feed=FEED)
    local = {"feed": {"domain": "local"}, "mitigations": [{"id": "LOCAL-1", "kind": "rewrite", "supported": True}]}
    assert channel.tell(feed=local) == ["published/local/LOCAL-1"]
    assert channel.tell(feed=FEED) == []


def test_an_application_by_a_later_run_is_news_and_a_report_of_the_same_is_not() -> None:
    channel = Channel()
    applied = {**verdict("M2", "applied", "yes", maker="us"), "action": "apply"}
    assert channel.tell(outcomes={"ex1": outcome(applied, changed=True, run_id="r1")}) == ["applied/ex1/M2"]
    assert channel.tell(outcomes={"ex1": outcome(applied, changed=True, run_id="r1")}) == []
    assert channel.tell(report=report(host("ex1", verdict("M2", "applied", "yes")))) == []
    assert channel.tell(outcomes={"ex1": outcome({**applied, "action": "none"})}) == []
    assert channel.tell(outcomes={"ex1": outcome(applied, changed=True, run_id="r2")}) == ["applied/ex1/M2"]


def test_the_same_failure_every_hour_is_told_once_until_it_ends() -> None:
    channel = Channel()
    failed = {"failed": True, "reason": "health_failed", "msg": "10.0.0.1:50123 closed", "changed": False}
    assert channel.tell(outcomes={"ex1": failed}) == ["failed/ex1/health_failed/"]
    assert channel.tell(outcomes={"ex1": {**failed, "msg": "10.0.0.1:50999 closed"}}) == []
    assert channel.tell(outcomes={"ex1": {"unreachable": True, "msg": "no route"}}) == ["failed/ex1/unreachable/"]
    assert channel.tell(outcomes={"ex1": outcome()}) == []
    assert channel.tell(outcomes={"ex1": failed}) == ["failed/ex1/health_failed/"]


def test_a_refusal_applies_nothing_although_its_verdicts_are_of_the_plan() -> None:
    refused = {"failed": True, "reason": "section_locked", "msg": "locked", "mitigations": [{**verdict("M2", "applied", "yes"), "action": "apply"}]}
    assert [event.kind for event in observe(outcomes={"ex1": refused}).events] == ["failed"]


def test_a_host_that_failed_before_the_mitigation_is_told_as_failed() -> None:
    states = {"ex1": {"state": "failed", "reason": "cmdlet_failed", "msg": "no"}, "ex2": {"state": "done"}, "ex3": {"state": "unreachable", "msg": "x"}}
    seen = observe(outcomes=_notice.with_states({"ex1": {}, "ex2": outcome()}, states))
    assert [(event.host, event.reason) for event in seen.events] == [("ex1", "cmdlet_failed"), ("ex3", "unreachable")]
    failed = {"ex1": {"failed": True, "reason": "section_locked", "msg": ""}}
    assert [event.reason for event in observe(outcomes=_notice.with_states(failed, states)).events] == ["section_locked", "unreachable"]


def test_hosts_that_were_not_run_or_skipped_tell_nothing() -> None:
    assert observe(outcomes={"ex1": {}, "ex2": {"skipped": True, "changed": False}}) == _notice.Observation((), frozenset())


def test_kinds_that_are_not_asked_for_are_neither_told_nor_remembered() -> None:
    channel = Channel()
    assert channel.tell(kinds=("drift",), feed=FEED) == []
    assert len(channel.tell(feed=FEED)) == 2


def test_a_difference_with_another_value_is_another_event() -> None:
    channel = Channel()

    def blocked(*ids: str) -> dict[str, Any]:
        organization = {**ORGANIZATION, "servers": [{"name": "EX1", "mitigations_blocked": list(ids)}]}
        rows = [host("ex1", blocked={"set": ["M1"]})]
        return _report.build(rows, organization, None, _drift.drift(rows, organization))

    assert len(channel.tell(report=blocked())) == 1
    assert channel.tell(report=blocked()) == []
    assert len(channel.tell(report=blocked("M2"))) == 1


def test_identities_of_different_parts_never_meet() -> None:
    keys = {event.key for name in ("a/b", "a%2Fb", "a") for event in observe(outcomes={name: {"failed": True, "reason": "b", "msg": ""}}).events}
    assert len(keys) == 3


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_notice, "MAX_ENTRIES", 3)
    standing = {f"old{number}": Entry("scope", f"2026-01-0{number}") for number in range(1, 5)}
    kept = remember(News((Event("drift", "new", "scope", "text"),), standing), "2026-02-01")
    assert set(kept) == {"old3", "old4", "new"}


HOSTILE = [
    "<script>alert(1)</script>",
    "<!channel> <@U1> *bold* <https://evil.example|click>",
    "[click](https://evil.example) ![](https://evil.example/x.png)",
    "line\r\nBcc: everybody@example.com",
    "{{ lookup('pipe', 'id') }}",
    "\u202egnp.exe \u0000 \ud800",
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_foreign_text_is_only_ever_text(hostile: str) -> None:
    seen = observe({"feed": {"domain": "microsoft"}, "mitigations": [{"id": hostile, "description": hostile, "supported": False, "kind": None}]})
    notice = _notice_text.Notice(seen.events, NOW, hostile, None, hostile, (hostile,))
    message = _notice_text.mail(notice, "a@example.com", ["b@example.com"], "[x]")
    own = {"From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "X-Auto-Response-Suppress"}
    assert set(message.keys()) == own | {"MIME-Version", "Content-Type", "Content-Transfer-Encoding"}
    message.as_bytes()
    for kind in ("teams", "slack", "json"):
        post = json.loads(_notice_text.payload(kind, notice))
        if kind == "teams":
            assert {block["type"] for block in post["attachments"][0]["content"]["body"]} == {"RichTextBlock"}
        elif kind == "slack":
            assert not {"<", ">"} & set(post["text"])
            assert {block["text"]["type"] for block in post["blocks"] if "text" in block} == {"plain_text"}


def test_a_fleet_of_500_fits_into_a_chat_and_all_of_it_is_in_the_json() -> None:
    events = tuple(Event("drift", f"drift/{number}", "s", f"EX{number}: " + "x" * 500) for number in range(500))
    notice = _notice_text.Notice(events, NOW)
    for kind in ("teams", "slack"):
        data = _notice_text.payload(kind, notice)
        assert len(data) <= 25_000
        assert b"more" in data
    slack = json.loads(_notice_text.payload("slack", notice))
    assert max(len(block["text"]["text"]) for block in slack["blocks"] if "text" in block) <= 3000
    assert len(json.loads(_notice_text.payload("json", notice))["events"]) == 500
    assert _notice_text.text(notice).count("EX") == 200


def test_a_chat_shows_less_of_each_kind_until_it_fits() -> None:
    """News of all five kinds at once, in letters of four bytes, is cut to what Teams and Slack take; every kind keeps its heading."""
    events = tuple(Event(kind, f"{kind}/{number}", "s", "\U0001f4e3" * 300) for kind in _notice.KINDS for number in range(40))
    notice = _notice_text.Notice(events, NOW, "run1", "https://reports.example.com/" + "r" * 200)
    for kind in ("teams", "slack"):
        data = _notice_text.payload(kind, notice)
        assert len(data) <= _notice_text.MAX_BYTES
        shown = data.decode()
        assert [heading in shown for heading in _notice_text.HEADINGS.values()] == [True] * 5
        assert "\U0001f4e3" in shown and "https://reports.example.com/" in shown


def test_a_mail_says_where_the_report_is_and_which_run_it_was() -> None:
    """Without either, the last line is still there and no empty one before it."""
    event = Event("failed", "failed/ex1", "s", "EX1: no answer.")
    said = _notice_text.text(_notice_text.Notice((event,), NOW, "run1", "https://reports.example.com/\x1b[2J"))
    assert said.split("\n\n")[1:] == ["Report: https://reports.example.com/\\u001b[2J", "2026-11-24 12:00 UTC, run run1, exchange.mitigation\n"]
    assert _notice_text.text(_notice_text.Notice((event,), NOW)).split("\n\n")[1:] == ["2026-11-24 12:00 UTC, exchange.mitigation\n"]


def test_nothing_is_called_protected() -> None:
    notice = _notice_text.Notice(observe(report=report(host("ex1", verdict("M2", "applied", "yes")))).events, NOW)
    said = _notice_text.text(notice).lower()
    assert "mitigation applied, fix not installed" in said
    assert "protected" not in said and "safe" not in said
