# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A short text has a way of its own through the CLIXML decoder; it ends at the same value."""

from __future__ import annotations

from xml.sax.saxutils import escape

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import decode

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(st.one_of(st.text(max_size=220).filter(str.isprintable), st.from_regex(r"[ -~]{0,220}", fullmatch=True)))
def test_a_short_text_is_read_as_any_other(value: str) -> None:
    xml = f"<S>{escape(value)}</S>"
    # From bytes it always goes through the parser.
    assert decode(xml) == decode(xml.encode("utf-8", "surrogatepass"))
