# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hostile text from the directory, a server, the signer's certificate and an earlier report, through the playbook drift to the four files: nothing runs."""

from __future__ import annotations

import csv
import dataclasses
import html.parser
import io
import json
import pathlib
from typing import Any

import pytest
import yaml
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.test_report_metrics import lint

from playbooks import play

#: At most 64 characters, because a certificate's common name takes no more. HOME is the folder of the test, where cd leads.
TEMPLATE = "{{lookup('pipe','cd;touch ran')}}"
HOSTILE = f"=1<img src=x onerror=a>{TEMPLATE}"


class Elements(html.parser.HTMLParser):
    """The names of the elements of a page, and every attribute."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element."""
        self.tags.add(tag)
        self.attributes |= {name for name, dummy in attrs}


def test_nothing_of_it_runs(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lab import builds, cmdlets_system, pki
    from lab.fleet import Fleet

    plans = [dataclasses.replace(plan, site=HOSTILE) if plan.name == "EX1" else plan for plan in builds.default_plan(2)]
    monkeypatch.setattr(pki, "SIGNER_NAME", HOSTILE)
    rename(monkeypatch, cmdlets_system)
    with Fleet(plans, mitigations_enabled=False) as fleet:
        fleet.organization.change("EX2", {"MitigationsBlocked": [HOSTILE], "MitigationsApplied": [HOSTILE]})
        fleet.organization.directory.settle()
        fleet.write_inventory(tmp_path / "lab.yml")
        trust = yaml.safe_load((tmp_path / "lab.yml").read_text("utf-8"))
        wanted = json.dumps(find(trust, "exchange_mitigation_trust"))[:-1]
        # The administrator names this signer, and says that the name is no template.
        (tmp_path / "trust.yml").write_text(f"exchange_mitigation_trust: {wanted}, signer_common_name: !unsafe {json.dumps(HOSTILE)}}}\n", "utf-8")
        folder = tmp_path / "report"
        folder.mkdir()
        item = {"scope": "server", "host": "EX1", "server": HOSTILE, "setting": HOSTILE, "kind": HOSTILE, "text": HOSTILE}
        earlier = {"schema": 1, "generated_at": "2026-01-01T00:00:00Z", "servers": [{"host": HOSTILE}], "drift": {"items": [item]}}
        (folder / "report.json").write_text(json.dumps(earlier), "utf-8")
        done = play(
            fleet, tmp_path, "drift", "-e", f"@{tmp_path / 'trust.yml'}", "--diff",
            exchange_mitigation_report_dir=str(folder), exchange_mitigation_organization_enabled=True, exchange_mitigation_blocked=[],
            exchange_mitigation_when_em_active="take_over", exchange_mitigation_report_events="7d",
        )
        assert done.code == 0, done.text
        assert fleet.access_log.writes() == []
    assert not (tmp_path / "ran").exists(), "a template ran"
    made = json.loads((folder / "report.json").read_text("utf-8"))
    server, other = sorted(made["servers"], key=lambda one: str(one["host"]))
    # It arrived everywhere, as text.
    assert (server["name"], server["site"], other["em"]["blocked"], made["feed"]["signer"]) == (HOSTILE, HOSTILE, [HOSTILE], HOSTILE)
    assert [one["setting"] for one in made["changes"]["fixed"]] == [HOSTILE]
    assert next(one["diff"] for one in other["drift"] if one["setting"] == "MitigationsBlocked") == [f"- {HOSTILE}"]
    assert other["plan"], "no exact diff of the files"
    page = (folder / "report.html").read_text("utf-8")
    seen = Elements(page)
    assert not seen.tags & {"img", "script"}
    assert not {name for name in seen.attributes if name.startswith("on") or name in ("src", "style")}
    assert "&lt;img src=x onerror=a&gt;" in page
    rows = list(csv.reader(io.StringIO((folder / "report.csv").read_text("utf-8"), newline="")))
    assert any(TEMPLATE in field for row in rows for field in row)
    assert not [field for row in rows for field in row if field.lstrip().startswith(("=", "+", "-", "@"))]
    assert lint((folder / "metrics.prom").read_text("utf-8")) == []


def rename(monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    """Give EX1 a hostile name in what Windows says of itself."""
    rows, keys = module.CLASSES["Win32_OperatingSystem"]

    def renamed(machine: Any) -> list[dict[str, Any]]:
        return [{**row, "CSName": HOSTILE} if machine.name == "EX1" else row for row in rows(machine)]

    monkeypatch.setitem(module.CLASSES, "Win32_OperatingSystem", (renamed, keys))


def find(tree: Any, key: str) -> Any:
    """Return the value of a key, wherever it stands in a tree."""
    if isinstance(tree, dict):
        if key in tree:
            return tree[key]
        return next((found for found in (find(value, key) for value in tree.values()) if found is not None), None)
    return None
