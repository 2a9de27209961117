# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP and HTTPS listeners of all machines: /wsman, the Exchange endpoint /PowerShell, and the sites of IIS.

One selector loop accepts for all listeners, one thread serves a connection (WINRM.md A).
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import ssl
import sys
import threading
import time
import traceback
from http.server import ThreadingHTTPServer
from typing import Any

import lab.cmdlets_language  # registers the engine's own cmdlets
from lab import auth
from lab.accesslog import AccessLog
from lab.connection import Handler
from lab.faults import Faults
from lab.kernel import LabRefusal
from lab.pipeline import refuse
from lab.shells import SessionBudget, ShellService, each

#: The listeners of a machine in the order of their port offsets.
ENDPOINTS = ("wsman_http", "wsman_https", "web_http", "web_https")
__all__ = ["ENDPOINTS", "Server", "serve"]
_LANGUAGE = lab.cmdlets_language


class Listener(ThreadingHTTPServer):
    """One listening socket: an endpoint of a machine."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256
    allow_reuse_address = True

    def __init__(self, wire: Server, machine: Any, endpoint: str, port: int) -> None:
        self.wire = wire
        self.machine = machine
        self.endpoint = endpoint
        self.tls = endpoint.endswith("https")
        self.bindings = None
        self._context: ssl.SSLContext | None = None
        if self.tls:
            certificate, key = wire.certificate(machine)
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.minimum_version = ssl.TLSVersion.TLSv1_2
            self._context.load_cert_chain(certificate, key)
            if getattr(machine, "cbt", "strict") == "strict":
                self.bindings = auth.bindings_of(certificate)
        self._open: set[socket.socket] = set()
        self._abrupt: set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__((str(getattr(machine, "address", None) or "127.0.0.1"), port), Handler)

    def server_bind(self) -> None:
        """Bind without the reverse lookup of HTTPServer."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def auth_modes(self) -> tuple[str, ...]:
        """Return the authentication modes of this endpoint."""
        modes = (getattr(self.machine, "auth", None) or {}).get(self.endpoint)
        if self.endpoint.startswith("web"):
            modes = getattr(self.wire.fleet, "exchange_modes", None) or modes
        usual = auth.DEFAULT_AUTH if getattr(self.wire.fleet, "kdc", None) is None else auth.KERBEROS_AUTH
        return tuple(modes or usual[self.endpoint])

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept; the handshake is done by the connection's own thread."""
        connection, address = self.socket.accept()
        if self._context is not None:
            connection = self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with self._guard:
            self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        """Close one connection."""
        with self._guard:
            self._open.discard(request)
            abrupt = request in self._abrupt
            self._abrupt.discard(request)
        if abrupt:
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def abrupt(self, request: Any) -> None:
        """Note that a connection is to end with a reset alone, without the orderly end before it."""
        with self._guard:
            self._abrupt.add(request)

    def listen_again(self) -> None:
        """Listen anew on the same port."""
        self.socket = socket.socket(self.address_family, self.socket_type)
        self.server_bind()
        self.server_activate()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that break are part of the trade; anything else is a fault of the lab that tests must see."""
        error = sys.exc_info()[1]
        if not isinstance(error, (OSError, ssl.SSLError)):
            refuse(self.wire.fleet, f"{self.machine.name}: {self.endpoint}: {type(error).__name__}: {error}\n{''.join(traceback.format_exception(error)[-3:])}")

    def drop_all(self, spare: Any = None) -> None:
        """End all connections but one."""
        with self._guard:
            connections = [connection for connection in self._open if connection is not spare]
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Server:
    """Serves a fleet: ``start()`` returns machine name -> endpoint -> port."""

    def __init__(self, fleet: Any) -> None:
        self.fleet = fleet
        machines = fleet.machines.values() if hasattr(fleet.machines, "values") else fleet.machines
        self._machines = list(machines)
        for name, make in (("access_log", AccessLog), ("faults", Faults), ("sessions", SessionBudget), ("refusals", list)):
            if getattr(fleet, name, None) is None:
                setattr(fleet, name, make())
        if not hasattr(fleet, "scripts_received"):
            fleet.scripts_received = 0
        self.services = {machine.name: ShellService(fleet, machine) for machine in self._machines}
        #: seconds that every request takes longer, as a round trip on a network would
        self.delay = float(getattr(fleet, "delay", 0.0) or 0.0)
        self._listeners: list[Listener] = []
        self._down: dict[str, float] = {}
        self._selector = selectors.DefaultSelector()
        self._wake = socket.socketpair()
        self._thread: threading.Thread | None = None
        self._credentials: dict[tuple[tuple[str, str], ...], auth.Credentials] = {}
        self._guard = threading.Lock()

    @property
    def faults(self) -> Faults:
        """The faults of the fleet."""
        faults: Faults = self.fleet.faults
        return faults

    def start(self) -> dict[str, dict[str, int]]:
        """Open all listeners and serve them in the background."""
        base = getattr(self.fleet, "port_base", None)
        ports: dict[str, dict[str, int]] = {}
        try:
            for number, machine in enumerate(self._machines):
                mine: dict[str, int] = {}
                for offset, endpoint in enumerate(ENDPOINTS):
                    listener = Listener(self, machine, endpoint, base + 10 * number + offset if base else 0)
                    self._listeners.append(listener)
                    self._selector.register(listener.socket, selectors.EVENT_READ, listener)
                    mine[endpoint] = listener.server_port
                ports[machine.name] = machine.ports = mine
        except BaseException:
            self.stop()
            raise
        self.fleet.wire = self
        self._selector.register(self._wake[0], selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._accept, name="lab-accept", daemon=True)
        self._thread.start()
        return ports

    def stop(self) -> None:
        """Close the listeners, end all connections and shells."""
        if self._thread is not None:
            self._wake[1].send(b"x")
            self._thread.join(10)
            self._thread = None
        for listener in self._listeners:
            listener.drop_all()
            listener.socket.close()
        self._listeners.clear()
        for service in self.services.values():
            service.vanish()
        self._selector.close()
        for end in self._wake:
            end.close()
        with self._guard:
            for credentials in self._credentials.values():
                credentials.remove()
            self._credentials.clear()

    def _accept(self) -> None:
        while True:
            for key, dummy in self._selector.select():
                if key.data is None:
                    return
                key.data._handle_request_noblock()

    def certificate(self, machine: Any) -> tuple[str, str]:
        """Return the certificate and key files of a machine."""
        files = getattr(machine, "tls", None)
        if files is None:
            raise LabRefusal(f"{machine.name} has no certificate: machine.tls must be (certificate, key) as PEM files")
        return os.fspath(files[0]), os.fspath(files[1])

    def credentials(self, machine: Any) -> auth.Credentials:
        """Return the NTLM users of a machine as they are now."""
        users = tuple(sorted(machine.users.items()))
        with self._guard:
            if users not in self._credentials:
                self._credentials[users] = auth.Credentials(dict(users))
            return self._credentials[users]

    def open_shells(self) -> list[dict[str, str]]:
        """Return every open shell: server, endpoint, user, id, uri."""
        return [
            {"server": name, "endpoint": shell.endpoint, "user": shell.owner, "id": shell.shell_id, "uri": shell.uri} for name, shell in each(self.services)
        ]

    def running_pipelines(self) -> int:
        """Return how many pipelines have not ended."""
        return sum(len(service.running()) for service in self.services.values())

    def reboot(self, machine: Any, seconds: float = 0.0, spare: Any = None) -> None:
        """Restart a machine: shells and connections are gone, for ``seconds`` nothing answers."""
        self._down[machine.name] = time.monotonic() + seconds
        self.services[machine.name].vanish()
        for listener in self._listeners:
            if listener.machine is machine:
                listener.drop_all(spare)
        restart = getattr(machine, "reboot", None)
        if callable(restart):
            restart()

    def close_ports(self, machine: Any, spare: Any = None) -> None:
        """Stop listening on the ports of a machine: its connections end, and new ones are refused."""
        for listener in self._listeners:
            if listener.machine is machine and listener.socket.fileno() >= 0:
                self._selector.unregister(listener.socket)
                listener.socket.close()
                listener.drop_all(spare)

    def open_ports(self, machine: Any) -> None:
        """Listen again where the ports of a machine were closed."""
        for listener in self._listeners:
            if listener.machine is machine and listener.socket.fileno() < 0:
                listener.listen_again()
                self._selector.register(listener.socket, selectors.EVENT_READ, listener)

    def unreachable(self, machine: Any) -> bool:
        """Tell whether a machine is still restarting."""
        return time.monotonic() < self._down.get(machine.name, 0.0)


def serve(fleet: Any) -> Server:
    """Start serving a fleet and return the server."""
    server = Server(fleet)
    server.start()
    return server
