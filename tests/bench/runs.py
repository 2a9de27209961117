# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of ansible-playbook: its time, the processor time of it and of its children, and its memory."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import subprocess
import sys
import threading
import time

from labs import ROOT, Trouble, process

EVERY = 0.5


@dataclasses.dataclass(frozen=True)
class Run:
    """Seconds on the clock and of the processor; ``rss``: peak bytes of the controller's main process, ``total``: of it and its workers, shared pages once."""

    wall: float
    cpu: float
    rss: int
    total: int
    fds: int
    threads: int


class Watch(threading.Thread):
    """Looks at a process and its children from time to time; keeps the peaks."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.peaks = {"rss": 0, "fds": 0, "threads": 0, "total": 0}
        self.over = threading.Event()

    def run(self) -> None:
        """Look until told to stop."""
        while not self.over.wait(EVERY):
            with contextlib.suppress(OSError, ValueError, StopIteration):
                found = process(self.pid) | {"total": _proportional(self.pid)}
                self.peaks = {name: max(self.peaks[name], number) for name, number in found.items()}


def _proportional(pid: int) -> int:
    """Return the bytes of a process and its children, a page that several share counted once among them (PSS)."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as stream:
        family = [pid, *map(int, stream.read().split())]
    total = 0
    for member in family:
        with contextlib.suppress(OSError), open(f"/proc/{member}/smaps_rollup", encoding="ascii") as stream:
            total += next(int(line.split()[1]) * 1024 for line in stream if line.startswith("Pss:"))
    return total


def play(
    folder: pathlib.Path, inventory: pathlib.Path, book: str, forks: int, options: tuple[str, ...] = (), collections: str = "", watch: bool = False
) -> Run:
    """Run a playbook to its end; raises Trouble where it does not end with 0 and without an unreachable or failed host."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment |= {
        "ANSIBLE_COLLECTIONS_PATH": ":".join(filter(None, (str(ROOT / ".collections"), collections))),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_DEPRECATION_WARNINGS": "0",
        "ANSIBLE_HOME": str(folder / "ansible"),
        "XDG_STATE_HOME": str(folder / "state"),
    }
    command = [str(pathlib.Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), book, "--forks", str(forks), *options]
    log = folder / "playbook.log"
    with log.open("wb") as stream:
        begun = time.monotonic()
        child = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT)
        looker = Watch(child.pid)
        if watch:
            looker.start()
        dummy, status, used = os.wait4(child.pid, 0)
        wall = time.monotonic() - begun
        child.returncode = os.waitstatus_to_exitcode(status)
        looker.over.set()
    if child.returncode:
        raise Trouble(f"{book} ended with {child.returncode}:\n{log.read_text('utf-8')[-3000:]}")
    peaks = looker.peaks
    return Run(wall, used.ru_utime + used.ru_stime, max(peaks["rss"], used.ru_maxrss * 1024), peaks["total"], peaks["fds"], peaks["threads"])
