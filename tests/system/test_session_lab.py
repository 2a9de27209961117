# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions against the lab: both connection plugins, both ways to log on, the batch rules of Windows, faults, budgets."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import PSObject, plain
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import CmdletError, CmdletNotAllowed, ConnectionFailure, Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._exchange import read_organization
from ansible_collections.exchange.mitigation.plugins.module_utils._model import call
from ansible_collections.exchange.mitigation.plugins.plugin_utils import _session
from ansible_collections.exchange.mitigation.plugins.plugin_utils._endpoints import host_session
from session_live import NAMES, WAYS, connection, exchange, host

from lab.fleet import Fleet

FOLDER = "C:\\inetpub\\wwwroot"
ALL_BYTES = bytes(range(256)) * 3


@pytest.fixture(scope="module")
def running() -> Iterator[Fleet]:
    with Fleet(1) as fleet:
        yield fleet


@pytest.fixture
def fleet(running: Fleet) -> Iterator[Fleet]:
    running.faults.clear()
    running.access_log.clear()
    yield running
    running.faults.clear()
    assert running.scripts_received == 0, "a script was sent"
    assert running.refusals == [], "the lab was asked for something that it does not know"
    assert running._server is not None
    assert running._server.open_shells() == [], "a session was left open"
    assert running._server.running_pipelines() == 0


@pytest.fixture
def machine(fleet: Fleet) -> Any:
    return fleet.machines[0]


def content(path: str) -> tuple[Any, ...]:
    return (call("Get-Content", LiteralPath=path, Encoding="Byte", Raw=True),)


def write(path: str, data: bytes) -> tuple[Any, ...]:
    return (call("Set-Content", LiteralPath=path, Encoding="Byte", Value=data),)


@pytest.mark.parametrize(("kind", "secure"), WAYS, ids=NAMES)
def test_reads_and_changes(fleet: Fleet, machine: Any, kind: str, secure: bool) -> None:
    path, empty = f"{FOLDER}\\a.{kind}.{secure}.config", f"{FOLDER}\\empty.{kind}.{secure}.config"
    machine.files.write(empty, b"")
    session = host(fleet, machine, kind, secure)
    answer = session.change(write(path, ALL_BYTES))
    assert answer.errors == ()
    assert machine.files.read(path) == ALL_BYTES
    answers = session.read([content(path), content(empty), content(FOLDER + "\\none.config"), (call("Test-Path", LiteralPath=path),)])
    assert plain(answers[0].objects[0]) == ALL_BYTES
    assert isinstance(answers[0].objects[0], PSObject)
    assert answers[0].objects[0].get("PSChildName") == path.rpartition("\\")[2]
    assert (answers[1].objects, answers[1].errors) == ((), ())
    assert answers[2].objects == ()
    assert [(error.fqid.partition(",")[0], error.category) for error in answers[2].errors] == [("PathNotFound", "ObjectNotFound")]
    assert answers[3].objects == (True,)
    session.close()
    assert [record["action"] for record in fleet.access_log.writes()] == ["Command"]


@pytest.mark.parametrize(("kind", "secure"), WAYS, ids=NAMES)
def test_open_two_pipelines_and_close_within_the_budget(fleet: Fleet, machine: Any, kind: str, secure: bool) -> None:
    session = host(fleet, machine, kind, secure)
    for dummy in range(2):
        session.read([(call("Test-Path", LiteralPath=FOLDER),), (call("Get-Item", LiteralPath=FOLDER, Force=True),)])
    session.close()
    actions = [record["action"] for record in fleet.access_log.records]
    assert len(actions) <= 12, actions
    assert actions.count("Create") == 1
    assert actions.count("Delete") == 1
    assert actions.count("Signal") == 0
    assert [record["status"] for record in fleet.access_log.records].count(401) == (0 if secure else 2)


def test_finished_pipelines_are_terminated_before_many_share_a_shell(fleet: Fleet, machine: Any) -> None:
    session = host(fleet, machine, "psrp")
    for dummy in range(6):
        session.read([(call("Test-Path", LiteralPath=FOLDER),)])
    session.close()
    assert [record["action"] for record in fleet.access_log.records].count("Signal") == 3


def test_several_transports_keep_the_plugins_own_search(fleet: Fleet, machine: Any) -> None:
    session = host(fleet, machine, transport=["basic", "ntlm"])
    assert session.read([(call("Test-Path", LiteralPath=FOLDER),)])[0].objects == (True,)
    session.close()


def test_the_plugin_is_left_as_if_never_connected(fleet: Fleet, machine: Any) -> None:
    for kind in ("winrm", "psrp"):
        plugin = connection(fleet, machine, kind, False)
        for dummy in range(2):
            session = host_session(plugin, {})
            session.read([(call("Test-Path", LiteralPath=FOLDER),)])
            session.close()
            assert not plugin.connected
            assert getattr(plugin, "shell_id", None) is None
        plugin.close()
    # Ansible's own use of the plugin afterwards would open what it needs: nothing of ours is in the way.
    assert fleet.access_log.select(action="Create", status=200)


def test_a_terminating_error_amid_a_batch_costs_only_its_own_statement(fleet: Fleet, machine: Any) -> None:
    path = FOLDER + "\\amid.config"
    machine.files.write(path, b"x")
    bad = (call("Get-Content", LiteralPath="HKLM:\\SOFTWARE", Encoding="Byte", Raw=True),)
    for position in range(4):
        statements = [content(path), (call("Test-Path", LiteralPath=path),), (call("Get-Item", LiteralPath=path),)]
        statements.insert(position, bad)
        session = host(fleet, machine, "psrp", True)
        answers = session.read(statements)
        session.close()
        assert [answer.statement for answer in answers] == statements
        for place, answer in enumerate(answers):
            if place == position:
                assert answer.errors[0].fqid.startswith("NamedParameterNotFound")
                assert answer.objects == ()
            else:
                assert (len(answer.objects), answer.errors) == (1, ())


def test_an_error_record_of_a_change_is_raised_typed(fleet: Fleet, machine: Any) -> None:
    session = host(fleet, machine, "psrp")
    with pytest.raises(CmdletError) as caught:
        session.change(write("C:\\no\\such\\folder\\a.config", b"x"))
    assert caught.value.cmdlet == "Set-Content"
    assert caught.value.reason == "cmdlet_failed"
    assert caught.value.fqid.startswith("GetContentWriterDirectoryNotFoundError")
    assert caught.value.details["category"] == caught.value.category == "ObjectNotFound"
    assert session.read([(call("Test-Path", LiteralPath=FOLDER),)])[0].objects == (True,), "the session goes on after an error of a cmdlet"
    session.close()
    assert fleet.access_log.select(action="Create").__len__() == 1


def test_what_the_table_lacks_is_never_sent(fleet: Fleet, machine: Any) -> None:
    session = host(fleet, machine)
    with pytest.raises(CmdletNotAllowed):
        session.read([(call("Invoke-Expression", Command="1"),)])
    with pytest.raises(CmdletNotAllowed):
        session.read([write(FOLDER + "\\a.config", b"x")])
    with pytest.raises(CmdletNotAllowed):
        session.change((call("Get-Item", LiteralPath=FOLDER), call("ForEach-Object", MemberName="Delete", ArgumentList=["a", "b"])))
    with pytest.raises(CmdletNotAllowed):
        session.change((call("Set-ExchangeServer", Identity="EX1", MitigationsEnabled=True),))
    session.close()
    assert fleet.access_log.records == []


FAULTS = ("drop-before", "drop-after", "http-401", "http-500", "truncate", "wrong-relates-to")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("kind", "secure"), WAYS, ids=NAMES)
def test_a_change_is_sent_at_most_once_whatever_happens(fleet: Fleet, machine: Any, kind: str, secure: bool, fault: str) -> None:
    """Messages: Create 1, Receives 2 and 3, Command 4, Receive 5, Delete 6."""
    for k in range(1, 7):
        fleet.faults.clear()
        fleet.access_log.clear()
        path = f"{FOLDER}\\{fault}.{kind}.{secure}.{k}.config"
        fleet.faults.add(fault, at=k)
        session = host(fleet, machine, kind, secure)
        try:
            session.change(write(path, b"data"))
            assert k > 5, f"message {k} was disturbed and the change was reported as made"
        except ConnectionFailure as exc:
            assert k <= 5
            assert exc.reason in {"connection_lost", "authentication_refused", "wsman_fault", "answer_malformed", "connection_failed"}, (exc.reason, str(exc))
            assert exc.details.get("change_sent", False) == (k >= 4)
        assert sum(1 for ran in fleet.access_log.calls if ran.cmdlet == "Set-Content") <= 1
        fleet.faults.clear()
        (answer,) = session.read([(call("Test-Path", LiteralPath=path),)])
        assert answer.objects == (machine.files.exists(path),), "the rebuilt session sees the truth"
        session.close()
        assert fleet._server is not None
        left = fleet._server.open_shells()
        # A Delete that is itself disturbed is not repeated; every other session is cleaned up.
        assert len(left) <= (1 if k == 6 else 0), (k, left)
        fleet._server.services[machine.name].vanish()


def test_a_failed_open_says_why(fleet: Fleet, machine: Any) -> None:
    expected = {"quota": "shell_quota", "http-500": "wsman_fault"}
    for kind, secure in WAYS:
        for fault, reason in expected.items():
            fleet.faults.clear()
            fleet.faults.add(fault)
            with pytest.raises(ConnectionFailure) as caught:
                host(fleet, machine, kind, secure).read([(call("Test-Path", LiteralPath=FOLDER),)])
            assert caught.value.reason == reason, (kind, secure, str(caught.value))
    fleet.faults.clear()


@pytest.mark.parametrize(("kind", "secure"), WAYS, ids=NAMES)
def test_refused_logon_unreachable_port_and_unknown_authority(fleet: Fleet, machine: Any, kind: str, secure: bool) -> None:
    one = [(call("Test-Path", LiteralPath=FOLDER),)]
    changes: list[tuple[dict[str, Any], str]] = [
        ({"remote_password": "wrong-Secret-9"}, "authentication_refused"),
        ({"port": 1}, "connection_refused"),
        ({"remote_addr": "nowhere.invalid"}, "name_not_resolved"),
    ]
    if secure and kind == "psrp":
        changes.append(({"ca_cert": None}, "tls_failed"))
    for changed, reason in changes:
        with pytest.raises(ConnectionFailure) as caught:
            host(fleet, machine, kind, secure, **changed).read(one)
        assert caught.value.reason == reason, str(caught.value)
        assert "wrong-Secret-9" not in str(caught.value)
        assert fleet.password not in str(caught.value)
        assert str(caught.value).count("\n") == 0


def test_an_idle_session_is_rebuilt_before_it_is_used(fleet: Fleet, machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    session = host(fleet, machine)
    one = [(call("Test-Path", LiteralPath=FOLDER),)]
    session.read(one)
    monkeypatch.setattr(_session, "IDLE_LIMIT", -1)
    assert session.read(one)[0].objects == (True,)
    session.close()
    assert len(fleet.access_log.select(action="Create", status=200)) == 2


def test_an_interruption_leaves_no_session_on_the_server(fleet: Fleet, machine: Any) -> None:
    class Timeout(BaseException):
        pass

    for kind, secure in WAYS:
        session = host(fleet, machine, kind, secure)
        session.read([(call("Test-Path", LiteralPath=FOLDER),)])
        link = session._link
        assert link is not None
        real = link.pool.shell.receive

        def interrupted(*args: Any, real: Any = real, **more: Any) -> Any:
            real(*args, **more)
            raise Timeout

        link.pool.shell.receive = interrupted
        with pytest.raises(Timeout):
            session.read([(call("Test-Path", LiteralPath=FOLDER),)])
        session.close()
        assert fleet._server is not None
        assert fleet._server.open_shells() == []


def test_a_local_connection_is_refused_with_a_sentence(fleet: Fleet, machine: Any) -> None:
    class Local:
        transport = "local"

        def get_option(self, name: str) -> Any:
            raise KeyError(name)

    with pytest.raises(Refused) as caught:
        host_session(Local(), {})
    assert caught.value.reason == "connection_unsupported"
    assert "winrm or psrp" in str(caught.value)


@pytest.mark.parametrize("secure", [False, True], ids=["ntlm-http", "basic-tls"])
def test_the_exchange_endpoint(fleet: Fleet, machine: Any, secure: bool) -> None:
    session = exchange(fleet, machine, secure)
    organization = read_organization(session)
    assert [server["name"] for server in organization["servers"]] == [machine.name]
    assert organization["mitigations_enabled"] is True
    name = organization["servers"][0]["name"]
    for ids in (["M1", "PING1"], []):
        session.change((call("Set-ExchangeServer", Identity=name, MitigationsBlocked=ids, Confirm=False),))
        assert read_organization(session)["servers"][0]["mitigations_blocked"] == ids
    with pytest.raises(CmdletError) as caught:
        session.change((call("Set-ExchangeServer", Identity="nobody", MitigationsEnabled=True, Confirm=False),))
    assert caught.value.exception.endswith("ManagementObjectNotFoundException")
    session.close()
    assert len(fleet.access_log.select(action="Create", status=200)) == 1


def test_a_role_that_lacks_the_cmdlet_is_told(fleet: Fleet, machine: Any) -> None:
    session = exchange(fleet, machine, True, exchange_username=fleet.viewer, exchange_password=fleet.users[fleet.viewer])
    with pytest.raises(CmdletError) as caught:
        session.change((call("Set-OrganizationConfig", MitigationsEnabled=True, Confirm=False),))
    assert caught.value.reason == "cmdlet_not_available"
    assert "lacks the role that has Set-OrganizationConfig; it needs Organization Management (role Organization Configuration)." in str(caught.value)
    session.close()
