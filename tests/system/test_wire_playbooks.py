# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of ansible-playbook for each kind of fault of the wire: what Ansible makes of it is what the sweep in process says.

``make test`` takes some kinds; EXCHANGE_MITIGATION_SWEEP=full takes all.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
from test_session_playbooks import play, recap, task
from test_wire_sweep import KINDS

from lab.fleet import Fleet

FULL = os.environ.get("EXCHANGE_MITIGATION_SWEEP") == "full"
#: Kinds of the sample; the modules take turns.
SAMPLE = ("connection-refused", "stalled-after", "fault-2150858811", "corrupted")
TASKS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("server_info", "host", {}),
    ("service", "host", {"state": "stopped"}),
    ("organization_info", "exchange", {}),
    ("server", "exchange", {"mitigations_enabled": False}),
    ("event_info", "host", {}),
)


@pytest.fixture(scope="module")
def running() -> Iterator[Fleet]:
    with Fleet(1, lag=0) as fleet:
        yield fleet


@pytest.mark.parametrize("kind", KINDS if FULL else SAMPLE)
def test_one_run_for_each_kind(running: Fleet, tmp_path: pathlib.Path, kind: str) -> None:
    module, endpoint, options = TASKS[list(KINDS).index(kind) % len(TASKS)]
    fault, more = KINDS[kind]
    machine = running.machines[0]
    machine.services.start("MSExchangeMitigation")
    running.organization.change(machine.name, {"MitigationsEnabled": True})
    running.access_log.clear()
    armed = running.faults.add(fault, machine.name, at=5 if kind == "fragment-order" else 4, endpoint=endpoint, **more)
    keywords: dict[str, Any] = {"ignore_errors": True, "ignore_unreachable": True, "register": "told", "vars": {"ansible_winrm_connection_timeout": 2}}
    if kind == "task-timeout":
        keywords["timeout"] = 3
    tasks = [
        task(module, "hit", keywords, **options),
        {"name": "say", "ansible.builtin.debug": {"msg": "SAID {{ told.reason | default('none') }} {{ told.unreachable | default(false) }} END"}},
    ]
    done = play(running, tmp_path, tasks, hosts=machine.name)
    running.faults.clear()
    assert running._server is not None
    running._server.open_ports(machine)
    left = running._server.open_shells()
    running._server.services[machine.name].vanish()
    assert armed.fired == 1, done.text
    assert "Traceback" not in done.text and "unexpected_error" not in done.text, done.text
    assert running.password not in done.text
    said = done.text.rpartition("SAID ")[2].partition(" END")[0]
    if kind == "task-timeout":
        assert recap(done.text, machine.name)["ignored"] == 1, done.text
    else:
        assert said.endswith("True") and said.partition(" ")[0] not in ("none", "failed"), done.text
    assert left == [] or kind == "connection-refused", left
    assert len([ran for ran in running.access_log.calls if ran.write]) <= 1
