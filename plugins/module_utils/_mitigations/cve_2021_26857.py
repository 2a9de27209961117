# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Catalogue: CVE-2021-26857, the Unified Messaging services are kept down (ExchangeMitigations.ps1 of March 2021). EM never had it.

Exchange 2019 has no Unified Messaging, so no build of it needs this.
"""

from __future__ import annotations

from ansible_collections.exchange.mitigation.plugins.module_utils._builds import EXCHANGE_2016, fixed_in_march_2021
from ansible_collections.exchange.mitigation.plugins.module_utils._mitigations._values import NO_NAMES, Mitigation, ServiceAction, SideEffect, bounds_below

MITIGATION = Mitigation(
    id="CVE-2021-26857",
    pattern=r"CVE-2021-26857",
    cve="CVE-2021-26857",
    title="Stop and disable the Unified Messaging services",
    actions=(ServiceAction(("MSExchangeUM", "MSExchangeUMCR")),),
    applicability={EXCHANGE_2016: bounds_below(EXCHANGE_2016, fixed_in_march_2021(EXCHANGE_2016))},
    side_effects=(
        SideEffect("Voice mail, call answering and Outlook Voice Access do not work."),
        SideEffect("Managed Availability (MSExchangeHM) reports the services as failed."),
    ),
    names=NO_NAMES,
    kind="service",
    published=False,
)
