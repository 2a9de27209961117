# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Catalogue: CVE-2021-27065, the application pool of the Exchange Control Panel is kept down (ExchangeMitigations.ps1 of March 2021). EM never had it."""

from __future__ import annotations

from ansible_collections.exchange.mitigation.plugins.module_utils._builds import EXCHANGE_2016, EXCHANGE_2019, fixed_in_march_2021
from ansible_collections.exchange.mitigation.plugins.module_utils._mitigations._values import NO_NAMES, Mitigation, PoolAction, SideEffect, bounds_below

MITIGATION = Mitigation(
    id="CVE-2021-27065",
    pattern=r"CVE-2021-27065",
    cve="CVE-2021-27065",
    title="Stop the application pool of the Exchange Control Panel",
    actions=(PoolAction("MSExchangeECPAppPool"),),
    applicability={product: bounds_below(product, fixed_in_march_2021(product)) for product in (EXCHANGE_2016, EXCHANGE_2019)},
    side_effects=(
        SideEffect("The Exchange admin center and the options of OWA answer 503.", ("/ecp",)),
        SideEffect("Managed Availability (MSExchangeHM) may start the pool again; then the verdict is absent, and it has to be applied anew."),
    ),
    names=NO_NAMES,
    kind="app_pool",
    published=False,
)
