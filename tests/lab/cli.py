# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's command line (DESIGN.md 6): runs in the foreground, says when it is ready, stops cleanly on SIGINT and SIGTERM, prints what is
open on SIGUSR1."""

from __future__ import annotations

import argparse
import pathlib
import queue
import signal
import sys
from collections.abc import Sequence
from typing import TextIO

from . import faults as wire_faults
from . import feed, httpd
from .em import VARIANTS
from .fleet import Fleet
from .kernel import LabRefusal


def _servers(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 500:
        raise argparse.ArgumentTypeError("1 to 500 servers")
    return number


def parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    made = argparse.ArgumentParser(prog="tests/lab", description="Simulated Exchange servers on loopback.", allow_abbrev=False)
    made.add_argument("--servers", type=_servers, default=3, metavar="N", help="how many servers (default 3)")
    made.add_argument("--state", type=pathlib.Path, metavar="DIR", help="folder of everything the lab keeps; made when missing")
    made.add_argument("--inventory", type=pathlib.Path, metavar="FILE", help="where to write the inventory (.ini: INI, else YAML)")
    made.add_argument("--template", type=pathlib.Path, metavar="DIR", help="folder of real configuration files that every server starts with")
    made.add_argument("--port-base", type=int, metavar="P", help="first port; server i has P + 10*i (default: any free ports)")
    made.add_argument("--access-log", type=pathlib.Path, metavar="FILE", help="append one JSON line per request")
    made.add_argument("--em", choices=("off", *VARIANTS), default="off", help="run the simulated EM service every few seconds, in one of its variants")
    made.add_argument("--delay", type=float, default=0.0, metavar="MS", help="milliseconds that every request takes longer, as a round trip would")
    text = "for the speed comparison only: answers from memory, and canned ones for Ansible's own modules"
    made.add_argument("--bench-wrapper", type=pathlib.Path, metavar="FILE", help=text)
    made.add_argument("--fault", action="append", default=[], metavar="NAME", help="switch a fault on, NAME[:server[:k]]; 'list' prints the names")
    return made


def print_faults(out: TextIO) -> None:
    """Print the names of all faults with what they do."""
    width = max(map(len, [*wire_faults.KNOWN, *feed.FAULTS]))
    for name, known in wire_faults.KNOWN.items():
        print(f"{name.ljust(width)}  {known[1]}", file=out)
    for name, text in feed.FAULTS.items():
        print(f"{name.ljust(width)}  the feed server {text}", file=out)


def _state(fleet: Fleet) -> str:
    """Say what is open: for whoever looks for leaks."""
    wire: httpd.Server = getattr(fleet, "wire")  # noqa: B009 (set by the server that the fleet has started)
    return (
        f"shells={len(wire.open_shells())} pipelines={wire.running_pipelines()} exchange_sessions={fleet.sessions.in_use()} fetches={fleet.feed.fetches} "
        f"refusals={len(fleet.refusals)} scripts={fleet.scripts_received}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the lab until a signal; returns 0, or 2 with a sentence on stderr."""
    arguments = parser().parse_args(argv)
    if "list" in arguments.fault:
        print_faults(sys.stdout)
        return 0
    if arguments.state is None or arguments.inventory is None:
        parser().error("--state and --inventory are required")
    wanted: queue.SimpleQueue[bool] = queue.SimpleQueue()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *dummy: wanted.put(False))
    signal.signal(signal.SIGUSR1, lambda *dummy: wanted.put(True))
    try:
        fleet = Fleet(
            arguments.servers,
            state=arguments.state,
            template=arguments.template,
            port_base=arguments.port_base,
            access_log=arguments.access_log,
            em=arguments.em,
            faults=arguments.fault,
            delay=arguments.delay / 1000,
            bench_wrapper=arguments.bench_wrapper,
            keep=False,
        )
        with fleet:
            fleet.write_inventory(arguments.inventory)
            print(f"LAB READY servers={len(fleet.machines)} feed={fleet.feed.url} inventory={arguments.inventory}", flush=True)
            while wanted.get():
                print(f"LAB STATE {_state(fleet)}", flush=True)
    except (LabRefusal, OSError) as problem:
        print(f"lab: {problem}", file=sys.stderr)
        return 2
    return 0
