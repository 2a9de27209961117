# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the inventory shows of an organisation: which servers, under which names, in which groups.

Names of hosts and groups are the only texts that Ansible reads as such; they are made of harmless characters here,
whatever a server or a site is called. Everything else is a value.
Pure. Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._drift import as_list

#: Every host is in this group, which the playbooks work on.
SERVERS = "exchange_servers"

PRODUCTS = {"Exchange2016": "exchange_2016", "Exchange2019": "exchange_2019", "ExchangeSE": "exchange_se", "older": "exchange_older"}

#: A DNS or NetBIOS name. Nothing in it can be a template, a pattern of hosts or an option.
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9])?")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Which servers are in the inventory. Empty sites mean every site; ``exclude`` are patterns of names."""

    products: Sequence[str]
    roles: Sequence[str]
    sites: Sequence[str] = ()
    exclude: Sequence[str] = ()
    hostnames: str = "fqdn"


@dataclasses.dataclass(frozen=True)
class Found:
    """A host: its name, its address, its groups, and what is known of the server."""

    name: str
    address: str
    groups: tuple[str, ...]
    server: dict[str, Any]


def hosts(organization: Mapping[str, Any], wanted: Wanted) -> tuple[list[Found], list[str]]:
    """Return the hosts of what organization_info returns, and the names of servers whose names cannot be used."""
    found: dict[str, Found] = {}
    unusable: list[str] = []
    for server in as_list(organization.get("servers")):
        if not isinstance(server, Mapping) or not _chosen(server, wanted):
            continue
        name, fqdn = (str(server.get(key) or "") for key in ("name", "fqdn"))
        usable = [text for text in ((fqdn, name) if wanted.hostnames == "fqdn" else (name, fqdn)) if _HOST.fullmatch(text)]
        if not usable or usable[0] in found:
            unusable.append(name or fqdn)
            continue
        address = fqdn if _HOST.fullmatch(fqdn) else usable[0]
        state = em(server, organization.get("mitigations_enabled"))
        found[usable[0]] = Found(usable[0], address, tuple(groups(server, state)), {**server, "em_state": state})
    return list(found.values()), unusable


def _chosen(server: Mapping[str, Any], wanted: Wanted) -> bool:
    roles = {str(role).casefold() for role in as_list(server.get("roles"))}
    names = [str(server.get(key)).casefold() for key in ("name", "fqdn") if server.get(key)]
    return (
        server.get("product") in wanted.products
        and (not wanted.roles or bool(roles.intersection(role.casefold() for role in wanted.roles)))
        and (not wanted.sites or str(server.get("site") or "").casefold() in {site.casefold() for site in wanted.sites})
        and not any(fnmatch.fnmatchcase(name, pattern.casefold()) for name in names for pattern in wanted.exclude)
    )


def em(server: Mapping[str, Any], switch: Any) -> str:
    """Return on, off, unsupported or unknown: what the switches of the organisation and the server come to."""
    if not server.get("em_supported"):
        return "unsupported"
    switches = (switch, server.get("mitigations_enabled"))
    return "off" if False in switches else "on" if switches == (True, True) else "unknown"


def groups(server: Mapping[str, Any], state: str) -> Iterable[str]:
    """Return the groups of a server. ``state``: as ``em`` tells it."""
    yield SERVERS
    yield PRODUCTS.get(str(server.get("product")), "exchange_unknown")
    for role in as_list(server.get("roles")):
        yield f"exchange_role_{group(role)}"
    if server.get("site"):
        yield f"exchange_site_{group(server['site'])}"
    yield f"exchange_em_{state}"


def group(text: Any) -> str:
    """Return a text as part of a group's name; where more than case and separators is lost, a hash keeps two apart."""
    simple = re.sub(r"[^a-z0-9]+", "_", str(text).lower()).strip("_")
    if re.fullmatch(r"[A-Za-z0-9 ._-]{1,64}", str(text)) and simple:
        return simple
    digest = hashlib.sha256(str(text).encode(errors="backslashreplace")).hexdigest()[:8]
    return f"{simple[:40].strip('_')}_{digest}".lstrip("_")
