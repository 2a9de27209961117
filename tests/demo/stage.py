# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the demo stands on: the lab as a process, the shipped playbooks as a user runs them, HTTP requests, files by hash.

Knows nothing of the collection's code and nothing of the lab's: only their command lines, the inventory and the files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.client
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(sys.executable).parent

_RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)\s", re.MULTILINE)
_RUN = re.compile(r"This run is ([A-Za-z0-9._-]+)")


class Surprise(Exception):
    """Something is not as the demo says it is."""


def expect(condition: object, sentence: str) -> None:
    """Raise Surprise with the sentence unless the condition holds."""
    if not condition:
        raise Surprise(sentence)


@dataclasses.dataclass(frozen=True)
class Play:
    """A finished run of a playbook: ``recap`` per host its counts, ``run_id`` where the playbook named one, ``said`` its last list of lines."""

    code: int
    output: str
    seconds: float

    @property
    def recap(self) -> dict[str, dict[str, int]]:
        """Counts per host."""
        names = ("ok", "changed", "unreachable", "failed")
        return {found[0]: dict(zip(names, map(int, found[1:]), strict=True)) for found in _RECAP.findall(self.output)}

    @property
    def run_id(self) -> str:
        """The id of the run; a Surprise without one."""
        found = _RUN.search(self.output)
        if found is None:
            raise Surprise("the playbook named no run")
        return found[1]

    @property
    def said(self) -> list[str]:
        """The lines of the last debug message that is a list."""
        blocks = re.findall(r'^    "msg": \[\n(.*?)^    \]', self.output, re.MULTILINE | re.DOTALL)
        return [yaml.safe_load(line.strip().rstrip(",")) for line in blocks[-1].splitlines()] if blocks else []


class Stage:
    """A running lab and the controller beside it. ``folder``: temporary, for the lab and the inventory; ``kept``: logs and reports."""

    def __init__(self, folder: pathlib.Path, kept: pathlib.Path) -> None:
        self.folder = folder
        self.kept = kept
        self.inventory = folder / "inventory"
        self.access_log = folder / "access.jsonl"
        self.hosts: dict[str, dict[str, Any]] = {}
        self._runs = 0

    @contextlib.contextmanager
    def lab(self, servers: int, seconds: float = 60) -> Iterator[None]:
        """Run the lab; it is stopped whatever happens. The inventory folder then holds the lab's file."""
        self.inventory.mkdir()
        command = [
            sys.executable, str(ROOT / "tests" / "lab"), "--servers", str(servers), "--state", str(self.folder / "lab"),
            "--inventory", str(self.inventory / "lab.yml"), "--access-log", str(self.access_log),
        ]
        with (self.kept / "lab.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, start_new_session=True)
        try:
            _wait_ready(process, seconds, self.kept / "lab.log")
            tree = yaml.safe_load((self.inventory / "lab.yml").read_text(encoding="utf-8"))
            self.hosts = tree["all"]["children"]["exchange_servers"]["hosts"]
            yield
        finally:
            _stop(process)

    def wish(self, hosts: Mapping[str, Mapping[str, Any]], everywhere: Mapping[str, Any]) -> None:
        """Write what is wanted, as a user writes it beside the inventory."""
        tree = {"exchange_servers": {"hosts": {host: dict(values) for host, values in hosts.items()}, "vars": dict(everywhere)}}
        (self.inventory / "wanted.yml").write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")

    def playbook(self, name: str, *arguments: str) -> Play:
        """Run a shipped playbook by its full name."""
        return self._ansible("ansible-playbook", ["-i", str(self.inventory), f"exchange.mitigation.{name}", *arguments], name)

    def module(self, host: str, name: str, arguments: str) -> Play:
        """Run one module on one host."""
        return self._ansible("ansible", ["-i", str(self.inventory), host, "-m", f"exchange.mitigation.{name}", "-a", arguments], name)

    def _ansible(self, program: str, arguments: Sequence[str], label: str) -> Play:
        self._runs += 1
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        environment |= {
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "XDG_STATE_HOME": str(self.folder / "state"),
        }
        begun = time.monotonic()
        command = [str(BIN / program), *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=170, check=False
        )
        output = done.stdout + done.stderr
        (self.kept / f"{self._runs:02}-{label}.log").write_text(output, encoding="utf-8")
        return Play(done.returncode, output, time.monotonic() - begun)

    def get(self, host: str, path: str) -> tuple[int, dict[str, str]] | None:
        """Send a GET exactly as written; returns status and headers, None where the server aborts the connection."""
        parts = urllib.parse.urlsplit(self.hosts[host]["lab_http_url"])
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=20)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}
        except (ConnectionError, http.client.BadStatusLine, http.client.IncompleteRead):
            return None
        finally:
            connection.close()

    def files(self, host: str) -> dict[str, str]:
        """Return the SHA-256 of every file on the server's drive C."""
        top = pathlib.Path(self.hosts[host]["lab_files"])
        return {str(path.relative_to(top)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(top.rglob("*")) if path.is_file()}


def _wait_ready(process: subprocess.Popen[bytes], seconds: float, log: pathlib.Path) -> None:
    assert process.stdout is not None
    deadline, said = time.monotonic() + seconds, b""
    while b"LAB READY" not in said:
        if not select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise Surprise(f"the lab was not ready after {seconds:.0f} seconds")
        piece = os.read(process.stdout.fileno(), 4096)
        if not piece:
            raise Surprise(f"the lab ended before it was ready: {log.read_text(errors='replace').strip()[-800:]}")
        said += piece


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the lab and everything it started."""
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(15)
    if process.stdout is not None:
        process.stdout.close()
