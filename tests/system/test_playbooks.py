# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped playbooks against the lab: what they cost, what they never do, and how they end."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from lab_task import hashes

from playbooks import calls, play, requests, sessions

WANTED = {"exchange_mitigation_organization_enabled": True, "exchange_mitigation_when_em_active": "take_over"}


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    from lab.fleet import Fleet

    with Fleet(3, mitigations_enabled=False) as fleet:
        yield fleet


@pytest.fixture
def fleet(running: Any) -> Iterator[Any]:
    from lab_task import contents, put_back

    running.faults.clear()
    running.access_log.clear()
    saved = {machine.name: contents(machine) for machine in running.machines}
    yield running
    running.faults.clear()
    running.organization.mitigations_enabled = False
    for machine in running.machines:
        put_back(machine, saved[machine.name])
        running.organization.change(machine.name, {"MitigationsEnabled": True, "MitigationsBlocked": None})
    running.organization.directory.settle()
    assert running.scripts_received == 0, "a script was sent"
    assert running.refusals == [], "the lab was asked for something that it does not know"
    assert running._server.open_shells() == [], "a session was left open"


def report(folder: pathlib.Path) -> dict[str, Any]:
    return dict(json.loads((folder / "report" / "report.json").read_text("utf-8")))


def drift(fleet: Any, folder: pathlib.Path, *options: str, **more: Any) -> Any:
    return play(fleet, folder, "drift", *options, exchange_mitigation_report_dir=str(folder / "report"), **{**WANTED, **more})


def test_drift_costs_one_fetch_one_exchange_session_and_few_requests(fleet: Any, tmp_path: pathlib.Path) -> None:
    begun = fleet.feed.fetches
    done = drift(fleet, tmp_path)
    assert done.code == 0, done.text
    assert fleet.feed.fetches == begun + 1
    assert sessions(fleet) == 1
    assert fleet.access_log.writes() == []
    assert max(requests(fleet, machine.name) for machine in fleet.machines) <= 12
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"report.html", "report.csv", "report.json", "metrics.prom"}
    assert report(tmp_path)["drift"]["count"] > 0


def test_drift_fails_only_when_asked_to(fleet: Any, tmp_path: pathlib.Path) -> None:
    assert drift(fleet, tmp_path, exchange_mitigation_fail_on_drift=True).code == 2
    assert fleet.access_log.writes() == []


def test_drift_shows_a_server_that_is_down_as_unknown(fleet: Any, tmp_path: pathlib.Path) -> None:
    fleet.write_inventory(tmp_path / "lab.yml")
    text = (tmp_path / "lab.yml").read_text("utf-8")
    (tmp_path / "lab.yml").write_text(text.replace(f"ansible_port: {fleet.port(fleet.machine('EX2'), 'wsman_https')}", "ansible_port: 9"), "utf-8")
    done = drift(fleet, tmp_path)
    assert done.code == 0, done.text
    rows = json.dumps(report(tmp_path))
    assert '"EX2"' in rows
    assert "unreachable" in rows
    assert drift(fleet, tmp_path, exchange_mitigation_fail_on_unreachable=True).code != 0


@pytest.mark.parametrize("name", ["drift", "mitigate", "rollback"])
def test_check_mode_writes_nothing(fleet: Any, tmp_path: pathlib.Path, name: str) -> None:
    before = {machine.name: hashes(machine) for machine in fleet.machines}
    if name == "rollback":
        play(fleet, tmp_path, "mitigate", **WANTED)
        before = {machine.name: hashes(machine) for machine in fleet.machines}
        fleet.access_log.clear()
    play(fleet, tmp_path, name, "--check", "--diff", **WANTED)
    assert fleet.access_log.writes() == []
    assert {machine.name: hashes(machine) for machine in fleet.machines} == before


@pytest.mark.parametrize(
    ("options", "more"),
    [((), {}), (("--limit", "EX2"), {}), ((), {"exchange_mitigation_serial": [1, 2]})],
    ids=["all", "limit-one", "serial-1-2"],
)
def test_mitigate_fetches_once_and_sets_the_organization_once(fleet: Any, tmp_path: pathlib.Path, options: tuple[str, ...], more: dict[str, Any]) -> None:
    begun = fleet.feed.fetches
    done = play(fleet, tmp_path, "mitigate", *options, **WANTED, **more)
    assert fleet.feed.fetches == begun + 1
    assert calls(fleet, "Set-OrganizationConfig") == 1
    assert done.recap["EX2"]["failed"] == 0, done.text
    fleet.access_log.clear()
    again = play(fleet, tmp_path, "mitigate", *options, **WANTED, **more)
    assert fleet.feed.fetches == begun + 2
    assert calls(fleet, "Set-OrganizationConfig") == 0
    assert fleet.access_log.writes() == []
    assert {host: counts["changed"] for host, counts in again.recap.items()} == dict.fromkeys(again.recap, 0)


def test_mitigate_ends_with_2_for_the_server_that_refuses_and_does_the_others(fleet: Any, tmp_path: pathlib.Path) -> None:
    before = hashes(fleet.machine("EX3"))
    done = play(fleet, tmp_path, "mitigate", **WANTED)
    assert done.code == 2
    assert {host: counts["failed"] for host, counts in done.recap.items()} == {"EX1": 0, "EX2": 0, "EX3": 1}
    assert "url_rewrite_missing" in done.text
    assert hashes(fleet.machine("EX3")) == before


def test_rollback_is_exact_and_blocks_the_ids(fleet: Any, tmp_path: pathlib.Path) -> None:
    before = {machine.name: hashes(machine) for machine in fleet.machines}
    play(fleet, tmp_path, "mitigate", "--limit", "EX1,EX2", **WANTED)
    assert {machine.name: hashes(machine) for machine in fleet.machines} != before
    done = play(fleet, tmp_path, "rollback", "--limit", "EX1,EX2")
    assert done.code == 0, done.text
    assert {machine.name: hashes(machine) for machine in fleet.machines} == before
    assert "M2" in (fleet.organization.settings("EX2")["MitigationsBlocked"] or [])
    assert play(fleet, tmp_path, "rollback", "--limit", "EX1,EX2").recap["EX1"]["changed"] == 0


def test_rollback_works_without_a_journal(fleet: Any, tmp_path: pathlib.Path) -> None:
    before = {machine.name: hashes(machine) for machine in fleet.machines}
    play(fleet, tmp_path, "mitigate", "--limit", "EX1,EX2", **WANTED)
    done = play(
        fleet,
        tmp_path,
        "rollback",
        "--limit",
        "EX1,EX2",
        exchange_mitigation_journal_dir=str(tmp_path / "none"),
        exchange_mitigation_rollback_ids=["M1", "M2"],
        exchange_mitigation_block=False,
    )
    assert done.code == 0, done.text
    assert {machine.name: hashes(machine) for machine in fleet.machines} == before


def test_no_secret_at_any_verbosity_nor_in_any_file(fleet: Any, tmp_path: pathlib.Path) -> None:
    fleet.write_inventory(tmp_path / "lab.yml")
    done = play(fleet, tmp_path, "mitigate", "-vvvv", "--diff", **WANTED)
    drift(fleet, tmp_path, "-vvvv")
    assert fleet.password not in done.text
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "lab.yml"]
    written += [path for path in (fleet.state / "controller").rglob("*") if path.is_file()]
    assert any(path.suffix == ".jsonl" for path in written)
    assert [path for path in written if fleet.password.encode() in path.read_bytes()] == []


def test_four_connections_one_result(tmp_path: pathlib.Path) -> None:
    """winrm and psrp, each with NTLM encryption over HTTP and with Basic over TLS: servers of one build end the same."""
    import dataclasses

    from lab import builds
    from lab.fleet import Fleet

    first = builds.default_plan(1)[0]
    plans = [dataclasses.replace(first, name=f"EX{number}") for number in range(1, 5)]
    with Fleet(plans) as fleet:
        ways = {
            host: (values["ansible_connection"], values.get("ansible_winrm_transport") or values.get("ansible_psrp_auth"))
            for host, values in fleet.inventory()["all"]["children"]["exchange_servers"]["hosts"].items()
        }
        assert sorted(ways.values()) == [("psrp", "basic"), ("psrp", "ntlm"), ("winrm", "basic"), ("winrm", "ntlm")]
        done = play(fleet, tmp_path, "mitigate", **WANTED)
        assert done.code == 0, done.text
        assert {counts["changed"] for host, counts in done.recap.items() if host.startswith("EX")} == {1}, done.recap
        found = [{path: digest for path, digest in hashes(machine).items() if path.endswith("web.config")} for machine in fleet.machines]
        roots = [{digest for path, digest in files.items() if path.endswith("wwwroot/web.config")} for files in found]
        assert roots == [roots[0]] * 4
        drift(fleet, tmp_path)
        servers = {server["host"]: server for server in report(tmp_path)["servers"]}
        verdicts = [[(row["id"], row["state"], row["maker"]) for row in servers[machine.name]["mitigations"]] for machine in fleet.machines]
        assert [row for row in verdicts[0] if row[1] == "applied"] == [("M1", "applied", "us"), ("M2", "applied", "us")]
        assert verdicts == [verdicts[0]] * 4
        assert play(fleet, tmp_path, "rollback").code == 0


def test_retire_takes_out_what_the_build_does_not_need_and_nothing_else(fleet: Any, tmp_path: pathlib.Path) -> None:
    """EX1 gets its update; EX2 still needs M2."""
    setup = "C:\\Program Files\\Microsoft\\Exchange Server\\V15\\Bin\\ExSetup.exe"
    before = {machine.name: hashes(machine) for machine in fleet.machines}
    done = play(fleet, tmp_path, "mitigate", "--limit", "EX1,EX2", **WANTED)
    assert done.code == 0, done.text
    machine = fleet.machine("EX1")
    version = machine.version_of(setup)
    assert play(fleet, tmp_path, "retire", "--limit", "EX1,EX2").recap["EX1"]["changed"] == 0
    try:
        machine.set_version(setup, **{**version, "FileVersion": "15.01.2507.071", "ProductVersion": "15.01.2507.071"})
        mitigated = {server.name: hashes(server) for server in fleet.machines}
        fleet.access_log.clear()
        planned = play(fleet, tmp_path, "retire", "--limit", "EX1,EX2", "--check", "--diff")
        assert fleet.access_log.writes() == []
        assert {host: planned.recap[host]["changed"] for host in ("EX1", "EX2")} == {"EX1": 1, "EX2": 0}
        retired = play(fleet, tmp_path, "retire", "--limit", "EX1,EX2", exchange_mitigation_unblock=True)
        assert retired.code == 0, retired.text
        assert {host: retired.recap[host]["changed"] for host in ("EX1", "EX2")} == {"EX1": 1, "EX2": 0}
        assert hashes(machine) == before["EX1"]
        assert hashes(fleet.machine("EX2")) == mitigated["EX2"]
        assert not fleet.organization.settings("EX1").get("MitigationsBlocked")
        assert play(fleet, tmp_path, "retire", "--limit", "EX1,EX2").recap["EX1"]["changed"] == 0
    finally:
        machine.set_version(setup, **version)


def test_what_is_retired_by_default_is_what_the_collection_knows() -> None:
    import yaml
    from ansible_collections.exchange.mitigation.plugins.module_utils import _catalogue

    role = pathlib.Path(__file__).resolve().parents[2] / "roles" / "mitigate"
    wanted = [mitigation.id for mitigation in _catalogue.all()]
    assert yaml.safe_load((role / "defaults" / "main.yml").read_text("utf-8"))["exchange_mitigation_retire_ids"] == wanted
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text("utf-8"))["argument_specs"]
    assert specs["retire"]["options"]["exchange_mitigation_retire_ids"]["default"] == wanted


def test_a_task_timeout_in_the_middle_leaves_before_or_after_and_the_next_run_ends_it(fleet: Any, tmp_path: pathlib.Path) -> None:
    """Ansible's own timeout, which arrives as a BaseException wherever the worker just is."""
    book = tmp_path / "timeout.yml"
    book.write_text(
        "- hosts: EX1\n  gather_facts: false\n  tasks:\n    - exchange.mitigation.mitigation:\n        mitigations: [M1, M2]\n"
        "        when_em_active: take_over\n      timeout: '{{ seconds }}'\n"
    )
    machine = fleet.machine("EX1")
    before = hashes(machine)
    counter = fleet.faults.add("slow", "EX1", endpoint="host", seconds=0)
    assert play(fleet, tmp_path, str(book), seconds=120).code == 0
    after, total = hashes(machine), counter.seen
    assert play(fleet, tmp_path, "rollback", "--limit", "EX1", exchange_mitigation_block=False).code == 0
    fleet.faults.clear()
    fleet.faults.add("slow", "EX1", at=total * 2 // 3, endpoint="host", seconds=60)
    stopped = play(fleet, tmp_path, str(book), seconds=25)
    fleet.faults.clear()
    assert stopped.code == 2
    # ansible-core 2.16 to 2.18 have another sentence than those after.
    assert re.search("timed out|timeout|expected time frame", stopped.text.lower()), stopped.text
    now = hashes(machine)
    assert all(now.get(path) in (before.get(path), after.get(path)) for path in {*before, *after})
    assert fleet._server.open_shells() == [] or not fleet._server.reboot(machine)
    again = play(fleet, tmp_path, str(book), seconds=120)
    assert again.code == 0, again.text
    assert hashes(machine) == after
