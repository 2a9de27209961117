# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Support: a server's IIS configuration, understood from bytes: which rewrite rules are in force on which path, and why.

The settings of a path come from applicationHost.config and from the web.config of every level down to it, location tags
included; the level they are for decides the order, then the file. Child applications inherit, unless a location tag says
``inheritInChildApplications="false"``; an application that shares its parent's folder reads the same file a second time
(FACTS.md 2.1, 2.4; CMDLETS.md 5). Pure. Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import functools
import ntpath
from collections.abc import Mapping

from ansible_collections.exchange.mitigation.plugins.module_utils import _iis_sections as sections
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConfigurationError
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_locks import Contribution, locks_rules, misplaced
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_rules import (
    GLOBAL_RULE,
    INBOUND_RULE,
    OUTBOUND_RULE,
    PRECONDITION,
    Collection,
    Problem,
    Rule,
)
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sections import RewriteSupport
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sites import (
    DEFAULT_SITE,
    Application,
    Site,
    VirtualDirectory,
    directories,
    find_site,
    folded,
    folders,
    is_prefix,
    joined,
    key,
    read_sites,
    segments,
)
from ansible_collections.exchange.mitigation.plugins.module_utils._xml_spans import Document, Element, parse

__all__ = [
    "Application",
    "Configuration",
    "Effective",
    "FileState",
    "Problem",
    "RewriteSupport",
    "Rule",
    "Site",
    "VirtualDirectory",
    "rewrite_support",
    "web_config_paths",
]


@dataclasses.dataclass(frozen=True)
class FileState:
    """A file as it was read. ``data`` None: it does not exist, or, with ``error``, it could not be read."""

    path: str
    data: bytes | None
    sddl: str = ""
    error: str = ""


@dataclasses.dataclass(frozen=True)
class Effective:
    """What is in force on one path. ``problems`` that are fatal make IIS answer 500.19 there."""

    site: str
    path: str
    inbound: tuple[Rule, ...]
    outbound: tuple[Rule, ...]
    preconditions: tuple[Rule, ...]
    problems: tuple[Problem, ...]
    #: Rules that a ``<clear/>`` or ``<remove>`` took away: the rule, and the file and line that did it.
    dropped: tuple[tuple[Rule, str, int], ...] = ()
    #: The server's global rules, which come before all others.
    server_wide: tuple[Rule, ...] = ()

    @property
    def broken(self) -> bool:
        """True where IIS answers 500.19."""
        return any(problem.fatal for problem in self.problems)


class Configuration:
    """A whole server's IIS configuration. ``files`` maps lower-case Windows paths to what was read there.

    A file that ``files`` does not name was not read: a path that needs it raises ConfigurationError, it is never taken as empty.
    Raises ConfigurationError when applicationHost.config cannot be understood.
    """

    def __init__(self, application_host: FileState, files: Mapping[str, FileState], environment: Mapping[str, str]) -> None:
        self.application_host = application_host
        self.files = {key(path): state for path, state in files.items()}
        self.environment = dict(environment)
        self._documents: dict[str, Document] = {}
        self._settings: dict[tuple[str, str], list[sections.Setting]] = {}
        self._effective: dict[tuple[str, tuple[str, ...]], Effective] = {}
        if application_host.data is None:
            raise ConfigurationError(f"{application_host.path}: {application_host.error or 'the file does not exist'}", file=application_host.path, line=None)
        self._host = parse(application_host.data, application_host.path)
        self.sites = list(read_sites(self._host.root, environment))
        self.declarations = sections.declarations(self._host.root)
        self.rewrite = sections.rewrite_support(self._host.root)

    # Places

    def site(self, name: str) -> Site:
        """Return a site by name, in any case; Microsoft's name also means the front end under another name. Raises ConfigurationError."""
        site = find_site(self.sites, name)
        if site is not None:
            return site
        names = ", ".join(site.name for site in self.sites) or "none"
        raise ConfigurationError(
            f"{self.application_host.path}: there is no site {name!r} (there are: {names})", "site_missing", file=self.application_host.path, line=None
        )

    def physical_path(self, site: str, url_path: str) -> str:
        """Return the folder of a URL path. Raises ConfigurationError where nothing serves it."""
        found = self.site(site).physical_path(url_path)
        if found is None:
            raise ConfigurationError(
                f"{self.application_host.path}: no virtual directory of {site!r} serves {url_path}", "path_missing", file=self.application_host.path, line=None
            )
        return found

    def file_for(self, site: str, url_path: str) -> str:
        """Return the web.config that belongs to a URL path."""
        return ntpath.join(self.physical_path(site, url_path), "web.config")

    def applications_below(self, site: str, url_path: str) -> list[str]:
        """Return the applications that inherit from a path, nearest first as declared."""
        base = segments(url_path)
        return [a.path for a in self.site(site).applications if is_prefix(base, segments(a.path)) and len(segments(a.path)) > len(base)]

    def folders_below(self, site: str, url_path: str) -> list[str]:
        """Return the folders below a path that are no applications and hold a web.config of their own, of those that Exchange has."""
        return [path for path in self._folders(self.site(site)) if is_prefix(segments(url_path), segments(path)) and segments(path) != segments(url_path)]

    def _folders(self, site: Site) -> list[str]:
        states = ((path, self.files.get(key(file))) for path, file in folders(site).items())
        return [path for path, state in states if state is not None and (state.data is not None or state.error)]

    def _paths(self, site: Site) -> list[str]:
        return [*directories(site), *self._folders(site)]

    def sharing_folder(self, site: str, url_path: str) -> list[tuple[str, str]]:
        """Return the other places (site, URL path) whose folder is the same."""
        return [
            place
            for place in self.places_of(self.file_for(site, url_path))
            if (place[0].casefold(), folded(segments(place[1]))) != (site.casefold(), folded(segments(url_path)))
        ]

    def places_of(self, file: str) -> list[tuple[str, str]]:
        """Return every place (site, URL path) to which a web.config belongs."""
        return [
            (site.name, path)
            for site in self.sites
            for path in self._paths(site)
            if key(ntpath.join(site.physical_path(path) or "", "web.config")) == key(file)
        ]

    def places_reading(self, file: str) -> list[tuple[str, str]]:
        """Return every application or virtual directory (site, URL path) whose configuration takes this web.config in."""
        wanted = key(file)
        return [
            (site.name, path) for site in self.sites for path in self._paths(site) if any(f is not None and key(f) == wanted for dummy, f in site.levels(path))
        ]

    def places_read(self) -> list[tuple[str, str]]:
        """Return every place (site, URL path) of which all files were read and understood."""
        found = []
        for place in [(site.name, path) for site in self.sites for path in self._paths(site)]:
            try:
                self.effective_rewrite(*place)
            except ConfigurationError:
                continue
            found.append(place)
        return found

    # Files

    def state_of(self, file: str) -> FileState:
        """Return what was read of a file. Raises ConfigurationError where it was not, or could not be, read."""
        if key(file) == key(self.application_host.path):
            return self.application_host
        state = self.files.get(key(file))
        if state is None:
            raise ConfigurationError(f"{file}: the file was not read, so what it says is unknown", "configuration_not_read", file=file, line=None)
        if state.data is None and state.error:
            raise ConfigurationError(f"{file}: the file cannot be read: {state.error}", "configuration_not_read", file=file, line=None)
        return state

    def document(self, file: str) -> Document | None:
        """Return a parsed web.config, None where the file does not exist. Raises ConfigurationError."""
        state = self.state_of(file)
        if state.data is None:
            return None
        if key(file) not in self._documents:
            self._documents[key(file)] = parse(state.data, state.path)
        return self._documents[key(file)]

    def with_file(self, file: str, data: bytes | None) -> Configuration:
        """Return the configuration as it would be with other bytes in one file; this one stays as it is. Raises ConfigurationError."""
        if key(file) == key(self.application_host.path):
            return Configuration(dataclasses.replace(self.application_host, data=data), self.files, self.environment)
        files = dict(self.files)
        old = files.get(key(file))
        files[key(file)] = FileState(old.path if old is not None else file, data, old.sddl if old is not None else "")
        return Configuration(self.application_host, files, self.environment)

    def unread(self) -> list[str]:
        """Return the files that others name as the source of a section and that were not read: they have to be read, too."""
        named = dict.fromkeys(sections.sources(self._host))
        for state in self.files.values():
            try:
                document = None if state.data is None else parse(state.data, state.path)
            except ConfigurationError:
                continue  # whoever needs the file is told
            named.update(dict.fromkeys(sections.sources(document) if document is not None else ()))
        return [path for path in named if key(path) not in self.files]

    def with_files(self, files: Mapping[str, FileState]) -> Configuration:
        """Return the configuration with more files read."""
        return Configuration(self.application_host, {**self.files, **files}, self.environment)

    # Rules

    def module_gone(self, site: str, url_path: str) -> tuple[str, int] | None:
        """Return the file and line that take RewriteModule away on a path, None where nothing does. Raises ConfigurationError.

        Whether the server has the module at all is another question (``rewrite``).
        """
        gone: tuple[str, int] | None = None
        for item in self._contributions(self.site(site), url_path, sections.MODULES):
            element, file = self._source(item)
            for child in element.children:
                named = child.attributes.get("name", "").casefold() == "rewritemodule"
                if child.tag == "clear" or (child.tag == "remove" and named):
                    gone = (file, child.line)
                elif child.tag == "add" and named:
                    gone = None
        return gone

    def effective_rewrite(self, site: str, url_path: str) -> Effective:
        """Return the rules in force on a path. Raises ConfigurationError with file and line where a file cannot be understood."""
        at = (site.casefold(), folded(segments(url_path)))
        if at not in self._effective:
            self._effective[at] = self._compute(self.site(site), url_path)
        return self._effective[at]

    @functools.cached_property
    def global_rules(self) -> tuple[Rule, ...]:
        """The server-wide rules of applicationHost.config."""
        found = Collection("rule", GLOBAL_RULE)
        for setting in sections.settings(self._host, sections.GLOBAL):
            found.take(setting.element, setting, self._host.file, "", "children")
        return tuple(found.entries.values())

    def _compute(self, site: Site, url_path: str) -> Effective:
        inbound, outbound = Collection("rule", INBOUND_RULE), Collection("rule", OUTBOUND_RULE)
        preconditions = Collection("preCondition", PRECONDITION)
        problems: list[Problem] = []
        for section in (sections.INBOUND, sections.OUTBOUND):
            contributions = self._contributions(site, url_path, section)
            problems += misplaced(section, contributions, self.declarations.get(section))
            for item in contributions:
                level = joined(item.target[1:])
                collection = inbound if section == sections.INBOUND else outbound
                element, file = self._source(item)
                collection.take(element, item.setting, file, level, item.reach, item.file_index)
                for holder in element.all("preConditions") if section == sections.OUTBOUND else []:
                    preconditions.take(holder, item.setting, file, level, item.reach, item.file_index)
        for part in (inbound, outbound, preconditions):
            problems += part.problems
        return Effective(
            site=site.name,
            path=joined(segments(url_path)),
            inbound=tuple(inbound.entries.values()),
            outbound=tuple(outbound.entries.values()),
            preconditions=tuple(preconditions.entries.values()),
            problems=tuple(problems),
            dropped=tuple(inbound.dropped + outbound.dropped + preconditions.dropped),
            server_wide=self.global_rules,
        )

    def _contributions(self, site: Site, url_path: str, section: str) -> list[Contribution]:
        wanted = (site.name, *segments(url_path))
        folded_wanted = folded(wanted)
        # Each with the number of segments above what it is for: all of them are those of the path that is asked for.
        documents: list[tuple[int, Document]] = [(0, self._host)]
        for level, (dummy, file) in enumerate(site.levels(url_path), start=1):
            document = self.document(file) if file is not None else None
            if document is not None:
                documents.append((level, document))
        found = []
        for index, (level, document) in enumerate(documents):
            at = (document.file, section)
            if at not in self._settings:
                self._settings[at] = sections.settings(document, section)
            for setting in self._settings[at]:
                depth = level + len(setting.target)
                if folded_wanted[level:depth] != setting.target:
                    continue
                if not setting.inherited_by_applications and not self._same_application(site, wanted[:depth], wanted):
                    continue
                reach = "children" if setting.inherited_by_applications else "application"
                found.append(Contribution(setting, document.file, index, wanted[:depth], reach))
        return sorted(found, key=lambda item: (len(item.target), item.file_index))

    @staticmethod
    def _same_application(site: Site, target: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
        # Above the sites there is no application, so what stands there is for all of them.
        return not target or site.application_of(joined(target[1:])) == site.application_of(joined(wanted[1:]))

    def _source(self, item: Contribution) -> tuple[Element, str]:
        """Return the element that holds the entries, and its file; configSource moves both to another file."""
        attributes = item.setting.element.attributes
        if "configProtectionProvider" in attributes:
            line = item.setting.element.line
            raise ConfigurationError(
                f"{item.file}, line {line}: the section {item.setting.section} is encrypted, so what it says is unknown",
                "configuration_encrypted",
                file=item.file,
                line=line,
            )
        if "configSource" not in attributes:
            return item.setting.element, item.file
        other = sections.source_path(item.file, attributes["configSource"])
        document = self.document(other)
        if document is None or document.root.tag != item.setting.element.tag:
            line = item.setting.element.line
            raise ConfigurationError(f"{item.file}, line {line}: configSource names {other}, which does not hold the section", file=item.file, line=line)
        return document.root, document.file

    def lock_on(self, site: str, url_path: str, section: str, file: str) -> str | None:
        """Say what locks a section against being set in a web.config of a path, None when nothing does."""
        declared = self.declarations.get(section)
        if declared is None:
            return f"the section {section} is not declared in {self.application_host.path}"
        if declared.allow_definition == "AppHostOnly":
            return f"the section {section} is for applicationHost.config only"
        lock = f"overrideModeDefault in {self.application_host.path}" if declared.override_mode_default == "Deny" else None
        for item in self._contributions(self.site(site), url_path, section):
            if key(item.file) == key(file):
                continue
            mode = item.setting.override_mode
            if mode == "Deny" or locks_rules(item.setting.element):
                lock = f"{item.file}, line {item.setting.element.line}"
            elif mode == "Allow":
                lock = None
        return lock


def rewrite_support(application_host: bytes, file: str = "applicationHost.config") -> RewriteSupport:
    """Read URL Rewrite's traces from the bytes of applicationHost.config. Raises ConfigurationError."""
    return sections.rewrite_support(parse(application_host, file).root)


def folder_paths(application_host: bytes, environment: Mapping[str, str], site: str = DEFAULT_SITE) -> list[str]:
    """Return the web.config files of a site's folders that may have one beside those of ``web_config_paths``. Raises ConfigurationError."""
    entry = find_site(read_sites(parse(application_host, "applicationHost.config").root, environment), site)
    return list(folders(entry).values()) if entry is not None else []


def web_config_paths(application_host: bytes, environment: Mapping[str, str], site: str = DEFAULT_SITE, file: str | None = None) -> list[str]:
    """Return the files that decide about a site: the web.config of every level of every application and virtual directory.

    Windows paths in the order of the site's applications, each once, and what applicationHost.config keeps in other files. A
    web.config may name more such files: ``Configuration.unread``. ``file`` is where applicationHost.config stands, below the
    server's Windows folder unless told. Raises ConfigurationError.
    """
    windows = next((value for name, value in environment.items() if name.casefold() == "windir"), r"C:\Windows")
    document = parse(application_host, file or ntpath.join(windows, "System32", "inetsrv", "config", "applicationHost.config"))
    found: dict[str, str] = {}
    entry = find_site(read_sites(document.root, environment), site)
    for path in directories(entry) if entry is not None else []:
        for dummy, name in entry.levels(path) if entry is not None else ():
            if name is not None:
                found.setdefault(key(name), name)
    for name in sections.sources(document):
        found.setdefault(key(name), name)
    return list(found.values())
