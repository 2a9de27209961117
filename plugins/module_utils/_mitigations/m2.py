# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Catalogue: M2, CVE-2026-42897, an outbound rule with a precondition on OWA (FACTS.md 1.3, 2.4).

/owa/Calendar, /owa/Integrated and /owa/oma share the folder of /owa: outside the location block they would read the rule
twice and answer 500.19, so it stands inside. The rule is EOMT's last revision; EM's attributes are not published.
"""

from __future__ import annotations

from ansible_collections.exchange.mitigation.plugins.module_utils._builds import EXCHANGE_2016, EXCHANGE_2019, EXCHANGE_SE
from ansible_collections.exchange.mitigation.plugins.module_utils._mitigations._values import (
    LOCATION,
    Mitigation,
    Names,
    OutboundRule,
    Revision,
    RewriteAction,
    SideEffect,
    bounds,
)

_NAME = "exchange.mitigation M2 OWA CSP - outbound"
_PRECONDITION = "exchange.mitigation M2 OWA SPA HTML shell - precondition"
_EOMT = "EOMT OWA CSP - outbound"
_EOMT_PRECONDITION = "EOMT OWA SPA HTML shell - precondition"

_VARIABLE = "RESPONSE_Content_Security_Policy"
_VALUE = "{R:1}; script-src-attr 'none'"
_HTML = ("{RESPONSE_CONTENT_TYPE}", "^text/html")

_RULE = OutboundRule(
    name=_NAME,
    server_variable=_VARIABLE,
    value=_VALUE,
    precondition=_PRECONDITION,
    inputs=(_HTML, ("{REQUEST_URI}", r"^/owa/?($|\?|default\.aspx|projection\.aspx|readingPane\.aspx|popout\.aspx)")),
)

_FIRST = OutboundRule(_EOMT, _VARIABLE, _VALUE, _EOMT_PRECONDITION, (_HTML, ("{REQUEST_URI}", r"^/owa/?($|\?|default\.aspx|projection\.aspx)")))

MITIGATION = Mitigation(
    id="M2",
    pattern=r"M2(\.[0-9]+)*",
    cve="CVE-2026-42897",
    title="Forbid script in attributes on OWA's pages by a Content-Security-Policy header",
    actions=(
        RewriteAction(
            site="Default Web Site",
            path="/owa",
            place=LOCATION,
            rules=(_RULE,),
            earlier=(Revision(_FIRST, "the first form EOMT published: readingPane.aspx and popout.aspx are not covered"),),
        ),
    ),
    applicability={product: bounds(product, highest="Jun26SU", code_fix="Jun26SU") for product in (EXCHANGE_2016, EXCHANGE_2019, EXCHANGE_SE)},
    side_effects=(
        SideEffect("OWA: Print Calendar fails.", ("/owa",)),
        SideEffect("OWA: inline images may show wrong in the reading pane.", ("/owa",)),
        SideEffect("OWA Light (/owa/?layout=light) is broken.", ("/owa",)),
        SideEffect("Office Online Server integration may fail in mixed organisations.", ("/owa",)),
        SideEffect("Internet Explorer and Edge in IE mode know no such policy and are not protected."),
    ),
    names=Names(em=r"EEMS M2(\.[0-9]+)* ", eomt=(_EOMT, _EOMT_PRECONDITION), us=(_NAME, _PRECONDITION)),
)
