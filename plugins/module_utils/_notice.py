# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is to tell, and what of it was told already: values in, events out.

An event is a state that somebody should hear of once: a mitigation is published, is applied, could not be applied, differs,
is due for cleanup. It stays told as long as the state lasts. When a later run sees that the state is over, it is forgotten,
so that its return is news again; where a run could not see (a server that is down, a part of the fleet), nothing is forgotten.
Pure. Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from ansible_collections.exchange.mitigation.plugins.module_utils._drift import as_dict, as_list
from ansible_collections.exchange.mitigation.plugins.module_utils._report_text import clean

PUBLISHED, APPLIED, FAILED, DRIFT, CLEANUP = KINDS = ("published", "applied", "failed", "drift", "cleanup")

#: Entries that are remembered for a channel; the oldest go first.
MAX_ENTRIES = 50_000

#: Who made a rule, in words.
MAKERS = {"em": "by Emergency Mitigation", "eomt": "by EOMT", "us": "by this collection", "other": "by others"}


@dataclasses.dataclass(frozen=True)
class Event:
    """Something to tell once. ``key`` is its identity, ``scope`` what must be seen to know that it is over.

    ``occurrence`` names the run that made it so; the same key with another one is news again. ``text`` is one clean line.
    """

    kind: str
    key: str
    scope: str
    text: str
    host: str | None = None
    server: str | None = None
    mitigation: str | None = None
    reason: str | None = None
    occurrence: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return what the module returns and the generic webhook sends."""
        return {
            "kind": self.kind,
            "id": self.key,
            "host": self.host,
            "server": self.server,
            "mitigation": self.mitigation,
            "reason": self.reason,
            "text": self.text,
        }


@dataclasses.dataclass(frozen=True)
class Entry:
    """What is remembered of an event that was told."""

    scope: str
    at: str
    occurrence: str = ""


@dataclasses.dataclass(frozen=True)
class Observation:
    """What a run saw: the events, and the scopes that it could see at all."""

    events: tuple[Event, ...]
    scopes: frozenset[str]


def observe(
    feed: Mapping[str, Any] | None = None, outcomes: Mapping[str, Any] | None = None, report: Mapping[str, Any] | None = None
) -> Observation:
    """Return what a run saw.

    ``feed``: the whole result of the ``feed`` module. ``outcomes``: by host the result of the ``mitigation`` module.
    ``report``: as ``_report.build`` returns it and report.json holds it. Each may be missing.
    """
    events: dict[str, Event] = {}
    scopes: set[str] = set()
    for seen in (_feed(as_dict(feed)), *(_outcome(host, as_dict(result)) for host, result in as_dict(outcomes).items()), _report(as_dict(report))):
        scopes |= seen.scopes
        for event in seen.events:
            events.setdefault(event.key, event)
    return Observation(tuple(sorted(events.values(), key=lambda event: (KINDS.index(event.kind), event.key))), frozenset(scopes))


@dataclasses.dataclass(frozen=True)
class News:
    """``tell`` is what was not told yet; ``standing`` is what stays remembered whether or not it is delivered."""

    tell: tuple[Event, ...]
    standing: dict[str, Entry]


def settle(memory: Mapping[str, Entry], seen: Observation, kinds: Sequence[str] = KINDS) -> News:
    """Hold what a run saw against what a channel was told."""
    current = {event.key: event for event in seen.events}
    standing = {key: entry for key, entry in memory.items() if entry.scope not in seen.scopes or key in current}
    tell = tuple(
        event
        for event in seen.events
        if event.kind in kinds and (event.key not in standing or (event.occurrence and event.occurrence != standing[event.key].occurrence))
    )
    return News(tell, standing)


def remember(news: News, at: str) -> dict[str, Entry]:
    """Return the memory after everything was delivered."""
    told = {event.key: Entry(event.scope, at, event.occurrence) for event in news.tell}
    entries = {**news.standing, **told}
    if len(entries) > MAX_ENTRIES:
        entries = dict(sorted(entries.items(), key=lambda item: item[1].at)[-MAX_ENTRIES:])
    return entries


def with_states(outcomes: Mapping[str, Any] | None, states: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the outcomes, and for a host that a rollout knows as failed for another reason this failure."""
    found = {host: as_dict(result) for host, result in as_dict(outcomes).items()}
    for host, state in ((host, as_dict(state)) for host, state in as_dict(states).items()):
        result = found.get(host, {})
        if state.get("state") in ("failed", "unreachable", "refused") and not (result.get("failed") or result.get("unreachable")):
            failure = {"reason": state.get("reason"), "msg": state.get("msg"), "unreachable" if state["state"] == "unreachable" else "failed": True}
            found[host] = {**result, **failure, "skipped": False}
    return found


def _path(*parts: Any) -> str:
    """Return parts as one name that no other parts have."""
    return "/".join(quote(str(part), safe="") for part in parts)


def _digest(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _feed(feed: dict[str, Any]) -> Observation:
    domain = as_dict(feed.get("feed")).get("domain")
    if not domain or "mitigations" not in feed:
        return Observation((), frozenset())
    scope = _path("feed", domain)
    events = []
    for config in map(as_dict, as_list(feed.get("mitigations"))):
        identifier = clean(config.get("id"), 80)
        if config.get("kind") == "none" or not identifier:
            continue  # a heartbeat
        able = "this collection can apply it" if config.get("supported") else "this collection has no action for it, read the advisory"
        about = f" ({clean(config.get('description'), 200)})" if config.get("description") else ""
        text = f"{identifier} is published{about}; {able}."
        events.append(Event(PUBLISHED, _path(PUBLISHED, domain, identifier), scope, text, mitigation=identifier))
    return Observation(tuple(events), frozenset({scope}))


def _outcome(name: str, result: dict[str, Any]) -> Observation:
    """Return what one host's result of the mitigation module tells. A refusal's verdicts are of a plan that was not carried out."""
    host = clean(name, 200)
    if result.get("skipped") or not {"mitigations", "failed", "unreachable"} & set(result):
        return Observation((), frozenset())
    own = _path("outcome", host)
    scopes = {own}
    events = []
    if result.get("unreachable") or result.get("failed"):
        reason = clean(result.get("reason") or ("unreachable" if result.get("unreachable") else "failed"), 80)
        said = clean(str(result.get("msg") or "no message").removeprefix("Task failed: "), 400)
        named = _refused(result)
        about = f"{', '.join(named)} on {host}" if named else host
        text = f"{about}: {'not reached' if result.get('unreachable') else 'not done'} ({reason}). {said}"
        key = _path(FAILED, host, reason, ",".join(named))
        events.append(Event(FAILED, key, own, text, host, mitigation=named[0] if len(named) == 1 else None, reason=reason))
    if result.get("unreachable") or "effects" not in result:
        return Observation(tuple(events), frozenset(scopes))
    for verdict in map(as_dict, as_list(result.get("mitigations"))):
        made = verdict.get("action") in ("apply", "replace") and bool(result.get("changed"))
        seen = _applied(verdict, host, host, str(result.get("run_id") or "") if made else "")
        events += seen.events
        scopes |= seen.scopes
    return Observation(tuple(events), frozenset(scopes))


def _refused(result: dict[str, Any]) -> list[str]:
    return sorted({clean(as_dict(refusal).get("id"), 80) for refusal in as_list(result.get("refusals")) if as_dict(refusal).get("id")})


def _applied(verdict: dict[str, Any], host: str, server: str, occurrence: str = "") -> Observation:
    """Return whether a mitigation is applied on a server, as far as its verdict tells."""
    identifier, state = clean(verdict.get("id"), 80), verdict.get("state")
    if state in (None, "unknown", "unsupported"):
        return Observation((), frozenset())
    scope = _path(APPLIED, host, identifier)
    if state != "applied":
        return Observation((), frozenset({scope}))
    maker = MAKERS.get(str(verdict.get("maker")), "by an unknown maker")
    cve = f" ({clean(verdict.get('cve'), 40)})" if verdict.get("cve") and verdict.get("cve") != identifier else ""
    text = f"{identifier}{cve} is applied on {server}, {maker}."
    return Observation((Event(APPLIED, scope, scope, text, host, server, identifier, occurrence=occurrence),), frozenset({scope}))


def _report(report: dict[str, Any]) -> Observation:
    if not report:
        return Observation((), frozenset())
    events: list[Event] = []
    scopes: set[str] = set()
    drift = as_dict(report.get("drift"))
    unknown = {as_dict(item).get("host") for item in as_list(drift.get("unknown"))}
    for server in map(as_dict, as_list(report.get("servers"))):
        seen = _server(server, str(server.get("host")) in unknown)
        events += seen.events
        scopes |= seen.scopes
    if isinstance(as_dict(report.get("organization")).get("mitigations_enabled"), bool):
        scopes.add(_path(DRIFT, ""))
    for item in map(as_dict, as_list(drift.get("items"))):
        if item.get("kind") != "leftover":  # told as a cleanup
            events.append(_difference(item))
    return Observation(tuple(events), frozenset(scopes))


def _difference(item: dict[str, Any]) -> Event:
    host = clean(item.get("host"), 200)
    server = clean(item.get("server"), 200) or host
    key = _path(DRIFT, host, clean(item.get("setting"), 80), item.get("kind"), _digest(item.get("wanted"), item.get("actual")))
    mitigation = clean(item.get("setting"), 80) if item.get("scope") == "mitigation" else None
    text = f"{server or 'Organisation'}: {clean(item.get('text'), 400)}"
    return Event(DRIFT, key, _path(DRIFT, host), text, host or None, server or None, mitigation, clean(item.get("kind"), 40))


def _server(server: dict[str, Any], partly: bool) -> Observation:
    """Return what a server's row tells; ``partly``: some of its settings could not be read, so none of its differences is over."""
    host, name = clean(server.get("host"), 200), clean(server.get("name"), 200)
    contact = _path("contact", host)
    if server.get("contact") != "ok":
        reason = clean(server.get("reason_code") or server.get("contact"), 80)
        text = f"{name}: nothing is known of this server ({reason}). {clean(server.get('reason'), 300)}"
        return Observation((Event(FAILED, _path(FAILED, host, "observe", reason), contact, text, host, name, reason=reason),), frozenset({contact}))
    scopes = {contact} if partly else {contact, _path(DRIFT, host)}
    events: list[Event] = []
    for verdict in map(as_dict, as_list(server.get("mitigations"))):
        seen = _applied(verdict, host, name)
        events += seen.events
        scopes |= seen.scopes
        if not seen.scopes or verdict.get("needed") == "unknown":
            continue
        identifier = clean(verdict.get("id"), 80)
        due = _path(CLEANUP, host, identifier)
        scopes.add(due)
        if verdict.get("state") == "applied" and verdict.get("needed") == "no":
            text = f"{name}: {identifier} is applied and this build does not need it any more; exchange.mitigation.retire takes it out."
            events.append(Event(CLEANUP, due, due, text, host, name, identifier, "leftover"))
        elif verdict.get("block_can_be_lifted"):
            text = f"{name}: the block of {identifier} can be lifted; exchange.mitigation.retire with exchange_mitigation_unblock does it."
            events.append(Event(CLEANUP, _path(due, "block"), due, text, host, name, identifier, "block"))
    return Observation(tuple(events), frozenset(scopes))
