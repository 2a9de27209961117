# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue: ids, names, texts, and that what it writes is what it recognises."""

from __future__ import annotations

import dataclasses
import importlib
import pathlib
import shutil
import sys

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _catalogue as catalogue
from ansible_collections.exchange.mitigation.plugins.module_utils import _mitigations
from ansible_collections.exchange.mitigation.plugins.module_utils._builds import format_build
from ansible_collections.exchange.mitigation.plugins.module_utils._plan import Request, plan
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils import iis_samples as samples
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.plan_samples import FACTS, files, made, records


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


#: The table of the ids that decide: what a feed's id means, and what a user's means.
TABLE = [
    ("M10", None, None),
    ("M11.1", None, None),
    ("M01", None, None),
    ("M1.x", None, None),
    ("M2.1.0", "M2", "M2"),
    ("M1", "M1", "M1"),
    ("CVE-2021-26855", None, "CVE-2021-26855"),
    ("CVE-2021-26857", None, "CVE-2021-26857"),
    ("CVE-2021-26858", None, "CVE-2021-26858"),
    ("CVE-2021-27065", None, "CVE-2021-27065"),
    ("CVE-2021-26855.1", None, None),
    ("cve-2021-26855", None, None),
    ("CVE-2022-41040", None, None),
    ("LOCAL-1", None, None),
]


@pytest.mark.parametrize(("identifier", "feed", "user"), TABLE)
def test_ids_of_a_feed_and_of_a_user(identifier: str, feed: str | None, user: str | None) -> None:
    by_feed, by_user = catalogue.find_published(identifier), catalogue.find(identifier)
    assert (by_feed.id if by_feed else None, by_user.id if by_user else None) == (feed, user)


def test_one_file_is_one_mitigation(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of the folder is a mitigation: found, matched, judged, planned and undone without another line anywhere."""
    folder = tmp_path / "mitigations_copy"
    shutil.copytree(pathlib.Path(_mitigations.__file__).parent, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "m3.py").write_text(EXAMPLE)
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        monkeypatch.setattr(catalogue, "_ALL", catalogue._read(importlib.import_module(folder.name)))
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == folder.name]:
            del sys.modules[name]
    ids = [mitigation.id for mitigation in catalogue.all()]
    assert ids[:3] == ["M1", "M2", "M3"] and len(ids) == len({*ids}) == len(list(folder.glob("[!_]*.py")))
    m3 = catalogue.find_published("M3.1.0")
    assert m3 is not None and catalogue.find("M30") is None
    ask = Request(("M3",), local=(m3,))
    server = samples.server()
    result = plan(ask, server, FACTS)
    assert ([edit.path for edit in result.edits], result.refusals) == ([samples.OWA_FILE], ())
    after = made(server, result)
    assert [v.state for v in plan(ask, after, FACTS).verdicts] == ["applied"]
    undo = plan(dataclasses.replace(ask, state="absent"), after, FACTS, records(result.edits))
    assert files(made(after, undo)) == files(server)


def _example() -> str:
    """Return the example of CONTRIBUTING.md, so that the guide is what is tested."""
    text = (pathlib.Path(__file__).resolve().parents[4] / "CONTRIBUTING.md").read_text()
    return text.split("```python\n", 1)[1].split("```", 1)[0]


EXAMPLE = _example()


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
    for pair in ((one, other), (other, one)):
        assert catalogue.related(*pair) is related


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
