# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guides on trust, air gap and day zero: every command and playbook in them is run as it is printed, against the lab."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.exchange.mitigation.plugins.module_utils import _reasons
from ansible_collections.exchange.mitigation.plugins.modules import feed, mitigation
from guides import GUIDES, Block, blocks, filled, guide
from lab_task import hashes, restored, started
from reader import Reader

NAMES = sorted(path.stem for path in GUIDES.glob("*.rst"))
OURS = ("guide_trust", "guide_air_gap", "guide_day_zero")
MODULES = {"exchange.mitigation.feed": feed, "exchange.mitigation.mitigation": mitigation}
DAY_ZERO_ATTACK = "/ecp/Export.ashx?x=1"


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    yield from started(2)


@pytest.fixture
def fleet(running: Any) -> Iterator[Any]:
    yield from restored(running)


def status(machine: Any, url: str) -> Any:
    return getattr(machine.iis.request("GET", url, {"Host": machine.fqdn}), "status", "aborted")


def files(fleet: Any) -> dict[str, dict[str, str]]:
    return {machine.name: hashes(machine) for machine in fleet.machines}


def recap(text: str) -> set[tuple[int, int]]:
    """Return pairs of changed and failed of the last play recap."""
    return {(int(changed), int(failed)) for changed, failed in re.findall(r"changed=(\d+)\s+unreachable=0\s+failed=(\d+)", text.rpartition("PLAY RECAP")[2])}


def test_air_gap_as_printed(fleet: Any, tmp_path: pathlib.Path) -> None:
    trust = {"roots": [str(fleet.pki.feed_root_path)], "timestamp_roots": [str(fleet.pki.timestamp_root_path)]}
    connected = {"source": fleet.feed.url, "proxy": "", "ca_path": str(fleet.pki.tls_ca_path)}
    connected = {f"exchange_mitigation_feed_{name}": value for name, value in connected.items()}
    separated = yaml.safe_load(next(block.text for block in blocks("guide_air_gap") if block.caption == "separated.yml"))
    reader = Reader(
        tmp_path,
        fleet,
        "guide_air_gap",
        {"connected.yml": {**connected, "exchange_mitigation_trust": trust}, "separated.yml": {**separated, "exchange_mitigation_trust": trust}},
    )
    said = reader.until("connected side")
    sha256 = re.findall(r"SHA-256 ([0-9a-f]{64})", said)[-1]
    assert (tmp_path / "transfer" / "mitigations.xml").read_bytes() == fleet.feed.published.data
    fetched = fleet.feed.fetches
    assert "mitigations.xml: OK" in reader.until("medium arrives")

    before = files(fleet)
    first = reader.blocks[1]  # after separated.yml
    assert first.caption == "first time"
    reader.until("first time", expected=2, SHA256="0" * 64)
    assert files(fleet) == before
    reader.blocks.insert(0, first)
    reader.until("first time", SHA256=sha256)
    assert files(fleet) != before
    applied = files(fleet)
    assert {changed for changed, failed in recap(reader.until("from then on"))} == {0}
    reader.until("look")
    assert files(fleet) == applied and (tmp_path / "report" / "report.html").exists()
    assert fleet.feed.fetches == fetched, "the separated side does not fetch"
    assert reader.blocks == []


def test_air_gap_refuses_what_was_changed_on_the_way(fleet: Any, tmp_path: pathlib.Path) -> None:
    """Also when the hash beside it was changed with it."""
    trust = {"roots": [str(fleet.pki.feed_root_path)], "timestamp_roots": [str(fleet.pki.timestamp_root_path)]}
    separated = yaml.safe_load(next(block.text for block in blocks("guide_air_gap") if block.caption == "separated.yml"))
    reader = Reader(tmp_path, fleet, "guide_air_gap", {"separated.yml": {**separated, "exchange_mitigation_trust": trust}})
    (tmp_path / "transfer").mkdir()
    (tmp_path / "transfer" / "mitigations.xml").write_bytes(fleet.feed.published.data.replace(b'id="M1"', b'id="M2.9"'))
    reader.blocks = [block for block in reader.blocks if block.caption in ("separated.yml", "from then on")]
    before = files(fleet)
    assert "digest_mismatch" in reader.until("from then on", expected=2)
    assert files(fleet) == before


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed: the guide on day zero makes its keys with it")
def test_day_zero_as_printed(fleet: Any, tmp_path: pathlib.Path) -> None:
    reader = Reader(tmp_path, fleet, "guide_day_zero", {})
    before = files(fleet)
    machines = fleet.machines
    assert {status(machine, DAY_ZERO_ATTACK) for machine in machines} == {200}
    said = reader.until("sign")
    assert "drop the request where {UrlDecode:{REQUEST_URI}} fits" in said
    printed = yaml.safe_load(said[said.index("trust:") :])["trust"]
    assert printed == yaml.safe_load(next(block.text for block in reader.blocks if block.caption == "day_zero.yml"))["exchange_mitigation_trust"]
    assert "BEGIN" not in said and (tmp_path / "signer.key").stat().st_mode & 0o077 == 0
    assert b"ENCRYPTED" in (tmp_path / "signer.key").read_bytes()
    assert "LOCAL-CVE-2026-99999" in reader.until("check")

    assert "LOCAL-CVE-2026-99999 - inbound" in reader.until("see")
    assert files(fleet) == before and fleet.access_log.writes() == []
    reader.until("apply")
    assert {status(machine, DAY_ZERO_ATTACK) for machine in machines} == {status(machine, "/%65cp/eXport%2Eashx") for machine in machines} == {"aborted"}
    assert {status(machine, path) for machine in machines for path in ("/", "/owa/", "/owa/Calendar", "/ecp/", "/EWS/Exchange.asmx")} == {200}
    assert {status(machine, "/ecp/Export.aspx") for machine in machines} == {200}
    reader.until("second form")
    assert {status(machine, url) for machine in machines for url in (DAY_ZERO_ATTACK, "/ecp/Export.aspx")} == {"aborted"}
    reader.until("remove")
    assert files(fleet) == before
    assert {status(machine, DAY_ZERO_ATTACK) for machine in machines} == {200}
    assert reader.blocks == []


def test_day_zero_rollback_as_the_text_says(fleet: Any, tmp_path: pathlib.Path) -> None:
    text = re.search(r"``(ansible-playbook [^`]*exchange\.mitigation\.rollback[^`]*)``", guide("guide_day_zero"))
    assert text is not None and shutil.which("openssl") is not None
    reader = Reader(tmp_path, fleet, "guide_day_zero", {})
    before = files(fleet)
    reader.until("apply")
    assert files(fleet) != before
    done = reader.run(Block("shell", "", text[1]), {})
    assert done.returncode == 0, done.stdout
    assert files(fleet) == before


@pytest.mark.parametrize("name", NAMES)
def test_tables_are_those_of_the_code(name: str) -> None:
    """The tables between the markers are what tests/system/guides.py writes."""
    assert filled(guide(name)) == guide(name), f"run: python tests/system/guides.py ({name})"


def test_every_reason_has_a_row_and_every_named_code_exists() -> None:
    text = guide("guide_trust")
    assert set(_reasons.REASONS) == set(re.findall(r"^   \* - ``([a-z0-9_]+)``$", text.partition(".. reasons: begin")[2], re.MULTILINE))
    known = set(_reasons.REASONS) | {"conflicting", "custom_roots", "group_vars", "signer_chain", "time_basis"}
    codes = {word for name in OURS for word in re.findall(r"``([a-z]+(?:_[a-z0-9]+)+)``", guide(name))}
    options = set(feed.SPEC["argument_spec"]) | set(feed.SPEC["argument_spec"]["trust"]["options"]) | set(mitigation.SPEC["argument_spec"])
    known |= options | {"ansible_collections", "take_over"}
    assert {code for code in codes - known if not code.startswith("exchange_mitigation_")} == set()


@pytest.mark.parametrize("name", OURS)
def test_yaml_blocks_are_valid(name: str) -> None:
    """Every task has arguments that its module takes, every trust variable is a trust option."""
    found = 0
    for block in blocks(name):
        if block.language != "yaml":
            continue
        value = yaml.safe_load(block.text)
        if isinstance(value, dict):
            trust = value.get("exchange_mitigation_trust")
            assert not trust or set(trust) <= set(feed.SPEC["argument_spec"]["trust"]["options"]), block.caption
            continue
        tasks = [task for entry in value for task in entry.get("tasks", [entry])]
        for task in tasks:
            for module in set(task) & set(MODULES):
                arguments = {option: argument for option, argument in task[module].items() if "{{" not in json.dumps(argument)}
                unknown = set(task[module]) - set(MODULES[module].SPEC["argument_spec"])
                validated = ArgumentSpecValidator(**MODULES[module].SPEC).validate(arguments)
                assert not unknown and not validated.error_messages, (block.caption, unknown, validated.error_messages)
                found += 1
    assert found


@pytest.mark.parametrize("name", OURS)
def test_guides_are_in_the_table_of_contents_and_well_formed(name: str) -> None:
    listed = yaml.safe_load((GUIDES.parent / "extra-docs.yml").read_text("utf-8"))["sections"]
    assert name in [entry for section in listed for entry in section["toctree"]]
    text = guide(name)
    assert f".. _ansible_collections.exchange.mitigation.docsite.{name}:\n" in text
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if (line and set(line) <= {"="}) or (line and set(line) <= {"-"} and len(line) > 3) or (line and set(line) <= {"~"}):
            assert len(line) == len(lines[number - 1]), f"{name}: underline of {lines[number - 1]!r}"
