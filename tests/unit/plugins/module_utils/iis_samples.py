# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small made-up server for the tests of the IIS stages, and the recorded real one."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._iis_config import Configuration, FileState, web_config_paths

ENVIRONMENT = {"SystemDrive": "C:", "windir": r"C:\Windows"}
HOST_PATH = r"C:\Windows\System32\inetsrv\config\applicationHost.config"
SITE = "Default Web Site"
PROXY = r"D:\Exchange\FrontEnd\HttpProxy"
ROOT_FILE = r"C:\inetpub\wwwroot\web.config"
OWA_FILE = PROXY + r"\owa\web.config"
ECP_FILE = PROXY + r"\ecp\web.config"

SECTIONS = """<sectionGroup name="rewrite">
        <section name="globalRules" overrideModeDefault="Deny" allowDefinition="AppHostOnly" />
        <section name="rules" overrideModeDefault="Allow" /><section name="outboundRules" overrideModeDefault="Allow" />
      </sectionGroup>"""
GLOBAL_MODULE = '<globalModules><add name="RewriteModule" image="%SystemRoot%\\system32\\inetsrv\\rewrite.dll" /></globalModules>'
MODULE = '<location path="" overrideMode="Allow"><system.webServer><modules><add name="RewriteModule" /></modules></system.webServer></location>'

APPLICATIONS = {"/": r"%SystemDrive%\inetpub\wwwroot", "/owa": PROXY + r"\owa", "/owa/Calendar": PROXY + r"\owa", "/ecp": PROXY + r"\ecp"}

ROOT_CONFIG = (
    b'<?xml version="1.0" encoding="UTF-8"?>\r\n<configuration>\r\n    <system.webServer>\r\n'
    b'        <directoryBrowse enabled="false" />\r\n    </system.webServer>\r\n</configuration>\r\n'
)
OWA_CONFIG = b"""<?xml version="1.0" encoding="UTF-8"?>
<configuration>
  <location inheritInChildApplications="false">
    <system.webServer>
      <httpProtocol />
    </system.webServer>
  </location>
  <appSettings>
    <add key="HttpProxy.ProtocolType" value="Owa" />
  </appSettings>
</configuration>"""
ECP_CONFIG = b"<configuration>\n\t<system.webServer />\n</configuration>\n"

M1_RULE = """<rule name="{name}" stopProcessing="true">
  <match url=".*" />
  <conditions>
    <add input="{{UrlDecode:{{REQUEST_URI}}}}" pattern="(?=.*autodiscover)(?=.*powershell)" />
  </conditions>
  <action type="AbortRequest" />
</rule>"""
M2_RULES = r"""<outboundRules>
  <rule name="{maker} OWA CSP - outbound" preCondition="{maker} OWA SPA HTML shell - precondition" patternSyntax="ECMAScript" stopProcessing="false">
    <match serverVariable="RESPONSE_Content_Security_Policy" pattern="(.*)" />
    <action type="Rewrite" value="{{R:1}}; script-src-attr 'none'" />
  </rule>
  <preConditions>
    <preCondition name="{maker} OWA SPA HTML shell - precondition" logicalGrouping="MatchAll" patternSyntax="ECMAScript">
      <add input="{{RESPONSE_CONTENT_TYPE}}" pattern="^text/html" />
      <add input="{{REQUEST_URI}}" pattern="^/owa/?($|\?|default\.aspx|projection\.aspx|readingPane\.aspx|popout\.aspx)" />
    </preCondition>
  </preConditions>
</outboundRules>"""


def application_host(sections: str = SECTIONS, modules: str = GLOBAL_MODULE, extra: str = MODULE, applications: Mapping[str, str] | None = None) -> bytes:
    """Return an applicationHost.config with one site."""
    entries = "".join(
        f'<application path="{path}" applicationPool="P"><virtualDirectory path="/" physicalPath="{folder}" /></application>'
        for path, folder in (applications or APPLICATIONS).items()
    )
    return (
        f'<configuration><configSections><sectionGroup name="system.webServer">{sections}</sectionGroup></configSections>'
        f'<system.applicationHost><sites><site name="{SITE}" id="1">{entries}'
        f'<bindings><binding protocol="http" bindingInformation="*:80:" /></bindings></site></sites>'
        f"</system.applicationHost><system.webServer>{modules}</system.webServer>{extra}</configuration>"
    ).encode()


def server(root: bytes | None = ROOT_CONFIG, owa: bytes | None = OWA_CONFIG, ecp: bytes | None = ECP_CONFIG, **host: Any) -> Configuration:
    """Return the made-up server with other files in place of its own."""
    files = {path: FileState(path, data, "O:BA") for path, data in ((ROOT_FILE, root), (OWA_FILE, owa), (ECP_FILE, ecp))}
    return Configuration(FileState(HOST_PATH, application_host(**host)), files, ENVIRONMENT)


def in_root(rules: str, config: bytes = b"<configuration>%s</configuration>") -> bytes:
    """Return a web.config with inbound rules at the top level."""
    return config.replace(b"%s", f"<system.webServer><rewrite><rules>{rules}</rules></rewrite></system.webServer>".encode())


def owa_outside(maker: str) -> bytes:
    """Return OWA's web.config with M2 where EM puts it, outside the location block."""
    section = f"<system.webServer><rewrite>{M2_RULES.format(maker=maker)}</rewrite></system.webServer>".encode()
    return OWA_CONFIG.replace(b"</configuration>", section + b"</configuration>")


def owa_inside(rules: str) -> bytes:
    """Return OWA's web.config with a rewrite section inside the location block."""
    return OWA_CONFIG.replace(b"<httpProtocol />", f"<httpProtocol /><rewrite>{rules}</rewrite>".encode())


#: Folder of the recorded server to the recorded file's name.
RECORDED_FILES = {
    "wwwroot": "DefaultWebSite",
    "owa": "DefaultWebSite-OWA",
    "ecp": "DefaultWebSite-ECP",
    "EWS": "DefaultWebSite-EWS",
    "Rest": "DefaultWebSite-Rest",
    "Autodiscover": "DefaultWebSite-AutoD",
    "sync": "DefaultWebSite-EAS",
    "OAB": "DefaultWebSite-OAB",
    "PowerShell": "DefaultWebSite-PowerShell",
    "mapi": "DefaultWebSite-MAPI",
    "rpc": "DefaultWebSite-RPC",
}


def recorded_server(recorded: Callable[[str], pathlib.Path], root: str = "DefaultWebSite") -> Configuration:
    """Return the recorded Exchange 2019 server, with one of its recorded root files."""
    host = recorded("exchange2019/applicationHost.config").read_bytes()
    files = {}
    for path in web_config_paths(host, ENVIRONMENT):
        name = RECORDED_FILES[path.split("\\")[-2]]
        data = recorded(f"exchange2019/{root if name == 'DefaultWebSite' else name}.web.config").read_bytes()
        files[path.lower()] = FileState(path, data)
    return Configuration(FileState(HOST_PATH, host), files, ENVIRONMENT)
