# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server said, made fit for a result: nothing that a terminal obeys, nothing that JSON cannot say, no bottom that is never reached."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _untrusted
from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import PSObject


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("plain text,\n\tin lines\r\n", "plain text,\n\tin lines\r\n"),
        ("\x1b[2Jgone", "\\u001b[2Jgone"),
        ("over\rwritten", "over\\u000dwritten"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
        ({"\x1b": ["\x07", ("\x00",), None, True, 7, 1.5]}, {"\\u001b": ["\\u0007", ["\\u0000"], None, True, 7, 1.5]}),
        ([float("inf"), float("-inf"), float("nan")], ["inf", "-inf", "nan"]),
        ({1: "a", None: "b"}, {1: "a", None: "b"}),
        (PSObject(to_string="\x1b[0m"), "\\u001b[0m"),
        (b"\x1b", "b'\\x1b'"),
    ],
)
def test_nothing_is_obeyed(said: Any, shown: Any) -> None:
    assert _untrusted.harmless(said) == shown
    json.dumps(_untrusted.harmless(said), allow_nan=False)


def test_one_deeper_than_any_result_is_cut_and_not_followed() -> None:
    """An answer nested without end costs neither the task nor the memory; the levels above the cut are whole."""
    said: Any = "\x07"
    for dummy in range(5000):
        said = [said]
    found = _untrusted.harmless(said)
    depth = 0
    while isinstance(found, list):
        (found,) = found
        depth += 1
    assert (depth, found) == (_untrusted.MAX_DEPTH, "...")


def test_text_at_the_deepest_level_is_still_text() -> None:
    said: Any = "\x07"
    for dummy in range(_untrusted.MAX_DEPTH):
        said = {"a": said}
    found = _untrusted.harmless(said)
    for dummy in range(_untrusted.MAX_DEPTH):
        found = found["a"]
    assert found == "\\u0007"


@pytest.mark.parametrize(
    ("value", "word", "number", "truth"),
    [
        ("7", "7", None, None), (7, "7", 7, None), (True, "True", None, True), (None, None, None, None), ([7], None, None, None),
        ({}, None, None, None), (PSObject(to_string="shown"), "shown", None, None), (PSObject(), None, None, None),
    ],
)  # fmt: skip
def test_a_member_is_what_was_expected_or_nothing(value: Any, word: str | None, number: int | None, truth: bool | None) -> None:
    assert (_untrusted.word(value), _untrusted.number(value), _untrusted.truth(value)) == (word, number, truth)
