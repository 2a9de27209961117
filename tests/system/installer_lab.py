# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that tests of installing and of services may change at will: everything is put back afterwards."""

from __future__ import annotations

import copy
import pathlib
from typing import Any

from lab_task import folder


class Kept:
    """A machine's state at one moment: files and everything beside them."""

    def __init__(self, machine: Any) -> None:
        self.machine = machine
        self.data = copy.deepcopy(machine.sidecar.data)
        self.files = {path: path.read_bytes() for path in folder(machine).rglob("*") if path.is_file()}
        self.folders = {path for path in folder(machine).rglob("*") if path.is_dir()}

    def restore(self) -> None:
        """Put it back."""
        machine = self.machine
        for path in sorted(folder(machine).rglob("*"), reverse=True):
            if path.is_file() and path not in self.files:
                path.unlink()
            elif path.is_dir() and path not in self.folders:
                path.rmdir()
        for path, data in self.files.items():
            if not path.exists() or path.read_bytes() != data:
                path.write_bytes(data)
        machine.sidecar.data.clear()
        machine.sidecar.data.update(copy.deepcopy(self.data))
        machine.environment.clear()
        machine.environment.update(machine.sidecar.data.get("environment", {}))
        machine.sidecar.data["environment"] = machine.environment
        machine.sidecar.save()
        machine.language_mode = "FullLanguage"
        for name in ("stubborn", "delegated", "restart_seconds", "visible_commands"):
            if hasattr(machine, name):
                delattr(machine, name)


def our_folders(machine: Any) -> list[str]:
    """Return what this collection left in the Windows folder and in Temp."""
    windows = folder(machine) / "Windows"
    return [path.name for path in windows.glob("exchange.mitigation-*")] + [path.name for path in (windows / "Temp").iterdir()]


def package_file(where: pathlib.Path, package: Any, size: int = 0) -> str:
    """Write a package on the controller and return its path."""
    path = where / "rewrite_amd64_en-US.msi"
    path.write_bytes(package.data(size))
    return str(path)


def bare(fleet: Any) -> Any:
    """EX3, which lacks URL Rewrite."""
    return fleet.machine("EX3")
