# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an endpoint's refusal of a cmdlet says about rights: the role or the session configuration that is missing, by the table of cmdlets.

Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from ansible_collections.exchange.mitigation.plugins.module_utils._cmdlets import CHANGES, EXCHANGE, TABLE
from ansible_collections.exchange.mitigation.plugins.module_utils._jea import NEVER, READER, READS, WRITER

UNKNOWN_COMMAND = "CommandNotFoundException"
UNKNOWN_PARAMETER = "NamedParameterNotFound"
REFUSED_VALUE = "ParameterArgumentValidationError"


@dataclasses.dataclass(frozen=True)
class Need:
    """The least rights of a module: on the Windows server, the JEA endpoint that is enough instead, and at Exchange."""

    windows: str
    jea: str
    exchange: str


_NOTHING = "none"
_ADMINISTRATOR = "local administrator"
_VIEW = TABLE["Get-OrganizationConfig"].right
_BOTH = f"check: ``{READER}``; run: ``{WRITER}``"

MODULES: Mapping[str, Need] = {
    "feed": Need("none, it works on the controller", _NOTHING, _NOTHING),
    "notify": Need("none, it works on the controller", _NOTHING, _NOTHING),
    "report": Need("none, it works on the controller", _NOTHING, _NOTHING),
    "organization_info": Need(_NOTHING, _NOTHING, _VIEW),
    "server_info": Need(_ADMINISTRATOR, f"``{READER}``", f"{_VIEW}; none where ``organization`` is given"),
    "event_info": Need(_ADMINISTRATOR, f"``{READER}``", _NOTHING),
    "organization": Need(_NOTHING, _NOTHING, f"check: {_VIEW}; run: {TABLE['Set-OrganizationConfig'].right}"),
    "server": Need(_NOTHING, _NOTHING, f"check: {_VIEW}; run: {TABLE['Set-ExchangeServer'].right}"),
    "service": Need(_ADMINISTRATOR, _BOTH, _NOTHING),
    "mitigation": Need(
        _ADMINISTRATOR, _BOTH, f"{_VIEW}; where it blocks ids for Emergency Mitigation or lifts blocks: {TABLE['Set-ExchangeServer'].right}"
    ),
    "url_rewrite": Need(_ADMINISTRATOR, "none, it refuses", _NOTHING),
}


def lacking(cmdlet: str, endpoint: str, fqid: str, exception: str = "") -> str:
    """Return the sentence that names what is missing, with a blank before it; empty where the error is not about rights.

    A hidden cmdlet and one that does not exist give the same error (CMDLETS.md 9), so both are named.
    """
    unknown = fqid.startswith(UNKNOWN_COMMAND) or exception.endswith(UNKNOWN_COMMAND)
    row = TABLE.get(cmdlet)
    refused = (UNKNOWN_PARAMETER,) if endpoint == EXCHANGE else (UNKNOWN_PARAMETER, REFUSED_VALUE)
    if row is None or not (unknown or fqid.startswith(refused)):
        return ""
    if endpoint == EXCHANGE:
        if unknown:
            return f" The account lacks the role that has {cmdlet}; it needs {row.right}."
        return f" The server's build, or the role that the account has, lacks a parameter of {cmdlet}; the account needs {row.right}."
    if cmdlet in NEVER:
        wanted = "the default endpoint and a local administrator; no JEA endpoint of the collection offers it"
    elif cmdlet in READS and row.effect != CHANGES:
        wanted = f"the default endpoint, or JEA endpoint {READER} or {WRITER}"
    else:
        wanted = f"the default endpoint, or JEA endpoint {WRITER}"
    what = cmdlet if unknown else f"this use of {cmdlet}"
    return f" The endpoint, or the role that the account has there, does not offer {what}; it needs {wanted}."
