# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guide for maintainers: every command is run as it is printed, in a folder that looks like the checkout."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
import time

from reader import Reader
from snippets import ROOT, Snippet


def test_maintainers_as_printed(tmp_path: pathlib.Path) -> None:
    for name in ("tests", "plugins", "docs", "CONTRIBUTING.md", "README.md", ".collections", "meta", "roles", "playbooks"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for program in ("python", "ansible-playbook"):
        path = tmp_path / ".venv" / "bin" / program
        path.write_text(f'#!/bin/sh\nexec "{pathlib.Path(sys.executable).with_name(program)}" "$@"\n', "utf-8")
        path.chmod(0o755)
    reader = Reader(tmp_path, None, "guide_maintainers", inventory=False, PYTHONDONTWRITEBYTECODE="1")
    reader.blocks = [Snippet(**{**vars(block), "text": block.text.replace("/tmp/", f"{tmp_path}/")}) for block in reader.blocks]
    reader.until("shell")
    reader.environment["PYTHONPATH"] = str(ROOT / ".collections")

    lab = reader.blocks.pop(0)
    assert lab.caption == "lab"
    log = tmp_path / "lab.log"
    with log.open("w", encoding="utf-8") as stream:
        running = subprocess.Popen(["bash", "-c", "exec " + lab.text.strip()], cwd=tmp_path, env=reader.environment, stdout=stream, stderr=subprocess.STDOUT)
    try:
        for dummy in range(600):
            if "LAB READY" in log.read_text("utf-8") or running.poll() is not None:
                break
            time.sleep(0.1)
        assert re.search(r"LAB READY servers=3 feed=https://\S+ inventory=", log.read_text("utf-8")), log.read_text("utf-8")
        assert "PLAY RECAP" in reader.until("drift")
        assert "reboot" in reader.until("faults")
        assert " passed" in reader.until("catalogue")
        assert " passed" in reader.until("cmdlets")
        reader.until("record")
    finally:
        running.terminate()
        running.wait(30)
    assert "- [ ] " in (tmp_path / "CHECKLIST.md").read_text("utf-8") and len(list((tmp_path / "recorded").iterdir())) == 4
    assert reader.blocks == []


def test_every_program_that_the_guide_names_is_there() -> None:
    text = (ROOT / "docs" / "docsite" / "rst" / "guide_maintainers.rst").read_text("utf-8")
    for path in re.findall(r"``(?:python )?((?:tests|plugins)/[\w/]+\.(?:sh|py))``", text):
        assert (ROOT / path).exists(), path
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert set(re.findall(r"``make (\w+)``", text)) <= set(targets)
