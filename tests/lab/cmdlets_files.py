# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cmdlets that read and write files: contents, copies, moves, new and removed items (CMDLETS.md 1 and 2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lab import shares
from lab.files import FileProblem
from lab.kernel import I64, Invocation, LabRefusal, Obj, Parameter, Terminating, cmdlet
from lab.providers import (
    ACCESS_EXCEPTION,
    EXISTS,
    IO_EXCEPTION,
    NOT_FOUND,
    NOT_SPECIFIED,
    PERMISSION_DENIED,
    READ_ERROR,
    UNLISTED,
    WRITE_ERROR,
    ProviderPath,
    exception_of,
    file_info,
    file_notes,
    given_paths,
    missing_drive,
    path_not_found,
    provider_path,
    record,
)

_PATHS = {"Path": Parameter("string[]", position=0), "LiteralPath": Parameter("string[]")}
_CONFIRM = {"Confirm": Parameter("switch"), "Force": Parameter("switch")}
_ENCODINGS = ("Unknown", "String", "Unicode", "Byte", "BigEndianUnicode", "UTF8", "UTF7", "UTF32", "Ascii", "Default", "Oem", "BigEndianUTF32")


def files_only(inv: Invocation, name: str, dynamic: tuple[str, ...] = ()) -> Iterator[ProviderPath]:
    """Yield the paths on the file system; reports missing drives, refuses dynamic parameters on other providers."""
    for path in given_paths(inv):
        if path.provider == "Missing":
            inv.error(missing_drive(name, path))
        elif path.provider != "FileSystem":
            for parameter in dynamic:
                if parameter in inv.parameters:
                    text = f"A parameter cannot be found that matches parameter name '{parameter}'."
                    kind = "System.Management.Automation.ParameterBindingException"
                    raise Terminating(record(name, "NamedParameterNotFound", text, 5, kind, parameter))
            raise LabRefusal(f"the lab imitates {name} on files only, not on {path.provider}")
        else:
            yield path


def _confirmed(inv: Invocation) -> None:
    if inv.get("Confirm"):
        raise LabRefusal("-Confirm would prompt, and the lab answers no prompt")


@cmdlet(
    "Get-Content",
    _PATHS
    | {
        "Encoding": Parameter(values=_ENCODINGS), "Raw": Parameter("switch"), "Tail": Parameter("int"), "ReadCount": Parameter("int"),
        "TotalCount": Parameter("int"), "Force": Parameter("switch"),
    },
)  # fmt: skip
def get_content(inv: Invocation) -> Iterator[Any]:
    """Exact bytes (-Encoding Byte -Raw) or text lines. An empty file gives no object."""
    name = "Get-Content"
    encoding, raw, tail = inv.get("Encoding", "Default"), bool(inv.get("Raw")), inv.get("Tail")
    if encoding not in ("Byte", "UTF8", "Unicode", "Default", "Ascii"):
        raise LabRefusal(f"the lab does not read text as {encoding}")
    if raw and (tail is not None or "TotalCount" in inv.parameters):
        message = "A parameter cannot be used together with Raw."
        raise Terminating(record(name, "GetContentReaderRawError", message, 7, "System.Management.Automation.PSInvalidOperationException"))
    if encoding == "Byte" and (not raw or inv.get("ReadCount") == 0):
        raise LabRefusal("the lab imitates -Encoding Byte with -Raw and the default -ReadCount only: one byte array")
    if "TotalCount" in inv.parameters:
        raise LabRefusal("the lab does not imitate -TotalCount")
    for path in files_only(inv, name, ("Encoding", "Raw", "Tail")):
        if not inv.machine.files.exists(path.path):
            inv.error(path_not_found(name, path.path))
            continue
        try:
            data = inv.machine.files.read(path.path)
        except FileProblem as problem:
            identifier = "GetContentReaderUnauthorizedAccessError" if problem.kind in ("denied", "not-a-file") else "GetContentReaderIOError"
            category = PERMISSION_DENIED if problem.kind in ("denied", "not-a-file") else READ_ERROR
            inv.error(record(name, identifier, str(problem), category, exception_of(problem), path.path))
            continue
        notes = file_notes(inv.machine.files.path(path.path))
        if not data:
            continue
        if encoding == "Byte":
            yield Obj(value=data, notes=notes | {"ReadCount": I64(1)}, types=("System.Byte[]", "System.Array", "System.Object"))
            continue
        text = data.decode({"UTF8": "utf-8-sig", "Unicode": "utf-16"}.get(encoding, "cp1252"), "replace")
        if raw:
            yield Obj(value=text, notes=notes | {"ReadCount": I64(1)}, types=("System.String", "System.Object"))
            continue
        lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
        lines = lines[-tail:] if tail else lines if tail is None else []
        if inv.get("ReadCount") == 0:
            if lines:
                yield Obj(value=lines, notes=notes | {"ReadCount": I64(len(lines))}, types=("System.Object[]", "System.Array", "System.Object"))
            continue
        for number, line in enumerate(lines, start=1):
            yield Obj(value=line, notes=notes | {"ReadCount": I64(number)}, types=("System.String", "System.Object"))


def _bytes_of(value: Any) -> bytes | None:
    if isinstance(value, Obj):
        value = value.value
    if isinstance(value, bytes):
        return value
    if isinstance(value, list):
        parts = [item.value if isinstance(item, Obj) else item for item in value]
        if all(isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 256 for item in parts):
            return bytes(parts)
        if len(parts) == 1:
            return _bytes_of(parts[0])
    return None


def _write_bytes(inv: Invocation, name: str, append: bool) -> Iterator[Any]:
    _confirmed(inv)
    if inv.get("Encoding") != "Byte":
        raise LabRefusal(f"the lab imitates {name} with -Encoding Byte only")
    data = _bytes_of(inv.get("Value"))
    files = inv.machine.files
    for path in files_only(inv, name, ("Encoding",)):
        if inv.get("Force") and files.read_only(path.path):
            files.set_attributes(path.path, tuple(item for item in files.stat(path.path).attributes if item != "ReadOnly"))
        try:
            if not append and files.is_file(path.path):
                files.truncate(path.path)
        except FileProblem as problem:
            denied = problem.kind in ("denied", "not-a-file")
            identifier = "ClearContentUnauthorizedAccessError" if denied else IO_EXCEPTION
            category = PERMISSION_DENIED if denied else NOT_SPECIFIED
            raise Terminating(record(name, identifier, str(problem), category, exception_of(problem), path.path)) from problem
        try:
            if data is None:
                if not files.exists(path.path):
                    files.write(path.path, b"")
                message = "Cannot proceed with byte encoding. When using byte encoding the content must be of type byte."
                kind = "System.Management.Automation.PSArgumentException"
                inv.error(record(name, "ProviderContentWriteError", message, NOT_SPECIFIED, kind, path.path))
            elif append:
                files.append(path.path, data)
            else:
                files.write(path.path, data)
        except FileProblem as problem:
            ids = {
                "denied": ("GetContentWriterUnauthorizedAccessError", PERMISSION_DENIED),
                "not-a-file": ("GetContentWriterUnauthorizedAccessError", PERMISSION_DENIED),
                "folder-not-found": ("GetContentWriterDirectoryNotFoundError", NOT_FOUND),
                "disk-full": ("ProviderContentWriteError", NOT_SPECIFIED),
            }
            identifier, category = ids.get(problem.kind, ("GetContentWriterIOError", WRITE_ERROR))
            inv.error(record(name, identifier, str(problem), category, exception_of(problem), path.path))
    return
    yield


_WRITE = _PATHS | {"Value": Parameter("object", position=1, mandatory=True), "Encoding": Parameter(values=_ENCODINGS)} | _CONFIRM


@cmdlet("Set-Content", _WRITE, write=True)
def set_content(inv: Invocation) -> Iterator[Any]:
    """A new file is created; an existing one is cut to nothing first, then written in place. No output."""
    yield from _write_bytes(inv, "Set-Content", append=False)


@cmdlet("Add-Content", _WRITE, write=True, languages=UNLISTED)
def add_content(inv: Invocation) -> Iterator[Any]:
    """Append bytes in place. No output."""
    yield from _write_bytes(inv, "Add-Content", append=True)


def _source_and_target(inv: Invocation, name: str) -> tuple[str, str] | None:
    """Return both paths, the target's folder resolved; None (and an error) when the source is missing."""
    _confirmed(inv)
    sources = list(files_only(inv, name))
    if len(sources) != 1:
        if not sources:
            return None
        raise LabRefusal(f"the lab imitates {name} of one file at a time")
    files = inv.machine.files
    source = sources[0].path
    if not files.exists(source):
        inv.error(path_not_found(name, source))
        return None
    target = provider_path(inv.get("Destination"))
    if target.provider == "Missing":
        inv.error(missing_drive(name, target))
        return None
    if target.provider != "FileSystem":
        raise LabRefusal(f"the lab imitates {name} on files only, not on {target.provider}")
    if files.is_dir(source):
        raise LabRefusal(f"the lab imitates {name} of files, not of folders")
    goal = target.path
    if files.is_dir(goal):
        goal = goal.rstrip("\\") + "\\" + files.path(source).rpartition("\\")[2]
    return source, goal


_TWO_PATHS = _PATHS | {"Destination": Parameter(position=1, mandatory=True)} | _CONFIRM


@cmdlet("Copy-Item", _TWO_PATHS, write=True)
def copy_item(inv: Invocation) -> Iterator[Any]:
    """CopyFile over the target; -Force clears ReadOnly of the target and tries again. No output."""
    name = "Copy-Item"
    if shares.copied(inv):
        return
    pair = _source_and_target(inv, name)
    if pair is None:
        return
    source, target = pair
    files = inv.machine.files
    try:
        files.copy(source, target, overwrite=True)
    except FileProblem as problem:
        if problem.kind == "denied" and not inv.get("Force"):
            inv.error(record(name, "CopyFileInfoItemUnauthorizedAccessError", str(problem), PERMISSION_DENIED, ACCESS_EXCEPTION, source))
            return
        try:
            if problem.kind != "denied" or not files.read_only(target):
                raise problem
            files.set_attributes(target, ("Archive",))
            files.copy(source, target, overwrite=True)
        except FileProblem as second:
            raise Terminating(record(name, exception_of(second), str(second), NOT_SPECIFIED, exception_of(second), source)) from second
    return
    yield


@cmdlet("Move-Item", _TWO_PATHS, write=True, languages=UNLISTED)
def move_item(inv: Invocation) -> Iterator[Any]:
    """MoveFile; with -Force over an existing target: delete it, then move, which loses it when the second step fails. No output."""
    name = "Move-Item"
    pair = _source_and_target(inv, name)
    if pair is None:
        return
    source, target = pair
    files = inv.machine.files
    try:
        files.move(source, target)
    except FileProblem as first:
        if inv.get("Force") and files.is_file(target) and first.kind in ("exists", "sharing"):
            try:
                files.delete(target, force=True)
                files.move(source, target)
                return
            except FileProblem:
                pass
        inv.error(record(name, "MoveFileInfoItemIOError", str(first), WRITE_ERROR, exception_of(first), source))
    return
    yield


@cmdlet("Rename-Item", _PATHS | {"NewName": Parameter(position=1, mandatory=True)} | _CONFIRM, write=True, languages=UNLISTED)
def rename_item(inv: Invocation) -> Iterator[Any]:
    """Rename within the folder; never overwrites. No output."""
    name = "Rename-Item"
    _confirmed(inv)
    for path in files_only(inv, name):
        if not inv.machine.files.exists(path.path):
            inv.error(path_not_found(name, path.path))
            continue
        full = inv.machine.files.path(path.path)
        new = inv.get("NewName")
        target = new if "\\" in new else full.rpartition("\\")[0] + "\\" + new
        try:
            inv.machine.files.move(full, target)
        except FileProblem as problem:
            inv.error(record(name, "RenameItemIOError", str(problem), WRITE_ERROR, exception_of(problem), full))
    return
    yield


@cmdlet("Remove-Item", _PATHS | {"Recurse": Parameter("switch")} | _CONFIRM, write=True)
def remove_item(inv: Invocation) -> Iterator[Any]:
    """Delete files, and folders with -Recurse (without it a folder that is not empty would prompt). No output."""
    name = "Remove-Item"
    _confirmed(inv)
    files = inv.machine.files
    for path in files_only(inv, name):
        if not files.exists(path.path):
            inv.error(path_not_found(name, path.path))
            continue
        try:
            files.delete(path.path, recurse=bool(inv.get("Recurse")), force=bool(inv.get("Force")))
        except FileProblem as problem:
            if problem.kind == "not-empty":
                raise LabRefusal(f"Remove-Item of {path.path} would prompt: it is not empty") from problem
            full = files.path(path.path)
            message = f"Cannot remove item {full}: {problem}"
            if problem.kind == "denied":
                message = f"Cannot remove item {full}: You do not have sufficient access rights to perform this operation."
                inv.error(record(name, "RemoveFileSystemItemUnAuthorizedAccess", message, PERMISSION_DENIED, IO_EXCEPTION, full))
            else:
                inv.error(record(name, "RemoveFileSystemItemIOError", message, WRITE_ERROR, IO_EXCEPTION, full))
    return
    yield


@cmdlet(
    "New-Item",
    {"Path": Parameter("string[]", position=0, mandatory=True), "ItemType": Parameter(values=("File", "Directory")), "Value": Parameter("object")} | _CONFIRM,
    write=True,
    languages=UNLISTED,
)
def new_item(inv: Invocation) -> Iterator[Any]:
    """Create a folder (with its parents) or an empty file; -Force cuts an existing file to nothing. Writes the item."""
    name = "New-Item"
    _confirmed(inv)
    if inv.get("Value") is not None or not inv.get("ItemType"):
        raise LabRefusal("the lab imitates New-Item with -ItemType and without -Value")
    files = inv.machine.files
    force = bool(inv.get("Force"))
    for path in files_only(inv, name):
        full = files.path(path.path)
        try:
            if inv.get("ItemType") == "Directory":
                if files.exists(full) and not (force and files.is_dir(full)):
                    message = f"An item with the specified name {full} already exists."
                    inv.error(record(name, "DirectoryExist", message, EXISTS, IO_EXCEPTION, full))
                    continue
                files.make_folder(full)
            elif files.exists(full) and not force:
                inv.error(record(name, "NewItemIOError", f"The file '{full}' already exists.", WRITE_ERROR, IO_EXCEPTION, full))
                continue
            else:
                if force:
                    files.make_folder(full.rpartition("\\")[0])
                files.write(full, b"")
        except FileProblem as problem:
            denied = problem.kind == "denied"
            identifier, category = ("NewItemUnauthorizedAccessError", PERMISSION_DENIED) if denied else ("NewItemIOError", WRITE_ERROR)
            inv.error(record(name, identifier, str(problem), category, exception_of(problem), full))
            continue
        yield file_info(inv.machine, full)
