# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guides start, coexistence and troubleshooting: every command and playbook is run as it is printed, against the lab."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import reason_codes
import snippets
import yaml
from ansible_collections.exchange.mitigation.plugins.module_utils import _reasons
from guides import guide
from lab_task import contents, hashes, put_back
from reader import Reader, connections

from playbooks import calls, play


class Printed(NamedTuple):
    """A command that is printed as a part of something else."""

    text: str


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    from lab.fleet import Fleet

    with Fleet(3, mitigations_enabled=True) as fleet:
        yield fleet


@pytest.fixture
def fleet(running: Any) -> Iterator[Any]:
    running.access_log.clear()
    saved = {machine.name: contents(machine) for machine in running.machines}
    settings = {machine.name: dict(running.organization.settings(machine.name)) for machine in running.machines}
    yield running
    for machine in running.machines:
        put_back(machine, saved[machine.name])
        fields = ("MitigationsEnabled", "MitigationsBlocked", "MitigationsApplied", "MitigationsAppliedTime")
        running.organization.change(machine.name, {field: settings[machine.name].get(field) for field in fields})
    running.organization.mitigations_enabled = True
    running.organization.directory.settle()
    assert running.scripts_received == 0 and running.refusals == []


def files(fleet: Any) -> dict[str, dict[str, str]]:
    return {machine.name: hashes(machine) for machine in fleet.machines}


def test_start_as_printed(fleet: Any, tmp_path: pathlib.Path) -> None:
    connections(fleet, tmp_path, ["ex1.example.com", "ex2.example.com", "ex3.example.com"])
    reader = Reader(tmp_path, fleet, "guide_start", inventory=False)
    before = files(fleet)
    assert "ex3.example.com" in reader.until("servers")
    said = reader.until("first report")
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"report.html", "report.csv", "report.json", "metrics.prom"}
    report = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    assert len(report["servers"]) == 3 and not report["summary"]["unreachable"], said
    reader.until("nightly", expected=2)
    again = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    assert again["drift"]["count"] > 0
    assert "PLAY RECAP" in reader.until("see")
    assert "EM Enabled" in reader.until("look")
    assert files(fleet) == before and fleet.access_log.writes() == []
    assert reader.blocks == []


def test_drift_report_as_printed(fleet: Any, tmp_path: pathlib.Path) -> None:
    """The command, the variables, and what the systemd unit starts; the alerts name metrics that are written."""
    connections(fleet, tmp_path, ["ex1.example.com", "ex2.example.com", "ex3.example.com"])
    reader = Reader(tmp_path, fleet, "guide_drift_report", inventory=False)
    (start,) = (block for block in snippets.of("guide_start") if block.caption == "inventory.yml")
    reader.write(start)
    look = reader.blocks[0]
    reader.until("look")
    first = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    lab = (tmp_path / "host_vars" / "ex3.example.com.yml").read_text("utf-8")
    reader.until("host_vars/ex3.example.com.yml")
    with (tmp_path / "host_vars" / "ex3.example.com.yml").open("a", encoding="utf-8") as stream:
        stream.write(lab)  # what the guide puts there, and how to reach the lab
    unit = next(block.text for block in snippets.of("guide_drift_report") if block.caption.endswith(".service"))
    command = re.search(r"^ExecStart=/usr/bin/(.+)$", unit, re.MULTILINE)
    assert command is not None
    assert reader.run(Printed(command[1].replace("/srv/exchange", str(tmp_path)))).returncode == 2, "SuccessExitStatus of the unit"
    report = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    assert len(first["servers"]) == len(report["servers"]) == 3
    assert "ex3.example.com" not in json.dumps([item for item in first["drift"]["items"] if item["setting"] == "MitigationsBlocked"])
    assert "ex3.example.com" in json.dumps([item for item in report["drift"]["items"] if item["setting"] == "MitigationsBlocked"])
    alerts = next(yaml.safe_load(block.text) for block in snippets.of("guide_drift_report") if block.caption == "alerts.yml")
    # Some are written only where there is something to tell, such as when EM last succeeded; so they are looked for where they are made.
    made = (snippets.ROOT / "plugins" / "module_utils" / "_report_metrics.py").read_text("utf-8")
    metrics = {f"exchange_mitigation_{name}" for name in re.findall(r'^ +\("(\w+)", "', made, re.MULTILINE)}
    metrics |= set(re.findall(r"^# TYPE (\w+)", (tmp_path / "report" / "metrics.prom").read_text("utf-8"), re.MULTILINE))
    assert {name for rule in alerts["groups"][0]["rules"] for name in re.findall(r"exchange_mitigation_\w+", rule["expr"])} <= metrics
    assert "exchange.mitigation.drift" in look.text and fleet.access_log.writes() == []
    assert reader.blocks == []


def test_defaults_for_the_whole_collection(fleet: Any, tmp_path: pathlib.Path) -> None:
    """The group all takes the same defaults where every module of the play has the option, and says so where one has not."""
    text = next(block.text for block in Reader(tmp_path, fleet, "guide_start").blocks if block.caption == "look.yml")
    book = yaml.safe_load(text)
    defaults = book[0]["module_defaults"].pop("group/exchange.mitigation.exchange")
    book[0]["module_defaults"]["group/exchange.mitigation.all"] = {**defaults, "exchange_auth": "ntlm"}
    for one in book[0]["tasks"]:
        one.pop("run_once", None)
    (tmp_path / "all.yml").write_text(yaml.safe_dump(book), "utf-8")
    done = play(fleet, tmp_path, "all.yml", "--limit", "EX1")
    assert done.code == 0, done.text
    book[0]["tasks"].append({"name": "Another", "exchange.mitigation.event_info": {}})
    (tmp_path / "all.yml").write_text(yaml.safe_dump(book), "utf-8")
    done = play(fleet, tmp_path, "all.yml", "--limit", "EX1")
    assert done.code == 2 and "exchange_auth" in done.text


def test_coexistence_as_printed(fleet: Any, tmp_path: pathlib.Path) -> None:
    reader = Reader(tmp_path, fleet, "guide_coexistence")
    inventory = yaml.safe_load((tmp_path / "inventory.yml").read_text("utf-8"))
    for group in inventory["all"]["children"].values():
        group["hosts"].pop("EX3", None)  # has no URL Rewrite, as the start guide shows
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump(inventory), "utf-8")
    fleet.em_cycle("adds")
    made = files(fleet)
    mitigated = [machine.name for machine in fleet.machines if b"EEMS M2" in b"".join(contents(machine).values())]
    assert mitigated, "the lab's EM has applied something"
    assert reader.until("leave", expected=0)
    assert files(fleet) == made, "what EM made is left"
    check_and_do = reader.until("take over")
    taken = files(fleet)
    assert taken != made and "EEMS M2" in check_and_do
    for machine in fleet.machines:
        if machine.name in mitigated:
            assert any(identifier.startswith("M2") for identifier in fleet.organization.settings(machine.name)["MitigationsBlocked"])
            assert not [path for path, data in contents(machine).items() if b"EEMS M2" in data and path.endswith("web.config")]
    fleet.access_log.clear()
    reader.until("relocate")
    reader.until("remove")
    assert files(fleet) == taken and fleet.access_log.writes() == []
    assert reader.blocks == []


def test_troubleshooting_as_printed(fleet: Any, tmp_path: pathlib.Path) -> None:
    reader = Reader(tmp_path, fleet, "guide_troubleshooting")
    before = files(fleet)
    assert reader.until("server").count("SUCCESS") == 3
    assert "mitigations_enabled" in reader.until("Exchange")
    assert '"version"' in reader.until("feed")
    assert files(fleet) == before and fleet.access_log.writes() == [] and calls(fleet, "Set-Service") == 0
    assert reader.blocks == []


def test_troubleshooting_has_exactly_the_codes_that_the_code_returns() -> None:
    rows = re.findall(r"^   \* - ``([a-z0-9_]+)``$", guide("guide_troubleshooting").partition(".. troubleshooting: begin")[2], re.MULTILINE)
    assert sorted(rows) == sorted(reason_codes.codes()), "run: python tests/system/guides.py"
    assert set(_reasons.REASONS) <= set(rows) and len(rows) > 200


def test_codes_are_found_where_they_are_made(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search for codes sees each way of making one, and refuses one that it does not know."""
    (tmp_path / "one.py").write_text(
        'raise Refused("no", "first_code")\nraise ApplyError("no", reason="second_code")\nx = dict(failed=True, reason="third_code")\n'
        'raise CmdletError("no", "Get-It", "", "", "", "", "fourth_code")\nreason = "fifth_code"\nraise FetchError("no")\n'
        'y = {"failed": True, "reason": "sixth_code"}\nraise Refusal(None, "seventh_code" if a else "eighth_code", "no")\n',
        "utf-8",
    )
    monkeypatch.setattr(reason_codes, "PLUGINS", tmp_path)
    monkeypatch.setattr(reason_codes, "KEYS", ())
    ordinals = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
    assert set(reason_codes.codes()) == {f"{number}_code" for number in ordinals} | {"fetch_failed"}
    (tmp_path / "one.py").write_text('raise Refused("no", somehow(x))\n', "utf-8")
    with pytest.raises(reason_codes.Unseen, match=r"one\.py:1: reason somehow\(x\)"):
        reason_codes.codes()
