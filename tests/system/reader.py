# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody who does what a document says, block by block, in a folder of their own, against the lab.

Files are written under the names that the document gives them, commands run as they are printed. What the lab needs to be reached stands beside
them: as an inventory where the document has none, else as host variables that only say how to connect.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from snippets import Snippet, of

from playbooks import environment

RUN = ("yaml", "shell", "sh")


class Reader:
    """A reader of one document; ``instead`` replaces files by name, ``inventory`` writes the lab's own."""

    def __init__(
        self, folder: pathlib.Path, fleet: Any, name: str, instead: Mapping[str, Any] | None = None, inventory: bool = True, **extra: str
    ) -> None:
        self.folder = folder
        self.blocks = [block for block in of(name) if block.language in RUN and block.reason is None]
        self.instead = instead or {}
        self.environment = environment(folder) | {"PATH": f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"} | extra
        if inventory:
            fleet.write_inventory(folder / "inventory.yml")
        # A user has the collection below the home folder.
        home = folder / ".ansible"
        home.mkdir()
        (home / "collections").symlink_to(self.environment["ANSIBLE_COLLECTIONS_PATH"], target_is_directory=True)
        self.done: list[str] = []

    def until(self, caption: str, expected: int = 0, **variables: str) -> str:
        """Do everything up to and with the commands of a caption; return what they printed."""
        while True:
            block = self.blocks.pop(0)
            self.done.append(block.caption)
            if block.language == "yaml":
                self.write(block)
                if block.caption == caption:
                    return ""
                continue
            done = self.run(block, variables)
            if block.caption == caption:
                assert done.returncode == expected, done.stdout
                return done.stdout
            assert done.returncode == 0, done.stdout

    def write(self, block: Snippet) -> pathlib.Path:
        """Write a file under the name that the document gives it."""
        path = self.folder / block.caption
        path.parent.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(self.instead[block.caption]) if block.caption in self.instead else block.text
        path.write_text(text, "utf-8")
        return path

    def run(self, block: Any, variables: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a block; what it exports is there for the ones after it, as in one terminal."""
        script = f"set -eu\ncd '{self.folder}'\n{block.text}\nenv -0 > '{self.folder}/.environment'\n"
        done = subprocess.run(
            ["bash", "-c", script],
            env=self.environment | dict(variables or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        saved = self.folder / ".environment"
        if saved.exists():
            now = dict(line.split("=", 1) for line in saved.read_text("utf-8").split("\0") if "=" in line)
            self.environment |= {"PYTHONPATH": now["PYTHONPATH"]} if "PYTHONPATH" in now else {}
            saved.unlink()
        return done


def connections(fleet: Any, folder: pathlib.Path, names: Sequence[str], machines: Sequence[str] = ()) -> None:
    """Write host variables that lead the document's servers, by their names, to the lab's: those named, or all in their order."""
    from lab.inventory import content

    tree = content(fleet)["all"]
    known = tree["children"]["exchange_servers"]["hosts"]
    hosts = [known[machine] for machine in machines or known]
    (folder / "host_vars").mkdir()
    for name, variables in zip(names, hosts):
        (folder / "host_vars" / f"{name}.yml").write_text(yaml.safe_dump(tree["vars"] | variables), "utf-8")
        (folder / "host_vars" / f"{name}.yml").chmod(0o600)
