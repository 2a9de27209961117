# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One budget of 18 sessions per user in the whole organisation: 60 servers at forks 50 do not exceed it."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import pytest

from lab.fleet import Fleet
from playbooks import play, sessions

SERVERS = 60
FORKS = 50

pytestmark = pytest.mark.skipif(os.environ.get("EXCHANGE_MITIGATION_SWEEP") != "full", reason="about a minute: set EXCHANGE_MITIGATION_SWEEP=full")


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    with Fleet(SERVERS, lag=0) as fleet:
        yield fleet
        assert fleet.refusals == [] and fleet.scripts_received == 0


def test_drift_over_sixty_servers(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    done = play(fleet, tmp_path, "drift", "--forks", str(FORKS), exchange_mitigation_report_dir=str(tmp_path / "report"))
    print(f"drift, {SERVERS} servers, forks {FORKS}: sessions {sessions(fleet)}, at once {fleet.sessions.most}, throttled {fleet.sessions.refused}")
    assert done.code == 0, done.text
    assert len(done.recap) == SERVERS
    assert all(counts["failed"] == counts["unreachable"] == 0 for counts in done.recap.values())
    assert fleet.sessions.limit == 18
    assert fleet.sessions.refused == 0, "throttled"
    assert "throttled" not in done.text
    assert sessions(fleet) == 1


def test_changes_on_sixty_servers_with_a_throttle(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    """What the guide says of tasks that change servers: one session each, never more at once than the throttle."""
    book = tmp_path / "book.yml"
    text = (
        "- hosts: exchange_servers\n  gather_facts: false\n  tasks:\n    - exchange.mitigation.server:\n        identity: '{{ inventory_hostname }}'\n"
        "        mitigations_blocked: {add: [M9]}\n      throttle: 15\n"
    )
    book.write_text(text, "utf-8")
    done = play(fleet, tmp_path, str(book), "--forks", str(FORKS))
    print(f"server, throttle 15: sessions {sessions(fleet)}, at once {fleet.sessions.most}, throttled {fleet.sessions.refused}")
    assert done.code == 0, done.text
    assert fleet.sessions.refused == 0 and fleet.sessions.most <= 15
    assert sum(counts["changed"] for counts in done.recap.values()) == SERVERS
