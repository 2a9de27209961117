# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The CLIXML decoder: every element, references, escapes, damage, and everything recorded from real servers."""

from __future__ import annotations

import base64
import datetime
import pathlib
import re
import struct
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import (
    ClixmlError,
    PSObject,
    decode,
    moment,
    plain,
    strings,
    text,
    unescape,
)
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.clixml_samples import decode_all

Recorded = Callable[[str], pathlib.Path]
UTC = datetime.timezone.utc


@pytest.mark.parametrize(
    ("xml", "value"),
    [
        ("<S>a b</S>", "a b"),
        ("<S></S>", ""),
        ("<S/>", ""),
        ("<S>a_x000D__x000A_b</S>", "a\r\nb"),
        ("<S>_x005F_x0041_</S>", "_x0041_"),
        ("<S>_xD83D__xDE00_</S>", "\U0001f600"),
        ("<S>_x00e4_ plain_x_ _xZZZZ_</S>", "\u00e4 plain_x_ _xZZZZ_"),
        ("<C>65</C>", "A"),
        ("<B>true</B>", True),
        ("<B>false</B>", False),
        ("<I32>-5</I32>", -5),
        ("<U32>4294967295</U32>", 4294967295),
        ("<I64>9223372036854775807</I64>", 9223372036854775807),
        ("<U64>18446744073709551615</U64>", 18446744073709551615),
        ("<By>255</By>", 255),
        ("<SB>-128</SB>", -128),
        ("<U16>65535</U16>", 65535),
        ("<I16>-1</I16>", -1),
        ("<Sg>1.5</Sg>", 1.5),
        ("<Db>-2.25E+10</Db>", -2.25e10),
        ("<D>12345678901234567890.0123456789</D>", "12345678901234567890.0123456789"),
        ("<BA>AAEC/w==</BA>", b"\x00\x01\x02\xff"),
        ("<BA/>", b""),
        ("<G>792e5b37-4505-47ef-b7d2-8711bb7affa8</G>", uuid.UUID("792e5b37-4505-47ef-b7d2-8711bb7affa8")),
        ("<URI>http://proxy.example:8080/</URI>", "http://proxy.example:8080/"),
        ("<Version>15.2.2562.45</Version>", "15.2.2562.45"),
        ("<TS>PT9.0269026S</TS>", "PT9.0269026S"),
        ("<XD>&lt;a/&gt;</XD>", "<a/>"),
        ("<SBK>get-command</SBK>", "get-command"),
        ("<SS>AAAA</SS>", "AAAA"),
        ("<Nil/>", None),
        ("<DT>2023-01-05T12:08:37.6177687Z</DT>", datetime.datetime(2023, 1, 5, 12, 8, 37, 617768, UTC)),
        ("<DT>2023-01-05T12:08:37+02:00</DT>", datetime.datetime(2023, 1, 5, 10, 8, 37, 0, UTC)),
        ("<DT>2023-01-05T12:08:37.5</DT>", datetime.datetime(2023, 1, 5, 12, 8, 37, 500000)),
        ('<Obj RefId="0"><TN RefId="0"><T>System.Object[]</T></TN><LST><I32>1</I32><S>x</S><Nil/></LST></Obj>', [1, "x", None]),
        ('<Obj RefId="0"><TN RefId="0"><T>A</T></TN><IE><I32>1</I32></IE></Obj>', [1]),
        ('<Obj RefId="0"><STK><I32>1</I32><I32>2</I32></STK></Obj>', [1, 2]),
        ('<Obj RefId="0"><QUE><S>a</S></QUE></Obj>', ["a"]),
        ('<Obj RefId="0"><LST/></Obj>', []),
        ('<Obj RefId="0"><DCT><En><S N="Key">a</S><I32 N="Value">1</I32></En><En><I32 N="Key">2</I32><Nil N="Value"/></En></DCT></Obj>', {"a": 1, 2: None}),
        ('<Obj RefId="0"><DCT/></Obj>', {}),
    ],
)
def test_values(xml: str, value: Any) -> None:
    found = decode(xml)
    assert found == value
    assert type(found) is type(value)
    if isinstance(value, datetime.datetime):
        assert found.tzinfo == value.tzinfo
    assert decode("\ufeff" + xml) == value, "Windows writes a byte order mark before each message"
    assert decode(xml.encode()) == value


def test_floats_that_are_no_numbers() -> None:
    assert decode("<Db>INF</Db>") == float("inf")
    assert decode("<Db>-INF</Db>") == float("-inf")
    assert decode("<Db>NaN</Db>") != decode("<Db>NaN</Db>")


def test_dates_at_the_ends_of_time() -> None:
    assert moment("9999-12-31T23:59:59.9999999").year == 9999
    assert moment("0001-01-01T00:00:00Z").tzinfo == UTC
    assert moment("0001-01-01T00:00:00+01:00").utcoffset() == datetime.timedelta(hours=1)


def test_an_enum_wraps_its_number() -> None:
    found = decode('<Obj RefId="0"><TN RefId="0"><T>System.ServiceProcess.ServiceControllerStatus</T></TN><ToString>Running</ToString><I32>4</I32></Obj>')
    assert isinstance(found, PSObject)
    assert (found.value, found.to_string, plain(found), text(found)) == (4, "Running", 4, "Running")


def test_bytes_with_notes_stay_bytes() -> None:
    found = decode('<Obj RefId="0"><BA>QUI=</BA><MS><S N="PSPath">p</S><I64 N="ReadCount">1</I64></MS></Obj>')
    assert isinstance(found, PSObject)
    assert (plain(found), found.get("pspath"), found.get("READCOUNT")) == (b"AB", "p", 1)


def test_a_list_with_notes_keeps_both() -> None:
    found = decode('<Obj RefId="0"><LST><S>a</S></LST><MS><S N="PSPath">p</S></MS></Obj>')
    assert isinstance(found, PSObject)
    assert (plain(found), found.get("PSPath")) == (["a"], "p")


@pytest.mark.parametrize("order", ["<Props><S N='Name'>adapted</S><S N='Other'>o</S></Props><MS><S N='name'>note</S></MS>",
                                   "<MS><S N='name'>note</S></MS><Props><S N='Name'>adapted</S><S N='Other'>o</S></Props>"])
def test_notes_win_over_properties_in_any_case_and_order(order: str) -> None:
    found = decode(f'<Obj RefId="0">{order}</Obj>')
    assert found.get("NAME") == "note"
    assert sorted(found.properties) == ["Other", "name"]
    assert found.get("missing", 7) == 7
    assert found.has("other")
    assert not found.has("missing")


def test_an_object_without_members_is_an_object() -> None:
    found = decode('<Obj RefId="0"><TN RefId="0"><T>Deserialized.A.B</T></TN><ToString>x</ToString></Obj>')
    assert found == PSObject(("Deserialized.A.B",), {}, None, "x")
    assert found.is_a("a.b")
    assert not found.is_a("A")


def test_type_names_are_shared_by_reference() -> None:
    found = decode_all(
        '<Objs><Obj RefId="0"><TN RefId="0"><T>A</T></TN><Props><Obj N="In" RefId="1"><TN RefId="1"><T>B</T></TN><ToString>b</ToString></Obj></Props></Obj>'
        '<Obj RefId="2"><TNRef RefId="1"/><ToString>c</ToString></Obj><Obj RefId="3"><TNRef RefId="9"/><ToString>d</ToString></Obj></Objs>'
    )
    assert [item.type_names for item in found] == [("A",), ("B",), ()]


def test_references_give_the_same_object_even_in_a_cycle() -> None:
    found = decode('<Obj RefId="0"><MS><Ref N="Self" RefId="0"/><Obj N="List" RefId="1"><LST><Ref RefId="1"/><Ref RefId="0"/></LST></Obj></MS></Obj>')
    assert found.get("Self") is found
    assert found.get("List")[0] is found.get("List")
    assert found.get("List")[1] is found


def test_a_dictionary_key_that_is_a_list_becomes_text() -> None:
    assert decode('<Obj RefId="0"><DCT><En><Obj N="Key" RefId="1"><LST><I32>1</I32></LST></Obj><S N="Value">v</S></En></DCT></Obj>') == {"[1]": "v"}


@pytest.mark.parametrize(
    "xml",
    [
        "", "no xml", "<S>a", "<X>1</X>", "<I32>x</I32>", "<B>maybe</B>", "<DT>yesterday</DT>", "<DT>2023-13-01T00:00:00Z</DT>", "<G>1</G>", "<BA>A</BA>",
        '<Ref RefId="7"/>', '<Obj RefId="0"><DCT><S>a</S></DCT></Obj>', '<Obj RefId="0"><DCT><En><S N="Key">a</S></En></DCT></Obj>',
        '<!DOCTYPE a [<!ENTITY b "c">]><S>&b;</S>', "<Objs/>", "<Objs><S>a</S><S>b</S></Objs>", "<C>99999999999</C>",
        "<Obj>" + "<LST><Obj>" * 3000 + "</Obj></LST>" * 3000 + "</Obj>",
    ],
)
def test_damage_is_one_kind_of_error(xml: str) -> None:
    with pytest.raises(ClixmlError):
        decode(xml)


def test_multi_valued_properties() -> None:
    assert strings(None) == []
    assert strings([]) == []
    assert strings("M1") == ["M1"]
    assert strings(["M1", PSObject(to_string="M2"), None]) == ["M1", "M2"]
    assert strings(PSObject(value=["PING1"])) == ["PING1"]


def test_text_is_what_powershell_shows() -> None:
    assert (text(None), text(True), text(5), text("a"), text(PSObject(value=3))) == (None, "True", "5", "a", "3")


def test_unescape_leaves_what_is_no_escape() -> None:
    assert unescape("a_b_x00_x0041") == "a_b_x00_x0041"
    assert unescape("_xD83D_") == "\ufffd"


# --- recorded --------------------------------------------------------------------------------------------------------------------


def test_recorded_servers(recorded: Recorded) -> None:
    first, second = decode_all(recorded("cmdlets/Get-ExchangeServer.PING1-applied.xml").read_bytes())
    assert [first.get("Name"), second.get("Name")] == ["E2k16-1", "E2k16-2"]
    assert strings(first.get("MitigationsApplied")) == strings(second.get("MitigationsApplied")) == ["PING1"]
    assert strings(first.get("MitigationsBlocked")) == []
    assert first.get("MitigationsAppliedTime") == datetime.datetime(2023, 1, 5, 12, 8, 37, 617768, UTC)
    assert text(first.get("AdminDisplayVersion")) == text(second.get("AdminDisplayVersion")) == "Version 15.1 (Build 2507.18)"
    assert second.get("AdminDisplayVersion").is_a("Microsoft.Exchange.Data.ServerVersion"), "a type name defined in the first object"
    assert first.get("OriginatingServer") == "DC-1.Contoso.lab"
    (solo,) = decode_all(recorded("cmdlets/Get-ExchangeServer.2019.xml").read_bytes())
    assert solo.get("mitigationsenabled") is True
    assert not solo.has("MitigationsAppliedTime")


def test_recorded_organization_and_services(recorded: Recorded) -> None:
    (organization,) = decode_all(recorded("cmdlets/Get-OrganizationConfig.2019.xml").read_bytes())
    assert (organization.get("Name"), organization.get("MitigationsEnabled")) == ("SoloORG", True)
    for name, status in (("2019", None), ("running", "Running"), ("disabled", None)):
        (service,) = decode_all(recorded(f"cmdlets/Get-Service.MSExchangeMitigation.{name}.xml").read_bytes())
        assert service.to_string == service.get("ServiceName") == "MSExchangeMitigation"
        assert text(service.get("StartType")) in ("Automatic", "Disabled")
        assert status is None or text(service.get("Status")) == status


def messages(capture: pathlib.Path) -> Iterator[tuple[int, bytes]]:
    """Yield type and CLIXML of every PSRP message inside a recorded conversation, reassembled from its fragments (MS-PSRP 2.2.4)."""
    parts: dict[tuple[str, int], bytes] = {}
    for exchange in yaml.safe_load(capture.read_text("utf-8"))["messages"] or []:
        for direction in ("request", "response"):
            for encoded in re.findall(r"<(?:rsp:Stream|rsp:Arguments|creationXml)\b[^>]*>([A-Za-z0-9+/=\s]+)</", exchange.get(direction) or ""):
                try:
                    data = base64.b64decode(encoded, validate=False)
                except ValueError:
                    continue
                while len(data) >= 21:
                    object_id, dummy_fragment, flags, length = struct.unpack(">QQBI", data[:21])
                    if flags > 3 or length > len(data) - 21:
                        break
                    blob, data = data[21 : 21 + length], data[21 + length :]
                    key = (direction, object_id)
                    parts[key] = blob if flags & 1 else parts.get(key, b"") + blob
                    if flags & 2:
                        whole = parts.pop(key)
                        yield struct.unpack("<I", whole[4:8])[0], whole[40:]


def test_every_recorded_message_decodes(recorded: Recorded) -> None:
    seen: dict[int, int] = {}
    for capture in sorted(recorded("wsman-captures").glob("test_*.yml")):
        if not capture.name.startswith("test_psrp"):
            continue
        for kind, xml in messages(capture):
            if not xml:
                continue
            decode(xml)
            seen[kind] = seen.get(kind, 0) + 1
    assert sum(seen.values()) > 200, seen
    assert {0x00041004, 0x00041005, 0x00041006, 0x00021005} <= set(seen), "outputs, errors and both kinds of states are among them"


def test_an_object_that_jea_wrapped_once_more_is_one_object() -> None:
    """The shape is that of a recording (test_psrp_with_jea_configuration, message 5), shortened."""
    found = decode(
        '<Obj RefId="0"><TN RefId="0"><T>Some.Element</T><T>System.Object</T></TN><ToString>e</ToString>'
        '<Obj RefId="1"><TNRef RefId="0" /><ToString>e</ToString><Props><S N="Value">true</S><S N="PSPath">inner</S></Props></Obj>'
        '<MS><S N="PSPath">outer</S></MS></Obj>'
    )
    assert isinstance(found, PSObject) and found.is_a("Some.Element")
    assert (found.get("Value"), found.get("PSPath"), found.value) == ("true", "outer", None)
    assert plain(decode('<Obj RefId="0"><Obj RefId="1"><BA>AAE=</BA></Obj><MS><S N="PSPath">p</S></MS></Obj>')) == b"\x00\x01"
