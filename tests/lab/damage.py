# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers that arrive damaged: an envelope that ends too early, one with bytes of another kind, fragments out of order."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable

_STREAM = re.compile(rb"(<rsp:Stream\b[^>]*>)([^<]+)(</rsp:Stream>)")


def cut_envelope(answer: bytes) -> bytes:
    """Return the first half of an envelope."""
    return answer[: len(answer) // 2]


def corrupt(answer: bytes) -> bytes:
    """Overwrite 16 bytes in the middle: of the first fragment where there is one, else of the envelope."""
    found = _STREAM.search(answer)
    start, end = found.span(2) if found else (0, len(answer))
    middle = (start + end) // 2
    return answer[:middle] + b"\xfe<\x00&" * 4 + answer[middle + 16 :]


def fragment_order(answer: bytes) -> bytes:
    """Exchange the first two fragments of one message; where no message has two here, a fragment arrives as if it were its message's second."""
    found = list(_STREAM.finditer(answer))
    parts = [base64.b64decode(stream.group(2)) for stream in found]
    for first in range(len(parts) - 1):
        if parts[first][:8] == parts[first + 1][:8]:
            parts[first : first + 2] = parts[first + 1], parts[first]
            break
    else:
        if parts:
            number = int.from_bytes(parts[0][8:16], "big") + 1
            parts[0] = parts[0][:8] + number.to_bytes(8, "big") + bytes([parts[0][16] & 2]) + parts[0][17:]
    for stream, part in reversed(list(zip(found, parts, strict=True))):
        answer = answer[: stream.start(2)] + base64.b64encode(part) + answer[stream.end(2) :]
    return answer


KINDS: dict[str, Callable[[bytes], bytes]] = {"cut-envelope": cut_envelope, "corrupt": corrupt, "fragment-order": fragment_order}
