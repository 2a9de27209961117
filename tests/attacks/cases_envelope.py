# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The envelope: signed, but not what a feed is. Refused by the parser after the verifier."""

from __future__ import annotations

from collections.abc import Iterator

from .authorities import Pki
from .case import Case
from .documents import CONTENT, PING, sign


def cases(pki: Pki) -> Iterator[Case]:
    """Yield the documents of this concern."""
    second = PING.replace("PING1", "ping1")
    for name, content, reason in (
        ("duplicate-id", CONTENT.replace("</EOCS>", PING + "</EOCS>"), "config_id_duplicate"),
        ("duplicate-id-other-case", CONTENT.replace("</EOCS>", second + "</EOCS>"), "config_id_duplicate"),
        ("id-missing", CONTENT.replace(' id="PING1"', ""), "config_id_malformed"),
        ("id-empty", CONTENT.replace('id="PING1"', 'id=""'), "config_id_malformed"),
        ("id-with-blank", CONTENT.replace('id="PING1"', 'id="M1 "'), "config_id_malformed"),
        ("id-path", CONTENT.replace('id="PING1"', 'id="../../x"'), "config_id_malformed"),
        ("id-template", CONTENT.replace('id="PING1"', 'id="{{ x }}"'), "config_id_malformed"),
        ("id-full-width", CONTENT.replace('id="PING1"', 'id="\uff2d1"'), "config_id_malformed"),
        ("id-too-long", CONTENT.replace('id="PING1"', f'id="M{"1" * 100}"'), "config_id_malformed"),
        ("id-of-local-domain", CONTENT.replace('id="PING1"', 'id="LOCAL-1"'), "wrong_domain"),
        ("version-missing", CONTENT.replace(' version="1.0.4"', ""), "version_malformed"),
        ("version-text", CONTENT.replace("1.0.4", "latest"), "version_malformed"),
        ("version-negative", CONTENT.replace("1.0.4", "1.-1"), "version_malformed"),
        ("version-absurd", CONTENT.replace("1.0.4", "999999.0.0"), "version_malformed"),
        ("version-of-five", CONTENT.replace("1.0.4", "1.0.0.0.1"), "version_malformed"),
        ("version-other-digits", CONTENT.replace("1.0.4", "1.0.\u0664"), "version_malformed"),
        ("foreign-child", CONTENT.replace("</EOCS>", "<Other></Other></EOCS>"), "envelope_malformed"),
        ("text-between-configs", CONTENT.replace("</EOCS>", "x</EOCS>"), "envelope_malformed"),
    ):
        yield Case(f"envelope-{name}", sign(pki, content).bytes(), reason)
