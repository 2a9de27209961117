# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of a real Exchange 2019 server in the lab: M1 and M2 applied and taken back, nothing else touched."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.modules import mitigation, server_info
from lab_task import folder, hashes, run
from test_mitigation import ATTACK, CHILDREN, OWA, ROOT, options, policy, states, status

MALFORMED = "exchange2019/DefaultWebSite.malformed-with-EEMS-M1.1.web.config"


@pytest.fixture(params=["DefaultWebSite.web.config", "DefaultWebSite.variant2.web.config"])
def real(request: pytest.FixtureRequest, recorded: Callable[[str], pathlib.Path], tmp_path: pathlib.Path) -> Iterator[Any]:
    """A fleet of one server that needs M1 and M2, seeded from the recorded files, with one of the recorded site roots."""
    from lab import builds
    from lab.fleet import Fleet

    template = tmp_path / "template"
    template.mkdir()
    base = recorded("exchange2019/applicationHost.config").parent
    for path in base.glob("*.config"):
        if path.name == "applicationHost.config" or re.fullmatch(r"DefaultWebSite-[A-Za-z]+\.web\.config", path.name):
            shutil.copy(path, template / path.name)
    shutil.copy(base / request.param, template / "DefaultWebSite.web.config")
    plan = dataclasses.replace(builds.default_plan(1)[0], product="Exchange2019", build="15.2.1118.15")
    with Fleet([plan], template=template, mitigations_enabled=False) as fleet:
        yield fleet
        assert fleet.scripts_received == 0
        assert fleet.refusals == []


def kept_lines(before: bytes, after: bytes) -> bool:
    """Say whether before is after without one run of bytes."""
    start = 0
    while start < len(before) and before[start] == after[start]:
        start += 1
    end = 0
    while end < len(before) - start and before[-1 - end] == after[-1 - end]:
        end += 1
    return start + end >= len(before)


def test_applied_and_taken_back_to_the_byte(real: Any, tmp_path: pathlib.Path) -> None:
    machine = real.machines[0]
    journal = str(tmp_path / "journal")
    before = hashes(machine)
    bytes_before = {name: (folder(machine) / name).read_bytes() for name in (ROOT, OWA)}
    assert [status(machine, path) for path in ("/owa/", *CHILDREN)] == [200] * 4
    assert status(machine, ATTACK) == 200

    result = run(mitigation, real, machine, options(journal))
    assert states(result) == {"M1": "applied", "M2": "applied"}
    assert {path for path, digest in hashes(machine).items() if before.get(path) != digest} == {ROOT, OWA}
    for name, data in bytes_before.items():
        assert kept_lines(data, (folder(machine) / name).read_bytes()), f"{name}: bytes outside the inserted span changed"
    assert status(machine, ATTACK) == "aborted"
    assert [status(machine, path) for path in ("/owa/", *CHILDREN)] == [200] * 4
    assert "script-src-attr 'none'" in (policy(machine, "/owa/") or "")

    run(mitigation, real, machine, {"state": "absent", "mitigations": ["M1", "M2"], "journal_dir": journal})
    assert hashes(machine) == before

    run(mitigation, real, machine, options(journal))
    run(mitigation, real, machine, {"state": "absent", "mitigations": ["M1", "M2"], "journal_dir": str(tmp_path / "without")})
    assert hashes(machine) == before


def test_the_malformed_root_is_unknown_with_file_and_line(real: Any, recorded: Callable[[str], pathlib.Path]) -> None:
    machine = real.machines[0]
    shutil.copy(recorded(MALFORMED), folder(machine) / ROOT)
    seen = {entry["id"]: entry for entry in run(server_info, real, machine, {})["server"]["mitigations"]}
    assert seen["M1"]["state"] == "unknown"
    assert seen["M1"]["evidence"][0]["line"] == 42
    assert "wwwroot\\web.config" in seen["M1"]["reason"]
