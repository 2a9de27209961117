# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The envelope: what is read, what is carried along unread, what is refused."""

from __future__ import annotations

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _parse
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import VerifyError
from lxml import etree


def parse(text: str, domain: str = "microsoft") -> _parse.Document:
    """Parse text as if it were proven."""
    return _parse.parse(etree.fromstring(text), domain)


def test_document() -> None:
    """Version, Configs in order, their actions."""
    document = parse(
        '<EOCS version="1.0.4"><Config id="PING1" desc="Heartbeat"><ActionList>'
        '<Action type="DoNothing" scope="Server" desc="d"><Value>DoNothing</Value></Action></ActionList></Config>'
        '<Config id="M2.1.0"><Deep><ActionList><Action type="hidden"/></ActionList></Deep></Config></EOCS>'
    )
    assert document == _parse.Document(
        "1.0.4", (_parse.Config("PING1", "Heartbeat", (_parse.Action("DoNothing", "Server", "d"),)), _parse.Config("M2.1.0", "", ()))
    )
    assert document.ids == ("PING1", "M2.1.0")
    assert [config.does_nothing for config in document.configs] == [True, False]
    assert document.find("M2.1.0") is document.configs[1]
    assert document.find("m2.1.0") is None


@pytest.mark.parametrize(
    "content",
    [
        "<ActionList><Action type='Rewrite'><Applicability min='15.1'/><Rule>&lt;rule/></Rule></Action></ActionList>",
        "<Actions><Service name='x' state='stopped'/></Actions>",
        "text only",
        "",
        "<a><Config id='M1'/></a>",
    ],
)
def test_contents_are_opaque(content: str) -> None:
    """Whatever stands inside a Config, the envelope is the same."""
    assert parse(f"<EOCS version='1'><Config id='M1' min='15.1.1' x='y'>{content}</Config></EOCS>").ids == ("M1",)


def test_one_other_action_is_not_nothing() -> None:
    """Only a Config whose every action is DoNothing does nothing."""
    document = parse("<EOCS version='1'><Config id='A'><ActionList><Action type='DoNothing'/><Action type='IIS'/></ActionList></Config></EOCS>")
    assert not document.configs[0].does_nothing


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<EOCS/>", "version_malformed"),
        ("<EOCS version='01.0'/>", "version_malformed"),
        ("<EOCS version='1.0.0.0.0'/>", "version_malformed"),
        ("<EOCS version='1.123456'/>", "version_malformed"),
        ("<EOCS version='1.0 '/>", "version_malformed"),
        ("<Other version='1'/>", "envelope_malformed"),
        ("<EOCS version='1'><config id='A'/></EOCS>", "envelope_malformed"),
        ("<EOCS version='1'>x</EOCS>", "envelope_malformed"),
        ("<EOCS version='1'><Config id='A'/>x</EOCS>", "envelope_malformed"),
        ("<EOCS version='1'><Config/></EOCS>", "config_id_malformed"),
        ("<EOCS version='1'><Config id=' A'/></EOCS>", "config_id_malformed"),
        ("<EOCS version='1'><Config id='A'/><Config id='A'/></EOCS>", "config_id_duplicate"),
        ("<EOCS version='1'><Config id='m1'/><Config id='M1'/></EOCS>", "config_id_duplicate"),
        ("<EOCS version='1'><Config id='Local-1'/></EOCS>", "wrong_domain"),
    ],
)
def test_refused(text: str, reason: str) -> None:
    """Each way of not being a feed has its code."""
    with pytest.raises(VerifyError) as caught:
        parse(text)
    assert caught.value.reason == reason


def test_versions_are_numbers() -> None:
    """1.0.9 is before 1.0.11, and trailing zeros do not count."""
    assert _parse.version_key("1.0.9") < _parse.version_key("1.0.11") < _parse.version_key("1.1")
    assert _parse.version_key("1.0") == _parse.version_key("1") == (1,)
    assert _parse.version_key("0") == ()
