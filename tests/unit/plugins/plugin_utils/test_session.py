# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of a session, over a fake link: batches between markers, changes alone, rebuilding, closing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import PSObject
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import CmdletError, CmdletNotAllowed, ConnectionFailure
from ansible_collections.exchange.mitigation.plugins.module_utils._model import ErrorRecord, Statement, call
from ansible_collections.exchange.mitigation.plugins.plugin_utils import _session
from ansible_collections.exchange.mitigation.plugins.plugin_utils._psrp import ERROR, OUTPUT, Outcome
from ansible_collections.exchange.mitigation.plugins.plugin_utils._session import PsrpSession, frame

PATHS = ["C:\\a.config", "C:\\b.config", "C:\\c.config"]
READS: list[Statement] = [(call("Get-Content", LiteralPath=path, Encoding="Byte", Raw=True),) for path in PATHS]
TEST: Statement = (call("Test-Path", LiteralPath="C:\\a.config"),)
WRITE: Statement = (call("Set-Content", LiteralPath="C:\\a.config", Encoding="Byte", Value=b"x"),)

Script = Callable[[Sequence[Statement]], Outcome]


def record(message: str = "no", fqid: str = "X,Microsoft.PowerShell.Commands.GetContentCommand", exception: str = "System.Exception") -> ErrorRecord:
    return ErrorRecord(message, fqid, "NotSpecified", exception, "")


class Links:
    """Hands out fake links; every pipeline is answered by the script, in order, the last one for ever."""

    def __init__(self, *scripts: Script | Exception) -> None:
        self.scripts = list(scripts)
        self.opened = 0
        self.closed: list[str] = []
        self.ran: list[list[Statement]] = []
        self.terminated = 0

    def __call__(self) -> Any:
        links = self
        self.opened += 1

        class Link:
            pool = recorder = None

            def close(self) -> None:
                links.closed.append("closed")

            def abandon(self, exc: BaseException | None = None) -> None:
                links.closed.append("abandoned")

        return Link()

    def pipeline(self, pool: Any, recorder: Any, statements: Sequence[Statement]) -> Any:
        links = self

        class Pipeline:
            def run(self) -> Outcome:
                links.ran.append(list(statements))
                script = links.scripts.pop(0) if len(links.scripts) > 1 else links.scripts[0]
                if isinstance(script, BaseException):
                    raise script
                return script(statements)

            def terminate(self) -> None:
                links.terminated += 1

        return Pipeline()


def answered(values: Callable[[Statement], list[tuple[str, Any]]], stop_at: int | None = None, failed: bool = False) -> Script:
    """Answer as a server does: markers come back as they are; ``stop_at`` loses everything from that statement's output on."""

    def script(statements: Sequence[Statement]) -> Outcome:
        events: list[tuple[str, Any]] = []
        for number, statement in enumerate(statements):
            if stop_at is not None and number >= stop_at:
                break
            first = statement[0]
            events += [(OUTPUT, first.parameters["InputObject"])] if first.cmdlet == "Write-Output" else values(statement)
        return Outcome(tuple(events), failed, False)

    return script


def path_of(statement: Statement) -> list[tuple[str, Any]]:
    return [(OUTPUT, statement[0].parameters["LiteralPath"])]


def session(monkeypatch: pytest.MonkeyPatch, links: Links, endpoint: str = "host", **more: Any) -> PsrpSession:
    monkeypatch.setattr(_session, "Pipeline", links.pipeline)
    return PsrpSession(endpoint, links, "ex1 (http://ex1:5985/wsman)", "user", **more)


def test_reads_share_one_pipeline_between_markers(monkeypatch: pytest.MonkeyPatch) -> None:
    links = Links(answered(path_of))
    answers = session(monkeypatch, links).read(READS)
    assert [answer.objects for answer in answers] == [(path,) for path in PATHS]
    assert [answer.statement for answer in answers] == READS
    assert len(links.ran) == 1
    assert [statement[0].cmdlet for statement in links.ran[0]] == ["Write-Output", "Get-Content", "Write-Output"] * 3
    markers = [statement[0].parameters["InputObject"] for statement in links.ran[0] if statement[0].cmdlet == "Write-Output"]
    assert len(set(markers)) == 6
    assert len({marker.rpartition(":")[2] for marker in markers}) == 1


def test_one_read_needs_no_marker(monkeypatch: pytest.MonkeyPatch) -> None:
    links = Links(answered(path_of))
    assert session(monkeypatch, links).read(READS[:1])[0].objects == (PATHS[0],)
    assert links.ran == [[READS[0]]]
    assert session(monkeypatch, links).read([]) == []


@pytest.mark.parametrize("lost", range(10))
@pytest.mark.parametrize("failed", [False, True])
def test_what_no_marker_confirms_is_read_again_alone(monkeypatch: pytest.MonkeyPatch, lost: int, failed: bool) -> None:
    links = Links(answered(path_of, stop_at=lost, failed=failed), answered(path_of))
    answers = session(monkeypatch, links).read(READS)
    assert [answer.objects for answer in answers] == [(path,) for path in PATHS]
    assert links.ran[1:] == [[statement] for statement in READS[lost // 3 :]]


def test_a_gap_is_repeated_once_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    links = Links(lambda statements: Outcome((), True, False))
    answers = session(monkeypatch, links).read(READS[:2])
    assert len(links.ran) == 3
    assert all(answer.objects == () and answer.errors for answer in answers), "an unfinished read is never an empty answer"


def test_errors_belong_to_the_statement_between_whose_markers_they_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    links = Links(answered(lambda statement: [(ERROR, record("gone"))] if statement == READS[1] else path_of(statement)))
    answers = session(monkeypatch, links).read(READS)
    assert [len(answer.errors) for answer in answers] == [0, 1, 0]
    assert len(links.ran) == 1


def test_an_error_outside_the_markers_makes_every_answer_doubtful(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(statements: Sequence[Statement]) -> Outcome:
        good = answered(path_of)(statements)
        return Outcome((*good.events, (ERROR, record("whose?"))), False, False)

    links = Links(late, answered(path_of))
    session(monkeypatch, links).read(READS)
    assert len(links.ran) == 1 + len(READS)


def test_an_error_of_another_statements_cmdlet_makes_every_answer_doubtful(monkeypatch: pytest.MonkeyPatch) -> None:
    statements = [TEST, READS[1]]
    strayed = answered(lambda statement: [(ERROR, record())] if statement == TEST else path_of(statement))
    links = Links(strayed, answered(path_of))
    answers = session(monkeypatch, links).read(statements)
    assert [answer.errors for answer in answers] == [(), ()]
    assert len(links.ran) == 3


def test_a_marker_cannot_be_forged_by_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    nonce = "0" * 16
    outcome = Outcome(((OUTPUT, f"~b:0:{nonce}"), (OUTPUT, "~e:0:1111111111111111"), (OUTPUT, "~e:7:" + nonce), (OUTPUT, f"~e:0:{nonce}")), False, False)
    (answer,) = frame([TEST], outcome, nonce)
    assert answer is None


def test_an_endpoint_without_write_output_is_asked_one_by_one_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    exception = "System.Management.Automation.CommandNotFoundException"
    missing = ErrorRecord("not recognized", "CommandNotFoundException", "ObjectNotFound", exception, "Write-Output")
    links = Links(lambda statements: Outcome(((ERROR, missing),), True, False), answered(path_of))
    subject = session(monkeypatch, links)
    subject.read(READS)
    subject.read(READS)
    assert [len(statements) for statements in links.ran] == [9, 1, 1, 1, 1, 1, 1]


def test_exchange_is_asked_one_statement_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    links = Links(answered(lambda statement: [(OUTPUT, statement[0].cmdlet)]))
    answers = session(monkeypatch, links, "exchange").read([(call("Get-OrganizationConfig"),), (call("Get-ExchangeServer"),)])
    assert [answer.objects for answer in answers] == [("Get-OrganizationConfig",), ("Get-ExchangeServer",)]
    assert [len(statements) for statements in links.ran] == [1, 1]


def test_a_change_is_sent_alone_and_stops_at_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    links = Links(answered(lambda statement: []))
    session(monkeypatch, links).change((call("Get-Acl", LiteralPath="C:\\a"), call("Set-Acl", LiteralPath="C:\\b", ErrorAction="Continue")))
    assert links.ran == [[(call("Get-Acl", LiteralPath="C:\\a", ErrorAction="Stop"), call("Set-Acl", LiteralPath="C:\\b", ErrorAction="Stop"))]]


@pytest.mark.parametrize("failed", [False, True])
def test_an_error_record_fails_a_change_whatever_the_state_says(monkeypatch: pytest.MonkeyPatch, failed: bool) -> None:
    error = ErrorRecord("Access denied", "GetContentWriterUnauthorizedAccessError,X", "PermissionDenied", "System.UnauthorizedAccessException", "C:\\a")
    links = Links(lambda statements: Outcome(((ERROR, error),), failed, False))
    with pytest.raises(CmdletError) as caught:
        session(monkeypatch, links).change(WRITE)
    found = caught.value
    assert (found.cmdlet, found.fqid, found.category, found.exception, found.target) == ("Set-Content", error.fqid, error.category, error.exception, "C:\\a")
    assert str(found) == "Set-Content failed on ex1 (http://ex1:5985/wsman): Access denied."
    assert found.details["fqid"] == error.fqid


def test_a_change_that_did_not_complete_is_a_failure_even_without_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CmdletError):
        session(monkeypatch, Links(lambda statements: Outcome((), True, False))).change(WRITE)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (record("The term", "CommandNotFoundException", "System.Management.Automation.CommandNotFoundException"), "offer Set-Content; it needs"),
        (record("A parameter", "NamedParameterNotFound,Set-Content"), "does not offer this use of Set-Content"),
    ],
)
def test_what_a_role_hides_is_told_from_what_fails(monkeypatch: pytest.MonkeyPatch, error: ErrorRecord, words: str) -> None:
    links = Links(lambda statements: Outcome(((ERROR, error),), True, False))
    with pytest.raises(CmdletError) as caught:
        session(monkeypatch, links).change(WRITE)
    assert caught.value.reason == "cmdlet_not_available"
    assert words in str(caught.value)


def test_a_prompt_is_a_failure_with_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CmdletError) as caught:
        session(monkeypatch, Links(lambda statements: Outcome((), True, True))).change(WRITE)
    assert caught.value.reason == "cmdlet_prompted"


def test_a_change_is_no_read_and_the_table_is_asked_before_anything_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    links = Links(answered(path_of))
    subject = session(monkeypatch, links)
    for bad in (WRITE, (call("Get-ExchangeServer"),), (call("Invoke-Expression", Command="1"),)):
        with pytest.raises(CmdletNotAllowed):
            subject.read([TEST, bad])
    with pytest.raises(CmdletNotAllowed):
        subject.change((call("Get-Content", LiteralPath="C:\\a", Nope=1),))
    assert links.opened == 0


def test_a_fault_ends_the_link_and_the_next_use_opens_another(monkeypatch: pytest.MonkeyPatch) -> None:
    links = Links(answered(path_of), ConnectionResetError("reset"), answered(path_of))
    subject = session(monkeypatch, links)
    subject.read([TEST])
    with pytest.raises(ConnectionFailure) as caught:
        subject.change(WRITE)
    assert caught.value.reason == "connection_lost"
    assert caught.value.details["change_sent"] is True
    assert (links.opened, links.closed) == (1, ["abandoned"])
    assert subject.read([TEST])[0].objects == ("C:\\a.config",)
    assert links.opened == 2
    assert [statements for statements in links.ran if statements[0][0].cmdlet == "Set-Content"].__len__() == 1, "a lost change is not sent again"
    subject.close()
    assert links.closed == ["abandoned", "closed"]


def test_a_read_that_is_lost_says_nothing_of_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConnectionFailure) as caught:
        session(monkeypatch, Links(ConnectionResetError("reset"))).read([TEST])
    assert "change_sent" not in caught.value.details


def test_a_failed_open_is_a_failure_and_is_tried_again_by_the_next_use(monkeypatch: pytest.MonkeyPatch) -> None:
    links = Links(answered(path_of))
    attempts: list[int] = []

    def opener() -> Any:
        attempts.append(1)
        if len(attempts) == 1:
            raise ConnectionRefusedError(111, "refused")
        return links()

    monkeypatch.setattr(_session, "Pipeline", links.pipeline)
    subject = PsrpSession("host", opener, "ex1 (url)")
    with pytest.raises(ConnectionFailure) as caught:
        subject.change(WRITE)
    assert caught.value.reason == "connection_refused"
    assert "change_sent" not in caught.value.details
    subject.change(WRITE)
    assert len(links.ran) == 1


def test_finished_pipelines_are_terminated_only_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    links = Links(answered(path_of))
    subject = session(monkeypatch, links)
    for expected in (0, 0, 0, 1, 2):
        subject.read([TEST])
        assert links.terminated == expected
    subject.close()
    assert links.terminated == 2


def test_a_connection_that_was_idle_too_long_is_replaced_before_use(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    links = Links(answered(path_of))
    subject = session(monkeypatch, links, clock=lambda: now[0])
    subject.read([TEST])
    now[0] += _session.IDLE_LIMIT
    subject.read([TEST])
    assert links.opened == 1
    now[0] += _session.IDLE_LIMIT + 1
    subject.change(WRITE)
    assert (links.opened, links.closed) == (2, ["abandoned"])


def named(*names: str) -> Script:
    """Answer the question for the computer's name, each time with the next of these, the last one for ever."""
    told = list(names)

    def values(statement: Statement) -> list[tuple[str, Any]]:
        if statement[0].cmdlet != "Get-CimInstance":
            return path_of(statement)
        name = told.pop(0) if len(told) > 1 else told[0]
        return [(OUTPUT, PSObject(properties={"CSName": name}))] if name else [(ERROR, record("no WMI"))]

    return answered(values)


@pytest.mark.parametrize(
    ("second", "reason"), [("EX1", None), ("ex1", None), ("EX2", "other_machine"), ("", "machine_unproven")], ids=["same", "other-case", "other", "silent"]
)
def test_a_session_that_is_opened_again_is_used_only_on_the_same_machine(monkeypatch: pytest.MonkeyPatch, second: str, reason: str | None) -> None:
    now = [0.0]
    links = Links(named("EX1", second))
    subject = session(monkeypatch, links, clock=lambda: now[0])
    subject.read([(_session.MACHINE,)])
    now[0] += _session.IDLE_LIMIT + 1
    if reason is None:
        subject.change(WRITE)
        assert links.ran[1:] == [[(_session.MACHINE,)], [(call(WRITE[0].cmdlet, **WRITE[0].parameters, ErrorAction="Stop"),)]]
        return
    with pytest.raises(ConnectionFailure) as caught:
        subject.change(WRITE)
    assert caught.value.reason == reason
    assert "change_sent" not in caught.value.details
    assert links.ran[1:] == [[(_session.MACHINE,)]], "nothing else was sent"
    assert links.closed == ["abandoned", "abandoned"]


def test_a_machine_whose_name_was_never_told_is_not_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    links = Links(answered(path_of))
    subject = session(monkeypatch, links, clock=lambda: now[0])
    subject.read([TEST])
    now[0] += _session.IDLE_LIMIT + 1
    subject.read([TEST])
    assert links.ran == [[TEST], [TEST]]


def test_an_interrupted_session_is_abandoned_and_closing_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    class Timeout(BaseException):
        pass

    links = Links(answered(path_of), Timeout())  # type: ignore[arg-type]
    subject = session(monkeypatch, links)
    subject.read([TEST])
    with pytest.raises(Timeout):
        subject.read([TEST])
    subject.close()
    subject.close()
    assert links.closed == ["abandoned"]

    class Bad:
        def close(self) -> None:
            raise OSError("gone")

    subject._link = Bad()  # type: ignore[assignment]
    subject.close()
