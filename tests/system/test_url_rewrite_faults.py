# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""url_rewrite with the connection broken at every message: the next run completes, and nothing of ours stays on the server.

By default at every command of an installation, after its effect; EXCHANGE_MITIGATION_SWEEP=1 at every message of any kind, of
removals too, before and after its effect.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _install, _reboot
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, ConnectionFailure, MitigationError
from ansible_collections.exchange.mitigation.plugins.modules import url_rewrite
from installer_lab import Kept, our_folders
from lab_task import run

FULL = os.environ.get("EXCHANGE_MITIGATION_SWEEP") in ("1", "full")


@pytest.fixture(scope="module")
def fleet() -> Iterator[Any]:
    from lab.builds import default_plan
    from lab.fleet import Fleet

    with Fleet([plan for plan in default_plan(3) if not plan.url_rewrite]) as fleet:
        yield fleet


@pytest.mark.parametrize("fault", ["drop-before", "drop-after"])
@pytest.mark.parametrize("wanted", ["present", "absent"])
def test_broken_at_every_message(fleet: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, fault: str, wanted: str) -> None:
    if not FULL and (wanted, fault) != ("present", "drop-after"):
        pytest.skip("EXCHANGE_MITIGATION_SWEEP=1 runs this as well")
    monkeypatch.setattr(_reboot, "POLL", 0.05)
    monkeypatch.setattr(_install, "SETTLE", 0.3)
    from lab.installer import Package, install

    machine = fleet.machines[0]
    if wanted == "absent":
        install(machine, Package())
    kept = Kept(machine)
    source = tmp_path / "p.msi"
    source.write_bytes(Package(signer=fleet.pki.signer().der).data())
    options = {"source": str(source)} if wanted == "present" else {"state": "absent"}
    outcomes: dict[str, int] = {}
    for k in range(1, 200):
        kept.restore()
        armed = fleet.faults.add(fault, machine.name, at=k, action=None if FULL else "Command")
        try:
            result = run(url_rewrite, fleet, machine, options)
            outcome = "done"
            assert result["url_rewrite"]["installed"] == (wanted == "present")
        except ConnectionFailure:
            outcome = "unreachable"
        except ApplyError as exc:
            assert exc.reason == "install_interrupted"
            outcome = exc.reason
        except MitigationError as exc:
            pytest.fail(f"message {k}: {type(exc).__name__} {exc.reason}: {exc.message}")
        fired = armed.fired
        fleet.faults.clear()
        if not fired:
            break
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        again = run(url_rewrite, fleet, machine, options)
        assert again["url_rewrite"]["installed"] == (wanted == "present"), k
        assert our_folders(machine) == [], k
        assert run(url_rewrite, fleet, machine, options)["changed"] is False, k
    kept.restore()
    if wanted == "absent":
        from lab.variants import rewrite

        rewrite(machine, "none")
    print(f"{wanted} {fault}: {k - 1} messages: {outcomes}")
    assert 8 < k < 199
    assert set(outcomes) <= {"done", "unreachable", "install_interrupted"}
    assert fleet.refusals == []
