# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CLIXML as the lab writes and reads it; the other codec of these tests is pypsrp's, and recordings where there are some."""

from __future__ import annotations

import base64
import datetime
import pathlib
import re
import uuid
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from lab import clixml
from lab.kernel import I64, U32, ErrorInfo, LabRefusal, Obj
from lab.records import category_message, error_record

UTC = datetime.timezone.utc


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "<Nil />"),
        (True, "<B>true</B>"),
        (5, "<I32>5</I32>"),
        (2**31, "<I64>2147483648</I64>"),
        (I64(5), "<I64>5</I64>"),
        (U32(5), "<U32>5</U32>"),
        (1.5, "<Db>1.5</Db>"),
        (b"\x00\xff", "<BA>AP8=</BA>"),
        ("", "<S></S>"),
        ("a<&>_x000A_\n\U0001f600", "<S>a&lt;&amp;&gt;_x005F_x000A__x000A__xD83D__xDE00_</S>"),
        (uuid.UUID(int=1), "<G>00000000-0000-0000-0000-000000000001</G>"),
        (datetime.datetime(2026, 5, 1, 10, 0, 0, 120000, tzinfo=UTC), "<DT>2026-05-01T10:00:00.12Z</DT>"),
        (datetime.datetime(2026, 5, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=-3, minutes=-30))), "<DT>2026-05-01T00:00:00-03:30</DT>"),
        (datetime.datetime(2026, 5, 1), "<DT>2026-05-01T00:00:00</DT>"),
        (datetime.timedelta(days=1, seconds=3661, microseconds=500000), "<TS>P1DT1H1M1.5S</TS>"),
        (datetime.timedelta(), "<TS>PT0S</TS>"),
        (Obj(types=("System.Version",), value="15.2"), "<Version>15.2</Version>"),
        (Obj(types=("System.UInt64", "System.ValueType"), value=7), "<U64>7</U64>"),
        (Obj(value=b"x", notes={"PSPath": "p"}), '<Obj RefId="0"><BA>eA==</BA><MS><S N="PSPath">p</S></MS></Obj>'),
        (
            clixml.enum("Lab.Status", "Running", 4),
            (
                '<Obj RefId="0"><TN RefId="0"><T>Lab.Status</T><T>System.Enum</T><T>System.ValueType</T><T>System.Object</T></TN>'
                "<ToString>Running</ToString><I32>4</I32></Obj>"
            ),
        ),
        (
            Obj(types=("A",), to_string="t", props={"P": [1, "x"], "Q": {"k": None}}, notes={"N": Obj(types=("A",))}),
            (
                '<Obj RefId="0"><TN RefId="0"><T>A</T></TN><ToString>t</ToString><Props><Obj N="P" RefId="1"><TN RefId="1"><T>System.Object[]</T>'
                '<T>System.Array</T><T>System.Object</T></TN><LST><I32>1</I32><S>x</S></LST></Obj><Obj N="Q" RefId="2"><TN RefId="2">'
                '<T>System.Collections.Hashtable</T><T>System.Object</T></TN><DCT><En><S N="Key">k</S><Nil N="Value" /></En></DCT></Obj></Props>'
                '<MS><Obj N="N" RefId="3"><TNRef RefId="0" /></Obj></MS></Obj>'
            ),
        ),
        (Obj(types=("L`1",), value=[]), '<Obj RefId="0"><TN RefId="0"><T>L`1</T></TN><LST /></Obj>'),
    ],
)
def test_written_text(value: Any, text: str) -> None:
    assert clixml.write(value).decode() == text


def test_the_same_list_twice_is_a_reference() -> None:
    shared = ["RPCSS"]
    text = clixml.write(Obj(props={"One": shared}, notes={"Two": shared, "Three": ["RPCSS"]})).decode()
    assert text.count("<LST>") == 2 and '<Ref N="Two" RefId="1" />' in text


def test_unknown_python_types_are_refused() -> None:
    with pytest.raises(LabRefusal):
        clixml.write({"a": {1, 2}})


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_text_survives(text: str) -> None:
    assert clixml.decode_text(clixml.encode_text(text)) == text
    assert clixml.Reader().value(etree.fromstring(clixml.write(text))) == text


def test_recorded_objects_are_written_as_they_were_read(recorded: Any) -> None:
    """Every output and error message of the recordings: read, written, and structurally the same."""
    count = 0
    for file in sorted(pathlib.Path(recorded("wsman-captures/test_psrp_multiple_commands.yml")).parent.glob("test_psrp_*.yml")):
        for message in yaml.safe_load(file.read_text(encoding="utf-8"))["messages"]:
            root = etree.fromstring((message["response"] or "<x/>").encode())
            for stream in root.iter("{http://schemas.microsoft.com/wbem/wsman/1/windows/shell}Stream"):
                data = base64.b64decode(stream.text or "")
                if data[16:17] != b"\x03" or data[25:29] not in (b"\x04\x10\x04\x00", b"\x05\x10\x04\x00", b"\x06\x10\x04\x00"):
                    continue
                theirs = etree.fromstring(data[61:].removeprefix(b"\xef\xbb\xbf"))
                if theirs.tag == "SS" or theirs.find(".//SS") is not None:
                    continue
                ours = etree.fromstring(clixml.write(clixml.Reader(strip=False).value(theirs)))
                assert canonical(ours) == canonical(theirs), file.name
                count += 1
    assert count > 100


def canonical(element: Any) -> Any:
    """Tag, attributes and text of a tree; reference numbers are left out, IE and STK count as LST (an Obj does not tell them apart)."""
    attributes = {key: value for key, value in element.attrib.items() if key != "RefId"}
    tag = {"IE": "LST", "STK": "LST", "QUE": "LST"}.get(element.tag, element.tag)
    text = element.text or ""
    if tag == "DT":
        text = re.sub(r"(\.\d{6})\d", r"\1", text).replace("+00:00", "Z")  # Python has no tenths of a microsecond and one UTC
    return tag, attributes, text, [canonical(child) for child in element]


def test_export_clixml_files_are_read(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "server.xml"
    file.write_text(
        '<Objs Version="1.1.0.1" xmlns="http://schemas.microsoft.com/powershell/2004/04"><Obj RefId="0"><TN RefId="0">'
        "<T>Deserialized.Microsoft.Exchange.Data.Directory.Management.ExchangeServer</T><T>Deserialized.System.Object</T></TN>"
        '<ToString>EX1</ToString><Props><Nil N="MitigationsApplied" /><Obj N="MitigationsBlocked" RefId="1"><TN RefId="1">'
        "<T>Deserialized.Microsoft.Exchange.Data.MultiValuedProperty`1</T></TN><LST><S>PING1</S></LST></Obj></Props></Obj><S>x</S></Objs>",
        encoding="utf-16",
    )
    server, text = clixml.load_clixml(file)
    assert server.types == ("Microsoft.Exchange.Data.Directory.Management.ExchangeServer", "System.Object")
    assert (server.to_string, server.props["MitigationsApplied"]) == ("EX1", None)
    assert server.props["MitigationsBlocked"].value == ["PING1"] and server.props["MitigationsBlocked"].types[0].endswith("MultiValuedProperty`1")
    assert text.value == "x"


def test_error_records_name_everything() -> None:
    info = ErrorInfo("Cannot find.", "PathNotFound,X", 13, "System.Management.Automation.ItemNotFoundException", "C:\\x", "Get-Item")
    assert category_message(info) == "ObjectNotFound: (C:\\x:String) [Get-Item], ItemNotFoundException"
    record = clixml.Reader().value(etree.fromstring(error_record(info, stream=True)))
    assert record.notes["FullyQualifiedErrorId"] == "PathNotFound,X" and record.notes["Exception"].props["Message"] == "Cannot find."
    assert next(iter(record.notes)) == "writeErrorStream"
