# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Provider paths and error records that the cmdlets of files, registry, services and IIS share (CMDLETS.md 1 to 5)."""

from __future__ import annotations

import dataclasses
import datetime
import re
from typing import Any

from lab.files import FileProblem, FileStat, canonical
from lab.kernel import I64, ErrorInfo, Invocation, LabRefusal, Obj, Terminating
from lab.registry import HIVES, canonical_key, is_registry

#: cmdlets that a JEA endpoint does not list (CMDLETS.md 11)
UNLISTED = ("FullLanguage", "ConstrainedLanguage")

(NOT_SPECIFIED, OPEN_ERROR, CLOSE_ERROR, INVALID_ARGUMENT, INVALID_OPERATION, NOT_FOUND, PERMISSION_DENIED, EXISTS, READ_ERROR, WRITE_ERROR) = (
    0, 1, 2, 5, 7, 13, 18, 20, 22, 23,
)  # fmt: skip
ITEM_NOT_FOUND = "System.Management.Automation.ItemNotFoundException"
IO_EXCEPTION = "System.IO.IOException"
ACCESS_EXCEPTION = "System.UnauthorizedAccessException"

_WILDCARD = re.compile(r"[*?\[\]]")
_FILE_PROVIDER = re.compile(r"^(?:Microsoft\.PowerShell\.Core\\)?FileSystem::(.*)$", re.IGNORECASE | re.DOTALL)
_ENVIRONMENT = re.compile(r"^Env:\\?(.*)$", re.IGNORECASE | re.DOTALL)
_EXCEPTIONS = {
    "not-found": "System.IO.FileNotFoundException",
    "folder-not-found": "System.IO.DirectoryNotFoundException",
    "denied": ACCESS_EXCEPTION,
    "not-a-file": ACCESS_EXCEPTION,
    "too-long": "System.IO.PathTooLongException",
    "illegal-path": "System.ArgumentException",
}


def record(name: str, identifier: str, message: str, category: int, exception: str, target: str = "", class_name: str | None = None) -> ErrorInfo:
    """Return an error record of a cmdlet; the id gets the cmdlet's class behind its comma."""
    behind = class_name or f"Microsoft.PowerShell.Commands.{name.replace('-', '')}Command"
    return ErrorInfo(message, f"{identifier},{behind}", category, exception, target, name)


def path_not_found(name: str, path: str) -> ErrorInfo:
    """Return the record of a path that is not there."""
    return record(name, "PathNotFound", f"Cannot find path '{path}' because it does not exist.", NOT_FOUND, ITEM_NOT_FOUND, path)


def exception_of(problem: FileProblem) -> str:
    """Return the .NET exception that a refused file operation throws."""
    return _EXCEPTIONS.get(problem.kind, IO_EXCEPTION)


@dataclasses.dataclass(frozen=True)
class ProviderPath:
    """A path with its provider: FileSystem, Registry, Environment, or Missing (a drive nobody has)."""

    provider: str
    path: str


def provider_path(text: str) -> ProviderPath:
    """Tell which provider owns a path. Relative paths are refused: the lab has no current location."""
    if is_registry(text):
        return ProviderPath("Registry", text)
    environment = _ENVIRONMENT.match(text)
    if environment:
        return ProviderPath("Environment", environment.group(1))
    explicit = _FILE_PROVIDER.match(text)
    plain = explicit.group(1) if explicit else text
    if re.match(r"^(\\\\\?\\)?[A-Za-z]:([\\/]|$)", plain):
        try:
            canonical(plain)
        except FileProblem as problem:
            if problem.kind == "drive-not-found":
                return ProviderPath("Missing", plain)
        return ProviderPath("FileSystem", plain)
    if re.match(r"^[A-Za-z][A-Za-z0-9]+:", plain):
        return ProviderPath("Missing", plain)
    if plain.startswith("\\\\"):
        return ProviderPath("Missing", plain)
    raise LabRefusal(f"the lab has no current location for the relative path {text!r}")


def given_paths(inv: Invocation, wildcards: bool = False) -> list[ProviderPath]:
    """Return the paths of -LiteralPath or -Path; wildcards in -Path are refused unless the cmdlet says that it expands them."""
    literal, plain = inv.get("LiteralPath"), inv.get("Path")
    given = literal if literal is not None else plain
    if given is None:
        raise LabRefusal("neither -LiteralPath nor -Path")
    texts = [given] if isinstance(given, str) else list(given)
    if literal is None and not wildcards and any(_WILDCARD.search(text) for text in texts):
        raise LabRefusal(f"the lab does not expand the wildcards of {texts!r} here")
    found = [provider_path(text) for text in texts]
    capability = getattr(inv.session, "capability", None)
    if capability is not None:
        # A session sees the providers that its capability lists; recorded in test_psrp_with_jea_configuration, where it lists none.
        for hidden in (path.provider for path in found if path.provider not in (*capability.providers, "Missing")):
            kind = "System.Management.Automation.ProviderNotFoundException"
            inv.error(ErrorInfo(f"Cannot find a provider with the name '{hidden}'.", "ProviderNotFound", NOT_FOUND, kind, hidden))
        found = [path for path in found if path.provider in (*capability.providers, "Missing")]
    return found


def missing_drive(name: str, path: ProviderPath) -> ErrorInfo:
    """Return the record of a drive that is not there."""
    if path.path.startswith("\\\\"):
        return path_not_found(name, path.path)
    drive = path.path.partition(":")[0]
    message = f"Cannot find drive. A drive with the name '{drive}' does not exist."
    return record(name, "DriveNotFound", message, NOT_FOUND, "System.Management.Automation.DriveNotFoundException", drive)


def file_notes(path: str, folder: bool | None = None) -> dict[str, Any]:
    """Return the notes that the file system provider hangs on an object."""
    full = canonical(path)
    parent, dummy, child = full.rpartition("\\")
    above = parent if "\\" in parent else parent + "\\"
    notes: dict[str, Any] = {
        "PSPath": f"Microsoft.PowerShell.Core\\FileSystem::{full}",
        "PSParentPath": f"Microsoft.PowerShell.Core\\FileSystem::{above}",
        "PSChildName": child,
        "PSDrive": "C",
        "PSProvider": "Microsoft.PowerShell.Core\\FileSystem",
    }
    if folder is not None:
        notes["PSIsContainer"] = folder
    return notes


def key_notes(path: str, name: str) -> dict[str, Any]:
    r"""Return the notes of the registry provider; ``name`` is the key as it is spelt, ``path`` as it was asked for."""
    parent, dummy, child = name.rpartition("\\")
    notes: dict[str, Any] = {
        "PSPath": f"Microsoft.PowerShell.Core\\Registry::{name}",
        "PSParentPath": f"Microsoft.PowerShell.Core\\Registry::{parent}",
        "PSChildName": child or name,
    }
    drives = {full: short.upper() for short, full in HIVES.items()}
    if not path.lower().startswith(("registry::", "microsoft.powershell.core\\")):
        notes["PSDrive"] = drives.get(canonical_key(path).partition("\\")[0], "HKLM")
    notes["PSProvider"] = "Microsoft.PowerShell.Core\\Registry"
    return notes


class LiveFile:
    """The live FileInfo behind an object, for methods that ForEach-Object calls in FullLanguage."""

    def __init__(self, machine: Any, path: str) -> None:
        self._machine = machine
        self.path = path
        self.lab_methods = {"Replace": self.replace}

    def replace(self, *arguments: Any) -> Obj:
        """FileInfo.Replace(destination, backup): a null backup arrives as an empty string and is refused."""
        if len(arguments) != 2:
            raise LabRefusal(f"the lab imitates FileInfo.Replace with two arguments, not {len(arguments)}")
        texts = ["" if value is None else str(value) for value in arguments]
        try:
            for text in texts:
                if not text.strip():
                    raise FileProblem("illegal-path", text)
            with self._machine.lock:
                self._machine.files.replace(self.path, texts[0], texts[1])
        except FileProblem as problem:
            raise Terminating(ErrorInfo(str(problem), exception_of(problem), INVALID_OPERATION, exception_of(problem), self.path)) from problem
        return file_info(self._machine, texts[0])


def _mode(stat: FileStat) -> str:
    letters = [("d", "Directory"), ("a", "Archive"), ("r", "ReadOnly"), ("h", "Hidden"), ("s", "System")]
    return "".join(letter if name in stat.attributes else "-" for letter, name in letters) + "-"


def _attributes(stat: FileStat) -> str:
    order = ("ReadOnly", "Hidden", "System", "Directory", "Archive", "Normal")
    return ", ".join(name for name in order if name in stat.attributes) or "Normal"


def file_info(machine: Any, path: str) -> Obj:
    """Return the FileInfo or DirectoryInfo of an existing path; raises FileProblem."""
    stat: FileStat = machine.files.stat(path)
    full = stat.path
    parent, dummy, name = full.rpartition("\\")
    folder = stat.directory
    stem, dot, extension = name.rpartition(".")
    written = stat.written
    props: dict[str, Any] = {"Name": name}
    if not folder:
        props |= {"Length": I64(stat.length), "DirectoryName": parent, "Directory": parent, "IsReadOnly": "ReadOnly" in stat.attributes}
    else:
        props |= {"Parent": parent.rpartition("\\")[2] or "C:\\", "Root": "C:\\"}
    props |= {
        "Exists": True, "FullName": full, "Extension": "." + extension if dot else "",
        "CreationTime": stat.created, "CreationTimeUtc": stat.created.astimezone(datetime.timezone.utc), "LastAccessTime": written,
        "LastAccessTimeUtc": written, "LastWriteTime": written, "LastWriteTimeUtc": written, "Attributes": _attributes(stat),
    }  # fmt: skip
    notes = file_notes(full, folder) | {"Mode": _mode(stat), "BaseName": stem if dot and not folder else name, "Target": [], "LinkType": None}
    if not folder:
        notes["VersionInfo"] = version_text(full, machine.version_of(full))
    kind = "System.IO.DirectoryInfo" if folder else "System.IO.FileInfo"
    types = (kind, "System.IO.FileSystemInfo", "System.MarshalByRefObject", "System.Object")
    return Obj(types, props, notes, to_string=full, live=LiveFile(machine, full))


def version_text(path: str, resource: dict[str, str]) -> str:
    """Return FileVersionInfo.ToString(): several lines."""
    rows = [("File:", path), ("InternalName:", resource.get("InternalName", "")), ("OriginalFilename:", ""), ("FileVersion:", resource.get("FileVersion", "")),
            ("FileDescription:", resource.get("FileDescription", "")), ("Product:", resource.get("ProductName", "")),
            ("ProductVersion:", resource.get("ProductVersion", "")), ("Debug:", "False"), ("Patched:", "False"), ("PreRelease:", "False"),
            ("PrivateBuild:", "False"), ("SpecialBuild:", "False"), ("Language:", "English (United States)" if resource else "")]  # fmt: skip
    return "".join(f"{label:<18}{value}\r\n" for label, value in rows)


def version_info(path: str, resource: dict[str, str]) -> Obj:
    """Return the FileVersionInfo of a file; one without a resource has null texts and zero parts."""
    numbers = [int(part) for part in re.findall(r"\d+", resource.get("FileVersion", ""))[:4]]
    numbers += [0] * (4 - len(numbers))
    product = [int(part) for part in re.findall(r"\d+", resource.get("ProductVersion", ""))[:4]]
    product += [0] * (4 - len(product))
    props: dict[str, Any] = {
        "Comments": resource.get("Comments"), "CompanyName": resource.get("CompanyName"), "FileBuildPart": numbers[2],
        "FileDescription": resource.get("FileDescription"), "FileMajorPart": numbers[0], "FileMinorPart": numbers[1], "FileName": path,
        "FilePrivatePart": numbers[3], "FileVersion": resource.get("FileVersion"), "InternalName": resource.get("InternalName"),
        "IsDebug": False, "IsPatched": False, "IsPrivateBuild": False, "IsPreRelease": False, "IsSpecialBuild": False,
        "Language": "English (United States)" if resource else None, "ProductBuildPart": product[2], "ProductMajorPart": product[0],
        "ProductMinorPart": product[1], "ProductName": resource.get("ProductName"), "ProductPrivatePart": product[3],
        "ProductVersion": resource.get("ProductVersion"),
    }  # fmt: skip
    notes = {"FileVersionRaw": _version(numbers), "ProductVersionRaw": _version(product)}
    return Obj(("System.Diagnostics.FileVersionInfo", "System.Object"), props, notes, to_string=version_text(path, resource))


def _version(numbers: list[int]) -> Obj:
    return Obj(("System.Version", "System.Object"), value=".".join(str(number) for number in numbers))
