# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Support: the sites, applications and virtual directories that applicationHost.config names, and where they live on disk.

Pure. Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import functools
import ntpath
import re
from collections.abc import Iterable, Mapping

from ansible_collections.exchange.mitigation.plugins.module_utils._xml_spans import Element

WEB_CONFIG = "web.config"
DEFAULT_SITE = "Default Web Site"
#: Folders of Exchange's applications that are no applications themselves and may hold a web.config of their own.
FOLDERS = ("/aspnet_client", "/ecp/auth", "/owa/Current", "/owa/auth", "/owa/auth/Current")
#: How the folder of OWA's front end ends, wherever Exchange is installed.
_FRONT_END = "\\frontend\\httpproxy\\owa"
_VARIABLE = re.compile(r"%([^%]+)%")


@dataclasses.dataclass(frozen=True)
class VirtualDirectory:
    """A virtual directory of an application; ``path`` is relative to the application and ``/`` for its root."""

    path: str
    physical_path: str
    allow_sub_dir_config: bool = True


@dataclasses.dataclass(frozen=True)
class Application:
    """An application; ``path`` begins with a slash, ``pool`` is the application pool that serves it."""

    path: str
    pool: str
    virtual_directories: tuple[VirtualDirectory, ...]


#: Where a URL path lives: its application, its virtual directory and the segments below that.
Place = tuple[Application, VirtualDirectory, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Site:
    """A site. ``bindings`` are pairs of protocol and binding information."""

    name: str
    id: int
    applications: tuple[Application, ...]
    bindings: tuple[tuple[str, str], ...]

    @functools.cached_property
    def _by_depth(self) -> tuple[tuple[tuple[str, ...], Application], ...]:
        """The applications with their folded segments, the deepest first."""
        return tuple(sorted(((folded(segments(a.path)), a) for a in self.applications), key=lambda entry: -len(entry[0])))

    # What was asked for already: every rule of every path asks for all levels above it.
    @functools.cached_property
    def _known(self) -> dict[str, Place | None]:
        return {}

    @functools.cached_property
    def _levels(self) -> dict[str, tuple[tuple[str, str | None], ...]]:
        return {}

    def application_of(self, url_path: str) -> Application | None:
        """Return the application that serves a path: the one with the longest matching path."""
        wanted = folded(segments(url_path))
        return next((application for parts, application in self._by_depth if wanted[: len(parts)] == parts), None)

    def virtual_directory_of(self, url_path: str) -> Place | None:
        """Return application, virtual directory and the path segments below it for a URL path."""
        if url_path not in self._known:
            self._known[url_path] = self._served(url_path)
        return self._known[url_path]

    def _served(self, url_path: str) -> Place | None:
        application = self.application_of(url_path)
        if application is None:
            return None
        base = segments(application.path)
        rest = segments(url_path)[len(base) :]
        fitting = [v for v in application.virtual_directories if is_prefix(segments(v.path), rest)]
        if not fitting:
            return None
        chosen = max(fitting, key=lambda v: len(segments(v.path)))
        return application, chosen, rest[len(segments(chosen.path)) :]

    def physical_path(self, url_path: str) -> str | None:
        """Return the folder of a URL path, None where no virtual directory serves it."""
        place = self.virtual_directory_of(url_path)
        if place is None:
            return None
        return ntpath.join(place[1].physical_path, *place[2])

    def levels(self, url_path: str) -> tuple[tuple[str, str | None], ...]:
        """Return the URL paths from the site's root down to a path, each with its web.config, None where none is read there."""
        if url_path not in self._levels:
            parts = segments(url_path)
            self._levels[url_path] = tuple(self._level(joined(parts[:depth])) for depth in range(len(parts) + 1))
        return self._levels[url_path]

    def _level(self, url_path: str) -> tuple[str, str | None]:
        place = self.virtual_directory_of(url_path)
        if place is None or (place[2] and not place[1].allow_sub_dir_config):
            return url_path, None
        return url_path, ntpath.join(ntpath.join(place[1].physical_path, *place[2]), WEB_CONFIG)


@functools.lru_cache(maxsize=4096)
def segments(url_path: str) -> tuple[str, ...]:
    """Split a URL or location path: ``/owa/Calendar`` gives ``("owa", "Calendar")``, ``/`` and ``.`` give ``()``."""
    return tuple(part for part in url_path.replace("\\", "/").split("/") if part not in ("", "."))


def joined(parts: tuple[str, ...]) -> str:
    """Join segments to a URL path that begins with a slash."""
    return "/" + "/".join(parts)


@functools.lru_cache(maxsize=4096)
def folded(parts: tuple[str, ...]) -> tuple[str, ...]:
    """Return segments for comparing; IIS paths are case-insensitive."""
    return tuple(part.casefold() for part in parts)


def is_prefix(shorter: tuple[str, ...], longer: tuple[str, ...]) -> bool:
    """Say whether one path is the other or stands above it."""
    return folded(longer[: len(shorter)]) == folded(shorter)


def expand(path: str, environment: Mapping[str, str]) -> str:
    """Replace ``%NAME%`` by the server's environment, names in any case; an unknown one stays as it is."""
    values = {name.casefold(): value for name, value in environment.items()}
    return _VARIABLE.sub(lambda found: values.get(found[1].casefold(), found[0]), path)


def folder(path: str, environment: Mapping[str, str]) -> str:
    """Return a physical path expanded and normalised, without a trailing backslash."""
    return ntpath.normpath(expand(path.strip(), environment))


@functools.lru_cache(maxsize=4096)
def key(path: str) -> str:
    """Return the form of a Windows path by which files are looked up."""
    return ntpath.normpath(path).lower()


def read_sites(root: Element, environment: Mapping[str, str]) -> tuple[Site, ...]:
    """Return the sites of a parsed applicationHost.config, in its order."""
    return _sites(root, tuple(environment.items()))


@functools.lru_cache(maxsize=16)
def _sites(root: Element, variables: tuple[tuple[str, str], ...]) -> tuple[Site, ...]:
    environment = dict(variables)
    containers = root.walk("system.applicationHost", "sites")
    default_pool = _default(containers, "applicationDefaults", "applicationPool", "DefaultAppPool")
    default_sub = _default(containers, "virtualDirectoryDefaults", "allowSubDirConfig", "true")
    found = []
    for element in [site for sites in containers for site in sites.all("site")]:
        applications = []
        for entry in element.all("application"):
            directories = tuple(
                VirtualDirectory(
                    path=joined(segments(v.attributes.get("path", "/"))),
                    physical_path=folder(v.attributes.get("physicalPath", ""), environment),
                    allow_sub_dir_config=v.attributes.get("allowSubDirConfig", default_sub).lower() != "false",
                )
                for v in entry.all("virtualDirectory")
            )
            applications.append(
                Application(joined(segments(entry.attributes.get("path", "/"))), entry.attributes.get("applicationPool", default_pool), directories)
            )
        bindings = tuple((b.attributes.get("protocol", ""), b.attributes.get("bindingInformation", "")) for b in element.walk("bindings", "binding"))
        number = element.attributes.get("id", "0")
        found.append(Site(element.attributes.get("name", ""), int(number) if number.isdigit() else 0, tuple(applications), bindings))
    return tuple(found)


def _default(containers: list[Element], tag: str, attribute: str, fallback: str) -> str:
    values = [e.attributes[attribute] for sites in containers for e in sites.all(tag) if attribute in e.attributes]
    return values[-1] if values else fallback


def find_site(sites: Iterable[Site], name: str) -> Site | None:
    """Return a site by name, in any case. Microsoft's name for the front end also means the one site that serves OWA's front end."""
    known = list(sites)
    found = next((site for site in known if site.name.casefold() == name.casefold()), None)
    if found is None and name.casefold() == DEFAULT_SITE.casefold():
        serving = [site for site in known if (site.physical_path("/owa") or "").lower().endswith(_FRONT_END)]
        found = serving[0] if len(serving) == 1 else None
    return found


def directories(site: Site) -> list[str]:
    """Return the URL paths of every application and virtual directory of a site, in order, each once."""
    found: dict[tuple[str, ...], str] = {}
    for application in site.applications:
        for directory in application.virtual_directories:
            parts = segments(application.path) + segments(directory.path)
            found.setdefault(folded(parts), joined(parts))
    return list(found.values())


def folders(site: Site) -> dict[str, str]:
    """Return the web.config of each of FOLDERS that may exist in a site, by URL path: not of applications, nor where none is read."""
    known = {folded(segments(path)) for path in directories(site)}
    found = {}
    for path in FOLDERS:
        parts = folded(segments(path))
        if parts not in known and (len(parts) == 1 or parts[:1] in known):
            dummy_path, file = site.levels(path)[-1]
            if file is not None:
                found[path] = file
    return found
