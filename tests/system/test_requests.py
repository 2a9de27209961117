# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests and bytes of every module on a server that is as wanted, over NTLM and over TLS. The table is printed with ``-s``.

Counts are exact; bytes are printed only, because they hang on the length of names and on compression.
"""

from __future__ import annotations

import importlib
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.modules import mitigation, organization_info
from lab_task import run
from session_live import NAMES, WAYS

#: Module -> options on a server that has everything already.
MODULES: dict[str, dict[str, Any]] = {
    "url_rewrite": {"state": "present"},
    "service": {"state": "started", "start_mode": "auto"},
    "organization": {"mitigations_enabled": False},
    "organization_info": {},
    "server": {"mitigations_enabled": True, "mitigations_blocked": {"set": []}},
    "server_info": {},
    "event_info": {},
    "mitigation": {"mitigations": ["M1", "M2"]},
}
#: Module -> requests over NTLM by HTTP and with Basic over TLS, and pipelines. Three of NTLM's are its handshake.
EXPECTED: dict[str, tuple[int, int, int]] = {
    "url_rewrite": (9, 6, 1),
    "service": (11, 8, 2),
    "organization": (9, 6, 1),
    "organization_info": (13, 10, 3),
    "server": (9, 6, 1),
    "server_info": (11, 8, 2),
    "event_info": (11, 8, 2),
    "mitigation": (11, 8, 2),
}


#: Module -> where check, run, state and again are gone through over all four connections.
RHYTHM = {
    "url_rewrite": "url_rewrite/test_url_rewrite.py",
    "service": "test_service.py",
    "organization": "test_settings.py::test_organization_check_run_again",
    "organization_info": "test_server_info.py::test_organization_info_has_the_documented_shape",
    "server": "test_settings.py::test_server_check_run_again",
    "server_info": "test_server_info.py::test_one_documented_shape_and_nothing_written",
    "event_info": "test_event_info.py",
    "mitigation": "test_mitigation.py",
}


@pytest.fixture(scope="module")
def fleet() -> Iterator[Any]:
    from lab.fleet import Fleet

    with Fleet(1, mitigations_enabled=False) as running:
        run(mitigation, running, running.machine("EX1"), {"mitigations": ["M1", "M2"]})
        yield running
        assert running.scripts_received == 0
        assert running.refusals == []


def measure(fleet: Any, module: str, kind: str, secure: bool) -> tuple[int, int, int, int]:
    """Return requests, pipelines, bytes to the server and bytes from it."""
    machine, options = fleet.machine("EX1"), dict(MODULES[module])
    if module in ("server_info", "mitigation"):
        options["organization"] = run(organization_info, fleet, machine, {})["organization"]
    fleet.access_log.clear()
    found = run(importlib.import_module(f"ansible_collections.exchange.mitigation.plugins.modules.{module}"), fleet, machine, options, kind=kind, secure=secure)
    assert found["changed"] is False
    assert fleet.access_log.writes() == []
    records = list(fleet.access_log.records)
    return (
        len(records), sum(record["action"] == "Command" for record in records),
        sum(record["bytes_in"] for record in records), sum(record["bytes_out"] for record in records),
    )  # fmt: skip


@pytest.fixture(scope="module")
def table(fleet: Any) -> dict[tuple[str, str], tuple[int, int, int, int]]:
    measured = {(module, name): measure(fleet, module, kind, secure) for module in MODULES for name, (kind, secure) in zip(NAMES, WAYS)}
    lines = ["| module | connection | requests | pipelines | KiB to the server | KiB from it |", "|---|---|---|---|---|---|"]
    for (module, name), (requests, pipelines, sent, received) in measured.items():
        lines.append(f"| {module} | {name} | {requests} | {pipelines} | {sent / 1024:.1f} | {received / 1024:.1f} |")
    print("\n" + "\n".join(lines))
    return measured


@pytest.mark.parametrize("module", MODULES)
def test_requests_of_an_unchanged_server(table: dict[tuple[str, str], tuple[int, int, int, int]], module: str) -> None:
    for name, (dummy_kind, secure) in zip(NAMES, WAYS):
        requests, pipelines, *dummy_bytes = table[module, name]
        assert (requests, pipelines) == (EXPECTED[module][1 if secure else 0], EXPECTED[module][2]), name


def test_server_info_stays_within_its_target(table: dict[tuple[str, str], tuple[int, int, int, int]]) -> None:
    for name in NAMES:
        requests, pipelines, *dummy_bytes = table["server_info", name]
        assert requests <= 12
        assert pipelines <= 3


def test_every_module_is_gone_through_over_every_connection() -> None:
    here = pathlib.Path(__file__).resolve().parent
    assert set(RHYTHM) == set(MODULES)
    assert set(MODULES) == {file.stem for file in (here.parents[1] / "plugins" / "modules").glob("*.py")} - {"feed", "notify", "report", "__init__"}
    for module, place in RHYTHM.items():
        file, dummy, name = place.partition("::")
        text = (here / file).read_text("utf-8")
        assert re.search(r'WAYS, ids=NAMES\)\ndef ' + (name or "test_"), text), module
