# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet as one meets it, of any size, with a run before: for looking at the report.

``python tests/unit/plugins/module_utils/report_fleet.py SERVERS FILE [MITIGATIONS]`` (with the collection on the path) writes its page.
"""

from __future__ import annotations

import pathlib
import sys
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils import _drift, _report, _report_html
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.report_samples import FEED, organization, result, unreachable, verdict

NOW, BEFORE = "2026-06-12T06:00:04Z", "2026-06-11T06:00:03Z"
BUILDS = (("Exchange2016", "15.1.2507.61"), ("Exchange2019", "15.2.1544.41"), ("ExchangeSE", "15.2.2562.43"))
FIXED = ("ExchangeSE", "15.2.2562.53")
FIXES = {"Exchange2016": "15.1.2507.71", "Exchange2019": "15.2.1748.48", "ExchangeSE": "15.2.2562.51"}


def _cells(index: int, product: str, fixed: bool, mitigations: int) -> list[dict[str, Any]]:
    """Return the verdicts of one server; most of a fleet is fine, and every eleventh server or so has something else."""
    limits = {"code_fix": FIXES[product], "highest_applicable": {"M2": FIXES[product]}}
    cells = [verdict("M1", "absent", "no", highest_applicable={"M1": "15.1.2507.12"}, code_fix="15.1.2507.16")]
    odd = index % 11
    if fixed:
        cells.append(verdict("M2", "applied", "no", maker="eomt", **limits) if odd == 4 else verdict("M2", "absent", "no", **limits))
    elif odd == 0:
        cells.append(verdict("M2", "absent", "yes", **limits))
    elif odd == 7:
        cells.append(verdict("M2", "absent", "yes", blocked=True, blocked_ids=["M2.1.0"], **limits))
    elif odd == 9:
        cells.append(verdict("M2", "applied", "yes", breaks=["/owa/Calendar"], **limits))
    else:
        cells.append(verdict("M2", "applied", "yes", maker="us", **limits))
    for number in range(3, mitigations + 1):
        there = (index + number) % 3 > 0
        cells.append(verdict(f"M{number}", "applied" if there else "absent", "yes" if there else "no"))
    return cells


def results(number: int, mitigations: int = 2) -> list[dict[str, Any]]:
    """Return what the report role hands over for a fleet of this size."""
    found = []
    for index in range(number):
        host = f"ex{index + 1}" if number < 100 else f"mbx{index + 1:03}"
        if index % 40 == 2:
            found.append(unreachable(host))
            continue
        product, build = FIXED if index % 5 == 4 else BUILDS[index % 3]
        row = result(host, product, build, *_cells(index, product, index % 5 == 4, mitigations))
        em = row["server"]["em"]
        em["applied_time"] = f"2026-06-12T{index % 6:02}:{index % 60:02}:37+00:00" if index % 9 else "2026-06-03T11:12:13+00:00"
        row["observed_at"] = NOW
        if index % 13 == 1:
            em["server_enabled"], em["state"] = False, "Disabled on server level"
        if index % 17 == 0:
            row["events"] = [{"time": f"2026-06-12T0{hour}:08:11Z", "id": 1008, "meaning": "error", "message": "unexpected"} for hour in (1, 2, 3)]
        row["desired"]["blocked"] = {"add": ["PING1"]} if index % 19 == 0 else {}
        found.append(row)
    return found


def report(number: int, mitigations: int = 2) -> dict[str, Any]:
    """Return the report of such a fleet, with a run before in which one server was missing its mitigation and another had left one."""
    now, earlier = results(number, mitigations), results(number, mitigations)
    earlier[1]["server"]["mitigations"][1] |= {"state": "absent", "maker": None, "evidence": []}
    earlier[0]["server"]["mitigations"][1] |= {"state": "applied", "maker": "em"}
    feed = {**FEED, "mitigations": FEED["mitigations"][:2], "feed": {**FEED["feed"], "sha256": "77aa01cd" * 8}, "version": "1.0.60"}
    known, told = organization(earlier), organization(now)
    before = _report.build(earlier, known, feed, _drift.drift(earlier, known), BEFORE)
    journal: dict[str, Any] = {row["host"]: {"blocked": [], "runs": ["20260610T081500Z-4be2a1"]} for row in now[1:20:3]}
    if number > 9:
        for verdict_ in now[9]["server"]["mitigations"]:
            verdict_ |= {"blocked": True, "blocked_ids": ["M1"], "block_can_be_lifted": True} if verdict_["id"] == "M1" else {}
        now[9]["server"]["em"]["blocked"] = ["M1"]
        journal[now[9]["host"]] = {"blocked": ["M1"], "runs": ["20260401T100000Z-0c0ffe"]}
    return _report.build(now, told, FEED, _drift.drift(now, told), NOW, None, previous=before, journal=journal)


if __name__ == "__main__":
    made = report(int(sys.argv[1]), int(sys.argv[3]) if len(sys.argv) > 3 else 2)
    pathlib.Path(sys.argv[2]).write_text(_report_html.to_html(made), encoding="utf-8")
