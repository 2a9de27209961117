# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module's ``run()`` in this process against a machine of the lab, over the real clients, without an executor around it.

For sweeps, where one ansible-playbook per case would take hours; the playbooks themselves have tests of their own.
"""

from __future__ import annotations

import datetime
import hashlib
import itertools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Answer, Decision, Session, Statement
from session_direct import DirectSession
from session_live import exchange, host


class Killed(BaseException):
    """The controller is gone, as far as anything behind this point can tell."""


class Watched:
    """A session that counts what passes; ``before`` and ``after`` are called around each message with its number."""

    def __init__(
        self, session: Any, before: Callable[[int, str], None], after: Callable[[int, str], None], counter: Iterator[int] | None = None
    ) -> None:
        self.session = session
        self.before = before
        self.after = after
        self.counter = itertools.count(1) if counter is None else counter

    def read(self, statements: Sequence[Statement]) -> list[Answer]:
        """Pass a read on."""
        number = next(self.counter)
        self.before(number, "read")
        answers: list[Answer] = self.session.read(statements)
        self.after(number, "read")
        return answers

    def change(self, statement: Statement) -> Answer:
        """Pass a change on."""
        number = next(self.counter)
        self.before(number, "change")
        try:
            answer: Answer = self.session.change(statement)
        finally:
            self.after(number, "change")
        return answer


def nothing(number: int, kind: str) -> None:
    """Do nothing at a message."""


class LabTask:
    """The Task protocol over a machine of a running fleet."""

    def __init__(
        self,
        fleet: Any,
        machine: Any,
        params: dict[str, Any],
        kind: str = "winrm",
        secure: bool = False,
        before: Callable[[int, str], None] = nothing,
        after: Callable[[int, str], None] = nothing,
        direct: bool = False,
    ) -> None:
        self.params = params
        self.inventory_hostname = machine.name
        self.warnings: list[str] = []
        self.lines: list[str] = []
        self._host: Any = DirectSession(fleet, machine, "host") if direct else host(fleet, machine, kind, secure)
        self._exchange: Any = DirectSession(fleet, machine, "exchange") if direct else exchange(fleet, machine, secure, kind)
        steps = itertools.count(1)
        self.host: Session = Watched(self._host, before, after, steps)
        # Without a wire both endpoints are watched, their steps numbered together.
        self.exchange: Session = Watched(self._exchange, before, after, steps) if direct else Watched(self._exchange, nothing, nothing)

    def now(self) -> datetime.datetime:
        """The current time."""
        return datetime.datetime.now(datetime.timezone.utc)

    def warn(self, message: str) -> None:
        """Keep a warning."""
        self.warnings.append(message)

    def progress(self, message: str) -> None:
        """Keep a line."""
        self.lines.append(message)

    def close(self) -> None:
        """Close both sessions."""
        self._exchange.close()
        self._host.close()


def run(module: Any, fleet: Any, machine: Any, options: dict[str, Any], check: bool = False, **more: Any) -> dict[str, Any]:
    """Run a module as the action base does and return its result; exceptions pass. Sessions are always closed."""
    validated = ArgumentSpecValidator(**module.SPEC).validate(options)
    assert not validated.error_messages, validated.error_messages
    task = LabTask(fleet, machine, validated.validated_parameters, **more)
    try:
        decision: Decision = module.run(task)
        outcome = dict(decision.result, changed=decision.changed, diff=decision.diff, warnings=task.warnings)
        if decision.effect is not None and not check:
            outcome.update(decision.effect())
        outcome["failure"] = decision.failure
        return outcome
    finally:
        task.close()


def folder(machine: Any) -> pathlib.Path:
    """Return the folder that is the machine's C:."""
    return pathlib.Path(machine.root)


def hashes(machine: Any) -> dict[str, str]:
    """Return the SHA-256 of every file on the machine's C: by its path, but for the log in which its own EM service writes."""
    base = folder(machine)
    files = (path for path in sorted(base.rglob("*")) if path.is_file() and "Logging" not in path.parts)
    return {str(path.relative_to(base)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def contents(machine: Any) -> dict[pathlib.Path, bytes]:
    """Return every configuration file of the machine with its bytes."""
    return {path: path.read_bytes() for path in sorted(folder(machine).rglob("*.config")) if path.is_file()}


def put_back(machine: Any, saved: dict[pathlib.Path, bytes]) -> None:
    """Bring the configuration files back to what was saved, and remove others."""
    for path in folder(machine).rglob("*.config"):
        if path.is_file() and path not in saved:
            path.unlink()
    for path, data in saved.items():
        if not path.exists() or path.read_bytes() != data:
            path.write_bytes(data)


#: What a test may change of a server in the organisation.
SERVER_FIELDS = ("MitigationsEnabled", "MitigationsBlocked", "MitigationsApplied", "MitigationsAppliedTime")


def started(servers: int, mitigations_enabled: bool = False) -> Iterator[Any]:
    """Yield a fleet of the usual servers that runs, for a fixture; it is stopped afterwards."""
    from lab.fleet import Fleet

    with Fleet(servers, mitigations_enabled=mitigations_enabled) as fleet:
        yield fleet


def restored(fleet: Any, sessions_stay: bool = False) -> Iterator[Any]:
    """Yield a running fleet for one test; afterwards files and organisation are as before, and no script, refusal or open session is left.

    With ``sessions_stay`` a session may be left open: the way to its server was cut.
    """
    organization = fleet.organization
    fleet.faults.clear()
    fleet.access_log.clear()
    files = {machine.name: contents(machine) for machine in fleet.machines}
    switch = organization.mitigations_enabled
    servers = {machine.name: {field: organization.settings(machine.name).get(field) for field in SERVER_FIELDS} for machine in fleet.machines}
    yield fleet
    fleet.faults.clear()
    organization.mitigations_enabled = switch
    for machine in fleet.machines:
        put_back(machine, files[machine.name])
        organization.change(machine.name, servers[machine.name])
        machine.language_mode = "FullLanguage"
    organization.directory.settle()
    assert fleet.scripts_received == 0, "a script was sent"
    assert fleet.refusals == [], "the lab was asked for something that it does not know"
    assert sessions_stay or fleet._server.open_shells() == [], "a session was left open"
