# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A notice as the channels want it: a mail, an adaptive card for Teams, blocks for Slack, plain JSON.

What servers and feeds say is shown as text that no channel interprets: no markup, no mention, no link, no header.
Pure. Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import datetime
import email.message
import email.policy
import email.utils
import json
from collections.abc import Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._notice import KINDS, Event
from ansible_collections.exchange.mitigation.plugins.module_utils._report_text import clean

#: Version of the shape that the generic webhook sends.
SCHEMA = 1

#: Lines shown of each kind of event; a fleet of 500 servers is not read in a chat.
MAX_LINES = 20

#: Longest line in a chat. Teams takes messages of 28 KB in all, Slack 3000 characters a block.
MAX_TEXT = 300
MAX_BLOCK = 2900
MAX_BYTES = 25_000

#: Headings, in the order of KINDS.
HEADINGS = {
    "published": "New mitigations published",
    "applied": "Applied (mitigation applied, fix not installed)",
    "failed": "Failed",
    "drift": "Differs from what is wanted",
    "cleanup": "Cleanup due",
}


@dataclasses.dataclass(frozen=True)
class Notice:
    """What is told in one message: the events that are news, and for a mailed report its lines and its file."""

    events: tuple[Event, ...]
    at: datetime.datetime
    run_id: str | None = None
    report_url: str | None = None
    headline: str = ""
    lines: tuple[str, ...] = ()
    attachment: tuple[str, bytes] | None = None

    @property
    def title(self) -> str:
        """One line about everything."""
        counts = [(kind, sum(1 for event in self.events if event.kind == kind)) for kind in KINDS]
        said = ", ".join(f"{number} {kind}" for kind, number in counts if number)
        return clean(": ".join(part for part in ("Exchange mitigations", self.headline, said) if part), 180)


def sections(events: Sequence[Event], limit: int = MAX_LINES) -> list[tuple[str, list[str]]]:
    """Return heading and lines per kind of event, at most ``limit`` of each."""
    found = []
    for kind in KINDS:
        texts = [clean(event.text) for event in events if event.kind == kind]
        if texts:
            more = [f"... and {len(texts) - limit} more"] if len(texts) > limit else []
            found.append((HEADINGS[kind], texts[:limit] + more))
    return found


def mail(notice: Notice, sender: str, recipients: Sequence[str], prefix: str) -> email.message.EmailMessage:
    """Return the mail. Its text is plain; nothing from outside is in a header but the cleaned title."""
    message = email.message.EmailMessage(policy=email.policy.SMTP)
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Subject"] = clean(f"{prefix} {notice.title}".strip(), 200)
    message["Date"] = email.utils.format_datetime(notice.at)
    message["Message-ID"] = email.utils.make_msgid(domain=email.utils.parseaddr(sender)[1].rpartition("@")[2] or "localhost")
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's absence notice answers it
    message["X-Auto-Response-Suppress"] = "All"  # the same, for Exchange
    message.set_content(text(notice))
    if notice.attachment is not None:
        name, data = notice.attachment
        message.add_attachment(data, maintype="text", subtype="html", filename=name)
    return message


def text(notice: Notice) -> str:
    """Return the notice as plain text."""
    parts = []
    for heading, found in sections(notice.events, 200):
        parts.append("\n".join([heading, *(f"  - {line}" for line in found)]))
    if notice.lines:
        parts.append("\n".join(["The report", *(f"  {clean(line)}" for line in notice.lines)]))
    if notice.report_url:
        parts.append(f"Report: {clean(notice.report_url)}")
    parts.append(f"{_stamp(notice)}{f', run {clean(notice.run_id)}' if notice.run_id else ''}, exchange.mitigation")
    return "\n\n".join(parts) + "\n"


def _stamp(notice: Notice) -> str:
    return notice.at.strftime("%Y-%m-%d %H:%M UTC")


def payload(kind: str, notice: Notice) -> bytes:
    """Return the body for a webhook of this kind (teams, slack or json) as UTF-8."""
    if kind == "json":
        return _bytes(generic(notice))
    make = teams if kind == "teams" else slack
    limit = MAX_LINES
    data = _bytes(make(notice, limit))
    while len(data) > MAX_BYTES and limit > 1:
        limit //= 2
        data = _bytes(make(notice, limit))
    return data


def _bytes(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode(errors="backslashreplace")  # a lone surrogate becomes its JSON escape


def generic(notice: Notice) -> dict[str, Any]:
    """Return the notice for programs: every event with its stable id."""
    return {
        "schema": SCHEMA,
        "source": "exchange.mitigation",
        "title": notice.title,
        "at": notice.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "run_id": notice.run_id,
        "report_url": notice.report_url,
        "events": [event.as_dict() for event in notice.events],
    }


def teams(notice: Notice, limit: int = MAX_LINES) -> dict[str, Any]:
    """Return an adaptive card in a message. Runs of text are not read as Markdown, as text blocks would be."""
    body: list[dict[str, Any]] = [_runs(notice.title, weight="Bolder", size="Large")]
    for heading, found in sections(notice.events, limit):
        body.append(_runs(heading, weight="Bolder"))
        body += [_runs(clean(line, MAX_TEXT)) for line in found]
    body.append(_runs(_stamp(notice), isSubtle=True, size="Small"))
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "body": body,
    }
    if notice.report_url:
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Report", "url": notice.report_url}]
    content = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [content]}


def _runs(line: str, **style: Any) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": line, **style}]}


def slack(notice: Notice, limit: int = MAX_LINES) -> dict[str, Any]:
    """Return blocks of plain text, and the title for notifications with the three characters of Slack's markup escaped."""
    blocks: list[dict[str, Any]] = [{"type": "header", "text": _plain(clean(notice.title, 140))}]
    for heading, found in sections(notice.events, limit):
        lines = "\n".join(f"\u2022 {clean(line, MAX_TEXT)}" for line in found)
        for start in range(0, len(lines), MAX_BLOCK):
            head = f"{heading}\n" if start == 0 else ""
            blocks.append({"type": "section", "text": _plain(head + lines[start:start + MAX_BLOCK])})
    if notice.report_url:
        blocks.append({"type": "section", "text": _plain(f"Report: {clean(notice.report_url)}")})
    blocks.append({"type": "context", "elements": [_plain(_stamp(notice))]})
    escaped = notice.title.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {"text": escaped, "mrkdwn": False, "blocks": blocks[:50]}


def _plain(line: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": line, "emoji": False}
