# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the schema of IIS says about the sections that matter here: collections with their keys, attributes with type and default.

Only sections named here are checked for unknown elements and attributes (``strict``); every other declared section is read by
its structure alone.
"""

from __future__ import annotations

import dataclasses

#: attribute -> (type, default); type: string, bool, int, timespan, enum; default None means required, "" is the empty string
Attributes = dict[str, tuple[str, str | None]]


@dataclasses.dataclass(frozen=True)
class Element:
    """An element of a section. ``add`` is the collection's entry element (None: no collection), ``keys`` its key attributes."""

    attributes: Attributes = dataclasses.field(default_factory=dict)
    children: dict[str, Element] = dataclasses.field(default_factory=dict)
    add: str | None = None
    keys: tuple[str, ...] = ()
    remove: str = "remove"
    clear: str = "clear"
    item: Element | None = None
    strict: bool = False


def _collection(add: str, *keys: str, item: Element | None = None, strict: bool = False, attributes: Attributes | None = None,
                children: dict[str, Element] | None = None) -> Element:  # fmt: skip
    return Element(attributes or {}, children or {}, add, keys, item=item, strict=strict)


GENERIC = Element()

_NAME_VALUE: Attributes = {"name": ("string", None), "value": ("string", "")}
_CONDITION = Element({
    "input": ("string", ""), "matchType": ("enum", "Pattern"), "pattern": ("string", ""), "ignoreCase": ("bool", "true"),
    "negate": ("bool", "false"),
}, strict=True)  # fmt: skip
_CONDITIONS = _collection("add", item=_CONDITION, strict=True,
                          attributes={"logicalGrouping": ("enum", "MatchAll"), "trackAllCaptures": ("bool", "false")})  # fmt: skip
_SET = Element({"name": ("string", None), "value": ("string", ""), "replace": ("bool", "true")}, strict=True)
_INBOUND = Element(
    {
        "name": ("string", None), "enabled": ("bool", "true"), "patternSyntax": ("enum", "ECMAScript"), "stopProcessing": ("bool", "false"),
        "responseCacheDirective": ("enum", "Auto"),
    },
    {
        "match": Element({"url": ("string", ""), "ignoreCase": ("bool", "true"), "negate": ("bool", "false")}, strict=True),
        "conditions": _CONDITIONS,
        "serverVariables": _collection("set", "name", item=_SET, strict=True),
        "action": Element({
            "type": ("enum", "None"), "url": ("string", ""), "appendQueryString": ("bool", "true"), "logRewrittenUrl": ("bool", "false"),
            "redirectType": ("enum", "Permanent"), "statusCode": ("int", "0"), "subStatusCode": ("int", "0"), "statusReason": ("string", ""),
            "statusDescription": ("string", ""),
        }, strict=True),
    },
    strict=True,
)  # fmt: skip
_OUTBOUND = Element(
    {
        "name": ("string", None), "preCondition": ("string", ""), "enabled": ("bool", "true"), "patternSyntax": ("enum", "ECMAScript"),
        "stopProcessing": ("bool", "false"), "rewriteBeforeCache": ("bool", "false"),
    },
    {
        "match": Element({
            "filterByTags": ("enum", ""), "customTags": ("string", ""), "serverVariable": ("string", ""), "pattern": ("string", ""),
            "occurrences": ("int", "0"), "ignoreCase": ("bool", "true"), "negate": ("bool", "false"),
        }, strict=True),
        "conditions": _CONDITIONS,
        "action": Element({"type": ("enum", "None"), "value": ("string", ""), "replace": ("bool", "true")}, strict=True),
    },
    strict=True,
)  # fmt: skip
_PRECONDITION = _collection(
    "add",
    item=Element({"input": ("string", ""), "pattern": ("string", ""), "ignoreCase": ("bool", "true"), "negate": ("bool", "false")}, strict=True),
    strict=True,
    attributes={"name": ("string", None), "logicalGrouping": ("enum", "MatchAll"), "patternSyntax": ("enum", "ECMAScript")},
)
_VIRTUAL_DIRECTORY = Element({
    "path": ("string", None), "physicalPath": ("string", None), "userName": ("string", ""), "password": ("string", ""),
    "logonMethod": ("enum", "ClearText"), "allowSubDirConfig": ("bool", "true"),
})  # fmt: skip
_APPLICATION = _collection("virtualDirectory", "path", item=_VIRTUAL_DIRECTORY, attributes={
    "path": ("string", None), "applicationPool": ("string", "DefaultAppPool"), "enabledProtocols": ("string", "http"),
    "serviceAutoStartEnabled": ("bool", "false"), "serviceAutoStartProvider": ("string", ""), "preloadEnabled": ("bool", "false"),
})  # fmt: skip
_BINDINGS = _collection("binding", "protocol", "bindingInformation")
_SITE = _collection("application", "path", item=_APPLICATION, children={"bindings": _BINDINGS},
                    attributes={"name": ("string", None), "id": ("int", None), "serverAutoStart": ("bool", "true")})  # fmt: skip
_POOL = Element({
    "name": ("string", None), "autoStart": ("bool", "true"), "managedRuntimeVersion": ("string", "v4.0"),
    "managedPipelineMode": ("enum", "Integrated"), "enable32BitAppOnWin64": ("bool", "false"), "queueLength": ("int", "1000"),
})  # fmt: skip

# fmt: off
SECTIONS: dict[str, Element] = {
    "system.applicationHost/applicationPools": _collection("add", "name", item=_POOL),
    "system.applicationHost/listenerAdapters": _collection("add", "name"),
    "system.applicationHost/sites": _collection("site", "name", item=_SITE),
    "system.webServer/rewrite/rules": _collection("rule", "name", item=_INBOUND, strict=True),
    "system.webServer/rewrite/globalRules": _collection("rule", "name", item=_INBOUND, strict=True),
    "system.webServer/rewrite/outboundRules": _collection(
        "rule", "name", item=_OUTBOUND, strict=True, attributes={"rewriteBeforeCache": ("bool", "false")},
        children={
            "preConditions": _collection("preCondition", "name", item=_PRECONDITION, strict=True),
            "customTags": _collection("tags", "name", item=_collection("tag", "name", "attribute")),
        }),
    "system.webServer/rewrite/rewriteMaps": _collection(
        "rewriteMap", "name", strict=True,
        item=_collection("add", "key", strict=True, item=Element({"key": ("string", None), "value": ("string", "")}, strict=True),
                         attributes={"name": ("string", None), "defaultValue": ("string", ""), "ignoreCase": ("bool", "true")})),
    "system.webServer/rewrite/allowedServerVariables": _collection("add", "name", item=Element({"name": ("string", None)}, strict=True), strict=True),
    "system.webServer/rewrite/providers": _collection("provider", "name"),
    "system.webServer/httpProtocol": Element(
        {"allowKeepAlive": ("bool", "true")},
        {
            "customHeaders": _collection("add", "name", item=Element(_NAME_VALUE, strict=True), strict=True),
            "redirectHeaders": _collection("add", "name", item=Element(_NAME_VALUE, strict=True), strict=True),
        }, strict=True),
    "system.webServer/globalModules": _collection("add", "name"),
    "system.webServer/modules": _collection("add", "name", attributes={"runAllManagedModulesForAllRequests": ("bool", "false")}),
    "system.webServer/handlers": _collection("add", "name", attributes={"accessPolicy": ("enum", "Read")}),
    "system.webServer/isapiFilters": _collection("filter", "name"),
    "system.webServer/httpErrors": _collection("error", "statusCode", "subStatusCode",
                                               item=Element({"statusCode": ("int", None), "subStatusCode": ("int", "-1")})),
    "system.webServer/defaultDocument": Element({"enabled": ("bool", "true")}, {"files": _collection("add", "value")}),
    "system.webServer/staticContent": _collection("mimeMap", "fileExtension"),
    "system.webServer/httpCompression": _collection("scheme", "name", children={
        "dynamicTypes": _collection("add", "mimeType"), "staticTypes": _collection("add", "mimeType"),
    }),
    "system.webServer/security/authorization": _collection(
        "add", "users", "roles", "verbs", item=Element({"users": ("string", ""), "roles": ("string", ""), "verbs": ("string", "")})),
    "system.webServer/security/ipSecurity": _collection("add", "ipAddress", "subnetMask", "domainName"),
    "system.webServer/security/isapiCgiRestriction": _collection("add", "path"),
    "system.webServer/security/authentication/windowsAuthentication": Element({"enabled": ("bool", "false")}, {"providers": _collection("add", "value")}),
    "system.webServer/security/requestFiltering": Element(
        {"allowDoubleEscaping": ("bool", "false"), "allowHighBitCharacters": ("bool", "true")},
        {
            "fileExtensions": _collection("add", "fileExtension"),
            "verbs": _collection("add", "verb"),
            "hiddenSegments": _collection("add", "segment"),
            "denyUrlSequences": _collection("add", "sequence"),
            "alwaysAllowedUrls": _collection("add", "url"),
            "filteringRules": _collection("filteringRule", "name"),
            "requestLimits": Element(children={"headerLimits": _collection("add", "header")}),
        }),
    "system.webServer/tracing/traceFailedRequests": _collection("add", "path"),
    "system.webServer/tracing/traceProviderDefinitions": _collection("add", "name"),
}
# fmt: on
