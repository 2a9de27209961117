# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The message that creates a pipeline has the same bytes as pypsrp's, whatever the cmdlets and their values."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Call, Statement, call
from ansible_collections.exchange.mitigation.plugins.module_utils._observe import _first
from ansible_collections.exchange.mitigation.plugins.plugin_utils import _psrp
from ansible_collections.exchange.mitigation.plugins.plugin_utils._pipeline_xml import Unwritable, create_pipeline, ready

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")
powershell = pytest.importorskip("pypsrp.powershell")
wsman = pytest.importorskip("pypsrp.wsman")

SIMPLE = st.one_of(st.text(), st.booleans(), st.none(), st.integers(-(2**63), 2**63 - 1), st.binary(max_size=8))
VALUES = st.one_of(SIMPLE, st.lists(st.one_of(SIMPLE, st.lists(SIMPLE, max_size=2)), max_size=3), st.dictionaries(st.text(), SIMPLE, max_size=2))
CALLS = st.builds(Call, st.text(min_size=1, max_size=12), st.dictionaries(st.text(min_size=1, max_size=8), VALUES, max_size=3))
STATEMENTS = st.lists(st.lists(CALLS, min_size=1, max_size=2).map(tuple), min_size=1, max_size=3)


def pool() -> Any:
    made = powershell.RunspacePool(wsman.WSMan("localhost", auth="basic", username="user", password="word", ssl=True))
    made.protocol_version = "2.3"
    return made


def both(statements: list[Statement]) -> tuple[bytes, bytes]:
    """Return what the collection writes and what pypsrp does."""
    runspaces = pool()
    recorder = _psrp.record(runspaces)
    pipeline = _psrp.Pipeline(runspaces, recorder, statements)
    pipeline.spell()
    sent: list[Any] = []
    pipeline.shell._invoke = sent.append
    pipeline.shell.begin_invoke()
    theirs = ET.tostring(_psrp.serializer.Serializer().serialize(sent[0]), encoding="utf-8", method="xml")
    return create_pipeline(statements, _psrp.wire, recorder._serialize_string), theirs


@hypothesis.settings(max_examples=60, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(STATEMENTS)
def test_the_same_bytes_as_pypsrp(statements: list[Statement]) -> None:
    ours, theirs = both(statements)
    assert ours == theirs


def test_the_same_bytes_for_what_a_server_is_asked_first() -> None:
    ours, theirs = both(list(_first(r"C:\Windows").values()))
    assert ours == theirs and len(ours) > 10_000


def test_the_session_sends_it_and_pypsrp_writes_what_it_cannot() -> None:
    runspaces = pool()
    recorder = _psrp.record(runspaces)
    for value, prepared in ("text", True), (1.5, False):
        pipeline = _psrp.Pipeline(runspaces, recorder, [(call("Get-Item", LiteralPath=value),)])
        assert (pipeline._message() is not None) is prepared
        # pypsrp begins no pipeline without a command; the parameters are its business only where it writes the message.
        assert [(item.cmd, len(item.args)) for item in pipeline.shell.commands] == [("Get-Item", 0 if prepared else 1)]
    with pytest.raises(Unwritable):
        create_pipeline([(call("Get-Item", LiteralPath=1.5),)], _psrp.wire, recorder._serialize_string)


def test_only_for_the_protocol_whose_message_it_is() -> None:
    runspaces = pool()
    assert ready(runspaces)
    runspaces.protocol_version = "2.2"
    assert not ready(runspaces)
    runspaces.protocol_version, runspaces.apartment_state = "2.3", 0
    assert not ready(runspaces)
    runspaces.apartment_state, runspaces.host = 2, object()
    assert not ready(runspaces)
