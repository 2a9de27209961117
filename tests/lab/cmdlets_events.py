# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Get-WinEvent with -FilterXPath: the conditions that the collection uses, evaluated on the events of the machine (CMDLETS.md 7)."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from typing import Any

from lab.kernel import I64, Invocation, LabRefusal, Obj, Parameter, cmdlet
from lab.providers import NOT_FOUND, record

_LEVELS = {"Critical": 1, "Error": 2, "Warning": 3, "Information": 4}
_NAMES = {
    1031: {"Error": "Fehler", "Warning": "Warnung", "Information": "Informationen"},
    1036: {"Error": "Erreur", "Warning": "Avertissement", "Information": "Information"},
}
_SYSTEM = re.compile(r"\*\[System\[(?P<body>.*)\]\]")
_PROVIDER = re.compile(r"Provider\[@Name='([^']*)'\]")
_ID = re.compile(r"EventID=(\d+)")
_AGE = re.compile(r"TimeCreated\[timediff\(@SystemTime\)\s*<=\s*(\d+)\]")
_RECORD = re.compile(r"EventRecordID\s*>\s*(\d+)")


def _condition(text: str, row: dict[str, Any], now: datetime.datetime) -> bool:
    """Evaluate conditions joined by and; alternatives of EventID stand in parentheses. Anything else is refused."""
    for part in re.split(r"\s+and\s+", text):
        found = _PROVIDER.fullmatch(part)
        if found:
            holds = str(row["provider"]).lower() == found[1].lower()
        elif re.fullmatch(r"\(EventID=\d+(?: or EventID=\d+)*\)|EventID=\d+", part):
            holds = str(row["id"]) in _ID.findall(part)
        elif age := _AGE.fullmatch(part):
            holds = (now - datetime.datetime.fromisoformat(row["time"])).total_seconds() * 1000 <= int(age[1])
        elif number := _RECORD.fullmatch(part):
            holds = int(row["record"]) > int(number[1])
        else:
            raise LabRefusal(f"the lab does not evaluate the XPath condition {part!r}")
        if not holds:
            return False
    return True


@cmdlet(
    "Get-WinEvent",
    {"LogName": Parameter("string[]", position=0), "FilterXPath": Parameter(), "MaxEvents": Parameter("int"), "Oldest": Parameter("switch")},
)
def get_win_event(inv: Invocation) -> Iterator[Any]:
    """Events, newest first; none at all is a non-terminating error. The provider need not be registered."""
    logs = inv.get("LogName") or []
    if len(logs) != 1 or not inv.get("FilterXPath"):
        raise LabRefusal("the lab imitates Get-WinEvent with one -LogName and -FilterXPath only")
    query = _SYSTEM.fullmatch(str(inv.get("FilterXPath")))
    if query is None:
        raise LabRefusal(f"the lab does not evaluate the XPath {inv.get('FilterXPath')!r}")
    now = inv.machine.now()
    rows = [row for row in inv.machine.events.rows() if row["log"].lower() == logs[0].lower() and _condition(query["body"], row, now)]
    rows.sort(key=lambda row: int(row["record"]), reverse=not inv.get("Oldest"))
    chosen = rows[: inv.get("MaxEvents")] if inv.get("MaxEvents") else rows
    if not chosen:
        message = "No events were found that match the specified selection criteria."
        inv.error(record("Get-WinEvent", "NoMatchingEventsFound", message, NOT_FOUND, "System.Exception"))
    for row in chosen:
        yield _event(inv.machine, row)


def _event(machine: Any, row: dict[str, Any]) -> Obj:
    types = ("System.Diagnostics.Eventing.Reader.EventLogRecord", "System.Diagnostics.Eventing.Reader.EventRecord", "System.Object")
    level = row["level"]
    names = _NAMES.get(machine.os.language, {})
    props: dict[str, Any] = {
        "Id": row["id"], "Version": None, "Qualifiers": 16388, "Level": _LEVELS.get(level, 4), "Task": 1, "Opcode": None,
        "Keywords": I64(36028797018963968), "RecordId": I64(row["record"]), "ProviderName": row["provider"], "ProviderId": None, "LogName": row["log"],
        "ProcessId": None, "ThreadId": None, "MachineName": machine.fqdn, "UserId": None, "TimeCreated": datetime.datetime.fromisoformat(row["time"]),
        "ActivityId": None, "RelatedActivityId": None, "ContainerLog": row["log"].lower(), "MatchedQueryIds": [], "Bookmark": "EventBookmark",
        "LevelDisplayName": names.get(level, level), "OpcodeDisplayName": "", "TaskDisplayName": "General", "KeywordsDisplayNames": ["Classic"],
        "Properties": ["System.Diagnostics.Eventing.Reader.EventProperty"],
    }  # fmt: skip
    return Obj(types, props, {"Message": row["message"]}, to_string="System.Diagnostics.Eventing.Reader.EventLogRecord")
