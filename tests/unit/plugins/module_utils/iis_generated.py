# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Made-up IIS configurations, one for each seed: applications that share folders, location tags, locks, clears, encodings, broken files.

The bytes are the same on every machine, so that a case that fails can be named by its seed.
"""

from __future__ import annotations

import dataclasses
import random

from ansible_collections.exchange.mitigation.plugins.module_utils._iis_config import Configuration, FileState, web_config_paths
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils import iis_samples as samples

#: URL path -> folders that may serve it.
FOLDERS = {
    "/": [r"%SystemDrive%\inetpub\wwwroot", "C:\\inetpub\\wwwroot\\"],
    "/owa": [r"C:\Exchange\FrontEnd\HttpProxy\owa", r"%SystemDrive%\exchange\FRONTEND\HttpProxy\owa"],
    "/owa/Calendar": [r"C:\Exchange\FrontEnd\HttpProxy\owa", r"C:\Exchange\FrontEnd\HttpProxy\OWA"],
    "/owa/Integrated": [r"C:\Exchange\FrontEnd\HttpProxy\owa", r"C:\Exchange\Other"],
    "/ecp": [r"C:\Exchange\FrontEnd\HttpProxy\ecp", r"C:\inetpub\wwwroot\ecp"],
    "/EWS": [r"C:\Exchange\FrontEnd\HttpProxy\EWS", r"C:\inetpub\wwwroot"],
    "/EWS/deep/down": [r"C:\Exchange\FrontEnd\HttpProxy\EWS\deep"],
}
#: Paths that are no application of their own.
PLAIN = ("/images", "/owa/auth", "/EWS/deep", "/vd", "/vd/sub")
NAMES = ("a", "b", "c")
ENCODINGS = ("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16")


@dataclasses.dataclass(frozen=True)
class Generated:
    """One server: applicationHost.config and the web.config files that exist, and the paths worth asking about."""

    seed: int
    application_host: bytes
    files: dict[str, bytes]
    paths: tuple[str, ...]
    environment: dict[str, str]

    def configuration(self) -> Configuration:
        """Return it as the collection reads it; what was not made does not exist."""
        wanted = web_config_paths(self.application_host, self.environment)
        states = {path.lower(): FileState(path, self.files.get(path.lower()), "O:BA") for path in wanted}
        states.update({path: FileState(path, data, "O:BA") for path, data in self.files.items() if path not in states})
        known = Configuration(FileState(samples.HOST_PATH, self.application_host), {}, self.environment)
        for path in self.paths:
            for dummy, file in known.site(samples.SITE).levels(path):
                if file is not None:
                    states.setdefault(file.lower(), FileState(file, self.files.get(file.lower()), "O:BA"))
        return Configuration(FileState(samples.HOST_PATH, self.application_host), states, self.environment)


class _Maker:
    def __init__(self, seed: int, broken: bool) -> None:
        self.random = random.Random(seed)
        self.broken = broken

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def rule(self) -> str:
        chosen = self.random.random()
        if chosen < 0.12:
            return "<clear />"
        if chosen < 0.25:
            return f'<remove name="{self.random.choice((*NAMES, "EEMS M1.1 PowerShell - inbound", "PowerShell - inbound"))}" />'
        if chosen < 0.6:
            extra = self.random.choice(["", "", "", ' enabled="false"', ' stopProcessing="true"', ' lockItem="true"'])
            url = self.random.choice([".*", ".*", "^x"])
            action = self.random.choice(["None", "AbortRequest"])
            return f'<rule name="{self.random.choice(NAMES)}"{extra}><match url="{url}" /><action type="{action}" /></rule>'
        name = self.random.choice(
            [
                "EEMS M1.1 PowerShell - inbound",
                "PowerShell - inbound",
                "RequestBlockingRule1",
                "exchange.mitigation M1 PowerShell - inbound",
                "X-BEResource Abort - inbound",
            ]
        )
        text = samples.M1_RULE.format(name=name)
        if name.startswith("X-"):
            text = text.replace("{UrlDecode:{REQUEST_URI}}", "{HTTP_COOKIE}").replace("(?=.*autodiscover)(?=.*powershell)", "(.*)X-BEResource=(.+)/(.+)~(.+)")
        change = self.random.random()
        if change < 0.1:
            return text.replace("stopProcessing", 'enabled="false" stopProcessing')
        if change < 0.2:
            return text.replace("AbortRequest", "None")
        if change < 0.3:
            return text.replace("(?=.*autodiscover)(?=.*powershell)", r".*autodiscover\.json.*Powershell.*")
        return text

    def section(self) -> str:
        """Return one rewrite element with one or both sections."""
        parts = []
        if self.chance(0.7):
            lock = self.random.choice(["", "", "", "", ' lockElements="rule"', ' lockElements="clear,remove"'])
            parts.append(f"<rules{lock}>{''.join(self.rule() for dummy in range(self.random.randint(0, 3)))}</rules>")
        if self.chance(0.4):
            maker = self.random.choice(["EEMS M2.1", "EOMT", "mine", "exchange.mitigation M2"])
            parts.append(
                self.random.choice([samples.M2_RULES.format(maker=maker), samples.M2_RULES.format(maker=maker), "<outboundRules><clear /></outboundRules>"])
            )
        return f"<rewrite>{''.join(parts)}</rewrite>"

    def block(self, paths: tuple[str | None, ...]) -> str:
        """Return system.webServer outside or inside a location tag."""
        body = f"<system.webServer><httpProtocol />{self.section()}</system.webServer>"
        path = self.random.choice(paths)
        if path is None:
            return body
        attributes = "" if path == "" and self.chance(0.5) else f' path="{path}"'
        if self.chance(0.5):
            attributes += ' inheritInChildApplications="false"'
        if self.chance(0.15):
            attributes += self.random.choice([' overrideMode="Allow"', ' overrideMode="Deny"', ' allowOverride="false"'])
        return f"<location{attributes}>\n  {body}\n</location>"

    def modules(self) -> str:
        return self.random.choice(["<clear />", '<remove name="RewriteModule" />', '<remove name="other" />'])

    def file(self, inner: tuple[str | None, ...]) -> bytes:
        parts = [self.block(inner) for dummy in range(self.random.choice([0, 1, 1, 1, 2]))]
        if self.chance(0.3):
            parts.insert(0, "<location inheritInChildApplications='false'><system.webServer><httpProtocol /></system.webServer></location>")
        if self.chance(0.05):
            parts.append(f"<location path='.'><system.webServer><modules>{self.modules()}</modules></system.webServer></location>")
        if self.chance(0.3):
            parts.append("<!-- <rule name='x' /> -->")
        newline = self.random.choice(["\r\n", "\n"])
        text = newline.join(["<configuration>", *parts, "</configuration>", ""]).replace("\n", newline).replace("\r\r", "\r")
        if self.broken and self.chance(0.06):
            text = text.replace("</configuration>", self.random.choice(["", "</x></configuration>", "<!DOCTYPE a></configuration>"]))
        encoding = self.random.choice(ENCODINGS)
        if self.chance(0.5) or encoding == "utf-16":
            text = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>{newline}{text}'
        return text.encode(encoding)


def generate(seed: int, broken: bool = True) -> Generated:
    """Return the server of a seed; without ``broken`` every file is well formed."""
    make = _Maker(seed, broken)
    served = {path: make.random.choice(folders) for path, folders in FOLDERS.items() if path in ("/", "/owa", "/owa/Calendar") or make.chance(0.6)}
    host_blocks = []
    for dummy in range(make.random.choice([0, 0, 0, 1, 2])):
        path = make.random.choice(["", samples.SITE, f"{samples.SITE}/owa", f"{samples.SITE}/ecp", f"{samples.SITE}/images", "Other Site"])
        host_blocks.append(make.block((path,)))
    sections = samples.SECTIONS.replace('"rules" overrideModeDefault="Allow"', f'"rules" overrideModeDefault="{make.random.choice(["Allow"] * 9 + ["Deny"])}"')
    sections += '<section name="httpProtocol" overrideModeDefault="Allow" /><section name="modules" overrideModeDefault="Allow" />'
    sections += '<section name="globalModules" allowDefinition="AppHostOnly" overrideModeDefault="Deny" />'
    modules = '<location path="" overrideMode="Allow"><system.webServer><modules><add name="RewriteModule" /></modules></system.webServer></location>'
    host = samples.application_host(sections=sections, extra=modules + "".join(host_blocks), applications=served)
    host = host.replace(
        b"<configSections>",
        b'<configSections><sectionGroup name="system.applicationHost"><section name="sites" allowDefinition="AppHostOnly" overrideModeDefault="Deny" />'
        b"</sectionGroup>",
    )
    host = host.replace(
        b'</application><application path="/owa"', b'<virtualDirectory path="/vd" physicalPath="C:\\vd" /></application><application path="/owa"'
    )
    paths = tuple(served) + tuple(path for path in PLAIN if make.chance(0.5))
    known = Configuration(FileState(samples.HOST_PATH, host), {}, samples.ENVIRONMENT)
    files: dict[str, bytes] = {}
    for path in paths:
        name = known.file_for(samples.SITE, path).lower()
        if name not in files and make.chance(0.7 if path in served else 0.3):
            inner = tuple(other[len(path.rstrip("/")) + 1 :] for other in (*FOLDERS, *PLAIN) if other != path and other.startswith(path.rstrip("/") + "/"))
            files[name] = make.file((None, None, None, "", ".", *inner[:2]))
    return Generated(seed, host, files, paths, dict(samples.ENVIRONMENT))
