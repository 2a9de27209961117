# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variants of a simulated server: Windows release and language, without Exchange, and the states that URL Rewrite can be in."""

from __future__ import annotations

import dataclasses
from typing import Any

from lab import installer
from lab.iis_config import APPLICATION_HOST
from lab.machine import OperatingSystem

#: release -> (version, build, IIS)
RELEASES = {
    "2012R2": ("6.3.9600", "9600", (8, 5)),
    "2016": ("10.0.14393", "14393", (10, 0)),
    "2019": ("10.0.17763", "17763", (10, 0)),
    "2022": ("10.0.20348", "20348", (10, 0)),
    "2025": ("10.0.26100", "26100", (10, 0)),
}
LOCALES = {"en": 1033, "de": 1031, "fr": 1036}
REWRITE_STATES = ("none", "2.0", "2.1", "newer", "broken")


def windows(machine: Any, release: str, language: str, ucrt: bool = True) -> None:
    """Make it another Windows. ``ucrt``: whether 2012 R2 has the Universal C Runtime."""
    version, build, (major, minor) = RELEASES[release]
    name = release.replace("R2", " R2")
    caption = f"Microsoft Windows Server {name} Standard"
    fixes = ("KB2999226",) if ucrt and version.startswith("6.") else ()
    machine.set_os(dataclasses.replace(OperatingSystem(caption, version, build), language=LOCALES[language], hotfixes=fixes))
    web = "HKLM:\\SOFTWARE\\Microsoft\\InetStp"
    machine.registry.set(web, "MajorVersion", major, "REG_DWORD")
    machine.registry.set(web, "MinorVersion", minor, "REG_DWORD")


def without_exchange(machine: Any) -> None:
    """Make it a server on which Exchange was never installed: no registry, no services, no variable, sites as they are."""
    machine.registry.delete("HKLM:\\SOFTWARE\\Microsoft\\ExchangeServer")
    for service in machine.services.all():
        if service.name.startswith("MSExchange"):
            machine.services.remove(service.name)
    machine.environment.pop("ExchangeInstallPath", None)
    machine.sidecar.save()


def rewrite(machine: Any, state: str, language: str = "en") -> None:
    """Bring URL Rewrite into one of ``REWRITE_STATES``; names in the registry are in the language of the server."""
    for code in installer.products(machine):
        machine.registry.delete(installer.UNINSTALL_KEY + code)
    machine.registry.delete(installer.REWRITE_KEY)
    machine.files.write(APPLICATION_HOST, installer.unregistered(machine.files.read(APPLICATION_HOST)))
    if machine.files.is_file(installer.REWRITE_DLL):
        machine.files.delete(installer.REWRITE_DLL)
    if state == "none":
        return
    version = {"2.0": "7.2.2", "2.1": "7.2.1993", "newer": "7.3.2050", "broken": "7.2.1993"}[state]
    code = installer.CODES.get(version, "{77777777-2222-3333-4444-555555555555}")
    installer.install(machine, installer.Package(version, code, language))
    if state == "broken":
        machine.files.delete(installer.REWRITE_DLL)
