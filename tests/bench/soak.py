# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The soak: drift runs over one fleet, again and again; memory, open files, threads and shells of lab and controller, begin and end."""

from __future__ import annotations

import os
import pathlib
import statistics
import time

from labs import Lab, Trouble, running
from runs import Run, play

HEAD = (
    f"{'run':>4} {'min':>6} {'wall s':>7} {'CPU s':>7} {'main MB':>8} {'all MB':>7} {'fds':>4} {'threads':>7} | "
    f"lab: {'MB':>5} {'fds':>5} {'threads':>7} {'shells':>6}"
)
#: How much more the second half of the runs may take than the first, in memory, before it counts as a leak; fds and threads may not grow.
GROWTH = 1.10

#: What has to be 0 in the lab when nobody is at work.
OPEN = ("shells", "pipelines", "exchange_sessions", "refusals", "scripts")


def run(folder: pathlib.Path, servers: int, forks: int, minutes: float | None, most: int) -> int:
    """Repeat until the time is over or so many runs are made; returns 0, 1 where something grows or is left open."""
    made: list[tuple[Run, dict[str, int]]] = []
    deadline = time.monotonic() + (minutes * 60 if minutes is not None else float("inf"))
    begun = time.monotonic()
    print(f"soak: drift runs over {servers} servers, forks {forks}, {f'{minutes:g} minutes' if minutes is not None else ''} {f'{most} runs' if most else ''}")
    with running(folder / "lab", servers) as lab:
        first = lab.state()
        print(HEAD)
        print(f"{'':>57} |      {first['rss'] / 2**20:>5.0f} {first['fds']:>5} {first['threads']:>7} {first['shells']:>6}", flush=True)
        while not made or (time.monotonic() < deadline and not (most and len(made) >= most)):
            options = ("-e", f"exchange_mitigation_report_dir={folder / 'report'}")
            done = play(folder, lab.inventory, "exchange.mitigation.drift", forks, options, watch=True)
            wire = lab.traffic()
            if wire.failures or wire.left_open or (wire.fetches, wire.exchange) != (1, 1):
                raise Trouble(f"run {len(made) + 1}: {wire}")
            made.append((done, _settled(lab)))
            state = made[-1][1]
            print(
                f"{len(made):>4} {(time.monotonic() - begun) / 60:>6.1f} {done.wall:>7.1f} {done.cpu:>7.1f} {done.rss / 2**20:>8.0f} "
                f"{done.total / 2**20:>7.0f} {done.fds:>4} {done.threads:>7} |      {state['rss'] / 2**20:>5.0f} {state['fds']:>5} "
                f"{state['threads']:>7} {state['shells']:>6}",
                flush=True,
            )
        last = lab.state()
    problems = _leaks(made)
    print("\nlab at the end: " + ", ".join(f"{name} {last[name]}" for name in (*OPEN, "fetches")) + f" in {len(made)} runs")
    print(f"controller, main process: {_span([item.rss for item, dummy in made])} MB; with workers: {_span([item.total for item, dummy in made])} MB")
    print(f"lab: {first['rss'] / 2**20:.0f} MB at the beginning, {last['rss'] / 2**20:.0f} MB at the end")
    load = ", ".join(f"{number:.1f}" for number in os.getloadavg())
    print(f"time of a run: {statistics.median(item.wall for item, dummy in made):.1f} s median; load average {load}")
    problems += [f"{last[name]} {name} were left in the lab" for name in OPEN if last[name]]
    for problem in problems:
        print(f"soak: {problem}")
    print("soak: no leak" if not problems else "soak: failed", flush=True)
    return 1 if problems else 0


def _span(numbers: list[int]) -> str:
    return f"{numbers[0] / 2**20:.0f} first, {max(numbers) / 2**20:.0f} most, {numbers[-1] / 2**20:.0f} last"


def _settled(lab: Lab) -> dict[str, int]:
    """Return the lab's state once its connections' threads have ended, which takes a moment after the controller has gone."""
    deadline = time.monotonic() + 15
    state: dict[str, int] = lab.state()
    while state["threads"] > 8 and time.monotonic() < deadline:
        time.sleep(0.5)
        state = lab.state()
    return state


def _leaks(made: list[tuple[Run, dict[str, int]]]) -> list[str]:
    """Compare the second half of the runs with the first, the very first left out: it fills caches."""
    rest = made[1:]
    if len(rest) < 4:
        return []
    before, after = rest[: len(rest) // 2], rest[len(rest) // 2 :]
    found = []
    for name, early, late in (
        ("memory of the controller", [item.rss for item, dummy in before], [item.rss for item, dummy in after]),
        ("memory of the lab", [state["rss"] for dummy, state in before], [state["rss"] for dummy, state in after]),
    ):
        if statistics.median(late) > statistics.median(early) * GROWTH:
            found.append(f"the {name} grew from {statistics.median(early) / 2**20:.0f} to {statistics.median(late) / 2**20:.0f} MB")
    for name, early, late in (
        ("open files of the controller", [item.fds for item, dummy in before], [item.fds for item, dummy in after]),
        ("open files of the lab", [state["fds"] for dummy, state in before], [state["fds"] for dummy, state in after]),
        ("threads of the lab", [state["threads"] for dummy, state in before], [state["threads"] for dummy, state in after]),
    ):
        if min(late) > max(early):
            found.append(f"the {name} grew from {max(early)} to {min(late)}")
    return found
