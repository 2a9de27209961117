# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every single-byte change of a document, and random mutations: refused, or the signed octets are the same. Run by hand.

``python -m attacks.sweep DOCUMENT`` (with tests and the collection on the path) changes each byte to three values;
``python -m attacks.sweep --fuzz 100000`` mutates valid documents of the corpus; ``--worst`` prints the slowest document of the
corpus and the one that takes most memory, each in a process of its own. Exit code 0 when the law holds.
"""

from __future__ import annotations

import collections
import contextlib
import datetime
import os
import pathlib
import random
import sys
import time
from collections.abc import Iterable

from ansible_collections.exchange.mitigation.plugins.module_utils import _local, _roots, _verify
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import VerifyError
from cryptography import x509

from .authorities import Pki
from .case import Case
from .corpus import corpus

NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.timezone.utc)


def changes(data: bytes, positions: Iterable[int]) -> Iterable[bytes]:
    """Yield the document with one byte changed: one bit flipped, another of its kind, and a markup character."""
    for position in positions:
        old = data[position]
        for new in {old ^ 1, old ^ 0x20, ord("<") if old != ord("<") else ord(">"), (old + 1) % 256} - {old}:
            yield data[:position] + bytes([new]) + data[position + 1 :]


def law(documents: Iterable[bytes], octets: bytes, policy: _verify.Policy) -> tuple[collections.Counter[str], float]:
    """Return how each document ended, and the slowest in seconds; raises AssertionError where one is accepted with other octets."""
    ends: collections.Counter[str] = collections.Counter()
    slowest = 0.0
    for number, data in enumerate(documents):
        begin = time.perf_counter()
        try:
            verified = _verify.verify(data, policy, NOW)
            assert verified.octets == octets, number
            ends["same octets"] += 1
        except VerifyError as exc:
            assert exc.reason != "unexpected", (exc.message, number)
            ends[exc.reason] += 1
        slowest = max(slowest, time.perf_counter() - begin)
    return ends, slowest


def mutations(data: bytes, count: int, source: random.Random) -> Iterable[bytes]:
    """Yield random mutations: bytes changed, removed, inserted, doubled, swapped with others."""
    for dummy in range(count):
        mutated = bytearray(data)
        for dummy_step in range(source.choice((1, 1, 1, 2, 5))):
            if not mutated:
                break
            at, length = source.randrange(len(mutated)), source.choice((1, 1, 2, 8, 40, 400))
            kind = source.randrange(5)
            piece = mutated[at : at + length]
            if kind == 0:
                mutated[at] = source.randrange(256)
            elif kind == 1:
                del mutated[at : at + length]
            elif kind == 2:
                mutated[at:at] = piece
            elif kind == 3:
                mutated[at:at] = source.choice((b"<!--x-->", b"<a/>", b"]]>", b"&amp;", b"&#65;", b" ", b"\n", b"<Signature/>", b"\xc3\xa9", b'a="b"'))
            else:
                other = source.randrange(len(mutated))
                mutated[at : at + length], mutated[other : other + length] = mutated[other : other + length], piece
        yield bytes(mutated)


def worst() -> int:
    """Judge every document of the corpus in a child and print the two extremes, as the operating system counts them."""
    pki = Pki(NOW)
    found = []
    for case in corpus(pki):
        child = os.fork()
        if child == 0:
            with contextlib.suppress(VerifyError):
                judged(case, pki)
            os._exit(0)
        usage = os.wait4(child, 0)[2]
        found.append((usage.ru_utime + usage.ru_stime, usage.ru_maxrss // 1024, case.name, len(case.data)))
    slowest, largest = max(found), max(found, key=lambda entry: entry[1])
    print(f"slowest {slowest[2]} ({slowest[3]} bytes): {slowest[0]:.2f} s")
    print(f"most memory {largest[2]} ({largest[3]} bytes): {largest[1]} MiB, interpreter included")
    return 0 if slowest[0] < 5 and largest[1] < 256 else 1


def judged(case: Case, pki: Pki) -> None:
    """Verify and parse a case."""
    crls = tuple(map(x509.load_der_x509_crl, case.crls))
    policy = _verify.Policy((pki.root,), (pki.time_root,), crls=crls, denied_sha256=frozenset(case.denied), explicit_time=case.at)
    _local.parse(_verify.verify(case.data, policy, NOW).root, case.domain)


def main(arguments: list[str]) -> int:
    """Print the counts."""
    begin = time.perf_counter()
    if arguments[0] == "--worst":
        return worst()
    if arguments[0] == "--fuzz":
        pki = Pki(NOW)
        policy = _verify.Policy((pki.root,), (pki.time_root,))
        seeds = [case.data for case in corpus(pki) if case.reason is None and not case.crls and case.at is None and len(case.data) < 100_000]
        ends: collections.Counter[str] = collections.Counter()
        slowest = 0.0
        source = random.Random(int(arguments[2]) if len(arguments) > 2 else 1)
        for seed in seeds:
            found, slow = law(mutations(seed, int(arguments[1]) // len(seeds) + 1, source), _verify.verify(seed, policy, NOW).octets, policy)
            ends, slowest = ends + found, max(slowest, slow)
    else:
        data = pathlib.Path(arguments[0]).read_bytes()
        policy = _verify.Policy(_roots.microsoft(), _roots.microsoft_timestamp())
        ends, slowest = law(changes(data, range(len(data))), _verify.verify(data, policy, NOW).octets, policy)
    for reason, count in ends.most_common():
        print(f"{count:8} {reason}")
    print(f"{sum(ends.values()):8} documents in {time.perf_counter() - begin:.0f} s, slowest {slowest * 1000:.0f} ms; the law holds")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
