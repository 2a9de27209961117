# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Situations in which faults are swept over every message: where they begin, what is asked for, what both ends look like.

A situation is prepared once with real runs; each case then begins from the saved files, services, pools, blocks and journal.
"""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._errors import MitigationError
from ansible_collections.exchange.mitigation.plugins.module_utils._journal import History
from ansible_collections.exchange.mitigation.plugins.modules import mitigation
from lab_task import contents, put_back, run

UM = ("MSExchangeUM", "MSExchangeUMCR")
EX_SETUP = "C:\\Program Files\\Microsoft\\Exchange Server\\V15\\Bin\\ExSetup.exe"
BOTH = ["M1", "M2"]
STATES = ["CVE-2021-26857", "CVE-2021-27065"]


class World:
    """Everything that a mitigation may change of one server, to look at, to save and to put back."""

    def __init__(self, fleet: Any, name: str) -> None:
        self.fleet = fleet
        self.machine = fleet.machine(name)

    def files(self) -> dict[pathlib.Path, bytes]:
        """Return every configuration file; applicationHost.config is IIS's own, and pools speak for it."""
        return {path: data for path, data in contents(self.machine).items() if path.name != "applicationHost.config"}

    def states(self) -> dict[str, tuple[str, Any]]:
        """Return the services and pools that mitigations stop."""
        machine = self.machine
        found: dict[str, tuple[str, Any]] = {
            service.name: (service.state, service.start) for service in (machine.services.find(name) for name in UM) if service is not None
        }
        return found | {name: (machine.pools.state(name), machine.pools.auto_start(name)) for name in ("MSExchangeECPAppPool", "MSExchangeOABAppPool")}

    def blocked(self) -> tuple[str, ...]:
        """Return MitigationsBlocked."""
        return tuple(sorted(self.fleet.organization.settings(self.machine.name).get("MitigationsBlocked") or ()))

    def look(self) -> dict[Any, Any]:
        """Return all of it, by what it is of."""
        return {**self.files(), **self.states(), "blocked": self.blocked()}

    def save(self) -> Callable[[], None]:
        """Return a function that puts everything back as it is now."""
        files, states, blocked = contents(self.machine), self.states(), self.blocked()

        def back() -> None:
            machine = self.machine
            put_back(machine, files)
            for name, (state, mode) in states.items():
                if name in UM:
                    machine.services.set_start(name, "Manual")
                    (machine.services.start if state == "Running" else machine.services.stop)(name)
                    machine.services.set_start(name, mode)
                elif machine.pools.state(name) != state:
                    (machine.pools.start if state == "Started" else machine.pools.stop)(name)
            self.fleet.organization.change(machine.name, {"MitigationsBlocked": list(blocked) or None})
            self.fleet.organization.directory.settle()

        return back


@dataclasses.dataclass(frozen=True)
class Situation:
    """``server`` of the fleet, ``before`` what is run first, ``wanted`` what the faults hit; ``build`` is installed in between."""

    name: str
    server: str
    wanted: dict[str, Any]
    before: tuple[dict[str, Any], ...] = ()
    build: str | None = None
    em: bool = False
    language: str = "FullLanguage"


FIRST: dict[str, Any] = {"mitigations": ["M2"], "run_id": "first"}
UNDO: dict[str, Any] = {"state": "absent", "undo_run_id": "first"}
TAKE_OVER = {"when_em_active": "take_over"}
SITUATIONS = {
    one.name: one
    for one in (
        Situation("apply-rules", "EX1", {"mitigations": BOTH}),
        Situation("undo-rules", "EX1", UNDO, ({**FIRST, "mitigations": BOTH},)),
        Situation("retire-rules", "EX1", {"mitigations": BOTH, "state": "retired"}, ({"mitigations": BOTH},), build="15.01.2507.071"),
        Situation("apply-rules-with-block", "EX1", {"mitigations": BOTH, **TAKE_OVER}, em=True),
        Situation(
            "retire-rules-and-unblock",
            "EX1",
            {"mitigations": BOTH, "state": "retired", "unblock": True},
            ({"mitigations": BOTH, **TAKE_OVER},),
            build="15.01.2507.071",
            em=True,
        ),
        Situation("apply-states", "OLD1", {"mitigations": STATES}),
        Situation("undo-states", "OLD1", {"state": "absent", "mitigations": STATES}, ({"mitigations": STATES},)),
        Situation("retire-states", "OLD1", {"mitigations": STATES, "state": "retired"}, ({"mitigations": STATES},), build="15.01.2242.012"),
        Situation("apply-rules-constrained", "EX1", {"mitigations": ["M2"]}, language="ConstrainedLanguage"),
        Situation("undo-rules-constrained", "EX1", UNDO, (FIRST,), language="ConstrainedLanguage"),
        Situation("apply-rules-jea", "EX1", {"mitigations": ["M2"]}, language="NoLanguage"),
        Situation("undo-rules-jea", "EX1", UNDO, (FIRST,), language="NoLanguage"),
    )
}


def fleet() -> Any:
    """Return a fleet that is not started yet: one server for rules, one of before March 2021 for services and pools."""
    from lab.builds import ServerPlan
    from lab.fleet import Fleet

    return Fleet([ServerPlan("EX1", "Exchange2016", "15.1.2507.13"), ServerPlan("OLD1", "Exchange2016", "15.1.2176.2")], mitigations_enabled=False)


class Bench:
    """One situation, prepared: how a case begins, is run, judged and finished."""

    def __init__(self, running: Any, situation: Situation, directory: pathlib.Path, direct: bool) -> None:
        self.fleet = running
        self.direct = direct
        self.situation = situation
        self.world = World(running, situation.server)
        self.machine = self.world.machine
        self.directory = directory
        self.number = 0
        self.cases = 0
        self.windows = 0
        running.faults.clear()
        running.organization.mitigations_enabled = situation.em
        self.stock = self.world.save()
        self.version = self.machine.version_of(EX_SETUP)
        self.machine.language_mode = situation.language
        for options in situation.before:
            run(mitigation, running, self.machine, {**options, "journal_dir": self.journal}, direct=True)
        if situation.build:
            self.machine.set_version(EX_SETUP, **{**self.version, "FileVersion": situation.build, "ProductVersion": situation.build})
        self.start = self.world.save()
        self.prepared = self.directory / "prepared"
        if pathlib.Path(self.journal).exists():
            shutil.copytree(self.journal, self.prepared)
        self.before = self.world.look()
        #: Messages of the run without a fault by endpoint, those to the host before its first change, and steps in all.
        self.first_change = 0
        self.steps = 0
        self.total = self._count()
        self.after = self.world.look()
        assert self.after != self.before, "the situation changes nothing"

    def close(self) -> None:
        """Leave the fleet as it was found."""
        self.fleet.faults.clear()
        self.machine.language_mode = "FullLanguage"
        self.machine.set_version(EX_SETUP, **self.version)
        self.stock()
        self.fleet.organization.mitigations_enabled = False
        assert self.fleet.scripts_received == 0, "a script was sent"
        assert self.fleet.refusals == [], "the lab was asked for something that it does not know"

    @property
    def journal(self) -> str:
        """The journal directory of this case."""
        return str(self.directory / f"journal{self.number}")

    def _count(self) -> dict[str, int]:
        """Count the messages of the run without a fault, by endpoint."""
        counters = {endpoint: self.fleet.faults.add("slow", self.machine.name, endpoint=endpoint, seconds=0) for endpoint in ("host", "exchange")}

        def note(number: int, kind: str) -> None:
            self.steps = number
            if kind == "change" and not self.first_change:
                self.first_change = int(counters["host"].seen) + 1

        self.run(before=note)
        for counter in counters.values():
            self.fleet.faults.remove(counter)
        return {endpoint: int(counter.seen) for endpoint, counter in counters.items()}

    def begin(self) -> None:
        """Begin a case from where the situation begins."""
        self.fleet.faults.clear()
        self.start()
        shutil.rmtree(self.journal, ignore_errors=True)
        self.number += 1
        self.cases += 1
        if self.prepared.exists():
            shutil.copytree(self.prepared, self.journal)

    def run(self, **around: Any) -> dict[str, Any]:
        """Run what is wanted."""
        return run(mitigation, self.fleet, self.machine, {**self.situation.wanted, "journal_dir": self.journal}, **{"direct": self.direct, **around})

    def judge(self, what: str) -> bool:
        """Everything is before or after, or in a named window; tell whether anything was changed at all.

        The windows: a file with only its backup left, and the beginning of a file that is being copied (no Replace in that
        language); a service or pool whose start mode is the new one and whose state is the old one.
        """
        now = self.world.look()
        for key in {**self.before, **self.after}:
            old, new, seen = self.before.get(key), self.after.get(key), now.get(key)
            if seen in (old, new):
                continue
            if isinstance(key, pathlib.Path):
                backups = [data for path, data in now.items() if isinstance(path, pathlib.Path) and path.name.endswith(".before.config")]
                assert old in backups or new in backups, f"{what}: {key.name} is neither before nor after, and no backup is left"
                assert seen is None or any(whole is not None and whole.startswith(seen) for whole in (old, new)), f"{what}: {key.name}"
            elif isinstance(key, str) and key != "blocked":
                assert seen is not None
                assert all(part in pair for part, pair in zip(seen, zip(old, new))), f"{what}: {key} is {seen}"
            else:
                raise AssertionError(f"{what}: {key} is {seen}, neither {old} nor {new}")
            self.windows += 1
        return now != self.before or bool(self.leftovers())

    def leftovers(self) -> list[str]:
        """Name the configuration files that belong to neither end."""
        return [path.name for path in self.world.files() if path not in self.before and path not in self.after]

    def finish(self, what: str) -> None:
        """Run again without a fault: everything is after, nothing is left over, the journal has no open end."""
        self.fleet.faults.clear()
        again = self.run(direct=True)
        now = self.world.look()
        different = {str(key): (now.get(key), self.after.get(key)) for key in {**now, **self.after} if now.get(key) != self.after.get(key)}
        assert different == {}, f"{what}: after the next run {sorted(different)} ({again['recovered']})"
        assert History(self.journal, self.machine.name).open_operations() == [], what

    def case(self, what: str, **around: Any) -> BaseException | None:
        """Run one case with what is armed, and return what it raised."""
        caught: BaseException | None = None
        try:
            self.run(**around)
        except (MitigationError, KeyboardInterrupt) as exc:
            caught = exc
        except BaseException as exc:
            if type(exc).__name__ not in ("Killed", "TaskTimeoutError"):
                raise
            caught = exc
        touched = self.judge(what)
        # Where neither the server nor the journal was touched there is nothing to be mended.
        if touched or _tree(pathlib.Path(self.journal)) != _tree(self.prepared):
            self.finish(what)
        return caught


def _tree(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.jsonl")}
