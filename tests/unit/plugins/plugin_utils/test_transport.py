# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""pywinrm's transport in its two forms: the bound on the size of an answer is set before the first request in both."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from ansible_collections.exchange.mitigation.plugins.plugin_utils._transport import MAX_BODY, PywinrmTransport


class Raw:
    """A body of so many bytes, in chunks."""

    def __init__(self, size: int) -> None:
        self.size = size

    def stream(self, chunk: int, **options: Any) -> Any:
        for dummy in range(0, self.size, chunk):
            yield b"x" * chunk


class Adapter(requests.adapters.BaseAdapter):
    """Answers without a network."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def send(self, request: Any, **dummy: Any) -> Any:
        answer = requests.Response()
        answer.status_code, answer.raw, answer.request, answer.url = 200, Raw(self.size), request, request.url
        return answer

    def close(self) -> None:
        pass


class Transport:
    """What both forms have."""

    endpoint = "http://ex1:5985/wsman"

    def __init__(self, size: int) -> None:
        self.session = requests.Session()
        self.session.mount("http://", Adapter(size))

    def prepared(self, message: bytes) -> requests.PreparedRequest:
        return self.session.prepare_request(requests.Request("POST", self.endpoint, data=message))


class Handing(Transport):
    """pywinrm since 0.5: the session is the first argument."""

    def send_message(self, message: bytes) -> bytes:
        return bytes(self._send_message_request(self.session, self.prepared(message)).content)

    def _send_message_request(self, session: requests.Session, request: requests.PreparedRequest) -> requests.Response:
        return session.send(request, stream=False)


class Keeping(Transport):
    """pywinrm before 0.5: the session is its own, and the message comes along."""

    def send_message(self, message: bytes) -> bytes:
        return bytes(self._send_message_request(self.prepared(message), message).content)

    def _send_message_request(self, request: requests.PreparedRequest, message: bytes) -> requests.Response:
        assert message
        return self.session.send(request, stream=False)


@pytest.mark.parametrize("form", [Handing, Keeping])
def test_an_answer_is_read_up_to_the_bound_and_no_further(form: Any) -> None:
    assert len(PywinrmTransport(form(MAX_BODY - 10240)).send(b"<s:Envelope/>")) >= MAX_BODY - 10240
    with pytest.raises(Exception, match="bytes"):
        PywinrmTransport(form(MAX_BODY + 10240)).send(b"<s:Envelope/>")
