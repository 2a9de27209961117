# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of one server: its snapshot together with what the organisation says of it, and the shape of both for users.

Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Container, Mapping, Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils import _builds, _catalogue
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConfigurationError, MitigationError
from ansible_collections.exchange.mitigation.plugins.module_utils._exchange import find_server, organization_of
from ansible_collections.exchange.mitigation.plugins.module_utils._findings import findings, hours_since
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_config import Configuration, Rule
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sites import DEFAULT_SITE
from ansible_collections.exchange.mitigation.plugins.module_utils._local import named_in
from ansible_collections.exchange.mitigation.plugins.module_utils._mitigations._values import Mitigation
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Statement, Task
from ansible_collections.exchange.mitigation.plugins.module_utils._observe import More, Service, Snapshot, observe, refuse_unsupported
from ansible_collections.exchange.mitigation.plugins.module_utils._states import States, names_of, read_states, state_statements, states_from
from ansible_collections.exchange.mitigation.plugins.module_utils._surroundings import Reach, pending_reboot, proxies, ucrt, winhttp
from ansible_collections.exchange.mitigation.plugins.module_utils._verdict import Verdict, unsupported, verdict

#: HealthChecker's words for the effective state, by (organisation, server) (FACTS.md 5).
EM_STATES: Mapping[tuple[Any, Any], str] = {
    (True, True): "Enabled",
    (False, True): "Disabled on org level",
    (True, False): "Disabled on server level",
    (False, False): "Disabled",
}
EM_UNKNOWN = "Failed to query config"


@dataclasses.dataclass(frozen=True)
class Survey:
    """One server: ``snapshot`` from Windows, ``entry`` from the organisation (None where it does not list the server).

    ``states`` are the services and application pools that were asked for.
    """

    snapshot: Snapshot
    organization: Mapping[str, Any]
    entry: Mapping[str, Any] | None
    site: str
    states: States = dataclasses.field(default_factory=States)

    @property
    def build(self) -> _builds.Build | None:
        """The build from ExSetup.exe, None where it cannot be read: AdminDisplayVersion is not exact (FACTS.md 5)."""
        try:
            return _builds.parse_build(self.snapshot.version) if self.snapshot.version else None
        except MitigationError:
            return None

    @property
    def blocked(self) -> list[str] | None:
        """MitigationsBlocked, None where it is not known."""
        return None if self.entry is None else list(self.entry.get("mitigations_blocked") or [])

    @property
    def em_state(self) -> str:
        """The effective state of EM in HealthChecker's words."""
        key = (self.organization.get("mitigations_enabled"), self.entry.get("mitigations_enabled") if self.entry else None)
        return EM_STATES.get(key, EM_UNKNOWN) if all(isinstance(part, bool) for part in key) else EM_UNKNOWN

    @property
    def em_active(self) -> bool:
        """Whether EM will act on this server within the hour: on for both, service running, build that has it."""
        service = self.snapshot.service
        build = self.build
        return self.em_state == "Enabled" and service is not None and service.state == "Running" and (build is None or _builds.has_em(build))


def survey(
    task: Task,
    wanted: Sequence[Mitigation] = (),
    services: Sequence[str] = (),
    pools: Sequence[str] = (),
    also: Sequence[str] = (),
    beside: More | None = None,
) -> Survey:
    """Read a task's server. Raises Refused for machines without Exchange 2016, 2019 or SE Mailbox, CmdletError, ConnectionFailure.

    Another site than the front end's is read where one of ``wanted`` is for it; ``also`` are files to read whatever site they belong to.

    Services and application pools are read only where a mitigation of this build has some, where one of ``wanted`` has, or their names
    are given: with the second pipeline, by the build that the registry tells. One more pipeline is needed where that is not enough.
    """
    organization = organization_of(task)
    site = str(task.params["site"])
    asked: list[list[str]] = []

    def names(build: _builds.Build | None) -> list[list[str]]:
        concerned = [mitigation for mitigation in _catalogue.all() if mitigation.needed(build) == "yes"]
        known = names_of([*wanted, *concerned])
        return [list(dict.fromkeys([*more, *own])) for more, own in zip((services, pools), known)]

    def behind(setup: Mapping[str, Any]) -> Sequence[Statement]:
        asked.extend(names(_registered(setup)))
        return state_statements(*asked)

    others = [action.site for mitigation in wanted for action in mitigation.rewrites if action.site != DEFAULT_SITE]
    snapshot = observe(task.host, site, others, also, beside, behind)
    refuse_unsupported(snapshot)
    entry = find_server(organization, str(task.params.get("identity") or snapshot.name))
    if entry is None:
        task.warn(f"the organization does not list a server named {task.params.get('identity') or snapshot.name}; what Exchange keeps of it is unknown")
    found = Survey(snapshot, organization, entry, site)
    exact = names(found.build)
    if not any(exact):
        return found
    if all(set(wish) <= set(read) for wish, read in zip(exact, asked)):
        states = states_from(snapshot.behind, *asked)
        services_, pools_ = ({name.lower() for name in wish} for wish in exact)
        states = States(
            {name: state for name, state in states.services.items() if name in services_},
            {name: state for name, state in states.pools.items() if name in pools_},
        )
    else:
        states = read_states(task.host, *exact)
    return dataclasses.replace(found, states=states)


def _registered(setup: Mapping[str, Any]) -> _builds.Build | None:
    """Return the build that the registry tells: that of the cumulative update, so the installed one or an older one."""
    parts = [setup.get(name) for name in ("MsiProductMajor", "MsiProductMinor", "MsiBuildMajor", "MsiBuildMinor")]
    if not all(isinstance(part, int) for part in parts):
        return None
    major, minor, build, revision = (int(part or 0) for part in parts)
    return major, minor, build, revision


def verdicts(found: Survey, config_ids: Mapping[str, Sequence[str]] | None = None, local: Sequence[Mitigation] = ()) -> list[Verdict]:
    """Return a verdict for each mitigation of the catalogue; ``config_ids`` are a feed's ids by the catalogue's id.

    After them come the ``local`` ones, and those of which the server shows rules whose definition is not at hand. Left out is one
    that this build does not need and whose services or pools were therefore not asked for.
    """
    judged = [
        verdict(
            mitigation,
            found.snapshot.configuration,
            found.build,
            blocked_ids=found.blocked,
            config_ids=tuple((config_ids or {}).get(mitigation.id, ())),
            problem=found.snapshot.problem,
            site=found.site,
            services=found.states.services,
            pools=found.states.pools,
        )
        for mitigation in (*_catalogue.all(), *local)
        if mitigation.needed(found.build) != "no" or _was_read(mitigation, found.states)
    ]
    return judged + _undefined(found, {mitigation.id.casefold() for mitigation in local})


def _undefined(found: Survey, known: Container[str]) -> list[Verdict]:
    """Return a verdict for each local mitigation that rules on the server are named after, but for the known ones."""
    configuration = found.snapshot.configuration
    rules: dict[str, dict[tuple[str, tuple[int, int]], Rule]] = {}
    for site, path in configuration.places_read() if configuration is not None else ():
        effective = configuration.effective_rewrite(site, path) if configuration is not None else None
        for rule in (*effective.server_wide, *effective.inbound, *effective.outbound) if effective is not None else ():
            identifier = named_in(rule.name)
            if identifier is not None and identifier.casefold() not in known:
                rules.setdefault(identifier, {})[rule.origin] = rule
    return [
        dataclasses.replace(
            unsupported(identifier, found.blocked),
            kind="rewrite",
            state="unknown",
            maker="us",
            reason=f"rules of {identifier} are there, but the local document that defines it was not given; give its feed",
            evidence=tuple(dict(rule.evidence()) for rule in made.values()),
        )
        for identifier, made in sorted(rules.items())
    ]


def _was_read(mitigation: Mitigation, states: States) -> bool:
    services, pools = names_of([mitigation])
    return all(name.lower() in states.services for name in services) and all(name.lower() in states.pools for name in pools)


def server_facts(found: Survey, now: datetime.datetime, reach: Reach | None = None, local: Sequence[Mitigation] = ()) -> dict[str, Any]:
    """Return the shape of ``server_info``'s ``server``; ``local`` are mitigations of a local document.

    ``found`` has read ``_surroundings.statements``.
    """
    snapshot, entry, build = found.snapshot, found.entry or {}, found.build
    product = _builds.product_of(build)
    facts = {
        "name": snapshot.name,
        "fqdn": entry.get("fqdn"),
        "product": product or "unknown",
        "build": _builds.format_build(build) if build else None,
        "build_name": _builds.build_name(build) if build else None,
        "os": dict(snapshot.os),
        "exchange_path": snapshot.exchange_path,
        "em": {
            "supported": _builds.has_em(build) if build else bool(entry.get("em_supported")),
            "state": found.em_state,
            "organization_enabled": found.organization.get("mitigations_enabled"),
            "server_enabled": entry.get("mitigations_enabled"),
            "service": _service(snapshot.service),
            "applied": list(entry.get("mitigations_applied") or []),
            "applied_time": entry.get("mitigations_applied_time"),
            "last_success_hours": hours_since(entry.get("mitigations_applied_time"), now),
            "blocked": list(entry.get("mitigations_blocked") or []),
            "data_collection_enabled": entry.get("data_collection_enabled"),
            "can_read_newer_feeds": _builds.can_read_newer_feeds(build) if build else None,
        },
        "url_rewrite": url_rewrite(snapshot),
        "ucrt": ucrt(snapshot.beside, snapshot.os.get("version")),
        "pending_reboot": pending_reboot(snapshot.beside),
        "proxies": proxies(entry.get("internet_web_proxy"), found.entry is not None, winhttp(snapshot.beside)),
        "reachability": reach.as_dict() if reach else None,
        "rewrite_rules": rewrite_rules(snapshot.configuration, found.site),
        "configuration_problem": snapshot.problem.message if snapshot.problem else None,
        "mitigations": [entry.as_dict() for entry in verdicts(found, local=local)],
    }
    return {**facts, "findings": findings(facts)}


def url_rewrite(snapshot: Snapshot) -> dict[str, Any]:
    """Return what the server has of URL Rewrite: registry, file, module and section, each for itself (FACTS.md 6)."""
    support = snapshot.configuration.rewrite if snapshot.configuration else None
    return {
        "installed": bool(support and support.declared and support.module and snapshot.url_rewrite.dll),
        "version": snapshot.url_rewrite.version,
        "dll_version": snapshot.url_rewrite.dll_version,
        "module_loaded": support.module if support else None,
        "section_declared": support.declared if support else None,
    }


def rewrite_rules(configuration: Configuration | None, site: str) -> list[dict[str, Any]]:
    """Return every rewrite rule in force on a path of the site, once, with the paths it is in force on."""
    if configuration is None:
        return []
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    paths = ["/", *configuration.applications_below(site, "/"), *configuration.folders_below(site, "/")]
    for path in paths:
        try:
            effective = configuration.effective_rewrite(site, path)
        except ConfigurationError:
            continue  # the verdicts carry the reason
        for rule in (*effective.inbound, *effective.outbound):
            found.setdefault(rule.origin, _rule(rule))["paths"].append(path)
    return list(found.values())


def _rule(rule: Rule) -> dict[str, Any]:
    return {"rule": rule.name, "kind": rule.kind, "enabled": rule.enabled, "file": rule.file, "line": rule.line, "paths": []}


def _service(service: Service | None) -> dict[str, Any] | None:
    return None if service is None else dataclasses.asdict(service)
