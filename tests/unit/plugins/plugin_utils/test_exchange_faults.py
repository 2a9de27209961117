# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers of Kerberos as reasons, without the libraries; what really raises them is in tests/system/test_kerberos.py."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._access import REMOTE
from ansible_collections.exchange.mitigation.plugins.plugin_utils._exchange_faults import CREDENTIALS, KERBEROS, KRB5, judge, kerberos_number

ARGUMENTS = {"server": "ex1.example.com", "username": "ada@EXAMPLE.COM", "auth": "kerberos", "ssl": False}
WHERE = "ex1.example.com (http://ex1.example.com:80/PowerShell)"


def raised(kind: str, module: str, **fields: Any) -> Exception:
    error: Exception = type(kind, (Exception,), {"__module__": module})("said so")
    for name, value in fields.items():
        setattr(error, name, value)
    return error


@pytest.mark.parametrize("number", [*KERBEROS, 60])
def test_a_number_means_the_same_signed_unsigned_and_wrapped(number: int) -> None:
    expected = KERBEROS.get(number, "kerberos_failed")
    signed = raised("Krb5Error", "krb5._exceptions", err_code=KRB5 + number)
    unsigned = raised("GSSError", "gssapi.raw.misc", min_code=(KRB5 + number) % 2**32)
    wrapped = raised("SpnegoError", "spnego.exceptions", base_error=unsigned)
    for error in (signed, unsigned, wrapped):
        assert kerberos_number(error) == number
        failure = judge(error, WHERE, ARGUMENTS)
        assert failure.reason == expected
        assert failure.message.startswith(WHERE) and failure.message.endswith(".")
        assert failure.details["endpoint"] == WHERE


@pytest.mark.parametrize(("kind", "reason"), [*CREDENTIALS.items(), ("GSSError", "kerberos_failed")])
def test_without_a_number_the_kind_of_exception_counts(kind: str, reason: str) -> None:
    error = raised("SpnegoError", "spnego.exceptions", base_error=raised(kind, "gssapi.raw.exceptions", min_code=0))
    assert judge(error, WHERE, ARGUMENTS).reason == reason


def test_numbers_of_other_libraries_are_none_of_kerberos() -> None:
    assert kerberos_number(raised("SomeError", "somewhere", err_code=KRB5 + 7)) is None
    assert kerberos_number(raised("GSSError", "gssapi.raw.misc", min_code=100001)) is None


def test_every_reason_is_in_the_table() -> None:
    assert {*KERBEROS.values(), *CREDENTIALS.values()} <= set(REMOTE)


def test_what_is_not_exchanges_stays_what_it_is() -> None:
    assert judge(ConnectionRefusedError(111, "refused"), WHERE, ARGUMENTS).reason == "connection_refused"
