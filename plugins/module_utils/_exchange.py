# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The organisation and its servers as Exchange shows them: reading into plain values, settings as tables, waiting.

Conversion and planning are pure; the functions that take a session say so.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils import _builds
from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import PSObject, plain, strings
from ansible_collections.exchange.mitigation.plugins.module_utils._cmdlets import EXCHANGE
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import CmdletError, InvalidInput, MitigationError, Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Answer, Session, Task, call
from ansible_collections.exchange.mitigation.plugins.module_utils._rights import lacking
from ansible_collections.exchange.mitigation.plugins.module_utils._untrusted import truth, word

#: An id as EM and the documentation write them (FACTS.md 4.4): M1, M2.1.0, PING1, LOCAL-7. Nothing else is sent.
MITIGATION_ID = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[.\-_][A-Za-z0-9]+)*")


# --- reading -----------------------------------------------------------------------------------------------------------------


def server_from(found: PSObject) -> dict[str, Any]:
    """Return one server of ``organization.servers`` from an object of Get-ExchangeServer.

    ``build`` is what AdminDisplayVersion tells, which is not exact on every build (FACTS.md 5); EM's fields are None
    or empty where the object has none, as before EM.
    """
    version = word(found.get("AdminDisplayVersion"))
    build = _build(version)
    roles = [role.strip() for role in (word(found.get("ServerRole")) or "").split(",") if role.strip() and role.strip() != "None"]
    return {
        "name": word(found.get("Name")) or found.to_string or "",
        "fqdn": word(found.get("Fqdn")),
        "version": version,
        "build": _builds.format_build(build) if build else None,
        "product": product(build),
        "roles": roles,
        "edition": word(found.get("Edition")),
        "site": (word(found.get("Site")) or "").rpartition("/")[2] or None,
        "mitigations_enabled": truth(found.get("MitigationsEnabled")),
        "mitigations_blocked": strings(found.get("MitigationsBlocked")),
        "mitigations_applied": strings(found.get("MitigationsApplied")),
        "mitigations_applied_time": iso(plain(found.get("MitigationsAppliedTime"))),
        "data_collection_enabled": truth(found.get("DataCollectionEnabled")),
        "internet_web_proxy": word(found.get("InternetWebProxy")) or None,
        "domain_controller": word(found.get("OriginatingServer")),
        "em_supported": "Mailbox" in roles and (_builds.has_em(build) if build else found.has("MitigationsEnabled")),
    }


def organization_from(found: PSObject, servers: Sequence[PSObject]) -> dict[str, Any]:
    """Return the shape that organization_info returns, from the objects of Get-OrganizationConfig and Get-ExchangeServer."""
    return {
        "name": word(found.get("Name")) or found.to_string or "",
        "mitigations_enabled": truth(found.get("MitigationsEnabled")),
        "em_supported": found.has("MitigationsEnabled"),
        "domain_controller": word(found.get("OriginatingServer")),
        "servers": sorted((server_from(server) for server in servers), key=lambda server: str(server["name"]).lower()),
    }


def product(build: _builds.Build | None) -> str:
    """Return Exchange2016, Exchange2019, ExchangeSE, ``older`` or ``unknown``."""
    if build is None:
        return "unknown"
    return _builds.product_of(build) or ("older" if build < (15, 1, 0, 0) else "unknown")


def iso(when: Any) -> str | None:
    """Return a time as ISO-8601, in UTC with Z where its zone is known; None for null."""
    if when is None:
        return None
    if not isinstance(when, datetime.datetime):
        return word(when)
    shown = when.isoformat(timespec="seconds")
    return shown.replace("+00:00", "Z")


def _build(version: str | None) -> _builds.Build | None:
    if not version:
        return None
    try:
        return _builds.parse_build(version)
    except MitigationError:
        return None


def is_server(server: Mapping[str, Any], identity: str) -> bool:
    """Tell whether an identity means this server: its name, its FQDN, or a name whose first label is its name; in any case."""
    wanted = identity.strip().rstrip(".").lower()
    return wanted in {str(server.get("name") or "").lower(), str(server.get("fqdn") or "").lower()} or (
        "." in wanted and wanted.partition(".")[0] == str(server.get("name") or "").lower() and not wanted.replace(".", "").isdigit()
    )


def find_server(organization: Mapping[str, Any], identity: str) -> dict[str, Any] | None:
    """Return the server of an organisation that an identity means: an exact name or FQDN first, then the first label."""
    listed = organization.get("servers")
    servers = [server for server in listed if isinstance(server, Mapping)] if isinstance(listed, list) else []
    wanted = identity.strip().rstrip(".").lower()
    for key in ("fqdn", "name"):
        for server in servers:
            if str(server.get(key) or "").lower() == wanted:
                return _plain(server)
    return next((_plain(server) for server in servers if is_server(server, identity)), None)


def _plain(server: Mapping[str, Any]) -> dict[str, Any]:
    """Return a server with plain values: one out of a variable carries ansible-core's tags."""
    return dict(json.loads(json.dumps(server, default=str)))


def read_organization(exchange: Session, groups: bool = False) -> dict[str, Any]:
    """Read organisation and servers in one session, on request their availability groups too. Raises CmdletError, ConnectionFailure."""
    wanted = [(call("Get-OrganizationConfig"),), (call("Get-ExchangeServer"),), *([(call("Get-DatabaseAvailabilityGroup"),)] if groups else [])]
    answers = exchange.read(wanted)
    organization, servers = (objects(answer) for answer in answers[:2])
    if not organization:
        raise CmdletError("Get-OrganizationConfig returned no organisation.", "Get-OrganizationConfig", reason="answer_incomplete")
    found = organization_from(organization[0], servers)
    if groups:
        add_groups(found, answers[2])
    return found


def add_groups(organization: dict[str, Any], answer: Answer) -> None:
    """Put ``dags`` into an organisation and ``dag`` into its servers; an account that may not read them leaves None, which means unknown."""
    members: dict[str, str] = {}
    dags: list[dict[str, Any]] | None = None
    if not answer.errors:
        dags = []
        for found in objects(answer):
            name = word(found.get("Name")) or found.to_string or ""
            # A member is shown by its name, by its place in the directory, or by its distinguished name.
            servers = [_last(server) for server in strings(found.get("Servers"))]
            dags.append({"name": name, "servers": sorted(servers, key=str.lower)})
            members.update({server.lower(): name for server in servers})
        dags.sort(key=lambda dag: str(dag["name"]).lower())
    organization["dags"] = dags
    for server in organization["servers"]:
        server["dag"] = members.get(str(server["name"]).lower())


def _last(identity: str) -> str:
    if identity.upper().startswith("CN="):
        return identity[3:].partition(",")[0]
    return identity.rpartition("/")[2]


def organization_of(task: Task) -> dict[str, Any]:
    """Return the option ``organization`` of a task, else read it through one Exchange session."""
    given = task.params.get("organization")
    if given:
        if not isinstance(given.get("servers"), list) or not all(isinstance(server, Mapping) for server in given["servers"]):
            raise InvalidInput("The option organization is not what organization_info returned: it has no list of servers.")
        return dict(given)
    return read_organization(task.exchange)


def read_server(exchange: Session, identity: str, controller: str | None = None) -> dict[str, Any]:
    """Read one server; a name with dots that Exchange does not know is tried by its first label too.

    Raises Refused ``server_not_found``, CmdletError, ConnectionFailure.
    """
    more = {"DomainController": controller} if controller else {}
    names = [identity] if "." not in identity else [identity, identity.partition(".")[0]]
    for name in names:
        (answer,) = exchange.read([(call("Get-ExchangeServer", Identity=name, **more),)])
        if any(error.exception.endswith("ManagementObjectNotFoundException") for error in answer.errors):
            continue
        for server in map(server_from, objects(answer)):
            if is_server(server, identity):
                return server
    raise Refused(
        f"The organisation has no Exchange server named {identity}: set identity to the server's name as Get-ExchangeServer shows it.",
        reason="server_not_found", identity=identity,
    )


def read_settings(exchange: Session, controller: str | None = None) -> dict[str, Any]:
    """Read the organisation's own settings, without its servers."""
    more = {"DomainController": controller} if controller else {}
    (answer,) = exchange.read([(call("Get-OrganizationConfig", **more),)])
    found = objects(answer)
    if not found:
        raise CmdletError("Get-OrganizationConfig returned no organisation.", "Get-OrganizationConfig", reason="answer_incomplete")
    organization = organization_from(found[0], [])
    del organization["servers"]
    return organization


def objects(answer: Answer) -> list[PSObject]:
    """Return the objects of an answer; raises CmdletError for its first error record."""
    if answer.errors:
        error = answer.errors[0]
        cmdlet = answer.statement[-1].cmdlet
        remedy = lacking(cmdlet, EXCHANGE, error.fqid, error.exception)
        reason = "cmdlet_not_available" if remedy else None
        message = " ".join(error.message.split()).rstrip(".")
        raise CmdletError(f"{cmdlet} failed: {message}.{remedy}", cmdlet, error.fqid, error.category, error.exception, error.target, reason=reason)
    return [item for item in answer.objects if isinstance(item, PSObject)]


# --- settings ----------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Setting:
    """One setting: the module's option and the key in returned values, the cmdlet's parameter, and ``bool``, ``ids`` or ``uri``."""

    option: str
    parameter: str
    kind: str


ORGANIZATION_SETTINGS = (Setting("mitigations_enabled", "MitigationsEnabled", "bool"),)

SERVER_SETTINGS = (
    Setting("mitigations_enabled", "MitigationsEnabled", "bool"),
    Setting("mitigations_blocked", "MitigationsBlocked", "ids"),
    Setting("data_collection_enabled", "DataCollectionEnabled", "bool"),
    Setting("internet_web_proxy", "InternetWebProxy", "uri"),
)


@dataclasses.dataclass(frozen=True)
class SettingsPlan:
    """What to change: values by option before and after (only those that differ), and the parameters to send."""

    before: dict[str, Any]
    after: dict[str, Any]
    parameters: dict[str, Any]

    @property
    def diff(self) -> dict[str, Any]:
        """The diff as Ansible shows it."""
        return {"before": self.before, "after": self.after}

    def done(self, current: Mapping[str, Any]) -> bool:
        """Tell whether the current values are those of the plan; lists of ids are sets, in any case."""
        return all(_same(current.get(option), value) for option, value in self.after.items())


def plan_settings(settings: Sequence[Setting], params: Mapping[str, Any], current: Mapping[str, Any]) -> SettingsPlan:
    """Plan from the options of a task and the current values; an option that is None is left alone. Raises InvalidInput."""
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    for setting in settings:
        wanted = params.get(setting.option)
        if wanted is None:
            continue
        present = current.get(setting.option)
        target = _KINDS[setting.kind](present, wanted)
        if _same(present, target):
            continue
        before[setting.option] = present
        after[setting.option] = target
        parameters[setting.parameter] = target
    return SettingsPlan(before, after, parameters)


def proxy_after(wanted: str) -> str | None:
    """Return a proxy as Exchange shows it (System.Uri: scheme and host in small letters, no default port, a path), None for an empty text."""
    text_ = wanted.strip()
    if not text_:
        return None
    try:
        parts = urllib.parse.urlsplit(text_)
        port = parts.port
    except ValueError:
        parts, port = urllib.parse.urlsplit(""), None
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname or re.search(r"[\s\x00-\x1f]", text_):
        raise InvalidInput(f"internet_web_proxy takes a URL such as http://proxy.example.com:8080, not {text_!r}; an empty text removes the proxy.")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise InvalidInput("internet_web_proxy takes scheme, host and port alone: Exchange logs on to a proxy with the server's own account.")
    scheme, host = parts.scheme.lower(), parts.hostname.lower()
    host = f"[{host}]" if ":" in host else host
    shown = "" if port in (None, {"http": 80, "https": 443}[scheme]) else f":{port}"
    return f"{scheme}://{host}{shown}{parts.path or '/'}"


def blocked_after(present: Sequence[str], wanted: Mapping[str, Any]) -> list[str]:
    """Return the list of ids after ``add``, ``remove`` or ``set``.

    Ids are compared in any case and kept as Exchange shows them; what is new is written as given. The whole list is
    sent, because only full replacement is documented (CMDLETS.md 10).
    """
    add, remove, replace = ([str(item).strip() for item in wanted[key]] if wanted.get(key) is not None else None for key in ("add", "remove", "set"))
    if replace is not None and (add is not None or remove is not None):
        raise InvalidInput("mitigations_blocked takes either set, or add and remove, not both.")
    for item in (*(add or ()), *(remove or ()), *(replace or ())):
        if not MITIGATION_ID.fullmatch(item):
            raise InvalidInput(f"{item!r} is no mitigation id: write it as in MitigationsApplied, such as M1, M2.1.0 or PING1.", id=item)
    both = {item.lower() for item in add or ()} & {item.lower() for item in remove or ()}
    if both:
        raise InvalidInput(f"mitigations_blocked adds and removes the same id: {', '.join(sorted(both))}.")
    shown = {item.lower(): item for item in present}
    if replace is not None:
        kept = [shown.get(item.lower(), item) for item in replace]
    else:
        dropped = {item.lower() for item in remove or ()}
        kept = [item for item in present if item.lower() not in dropped] + list(add or ())
    unique: dict[str, str] = {}
    for item in kept:
        unique.setdefault(item.lower(), item)
    return list(unique.values())


#: Kind of a setting -> what a wish makes of the present value.
_KINDS: Mapping[str, Callable[[Any, Any], Any]] = {
    "bool": lambda dummy_present, wanted: wanted,
    "ids": lambda present, wanted: blocked_after(present or [], wanted),
    "uri": lambda dummy_present, wanted: proxy_after(wanted),
}


def added_ids(present: Sequence[str], after: Sequence[str]) -> list[str]:
    """Return the ids that are new."""
    shown = {item.lower() for item in present}
    return [item for item in after if item.lower() not in shown]


def _same(present: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return {str(item).lower() for item in present or []} == {item.lower() for item in wanted}
    return bool(present == wanted)


# --- waiting -----------------------------------------------------------------------------------------------------------------


def wait_until(
    read: Callable[[], dict[str, Any]],
    done: Callable[[Mapping[str, Any]], bool],
    seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[dict[str, Any], bool]:
    """Read until ``done`` or for ``seconds``; return the last value and whether it was done. Reads at least once."""
    deadline = clock() + seconds
    pause = 0.5
    while True:
        current = read()
        if done(current):
            return current, True
        left = deadline - clock()
        if left <= 0:
            return current, False
        sleep(min(pause, left))
        pause = min(pause * 2, 5.0)
