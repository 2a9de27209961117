# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Support: what is known of Exchange builds, as of TABLE_DATE: products, names, and the builds where EM changes.

Sources: Microsoft's build table and the posts on the updates of 2026 (FACTS.md 5). Later builds are compared, not looked up.
Pure. Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput

#: Major, minor, branch (one for each cumulative update), revision.
Build = tuple[int, int, int, int]
#: The first three numbers of a build: one cumulative update.
Branch = tuple[int, int, int]

EXCHANGE_2016 = "Exchange2016"
EXCHANGE_2019 = "Exchange2019"
EXCHANGE_SE = "ExchangeSE"
PRODUCTS = (EXCHANGE_2016, EXCHANGE_2019, EXCHANGE_SE)

TABLE_DATE = "2026-10-01"

#: Branch, name of the cumulative update, then update names with the last number of their build, oldest first.
_TABLE: Mapping[str, tuple[tuple[Branch, str, str], ...]] = {
    EXCHANGE_2016: (
        ((15, 1, 2308), "CU21", "RTM 8 Jul21SU 14 Oct21SU 15 Nov21SU 20 Jan22SU 21 Mar22SU 27"),
        ((15, 1, 2375), "CU22", "RTM 7 Oct21SU 12 Nov21SU 17 Jan22SU 18 Mar22SU 24 May22SU 28 Aug22SU 31 Oct22SU 32 Nov22SU 37"),
        (
            (15, 1, 2507),
            "CU23",
            (
                "RTM 6 May22SU 9 Aug22SU 12 Oct22SU 13 Nov22SU 16 Jan23SU 17 Feb23SU 21 Mar23SU 23 Jun23SU 27 Aug23SU 31 Aug23SUv2 32 Oct23SU 34"
                " Nov23SU 35 Mar24SU 37 Apr24HU 39 Nov24SU 43 Nov24SUv2 44 Apr25HU 55 May25HU 57 Aug25SU 58 Sep25HU 59 Oct25SU 61 Dec25SU 63 Feb26SU 66"
                " Jun26SU 69 Jul26SU 71 Aug26SU 72 Sep26SU 73 Sep26SUv2 75"
            ),
        ),
    ),
    EXCHANGE_2019: (
        ((15, 2, 922), "CU10", "RTM 7 Jul21SU 13 Oct21SU 14 Nov21SU 19 Jan22SU 20 Mar22SU 27"),
        (
            (15, 2, 986),
            "CU11",
            "RTM 5 Oct21SU 9 Nov21SU 14 Jan22SU 15 Mar22SU 22 May22SU 26 Aug22SU 29 Oct22SU 30 Nov22SU 36 Jan23SU 37 Feb23SU 41 Mar23SU 42",
        ),
        (
            (15, 2, 1118),
            "CU12",
            "RTM 7 May22SU 9 Aug22SU 12 Oct22SU 15 Nov22SU 20 Jan23SU 21 Feb23SU 25 Mar23SU 26 Jun23SU 30 Aug23SU 36 Aug23SUv2 37 Oct23SU 39 Nov23SU 40",
        ),
        (
            (15, 2, 1258),
            "CU13",
            "RTM 12 Jun23SU 16 Aug23SU 23 Aug23SUv2 25 Oct23SU 27 Nov23SU 28 Mar24SU 32 Apr24HU 34 Nov24SU 38 Nov24SUv2 39",
        ),
        (
            (15, 2, 1544),
            "CU14",
            (
                "RTM 4 Mar24SU 9 Apr24HU 11 Nov24SU 13 Nov24SUv2 14 Apr25HU 25 May25HU 27 Aug25SU 33 Sep25HU 34 Oct25SU 36 Dec25SU 37 Feb26SU 39"
                " Jun26SU 41 Jul26SU 43 Aug26SU 44 Sep26SU 46 Sep26SUv2 48"
            ),
        ),
        (
            (15, 2, 1748),
            "CU15",
            "RTM 10 Apr25HU 24 May25HU 26 Aug25SU 36 Sep25HU 37 Oct25SU 39 Dec25SU 42 Feb26SU 43 Jun26SU 46 Jul26SU 48 Aug26SU 49 Sep26SU 51 Sep26SUv2 53",
        ),
    ),
    EXCHANGE_SE: (
        (
            (15, 2, 2562),
            "RTM",
            "RTM 17 Aug25SU 20 Sep25HU 27 Oct25SU 29 Dec25SU 35 Feb26SU 37 May26HU 41 Jun26SU 43 Jul26SU 45 Aug26SU 46 Sep26SU 49 Sep26SUv2 53",
        ),
    ),
}

#: The March 2021 security update (KB5000871) of every cumulative update that got it, and the first ones that have it from the start
#: (CU20, CU9: FACTS.md 2.3; the others: Microsoft's build table): name and last number of the build by branch.
MARCH_2021: Mapping[str, Mapping[Branch, tuple[str, int]]] = {
    EXCHANGE_2016: {
        (15, 1, 1415): ("CU8", 10),
        (15, 1, 1466): ("CU9", 16),
        (15, 1, 1531): ("CU10", 12),
        (15, 1, 1591): ("CU11", 18),
        (15, 1, 1713): ("CU12", 10),
        (15, 1, 1779): ("CU13", 8),
        (15, 1, 1847): ("CU14", 12),
        (15, 1, 1913): ("CU15", 12),
        (15, 1, 1979): ("CU16", 8),
        (15, 1, 2044): ("CU17", 13),
        (15, 1, 2106): ("CU18", 13),
        (15, 1, 2176): ("CU19", 9),
        (15, 1, 2242): ("CU20", 4),
    },
    EXCHANGE_2019: {
        (15, 2, 221): ("RTM", 18),
        (15, 2, 330): ("CU1", 11),
        (15, 2, 397): ("CU2", 11),
        (15, 2, 464): ("CU3", 15),
        (15, 2, 529): ("CU4", 13),
        (15, 2, 595): ("CU5", 8),
        (15, 2, 659): ("CU6", 12),
        (15, 2, 721): ("CU7", 13),
        (15, 2, 792): ("CU8", 10),
        (15, 2, 858): ("CU9", 5),
    },
}

#: The first build of each product whose EM service exists (FACTS.md 5, "Min").
FIRST_BUILD_WITH_EM: Mapping[str, Build] = {EXCHANGE_2016: (15, 1, 2375, 7), EXCHANGE_2019: (15, 2, 986, 5), EXCHANGE_SE: (15, 2, 2562, 17)}

#: The June 2026 SU of each cumulative update that got one: older builds cannot use feeds released from July 2026 on (FACTS.md 3).
FIRST_BUILD_READING_NEW_FEEDS: Mapping[str, tuple[Build, ...]] = {
    EXCHANGE_2016: ((15, 1, 2507, 69),),
    EXCHANGE_2019: ((15, 2, 1544, 41), (15, 2, 1748, 46)),
    EXCHANGE_SE: ((15, 2, 2562, 43),),
}

#: Exchange 2016 RTM, Exchange 2019 RTM, Exchange SE RTM.
RTM: Mapping[str, Build] = {EXCHANGE_2016: (15, 1, 225, 42), EXCHANGE_2019: (15, 2, 221, 12), EXCHANGE_SE: (15, 2, 2562, 17)}

_DISPLAY = re.compile(r"\s*Version\s+(\d{1,9})\.(\d{1,9})\s+\(Build\s+(\d{1,9})\.(\d{1,9})\)\s*", re.IGNORECASE)
_DOTTED = re.compile(r"\s*(\d{1,9})\.(\d{1,9})\.(\d{1,9})\.(\d{1,9})\s*")


def parse_build(text: str) -> Build:
    """Return a build from ``Version 15.2 (Build 2562.17)``, ``15.02.2562.045`` or ``15.2.2562.45``. Raises InvalidInput."""
    found = _DISPLAY.fullmatch(text) or _DOTTED.fullmatch(text)
    if found is None:
        raise InvalidInput(f"{text!r} is not an Exchange build; expected is 15.2.2562.45, 15.02.2562.045 or Version 15.2 (Build 2562.45)", "invalid_build")
    return int(found[1]), int(found[2]), int(found[3]), int(found[4])


def format_build(build: Build) -> str:
    """Return ``15.2.2562.45``."""
    return ".".join(str(part) for part in build)


def product_of(build: Build | None) -> str | None:
    """Return the product of a build: Exchange2016, Exchange2019, ExchangeSE; None for any other. 2019 and SE share 15.2 (FACTS.md 5)."""
    if build is None:
        return None
    if build[:2] == (15, 1):
        return EXCHANGE_2016
    if build[:2] == (15, 2):
        return EXCHANGE_SE if build[2] >= 2562 else EXCHANGE_2019
    return None


def cumulative_update(build: Build) -> str | None:
    """Return ``CU15`` (``RTM`` for SE), None for a branch that the tables lack."""
    known = {branch: name for rows in _TABLE.values() for branch, name, dummy in rows}
    known |= {branch: name for rows in MARCH_2021.values() for branch, (name, dummy) in rows.items()}
    return known.get(build[:3])


def fixed_in_march_2021(product: str) -> dict[Branch, Build]:
    """Return the first build of each cumulative update of a product that has the fixes of March 2021."""
    return {branch: (*branch, revision) for branch, (dummy, revision) in MARCH_2021[product].items()}


def build_name(build: Build) -> str | None:
    """Return ``CU15 Jul26SU`` (``CU15`` itself without an update), None for a build that the table lacks."""
    for branch, name, updates in [row for rows in _TABLE.values() for row in rows]:
        words = updates.split()
        for update, revision in zip(words[::2], words[1::2], strict=True):
            if branch == build[:3] and int(revision) == build[3]:
                return name if update == "RTM" else f"{name} {update}"
    return None


def build_of(product: str, update: str) -> dict[str, Build]:
    """Return the builds of one update (such as ``Oct22SU``) for every cumulative update of a product that got it."""
    found: dict[str, Build] = {}
    for branch, name, updates in _TABLE[product]:
        words = updates.split()
        revision = dict(zip(words[::2], words[1::2], strict=True)).get(update)
        if revision is not None:
            found[name] = (*branch, int(revision))
    return found


def has_em(build: Build) -> bool:
    """Say whether a build has the EM service."""
    product = product_of(build)
    return product is not None and build >= FIRST_BUILD_WITH_EM[product]


def can_read_newer_feeds(build: Build) -> bool:
    """Say whether the EM service of a build can use feeds released from July 2026 on; a branch without that update cannot."""
    product = product_of(build)
    if product is None:
        return False
    firsts = FIRST_BUILD_READING_NEW_FEEDS[product]
    same = [first for first in firsts if first[:3] == build[:3]]
    return build >= same[0] if same else build[:3] > max(firsts)[:3]
