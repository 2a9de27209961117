# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every document of the corpus: accepted or refused with its own reason, within time and memory."""

from __future__ import annotations

import datetime
import time
import tracemalloc

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _local, _parse, _reasons, _verify
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import VerifyError
from cryptography import x509

from .authorities import Pki
from .case import Case
from .corpus import corpus

PKI = Pki(datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.timezone.utc))
CASES = corpus(PKI)


def judged(case: Case) -> tuple[_verify.Verified, _parse.Document]:
    """Return what the verifier and the parser make of a case."""
    policy = _verify.Policy(
        roots=(PKI.root,),
        timestamp_roots=(PKI.time_root,),
        crls=tuple(map(x509.load_der_x509_crl, case.crls)),
        denied_sha256=frozenset(case.denied),
        revocation_required=case.required,
        explicit_time=case.at,
    )
    verified = _verify.verify(case.data, policy, PKI.now)
    return verified, _local.parse(verified.root, case.domain)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_document(case: Case) -> None:
    """The document is accepted, or refused with exactly its reason."""
    begin = time.process_time()
    if case.reason is not None:
        with pytest.raises(VerifyError) as caught:
            judged(case)
        assert caught.value.reason == case.reason, caught.value.message
        assert "{" not in caught.value.message and caught.value.message.isprintable()
    else:
        verified, dummy = judged(case)
        assert (verified.time_basis, verified.revocation) == ("explicit" if case.at else case.basis, case.revocation)
        assert b"ignature" not in verified.octets
        if case.signed is not None:
            assert (verified.signed_at is not None) == case.signed, verified.timestamp_note
    assert time.process_time() - begin < 3


def test_size_of_the_corpus() -> None:
    """The corpus is large enough, and both outcomes are in it."""
    valid = sum(case.reason is None for case in CASES)
    assert len(CASES) >= 250 and valid >= 60 and len(CASES) - valid >= 180


def test_reasons_are_in_the_table_and_met() -> None:
    """Every reason of the corpus is documented; of the verifier's and parser's reasons, those the corpus lacks are named here."""
    met = {case.reason for case in CASES} - {None}
    assert met <= set(_reasons.VERIFY_REASONS)
    stateful = {code for code in _reasons.VERIFY_REASONS if code.startswith(("rollback_", "same_version", "version_leap", "first_use", "state_", "feed_"))}
    assert set(_reasons.VERIFY_REASONS) - met - stateful == {"unexpected"}


def test_memory_of_the_worst_document() -> None:
    """No document needs much Python memory."""
    worst = max(CASES, key=lambda case: len(case.data) if case.reason is None else 0)
    tracemalloc.start()
    judged(worst)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 1024 * 1024
