# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration hierarchy of IIS: which files and locations apply to a path, and what a section is there.

Order: applicationHost.config, then for each step of the URL path the locations of files above and that folder's web.config.
A section is read only when it is asked for; a broken file breaks every section that it could contribute to.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator

from lab.files import FileProblem, Files
from lab.iis_merge import Entry, Source, merge
from lab.iis_schema import GENERIC, SECTIONS
from lab.iis_xml import ALREADY_EXISTS, FILE_NOT_FOUND, INVALID_DATA, LOCK_VIOLATION, ConfigError, Malformed, Node, parse

APPLICATION_HOST = "C:\\Windows\\System32\\inetsrv\\config\\applicationHost.config"
LOCKED = (
    "This configuration section cannot be used at this path. This happens when the section is locked at a parent level. "
    'Locking is either by default (overrideModeDefault="Deny"), or set explicitly by a location tag with overrideMode="Deny" '
    'or the legacy allowOverride="false".'
)
#: groups whose sections the native reader owns; in others (system.web, runtime …) .NET reads and nobody here complains
NATIVE_GROUPS = ("system.webServer", "system.applicationHost", "system.ftpServer")


@dataclasses.dataclass(frozen=True)
class Declaration:
    """A ``<section>`` of configSections."""

    name: str
    allow_definition: str = "Everywhere"
    override: str = "Allow"
    allow_location: bool = True


@dataclasses.dataclass(frozen=True)
class VirtualDirectory:
    """A virtual directory of an application; ``physical`` as written, variables unexpanded."""

    path: str
    physical: str


@dataclasses.dataclass(frozen=True)
class Application:
    """An application of a site."""

    path: str
    pool: str
    directories: tuple[VirtualDirectory, ...]


@dataclasses.dataclass(frozen=True)
class Site:
    """A web site."""

    name: str
    number: str
    applications: tuple[Application, ...]

    def application(self, path: str) -> Application:
        """Return the application that serves a path: the longest that is a prefix by whole segments."""
        fitting = [app for app in self.applications if is_below(path, app.path)]
        if not fitting:
            raise KeyError(f"{self.name} has no root application")
        return max(fitting, key=lambda app: len(app.path.rstrip("/")))


def is_below(path: str, parent: str) -> bool:
    """Whether a URL path equals the parent or is below it, by segments and without case."""
    return (path.rstrip("/").lower() + "/").startswith(parent.rstrip("/").lower() + "/")


class IisConfiguration:
    """The effective configuration of one server, always read from its files as they are now."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._local = threading.local()
        self._declared: tuple[Node, dict[str, Declaration]] | None = None
        #: what was merged or recognised before, by the identity of the trees, which the value keeps alive
        self._merged: dict[tuple[object, ...], tuple[list[Source], Entry]] = {}
        self._recognised: dict[tuple[int, int], tuple[Node, Node]] = {}

    # -- files ---------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Within the block this thread reads each file once, as IIS does while it answers one request."""
        outer = getattr(self._local, "seen", None)
        self._local.seen = {} if outer is None else outer
        try:
            yield
        finally:
            self._local.seen = outer

    def document(self, path: str) -> Node | None:
        """Return a file's tree, None where there is no file; raises ConfigError for a broken one."""
        seen: dict[str, Node | None] | None = getattr(self._local, "seen", None)
        if seen is None:
            return self._parsed(path)
        if path not in seen:
            seen[path] = self._parsed(path)
        return seen[path]

    def _parsed(self, path: str) -> Node | None:
        try:
            data = self._files.read(path)
        except FileProblem as problem:
            if problem.kind in ("not-found", "folder-not-found"):
                return None
            raise ConfigError("\\\\?\\" + self._files.expand(path), 0, "Cannot read configuration file", 0x80070005) from problem
        tree = parse(data)
        if isinstance(tree, Malformed):
            raise ConfigError("\\\\?\\" + self._files.expand(path), tree.line, tree.message, INVALID_DATA)
        return tree

    def application_host(self) -> Node:
        """Return the tree of applicationHost.config."""
        tree = self.document(APPLICATION_HOST)
        if tree is None:
            raise ConfigError("\\\\?\\" + APPLICATION_HOST, 0, "Cannot read configuration file", FILE_NOT_FOUND)
        return tree

    def declarations(self) -> dict[str, Declaration]:
        """Return the declared sections by full name."""
        top = self.application_host()
        if self._declared is not None and self._declared[0] is top:
            return self._declared[1]
        found: dict[str, Declaration] = {}

        def walk(node: Node, prefix: str) -> None:
            for child in node.children:
                name = prefix + child.attributes.get("name", "")
                if child.name == "section":
                    if name in found:
                        raise ConfigError("\\\\?\\" + APPLICATION_HOST, child.line, f"There is a duplicate '{name}' section defined", ALREADY_EXISTS)
                    found[name] = Declaration(
                        name,
                        child.attributes.get("allowDefinition", "Everywhere"),
                        child.attributes.get("overrideModeDefault", "Allow"),
                        child.attributes.get("allowLocation", "true").lower() == "true",
                    )
                elif child.name == "sectionGroup":
                    walk(child, name + "/")

        for node in top.named("configSections"):
            walk(node, "")
        self._declared = (top, found)
        return found

    # -- sites ---------------------------------------------------------------------------------------------------------

    def sites(self) -> list[Site]:
        """Return the sites with their applications and virtual directories."""
        section = self.section("system.applicationHost/sites", None, "/")
        defaults = section.child("applicationDefaults").get("applicationPool") or "DefaultAppPool"
        return [
            Site(
                site.get("name"),
                site.get("id"),
                tuple(
                    Application(
                        app.get("path"),
                        app.attributes.get("applicationPool", defaults),
                        tuple(VirtualDirectory(item.get("path"), item.get("physicalPath")) for item in app.items),
                    )
                    for app in site.items
                ),
            )
            for site in section.items
        ]

    def site(self, name: str) -> Site:
        """Return a site by name; raises KeyError."""
        for site in self.sites():
            if site.name.lower() == name.lower():
                return site
        raise KeyError(name)

    def physical(self, site: Site, path: str) -> str:
        """Return the folder or file that a URL path maps to."""
        app = site.application(path)
        inside = "/" + path.strip("/")[len(app.path.strip("/")) :].strip("/")
        fitting = [item for item in app.directories if is_below(inside, item.path)]
        best = max(fitting, key=lambda item: len(item.path.rstrip("/")))
        rest = inside.strip("/")[len(best.path.strip("/")) :].strip("/")
        base = self._files.expand(best.physical).rstrip("\\")
        return base + ("\\" + rest.replace("/", "\\") if rest else "")

    def config_file(self, site: Site | None, path: str) -> str:
        """Return the path of the configuration file of a level."""
        return APPLICATION_HOST if site is None else self.physical(site, path) + "\\web.config"

    # -- sources -------------------------------------------------------------------------------------------------------

    def sources(self, site: Site | None, path: str) -> list[Source]:
        """Return every place that contributes to a path, outermost first; raises ConfigError where one of them cannot be read."""
        top = self.application_host()
        found = [Source(APPLICATION_HOST, 0, "", top)]
        blocks = list(_locations(top, APPLICATION_HOST, 0, ""))
        found += [block for block in blocks if block.level == ""]
        if site is None:
            self.recognise(found)
            return found
        steps = ["/"]
        for segment in path.strip("/").split("/") if path.strip("/") else []:
            steps.append(steps[-1].rstrip("/") + "/" + segment)
        for rank, step in enumerate(steps, start=1):
            level = _level(site, step)
            found += [block for block in blocks if block.level.lower() == level.lower()]
            try:
                file = self.physical(site, step) + "\\web.config"
                tree = self.document(file)
            except FileProblem:
                continue
            if tree is None:
                continue
            own = list(_locations(tree, file, rank, level))
            found.append(Source(file, rank, level, tree))
            found += [block for block in own if block.level.lower() == level.lower()]
            blocks += [block for block in own if block.level.lower() != level.lower()]
        self.recognise(found)
        target = site.application(path).path.lower()
        return [source for source in found if source.inherit or self._application_of(site, source.level) == target]

    @staticmethod
    def _application_of(site: Site, level: str) -> str:
        return site.application("/" + level[len(site.name) :].strip("/")).path.lower()

    # -- sections ------------------------------------------------------------------------------------------------------

    def section(self, name: str, site: Site | None, path: str, sources: list[Source] | None = None) -> Entry:
        """Return the effective section at a path (not to be changed); raises ConfigError, or KeyError when nobody declares it."""
        declared = self.declarations()
        if sources is None:
            sources = self.sources(site, path)
        if name not in declared:
            raise KeyError(name)
        key = (name, site and site.name, *((id(source.node), source.level) for source in sources))
        if key in self._merged:
            return self._merged[key][1]
        entry = self._merge(declared[name], site, sources)
        if len(self._merged) > 5000:
            self._merged.clear()
        self._merged[key] = (sources, entry)
        return entry

    def _merge(self, declaration: Declaration, site: Site | None, sources: list[Source]) -> Entry:
        name = declaration.name
        entry = Entry(name.rsplit("/", 1)[-1], schema=SECTIONS.get(name, GENERIC))
        locks: list[tuple[int, bool]] = [(-1, declaration.override == "Deny")]
        seen: set[tuple[int, str]] = set()
        for source in sources:
            nodes = source.sections(name)
            if not nodes:
                continue
            # A file that two levels share is read for each of them: only what one reading holds twice stands twice.
            place = (source.rank, source.level.lower())
            if len(nodes) > 1 or place in seen:
                culprit = nodes[1] if len(nodes) > 1 else nodes[0]
                raise ConfigError("\\\\?\\" + source.file, culprit.line, f"There is a duplicate '{name}' section defined", ALREADY_EXISTS)
            seen.add(place)
            self._allowed(declaration, site, source, nodes[0], locks)
            if source.override in ("Allow", "Deny"):
                locks.append((source.rank, source.override == "Deny"))
            entry.source, entry.line = source, nodes[0].line
            merge(entry, nodes[0], source)
        return entry

    def _allowed(self, declaration: Declaration, site: Site | None, source: Source, node: Node, locks: list[tuple[int, bool]]) -> None:
        locked = False
        if source.rank > 0:
            deciding = [deny for rank, deny in locks if rank < source.rank]
            locked = deciding[-1]
            if declaration.allow_definition in ("AppHostOnly", "MachineOnly", "MachineToWebRoot"):
                locked = True
            elif declaration.allow_definition == "MachineToApplication" and site is not None:
                inside = "/" + source.level[len(site.name) :].strip("/")
                locked = locked or inside.lower().rstrip("/") != site.application(inside).path.lower().rstrip("/")
        if locked or (source.location is not None and not declaration.allow_location):
            raise ConfigError("\\\\?\\" + source.file, node.line, LOCKED, LOCK_VIOLATION)

    def recognise(self, sources: list[Source]) -> None:
        """Raise for an element of a native group that no configSections declares."""
        declared = self.declarations()
        groups = {"/".join(name.split("/")[:depth]) for name in declared for depth in range(1, name.count("/") + 1)}

        def walk(node: Node, name: str, source: Source) -> None:
            for child in node.children:
                full = f"{name}/{child.name}"
                if full in groups:
                    walk(child, full, source)
                elif full not in declared:
                    raise ConfigError("\\\\?\\" + source.file, child.line, f"Unrecognized element '{child.name}'", INVALID_DATA)

        top = self.application_host()
        for source in sources:
            key = (id(top), id(source.node))
            if key in self._recognised:
                continue
            for group in source.node.children:
                if group.name in NATIVE_GROUPS:
                    walk(group, group.name, source)
            if len(self._recognised) > 1000:
                self._recognised.clear()
            self._recognised[key] = (top, source.node)


def _level(site: Site, path: str) -> str:
    return (site.name + "/" + path.strip("/")).rstrip("/")


def _locations(tree: Node, file: str, rank: int, level: str) -> Iterator[Source]:
    """The ``<location>`` blocks of a file, their paths made absolute; ``.``, the empty path and none are the file's own level."""
    for node in tree.named("location"):
        written = node.attributes.get("path", "")
        inner = "" if written.strip() in ("", ".") else written.strip().strip("/")
        override = node.attributes.get("overrideMode", "Inherit")
        if node.attributes.get("allowOverride", "").lower() in ("true", "false"):
            override = "Allow" if node.attributes["allowOverride"].lower() == "true" else "Deny"
        yield Source(
            file,
            rank,
            "/".join(part for part in (level, inner) if part),
            node,
            written,
            node.attributes.get("inheritInChildApplications", "true").lower() == "true" or not (level or inner),
            override,
        )
