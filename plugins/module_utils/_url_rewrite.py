# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""URL Rewrite on a server: what it has, what that means, and what would have to be done, in one pipeline of reads.

Works on any Windows Server with IIS, with or without Exchange. Detection is by registry, file and applicationHost.config,
never by a display name, which is localised (FACTS.md 6).
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import datetime
import ntpath
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils import _iis_config as iis
from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import PSObject, plain
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import CmdletError, ConfigurationError, Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sections import RewriteSupport
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Answer, Session, Statement, call
from ansible_collections.exchange.mitigation.plugins.module_utils._observe import (
    ABSENT,
    DEFAULT_WINDOWS,
    ENVIRONMENT,
    URL_REWRITE_KEY,
    content,
    failed,
    file_bytes,
    version_info,
)  # fmt: skip
from ansible_collections.exchange.mitigation.plugins.module_utils._reboot import pending_reasons, pending_statements
from ansible_collections.exchange.mitigation.plugins.module_utils._untrusted import number, word

#: The last version that Microsoft published, as its package says it (FACTS.md 6).
LATEST = "7.2.1993"
IIS_KEY = r"HKLM:\SOFTWARE\Microsoft\InetStp"
UNINSTALL_KEY = r"HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall"
#: The update that brings the Universal C Runtime to Windows Server 2012 and 2012 R2 (FACTS.md 6).
UCRT_UPDATE = "KB2999226"
#: Folders that this collection makes on a server: beside nothing that a user may write to.
FOLDER_PREFIX = "exchange.mitigation-"
OS_PROPERTIES = ["CSName", "Version", "BuildNumber", "Caption", "ProductType", "LastBootUpTime", "OSLanguage"]


def version_key(version: str) -> tuple[int, ...]:
    """Return a version as numbers to compare by.

    The package of URL Rewrite 2.1 is 7.2.1993 and its file 7.1.1993.2351: the second number is not the same everywhere,
    the third is the build. So versions 7.x are compared by build. A text without numbers is older than anything.
    """
    numbers = tuple(int(part) for part in re.findall(r"\d{1,9}", version)[:4])
    return (7, *numbers[2:3]) if len(numbers) >= 3 and numbers[0] == 7 else numbers


@dataclasses.dataclass(frozen=True)
class Machine:
    """What was read of one server.

    ``problem``: why applicationHost.config could not be understood. ``can_install``: whether the endpoint lets Windows Installer be run.
    """

    name: str
    os: Mapping[str, Any]
    boot: datetime.datetime | None
    windows: str
    iis_version: str | None
    registry_version: str | None
    dll_version: str | None
    support: RewriteSupport | None
    problem: str | None
    ucrt_update: bool
    ucrt_file: bool
    pending: tuple[str, ...]
    leftovers: tuple[str, ...]
    application_host: bytes | None
    environment: Mapping[str, str]
    can_install: bool = True

    @property
    def version(self) -> str | None:
        """The version of URL Rewrite: what the registry says, else the file."""
        return self.registry_version or self.dll_version

    @property
    def needs_ucrt(self) -> bool:
        """Whether this Windows does not bring the Universal C Runtime itself."""
        return (6, 0) <= _windows(self.os)[:2] < (10, 0)

    @property
    def ucrt(self) -> bool:
        """Whether the Universal C Runtime is there."""
        return not self.needs_ucrt or self.ucrt_update or self.ucrt_file

    def traces(self) -> dict[str, bool]:
        """Return each trace of an installation: registry, dll, module, section."""
        support = self.support
        return {
            "registry": self.registry_version is not None,
            "dll": self.dll_version is not None,
            "module": bool(support and support.module),
            "section": bool(support and support.declared),
        }

    def facts(self) -> dict[str, Any]:
        """Return the shape for users."""
        return {
            "version": self.version,
            "registry_version": self.registry_version,
            "dll_version": self.dll_version,
            **{name: value for name, value in self.traces().items() if name in ("module", "section")},
            "installed": judge(self).state in ("installed", "outdated"),
        }


@dataclasses.dataclass(frozen=True)
class Judgement:
    """``state``: absent, installed, outdated, broken or unknown; ``why`` as a sentence."""

    state: str
    why: str


def judge(machine: Machine, wanted: str = LATEST) -> Judgement:
    """Return what the traces together mean. A section that is declared alone is what an uninstallation can leave."""
    if machine.problem is not None:
        return Judgement("unknown", f"applicationHost.config cannot be understood: {machine.problem}")
    traces = machine.traces()
    missing = [_WORDS[name] for name, there in traces.items() if not there]
    support = machine.support
    if not traces["registry"] and not traces["dll"] and not (support and support.module_registered):
        return Judgement("absent", "URL Rewrite is not installed")
    version = machine.version or "of unknown version"
    if missing:
        return Judgement("broken", f"URL Rewrite {version} is broken, it lacks {' and '.join(missing)}")
    if version_key(version) < version_key(wanted):
        return Judgement("outdated", f"URL Rewrite {version} is older than {wanted}")
    return Judgement("installed", f"URL Rewrite {version} is installed, at least {wanted} is wanted")


_WORDS = {
    "registry": "its registry key",
    "dll": "rewrite.dll",
    "module": "RewriteModule in applicationHost.config",
    "section": "the section rewrite in applicationHost.config",
}


def action_for(judgement: Judgement, state: str) -> str:
    """Return what has to be done for ``present`` or ``absent``: none, install, upgrade, repair or remove. Raises Refused."""
    if judgement.state == "unknown":
        raise Refused(f"Nothing was changed because it is unknown what is installed: {judgement.why}", "state_unknown")
    if state == "absent":
        return "none" if judgement.state == "absent" else "remove"
    return {"absent": "install", "outdated": "upgrade", "broken": "repair", "installed": "none"}[judgement.state]


def observe(host: Session) -> Machine:
    """Read the server in one pipeline, two where Windows is on another drive. Raises CmdletError, ConnectionFailure."""
    windows = DEFAULT_WINDOWS
    statements = _statements(windows)
    answers = dict(zip(statements, host.read(list(statements.values()))))
    environment = {}
    for item in answers["environment"].objects:
        if isinstance(item, PSObject):
            environment[word(item.get("Key")) or word(item.get("Name")) or ""] = (word(item.get("Value")) or "")
    actual = next((value for name, value in environment.items() if name.lower() in ("windir", "systemroot") and value), windows)
    if actual.rstrip("\\").lower() != windows.lower():
        windows = actual.rstrip("\\")
        again = {name: entry for name, entry in _statements(windows).items() if name in _PLACED}
        answers.update(zip(again, host.read(list(again.values()))))
    system = next((item for item in answers["os"].objects if isinstance(item, PSObject)), None)
    if system is None:
        raise failed(answers["os"]) if answers["os"].errors else CmdletError("Win32_OperatingSystem is empty", "Get-CimInstance", reason="answer_malformed")
    bags = {(word(item.get("PSChildName")) or "").lower(): item for item in answers["keys"].objects if isinstance(item, PSObject)}
    boot = system.get("LastBootUpTime")
    support, problem = None, None
    data: bytes | None = None
    try:
        data = file_bytes(answers["application_host"])
        support = iis.rewrite_support(data) if data is not None else None
    except (ConfigurationError, CmdletError) as exc:
        problem = exc.message
    return Machine(
        name=(word(system.get("CSName")) or ""),
        os={
            "caption": word(system.get("Caption")), "version": word(system.get("Version")), "build": word(system.get("BuildNumber")),
            "language": number(system.get("OSLanguage")), "product_type": number(system.get("ProductType")),
        },
        boot=boot if isinstance(boot, datetime.datetime) else None,
        windows=windows,
        iis_version=_iis_version(bags.get("inetstp")),
        registry_version=_text(bags.get("url rewrite"), "Version"),
        dll_version=_file_version(answers["dll"]),
        support=support,
        problem=problem,
        ucrt_update=bool(answers["hotfix"].objects),
        ucrt_file=any(plain(value) is True for value in answers["ucrt"].objects),
        pending=pending_reasons(answers),
        leftovers=tuple((word(item.get("FullName")) or "") for item in answers["leftovers"].objects if isinstance(item, PSObject) and item.get("FullName")),
        application_host=data,
        environment=environment,
        can_install=bool(answers["installer"].objects),
    )  # fmt: skip


#: Reads whose path depends on where Windows is.
_PLACED = ("dll", "application_host", "ucrt", "leftovers")


def _statements(windows: str) -> dict[str, Statement]:
    system = ntpath.join(windows, "System32")
    return {
        "installer": (call("Get-Command", Name="Start-Process"),),
        "os": (call("Get-CimInstance", ClassName="Win32_OperatingSystem", Property=OS_PROPERTIES),),
        "environment": (call("Get-Item", LiteralPath=[f"Env:{name}" for name in ENVIRONMENT]),),
        "keys": (call("Get-ItemProperty", LiteralPath=[IIS_KEY, URL_REWRITE_KEY]),),
        "hotfix": (call("Get-CimInstance", ClassName="Win32_QuickFixEngineering", Filter=f"HotFixID='{UCRT_UPDATE}'", Property=["HotFixID"]),),
        "ucrt": (call("Test-Path", LiteralPath=ntpath.join(system, "ucrtbase.dll"), PathType="Leaf"),),
        "dll": version_info(ntpath.join(system, "inetsrv", "rewrite.dll")),
        "application_host": content(ntpath.join(system, "inetsrv", "config", "applicationHost.config")),
        "leftovers": (call("Get-ChildItem", LiteralPath=windows, Filter=FOLDER_PREFIX + "*", Directory=True),),
        **pending_statements(),
    }


def refuse_unsuitable(machine: Machine, action: str) -> None:
    """Raise Refused where URL Rewrite cannot be installed on this server, before anything is written."""
    name = machine.name or "this machine"
    if action == "remove" or action == "none":
        return
    if plain(machine.os.get("product_type")) == 1 or _windows(machine.os)[:2] < (6, 2):
        raise Refused(f"{name} runs {machine.os.get('caption')}; Windows Server 2012 or newer is needed", "unsupported_os")
    if machine.iis_version is None or machine.application_host is None:
        raise Refused(f"{name} has no IIS (registry key {IIS_KEY} or applicationHost.config is missing); install the role Web-Server first", "iis_missing")
    if int(re.findall(r"\d{1,9}", machine.iis_version)[0]) < 7:
        raise Refused(f"{name} has IIS {machine.iis_version}; IIS 7 or newer is needed", "iis_missing")
    if not machine.ucrt:
        raise Refused(
            f"{name} runs {machine.os.get('caption')} without the Universal C Runtime, which URL Rewrite needs there; install {UCRT_UPDATE} first",
            "ucrt_missing",
        )


def is_product_code(text: str) -> bool:
    """Tell whether a text has the form of a product code."""
    return _CODE.fullmatch(text) is not None


def product_statement() -> Statement:
    """The keys of installed products."""
    return (call("Get-ChildItem", LiteralPath=UNINSTALL_KEY),)


def find_product(host: Session, machine: Machine, given: str | None) -> str:
    """Return the product code of the installed URL Rewrite. Raises Refused where it cannot be told.

    Product codes differ by language and version, display names by language. What all have is the version that the
    registry of URL Rewrite shows, in a product of Windows Installer whose publisher is Microsoft.
    """
    if given:
        return given.upper()
    (listing,) = host.read([product_statement()])
    names = [word(item.get("PSChildName")) or "" for item in listing.objects if isinstance(item, PSObject)]
    codes = [name for name in names if _CODE.fullmatch(name)]
    products: list[PSObject] = []
    if codes:
        (answer,) = host.read([(call("Get-ItemProperty", LiteralPath=[f"{UNINSTALL_KEY}\\{code}" for code in codes]),)])
        products = [item for item in answer.objects if isinstance(item, PSObject)]
    wanted = version_key(machine.version or "")
    found = sorted({
        (word(item.get("PSChildName")) or "").upper() for item in products
        if (word(item.get("Publisher")) or "").startswith("Microsoft") and (word(item.get("DisplayVersion")) or "").startswith("7.")
        and version_key(word(item.get("DisplayVersion")) or "") == wanted
    })  # fmt: skip
    if len(found) == 1:
        return found[0]
    what = "no installed product has" if not found else f"{len(found)} installed products ({', '.join(found)}) have"
    raise Refused(
        f"{machine.name}: {what} version {machine.version} of URL Rewrite, so it is unknown which one to remove; name it in product_code", "product_unknown",
        candidates=found,
    )  # fmt: skip


_CODE = re.compile(r"\{[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\}")
_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
_REWRITE = re.compile(rb"<rewrite[\s/>]")


def rules_in_use(host: Session, machine: Machine) -> list[str]:
    """Return the configuration files with a rewrite section. Without the module each of them makes its site answer 500.19."""
    if machine.application_host is None:
        return []
    try:
        own = iis.FileState("applicationHost.config", machine.application_host)
        sites = iis.Configuration(own, {}, machine.environment).sites
        paths = [path for site in sites for path in iis.web_config_paths(machine.application_host, machine.environment, site.name)]
    except ConfigurationError as exc:
        raise Refused(f"Nothing was removed because it is unknown which sites use URL Rewrite: {exc.message}", "state_unknown") from exc
    paths = list({path.lower(): path for path in paths}.values())
    found = [own.path] if _REWRITE.search(_COMMENT.sub(b"", machine.application_host)) else []
    for path, answer in zip(paths, host.read([content(path) for path in paths])):
        data = file_bytes(answer)
        text = data.decode("utf-16", "replace").encode("utf-8", "replace") if data and data[:2] in (b"\xff\xfe", b"\xfe\xff") else data
        if text and _REWRITE.search(_COMMENT.sub(b"", text)):
            found.append(path)
    return found


def _windows(system: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d{1,9}", (word(system.get("version")) or ""))[:3])


def _iis_version(bag: PSObject | None) -> str | None:
    if bag is None or number(bag.get("MajorVersion")) is None:
        return None
    return f"{number(bag.get('MajorVersion'))}.{number(bag.get('MinorVersion')) or 0}"


def _text(bag: PSObject | None, name: str) -> str | None:
    return word(bag.get(name)) or None if bag is not None else None


def _file_version(answer: Answer) -> str | None:
    """The version of rewrite.dll, None where the file is missing or has none: a file without a version is no module."""
    if answer.errors and not answer.objects:
        if answer.errors[0].fqid.startswith(ABSENT):
            return None
        raise failed(answer)
    for item in answer.objects:
        info = item.get("VersionInfo") if isinstance(item, PSObject) else None
        if isinstance(info, PSObject):
            parts = [number(info.get(name)) for name in ("FileMajorPart", "FileMinorPart", "FileBuildPart", "FilePrivatePart")]
            if all(isinstance(part, int) for part in parts) and any(parts):
                return ".".join(str(part) for part in parts)
    return None
