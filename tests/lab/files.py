# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The C: drive of a simulated server: Windows paths onto a folder, with security descriptors, attributes, creation times and locks.

Nothing is cached: a file that a test changes from outside is seen at once.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Mapping
from typing import Any

from lab.sidecar import Sidecar

#: What a new file or folder inherits below Program Files or inetpub.
FILE_SDDL = "O:BAG:SYD:AI(A;ID;FA;;;SY)(A;ID;FA;;;BA)(A;ID;0x1200a9;;;BU)"
FOLDER_SDDL = "O:BAG:SYD:AI(A;OICIID;FA;;;SY)(A;OICIID;FA;;;BA)(A;OICIID;0x1200a9;;;BU)"

_ILLEGAL = re.compile(r'[<>:"|?*\x00-\x1f]')
#: The length that a path cannot have unless LongPathsEnabled is set, which nobody has done here.
MAX_PATH = 260
_VARIABLE = re.compile(r"%([^%\\]+)%")


class FileProblem(Exception):
    """A refused file operation.

    ``kind``: not-found, folder-not-found, drive-not-found, denied, sharing, exists, disk-full, illegal-path, too-long, not-a-file,
    not-empty, replace-1175, replace-1176, replace-1177.
    """

    TEXTS = {
        "not-found": "Could not find file '{0}'.",
        "folder-not-found": "Could not find a part of the path '{0}'.",
        "drive-not-found": "Cannot find drive. A drive with the name '{0}' does not exist.",
        "denied": "Access to the path '{0}' is denied.",
        "sharing": "The process cannot access the file '{0}' because it is being used by another process.",
        "exists": "Cannot create a file when that file already exists.",
        "disk-full": "There is not enough space on the disk.",
        "illegal-path": "The path is not of a legal form.",
        "too-long": "The specified path, file name, or both are too long. The fully qualified file name must be less than 260 characters, "
        "and the directory name must be less than 248 characters.",
        "not-a-file": "Access to the path '{0}' is denied.",
        "not-empty": "The directory is not empty.",
        "replace-1175": "Unable to remove the file to be replaced.",
        "replace-1176": "Unable to move the replacement file to the file to be replaced. The file to be replaced has retained its original name.",
        "replace-1177": "Unable to move the replacement file to the file to be replaced. The file to be replaced has been renamed using the backup name.",
    }

    def __init__(self, kind: str, path: str) -> None:
        self.kind = kind
        self.path = path
        super().__init__(self.TEXTS[kind].format(path))


@dataclasses.dataclass(frozen=True)
class FileStat:
    """What Windows tells of a file or folder; times are aware, in UTC."""

    path: str
    directory: bool
    length: int
    created: datetime.datetime
    written: datetime.datetime
    attributes: tuple[str, ...]


@functools.lru_cache(maxsize=4096)
def canonical(path: str) -> str:
    r"""Return ``C:\a\b`` for any spelling of an absolute path on the drive (``\\?\``, ``/``, ``.``, ``..``, trailing ``\``)."""
    text = path.replace("/", "\\")
    if text.startswith("\\\\?\\"):
        text = text[4:]
    if not re.match(r"^[A-Za-z]:(\\|$)", text):
        raise FileProblem("illegal-path", path)
    if text[0].upper() != "C":
        raise FileProblem("drive-not-found", text[0])
    parts: list[str] = []
    for part in text[3:].split("\\"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            if _ILLEGAL.search(part):
                raise FileProblem("illegal-path", path)
            parts.append(part)
    return "C:\\" + "\\".join(parts)


class Files:
    """The drive. Paths may hold ``%variables%`` of the server's environment; names are case-insensitive."""

    def __init__(
        self,
        root: pathlib.Path,
        sidecar: Sidecar,
        environment: Mapping[str, str],
        fault: Callable[[str], Any] = lambda name: None,
    ) -> None:
        self.root = root
        self._sidecar = sidecar
        self._environment = environment
        self._fault = fault
        #: lower-case path -> "write" (others may only read) or "exclusive" (nobody else may open it)
        self.locks: dict[str, str] = {}

    # -- paths ---------------------------------------------------------------------------------------------------------

    def expand(self, path: str) -> str:
        """Expand ``%variables%``, unknown ones stay."""
        known = {name.lower(): value for name, value in self._environment.items()}
        return _VARIABLE.sub(lambda match: known.get(match.group(1).lower(), match.group(0)), path)

    def path(self, path: str) -> str:
        """Return the canonical path with names spelt as they are on the disk."""
        full = canonical(self.expand(path))
        here = str(self.root)
        spelt: list[str] = []
        for part in full[3:].split("\\") if len(full) > 3 else []:
            name = self._spelling(here, part)
            spelt.append(name)
            here += "/" + name
        return "C:\\" + "\\".join(spelt)

    def host_path(self, path: str) -> pathlib.Path:
        """Return where the file is on the machine that runs the lab."""
        full = self.path(path)
        return self.root.joinpath(*full[3:].split("\\")) if len(full) > 3 else self.root

    @staticmethod
    def _spelling(folder: str, name: str) -> str:
        if os.path.lexists(f"{folder}/{name}"):
            return name
        try:
            return next((entry for entry in os.listdir(folder) if entry.lower() == name.lower()), name)
        except OSError:
            return name

    # -- reading -------------------------------------------------------------------------------------------------------

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there."""
        return self.host_path(path).exists()

    def is_file(self, path: str) -> bool:
        """Whether a file is there."""
        return self.host_path(path).is_file()

    def is_dir(self, path: str) -> bool:
        """Whether a folder is there."""
        return self.host_path(path).is_dir()

    def read(self, path: str) -> bytes:
        """Return the bytes of a file."""
        where = self._existing_file(path)
        if self._lock(path) == "exclusive":
            raise FileProblem("sharing", self.path(path))
        return where.read_bytes()

    def listdir(self, path: str) -> list[str]:
        """Return the names in a folder, sorted as Windows sorts them."""
        where = self.host_path(path)
        if not where.is_dir():
            raise FileProblem("folder-not-found", self.path(path))
        return sorted(os.listdir(where), key=str.lower)

    def stat(self, path: str) -> FileStat:
        """Return size, times and attributes."""
        where = self.host_path(path)
        full = self.path(path)
        if not where.exists():
            raise FileProblem("not-found", full)
        status = where.stat()
        written = datetime.datetime.fromtimestamp(status.st_mtime, datetime.timezone.utc)
        record = self._record(full)
        created = datetime.datetime.fromisoformat(record["created"]) if "created" in record else written
        folder = where.is_dir()
        attributes = tuple(record.get("attributes", ["Directory"] if folder else ["Archive"]))
        return FileStat(full, folder, 0 if folder else status.st_size, created, written, attributes)

    def sddl(self, path: str) -> str:
        """Return the security descriptor as text."""
        where = self.host_path(path)
        if not where.exists():
            raise FileProblem("not-found", self.path(path))
        text: str = self._record(self.path(path)).get("sddl", FOLDER_SDDL if where.is_dir() else FILE_SDDL)
        return text

    # -- changing ------------------------------------------------------------------------------------------------------

    def set_sddl(self, path: str, sddl: str) -> None:
        """Set the security descriptor."""
        if not self.exists(path):
            raise FileProblem("not-found", self.path(path))
        self._update(path, sddl=sddl)

    def set_attributes(self, path: str, attributes: tuple[str, ...]) -> None:
        """Set the attributes, such as ``("ReadOnly", "Archive")``."""
        if not self.exists(path):
            raise FileProblem("not-found", self.path(path))
        self._update(path, attributes=list(attributes))

    def read_only(self, path: str) -> bool:
        """Whether the file has the attribute ReadOnly."""
        return self.exists(path) and "ReadOnly" in self.stat(path).attributes

    def write(self, path: str, data: bytes) -> None:
        """Create a file, or write an existing one in place (its descriptor and creation time stay)."""
        fresh = self._writable(path)
        where = self.host_path(path)
        if self._fault("disk-full"):
            where.write_bytes(b"")
            raise FileProblem("disk-full", self.path(path))
        where.write_bytes(data)
        if fresh:
            self._update(path, created=_now())

    def append(self, path: str, data: bytes) -> None:
        """Append to a file, which is created when it is missing."""
        before = self.read(path) if self.exists(path) else b""
        if before and self._fault("disk-full"):
            raise FileProblem("disk-full", self.path(path))
        self.write(path, before + data)

    def truncate(self, path: str) -> None:
        """Cut an existing file to nothing, as the first half of Set-Content does."""
        self._existing_file(path)
        self._writable(path)
        self.host_path(path).write_bytes(b"")

    def make_folder(self, path: str) -> None:
        """Create a folder with its parents; an existing one is left alone."""
        where = self.host_path(path)
        if where.is_file():
            raise FileProblem("exists", self.path(path))
        if not where.exists():
            where.mkdir(parents=True)
            self._update(path, created=_now())

    def delete(self, path: str, recurse: bool = False, force: bool = False) -> None:
        """Delete a file or folder."""
        where = self.host_path(path)
        full = self.path(path)
        if not where.exists():
            raise FileProblem("not-found", full)
        if where.is_dir():
            if os.listdir(where) and not recurse:
                raise FileProblem("not-empty", full)
            shutil.rmtree(where)
        else:
            if self._lock(path):
                raise FileProblem("sharing", full)
            if self.read_only(path) and not force:
                raise FileProblem("denied", full)
            where.unlink()
        self._forget(full)

    def copy(self, source: str, target: str, overwrite: bool = False) -> None:
        """CopyFile: an existing target keeps descriptor and creation time, and takes bytes, write time and attributes."""
        data = self.read(source)
        full = self.path(target)
        if self.is_file(target) and not overwrite:
            raise FileProblem("exists", full)
        fresh = self._writable(target)
        if self._fault("disk-full"):
            raise FileProblem("disk-full", full)
        where = self.host_path(target)
        if not fresh and self._fault("copy-torn"):
            where.write_bytes(data[: len(data) // 2])
            raise FileProblem("disk-full", full)
        where.write_bytes(data)
        status = self.host_path(source).stat()
        os.utime(where, ns=(status.st_atime_ns, status.st_mtime_ns))
        changes: dict[str, Any] = {"attributes": list(self.stat(source).attributes)}
        if fresh:
            changes["created"] = _now()
        self._update(target, **changes)

    def move(self, source: str, target: str) -> None:
        """MoveFile: never overwrites; descriptor, times and attributes go along."""
        full = self.path(source)
        where = self.host_path(source)
        if not where.exists():
            raise FileProblem("not-found", full)
        if self._lock(source):
            raise FileProblem("sharing", full)
        goal = self.host_path(target)
        spelt = canonical(self.expand(target))
        if goal.exists() and goal != where:
            raise FileProblem("exists", spelt)
        if not goal.parent.is_dir():
            raise FileProblem("folder-not-found", spelt)
        before = self._record(full) | {"sddl": self.sddl(source), "created": self.stat(source).created.isoformat()}
        os.rename(where, goal.parent / spelt.rsplit("\\", 1)[1])
        self._forget(full)
        self._update(spelt, **before)

    def replace(self, source: str, target: str, backup: str) -> None:
        """ReplaceFile with a backup: the target keeps descriptor, creation time and attributes; its old bytes become the backup.

        Raises FileProblem; after ``replace-1177`` the target is gone, the old bytes are the backup and the source is still there.
        """
        old, new = self.path(target), self.path(source)
        spare = canonical(self.expand(backup))
        for path in (new, old):
            if not self.is_file(path):
                raise FileProblem("not-found", path)
        if self._lock(new) or self._lock(old) == "exclusive":
            raise FileProblem("sharing", new if self._lock(new) else old)
        if self._lock(old) or self._fault("replace-1175"):
            raise FileProblem("replace-1175", old)
        if self.read_only(old):
            raise FileProblem("denied", old)
        if not self.host_path(spare).parent.is_dir():
            raise FileProblem("folder-not-found", spare)
        if self._fault("replace-1176"):
            raise FileProblem("replace-1176", old)
        kept = self._record(old) | {"sddl": self.sddl(old), "created": self.stat(old).created.isoformat()}
        target_file, backup_file = self.host_path(old), self.host_path(spare)
        if backup_file.exists():
            backup_file.unlink()
        os.rename(target_file, backup_file)
        with self._sidecar.hold():
            self._update(spare, **kept)
            if self._fault("replace-1177"):
                self._forget(old)
                raise FileProblem("replace-1177", old)
            os.rename(self.host_path(new), target_file)
            self._forget(new)
            self._update(old, **kept)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _existing_file(self, path: str) -> pathlib.Path:
        where = self.host_path(path)
        full = self.path(path)
        if where.is_dir():
            raise FileProblem("not-a-file", full)
        if not where.exists():
            raise FileProblem("not-found" if where.parent.is_dir() else "folder-not-found", full)
        return where

    def _writable(self, path: str) -> bool:
        """Refuse what Windows refuses to open for writing; tell whether the file would be a new one."""
        where = self.host_path(path)
        full = self.path(path)
        if len(full) >= MAX_PATH:
            raise FileProblem("too-long", full)
        if where.is_dir() or self.read_only(path):
            raise FileProblem("denied", full)
        if not where.parent.is_dir():
            raise FileProblem("folder-not-found", full)
        if self._lock(path):
            raise FileProblem("sharing", full)
        return not where.exists()

    def _lock(self, path: str) -> str | None:
        full = self.path(path).lower()
        if full in self.locks:
            return self.locks[full]
        fault = self._fault("locked-file")
        if not fault or not self.host_path(path).is_file():
            return None
        wanted = getattr(fault, "options", {}).get("path")
        if wanted:
            return "write" if full == self.path(wanted).lower() else None
        return "write" if full.endswith("\\web.config") else None

    def _record(self, full: str) -> dict[str, Any]:
        found: dict[str, Any] = self._sidecar.section("files").get(full.lower(), {})
        return dict(found)

    def _update(self, path: str, **changes: Any) -> None:
        key = canonical(self.expand(path)).lower()
        self._sidecar.section("files").setdefault(key, {}).update(changes)
        self._sidecar.save()

    def _forget(self, full: str) -> None:
        section = self._sidecar.section("files")
        below = full.lower() + "\\"
        for key in [key for key in section if key == full.lower() or key.startswith(below)]:
            del section[key]
        self._sidecar.save()


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat()
