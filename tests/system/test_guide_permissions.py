# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guide on permissions: its commands run as printed through the lab's JEA endpoints; what is for the server is marked as such."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import pytest
import yaml
from ansible_collections.exchange.mitigation.plugins.module_utils import _jea, _rights
from guides import GUIDES, blocks, guide
from lab_task import hashes
from test_guides import Reader

NAME = "guide_permissions"
ON_SERVERS = ("on the server", "in Exchange Management Shell")


@pytest.fixture(scope="module")
def fleet() -> Any:
    from lab.builds import ServerPlan
    from lab.fleet import Fleet

    plans = [ServerPlan("EX1", "Exchange2016", "15.1.2507.13"), ServerPlan("EX2", "Exchange2019", "15.2.1748.43")]
    with Fleet(plans, mitigations_enabled=False) as running:
        yield running


def test_as_printed(fleet: Any, tmp_path: pathlib.Path) -> None:
    reader = Reader(tmp_path, fleet, NAME, {})
    before = {machine.name: hashes(machine) for machine in fleet.machines}
    reader.until("take the files")
    for role in _jea.ROLES:
        text = (tmp_path / "jea" / f"{role}.pssc").read_text("ascii")
        assert "EXAMPLE" not in text and r"CONTOSO\Exchange Mitigation" in text
    said = reader.until("look")
    assert (tmp_path / "report" / "report.html").exists() and "M2" in said
    assert [ran for ran in fleet.access_log.calls if ran.write] == []
    assert {machine.name: hashes(machine) for machine in fleet.machines} == before
    reader.until("apply")
    after = {machine.name: hashes(machine) for machine in fleet.machines}
    assert all(after[name] != before[name] for name in before)
    reader.until("take back")
    assert {machine.name: hashes(machine) for machine in fleet.machines} == before
    assert reader.blocks == []
    assert fleet.beyond == [] and fleet.refusals == [] and fleet.scripts_received == 0
    # Both ways to name an endpoint were used: one server is reached over winrm, the other over psrp.
    shells = [endpoint for endpoint in fleet.access_log.calls if endpoint.endpoint == "host"]
    assert {ran.server for ran in shells} == {"EX1", "EX2"} and "ForEach-Object" not in {ran.cmdlet for ran in shells}


def test_what_is_for_the_server_is_marked_and_names_what_is_shipped() -> None:
    commands = [block for block in blocks(NAME) if block.language == "powershell"]
    assert {block.caption for block in commands} == set(ON_SERVERS)
    text = "".join(block.text for block in commands)
    shipped = _jea.files()
    assert set(re.findall(r"C:\\jea\\(\S+\.pssc)", text)) == {name for name in shipped if name.endswith(".pssc")}
    assert rf"C:\jea\{_jea.MODULE} " in text
    assert set(re.findall(r"-Name (\S+)", text)) == set(_jea.ROLES)
    assert {block.language for block in blocks(NAME)} == {"powershell", "shell", "yaml"}


def test_every_module_has_a_row() -> None:
    modules = {path.stem for path in (GUIDES.parents[2] / "plugins" / "modules").glob("*.py")}
    assert set(_rights.MODULES) == modules


def test_it_is_in_the_table_of_contents_and_well_formed() -> None:
    listed = yaml.safe_load((GUIDES.parent / "extra-docs.yml").read_text("utf-8"))["sections"]
    assert NAME in [entry for section in listed for entry in section["toctree"]]
    lines = guide(NAME).splitlines()
    for number, line in enumerate(lines):
        if line and (set(line) <= {"="} or (set(line) <= {"-"} and len(line) > 3)):
            assert len(line) == len(lines[number - 1]), lines[number - 1]


def test_what_it_names_as_never_offered_is_so() -> None:
    sentence = re.search(r"Neither has (.*?), nor any program", guide(NAME), re.DOTALL)
    assert sentence is not None
    assert set(re.findall(r"``([A-Za-z-]+)``", sentence[1])) <= set(_jea.NEVER)
