# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real configuration files that every server of a fleet starts with: ``--template DIR`` (names in DESIGN.md 6)."""

from __future__ import annotations

import pathlib
import re

from lab.files import FileProblem
from lab.iis_xml import ConfigError, Malformed, parse
from lab.kernel import LabRefusal
from lab.machine import Machine

_NAME = re.compile(r"^(?P<site>DefaultWebSite|ExchangeBackEnd)(?:-(?P<directory>[A-Za-z][A-Za-z-]*))?\.web\.config$")
_SITES = {"DefaultWebSite": "Default Web Site", "ExchangeBackEnd": "Exchange Back End"}
#: short names of application paths; the others go by their own name
_SHORT = {"autod": "Autodiscover", "eas": "Microsoft-Server-ActiveSync", "rpc": "Rpc", "rest": "API"}


class Template:
    """A folder of template files, read once; raises LabRefusal for a name that is none."""

    def __init__(self, folder: pathlib.Path) -> None:
        if not folder.is_dir():
            raise LabRefusal(f"the template folder {folder} does not exist")
        self.application_host: bytes | None = None
        #: (site, application path) -> bytes
        self.web_configs: dict[tuple[str, str], bytes] = {}
        for file in sorted(folder.iterdir()):
            if file.name == "applicationHost.config":
                self.application_host = file.read_bytes()
                continue
            found = _NAME.match(file.name)
            if not found or not file.is_file():
                raise LabRefusal(
                    f"the template folder holds {file.name}; allowed are applicationHost.config, DefaultWebSite[-VDIR].web.config and "
                    "ExchangeBackEnd[-VDIR].web.config, with VDIR such as OWA, ECP, AutoD, EAS, RPC, Rest"
                )
            directory = found["directory"] or ""
            path = "/" + _SHORT.get(directory.lower(), directory)
            key = (_SITES[found["site"]], path.lower())
            if key in self.web_configs:
                raise LabRefusal(f"the template folder holds two files for {path} of {key[0]}")
            self.web_configs[key] = file.read_bytes()
        if self.application_host is not None and isinstance(parse(self.application_host), Malformed):
            raise LabRefusal("the template's applicationHost.config is not well-formed; without it the lab does not know where the other files belong")

    def host(self, url_rewrite: bool) -> bytes | None:
        """Return applicationHost.config: as it is, or without what URL Rewrite's installer puts there."""
        if self.application_host is None or url_rewrite:
            return self.application_host
        data = re.sub(rb'[ \t]*<sectionGroup name="rewrite">.*?</sectionGroup>[ \t]*(\r?\n)?', b"", self.application_host, flags=re.DOTALL)
        return re.sub(rb'[ \t]*<add name="RewriteModule"[^>]*/>[ \t]*(\r?\n)?', b"", data)

    def write(self, machine: Machine) -> None:
        """Put the web.config files where the server's applicationHost.config has their applications."""
        for (site, path), data in self.web_configs.items():
            try:
                applications = machine.iis.applications(site)
            except (ConfigError, KeyError) as error:
                raise LabRefusal(f"the template's applicationHost.config has no site {site}") from error
            app = next((item for item in applications if item.path.lower() == path), None)
            if app is None:
                known = ", ".join(item.path for item in applications)
                raise LabRefusal(f"the template has a web.config for {path} of {site}, which has only {known}")
            folder = machine.files.expand(app.directories[0].physical)
            try:
                machine.files.make_folder(folder)
                machine.files.write(folder + "\\web.config", data)
            except FileProblem as problem:
                raise LabRefusal(f"the template maps {path} of {site} to {folder}: {problem}") from problem


def rewrite_module(application_host: bytes) -> bool:
    """Whether an applicationHost.config loads RewriteModule."""
    return b'name="RewriteModule"' in application_host
