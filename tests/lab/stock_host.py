# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""applicationHost.config of a fresh simulated server: built from tables, structured as on a real Exchange server."""

from __future__ import annotations

import dataclasses
import functools

EXCHANGE = "C:\\Program Files\\Microsoft\\Exchange Server\\V15\\"
FRONT = EXCHANGE + "FrontEnd\\HttpProxy\\"
BACK = EXCHANGE + "ClientAccess\\"


@dataclasses.dataclass(frozen=True)
class App:
    """An application: URL path, pool, physical folder, and further virtual directories (path -> folder)."""

    path: str
    pool: str
    folder: str
    more: tuple[tuple[str, str], ...] = ()


FRONT_END = (
    App("/", "MSExchangeOWAAppPool", "%SystemDrive%\\inetpub\\wwwroot"),
    App("/owa", "MSExchangeOWAAppPool", FRONT + "owa"),
    App("/owa/Calendar", "MSExchangeOWACalendarAppPool", FRONT + "owa"),
    App("/owa/Integrated", "MSExchangeOWAAppPool", FRONT + "owa"),
    App("/owa/oma", "MSExchangeOWAAppPool", FRONT + "owa"),
    App("/ecp", "MSExchangeECPAppPool", FRONT + "ecp"),
    App("/EWS", "MSExchangeServicesAppPool", FRONT + "EWS"),
    App("/API", "MSExchangeRestFrontEndAppPool", FRONT + "Rest"),
    App("/Autodiscover", "MSExchangeAutodiscoverAppPool", FRONT + "Autodiscover"),
    App("/Microsoft-Server-ActiveSync", "MSExchangeSyncAppPool", FRONT + "sync"),
    App("/OAB", "MSExchangeOABAppPool", FRONT + "OAB"),
    App("/PowerShell", "MSExchangePowerShellFrontEndAppPool", FRONT + "PowerShell"),
    App("/mapi", "MSExchangeMapiFrontEndAppPool", FRONT + "mapi"),
    App("/Rpc", "MSExchangeRpcProxyFrontEndAppPool", FRONT + "rpc"),
)
BACK_END = (
    App("/", "DefaultAppPool", BACK.rstrip("\\"), (("/mapi", BACK + "mapi"), ("/Exchange", BACK + "owa"), ("/Public", BACK + "owa"))),
    App("/PowerShell", "MSExchangePowerShellAppPool", BACK + "PowerShell-Proxy"),
    App("/mapi/emsmdb", "MSExchangeMapiMailboxAppPool", BACK + "mapi\\emsmdb"),
    App("/mapi/nspi", "MSExchangeMapiAddressBookAppPool", BACK + "mapi\\nspi"),
    App("/API", "MSExchangeRestAppPool", BACK + "rest"),
    App("/owa", "MSExchangeOWAAppPool", BACK + "owa"),
    App("/owa/Calendar", "MSExchangeOWACalendarAppPool", BACK + "owa"),
    App("/OAB", "MSExchangeOABAppPool", BACK + "OAB"),
    App("/ecp", "MSExchangeECPAppPool", BACK + "ecp"),
    App("/Autodiscover", "MSExchangeAutodiscoverAppPool", BACK + "Autodiscover"),
    App("/Microsoft-Server-ActiveSync", "MSExchangeSyncAppPool", BACK + "sync"),
    App("/EWS", "MSExchangeServicesAppPool", BACK + "exchweb\\EWS"),
    App("/Rpc", "MSExchangeRpcProxyAppPool", "%windir%\\System32\\RpcProxy"),
    App("/PushNotifications", "MSExchangePushNotificationsAppPool", BACK + "PushNotifications"),
)
SITES = (("Default Web Site", 1, FRONT_END), ("Exchange Back End", 2, BACK_END))

#: group -> (section, overrideModeDefault, allowDefinition)
_SECTIONS: dict[str, str] = {
    "system.applicationHost": "applicationPools! configHistory! customMetadata! listenerAdapters! log! sites! webLimits!",
    "system.webServer": (
        "asp- caching cgi- defaultDocument directoryBrowse fastCgi! globalModules! handlers- httpCompression httpErrors httpLogging- "
        "httpProtocol httpRedirect httpTracing- isapiFilters-a modules-a odbcLogging- serverRuntime- serverSideInclude- staticContent "
        "urlCompression validation webSocket-"
    ),
    "system.webServer/security": "access- applicationDependencies- authorization ipSecurity- isapiCgiRestriction! requestFiltering",
    "system.webServer/security/authentication": (
        "anonymousAuthentication- basicAuthentication- clientCertificateMappingAuthentication- digestAuthentication- "
        "iisClientCertificateMappingAuthentication- windowsAuthentication-"
    ),
    "system.webServer/tracing": "traceFailedRequests traceProviderDefinitions-",
}
_REWRITE_SECTIONS = "globalRules! rules outboundRules providers rewriteMaps allowedServerVariables-"

NATIVE_MODULES = {
    "HttpLoggingModule": "loghttp", "HttpCacheModule": "cachhttp", "DynamicCompressionModule": "compdyn", "StaticCompressionModule": "compstat",
    "DefaultDocumentModule": "defdoc", "DirectoryListingModule": "dirlist", "ProtocolSupportModule": "protsup", "HttpRedirectionModule": "redirect",
    "StaticFileModule": "static", "AnonymousAuthenticationModule": "authanon", "CertificateMappingAuthenticationModule": "authcert",
    "BasicAuthenticationModule": "authbas", "WindowsAuthenticationModule": "authsspi", "DigestAuthenticationModule": "authmd5",
    "RequestFilteringModule": "modrqflt", "CustomErrorModule": "custerr", "IsapiModule": "isapi", "IsapiFilterModule": "filter",
    "FailedRequestsTracingModule": "iisfreb", "ConfigurationValidationModule": "validcfg",
}  # fmt: skip
MANAGED_MODULES = {
    "OutputCache": "System.Web.Caching.OutputCacheModule", "Session": "System.Web.SessionState.SessionStateModule",
    "WindowsAuthentication": "System.Web.Security.WindowsAuthenticationModule",
    "FormsAuthentication": "System.Web.Security.FormsAuthenticationModule",
    "DefaultAuthentication": "System.Web.Security.DefaultAuthenticationModule", "RoleManager": "System.Web.Security.RoleManagerModule",
    "UrlAuthorization": "System.Web.Security.UrlAuthorizationModule", "FileAuthorization": "System.Web.Security.FileAuthorizationModule",
    "Profile": "System.Web.Profile.ProfileModule", "UrlMappingsModule": "System.Web.UrlMappingsModule",
    "UrlRoutingModule-4.0": "System.Web.Routing.UrlRoutingModule", "ScriptModule-4.0": "System.Web.Handlers.ScriptModule",
    "ServiceModel-4.0": "System.ServiceModel.Activation.ServiceHttpModule",
}  # fmt: skip
_EXCHANGE_MODULES = {
    "kerbauth": EXCHANGE + "Bin\\kerbauth.dll",
    "WSMan": "%windir%\\system32\\wsmsvc.dll",
    "cafe_exppw": FRONT + "bin\\exppw.dll",
}
_HIDDEN = ("web.config", "bin", "App_code", "App_GlobalResources", "App_LocalResources", "App_Data")
_EXTENSIONS = (".asax", ".ascx", ".master", ".config", ".cs", ".vb", ".resx", ".mdb", ".java", ".rules")
_MIME = {".htm": "text/html", ".css": "text/css", ".js": "application/javascript", ".png": "image/png", ".svg": "image/svg+xml", ".xml": "text/xml"}


def _declare(names: str, indent: str) -> list[str]:
    lines = []
    for word in names.split():
        name = word.rstrip("!-").removesuffix("-a")
        override = "Deny" if word[len(name) :] else "Allow"
        where = ' allowDefinition="AppHostOnly"' if word.endswith("!") else ' allowDefinition="MachineToApplication"' if word.endswith("-a") else ""
        lines.append(f'{indent}<section name="{name}"{where} overrideModeDefault="{override}" />')
    return lines


def _config_sections(url_rewrite: bool) -> list[str]:
    lines = ["    <configSections>", '        <sectionGroup name="system.applicationHost">', *_declare(_SECTIONS["system.applicationHost"], " " * 12)]
    lines += ["        </sectionGroup>", '        <sectionGroup name="system.webServer">', *_declare(_SECTIONS["system.webServer"], " " * 12)]
    lines += ['            <sectionGroup name="security">', *_declare(_SECTIONS["system.webServer/security"], " " * 16)]
    lines += ['                <sectionGroup name="authentication">', *_declare(_SECTIONS["system.webServer/security/authentication"], " " * 20)]
    lines += ["                </sectionGroup>", "            </sectionGroup>", '            <sectionGroup name="tracing">']
    lines += [*_declare(_SECTIONS["system.webServer/tracing"], " " * 16), "            </sectionGroup>"]
    if url_rewrite:
        lines += ['            <sectionGroup name="rewrite">', *_declare(_REWRITE_SECTIONS, " " * 16), "            </sectionGroup>"]
    return [*lines, "        </sectionGroup>", "    </configSections>"]


def _pools() -> list[str]:
    names = ["DefaultAppPool", *dict.fromkeys(app.pool for dummy, dummy2, apps in SITES for app in apps if app.pool != "DefaultAppPool")]
    lines = ["        <applicationPools>"]
    for name in names:
        lines.append(f'            <add name="{name}" managedRuntimeVersion="v4.0" managedPipelineMode="Integrated">')
        if name.startswith("MSExchange"):
            lines.append('                <processModel identityType="LocalSystem" loadUserProfile="true" idleTimeout="00:00:00" />')
        lines += ["                <recycling>", '                    <periodicRestart time="00:00:00" />', "                </recycling>"]
        lines.append("            </add>")
    lines += ['            <applicationPoolDefaults managedRuntimeVersion="v4.0">', '                <processModel identityType="ApplicationPoolIdentity" />']
    return [*lines, "            </applicationPoolDefaults>", "        </applicationPools>"]


def _sites() -> list[str]:
    lines = ["        <sites>"]
    for name, number, apps in SITES:
        lines.append(f'            <site name="{name}" id="{number}" serverAutoStart="true">')
        for app in apps:
            lines.append(f'                <application path="{app.path}" applicationPool="{app.pool}">')
            lines += [
                f'                    <virtualDirectory path="{path}" physicalPath="{folder}" />' for path, folder in (("/", app.folder), *app.more)
            ]
            lines.append("                </application>")
        lines.append("                <bindings>")
        for protocol, port in (("http", 80 if number == 1 else 81), ("https", 443 if number == 1 else 444)):
            lines.append(f'                    <binding protocol="{protocol}" bindingInformation="*:{port}:" />')
        lines += ["                </bindings>", "            </site>"]
    lines += ['            <siteDefaults>', '                <logFile logFormat="W3C" directory="%SystemDrive%\\inetpub\\logs\\LogFiles" />']
    return [*lines, "            </siteDefaults>", '            <applicationDefaults applicationPool="DefaultAppPool" />', "        </sites>"]


def _web_server(url_rewrite: bool) -> list[str]:
    modules = {name: f"%windir%\\System32\\inetsrv\\{dll}.dll" for name, dll in NATIVE_MODULES.items()} | _EXCHANGE_MODULES
    if url_rewrite:
        modules["RewriteModule"] = "%SystemRoot%\\system32\\inetsrv\\rewrite.dll"
    errors = [f'            <error statusCode="{code}" prefixLanguageFilePath="%SystemDrive%\\inetpub\\custerr" path="{code}.htm" />'
              for code in (401, 403, 404, 405, 406, 412, 500, 501, 502)]  # fmt: skip
    return [
        "    <system.webServer>",
        '        <defaultDocument enabled="true">', "            <files>",
        *[f'                <add value="{name}" />' for name in ("Default.htm", "index.htm", "iisstart.htm", "default.aspx")],
        "            </files>", "        </defaultDocument>",
        '        <directoryBrowse enabled="false" />',
        "        <globalModules>", *[f'            <add name="{name}" image="{image}" />' for name, image in modules.items()], "        </globalModules>",
        '        <httpErrors lockAttributes="allowAbsolutePathsWhenDelegated,defaultPath">', *errors, "        </httpErrors>",
        "        <httpProtocol>", "            <customHeaders>", "                <clear />",
        '                <add name="X-Powered-By" value="ASP.NET" />',
        "            </customHeaders>", "            <redirectHeaders>", "                <clear />", "            </redirectHeaders>",
        "        </httpProtocol>",
        "        <security>", '            <access sslFlags="None" />', "            <authentication>",
        '                <anonymousAuthentication enabled="true" userName="IUSR" />', '                <basicAuthentication enabled="false" />',
        '                <windowsAuthentication enabled="false">', "                    <providers>",
        '                        <add value="Negotiate" />', '                        <add value="NTLM" />',
        "                    </providers>", "                </windowsAuthentication>", "            </authentication>",
        "            <requestFiltering>", '                <fileExtensions allowUnlisted="true" applyToWebDAV="true">',
        *[f'                    <add fileExtension="{name}" allowed="false" />' for name in _EXTENSIONS], "                </fileExtensions>",
        '                <hiddenSegments applyToWebDAV="true">',
        *[f'                    <add segment="{name}" />' for name in _HIDDEN], "                </hiddenSegments>",
        "            </requestFiltering>", "        </security>",
        '        <staticContent lockAttributes="isDocFooterFileName">',
        *[f'            <mimeMap fileExtension="{name}" mimeType="{kind}" />' for name, kind in _MIME.items()], "        </staticContent>",
        "        <urlCompression />", "    </system.webServer>",
    ]  # fmt: skip


def _delegated(url_rewrite: bool) -> list[str]:
    native = list(NATIVE_MODULES) + (["RewriteModule"] if url_rewrite else [])
    return [
        '    <location path="" overrideMode="Allow">', "        <system.webServer>",
        '            <handlers accessPolicy="Read, Script">',
        '                <add name="PageHandlerFactory-Integrated-4.0" path="*.aspx" verb="GET,HEAD,POST,DEBUG" type="System.Web.UI.PageHandlerFactory" />',
        '                <add name="svc-Integrated-4.0" path="*.svc" verb="*" type="System.ServiceModel.Activation.ServiceHttpHandlerFactory" />',
        '                <add name="StaticFile" path="*" verb="*" modules="StaticFileModule,DefaultDocumentModule" resourceType="Either" />',
        "            </handlers>", '            <modules lockItem="false">',
        *[f'                <add name="{name}" lockItem="false" />' for name in native],
        *[f'                <add name="{name}" type="{kind}" preCondition="managedHandler" lockItem="false" />' for name, kind in MANAGED_MODULES.items()],
        "            </modules>", '            <serverRuntime appConcurrentRequestLimit="50000" />', "        </system.webServer>", "    </location>",
    ]  # fmt: skip


def _location(site: str, app: App) -> list[str]:
    anonymous = str(app.path in ("/owa/Calendar", "/ecp", "/EWS", "/API", "/Autodiscover")).lower()
    return [
        f'    <location path="{site}{app.path}">', "        <system.webServer>", '            <handlers accessPolicy="Read, Script" />',
        "            <security>", "                <authentication>", f'                    <anonymousAuthentication enabled="{anonymous}" />',
        '                    <windowsAuthentication enabled="true">', "                        <providers>", "                            <clear />",
        '                            <add value="Negotiate" />', '                            <add value="NTLM" />', "                        </providers>",
        "                    </windowsAuthentication>", "                </authentication>", "            </security>",
        '            <urlCompression doStaticCompression="true" doDynamicCompression="false" />', "        </system.webServer>", "    </location>",
    ]  # fmt: skip


@functools.lru_cache(maxsize=2)
def application_host(url_rewrite: bool) -> bytes:
    """Return the file; without ``url_rewrite`` neither the module nor its section group is in it."""
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<!-- IIS configuration sections of a simulated server -->", "<configuration>"]
    lines += [*_config_sections(url_rewrite), "    <system.applicationHost>", *_pools(), *_sites(), "    </system.applicationHost>"]
    lines += [*_web_server(url_rewrite), *_delegated(url_rewrite)]
    lines += ['    <location path="Default Web Site">', "        <system.webServer>", "            <security>",
              '                <access sslFlags="Ssl, Ssl128" />', "            </security>", "        </system.webServer>", "    </location>"]  # fmt: skip
    for site, dummy, apps in SITES:
        for app in apps:
            if app.path != "/":
                lines += _location(site, app)
    return "\r\n".join([*lines, "</configuration>", ""]).encode()
