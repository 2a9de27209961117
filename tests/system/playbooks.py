# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shipped playbooks, run by their full names as a user does, against a fleet in this process."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[2]
FAILED = re.compile(r"^fatal: \[\S+\]: (?:FAILED|UNREACHABLE)! => (\{.*\})$", re.MULTILINE)
RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)\s", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Played:
    """What a run of ansible-playbook came to."""

    code: int
    text: str

    @property
    def recap(self) -> dict[str, dict[str, int]]:
        """Counts per host."""
        return {row[0]: dict(zip(("ok", "changed", "unreachable", "failed"), map(int, row[1:]))) for row in RECAP.findall(self.text)}

    @property
    def failures(self) -> list[dict[str, Any]]:
        """Results of the tasks that failed."""
        return [json.loads(found) for found in FAILED.findall(self.text)]


def environment(folder: pathlib.Path) -> dict[str, str]:
    """The environment of a user with this checkout and nothing else of Ansible's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    return kept | {
        "ANSIBLE_COLLECTIONS_PATH": os.environ.get("EXCHANGE_MITIGATION_COLLECTIONS", str(ROOT / ".collections")),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
        "HOME": str(folder),
        "XDG_STATE_HOME": str(folder / "state"),
    }


#: Runs what follows as a process, and as its children, that may make no file larger than so many bytes.
LIMITED = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2); os.execv(sys.argv[2], sys.argv[2:])"


def play(
    fleet: Any, folder: pathlib.Path, name: str, *options: str, settings: dict[str, str] | None = None, file_size: int | None = None, **variables: Any
) -> Played:
    """Run a playbook by its full name, or a file, over the fleet's inventory with these extra variables, and Ansible's settings by their environment names.

    With ``file_size`` the process may make no larger file.
    """
    inventory = folder / "lab.yml"
    if not inventory.exists():
        fleet.write_inventory(inventory)
    book = name if name.endswith(".yml") else f"exchange.mitigation.{name}"
    program = pathlib.Path(sys.executable).with_name("ansible-playbook")
    limit = [] if file_size is None else [sys.executable, "-c", LIMITED, str(file_size)]
    command = [*limit, str(program), "-i", str(inventory), book, "-e", json.dumps(variables), *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(folder) | (settings or {}), cwd=folder, check=False, timeout=300)
    return Played(done.returncode, done.stdout + done.stderr)


def calls(fleet: Any, cmdlet: str) -> int:
    """Count how often a cmdlet was really started."""
    return sum(1 for ran in fleet.access_log.calls if ran.cmdlet == cmdlet)


def sessions(fleet: Any) -> int:
    """Count the sessions that were opened at Exchange's endpoint."""
    return sum(1 for record in fleet.access_log.select(action="Create", status=200) if record["endpoint"].startswith("web"))


def requests(fleet: Any, server: str) -> int:
    """Count the requests to a server's Windows endpoint, those that were answered 401 included."""
    return sum(1 for record in fleet.access_log.select(server=server) if record["endpoint"].startswith("wsman"))
