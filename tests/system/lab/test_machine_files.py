# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a simulated machine: paths, contents, copies, moves, FileInfo.Replace, descriptors, locks, a full disk."""

from __future__ import annotations

import pathlib
import types
from typing import Any

import pytest

from lab.direct import one, run
from lab.files import FILE_SDDL, FileProblem, canonical
from lab.kernel import I64, REGISTRY, LabRefusal, Obj, Terminating
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


# -- paths


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("C:\\data\\WEB.config", FILE),
        ("\\\\?\\C:\\Data\\web.config", FILE),
        ("c:/Data/./x/../web.config", FILE),
        ("%SystemDrive%\\Data\\web.config", FILE),
        ("C:\\..\\..\\Data\\web.config\\", FILE),
        ("%windir%\\Temp", "C:\\Windows\\Temp"),
        ("C:\\", "C:\\"),
    ],
)
def test_paths_find_the_spelling_of_the_disk(machine: Machine, given: str, expected: str) -> None:
    assert machine.files.path(given) == expected


def test_paths_stay_below_the_root(machine: Machine) -> None:
    assert machine.files.host_path("C:\\..\\..\\..\\etc\\passwd") == machine.root / "etc" / "passwd"
    for text, kind in (("D:\\x", "drive-not-found"), ("x", "illegal-path"), ("C:\\a?b", "illegal-path"), ("", "illegal-path"), ("C:\\a:b", "illegal-path")):
        with pytest.raises(FileProblem) as caught:
            canonical(text)
        assert caught.value.kind == kind


def test_outside_change_is_seen_and_state_survives_a_restart(machine: Machine) -> None:
    (machine.root / "Data" / "web.config").write_bytes(b"from outside")
    assert one(machine, "Get-Content", LiteralPath=FILE, Encoding="Byte", Raw=True).value == b"from outside"
    again = Machine(machine.directory)
    assert (again.files.read(FILE), again.files.sddl(FILE)) == (b"from outside", SDDL)


# -- Get-Content, Get-Item, Test-Path, Get-ChildItem


def test_bytes_come_as_one_array_with_notes(machine: Machine) -> None:
    machine.files.write(FILE, bytes(range(256)))
    found = one(machine, "Get-Content", LiteralPath="c:\\data\\web.config", Encoding="byte", Raw=True)
    assert found.value == bytes(range(256))
    assert found.notes == {
        "PSPath": f"Microsoft.PowerShell.Core\\FileSystem::{FILE}", "PSParentPath": f"Microsoft.PowerShell.Core\\FileSystem::{FOLDER}",
        "PSChildName": "web.config", "PSDrive": "C", "PSProvider": "Microsoft.PowerShell.Core\\FileSystem", "ReadCount": 1,
    }  # fmt: skip
    assert isinstance(found.notes["ReadCount"], I64)


def test_empty_file_gives_nothing_and_no_error(machine: Machine) -> None:
    machine.files.write(FILE, b"")
    assert run(machine, "Get-Content", LiteralPath=FILE, Encoding="Byte", Raw=True) == ([], [])


def test_text_tail_in_one_list_or_line_by_line(machine: Machine) -> None:
    machine.files.write(FILE, "\ufeffeins\r\nzw\u00f6lf\r\ndrei\r\n".encode())
    assert one(machine, "Get-Content", LiteralPath=FILE, Encoding="UTF8", Tail=2, ReadCount=0).value == ["zw\u00f6lf", "drei"]
    lines, errors = run(machine, "Get-Content", LiteralPath=FILE, Encoding="UTF8")
    assert ([line.value for line in lines], [line.notes["ReadCount"] for line in lines], errors) == (["eins", "zw\u00f6lf", "drei"], [1, 2, 3], [])


@pytest.mark.parametrize(
    ("path", "fqid", "category"),
    [
        (FOLDER + "\\none", "PathNotFound", 13),
        ("C:\\No\\Such\\Folder\\f", "PathNotFound", 13),
        ("Q:\\f", "DriveNotFound", 13),
        (FOLDER, "GetContentReaderUnauthorizedAccessError", 18),
    ],
)
def test_content_errors_do_not_end_the_statement(machine: Machine, path: str, fqid: str, category: int) -> None:
    output, errors = run(machine, "Get-Content", LiteralPath=[path, FILE], Encoding="Byte", Raw=True)
    assert [item.value for item in output] == [b"old"]
    assert (errors[0].fqid, errors[0].category) == (f"{fqid},Microsoft.PowerShell.Commands.GetContentCommand", category)


def test_exclusively_opened_file_is_a_sharing_violation(machine: Machine) -> None:
    machine.files.locks[FILE.lower()] = "exclusive"
    dummy, errors = run(machine, "Get-Content", LiteralPath=FILE, Encoding="Byte", Raw=True)
    assert (fqids(errors), errors[0].category) == (["GetContentReaderIOError"], 22)


def test_combinations_of_get_content_that_windows_or_the_lab_refuses(machine: Machine) -> None:
    with pytest.raises(Terminating):
        run(machine, "Get-Content", LiteralPath=FILE, Encoding="Byte", Raw=True, Tail=1)
    for parameters in ({"Encoding": "Byte"}, {"Encoding": "Byte", "Raw": True, "ReadCount": 0}, {"Encoding": "BigEndianUnicode"}, {"TotalCount": 1}):
        with pytest.raises(LabRefusal):
            run(machine, "Get-Content", LiteralPath=FILE, **parameters)
    with pytest.raises(LabRefusal):
        run(machine, "Get-Content", LiteralPath="web.config")
    with pytest.raises(LabRefusal):
        run(machine, "Get-Content", Path=FOLDER + "\\*.config")
    with pytest.raises(Terminating) as caught:
        run(machine, "Get-Content", LiteralPath="HKLM:\\SOFTWARE", Encoding="Byte", Raw=True)
    assert caught.value.info.fqid == "NamedParameterNotFound,Microsoft.PowerShell.Commands.GetContentCommand"


def test_item(machine: Machine) -> None:
    machine.set_version(FILE, FileVersion="15.02.1748.046", ProductVersion="15.02.1748.046")
    found = one(machine, "Get-Item", LiteralPath=FILE, Force=True)
    assert found.types == ("System.IO.FileInfo", "System.IO.FileSystemInfo", "System.MarshalByRefObject", "System.Object")
    assert (found.props["Length"], found.props["FullName"], found.props["Attributes"], found.props["IsReadOnly"]) == (3, FILE, "Archive", False)
    assert isinstance(found.props["Length"], I64)
    assert found.props["LastWriteTimeUtc"].tzinfo is not None
    assert "15.02.1748.046" in found.notes["VersionInfo"]
    folder = one(machine, "Get-Item", LiteralPath=FOLDER)
    assert (folder.types[0], folder.props["Attributes"], "Length" in folder.props) == ("System.IO.DirectoryInfo", "Directory", False)
    output, errors = run(machine, "Get-Item", LiteralPath=FOLDER + "\\none")
    assert (output, errors[0].fqid, errors[0].exception) == (
        [], "PathNotFound,Microsoft.PowerShell.Commands.GetItemCommand", "System.Management.Automation.ItemNotFoundException",
    )  # fmt: skip


def test_version_info_keeps_its_members(machine: Machine) -> None:
    machine.set_version(FILE, FileVersion="15.02.1748.046", ProductVersion="15.02.1748.046")
    found = one(machine, "Get-ItemProperty", LiteralPath=FILE, Name="VersionInfo").notes["VersionInfo"]
    assert (found.props["FileVersion"], found.props["FileBuildPart"], found.props["FilePrivatePart"]) == ("15.02.1748.046", 1748, 46)
    assert found.notes["FileVersionRaw"].value == "15.2.1748.46"
    machine.files.write(TEMP, b"")
    assert one(machine, "Get-ItemProperty", LiteralPath=TEMP, Name="VersionInfo").notes["VersionInfo"].props["FileVersion"] is None


def test_test_path(machine: Machine) -> None:
    def there(path: Any, **more: str) -> list[Any]:
        output, errors = run(machine, "Test-Path", LiteralPath=path, **more)
        assert not errors
        return output

    assert there([FILE, FOLDER, FOLDER + "\\none", "Q:\\x"]) == [True, True, False, False]
    assert there([FILE, FOLDER], PathType="Leaf") == [True, False]
    assert there([FILE, FOLDER], PathType="Container") == [False, True]
    with pytest.raises(Terminating):
        there("")


def test_child_items(machine: Machine) -> None:
    machine.files.make_folder(FOLDER + "\\sub")
    machine.files.write(FOLDER + "\\a.txt", b"")
    machine.files.write(FOLDER + "\\h.config", b"")
    machine.files.set_attributes(FOLDER + "\\h.config", ("Hidden", "Archive"))

    def names(**more: Any) -> list[str]:
        return [item.props["Name"] for item in run(machine, "Get-ChildItem", LiteralPath=FOLDER, **more)[0]]

    assert names() == ["sub", "a.txt", "web.config"]
    assert names(Filter="*.config", File=True, Force=True) == ["h.config", "web.config"]
    assert names(Directory=True) == ["sub"]
    assert fqids(run(machine, "Get-ChildItem", LiteralPath="C:\\none")[1]) == ["PathNotFound"]


# -- Set-Content, Add-Content


def test_set_content_creates_and_writes_in_place(machine: Machine) -> None:
    data = bytes(range(256))
    assert run(machine, "Set-Content", LiteralPath=TEMP, Encoding="Byte", Value=data) == ([], [])
    assert (machine.files.read(TEMP), machine.files.sddl(TEMP)) == (data, FILE_SDDL)
    created = machine.files.stat(FILE).created
    run(machine, "Set-Content", LiteralPath=FILE, Encoding="Byte", Value=b"new")
    assert (machine.files.read(FILE), machine.files.sddl(FILE), machine.files.stat(FILE).created == created) == (b"new", SDDL, True)
    run(machine, "Add-Content", LiteralPath=FILE, Encoding="Byte", Value=[1, 2])
    assert machine.files.read(FILE) == b"new\x01\x02"


def test_set_content_errors(machine: Machine) -> None:
    dummy, errors = run(machine, "Set-Content", LiteralPath="C:\\none\\f", Encoding="Byte", Value=b"x")
    assert fqids(errors) == ["GetContentWriterDirectoryNotFoundError"]
    dummy, errors = run(machine, "Set-Content", LiteralPath=TEMP, Encoding="Byte", Value="text")
    assert fqids(errors) == ["ProviderContentWriteError"]
    machine.files.set_attributes(FILE, ("ReadOnly",))
    with pytest.raises(Terminating) as caught:
        run(machine, "Set-Content", LiteralPath=FILE, Encoding="Byte", Value=b"x")
    assert caught.value.info.category == 18
    assert machine.files.read(FILE) == b"old"
    run(machine, "Set-Content", LiteralPath=FILE, Encoding="Byte", Value=b"x", Force=True)
    assert machine.files.read(FILE) == b"x"
    with pytest.raises(LabRefusal):
        run(machine, "Set-Content", LiteralPath=FILE, Value="text")
    with pytest.raises(LabRefusal):
        run(machine, "Set-Content", LiteralPath=FILE, Encoding="Byte", Value=b"x", Confirm=True)


def test_set_content_on_a_full_disk_leaves_an_empty_file(machine: Machine) -> None:
    with_fault(machine, "disk-full")
    dummy, errors = run(machine, "Set-Content", LiteralPath=FILE, Encoding="Byte", Value=b"new")
    assert (fqids(errors), machine.files.read(FILE)) == (["ProviderContentWriteError"], b"")


def test_set_content_on_a_locked_file(machine: Machine) -> None:
    with_fault(machine, "locked-file")
    with pytest.raises(Terminating) as caught:
        run(machine, "Set-Content", LiteralPath=FILE, Encoding="Byte", Value=b"new")
    assert caught.value.info.exception == "System.IO.IOException"
    assert machine.files.read(FILE) == b"old"
    assert run(machine, "Set-Content", LiteralPath=TEMP, Encoding="Byte", Value=b"new") == ([], [])


# -- Copy, Move, Rename, Remove, New


def test_copy_keeps_the_targets_descriptor(machine: Machine) -> None:
    machine.files.write(TEMP, b"new")
    assert run(machine, "Copy-Item", LiteralPath=TEMP, Destination=FILE, Force=True) == ([], [])
    assert (machine.files.read(FILE), machine.files.sddl(FILE), machine.files.read(TEMP)) == (b"new", SDDL, b"new")
    run(machine, "Copy-Item", LiteralPath=FILE, Destination=BACKUP)
    assert machine.files.sddl(BACKUP) == FILE_SDDL
    assert machine.files.stat(BACKUP).written == machine.files.stat(FILE).written


def test_copy_over_read_only_needs_force(machine: Machine) -> None:
    machine.files.write(TEMP, b"new")
    machine.files.set_attributes(FILE, ("ReadOnly",))
    dummy, errors = run(machine, "Copy-Item", LiteralPath=TEMP, Destination=FILE)
    assert (fqids(errors), machine.files.read(FILE)) == (["CopyFileInfoItemUnauthorizedAccessError"], b"old")
    run(machine, "Copy-Item", LiteralPath=TEMP, Destination=FILE, Force=True)
    assert machine.files.read(FILE) == b"new"


def test_copy_errors(machine: Machine) -> None:
    assert fqids(run(machine, "Copy-Item", LiteralPath=TEMP, Destination=FILE)[1]) == ["PathNotFound"]
    machine.files.write(TEMP, b"new")
    machine.files.locks[FILE.lower()] = "write"
    with pytest.raises(Terminating) as caught:
        run(machine, "Copy-Item", LiteralPath=TEMP, Destination=FILE, Force=True)
    assert caught.value.info.exception == "System.IO.IOException"


def test_move_force_gives_the_sources_descriptor_and_may_lose_the_target(machine: Machine) -> None:
    machine.files.write(TEMP, b"new")
    assert fqids(run(machine, "Move-Item", LiteralPath=TEMP, Destination=FILE)[1]) == ["MoveFileInfoItemIOError"]
    assert run(machine, "Move-Item", LiteralPath=TEMP, Destination=FILE, Force=True) == ([], [])
    assert (machine.files.read(FILE), machine.files.sddl(FILE), machine.files.exists(TEMP)) == (b"new", FILE_SDDL, False)
    machine.files.write(TEMP, b"newer")
    machine.files.locks[TEMP.lower()] = "write"
    assert fqids(run(machine, "Move-Item", LiteralPath=TEMP, Destination=FILE, Force=True)[1]) == ["MoveFileInfoItemIOError"]
    assert (machine.files.exists(FILE), machine.files.exists(TEMP)) == (False, True)


def test_rename_never_overwrites(machine: Machine) -> None:
    machine.files.write(TEMP, b"new")
    assert fqids(run(machine, "Rename-Item", LiteralPath=TEMP, NewName="web.config")[1]) == ["RenameItemIOError"]
    assert run(machine, "Rename-Item", LiteralPath=TEMP, NewName="other.config") == ([], [])
    assert machine.files.read(FOLDER + "\\other.config") == b"new"


def test_remove(machine: Machine) -> None:
    machine.files.set_attributes(FILE, ("ReadOnly",))
    assert fqids(run(machine, "Remove-Item", LiteralPath=FILE)[1]) == ["RemoveFileSystemItemUnAuthorizedAccess"]
    assert run(machine, "Remove-Item", LiteralPath=FILE, Force=True, Confirm=False) == ([], [])
    assert fqids(run(machine, "Remove-Item", LiteralPath=FILE)[1]) == ["PathNotFound"]
    machine.files.write(FILE, b"fresh")
    assert machine.files.sddl(FILE) == FILE_SDDL, "a new file does not get the descriptor of a deleted one"
    with pytest.raises(LabRefusal):
        run(machine, "Remove-Item", LiteralPath=FOLDER)
    assert run(machine, "Remove-Item", LiteralPath=FOLDER, Recurse=True) == ([], [])
    assert not machine.files.exists(FOLDER)


def test_new_item(machine: Machine) -> None:
    assert one(machine, "New-Item", Path=FOLDER + "\\a\\b", ItemType="Directory").props["FullName"] == FOLDER + "\\a\\b"
    assert fqids(run(machine, "New-Item", Path=FOLDER, ItemType="Directory")[1]) == ["DirectoryExist"]
    one(machine, "New-Item", Path=FOLDER, ItemType="Directory", Force=True)
    assert fqids(run(machine, "New-Item", Path=FILE, ItemType="File")[1]) == ["NewItemIOError"]
    one(machine, "New-Item", Path=FILE, ItemType="File", Force=True)
    assert machine.files.read(FILE) == b""


# -- descriptors


def test_acl_flows_through_one_pipeline(machine: Machine) -> None:
    acl = one(machine, "Get-Acl", LiteralPath=FILE)
    assert (acl.notes["Sddl"], acl.notes["Owner"]) == (SDDL, "BUILTIN\\Administrators")
    machine.files.write(TEMP, b"new")
    assert run(machine, "Set-Acl", [acl], LiteralPath=TEMP) == ([], [])
    assert machine.files.sddl(TEMP) == SDDL


def test_acl_errors(machine: Machine) -> None:
    output, errors = run(machine, "Get-Acl", LiteralPath=TEMP)
    assert (output, errors[0].fqid) == ([], "GetAcl_PathNotFound_Exception,Microsoft.PowerShell.Commands.GetAclCommand")
    acl = one(machine, "Get-Acl", LiteralPath=FILE)
    with pytest.raises(Terminating) as caught:
        run(machine, "Set-Acl", [acl], LiteralPath=TEMP)
    assert caught.value.info.fqid.startswith("SetSecurityDescriptor_FileNotFound,")
    dead = Obj(types=("Deserialized.System.Security.AccessControl.FileSecurity",), notes={"Sddl": "D:"})
    with pytest.raises(Terminating) as caught:
        run(machine, "Set-Acl", [dead], LiteralPath=FILE)
    assert caught.value.info.fqid.startswith("SetAcl_AclObject,")


# -- flags


def test_write_flags_and_languages() -> None:
    changing = {"set-content", "add-content", "copy-item", "move-item", "rename-item", "remove-item", "new-item", "set-acl", "stop-service",
                "start-service", "restart-service", "set-service", "start-webapppool", "stop-webapppool"}  # fmt: skip
    reading = {"get-content", "get-item", "get-itemproperty", "get-childitem", "test-path", "get-acl", "get-service", "get-ciminstance", "get-hotfix",
               "get-webconfiguration", "get-webconfigfile", "get-webapplication", "get-webapppoolstate"}  # fmt: skip
    for name in changing | reading:
        assert REGISTRY[("host", name)].write({}) is (name in changing), name
    unlisted = {"add-content", "move-item", "rename-item", "new-item", "restart-service", "set-service", "get-hotfix"}
    for name in changing | reading:
        assert ("NoLanguage" in REGISTRY[("host", name)].languages) is (name not in unlisted), name
