# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action base: runs a module's ``run()`` in the worker process on the controller, with sessions to the task's host.

The only place that reads check mode, and the only one that turns exceptions into results.
Note that this plugin util is private to the collection and may change at any time.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib
import json
import signal
import traceback
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConnectionFailure, InvalidInput, MitigationError, Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Decision, Session
from ansible_collections.exchange.mitigation.plugins.module_utils._options import FROM_VARIABLES
from ansible_collections.exchange.mitigation.plugins.module_utils._untrusted import harmless, shown
from ansible_collections.exchange.mitigation.plugins.plugin_utils._endpoints import connection_password, exchange_session, host_session, snapin_session
from ansible_collections.exchange.mitigation.plugins.plugin_utils._session import PsrpSession

MODULES = "ansible_collections.exchange.mitigation.plugins.modules."

#: Options that may be given by the name of a variable (option_variable), with what an empty one means.
SHARED: Mapping[str, Mapping[str, Any]] = {"organization": {"name": None, "mitigations_enabled": None, "servers": []}, "report": {}}

display = Display()


class DeadlinePassed(BaseException):
    """The time that ``async`` allows is over. No Exception, so that no handler in between swallows it."""


class ActionTask:
    """What a module's ``run`` sees of its task (the Task protocol). Sessions open on first use."""

    def __init__(self, params: Mapping[str, Any], connection: Any, inventory_hostname: str, secrets: set[str]) -> None:
        self.params = params
        self.inventory_hostname = inventory_hostname
        self.warnings: list[str] = []
        self._connection = connection
        self._secrets = secrets
        self._host: PsrpSession | None = None
        self._exchange: PsrpSession | None = None
        self._snapin: Session | None = None

    @property
    def host(self) -> Session:
        """The Windows endpoint of the task's own connection."""
        return self._windows()

    @property
    def exchange(self) -> Session:
        """The Exchange endpoint, or the snap-in within the host's own session."""
        if self.params.get("exchange_access") == "snapin":
            if self._snapin is None:
                self._snapin = snapin_session(self._connection, self._windows())
            return self._snapin
        if self._exchange is None:
            self._exchange = exchange_session(self._connection, self.params)
        return self._exchange

    def _windows(self) -> PsrpSession:
        if self._host is None:
            self._host = host_session(self._connection, self.params)
        return self._host

    def now(self) -> datetime.datetime:
        """The current time, aware, UTC."""
        return datetime.datetime.now(datetime.timezone.utc)

    def warn(self, message: str) -> None:
        """Show a warning with the result, once."""
        if message not in self.warnings:
            self.warnings.append(message)

    def progress(self, message: str) -> None:
        """Show a line at -v."""
        display.v(shown(str(remove_values(message, self._secrets))), host=self.inventory_hostname)

    def close(self) -> None:
        """Close every session that was opened. Never raises."""
        for session in (self._exchange, self._host):
            if session is not None:
                session.close()


class ControllerAction(ActionBase):  # type: ignore[misc]  # ansible-core has no type hints for it in every version
    """Run the module of the same name in this process, connected like the host of the task."""

    _supports_async = True
    _supports_check_mode = True
    _requires_connection = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Import the module with its action: executors load that before they fork, so no worker has to do it again."""
        super().__init_subclass__(**kwargs)
        with contextlib.suppress(ImportError):  # whoever runs it is told
            importlib.import_module(MODULES + cls.__module__.rpartition(".")[2])

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the result of the task; every failure has ``reason`` and ``msg``."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        module = importlib.import_module(MODULES + type(self).__module__.rpartition(".")[2])
        if self._task.async_val and not self._task.poll:
            return dict(result, failed=True, reason="async_unsupported", msg=(
                "This module works on the controller and does not run in the background: use async with a poll above 0, "
                "or give the task a timeout instead."))
        limit = self._task.async_val or 0
        self._task.async_val = 0  # the executor would otherwise look for a background job on the Windows host
        variables = task_vars or {}
        try:
            params, spec = self._parameters(module.SPEC, variables)
        except InvalidInput as exc:
            return dict(result, failed=True, reason=exc.reason, msg=exc.message)
        secrets = _secrets(spec, params)
        password = connection_password(self._connection)
        if password:
            secrets.add(password)
        result["invocation"] = {"module_args": _shown(spec, params)}
        if params.get("attach") is not None:
            result["attached"] = params["attach"]
        try:
            for option in SHARED:
                if params.get(option + "_variable"):
                    params[option] = self._shared(option + "_variable", params[option + "_variable"], variables) or SHARED[option]
        except InvalidInput as exc:
            return dict(result, failed=True, reason=exc.reason, msg=exc.message)
        task = ActionTask(params, self._connection, str(variables.get("inventory_hostname", "")), secrets)
        try:
            with _deadline(limit):
                result.update(self._outcome(module, task))
        except DeadlinePassed:
            result.update(failed=True, reason="async_timeout", msg=(
                f"The task did not finish within the {limit} seconds that async allows; its session was closed. "
                "Run it again to see the state and to complete it."))
        finally:
            task.close()
        if task.warnings:
            result["warnings"] = list(result.get("warnings", [])) + task.warnings
        return dict(harmless(remove_values(result, secrets)))

    def _outcome(self, module: Any, task: ActionTask) -> dict[str, Any]:
        """Run the module, and its effect unless this is check mode; exceptions become results here and nowhere else."""
        try:
            decision: Decision = module.run(task)
            outcome = dict(decision.result, changed=decision.changed)
            if decision.effect is not None and not self._task.check_mode:
                outcome.update(decision.effect())
            if self._task.diff and decision.diff is not None:
                outcome["diff"] = decision.diff
            if decision.failure is not None:
                failure = decision.failure
                outcome.update(failure.details, failed=True, reason=failure.reason, msg=failure.message, refused=isinstance(failure, Refused))
            return outcome
        except ConnectionFailure as exc:
            return dict(exc.details, unreachable=True, reason=exc.reason, msg=exc.message)
        except MitigationError as exc:
            return dict(exc.details, failed=True, reason=exc.reason, msg=exc.message, refused=isinstance(exc, Refused))
        except Exception as exc:  # pylint: disable=broad-except  # a defect: one sentence, the traceback at -vvv
            return {
                "failed": True,
                "reason": "unexpected_error",
                "msg": f"An unexpected error in {module.__name__.rpartition('.')[2]}: {type(exc).__name__}: {exc}. Run with -vvv for the traceback.",
                "exception": traceback.format_exc(),
            }

    def _shared(self, option: str, name: str, variables: Mapping[str, Any]) -> Any:
        """Return a value that was made once for all servers by the name of its variable: neither rendered nor copied for each of them."""
        value: Any = variables
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
            if isinstance(value, str):
                value = self._templar.template(value)
        if not isinstance(value, Mapping):
            raise InvalidInput(f"{option}: there is no variable {name} with a dictionary in it", reason="invalid_arguments")
        return value

    def _parameters(self, spec: Mapping[str, Any], variables: Mapping[str, Any]) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """Return validated parameters as plain types, and the argument spec.

        Unset options of FROM_VARIABLES come from variables. The task's own arguments stay as they are, because callbacks see them.
        """
        argument_spec = spec["argument_spec"]
        arguments = dict(self._task.args)
        for option in FROM_VARIABLES:
            variable = "exchange_mitigation_" + option
            if option in argument_spec and arguments.get(option) is None and variables.get(variable) is not None:
                value = self._templar.template(variables[variable])
                if value not in (None, ""):
                    arguments[option] = value
        validated = ArgumentSpecValidator(**spec).validate(arguments)
        if validated.error_messages:
            said = "; ".join(validated.error_messages)
            unknown = "unsupported parameters: " if validated.unsupported_parameters else ""
            raise InvalidInput(f"{self._task.action}: {unknown}{said}", reason="invalid_arguments")
        # Values of ansible-core 2.19 and later carry tags that pypsrp cannot serialise.
        return json.loads(json.dumps(validated.validated_parameters, default=str)), argument_spec


@contextlib.contextmanager
def _deadline(seconds: int) -> Iterator[None]:
    """Raise DeadlinePassed in the body after ``seconds``; an alarm that is set already (the task's timeout) stays in force."""
    if not seconds:
        yield
        return
    pending = signal.getitimer(signal.ITIMER_REAL)[0]
    if pending and pending <= seconds:
        yield
        return

    def passed(dummy_number: int, dummy_frame: Any) -> None:
        raise DeadlinePassed

    before = signal.signal(signal.SIGALRM, passed)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        left = signal.getitimer(signal.ITIMER_REAL)[0]
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if pending:
            signal.setitimer(signal.ITIMER_REAL, max(pending - (seconds - left), 0.001))


def _secrets(spec: Mapping[str, Any], params: Any) -> set[str]:
    """Return the values of every option with no_log, in suboptions too."""
    found: set[str] = set()
    for name, option in spec.items():
        value = params.get(name) if isinstance(params, Mapping) else None
        if value is None:
            continue
        if option.get("no_log"):
            found.update(_texts(value))
        elif isinstance(value, str) and "://" in value:
            found |= _url_secrets(value)
        elif option.get("options"):
            for item in value if isinstance(value, list) else [value]:
                found |= _secrets(option["options"], item)
    return found


def _url_secrets(url: str) -> set[str]:
    """Return what of a URL may be a secret: the password of a user, and a query such as the signature of a shared link."""
    try:
        parts = urllib.parse.urlsplit(url)
        password = parts.password or ""
    except ValueError:
        return {url}
    words = [password, urllib.parse.unquote(password), parts.query, *(value for dummy, value in urllib.parse.parse_qsl(parts.query))]
    # Shorter ones are no secrets, and would be taken out of every sentence.
    return {word for word in words if len(word) >= 8 or (word and word in (password, urllib.parse.unquote(password)))}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif not isinstance(value, bool) and str(value):
        yield str(value)


def _shown(spec: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters with the value of every no_log option replaced."""
    shown: dict[str, Any] = {}
    for name, value in params.items():
        option = spec.get(name, {})
        if option.get("no_log") and value is not None:
            shown[name] = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
        elif option.get("options") and isinstance(value, Mapping):
            shown[name] = _shown(option["options"], value)
        elif option.get("options") and isinstance(value, list):
            shown[name] = [_shown(option["options"], item) if isinstance(item, Mapping) else item for item in value]
        else:
            shown[name] = value
    return shown
