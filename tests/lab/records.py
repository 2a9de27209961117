# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Error records as Windows PowerShell 5.1 serialises them (recorded: test_psrp_with_jea_configuration, test_psrp_error_failed)."""

from __future__ import annotations

from typing import Any

from lab.clixml import Writer
from lab.kernel import ErrorInfo, Obj

CATEGORIES = (
    "NotSpecified", "OpenError", "CloseError", "DeviceError", "DeadlockDetected", "InvalidArgument", "InvalidData", "InvalidOperation",
    "InvalidResult", "InvalidType", "MetadataError", "NotImplemented", "NotInstalled", "ObjectNotFound", "OperationStopped",
    "OperationTimeout", "SyntaxError", "ParserError", "PermissionDenied", "ResourceBusy", "ResourceExists", "ResourceUnavailable",
    "ReadError", "WriteError", "FromStdErr", "SecurityError", "ProtocolError", "ConnectionError", "AuthenticationError",
    "LimitsExceeded", "QuotaExceeded", "NotEnabled",
)  # fmt: skip
_RUNTIME = ("System.Management.Automation.RuntimeException", "System.SystemException")
_MSCORLIB = "mscorlib, Version=4.0.0.0, Culture=neutral, PublicKeyToken=b77a5c561934e089"
_BOUND = f"System.Collections.Generic.Dictionary`2[[System.String, {_MSCORLIB}],[System.Object, {_MSCORLIB}]]"
_UNBOUND = f"System.Collections.Generic.List`1[[System.Object, {_MSCORLIB}]]"


def _cut(text: str) -> str:
    """Shorten a target name in a category message, as Windows does: of more than 40 characters 15 stay at either end."""
    return text if len(text) <= 40 else f"{text[:15]}...{text[-15:]}"


def category_message(info: ErrorInfo) -> str:
    """Return ``ObjectNotFound: (C:\\x:String) [Get-Item], ItemNotFoundException``."""
    reason = info.exception.rsplit(".", 1)[-1]
    kind = "String" if info.target else ""
    return f"{CATEGORIES[info.category]}: ({_cut(info.target)}:{kind}) [{info.activity}], {reason}"


def _invocation(activity: str) -> Obj:
    props: dict[str, Any] = {
        "MyCommand": activity,
        "BoundParameters": Obj(types=(_BOUND, "System.Object"), value={}),
        "UnboundArguments": Obj(types=(_UNBOUND, "System.Object"), value=[]),
        "ScriptLineNumber": 0,
        "OffsetInLine": 0,
        "HistoryId": 1,
        "ScriptName": "",
        "Line": "",
        "PositionMessage": "",
        "PSScriptRoot": "",
        "PSCommandPath": None,
        "InvocationName": activity,
        "PipelineLength": 0,
        "PipelinePosition": 0,
        "ExpectingInput": False,
        "CommandOrigin": "Internal",
        "DisplayScriptPosition": None,
    }
    name = "System.Management.Automation.InvocationInfo"
    return Obj(types=(name, "System.Object"), props=props, to_string=name)


def error_record(info: ErrorInfo, stream: bool = False, member: str | None = None) -> bytes:
    """Return a record: of the error stream, or as the member of a state message.

    The invocation stands in ``InvocationInfo``; the flattened copies that Windows adds with SerializeExtendedInfo are left out.
    """
    reason = info.exception.rsplit(".", 1)[-1]
    base = _RUNTIME if info.exception.startswith("System.Management.Automation.") else ()
    types = tuple(dict.fromkeys((info.exception, *base, "System.Exception", "System.Object")))
    exception = Obj(
        types=types,
        props={
            "Message": info.message,
            "Data": Obj(types=("System.Collections.ListDictionaryInternal", "System.Object"), value={}),
            "InnerException": None,
            "TargetSite": None,
            "StackTrace": None,
            "HelpLink": None,
            "Source": None,
            "HResult": -2146233087,
        },
        to_string=f"{info.exception}: {info.message}",
    )
    notes: dict[str, Any] = {"writeErrorStream": True} if stream else {}
    notes.update(
        {
            "Exception": exception,
            "TargetObject": info.target or None,
            "FullyQualifiedErrorId": info.fqid,
            "InvocationInfo": _invocation(info.activity) if info.activity else None,
            "ErrorCategory_Category": info.category,
            "ErrorCategory_Activity": info.activity,
            "ErrorCategory_Reason": reason,
            "ErrorCategory_TargetName": info.target,
            "ErrorCategory_TargetType": "String" if info.target else "",
            "ErrorCategory_Message": category_message(info),
            "SerializeExtendedInfo": False,
        }
    )
    record = Obj(types=("System.Management.Automation.ErrorRecord", "System.Object"), notes=notes, to_string=info.message)
    return _Numbered(member).value(record, member).encode("utf-8")


class _Numbered(Writer):
    """A writer whose references begin after those of the enclosing message."""

    def __init__(self, member: str | None) -> None:
        super().__init__()
        if member is not None:
            self._refs = 1
