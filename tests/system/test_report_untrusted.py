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

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("kind", ["html", "csv", "json", "metrics"])
def test_a_template_in_a_server_name_stays_text(tmp_path: pathlib.Path, kind: str) -> None:
    marker = tmp_path / "ran"
    hostile = "{{ lookup('ansible.builtin.pipe', 'touch " + str(marker) + "') }}"
    (tmp_path / "results.json").write_text(json.dumps([{"host": "ex1", "server": {"name": hostile, "mitigations": []}}]), "utf-8")
    # The file stands for the answer of a module: data from outside, so Ansible does not trust it.
    report = "{{ (raw.content | b64decode | from_json) | exchange.mitigation.report_rows(generated_at='2026-06-12T06:00:04Z') }}"
    tasks = [
        {"ansible.builtin.slurp": {"src": str(tmp_path / "results.json")}, "register": "raw"},
        {"ansible.builtin.set_fact": {"report": report}},
        {"ansible.builtin.set_fact": {"text": "{{ report | exchange.mitigation.report_" + kind + " | string }}"}},
        {"ansible.builtin.copy": {"content": "{{ text }}", "dest": str(tmp_path / "first"), "mode": "0600"}},
        {"ansible.builtin.debug": {"msg": "{{ report.lines }}"}},
    ]
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]), "utf-8")
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"), "ANSIBLE_LOCALHOST_WARNING": "0"}
    program = str(pathlib.Path(sys.executable).parent / "ansible-playbook")
    command = [program, "-i", "localhost,", "-e", f"ansible_python_interpreter={sys.executable}", str(tmp_path / "play.yml")]
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not marker.exists()
    assert "lookup(" in (tmp_path / "first").read_text("utf-8")
    assert "lookup(" in done.stdout
    if kind == "json":
        assert json.loads((tmp_path / "first").read_text("utf-8"))["servers"][0]["name"] == hostile
