# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The message that creates a pipeline (MS-PSRP 2.2.2.10), written directly: the same bytes as pypsrp's, for a small part of the time.

pypsrp copies every command deeply and walks it twice, which is most of what a session costs the controller.
Note that this plugin util is private to the collection and may change at any time.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._model import Call, Statement

_LIST_OF_OBJECTS = (
    "System.Collections.Generic.List`1[[System.Management.Automation.PSObject, System.Management.Automation, "
    "Version=1.0.0.0, Culture=neutral, PublicKeyToken=31bf3856ad364e35]]",
    "System.Object",
)
_ENUM = ("System.Enum", "System.ValueType", "System.Object")
_MERGE = ("System.Management.Automation.Runspaces.PipelineResultTypes", *_ENUM)
_ARRAY = ("System.Object[]", "System.Array", "System.Object")
_TABLE = ("System.Collections.Hashtable", "System.Object")

#: Text that stands for itself: nothing in it is a mark of XML, an escape of CLIXML or outside ASCII.
_PLAIN = re.compile(r"[ !-%'-;=?-^`-~]*")


class Unwritable(Exception):
    """A value that pypsrp has to write."""


class _Writer:
    """Parts of one message; ids of objects and types count up in the order of the text."""

    def __init__(self, escape: Callable[[str], Any]) -> None:
        self.parts: list[str] = []
        self._escape = escape
        self._objects = 0
        self._types: dict[tuple[str, ...], int] = {}

    def text(self, value: str) -> str:
        if _PLAIN.fullmatch(value):
            return value
        return str(self._escape(value)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

    def name(self, value: str) -> str:
        return f' N="{value}"' if value else ""

    def open(self, name: str = "", types: tuple[str, ...] = ()) -> None:
        self.parts.append(f'<Obj RefId="{self._objects}"{self.name(name)}>')
        self._objects += 1
        if types in self._types:
            self.parts.append(f'<TNRef RefId="{self._types[types]}" />')
        elif types:
            number = self._types[types] = len(self._types)
            self.parts.append(f'<TN RefId="{number}">{"".join(f"<T>{item}</T>" for item in types)}</TN>')

    def enum(self, name: str, types: tuple[str, ...], text: str, number: int) -> None:
        self.open(name, types)
        self.parts.append(f"<ToString>{text}</ToString><I32>{number}</I32></Obj>")

    def merges(self, names: Sequence[str]) -> None:
        known = self._types.get(_MERGE)
        if known is None:
            self.enum(names[0], _MERGE, "None", 0)
            self.merges(names[1:])
            return
        what = f'<TNRef RefId="{known}" /><ToString>None</ToString><I32>0</I32></Obj>'
        self.parts += [f'<Obj RefId="{number}" N="{name}">{what}' for number, name in enumerate(names, self._objects)]
        self._objects += len(names)

    def simple(self, tag: str, text: str, name: str = "") -> None:
        self.parts.append(f"<{tag}{self.name(name)}>{text}</{tag}>" if text else f"<{tag}{self.name(name)} />")

    def value(self, value: Any, name: str = "") -> None:
        kind = type(value)
        if value is None:
            self.simple("Nil", "", name)
        elif kind is str:
            self.simple("S", self.text(value), name)
        elif kind is bool:
            self.simple("B", str(value).lower(), name)
        elif kind is int:
            self.simple("I32", str(value), name)
        elif kind is bytes:
            self.simple("BA", base64.b64encode(value).decode("ascii"), name)
        elif kind is list:
            self.open(name, _ARRAY)
            self.sequence(value, self.value)
            self.parts.append("</Obj>")
        elif kind is dict:
            self.open(name, _TABLE)
            self.parts.append("<DCT>" if value else "<DCT />")
            for key, item in value.items():
                self.parts.append("<En>")
                self.value(key, "Key")
                self.value(item, "Value")
                self.parts.append("</En>")
            self.parts.append("</DCT></Obj>" if value else "</Obj>")
        elif type(value).__name__ == "TaggedValue" and value.tag == "I64":
            self.simple("I64", str(value.value), name)
        else:
            raise Unwritable(kind.__name__)

    def sequence(self, items: Sequence[Any], write: Callable[[Any], None]) -> None:
        self.parts.append("<LST>" if items else "<LST />")
        for item in items:
            write(item)
        if items:
            self.parts.append("</LST>")

    def command(self, call: Call, wire: Callable[[Any], Any]) -> None:
        self.open()
        self.parts.append("<MS>")
        self.simple("S", self.text(call.cmdlet), "Cmd")
        self.parts.append('<B N="IsScript">false</B><Nil N="UseLocalScope" />')
        self.merges(("MergeMyResult", "MergeToResult", "MergePreviousResults"))
        self.open("Args", _LIST_OF_OBJECTS)
        self.sequence([(name, wire(value)) for name, value in call.parameters.items()], self.parameter)
        self.parts.append("</Obj>")
        self.merges(("MergeError", "MergeWarning", "MergeVerbose", "MergeDebug", "MergeInformation"))
        self.parts.append("</MS></Obj>")

    def parameter(self, item: tuple[str, Any]) -> None:
        self.open()
        self.parts.append("<MS>")
        self.simple("S", self.text(item[0]), "N")
        self.value(item[1], "V")
        self.parts.append("</MS></Obj>")

    def commands(self, statement: Statement, wire: Callable[[Any], Any]) -> None:
        self.open("Cmds", _LIST_OF_OBJECTS)
        self.sequence(statement, lambda call: self.command(call, wire))
        self.parts.append("</Obj>")

    def extra(self, statement: Statement, wire: Callable[[Any], Any]) -> None:
        self.open()
        self.parts.append("<MS>")
        self.commands(statement, wire)
        self.parts.append("</MS></Obj>")


def create_pipeline(statements: Sequence[Statement], wire: Callable[[Any], Any], escape: Callable[[str], Any]) -> bytes:
    """Return the message for protocol 2.3, no input, no host, as pypsrp's begin_invoke writes it.

    ``wire`` gives a parameter's value in the type that is sent, ``escape`` is pypsrp's way with characters that XML has no place for.
    Raises Unwritable for a value that is not text, truth, number, bytes, a list, a table or nothing.
    """
    made = _Writer(escape)
    made.open()
    made.parts.append('<MS><B N="NoInput">true</B>')
    made.enum("ApartmentState", ("System.Management.Automation.Runspaces.ApartmentState", *_ENUM), "UNKNOWN", 2)
    made.enum("RemoteStreamOptions", ("System.Management.Automation.Runspaces.RemoteStreamOptions", *_ENUM), "AddInvocationInfo", 15)
    made.parts.append('<B N="AddToHistory">false</B>')
    made.open("HostInfo")
    for name in ("_isHostNull", "_isHostUINull", "_isHostRawUINull", "_useRunspaceHost"):
        made.parts.append(("<MS>" if name == "_isHostNull" else "") + f'<B N="{name}">true</B>')
    made.parts.append("</MS></Obj>")
    made.open("PowerShell")
    made.parts.append('<MS><B N="IsNested">false</B>')
    if len(statements) > 1:
        made.open("ExtraCmds", _LIST_OF_OBJECTS)
        made.sequence(statements, lambda statement: made.extra(statement, wire))  # nosec B610  # no Django here
        made.parts.append("</Obj>")
    else:
        made.parts.append('<Nil N="ExtraCmds" />')
    made.commands(statements[0], wire)
    made.parts.append('<Nil N="History" /><B N="RedirectShellErrorOutputPipe">false</B></MS></Obj><B N="IsNested">false</B></MS></Obj>')
    return "".join(made.parts).encode("utf-8", "xmlcharrefreplace")


def ready(pool: Any) -> bool:
    """Tell whether a pool's messages are those that ``create_pipeline`` writes."""
    return pool.host is None and str(pool.protocol_version) == "2.3" and pool.apartment_state == 2
