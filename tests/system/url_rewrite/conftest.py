# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet whose servers are put back after each test, packages signed like Microsoft's, and short waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _install, _reboot
from installer_lab import Kept


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    from lab.fleet import Fleet

    with Fleet(3) as fleet:
        yield fleet


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_reboot, "POLL", 0.1)
    monkeypatch.setattr(_install, "BUSY_POLL", 0.05)
    monkeypatch.setattr(_install, "LOST", 20.0)
    monkeypatch.setattr(_install, "SETTLE", 1.0)


@pytest.fixture
def fleet(running: Any) -> Iterator[Any]:
    """The fleet; afterwards every machine is as before, and there was no refusal, script or session left open."""
    running.faults.clear()
    running.access_log.clear()
    running.refusals.clear()
    kept = [Kept(machine) for machine in running.machines]
    yield running
    running.faults.clear()
    for one in kept:
        one.restore()
    assert running.scripts_received == 0, "a script was sent"
    assert running.refusals == [], "the lab was asked for something that it does not know"
    assert running._server.open_shells() == [], "a session was left open"


@pytest.fixture
def package(fleet: Any) -> Callable[..., Any]:
    """Make packages signed like Microsoft's."""
    from lab.installer import Package

    def make(**fields: Any) -> Any:
        return Package(**{"signer": fleet.pki.signer("good").der, **fields})

    return make
