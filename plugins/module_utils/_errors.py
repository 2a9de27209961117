# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception tree. Each carries a stable ``reason`` code, one sentence, and fields for the result.

The sentence says what failed, where, what was expected and what to do.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

from typing import Any


class MitigationError(Exception):
    """Anything this collection reports as a failed task.

    ``reason`` is a stable code, ``details`` are plain values that are returned beside ``msg``.
    """

    reason = "failed"

    def __init__(self, message: str, reason: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason
        self.details = details


class ConnectionFailure(MitigationError):
    """The host or the Exchange endpoint could not be reached or the session broke: the task is unreachable."""

    reason = "connection_failed"


class MissingLibrary(MitigationError):
    """A Python library is missing or too old on the controller."""

    reason = "missing_library"


class InvalidInput(MitigationError):
    """An option has a value that cannot be meant."""

    reason = "invalid_input"


class Refused(MitigationError):
    """The collection declines to act, by name, before anything was written."""

    reason = "refused"


class CmdletError(MitigationError):
    """A cmdlet reported an error record.

    ``fqid`` is the fully qualified error id, ``category`` the ErrorCategory name (such as ``ObjectNotFound``),
    ``exception`` the .NET type name of the exception, ``target`` the target object as text.
    """

    reason = "cmdlet_failed"

    def __init__(
        self,
        message: str,
        cmdlet: str = "",
        fqid: str = "",
        category: str = "",
        exception: str = "",
        target: str = "",
        reason: str | None = None,
    ) -> None:
        super().__init__(message, reason, cmdlet=cmdlet, fqid=fqid, category=category, exception=exception, target=target)
        self.cmdlet = cmdlet
        self.fqid = fqid
        self.category = category
        self.exception = exception
        self.target = target


class CmdletNotAllowed(MitigationError):
    """A cmdlet or a parameter is not in the table of ``_cmdlets``; nothing was sent."""

    reason = "cmdlet_not_allowed"


class VerifyError(MitigationError):
    """A document, a signature or a certificate was not proven. ``reason`` is one code per way of failing."""

    reason = "not_verified"


class FetchError(MitigationError):
    """A document could not be fetched or read. ``reason`` names the hop: ``dns``, ``proxy``, ``tcp``, ``tls``, ``http_status``..."""

    reason = "fetch_failed"


class ConfigurationError(MitigationError):
    """An IIS configuration file cannot be understood; ``file`` and ``line`` say where."""

    reason = "configuration_malformed"


class JournalError(MitigationError):
    """The journal cannot be written or read; nothing is changed without one."""

    reason = "journal_unusable"


class ApplyError(MitigationError):
    """A change failed; the details say whether it was undone and what the server is like now."""

    reason = "apply_failed"


class DeliveryError(MitigationError):
    """A notice was not delivered. ``reason`` says where it ended: ``mail_connect``, ``mail_auth``, ``webhook_status``..."""

    reason = "notice_failed"
