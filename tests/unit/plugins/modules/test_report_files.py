# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's files: check, write, again; each is whole at any time, and what is in the way is told with its path."""

from __future__ import annotations

import json
import os
import pathlib
import stat
import types
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.exchange.mitigation.plugins.module_utils import _report
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Decision
from ansible_collections.exchange.mitigation.plugins.module_utils._report_files import FORMS
from ansible_collections.exchange.mitigation.plugins.modules import report as module
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.report_samples import fleet, organization

RESULTS = fleet()
REPORT = _report.build(RESULTS, organization(RESULTS), None, None, "2026-06-01T00:00:00Z", None, [], None, None)
NAMES = ["report.html", "report.csv", "report.json", "metrics.prom"]


def decision(path: pathlib.Path, **options: Any) -> Decision:
    """Return what the module decides."""
    given = {"report": REPORT, "path": str(path)} | options
    validated = ArgumentSpecValidator(**module.SPEC).validate({name: value for name, value in given.items() if value is not None})
    assert not validated.error_messages, validated.error_messages
    task: Any = types.SimpleNamespace(params=validated.validated_parameters)
    return module.run(task)


def write(path: pathlib.Path, **options: Any) -> Decision:
    """Run the module and its effect."""
    made = decision(path, **options)
    if made.effect is not None:
        made.effect()
    return made


def mode(path: pathlib.Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_check_then_write_then_nothing_then_what_differs(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "a" / "b"
    checked = decision(folder)
    assert checked.changed and not folder.parent.exists()
    assert checked.result["files"] == dict(zip(FORMS, [str(folder / name) for name in NAMES]))
    made = write(folder)
    assert made.result == checked.result and made.result["written"] == [str(folder / name) for name in NAMES]
    assert sorted(os.listdir(folder)) == sorted(NAMES)
    assert {mode(folder / name) for name in NAMES} == {0o640} and mode(folder) == mode(folder.parent) == 0o750
    assert json.loads((folder / "report.json").read_text("utf-8"))["generated_at"] == "2026-06-01T00:00:00Z"
    for name, (file, render) in FORMS.items():
        assert (folder / file).read_bytes().decode("utf-8") == render(REPORT), name
    again = decision(folder)
    assert not again.changed and again.effect is None and again.result["written"] == []
    (folder / "report.csv").write_text("something else", "utf-8")
    assert write(folder).result["written"] == [str(folder / "report.csv")]
    assert not decision(folder).changed


def test_only_the_forms_and_modes_that_are_asked_for(tmp_path: pathlib.Path) -> None:
    tmp_path.chmod(0o711)
    made = write(tmp_path, formats=["metrics"], mode=0o644, directory_mode="0700")
    assert os.listdir(tmp_path) == ["metrics.prom"] and list(made.result["files"]) == ["metrics"]
    assert mode(tmp_path / "metrics.prom") == 0o644 and mode(tmp_path) == 0o711  # a folder that is there keeps its mode
    assert write(tmp_path, formats=["metrics"], mode="0600").changed and mode(tmp_path / "metrics.prom") == 0o600


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: pathlib.Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("mine", "utf-8")
    folder = tmp_path / "reports"
    folder.mkdir()
    (folder / "report.csv").symlink_to(elsewhere)
    write(folder, formats=["csv"])
    assert elsewhere.read_text("utf-8") == "mine" and not (folder / "report.csv").is_symlink()


@pytest.mark.parametrize("value", ["rw", "0999", "", "u=rw", -1, 0o10000, True, None, 1.5j, [6, 4, 0]])
def test_a_mode_that_cannot_be_meant(value: Any, tmp_path: pathlib.Path) -> None:
    task: Any = types.SimpleNamespace(params={"report": REPORT, "path": str(tmp_path), "formats": ["csv"], "mode": value, "directory_mode": "0750"})
    with pytest.raises(InvalidInput, match=r"^mode: .* is no octal mode such as '0640'") as caught:
        module.run(task)
    assert caught.value.reason == "invalid_arguments" and os.listdir(tmp_path) == []


@pytest.mark.parametrize("value", [{}, {"schema": 2, "servers": []}, {"schema": 1}])
def test_what_is_no_report_is_not_written(value: Any, tmp_path: pathlib.Path) -> None:
    with pytest.raises(InvalidInput, match=r"exchange\.mitigation\.report_rows") as caught:
        decision(tmp_path, report=value)
    assert caught.value.reason == "invalid_arguments" and os.listdir(tmp_path) == []


def test_a_file_where_the_folder_should_be(tmp_path: pathlib.Path) -> None:
    place = tmp_path / "reports"
    place.write_text("mine", "utf-8")
    with pytest.raises(InvalidInput, match=r"reports.* cannot be written: Not a directory") as caught:
        write(place)
    assert caught.value.reason == "output_unwritable" and place.read_text("utf-8") == "mine"


def test_a_disk_that_is_full_leaves_the_file_from_before(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in NAMES}

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    later = _report.build(RESULTS, organization(RESULTS), None, None, "2026-06-02T00:00:00Z", None, [], None, None)
    with pytest.raises(InvalidInput, match=r"No space left on device\. Every file is whole"):
        write(tmp_path, report=later)
    assert {name: (tmp_path / name).read_bytes() for name in NAMES} == before and sorted(os.listdir(tmp_path)) == sorted(NAMES)


def test_the_report_or_its_variable() -> None:
    for arguments in ({"path": "/srv"}, {"path": "/srv", "report": REPORT, "report_variable": "x"}):
        assert ArgumentSpecValidator(**module.SPEC).validate(arguments).error_messages
