# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pypsrp's messages kept as XML, values as they are sent, and error records of real servers."""

from __future__ import annotations

import base64
import pathlib
import re
import struct
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import decode
from ansible_collections.exchange.mitigation.plugins.module_utils._model import ErrorRecord
from ansible_collections.exchange.mitigation.plugins.plugin_utils._psrp import CATEGORIES, ERROR, OUTPUT, Recorder, error_record, wire

messages = pytest.importorskip("pypsrp.messages")
Recorded = Callable[[str], pathlib.Path]


class Tagged(str):
    """A text as ansible-core 2.19 has it."""


class Number(int):
    """A number as ansible-core 2.19 has it."""


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (b"\x00\xff", "<BA>AP8=</BA>"),
        (bytearray(b"A"), "<BA>QQ==</BA>"),
        (True, "<B>true</B>"),
        (False, "<B>false</B>"),
        (None, "<Nil />"),
        (7, "<I32>7</I32>"),
        (Number(7), "<I32>7</I32>"),
        (2**31, "<I64>2147483648</I64>"),
        ("M2; evil $(x)", "<S>M2; evil $(x)</S>"),
        (Tagged("text"), "<S>text</S>"),
        ("a_x0041_b", "<S>a_x005F_x0041_b</S>"),
    ],
)
def test_values_are_sent_in_the_type_they_have(value: Any, sent: str) -> None:
    assert ET.tostring(Recorder().serialize(wire(value)), encoding="unicode") == sent
    assert decode(sent) == (bytes(value) if isinstance(value, bytearray) else value)


@pytest.mark.parametrize("value", [[], ["M1", "PING1"], ("M1",), [Tagged("M1")]])
def test_lists_are_sent_as_lists(value: Any) -> None:
    element = Recorder().serialize(wire(value))
    assert [child.tag for child in element] == ["TN", "LST"]
    assert decode(ET.tostring(element)) == [str(item) for item in value]


def unpack(recorder: Recorder, kind: int, xml: str) -> Any:
    data = struct.pack("<II", 1, kind) + bytes(32) + b"\xef\xbb\xbf" + xml.encode()
    return messages.Message.unpack(data, recorder)


def test_outputs_and_errors_are_kept_in_their_order_of_arrival() -> None:
    recorder = Recorder()
    odd = '<Obj RefId="0"><TN RefId="0"><T>Microsoft.Exchange.Data.MultiValuedProperty`1</T></TN><LST><S>M1</S></LST></Obj>'
    unpack(recorder, messages.MessageType.PIPELINE_OUTPUT, odd)
    unpack(recorder, messages.MessageType.ERROR_RECORD, "<Obj RefId='0'><MS><S N='FullyQualifiedErrorId'>A</S></MS></Obj>")
    unpack(recorder, messages.MessageType.PIPELINE_OUTPUT, "<S>b</S>")
    state = unpack(recorder, messages.MessageType.PIPELINE_STATE, "<Obj RefId='0'><MS><I32 N='PipelineState'>4</I32></MS></Obj>")
    assert state.data.state == 4
    assert [kind for kind, dummy in recorder.events] == [OUTPUT, ERROR, OUTPUT]
    assert decode(recorder.events[0][1]) == ["M1"]


def test_a_failed_state_is_an_error_of_any_shape() -> None:
    recorder = Recorder()
    xml = "<Obj RefId='0'><MS><I32 N='PipelineState'>5</I32><S N='ExceptionAsErrorRecord'>text only</S></MS></Obj>"
    assert unpack(recorder, messages.MessageType.PIPELINE_STATE, xml).data.state == 5
    assert error_record(decode(recorder.events[0][1])).message == "text only"


def test_a_prompt_is_noticed_and_plain_writing_is_not() -> None:
    recorder = Recorder()
    for method, expected in ((15, []), (23, [23]), (26, [23, 26])):
        xml = (
            "<Obj RefId='0'><MS><I64 N='ci'>1</I64><Obj N='mi' RefId='1'><TN RefId='0'><T>System.Management.Automation.Remoting.RemoteHostMethodId</T></TN>"
            f"<ToString>x</ToString><I32>{method}</I32></Obj><Obj N='mp' RefId='2'><TN RefId='1'><T>System.Collections.ArrayList</T></TN><LST/></Obj>"
            "</MS></Obj>"
        )
        unpack(recorder, messages.MessageType.PIPELINE_HOST_CALL, xml)
        assert recorder.prompts == expected


def recorded_errors(folder: pathlib.Path) -> Iterator[tuple[str, ErrorRecord]]:
    for capture in sorted(folder.glob("test_psrp*.yml")):
        parts: dict[int, bytes] = {}
        for exchange in yaml.safe_load(capture.read_text("utf-8"))["messages"] or []:
            for encoded in re.findall(r"<rsp:Stream\b[^>]*>([A-Za-z0-9+/=\s]+)</", exchange.get("response") or ""):
                data = base64.b64decode(encoded)
                while len(data) >= 21:
                    object_id, dummy_fragment, flags, length = struct.unpack(">QQBI", data[:21])
                    parts[object_id] = (b"" if flags & 1 else parts.get(object_id, b"")) + data[21 : 21 + length]
                    data = data[21 + length :]
                    if flags & 2:
                        whole = parts.pop(object_id)
                        recorder = Recorder()
                        messages.Message.unpack(whole, recorder)
                        for kind, xml in recorder.events:
                            if kind == ERROR:
                                yield capture.name, error_record(decode(xml))


def test_error_records_of_real_servers(recorded: Recorded) -> None:
    found = list(recorded_errors(recorded("wsman-captures")))
    assert len(found) >= 5
    for name, item in found:
        assert item.message, name
        assert item.category in CATEGORIES
        assert not item.exception.startswith("Deserialized.")
    jea = [item for name, item in found if name == "test_psrp_with_jea_configuration.yml"]
    refused = next(item for item in jea if item.fqid.startswith("ScriptsNotAllowed"))
    assert refused.category == "ParserError"
    assert "no-language mode" in refused.message
    missing = next(item for item in jea if item.fqid.startswith("ProviderNotFound"))
    assert missing.category == "ObjectNotFound"
    assert missing.fqid.endswith("GetItemCommand")


def test_an_error_without_anything_is_still_an_error() -> None:
    assert error_record(None).message
    assert error_record(decode("<Obj RefId='0'><MS/></Obj>")) == ErrorRecord("", "", "NotSpecified", "", "")
