# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue: ids, names, texts, and that what it writes is what it recognises."""

from __future__ import annotations

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _catalogue as catalogue
from ansible_collections.exchange.mitigation.plugins.module_utils._builds import format_build


@pytest.mark.parametrize(
    ("identifier", "found"),
    [
        ("M1", "M1"),
        ("M1.1", "M1"),
        ("M1.10.2", "M1"),
        ("M2", "M2"),
        ("M2.1.0", "M2"),
        ("M10", None),
        ("M11.1", None),
        ("M01", None),
        ("M01.1", None),
        ("M1.x", None),
        ("M1.", None),
        ("M1.1\n", None),
        ("m1", None),
        (" M1", None),
        ("M1.\u0661", None),
        ("PING1", None),
        ("", None),
    ],
)
def test_ids(identifier: str, found: str | None) -> None:
    mitigation = catalogue.find(identifier)
    assert (mitigation.id if mitigation else None) == found


@pytest.mark.parametrize(
    ("one", "other", "related"),
    [
        ("M2", "M2.1.0", True),
        ("M2.1.0", "M2", True),
        ("M2.1", "M2.1", True),
        ("m2.1", "M2", True),
        ("M2.2", "M2.1.0", False),
        ("M1", "M10", False),
        ("M1", "M1.0", True),
    ],
)
def test_blocking_ids(one: str, other: str, related: bool) -> None:
    assert catalogue.related(one, other) is related
    assert catalogue.related(other, one) is related


def test_heartbeat() -> None:
    assert catalogue.is_heartbeat("PING1")
    assert catalogue.is_heartbeat("PING1.0")
    assert not catalogue.is_heartbeat("PING")
    assert not catalogue.is_heartbeat("PINGX1")


@pytest.mark.parametrize(
    ("identifier", "name", "maker"),
    [
        ("M1", "EEMS M1.1 PowerShell - inbound", "em"),
        ("M1", "EEMS M1 PowerShell - inbound", "em"),
        ("M1", "EEMS M10.1 PowerShell - inbound", "other"),
        ("M1", "PowerShell - inbound", "eomt"),
        ("M1", "RequestBlockingRule1", "other"),
        ("M1", "exchange.mitigation M1 PowerShell - inbound", "us"),
        ("M2", "EEMS M2.1 OWA CSP - outbound", "em"),
        ("M2", "EEMS M2.1 OWA SPA HTML shell - precondition", "em"),
        ("M2", "EOMT OWA CSP - outbound", "eomt"),
        ("M2", "exchange.mitigation M2 OWA SPA HTML shell - precondition", "us"),
        ("M2", "PowerShell - inbound", "other"),
    ],
)
def test_makers(identifier: str, name: str, maker: str) -> None:
    mitigation = catalogue.find(identifier)
    assert mitigation is not None
    assert mitigation.names.maker(name) == maker


def test_our_names_are_never_those_of_em_or_eomt() -> None:
    for mitigation in catalogue.all():
        for name in mitigation.names.us:
            assert mitigation.names.maker(name) == "us"
            assert not name.startswith(("EEMS", "EOMT"))


def test_bounds_are_those_of_the_published_updates() -> None:
    m1, m2 = catalogue.all()[:2]
    assert {p: [format_build(b) for b in bounds.highest_applicable().values()] for p, bounds in m1.applicability.items()} == {
        "Exchange2016": ["15.1.2375.32", "15.1.2507.13"],
        "Exchange2019": ["15.2.986.30", "15.2.1118.15"],
    }
    assert {p: [format_build(b) for b in bounds.highest_applicable().values()] for p, bounds in m2.applicability.items()} == {
        "Exchange2016": ["15.1.2507.69"],
        "Exchange2019": ["15.2.1544.41", "15.2.1748.46"],
        "ExchangeSE": ["15.2.2562.43"],
    }
    assert [m1.applicability[p].code_fix(b) for p, b in (("Exchange2016", (15, 1, 2507, 6)), ("Exchange2019", (15, 2, 922, 7)))] == [(15, 1, 2507, 16), None]


def test_every_mitigation_says_what_it_damages() -> None:
    assert all(mitigation.side_effects and mitigation.title and mitigation.cve for mitigation in catalogue.all())
