# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab in a process of its own, and what can be read of it from outside: requests, bytes, what is open, memory."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = os.sysconf("SC_PAGE_SIZE")


class Trouble(Exception):
    """A sentence that ends the benchmark."""


@dataclasses.dataclass(frozen=True)
class Traffic:
    """What a run cost on the wire, all servers together; up is towards the servers. ``most``: requests of the server that was asked most."""

    requests: int = 0
    up: int = 0
    down: int = 0
    runspaces: int = 0
    most: int = 0
    exchange: int = 0
    fetches: int = 0
    left_open: int = 0
    failures: int = 0


def process(pid: int) -> dict[str, int]:
    """Return resident memory (bytes), open files and threads of a process."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as stream:
        resident = int(stream.read().split()[1]) * PAGE
    with open(f"/proc/{pid}/status", encoding="utf-8") as stream:
        threads = next(int(line.split()[1]) for line in stream if line.startswith("Threads:"))
    return {"rss": resident, "fds": len(os.listdir(f"/proc/{pid}/fd")), "threads": threads}


class Lab:
    """A running lab whose hosts are all reached over psrp. ``inventory`` is the file for ansible-playbook."""

    def __init__(self, folder: pathlib.Path, servers: int, delay: int = 0, bench: pathlib.Path | None = None) -> None:
        self.folder = folder
        self.servers = servers
        self.inventory = folder / "inventory.yml"
        self._log = folder / "access.jsonl"
        self._read = 0
        command = [
            sys.executable, str(ROOT / "tests" / "lab"), "--servers", str(servers), "--state", str(folder / "lab"),
            "--inventory", str(folder / "lab.yml"), "--access-log", str(self._log), "--delay", str(delay),
        ]
        if bench is not None:
            command += ["--bench-wrapper", str(bench)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sys.stderr, start_new_session=True)
        self._line("LAB READY", 300)
        self.hosts = self._over_psrp()

    @property
    def pid(self) -> int:
        """The lab's process."""
        return self._process.pid

    def stop(self) -> None:
        """End the lab."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(60)
        self._process.kill()

    def state(self) -> dict[str, int]:
        """Return what is open in the lab now, and what the process takes."""
        self._process.send_signal(signal.SIGUSR1)
        line = self._line("LAB STATE", 60)
        return {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", line)} | process(self.pid)

    def traffic(self) -> Traffic:
        """Return what has crossed the wire since the last call."""
        with self._log.open("rb") as stream:
            stream.seek(self._read)
            rows: list[dict[str, Any]] = [json.loads(line) for line in stream]
            self._read = stream.tell()
        feed = [row for row in rows if row["endpoint"] == "feed"]
        wire = [row for row in rows if row["endpoint"] != "feed"]
        host = [row for row in wire if row["endpoint"].startswith("wsman")]
        opened = [row for row in wire if row["action"] == "Create" and row["status"] == 200]
        closed = sum(1 for row in wire if row["action"] == "Delete" and row["status"] == 200)
        asked: dict[str, int] = {}
        for row in host:
            asked[row["server"]] = asked.get(row["server"], 0) + 1
        return Traffic(
            requests=len(wire),
            up=sum(row["bytes_in"] for row in wire),
            down=sum(row["bytes_out"] for row in wire),
            runspaces=len(opened),
            most=max(asked.values(), default=0),
            exchange=sum(1 for row in opened if row["endpoint"].startswith("web")),
            fetches=len(feed),
            left_open=len(opened) - closed,
            failures=sum(1 for row in wire if row["status"] not in (200, 401)),
        )

    def _line(self, begin: str, seconds: float) -> str:
        """Wait for a line on the lab's output."""
        stream = self._process.stdout
        deadline = time.monotonic() + seconds
        while stream is not None and time.monotonic() < deadline:
            if select.select([stream], [], [], 1)[0]:
                line = stream.readline().decode("utf-8")
                if line.startswith(begin):
                    return line
                if not line:
                    raise Trouble(f"the lab ended with {self._process.wait(10)} instead of saying {begin}")
        raise Trouble(f"the lab did not say {begin} within {seconds:.0f} seconds")

    def _over_psrp(self) -> list[dict[str, Any]]:
        """Write the inventory anew with psrp for every host, and return the hosts' variables."""
        tree = yaml.safe_load((self.folder / "lab.yml").read_text("utf-8"))
        group = tree["all"]["children"]["exchange_servers"]
        for name, found in group["hosts"].items():
            if found["ansible_connection"] == "winrm":
                secure = found.pop("ansible_winrm_scheme") == "https"
                found["ansible_connection"] = "psrp"
                found["ansible_psrp_protocol"] = "https" if secure else "http"
                found["ansible_psrp_auth"] = found.pop("ansible_winrm_transport")
                found["ansible_psrp_cert_validation"] = found.pop("ansible_winrm_server_cert_validation")
                if secure:
                    found["ansible_psrp_ca_cert"] = found.pop("ansible_winrm_ca_trust_path")
                else:
                    found["ansible_psrp_message_encryption"] = found.pop("ansible_winrm_message_encryption")
            found["lab_name"] = name
        tree["all"]["children"] = {"exchange_servers": group}
        descriptor = os.open(self.inventory, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            yaml.safe_dump(tree, stream)
        return list(group["hosts"].values())


@contextlib.contextmanager
def running(folder: pathlib.Path, servers: int, delay: int = 0, bench: pathlib.Path | None = None) -> Iterator[Lab]:
    """Run a lab for a while; its folder may hold the state of an earlier one of the same size."""
    folder.mkdir(parents=True, exist_ok=True)
    lab = Lab(folder, servers, delay, bench)
    try:
        yield lab
    finally:
        lab.stop()
