# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The organisation's own documents against the lab: signed with the command, proven by feed, applied, probed, undone to the byte."""

from __future__ import annotations

import datetime
import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._builds import parse_build
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import Refused
from ansible_collections.exchange.mitigation.plugins.modules import feed, mitigation, server_info
from ansible_collections.exchange.mitigation.plugins.plugin_utils import local_document
from attacks.authorities import CODE_SIGNING, DAY, issue, key, name, pem, usage
from cryptography.hazmat.primitives import serialization
from lab_task import folder, hashes, run

ATTACK = "/ecp/ZeroDay.ashx?x=1"
FRONT = "Program Files/Microsoft/Exchange Server/V15/FrontEnd/HttpProxy/"
SIGNER = {"signer_common_name": "Example Signing", "signer_organization": "Example Ltd"}

DROP = {"inbound": {"when": [{"input": "{UrlDecode:{REQUEST_URI}}", "pattern": r"(?=.*ecp)(?=.*zeroday\.ashx)"}]}}
DROP_OTHER = {"inbound": {"when": [{"input": "{REQUEST_URI}", "pattern": "^/ews/zeroday"}]}}
FORBID = {
    "inbound": {
        "path": "/ecp",
        "answer": 403,
        "when": [{"input": "{REQUEST_METHOD}", "pattern": "^POST$"}, {"input": "{REQUEST_URI}", "pattern": "^/ecp/upload"}],
    }
}
HEADER = {
    "outbound": {
        "path": "/owa",
        "header": "Content-Security-Policy",
        "value": "{R:0}; script-src-attr 'none'",
        "when": [{"input": "{RESPONSE_CONTENT_TYPE}", "pattern": "^text/html"}],
    }
}


class Office:
    """The security office: a root, a signer, and documents signed with the command."""

    def __init__(self, place: pathlib.Path) -> None:
        now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
        self.place = place
        authority = usage("key_cert_sign", "crl_sign")
        validity = (now - DAY, now + 999 * DAY)
        root = issue(name("Example Root", "Example Ltd"), key("own root"), None, key("own root"), *validity, authority=True, key_usage=authority)
        leaf = issue(name("Example Signing", "Example Ltd"), key("own leaf"), root, key("own root"), now - DAY, now + 99 * DAY, ekus=[CODE_SIGNING])
        (place / "root.pem").write_bytes(pem(root))
        (place / "signer.pem").write_bytes(pem(leaf))
        (place / "signer.key").write_bytes(
            key("own leaf").private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )

    def document(self, version: str, *mitigations: dict[str, Any]) -> dict[str, Any]:
        """Sign a document; return the options of a feed task that proves it."""
        description = self.place / "description.json"
        description.write_text(json.dumps({"version": version, "mitigations": list(mitigations)}), "utf-8")
        output = self.place / "local.xml"
        options = ["--key", "signer.key", "--certificates", "signer.pem", "--root", "root.pem"]
        files = [str(self.place / word) if not word.startswith("--") else word for word in options]
        assert local_document.main(["sign", str(description), str(output), *files]) == 0
        trust = {"domain": "local", "roots": [str(self.place / "root.pem")], **SIGNER}
        return {"source": str(output), "trust": trust, "state_dir": str(self.place / "state")}


@pytest.fixture
def office(tmp_path: pathlib.Path) -> Office:
    return Office(tmp_path)


@pytest.fixture
def proven(lab_fleet: Any, office: Office) -> Callable[..., dict[str, Any]]:
    """Return the feed of a document with these mitigations."""

    def prove(*mitigations: dict[str, Any], version: str = "1") -> dict[str, Any]:
        return dict(run(feed, lab_fleet, lab_fleet.machine("EX1"), office.document(version, *mitigations))["feed"])

    return prove


def entry(identifier: str, *actions: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": identifier, "description": f"Mitigation {identifier}", "actions": list(actions), **more}


def ask(machine: Any, url: str, method: str = "GET") -> Any:
    return machine.iis.request(method, url, {"Host": machine.fqdn})


def status(machine: Any, url: str, method: str = "GET") -> Any:
    return getattr(ask(machine, url, method), "status", "aborted")


def outcomes(result: dict[str, Any]) -> dict[str, tuple[str, str, str]]:
    return {one["id"]: (one["state"], one["action"], one["maker"]) for one in result["mitigations"]}


def test_check_applied_probed_again_undone_to_the_byte(lab_fleet: Any, proven: Callable[..., dict[str, Any]], tmp_path: pathlib.Path) -> None:
    machine = lab_fleet.machine("EX1")
    published = proven(entry("LOCAL-1", DROP, FORBID), entry("LOCAL-2.1", HEADER, cve="CVE-2026-99999"))
    options = {"feed": published, "journal_dir": str(tmp_path / "journal")}
    before = hashes(machine)
    assert [status(machine, ATTACK), status(machine, "/ecp/upload", "POST"), status(machine, "/ecp/")] == [200] * 3

    checked = run(mitigation, lab_fleet, machine, options, check=True)
    assert hashes(machine) == before and lab_fleet.access_log.writes() == []
    done = run(mitigation, lab_fleet, machine, options)
    assert done["changed"] and done["failure"] is None and done["diff"] == checked["diff"]
    assert outcomes(done) == outcomes(checked) == {"LOCAL-1": ("applied", "apply", "us"), "LOCAL-2.1": ("applied", "apply", "us")}
    assert done["blocked_ids"] == [], "EM makes no local rule, so nothing is blocked for it"
    changed = {path for path, digest in hashes(machine).items() if before.get(path) != digest}
    assert changed == {"inetpub/wwwroot/web.config", f"{FRONT}ecp/web.config", f"{FRONT}owa/web.config"}
    assert status(machine, ATTACK) == status(machine, "/%65cp/zeroday%2Eashx") == "aborted"
    assert [status(machine, "/ecp/upload", method) for method in ("POST", "GET")] == [403, 200]
    assert "script-src-attr 'none'" in dict(ask(machine, "/owa/").headers)["Content-Security-Policy"]
    assert [status(machine, path) for path in ("/", "/ecp/", "/owa/", "/owa/Calendar", "/owa/Integrated", "/EWS/Exchange.asmx")] == [200] * 6
    assert 'name="exchange.mitigation LOCAL-1 - inbound"' in (folder(machine) / "inetpub/wwwroot/web.config").read_text("utf-8-sig")

    lab_fleet.access_log.clear()
    assert run(mitigation, lab_fleet, machine, options)["changed"] is False
    assert lab_fleet.access_log.writes() == []
    undone = run(mitigation, lab_fleet, machine, {**options, "state": "absent", "mitigations": ["LOCAL-1", "LOCAL-2.1"]})
    assert undone["changed"] is True
    assert hashes(machine) == before
    assert status(machine, ATTACK) == 200


@pytest.mark.parametrize("order", [(DROP, DROP_OTHER), (DROP_OTHER, HEADER, DROP)])
def test_undo_without_a_journal_is_exact_for_several_rules(
    lab_fleet: Any, proven: Callable[..., dict[str, Any]], tmp_path: pathlib.Path, order: tuple[dict[str, Any], ...]
) -> None:
    machine = lab_fleet.machine("EX1")
    published = proven(entry("LOCAL-1", *order))
    before = hashes(machine)
    run(mitigation, lab_fleet, machine, {"feed": published, "journal_dir": str(tmp_path / "journal")})
    assert status(machine, ATTACK) == status(machine, "/ews/zeroday") == "aborted"
    run(mitigation, lab_fleet, machine, {"feed": published, "journal_dir": str(tmp_path / "other"), "state": "absent", "mitigations": ["LOCAL-1"]})
    assert hashes(machine) == before


def test_undo_of_the_run_needs_no_document(lab_fleet: Any, proven: Callable[..., dict[str, Any]], tmp_path: pathlib.Path) -> None:
    machine = lab_fleet.machine("EX1")
    before = hashes(machine)
    journal = str(tmp_path / "journal")
    run(mitigation, lab_fleet, machine, {"feed": proven(entry("LOCAL-1", DROP)), "journal_dir": journal})
    undone = run(mitigation, lab_fleet, machine, {"state": "absent", "undo_run_id": "last", "journal_dir": journal})
    assert undone["changed"] is True and all(step["checks"] for step in undone["steps"])
    assert hashes(machine) == before


def test_undo_of_a_file_that_was_changed_since_needs_it(lab_fleet: Any, proven: Callable[..., dict[str, Any]], tmp_path: pathlib.Path) -> None:
    machine = lab_fleet.machine("EX1")
    journal = str(tmp_path / "journal")
    path = folder(machine) / "inetpub/wwwroot/web.config"
    before = path.read_bytes()
    published = proven(entry("LOCAL-1", DROP))
    run(mitigation, lab_fleet, machine, {"feed": published, "journal_dir": journal})
    path.write_bytes(path.read_bytes().replace(b"</configuration>", b"  <!-- kept -->\r\n</configuration>"))
    undo = {"state": "absent", "undo_run_id": "last", "journal_dir": journal}
    with pytest.raises(Refused) as caught:
        run(mitigation, lab_fleet, machine, undo)
    assert caught.value.reason == "local_definition_needed" and "give its feed" in caught.value.message
    run(mitigation, lab_fleet, machine, {**undo, "feed": published})
    assert path.read_bytes() == before.replace(b"</configuration>", b"  <!-- kept -->\r\n</configuration>")


def test_em_that_is_active_does_not_look_after_it(lab_fleet: Any, proven: Callable[..., dict[str, Any]], tmp_path: pathlib.Path) -> None:
    machine = lab_fleet.machine("EX1")
    lab_fleet.organization.mitigations_enabled = True
    done = run(mitigation, lab_fleet, machine, {"feed": proven(entry("LOCAL-1", DROP)), "journal_dir": str(tmp_path / "journal")})
    assert outcomes(done) == {"LOCAL-1": ("applied", "apply", "us")}
    assert status(machine, ATTACK) == "aborted"


def test_a_build_that_has_the_fix_is_left_alone(lab_fleet: Any, proven: Callable[..., dict[str, Any]], tmp_path: pathlib.Path) -> None:
    machine = lab_fleet.machine("EX1")
    build = run(mitigation, lab_fleet, machine, {"feed": proven(entry("LOCAL-1", DROP)), "journal_dir": str(tmp_path / "j")}, check=True)
    assert build["changed"] is True
    fixed = proven(entry("LOCAL-1", DROP, applies={str(machine.product): [".".join(map(str, parse_build(str(machine.build))))]}), version="2")
    result = run(mitigation, lab_fleet, machine, {"feed": fixed, "journal_dir": str(tmp_path / "journal")})
    assert result["changed"] is False
    assert [(one["needed"], one["action"]) for one in result["mitigations"]] == [("no", "none")]


def test_a_later_form_of_the_document_replaces_its_rules_when_told(lab_fleet: Any, proven: Callable[..., dict[str, Any]], tmp_path: pathlib.Path) -> None:
    machine = lab_fleet.machine("EX1")
    journal = {"journal_dir": str(tmp_path / "journal")}
    run(mitigation, lab_fleet, machine, {"feed": proven(entry("LOCAL-1", DROP)), **journal})
    better = proven(entry("LOCAL-1", {"inbound": {"when": [{"input": "{REQUEST_URI}", "pattern": "zeroday"}]}}), version="2")
    with pytest.raises(Refused) as caught:
        run(mitigation, lab_fleet, machine, {"feed": better, **journal})
    assert caught.value.reason == "conflicting"
    run(mitigation, lab_fleet, machine, {"feed": better, "on_conflict": "replace", **journal})
    assert (folder(machine) / "inetpub/wwwroot/web.config").read_text("utf-8-sig").count("LOCAL-1 - inbound") == 1
    assert status(machine, "/ews/zeroday") == "aborted"


def test_an_id_without_its_document_is_named(lab_fleet: Any, tmp_path: pathlib.Path) -> None:
    result = run(mitigation, lab_fleet, lab_fleet.machine("EX1"), {"mitigations": ["LOCAL-9"], "journal_dir": str(tmp_path / "journal")})
    assert result["changed"] is False
    assert result["failure"].reason == "unsupported_mitigation" and "local document" in result["failure"].message


def test_rules_and_services_of_a_local_document_come_and_go_together(
    lab_fleet: Any, proven: Callable[..., dict[str, Any]], tmp_path: pathlib.Path
) -> None:
    machine = lab_fleet.machine("EX1")
    before, running = hashes(machine), machine.services.get("MSExchangeUM")
    published = proven(entry("LOCAL-1", DROP, {"service": {"service": "MSExchangeUM"}}))
    wanted = {"feed": published, "journal_dir": str(tmp_path / "journal")}
    result = run(mitigation, lab_fleet, machine, wanted)
    assert [(one["id"], one["state"]) for one in result["mitigations"]] == [("LOCAL-1", "applied")]
    assert hashes(machine) != before
    stopped = machine.services.get("MSExchangeUM")
    assert (stopped.state, stopped.start) == ("Stopped", "Disabled")
    assert run(mitigation, lab_fleet, machine, wanted)["changed"] is False
    run(mitigation, lab_fleet, machine, {**wanted, "state": "absent", "mitigations": ["LOCAL-1"]})
    assert hashes(machine) == before
    assert machine.services.get("MSExchangeUM") == running


BACK_ROOT = "Program Files/Microsoft/Exchange Server/V15/ClientAccess/web.config"
BACK_OWA = "Program Files/Microsoft/Exchange Server/V15/ClientAccess/owa/web.config"


def shown(result: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Return what server_info says of local mitigations: state, need, maker."""
    return {one["id"]: (one["state"], one["needed"], one["maker"]) for one in result["server"]["mitigations"] if one["id"].startswith("LOCAL-")}


def test_rules_on_the_back_end(lab_fleet: Any, proven: Callable[..., dict[str, Any]], tmp_path: pathlib.Path) -> None:
    """The site that the front end passes requests on to: checked, applied, unchanged, taken back, to the byte."""
    machine = lab_fleet.machine("EX1")
    back_end = {"inbound": {**DROP["inbound"], "site": "Exchange Back End"}}
    on_owa = {"outbound": {**HEADER["outbound"], "site": "Exchange Back End"}}
    wanted = {"feed": proven(entry("LOCAL-1", back_end, on_owa)), "journal_dir": str(tmp_path / "journal")}
    before = hashes(machine)
    checked = run(mitigation, lab_fleet, machine, wanted, check=True)
    assert (checked["changed"], hashes(machine)) == (True, before)
    done = run(mitigation, lab_fleet, machine, wanted)
    assert (done["diff"], outcomes(done)) == (checked["diff"], {"LOCAL-1": ("applied", "apply", "us")})
    assert {path for path, digest in hashes(machine).items() if before.get(path) != digest} == {BACK_ROOT, BACK_OWA}
    site = machine.iis.configuration.site("Exchange Back End")
    names = [item.get("name") for item in machine.iis.configuration.section("system.webServer/rewrite/rules", site, "/owa").items]
    assert "exchange.mitigation LOCAL-1 - inbound" in names
    assert shown(run(server_info, lab_fleet, machine, {"feed": wanted["feed"]})) == {"LOCAL-1": ("applied", "yes", "us")}
    assert run(mitigation, lab_fleet, machine, wanted)["changed"] is False
    undone = run(mitigation, lab_fleet, machine, {"state": "absent", "undo_run_id": "last", "journal_dir": wanted["journal_dir"]})
    assert (undone["changed"], hashes(machine)) == (True, before)
    run(mitigation, lab_fleet, machine, wanted)
    absent = {**wanted, "state": "absent", "mitigations": ["LOCAL-1"]}
    assert run(mitigation, lab_fleet, machine, absent)["changed"] is True
    assert hashes(machine) == before
    assert run(mitigation, lab_fleet, machine, absent)["changed"] is False


def test_server_info_shows_local_mitigations(lab_fleet: Any, proven: Callable[..., dict[str, Any]], tmp_path: pathlib.Path) -> None:
    """With the document judged by what it says, without it by the names of the rules, and then unknown."""
    machine = lab_fleet.machine("EX1")
    wanted = {"feed": proven(entry("LOCAL-1", DROP), entry("LOCAL-2.1", HEADER)), "journal_dir": str(tmp_path / "journal")}
    assert shown(run(server_info, lab_fleet, machine, {})) == {}
    assert shown(run(server_info, lab_fleet, machine, {"feed": wanted["feed"]})) == dict.fromkeys(("LOCAL-1", "LOCAL-2.1"), ("absent", "yes", None))
    run(mitigation, lab_fleet, machine, wanted)
    lab_fleet.access_log.clear()
    assert shown(run(server_info, lab_fleet, machine, {"feed": wanted["feed"]})) == dict.fromkeys(("LOCAL-1", "LOCAL-2.1"), ("applied", "yes", "us"))
    assert len([record for record in lab_fleet.access_log.records if record["endpoint"] == "host"]) <= 12
    bare = run(server_info, lab_fleet, machine, {})
    assert shown(bare) == dict.fromkeys(("LOCAL-1", "LOCAL-2.1"), ("unknown", "unknown", "us"))
    (one,) = [one for one in bare["server"]["mitigations"] if one["id"] == "LOCAL-1"]
    assert "give its feed" in one["reason"] and one["evidence"][0]["rule"] == "exchange.mitigation LOCAL-1 - inbound"
