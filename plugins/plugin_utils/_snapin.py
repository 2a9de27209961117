# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exchange's cmdlets through the snap-in on the server, in the runspace of the host's own session (``exchange_access: snapin``).

The snap-in works as the user of the session: it needs Active Directory, and a network logon is not handed on to it.
Note that this plugin util is private to the collection and may change at any time.
"""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.exchange.mitigation.plugins.module_utils._access import unusable
from ansible_collections.exchange.mitigation.plugins.module_utils._cmdlets import EXCHANGE
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import CmdletError
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Answer, ErrorRecord, Statement, call
from ansible_collections.exchange.mitigation.plugins.plugin_utils._session import PsrpSession

SNAPIN = "Microsoft.Exchange.Management.PowerShell.SnapIn"

#: What Exchange's directory layer raises where a domain controller does not take the logon.
_DIRECTORY = "Microsoft.Exchange.Data.Directory."
_NO_LOGON = ("ADInvalidCredentialException", "ADOperationException", "ADTransientException", "NoSuitableServerFoundException")


class SnapinSession:
    """A session of Exchange's cmdlets over a session of the host, which stays the caller's to close.

    ``auth`` names how the host's connection logs on, ``delegated`` says whether that is handed on.
    """

    def __init__(self, host: PsrpSession, auth: str, delegated: bool) -> None:
        self._host = host
        self._auth = auth
        self._delegated = delegated
        self._generation: int | None = None

    def read(self, statements: Sequence[Statement]) -> list[Answer]:
        """Return one answer per statement; raises also Refused where the snap-in cannot be used."""
        self._load()
        answers = self._host.read(statements, EXCHANGE)
        for answer in answers:
            for record in answer.errors:
                self._check(record.exception)
        return answers

    def change(self, statement: Statement) -> Answer:
        """Run one changing statement alone; raises also Refused where the snap-in cannot be used."""
        self._load()
        try:
            return self._host.change(statement, EXCHANGE)
        except CmdletError as exc:
            self._check(exc.exception)
            raise

    def close(self) -> None:
        """Do nothing: the runspace is the host session's."""

    def _load(self) -> None:
        """Load the snap-in into the runspace that the next statement will run in."""
        if self._generation is not None and self._host.generation == self._generation:
            return
        (answer,) = self._host.read([(call("Add-PSSnapin", Name=SNAPIN),)])
        if answer.errors:
            raise unusable(_reason(answer.errors[0]), self._host.where)
        self._generation = self._host.generation

    def _check(self, exception: str) -> None:
        if not self._delegated and exception.startswith(_DIRECTORY) and exception.endswith(_NO_LOGON):
            raise unusable("double_hop", self._host.where, auth=self._auth)


def _reason(record: ErrorRecord) -> str:
    """Return why the snap-in was not loaded: the session may not, or it is not there."""
    restricted = record.exception.endswith(("PSSecurityException", "CommandNotFoundException", "PSNotSupportedException", "ParseException"))
    return "snapin_language_mode" if restricted else "snapin_missing"
