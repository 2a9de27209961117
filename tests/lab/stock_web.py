# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""web.config files of a fresh simulated server: a byte order mark, CRLF, and the blocks that real ones have."""

from __future__ import annotations

from lab.stock_host import BACK, FRONT, MANAGED_MODULES

ROOT = "C:\\inetpub\\wwwroot"
#: native and managed modules that every Exchange application takes out
_REMOVED = ("CustomErrorModule", "DirectoryListingModule", "DynamicCompressionModule", "HttpCacheModule", "RequestFilteringModule",
            "StaticCompressionModule", *[name for name in MANAGED_MODULES if name != "WindowsAuthentication"])  # fmt: skip


def _modules(names: tuple[str, ...], indent: str) -> list[str]:
    lines = [f"{indent}<modules>"]
    lines += [f'{indent}  <remove name="{name}" />' for name in _REMOVED]
    lines += [f'{indent}  <add name="{name}" type="Lab.Exchange.{name}, Lab.Exchange" />' for name in names]
    return [*lines, f"{indent}</modules>"]


def _web_server(name: str, modules: tuple[str, ...], indent: str, owa: bool = False) -> list[str]:
    inner = indent + "  "
    lines = [f"{indent}<system.webServer>", f'{inner}<serverRuntime appConcurrentRequestLimit="65535" uploadReadAheadSize="0" />', *_modules(modules, inner)]
    if owa:
        lines += [f'{inner}<httpErrors existingResponse="PassThrough">']
        lines += [f'{inner}  <remove statusCode="{code}" subStatusCode="-1" />' for code in (404, 500)]
        lines += [f'{inner}  <error statusCode="{code}" path="/owa/auth/errorFE.aspx?httpCode={code}" responseMode="ExecuteURL" />' for code in (404, 500)]
        lines += [f"{inner}</httpErrors>"]
    else:
        lines += [f'{inner}<httpErrors existingResponse="PassThrough" />']
    lines += [f"{inner}<security>", f"{inner}  <requestFiltering>", f'{inner}    <requestLimits maxAllowedContentLength="35000000" />']
    lines += [f"{inner}  </requestFiltering>", f"{inner}</security>", f"{inner}<httpProtocol>", f"{inner}  <customHeaders>"]
    lines += [f'{inner}    <add name="X-FEServer" value="{name}" />', f"{inner}  </customHeaders>", f"{inner}</httpProtocol>"]
    return [*lines, f"{indent}</system.webServer>"]


def _tail() -> list[str]:
    return [
        '  <assemblyBinding xmlns="urn:schemas-microsoft-com:asm.v1">',
        f'    <linkedConfiguration href="file://{FRONT}SharedWebConfig.config" />',
        "  </assemblyBinding>",
        "</configuration>",
    ]


def _file(lines: list[str]) -> bytes:
    return b"\xef\xbb\xbf" + "\r\n".join(['<?xml version="1.0" encoding="UTF-8"?>', "<configuration>", *lines, ""]).encode()


def site_root() -> bytes:
    """Return the web.config of the Default Web Site: everything of it in a block that applications do not inherit."""
    return _file([
        '  <location inheritInChildApplications="false">', "    <system.webServer>",
        '      <serverRuntime appConcurrentRequestLimit="65535" uploadReadAheadSize="0" />',
        *_modules(("HostHeaderValidationModule", "OwaJavascriptRedirectModule"), "      "),
        "    </system.webServer>", "    <system.web>", '      <machineKey validationKey="AutoGenerate,IsolateApps" />',
        "    </system.web>", "  </location>", *_tail(),
    ])  # fmt: skip


def outlook(name: str) -> bytes:
    """Return the web.config that /owa, /owa/Calendar, /owa/Integrated and /owa/oma share."""
    return _file([
        "  <configSections>", '    <section name="microsoft.identityModel" type="Lab.IdentityModel" />', "  </configSections>",
        "  <!-- /owa/Calendar has the same folder and must stay independent -->", '  <location inheritInChildApplications="false">',
        *_web_server(name, ("HostHeaderValidationModule", "HttpRequestFilteringModule", "OwaPltInfoModule", "HttpProxy"), "    ", owa=True),
        "    <system.web>", '      <machineKey validationKey="AutoGenerate,IsolateApps" />',
        '      <httpRuntime maxUrlLength="500" maxRequestLength="35000" />', "    </system.web>", "  </location>",
        "  <appSettings>", '    <add key="HttpProxy.ProtocolType" value="Owa" />', "  </appSettings>", *_tail(),
    ])  # fmt: skip


def proxy(name: str, protocol: str) -> bytes:
    """Return the web.config of another front-end application; its section stands outside of any block."""
    return _file([
        "  <appSettings>", f'    <add key="HttpProxy.ProtocolType" value="{protocol}" />', "  </appSettings>",
        *_web_server(name, ("HostHeaderValidationModule", "HttpRequestFilteringModule", "HttpProxy", "OAuthAuthModule"), "  "),
        "  <system.web>", '    <httpRuntime maxRequestLength="2097151" />', "  </system.web>", *_tail(),
    ])  # fmt: skip


def back_end(shared: bool) -> bytes:
    """Return the web.config of a back-end application, in a block when children share or inherit its folder."""
    indent = "    " if shared else "  "
    body = [f"{indent}<system.webServer>", *_modules((), indent + "  "), f"{indent}</system.webServer>"]
    if shared:
        body = ['  <location inheritInChildApplications="false">', *body, "  </location>"]
    return _file([*body, *_tail()])


def web_configs(name: str) -> dict[str, bytes]:
    """Return folder -> web.config for a server of that name."""
    found = {ROOT: site_root(), FRONT + "owa": outlook(name)}
    front = {"ecp": "Ecp", "EWS": "Ews", "Rest": "Rest", "Autodiscover": "Autodiscover", "sync": "Eas", "OAB": "Oab", "PowerShell": "PowerShell",
             "mapi": "Mapi", "rpc": "RpcHttp"}  # fmt: skip
    found.update({FRONT + folder: proxy(name, protocol) for folder, protocol in front.items()})
    found[BACK.rstrip("\\")] = back_end(shared=True)
    for folder in ("owa", "ecp", "exchweb\\EWS", "mapi"):
        found[BACK + folder] = back_end(shared=True)
    for folder in ("PowerShell-Proxy", "mapi\\emsmdb", "mapi\\nspi", "rest", "OAB", "Autodiscover", "sync", "PushNotifications"):
        found[BACK + folder] = back_end(shared=False)
    return found
