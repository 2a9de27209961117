# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to the libraries' transports before the first request: answers are bounded, and the environment is read no more."""

from __future__ import annotations

import types
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
import requests
from ansible_collections.exchange.mitigation.plugins.plugin_utils import _transport
from ansible_collections.exchange.mitigation.plugins.plugin_utils._transport import MAX_BODY, OneTry, PywinrmTransport, bound, psrp_link

PROXY = "http://proxy:8080"


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


def test_proxies_of_the_environment_are_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = Handing(1024)
    transport.session.auth = ("user", "password")
    session = PywinrmTransport(transport)
    monkeypatch.setattr(urllib.request, "getproxies_environment", lambda *dummy: pytest.fail("the environment was read again"))
    monkeypatch.setattr(requests.utils, "getproxies", lambda *dummy: pytest.fail("the environment was read again"))
    session.send(b"<s:Envelope/>")
    assert not transport.session.trust_env


def test_a_session_without_a_logon_keeps_what_it_may_find_in_netrc() -> None:
    session = requests.Session()
    assert bound(session).trust_env and bound(None) is None


@pytest.mark.parametrize("way", [{"http_proxy": PROXY}, {"all_proxy": PROXY}, {"http_proxy": PROXY, "no_proxy": "ex1"}, {}])
def test_the_proxy_is_the_one_that_the_library_merged(way: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    wsman = pytest.importorskip("pypsrp.wsman")
    for name in ("http_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in way.items():
        monkeypatch.setenv(name, value)
    transport = wsman.WSMan("ex1", ssl=False, auth="ntlm", username="user", password="password").transport
    request = requests.Request("POST", transport.endpoint).prepare()
    before = transport._build_session()
    expected = requests.utils.select_proxy(request.url, requests.utils.resolve_proxies(request, before.proxies, before.trust_env))
    OneTry(transport)
    after = transport._build_session()
    assert not after.trust_env
    assert requests.utils.select_proxy(request.url, requests.utils.resolve_proxies(request, after.proxies, after.trust_env)) == expected
    assert expected == (None if not way or "no_proxy" in way else PROXY)


class Pool:
    """A pool of pypsrp that opens, or does not."""

    def __init__(self, opens: bool = True) -> None:
        self.opens = opens
        self.host: Any = "the plugin's own"
        http = types.SimpleNamespace(session=None, _build_session=None, close=lambda: None)
        self.connection = types.SimpleNamespace(transport=http)
        self.shell = types.SimpleNamespace(id="", opened=False)


class Plugin:
    """Ansible's psrp plugin of a version that does not tell its arguments."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.runspace: Pool | None = None
        self.closed = 0

    def _connect(self) -> None:
        self.runspace = self.pool
        if not self.pool.opens:
            raise ConnectionError("refused")

    def close(self) -> None:
        self.closed += 1


def test_a_plugin_that_does_not_tell_its_arguments_opens_the_pool_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Any] = []
    record: Callable[[Any], Any] = taken.append
    monkeypatch.setattr(_transport, "record", record)
    plugin = Plugin(Pool())
    link = psrp_link(plugin)
    assert taken == [plugin.pool] and link.pool is plugin.pool
    assert plugin.pool.host is None and isinstance(plugin.pool.connection.transport, OneTry)
    link.release()
    assert plugin.runspace is None and plugin.closed == 1


def test_a_pool_that_did_not_open_is_not_left_with_the_plugin() -> None:
    plugin = Plugin(Pool(opens=False))
    with pytest.raises(ConnectionError, match="refused"):
        psrp_link(plugin)
    assert plugin.runspace is None and plugin.closed == 1
