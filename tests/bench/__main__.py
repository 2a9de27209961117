# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The speed of a drift check beside what else gathers the same facts, as one table; and the soak: the same run over and over.

``python tests/bench`` takes about six minutes on two free cores. ``--full`` measures every combination. ``--soak MINUTES`` repeats drift
runs and looks for leaks. Nothing here decides whether a test passes: counts are asserted by tests/system/test_costs.py.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

import rivals
import soak
from labs import ROOT, Lab, Traffic, Trouble, running
from runs import Run, play

FLOOR, DRIFT, FACTS, SCRIPT, SEVERAL = "nothing (floor)", "drift check", "facts only", "one win_powershell", "several ansible.windows"
METHODS = (FLOOR, DRIFT, FACTS, SCRIPT, SEVERAL)
HEAD = (
    f"{'RTT':>5} {'servers':>7} {'forks':>5}  {'what':<24} {'requests':>8} {'most/srv':>8} {'up KB':>8} {'down KB':>8} "
    f"{'runspaces':>9} {'CPU s':>7} {'CPU ms/srv':>10} {'wall s':>7} {'memory':>10}"
)

LEGEND = """
most/srv: requests to the host's endpoint of the server that was asked most, 401 answers included. memory: MB of the controller's main
process / with its workers. up: towards the servers. All over psrp, half NTLM with message encryption, half Basic over TLS.
Servers answer at no cost: from memory, or canned. The lab runs on the same {cores} cores in a process of its own: its CPU is not in the
table, but it competes for the cores, so that every wall time has a share of it. The added round trip counts once per request, not for TCP
and TLS. The rivals only gather; the drift check also fetches and proves the feed, reads the organisation, compares and writes the report.
Load average of the machine at the beginning: {before}; at the end: {after}. It took {seconds:.0f} s."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One measurement."""

    delay: int
    servers: int
    forks: int
    method: str
    run: Run
    traffic: Traffic

    @property
    def place(self) -> tuple[int, int, int]:
        """What it may be compared within."""
        return self.delay, self.servers, self.forks

    def line(self) -> str:
        """The row of the table."""
        run, wire = self.run, self.traffic
        memory = f"{run.rss / 2**20:.0f}/{run.total / 2**20:.0f}" if run.total else f"{run.rss / 2**20:.0f}"
        return (
            f"{self.delay:>3}ms {self.servers:>7} {self.forks:>5}  {self.method:<24} {wire.requests:>8} {wire.most:>8} "
            f"{wire.up / 1024:>8.0f} {wire.down / 1024:>8.0f} {wire.runspaces:>9} "
            f"{run.cpu:>7.1f} {run.cpu * 1000 / self.servers:>10.0f} {run.wall:>7.1f} {memory:>10}"
        )


def wanted(arguments: argparse.Namespace, delay: int, servers: int, forks: int, method: str) -> bool:
    """Say whether a combination belongs to the default, which is cut to what tells something new."""
    if method not in (arguments.methods or METHODS):
        return False
    if arguments.full or arguments.chosen:
        return True
    if servers == 1:
        return forks == 25
    if servers >= 200:
        return (forks == 25 and (delay == 0 or method != SEVERAL)) or (delay == 0 and method == DRIFT)
    return forks == 25 or (delay == 0 and method == DRIFT)


class Bench:
    """One benchmark: what is measured, in which folder."""

    def __init__(self, arguments: argparse.Namespace, folder: pathlib.Path) -> None:
        self.arguments = arguments
        self.folder = folder
        self.collections = ""
        self.books: dict[str, str] = {}
        self.rows: list[Row] = []

    def prepare(self) -> None:
        """Write the playbooks; fetch what the rivals are made of."""
        self.books = {FLOOR: rivals.nothing(self.folder), DRIFT: "exchange.mitigation.drift", FACTS: rivals.facts_only(self.folder)}
        if any(method in (SCRIPT, SEVERAL) for method in self.arguments.methods or METHODS):
            kept = ROOT / ".build" / "bench"
            kept.mkdir(parents=True, exist_ok=True)
            self.collections = rivals.fetch_collection(kept)
            self.books |= {SCRIPT: rivals.one_script(self.folder), SEVERAL: rivals.several_modules(self.folder)}

    def run(self) -> list[Row]:
        """Measure everything, a line as soon as it is known."""
        print(HEAD, flush=True)
        for delay in self.arguments.delay:
            for servers in self.arguments.servers:
                answers = self.folder / f"answers-{servers}.json"
                with running(self.folder / f"lab-{servers}", servers, delay, answers) as lab:
                    self._warm(lab, answers)
                    for forks in self.arguments.forks:
                        for method in METHODS:
                            if wanted(self.arguments, delay, servers, forks, method):
                                self._measure(lab, delay, forks, method)
                    left = lab.state()
                    if left["shells"] or left["refusals"] or left["scripts"]:
                        raise Trouble(f"the lab was left with {left}")
        return self.rows

    def _play(self, lab: Lab, method: str, forks: int) -> Run:
        options = ("-e", f"exchange_mitigation_report_dir={self.folder / 'report'}") if method == DRIFT else ()
        return play(self.folder, lab.inventory, self.books[method], forks, options, self.collections, watch=True)

    def _warm(self, lab: Lab, answers: pathlib.Path) -> None:
        """Let the lab learn its answers, and take the facts of one server for the rivals' canned ones."""
        self._play(lab, DRIFT, 25)
        report = json.loads((self.folder / "report" / "report.json").read_text("utf-8"))
        rivals.answers(answers, lab.hosts[0], report["servers"][0])
        lab.traffic()

    def _measure(self, lab: Lab, delay: int, forks: int, method: str) -> None:
        run = self._play(lab, method, forks)
        row = Row(delay, lab.servers, forks, method, run, lab.traffic())
        self.rows.append(row)
        print(row.line(), flush=True)
        if row.traffic.failures or row.traffic.left_open:
            raise Trouble(f"{method}: {row.traffic.failures} answers were neither 200 nor 401, {row.traffic.left_open} sessions were left open")
        if method == DRIFT and (row.traffic.fetches, row.traffic.exchange) != (1, 1):
            raise Trouble(f"a drift run made {row.traffic.fetches} fetches of the feed and {row.traffic.exchange} sessions at Exchange, not one of each")


def comparisons(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the ratios, and the targets of the design with what was measured."""
    places = dict.fromkeys(row.place for row in rows)
    for place in places:
        here = {row.method: row for row in rows if row.place == place}
        those = [here[method] for method in (SCRIPT, SEVERAL) if method in here]
        best = min(those, key=lambda row: row.run.wall, default=None)
        title = f"{place[0]} ms, {place[1]} servers, forks {place[2]}"
        for method in (DRIFT, FACTS):
            if method in here and best is not None:
                also = [f"{here[method].run.wall / row.run.wall:.2f} of {row.method}" for row in those]
                yield f"{title}: wall of {method} is {', '.join(also)}"
            if method in here and FLOOR in here:
                above = (here[method].run.cpu - here[FLOOR].run.cpu) * 1000 / place[1]
                yield f"{title}: controller CPU of {method} above the floor: {above:.0f} ms per server"


def marginal(rows: Sequence[Row]) -> Iterator[str]:
    """Yield what one more server costs, from the difference between two sizes of fleet."""
    for method in METHODS:
        same = sorted((row for row in rows if row.method == method and row.delay == 0 and row.forks == 25), key=lambda row: row.servers)
        if len(same) > 1 and same[-1].servers > same[0].servers:
            more = same[-1].servers - same[0].servers
            yield f"one more server, {method}: {(same[-1].run.cpu - same[0].run.cpu) * 1000 / more:.0f} ms controller CPU"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""

    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    def named(text: str) -> list[str]:
        return [method for method in METHODS if any(part in method for part in text.split(","))]

    made = argparse.ArgumentParser(prog="tests/bench", description="The speed of a drift check, and the soak.", allow_abbrev=False)
    made.add_argument("--servers", type=numbers, help="sizes of the fleet (default 1,20,200; the soak's 200)")
    made.add_argument("--forks", type=numbers, help="forks (default 5,25,50; the soak's 25)")
    made.add_argument("--delay", type=numbers, help="milliseconds of added round trip (default 0,20; the soak's 0)")
    made.add_argument("--methods", type=named, help="only these, by parts of their names: " + ", ".join(METHODS))
    made.add_argument("--full", action="store_true", help="every combination of servers, forks and delay, which takes most of an hour")
    made.add_argument("--soak", type=float, metavar="MINUTES", help="repeat drift runs that long and look for leaks")
    made.add_argument("--runs", type=int, default=0, help="with --soak: end after so many runs")
    return made


def main() -> int:
    """Run the benchmark or the soak; returns 0, or 1 with a sentence."""
    arguments = parser().parse_args()
    arguments.chosen = bool(arguments.servers or arguments.forks or arguments.delay)
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="exchange-bench-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        try:
            if arguments.soak is not None or arguments.runs:
                return soak.run(folder, (arguments.servers or [200])[0], (arguments.forks or [25])[0], arguments.soak, arguments.runs)
            arguments.servers, arguments.forks, arguments.delay = arguments.servers or [1, 20, 200], arguments.forks or [5, 25, 50], arguments.delay or [0, 20]
            begun, load = time.monotonic(), os.getloadavg()
            bench = Bench(arguments, folder)
            bench.prepare()
            rows = bench.run()
        except Trouble as trouble:
            print(f"bench: {trouble}", file=sys.stderr)
            return 1
    print()
    for line in (*comparisons(rows), *marginal(rows)):
        print(line)
    before, after = (", ".join(f"{number:.1f}" for number in found) for found in (load, os.getloadavg()))
    print(LEGEND.format(cores=os.cpu_count(), before=before, after=after, seconds=time.monotonic() - begun))
    return 0


if __name__ == "__main__":
    sys.exit(main())
