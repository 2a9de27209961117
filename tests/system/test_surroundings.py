# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user's ansible.cfg and inventory have set for other work, and what must then be as ever: drift, mitigate, nothing new, rollback."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from lab_task import hashes, restored, started

from playbooks import environment, play

WANTED = {"exchange_mitigation_organization_enabled": True, "exchange_mitigation_when_em_active": "take_over"}

#: Ansible's settings, as they stand in a user's environment or ansible.cfg.
SETTINGS: dict[str, dict[str, str]] = {
    "strategy_free": {"ANSIBLE_STRATEGY": "free"},
    "strategy_host_pinned": {"ANSIBLE_STRATEGY": "host_pinned"},
    "fact_caching": {"ANSIBLE_CACHE_PLUGIN": "jsonfile", "ANSIBLE_CACHE_PLUGIN_CONNECTION": "facts", "ANSIBLE_GATHERING": "smart"},
    "any_errors_fatal": {"ANSIBLE_ANY_ERRORS_FATAL": "true"},
    "become": {"ANSIBLE_BECOME": "true", "ANSIBLE_BECOME_METHOD": "runas", "ANSIBLE_BECOME_USER": "SYSTEM"},
    "one_fork": {"ANSIBLE_FORKS": "1"},
    "no_injected_facts": {"ANSIBLE_INJECT_FACT_VARS": "false"},
    "minimal_output": {"ANSIBLE_STDOUT_CALLBACK": "minimal", "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "false"},
}
#: All at once where the tests have to be quick; ``make sweep`` tries each alone.
TOGETHER = {
    "strategy_free": ("strategy_free", "fact_caching", "no_injected_facts", "one_fork"),
    "strategy_host_pinned": ("strategy_host_pinned", "any_errors_fatal", "become", "minimal_output"),
}
TRIED = {name: (name,) for name in SETTINGS} if os.environ.get("EXCHANGE_MITIGATION_SWEEP") else TOGETHER

#: The warnings that are meant: a lab's root is trusted, nothing was accepted before, an old build.
OURS = ("knows no document that was accepted before", "Roots other than Microsoft's are trusted", "The EM service of build")


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    yield from started(2)


@pytest.fixture
def fleet(running: Any) -> Iterator[Any]:
    yield from restored(running)


def the_main_job(fleet: Any, folder: pathlib.Path, settings: dict[str, str], *options: str, **more: Any) -> None:
    """Drift, mitigate, mitigate again, rollback: as ever, with not one warning but our own."""
    before = {machine.name: hashes(machine) for machine in fleet.machines}
    drift = play(fleet, folder, "drift", *options, settings=settings, exchange_mitigation_report_dir=str(folder / "report"), **WANTED, **more)
    assert drift.code == 0, drift.text
    rows = json.loads((folder / "report" / "report.json").read_text("utf-8"))
    assert rows["drift"]["count"] > 0
    assert fleet.access_log.writes() == []

    run = f"run-{folder.name}"
    mitigate = play(fleet, folder, "mitigate", *options, settings=settings, exchange_mitigation_run_id=run, **WANTED, **more)
    assert mitigate.code == 0, mitigate.text
    after = {machine.name: hashes(machine) for machine in fleet.machines}
    assert all(after[name] != before[name] for name in before), "every server is mitigated"

    fleet.access_log.clear()
    again = play(fleet, folder, "mitigate", *options, settings=settings, **WANTED, **more)
    assert again.code == 0, again.text
    assert fleet.access_log.writes() == []

    back = play(fleet, folder, "rollback", *options, settings=settings, exchange_mitigation_run_id=run, **more)
    assert back.code == 0, back.text
    assert {machine.name: hashes(machine) for machine in fleet.machines} == before
    for done in (drift, mitigate, again, back):
        # Ansible breaks a long warning over several lines; an empty line ends it.
        told = [" ".join(part.split()) for part in re.findall(r"\[(?:WARNING|DEPRECATION).*?(?=\n\n|\n\[|\Z)", done.text, re.DOTALL)]
        assert [line for line in told if not any(said in line for said in OURS)] == []


@pytest.mark.parametrize("name", TRIED)
def test_the_main_job_under_the_users_settings(fleet: Any, tmp_path: pathlib.Path, name: str) -> None:
    the_main_job(fleet, tmp_path, {key: value for one in TRIED[name] for key, value in SETTINGS[one].items()})


@pytest.mark.parametrize("strategy", ["free", "host_pinned"])
def test_role_and_modules_in_a_play_of_ones_own(fleet: Any, tmp_path: pathlib.Path, strategy: str) -> None:
    wanted = {"exchange_mitigation_mitigations": ["M2"], "exchange_mitigation_when_em_active": "take_over", "exchange_mitigation_use_feed": False}
    applied = "seen.server.mitigations | selectattr('id', 'equalto', 'M2') | map(attribute='state') | first == 'applied'"
    tasks = [
        {"name": "Mitigate", "ansible.builtin.include_role": {"name": "exchange.mitigation.mitigate"}},
        {"name": "Look", "exchange.mitigation.server_info": {}, "register": "seen"},
        {"name": "Applied", "ansible.builtin.assert": {"that": applied}},
    ]
    book = tmp_path / "own.yml"
    book.write_text(yaml.safe_dump([{"hosts": "exchange_servers", "gather_facts": False, "strategy": strategy, "vars": wanted, "tasks": tasks}]), "utf-8")
    done = play(fleet, tmp_path, str(book))
    assert done.code == 0, done.text
    fleet.access_log.clear()
    assert play(fleet, tmp_path, str(book)).code == 0
    assert fleet.access_log.writes() == []


def test_the_main_job_with_become_in_the_inventory_and_passwords_in_a_vault(fleet: Any, tmp_path: pathlib.Path) -> None:
    fleet.write_inventory(tmp_path / "lab.yml")
    inventory = yaml.safe_load((tmp_path / "lab.yml").read_text("utf-8"))
    hosts = inventory["all"]["children"]["exchange_servers"]["hosts"]
    secrets = {}
    for host, variables in hosts.items():
        for name in [name for name in variables if "password" in name]:
            secrets[f"vault_{host}_{name}"] = variables[name]
            variables[name] = "{{ vault_" + host + "_" + name + " }}"
    assert len(secrets) >= len(hosts), "every host has a password"
    inventory["all"]["vars"] |= {"ansible_become": True, "ansible_become_method": "ansible.builtin.sudo", "ansible_become_user": "root"}
    (tmp_path / "lab.yml").write_text(yaml.safe_dump(inventory), "utf-8")
    (tmp_path / "key").write_text("a vault's key", "utf-8")
    (tmp_path / "group_vars").mkdir()
    kept = tmp_path / "group_vars" / "exchange_servers.yml"
    kept.write_text(yaml.safe_dump(secrets), "utf-8")
    program = pathlib.Path(sys.executable).with_name("ansible-vault")
    command = [str(program), "encrypt", "--vault-password-file", "key", str(kept)]
    subprocess.run(command, cwd=tmp_path, env=environment(tmp_path), check=True, capture_output=True)
    assert kept.read_text("utf-8").startswith("$ANSIBLE_VAULT")
    the_main_job(fleet, tmp_path, {}, "--vault-password-file", "key")
