# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guide on rollout: every command in it is run as it is printed, against the lab, and what it says of variables is what the roles have."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from guides import blocks, guide
from lab_task import hashes
from test_guides import Reader, recap
from test_rollout import make_fleet, planned, touched

from playbooks import ROOT

NAME = "guide_rollout"


@pytest.fixture
def fleet() -> Iterator[Any]:
    with make_fleet(3) as running:
        yield running
        assert running.scripts_received == 0 and running.refusals == []


def test_rollout_as_printed(fleet: Any, tmp_path: pathlib.Path) -> None:
    before = {machine.name: hashes(machine) for machine in fleet.machines}
    reader = Reader(tmp_path, fleet, NAME, {})
    assert {changed for changed, failed in recap(reader.until("look first"))} == {1}
    reader.until("look at the others")
    assert fleet.access_log.writes() == []

    said = reader.until("roll out")
    assert planned(said)[0] == ["EX2"]
    assert touched(fleet)[0] == "EX2" and len(touched(fleet)) == 3
    applied = {machine.name: hashes(machine) for machine in fleet.machines}
    assert applied != before
    fleet.access_log.clear()
    assert "Nothing is done: the maintenance window is closed." in reader.until("closed")
    assert "Stopped after the first batch: approval is needed" in reader.until("canary")
    assert {changed for changed, failed in recap(reader.until("approved"))} == {0}
    assert "EX3 leaves the load balancer" in reader.until("with tasks")
    assert set(re.findall(r"^(EX\d) +: ok", reader.until("some servers"), re.MULTILINE)) == {"EX1", "EX2"}
    reader.until("one part")
    reader.until("go on")
    assert fleet.access_log.writes() == [], "all was as wanted"
    # The rollout itself had a name of its own; the way back of a run that changed nothing changes nothing.
    reader.until("way back")
    assert {machine.name: hashes(machine) for machine in fleet.machines} == applied
    first = reader.blocks[0]
    assert first.caption == "two jobs"
    reader.until("two jobs")
    assert fleet.access_log.writes() == [] and reader.blocks == []


def test_variables_and_tags_of_the_guide_exist() -> None:
    text = guide(NAME)
    known = set()
    for path in (ROOT / "roles").glob("*/defaults/main.yml"):
        known |= set(yaml.safe_load(path.read_text("utf-8")))
    known |= {f"exchange_mitigation_{name}" for name in ("canary", "dag", "maintenance_window", "exchange_username", "exchange_password", "report_dir")}
    assert set(re.findall(r"exchange_mitigation_\w+", text)) <= known
    for block in blocks(NAME):
        if block.language == "yaml" and block.caption in ("rollout.yml", "health.yml", "windows.yml"):
            assert set(yaml.safe_load(block.text)) <= known, block.caption
    listed = [entry for section in yaml.safe_load((ROOT / "docs/docsite/extra-docs.yml").read_text("utf-8"))["sections"] for entry in section["toctree"]]
    assert NAME in listed
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line and len(line) > 3 and len(set(line)) == 1 and line[0] in "=-~":
            assert len(line) == len(lines[number - 1]), lines[number - 1]


def test_the_windows_of_the_guide_are_windows() -> None:
    import datetime

    from ansible_collections.exchange.mitigation.plugins.module_utils._windows import closed

    window = yaml.safe_load(next(block.text for block in blocks(NAME) if block.caption == "windows.yml"))["exchange_mitigation_maintenance_window"]
    saturday_night = datetime.datetime(2026, 11, 29, 1, 0, tzinfo=datetime.timezone.utc)
    assert closed(window, saturday_night) == ""
    assert "sat, sun 22:00 to 04:00 Europe/Berlin or wed 23:00 to 23:30 Europe/Berlin" in closed(window, saturday_night.replace(hour=12))
