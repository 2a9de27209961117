# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command for local documents: what it makes, what it refuses, and that nothing unproven is ever written."""

from __future__ import annotations

import copy
import datetime
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest
import yaml
from ansible_collections.exchange.mitigation.plugins.module_utils import _local, _verify, _xml_guard
from ansible_collections.exchange.mitigation.plugins.module_utils._mitigations._values import PoolAction, ServiceAction
from ansible_collections.exchange.mitigation.plugins.plugin_utils import _local_writer, local_document
from attacks import cases_local
from attacks.authorities import CODE_SIGNING, DAY, SERVER_AUTH, issue, key, name, pem, usage
from cryptography.hazmat.primitives import serialization

NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
PASSPHRASE = "correct horse battery"
AUTHORITY = usage("key_cert_sign", "crl_sign")
ROOT = issue(name("Own Root", "Own Ltd"), key("own root"), None, key("own root"), NOW - DAY, NOW + 999 * DAY, authority=True, key_usage=AUTHORITY)

GOOD: dict[str, Any] = {
    "version": "1.2",
    "mitigations": [
        {
            "id": "LOCAL-2026.1",
            "description": 'Quotes " and < & > are text',
            "cve": "CVE-2026-99999",
            "applies": {"Exchange2019": ["15.2.1748.53"], "ExchangeSE": None},
            "side_effects": ["Something is slower."],
            "actions": [
                {"inbound": {"when": [{"input": "{REQUEST_URI}", "pattern": 'zero"day<'}]}},
                {"outbound": {"path": "/owa", "header": "X-Frame-Options", "value": "DENY", "when": [{"input": "{RESPONSE_STATUS}", "pattern": "^200$"}]}},
                {"service": {"service": "MSExchangeUM", "disable": False}},
                {"app_pool": {"pool": "MSExchangeOABAppPool", "description": "Stop the address book."}},
            ],
        }
    ],
}


def certificate(**changes: Any) -> bytes:
    options: dict[str, Any] = {"begin": NOW - DAY, "end": NOW + 99 * DAY, "ekus": [CODE_SIGNING]}
    return pem(issue(name("Own Signing", "Own Ltd"), key("own leaf"), ROOT, key("own root"), **{**options, **changes}))


class Desk:
    """A folder with a key, certificates and a description."""

    def __init__(self, place: pathlib.Path, capture: pytest.CaptureFixture[str]) -> None:
        self.place = place
        self.capture = capture
        (place / "root.pem").write_bytes(pem(ROOT))
        (place / "signer.pem").write_bytes(certificate())
        self.write_key()
        self.describe(GOOD)

    def write_key(self, label: str = "own leaf", passphrase: str = "") -> None:
        encryption = serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
        (self.place / "signer.key").write_bytes(
            key(label).private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        )

    def describe(self, description: Any) -> None:
        (self.place / "d.yml").write_text(yaml.safe_dump(description), "utf-8")

    @property
    def output(self) -> pathlib.Path:
        return self.place / "local.xml"

    def run(self, *words: str) -> tuple[int, str, str]:
        """Run the command; words that name a file of the folder become paths."""
        known = {"d.yml", "local.xml", "root.pem", "signer.pem", "signer.key", "passphrase"}
        code = local_document.main([str(self.place / word) if word in known else word for word in words])
        return code, *self.capture.readouterr()

    def sign(self, *more: str) -> tuple[int, str, str]:
        return self.run("sign", "d.yml", "local.xml", "--key", "signer.key", "--certificates", "signer.pem", "--root", "root.pem", *more)


@pytest.fixture
def desk(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


def test_sign_and_check(desk: Desk) -> None:
    code, said, complaint = desk.sign()
    assert (code, complaint) == (0, "")
    assert desk.run("check", "local.xml", "--root", "root.pem") == (0, said, "")
    told = yaml.safe_load(said[said.index("trust:") :])["trust"]
    assert told == {"domain": "local", "roots": [str(desk.place / "root.pem")], "signer_common_name": "Own Signing", "signer_organization": "Own Ltd"}
    assert "service MSExchangeUM: stop" in said and "application pool MSExchangeOABAppPool: stop" in said
    assert desk.output.stat().st_mode & 0o777 == 0o644 and sorted(p.name for p in desk.place.iterdir() if p.name.startswith(".")) == []

    policy = _verify.Policy((ROOT,), (), "Own Signing", "Own Ltd", (CODE_SIGNING,))
    document = _local.parse(_verify.verify(desk.output.read_bytes(), policy, NOW).root, "local")
    assert isinstance(document, _local.LocalDocument)
    one = document.mitigations[0]
    assert (one.description, one.cve, one.kind) == ('Quotes " and < & > are text', "CVE-2026-99999", "mixed")
    assert set(one.applicability) == {"Exchange2019", "ExchangeSE"}
    assert [action.rules[0].name for action in one.rules] == ["exchange.mitigation LOCAL-2026.1 - inbound", "exchange.mitigation LOCAL-2026.1 - outbound"]
    assert one.rules[0].rules[0].pattern == 'zero"day<'  # type: ignore[union-attr]
    assert one.services == (ServiceAction(("MSExchangeUM",), True, False),) and one.pools == (PoolAction("MSExchangeOABAppPool"),)


def test_make_shows_what_would_be_signed(desk: Desk) -> None:
    code, said, dummy = desk.run("make", "d.yml")
    assert code == 0 and said.encode() == _local_writer.render(GOOD) + b"\n" and "Signature" not in said


def test_json_and_a_document_without_mitigations(desk: Desk) -> None:
    (desk.place / "d.yml").write_text(json.dumps({"version": "1", "mitigations": []}), "utf-8")
    assert desk.sign()[0] == 0
    assert "mitigations: 0" in desk.run("check", "local.xml", "--root", "root.pem")[1]


def test_passphrase_from_a_file_or_the_terminal(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.write_key(passphrase=PASSPHRASE)
    (desk.place / "passphrase").write_text(PASSPHRASE + "\n", "utf-8")
    assert desk.sign("--passphrase-file", "passphrase")[0] == 0
    desk.output.unlink()
    asked: list[str] = []
    monkeypatch.setattr("getpass.getpass", lambda prompt: asked.append(prompt) or PASSPHRASE)
    assert desk.sign()[0] == 0 and len(asked) == 1
    desk.output.unlink()
    monkeypatch.setattr("getpass.getpass", lambda prompt: "wrong")
    code, said, complaint = desk.sign()
    assert code == 1 and complaint.startswith("key_unreadable: ") and PASSPHRASE not in said + complaint
    assert not desk.output.exists()


def test_a_document_is_replaced_by_a_higher_version_only(desk: Desk) -> None:
    assert desk.sign()[0] == 0
    first = desk.output.read_bytes()
    assert desk.sign()[2].startswith("version_not_raised: ") and desk.output.read_bytes() == first
    desk.describe({**GOOD, "version": "1.10"})
    assert desk.sign()[0] == 0
    desk.output.write_bytes(b"<html/>")
    assert desk.sign()[2].startswith("output_exists: ") and desk.output.read_bytes() == b"<html/>"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"begin": NOW - 9 * DAY, "end": NOW - DAY}, "certificate_expired"),
        ({"begin": NOW + DAY}, "certificate_not_yet_valid"),
        ({"ekus": [SERVER_AUTH]}, "eku_missing"),
        ({"ekus": ()}, "eku_missing"),
        ({"authority": True}, "signer_is_ca"),
        ({"key_usage": usage("key_encipherment")}, "key_usage"),
        ({"subject": name(["Own Signing", "Other"], "Own Ltd")}, "signer_missing"),
        ({"subject": name("Own Signing", None)}, "signer_missing"),
        ({"subject_key": key("own other")}, "key_not_allowed"),
        ({"issuer": None, "issuer_key": key("own leaf")}, "chain_untrusted"),
    ],
)
def test_what_controllers_would_refuse_is_not_written(desk: Desk, changes: dict[str, Any], reason: str) -> None:
    options: dict[str, Any] = {"begin": NOW - DAY, "end": NOW + 99 * DAY, "ekus": [CODE_SIGNING], "issuer": ROOT, "issuer_key": key("own root")}
    options |= {"subject": name("Own Signing", "Own Ltd"), "subject_key": key("own leaf")}
    (desk.place / "signer.pem").write_bytes(pem(issue(**{**options, **changes})))
    code, said, complaint = desk.sign()
    assert (code, said) == (1, "") and complaint.startswith(f"{reason}: "), complaint
    assert not desk.output.exists()


def broken(*path: Any, value: Any) -> dict[str, Any]:
    """Return the good description with one value in it changed, or a key added."""
    changed = copy.deepcopy(GOOD)
    place: Any = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return changed


@pytest.mark.parametrize(
    ("description", "word"),
    [
        (None, "mapping"),
        ([], "mapping"),
        ({"version": "1"}, "mitigations is missing"),
        (broken("version", value=1.1), "quotes"),
        (broken("extra", value=1), "extra is not known"),
        (broken("mitigations", value={}), "list"),
        (broken("mitigations", 0, "Id", value="x"), "Id is not known"),
        (broken("mitigations", 0, "applies", value=["Exchange2019"]), "products"),
        (broken("mitigations", 0, "applies", "Exchange2019", value="15.2.1748.53"), "list"),
        (broken("mitigations", 0, "side_effects", value="x"), "list"),
        (broken("mitigations", 0, "actions", value={}), "list"),
        (broken("mitigations", 0, "actions", 0, value={"powershell": {}}), "one of inbound"),
        (broken("mitigations", 0, "actions", 0, value={"inbound": {}, "outbound": {}}), "one of inbound"),
        (broken("mitigations", 0, "actions", 0, "inbound", "url", value="x"), "url is not known"),
        (broken("mitigations", 0, "actions", 0, "inbound", "when", value={}), "list"),
        (broken("mitigations", 0, "actions", 0, "inbound", "when", 0, "pattern", value=None), "pattern is missing"),
        (broken("mitigations", 0, "actions", 0, "inbound", "path", value=1.5), "not text"),
    ],
)
def test_a_malformed_description_gets_a_sentence(desk: Desk, description: Any, word: str) -> None:
    desk.describe(description)
    code, said, complaint = desk.run("make", "d.yml")
    assert (code, said) == (1, "")
    assert complaint.startswith("description_malformed: ") and word in complaint and complaint.count("\n") == 1


def test_files_that_cannot_be_used(desk: Desk) -> None:
    assert desk.run("make", "missing.yml")[2].startswith("invalid_input: The description")
    (desk.place / "d.yml").write_text("a: [", "utf-8")
    assert desk.run("make", "d.yml")[2].startswith("description_malformed: ")
    desk.describe(GOOD)
    (desk.place / "signer.pem").write_text("x", "utf-8")
    assert desk.sign()[2].startswith("root_unreadable: ")
    (desk.place / "signer.pem").write_bytes(certificate())
    (desk.place / "signer.key").write_bytes(
        key("curve", 256).private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    assert desk.sign()[2].startswith("key_not_allowed: ")
    desk.write_key("somebody else")
    assert desk.sign()[2].startswith("key_not_allowed: ")
    desk.write_key()
    code, dummy, complaint = desk.run(
        "sign", "d.yml", str(desk.place / "no" / "where.xml"), "--key", "signer.key", "--certificates", "signer.pem", "--root", "root.pem"
    )
    assert code == 1 and complaint.startswith("output_unwritable: ")


def test_check_refuses_what_feed_would_refuse(desk: Desk) -> None:
    desk.sign()
    assert desk.run("check", "local.xml", "--root", "root.pem", "--common-name", "Another")[2].startswith("signer_changed: ")
    desk.output.write_bytes(desk.output.read_bytes().replace(b"zero&quot;day", b"zero&quot;dax"))
    assert desk.run("check", "local.xml", "--root", "root.pem")[2].startswith("digest_mismatch: ")
    desk.output.write_bytes(b"<EOCS/>")
    assert desk.run("check", "local.xml", "--root", "root.pem")[2].startswith("unsigned: ")
    assert desk.run("check", "absent.xml", "--root", "root.pem")[2].startswith("file: ")


def test_what_the_profile_lacks_is_refused_with_the_code_of_the_parser(desk: Desk) -> None:
    desk.describe(broken("mitigations", 0, "actions", 2, "service", "service", value="WinRM"))
    assert desk.sign()[2].startswith("local_service: LOCAL-2026.1: WinRM is none of") and not desk.output.exists()
    desk.describe(broken("mitigations", 0, "id", value="M3"))
    assert desk.sign()[2].startswith("wrong_domain: ")


def test_runs_as_a_command() -> None:
    """The way the guide calls it, in a process of its own; nothing but the collection's folder is needed."""
    module = "ansible_collections.exchange.mitigation.plugins.plugin_utils.local_document"
    base = next(str(parent.parent) for parent in pathlib.Path(local_document.__file__).parents if parent.name == "ansible_collections")
    environment = {**os.environ, "PYTHONPATH": base}
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert done.returncode == 0 and all(word in done.stdout for word in ("make", "sign", "check"))


def test_what_is_written_is_what_the_corpus_has_in_canonical_form() -> None:
    """Both writers, which share nothing, mean the same by the same description."""
    description = {
        "version": "1.0",
        "mitigations": [{"id": "LOCAL-2026.1", "description": "Zero day", "actions": [
            {"inbound": {"description": "Drop it", "when": [{"input": "{UrlDecode:{REQUEST_URI}}", "pattern": "(?=.*autodiscover)(?=.*zeroday)"}]}},
            {"service": {"service": "MSExchangeUM", "description": "Stop it"}},
        ]}],
    }  # fmt: skip
    written = _local.parse(_xml_guard.parse(_local_writer.render(description)), "local")
    assert written == _local.parse(_xml_guard.parse(cases_local.content(cases_local.config(cases_local.INBOUND + cases_local.SERVICE)).encode()), "local")
