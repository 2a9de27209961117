# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet of simulated Exchange servers with what they share: organisation, feed, certificates, users, access log, faults."""

from __future__ import annotations

import json
import os
import pathlib
import secrets
import shutil
import tempfile
import threading
import weakref
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from . import builds, cmdlets_exchange, em, feed, httpd, installer, inventory, stock
from .accesslog import AccessLog
from .bench import Bench
from .faults import Faults
from .kdc import Kdc
from .kernel import LabRefusal
from .loading import load_cmdlets
from .machine import Machine
from .organization import Organization
from .pki import Pki
from .shells import SessionBudget
from .templates import Template

ADMIN, VIEWER = "LAB\\admin", "LAB\\viewer"

load_cmdlets()


class Fleet:
    """Servers, made by the constructor and reachable between ``start`` and ``stop`` (or inside ``with``).

    ``servers``: how many of the default plan, or a plan. ``state``: the folder of everything; without one a temporary folder
    that ``stop`` removes. ``em``: off, or a variant of ``em.VARIANTS`` that runs every ``em_seconds``. ``faults``: names as on
    the command line. ``lag``: seconds until the other domain controller knows. ``mitigations_enabled``: the organisation's first value.
    ``kerberos``: with a KDC of its own, and Exchange's endpoints Kerberos-only. ``delay``: seconds that every request takes longer.
    ``bench_wrapper``: for the speed comparison only, see ``lab.bench``. ``keep``: whether what happens is remembered for tests.
    """

    def __init__(
        self,
        servers: int | Sequence[builds.ServerPlan] = 3,
        state: str | os.PathLike[str] | None = None,
        *,
        template: str | os.PathLike[str] | None = None,
        port_base: int | None = None,
        access_log: str | os.PathLike[str] | None = None,
        em: str = "off",
        em_seconds: float = 3.0,
        faults: Sequence[str] = (),
        lag: float = 0.25,
        mitigations_enabled: bool | None = True,
        serialization: str = "default",
        kerberos: bool = False,
        delay: float = 0.0,
        bench_wrapper: str | os.PathLike[str] | None = None,
        keep: bool = True,
    ) -> None:
        temporary = state is None
        self.state = pathlib.Path(tempfile.mkdtemp(prefix="exchange-lab-") if state is None else state).resolve()
        self.state.mkdir(parents=True, exist_ok=True)
        #: also runs when the constructor fails or nobody calls stop
        self._cleanup = weakref.finalize(self, shutil.rmtree, self.state, ignore_errors=True) if temporary else None
        self.port_base = port_base
        self.em_behaviour = _behaviour(em)
        self.delay = delay
        self.bench = Bench(pathlib.Path(bench_wrapper)) if bench_wrapper is not None else None
        self.em_seconds = em_seconds
        self.refusals: list[str] = []
        #: what sessions at JEA endpoints asked for beyond their capability
        self.beyond: list[str] = []
        self.access_log = AccessLog(access_log, keep)
        self.faults = Faults()
        self.sessions = SessionBudget()
        self.scripts_received = 0
        self.admin, self.viewer = ADMIN, VIEWER
        self.roles = {ADMIN.lower(): cmdlets_exchange.ADMINISTRATOR, VIEWER.lower(): cmdlets_exchange.VIEWER}
        #: users whose RemotePowerShellEnabled is false
        self.no_remote_powershell: set[str] = set()
        #: server, listener and mechanism of every logon
        self.logons: list[tuple[str, str, str]] = []
        self.users = self._credentials()
        self.pki = Pki(self.state / "pki")
        self.feed = feed.Feed(self.pki, self.state / "feed", self.access_log.write, port=0 if port_base is None else port_base + 9)
        self.plans = {plan.name: plan for plan in (builds.default_plan(servers) if isinstance(servers, int) else servers)}
        self.organization = Organization(lag, mitigations_enabled, serialization)
        for plan in self.plans.values():
            self.organization.add(plan)
        self.organization.keep(self.state / "organization.json")
        for folder in ("state", "journal"):
            (self.state / "controller" / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        #: a package of URL Rewrite on the controller, signed with the name of Microsoft
        self.package_path = self.state / "controller" / "rewrite_amd64_en-US.msi"
        self.package_path.write_bytes(installer.Package(signer=self.pki.signer().der).data(200_000))
        self.template = Template(pathlib.Path(template)) if template is not None else None
        self.machines = [self._machine(plan) for plan in self.plans.values()]
        for text in faults:
            self.fault(text)
        self.kdc = Kdc(self.state / "kdc", self.users, [machine.fqdn for machine in self.machines]) if kerberos else None
        self._surroundings: dict[str, str | None] = {}
        self.ports: dict[str, dict[str, int]] = {}
        self._server: httpd.Server | None = None
        self._stopping = threading.Event()
        self._cycles: threading.Thread | None = None

    # -- making

    def _credentials(self) -> dict[str, str]:
        path = self.state / "credentials.json"
        if path.exists():
            return {str(name): str(word) for name, word in json.loads(path.read_text("utf-8")).items()}
        users = {name: f"Lab-{secrets.token_urlsafe(18)}" for name in (ADMIN, VIEWER)}
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(users, stream, indent=1)
        return users

    def _machine(self, plan: builds.ServerPlan) -> Machine:
        directory = self.state / "servers" / plan.name
        fresh = not (directory / "state.json").exists()
        machine = Machine(directory, self)
        if fresh:
            try:
                stock.build(machine, plan, self.template)
            except BaseException:
                shutil.rmtree(directory, ignore_errors=True)
                raise
        machine.users = dict(self.users)
        files = self.pki.server(machine.name, [machine.fqdn, machine.name.lower()], [machine.address])
        setattr(machine, "tls", (files.certificate, files.key))  # noqa: B010 (read by httpd, which knows no Machine)
        return machine

    @property
    def password(self) -> str:
        """The administrator's password."""
        return self.users[self.admin]

    def machine(self, name: str) -> Machine:
        """Return a machine by name."""
        for machine in self.machines:
            if machine.name.lower() == name.lower():
                return machine
        raise LabRefusal(f"there is no machine {name}")

    # -- running

    def start(self) -> Fleet:
        """Open all listeners; with EM on, also its cycles."""
        self.feed.start()
        try:
            if self.kdc is not None:
                self._use(self.kdc.start().environment())
            self._server = httpd.Server(self)
            self.ports = self._server.start()
        except BaseException:
            self.stop()
            raise
        if self.em_behaviour is not None:
            self._cycles = threading.Thread(target=self._cycle, name="lab-em", daemon=True)
            self._cycles.start()
        return self

    def stop(self) -> None:
        """Close everything; a temporary state folder is removed."""
        self._stopping.set()
        if self._cycles is not None:
            self._cycles.join(10)
        if self._server is not None:
            self._server.stop()
            self._server = None
        if self.kdc is not None:
            self.kdc.stop()
            self._use({})
        self.feed.stop()
        self.access_log.close()
        if self._cleanup is not None:
            self._cleanup()

    def _use(self, environment: dict[str, str]) -> None:
        """Set what the Kerberos library of this process reads, which is where the servers' keys are; nothing puts it back."""
        for name, before in self._surroundings.items():
            if before is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = before
        self._surroundings = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)

    def __enter__(self) -> Fleet:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def port(self, machine: Machine, endpoint: str) -> int:
        """Return the port of one of ``httpd.ENDPOINTS``."""
        if not self.ports:
            raise LabRefusal("the fleet is not started, so it has no ports")
        return self.ports[machine.name][endpoint]

    def write_inventory(self, path: str | os.PathLike[str]) -> None:
        """Write the inventory (.ini: INI, else YAML)."""
        inventory.write(self, pathlib.Path(path))

    def inventory(self) -> dict[str, Any]:
        """Return the inventory as Ansible's YAML plugin reads it."""
        return inventory.content(self)

    def fault(self, text: str) -> None:
        """Switch a fault on by its name on the command line: one of the feed's, or NAME[:server[:k]]."""
        if text in feed.FAULTS:
            self.feed.fault = text
        else:
            self.faults.parse(text)

    # -- EM

    def reaches_feed(self, machine: Machine) -> bool:
        """Return whether the server itself has a way to the internet."""
        return self.plans[machine.name].internet

    def em_cycle(self, variant: str = "skips", **behaviour: str) -> dict[str, list[str] | None]:
        """Run one EM cycle on every machine now; returns what each reports as applied (None: it did not get that far)."""
        chosen = em.Behaviour(variant, **behaviour)
        return {machine.name: em.EmergencyMitigation(machine, self, chosen).cycle() for machine in self.machines}

    def _cycle(self) -> None:
        while not self._stopping.wait(self.em_seconds):
            for machine in self.machines:
                if self.em_behaviour is not None and not self._stopping.is_set():
                    try:
                        em.EmergencyMitigation(machine, self, self.em_behaviour).cycle()
                    except Exception as error:  # a fault of the lab that tests must see, and no reason to leave the other servers alone
                        self.refusals.append(f"{machine.name}: EM: {type(error).__name__}: {error}")


def _behaviour(variant: str) -> em.Behaviour | None:
    return None if variant == "off" else em.Behaviour(variant)
