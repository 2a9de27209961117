# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The services and application pools of a simulated server; a transition is immediate unless a test gives it a delay."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

from lab.sidecar import Sidecar

RUNNING, STOPPED = "Running", "Stopped"
#: Between the two, for as long as a fault says.
START_MODES = ("Automatic", "Manual", "Disabled")


class ServiceProblem(Exception):
    """A refused service operation; ``kind``: absent, disabled, dependency, dependents, cannot-stop, stopping."""

    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind
        self.name = name
        super().__init__(f"{kind}: {name}")


@dataclasses.dataclass
class Service:
    """One service. ``depends``: names it needs; ``start``: Automatic, Manual or Disabled."""

    name: str
    display: str
    state: str = RUNNING
    start: str = "Automatic"
    depends: tuple[str, ...] = ()
    kind: str = "Win32OwnProcess"
    path: str = ""
    account: str = "LocalSystem"
    can_stop: bool = True


class Services:
    """All services, by name without regard to case."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar
        #: called with the name after a service has started, such as for W3SVC and its pools
        self.started: list[Callable[[str], None]] = []
        #: lower-case name -> seconds that a start or stop takes (infinity: it never ends); not there: at once
        self.delays: dict[str, float] = {}
        self._pending: dict[str, tuple[str, float]] = {}

    def _rows(self) -> dict[str, Any]:
        return self._sidecar.section("services")

    def add(self, service: Service) -> None:
        """Register a service."""
        self._rows()[service.name.lower()] = dataclasses.asdict(service)
        self._sidecar.save()

    def remove(self, name: str) -> None:
        """Unregister a service."""
        self._rows().pop(name.lower(), None)
        self._sidecar.save()

    def find(self, name: str) -> Service | None:
        """Return the service, or None."""
        row = self._rows().get(name.lower())
        target, until = self._pending.get(name.lower(), ("", float("inf")))
        if row and time.monotonic() >= until:
            del self._pending[name.lower()]
            if row["state"].endswith("Pending"):
                row["state"] = target
        return Service(**{**row, "depends": tuple(row["depends"])}) if row else None

    def get(self, name: str) -> Service:
        """Return the service; raises ServiceProblem ``absent``."""
        found = self.find(name)
        if found is None:
            raise ServiceProblem("absent", name)
        return found

    def all(self) -> list[Service]:
        """Return every service, sorted by name."""
        return [self.get(name) for name in sorted(self._rows())]

    def dependents(self, name: str) -> list[Service]:
        """Return the services that need this one."""
        return [other for other in self.all() if name.lower() in (need.lower() for need in other.depends)]

    def running(self, name: str) -> bool:
        """Whether the service exists and runs."""
        found = self.find(name)
        return found is not None and found.state == RUNNING

    def start(self, name: str) -> None:
        """Start a service with what it needs; a running one is left alone."""
        service = self.get(name)
        if service.state in (RUNNING, "StartPending"):
            return
        if service.state == "StopPending":
            raise ServiceProblem("stopping", name)
        if service.start == "Disabled":
            raise ServiceProblem("disabled", name)
        for need in service.depends:
            if self.find(need) is None:
                continue
            try:
                self.start(need)
            except ServiceProblem as problem:
                raise ServiceProblem("dependency", name) from problem
        self._move(name, RUNNING, "StartPending")
        for listener in self.started:
            listener(service.name)

    def stop(self, name: str, force: bool = False) -> list[str]:
        """Stop a service; with ``force`` its running dependents first. Returns what was stopped, in order."""
        service = self.get(name)
        if service.state == STOPPED:
            return []
        if not service.can_stop:
            raise ServiceProblem("cannot-stop", name)
        stopped: list[str] = []
        for other in self.dependents(name):
            if other.state == STOPPED:
                continue
            if not force:
                raise ServiceProblem("dependents", name)
            stopped += self.stop(other.name, force=True)
        self._move(name, STOPPED, "StopPending")
        return [*stopped, service.name]

    def stop_slowly(self, name: str, seconds: float) -> None:
        """Tell a service to stop, which takes it that long."""
        self.delays[name.lower()] = seconds
        self.stop(name)
        del self.delays[name.lower()]

    def set_start(self, name: str, mode: str) -> None:
        """Set the start mode."""
        if mode not in START_MODES:
            raise ValueError(f"{mode} is no start mode")
        self.get(name)
        self._set(name, start=mode)

    def boot(self) -> None:
        """Put every service where a boot puts it."""
        for service in self.all():
            self._set(service.name, state=STOPPED)
        for service in self.all():
            if service.start == "Automatic":
                try:
                    self.start(service.name)
                except ServiceProblem:
                    continue

    def _move(self, name: str, state: str, meanwhile: str) -> None:
        """Bring a service into a state: at once, or after its delay."""
        delay = self.delays.get(name.lower(), 0.0)
        if delay:
            self._pending[name.lower()] = (state, time.monotonic() + delay)
        self._set(name, state=meanwhile if delay else state)

    def _set(self, name: str, **changes: Any) -> None:
        self._rows()[name.lower()].update(changes)
        self._sidecar.save()


class PoolProblem(Exception):
    """A refused operation on an application pool; ``kind``: absent, already."""

    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind
        self.name = name
        super().__init__(f"{kind}: {name}")


class Pools:
    """States of the application pools; which pools exist is what applicationHost.config says."""

    def __init__(self, sidecar: Sidecar, configured: Callable[[], dict[str, dict[str, str]]]) -> None:
        self._sidecar = sidecar
        self._configured = configured

    def names(self) -> list[str]:
        """Return the configured pools."""
        return list(self._configured())

    def name(self, pool: str) -> str:
        """Return the pool's name as configured; raises PoolProblem ``absent``."""
        for known in self._configured():
            if known.lower() == pool.lower():
                return known
        raise PoolProblem("absent", pool)

    def auto_start(self, pool: str) -> bool:
        """Whether IIS starts the pool by itself."""
        return self._configured()[self.name(pool)].get("autoStart", "true").lower() == "true"

    def state(self, pool: str) -> str:
        """Return Started or Stopped; a pool nobody touched is as its autoStart says."""
        name = self.name(pool)
        default = "Started" if self.auto_start(name) else "Stopped"
        state: str = self._sidecar.section("pools").get(name.lower(), default)
        return state

    def start(self, pool: str) -> None:
        """Start a pool; a started one is refused (``already``)."""
        self._change(pool, "Started")

    def stop(self, pool: str) -> None:
        """Stop a pool; a stopped one is refused (``already``)."""
        self._change(pool, "Stopped")

    def pin(self, pool: str) -> None:
        """Keep the pool in the state it is in: its autoStart is about to change, which starts and stops nothing."""
        name = self.name(pool)
        self._sidecar.section("pools")[name.lower()] = self.state(name)
        self._sidecar.save()

    def restart(self) -> None:
        """Forget what was started or stopped by hand, as a start of IIS does."""
        self._sidecar.section("pools").clear()
        self._sidecar.save()

    def _change(self, pool: str, state: str) -> None:
        name = self.name(pool)
        if self.state(name) == state:
            raise PoolProblem("already", name)
        self._sidecar.section("pools")[name.lower()] = state
        self._sidecar.save()
