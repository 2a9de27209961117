# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Organisation and servers from Exchange's objects, settings as plans, waiting, and the two modules over a fake session."""

from __future__ import annotations

import datetime
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _exchange
from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import PSObject
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, CmdletError, ConnectionFailure, InvalidInput, Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._exchange import (
    ORGANIZATION_SETTINGS,
    SERVER_SETTINGS,
    add_groups,
    blocked_after,
    find_server,
    is_server,
    organization_from,
    plan_settings,
    read_organization,
    read_server,
    server_from,
    wait_until,
)
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Answer, ErrorRecord, Statement, call
from ansible_collections.exchange.mitigation.plugins.modules import organization, organization_info, server
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.clixml_samples import decode_all

NOT_FOUND = ErrorRecord(
    "The operation couldn't be performed because object 'x' couldn't be found on 'dc1'.", "[Server=EX1] ABC,Get", "NotSpecified",
    "Microsoft.Exchange.Configuration.Tasks.ManagementObjectNotFoundException", "",
)

UNKNOWN_CMDLET = ErrorRecord("The term is not recognized.", "CommandNotFoundException", "ObjectNotFound", "CommandNotFoundException", "")


#: A property that the answering server does not have.
ABSENT = object()


class Exchange:
    """An Exchange endpoint with one organisation; ``lag`` reads pass before another controller than dc1 knows a change."""

    def __init__(self, lag: int = 0, deaf: bool = False, **changed: Any) -> None:
        self.enabled: Any = True
        self.servers = {"EX1": self._server("EX1"), "EX2": self._server("EX2", AdminDisplayVersion="Version 15.1 (Build 2308.8)")}
        self.servers["EDGE"] = self._server("EDGE", ServerRole="Edge")
        self.servers["EX1"].update(changed)
        self.old: list[tuple[int, dict[str, Any]]] = []
        self.lag, self.deaf = lag, deaf
        self.sent: list[tuple[str, dict[str, Any]]] = []

    @staticmethod
    def _server(name: str, **changed: Any) -> dict[str, Any]:
        return {
            "Name": name, "Fqdn": f"{name.lower()}.example.com", "AdminDisplayVersion": "Version 15.2 (Build 2562.17)", "ServerRole": "Mailbox",
            "Edition": "Enterprise", "Site": "example.com/Configuration/Sites/Main", "MitigationsEnabled": True, "MitigationsBlocked": None,
            "MitigationsApplied": ["PING1"], "MitigationsAppliedTime": datetime.datetime(2026, 10, 1, 8, 12, 37, 5, datetime.timezone.utc),
            "DataCollectionEnabled": False, "InternetWebProxy": None, "OriginatingServer": "dc1.example.com", **changed,
        }

    def read(self, statements: Sequence[Statement]) -> list[Answer]:
        return [self._read(statement) for statement in statements]

    def _read(self, statement: Statement) -> Answer:
        (item,) = statement
        self.sent.append((item.cmdlet, dict(item.parameters)))
        state = dict(self.servers), self.enabled
        if self.old and "DomainController" not in item.parameters:
            left, before = self.old[0]
            self.old = [(left - 1, before)] if left > 1 else []
            state = before["servers"], before["enabled"]
        if item.cmdlet == "Get-OrganizationConfig":
            known = {} if state[1] is ABSENT else {"MitigationsEnabled": state[1]}
            return Answer(statement, (PSObject(properties={"Name": "Example", **known, "OriginatingServer": "dc1.example.com"}),), ())
        if item.cmdlet == "Get-DatabaseAvailabilityGroup":
            return Answer(statement, (), (UNKNOWN_CMDLET,))
        wanted = item.parameters.get("Identity")
        if wanted is None:
            return Answer(statement, tuple(PSObject(properties=dict(found)) for found in state[0].values()), ())
        if str(wanted).upper() not in state[0]:
            return Answer(statement, (), (NOT_FOUND,))
        return Answer(statement, (PSObject(properties=dict(state[0][str(wanted).upper()])),), ())

    def change(self, statement: Statement) -> Answer:
        (item,) = statement
        self.sent.append((item.cmdlet, dict(item.parameters)))
        if self.deaf:
            return Answer(statement, (), ())
        if self.lag:
            self.old = [(self.lag, {"servers": dict(self.servers), "enabled": self.enabled})]
        for name in ("MitigationsEnabled", "MitigationsBlocked", "DataCollectionEnabled", "InternetWebProxy"):
            if name in item.parameters and item.cmdlet == "Set-ExchangeServer":
                self.servers[item.parameters["Identity"]] = {**self.servers[item.parameters["Identity"]], name: item.parameters[name]}
        if item.cmdlet == "Set-OrganizationConfig":
            self.enabled = item.parameters["MitigationsEnabled"]
        return Answer(statement, (), ())

    @property
    def changes(self) -> list[tuple[str, dict[str, Any]]]:
        return [item for item in self.sent if item[0].startswith("Set-")]


class Task:
    """A task with parameters as a validated argument spec gives them."""

    def __init__(self, spec: Mapping[str, Any], exchange: Exchange, host: str = "EX1", **params: Any) -> None:
        self.params = {name: params.get(name, option.get("default")) for name, option in spec["argument_spec"].items()}
        for name in params:
            assert name in self.params
        if self.params.get("mitigations_blocked"):
            self.params["mitigations_blocked"] = {"add": None, "remove": None, "set": None} | self.params["mitigations_blocked"]
        self.exchange = exchange
        self.inventory_hostname = host
        self.warnings: list[str] = []

    @property
    def host(self) -> Any:
        raise AssertionError("these modules need no connection to the Windows host")

    def now(self) -> datetime.datetime:
        return datetime.datetime(2026, 11, 24, tzinfo=datetime.timezone.utc)

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def progress(self, message: str) -> None:
        assert message


@pytest.fixture(autouse=True)
def no_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting takes no time: every sleep moves the clock."""
    now = [0.0]
    monkeypatch.setattr(_exchange.wait_until, "__defaults__", (lambda seconds: now.__setitem__(0, now[0] + seconds), lambda: now[0]))


# --- reading ---------------------------------------------------------------------------------------------------------------------


def test_recorded_objects(recorded: Callable[[str], pathlib.Path]) -> None:
    (found,) = decode_all(recorded("cmdlets/Get-OrganizationConfig.2019.xml").read_bytes())
    servers = decode_all(recorded("cmdlets/Get-ExchangeServer.PING1-applied.xml").read_bytes())
    servers += decode_all(recorded("cmdlets/Get-ExchangeServer.2019.xml").read_bytes())
    result = organization_from(found, servers)
    assert (result["name"], result["mitigations_enabled"], result["domain_controller"]) == ("SoloORG", True, "Solo-DC1.Solo.com")
    assert [item["name"] for item in result["servers"]] == ["E2k16-1", "E2k16-2", "SOLO-E19A"]
    assert result["servers"][0] == {
        "name": "E2k16-1", "fqdn": "E2k16-1.Contoso.lab", "version": "Version 15.1 (Build 2507.18)", "build": "15.1.2507.18", "product": "Exchange2016",
        "roles": ["Mailbox"], "edition": "Enterprise", "site": "Default-First-Site-Name", "mitigations_enabled": True, "mitigations_blocked": [],
        "mitigations_applied": ["PING1"], "mitigations_applied_time": "2023-01-05T12:08:37Z", "data_collection_enabled": True, "internet_web_proxy": None,
        "domain_controller": "DC-1.Contoso.lab", "em_supported": True,
    }
    solo = result["servers"][2]
    assert (solo["product"], solo["mitigations_applied"], solo["mitigations_applied_time"]) == ("Exchange2019", [], None)


@pytest.mark.parametrize(
    ("version", "role", "product", "build", "supported"),
    [
        ("Version 15.1 (Build 2308.8)", "Mailbox", "Exchange2016", "15.1.2308.8", False),
        ("Version 15.1 (Build 2375.7)", "Mailbox", "Exchange2016", "15.1.2375.7", True),
        ("Version 15.2 (Build 922.7)", "Mailbox", "Exchange2019", "15.2.922.7", False),
        ("Version 15.2 (Build 986.5)", "Mailbox", "Exchange2019", "15.2.986.5", True),
        ("Version 15.2 (Build 2562.17)", "Mailbox", "ExchangeSE", "15.2.2562.17", True),
        ("Version 15.2 (Build 2562.17)", "Edge", "ExchangeSE", "15.2.2562.17", False),
        ("Version 15.0 (Build 1497.2)", "Mailbox, ClientAccess", "older", "15.0.1497.2", False),
        ("Version 16.0 (Build 1.1)", "Mailbox", "unknown", "16.0.1.1", False),
        ("gibberish", "Mailbox", "unknown", None, False),
        (None, "None", "unknown", None, False),
    ],
)
def test_product_and_support(version: str | None, role: str, product: str, build: str | None, supported: bool) -> None:
    found = server_from(PSObject(properties={"Name": "X", "AdminDisplayVersion": version, "ServerRole": role}))
    assert (found["product"], found["build"], found["em_supported"]) == (product, build, supported)
    assert found["mitigations_enabled"] is None
    assert found["mitigations_blocked"] == found["mitigations_applied"] == []


def test_an_unreadable_build_is_judged_by_what_the_object_has() -> None:
    assert server_from(PSObject(properties={"Name": "X", "ServerRole": "Mailbox", "MitigationsEnabled": False}))["em_supported"] is True


@pytest.mark.parametrize(
    ("identity", "name"),
    [("EX1", "EX1"), ("ex1", "EX1"), ("EX1.EXAMPLE.COM", "EX1"), ("ex1.example.com.", "EX1"), ("ex1.other.example", "EX1"), ("ex2", "EX2"), ("ex3", None),
     ("192.0.2.1", None), ("", None), ("example.com", None)],
)
def test_finding_a_server(identity: str, name: str | None) -> None:
    found = find_server(read_organization(Exchange()), identity)
    assert (found or {}).get("name") == name


def test_a_full_name_beats_a_first_label() -> None:
    both = {"servers": [{"name": "EX1", "fqdn": "ex1.a.example"}, {"name": "EX1B", "fqdn": "ex1.b.example"}]}
    assert (find_server(both, "ex1.b.example") or {})["name"] == "EX1B"


def test_a_number_is_never_a_first_label() -> None:
    assert not is_server({"name": "10", "fqdn": "10.example.com"}, "10.0.0.1")


def test_reading_one_server_tries_the_name_and_then_its_first_label() -> None:
    session = Exchange()
    assert read_server(session, "ex1.inventory.example")["name"] == "EX1"
    assert [parameters for dummy, parameters in session.sent] == [{"Identity": "ex1.inventory.example"}, {"Identity": "ex1"}]
    with pytest.raises(Refused) as caught:
        read_server(session, "nobody.example.com")
    assert caught.value.reason == "server_not_found"


def test_an_error_record_of_a_read_is_typed() -> None:
    class Denied(Exchange):
        def _read(self, statement: Statement) -> Answer:
            error = ErrorRecord("The term 'Get-ExchangeServer' is not recognized.", "CommandNotFoundException", "ObjectNotFound",
                                "System.Management.Automation.CommandNotFoundException", "Get-ExchangeServer")
            return Answer(statement, (), (error,))

    with pytest.raises(CmdletError) as caught:
        read_organization(Denied())
    assert caught.value.reason == "cmdlet_not_available"
    assert "lacks the role that has Get-OrganizationConfig; it needs View-Only Organization Management." in str(caught.value)


# --- settings --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("present", "wanted", "after"),
    [
        ([], {"add": ["M1"]}, ["M1"]),
        (["M1"], {"add": ["m1"]}, ["M1"]),
        (["M1"], {"add": ["M2.1.0", "M2.1.0", "m2.1.0"]}, ["M1", "M2.1.0"]),
        (["M1", "PING1"], {"remove": ["m1", "M9"]}, ["PING1"]),
        (["M1", "X1"], {"add": ["M2"], "remove": ["X1"]}, ["M1", "M2"]),
        (["M1", "X1"], {"set": ["m1", "M3"]}, ["M1", "M3"]),
        (["M1"], {"set": []}, []),
        (["M1"], {"add": [], "remove": []}, ["M1"]),
    ],
)
def test_lists_of_ids(present: list[str], wanted: dict[str, Any], after: list[str]) -> None:
    assert blocked_after(present, wanted) == after


@pytest.mark.parametrize(
    "wanted",
    [{"set": ["M1"], "add": ["M2"]}, {"set": [], "remove": []}, {"add": ["M1"], "remove": ["m1"]}, {"add": ["M1; rm"]}, {"add": [""]}, {"set": ["M1,M2"]},
     {"add": ["*"]}, {"add": ["$(x)"]}, {"add": ["M1\n"[:-1] + " M2"]}],
)
def test_lists_that_cannot_be_meant(wanted: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        blocked_after([], wanted)


def test_a_plan_holds_only_what_differs() -> None:
    current = {"mitigations_enabled": True, "mitigations_blocked": ["M1"], "data_collection_enabled": False}
    plan = plan_settings(SERVER_SETTINGS, {"mitigations_enabled": False, "mitigations_blocked": {"add": ["M2"]}, "data_collection_enabled": False}, current)
    assert plan.diff == {
        "before": {"mitigations_enabled": True, "mitigations_blocked": ["M1"]}, "after": {"mitigations_enabled": False, "mitigations_blocked": ["M1", "M2"]}
    }
    assert plan.parameters == {"MitigationsEnabled": False, "MitigationsBlocked": ["M1", "M2"]}
    assert plan.done({"mitigations_enabled": False, "mitigations_blocked": ["m2", "M1"]})
    assert not plan.done({"mitigations_enabled": False, "mitigations_blocked": ["M1"]})
    assert plan_settings(ORGANIZATION_SETTINGS, {"mitigations_enabled": None}, {"mitigations_enabled": True}).parameters == {}


def test_waiting_reads_at_least_once_and_ends() -> None:
    reads: list[int] = []

    def read() -> dict[str, Any]:
        reads.append(1)
        return {"n": len(reads)}

    assert wait_until(read, lambda value: True, 0) == ({"n": 1}, True)
    assert wait_until(read, lambda value: value["n"] >= 4, 60) == ({"n": 4}, True)
    assert wait_until(read, lambda value: False, 60)[1] is False
    assert len(reads) < 30


# --- modules ---------------------------------------------------------------------------------------------------------------------


def run(module: Any, task: Task, check: bool = False) -> dict[str, Any]:
    """Do what the action base does."""
    decision = module.run(task)
    result = dict(decision.result, changed=decision.changed, diff=decision.diff)
    if decision.effect and not check:
        result.update(decision.effect())
    return result


def test_organization_info_reads_three_cmdlets() -> None:
    session = Exchange()
    result = run(organization_info, Task(organization_info.SPEC, session))
    assert [item["name"] for item in result["organization"]["servers"]] == ["EDGE", "EX1", "EX2"]
    assert [name for name, dummy in session.sent] == ["Get-OrganizationConfig", "Get-ExchangeServer", "Get-DatabaseAvailabilityGroup"]
    assert result["changed"] is False
    assert result["organization"]["dags"] is None, "this endpoint has no such cmdlet"


@pytest.mark.parametrize(
    "members",
    [
        ["EX1", "EX2"],
        ["example.com/Configuration/Servers/EX1", "example.com/Configuration/Servers/EX2"],
        ["CN=EX1,CN=Servers,DC=example,DC=com", "CN=ex2,CN=Servers,DC=example,DC=com"],
        [PSObject(properties={"Name": "EX1"}, to_string="EX1"), PSObject(properties={"Name": "EX2"}, to_string="EX2")],
    ],
)
def test_members_of_a_dag(members: list[Any]) -> None:
    organization = read_organization(Exchange())
    answer = Answer((call("Get-DatabaseAvailabilityGroup"),), (PSObject(properties={"Name": "DAG1", "Servers": members}),), ())
    add_groups(organization, answer)
    assert {server["name"]: server["dag"] for server in organization["servers"]} == {"EDGE": None, "EX1": "DAG1", "EX2": "DAG1"}
    assert [dag["name"] for dag in organization["dags"]] == ["DAG1"] and len(organization["dags"][0]["servers"]) == 2


def test_dags_that_may_not_be_read_are_unknown_and_no_failure() -> None:
    organization = read_organization(Exchange())
    add_groups(organization, Answer((call("Get-DatabaseAvailabilityGroup"),), (), (UNKNOWN_CMDLET,)))
    assert organization["dags"] is None and {server["dag"] for server in organization["servers"]} == {None}


def test_organization_check_change_and_idempotent() -> None:
    session = Exchange()
    checked = run(organization, Task(organization.SPEC, session, mitigations_enabled=False), check=True)
    assert session.changes == []
    changed = run(organization, Task(organization.SPEC, session, mitigations_enabled=False))
    assert session.changes == [("Set-OrganizationConfig", {"MitigationsEnabled": False, "DomainController": "dc1.example.com", "Confirm": False})]
    assert checked == changed
    assert changed["organization"] == {"name": "Example", "mitigations_enabled": False, "em_supported": True, "domain_controller": "dc1.example.com"}
    assert changed["diff"] == {"before": {"mitigations_enabled": True}, "after": {"mitigations_enabled": False}}
    again = run(organization, Task(organization.SPEC, session, mitigations_enabled=False))
    assert (again["changed"], again["diff"], len(session.changes)) == (False, None, 1)


def test_organization_without_options_only_reads() -> None:
    session = Exchange()
    assert run(organization, Task(organization.SPEC, session))["changed"] is False
    assert [name for name, dummy in session.sent] == ["Get-OrganizationConfig"]


def test_organization_before_emergency_mitigation_is_refused() -> None:
    session = Exchange()
    session.enabled = ABSENT
    for options in ({"mitigations_enabled": True}, {}):
        with pytest.raises(Refused) as caught:
            run(organization, Task(organization.SPEC, session, **options))
        assert caught.value.reason == "em_not_supported"
    assert session.changes == []


def test_an_organization_that_was_never_asked_has_null_and_can_be_set() -> None:
    session = Exchange()
    session.enabled = None
    changed = run(organization, Task(organization.SPEC, session, mitigations_enabled=True))
    assert (changed["changed"], changed["diff"]["before"], session.enabled) == (True, {"mitigations_enabled": None}, True)


@pytest.mark.parametrize(
    ("present", "wanted", "sent"),
    [
        (None, "http://Proxy.Example.com:8080", "http://proxy.example.com:8080/"), (None, "", ABSENT), ("http://p:8080/", "HTTP://P:8080", ABSENT),
        ("http://p:8080/", "", None), ("http://p/", "http://p:80/", ABSENT), ("http://p/", "https://p", "https://p/"),
        (None, "http://[FE80::1]:3128", "http://[fe80::1]:3128/"),
    ],
)  # fmt: skip
def test_a_proxy_is_compared_as_exchange_shows_it(present: str | None, wanted: str, sent: Any) -> None:
    session = Exchange(InternetWebProxy=present)
    result = run(server, Task(server.SPEC, session, internet_web_proxy=wanted))
    assert result["changed"] is (sent is not ABSENT)
    assert [parameters["InternetWebProxy"] for dummy, parameters in session.changes] == ([] if sent is ABSENT else [sent])
    assert run(server, Task(server.SPEC, session, internet_web_proxy=wanted))["changed"] is False


@pytest.mark.parametrize("wanted", ["proxy:8080", "ftp://p", "http://", "http://u:p@proxy", "http://p:99999", "http://p/?x", "http://p q", "http://p/#x"])
def test_what_is_no_proxy(wanted: str) -> None:
    session = Exchange()
    with pytest.raises(InvalidInput):
        run(server, Task(server.SPEC, session, internet_web_proxy=wanted))
    assert session.changes == []


def test_ids_that_nobody_knows_are_blocked_with_a_warning() -> None:
    session = Exchange(MitigationsApplied=["PING1", "M7.1"], MitigationsBlocked=["X1"])
    task = Task(server.SPEC, session, mitigations_blocked={"set": ["M2.1.0", "m7.1", "PING1", "x1", "LOCAL-3", "M99", "M01"]})
    assert run(server, task)["changed"] is True
    assert session.changes[0][1]["MitigationsBlocked"] == ["M2.1.0", "m7.1", "PING1", "X1", "LOCAL-3", "M99", "M01"]
    assert len(task.warnings) == 1
    assert "does not know M99, M01, and" in task.warnings[0]
    again = Task(server.SPEC, session, mitigations_blocked={"add": ["m99"], "remove": ["M98"]})
    assert (run(server, again)["changed"], again.warnings) == (False, [])


def test_an_answer_that_is_lost_is_looked_up_and_not_written_again() -> None:
    class Lost(Exchange):
        def change(self, statement: Statement) -> Answer:
            super().change(statement)
            raise ConnectionFailure("gone", "connection_lost", change_sent=True)

    for module, options in ((organization, {"mitigations_enabled": False}), (server, {"mitigations_enabled": False})):
        session = Lost()
        assert run(module, Task(module.SPEC, session, **options))["changed"] is True
        assert len(session.changes) == 1
        session = Lost(deaf=True)
        with pytest.raises(ConnectionFailure):
            run(module, Task(module.SPEC, session, **options))
        assert len(session.changes) == 1


def test_a_connection_that_broke_before_the_change_was_sent_is_no_change() -> None:
    """Nothing is looked up then: the task is unreachable at once, and says nothing of a change."""

    class Gone(Exchange):
        def change(self, statement: Statement) -> Answer:
            raise ConnectionFailure("gone", "connection_refused", change_sent=False)

    for module in (organization, server):
        session = Gone()
        with pytest.raises(ConnectionFailure) as caught:
            run(module, Task(module.SPEC, session, mitigations_enabled=False))
        assert (caught.value.reason, caught.value.details["change_sent"]) == ("connection_refused", False)
        checked = Exchange()
        run(module, Task(module.SPEC, checked, mitigations_enabled=False), check=True)
        assert session.sent == checked.sent, "it read again"


def test_server_check_change_and_idempotent() -> None:
    session = Exchange(MitigationsBlocked=["X1"])
    options = {"mitigations_enabled": False, "mitigations_blocked": {"add": ["M1", "x1"]}, "data_collection_enabled": True}
    checked = run(server, Task(server.SPEC, session, **options), check=True)
    assert session.changes == []
    changed = run(server, Task(server.SPEC, session, **options))
    assert session.changes == [
        ("Set-ExchangeServer", {"Identity": "EX1", "MitigationsEnabled": False, "MitigationsBlocked": ["X1", "M1"], "DataCollectionEnabled": True,
                                "DomainController": "dc1.example.com", "Confirm": False})
    ]
    assert checked == changed
    assert changed["server"]["mitigations_blocked"] == ["X1", "M1"]
    assert run(server, Task(server.SPEC, session, **options))["changed"] is False
    assert len(session.changes) == 1


def test_server_reads_back_where_it_wrote_and_waits_for_replication() -> None:
    session = Exchange(lag=3)
    task = Task(server.SPEC, session, host="ex1.inventory", mitigations_enabled=False)
    assert run(server, task)["server"]["mitigations_enabled"] is False
    after = session.sent[[name for name, dummy in session.sent].index("Set-ExchangeServer") + 1 :]
    assert after[0] == ("Get-ExchangeServer", {"Identity": "EX1", "DomainController": "dc1.example.com"})
    assert [parameters for dummy, parameters in after[1:]] == [{"Identity": "EX1"}] * 4
    assert task.warnings == []


def test_replication_that_takes_too_long_is_a_warning_and_can_be_skipped() -> None:
    task = Task(server.SPEC, Exchange(lag=1000), mitigations_enabled=False)
    assert run(server, task)["changed"] is True
    assert len(task.warnings) == 1
    assert "replicates later" in task.warnings[0]
    session = Exchange(lag=1000)
    task = Task(server.SPEC, session, mitigations_enabled=False, replication_timeout=0)
    assert run(server, task)["changed"] is True
    assert (task.warnings, len(session.sent)) == ([], 3)
    task = Task(organization.SPEC, Exchange(lag=1000), mitigations_enabled=False)
    assert run(organization, task)["organization"]["mitigations_enabled"] is False
    assert len(task.warnings) == 1


def test_a_change_that_is_not_there_is_a_failure() -> None:
    for module in (organization, server):
        with pytest.raises(ApplyError) as caught:
            run(module, Task(module.SPEC, Exchange(deaf=True), mitigations_enabled=False))
        assert caught.value.reason == "change_not_visible"


@pytest.mark.parametrize(("identity", "reason"), [("EDGE", "edge_server"), ("EX2", "em_not_supported")])
def test_servers_without_emergency_mitigation_are_refused(identity: str, reason: str) -> None:
    session = Exchange()
    with pytest.raises(Refused) as caught:
        run(server, Task(server.SPEC, session, identity=identity, mitigations_enabled=True))
    assert caught.value.reason == reason
    assert session.changes == []
