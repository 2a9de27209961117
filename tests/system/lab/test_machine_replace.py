# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""FileInfo.Replace of a simulated machine: what it keeps, what it refuses, and where its failures leave the files."""

from __future__ import annotations

import pathlib
import types
from typing import Any

import pytest

from lab.direct import one, run
from lab.files import FileProblem
from lab.kernel import Terminating
from lab.machine import Machine

FOLDER = "C:\\Data"
FILE, TEMP, BACKUP = FOLDER + "\\web.config", FOLDER + "\\web.config.1.new.config", FOLDER + "\\web.config.1.bak.config"
SDDL = "O:BAG:SYD:PAI(A;;FA;;;SY)(A;;FA;;;BA)"


@pytest.fixture
def machine(tmp_path: pathlib.Path) -> Machine:
    machine = Machine(tmp_path)
    machine.files.make_folder(FOLDER)
    machine.files.write(FILE, b"old")
    machine.files.set_sddl(FILE, SDDL)
    return machine


def with_fault(machine: Machine, name: str, **options: Any) -> None:
    fault = types.SimpleNamespace(options=options)

    def active(asked: str, dummy: Any) -> Any:
        return fault if asked == name else None

    machine.fleet = types.SimpleNamespace(faults=types.SimpleNamespace(active=active))


def fqids(errors: list[Any]) -> list[str]:
    return [error.fqid.split(",")[0] for error in errors]


def replace(machine: Machine, source: str, target: Any, backup: Any) -> Any:
    item = one(machine, "Get-Item", LiteralPath=source)
    return item.live.lab_methods["Replace"](target, backup)


def test_replace_keeps_descriptor_and_creation_time_and_leaves_the_backup(machine: Machine) -> None:
    created = machine.files.stat(FILE).created
    machine.files.set_attributes(FILE, ("Archive", "Hidden"))
    machine.files.write(TEMP, b"new")
    machine.files.set_sddl(TEMP, "O:BAG:BAD:(A;;FA;;;WD)")
    replace(machine, TEMP, FILE, BACKUP)
    assert (machine.files.read(FILE), machine.files.sddl(FILE)) == (b"new", SDDL)
    assert (machine.files.stat(FILE).created, machine.files.stat(FILE).attributes) == (created, ("Archive", "Hidden"))
    assert (machine.files.read(BACKUP), machine.files.sddl(BACKUP)) == (b"old", SDDL)
    assert not machine.files.exists(TEMP)
    replace(machine, BACKUP, FILE, TEMP)
    assert (machine.files.read(FILE), machine.files.read(TEMP)) == (b"old", b"new")


def test_replace_overwrites_an_old_backup(machine: Machine) -> None:
    machine.files.write(BACKUP, b"older")
    machine.files.write(TEMP, b"new")
    replace(machine, TEMP, FILE, BACKUP)
    assert machine.files.read(BACKUP) == b"old"


@pytest.mark.parametrize(
    ("prepare", "backup", "exception"),
    [
        (lambda files: None, None, "System.ArgumentException"),
        (lambda files: files.set_attributes(FILE, ("ReadOnly",)), BACKUP, "System.UnauthorizedAccessException"),
        (lambda files: files.delete(FILE), BACKUP, "System.IO.FileNotFoundException"),
        (lambda files: files.locks.update({TEMP.lower(): "write"}), BACKUP, "System.IO.IOException"),
        (lambda files: files.locks.update({FILE.lower(): "exclusive"}), BACKUP, "System.IO.IOException"),
        (lambda files: files.locks.update({FILE.lower(): "write"}), BACKUP, "System.IO.IOException"),
        (lambda files: None, "C:\\none\\b", "System.IO.DirectoryNotFoundException"),
    ],
    ids=["null-backup", "read-only", "no-target", "source-open", "target-exclusive", "target-open-1175", "no-folder"],
)
def test_replace_refused_changes_nothing(machine: Machine, prepare: Any, backup: str | None, exception: str) -> None:
    machine.files.write(TEMP, b"new")
    prepare(machine.files)
    with pytest.raises(Terminating) as caught:
        replace(machine, TEMP, FILE, backup)
    assert caught.value.info.exception == exception
    machine.files.locks.clear()
    assert machine.files.read(TEMP) == b"new"
    assert not machine.files.exists(FILE) or machine.files.read(FILE) == b"old"
    assert not machine.files.exists(BACKUP)


def test_replace_1176_leaves_both_and_1177_leaves_the_backup_only(machine: Machine) -> None:
    machine.files.write(TEMP, b"new")
    with_fault(machine, "replace-1176")
    with pytest.raises(Terminating):
        replace(machine, TEMP, FILE, BACKUP)
    assert (machine.files.read(FILE), machine.files.read(TEMP), machine.files.exists(BACKUP)) == (b"old", b"new", False)
    with_fault(machine, "replace-1177")
    with pytest.raises(Terminating) as caught:
        replace(machine, TEMP, FILE, BACKUP)
    assert "renamed using the backup name" in caught.value.info.message
    assert (machine.files.exists(FILE), machine.files.read(TEMP), machine.files.read(BACKUP), machine.files.sddl(BACKUP)) == (False, b"new", b"old", SDDL)


@pytest.mark.parametrize(("mode", "replaced"), [("FullLanguage", True), ("ConstrainedLanguage", False)])
def test_replace_through_foreach_object(machine: Machine, mode: str, replaced: bool) -> None:
    machine.files.write(TEMP, b"new")
    item = one(machine, "Get-Item", LiteralPath=TEMP)
    session = types.SimpleNamespace(language_mode=mode)
    output, errors = run(machine, "ForEach-Object", [item], session, MemberName="Replace", ArgumentList=[FILE, BACKUP])
    if replaced:
        assert (machine.files.read(FILE), [found.props["FullName"] for found in output], errors) == (b"new", [FILE], [])
    else:
        assert (machine.files.read(FILE), output, fqids(errors)) == (b"old", [], ["MethodInvocationNotSupportedInConstrainedLanguage"])


def test_replace_error_through_foreach_object_does_not_end_the_statement(machine: Machine) -> None:
    machine.files.write(TEMP, b"new")
    item = one(machine, "Get-Item", LiteralPath=TEMP)
    output, errors = run(machine, "ForEach-Object", [item], MemberName="Replace", ArgumentList=[FILE, None])
    assert (output, fqids(errors), errors[0].category) == ([], ["MethodInvocationError"], 7)
    assert "The path is not of a legal form." in errors[0].message


def test_locked_file_fault_for_one_path(machine: Machine) -> None:
    with_fault(machine, "locked-file", path="C:\\Data\\other.config")
    machine.files.write(FILE, b"free")
    machine.files.write("C:\\Data\\other.config", b"")
    with pytest.raises(FileProblem):
        machine.files.write("C:\\Data\\OTHER.config", b"x")
