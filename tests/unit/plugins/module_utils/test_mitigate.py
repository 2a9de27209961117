# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module mitigation on a made-up server: options that contradict each other, a server that changes meanwhile, one that Exchange does not list."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput, Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._journal import History
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Answer, Decision, ErrorRecord, Statement
from ansible_collections.exchange.mitigation.plugins.modules import mitigation
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils import iis_samples as samples
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.made_up_host import GONE, ORGANIZATION, Host, Task, item

OUR_NAME = "exchange.mitigation M1 PowerShell - inbound"
HEALTH = {"from": "host", "url": None, "ca_path": None, "paths": ["/owa/healthcheck.htm", "/ecp/healthcheck.htm"], "timeout": 10, "required": True}


def task(host: Any, directory: pathlib.Path, **params: Any) -> Task:
    """Return a task of the module."""
    return Task(mitigation.SPEC, host, directory, **params)


def carried_out(decision: Decision) -> dict[str, Any]:
    """Make the change of a decision and return its result."""
    assert decision.effect is not None
    return decision.effect()


@pytest.mark.parametrize(
    ("params", "reason", "said"),
    [
        ({"mitigations": ["M1"], "undo_run_id": "last"}, "invalid_combination", "undo_run_id goes with state: absent"),
        ({"state": "absent", "mitigations": ["M1"], "undo_run_id": "last"}, "invalid_combination", "leave mitigations out"),
        ({"state": "absent"}, "mitigations_required", "needs mitigations or undo_run_id"),
        ({"unblock": True}, "invalid_combination", "unblock goes with state: retired"),
        ({"state": "absent", "mitigations": ["M1"], "unblock": True}, "invalid_combination", "unblock goes with state: retired"),
        ({"state": "absent", "mitigations": ["M1"], "relocate": True}, "invalid_combination", "relocate goes with state: applied"),
        ({"state": "retired", "relocate": True}, "invalid_combination", "relocate goes with state: applied"),
        ({"state": "absent", "undo_run_id": "../up"}, "invalid_run_id", "not usable as a folder name"),
    ],
)
def test_options_that_contradict_each_other(tmp_path: pathlib.Path, params: dict[str, Any], reason: str, said: str) -> None:
    """They are refused before any server is asked, and nothing is left in the journal."""
    with pytest.raises(InvalidInput) as caught:
        mitigation.run(task(None, tmp_path / "journal", **params))
    assert (caught.value.reason, said in caught.value.message) == (reason, True), caught.value.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "reason", "said"),
    [(b"<configuration>", "configuration_malformed", "line 1"), (None, "configuration_not_read", "applicationHost.config does not exist")],
)
def test_no_run_is_undone_where_the_configuration_cannot_be_read(tmp_path: pathlib.Path, damage: bytes | None, reason: str, said: str) -> None:
    """What else would be lost with it cannot be told then, so the files stay as they are and the journal keeps the run."""
    host = Host()
    carried_out(mitigation.run(task(host, tmp_path, mitigations=["M1", "M2"])))
    if damage is None:
        del host.files[samples.HOST_PATH]
    else:
        host.files[samples.HOST_PATH] = damage
    before = dict(host.files)
    with pytest.raises(Refused) as caught:
        mitigation.run(task(host, tmp_path, state="absent", undo_run_id="last"))
    assert (caught.value.reason, said in caught.value.message, "\n" in caught.value.message) == (reason, True, False), caught.value.message
    assert host.files == before
    assert len(History(str(tmp_path), "ex1").in_force()) == 2


def meddled(host: Host, meddle: Callable[[], None]) -> None:
    """Let somebody else act once, right after the new bytes were written beside the first file."""
    genuine = host.change
    acted = []

    def change(statement: Statement) -> Answer:
        answer = genuine(statement)
        if not acted:
            acted.append(True)
            meddle()
        return answer

    host.change = change  # type: ignore[method-assign]


def test_what_is_meant_to_be_out_of_service_is_judged_by_the_second_look(tmp_path: pathlib.Path) -> None:
    """While the task works somebody stops the pool of ECP and writes to web.config: planned anew, the outage of ECP is not this change's."""
    host = Host("15.2.721.2")
    own = b'path="/ecp" applicationPool="%s"'
    host.files[samples.HOST_PATH] = host.files[samples.HOST_PATH].replace(own % b"P", own % b"MSExchangeECPAppPool")
    host.pools = {"MSExchangeECPAppPool": ("Started", True), "MSExchangeOABAppPool": ("Started", True)}

    def served(statement: Statement) -> Answer:
        out = "/ecp/" in statement[0].parameters["Uri"] and host.pools["MSExchangeECPAppPool"][0] == "Stopped"
        error = ErrorRecord("The remote server returned an error: (503) Server Unavailable.", "WebCmdletWebResponseException,x", "", "", "")
        return Answer(statement, (), (error,)) if out else Answer(statement, (item(StatusCode=200),), ())

    def meddle() -> None:
        host.pools["MSExchangeECPAppPool"] = ("Stopped", False)
        host.files[samples.ROOT_FILE] = samples.ROOT_CONFIG.replace(b"</configuration>", b"<!-- theirs --></configuration>")

    host.answers["Invoke-WebRequest"] = served
    meddled(host, meddle)
    one = task(host, tmp_path, mitigations=["M1"], health={**HEALTH, "attack_probe": False})
    result = carried_out(mitigation.run(one))
    assert [line for line in one.lines if "reading and planning once more" in line]
    assert result["health"]["state"] == "healthy"
    assert {entry["path"]: entry["state"] for entry in result["health"]["paths"]} == {"/owa/healthcheck.htm": "healthy", "/ecp/healthcheck.htm": "expected"}
    assert b"<!-- theirs -->" in host.files[samples.ROOT_FILE] and OUR_NAME.encode() in host.files[samples.ROOT_FILE]
    assert History(str(tmp_path), "ex1").open_operations() == []


def test_what_others_wrote_meanwhile_may_be_a_reason_to_refuse(tmp_path: pathlib.Path) -> None:
    """They put a rule of our name with another behaviour there: it is theirs to explain, and their bytes stay."""
    host = Host()
    theirs = samples.in_root(f'<rule name="{OUR_NAME}"><match url="x" /><action type="None" /></rule>')
    meddled(host, lambda: host.files.__setitem__(samples.ROOT_FILE, theirs))
    decision = mitigation.run(task(host, tmp_path, mitigations=["M1"]))
    with pytest.raises(Refused) as caught:
        carried_out(decision)
    assert caught.value.reason == "conflicting" and samples.ROOT_FILE in caught.value.message
    assert [(entry["id"], entry["state"]) for entry in caught.value.details["mitigations"]] == [("M1", "conflicting")]
    assert host.files[samples.ROOT_FILE] == theirs
    assert set(host.files) == {samples.HOST_PATH, samples.ROOT_FILE, samples.OWA_FILE, samples.ECP_FILE}
    assert History(str(tmp_path), "ex1").open_operations() == []


def test_a_file_that_never_stands_still_ends_with_a_sentence(tmp_path: pathlib.Path) -> None:
    """Planned anew once and no more; nothing of ours is left on the server."""
    host = Host()
    genuine = host.change

    def change(statement: Statement) -> Answer:
        answer = genuine(statement)
        host.files[samples.ROOT_FILE] += b"\r\n"
        return answer

    host.change = change  # type: ignore[method-assign]
    decision = mitigation.run(task(host, tmp_path, mitigations=["M1"]))
    with pytest.raises(Exception, match="it changed again while it was planned anew, so nothing was written") as caught:
        carried_out(decision)
    assert getattr(caught.value, "reason", None) == "file_changed"
    assert host.files[samples.ROOT_FILE].rstrip() == samples.ROOT_CONFIG.rstrip()
    assert set(host.files) == {samples.HOST_PATH, samples.ROOT_FILE, samples.OWA_FILE, samples.ECP_FILE}


def test_a_server_that_the_organisation_does_not_list_is_mitigated_all_the_same(tmp_path: pathlib.Path) -> None:
    """There is nothing to block for Emergency Mitigation then; the task says that it does not know what Exchange keeps of the server."""
    host = Host()
    one = task(host, tmp_path, mitigations=["M1"], organization={**ORGANIZATION, "servers": []}, when_em_active="take_over")
    result = carried_out(mitigation.run(one))
    assert [(entry["id"], entry["state"], entry["blocked"]) for entry in result["mitigations"]] == [("M1", "applied", None)]
    assert (result["blocked_ids"], result["changed"]) == ([], True)
    assert "the organization does not list a server named EX1" in one.warnings[0]
    assert [text for text in one.warnings if text.startswith("M1: it is not blocked for EM")]
    assert result["journal"] is not None and b"block" not in pathlib.Path(result["journal"]).read_bytes()


def test_a_server_without_exchange_is_refused(tmp_path: pathlib.Path) -> None:
    host = Host()
    host.setup = None
    host.answer("Get-ItemProperty", errors=[GONE])
    with pytest.raises(Refused) as caught:
        mitigation.run(task(host, tmp_path, mitigations=["M1"]))
    assert caught.value.reason == "no_exchange" and "EX1" in caught.value.message and host.changes == []
