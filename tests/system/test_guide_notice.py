# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guide on notices: its commands as they are printed, against the lab, a mail server and a web server."""

from __future__ import annotations

import pathlib
import re

import pytest
import yaml
from ansible_collections.exchange.mitigation.plugins.module_utils import _inventory, _notice
from guides import GUIDES, blocks, guide
from receivers import smtp, web
from test_guides import Reader

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAME = "guide_notice"


def test_the_commands_as_printed(tmp_path: pathlib.Path) -> None:
    from lab.fleet import Fleet

    printed = {block.caption: yaml.safe_load(block.text) for block in blocks(NAME) if block.language == "yaml"}
    with Fleet(2, mitigations_enabled=False) as fleet:
        files = fleet.pki.server("receiver", ["receiver.lab.example"], ["127.0.0.1"])
        authority = str(fleet.pki.tls_ca_path)
        with smtp(files, "starttls") as mail, web(files) as hook:
            lab = {
                "exchange_mitigation_mail_host": mail.host,
                "exchange_mitigation_mail_port": mail.port,
                "exchange_mitigation_mail_ca_path": authority,
                "exchange_mitigation_webhook_url": hook.url,
                "exchange_mitigation_webhook_ca_path": authority,
                "exchange_mitigation_webhook_proxy": "",
            }
            ask = {
                "exchange_host": "127.0.0.1",
                "exchange_port": fleet.port(fleet.machines[0], "web_https"),
                "exchange_scheme": "https",
                "exchange_auth": "basic",
                "exchange_ca_path": authority,
                "exchange_username": fleet.viewer,
                "exchange_password": fleet.users[fleet.viewer],
            }
            reader = Reader(tmp_path, fleet, NAME, {"notice.yml": {**printed["notice.yml"], **lab}, "exchange.yml": {**printed["exchange.yml"], **ask}})
            said = reader.until("look")
            assert (mail.messages, hook.requests) == ([], 0)
            reader.until("tell")
            assert (len(mail.messages), len(hook.posts)) == (1, 1)
            assert hook.posts[0]["attachments"][0]["content"]["type"] == "AdaptiveCard"
            reader.until("nothing new")
            assert (len(mail.messages), len(hook.posts)) == (1, 1)
            reader.until("report by mail")
            assert (len(mail.messages), len(hook.posts)) == (2, 1)
            assert [part.get_filename() for part in mail.messages[1].iter_attachments()] == ["report.html"]
        said = reader.until("inventory")
        assert "@exchange_servers" in said and "@exchange_canary" in said and "@exchange_role_mailbox" in said
        assert reader.blocks == []
        assert fleet.scripts_received == 0


def test_what_the_guide_names_exists() -> None:
    text = guide(NAME)
    for kind in _notice.KINDS:
        assert f"   * - ``{kind}``\n" in text
    for product in _inventory.PRODUCTS.values():
        assert product in text or product == "exchange_older"
    named = set(re.findall(r"exchange_mitigation_(?:mail|webhook|notice)\w*", text))
    variables = set(yaml.safe_load((ROOT / "roles" / "notify" / "defaults" / "main.yml").read_text("utf-8")))
    assert named <= variables
    rulebook = (ROOT / "extensions" / "eda" / "rulebooks" / "canary.yml").read_text("utf-8")
    for name in next(yaml.safe_load(block.text) for block in blocks(NAME) if block.caption == "vars.yml"):
        assert name in rulebook


@pytest.mark.parametrize("word", ["guide_notice"])
def test_the_guide_is_in_the_table_of_contents_and_well_formed(word: str) -> None:
    assert word in (GUIDES.parent / "extra-docs.yml").read_text("utf-8")
    lines = guide(NAME).splitlines()
    for number, line in enumerate(lines):
        if len(line) > 3 and len(set(line)) == 1 and line[0] in "=-~":
            assert len(line) == len(lines[number - 1]), lines[number - 1]
