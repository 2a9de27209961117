# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pending restarts of Windows, and a restart that is proven by a newer LastBootUpTime.

Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import PSObject, plain
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, CmdletError, ConnectionFailure
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Answer, Session, Statement, call
from ansible_collections.exchange.mitigation.plugins.module_utils._registry_keys import COMPONENT_SERVICING, SESSION_MANAGER, UPDATE_EXE, WINDOWS_UPDATE
from ansible_collections.exchange.mitigation.plugins.module_utils._untrusted import word

#: Seconds between two looks at a server that restarts, at most; the first ones follow sooner.
POLL = 10.0
FIRST_POLL = 1.0

Found = TypeVar("Found")


def pending_statements() -> dict[str, Statement]:
    """The reads that tell whether a restart is pending."""
    return {
        "pending_flags": (call("Test-Path", LiteralPath=[COMPONENT_SERVICING, WINDOWS_UPDATE]),),
        "pending_values": (call("Get-ItemProperty", LiteralPath=[SESSION_MANAGER, UPDATE_EXE]),),
    }


def pending_reasons(answers: Mapping[str, Answer]) -> tuple[str, ...]:
    """Return why a restart is pending: component_servicing, windows_update, file_rename, update_exe; empty for none."""
    flags = [plain(value) is True for value in answers["pending_flags"].objects]
    reasons = [name for name, flag in zip(("component_servicing", "windows_update"), flags) if flag]
    for item in answers["pending_values"].objects:
        if not isinstance(item, PSObject):
            continue
        key = (word(item.get("PSChildName")) or "").lower()
        if key == "session manager" and plain(item.get("PendingFileRenameOperations")):
            reasons.append("file_rename")
        elif key == "updateexevolatile" and plain(item.get("Flags")):
            reasons.append("update_exe")
    return tuple(reasons)


def last_boot(host: Session) -> datetime.datetime:
    """Return when Windows was started. Raises CmdletError, ConnectionFailure."""
    (answer,) = host.read([(call("Get-CimInstance", ClassName="Win32_OperatingSystem", Property=["LastBootUpTime"]),)])
    for item in answer.objects:
        when = item.get("LastBootUpTime") if isinstance(item, PSObject) else None
        if isinstance(when, datetime.datetime):
            return when
    raise CmdletError("Win32_OperatingSystem does not tell LastBootUpTime", "Get-CimInstance", reason="answer_malformed")


def wait_for(look: Callable[[], Found | None], seconds: float) -> Found | None:
    """Call ``look`` until it returns something or the time is over; a server that does not answer is looked at again.

    The last ConnectionFailure is raised when the server never answered.
    """
    deadline = time.monotonic() + seconds
    pause = FIRST_POLL
    while True:
        failure: ConnectionFailure | None = None
        try:
            found = look()
            if found is not None:
                return found
        except ConnectionFailure as exc:
            failure = exc
        pause = min(pause, POLL)
        if time.monotonic() + pause > deadline:
            if failure is not None:
                raise failure
            return None
        time.sleep(pause)
        pause *= 1.5


def wait_for_boot(host: Session, before: datetime.datetime, seconds: float) -> datetime.datetime:
    """Wait until the server answers with a newer LastBootUpTime and return it. Raises ApplyError ``reboot_timeout``."""

    def look() -> datetime.datetime | None:
        try:
            now = last_boot(host)
        except CmdletError:
            return None  # WMI is not up yet
        return now if now > before else None

    try:
        found = wait_for(look, seconds)
    except ConnectionFailure as exc:
        raise ApplyError(
            f"The server did not come back within {seconds:g} seconds after its restart: {exc.message} Look at its console.", "reboot_timeout",
            last_boot=before.isoformat(),
        ) from exc  # fmt: skip
    if found is None:
        raise ApplyError(
            f"The server answers, but its last start is still {before.isoformat()} after {seconds:g} seconds: it did not restart. "
            "Look for what holds it up, or restart it yourself.", "reboot_timeout", last_boot=before.isoformat(),
        )  # fmt: skip
    return found


def restart(host: Session, before: datetime.datetime, seconds: float, progress: Callable[[str], Any]) -> datetime.datetime:
    """Restart the server and wait until it is back; returns its new LastBootUpTime. Raises ApplyError, CmdletError."""
    progress(f"restarting the server, waiting up to {seconds:g} seconds")
    try:
        host.change((call("Restart-Computer", Force=True),))
    except ConnectionFailure as exc:
        if not exc.details.get("change_sent"):
            raise
        # The restart may well be what ended the connection; the boot time tells.
    return wait_for_boot(host, before, seconds)
