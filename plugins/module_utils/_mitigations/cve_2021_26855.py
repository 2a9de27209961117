# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Catalogue: CVE-2021-26855 (ProxyLogon), two inbound rules on the whole Default Web Site (FACTS.md 2.3). EM never had it.

The patterns are those of EOMT and ExchangeMitigations.ps1, which write the first rule without stopProcessing; it aborts all the same.
"""

from __future__ import annotations

from ansible_collections.exchange.mitigation.plugins.module_utils._builds import EXCHANGE_2016, EXCHANGE_2019, fixed_in_march_2021
from ansible_collections.exchange.mitigation.plugins.module_utils._mitigations._values import (
    ROOT,
    InboundRule,
    Mitigation,
    Names,
    RewriteAction,
    SideEffect,
    bounds_below,
)

_BACKEND = "exchange.mitigation CVE-2021-26855 X-AnonResource-Backend - inbound"
_RESOURCE = "exchange.mitigation CVE-2021-26855 X-BEResource - inbound"

MITIGATION = Mitigation(
    id="CVE-2021-26855",
    pattern=r"CVE-2021-26855",
    cve="CVE-2021-26855",
    title="Abort requests with the cookies that make the front end a proxy to any back end",
    actions=(
        RewriteAction(
            site="Default Web Site",
            path="/",
            place=ROOT,
            rules=(
                InboundRule(_BACKEND, "{HTTP_COOKIE}", "(.*)X-AnonResource-Backend(.*)", must_stop=False),
                InboundRule(_RESOURCE, "{HTTP_COOKIE}", "(.*)X-BEResource=(.+)/(.+)~(.+)", must_stop=False),
            ),
            create_file=True,
            first=True,
        ),
    ),
    applicability={product: bounds_below(product, fixed_in_march_2021(product)) for product in (EXCHANGE_2016, EXCHANGE_2019)},
    side_effects=(SideEffect("None is known: the cookies are made for requests between Exchange servers, and Microsoft saw no functional impact."),),
    names=Names(em=r"(?!)", eomt=("X-AnonResource-Backend Abort - inbound", "X-BEResource Abort - inbound"), us=(_BACKEND, _RESOURCE)),
    published=False,
)
