# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules of the organisation through ansible-playbook against the lab: what Ansible's keywords do to them."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from lab.fleet import Fleet

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECRET = "planted-Secret-7f3"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with Fleet(4, lag=0) as fleet:
        fleet.write_inventory(tmp_path_factory.mktemp("inventory") / "lab.yml")
        yield fleet


@pytest.fixture
def fleet(running: Fleet) -> Iterator[Fleet]:
    running.faults.clear()
    running.access_log.clear()
    yield running
    running.faults.clear()
    assert running.scripts_received == 0, "a script was sent"
    assert running.refusals == []
    assert running._server is not None
    assert running._server.open_shells() == []
    assert running._server.running_pipelines() == 0


class Play:
    """What a playbook run said."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code = done.returncode
        self.text = done.stdout + done.stderr


def play(fleet: Fleet, folder: pathlib.Path, tasks: list[dict[str, Any]], *options: str, hosts: str = "exchange_servers") -> Play:
    book = folder / "play.yml"
    book.write_text(yaml.safe_dump([{"hosts": hosts, "gather_facts": False, "tasks": tasks}], sort_keys=False), "utf-8")
    inventory = folder / "lab.yml"
    fleet.write_inventory(inventory)
    environment = os.environ | {
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_FORCE_COLOR": "0",
        "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
    }
    program = pathlib.Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run([str(program), "-i", str(inventory), str(book), *options], capture_output=True, text=True, env=environment, check=False, timeout=120)
    return Play(done)


def recap(text: str, host: str) -> dict[str, int]:
    line = next(line for line in text.splitlines() if line.startswith(host + " ") and "ok=" in line)
    return {key: int(number) for key, number in (item.split("=") for item in line.split(":", 1)[1].split())}


def task(module: str, name: str = "task", keywords: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    return {"name": name, f"exchange.mitigation.{module}": options, **(keywords or {})}


def test_check_mode_diff_change_and_second_run(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    tasks = [task("server", mitigations_enabled=False, mitigations_blocked={"add": ["M1"]})]
    checked = play(fleet, tmp_path, tasks, "--check", "--diff")
    assert fleet.access_log.writes() == []
    real = play(fleet, tmp_path, tasks, "--diff")
    assert len(fleet.access_log.writes()) == 4
    again = play(fleet, tmp_path, tasks, "--diff")
    assert len(fleet.access_log.writes()) == 4
    for machine in fleet.machines:
        assert recap(checked.text, machine.name) == recap(real.text, machine.name)
        assert recap(real.text, machine.name)["changed"] == 1
        assert recap(again.text, machine.name)["changed"] == 0
    for text in (checked.text, real.text):
        assert text.count('-    "mitigations_enabled": true') == text.count('+    "mitigations_enabled": false') == 4
    play(fleet, tmp_path, [task("server", mitigations_enabled=True, mitigations_blocked={"set": []})])


def test_loops_delegation_run_once_and_registered_values(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    tasks = [
        task("server", "loop", {"loop": ["M1", "M2.1.0"], "loop_control": {"label": "id"}}, mitigations_blocked={"add": ["{{ item }}"]}),
        task("organization_info", "read", {"run_once": True, "register": "exchange", "delegate_to": "localhost"},
             exchange_username="{{ ansible_user }}", exchange_password="{{ ansible_password }}"),
        {"name": "assert", "run_once": True, "ansible.builtin.assert": {
            "that": "exchange.organization.servers | map(attribute='mitigations_blocked') | unique | list == [['M1', 'M2.1.0']]"}},
        task("server", "clear", {"delegate_to": "EX1", "throttle": 1}, mitigations_blocked={"set": []}),
        {"name": "defaults", "module_defaults": {"group/exchange.mitigation.all": {"exchange_host": "127.0.0.1"}},
         "block": [task("organization", "grouped", {"run_once": True}, mitigations_enabled=True)]},
    ]
    done = play(fleet, tmp_path, tasks)
    assert done.code == 0, done.text
    assert recap(done.text, "EX1")["failed"] == 0
    assert {ran.parameters["Identity"] for ran in fleet.access_log.calls if ran.cmdlet == "Set-ExchangeServer"} == {"EX1", "EX2", "EX3", "EX4"}


def test_an_unreachable_endpoint_makes_the_host_unreachable(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    tasks = [
        task("server", "gone", {"ignore_unreachable": True, "register": "gone"}, mitigations_enabled=True, exchange_port=1),
        {"name": "assert", "ansible.builtin.assert": {"that": ["gone.unreachable", "gone.reason == 'connection_refused'", "'refused' in gone.msg"]}},
        task("server", "refused", mitigations_enabled=True, exchange_password=SECRET),
    ]
    done = play(fleet, tmp_path, tasks, hosts="EX1")
    assert done.code == 4, done.text
    assert recap(done.text, "EX1") == recap(done.text, "EX1") | {"unreachable": 1, "failed": 0, "ignored": 1}
    assert "authentication_refused" in done.text
    assert SECRET not in done.text


def test_a_task_timeout_and_async_end_the_work_and_the_session(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    fleet.faults.add("slow", "EX1", at=5, seconds=4)
    started = time.monotonic()
    done = play(fleet, tmp_path, [task("organization_info", "slow", {"timeout": 2, "ignore_errors": True})], hosts="EX1")
    assert done.code == 0, done.text
    assert "imed out" in done.text or "expected time frame" in done.text, done.text
    assert time.monotonic() - started < 25
    fleet.faults.clear()
    fleet.faults.add("slow", "EX1", at=5, seconds=4)
    done = play(fleet, tmp_path, [task("organization_info", "slow", {"async": 2, "poll": 1, "ignore_errors": True})], hosts="EX1")
    assert "async_timeout" in done.text, done.text
    assert fleet._server is not None
    deadline = time.monotonic() + 20
    while fleet._server.open_shells() and time.monotonic() < deadline:
        time.sleep(0.2)  # the lab itself answers the cleanup late
    fleet.faults.clear()


def test_no_secret_is_shown_at_any_verbosity(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    tasks = [
        task("organization_info", "fine", {"register": "seen"}),
        {"name": "show", "ansible.builtin.debug": {"var": "seen"}},
        task("server", "own", {"ignore_unreachable": True}, mitigations_enabled=True, exchange_password=SECRET, exchange_username="LAB\\nobody"),
        task("server", "bad", {"ignore_errors": True}, identity="nobody"),
        task("server", "hidden", {"no_log": True}, mitigations_blocked={"set": []}),
    ]
    done = play(fleet, tmp_path, tasks, "-vvvv")
    assert "organization Lab has 4 servers" in done.text
    assert "censored" in done.text
    assert fleet.password not in done.text
    assert SECRET not in done.text


def test_one_exchange_session_for_the_whole_organization(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    done = play(fleet, tmp_path, [task("organization_info", "read", {"run_once": True})])
    assert done.code == 0, done.text
    assert len(fleet.access_log.select(action="Create", status=200)) == 1
    assert len(fleet.access_log.records) == 13
