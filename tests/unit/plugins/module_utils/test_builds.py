# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds: names, products, the boundaries of EM and of the mitigations, on every recorded row."""

from __future__ import annotations

import csv
import pathlib
from collections.abc import Callable

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _builds as builds
from ansible_collections.exchange.mitigation.plugins.module_utils import _catalogue as catalogue
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput

MONTHS = {name: number for number, name in enumerate(("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1)}
#: When the cumulative updates came out, as year and month (general knowledge; only their order against the fixes counts).
RELEASED = {
    "CU21": (21, 6),
    "CU22": (21, 9),
    "CU23": (22, 4),
    "CU10": (21, 6),
    "CU11": (21, 9),
    "CU12": (22, 4),
    "CU13": (23, 5),
    "CU14": (24, 2),
    "CU15": (25, 2),
    "RTM": (25, 7),
}


@pytest.fixture
def rows(recorded: Callable[[str], pathlib.Path]) -> list[dict[str, str]]:
    """The recorded build table."""
    with recorded("exchange_builds.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def released(row: dict[str, str]) -> tuple[int, int]:
    """Return the year and month of a row."""
    return (int(row["su"][3:5]), MONTHS[row["su"][:3]]) if row["su"] else RELEASED[row["cu"]]


@pytest.mark.parametrize("text", ["Version 15.2 (Build 2562.45)", "15.02.2562.045", "15.2.2562.45", " 15.2.2562.45 "])
def test_text_forms(text: str) -> None:
    assert builds.parse_build(text) == (15, 2, 2562, 45)


@pytest.mark.parametrize("text", ["", "15.2", "15.2.2562", "15.2.2562.45.1", "Version 15.2 (Build 2562)", "15.2.x.45"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        builds.parse_build(text)


def test_every_recorded_row_has_its_name_and_product(rows: list[dict[str, str]]) -> None:
    assert len(rows) == 127
    for row in rows:
        build = builds.parse_build(row["build"])
        assert builds.product_of(build) == row["product"]
        assert builds.build_name(build) == f"{row['cu']} {row['su']}".strip()
        assert builds.format_build(build) == row["build"]


@pytest.mark.parametrize(
    ("text", "product"), [("15.0.1497.48", None), ("15.2.2561.9", "Exchange2019"), ("15.2.2563.1", "ExchangeSE"), ("14.3.1.1", None), ("15.3.1.1", None)]
)
def test_products_of_builds_that_the_table_lacks(text: str, product: str | None) -> None:
    assert builds.product_of(builds.parse_build(text)) == product


def test_em_and_newer_feeds_on_every_row(rows: list[dict[str, str]]) -> None:
    for row in rows:
        build = builds.parse_build(row["build"])
        assert builds.has_em(build) == (row["cu"] not in ("CU21", "CU10")), row
        assert builds.can_read_newer_feeds(build) == (released(row) >= (26, 6)), row


def test_m1_on_every_row(rows: list[dict[str, str]]) -> None:
    m1 = catalogue.find("M1")
    assert m1 is not None
    for row in rows:
        expected = "no" if row["product"] == "ExchangeSE" or released(row) >= (22, 11) else "yes"
        assert m1.needed(builds.parse_build(row["build"])) == expected, row


def test_m2_on_every_row(rows: list[dict[str, str]]) -> None:
    m2 = catalogue.find("M2")
    assert m2 is not None
    for row in rows:
        assert m2.needed(builds.parse_build(row["build"])) == ("no" if released(row) >= (26, 7) else "yes"), row


NAMED = ("CVE-2021-26855", "CVE-2021-26857", "CVE-2021-26858", "CVE-2021-27065")


@pytest.mark.parametrize("identifier", NAMED)
def test_those_of_2021_on_every_row(rows: list[dict[str, str]], identifier: str) -> None:
    mitigation = catalogue.find(identifier)
    assert mitigation is not None
    for row in rows:
        build = builds.parse_build(row["build"])
        assert (mitigation.needed(build), mitigation.fixed(build)) == ("no", True), row


def test_those_of_2021_around_every_bound() -> None:
    for identifier in NAMED:
        mitigation = catalogue.find(identifier)
        assert mitigation is not None
        for product, bounds in mitigation.applicability.items():
            for build in builds.fixed_in_march_2021(product).values():
                below = (*build[:3], build[3] - 1)
                assert (mitigation.needed(build), mitigation.fixed(build)) == ("no", True)
                assert (mitigation.needed(below), mitigation.fixed(below)) == ("yes", False)
                assert bounds.code_fix(below) == build
                assert bounds.highest_applicable()[builds.cumulative_update(build) or ""] == below


def test_retired_only_above_the_highest_on_every_row(rows: list[dict[str, str]]) -> None:
    for mitigation in catalogue.all():
        for row in rows:
            build = builds.parse_build(row["build"])
            assert mitigation.fixed(build) == (mitigation.needed(build) == "no"), (mitigation.id, row)


@pytest.mark.parametrize(
    ("identifier", "text", "needed"),
    [
        ("CVE-2021-26855", "15.1.2242.3", "yes"),
        ("CVE-2021-26855", "15.1.2242.4", "no"),
        ("CVE-2021-26855", "15.2.858.4", "yes"),
        ("CVE-2021-26855", "15.2.858.5", "no"),
        ("CVE-2021-26855", "15.1.2176.8", "yes"),
        ("CVE-2021-26855", "15.1.2176.9", "no"),
        ("CVE-2021-26855", "15.1.2176.14", "no"),
        ("CVE-2021-26855", "15.1.1261.35", "yes"),
        ("CVE-2021-26855", "15.2.2562.17", "no"),
        ("CVE-2021-26857", "15.2.792.3", "no"),
        ("CVE-2021-26857", "15.1.2106.12", "yes"),
        ("CVE-2021-27065", "15.0.1497.10", "unknown"),
        ("M1", "15.1.2375.32", "yes"),
        ("M1", "15.1.2375.36", "yes"),
        ("M1", "15.1.2375.37", "no"),
        ("M1", "15.2.1258.11", "no"),
        ("M1", "15.1.1415.2", "yes"),
        ("M2", "15.2.2562.43", "yes"),
        ("M2", "15.2.2562.45", "no"),
        ("M2", "15.2.2600.1", "no"),
        ("M2", "15.2.1258.39", "yes"),
        ("M2", "15.0.1497.48", "unknown"),
    ],
)
def test_between_and_beyond_the_rows(identifier: str, text: str, needed: str) -> None:
    mitigation = catalogue.find(identifier)
    assert mitigation is not None
    assert mitigation.needed(builds.parse_build(text)) == needed


def test_unknown_build_is_neither_safe_nor_vulnerable() -> None:
    assert {mitigation.needed(None) for mitigation in catalogue.all()} == {"unknown"}
