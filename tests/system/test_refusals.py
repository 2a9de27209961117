# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every module on every kind of machine: who runs, who is refused by which name. The guide shows the table that this makes.

With EXCHANGE_MITIGATION_WRITE_DOCS=1 the table is written into the guide; without, the guide must show it.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConnectionFailure, Refused
from ansible_collections.exchange.mitigation.plugins.modules import organization_info
from lab_task import hashes, run

GUIDE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "docsite" / "rst" / "guide_machines.rst"
BEGIN, END = ".. machines begin\n", ".. machines end\n"

#: Machine -> what it is, in the order of the table's columns.
MACHINES = {
    "EX1": "Mailbox", "OLD": "Mailbox before EM", "EX13": "Exchange 2013", "EDGE": "Edge", "TOOLS": "management tools", "NONE": "no Exchange",
}  # fmt: skip
#: Module -> options; in the order of the table's rows.
MODULES: dict[str, dict[str, Any]] = {
    "url_rewrite": {"state": "present"},
    "service": {"state": "started"},
    "organization": {"mitigations_enabled": True},
    "organization_info": {},
    "server": {"mitigations_enabled": True},
    "server_info": {},
    "event_info": {},
    "mitigation": {"mitigations": ["M1"], "state": "applied"},
}
#: The line of DESIGN.md 5, cell by cell.
EXPECTED = {
    "url_rewrite": ["runs"] * 6,
    "service": ["runs", "em_not_supported", "unsupported_product", "edge_server", "management_tools_only", "no_exchange"],
    "organization": ["runs", "em_not_supported", "em_not_supported", "unreachable", "unreachable", "unreachable"],
    "organization_info": ["runs", "runs", "unsupported_product", "unreachable", "unreachable", "unreachable"],
    "server": ["runs", "em_not_supported", "unsupported_product", "edge_server", "server_not_found", "server_not_found"],
    "server_info": ["runs", "runs", "unsupported_product", "edge_server", "management_tools_only", "no_exchange"],
    "event_info": ["runs", "runs", "unsupported_product", "edge_server", "management_tools_only", "no_exchange"],
    "mitigation": ["runs", "runs", "unsupported_product", "edge_server", "management_tools_only", "no_exchange"],
}


@pytest.fixture(scope="module")
def fleet() -> Iterator[Any]:
    from lab import variants
    from lab.builds import ServerPlan
    from lab.fleet import Fleet

    plans = [
        ServerPlan("EX1", "Exchange2016", "15.1.2507.13"), ServerPlan("OLD", "Exchange2016", "15.1.2308.8"), ServerPlan("EX13", "Exchange2016", "15.1.2308.8"),
        ServerPlan("EDGE", "Exchange2019", "15.2.1748.46", role="Edge"), ServerPlan("TOOLS", "Exchange2019", "15.2.1748.46", role="ManagementTools"),
        ServerPlan("NONE", "Exchange2019", "15.2.1748.46"),
    ]  # fmt: skip
    with Fleet(plans) as running:
        variants.without_exchange(running.machine("NONE"))
        running.machine("NONE").registry.delete("HKLM:\\SOFTWARE\\Microsoft\\ExchangeServer")
        _exchange_2013(running)
        # Machines without a role of Exchange are no servers of the organisation.
        running.organization.servers[:] = [server for server in running.organization.servers if server.name not in ("TOOLS", "NONE")]
        for name in ("TOOLS", "NONE"):
            for key in [key for key, server in running.organization._by_identity.items() if server.name == name]:
                del running.organization._by_identity[key]
        yield running
        assert running.scripts_received == 0
        assert running.refusals == []


def _exchange_2013(fleet: Any) -> None:
    """Turn a machine into one of Exchange 2013, as far as registry, organisation and its cmdlets show it."""
    machine, setup = fleet.machine("EX13"), "HKLM:\\SOFTWARE\\Microsoft\\ExchangeServer\\v15\\Setup"
    for name, value in (("MsiProductMajor", 15), ("MsiProductMinor", 0), ("MsiBuildMajor", 1497), ("MsiBuildMinor", 44)):
        machine.registry.set(setup, name, value, "REG_DWORD")
    for index, server in enumerate(fleet.organization.servers):
        if server.name == "EX13":
            old = dataclasses.replace(server, plan=dataclasses.replace(server.plan, build="15.0.1497.44"))
            fleet.organization.servers[index] = old
            fleet.organization._by_identity.update({key: old for key, found in fleet.organization._by_identity.items() if found.name == "EX13"})


def cell(fleet: Any, module: str, name: str, organization: dict[str, Any]) -> str:
    """Run a module on a machine in check mode and say what became of it."""
    options = dict(MODULES[module])
    if module in ("server_info", "mitigation"):
        options["organization"] = organization
    machine = fleet.machine(name)
    if module == "server":
        options["identity"], machine = name, fleet.machine("EX1")
    before = hashes(machine)
    try:
        run(importlib.import_module(f"ansible_collections.exchange.mitigation.plugins.modules.{module}"), fleet, machine, options, check=True)
        return "runs"
    except Refused as refusal:
        # By name: the sentence says which machine it is about, or which server answered.
        assert name in refusal.message or "server that answered" in refusal.message, refusal.message
        assert hashes(machine) == before
        return refusal.reason
    except ConnectionFailure as failure:
        assert "404" in failure.message or failure.reason in ("endpoint_not_found", "exchange_not_found"), failure.message
        return "unreachable"


@pytest.fixture(scope="module")
def table(fleet: Any) -> dict[str, list[str]]:
    organization = run(organization_info, fleet, fleet.machine("EX1"), {})["organization"]
    return {module: [cell(fleet, module, name, organization) for name in MACHINES] for module in MODULES}


def shown(table: dict[str, list[str]]) -> str:
    """The table as the guide has it."""
    lines = [".. list-table::", "   :header-rows: 1", "", "   * - module", *(f"     - {title}" for title in MACHINES.values())]
    for module, cells in table.items():
        lines += [f"   * - ``{module}``", *(f"     - {word}" if word in ("runs", "unreachable") else f"     - ``{word}``" for word in cells)]
    return "\n".join([BEGIN, *lines, "", END])


@pytest.mark.parametrize("module", MODULES)
def test_the_line_of_each_module(table: dict[str, list[str]], module: str) -> None:
    assert dict(zip(MACHINES, table[module])) == dict(zip(MACHINES, EXPECTED[module]))


def test_nothing_was_written(fleet: Any, table: dict[str, list[str]]) -> None:
    assert len(table) == len(MODULES)
    assert fleet.access_log.writes() == []


def test_every_module_is_in_the_table() -> None:
    found = {file.stem for file in (GUIDE.parents[3] / "plugins" / "modules").glob("*.py")}
    assert set(MODULES) == found - {"feed", "notify", "report", "__init__"}  # those contact no server


def test_the_guide_shows_the_table(table: dict[str, list[str]]) -> None:
    text = GUIDE.read_text("utf-8")
    before, dummy, rest = text.partition(BEGIN)
    wanted = before + shown(table) + rest.partition(END)[2]
    if os.environ.get("EXCHANGE_MITIGATION_WRITE_DOCS") == "1":
        GUIDE.write_text(wanted, "utf-8")
    assert GUIDE.read_text("utf-8") == wanted
