# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The strict reader of DER and of the little BER that timestamps need."""

from __future__ import annotations

import contextlib
import datetime

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _der
from ansible_collections.exchange.mitigation.plugins.module_utils._der import DerError, decode
from asn1crypto import core
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x30",
        b"\x30\x01",
        b"\x02\x01\x01x",
        b"\x30\x80\0\0",
        b"\x02\x81\x01\x01",
        b"\x02\x82\x00\x81" + b"x" * 129,
        b"\x1f\x01\x01",
        b"\x30\x85\0\0\0\0\0",
        b"\x30\x02\x02\x05",
        b"\x30\x81",
        b"\x04\x80\0\0",
    ],
)
def test_not_der(data: bytes) -> None:
    """Anything that is not one minimal, definite, complete value is refused."""
    with pytest.raises(DerError):
        decode(data)


@pytest.mark.parametrize(
    "data",
    [b"\x30\x80", b"\x30\x80\x02\x01\x01", b"\x04\x80\0\0", b"\x30\x80\0\0x", b"\x30\x80\0", b"\x30\x80" * 1000 + b"\0\0" * 1000, b"\x30\x84\xff\xff\xff\xff"],
)
def test_not_ber(data: bytes) -> None:
    """The relaxed form still has an end, a bottom and nothing behind it."""
    with pytest.raises(DerError):
        decode(data, ber=True)


def test_indefinite_and_long_lengths() -> None:
    """What Microsoft's tokens have, and lengths that are not minimal."""
    value = decode(b"\x30\x80\x02\x01\x05\x24\x80\x04\x01a\x04\x02bc\0\0\0\0", ber=True)
    assert value.children[0].integer() == 5
    assert value.children[1].octets() == b"abc"
    assert decode(b"\x02\x84\0\0\0\x01\x07", ber=True).integer() == 7
    assert value.raw.endswith(b"\0\0\0\0")


def test_integers() -> None:
    """Minimal two's complement only."""
    assert [decode(data).integer() for data in (b"\x02\x01\x00", b"\x02\x01\xff", b"\x02\x02\x00\x80")] == [0, -1, 128]
    for data in (b"\x02\x00", b"\x02\x02\x00\x7f", b"\x02\x02\xff\x80", b"\x04\x01\x01"):
        with pytest.raises(DerError):
            decode(data).integer()


def test_object_identifiers() -> None:
    """Arcs 0 to 2, padded and cut ones refused."""
    for text in ("0.9.2342", "1.2.840.113549.1.7.2", "2.16.840.1.101.3.4.2.1", "2.999.3"):
        assert decode(core.ObjectIdentifier(text).dump()).oid() == text
    for data in (b"\x06\x00", b"\x06\x01\x80", b"\x06\x02\x80\x01", b"\x06\x02\x2a\x86"):
        with pytest.raises(DerError):
            decode(data).oid()


def test_times() -> None:
    """UTC with an optional fraction, nothing else."""
    assert decode(b"\x18\x1320210915164208.621Z").time() == datetime.datetime(2021, 9, 15, 16, 42, 8, 621000, datetime.timezone.utc)
    for text in (
        b"20210915164208",
        b"20210915164208+0000",
        b"20211315164208Z",
        b"20210915164260Z",
        b"202109151642Z",
        b"20210915164208.Z",
        b"2021091516420\xb2Z",
    ):
        with pytest.raises(DerError):
            decode(bytes([0x18, len(text)]) + text).time()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_decode_or_raise_our_error(data: bytes) -> None:
    """No other exception, and what decodes is the input itself."""
    for ber in (False, True):
        with contextlib.suppress(DerError):
            assert decode(data, ber).raw == data


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.integers(), st.binary(max_size=300)), max_size=8))
def test_agrees_with_asn1crypto(items: list[int | bytes]) -> None:
    """Values that another library encodes are read back."""
    encoded = b"".join(core.Integer(item).dump() if isinstance(item, int) else core.OctetString(item).dump() for item in items)
    length = len(encoded)
    head = bytes([length]) if length < 128 else bytes([0x80 | (length.bit_length() + 7) // 8]) + length.to_bytes((length.bit_length() + 7) // 8, "big")
    value = decode(b"\x30" + head + encoded)
    assert [child.integer() if child.tag == _der.INTEGER else child.octets() for child in value.children] == items
