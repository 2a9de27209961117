# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module mitigation on servers that are not as setup leaves them: a renamed site, a broken child, a section in another file."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import Refused
from ansible_collections.exchange.mitigation.plugins.modules import mitigation, server_info
from lab_task import folder, hashes, run

HOST = "Windows/System32/inetsrv/config/applicationHost.config"
ROOT = "inetpub/wwwroot/web.config"
PROXY = "Program Files/Microsoft/Exchange Server/V15/FrontEnd/HttpProxy"


@pytest.fixture
def options(tmp_path: pathlib.Path) -> dict[str, Any]:
    return {"mitigations": ["M1", "M2"], "when_em_active": "take_over", "journal_dir": str(tmp_path / "journal")}


def states(result: dict[str, Any]) -> dict[str, str]:
    return {entry["id"]: entry["state"] for entry in result["mitigations"]}


def test_a_renamed_site_is_found_without_being_told(lab_fleet: Any, options: dict[str, Any]) -> None:
    machine = lab_fleet.machine("EX1")
    host = folder(machine) / HOST
    host.write_bytes(host.read_bytes().replace(b"Default Web Site", b"Exchange Front End"))
    before = hashes(machine)
    result = run(mitigation, lab_fleet, machine, options)
    assert states(result) == {"M1": "applied", "M2": "applied"}
    assert {check["path"].split("/")[3] for step in result["steps"] for check in step.get("checks", ())} == {"Exchange Front End"}
    assert run(mitigation, lab_fleet, machine, options)["changed"] is False
    run(mitigation, lab_fleet, machine, {**options, "state": "absent"})
    assert hashes(machine) == before


def test_a_broken_child_stops_only_what_depends_on_it(lab_fleet: Any, options: dict[str, Any]) -> None:
    machine = lab_fleet.machine("EX1")
    ecp = folder(machine) / PROXY / "ecp/web.config"
    ecp.write_bytes(ecp.read_bytes().replace(b"</configuration>", b"</configuratio>"))
    result = run(mitigation, lab_fleet, machine, options)
    assert states(result) == {"M1": "unknown", "M2": "applied"}
    assert result["failure"].reason == "configuration_malformed"
    assert result["failure"].details["file"].endswith("ecp\\web.config")
    assert isinstance(result["failure"].details["line"], int)
    assert [entry["id"] for entry in result["failure"].details["refusals"]] == ["M1"]


def test_a_section_in_another_file_is_read(lab_fleet: Any, options: dict[str, Any]) -> None:
    machine = lab_fleet.machine("EX1")
    root = folder(machine) / ROOT
    source = b'<system.webServer><rewrite><rules configSource="rules.config" /></rewrite></system.webServer></configuration>'
    root.write_bytes(root.read_bytes().replace(b"</configuration>", source))
    rule = (
        b'<rules><rule name="hand made" stopProcessing="true"><match url=".*" /><conditions><add input="{UrlDecode:{REQUEST_URI}}" '
        b'pattern="(?=.*autodiscover)(?=.*powershell)" /></conditions><action type="AbortRequest" /></rule></rules>'
    )
    (root.parent / "rules.config").write_bytes(rule)
    (seen,) = [entry for entry in run(server_info, lab_fleet, machine, {})["server"]["mitigations"] if entry["id"] == "M1"]
    assert (seen["state"], seen["maker"], seen["evidence"][0]["file"].lower()) == ("applied", "other", "c:\\inetpub\\wwwroot\\rules.config")
    assert lab_fleet.access_log.writes() == []


def test_a_folder_with_rules_of_its_own(lab_fleet: Any, options: dict[str, Any]) -> None:
    """/owa/auth is no application, yet its web.config can take a rule away, or hold its name and break the folder."""
    machine = lab_fleet.machine("EX1")
    auth = folder(machine) / PROXY / "owa/auth/web.config"
    auth.parent.mkdir(exist_ok=True)
    text = "<configuration><system.webServer><rewrite><rules>{}</rules></rewrite></system.webServer></configuration>"
    attack = "/owa/auth/?autodiscover.powershell"
    wanted = {**options, "mitigations": ["M1"]}

    def status() -> Any:
        return getattr(machine.iis.request("GET", attack, {"Host": machine.fqdn}), "status", "aborted")

    def seen() -> dict[str, Any]:
        return next(one for one in run(server_info, lab_fleet, machine, {})["server"]["mitigations"] if one["id"] == "M1")

    try:
        auth.write_text(text.format('<rule name="exchange.mitigation M1 PowerShell - inbound"><match url="x" /></rule>'))
        before = hashes(machine)
        for check in (True, False):
            with pytest.raises(Refused, match=r"/owa/auth would answer 500\.19"):
                run(mitigation, lab_fleet, machine, wanted, check=check)
        assert hashes(machine) == before

        auth.write_text(text.format(""))
        before = hashes(machine)
        done = run(mitigation, lab_fleet, machine, wanted)
        assert (done["changed"], seen()["state"], status()) == (True, "applied", "aborted")
        assert any(check["path"].endswith("/owa/auth") for step in done["steps"] for check in step["checks"])
        assert run(mitigation, lab_fleet, machine, wanted)["changed"] is False
        run(mitigation, lab_fleet, machine, {**wanted, "state": "absent"})
        assert hashes(machine) == before

        run(mitigation, lab_fleet, machine, wanted)
        auth.write_text(text.format("<clear />"))
        assert (seen()["state"], "/owa/auth" in seen()["reason"], status()) == ("conflicting", True, 200)
    finally:
        auth.unlink()
        if not any(auth.parent.iterdir()):
            auth.parent.rmdir()
