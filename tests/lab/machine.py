# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulated Exchange server: one folder that is its C:, one JSON file with everything else, and its IIS."""

from __future__ import annotations

import dataclasses
import datetime
import pathlib
import threading
from collections.abc import Callable
from typing import Any

from lab.files import Files
from lab.iis_engine import Iis
from lab.registry import Registry
from lab.services import Pools, Services
from lab.sidecar import Sidecar

LANGUAGE_MODES = ("FullLanguage", "ConstrainedLanguage", "NoLanguage")
SYSTEM_ENVIRONMENT = {
    "SystemDrive": "C:",
    "SystemRoot": "C:\\Windows",
    "windir": "C:\\Windows",
    "ProgramFiles": "C:\\Program Files",
    "ProgramData": "C:\\ProgramData",
    "TEMP": "C:\\Windows\\TEMP",
}


@dataclasses.dataclass
class OperatingSystem:
    """What Win32_OperatingSystem tells; ``language`` is an LCID."""

    caption: str = "Microsoft Windows Server 2019 Standard"
    version: str = "10.0.17763"
    build: str = "17763"
    product_type: int = 3
    language: int = 1033
    last_boot: str = "2026-11-01T03:15:00+00:00"
    hotfixes: tuple[str, ...] = ()

    def booted(self) -> datetime.datetime:
        """Return the last boot as an aware time."""
        return datetime.datetime.fromisoformat(self.last_boot)


class Events:
    """The event log: rows {log, provider, id, level, time, message, record}, oldest first."""

    def __init__(self, sidecar: Sidecar, clock: Callable[[], datetime.datetime] | None = None) -> None:
        self._sidecar = sidecar
        self._clock = clock or (lambda: datetime.datetime.now(datetime.timezone.utc))

    def rows(self) -> list[dict[str, Any]]:
        """Return all events."""
        return list(self._sidecar.rows("events"))

    def add(
        self, provider: str, number: int, message: str, level: str = "Information", log: str = "Application", time: datetime.datetime | None = None
    ) -> None:
        """Append an event; ``time`` is aware and defaults to now."""
        rows = self._sidecar.rows("events")
        when = time or self._clock()
        rows.append({
            "log": log, "provider": provider, "id": number, "level": level, "time": when.isoformat(), "message": message,
            "record": len(rows) + 1,
        })  # fmt: skip
        self._sidecar.save()


class Machine:
    """One server. ``directory`` holds ``C`` (its drive) and ``state.json``; ``fleet`` is the shared organisation, or None."""

    def __init__(self, directory: pathlib.Path, fleet: Any = None) -> None:
        self.directory = directory
        self.root = directory / "C"
        self.root.mkdir(parents=True, exist_ok=True)
        self.fleet = fleet
        #: one cmdlet at a time
        self.lock = threading.RLock()
        self.sidecar = Sidecar(directory / "state.json")
        self.environment: dict[str, str] = self.sidecar.section("environment")
        for name, value in SYSTEM_ENVIRONMENT.items():
            self.environment.setdefault(name, value)
        self.files = Files(self.root, self.sidecar, self.environment, self.fault)
        self.registry = Registry(self.sidecar)
        self.services = Services(self.sidecar)
        self.iis = Iis(self)
        self.pools = Pools(self.sidecar, self.iis.pools)
        self.events = Events(self.sidecar, self.now)
        self.services.started.append(lambda name: self.pools.restart() if name in ("W3SVC", "WAS") else None)
        #: user -> password, set by whoever makes the fleet
        self.users: dict[str, str] = {}
        self.address = "127.0.0.1"
        self.language_mode = "FullLanguage"
        #: whether sslFlags of /PowerShell has Ssl
        self.exchange_requires_tls = False

    # -- identity ------------------------------------------------------------------------------------------------------

    def identity(self, **changes: str) -> dict[str, str]:
        """Return name, fqdn, product and build; ``changes`` are stored."""
        section: dict[str, str] = self.sidecar.section("identity")
        if changes:
            section.update(changes)
            self.sidecar.save()
        return section

    @property
    def publishes_exchange(self) -> bool:
        """Whether IIS publishes Exchange's cmdlets: the Mailbox role does, nothing else."""
        return bool(self.registry.exists("HKLM:\\SOFTWARE\\Microsoft\\ExchangeServer\\v15\\MailboxRole"))

    @property
    def name(self) -> str:
        """The NetBIOS name."""
        return self.identity().get("name", self.directory.name.upper())

    @property
    def fqdn(self) -> str:
        """The DNS name."""
        return self.identity().get("fqdn", f"{self.name.lower()}.lab.example")

    @property
    def product(self) -> str:
        """Exchange2016, Exchange2019 or ExchangeSE."""
        return self.identity().get("product", "Exchange2019")

    @property
    def build(self) -> str:
        """The build of ExSetup.exe as ``15.2.1748.43``."""
        return self.identity().get("build", "0.0.0.0")

    @property
    def exchange_path(self) -> str:
        r"""ExchangeInstallPath, with its trailing ``\``."""
        return self.environment.get("ExchangeInstallPath", "C:\\Program Files\\Microsoft\\Exchange Server\\V15\\")

    @property
    def os(self) -> OperatingSystem:
        """What kind of Windows it is."""
        stored = dict(self.sidecar.section("os"))
        stored["hotfixes"] = tuple(stored.get("hotfixes", ()))
        return OperatingSystem(**stored)

    def set_os(self, system: OperatingSystem) -> None:
        """Store what kind of Windows it is."""
        self.sidecar.section("os").update(dataclasses.asdict(system))
        self.sidecar.save()

    # -- file versions -------------------------------------------------------------------------------------------------

    def version_of(self, path: str) -> dict[str, str]:
        """Return the version resource of a file ({FileVersion, ProductVersion, FileDescription…}), empty when it has none."""
        found: dict[str, str] = self.sidecar.section("versions").get(self.files.path(path).lower(), {})
        return dict(found)

    def set_version(self, path: str, **resource: str) -> None:
        """Give a file a version resource."""
        self.sidecar.section("versions")[self.files.path(path).lower()] = resource
        self.sidecar.save()

    # -- faults and life -----------------------------------------------------------------------------------------------

    def fault(self, name: str) -> Any:
        """Whether a fault is active here (the value that the fleet's faults give for it)."""
        faults = getattr(self.fleet, "faults", None)
        active = getattr(faults, "active", None)
        return active(name, self) if active is not None else None

    def now(self) -> datetime.datetime:
        """What the server's clock shows, UTC."""
        skewed = self.fault("clock-skew")
        hours = float(getattr(skewed, "options", {}).get("hours", 5)) if skewed else 0.0
        return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=hours)

    def reboot(self) -> None:
        """Start Windows anew: services by start mode, pools by autoStart, a newer LastBootUpTime, no pending reboot."""
        with self.lock, self.sidecar.hold():
            self.set_os(dataclasses.replace(self.os, last_boot=self.now().isoformat()))
            self.registry.delete("HKLM:\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Component Based Servicing\\RebootPending")
            self.registry.delete("HKLM:\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\WindowsUpdate\\Auto Update\\RebootRequired")
            self.registry.delete_value("HKLM:\\SYSTEM\\CurrentControlSet\\Control\\Session Manager", "PendingFileRenameOperations")
            self.pools.restart()
            self.services.boot()
