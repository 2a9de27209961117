# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is new since the report before: differences, verdicts, mitigations in the feed, servers.

Pure. Only what both runs know is compared: a server that was left out or could not be read in this run has fixed nothing.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._drift import as_dict, as_list

_Key = tuple[str, str, str]


def changes(report: Mapping[str, Any], previous: Any) -> dict[str, Any]:
    """Return ``{since, new, fixed, appeared, withdrawn, verdicts, joined, absent}``; ``since`` is None where there is nothing to compare with.

    ``new`` and ``fixed`` hold items of ``drift``, ``verdicts`` ``{host, server, id, before, after}`` with keys of CELLS.
    ``joined`` and ``absent`` are servers that only this run, or only the one before, speaks of.
    """
    before = as_dict(previous)
    result: dict[str, Any] = {"since": None, "new": [], "fixed": [], "appeared": [], "withdrawn": [], "verdicts": [], "joined": [], "absent": []}
    if not before.get("generated_at"):
        return result
    servers = {str(server["host"]): server for server in report["servers"]}
    known = {str(server.get("host")): server for server in map(as_dict, as_list(before.get("servers")))}
    result["since"] = str(before["generated_at"])
    drift, earlier = as_dict(report["drift"]), as_dict(before.get("drift"))
    old, now = _keys(earlier.get("items")), _keys(drift.get("items"))
    blind, unseen = _keys(drift.get("unknown")), _keys(earlier.get("unknown"))
    result["new"] = [item for key, item in now.items() if key not in old and key not in unseen and (key[1] in known or not key[1])]
    result["fixed"] = [item for key, item in old.items() if key not in now and key not in blind and _readable(key, servers, report)]
    here, there = as_dict(report["feed"]), as_dict(before.get("feed"))
    if here.get("sha256") and there.get("sha256") and here.get("domain") == there.get("domain"):
        ids, gone = ([str(one) for one in as_list(feed.get("ids"))] for feed in (here, there))
        result["appeared"] = [one for one in ids if one not in gone]
        result["withdrawn"] = [one for one in gone if one not in ids]
    for host, server in servers.items():
        cells = {str(verdict.get("id")): verdict.get("cell") for verdict in map(as_dict, as_list(known.get(host, {}).get("mitigations")))}
        for verdict in server["mitigations"]:
            was = cells.get(str(verdict["id"]))
            if was is not None and was != verdict["cell"]:
                result["verdicts"].append({"host": host, "server": server["name"], "id": verdict["id"], "before": str(was), "after": verdict["cell"]})
    result["joined"] = [server["name"] for host, server in servers.items() if host not in known]
    result["absent"] = [str(server.get("name") or host) for host, server in known.items() if host not in servers]
    return result


def _keys(items: Any) -> dict[_Key, dict[str, Any]]:
    """Return items by what they are about; the values may change without making it another difference."""
    return {item_key(item): item for item in map(as_dict, as_list(items))}


def item_key(item: Mapping[str, Any]) -> _Key:
    """Return what an item of drift is about."""
    return (str(item.get("scope")), str(item.get("host") or ""), str(item.get("setting")))


def _readable(key: _Key, servers: Mapping[str, Mapping[str, Any]], report: Mapping[str, Any]) -> bool:
    scope, host, dummy = key
    if scope == "organization":
        return isinstance(report["organization"]["mitigations_enabled"], bool)
    if host not in servers:
        return False
    # The switch and the blocked list come from the directory, the verdicts from the server itself.
    return servers[host]["contact"] == "ok" or scope == "server"
