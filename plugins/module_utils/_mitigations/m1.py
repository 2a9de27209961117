# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Catalogue: M1, CVE-2022-41040 (ProxyNotShell), an inbound rule on the whole Default Web Site (FACTS.md 1.3, 2.2)."""

from __future__ import annotations

from ansible_collections.exchange.mitigation.plugins.module_utils._builds import EXCHANGE_2016, EXCHANGE_2019
from ansible_collections.exchange.mitigation.plugins.module_utils._mitigations._values import (
    ROOT,
    InboundRule,
    Mitigation,
    Names,
    Revision,
    RewriteAction,
    SideEffect,
    bounds,
)

_NAME = "exchange.mitigation M1 PowerShell - inbound"
_EOMT = "PowerShell - inbound"

#: The pattern of EOMTv2's last revision (2022-10-07) and of EM's M1.1; the input has no blank.
_RULE = InboundRule(name=_NAME, input="{UrlDecode:{REQUEST_URI}}", pattern="(?=.*autodiscover)(?=.*powershell)")

_EARLIER = (
    Revision(
        InboundRule(_EOMT, "{REQUEST_URI}", r".*autodiscover\.json.*\@.*Powershell.*", must_stop=False),
        "EOMTv2 of 2022-09-30: the @ can be left out or encoded",
    ),
    Revision(InboundRule(_EOMT, "{REQUEST_URI}", r".*autodiscover\.json.*Powershell.*"), "EOMTv2 of 2022-10-03: an encoded URL passes"),
    Revision(
        InboundRule(_EOMT, "{UrlDecode: {REQUEST_URI}}", r".*autodiscover\.json.*Powershell.*"),
        "EOMTv2 of 2022-10-05: the blank in the input makes it match nothing that is decoded",
    ),
    Revision(
        InboundRule(_EOMT, "{UrlDecode:{REQUEST_URI}}", r".*autodiscover\.json.*Powershell.*"),
        "EOMTv2 of 2022-10-06: other spellings of the path pass",
    ),
)

MITIGATION = Mitigation(
    id="M1",
    pattern=r"M1(\.[0-9]+)*",
    cve="CVE-2022-41040",
    title="Abort requests that reach PowerShell through Autodiscover",
    actions=(RewriteAction(site="Default Web Site", path="/", place=ROOT, rules=(_RULE,), create_file=True, first=True, earlier=_EARLIER),),
    applicability={
        EXCHANGE_2016: bounds(EXCHANGE_2016, highest="Oct22SU", code_fix="Nov22SU"),
        EXCHANGE_2019: bounds(EXCHANGE_2019, highest="Oct22SU", code_fix="Nov22SU"),
    },
    side_effects=(SideEffect("Every request of the site is matched against a regular expression; slower answers were reported on busy servers."),),
    names=Names(em=r"EEMS M1(\.[0-9]+)* ", eomt=(_EOMT,), us=(_NAME,)),
)
