# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Byte splices: insertion in every shape of file, removal as its inverse, nothing else touched."""

from __future__ import annotations

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _iis_edit as edit
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_edit import Draft, Splice, Xml
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sections import INBOUND, OUTBOUND
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sections import settings as section_settings
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.plan_samples import invert
from hypothesis import given, settings
from hypothesis import strategies as st

RULE = Xml("rule", (("name", "R & <\"'>"),), (Xml("action"),))
PRECONDITION = Xml("preCondition", (("name", "P"),))


def inserted(text: str, section: str = INBOUND, place: str = "root", first: bool = False) -> str:
    """Return the text with the rule inserted, having checked the laws that hold for every insertion."""
    data = text.encode()
    draft = Draft("f", data)
    draft.insert(section, place, RULE, PRECONDITION if section == OUTBOUND else None, first)
    splices = draft.splices()
    assert edit.apply(data, splices) == draft.data
    assert edit.apply(draft.data, invert(splices)) == data
    return draft.data.decode()


LINE = '<rule name="R &amp; &lt;&quot;\'&gt;">'


def nested(newline: str, unit: str, other: str = "") -> str:
    """Return a whole file with the rule in it, written with a line break and a step of indentation."""
    lines = [
        "<configuration>",
        "<system.webServer>",
        "<rewrite>",
        "<rules>",
        LINE,
        "<action />",
        "</rule>",
        "</rules>",
        "</rewrite>",
        "</system.webServer>",
        "</configuration>",
    ]
    depths = [0, 1, 2, 3, 4, 5, 4, 3, 2, 1, 0]
    if other:
        lines.insert(4, other)
        depths.insert(4, 4)
    return newline.join(unit * depth + line for depth, line in zip(depths, lines, strict=True))


RULES = nested("\r\n", "   ", "<rule name='a'/>")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<configuration>\n</configuration>", nested("\n", "  ")),
        ("<configuration>\n\t<system.webServer />\n</configuration>", nested("\n", "\t")),
        (RULES[: RULES.index("'a'/>") + 5] + RULES[RULES.index("</rule>") + 7 :], RULES),
    ],
)
def test_written_like_the_file(before: str, after: str) -> None:
    assert inserted(before) == after


def test_first_stands_before_other_rules_but_behind_clear() -> None:
    text = inserted(
        '<configuration>\n<system.webServer><rewrite><rules><rule name="a"/><clear/><rule name="b"/></rules></rewrite></system.webServer></configuration>',
        first=True,
    )
    assert text.index("<clear/>") < text.index(LINE) < text.index('"b"')


def test_a_block_is_created_where_there_is_none() -> None:
    text = inserted("<configuration>\n</configuration>", OUTBOUND, "location")
    assert '  <location path="." inheritInChildApplications="false">\n    <system.webServer>\n      <rewrite>' in text


@pytest.mark.parametrize("attributes", ['path="owa" inheritInChildApplications="false"', 'path="."', 'inheritInChildApplications="false" overrideMode="Deny"'])
def test_other_location_tags_are_left_alone(attributes: str) -> None:
    other = f"<location {attributes}>\n<system.webServer />\n</location>"
    text = inserted(f"<configuration>\n{other}\n</configuration>", OUTBOUND, "location")
    assert other in text
    assert text.count("<location") == 2


def test_the_block_with_the_web_server_is_chosen() -> None:
    block = '<location inheritInChildApplications="false">\n'
    text = inserted(f"<configuration>\n{block}<system.web />\n</location>\n{block}<system.webServer />\n</location>\n</configuration>", OUTBOUND, "location")
    assert text.index("<system.web />") < text.index("</location>") < text.index("<rewrite>")


@pytest.mark.parametrize(
    "holder",
    ["", "<preConditions/>", '<preConditions><preCondition name="x"/></preConditions>', '<rule name="x"/><preConditions></preConditions>'],
)
def test_preconditions_join_those_that_are_there(holder: str) -> None:
    section = f"<system.webServer><rewrite><outboundRules>{holder}</outboundRules></rewrite></system.webServer>"
    block = f'<location inheritInChildApplications="false">{section}</location>'
    text = inserted(f"<configuration>{block}</configuration>", OUTBOUND, "location")
    assert text.count("<preConditions") == 1
    assert text.count("<outboundRules") == 1
    assert '<preCondition name="P" />' in text


def test_a_new_file() -> None:
    draft = Draft("f", None)
    draft.insert(INBOUND, "root", RULE, None, True)
    assert draft.data.startswith(b'<?xml version="1.0" encoding="UTF-8"?>\r\n<configuration>\r\n  <system.webServer>\r\n')
    assert draft.splices() == (Splice(0, b"", draft.data),)


def test_removal_keeps_what_others_put_there() -> None:
    rules = "  <rules>\n    <!-- kept -->\n    <rule name='x'/>\n  </rules>\n"
    text = f"<configuration>\n<system.webServer>\n<rewrite>\n{rules}</rewrite>\n</system.webServer>\n</configuration>"
    draft = Draft("f", text.encode())
    draft.remove([(text.index("<rule "), 0)])
    assert draft.data.decode() == text.replace("\n    <rule name='x'/>", "")


def test_removal_takes_containers_that_mean_nothing_without_it() -> None:
    section = '<system.webServer><rewrite>\n<rules><rule name="x"/></rules></rewrite></system.webServer>'
    block = f'\n  <location path="." inheritInChildApplications="false">\n{section}</location>'
    text = f"<configuration>\n  <a/>{block}\n</configuration>"
    draft = Draft("f", text.encode())
    draft.remove([(text.index("<rule "), 0)])
    assert draft.data.decode() == "<configuration>\n  <a/>\n</configuration>"


def test_removal_keeps_a_container_with_attributes() -> None:
    text = (
        '<configuration><system.webServer><rewrite><rules useOriginalURLEncoding="false"><rule name="x"/></rules></rewrite></system.webServer></configuration>'
    )
    draft = Draft("f", text.encode())
    draft.remove([(text.index("<rule "), 0)])
    assert draft.data.decode() == text.replace('<rule name="x"/>', "")


def test_an_edit_refuses_other_bytes() -> None:
    with pytest.raises(ValueError, match="at 2"):
        edit.apply(b"abcd", [Splice(2, b"x", b"y")])


BLANK = st.sampled_from(["", " ", "\n", "\r\n", "\n  ", "\r\n\t", "\n\n    ", "<!-- c -->", "\n  <!-- ü -->\n  "])


@st.composite
def containers(draw: st.DrawFn, tags: tuple[str, ...], leaf: str) -> str:
    """Return nested containers, some missing, with white space, comments and foreign elements between."""
    if not tags or not draw(st.integers(0, 4)):
        return ""
    tag, inner = tags[0], draw(containers(tags[1:], leaf))
    if not inner and draw(st.booleans()):
        return f"{draw(BLANK)}<{tag}{draw(st.sampled_from(['/>', ' />', '></' + tag + '>', '> </' + tag + '>']))}"
    others = "".join(
        draw(BLANK) + (f'<{leaf} name="{name}" />' if len(tags) == 1 else f"<other{name}/>")
        for name in draw(st.lists(st.sampled_from("abc"), max_size=2, unique=True))
    )
    return f"{draw(BLANK)}<{tag}>{others}{inner}{draw(BLANK)}</{tag}>"


@st.composite
def files(draw: st.DrawFn) -> tuple[bytes, str]:
    """Return a web.config as bytes and its codec."""
    inbound = draw(containers(("system.webServer", "rewrite", "rules"), "rule"))
    block = draw(containers(("system.webServer", "rewrite", "outboundRules"), "rule"))
    attributes = draw(st.sampled_from(["", ' path="."', ' path=""']))
    location = f'{draw(BLANK)}<location{attributes} inheritInChildApplications="false">{block}{draw(BLANK)}</location>' if draw(st.booleans()) else ""
    codec, head = draw(
        st.sampled_from([("utf-8", ""), ("utf-8-sig", '<?xml version="1.0" encoding="UTF-8"?>\r\n'), ("utf-16", '<?xml version="1.0" encoding="utf-16"?>')])
    )
    return f"{head}<configuration>{location}{draw(BLANK)}<appSettings />{inbound}{draw(BLANK)}</configuration>{draw(st.sampled_from(['', chr(10)]))}".encode(
        codec
    ), codec


@settings(max_examples=700, deadline=None)
@given(files(), st.sampled_from([(INBOUND, "root", True), (INBOUND, "root", False), (OUTBOUND, "location", False)]))
def test_insertion_laws(file: tuple[bytes, str], what: tuple[str, str, bool]) -> None:
    data, dummy_codec = file
    section, place, first = what
    draft = Draft("f", data)
    before = draft.document()
    draft.insert(section, place, RULE, PRECONDITION if section == OUTBOUND else None, first)
    splices = draft.splices()
    # apply and undo
    assert edit.apply(data, splices) == draft.data
    assert edit.apply(draft.data, invert(splices)) == data
    # nothing but the end of an empty tag is taken away
    assert all(s.removed.decode(before.codec).strip() in ("", "/>") for s in splices)
    # exactly one more, in the right place, and the others in their order
    names = [child.attributes.get("name") for s in section_settings(before, section) for child in s.element.all("rule")]
    after = [child.attributes.get("name") for s in section_settings(draft.document(), section) for child in s.element.all("rule")]
    assert [name for name in after if name != "R & <\"'>"] == names
    assert len(after) == len(names) + 1
    holders = [s for s in section_settings(draft.document(), section) if any(c.attributes.get("name") == "R & <\"'>" for c in s.element.children)]
    assert [holder.location is None for holder in holders] == [place == "root"]
    # removal brings the rules back; where a container had to be made, the bytes too
    spans = [
        (c.start, c.end)
        for s in holders
        for c in [*s.element.all("rule"), *(p for h in s.element.all("preConditions") for p in h.children)]
        if c.attributes.get("name") in ("R & <\"'>", "P")
    ]
    draft.remove(spans)
    left = [child.attributes.get("name") for s in section_settings(draft.document(), section) for child in s.element.all("rule")]
    assert left == names


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=0, max_size=30), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 10), st.binary(max_size=5)), max_size=6))
def test_any_sequence_of_splices_composes(data: bytes, moves: list[tuple[int, int, bytes]]) -> None:
    draft = Draft("f", data)
    expected = data
    for start, length, new in moves:
        start = min(start, len(expected))
        end = min(start + length, len(expected))
        draft.splice(start, end, new)
        expected = expected[:start] + new + expected[end:]
    assert draft.data == expected
    assert edit.apply(data, draft.splices()) == expected
    assert edit.apply(expected, invert(draft.splices())) == data
