# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests of the lab itself: fixtures of the wire tests."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))


@pytest.fixture(scope="session")
def wire_tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate and its key for 127.0.0.1."""
    import wire_fleet

    return wire_fleet.certificate(tmp_path_factory.mktemp("wire-tls"))


@pytest.fixture(scope="module")
def wire_cmdlets() -> Iterator[None]:
    """The probe cmdlets, for the tests of one module."""
    import wire_fleet

    import lab.httpd  # noqa: F401 (registers the engine's own cmdlets)

    wire_fleet.register()
    yield
    wire_fleet.unregister()


@pytest.fixture
def wire_lab(wire_tls: tuple[str, str], wire_cmdlets: None) -> Iterator[Callable[..., Any]]:
    """Make served fleets of probe machines: ``wire_lab(names=("EX1",), **machine attributes)``."""
    import wire_fleet

    from lab.httpd import Server

    servers = []

    def make(names: tuple[str, ...] = ("EX1",), **more: Any) -> Any:
        fleet = wire_fleet.Fleet([wire_fleet.Machine(name, wire_tls, **more) for name in names])
        server = Server(fleet)
        server.start()
        servers.append(server)
        return fleet

    yield make
    for server in servers:
        server.stop()
