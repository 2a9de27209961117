# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module on the configuration files of a real Exchange 2019 server: verdicts, and M1 and M2 there and back, byte for byte."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import Refused
from ansible_collections.exchange.mitigation.plugins.modules import mitigation, server_info
from lab_task import hashes, run
from test_mitigation import ATTACK, CHILDREN, OWA, ROOT, folder, policy, states, status

Recorded = Callable[[str], pathlib.Path]
APPLICATIONS = ("-AutoD", "-EAS", "-ECP", "-EWS", "-MAPI", "-OAB", "-OWA", "-PowerShell", "-RPC", "-Rest")


@pytest.fixture
def server(tmp_path: pathlib.Path, recorded: Recorded) -> Any:
    """Return a function that starts a server with recorded files; ``root`` is the file of the site, ``owa`` replaces that of /owa."""
    from lab.builds import ServerPlan
    from lab.fleet import Fleet

    fleets = []

    def started(root: str = "DefaultWebSite.web.config", build: str = "15.2.1118.15") -> Any:
        template = tmp_path / "template"
        template.mkdir()
        (template / "applicationHost.config").write_bytes(recorded("exchange2019/applicationHost.config").read_bytes())
        (template / "DefaultWebSite.web.config").write_bytes(recorded(f"exchange2019/{root}").read_bytes())
        for name in APPLICATIONS:
            (template / f"DefaultWebSite{name}.web.config").write_bytes(recorded(f"exchange2019/DefaultWebSite{name}.web.config").read_bytes())
        fleet = Fleet([ServerPlan("REAL1", "Exchange2019", build)], template=template, mitigations_enabled=False).start()
        fleets.append(fleet)
        return fleet

    yield started
    for fleet in fleets:
        assert fleet.scripts_received == 0
        assert fleet.refusals == []
        fleet.stop()


def verdicts(fleet: Any) -> dict[str, dict[str, Any]]:
    return {entry["id"]: entry for entry in run(server_info, fleet, fleet.machine("REAL1"), {})["server"]["mitigations"]}


def kept(before: bytes, after: bytes) -> bool:
    """Say whether before is after without one run of bytes."""
    start = 0
    while start < len(before) and before[start] == after[start]:
        start += 1
    end = 0
    while end < len(before) - start and before[-1 - end] == after[-1 - end]:
        end += 1
    return start + end >= len(before)


@pytest.mark.parametrize("root", ["DefaultWebSite.web.config", "DefaultWebSite.variant2.web.config"])
@pytest.mark.parametrize("build", ["15.2.1118.15", "15.2.792.3"])
def test_there_and_back(server: Any, tmp_path: pathlib.Path, root: str, build: str) -> None:
    fleet = server(root, build)
    machine = fleet.machine("REAL1")
    before = hashes(machine)
    stock = {name: (folder(machine) / name).read_bytes() for name in (ROOT, OWA)}
    found = verdicts(fleet)
    assert {one: found[one]["state"] for one in ("M1", "M2", "CVE-2021-26855")} == dict.fromkeys(("M1", "M2", "CVE-2021-26855"), "absent")
    wanted = {"mitigations": ["M1", "M2"], "journal_dir": str(tmp_path / "journal")}
    checked = run(mitigation, fleet, machine, wanted, check=True)
    done = run(mitigation, fleet, machine, wanted)
    assert checked["diff"] == done["diff"]
    assert states(done) == {"M1": "applied", "M2": "applied"}
    assert {path for path, digest in hashes(machine).items() if before.get(path) != digest} == {ROOT, OWA}
    assert status(machine, ATTACK) == "aborted"
    assert [status(machine, path + "/") for path in ("/owa", *CHILDREN)] == [200] * 4
    assert "script-src-attr 'none'" in (policy(machine, "/owa/") or "")
    assert run(mitigation, fleet, machine, wanted)["changed"] is False
    for name, data in stock.items():
        assert kept(data, (folder(machine) / name).read_bytes()), f"{name}: bytes outside the inserted span changed"
    absent = {"state": "absent", "mitigations": ["M1", "M2"]}
    run(mitigation, fleet, machine, {**absent, "journal_dir": str(tmp_path / "journal")})
    assert hashes(machine) == before
    run(mitigation, fleet, machine, wanted)
    run(mitigation, fleet, machine, {**absent, "journal_dir": str(tmp_path / "without")})
    assert hashes(machine) == before


def test_the_real_owa_file_with_eomts_rule(server: Any, tmp_path: pathlib.Path, recorded: Recorded) -> None:
    fleet = server()
    machine = fleet.machine("REAL1")
    path = folder(machine) / OWA
    fragment = recorded("exchange2019/owa.EOMT-CVE-2026-42897.fragment.xml").read_bytes()
    stock = path.read_bytes()
    inner = fragment[fragment.index(b"<outboundRules") : fragment.index(b"</outboundRules>") + len(b"</outboundRules>")]
    section = b"<system.webServer><rewrite>" + inner + b"</rewrite></system.webServer>"
    path.write_bytes(stock.replace(b"</configuration>", section + b"</configuration>"))
    found = verdicts(fleet)["M2"]
    assert (found["state"], found["maker"], found["breaks"]) == ("applied", "eomt", list(CHILDREN))


def test_the_malformed_one_is_unknown_with_line_and_reason(server: Any, tmp_path: pathlib.Path) -> None:
    fleet = server("DefaultWebSite.malformed-with-EEMS-M1.1.web.config")
    machine = fleet.machine("REAL1")
    before = hashes(machine)
    found = verdicts(fleet)["M1"]
    assert found["state"] == "unknown"
    assert "wwwroot\\web.config" in found["reason"]
    (evidence,) = found["evidence"]
    assert evidence["line"] == 42
    assert str(evidence["line"]) in found["reason"]
    try:
        done = run(mitigation, fleet, machine, {"mitigations": ["M1"], "journal_dir": str(tmp_path / "journal")})
        refused = done["failure"]
    except Refused as exc:
        refused = exc
    assert isinstance(refused, Refused)
    assert "web.config" in refused.message
    assert hashes(machine) == before
    assert fleet.access_log.writes() == []
