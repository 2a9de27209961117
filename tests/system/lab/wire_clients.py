# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real clients, as the tests of the wire use them: pypsrp, pywinrm, and pypsrp's pool over pywinrm's transport."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from pypsrp.powershell import PowerShell, RunspacePool
from pypsrp.wsman import WSMan
from winrm.exceptions import WinRMTransportError
from winrm.protocol import Protocol
from wire_fleet import PASSWORD, USER

#: A statement: commands, each a name and its parameters (a dict, or a list of pairs).
Command = tuple[str, Any]


@dataclasses.dataclass
class Outcome:
    """What one pipeline gave."""

    state: str
    output: list[Any]
    errors: list[Any]
    failure: Any

    @property
    def fqid(self) -> str:
        """The error id of the failure."""
        return str(getattr(self.failure, "fq_error", ""))


def wsman(fleet: Any, endpoint: str = "wsman_http", auth: str = "ntlm", number: int = 0, **more: Any) -> WSMan:
    """Return pypsrp's WSMan for an endpoint."""
    machine = fleet.machines[number]
    if endpoint.endswith("https"):
        more.setdefault("cert_validation", machine.tls[0])
    if endpoint.startswith("web"):
        more.setdefault("path", "PowerShell")
    more.setdefault("username", USER)
    more.setdefault("password", PASSWORD)
    return WSMan("127.0.0.1", port=machine.ports[endpoint], ssl=endpoint.endswith("https"), auth=auth, **more)


@contextlib.contextmanager
def pool(fleet: Any, endpoint: str = "wsman_http", auth: str = "ntlm", configuration: str | None = None, **more: Any) -> Iterator[RunspacePool]:
    """Open a runspace pool and close it again."""
    client = wsman(fleet, endpoint, auth, **more)
    name = configuration or ("Microsoft.Exchange" if endpoint.startswith("web") else "Microsoft.PowerShell")
    with client, RunspacePool(client, configuration_name=name) as opened:
        yield opened


def run(opened: RunspacePool, *statements: Command | Sequence[Command], script: str | None = None) -> Outcome:
    """Run a batch; a statement is one command or a list of piped ones."""
    shell = PowerShell(opened)
    for number, statement in enumerate(statements):
        if number:
            shell.add_statement()
        for name, parameters in [statement] if isinstance(statement, tuple) else statement:
            shell.add_cmdlet(name)
            for key, value in parameters.items() if isinstance(parameters, dict) else parameters:
                if key is None:
                    shell.add_argument(value)
                else:
                    shell.add_parameter(key, value)
    if script is not None:
        if statements:
            shell.add_statement()
        shell.add_script(script)
    shell.invoke()
    state = {3: "Stopped", 4: "Completed", 5: "Failed"}.get(shell.state, str(shell.state))
    failure = shell.streams.error[-1] if state == "Failed" else None
    outcome = Outcome(state, list(shell.output), list(shell.streams.error), failure)
    with contextlib.suppress(Exception):
        shell.close()
    return outcome


def protocol(fleet: Any, endpoint: str = "wsman_http", transport: str = "ntlm", **more: Any) -> Protocol:
    """Return pywinrm's protocol for an endpoint."""
    machine = fleet.machines[0]
    scheme = "https" if endpoint.endswith("https") else "http"
    more.setdefault("password", PASSWORD)
    if scheme == "https":
        more.setdefault("ca_trust_path", machine.tls[0])
    return Protocol(f"{scheme}://127.0.0.1:{machine.ports[endpoint]}/wsman", transport=transport, username=USER, **more)


class Carried:
    """pywinrm's transport where pypsrp expects its own."""

    def __init__(self, carrier: Protocol) -> None:
        self._carrier = carrier
        self.endpoint = carrier.transport.endpoint

    def send(self, message: bytes, retries_on_read_timeout: int = 0, timeout: Any = None) -> bytes:
        """Send one message."""
        from pypsrp.exceptions import WinRMTransportError as Fault

        try:
            answer = self._carrier.transport.send_message(message)
        except WinRMTransportError as error:
            raise Fault("http", error.code, error.response_text) from None
        return answer if isinstance(answer, bytes) else answer.encode("utf-8")

    def close(self) -> None:
        """Close the connection."""
        self._carrier.transport.close_session()
