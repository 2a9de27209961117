# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changing files of a made-up server that refuses at one point: all is as before, or the sentence says what is not, and the next run ends it."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, CmdletError, MitigationError
from ansible_collections.exchange.mitigation.plugins.module_utils._journal import History
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Answer, ErrorRecord, Statement
from ansible_collections.exchange.mitigation.plugins.modules import mitigation
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils import iis_samples as samples
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.made_up_host import DENIED, UNKNOWN, Host, Task

REFUSED = ErrorRecord("Cannot add duplicate collection entry", "GetWebConfiguration,x", "NotSpecified", "COMException", "")
FULL = ErrorRecord("There is not enough space on the disk.", "GetContentWriterIOError,x", "WriteError", "IOException", "")
ELSEWHERE = ErrorRecord("The parameter is incorrect.", "SomethingElse,x", "NotSpecified", "ArgumentException", "")


def run(host: Host, directory: pathlib.Path, **params: Any) -> dict[str, Any]:
    """Run the module with its effect."""
    decision = mitigation.run(Task(mitigation.SPEC, host, directory, **{"mitigations": ["M1"], **params}))
    assert decision.effect is not None
    return decision.effect()


def failed(host: Host, directory: pathlib.Path, kind: type[MitigationError] = ApplyError, **params: Any) -> MitigationError:
    """Run the module and return what it failed with."""
    with pytest.raises(kind) as caught:
        run(host, directory, **params)
    assert "\n" not in caught.value.message
    return caught.value


def without_root() -> Host:
    """Return a server without a web.config in the root of the site."""
    host = Host()
    del host.files[samples.ROOT_FILE]
    return host


def refusing(host: Host, when: Callable[[], bool]) -> None:
    """Let IIS refuse to parse while a condition holds."""
    host.answers["Get-WebConfiguration"] = lambda statement: Answer(statement, (), (REFUSED,)) if when() else None


def open_operations(directory: pathlib.Path) -> list[Any]:
    """Return what the journal says is not ended."""
    return History(str(directory), "ex1").open_operations()


def test_a_file_whose_access_list_cannot_be_read_is_not_touched(tmp_path: pathlib.Path) -> None:
    """Without its security descriptor nobody could tell afterwards whether it was kept."""
    host = Host()
    before = dict(host.files)
    host.answer("Get-Acl", errors=[DENIED], path=samples.ROOT_FILE)
    error = failed(host, tmp_path, CmdletError)
    assert (error.reason, error.details["cmdlet"], "Access is denied" in error.message) == ("cmdlet_failed", "Get-Acl", True)
    assert samples.ROOT_FILE in error.message
    assert (host.files, host.changes, list(tmp_path.rglob("*.jsonl"))) == (before, [], [])


@pytest.mark.parametrize("rename", [True, False])
def test_a_file_that_was_made_goes_again_where_iis_refuses_it(tmp_path: pathlib.Path, rename: bool) -> None:
    """There was none before, so there is none afterwards; by copying too, where the session does not list Rename-Item."""
    host = without_root()
    before = dict(host.files)
    if not rename:
        host.answer("Rename-Item", errors=[UNKNOWN])
    refusing(host, lambda: samples.ROOT_FILE in host.files)
    error = failed(host, tmp_path)
    assert (error.reason, error.details["undone"]) == ("check_failed", True)
    assert "IIS refuses" in error.message and "duplicate collection entry" in error.message and "the bytes before are back" in error.message
    assert host.files == before
    assert open_operations(tmp_path) == []
    host.answers.clear()
    run(host, tmp_path)
    assert samples.ROOT_FILE in host.files


def test_a_file_that_was_taken_away_comes_back_where_iis_refuses_that(tmp_path: pathlib.Path) -> None:
    """The undo of a made file deletes it; where IIS does not parse what is left, it stands there again with every byte."""
    host = without_root()
    run(host, tmp_path)
    before = dict(host.files)
    refusing(host, lambda: samples.ROOT_FILE not in host.files)
    error = failed(host, tmp_path, mitigations=None, state="absent", undo_run_id="last")
    assert (error.reason, error.details["undone"]) == ("check_failed", True)
    assert host.files == before
    assert open_operations(tmp_path) == []
    host.answers.clear()
    run(host, tmp_path, mitigations=None, state="absent", undo_run_id="last")
    assert host.files == without_root().files


def test_a_file_that_cannot_be_put_in_its_place_leaves_nothing(tmp_path: pathlib.Path) -> None:
    """Only where the session does not know the cmdlet is there another way; any other refusal ends it."""
    host = without_root()
    before = dict(host.files)
    host.answer("Rename-Item", errors=[DENIED])
    error = failed(host, tmp_path)
    assert (error.reason, error.details["undone"]) == ("replace_failed", True)
    assert "the file is as before: Access is denied." in error.message
    assert "Copy-Item" not in host.changes
    assert host.files == before
    assert open_operations(tmp_path) == []


def test_a_replace_that_fails_over_a_file_that_is_neither_is_said_and_kept(tmp_path: pathlib.Path) -> None:
    """Somebody wrote the file in that very moment: theirs stays, the sentence says where the bytes before are, and the next run asks nobody."""
    host = Host()
    theirs = samples.in_root("<!-- theirs -->")

    def replaced(statement: Statement) -> Answer:
        host.files[samples.ROOT_FILE] = theirs
        return Answer(statement, (), (ELSEWHERE,))

    host.answers["ForEach-Object"] = replaced
    error = failed(host, tmp_path)
    assert (error.reason, error.details["undone"], error.details["file"]) == ("file_unsettled", False, samples.ROOT_FILE)
    assert "The parameter is incorrect" in error.message and "neither the bytes before nor after" in error.message
    (file,) = tmp_path.rglob("*.jsonl")
    assert str(file) in error.message
    assert host.files[samples.ROOT_FILE] == theirs
    assert [entry.event for entry in open_operations(tmp_path)] == ["unsettled"]
    host.answers.clear()
    result = run(host, tmp_path)
    assert [entry["outcome"] for entry in result["recovered"]] == ["abandoned"]
    assert b"<!-- theirs -->" in host.files[samples.ROOT_FILE] and b"exchange.mitigation M1" in host.files[samples.ROOT_FILE]
    assert set(host.files) == {samples.HOST_PATH, samples.ROOT_FILE, samples.OWA_FILE, samples.ECP_FILE}


def test_a_rest_that_cannot_be_looked_for_is_left_to_the_next_run(tmp_path: pathlib.Path) -> None:
    """The disk is full, and the server does not say whether the half-written file stands there: the operation stays open and is ended later."""
    host = Host()

    def written(statement: Statement) -> Answer:
        host.files[statement[0].parameters["LiteralPath"]] = statement[0].parameters["Value"][:10]
        return Answer(statement, (), (FULL,))

    host.answers["Set-Content"] = written
    host.answers["Test-Path"] = lambda statement: Answer(statement, (), (DENIED,)) if ".new.config" in statement[0].parameters["LiteralPath"] else None
    error = failed(host, tmp_path)
    assert (error.reason, error.details["file"]) == ("write_failed", samples.ROOT_FILE)
    assert "the file is untouched: There is not enough space on the disk. The next run removes what may be left" in error.message
    assert "Access is denied" in error.message
    assert host.files[samples.ROOT_FILE] == samples.ROOT_CONFIG
    assert [entry.event for entry in open_operations(tmp_path)] == ["begin"]
    host.answers.clear()
    result = run(host, tmp_path)
    assert [entry["outcome"] for entry in result["recovered"]] == ["recovered_before"]
    assert set(host.files) == {samples.HOST_PATH, samples.ROOT_FILE, samples.OWA_FILE, samples.ECP_FILE}
    assert open_operations(tmp_path) == []
