# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tests/real: the checklist says everything once, the recorder reads only, and what it writes has no name and no secret in it."""

from __future__ import annotations

import json
import pathlib
import re
import sys
from collections.abc import Iterator

import pytest
import yaml
from lab_task import contents, hashes
from reader import Reader
from snippets import ROOT

sys.path.insert(0, str(ROOT / "tests" / "real"))
import checklist
import sanitize

from lab.fleet import Fleet


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Fleet(2, mitigations_enabled=True) as running:
        yield running
        assert running.scripts_received == 0 and running.refusals == []


def test_every_assumption_stands_in_the_checklist_once() -> None:
    rows = checklist.rows()
    text = checklist.checklist({})
    assert len(rows) > 150
    for row in rows:
        assert text.count(f"**{row['id']}** ({row['file']},") == 1, row["id"]
        assert f"check: `{row['check']}`" in text and f"expected: {row['what']}" in text
    assert len(re.findall(r"^- \[ \] ", text, re.MULTILINE)) == len(rows)


def test_looking_only_looks() -> None:
    """No check in the first part has a cmdlet or a word that changes something; in doubt a check is in the second."""
    look = [row for row in checklist.rows() if checklist.only_reads(row)]
    assert len(look) > 20
    changing = re.compile(r"\b(Set|New|Remove|Start|Stop|Restart|Copy|Move|Rename|Add|Clear|Enable|Disable|Install|Register)-(?!\w+ .*-WhatIf)", re.IGNORECASE)
    assert [row["check"] for row in look if changing.search(re.sub(r"Set-\w+ [^;]*-WhatIf", "", row["check"]))] == []
    for check in ("Set-ExchangeServer EX1 -MitigationsEnabled $true", "curl /owa", "Restart-Service x; Get-Service x", "put a rule into owa; Get-Item x"):
        assert not checklist.only_reads({"check": check}), check


def test_looking_and_recording_as_printed(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    (tmp_path / "tests").symlink_to(ROOT / "tests")  # as in a checkout
    fleet.em_cycle("adds")
    before = {machine.name: hashes(machine) for machine in fleet.machines}
    fleet.access_log.clear()
    reader = Reader(tmp_path, fleet, "tests/real/README.md")
    for block in reader.blocks:
        done = reader.run(block)
        assert done.returncode == 0, done.stdout
    assert {machine.name: hashes(machine) for machine in fleet.machines} == before
    assert fleet.access_log.writes() == [], "the read-only part writes nothing"

    servers = checklist.recorded(tmp_path / "recorded")
    assert sorted(servers) == ["EX1", "EX2"]
    for server in servers.values():
        assert {"organization", "server", "events", "plan", "retirement"} <= set(server)
        assert {"applicationHost.config", "DefaultWebSite.web.config", "DefaultWebSite-owa.web.config"} <= set(server["template"])
        assert server["plan"]["diff"] and not server["server"].get("failed")
    for name, server in servers.items():
        made = {data.count(b"EEMS M2") for path, data in contents(fleet.machine(name)).items() if path.as_posix().endswith("HttpProxy/owa/web.config")}
        assert made == {server["template"]["DefaultWebSite-owa.web.config"].count("EEMS M2")}, "what rules say stays"
    assert "EEMS M2" in servers["EX1"]["template"]["DefaultWebSite-owa.web.config"] + servers["EX2"]["template"]["DefaultWebSite-owa.web.config"]
    text = (tmp_path / "recorded" / "CHECKLIST.md").read_text("utf-8")
    assert "**otherwise**" not in text, re.findall(r".*\n.*\n.*\n.*otherwise.*", text)
    assert text.count("seen: as assumed on EX1") >= 3
    assert "- [x] **em-m1**" in text
    assert (tmp_path / "CHECKLIST.md").read_text("utf-8").count("- [ ] ") == len(checklist.rows())

    planted = [fleet.password, *(machine.fqdn for machine in fleet.machines), *(str(machine.root) for machine in fleet.machines)]
    planted += [machine.fqdn.partition(".")[2] for machine in fleet.machines]
    for path in (tmp_path / "recorded").rglob("*"):
        said = path.read_text("utf-8", "replace").lower() if path.is_file() else ""
        assert [name for name in planted if name.lower() in said and name.lower() not in ("example.com", "first organization")] == [], path


def test_a_lab_starts_from_a_recording(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    reader = Reader(tmp_path, fleet, "tests/real/README.md")
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    done = reader.run(reader.blocks[0])
    assert done.returncode == 0, done.stdout
    folder = tmp_path / "recorded" / "EX1" / "template"
    with Fleet(1, template=folder) as again:
        machine = again.machines[0]
        (owa,) = (data for path, data in contents(machine).items() if path.as_posix().endswith("HttpProxy/owa/web.config"))
        assert owa == (folder / "DefaultWebSite-owa.web.config").read_bytes()


def test_the_checklist_says_when_it_is_otherwise() -> None:
    row = next(row for row in checklist.rows() if row["id"] == "em-m2")
    inside = '<configuration><location path="." inheritInChildApplications="false"><rule name="EEMS M2.1 OWA" /></location></configuration>'
    outside = '<configuration><location path="."></location><rule name="EEMS M2.1 OWA" /></configuration>'
    answers = [checklist.answer(row, {"EX1": {"template": {"DefaultWebSite-owa.web.config": text}}}) for text in (inside, outside, "<x/>")]
    assert answers == ["**otherwise** on EX1", "as assumed on EX1", None]


#: Everything that names somebody, in the forms in which it occurs, and what a rule needs.
PLANTED = {
    "MAIL07": "<server>MAIL07</server> mail07.corp.contoso.com CN=MAIL07,CN=Servers MAIL07$ \\\\MAIL07\\share",
    "contoso": "https://mail.contoso.com/owa ada@contoso.com CORP\\ada contoso",
    "10.20.30.40": 'bindingInformation="10.20.30.40:443:" <add ipAddress="10.20.30.40" />',
    "S-1-5-21-1004336348-1177238915-682003330-512": 'users="S-1-5-21-1004336348-1177238915-682003330-512"',
    "B5BF1C5FB7A3F3A44A1D8E62F1F8E5D9A2E63C11": 'certificateHash="B5BF1C5FB7A3F3A44A1D8E62F1F8E5D9A2E63C11"',
    "hunter2": 'userName="svc" password="hunter2" <add connectionString="Server=x;Password=hunter2;Trusted=no" />',
    "0011AABB": '<machineKey validationKey="0011AABB" decryptionKey=\'0011AABB\' />',
    "c2VjcmV0": "<CipherValue>c2VjcmV0</CipherValue>",
    "7b2e4a1c-9f0d-4c3b-8a5e-112233445566": "id=7b2e4a1c-9f0d-4c3b-8a5e-112233445566",
    "fe80:1:2:3:4:5:6:7": "address fe80:1:2:3:4:5:6:7",
}


def test_nothing_that_names_somebody_stays() -> None:
    server = {"name": "MAIL07", "fqdn": "mail07.corp.contoso.com", "site": "corp.contoso.com/Configuration/Sites/Berlin"}
    organization = {"name": "Contoso Ltd", "servers": [server]}
    names = sanitize.names_of(organization, {"name": "MAIL07", "fqdn": "mail07.corp.contoso.com"}, "EX1") | {"contoso": "example", "Berlin HQ": "Site9"}
    for secret, text in PLANTED.items():
        cleaner = sanitize.Sanitizer(names)
        said = cleaner.text(text)
        assert secret.lower() not in said.lower(), (secret, said)
        assert cleaner.text(text) == said, "the same becomes the same"
        assert cleaner.text(said) == said, "what is clean stays as it is"
    cleaner = sanitize.Sanitizer(names)
    assert cleaner.value({"MAIL07": ["10.1.2.3", 5, None, True, {"fqdn": "mail07.corp.contoso.com"}]}) == {
        "EX1": ["192.0.2.2", 5, None, True, {"fqdn": "ex1.example.com"}]
    }


@pytest.mark.parametrize(
    "kept",
    [
        '<rule name="EEMS M1.1 PowerShell - inbound" stopProcessing="true"><match url=".*" />',
        '<add input="{UrlDecode:{REQUEST_URI}}" pattern="(?=.*autodiscover)(?=.*powershell)" />',
        "15.2.1748.46", "Version 15.2 (Build 1748.46)", "7.2.1993.0", 'Version=4.0.0.0, Culture=neutral', "127.0.0.1:443:", 'password=""',
        r"C:\Program Files\Microsoft\Exchange Server\V15\FrontEnd\HttpProxy\owa\web.config", "2026-11-24T08:00:00Z", "EXAMPLES", "12:34:56",
    ],
)  # fmt: skip
def test_what_a_rule_needs_stays(kept: str) -> None:
    assert sanitize.Sanitizer({"EXAMPLE": "X", "MAIL07": "EX1"}).text(kept) == kept


def test_bytes_keep_encoding_mark_and_line_ends() -> None:
    cleaner = sanitize.Sanitizer({"MAIL07": "EX1"})
    for mark, encoding in ((b"", "utf-8"), (b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le")):
        data = mark + "<a>\r\n\tMAIL07 ü</a>\r\n".encode(encoding)
        assert cleaner.data(data) == mark + "<a>\r\n\tEX1 ü</a>\r\n".encode(encoding)


def test_recorded_files_are_json_and_the_playbook_is_yaml() -> None:
    book = yaml.safe_load((ROOT / "tests" / "real" / "observe.yml").read_text("utf-8"))
    assert book[0]["check_mode"] is True and all(task.get("check_mode") is not False for play in book for task in play["tasks"])
    assert json.dumps(book)
