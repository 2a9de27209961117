# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The example rulebook with the real ansible-rulebook against the lab: from a published mitigation to the canary, and no further."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from lab_task import hashes

from playbooks import environment

RULEBOOK = os.environ.get("EXCHANGE_MITIGATION_RULEBOOK", "")
REQUIRED = os.environ.get("EXCHANGE_MITIGATION_TIER_EDA") == "1"

pytestmark = pytest.mark.skipif(not RULEBOOK and not REQUIRED, reason="needs ansible-rulebook: run tests/tiers/eda.sh")


@pytest.fixture
def fleet() -> Iterator[Any]:
    from lab import feed
    from lab.fleet import Fleet

    with Fleet(2) as running:
        ping, m1, dummy = feed.default_configs()
        running.feed.publish([ping, m1], "1.0.4")
        yield running
        assert running.scripts_received == 0, "a script was sent"
        assert running._server.open_shells() == [], "a session was left open"


class Engine:
    """A running ansible-rulebook; its output is read as it comes."""

    def __init__(self, fleet: Any, folder: pathlib.Path) -> None:
        fleet.write_inventory(folder / "lab.yml")
        inventory = yaml.safe_load((folder / "lab.yml").read_text("utf-8"))
        inventory["all"]["children"]["exchange_canary"] = {"hosts": {"EX1": {}}}
        inventory["all"]["vars"]["exchange_mitigation_when_em_active"] = "take_over"
        (folder / "lab.yml").write_text(yaml.safe_dump(inventory), "utf-8")
        shared = inventory["all"]["vars"]
        variables = {name: shared[name] for name in ("exchange_mitigation_feed_source", "exchange_mitigation_feed_ca_path", "exchange_mitigation_trust")}
        variables |= {"exchange_mitigation_feed_interval": 1, "exchange_mitigation_feed_state_dir": str(folder / "eda")}
        (folder / "vars.yml").write_text(yaml.safe_dump(variables), "utf-8")
        self.log = folder / "rulebook.log"
        command = [RULEBOOK, "--rulebook", "exchange.mitigation.canary", "--inventory", str(folder / "lab.yml"), "--vars", str(folder / "vars.yml"), "-v"]
        path = os.pathsep.join([str(pathlib.Path(RULEBOOK).parent), os.environ["PATH"]])
        more = {"PATH": path, "PYTHONUNBUFFERED": "1"}
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(
                [*command, "--print-events"], stdout=stream, stderr=subprocess.STDOUT, env=environment(folder) | more, cwd=folder, start_new_session=True
            )

    @property
    def text(self) -> str:
        """Everything that was printed."""
        return self.log.read_text("utf-8", "replace")

    def wait(self, done: Callable[[], bool], what: str, seconds: float = 120) -> float:
        """Wait until something is so; return the seconds it took."""
        begun = time.monotonic()
        while not done():
            if self.process.poll() is not None or time.monotonic() - begun > seconds:
                pytest.fail(f"{what}: not within {seconds:.0f} s\n{self.text}")
            time.sleep(0.1)
        return time.monotonic() - begun

    def stop(self) -> float:
        """Stop it as a service manager does; return the seconds it took."""
        begun = time.monotonic()
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        return time.monotonic() - begun


def memory(folder: pathlib.Path) -> dict[str, Any]:
    found = list((folder / "eda").glob("events-*.json"))
    return dict(json.loads(found[0].read_text("utf-8"))) if found else {}


def test_a_published_mitigation_reaches_the_canary_and_no_other(fleet: Any, tmp_path: pathlib.Path) -> None:
    from lab import feed

    before = {machine.name: hashes(machine) for machine in fleet.machines}
    engine = Engine(fleet, tmp_path)
    try:
        engine.wait(lambda: sorted(memory(tmp_path).get("configs") or ()) == ["M1", "PING1"], "the first document is remembered")
        assert "'published'" not in engine.text
        fleet.feed.fault = "feed-forged"
        engine.wait(lambda: "was refused" in engine.text, "a forged document is refused")
        assert engine.text.count("was refused (") == 1
        assert {machine.name: hashes(machine) for machine in fleet.machines} == before
        fleet.feed.fault = None
        fleet.feed.publish(feed.default_configs(), "1.0.5")
        started = engine.wait(lambda: "PLAY [" in engine.text, "the playbook starts")
        ended = engine.wait(lambda: "PLAY RECAP" in engine.text, "the playbook ends")
        print(f"\neda: published to playbook start {started:.1f} s, to its end {started + ended:.1f} s")
        for line in engine.text.splitlines():
            if any(word in line for word in ("refused (", "'published'", '"published"', "PLAY [", "failed=")):
                print(f"eda: {line.strip()[:200]}")
        time.sleep(3)  # more polls of the same document
        assert engine.text.count("PLAY RECAP") == 1
        assert engine.text.count("was refused (") == 1
    finally:
        stopped = engine.stop()
    assert stopped < 15
    after = {machine.name: hashes(machine) for machine in fleet.machines}
    assert after["EX1"] != before["EX1"], engine.text
    assert after["EX2"] == before["EX2"]
