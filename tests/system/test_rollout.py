# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rollout of the changing playbooks, run as a user does: canary, batches, windows, approval, hooks, tags, and a server that falls ill."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from lab_task import contents, hashes, put_back

from playbooks import calls, play

WANTED = {"exchange_mitigation_when_em_active": "take_over"}
DAGS = {"EX1": "DAG01", "EX2": "DAG01", "EX3": None, "EX4": "DAG02", "EX5": "DAG02", "EX6": None}


def make_fleet(servers: int = 6) -> Any:
    """Servers that all need M1 and M2 and can take them; two pairs are members of a DAG each."""
    from lab import builds
    from lab.fleet import Fleet

    first = builds.default_plan(1)[0]
    return Fleet([dataclasses.replace(first, name=name, dag=dag) for name, dag in list(DAGS.items())[:servers]], mitigations_enabled=False)


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    with make_fleet() as fleet:
        yield fleet


@pytest.fixture
def fleet(running: Any, tmp_path: pathlib.Path) -> Iterator[Any]:
    running.faults.clear()
    running.access_log.clear()
    saved = {machine.name: contents(machine) for machine in running.machines}
    yield running
    running.faults.clear()
    for machine in running.machines:
        machine.pools.restart()
        put_back(machine, saved[machine.name])
        running.organization.change(machine.name, {"MitigationsEnabled": True, "MitigationsBlocked": None})
    running.organization.mitigations_enabled = False
    running.organization.directory.settle()
    assert running.scripts_received == 0, "a script was sent"
    assert running.refusals == [], "the lab was asked for something that it does not know"
    assert running._server.open_shells() == [], "a session was left open"


def touched(fleet: Any) -> list[str]:
    """Return the servers that were written to, in the order of their first write; writes at Exchange's endpoint by the server they are about."""
    return list(dict.fromkeys(str(ran.parameters.get("Identity") or ran.server) for ran in fleet.access_log.calls if ran.write))


def planned(text: str) -> list[list[str]]:
    """Return the batches that a run announced."""
    return [re.findall(r"EX\d+", names) for names in re.findall(r"Batch \d+ of \d+: ([^\"\n]+)", text)]


def sick(fleet: Any, *names: str) -> Any:
    """The web application /ecp of these servers dies as soon as one of their files is replaced; return the probes that see it."""
    genuine = {}

    for name in names:
        machine = fleet.machine(name)
        genuine[name] = machine.files.replace

        def spoiling(*arguments: Any, _machine: Any = machine, _name: str = name, **more: Any) -> Any:
            done = genuine[_name](*arguments, **more)
            if _machine.pools.state("MSExchangeECPAppPool") == "Started":
                _machine.pools.stop("MSExchangeECPAppPool")
            return done

        machine.files.replace = spoiling
    return genuine


def well(fleet: Any, genuine: dict[str, Any]) -> None:
    for name in genuine:
        del fleet.machine(name).files.replace


def health(fleet: Any, folder: pathlib.Path) -> None:
    """Write the inventory with a required check for each server, at the server's own address."""
    tree = fleet.inventory()
    for name, values in tree["all"]["children"]["exchange_servers"]["hosts"].items():
        values["exchange_mitigation_health"] = {
            "url": f"https://127.0.0.1:{fleet.port(fleet.machine(name), 'web_https')}",
            "ca_path": str(fleet.pki.tls_ca_path),
            "paths": ["/owa/", "/ecp/"],
            "timeout": 5,
            "required": True,
        }
    (folder / "lab.yml").write_text(yaml.safe_dump(tree), "utf-8")
    (folder / "lab.yml").chmod(0o600)


def test_a_canary_that_fails_its_health_check_stops_everything(fleet: Any, tmp_path: pathlib.Path) -> None:
    before = {machine.name: hashes(machine) for machine in fleet.machines}
    health(fleet, tmp_path)
    spoiled = sick(fleet, "EX1")
    try:
        done = play(fleet, tmp_path, "mitigate", **WANTED)
    finally:
        well(fleet, spoiled)
    assert done.code == 2, done.text
    assert "health_failed" in done.text and "/ecp/ (200 before, 503 now)" in done.text
    assert "Halted before batch 2 of" in done.text and "Not touched: EX" in done.text
    assert touched(fleet) == ["EX1"], "servers beyond the canary were touched"
    assert {machine.name: hashes(machine) for machine in fleet.machines} == before, "the canary was taken back"
    assert {host: counts["failed"] for host, counts in done.recap.items()} == {name: int(name == "EX1") for name in DAGS}
    fleet.machine("EX1").pools.restart()
    fleet.access_log.clear()
    again = play(fleet, tmp_path, "mitigate", **WANTED)
    assert again.code == 0, again.text
    written = touched(fleet)
    for batch in planned(again.text):
        # Servers of one batch are changed side by side, in any order.
        assert sorted(written[: len(batch)]) == sorted(batch)
        del written[: len(batch)]
    assert written == []


def test_two_members_of_a_dag_are_never_changed_in_one_batch(fleet: Any, tmp_path: pathlib.Path) -> None:
    done = play(fleet, tmp_path, "mitigate", exchange_mitigation_serial="100%", **WANTED)
    assert done.code == 0, done.text
    made = planned(done.text)
    assert sorted(name for batch in made for name in batch) == sorted(DAGS)
    assert len(made) == 2
    for batch in made:
        dags = [DAGS[name] for name in batch if DAGS[name]]
        assert len(dags) == len(set(dags)), made
    writes = [str(ran.parameters.get("Identity") or ran.server) for ran in fleet.access_log.calls if ran.write]
    first = max(index for index, name in enumerate(writes) if name in made[0])
    assert all(name in made[1] for name in writes[first + 1 :]) and all(name in made[0] for name in writes[: first + 1])


def test_dag_by_variable_where_exchange_does_not_say(fleet: Any, tmp_path: pathlib.Path) -> None:
    book = tmp_path / "plan.yml"
    book.write_text(
        yaml.safe_dump(
            [
                {
                    "hosts": "exchange_servers",
                    "gather_facts": False,
                    "tasks": [
                        {"ansible.builtin.set_fact": {"exchange_mitigation_dag": "{{ 'D' if inventory_hostname in ['EX3', 'EX6'] else '' }}"}},
                        {
                            "ansible.builtin.debug": {
                                "msg": "{{ (ansible_play_hosts_all | exchange.mitigation.rollout_plan({}, serial='100%', variables={"
                                "'exchange_mitigation_dag': ansible_play_hosts_all | map('extract', hostvars) "
                                "| map(attribute='exchange_mitigation_dag', default='') | list})).says }}"
                            },
                            "run_once": True,
                        },
                    ],
                }
            ]
        )
    )
    done = play(fleet, tmp_path, str(book))
    assert done.code == 0, done.text
    assert planned(done.text) == [["EX1", "EX2", "EX3", "EX4", "EX5"], ["EX6"]]


def test_a_server_that_dies_under_way_stops_the_rest(fleet: Any, tmp_path: pathlib.Path) -> None:
    """Not failed but unreachable, in a batch with others."""
    fleet.faults.add("reboot", "EX3", at=9, endpoint="host", seconds=600)
    done = play(fleet, tmp_path, "mitigate", exchange_mitigation_serial=[1, 2], **WANTED)
    assert done.code == 2, done.text
    made = planned(done.text)
    reached = next(index for index, batch in enumerate(made) if "EX3" in batch)
    assert f"Halted before batch {reached + 2} of {len(made)}: EX3 unreachable" in done.text
    assert not set(touched(fleet)) & {name for batch in made[reached + 1 :] for name in batch}
    assert "Say where the rollout stopped" in done.text
    fleet._server.reboot(fleet.machine("EX3"))  # it is up again


def test_a_dead_canary_stops_everything_with_a_sentence(fleet: Any, tmp_path: pathlib.Path) -> None:
    fleet.write_inventory(tmp_path / "lab.yml")
    text = (tmp_path / "lab.yml").read_text("utf-8")
    (tmp_path / "lab.yml").write_text(text.replace(f"ansible_port: {fleet.port(fleet.machine('EX6'), 'wsman_https')}", "ansible_port: 9"), "utf-8")
    done = play(fleet, tmp_path, "mitigate", exchange_mitigation_canary="EX6", **WANTED)
    assert done.code == 2, done.text
    assert planned(done.text)[0] == ["EX6"]
    assert "Halted before batch 2 of 5: EX6 unreachable" in done.text
    assert touched(fleet) == []


@pytest.mark.parametrize("name", ["mitigate", "rollback", "retire", "prepare"])
def test_a_closed_window_does_nothing_and_says_so(fleet: Any, tmp_path: pathlib.Path, name: str) -> None:
    before = {machine.name: hashes(machine) for machine in fleet.machines}
    window = {"exchange_mitigation_maintenance_window": False, "exchange_mitigation_organization_enabled": True}
    done = play(fleet, tmp_path, name, **window, **WANTED)
    assert done.code == 0, done.text
    assert "Nothing is done: the maintenance window is closed." in done.text
    assert fleet.access_log.writes() == []
    assert calls(fleet, "Set-OrganizationConfig") == 0
    assert {machine.name: hashes(machine) for machine in fleet.machines} == before


def test_check_mode_shows_all_batches_and_what_the_window_would_do(fleet: Any, tmp_path: pathlib.Path) -> None:
    done = play(fleet, tmp_path, "mitigate", "--check", "--diff", exchange_mitigation_maintenance_window=False, exchange_mitigation_stop_after=1, **WANTED)
    assert done.code == 0, done.text
    assert fleet.access_log.writes() == []
    assert {counts["changed"] for host, counts in done.recap.items()} == {1}
    assert "a real run would leave it alone now" in done.text


def test_canary_then_approval_then_the_rest(fleet: Any, tmp_path: pathlib.Path) -> None:
    first = play(fleet, tmp_path, "mitigate", exchange_mitigation_approval="variable", exchange_mitigation_canary="EX3", **WANTED)
    assert first.code == 0, first.text
    assert touched(fleet) == ["EX3"]
    assert "Stopped after the first batch: approval is needed" in first.text
    fleet.access_log.clear()
    second = play(
        fleet, tmp_path, "mitigate", exchange_mitigation_approval="variable", exchange_mitigation_approved=True, exchange_mitigation_canary="EX3", **WANTED
    )
    assert second.code == 0, second.text
    assert sorted(touched(fleet)) == sorted(set(DAGS) - {"EX3"})
    assert second.recap["EX3"]["changed"] == 0


def test_nobody_at_the_terminal_is_no_approval(fleet: Any, tmp_path: pathlib.Path) -> None:
    done = play(fleet, tmp_path, "mitigate", exchange_mitigation_approval="pause", **WANTED)
    assert done.code == 0, done.text
    assert "nobody typed yes" in done.text
    assert touched(fleet) == ["EX1"]


def test_stop_after_and_limit_and_tags(fleet: Any, tmp_path: pathlib.Path) -> None:
    done = play(fleet, tmp_path, "mitigate", exchange_mitigation_stop_after=1, **WANTED)
    assert done.code == 0 and touched(fleet) == ["EX1"], done.text
    fleet.access_log.clear()
    done = play(fleet, tmp_path, "mitigate", "--limit", "EX3,EX6", **WANTED)
    assert done.code == 0 and sorted(touched(fleet)) == ["EX3", "EX6"], done.text
    assert sorted(done.recap) == ["EX3", "EX6"]
    fleet.access_log.clear()
    fetched = fleet.feed.fetches
    switches = {"exchange_mitigation_organization_enabled": True, "exchange_mitigation_blocked_add": ["PING1"]}
    done = play(fleet, tmp_path, "mitigate", "--limit", "EX2", "--tags", "configure", **switches, **WANTED)
    assert done.code == 0, done.text
    assert {ran.cmdlet for ran in fleet.access_log.calls if ran.write} == {"Set-ExchangeServer"} and fleet.feed.fetches == fetched
    fleet.access_log.clear()
    done = play(fleet, tmp_path, "mitigate", "--limit", "EX2", "--tags", "organization", **switches, **WANTED)
    assert {ran.cmdlet for ran in fleet.access_log.calls if ran.write} == {"Set-OrganizationConfig"} and fleet.feed.fetches == fetched
    fleet.access_log.clear()
    done = play(fleet, tmp_path, "mitigate", "--limit", "EX2", "--tags", "mitigate", **switches, exchange_mitigation_honour_blocked=False, **WANTED)
    assert done.code == 0 and fleet.feed.fetches == fetched + 1, done.text
    assert touched(fleet) == ["EX2"] and calls(fleet, "Set-OrganizationConfig") == 0


def test_hooks_run_around_each_change_and_a_failing_one_stops(fleet: Any, tmp_path: pathlib.Path) -> None:
    fleet.write_inventory(tmp_path / "lab.yml")
    (tmp_path / "before.yml").write_text("- name: Drain\n  ansible.builtin.debug:\n    msg: draining {{ inventory_hostname }}\n")
    (tmp_path / "after.yml").write_text(
        "- name: Watch\n  ansible.builtin.assert:\n    that: inventory_hostname != 'EX3'\n    fail_msg: mail flow of {{ inventory_hostname }} stands still\n"
    )
    hooks = {"exchange_mitigation_before_tasks": "{{ inventory_dir }}/before.yml", "exchange_mitigation_after_tasks": "{{ inventory_dir }}/after.yml"}
    done = play(fleet, tmp_path, "mitigate", exchange_mitigation_serial=1, **hooks, **WANTED)
    assert done.code == 2, done.text
    made = [name for batch in planned(done.text) for name in batch]
    reached = made[: made.index("EX3") + 1]
    assert touched(fleet) == reached
    assert [f"draining {name}" in done.text for name in made] == [name in reached for name in made]
    assert "mail flow of EX3 stands still" in done.text and "Halted before batch" in done.text


def test_the_listings_work_without_a_run(fleet: Any, tmp_path: pathlib.Path) -> None:
    for option in ("--list-tasks", "--list-tags", "--list-hosts", "--syntax-check"):
        for name in ("mitigate", "rollback", "retire", "prepare"):
            done = play(fleet, tmp_path, name, option)
            assert done.code == 0, done.text
    assert fleet.access_log.calls == []
