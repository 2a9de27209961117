# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module mitigation against the lab: check, run, run again, undo to the byte; refusals; EM beside us."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import CmdletError, InvalidInput, JournalError, MitigationError, Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._journal import History, Journal
from ansible_collections.exchange.mitigation.plugins.modules import mitigation, server_info
from lab_task import folder, hashes, run
from session_live import NAMES, WAYS

ATTACK = "/autodiscover/autodiscover.json?a@foo.var/owa/?&Email=autodiscover/autodiscover.json?a@foo.var&Protocol=XYZ&FooProtocol=Powershell"
ROOT = "inetpub/wwwroot/web.config"
OWA = "Program Files/Microsoft/Exchange Server/V15/FrontEnd/HttpProxy/owa/web.config"
CHILDREN = ("/owa/Calendar", "/owa/Integrated", "/owa/oma")


@pytest.fixture
def journal(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "journal")


def states(result: dict[str, Any]) -> dict[str, str]:
    return {entry["id"]: entry["state"] for entry in result["mitigations"]}


def ask(machine: Any, url: str) -> Any:
    return machine.iis.request("GET", url, {"Host": machine.fqdn})


def status(machine: Any, url: str) -> Any:
    answer = ask(machine, url)
    return getattr(answer, "status", "aborted")


def policy(machine: Any, url: str) -> str | None:
    headers = dict(ask(machine, url).headers)
    return headers.get("Content-Security-Policy")


def options(journal: str, **more: Any) -> dict[str, Any]:
    return {"mitigations": ["M1", "M2"], "when_em_active": "take_over", "journal_dir": journal, **more}


@pytest.mark.parametrize(("kind", "secure"), WAYS, ids=NAMES)
def test_check_run_again_undo_to_the_byte(lab_fleet: Any, journal: str, kind: str, secure: bool) -> None:
    machine = lab_fleet.machine("EX1")
    way = {"kind": kind, "secure": secure}
    before = hashes(machine)

    checked = run(mitigation, lab_fleet, machine, options(journal), check=True, **way)
    assert checked["changed"] is True
    assert hashes(machine) == before
    assert lab_fleet.access_log.writes() == []
    assert not pathlib.Path(journal).exists()

    done = run(mitigation, lab_fleet, machine, options(journal), **way)
    assert done["changed"] is True
    assert done["diff"] == checked["diff"]
    assert states(done) == states(checked) == {"M1": "applied", "M2": "applied"}
    changed = {path for path, digest in hashes(machine).items() if before.get(path) != digest}
    assert changed == {ROOT, OWA}
    assert status(machine, ATTACK) == "aborted"
    assert "script-src-attr 'none'" in (policy(machine, "/owa/") or "")
    assert [status(machine, path) for path in ("/owa/", *CHILDREN)] == [200] * 4
    assert [policy(machine, path) for path in CHILDREN] == [None] * 3

    seen = run(server_info, lab_fleet, machine, {}, **way)["server"]
    assert {entry["id"]: (entry["state"], entry["maker"], entry["breaks"]) for entry in seen["mitigations"]} == {
        "M1": ("applied", "us", []),
        "M2": ("applied", "us", []),
        "CVE-2021-26855": ("absent", None, []),
    }

    lab_fleet.access_log.clear()
    again = run(mitigation, lab_fleet, machine, options(journal), **way)
    assert again["changed"] is False
    assert lab_fleet.access_log.writes() == []

    undo = {"state": "absent", "mitigations": ["M1", "M2"], "journal_dir": journal}
    planned = run(mitigation, lab_fleet, machine, undo, check=True, **way)
    undone = run(mitigation, lab_fleet, machine, undo, **way)
    assert planned["changed"] is undone["changed"] is True
    assert planned["diff"] == undone["diff"]
    assert hashes(machine) == before
    assert status(machine, ATTACK) == 200
    assert run(mitigation, lab_fleet, machine, undo, **way)["changed"] is False


def test_undo_without_a_journal_is_exact_too(lab_fleet: Any, journal: str, tmp_path: pathlib.Path) -> None:
    machine = lab_fleet.machine("EX1")
    before = hashes(machine)
    run(mitigation, lab_fleet, machine, options(journal))
    run(mitigation, lab_fleet, machine, {"state": "absent", "mitigations": ["M1", "M2"], "journal_dir": str(tmp_path / "another")})
    assert hashes(machine) == before


def test_undo_of_a_run_leaves_what_others_changed_since(lab_fleet: Any, journal: str) -> None:
    machine = lab_fleet.machine("EX1")
    before = (folder(machine) / ROOT).read_bytes()
    run(mitigation, lab_fleet, machine, options(journal, run_id="r1"))
    path = folder(machine) / ROOT
    path.write_bytes(path.read_bytes().replace(b"</configuration>", b"  <!-- kept -->\r\n</configuration>"))
    undone = run(mitigation, lab_fleet, machine, {"state": "absent", "undo_run_id": "last", "journal_dir": journal})
    assert undone["changed"] is True
    assert path.read_bytes() == before.replace(b"</configuration>", b"  <!-- kept -->\r\n</configuration>")
    assert any("was changed since" in warning for warning in undone["warnings"])


def test_undo_of_an_unknown_run_says_so_and_changes_nothing(lab_fleet: Any, journal: str) -> None:
    machine = lab_fleet.machine("EX1")
    result = run(mitigation, lab_fleet, machine, {"state": "absent", "undo_run_id": "never", "journal_dir": journal})
    assert result["changed"] is False
    assert "knows nothing" in result["warnings"][0]


def test_a_server_without_url_rewrite_is_refused_and_not_written_to(lab_fleet: Any, journal: str) -> None:
    machine = lab_fleet.machine("EX3")
    before = hashes(machine)
    for check in (True, False):
        with pytest.raises(Refused) as caught:
            run(mitigation, lab_fleet, machine, options(journal), check=check)
        assert caught.value.reason == "url_rewrite_missing"
        assert "url_rewrite" in caught.value.message
    assert hashes(machine) == before
    assert lab_fleet.access_log.writes() == []
    assert not pathlib.Path(journal).exists()


def test_what_the_build_does_not_need_is_left_alone(lab_fleet: Any, journal: str) -> None:
    machine = lab_fleet.machine("EX2")
    result = run(mitigation, lab_fleet, machine, options(journal))
    assert states(result) == {"M1": "absent", "M2": "applied"}
    assert [entry["action"] for entry in result["mitigations"]] == ["none", "apply"]


def test_a_blocked_id_is_honoured_unless_overruled(lab_fleet: Any, journal: str) -> None:
    machine = lab_fleet.machine("EX1")
    lab_fleet.organization.change("EX1", {"MitigationsBlocked": ["M1.1"]})
    result = run(mitigation, lab_fleet, machine, options(journal))
    assert states(result) == {"M1": "absent", "M2": "applied"}
    overruled = run(mitigation, lab_fleet, machine, options(journal, honour_blocked=False))
    assert states(overruled) == {"M1": "applied", "M2": "applied"}


def test_a_block_of_our_own_does_not_hold_us_back_after_an_update_replaced_the_file(lab_fleet: Any, journal: str) -> None:
    machine = lab_fleet.machine("EX1")
    stock = (folder(machine) / OWA).read_bytes()
    first = run(mitigation, lab_fleet, machine, options(journal))
    assert first["blocked_ids"] == ["M1", "M2"]
    (folder(machine) / OWA).write_bytes(stock)
    again = run(mitigation, lab_fleet, machine, options(journal))
    assert states(again) == {"M1": "applied", "M2": "applied"}
    assert again["changed"] is True


def test_an_active_em_is_left_alone_by_default(lab_fleet: Any, journal: str) -> None:
    machine = lab_fleet.machine("EX1")
    before = hashes(machine)
    result = run(mitigation, lab_fleet, machine, options(journal, when_em_active="leave"))
    assert result["changed"] is False
    assert [entry["action"] for entry in result["mitigations"]] == ["none", "none"]
    assert "EM is active" in result["mitigations"][0]["explanation"]
    assert hashes(machine) == before


@pytest.mark.parametrize("variant", ["skips", "adds", "replaces"])
@pytest.mark.parametrize("blocked", [True, False], ids=["blocked", "not-blocked"])
def test_owa_never_answers_500_19_beside_an_active_em(lab_fleet: Any, journal: str, variant: str, blocked: bool) -> None:
    """EM before us, we, EM after us three times: taken over with a block, and with EM not kept away at all."""
    machine = lab_fleet.machine("EX1")
    if not blocked:
        lab_fleet.organization.mitigations_enabled = False  # so that we write beside it without blocking
    run(mitigation, lab_fleet, machine, options(journal))
    lab_fleet.organization.mitigations_enabled = True
    answers = []
    for dummy in range(3):
        lab_fleet.em_cycle(variant)
        answers.append(status(machine, "/owa/"))
        assert "script-src-attr 'none'" in (policy(machine, "/owa/") or "")
    assert answers == [200, 200, 200]


@pytest.mark.parametrize("variant", ["skips", "adds", "replaces"])
def test_taking_m2_over_from_em_mends_the_calendars(lab_fleet: Any, journal: str, variant: str) -> None:
    machine = lab_fleet.machine("EX1")
    lab_fleet.em_cycle(variant)
    assert [status(machine, path) for path in ("/owa/", "/owa/Calendar")] == [200, 500]
    seen = {entry["id"]: entry for entry in run(server_info, lab_fleet, machine, {})["server"]["mitigations"]}
    assert (seen["M2"]["state"], seen["M2"]["maker"]) == ("applied", "em")
    assert seen["M2"]["breaks"] == list(CHILDREN)
    result = run(mitigation, lab_fleet, machine, options(journal))
    assert states(result) == {"M1": "applied", "M2": "applied"}
    lab_fleet.em_cycle(variant)
    assert [status(machine, path) for path in ("/owa/", "/owa/Calendar")] == [200, 200]
    assert "script-src-attr 'none'" in (policy(machine, "/owa/") or "")
    assert run(mitigation, lab_fleet, machine, options(journal))["changed"] is False


def test_the_name_of_a_mitigation_on_another_rule_conflicts(lab_fleet: Any, journal: str) -> None:
    machine = lab_fleet.machine("EX1")
    path = folder(machine) / ROOT
    rule = b'<rule name="EEMS M1.1 PowerShell - inbound"><match url="^never$" /><action type="None" /></rule>'
    section = b"<system.webServer><rewrite><rules>" + rule + b"</rules></rewrite></system.webServer>"
    path.write_bytes(path.read_bytes().replace(b"</configuration>", section + b"</configuration>"))
    before = hashes(machine)
    with pytest.raises(Refused) as caught:
        run(mitigation, lab_fleet, machine, options(journal, mitigations=["M1"]))
    assert caught.value.reason == "conflicting"
    assert hashes(machine) == before
    # The other one is done all the same, then the task fails for this one.
    half = run(mitigation, lab_fleet, machine, options(journal))
    assert (half["failure"].reason, states(half)) == ("conflicting", {"M1": "conflicting", "M2": "applied"})
    assert (folder(machine) / ROOT).read_bytes() == path.read_bytes()
    skipped = run(mitigation, lab_fleet, machine, options(journal, on_conflict="skip"))
    assert states(skipped) == {"M1": "conflicting", "M2": "applied"}
    replaced = run(mitigation, lab_fleet, machine, options(journal, on_conflict="replace"))
    assert states(replaced) == {"M1": "applied", "M2": "applied"}
    assert status(machine, ATTACK) == "aborted"


def test_a_file_that_cannot_be_understood_is_unknown_with_its_place(lab_fleet: Any, journal: str) -> None:
    machine = lab_fleet.machine("EX1")
    path = folder(machine) / OWA
    path.write_bytes(path.read_bytes().replace(b"</configuration>", b"</configuratio>"))
    seen = {entry["id"]: entry for entry in run(server_info, lab_fleet, machine, {})["server"]["mitigations"]}
    assert seen["M2"]["state"] == "unknown"
    assert "owa\\web.config" in seen["M2"]["reason"]
    assert isinstance(seen["M2"]["evidence"][0]["line"], int)
    before = hashes(machine)
    with pytest.raises(Refused):
        run(mitigation, lab_fleet, machine, options(journal))
    assert hashes(machine) == before


def test_unknown_ids_fail_after_the_known_ones_are_done(lab_fleet: Any, journal: str) -> None:
    machine = lab_fleet.machine("EX2")
    result = run(mitigation, lab_fleet, machine, options(journal, mitigations=["M2", "M10"]))
    assert isinstance(result["failure"], MitigationError)
    assert result["failure"].reason == "unsupported_mitigation"
    assert states(result) == {"M2": "applied", "M10": "unsupported"}
    warned = run(mitigation, lab_fleet, machine, options(journal, mitigations=["M2", "M10"], on_unsupported="warn"))
    assert warned["failure"] is None
    assert any("M10" in warning for warning in warned["warnings"])


def test_requests_that_cannot_be_meant(lab_fleet: Any, journal: str) -> None:
    machine = lab_fleet.machine("EX2")
    for wrong in (
        {"state": "absent"},
        {"state": "absent", "mitigations": ["all"]},
        {"state": "applied", "undo_run_id": "last"},
        {"state": "absent", "undo_run_id": "last", "mitigations": ["M1"]},
        {"mitigations": ["M1"], "run_id": "../x"},
        {"state": "applied"},
    ):
        with pytest.raises(InvalidInput):
            run(mitigation, lab_fleet, machine, {"journal_dir": journal, **wrong})
    assert lab_fleet.access_log.writes() == []


def test_a_second_controller_process_on_the_same_server_is_refused(lab_fleet: Any, journal: str) -> None:
    machine = lab_fleet.machine("EX2")
    before = hashes(machine)
    with Journal(journal, "EX2", "other").locked(), pytest.raises(JournalError) as caught:
        run(mitigation, lab_fleet, machine, options(journal))
    assert caught.value.reason == "host_locked"
    assert hashes(machine) == before


def test_the_security_descriptor_of_the_file_is_kept(lab_fleet: Any, journal: str) -> None:
    machine = lab_fleet.machine("EX1")
    path = "C:\\inetpub\\wwwroot\\web.config"
    sddl = machine.files.sddl(path)
    run(mitigation, lab_fleet, machine, options(journal))
    assert machine.files.sddl(path) == sddl


def test_constrained_language_takes_the_other_way_and_ends_the_same(lab_fleet: Any, journal: str) -> None:
    machine = lab_fleet.machine("EX1")
    before = hashes(machine)
    machine.language_mode = "ConstrainedLanguage"
    result = run(mitigation, lab_fleet, machine, options(journal))
    assert states(result) == {"M1": "applied", "M2": "applied"}
    assert {path for path, digest in hashes(machine).items() if before.get(path) != digest} == {ROOT, OWA}
    run(mitigation, lab_fleet, machine, {"state": "absent", "undo_run_id": "last", "journal_dir": journal})
    assert hashes(machine) == before


def test_a_locked_file_fails_and_stays(lab_fleet: Any, journal: str) -> None:
    machine = lab_fleet.machine("EX1")
    before = hashes(machine)
    fault = lab_fleet.faults.add("locked-file", "EX1", path="C:\\inetpub\\wwwroot\\web.config")
    with pytest.raises((CmdletError, MitigationError)):
        run(mitigation, lab_fleet, machine, options(journal))
    lab_fleet.faults.remove(fault)
    assert hashes(machine) == before
    assert History(journal, "EX1").open_operations() == []


def test_a_full_disk_fails_and_leaves_nothing(lab_fleet: Any, journal: str) -> None:
    machine = lab_fleet.machine("EX1")
    before = hashes(machine)
    fault = lab_fleet.faults.add("disk-full", "EX1")
    with pytest.raises(MitigationError):
        run(mitigation, lab_fleet, machine, options(journal))
    lab_fleet.faults.remove(fault)
    assert hashes(machine) == before


def test_a_root_without_a_web_config_gets_one_and_loses_it_again(lab_fleet: Any, journal: str) -> None:
    machine = lab_fleet.machine("EX1")
    (folder(machine) / ROOT).unlink()
    before = hashes(machine)
    result = run(mitigation, lab_fleet, machine, options(journal))
    assert states(result) == {"M1": "applied", "M2": "applied"}
    assert status(machine, ATTACK) == "aborted"
    run(mitigation, lab_fleet, machine, {"state": "absent", "undo_run_id": "last", "journal_dir": journal})
    assert hashes(machine) == before
