# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives the lab the requests that real clients sent to real Windows servers, and compares the structure of the answers.

A conversation is replayed whole, in order, so that every answer depends on what went before. What is compared, and never a value
that belongs to one machine (names, versions, times, identifiers):

- of every answer the elements of the body with their attribute names, runs of equal siblings taken together;
- of a fault also SOAP code, subcode and the WSManFault's code;
- of what PSRP carries the types of the messages in order, whether each begins with a byte order mark, and the tags and names of
  its CLIXML.

Out of scope, and counted: what happens inside a script or a command line, which the lab refuses to run; sessions that are left and
taken up again; and a network that broke.
"""

from __future__ import annotations

import base64
import dataclasses
import itertools
import pathlib
import re
from typing import Any

import yaml
from lxml import etree

from lab import soap
from lab.kernel import REGISTRY
from lab.shells import ShellService, Trace

USER = "LAB\\admin"
#: Actions of the protocol that no client here uses, and whole shells that run command lines.
NOT_OFFERED = ("Enumerate", "Disconnect", "Reconnect", "Connect")
#: Encrypted under a session key of a conversation long ago, or answers of a host with a screen: none of them is a structure.
OPAQUE = (0x00010006,)
#: From where on a conversation needs the session key that died with it.
ENCRYPTED = {"test_psrp_multiple_commands": range(5, 7)}
#: Before which request the recorded server had lost its sessions.
RESTARTED = {"test_psrp_is_alive_invalid_selectors": 4}
COMMAND_ID = r"<rsp:CommandId>([^<]+)<"
SHELL_ID = r'Name="ShellId">([^<]+)<'


@dataclasses.dataclass(frozen=True)
class Compared:
    """One request and how the lab's answer to it compares: ``matched``, ``differs`` or ``out of scope``, and why."""

    file: str
    number: int
    action: str
    outcome: str
    why: str = ""

    @property
    def key(self) -> str:
        return f"{self.file}:{self.number}"


def body_of(xml: bytes) -> Any:
    return etree.fromstring(xml).find(f"{{{soap.NS['s']}}}Body")


def shape(xml: bytes) -> list[tuple[int, str, tuple[str, ...]]]:
    """Return depth, tag and attribute names of the body's elements; runs of the same are one."""
    found = [(len(list(item.iterancestors())), str(item.tag), tuple(sorted(item.attrib))) for item in body_of(xml).iter()]
    return [key for key, dummy in itertools.groupby(found)]


def fault(xml: bytes) -> tuple[str, ...] | None:
    """Return code, subcode and WSManFault code of a fault, None where the answer is none."""
    found = body_of(xml).find("s:Fault", soap.NS)
    if found is None:
        return None
    codes = [str(item.text).rpartition(":")[2] for item in found.iterfind(".//s:Value", soap.NS)]
    return (*codes, *(str(item.get("Code")) for item in found.iter("{http://schemas.microsoft.com/wbem/wsman/1/wsmanfault}WSManFault")))


class Streams:
    """Puts the fragments of a conversation together again: (type, bytes of the message) per answer in which a message ended."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, int], bytes] = {}

    def forget(self) -> None:
        """Drop what is not whole."""
        self._parts.clear()

    def messages(self, xml: bytes) -> list[tuple[int, bytes]]:
        ended = []
        for stream in body_of(xml).iter(f"{{{soap.NS['rsp']}}}Stream"):
            data = base64.b64decode(stream.text or "")
            while data:
                number, flags, length = int.from_bytes(data[:8], "big"), data[16], int.from_bytes(data[17:21], "big")
                key = (str(stream.get("CommandId")), number)
                self._parts[key] = self._parts.get(key, b"") + data[21 : 21 + length]
                data = data[21 + length :]
                if flags & 2:
                    whole = self._parts.pop(key)
                    ended.append((int.from_bytes(whole[4:8], "little"), whole[40:]))
        return ended


def clixml_shape(data: bytes) -> tuple[bool, list[tuple[str, str | None]]]:
    """Return whether a byte order mark stands in front, and tags and names."""
    root = etree.fromstring(data.removeprefix(b"\xef\xbb\xbf")) if data else None
    return data.startswith(b"\xef\xbb\xbf"), [] if root is None else [(str(item.tag), item.get("N")) for item in root.iter()]


class Replay:
    """One recorded conversation against a machine's service."""

    def __init__(self, service: ShellService, file: pathlib.Path) -> None:
        self.service = service
        self.name = file.stem
        self.recorded = yaml.safe_load(file.read_text("utf-8"))["messages"]
        self.scripts: set[str] = set()
        self.command_lines: set[str] = set()
        self.renamed: dict[str, str] = {}
        self.begun: dict[str, set[str]] = {}
        self.known = {definition.name for (endpoint, dummy), definition in REGISTRY.items() if endpoint == "host"}
        self.ours, self.theirs = Streams(), Streams()
        names = {found for message in self.recorded for found in re.findall(r"schemas\.microsoft\.com/powershell/([\w.]+)<", message.get("request") or "")}
        service.machine.configurations = {name: "FullLanguage" if name == "Microsoft.PowerShell" else "NoLanguage" for name in names}

    def run(self) -> list[Compared]:
        found, left = [], ""
        for number, message in enumerate(self.recorded):
            if not message.get("request") or not message.get("response"):
                found.append(Compared(self.name, number, "-", "out of scope", "the network broke: there is no answer"))
                continue
            text = message["request"]
            for theirs_id, own_id in self.renamed.items():
                text = text.replace(theirs_id, own_id)
            request = soap.parse(text.encode())
            if number in ENCRYPTED.get(self.name, ()):
                found.append(Compared(self.name, number, request.action, "out of scope", "encrypted under a key that nobody has"))
                continue
            if RESTARTED.get(self.name) == number:
                self.service.vanish()
            self.begun.setdefault(request.shell_id, set()).add(request.action)
            left = left or ("sessions that are left and taken up again" if request.action in NOT_OFFERED else "")
            told = fault(message["response"].encode())
            if left or (request.shell_id in self.command_lines and (told is None or "Command" in self.begun.get(request.shell_id, ()))):
                found.append(Compared(self.name, number, request.action, "out of scope", left or "command lines"))
                continue
            if self._in_script(request):
                self.ours.forget(), self.theirs.forget()
                found.append(Compared(self.name, number, request.action, "out of scope", "the course of a script"))
                continue
            theirs = message["response"].encode()
            trace = Trace()
            own = self._answer(request, trace)
            if request.action == "Create":
                pair = re.search(SHELL_ID, message["response"]), re.search(SHELL_ID, own.decode())
                if pair[0] and pair[1]:
                    self.renamed[pair[0].group(1)] = pair[1].group(1)
                    if request.resource_uri == soap.CMD_URI:
                        self.command_lines.add(pair[1].group(1).upper())
                        found.append(Compared(self.name, number, request.action, "out of scope", "command lines"))
                        continue
            if request.action == "Command":
                # Before protocol 2.2 the server named the pipeline.
                pair = re.search(COMMAND_ID, message["response"]), re.search(COMMAND_ID, own.decode())
                if pair[0] and pair[1]:
                    self.renamed[pair[0].group(1)] = pair[1].group(1)
            if any(name not in self.known for name in trace.cmdlets):
                self.scripts |= set(re.findall(r'CommandId="([^"]+)"', request_text(request))) | set(re.findall(COMMAND_ID, own.decode()))
            why = self._difference(theirs, own)
            found.append(Compared(self.name, number, request.action, "differs" if why else "matched", why))
        return found

    def _answer(self, request: soap.Request, trace: Trace) -> bytes:
        request.timeout = min(request.timeout, 0.5)
        try:
            return self.service.handle(request, USER, "host", "10.0.2.2", trace)
        except soap.Fault as raised:
            return soap.fault(request.message_id, raised.code, raised.message, "EX1", raised.provider)

    def _in_script(self, request: soap.Request) -> bool:
        return request.action in ("Receive", "Send", "Signal") and any(command in request_text(request) for command in self.scripts)

    def _difference(self, theirs: bytes, own: bytes) -> str:
        """Return what differs, nothing where the structure is the same."""
        if fault(theirs) != fault(own):
            return f"fault {fault(theirs)}, the lab: {fault(own)}"
        wanted, given = self.theirs.messages(theirs), self.ours.messages(own)
        if shape(theirs) != shape(own):
            return f"elements {shape_words(theirs)}, the lab: {shape_words(own)}"
        if [kind for kind, dummy in wanted] != [kind for kind, dummy in given]:
            return f"messages {[hex(kind) for kind, dummy in wanted]}, the lab: {[hex(kind) for kind, dummy in given]}"
        for (kind, data), (dummy, other) in zip(wanted, given):
            if kind not in OPAQUE and clixml_shape(data) != clixml_shape(other):
                return f"CLIXML of message {kind:#x}"
        return ""


def request_text(request: soap.Request) -> str:
    return etree.tostring(request.body).decode() if request.body is not None else ""


def shape_words(xml: bytes) -> str:
    return " ".join(tag.rsplit("}", 1)[-1] for dummy, tag, dummy_names in shape(xml))
