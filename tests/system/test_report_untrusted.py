# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server says is never a template: through Ansible itself, from a result to the files of the report."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]


def planted(folder: pathlib.Path) -> tuple[str, pathlib.Path]:
    """Write the results of a server whose name is a template; return the name and the file that it would make."""
    marker = folder / "ran"
    hostile = "{{ lookup('ansible.builtin.pipe', 'touch " + str(marker) + "') }}"
    (folder / "results.json").write_text(json.dumps([{"host": "ex1", "server": {"name": hostile, "mitigations": []}}]), "utf-8")
    return hostile, marker


def played(folder: pathlib.Path, tasks: list[dict[str, Any]], *options: str) -> str:
    """Make the report of those results, run tasks with it, and return what was printed."""
    # The file stands for the answer of a module: data from outside, so Ansible does not trust it.
    report = "{{ (raw.content | b64decode | from_json) | exchange.mitigation.report_rows(generated_at='2026-06-12T06:00:04Z') }}"
    begin = [{"ansible.builtin.slurp": {"src": str(folder / "results.json")}, "register": "raw"}, {"ansible.builtin.set_fact": {"report": report}}]
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [*begin, *tasks]}
    (folder / "play.yml").write_text(yaml.safe_dump([play]), "utf-8")
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"), "ANSIBLE_LOCALHOST_WARNING": "0"}
    program = str(pathlib.Path(sys.executable).parent / "ansible-playbook")
    command = [program, "-i", "localhost,", "-e", f"ansible_python_interpreter={sys.executable}", *options, str(folder / "play.yml")]
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["html", "csv", "json", "metrics"])
def test_a_template_in_a_server_name_stays_text(tmp_path: pathlib.Path, kind: str) -> None:
    hostile, marker = planted(tmp_path)
    tasks: list[dict[str, Any]] = [
        {"ansible.builtin.set_fact": {"text": "{{ report | exchange.mitigation.report_" + kind + " | string }}"}},
        {"ansible.builtin.copy": {"content": "{{ text }}", "dest": str(tmp_path / "first"), "mode": "0600"}},
        {"ansible.builtin.debug": {"msg": "{{ report.lines }}"}},
    ]
    said = played(tmp_path, tasks)
    assert not marker.exists()
    assert "lookup(" in (tmp_path / "first").read_text("utf-8")
    assert "lookup(" in said
    if kind == "json":
        assert json.loads((tmp_path / "first").read_text("utf-8"))["servers"][0]["name"] == hostile


@pytest.mark.parametrize("given", [{"report_variable": "report"}, {"report": "{{ report }}"}], ids=["variable", "value"])
def test_the_module_writes_it_as_text_too(tmp_path: pathlib.Path, given: dict[str, str]) -> None:
    hostile, marker = planted(tmp_path)
    folder = tmp_path / "reports"
    task = {"exchange.mitigation.report": {**given, "path": str(folder)}, "register": "made"}
    tasks: list[dict[str, Any]] = [task, {"ansible.builtin.debug": {"var": "made"}}]
    assert "changed=1" in played(tmp_path, tasks, "--check") and not folder.exists()
    assert "changed=1" in played(tmp_path, tasks)
    assert json.loads((folder / "report.json").read_text("utf-8"))["servers"][0]["name"] == hostile
    for name in ("report.html", "report.csv", "metrics.prom"):
        assert "lookup(" in (folder / name).read_text("utf-8"), name
    again = played(tmp_path, tasks)
    assert "changed=0" in again and str(folder / "report.html") in again
    assert not marker.exists()
