# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links to an endpoint: an open runspace pool over the task's connection, and how to let go of it.

A link is used until its first fault and then abandoned: neither pywinrm nor pypsrp can go on after a lost encrypted
connection, because they seal with the old key (WINRM.md B).
Note that this plugin util is private to the collection and may change at any time.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import ClixmlError, gated
from ansible_collections.exchange.mitigation.plugins.module_utils._deps import optional
from ansible_collections.exchange.mitigation.plugins.plugin_utils._faults import classify, never_connected, wmi_code
from ansible_collections.exchange.mitigation.plugins.plugin_utils._psrp import Recorder, record

#: None without the library; require() raises MissingLibrary before any of them is used.
pypsrp_exceptions = optional("pypsrp.exceptions")
powershell = optional("pypsrp.powershell")
pypsrp_wsman = optional("pypsrp.wsman")
winrm_exceptions = optional("winrm.exceptions")

#: Seconds that the cleanup after a fault may take for each of its two or three requests.
CLEANUP_TIMEOUT = 5

#: Bytes of the body of one HTTP answer, and of all answers to one pipeline. Envelopes have 150 or 500 KiB; no answer that is wanted comes near.
MAX_BODY = 16 * 1024 * 1024
MAX_ANSWER = 64 * 1024 * 1024

#: Stands in for the cmd shell that the winrm plugin would open although nothing uses it.
NO_SHELL = "not opened"


def bound(session: Any) -> Any:
    """Make a session of requests read no more than MAX_BODY of any answer, and the environment no more than once; returns it.

    Both libraries have merged the proxies of the environment into the session when they built it; requests would look for them anew
    with every message, which takes longer than the message. Where no logon is set, it may also look for one in .netrc, and stays as it is.
    """
    if session is not None and session.auth is not None:
        session.trust_env = False
    for adapter in session.adapters.values() if session is not None else ():
        if not isinstance(adapter.send, functools.partial) or adapter.send.func is not _sent:
            adapter.send = functools.partial(_sent, adapter.send)
    return session


def _sent(send: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    # The body is left for later: the handlers of NTLM take the certificate from the connection, which reading to the end closes.
    response = send(*args, **kwargs)
    stream = getattr(response.raw, "stream", None)
    if stream is not None:
        response.raw.stream = functools.partial(_counted, stream)
    return response


def _counted(stream: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    total = 0
    for chunk in stream(*args, **kwargs):
        total += len(chunk)
        if total > MAX_BODY:
            raise ClixmlError(f"an HTTP answer has more than {MAX_BODY} bytes")
        yield chunk


class Answers:
    """Counts what the server sends, from one ``begin`` to the next."""

    def __init__(self) -> None:
        self.received = 0

    def begin(self) -> None:
        """Start anew: a pipeline begins."""
        self.received = 0

    def take(self, answer: bytes) -> bytes:
        """Return an answer that may be given to an XML parser. Raises ClixmlError."""
        self.received += len(answer)
        if self.received > MAX_ANSWER:
            raise ClixmlError(f"the answers have more than {MAX_ANSWER} bytes")
        return gated(answer)


class OneTry(Answers):
    """A transport for pypsrp's WSMan that sends every message once: a lost answer is never asked for again."""

    def __init__(self, transport: Any, answered: bool = False) -> None:
        super().__init__()
        self.transport = transport
        self.answered = answered
        bound(transport.session)
        transport._build_session = functools.partial(_built, transport._build_session)  # pylint: disable=protected-access

    @property
    def endpoint(self) -> str:
        """The URL."""
        return str(self.transport.endpoint)

    def send(self, message: bytes, **dummy: Any) -> bytes:
        """Return the answer to one WS-Management message."""
        try:
            answer: bytes = self.transport.send(message)
        except pypsrp_exceptions.WinRMTransportError as exc:
            raise _fault(exc.protocol, exc.code, exc.response_text) from exc
        self.answered = True
        return self.take(answer)

    def renew(self) -> None:
        """Forget the connection and its keys; the next message authenticates anew, with the cleanup's time limit."""
        self.close()
        self.transport.session = None
        self.transport.encryption = None
        self.transport.connection_timeout = self.transport.read_timeout = CLEANUP_TIMEOUT

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(Exception):
            self.transport.close()


def _built(build: Callable[[], Any]) -> Any:
    return bound(build())


def _sending(transport: Any, send: Callable[..., Any], *args: Any) -> Any:
    # pywinrm hands the session over as the first argument since 0.5; before, it kept it to itself.
    bound(args[0] if hasattr(args[0], "adapters") else transport.session)
    return send(*args)


def _fault(protocol: str, status: int, response: str) -> Exception:
    """Return what WSMan expects for an HTTP error: it reads WS-Management faults out of it, but not those of WMI."""
    code = wmi_code(response)
    try:
        gated(str(response or "").encode("utf-8", "replace"))
    except ClixmlError:
        response = ""  # an error page, or worse: nothing that an XML parser shall see
    if code is not None:
        return pypsrp_exceptions.WSManFaultError(code, None, None, None, None, None)  # type: ignore[no-any-return]
    return pypsrp_exceptions.WinRMTransportError(protocol, status, response)  # type: ignore[no-any-return]


class PywinrmTransport(Answers):
    """pywinrm's transport under pypsrp's WSMan: kinit, certificates, CredSSP and proxies are as the inventory has them."""

    def __init__(self, transport: Any) -> None:
        super().__init__()
        self.transport = transport
        self.answered = False
        # Every request of pywinrm passes here, those that set the encryption up while the session is built included.
        transport._send_message_request = functools.partial(_sending, transport, transport._send_message_request)  # pylint: disable=protected-access

    @property
    def endpoint(self) -> str:
        """The URL."""
        return str(self.transport.endpoint)

    def send(self, message: bytes, **dummy: Any) -> bytes:
        """Return the answer to one WS-Management message; faults are raised as pypsrp expects them."""
        try:
            answer: bytes = self.transport.send_message(message)
            self.answered = True
            return self.take(answer)
        except winrm_exceptions.WinRMTransportError as exc:
            raise _fault(exc.protocol, exc.code, exc.response_text) from exc
        except winrm_exceptions.AuthenticationError as exc:
            raise pypsrp_exceptions.AuthenticationError(str(exc)) from exc

    def renew(self) -> None:
        """Forget the connection and its keys; the next message authenticates anew, with the cleanup's time limit."""
        self.close()
        self.transport.session = None
        self.transport.encryption = None
        self.transport.read_timeout_sec = CLEANUP_TIMEOUT

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(Exception):
            self.transport.close_session()


class Link:
    """An open pool of one runspace. ``recorder`` holds what the server wrote."""

    def __init__(self, pool: Any, recorder: Recorder) -> None:
        self.pool = pool
        self.recorder = recorder

    def close(self) -> None:
        """Close the pool and the connection; deleting the shell ends its pipelines too."""
        try:
            self.pool.close()
        finally:
            self.release()

    def abandon(self, exc: BaseException | None = None) -> None:
        """After a fault or an interruption: delete the shell over a fresh connection, once, and ignore what comes of it.

        Without it the server keeps the session until it is idle for minutes or hours, and it counts against the quotas.
        Where the fault shows that no message ever arrived, there is nothing to delete.
        """
        wsman = self.pool.connection
        arrived = wsman.transport.answered or not isinstance(exc, Exception) or not never_connected(classify(exc, ""))
        try:
            if arrived and self.pool.shell.id:  # chosen here, so it is known even where the answer to its creation was lost
                wsman.transport.renew()
                wsman.operation_timeout = CLEANUP_TIMEOUT
                selectors = pypsrp_wsman.SelectorSet()
                selectors.add_option("ShellId", self.pool.shell.id)
                with contextlib.suppress(Exception):
                    wsman.delete(self.pool.shell.resource_uri, selector_set=selectors)
        finally:
            self.release()

    def release(self) -> None:
        """Close the connection without a message."""
        self.pool.connection.transport.close()


def exchange_link(arguments: Mapping[str, Any], configuration: str, offered: list[str]) -> Link:
    """Open a pool through pypsrp's own transport. ``arguments`` are WSMan's; ``offered`` gets what the first 401 offers."""
    wsman = pypsrp_wsman.WSMan(**arguments)
    wsman.transport._build_session = functools.partial(_listening, wsman.transport._build_session, offered)  # pylint: disable=protected-access
    wsman.transport = OneTry(wsman.transport)
    return _opened(powershell.RunspacePool(wsman, configuration_name=configuration), Link)


def _listening(build: Callable[[], Any], offered: list[str]) -> Any:
    """Return a session of requests that notes which authentication methods the server offers; pypsrp does not tell."""
    session = build()
    for adapter in session.adapters.values():
        adapter.send = functools.partial(_noting, adapter.send, offered)
    return session


def _noting(send: Callable[..., Any], offered: list[str], *args: Any, **kwargs: Any) -> Any:
    response = send(*args, **kwargs)
    header = response.headers.get("www-authenticate")
    if response.status_code == 401 and header and not offered:
        offered.append(str(header))
    return response


class WinrmLink(Link):
    """A pool over a live connection of Ansible's winrm plugin."""

    def __init__(self, pool: Any, recorder: Recorder, connection: Any = None) -> None:
        super().__init__(pool, recorder)
        self.connection = connection

    def release(self) -> None:
        """Close the HTTP connection and leave the plugin as if it had never connected."""
        with contextlib.suppress(Exception):
            self.connection.close()
        super().release()


def winrm_link(connection: Any, configuration: str) -> Link:
    """Open a pool over a connection of Ansible's winrm plugin.

    The plugin opens a cmd shell while connecting, to find the transport that works. With a single transport there is
    nothing to find, so the shell (a request here, a process on the server) is left out.
    """
    single = len(connection.get_option("transport") or [None]) == 1
    spared = single and not connection.protocol and not connection.shell_id
    if spared:
        connection.shell_id = NO_SHELL
    try:
        connection._connect()  # pylint: disable=protected-access
    finally:
        if spared:
            connection.shell_id = None
    protocol = connection.protocol
    # The arguments only satisfy the constructor: the transport that it makes is replaced before it is used.
    options = {"auth": "basic", "username": "unused", "password": "unused", "ssl": True}  # nosec B105  # a word that nobody logs on with
    wsman = pypsrp_wsman.WSMan("localhost", operation_timeout=protocol.operation_timeout_sec, **options)
    wsman.transport = PywinrmTransport(protocol.transport)
    return _opened(powershell.RunspacePool(wsman, configuration_name=configuration), WinrmLink, connection)


class PsrpLink(Link):
    """The pool that Ansible's psrp plugin opened."""

    def __init__(self, pool: Any, recorder: Recorder, connection: Any = None) -> None:
        super().__init__(pool, recorder)
        self.connection = connection

    def release(self) -> None:
        """Close the HTTP connection and leave the plugin as if it had never connected."""
        super().release()
        self.connection.runspace = None
        with contextlib.suppress(Exception):
            self.connection.close()


def psrp_link(connection: Any) -> Link:
    """Open a pool with the arguments of a connection of Ansible's psrp plugin; its session configuration is the connection's own.

    The plugin itself would open one that answers prompts, and writes what it can do at length into the first message.
    """
    getattr(connection, "_build_kwargs", lambda: None)()
    arguments = getattr(connection, "_psrp_conn_kwargs", None)
    if arguments is None:
        return _taken(connection)
    wsman = pypsrp_wsman.WSMan(**arguments)
    wsman.transport = OneTry(wsman.transport)
    pool = getattr(connection, "_psrp_runspace_kwargs", None) or {"configuration_name": connection.get_option("configuration_name")}
    return _opened(powershell.RunspacePool(wsman, **pool), Link)


def _taken(connection: Any) -> Link:
    """Take the pool that a connection of Ansible's psrp plugin opens, where the plugin does not tell its arguments."""
    try:
        connection._connect()  # pylint: disable=protected-access
    except BaseException as exc:
        # The plugin keeps a pool that failed to open, and would take it for an open one the next time.
        if connection.runspace is not None:
            connection.runspace.connection.transport = OneTry(connection.runspace.connection.transport, connection.runspace.shell.opened)
            PsrpLink(connection.runspace, Recorder(), connection).abandon(exc)
        raise
    pool = connection.runspace
    pool.host = None  # nobody answers prompts: with a host the server would wait for an answer, without one it refuses
    pool.connection.transport = OneTry(pool.connection.transport, answered=True)
    return PsrpLink(pool, record(pool), connection)


def _opened(pool: Any, kind: Any, *more: Any) -> Link:
    link: Link = kind(pool, record(pool), *more)
    try:
        pool.open()
    except BaseException as exc:
        link.abandon(exc)
        raise
    return link
