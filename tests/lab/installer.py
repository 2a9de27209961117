# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Windows Installer of a simulated server: packages of a format of our own, exit codes, logs, and what URL Rewrite's package does.

A package is ``LABMSI`` and a JSON object (``Package``), padded to the size that a test wants. What a real package does to
registry, files and applicationHost.config is FACTS.md 6; which states a real one leaves behind when it is interrupted is assumed.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import threading
import time
from typing import Any

from lab import stock_host
from lab.files import FileProblem
from lab.iis_config import APPLICATION_HOST
from lab.kernel import LabRefusal
from lab.pipeline import Stopped

MAGIC = b"LABMSI\r\n"
REWRITE_KEY = "HKLM:\\SOFTWARE\\Microsoft\\IIS Extensions\\URL Rewrite"
UNINSTALL_KEY = "HKLM:\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Uninstall\\"
SESSION_MANAGER = "HKLM:\\SYSTEM\\CurrentControlSet\\Control\\Session Manager"
REWRITE_DLL = "C:\\Windows\\System32\\inetsrv\\rewrite.dll"
#: language -> (display name, word for error, line of the failing action, sentence of a failed installation)
LANGUAGES = {
    "en": ("IIS URL Rewrite Module 2", "Error", "Action ended 10:11:12: InstallFinalize. Return value 3.", "Installation failed."),
    "de": ("IIS URL Rewrite-Modul 2", "Fehler", "Aktion beendet um 10:11:12: InstallFinalize. Rückgabewert 3.", "Installation ist fehlgeschlagen."),
    "fr": ("Module réécriture d'adresse IIS 2", "Erreur", "Action terminée à 10:11:12 : InstallFinalize. Valeur renvoyée 3.", "Échec de l'installation."),
}
#: versions that Microsoft published, with the product code of one language each (FACTS.md 6; the code of 2.0 stands for its number)
CODES = {
    "7.2.2": "{EB675D0A-2C95-405B-BEE8-B42A65D23E11}",
    "7.2.1952": "{08F0318A-D113-4CF0-993E-50F191D397AD}",
    "7.2.1993": "{9BCA2118-F753-4A1E-BCF3-5A820729965C}",
}


@dataclasses.dataclass(frozen=True)
class Package:
    """A package. ``exits``: exit codes of its runs in turn, the last one for all others; without any it does its work and ends with 0.

    ``interrupt``: before, half or after: the server restarts at that point of its work, for ``down`` seconds.
    ``status`` and ``signer`` (DER) are what Get-AuthenticodeSignature says. ``error``: number and text for the log.
    """

    version: str = "7.2.1993"
    code: str = CODES["7.2.1993"]
    language: str = "en"
    exits: tuple[int, ...] = ()
    error: tuple[int, str] | None = None
    interrupt: str = ""
    down: float = 0.3
    brings: str = "url-rewrite"
    status: str = "Valid"
    signer: bytes = b""
    #: certificates (DER) that stand in the file beside the signer's
    chain: tuple[bytes, ...] = ()

    def data(self, size: int = 0) -> bytes:
        """Return the bytes of the package file."""
        fields = dataclasses.asdict(self) | {"signer": base64.b64encode(self.signer).decode("ascii"), "chain": ()}
        text = MAGIC + json.dumps(fields).encode("utf-8") + b"\n" + b"".join(self.chain)
        return text + b"\x00" * max(0, size - len(text))


def read(data: bytes) -> Package | None:
    """Return the package in these bytes, None where they are none."""
    if not data.startswith(MAGIC):
        return None
    fields = json.loads(data[len(MAGIC) :].partition(b"\n")[0])
    fields["signer"] = base64.b64decode(fields["signer"])
    fields["chain"] = ()
    fields["exits"] = tuple(fields["exits"])
    fields["error"] = tuple(fields["error"]) if fields["error"] else None
    return Package(**fields)


_COMMAND = re.compile(r'(?P<verb>/i|/fvamus|/x) (?:"(?P<path>[^"]+)"|(?P<code>\{[0-9A-F-]+\})) /quiet /norestart /l\* "(?P<log>[^"]+)"', re.IGNORECASE)


def msiexec(machine: Any, arguments: str) -> int:
    """Run Windows Installer with a command line and return its exit code."""
    found = _COMMAND.fullmatch(arguments)
    if found is None:
        raise LabRefusal(f"the lab's msiexec does not know the command line {arguments}")
    state = machine.sidecar.section("installer")
    if state.get("busy", 0):
        state["busy"] -= 1
        return 1618
    if found["verb"].lower() == "/x":
        code = 0 if machine.registry.exists(UNINSTALL_KEY + found["code"]) else 1605
        if code == 0:
            _remove(machine, found["code"])
        _log(machine, found["log"], [f"Property(S): ProductCode = {found['code']}", f"MainEngineThread is returning {code}"])
        return code
    try:
        data = machine.files.read(found["path"])
    except FileProblem:
        return 1619
    package = read(data)
    if package is None:
        return 1620
    return _Run(machine, package, found["log"], found["verb"].lower() == "/fvamus").exit_code()


class _Run:
    """One run of one package."""

    def __init__(self, machine: Any, package: Package, log: str, repair: bool) -> None:
        self.machine = machine
        self.package = package
        self.log = log
        self.repair = repair

    def exit_code(self) -> int:
        """Do what the package does; returns the exit code."""
        package, machine = self.package, self.machine
        state = machine.sidecar.section("installer")
        runs = state["runs"] = state.get("runs", 0) + 1
        scripted = package.exits[min(runs, len(package.exits)) - 1] if package.exits else None
        if scripted is not None and scripted not in (0, 3010, 1641):
            return self._fail(scripted, package.error)
        blocked = self._condition()
        if blocked is not None:
            return blocked
        self._interrupted("before")
        install(machine, package, half=lambda: self._interrupted("half"))
        self._interrupted("after")
        _log(machine, self.log, [f"Property(S): ProductVersion = {package.version}", "MainEngineThread is returning 0"])
        code = scripted or 0
        if code in (3010, 1641):
            machine.registry.set(SESSION_MANAGER, "PendingFileRenameOperations", ["\\??\\C:\\Windows\\Temp\\rewrite.old", ""], "REG_MULTI_SZ")
        if code == 1641:
            threading.Timer(0.2, restart, (machine, package.down)).start()
        return code

    def _condition(self) -> int | None:
        """Return the exit code of a condition that is not met: the launch conditions of the package and what is installed already."""
        machine, package = self.machine, self.package
        installed = products(machine)
        if self.repair:
            return None if package.code.lower() in {code.lower() for code in installed} else self._fail(1605, None)
        if package.code.lower() in {code.lower() for code in installed} and not package.interrupt:
            _log(machine, self.log, ["MainEngineThread is returning 0"])
            return 0
        if any(_numbers(version) > _numbers(package.version) for version in installed.values()):
            return self._fail(1603, (25031, "A newer version of this product is installed."))
        if any(_numbers(version) == _numbers(package.version) for version in installed.values()):
            return self._fail(1638, None)
        if machine.os.version.startswith("6.") and "KB2999226" not in machine.os.hotfixes and not machine.files.is_file("C:\\Windows\\System32\\ucrtbase.dll"):
            return self._fail(1603, (1720, "The Universal C Runtime is missing."))
        return None

    def _fail(self, code: int, error: tuple[int, str] | None) -> int:
        name, word, action, sentence = LANGUAGES[self.package.language]
        lines = [f"MSI (s) (A0:5C) [10:11:12:123]: Product: {name} -- {word} {error[0]}. {error[1]}", ""] if error else []
        lines += [action, f"MSI (s) (A0:5C) [10:11:12:456]: Product: {name} -- {sentence}"] if code == 1603 else []
        _log(self.machine, self.log, ["=== Verbose logging started ===", *lines, f"MainEngineThread is returning {code}"])
        return code

    def _interrupted(self, where: str) -> None:
        if self.package.interrupt == where:
            restart(self.machine, self.package.down)
            time.sleep(0.05)
            raise Stopped  # nobody is there to hear it any more


def restart(machine: Any, seconds: float) -> None:
    """Restart a server, with its listeners where it has some. ``machine.stubborn``: it says yes and does not."""
    if getattr(machine, "stubborn", False):
        return
    wire = getattr(machine.fleet, "wire", None)
    if wire is not None:
        wire.reboot(machine, seconds)
    else:
        machine.reboot()


def products(machine: Any) -> dict[str, str]:
    """Return product code -> version of what is installed of URL Rewrite."""
    found = {}
    for code in machine.registry.subkeys(UNINSTALL_KEY.rstrip("\\")):
        name = str(machine.registry.get(UNINSTALL_KEY + code, "DisplayName") or "")
        if name in {texts[0] for texts in LANGUAGES.values()}:
            found[code] = str(machine.registry.get(UNINSTALL_KEY + code, "DisplayVersion"))
    return found


def install(machine: Any, package: Package, half: Any = lambda: None) -> None:
    """Bring a version of URL Rewrite onto a server, other versions away; ``half`` is called between file and registration."""
    if package.brings != "url-rewrite":
        return
    for code in products(machine):
        machine.registry.delete(UNINSTALL_KEY + code)
    machine.files.write(REWRITE_DLL, b"MZ lab rewrite " + package.version.encode())
    file_version = "7.1." + ".".join(package.version.split(".")[2:]) + ".2351"
    machine.set_version(REWRITE_DLL, FileVersion=file_version, ProductVersion=package.version, FileDescription="URL Rewrite Module", CompanyName="Lab")
    half()
    machine.registry.set(REWRITE_KEY, "Version", package.version)
    machine.registry.set(REWRITE_KEY, "Install", 1, "REG_DWORD")
    key = UNINSTALL_KEY + package.code
    machine.registry.set(key, "DisplayName", LANGUAGES[package.language][0])
    machine.registry.set(key, "DisplayVersion", package.version)
    machine.registry.set(key, "Publisher", "Microsoft Corporation")
    machine.registry.set(key, "WindowsInstaller", 1, "REG_DWORD")
    machine.files.write(APPLICATION_HOST, registered(machine.files.read(APPLICATION_HOST)))


def _remove(machine: Any, code: str) -> None:
    machine.registry.delete(UNINSTALL_KEY + code)
    machine.registry.delete(REWRITE_KEY)
    if machine.files.is_file(REWRITE_DLL):
        machine.files.delete(REWRITE_DLL)
    machine.files.write(APPLICATION_HOST, unregistered(machine.files.read(APPLICATION_HOST)))


def registered(data: bytes) -> bytes:
    """Return applicationHost.config with the sections and the module of URL Rewrite; those that are there stay."""
    full = stock_host.application_host(True)
    group = re.search(rb'[ \t]*<sectionGroup name="rewrite">.*?</sectionGroup>\r\n', full, re.DOTALL)
    if group is None:
        raise LabRefusal("the stock configuration has no section group rewrite")
    if b'<sectionGroup name="rewrite">' not in data:
        data = re.sub(rb"([ \t]*</sectionGroup>\s*</configSections>)", lambda found: group.group(0) + found.group(1), data, count=1)
    image = b'<add name="RewriteModule" image="%SystemRoot%\\system32\\inetsrv\\rewrite.dll" />'
    if image.split(b" image", maxsplit=1)[0] + b" image" not in data:
        data = re.sub(rb"([ \t]*</globalModules>)", lambda found: b"            " + image + b"\r\n" + found.group(1), data, count=1)
    if not re.search(rb'<add name="RewriteModule"(?! image)', data):
        entry = b'                <add name="RewriteModule" lockItem="false" />\r\n'
        data = re.sub(rb"([ \t]*</modules>)", lambda found: entry + found.group(1), data, count=1)
    return data


def unregistered(data: bytes) -> bytes:
    """Return applicationHost.config without them."""
    data = re.sub(rb'[ \t]*<sectionGroup name="rewrite">.*?</sectionGroup>[ \t]*(\r?\n)?', b"", data, flags=re.DOTALL)
    return re.sub(rb'[ \t]*<add name="RewriteModule"[^>]*/>[ \t]*(\r?\n)?', b"", data)


def _log(machine: Any, path: str, lines: list[str]) -> None:
    machine.files.write(path, "\r\n".join([*lines, ""]).encode("utf-16"))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
