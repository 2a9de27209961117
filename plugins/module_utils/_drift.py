# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where reality differs from what the variables ask for: values in, a list of differences out.

The switches and the blocked lists are compared with what ``organization_info`` read (one Exchange session for the whole
fleet), the mitigations with the verdicts of ``server_info``. What could not be read is listed as unknown and is never
counted as a difference, and never as agreement either.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: What a difference can be.
KINDS = ("differs", "missing", "disabled", "conflicting", "leftover", "ambiguous")


def covers(one: str, other: str) -> bool:
    """Tell whether two mitigation ids speak of the same thing: equal, or one is the dotted prefix of the other."""
    first, second = one.casefold(), other.casefold()
    return first == second or first.startswith(second + ".") or second.startswith(first + ".")


def as_list(value: Any) -> list[Any]:
    """Return a list for a list, for one value and for nothing."""
    if value is None:
        return []
    if isinstance(value, str) or not isinstance(value, Iterable):
        return [value]
    return list(value)


def as_dict(value: Any) -> dict[str, Any]:
    """Return a dict for a mapping, and an empty one for anything else."""
    return {str(key): item for key, item in value.items()} if isinstance(value, Mapping) else {}


def server_of(organization: Mapping[str, Any], *names: Any) -> dict[str, Any]:
    """Return the entry of ``organization.servers`` that one of the names means (name or FQDN, any case), or an empty one."""
    wanted = [str(name).casefold() for name in names if name]
    servers = [as_dict(server) for server in as_list(organization.get("servers"))]
    for name in wanted:
        for server in servers:
            if name in (str(server.get("name") or "").casefold(), str(server.get("fqdn") or "").casefold()):
                return server
    for name in wanted:
        for server in servers:
            if name.partition(".")[0] == str(server.get("name") or "").casefold():
                return server
    return {}


def block_ids(wanted: Iterable[Any], organization: Mapping[str, Any], host: str) -> list[str]:
    """Return the ids to block for mitigations: their own, and each that EM says it has applied on this server for the same thing.

    Whether EM takes a shorter id for a longer one is not documented (FACTS.md 4.4), so the exact ones stand on the list too.
    """
    result = ids(wanted)
    for applied in ids(as_list(server_of(organization, host).get("mitigations_applied"))):
        if any(covers(applied, one) for one in result) and applied.casefold() not in {one.casefold() for one in result}:
            result.append(applied)
    return result


def switch(value: Any) -> bool | None:
    """Return what a variable says of a switch: extra vars are text, and an unset one is None or empty."""
    if isinstance(value, str):
        return {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}.get(value.strip().casefold())
    return value if isinstance(value, bool) else None


def ids(value: Any) -> list[str]:
    """Return the ids of a variable: a list, or text with commas."""
    values = value.split(",") if isinstance(value, str) else as_list(value)
    return [str(item).strip() for item in values if str(item).strip()]


def wanted_block(current: Sequence[str], blocked: Mapping[str, Any]) -> list[str]:
    """Return the blocked list that ``{set, add, remove}`` asks for, in the order of the current one; ids compare without case."""
    start = list(current) if blocked.get("set") in (None, "") else ids(blocked.get("set"))
    removed = {name.casefold() for name in ids(blocked.get("remove"))}
    result: list[str] = []
    for name in [*start, *ids(blocked.get("add"))]:
        if name.casefold() not in removed | {kept.casefold() for kept in result}:
            result.append(name)
    return result


def drift(results: Iterable[Mapping[str, Any]], organization: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Compare a fleet with its wishes.

    ``results`` holds per host ``{host, desired: {organization_enabled, server_enabled, blocked: {set, add, remove}, mitigations}, server}``
    with ``server`` as ``server_info`` returned it (None where nothing could be read). Returns ``{items, unknown, count}``;
    an item is ``{scope, host, server, setting, kind, wanted, actual, diff, text}``, ``diff`` being lines that begin with "-", "+" or a space.
    """
    hosts = [as_dict(result) for result in results]
    known = as_dict(organization)
    items: list[dict[str, Any]] = []
    unknown: list[dict[str, Any]] = []
    _organization(hosts, known, items, unknown)
    for host in hosts:
        seen = as_dict(host.get("server"))
        entry = server_of(known, seen.get("name"), seen.get("fqdn"), host.get("host"))
        name = str(seen.get("name") or entry.get("name") or host.get("host"))
        desired = as_dict(host.get("desired"))
        _switches(str(host.get("host")), name, desired, entry, items, unknown)
        _mitigations(host, name, desired, seen, items, unknown)
    return {"items": items, "unknown": unknown, "count": len(items)}


def _item(scope: str, host: str | None, server: str | None, setting: str, kind: str, wanted: Any, actual: Any, text: str) -> dict[str, Any]:
    return {
        "scope": scope, "host": host, "server": server, "setting": setting, "kind": kind,
        "wanted": wanted, "actual": actual, "diff": _diff(wanted, actual) if kind != "unknown" else [], "text": text,
    }


def _diff(wanted: Any, actual: Any) -> list[str]:
    """Return the lines between what is and what should be; of a list one line per entry, ids compared without case."""
    if not isinstance(wanted, list):
        return [f"- {_word(actual)}", f"+ {_word(wanted)}"] if wanted is not None else []
    have, want = ({str(value).casefold(): str(value) for value in as_list(values)} for values in (actual, wanted))
    lines = [f"{' ' if key in want else '-'} {value}" for key, value in have.items()]
    return lines + [f"+ {value}" for key, value in want.items() if key not in have]


def _word(value: Any) -> str:
    return _on(value) if isinstance(value, bool) or value is None else str(value)


def _on(value: Any) -> str:
    return {True: "on", False: "off"}.get(value, "unknown") if isinstance(value, bool) else "unknown"


def _organization(hosts: list[dict[str, Any]], known: dict[str, Any], items: list[dict[str, Any]], unknown: list[dict[str, Any]]) -> None:
    wishes = {switch(as_dict(host.get("desired")).get("organization_enabled")) for host in hosts} - {None}
    if not wishes:
        return
    setting, actual = "MitigationsEnabled", known.get("mitigations_enabled")
    if len(wishes) > 1:
        text = "The hosts of this run ask for both; set exchange_mitigation_organization_enabled once, for the whole group."
        items.append(_item("organization", None, None, setting, "ambiguous", None, actual, text))
        return
    wanted = wishes.pop()
    if not isinstance(actual, bool):
        unknown.append(_item("organization", None, None, setting, "unknown", wanted, None, "The organisation's switch could not be read."))
    elif actual != wanted:
        text = f"EM is {_on(actual)} for the organisation and should be {_on(wanted)}."
        items.append(_item("organization", None, None, setting, "differs", wanted, actual, text))


def _switches(
    host: str, name: str, desired: dict[str, Any], entry: dict[str, Any], items: list[dict[str, Any]], unknown: list[dict[str, Any]]
) -> None:
    wanted = switch(desired.get("server_enabled"))
    if wanted is not None:
        actual = entry.get("mitigations_enabled")
        if not isinstance(actual, bool):
            unknown.append(_item("server", host, name, "MitigationsEnabled", "unknown", wanted, None, "The server's switch could not be read."))
        elif actual != wanted:
            text = f"EM is {_on(actual)} for this server and should be {_on(wanted)}."
            items.append(_item("server", host, name, "MitigationsEnabled", "differs", wanted, actual, text))
    blocked = as_dict(desired.get("blocked"))
    if blocked.get("set") in (None, "") and not ids(blocked.get("add")) and not ids(blocked.get("remove")):
        return
    if "mitigations_blocked" not in entry:
        unknown.append(_item("server", host, name, "MitigationsBlocked", "unknown", None, None, "The server's blocked list could not be read."))
        return
    current = ids(as_list(entry.get("mitigations_blocked")))
    target = wanted_block(current, blocked)
    if {value.casefold() for value in current} != {value.casefold() for value in target}:
        text = f"Blocked is {_ids(current)} and should be {_ids(target)}."
        items.append(_item("server", host, name, "MitigationsBlocked", "differs", target, current, text))


def _ids(values: Sequence[str]) -> str:
    return ", ".join(values) if values else "nothing"


def wants(wishes: Iterable[Any], identifier: str) -> bool:
    """Tell whether a list of wished ids (or ``all``) means this mitigation."""
    return any(str(wish).casefold() == "all" or covers(str(wish), identifier) for wish in wishes)


def _mitigations(
    host: dict[str, Any], name: str, desired: dict[str, Any], seen: dict[str, Any], items: list[dict[str, Any]], unknown: list[dict[str, Any]]
) -> None:
    label = str(host.get("host"))
    wishes = ids(desired.get("mitigations"))
    for verdict in (as_dict(value) for value in as_list(seen.get("mitigations"))):
        identifier, state = str(verdict.get("id")), verdict.get("state")
        if identifier.casefold().startswith("local-") and state not in ("absent", "unsupported") and not wants(wishes, identifier):
            text = f"{identifier} is on this server, and nothing says whether it is wanted."
            unknown.append(_item("mitigation", label, name, identifier, "unknown", None, state, text))
    if not wishes:
        return
    if not seen:
        reason = "unreachable" if host.get("unreachable") else str(host.get("reason") or "could not be read")
        unknown.append(_item("mitigation", label, name, "mitigations", "unknown", wishes, None, f"Nothing is known of this server: {reason}."))
        return
    for verdict in (as_dict(value) for value in as_list(seen.get("mitigations"))):
        identifier, state, needed = str(verdict.get("id")), verdict.get("state"), verdict.get("needed")
        if not wants(wishes, identifier):
            continue
        if state == "unknown" or (needed == "unknown" and state != "applied"):
            reason = str(verdict.get("reason") or "no reason given")
            unknown.append(_item("mitigation", label, name, identifier, "unknown", "applied", state, f"{identifier} is unknown: {reason}."))
        elif state == "conflicting":
            text = f"A rule named like {identifier} behaves differently."
            items.append(_item("mitigation", label, name, identifier, "conflicting", "applied", state, text))
        elif needed == "yes" and state == "disabled":
            items.append(_item("mitigation", label, name, identifier, "disabled", "applied", state, f"The rule of {identifier} is there but disabled."))
        elif needed == "yes" and state == "absent" and not verdict.get("blocked"):
            text = f"This build needs {identifier} and does not have it."
            items.append(_item("mitigation", label, name, identifier, "missing", "applied", state, text))
        elif needed == "no" and state == "applied":
            text = f"{identifier} is applied and this build no longer needs it."
            items.append(_item("mitigation", label, name, identifier, "leftover", "absent", state, text))
