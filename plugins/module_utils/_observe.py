# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stage observe: read one server through its Windows endpoint into a snapshot, in two pipelines.

The first asks for everything whose place is known beforehand, the second for the files that the first one named.
A third runs only where Windows stands on another drive than assumed, or where a web.config keeps a section in another file.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import datetime
import ntpath
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils import _iis_config as iis
from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import PSObject, plain, strings
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import CmdletError, ConfigurationError, Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Answer, Session, Statement, call
from ansible_collections.exchange.mitigation.plugins.module_utils._untrusted import number, word

#: FACTS.md 7: the roles and version of an installation, and what makes a machine an Edge server.
SETUP_KEY = r"HKLM:\SOFTWARE\Microsoft\ExchangeServer\v15\Setup"
EDGE_KEY = r"HKLM:\SOFTWARE\Microsoft\ExchangeServer\v15\EdgeTransportRole"
#: FACTS.md 6: where URL Rewrite says its version, independent of language.
URL_REWRITE_KEY = r"HKLM:\SOFTWARE\Microsoft\IIS Extensions\URL Rewrite"

#: What else to read in the first pipeline, by name, for the folder of Windows; and in the second, by what the registry says of Exchange.
More = Callable[[str], dict[str, Statement]]
Later = Callable[[Mapping[str, Any]], Sequence[Statement]]

DEFAULT_WINDOWS = r"C:\Windows"
ENVIRONMENT = ("SystemDrive", "windir", "SystemRoot", "ProgramFiles", "ExchangeInstallPath")
OS_PROPERTIES = ["CSName", "Version", "BuildNumber", "Caption", "ProductType", "LastBootUpTime", "OSLanguage"]

#: Errors that say that a thing is not there, which is an answer and not a failure (CMDLETS.md 1, 3).
ABSENT = ("PathNotFound,", "GetContentReaderFileNotFoundError,", "GetContentReaderDirectoryNotFoundError,")


@dataclasses.dataclass(frozen=True)
class UrlRewrite:
    """URL Rewrite as the server has it. ``version`` as registry text, ``dll_version`` as the file says."""

    version: str | None
    dll: str | None
    dll_version: str | None


@dataclasses.dataclass(frozen=True)
class Service:
    """A Windows service: ``state`` (Running, Stopped...) and ``start_mode`` (Auto, Manual, Disabled)."""

    name: str
    state: str
    start_mode: str


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """One server at one moment. ``problem`` says why its IIS configuration could not be understood, if so.

    ``beside`` and ``behind`` answer what else was asked for.
    """

    name: str
    os: Mapping[str, Any]
    setup: Mapping[str, Any] | None
    is_edge: bool
    version: str | None
    exchange_path: str | None
    service: Service | None
    url_rewrite: UrlRewrite
    environment: Mapping[str, str]
    application_host: iis.FileState
    files: Mapping[str, iis.FileState]
    configuration: iis.Configuration | None
    problem: ConfigurationError | None
    beside: Mapping[str, Answer] = dataclasses.field(default_factory=dict)
    behind: tuple[Answer, ...] = ()


def file_bytes(answer: Answer) -> bytes | None:
    """Return the bytes that a ``Get-Content -Encoding Byte -Raw`` brought, None where there is no file.

    An empty file gives no object and no error (CMDLETS.md 0, row 4). Any other error is raised as CmdletError.
    """
    if answer.errors:
        error = answer.errors[0]
        if error.fqid.startswith(ABSENT):
            return None
        raise failed(answer)
    if not answer.objects:
        return b""
    value = plain(answer.objects[0])
    if not isinstance(value, bytes):
        message = f"{path_of(answer)}: the file's bytes were expected, the server sent {type(value).__name__}"
        raise CmdletError(message, cmdlet="Get-Content", reason="answer_malformed")
    return value


def failed(answer: Answer) -> CmdletError:
    """Return the first error record of an answer as an exception."""
    error = answer.errors[0]
    return CmdletError(
        f"{answer.statement[0].cmdlet} {path_of(answer)}: {error.message}",
        cmdlet=answer.statement[0].cmdlet,
        fqid=error.fqid,
        category=error.category,
        exception=error.exception,
        target=error.target,
    )


def path_of(answer: Answer) -> str:
    """Return what the statement was about, for a sentence."""
    parameters = answer.statement[0].parameters
    return ", ".join(strings(parameters.get("LiteralPath") or parameters.get("Path") or parameters.get("ClassName")))


def content(path: str) -> Statement:
    """The exact bytes of a file (CMDLETS.md 1)."""
    return (call("Get-Content", LiteralPath=path, Encoding="Byte", Raw=True),)


def security(path: str) -> Statement:
    """The security descriptor of a file."""
    return (call("Get-Acl", LiteralPath=path),)


def version_info(path: str) -> Statement:
    """The version resource of a file; as a note it keeps its own members (CMDLETS.md 0, row 8)."""
    return (call("Get-ItemProperty", LiteralPath=[path], Name="VersionInfo"),)


def observe(
    host: Session,
    exchange_site: str = "Default Web Site",
    sites: Sequence[str] = (),
    also: Sequence[str] = (),
    beside: More | None = None,
    behind: Later | None = None,
) -> Snapshot:
    """Read the server: the configuration of the front end's site and of other ``sites``, and ``also`` files by their paths.

    In the first pipeline also what ``beside`` asks for, in the second what ``behind`` does.
    Raises CmdletError where the server will not say, ConnectionFailure where it is gone.
    """
    windows = DEFAULT_WINDOWS
    others = beside(windows) if beside else {}
    first = {**_first(windows), **others}
    answers = dict(zip(first, host.read(list(first.values()))))
    environment = _environment(answers["environment"])
    actual = environment.get("windir") or environment.get("SystemRoot") or windows
    setup, url_rewrite_version = _keys(answers["keys"])
    exchange_path = _text(setup, "MsiInstallPath") or environment.get("ExchangeInstallPath")

    moved = actual.rstrip("\\").lower() != windows.lower()
    if moved:
        again = {name: statement for name, statement in _first(actual).items() if name in ("application_host", "rewrite_dll")}
        again |= beside(actual) if beside else {}
        answers.update(zip(again, host.read(list(again.values()))))
    application_host_path = _application_host(actual)
    application_host = _file(answers["application_host"], application_host_path)

    problem: ConfigurationError | None = None
    paths: list[str] = []
    if application_host.data is not None:
        try:
            for site in dict.fromkeys((exchange_site, *sites)):
                paths += iis.web_config_paths(application_host.data, environment, site)
                paths += iis.folder_paths(application_host.data, environment, site)
        except ConfigurationError as exc:
            problem = exc
    elif application_host.error:
        problem = ConfigurationError(f"{application_host_path}: {application_host.error}", file=application_host_path, line=None)

    wanted = {path.lower(): path for path in (*paths, *also) if path.lower() != application_host_path.lower()}
    second = {path: content(path) for path in wanted.values()}
    ex_setup = ntpath.join(exchange_path, "Bin", "ExSetup.exe") if exchange_path and setup is not None else None
    if ex_setup:
        second[ex_setup] = version_info(ex_setup)
    files: dict[str, iis.FileState] = {}
    version = None
    last = list(behind(setup or {})) if behind else []
    later: Sequence[Answer] = ()
    if second or last:
        found = host.read([*second.values(), *last])
        later = found[len(second) :]
        for path, answer in zip(second, found):
            if path == ex_setup:
                version = _version(answer)
            else:
                files[path.lower()] = _file(answer, path)

    configuration = None
    if problem is None and application_host.data is not None:
        try:
            configuration = iis.Configuration(application_host, files, environment)
        except ConfigurationError as exc:
            problem = exc
    more = configuration.unread() if configuration is not None else []
    if configuration is not None and more:
        # A section that stands in a file of its own: rare, and one pipeline more.
        files.update({path.lower(): _file(answer, path) for path, answer in zip(more, host.read([content(path) for path in more]))})
        configuration = configuration.with_files(files)
    dll_version = _version(answers["rewrite_dll"])
    dll = ntpath.join(actual, "System32", "inetsrv", "rewrite.dll")
    system = _one(answers["os"])
    return Snapshot(
        name=(word(system.get("CSName")) or "") if system is not None else "",
        os=_os(system),
        setup=setup,
        is_edge=bool(answers["edge"].objects and plain(answers["edge"].objects[0]) is True),
        version=version,
        exchange_path=exchange_path,
        service=_service(answers["service"]),
        url_rewrite=UrlRewrite(url_rewrite_version, dll if dll_version else None, dll_version),
        environment=environment,
        application_host=application_host,
        files=files,
        configuration=configuration,
        problem=problem,
        beside={name: answers[name] for name in others},
        behind=tuple(later),
    )


def refuse_unsupported(snapshot: Snapshot) -> None:
    """Raise Refused for a machine that is no Exchange 2016, 2019 or SE Mailbox server (DESIGN.md 5)."""
    refuse_machine(snapshot.name or "this machine", snapshot.is_edge, snapshot.setup)


def refuse_machine(name: str, is_edge: bool, setup: Mapping[str, Any] | None) -> None:
    """Raise Refused by what the registry says of an installation of Exchange (``SETUP_KEY``, ``EDGE_KEY``)."""
    if is_edge:
        raise Refused(f"{name} is an Edge Transport server; Emergency Mitigation exists on Mailbox servers only", "edge_server")
    if setup is None:
        raise Refused(f"{name} has no Exchange installation (registry key {SETUP_KEY} is missing); take it out of the group", "no_exchange")
    major, minor = setup.get("MsiProductMajor"), setup.get("MsiProductMinor")
    if isinstance(major, int) and isinstance(minor, int) and (major, minor) < (15, 1):
        raise Refused(f"{name} runs Exchange {major}.{minor}; Exchange 2016, 2019 or SE is needed", "unsupported_product")
    if setup.get("Services") is None:
        raise Refused(f"{name} has only the Exchange management tools; a Mailbox server is needed", "management_tools_only")


def _first(windows: str) -> dict[str, Statement]:
    return {
        "os": (call("Get-CimInstance", ClassName="Win32_OperatingSystem", Property=OS_PROPERTIES),),
        "keys": (call("Get-ItemProperty", LiteralPath=[SETUP_KEY, URL_REWRITE_KEY]),),
        "edge": (call("Test-Path", LiteralPath=EDGE_KEY),),
        "service": (call("Get-CimInstance", ClassName="Win32_Service", Filter="Name='MSExchangeMitigation'", Property=["Name", "State", "StartMode"]),),
        "environment": (call("Get-Item", LiteralPath=[f"Env:{name}" for name in ENVIRONMENT]),),
        "rewrite_dll": version_info(ntpath.join(windows, "System32", "inetsrv", "rewrite.dll")),
        "application_host": content(_application_host(windows)),
    }


def _application_host(windows: str) -> str:
    return ntpath.join(windows, "System32", "inetsrv", "config", "applicationHost.config")


def _one(answer: Answer) -> PSObject | None:
    if answer.errors and not answer.objects:
        raise failed(answer)
    return next((item for item in answer.objects if isinstance(item, PSObject)), None)


def _file(answer: Answer, path: str) -> iis.FileState:
    try:
        return iis.FileState(path, file_bytes(answer))
    except CmdletError as exc:
        return iis.FileState(path, None, error=exc.message)


def _version(answer: Answer) -> str | None:
    """The file version as numbers; the text form of it is localised or padded (FACTS.md 5)."""
    if answer.errors and not answer.objects:
        if answer.errors[0].fqid.startswith(ABSENT):
            return None
        raise failed(answer)
    for item in answer.objects:
        info = item.get("VersionInfo") if isinstance(item, PSObject) else None
        if isinstance(info, PSObject):
            parts = [number(info.get(name)) for name in ("FileMajorPart", "FileMinorPart", "FileBuildPart", "FilePrivatePart")]
            if all(part is not None for part in parts):
                return ".".join(str(part) for part in parts)
            return word(info.get("FileVersion")) or None
    return None


def _environment(answer: Answer) -> dict[str, str]:
    found = {}
    for item in answer.objects:
        if isinstance(item, PSObject):
            name = word(item.get("Key")) or word(item.get("Name")) or ""
            known = next((entry for entry in ENVIRONMENT if entry.lower() == name.lower()), None)
            if known:
                found[known] = (word(item.get("Value")) or "")
    return found


def _keys(answer: Answer) -> tuple[dict[str, Any] | None, str | None]:
    setup: dict[str, Any] | None = None
    version: str | None = None
    for item in answer.objects:
        if isinstance(item, PSObject):
            child = (word(item.get("PSChildName")) or "").lower()
            if child == "setup":
                setup = dict(item.properties)
            elif child == "url rewrite":
                version = _text(item.properties, "Version")
    return setup, version


def _text(source: Mapping[str, Any] | None, name: str) -> str | None:
    value = source.get(name) if source else None
    return word(value) or None


def _os(system: PSObject | None) -> dict[str, Any]:
    if system is None:
        return {}
    boot = system.get("LastBootUpTime")
    return {
        "caption": word(system.get("Caption")),
        "version": word(system.get("Version")),
        "build": word(system.get("BuildNumber")),
        "language": number(system.get("OSLanguage")),
        "last_boot": boot.isoformat() if isinstance(boot, datetime.datetime) else None,
    }


def _service(answer: Answer) -> Service | None:
    item = _one(answer)
    return Service((word(item.get("Name")) or ""), (word(item.get("State")) or ""), (word(item.get("StartMode")) or "")) if item is not None else None
