# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""README and the READMEs of the roles: what they print is run as it is printed, and what they name is there."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import snippets
import yaml
from lab_task import hashes, restored, started
from reader import Reader, connections
from snippets import ROOT

ROLES = sorted(path.parent.name for path in ROOT.glob("roles/*/README.md"))
TEXT = (ROOT / "README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    yield from started(4, mitigations_enabled=True)


@pytest.fixture
def fleet(running: Any) -> Iterator[Any]:
    yield from restored(running)


def test_readme_as_printed(fleet: Any, tmp_path: pathlib.Path) -> None:
    """The inventory and the commands as they are; host variables beside them lead to the lab. Servers with URL Rewrite, as after prepare."""
    connections(fleet, tmp_path, ["ex1.example.com", "ex2.example.com", "ex3.example.com"], ["EX1", "EX2", "EX4"])
    reader = Reader(tmp_path, fleet, "README.md", inventory=False)
    before = {machine.name: hashes(machine) for machine in fleet.machines}
    for block in reader.blocks:
        if block.language == "yaml":
            reader.write(block)
        elif snippets.executed_by(block) != ".ci/run":
            done = reader.run(block)
            assert done.returncode == 0, done.stdout
    report = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    assert len(report["servers"]) == 3 and (tmp_path / "report" / "report.html").exists()
    wanted = json.dumps(report["drift"])
    assert "ex2.example.com" in wanted and "M1" in wanted, "what the inventory asks for differs from the lab"
    assert {machine.name: hashes(machine) for machine in fleet.machines} == before and fleet.access_log.writes() == []


@pytest.mark.parametrize("role", ROLES)
def test_readme_of_a_role_as_printed(fleet: Any, tmp_path: pathlib.Path, role: str) -> None:
    reader = Reader(tmp_path, fleet, f"roles/{role}/README.md")
    (tmp_path / "files").mkdir()
    shutil.copyfile(fleet.package_path, tmp_path / "files" / "rewrite_amd64_en-US.msi")
    for number, block in enumerate(reader.blocks):
        book = tmp_path / f"book{number}.yml"
        book.write_text(block.text, "utf-8")
        command = f"ansible-playbook -i inventory.yml {book.name} --limit EX1,EX2"
        done = reader.run(snippets.Snippet("", 0, "sh", "", command, None))
        assert done.returncode == 0, done.stdout


def test_tables_of_the_roles_name_every_variable() -> None:
    """Every option of a role stands in its README, in full or after the dots that stand for what the row begins with."""
    texts = {role: (ROOT / "roles" / role / "README.md").read_text("utf-8") for role in ROLES}
    missing = {}
    for role, text in texts.items():
        defaults = yaml.safe_load((ROOT / "roles" / role / "defaults" / "main.yml").read_text("utf-8"))
        # A role that shares variables of another says so with a link.
        text += "".join(texts[other] for other in re.findall(r"\]\(\.\./(\w+)/README\.md\)", text))
        short = tuple(re.findall(r"`\.\.\.(_\w+)`", text))
        named = set(re.findall(r"exchange_mitigation_\w+", text))
        missing |= {(role, name): "" for name in defaults or () if name not in named and not (short and name.endswith(short))}
    assert list(missing) == []


def test_every_code_block_is_executed_or_says_why_not() -> None:
    """A block that no test executes, and that has no reason, fails; so does a reason that says nothing."""
    count = {"executed": 0, "marked": 0}
    nobody = []
    for name in snippets.documents():
        for one in snippets.of(name):
            if one.reason is not None:
                assert len(one.reason) > 10, (name, one.line)
                count["marked"] += 1
            elif snippets.executed_by(one) is None:
                nobody.append(f"{name}, line {one.line}: {one.language} {one.caption}")
            else:
                count["executed"] += 1
    assert nobody == [], "\n".join(nobody)
    assert count["executed"] >= 45, count


def test_what_is_said_to_execute_a_document_does() -> None:
    """The test file of each document is there, names it, and ends with nothing left of it."""
    for document, file in {**snippets.EXECUTED, **snippets.more()}.items():
        if not (ROOT / document).exists() or not snippets.of(document):
            continue
        text = (ROOT / file).read_text("utf-8")
        name = pathlib.PurePath(document).stem if document.endswith(".rst") else document
        assert f'"{name}"' in text, (document, file)
        assert "blocks == []" in text or "in reader.blocks:" in text, (document, file)


def test_no_block_is_overlooked() -> None:
    """What the search for blocks finds is all that begins like one; a guide has no literal block without a language."""
    for name in snippets.documents():
        text = (ROOT / name).read_text("utf-8")
        begins = len(re.findall(r"^ *\.\. (?:code-block|code|sourcecode|parsed-literal)::", text, re.MULTILINE)) if name.endswith(".rst") else (
            len(re.findall(r"^ *(?:```|~~~)", text, re.MULTILINE)) // 2
        )
        assert len(snippets.of(name)) == begins, name
        if name.endswith(".rst"):
            assert snippets.BARE.search(text) is None, (name, snippets.BARE.search(text))


def test_readme_names_what_there_is() -> None:
    modules = {path.stem for path in (ROOT / "plugins" / "modules").glob("*.py")}
    listed = re.search(r"^Modules: (.*?)\n\(", TEXT, re.MULTILINE | re.DOTALL)
    assert listed is not None and set(re.findall(r"`(\w+)`", listed[1])) == modules
    playbooks = {path.stem for path in (ROOT / "playbooks").glob("*.yml")}
    assert set(re.findall(r"^\| `exchange\.mitigation\.(\w+)` \|", TEXT, re.MULTILINE)) == playbooks
    guides = {path.name for path in (ROOT / "docs" / "docsite" / "rst").glob("*.rst")}
    assert set(re.findall(r"docs/docsite/rst/(\w+\.rst)", TEXT)) == guides, "README lists every guide"


def test_links_lead_somewhere() -> None:
    """Every link into the repository, in every document: the file is there."""
    for name in [*snippets.documents(), "SECURITY.md", "CODE_OF_CONDUCT.md"]:
        text = (ROOT / name).read_text("utf-8")
        for path in re.findall(r"exchange\.mitigation/blob/main/([\w./-]+)", text):
            assert (ROOT / path).exists() or path == "CHANGELOG.md", (name, path)
        for path in re.findall(r"\]\((?!https?:|#)([^)#]+)", text) if name.endswith(".md") else ():
            assert ((ROOT / name).parent / path).exists(), (name, path)


def test_headings_that_a_catalogue_of_collections_asks_for() -> None:
    headings = set(re.findall(r"^## (.+)$", TEXT, re.MULTILINE))
    assert {"Requirements", "Installation", "Release notes", "License", "What it is not"} <= headings
    assert any("Support" in heading for heading in headings)


def test_community_files_are_there_and_templates_are_yaml() -> None:
    for name in ("CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "LICENSE", ".github/pull_request_template.md"):
        assert (ROOT / name).stat().st_size > 200, name
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        value = yaml.safe_load(path.read_text("utf-8"))
        if path.name != "config.yml":
            assert value["name"] and value["description"] and {"type"} <= set(value["body"][0]), path
            inputs = [field for field in value["body"] if field["type"] != "markdown"]
            assert all({"id", "attributes"} <= set(field) and field["attributes"]["label"] for field in inputs), path


def test_groups_of_module_defaults_hold_what_they_say() -> None:
    groups = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text("utf-8"))["action_groups"]
    modules = {path.stem: path.read_text("utf-8") for path in (ROOT / "plugins" / "modules").glob("*.py")}
    assert set(groups["all"]) == set(modules)
    assert set(groups["exchange"]) == {name for name, text in modules.items() if "EXCHANGE_OPTIONS" in text}
