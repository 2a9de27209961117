# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab knows about Exchange builds (FACTS.md 5): product, name, first build with EM, which mitigation still applies."""

from __future__ import annotations

import dataclasses
import re

Version = tuple[int, int, int, int]

#: (product, CU, SU, build): the builds lab servers have; the first rows are the default fleet.
CATALOGUE: tuple[tuple[str, str, str, str], ...] = (
    ("Exchange2016", "CU23", "Oct22SU", "15.1.2507.13"),
    ("Exchange2019", "CU15", "Jun26SU", "15.2.1748.46"),
    ("ExchangeSE", "RTM", "May26HU", "15.2.2562.41"),
    ("Exchange2019", "CU12", "Oct22SU", "15.2.1118.15"),
    ("ExchangeSE", "RTM", "Jun26SU", "15.2.2562.43"),
    ("Exchange2016", "CU23", "Jun26SU", "15.1.2507.69"),
    ("ExchangeSE", "RTM", "Jul26SU", "15.2.2562.45"),
    ("Exchange2019", "CU14", "Jun26SU", "15.2.1544.41"),
    ("Exchange2016", "CU23", "Jul26SU", "15.1.2507.71"),
    ("Exchange2019", "CU15", "Sep26SUv2", "15.2.1748.53"),
    ("ExchangeSE", "RTM", "Sep26SUv2", "15.2.2562.53"),
    ("Exchange2019", "CU11", "Oct22SU", "15.2.986.30"),
    ("Exchange2016", "CU22", "Nov22SU", "15.1.2375.37"),
)

#: The first build with the EM service.
FIRST_EM = {"Exchange2016": (15, 1, 2375, 7), "Exchange2019": (15, 2, 986, 5), "ExchangeSE": (15, 2, 2562, 17)}

#: First revision, per CU (third number), that no longer needs the mitigation. A CU that is not listed is older than all of
#: these and needs it, unless it is newer than the newest listed.
_FIXED = {
    "M1": {"15.1": {2375: 37, 2507: 16}, "15.2": {986: 36, 1118: 20}},
    "M2": {"15.1": {2507: 71}, "15.2": {1544: 43, 1748: 48, 2562: 45}},
}

#: First revision, per CU, whose EM service can read documents released in July 2026 or later.
_READS_NEWER = {"15.1": {2507: 69}, "15.2": {1544: 41, 1748: 46, 2562: 43}}

#: Revision of each CU itself, which older builds go on showing as AdminDisplayVersion after a security update.
_CU = {"15.1": {2308: 8, 2375: 7, 2507: 6}, "15.2": {922: 7, 986: 5, 1118: 7, 1258: 12}}


def parse(text: str) -> Version:
    """Return the four numbers of a build such as 15.2.1748.46."""
    match = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)\.(\d+)", text)
    if not match:
        raise ValueError(f"{text!r} is not a build of four numbers")
    first, second, third, fourth = (int(part) for part in match.groups())
    return first, second, third, fourth


def product_of(build: Version) -> str:
    """Return the product's name; anything below 15.1 is ``older``."""
    if build[:2] == (15, 1):
        return "Exchange2016"
    if build[:2] == (15, 2):
        return "ExchangeSE" if build[2] >= 2562 else "Exchange2019"
    return "older"


def has_em(build: Version) -> bool:
    """Return whether the build has the EM service."""
    first = FIRST_EM.get(product_of(build))
    return first is not None and build >= first


def _reached(build: Version, table: dict[str, dict[int, int]]) -> bool:
    rows = table.get(f"{build[0]}.{build[1]}", {})
    if build[2] in rows:
        return build[3] >= rows[build[2]]
    return bool(rows) and build[2] > max(rows)


def needs(mitigation: str, build: Version) -> bool:
    """Return whether M1 or M2 still applies to a build; M1 never applies to SE (FACTS.md 1.3)."""
    return build[:2] in {(15, 1), (15, 2)} and not _reached(build, _FIXED[mitigation])


def reads_newer(build: Version) -> bool:
    """Return whether the build's EM service can read documents released in July 2026 or later (FACTS.md 3)."""
    return _reached(build, _READS_NEWER)


def has_applied_time(build: Version) -> bool:
    """Return whether Get-ExchangeServer has MitigationsAppliedTime: absent in the recordings of 2021, there in 2016 CU23."""
    return build >= (15, 1, 2507, 0) if build[1] == 1 else build >= (15, 2, 1118, 0)


def display_version(build: Version) -> str:
    """Return AdminDisplayVersion's text: older builds show their CU only (FACTS.md 5)."""
    revision = _CU.get(f"{build[0]}.{build[1]}", {}).get(build[2], build[3])
    return f"Version {build[0]}.{build[1]} (Build {build[2]}.{revision})"


@dataclasses.dataclass(frozen=True)
class ServerPlan:
    """What one server of a fleet is to be."""

    name: str
    product: str
    build: str
    internet: bool = True
    url_rewrite: bool = True
    dag: str | None = None
    role: str = "Mailbox"
    edition: str = "Enterprise"
    site: str = "Headquarters"
    em_service: str = "Running"


def default_plan(servers: int) -> list[ServerPlan]:
    """Return a fleet: EX1 2016 needs M1 and M2, EX2 2019 has no way to the feed, EX3 SE lacks URL Rewrite; more ones cycle."""
    plan = []
    for index in range(servers):
        product, dummy, dummy, build = CATALOGUE[index % len(CATALOGUE)]
        plan.append(
            ServerPlan(
                name=f"EX{index + 1}",
                product=product,
                build=build,
                internet=index != 1,
                url_rewrite=index != 2,
                dag=f"DAG{index // 4 + 1:02d}" if servers > 3 else None,
                site="Headquarters" if index % 3 != 2 else "Branch",
                edition="Enterprise" if index % 2 == 0 else "Standard",
            )
        )
    return plan
