# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every module that talks to a server, as something that faults of the wire can be swept over: what is asked, what both ends look like.

A case is one run with one fault at one message. Its result is the one that the action base makes of it.
"""

from __future__ import annotations

import collections
import dataclasses
import pathlib
import signal
import threading
import types
from collections.abc import Callable
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.exchange.mitigation.plugins.modules import (
    event_info,
    mitigation,
    organization,
    organization_info,
    server,
    server_info,
    service,
    url_rewrite,
)
from ansible_collections.exchange.mitigation.plugins.plugin_utils import _transport
from ansible_collections.exchange.mitigation.plugins.plugin_utils._controller import ControllerAction
from installer_lab import Kept, our_folders
from lab_task import LabTask, hashes

#: Seconds until a client gives up where the server stalls.
PATIENCE = {"seconds": 2.5}
SERVICE = "MSExchangeMitigation"
#: What may be sent twice: taking away what is ours and may be gone already.
TWICE = {"Remove-Item"}


class TaskTimeout(BaseException):
    """The task's ``timeout:`` has passed: ansible-core's own is no Exception either."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """A module with what is asked of it; ``writes`` is empty for those that only read."""

    name: str
    module: Any
    server: str
    options: dict[str, Any]
    endpoints: tuple[str, ...]
    writes: bool = False


SUBJECTS = (
    Subject("server_info", server_info, "EX1", {}, ("host", "exchange")),
    Subject("organization_info", organization_info, "EX1", {}, ("exchange",)),
    Subject("event_info", event_info, "EX1", {"since": "1h"}, ("host",)),
    Subject("service", service, "EX1", {"state": "stopped", "start_mode": "disabled", "timeout": 2}, ("host",), True),
    Subject("server", server, "EX1", {"mitigations_enabled": False, "mitigations_blocked": {"add": ["M1"]}}, ("exchange",), True),
    Subject("organization", organization, "EX1", {"mitigations_enabled": False}, ("exchange",), True),
    Subject("url_rewrite", url_rewrite, "EX2", {}, ("host",), True),
    Subject("mitigation", mitigation, "EX1", {"mitigations": ["M1", "M2"], "when_em_active": "take_over"}, ("host", "exchange"), True),
)


def fleet() -> Any:
    """Return a fleet that is not started: a server for everything, and one without URL Rewrite."""
    from lab.builds import default_plan
    from lab.fleet import Fleet

    plans = default_plan(3)
    bare = next(plan for plan in plans if not plan.url_rewrite)
    return Fleet([plans[0], dataclasses.replace(bare, name="EX2")], lag=0)


@dataclasses.dataclass
class Case:
    """How one case went: ``result`` of the base, ``outcome`` ok, failed, unreachable or timeout, the action that was hit."""

    what: str
    result: dict[str, Any]
    outcome: str
    hit: str
    fired: int
    calls: list[Any]
    left: list[dict[str, str]]


class WireBench:
    """One subject over one way to connect: counted once without a fault, then case by case."""

    def __init__(self, running: Any, subject: Subject, way: tuple[str, bool], folder: pathlib.Path) -> None:
        self.fleet = running
        self.subject = subject
        self.way = way
        self.folder = folder
        self.number = 0
        self.machine = running.machine(subject.server)
        running.faults.clear()
        self.kept = Kept(self.machine)
        self.settings = {name: self._settings(name) for name in ("organization", self.machine.name)}
        if subject.module is event_info:
            self.machine.events.add("MSExchange Mitigation Service", 1005, "A mitigation was applied.")
            self.kept = Kept(self.machine)
        self.before = self.look()
        counters = {endpoint: running.faults.add("slow", self.machine.name, endpoint=endpoint, seconds=0) for endpoint in subject.endpoints}
        clean = self.run("no fault")
        self.totals = {endpoint: int(counter.seen) for endpoint, counter in counters.items()}
        assert clean.outcome == "ok", clean.result
        assert clean.left == [], clean.left
        self.clean = clean.result
        self.writes = collections.Counter(self._key(ran) for ran in clean.calls if ran.write)
        assert bool(self.writes) == subject.writes
        self.after = self.look()
        assert (self.after != self.before) == subject.writes
        self.restore()

    def _settings(self, name: str) -> dict[str, Any]:
        fields = ("MitigationsEnabled", "MitigationsBlocked") if name != "organization" else ("MitigationsEnabled",)
        found = self.fleet.organization.settings(self._directory_name(name))
        return {field: found.get(field) or None if field == "MitigationsBlocked" else found.get(field) for field in fields}

    @staticmethod
    def _directory_name(name: str) -> str:
        from lab.organization import NAME

        return NAME if name == "organization" else name

    @staticmethod
    def _key(ran: Any) -> str:
        return f"{ran.cmdlet} {sorted((name, repr(value)) for name, value in ran.parameters.items())}"

    def look(self) -> dict[str, Any]:
        """Return what the module may change, by name."""
        subject = self.subject
        if subject.module is service:
            found = self.machine.services.get(SERVICE)
            return {"state": found.state, "start": found.start}
        if subject.module in (server, organization):
            return {name: self._settings(name) for name in ("organization", self.machine.name)}
        if subject.module is url_rewrite:
            return {"files": {path: value for path, value in hashes(self.machine).items() if "exchange.mitigation-" not in path and "Temp" not in path}}
        if subject.module is mitigation:
            files = {path: value for path, value in hashes(self.machine).items() if path.endswith(".config") and "exchange.mitigation" not in path}
            return {**files, "blocked": self._settings(self.machine.name)}
        return {"files": hashes(self.machine)}

    def restore(self) -> None:
        """Put the server and the organisation back."""
        self.fleet.faults.clear()
        self.fleet._server.open_ports(self.machine)
        for service_ in self.fleet._server.services.values():
            service_.vanish()
        self.machine.services._pending.clear()
        self.kept.restore()
        for name, values in self.settings.items():
            self.fleet.organization.change(self._directory_name(name), values)
        self.fleet.organization.directory.settle()
        self.number += 1

    def options(self) -> dict[str, Any]:
        """Return what is asked in this case."""
        more: dict[str, Any] = {}
        if self.subject.module is mitigation:
            more["journal_dir"] = str(self.folder / f"journal{self.number}")
        if self.subject.module is url_rewrite:
            more["source"] = self.fleet.package_path.as_posix()
        return {**self.subject.options, **more}

    def run(self, what: str, armed: Any = None) -> Case:
        """Run the module as the action base does, with whatever is armed."""
        self.fleet.access_log.clear()
        validated = ArgumentSpecValidator(**self.subject.module.SPEC).validate(self.options())
        assert not validated.error_messages, validated.error_messages
        task = LabTask(self.fleet, self.machine, validated.validated_parameters, kind=self.way[0], secure=self.way[1])
        base: Any = types.SimpleNamespace(_task=types.SimpleNamespace(check_mode=False, diff=True))
        try:
            try:
                result = ControllerAction._outcome(base, self.subject.module, task)  # type: ignore[arg-type]
            finally:
                task.close()
            outcome = "unreachable" if result.get("unreachable") else "failed" if result.get("failed") else "ok"
        except TaskTimeout:
            result, outcome = {}, "timeout"
        left = self.fleet._server.open_shells()
        return Case(what, result, outcome, armed.hit if armed else "", armed.fired if armed else 0, list(self.fleet.access_log.calls), left)

    # What must hold

    def judge(self, case: Case) -> None:
        """A sentence, no second write, nothing left open, and a server that is before or after."""
        self._sentence(case)
        done = collections.Counter(self._key(ran) for ran in case.calls if ran.write and ran.cmdlet not in TWICE)
        again = {key: count for key, count in done.items() if count > max(1, self.writes.get(key, 0))}
        assert not again, f"{case.what}: sent a second time: {again}"
        now = self.look()
        for key in {**self.before, **self.after}:
            assert now.get(key) in (self.before.get(key), self.after.get(key)), f"{case.what}: {key} is {now.get(key)}, neither before nor after"

    def _sentence(self, case: Case) -> None:
        result = case.result
        if case.outcome in ("ok", "timeout"):
            return
        said, reason = str(result["msg"]), str(result["reason"])
        assert reason != "unexpected_error", f"{case.what}: {result.get('exception')}"
        assert said and "\n" not in said and len(said) < 1500, f"{case.what}: {said!r}"
        for sign in ("Traceback", " object at 0x", "Error(", "Exception(", self.fleet.password):
            assert sign not in said, f"{case.what}: {said!r}"
        assert reason.replace("_", "").isalnum() and reason == reason.lower(), f"{case.what}: {reason!r}"

    def finish(self, case: Case) -> None:
        """Run again without a fault: it is ok, and the server is after."""
        self.fleet.faults.clear()
        self.fleet._server.open_ports(self.machine)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(PATIENCE, "seconds", 30)
            again = self.run(f"{case.what}, run again")
        assert again.outcome == "ok", f"{again.what}: {again.result}"
        assert self.look() == self.after, f"{again.what}: not after"
        if self.subject.module is url_rewrite:
            assert our_folders(self.machine) == [], again.what


def impatient(patch: Any) -> None:
    """Let every client give up after PATIENCE seconds instead of after half a minute."""
    for kind, name in ((_transport.PywinrmTransport, "read_timeout_sec"), (_transport.OneTry, "read_timeout")):
        genuine: Callable[..., None] = kind.__init__

        def made(self: Any, transport: Any, *more: Any, genuine: Any = genuine, name: str = name, **named: Any) -> None:
            genuine(self, transport, *more, **named)
            setattr(transport, name, PATIENCE["seconds"])

        patch.setattr(kind, "__init__", made)


def interrupting(patch: Any) -> Callable[[], None]:
    """Return a function that lets the task's time pass, to be called from any thread."""
    main = threading.main_thread().ident

    def passed(dummy_number: int, dummy_frame: Any) -> None:
        raise TaskTimeout

    before = signal.signal(signal.SIGUSR1, passed)
    patch.callback(signal.signal, signal.SIGUSR1, before)
    assert main is not None
    return lambda: signal.pthread_kill(main, signal.SIGUSR1)
