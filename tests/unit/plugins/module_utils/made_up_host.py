# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The made-up server of ``iis_samples`` as a session sees it: files in memory, and answers that a test can put in place of its own."""

from __future__ import annotations

import datetime
import ntpath
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import PSObject
from ansible_collections.exchange.mitigation.plugins.module_utils._cmdlets import HOST, enforce_statement
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import CmdletError
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Answer, Call, ErrorRecord, Statement
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils import iis_samples as samples

NOW = datetime.datetime(2026, 11, 24, 12, 0, tzinfo=datetime.timezone.utc)
EX_SETUP = r"D:\Exchange\Bin\ExSetup.exe"
REWRITE_DLL = r"C:\Windows\System32\inetsrv\rewrite.dll"
GONE = ErrorRecord("Cannot find path.", "PathNotFound,Microsoft.PowerShell.Commands", "ObjectNotFound", "ItemNotFoundException", "")
DENIED = ErrorRecord("Access is denied.", "UnauthorizedAccessException,Microsoft.PowerShell.Commands", "PermissionDenied", "UnauthorizedAccessException", "")
UNKNOWN = ErrorRecord("The term is not recognized.", "CommandNotFoundException", "ObjectNotFound", "CommandNotFoundException", "")

SETUP: dict[str, Any] = {
    "PSChildName": "Setup", "MsiInstallPath": "D:\\Exchange\\", "MsiProductMajor": 15, "MsiProductMinor": 2, "MsiBuildMajor": 986, "MsiBuildMinor": 5,
    "Services": "x",
}  # fmt: skip
ENTRY: dict[str, Any] = {
    "name": "EX1", "fqdn": "ex1.example.com", "mitigations_enabled": False, "mitigations_blocked": [], "mitigations_applied": [],
}  # fmt: skip
ORGANIZATION: dict[str, Any] = {"name": "Example", "mitigations_enabled": False, "servers": [ENTRY]}


def item(**members: Any) -> PSObject:
    """Return an object as it comes over the wire."""
    return PSObject(properties=members)


def version_info(text: str) -> PSObject:
    """Return a file's version resource."""
    names = ("FileMajorPart", "FileMinorPart", "FileBuildPart", "FilePrivatePart")
    return item(VersionInfo=item(FileVersion="as text", **dict(zip(names, map(int, text.split("."))))))


class Host:
    """One server. ``answers`` has, by cmdlet, a function that answers a statement or returns None to leave it to the server."""

    def __init__(self, build: str = "15.2.986.5", **host: Any) -> None:
        self.files: dict[str, bytes] = {
            samples.HOST_PATH: samples.application_host(**host),
            samples.ROOT_FILE: samples.ROOT_CONFIG,
            samples.OWA_FILE: samples.OWA_CONFIG,
            samples.ECP_FILE: samples.ECP_CONFIG,
        }
        self.setup: dict[str, Any] | None = dict(SETUP)
        self.versions = {EX_SETUP.lower(): build, REWRITE_DLL.lower(): "7.1.1993.2351"}
        self.environment = {"windir": "C:\\Windows", "SystemDrive": "C:"}
        self.services: dict[str, tuple[str, str]] = {"MSExchangeMitigation": ("Running", "Auto")}
        self.pools: dict[str, tuple[str, bool]] = {}
        self.answers: dict[str, Callable[[Statement], Answer | None]] = {}
        self.changes: list[str] = []

    def read(self, statements: Sequence[Statement]) -> list[Answer]:
        """Answer reads."""
        return [self._answered(statement) for statement in statements]

    def change(self, statement: Statement) -> Answer:
        """Carry a change out; raises CmdletError like a session."""
        answer = self._answered(statement)
        if answer.errors:
            error = answer.errors[0]
            raise CmdletError(error.message, statement[-1].cmdlet, error.fqid, error.category, error.exception, error.target)
        self.changes.append(statement[-1].cmdlet)
        return answer

    def answer(self, cmdlet: str, *objects: Any, errors: Sequence[ErrorRecord] = (), path: str | None = None) -> None:
        """Let a cmdlet answer so, for one path only if one is named."""

        def told(statement: Statement) -> Answer | None:
            about = statement[0].parameters.get("LiteralPath")
            return Answer(statement, objects, tuple(errors)) if path is None or path in (about, *(about if isinstance(about, list) else ())) else None

        self.answers[cmdlet] = told

    # What the server does itself

    def _answered(self, statement: Statement) -> Answer:
        enforce_statement(statement, HOST)
        told = self.answers[statement[-1].cmdlet](statement) if statement[-1].cmdlet in self.answers else None
        if told is not None:
            return told
        found = self._own(statement[0], statement[-1])
        return Answer(statement, (), (found,)) if isinstance(found, ErrorRecord) else Answer(statement, tuple(found), ())

    def _own(self, first: Call, last: Call) -> Sequence[Any] | ErrorRecord:
        given = last.parameters
        method = getattr(self, "_" + last.cmdlet.lower().replace("-", "_"), None)
        assert method is not None, f"the made-up server does not know {last.cmdlet}"
        found: Sequence[Any] | ErrorRecord = method(first.parameters, given)
        return found

    def _key(self, path: str) -> str:
        return next((name for name in self.files if name.lower() == path.lower()), path)

    def _get_ciminstance(self, given: Any, dummy: Any) -> Sequence[Any]:
        if given["ClassName"] == "Win32_OperatingSystem":
            return [item(CSName="EX1", Version="10.0.20348", BuildNumber="20348", Caption="Windows Server 2022", OSLanguage=1033, LastBootUpTime=NOW)]
        return [item(Name=name, State=state, StartMode=mode) for name, (state, mode) in self.services.items() if f"Name='{name}'" in given["Filter"]]

    def _get_itemproperty(self, given: Any, dummy: Any) -> Sequence[Any] | ErrorRecord:
        if given.get("Name") == "VersionInfo":
            version = self.versions.get(given["LiteralPath"][0].lower())
            return GONE if version is None else [version_info(version)]
        return [item(**self.setup)] if self.setup is not None else []

    def _test_path(self, given: Any, dummy: Any) -> Sequence[Any]:
        return [self._key(given["LiteralPath"]) in self.files]

    def _get_item(self, given: Any, dummy: Any) -> Sequence[Any]:
        return [item(Key=name, Value=value) for name, value in self.environment.items()]

    def _get_content(self, given: Any, dummy: Any) -> Sequence[Any] | ErrorRecord:
        data = self.files.get(self._key(given["LiteralPath"]))
        return GONE if data is None else [data] if data else []

    def _get_acl(self, given: Any, dummy: Any) -> Sequence[Any] | ErrorRecord:
        return [item(Sddl="O:BA")] if self._key(given["LiteralPath"]) in self.files else GONE

    def _set_acl(self, dummy_from: Any, dummy_to: Any) -> Sequence[Any]:
        return []

    def _get_command(self, dummy_given: Any, dummy: Any) -> Sequence[Any]:
        return [item(Name="ForEach-Object")]

    def _get_webconfiguration(self, given: Any, dummy: Any) -> Sequence[Any]:
        return [item(autoStart=start) for name, (dummy_state, start) in self.pools.items() if f"@name='{name}'" in given["Filter"]]

    def _get_webapppoolstate(self, given: Any, dummy: Any) -> Sequence[Any] | ErrorRecord:
        return [item(Value=self.pools[given["Name"]][0])] if given["Name"] in self.pools else GONE

    def _set_content(self, given: Any, dummy: Any) -> Sequence[Any]:
        self.files[given["LiteralPath"]] = given["Value"]
        return []

    def _copy_item(self, given: Any, dummy: Any) -> Sequence[Any]:
        self.files[self._key(given["Destination"])] = self.files[self._key(given["LiteralPath"])]
        return []

    def _rename_item(self, given: Any, dummy: Any) -> Sequence[Any]:
        source = self._key(given["LiteralPath"])
        self.files[ntpath.join(ntpath.dirname(source), given["NewName"])] = self.files.pop(source)
        return []

    def _remove_item(self, given: Any, dummy: Any) -> Sequence[Any]:
        del self.files[self._key(given["LiteralPath"])]
        return []

    def _foreach_object(self, source: Any, given: Any) -> Sequence[Any]:
        target, backup = given["ArgumentList"]
        self.files[backup] = self.files[self._key(target)]
        self.files[self._key(target)] = self.files.pop(self._key(source["LiteralPath"]))
        return []


class Task:
    """A task on the made-up server, with parameters as a validated argument spec gives them."""

    inventory_hostname = "ex1"

    def __init__(self, spec: dict[str, Any], host: Any, directory: pathlib.Path, exchange: Any = None, **params: Any) -> None:
        self.params = {name: option.get("default") for name, option in spec["argument_spec"].items()}
        assert set(params) <= set(self.params)
        self.params.update({"journal_dir": str(directory), "organization": ORGANIZATION, **params})
        self.host, self.exchange = host, exchange
        self.warnings: list[str] = []
        self.lines: list[str] = []
        self._time = NOW

    def now(self) -> datetime.datetime:
        """A clock that goes on with every look."""
        self._time += datetime.timedelta(milliseconds=1)
        return self._time

    def warn(self, message: str) -> None:
        """Keep a warning."""
        self.warnings.append(message)

    def progress(self, message: str) -> None:
        """Keep a line."""
        self.lines.append(message)
