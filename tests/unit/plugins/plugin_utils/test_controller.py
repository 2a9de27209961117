# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action base: parameters, check mode, diff, exceptions as results, secrets, deadlines, closing."""

from __future__ import annotations

import json
import signal
import sys
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConnectionFailure, MissingLibrary, Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Decision
from ansible_collections.exchange.mitigation.plugins.module_utils._options import EXCHANGE_OPTIONS
from ansible_collections.exchange.mitigation.plugins.plugin_utils import _controller
from ansible_collections.exchange.mitigation.plugins.plugin_utils._controller import ControllerAction
from ansible_collections.exchange.mitigation.plugins.plugin_utils._endpoints import exchange_arguments

NAME = "ansible_collections.exchange.mitigation.plugins.modules.fake"
PASSWORD = "host-Secret-1"


class Connection:
    """What the base needs of a connection plugin."""

    class _Shell:
        tmpdir = "unused"

    _shell = _Shell()

    def __init__(self, transport: str = "winrm", **options: Any) -> None:
        self.transport = transport
        self.options = {"remote_addr": "ex1", "remote_user": "u@EXAMPLE", "remote_password": PASSWORD, "port": 5985, "scheme": "http", "_extras": {}} | options

    def get_option(self, name: str) -> Any:
        return self.options[name]


class Templar:
    """Renders nothing but {{ word }}."""

    def template(self, value: Any) -> Any:
        return "rendered" if isinstance(value, str) and "{{" in value else value


class Keyword:
    """The task's own attributes."""

    action = "exchange.mitigation.fake"

    def __init__(self, args: dict[str, Any], check_mode: bool = False, diff: bool = False, async_val: int = 0, poll: int = 0) -> None:
        self.args, self.check_mode, self.diff, self.async_val, self.poll = args, check_mode, diff, async_val, poll


@pytest.fixture
def act(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., dict[str, Any]]]:
    """Run the base over a module that is one function."""

    def run(function: Callable[[Any], Decision], args: dict[str, Any] | None = None, variables: dict[str, Any] | None = None, connection: Any = None,
            **keywords: Any) -> dict[str, Any]:
        module = types.ModuleType(NAME)
        options = {
            "wanted": {"type": "bool"}, "names": {"type": "list", "elements": "str"}, "token": {"type": "str", "no_log": True},
            "nested": {"type": "dict", "options": {"secret": {"type": "str", "no_log": True}, "plain": {"type": "str"}}},
            "organization": {"type": "dict"}, "organization_variable": {"type": "str"}, "attach": {"type": "dict"},
        }
        module.SPEC = {"argument_spec": options | EXCHANGE_OPTIONS}  # type: ignore[attr-defined]
        module.run = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, NAME, module)
        kind = type("ActionModule", (ControllerAction,), {"__module__": "ansible_collections.exchange.mitigation.plugins.action.fake"})
        action = kind(Keyword(args or {}, **keywords), connection or Connection(), None, None, Templar(), None)
        result: dict[str, Any] = action.run(task_vars={"inventory_hostname": "ex1.inventory"} | (variables or {}))
        json.dumps(result)
        return result

    yield run
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_parameters_are_validated_and_converted(act: Any) -> None:
    seen: dict[str, Any] = {}

    def run(task: Any) -> Decision:
        seen.update(task.params)
        assert task.inventory_hostname == "ex1.inventory"
        assert task.now().utcoffset().total_seconds() == 0
        return Decision({"ok": 1})

    result = act(run, {"wanted": "yes", "names": "a,b", "exchange_port": "8080"})
    assert (seen["wanted"], seen["names"], seen["exchange_port"], seen["exchange_host"]) == (True, ["a", "b"], 8080, None)
    assert (result["ok"], result["changed"]) == (1, False)
    assert result["invocation"]["module_args"]["exchange_port"] == 8080


@pytest.mark.parametrize("args", [{"wnated": True}, {"wanted": "perhaps"}, {"exchange_auth": "digest"}])
def test_wrong_arguments_are_a_failure_with_a_reason(act: Any, args: dict[str, Any]) -> None:
    result = act(lambda task: pytest.fail("must not run"), args)
    assert (result["failed"], result["reason"]) == (True, "invalid_arguments")
    assert next(iter(args)) in result["msg"]


def test_unset_connection_options_come_from_variables(act: Any) -> None:
    seen: dict[str, Any] = {}
    variables = {
        "exchange_mitigation_exchange_port": "8443", "exchange_mitigation_exchange_host": "{{ word }}", "exchange_mitigation_exchange_scheme": "https",
        "exchange_mitigation_exchange_auth": "", "exchange_mitigation_wanted": True, "exchange_mitigation_exchange_password": "variable-Secret-2",
    }
    args = {"exchange_scheme": "http"}

    def run(task: Any) -> Decision:
        seen.update(task.params)
        return Decision({"echo": task.params["exchange_password"]})

    result = act(run, args, variables)
    assert (seen["exchange_port"], seen["exchange_host"], seen["exchange_scheme"], seen["exchange_auth"]) == (8443, "rendered", "http", None)
    assert seen["wanted"] is None, "only options that say how to connect come from variables"
    assert args == {"exchange_scheme": "http"}, "callbacks show the task's own arguments"
    assert "variable-Secret-2" not in json.dumps(result)


def test_check_mode_leaves_the_effect_out_and_says_the_same(act: Any) -> None:
    done: list[str] = []

    def effect() -> dict[str, Any]:
        done.append("effect")
        return {"state": "after", "more": 1}

    def run(task: Any) -> Decision:
        return Decision({"state": "after"}, changed=True, diff={"before": {"a": 1}, "after": {"a": 2}}, effect=effect)

    checked = act(run, check_mode=True, diff=True)
    assert done == []
    real = act(run, diff=True)
    assert done == ["effect"]
    assert checked["diff"] == real["diff"] == {"before": {"a": 1}, "after": {"a": 2}}
    assert checked["changed"] is real["changed"] is True
    assert "more" not in checked
    assert real["more"] == 1
    assert "diff" not in act(run, check_mode=True)


@pytest.mark.parametrize(
    ("exc", "key", "reason"),
    [
        (ConnectionFailure("ex1 is away.", reason="connection_refused", endpoint="e"), "unreachable", "connection_refused"),
        (Refused("not this server.", reason="em_not_supported"), "failed", "em_not_supported"),
        (MissingLibrary("lxml is missing.", library="lxml"), "failed", "missing_library"),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_exceptions_become_results(act: Any, exc: Exception, key: str, reason: str, late: bool) -> None:
    def fail() -> Any:
        raise exc

    result = act((lambda task: Decision({}, True, effect=fail)) if late else (lambda task: fail()))
    assert result[key] is True
    assert result["reason"] == reason
    assert result["msg"] == str(exc)
    assert ("failed" in result) != ("unreachable" in result)


def test_a_defect_is_one_sentence_and_a_traceback(act: Any) -> None:
    result = act(lambda task: {}["missing"])
    assert (result["failed"], result["reason"]) == (True, "unexpected_error")
    assert "\n" not in result["msg"]
    assert "KeyError" in result["msg"]
    assert "Traceback" in result["exception"]


def test_secrets_are_nowhere_in_a_result(act: Any) -> None:
    def run(task: Any) -> Decision:
        task.warn(f"odd {PASSWORD}")
        task.warn(f"odd {PASSWORD}")
        raise RuntimeError(f"{PASSWORD} {task.params['token']} {task.params['nested']['secret']}")

    result = act(run, {"token": "token-Secret-3", "nested": {"secret": "nested-Secret-4", "plain": "shown"}})
    shown = json.dumps(result)
    for secret in (PASSWORD, "token-Secret-3", "nested-Secret-4"):
        assert secret not in shown
    assert result["invocation"]["module_args"]["nested"] == {"secret": "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER", "plain": "shown"}
    assert len(result["warnings"]) == 1


def test_sessions_are_closed_whatever_happens(act: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Timeout(BaseException):
        pass

    closed: list[str] = []

    class Session:
        def __init__(self, name: str) -> None:
            self.name = name

        def close(self) -> None:
            closed.append(self.name)

    monkeypatch.setattr(_controller, "host_session", lambda connection, params: Session("host"))
    monkeypatch.setattr(_controller, "exchange_session", lambda connection, params: Session("exchange"))

    def both(task: Any) -> Decision:
        assert task.host is task.host
        assert task.exchange is task.exchange
        return Decision({})

    act(both)
    assert sorted(closed) == ["exchange", "host"]
    act(lambda task: Decision({}))
    assert len(closed) == 2, "what was not used was not opened"

    def interrupted(task: Any) -> Decision:
        both(task)
        raise Timeout

    with pytest.raises(Timeout):
        act(interrupted)
    assert len(closed) == 4


def test_async_without_poll_is_refused_with_a_sentence(act: Any) -> None:
    result = act(lambda task: pytest.fail("must not run"), async_val=30, poll=0)
    assert (result["failed"], result["reason"]) == (True, "async_unsupported")
    assert "poll above 0" in result["msg"]


def test_async_with_poll_runs_at_once_within_its_limit(act: Any) -> None:
    assert act(lambda task: Decision({"ok": 1}), async_val=30, poll=5)["ok"] == 1

    def slow(task: Any) -> Decision:
        time.sleep(30)
        return Decision({})

    started = time.monotonic()
    result = act(slow, async_val=1, poll=5)
    assert time.monotonic() - started < 10
    assert (result["failed"], result["reason"]) == (True, "async_timeout")


def test_a_task_timeout_that_comes_first_stays_in_force(act: Any) -> None:
    class Timeout(BaseException):
        pass

    def handler(number: int, frame: Any) -> None:
        raise Timeout

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1)
        with pytest.raises(Timeout):
            act(lambda task: time.sleep(30), async_val=60, poll=5)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_later_task_timeout_is_set_again_after_the_limit() -> None:
    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    try:
        signal.setitimer(signal.ITIMER_REAL, 50)
        with _controller._deadline(10):
            assert signal.getitimer(signal.ITIMER_REAL)[0] <= 10
        assert 40 < signal.getitimer(signal.ITIMER_REAL)[0] <= 50
        assert signal.getsignal(signal.SIGALRM) == signal.SIG_IGN
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# --- where Exchange is -------------------------------------------------------------------------------------------------------------


def arguments(connection: Any, **params: Any) -> dict[str, Any]:
    return exchange_arguments(connection, {"exchange_auth": "ntlm"} | params)


def test_the_exchange_endpoint_defaults_to_the_hosts_connection() -> None:
    assert arguments(Connection()) == {
        "server": "ex1", "port": 80, "username": "u@EXAMPLE", "password": PASSWORD, "ssl": False, "path": "PowerShell", "auth": "ntlm", "cert_validation": True,
        "negotiate_service": "HTTP",
    }
    found = arguments(Connection(), exchange_scheme="https", exchange_host="ex2", exchange_username="a", exchange_password="b", exchange_ca_path="/ca")
    assert (found["server"], found["port"], found["ssl"], found["username"], found["password"], found["cert_validation"]) == ("ex2", 443, True, "a", "b", "/ca")


@pytest.mark.parametrize(
    ("connection", "params", "expected"),
    [
        (Connection(_extras={"ansible_winrm_ca_trust_path": "/own"}), {}, "/own"),
        (Connection(_extras={"ansible_winrm_ca_trust_path": "legacy_requests"}), {}, True),
        (Connection(_extras={"ansible_winrm_server_cert_validation": "ignore"}), {}, False),
        (Connection(_extras={"ansible_winrm_server_cert_validation": "ignore"}), {"exchange_validate_certs": True}, True),
        (Connection("psrp", ca_cert="/own", cert_validation="validate"), {}, "/own"),
        (Connection("psrp", ca_cert="/own", cert_validation="ignore"), {}, False),
        (Connection("psrp", ca_cert="/own", cert_validation="validate"), {"exchange_validate_certs": False}, False),
    ],
)
def test_trust_comes_from_the_connection_unless_said(connection: Any, params: dict[str, Any], expected: Any) -> None:
    assert arguments(connection, exchange_scheme="https", **params)["cert_validation"] == expected


@pytest.mark.parametrize(
    ("connection", "params", "reason"),
    [
        (Connection("local"), {}, "exchange_host_missing"),
        (Connection("local"), {"exchange_host": "ex1"}, "credentials_missing"),
        (Connection(), {"exchange_auth": "basic"}, "insecure_connection"),
        (Connection(remote_password=None), {"exchange_auth": "basic", "exchange_scheme": "https"}, "credentials_missing"),
    ],
)
def test_what_is_missing_is_said(connection: Any, params: dict[str, Any], reason: str) -> None:
    from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput

    with pytest.raises(InvalidInput) as caught:
        arguments(connection, **params)
    assert caught.value.reason == reason


def test_kerberos_needs_its_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible_collections.exchange.mitigation.plugins.module_utils import _deps

    monkeypatch.setattr(_deps, "_checked", {})
    monkeypatch.setitem(sys.modules, "gssapi", None)
    with pytest.raises(MissingLibrary) as caught:
        exchange_arguments(Connection(), {})
    assert "gssapi" in str(caught.value)
    assert "krb5-devel" in str(caught.value)


def test_the_organization_by_its_variable_is_neither_rendered_nor_shown(act: Any) -> None:
    read = {"name": "Lab {{ word }}", "servers": [{"name": "EX1"}]}
    seen: list[Any] = []
    variables = {"known": {"organization": read}, "pointer": "{{ word }}"}
    result = act(lambda task: seen.append(task.params["organization"]) or Decision({}), {"organization_variable": "known.organization"}, variables)
    assert seen == [read] and seen[0] is read
    assert result["invocation"]["module_args"]["organization"] is None and "EX1" not in json.dumps(result)


def test_an_empty_organization_by_its_variable_means_that_nobody_could_say(act: Any) -> None:
    seen: list[Any] = []
    act(lambda task: seen.append(task.params["organization"]) or Decision({}), {"organization_variable": "known"}, {"known": {}})
    assert seen == [{"name": None, "mitigations_enabled": None, "servers": []}]


@pytest.mark.parametrize("variables", [{}, {"known": "a text"}, {"known": ["EX1"]}, {"known": None}])
def test_a_variable_without_an_organization_is_an_argument_that_is_wrong(act: Any, variables: dict[str, Any]) -> None:
    result = act(lambda task: pytest.fail("must not run"), {"organization_variable": "known", "attach": {"a": 1}}, variables)
    assert (result["failed"], result["reason"], result["attached"]) == (True, "invalid_arguments", {"a": 1})
    assert "known" in result["msg"]


def test_what_is_attached_comes_back_whatever_happens(act: Any) -> None:
    def gone(task: Any) -> Decision:
        raise ConnectionFailure("gone")

    for function in (lambda task: Decision({}), gone):
        assert act(function, {"attach": {"wanted": ["M2"]}})["attached"] == {"wanted": ["M2"]}


def test_the_module_is_imported_with_its_action(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "ansible_collections.exchange.mitigation.plugins.modules.event_info"
    monkeypatch.delitem(sys.modules, name, raising=False)
    type("ActionModule", (ControllerAction,), {"__module__": "ansible_collections.exchange.mitigation.plugins.action.event_info"})
    assert name in sys.modules
