# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A sample of the fuzzing, and the inputs that are known to hurt parsers, each within time and memory.

EXCHANGE_MITIGATION_CASES says how many inputs a target gets; ``python -m attacks.fuzz`` runs any number by hand.
"""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _clixml, _events
from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import ClixmlError, PSObject, decode, gated, plain, strings, text
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConfigurationError
from ansible_collections.exchange.mitigation.plugins.module_utils._untrusted import harmless, number, truth, word
from ansible_collections.exchange.mitigation.plugins.module_utils._xml_spans import parse as spans
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from . import fuzz

CASES = int(os.environ.get("EXCHANGE_MITIGATION_CASES", "60"))
SAMPLE = settings(max_examples=CASES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_sample(name: str) -> None:
    """Made-up and mutated inputs end as the stage promises."""
    ends, slowest, broken = fuzz.attack(name, CASES, seed=7)
    assert not broken, broken
    assert sum(ends.values()) == CASES and slowest < fuzz.LIMIT


@SAMPLE
@given(st.binary() | st.text().map(lambda value: f"<S>{value}</S>".encode("utf-8", "surrogatepass")))
def test_any_bytes(data: bytes) -> None:
    """Bytes that nobody chose."""
    fuzz.run_clixml(data)
    fuzz.run_spans(data)
    fuzz.run_psrp((0x00041005, data))


@SAMPLE
@given(st.text())
def test_any_text(said: str) -> None:
    """A line of text that nobody chose."""
    fuzz.run_lines(said)
    assert "\x1b" not in harmless(said) and harmless(harmless(said)) == harmless(said)
    harmless(said).encode("utf-8")


@SAMPLE
@given(PLAIN)
def test_any_value(value: Any) -> None:
    """Values that nobody chose, where results and organisations are expected."""
    value = json.loads(json.dumps(value).replace("NaN", "0").replace("Infinity", "1"))
    fuzz.run_values(value)
    fuzz.run_rows({"results": [{"host": "ex1", "server": value}, value], "organization": value, "feed": value, "journal": value, "previous": value})
    json.dumps(harmless(value), allow_nan=False)


# --- what hurts ---------------------------------------------------------------------------------------------------------------------

LAUGHS = (
    '<?xml version="1.0"{}?><!DOCTYPE l [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{("&" + chr(97 + n) + ";") * 10}">' for n in range(9))
    + "]><S>&j;</S>"
)


def doubled(levels: int) -> str:
    """Return an object that holds the one before twice, and so on: small on the wire, 2 to the power of levels when shown."""
    inner = '<Obj RefId="0"><LST><S>x</S></LST></Obj>'
    for level in range(1, levels):
        inner = f'<Obj RefId="{level}"><LST>{inner}<Ref RefId="{level - 1}"/></LST></Obj>'
    return inner


def around(count: int) -> str:
    """Return objects within each other, each with a reference to every one that it is in."""
    inner = ""
    for level in reversed(range(count)):
        back = "".join(f'<Ref RefId="{other}"/>' for other in range(level))
        inner = f'<Obj RefId="{level}"><LST>{inner}{back}</LST></Obj>'
    return inner


HURTS: dict[str, bytes] = {
    "billion laughs": LAUGHS.format("").encode(),
    "billion laughs in UTF-16": LAUGHS.format(' encoding="utf-16"').encode("utf-16"),
    "billion laughs in UTF-16 without a mark": LAUGHS.format(' encoding="utf-16"').encode("utf-16-be"),
    "external entity": b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><S>&b;</S>',
    "parameter entity in UTF-16": '<!DOCTYPE a [<!ENTITY % b SYSTEM "http://127.0.0.1:1/x"> %b;]><S/>'.encode("utf-16"),
    "deep": b"<Obj><LST>" * 50_000 + b"</LST></Obj>" * 50_000,
    "deep, not closed": b"<Obj><LST>" * 500_000,
    "references that double": doubled(60).encode(),
    "references that go around": around(60).encode(),
    "more values than anyone needs": b"<Obj><LST>" + b"<Nil/>" * 250_000 + b"</LST></Obj>",
    "a number without end": b"<I64>" + b"9" * 1_000_000 + b"</I64>",
    "a float without end": b"<Db>1" + b"e" * 1_000_000 + b"</Db>",
    "a time without end": b"<DT>" + b"2" * 1_000_000 + b"</DT>",
    "an encoding that nobody knows": b'<?xml version="1.0" encoding="x-unknown"?><S/>',
}


@pytest.mark.parametrize("name", HURTS)
def test_what_hurts_is_refused_at_once(name: str) -> None:
    """CLIXML: refused within a second, and within the memory that the text itself takes a few times over."""
    tracemalloc.start()
    begin = time.process_time()
    with pytest.raises(ClixmlError):
        decode(HURTS[name])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - begin < 3
    assert peak < 200 * 1024 * 1024


@pytest.mark.parametrize("name", [name for name in HURTS if "laughs" in name or "entity" in name])
def test_no_document_type_passes_the_gate(name: str) -> None:
    """What pypsrp and pywinrm parse passes the same gate, and IIS configuration has one of its own."""
    with pytest.raises(ClixmlError):
        gated(HURTS[name])
    with pytest.raises(ConfigurationError):
        spans(HURTS[name], "web.config")


@pytest.mark.parametrize(
    "data",
    [
        b"<Obj><Props>" + b"".join(b'<S N="n%d">x</S>' % n for n in range(60_000)) + b"</Props></Obj>",
        b"<Obj><Props>" + b"".join(b'<S N="Name">x</S>' for n in range(60_000)) + b"</Props></Obj>",
        b"<S " + b" ".join(b'a%d="x"' % n for n in range(60_000)) + b"/>",
        b"<S>" + b"_x0041_" * 300_000 + b"</S>",
        b"<S>" + b"_xD83D_" * 300_000 + b"</S>",
        b"<BA>" + b"A" * 8_000_000 + b"</BA>",
    ],
    ids=["members", "one member", "attributes", "escapes", "halves of pairs", "bytes"],
)
def test_much_is_read_in_time(data: bytes) -> None:
    """What is large, and honest, takes time in proportion."""
    begin = time.process_time()
    decode(data)
    assert time.process_time() - begin < 3


def test_more_bytes_than_anyone_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The size of a document is bounded."""
    monkeypatch.setattr(_clixml, "MAX_BYTES", 1000)
    with pytest.raises(ClixmlError, match="more than 1000"):
        decode("<S>" + "x" * 1000 + "</S>")


def test_objects_that_wrap_themselves() -> None:
    """An object that is its own value ends."""
    found = decode('<Obj RefId="0"><Ref RefId="0"/></Obj>')
    assert (plain(found), text(found), strings(found), word(found), number(found), truth(found)) == (None, None, [], None, None, None)
    assert harmless([found]) == [None]


def test_words_are_words() -> None:
    """What a module takes for a name is text, or nothing."""
    assert [word(value) for value in ("a", 1, True, None, [], {}, b"x", ["a"], PSObject(value=["a"]), PSObject(to_string="t"), PSObject(value=2))] == [
        "a", "1", "True", None, None, None, None, None, None, "t", "2",
    ]  # fmt: skip
    assert [number(value) for value in (1, True, "1", 1.5, PSObject(value=3), [1])] == [1, None, None, None, 3, None]
    assert [truth(value) for value in (True, False, 1, "True", PSObject(value=True))] == [True, False, None, None, True]
    assert strings([["a"], {"b": 1}, b"c", "d"]) == ["d"]


def test_a_surrogate_never_comes_through() -> None:
    """Half of a pair would break every file that it is written to."""
    assert decode("<C>55296</C>") == "\ufffd"
    assert decode("<S>_xD83D_</S>") == "\ufffd"
    with pytest.raises(ClixmlError):
        decode("<C>65536</C>")


def test_terminal_and_json() -> None:
    """What a terminal would obey is shown; line breaks and tabs stay."""
    assert harmless("a\tb\r\nc\n") == "a\tb\r\nc\n"
    assert harmless("\x1b[2J\x07\x9b31m\u202e\x00\r") == "\\u001b[2J\\u0007\\u009b31m\\u202e\\u0000\\u000d"
    assert harmless({"\x1b": [("\x1b",)], 1: float("nan")}) == {"\\u001b": [["\\u001b"]], 1: "nan"}


@pytest.mark.parametrize(
    "line", ["a" * 2_000_000, ",".join("a" * 99 for dummy in range(20_000)), "; " * 1_000_000, "S:" * 1_000_000, "E,S:a=" + ";S:a=b" * 300_000]
)
def test_a_log_line_without_end(line: str) -> None:
    """A line of the log folder takes a moment, whatever is in it."""
    begin = time.process_time()
    entry = _events.parse_line(line)
    assert time.process_time() - begin < 1
    assert len(json.dumps(entry)) < 600_000


def test_a_configuration_of_many_applications_and_locations() -> None:
    """A server with as many locations as fit in a file that IIS itself would read is understood in time."""
    locations = "".join(f'<location path="Default Web Site/owa/p{n}"><system.webServer/></location>' for n in range(3000))
    applications = {**fuzz.iis_samples.APPLICATIONS, **{f"/a{n}": f"C:\\w\\{n}" for n in range(300)}}
    host = fuzz.iis_samples.application_host(extra=locations, applications=applications)
    begin = time.process_time()
    assert fuzz.run_iis((host, fuzz.iis_samples.ROOT_CONFIG, fuzz.iis_samples.OWA_CONFIG)) == "understood"
    assert time.process_time() - begin < 20
