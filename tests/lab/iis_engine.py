# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The web server of a simulated machine: effective configuration, rewrite rules, and a small page for every Exchange path."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lab import rewrite
from lab.files import FileProblem
from lab.iis_config import Application, IisConfiguration, Site
from lab.iis_merge import Entry, Source
from lab.iis_xml import ConfigError
from lab.services import PoolProblem

if TYPE_CHECKING:
    from lab.machine import Machine

DEFAULT_SITE = "Default Web Site"
REWRITE_MODULE = "RewriteModule"
_REWRITE = "system.webServer/rewrite/"


class Abort:
    """The connection is closed without an answer."""

    def __repr__(self) -> str:
        return "ABORT"


ABORT = Abort()


@dataclasses.dataclass
class WebAnswer:
    """An answer; a substatus is also in the header ``X-IIS-Substatus`` (the lab's own, so that a test can see it)."""

    status: int
    headers: dict[str, str]
    body: bytes
    substatus: int = 0


#: application -> (content type, body) of what the simulated Exchange answers below it
_PAGES: dict[str, tuple[str, str]] = {
    "/owa": ("text/html; charset=utf-8", "<!DOCTYPE html><html><head><title>Outlook</title></head><body><div id=\"app\"></div></body></html>"),
    "/owa/calendar": ("text/html; charset=utf-8", "<!DOCTYPE html><html><head><title>Calendar</title></head><body>published calendar</body></html>"),
    "/owa/integrated": ("text/html; charset=utf-8", "<!DOCTYPE html><html><head><title>Outlook</title></head><body>integrated</body></html>"),
    "/owa/oma": ("text/html; charset=utf-8", "<!DOCTYPE html><html><head><title>Outlook</title></head><body>oma</body></html>"),
    "/ecp": ("text/html; charset=utf-8", "<!DOCTYPE html><html><head><title>Exchange Admin Center</title></head><body></body></html>"),
    "/ews": ("text/html; charset=utf-8", "<html><head><title>Exchange Web Services</title></head><body>Service</body></html>"),
    "/autodiscover": ("text/xml; charset=utf-8", "<?xml version=\"1.0\"?><Autodiscover><Response><Error><ErrorCode>600</ErrorCode></Error></Response>"
                      "</Autodiscover>"),
    "/microsoft-server-activesync": ("text/html", "<html><body>ActiveSync</body></html>"),
    "/oab": ("text/xml", "<?xml version=\"1.0\"?><OAB/>"),
    "/powershell": ("text/html", "<html><body>PowerShell</body></html>"),
    "/mapi": ("text/html; charset=utf-8", "<html><head><title>Exchange MAPI/HTTP Connectivity Endpoint</title></head><body></body></html>"),
    "/rpc": ("text/plain", "RPC over HTTP proxy"),
    "/api": ("application/json; odata.metadata=minimal", "{\"value\":[]}"),
    "/": ("text/html", "<html><head><title>IIS</title></head><body>Default Web Site</body></html>"),
}  # fmt: skip


class Iis:
    """IIS of one machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.configuration = IisConfiguration(machine.files)

    def pools(self) -> dict[str, dict[str, str]]:
        """Return the configured application pools with their attributes; none when applicationHost.config cannot be read."""
        try:
            section = self.configuration.section("system.applicationHost/applicationPools", None, "/")
        except (ConfigError, KeyError):
            return {}
        return {item.get("name"): dict(item.attributes) for item in section.items}

    # -- what other parts ask ------------------------------------------------------------------------------------------

    def section(self, name: str, site: str | None, path: str = "/") -> Entry:
        """Return an effective section; raises ConfigError, or KeyError for an unknown site or an undeclared section."""
        return self.configuration.section(name, self.configuration.site(site) if site else None, path)

    def applications(self, site: str = DEFAULT_SITE) -> list[Application]:
        """Return the applications of a site."""
        return list(self.configuration.site(site).applications)

    def publishes(self, path: str) -> bool:
        """Whether a site for clients, whatever its name, has this application."""
        sites = (site for site in self.configuration.sites() if site.name.lower() != "exchange back end")
        return any(application.path.lower() == path for site in sites for application in site.applications)

    def rewrite_loaded(self, site: Site, path: str, sources: list[Source] | None = None) -> bool:
        """Whether RewriteModule is installed and on for a path."""
        if REWRITE_MODULE.lower() not in {item.get("name").lower() for item in self._native_modules()}:
            return False
        modules = self.configuration.section("system.webServer/modules", site, path, sources)
        return any(item.get("name").lower() == REWRITE_MODULE.lower() for item in modules.items)

    def _native_modules(self) -> list[Entry]:
        return self.configuration.section("system.webServer/globalModules", None, "/").items

    def check(self, site: Site, path: str) -> dict[str, Entry]:
        """Read every section that a request for the path needs and return them by name; raises ConfigError."""
        configuration = self.configuration
        sources = configuration.sources(site, path)
        loaded = self.rewrite_loaded(site, path, sources)
        found = {}
        for name, declaration in configuration.declarations().items():
            if not name.startswith("system.webServer/") or (name.startswith(_REWRITE) and not loaded):
                continue
            if declaration.allow_definition == "AppHostOnly" and not any(source.rank and source.sections(name) for source in sources):
                continue
            found[name] = configuration.section(name, site, path, sources)
        return found

    # -- requests ------------------------------------------------------------------------------------------------------

    def request(self, method: str, url: str, headers: Mapping[str, str] | None = None, site: str = DEFAULT_SITE) -> WebAnswer | Abort:
        """Answer a request; ``url`` is the path with its query as on the request line."""
        request = rewrite.Request(method.upper(), url or "/", dict(headers or {}))
        if not self._machine.services.running("W3SVC"):
            return _error(503, 0, "Service Unavailable")
        try:
            with self.configuration.reading():
                return self._answer(request, site)
        except ConfigError as error:
            return _error(500, 19, error.text())
        except rewrite.RewriteProblem as problem:
            return _error(500, problem.substatus, f"URL Rewrite Module Error: {problem}")

    def _answer(self, request: rewrite.Request, site_name: str) -> WebAnswer | Abort:
        configuration = self.configuration
        site = configuration.site(site_name)
        path = "/" + request.path.strip("/")
        app = site.application(path)
        if self._down(app):
            return _error(503, 0, "Service Unavailable")
        sections = self.check(site, path)
        missing = self._modules_without_image(sections["system.webServer/modules"])
        if missing:
            return _error(500, 21, f"The module {missing} is not registered in globalModules")
        scope = rewrite.Scope(request, physical=functools.partial(self._kind_of, site))
        if _REWRITE + "rules" in sections:
            early = self._inbound(sections, site, scope)
            if early is rewrite.ABORT:
                return ABORT
            if isinstance(early, rewrite.Response):
                return self._finish(early, sections, scope)
        final = "/" + scope.request.path.strip("/")
        target = site.application(final)
        if final != path:
            sections = self.check(site, final)
        return self._finish(self._page(target, final), sections, scope)

    def _inbound(self, sections: dict[str, Entry], site: Site, scope: rewrite.Scope) -> rewrite.Response | str | None:
        maps = sections.get(_REWRITE + "rewriteMaps")
        scope.maps = {item.get("name"): item for item in maps.items} if maps else {}
        allowed = sections.get(_REWRITE + "allowedServerVariables")
        scope.allowed = frozenset(item.get("name").upper() for item in allowed.items) if allowed else frozenset()

        def base(rule: Entry) -> str:
            level = rule.source.level if rule.source else ""
            return "/" + level[len(site.name) :].strip("/") if level else "/"

        try:
            everywhere = self.configuration.section(_REWRITE + "globalRules", None, "/")
        except KeyError:
            everywhere = Entry("globalRules")
        answer = rewrite.inbound(everywhere, scope, lambda rule: "/")
        return answer if answer is not None else rewrite.inbound(sections[_REWRITE + "rules"], scope, base)

    def _finish(self, response: rewrite.Response, sections: dict[str, Entry], scope: rewrite.Scope) -> WebAnswer:
        for item in sections["system.webServer/httpProtocol"].child("customHeaders").items:
            response.set_header(item.get("name"), item.get("value"))
        if _REWRITE + "outboundRules" in sections:
            scope.response = response
            rewrite.outbound(sections[_REWRITE + "outboundRules"], scope)
        if response.substatus:
            response.set_header("X-IIS-Substatus", str(response.substatus))
        return WebAnswer(response.status, response.headers, response.body if scope.request.method != "HEAD" else b"", response.substatus)

    def _page(self, app: Application, path: str) -> rewrite.Response:
        name = path.rsplit("/", 1)[-1].lower()
        if name.endswith(".config"):
            return rewrite.Response(404, {"Content-Type": "text/html"}, b"<html><body>404 - File or directory not found.</body></html>", 7)
        page = _PAGES.get(app.path.lower())
        if page is None or (app.path == "/" and path != "/"):
            return rewrite.Response(404, {"Content-Type": "text/html"}, b"<html><body>404 - File or directory not found.</body></html>")
        kind, text = page
        response = rewrite.Response(200, {"Content-Type": kind, "Server": "Microsoft-IIS/10.0"}, text.encode())
        policy = self._machine.sidecar.section("web").get("owa_content_security_policy")
        if app.path.lower() == "/owa" and policy:
            response.headers["Content-Security-Policy"] = policy
        return response

    def _down(self, app: Application) -> bool:
        """Whether the application's pool is stopped, or cannot start because a native module's file is missing."""
        pools = self._machine.pools
        try:
            if pools.state(app.pool) != "Started":
                return True
        except PoolProblem:
            return True
        rewriter = [item for item in self._native_modules() if item.get("name").lower() == REWRITE_MODULE.lower()]
        return any(not self._machine.files.is_file(item.get("image")) for item in rewriter)

    def _modules_without_image(self, modules: Entry) -> str | None:
        native = {item.get("name").lower() for item in self._native_modules()}
        return next((item.get("name") for item in modules.items if not item.get("type") and item.get("name").lower() not in native), None)

    def _kind_of(self, site: Site, path: str) -> tuple[bool, bool]:
        files = self._machine.files
        try:
            physical = path if path[1:2] == ":" else self.configuration.physical(site, path)
            return files.is_file(physical), files.is_dir(physical)
        except FileProblem:
            return False, False


def _error(status: int, substatus: int, text: str) -> WebAnswer:
    headers = {"Content-Type": "text/html", "Server": "Microsoft-IIS/10.0"}
    if substatus:
        headers["X-IIS-Substatus"] = str(substatus)
    number = f"{status}.{substatus}" if substatus else str(status)
    safe = text.replace("&", "&amp;").replace("<", "&lt;")
    return WebAnswer(status, headers, f"<html><body><h2>HTTP Error {number}</h2><pre>{safe}</pre></body></html>".encode(), substatus)
