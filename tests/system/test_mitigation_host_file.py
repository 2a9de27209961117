# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules that stand in applicationHost.config against the lab: taken out, retired, relocated, taken back, each to the byte."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError
from ansible_collections.exchange.mitigation.plugins.modules import mitigation
from lab_task import folder, hashes, run
from test_mitigation import ATTACK, CHILDREN, OWA, ask, policy, states, status

HOST = "Windows/System32/inetsrv/config/applicationHost.config"
NAME = {"em": "EEMS M1.1 PowerShell - inbound", "hand": "block it"}
M1 = """<rule name="{name}" stopProcessing="true"><match url=".*" /><conditions>
<add input="{{UrlDecode:{{REQUEST_URI}}}}" pattern="(?=.*autodiscover)(?=.*powershell)" /></conditions><action type="AbortRequest" /></rule>"""
M2 = r"""<outboundRules><rule name="EEMS M2.1 OWA CSP - outbound" preCondition="EEMS M2.1 OWA SPA HTML shell - precondition" patternSyntax="ECMAScript">
<match serverVariable="RESPONSE_Content_Security_Policy" pattern="(.*)" /><action type="Rewrite" value="{R:1}; script-src-attr 'none'" /></rule>
<preConditions><preCondition name="EEMS M2.1 OWA SPA HTML shell - precondition" logicalGrouping="MatchAll" patternSyntax="ECMAScript">
<add input="{RESPONSE_CONTENT_TYPE}" pattern="^text/html" />
<add input="{REQUEST_URI}" pattern="^/owa/?($|\?|default\.aspx|projection\.aspx|readingPane\.aspx|popout\.aspx)" />
</preCondition></preConditions></outboundRules>"""
#: The location tag that holds the section, None for the level of the server.
PLACES = (None, "Default Web Site")


@pytest.fixture
def journal(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "journal")


@pytest.fixture(autouse=True)
def without_em(lab_fleet: Any) -> None:
    """No EM that would have to be blocked."""
    lab_fleet.organization.mitigations_enabled = False


def end(data: bytes) -> bytes:
    """Return how the lines of a file end."""
    return b"\r\n" if b"\r\n" in data else b"\n"


def add(machine: Any, inner: str, location: str | None) -> bytes:
    """Put a rewrite section into applicationHost.config and return the bytes from before."""
    path = folder(machine) / HOST
    before = path.read_bytes()
    text = f"<system.webServer><rewrite>{inner}</rewrite></system.webServer>"
    if location is not None:
        text = f'<location path="{location}">{text}</location>'
    path.write_bytes(before.replace(b"</configuration>", text.encode() + end(before) + b"</configuration>"))
    return before


def restored(machine: Any, bare: bytes, location: str | None) -> bool:
    """Say whether applicationHost.config is as it was, but for the empty location tag, which is not ours."""
    rest = b"" if location is None else f'<location path="{location}"></location>'.encode() + end(bare)
    return (folder(machine) / HOST).read_bytes() == bare.replace(b"</configuration>", rest + b"</configuration>")


@pytest.mark.parametrize("location", PLACES)
@pytest.mark.parametrize(("maker", "more"), [("em", {}), ("hand", {"include_foreign": True})])
def test_taken_out(lab_fleet: Any, journal: str, maker: str, more: dict[str, Any], location: str | None) -> None:
    machine = lab_fleet.machine("EX1")
    bare = add(machine, f"<rules>{M1.format(name=NAME[maker])}</rules>", location)
    before = hashes(machine)
    assert status(machine, ATTACK) == "aborted"
    wanted = {"state": "absent", "mitigations": ["M1"], "journal_dir": journal, **more}
    if more:
        assert run(mitigation, lab_fleet, machine, {**wanted, "include_foreign": False})["changed"] is False
    checked = run(mitigation, lab_fleet, machine, wanted, check=True)
    assert (checked["changed"], hashes(machine), lab_fleet.access_log.writes()) == (True, before, [])
    done = run(mitigation, lab_fleet, machine, wanted)
    assert (done["diff"], states(done), done["changed"]) == (checked["diff"], {"M1": "absent"}, True)
    assert NAME[maker] in done["diff"][0]["before"]
    assert {path for path, digest in hashes(machine).items() if before.get(path) != digest} == {HOST}
    assert restored(machine, bare, location)
    assert status(machine, ATTACK) == 200
    lab_fleet.access_log.clear()
    assert run(mitigation, lab_fleet, machine, wanted)["changed"] is False
    assert lab_fleet.access_log.writes() == []


@pytest.mark.parametrize("location", PLACES)
def test_retired(lab_fleet: Any, patched: Any, journal: str, location: str | None) -> None:
    machine = lab_fleet.machine("EX1")
    patched()
    bare = add(machine, f"<rules>{M1.format(name=NAME['em'])}</rules>", location)
    wanted = {"state": "retired", "mitigations": ["M1"], "journal_dir": journal}
    assert run(mitigation, lab_fleet, machine, wanted, check=True)["changed"] is True
    assert run(mitigation, lab_fleet, machine, wanted)["changed"] is True
    assert restored(machine, bare, location)
    assert run(mitigation, lab_fleet, machine, wanted)["changed"] is False


def test_a_global_rule(lab_fleet: Any, journal: str) -> None:
    """What IIS Manager makes at the level of the server."""
    machine = lab_fleet.machine("EX1")
    bare = add(machine, f"<globalRules>{M1.format(name='block it')}</globalRules>", None)
    assert status(machine, ATTACK) == "aborted"
    wanted = {"state": "absent", "mitigations": ["M1"], "include_foreign": True, "journal_dir": journal}
    assert run(mitigation, lab_fleet, machine, wanted)["changed"] is True
    assert (restored(machine, bare, None), status(machine, ATTACK)) == (True, 200)
    assert run(mitigation, lab_fleet, machine, wanted)["changed"] is False


@pytest.mark.parametrize("location", ["Default Web Site/owa", None])
def test_relocated_and_taken_back(lab_fleet: Any, journal: str, location: str | None) -> None:
    """EM's rule goes into the block of OWA's own file; the undo brings both files back."""
    machine = lab_fleet.machine("EX1")
    add(machine, M2, location)
    before = hashes(machine)
    wanted = {"mitigations": ["M2"], "relocate": True, "journal_dir": journal}
    checked = run(mitigation, lab_fleet, machine, wanted, check=True)
    assert (checked["changed"], hashes(machine)) == (True, before)
    done = run(mitigation, lab_fleet, machine, wanted)
    assert (done["diff"], states(done)) == (checked["diff"], {"M2": "applied"})
    assert {path for path, digest in hashes(machine).items() if before.get(path) != digest} == {HOST, OWA}
    assert "script-src-attr 'none'" in (policy(machine, "/owa/") or "")
    assert [status(machine, path) for path in ("/owa/", *CHILDREN)] == [200] * 4
    assert run(mitigation, lab_fleet, machine, wanted)["changed"] is False
    undo = {"state": "absent", "undo_run_id": "last", "journal_dir": journal}
    assert run(mitigation, lab_fleet, machine, undo, check=True)["changed"] is True
    assert run(mitigation, lab_fleet, machine, undo)["changed"] is True
    assert hashes(machine) == before
    assert run(mitigation, lab_fleet, machine, undo)["changed"] is False


def test_what_iis_refuses_is_taken_back(lab_fleet: Any, journal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = lab_fleet.machine("EX1")
    add(machine, f"<rules>{M1.format(name=NAME['em'])}</rules>", None)
    before = hashes(machine)
    from lab.iis_config import IisConfiguration
    from lab.iis_xml import ConfigError

    genuine = IisConfiguration.section

    def section(self: Any, name: str, site: Any, path: str, *more: Any) -> Any:
        if name.endswith("rewrite/rules"):
            raise ConfigError("applicationHost.config", 1, "refused", 0x80070003)
        return genuine(self, name, site, path, *more)

    monkeypatch.setattr(IisConfiguration, "section", section)
    with pytest.raises(ApplyError, match="the bytes before are back"):
        run(mitigation, lab_fleet, machine, {"state": "absent", "mitigations": ["M1"], "journal_dir": journal})
    assert hashes(machine) == before


def test_a_session_that_could_only_copy_over_it_is_refused(lab_fleet: Any, journal: str) -> None:
    """All of IIS depends on the file, so it is never half written, not for a moment."""
    machine = lab_fleet.machine("EX1")
    add(machine, f"<rules>{M1.format(name=NAME['em'])}</rules>", None)
    before = hashes(machine)
    machine.language_mode = "ConstrainedLanguage"
    try:
        with pytest.raises(ApplyError, match="cannot replace the file in one step") as caught:
            run(mitigation, lab_fleet, machine, {"state": "absent", "mitigations": ["M1"], "journal_dir": journal})
    finally:
        machine.language_mode = "FullLanguage"
    assert caught.value.details["undone"] is True
    assert hashes(machine) == before
    assert ask(machine, "/owa/").status == 200
