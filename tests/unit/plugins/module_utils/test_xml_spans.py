# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The XML reader: offsets in every encoding, and what it refuses."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _xml_spans
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConfigurationError
from ansible_collections.exchange.mitigation.plugins.module_utils._xml_spans import Element, parse
from hypothesis import given, settings
from hypothesis import strategies as st


def every(element: Element) -> list[Element]:
    """Return an element and all below it."""
    return [element, *(found for child in element.children for found in every(child))]


TEXT = '<?xml version="1.0" encoding="{}"?>\r\n<!-- <a> --><a q="x>\'ü" r=\'"\'>ü<b/> <c d="1" >t<![CDATA[<x>]]></c >\r\n<e\n/></a>'
WANTED = ["<b/>", '<c d="1" >t<![CDATA[<x>]]></c >', "<e\n/>"]


@pytest.mark.parametrize(
    ("codec", "declared", "mark"),
    [
        ("utf-8", "UTF-8", b""),
        ("utf-8", "utf-8", b"\xef\xbb\xbf"),
        ("utf-16-le", "utf-16", b"\xff\xfe"),
        ("utf-16-be", "UTF-16", b"\xfe\xff"),
        ("iso-8859-1", "ISO-8859-1", b""),
        ("cp1252", "windows-1252", b""),
    ],
)
def test_offsets_in_every_encoding(codec: str, declared: str, mark: bytes) -> None:
    data = mark + TEXT.format(declared).encode(codec)
    document = parse(data, "f")
    assert [document.source(element) for element in document.root.children] == WANTED
    assert document.source(document.root).endswith("</a>")
    assert document.root.attributes == {"q": "x>'ü", "r": '"'}
    assert [element.line for element in document.root.children] == [2, 2, 3]
    assert document.newline == "\r\n"
    assert [element.self_closing for element in document.root.children] == [True, False, True]
    assert document.space_before(document.root.children[2].start) == "\r\n"


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", 1),
        (b"<a>\n<b></a>", 2),
        (b"<a/>\n<b/>", 2),
        (b"<a>\n&nbsp;</a>", 2),
        (b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', 1),
        (b"<!DOCTYPE a><a/>", 1),
        (b'<?xml version="1.0" encoding="utf-16"?><a/>', 1),
        (b'<?xml version="1.0" encoding="shift_jis"?><a/>', 1),
        (b'<?xml version="1.0" encoding="nonsense"?><a/>', 1),
        (b"<a>\xff</a>", 1),
        (b"<a>" * 300, 1),
        (b"\x00" * 8, 1),
    ],
)
def test_refused_with_file_and_line(data: bytes, line: int) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(data, r"C:\x\web.config")
    assert caught.value.details["file"] == r"C:\x\web.config"
    assert caught.value.details["line"] == line
    assert str(caught.value).startswith(rf"C:\x\web.config, line {line}: ")


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("mark", [True, False])
@pytest.mark.parametrize("lead", ["", "\r\n", " ", "<!-- x -->"])
def test_utf_16_with_and_without_a_mark(codec: str, mark: bool, lead: str) -> None:
    """Whatever stands before the first element, slices are the text of the file and edits are bytes of its encoding."""
    text = lead + "<a q=\"x>'\" r='>\"'><b/></a>"
    document = parse((("\ufeff" if mark else "") + text).encode(codec), "f")
    assert [document.source(element) for element in every(document.root)] == [text[len(lead) :], "<b/>"]
    assert document.encode("<c/>") == "<c/>".encode(codec)


def test_a_file_beyond_every_measure_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither size nor number of elements can make the controller work for ever; the sentence says which measure it was."""
    monkeypatch.setattr(_xml_spans, "MAX_ELEMENTS", 3)
    monkeypatch.setattr(_xml_spans, "MAX_BYTES", 64)
    assert len(every(parse(b"<a>\n<b/>\n<m/></a>", "f").root)) == 3
    for data, line, said in ((b"<a>\n<b/>\n<m/>\n<n/></a>", 4, "more than 3 elements"), (b"<a>" + b" " * 64 + b"</a>", 1, "more than 64 bytes")):
        with pytest.raises(ConfigurationError) as caught:
            parse(data, r"C:\x\web.config")
        assert said in caught.value.message and "restore it from a backup" in caught.value.message
        assert (caught.value.reason, caught.value.details["line"]) == ("configuration_malformed", line)


def test_recorded_malformed_file_names_the_line(recorded: Callable[[str], pathlib.Path]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(recorded("exchange2019/DefaultWebSite.malformed-with-EEMS-M1.1.web.config").read_bytes(), "web.config")
    assert caught.value.details["line"] == 42


def test_recorded_files_slice_to_themselves(recorded: Callable[[str], pathlib.Path]) -> None:
    folder = recorded("exchange2019/applicationHost.config").parent
    seen = 0
    for file in sorted(folder.glob("*.config")):
        if "malformed" in file.name:
            continue
        document = parse(file.read_bytes(), file.name)
        for element in every(document.root):
            source = document.source(element)
            assert source.startswith(f"<{element.tag}")
            assert source.endswith(f"</{element.tag}>") or (element.self_closing and source.endswith("/>"))
            seen += 1
    assert seen > 2000


NAMES = st.sampled_from(["a", "rule", "system.webServer"])
VALUES = st.text(st.sampled_from("x>'= /ü\t"), max_size=6)


@st.composite
def trees(draw: st.DrawFn, depth: int = 3) -> str:
    """Return the text of an element with whatever may stand in it."""
    tag = draw(NAMES)
    attribute = draw(st.sampled_from(["", ' v="{}"'])).format(draw(VALUES))
    if depth == 0 or draw(st.booleans()):
        return f"<{tag}{attribute}{draw(st.sampled_from(['/>', ' />', f'></{tag}>', f'></{tag} >']))}"
    inner = "".join(
        draw(st.sampled_from(["", "\n  ", "ü", "<!-- <b> -->", "<![CDATA[</a>]]>", "<?p <a> ?>"])) + draw(trees(depth=depth - 1))
        for dummy in range(draw(st.integers(0, 3)))
    )
    return f"<{tag}{attribute}>{inner}</{tag}>"


@settings(max_examples=300, deadline=None)
@given(trees(), st.sampled_from(["utf-8", "utf-16"]))
def test_every_slice_parses_to_the_same_element(text: str, codec: str) -> None:
    document = parse(text.encode(codec), "f")
    assert document.source(document.root) == text
    for element in every(document.root):
        again = parse(document.source(element).encode("utf-8"), "g").root
        assert (again.tag, again.attributes, len(again.children)) == (element.tag, element.attributes, len(element.children))
