# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running fleet for the tests of this folder, and what must hold after every one of them."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))


@pytest.fixture(scope="session", autouse=True)
def no_script_ever() -> Iterator[None]:
    """No fleet of the whole run may have received script text. (Tests of the refusal itself use fleets of another kind.)"""
    from lab.fleet import Fleet

    started: list[Fleet] = []
    genuine = Fleet.start

    def start(fleet: Fleet) -> Fleet:
        started.append(fleet)
        return genuine(fleet)

    Fleet.start = start  # type: ignore[method-assign]
    yield
    Fleet.start = genuine  # type: ignore[method-assign]
    assert sum(fleet.scripts_received for fleet in started) == 0, "the lab received script text"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that another process has open are tried again at once."""
    from ansible_collections.exchange.mitigation.plugins.module_utils import _apply_files

    monkeypatch.setattr(_apply_files, "PAUSES", (0.05, 0.05, 0.05))


@pytest.fixture(scope="session")
def running_fleet() -> Iterator[Any]:
    """Four servers: every product, one without URL Rewrite, one without a way to the feed; EM off unless a test runs a cycle."""
    from lab.fleet import Fleet

    with Fleet(4) as fleet:
        yield fleet


@pytest.fixture
def lab_fleet(running_fleet: Any) -> Iterator[Any]:
    """The running fleet; afterwards its files and organisation are put back, and no script, refusal or open session is left."""
    from lab_task import restored

    yield from restored(running_fleet)


@pytest.fixture
def patched(lab_fleet: Any) -> Iterator[Any]:
    """Install the update that carries the fix of M2, as a call; afterwards the server is as it was."""
    from fault_bench import EX_SETUP

    machine = lab_fleet.machine("EX1")
    version, build = machine.version_of(EX_SETUP), machine.build

    def install() -> None:
        number = {"Exchange2016": "15.1.2507.75", "Exchange2019": "15.2.1748.53", "ExchangeSE": "15.2.2562.53"}[machine.product]
        machine.set_version(EX_SETUP, **{**version, "FileVersion": number, "ProductVersion": number})
        machine.identity(build=number)

    yield install
    machine.set_version(EX_SETUP, **version)
    machine.identity(build=build)
