# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hostile input to every stage that takes bytes or values from outside: a law and a source of inputs for each.

``test_fuzz.py`` runs a sample; ``python -m attacks.fuzz [COUNT [SEED [TARGET...]]]`` (with tests and the collection on the path) runs
as many as told and prints how each ended. The law: an answer, or the one error that the stage promises; no input takes seconds.
"""

from __future__ import annotations

import collections
import copy
import datetime
import json
import pathlib
import random
import re
import resource
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.exchange.mitigation.plugins.filter import block_ids, drift, outcomes, report_rows, rollout_plan
from ansible_collections.exchange.mitigation.plugins.module_utils import (
    _clixml,
    _events,
    _inventory,
    _jea,
    _journal,
    _journal_records,
    _local,
    _report_csv,
    _report_html,
    _report_metrics,
    _verify,
)
from ansible_collections.exchange.mitigation.plugins.module_utils import _report as report
from ansible_collections.exchange.mitigation.plugins.module_utils._builds import parse_build
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConfigurationError, InvalidInput, JournalError, VerifyError
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_config import Configuration, FileState, web_config_paths
from ansible_collections.exchange.mitigation.plugins.module_utils._untrusted import harmless
from ansible_collections.exchange.mitigation.plugins.module_utils._xml_spans import parse as spans
from ansible_collections.exchange.mitigation.plugins.plugin_utils._faults import classify
from ansible_collections.exchange.mitigation.plugins.plugin_utils._psrp import Recorder, error_record
from ansible_collections.exchange.mitigation.plugins.plugin_utils._transport import OneTry
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils import iis_generated, iis_samples, report_samples
from pypsrp import messages, powershell, wsman
from pypsrp.exceptions import WinRMTransportError

from .authorities import Pki
from .corpus import corpus
from .sweep import mutations

NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.timezone.utc)
#: Seconds of processor time for one input.
LIMIT = 2.0

Run = Callable[[Any], str]
Source = Callable[[random.Random], Iterator[Any]]


# --- values ----------------------------------------------------------------------------------------------------------------------

ODD = (
    None, True, False, 0, -1, 10**30, 1.5, "", " ", "x" * 5000, "\x1b[2J\x07", "{{ 1 }}", "=1+1", "<script>", "\u202e", "\x00", "9" * 5000,
    "1.2.3.4", "2026-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00", [], [[]], [None], {}, {"a": {}}, ["x", 1, None, {}],
    {"": None}, [{"id": None}], {"servers": 1}, {"servers": [1, None, []]},
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value within a value of plain types, its own included."""
    yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(item, (*path, key))


def confused(value: Any, source: random.Random) -> Any:
    """Return the value with one to four places of another kind, doubled or gone."""
    changed = copy.deepcopy(value)
    for dummy in range(source.choice((1, 1, 1, 2, 4))):
        path = source.choice(list(places(changed)))
        if not path:
            changed = source.choice(ODD) if source.random() < 0.1 else changed
            continue
        holder = changed
        for key in path[:-1]:
            holder = holder[key]
        kind = source.random()
        if kind < 0.8:
            holder[path[-1]] = copy.deepcopy(source.choice(ODD))
        elif kind < 0.9:
            del holder[path[-1]]
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[path[-1]]))
        else:
            holder[source.choice(("", "x", "\x1b", "name", "id", "servers"))] = copy.deepcopy(holder[path[-1]])
    return changed


def endless(make: Callable[[random.Random], Any]) -> Source:
    """Return a source that makes an input from each draw."""

    def draw(source: random.Random) -> Iterator[Any]:
        while True:
            yield make(source)

    return draw


_QUOTED = re.compile(rb"(?<==)\"[^\"<]*\"")
_WORDS = (b"", b"*", b".", b"..", b"/", b"//owa///", b"C:\\", b"\\\\x\\y", b"%SystemDrive%", b"%%%", b"true", b"Deny", b"false", b"9" * 400, b"a" * 5000,
          b"&#x9b;31m", b"&amp;&lt;", b"Default Web Site", b"rules", b"clear", b"&#0;", b"web.config", b"..\\..\\x.config", b"\xc3\xa9", b"\xe2\x80\xae",
          b"0", b"1", b"_x001B_")  # fmt: skip


def gentle(data: bytes, source: random.Random) -> bytes:
    """Return well-formed XML as a rule: values in quotes replaced, elements without children doubled, moved or removed."""
    for dummy in range(source.choice((1, 1, 2, 4))):
        values = list(_QUOTED.finditer(data))
        leaves = list(re.finditer(rb"<(\w+)\b[^<>]*(?:/>|>[^<>]*</\1>)", data))
        if values and (not leaves or source.random() < 0.6):
            at = source.choice(values)
            new = source.choice((b'"' + source.choice(_WORDS) + b'"', source.choice(values).group()))
            data = data[: at.start()] + new + data[at.end() :]
        elif leaves:
            at, other = source.choice(leaves), source.choice(leaves)
            data = data[: at.start()] + source.choice((b"", at.group() * 2, other.group(), other.group() + at.group(), b"<x/>")) + data[at.end() :]
    return data


def mutated(*seeds: bytes) -> Callable[[random.Random], bytes]:
    """Return a maker of mutations of the seeds; now and then in UTF-16 or with a document type."""

    def make(source: random.Random) -> bytes:
        seed = source.choice(seeds)
        data = gentle(seed, source) if source.random() < 0.6 else next(mutations(seed, 1, source))
        chance = source.random()
        if chance < 0.04:
            return data.decode("utf-8", "replace").encode(source.choice(("utf-16", "utf-16-be", "utf-16-le")))
        if chance < 0.06:
            return b'<!DOCTYPE a [<!ENTITY b "c">]>' + data
        if chance < 0.08:
            return bytes(source.randrange(256) for dummy in range(source.randrange(200)))
        return data

    return make


# --- CLIXML ----------------------------------------------------------------------------------------------------------------------

_TAGS = ("S", "ToString", "B", "DT", "TS", "By", "I32", "I64", "U64", "Db", "D", "BA", "G", "C", "URI", "Version", "XD", "SBK", "SS", "Nil", "Ref", "Obj",
         "LST", "IE", "STK", "QUE", "DCT", "En", "MS", "Props", "TN", "TNRef", "T", "X")  # fmt: skip
_TEXTS = ("", "x", "true", "1", "-1", "65536", "55296", "9" * 40, "1e999", "2026-11-24T12:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00",
          "AAAA", "_x001B_", "_xD800_", "_xD83D__xDE00_", "NaN", "INF", str(uuid.UUID(int=1)))  # fmt: skip


def tree(source: random.Random, depth: int = 0) -> str:
    """Return a made-up element, with references that may lead anywhere."""
    tag = source.choice(_TAGS)
    inside = "".join(tree(source, depth + 1) for dummy in range(source.choice((0, 1, 1, 2, 4)))) if depth < 7 and tag in _TAGS[20:] else source.choice(_TEXTS)
    mark = f' RefId="{source.randrange(6)}"' if source.random() < 0.6 else ""
    name = f' N="{source.choice(("Key", "Value", "Name", "name", "Message", "Id"))}"' if source.random() < 0.7 else ""
    return f"<{tag}{mark}{name}>{inside}</{tag}>"


CLIXML_SEEDS = (
    b'<Obj RefId="0"><TN RefId="0"><T>System.Object</T></TN><ToString>x</ToString><Props><S N="Name">EX1</S>'
    b'<DT N="When">2023-01-05T12:08:37.617768Z</DT></Props>'
    b'<MS><Obj N="L" RefId="1"><TNRef RefId="0"/><LST><S>M1</S><Ref RefId="0"/><I32>4</I32></LST></Obj>'
    b'<G N="G">00000000-0000-0000-0000-000000000000</G></MS></Obj>',
    b'<Obj RefId="0"><DCT><En><S N="Key">k_x000A_</S><BA N="Value">AAECAw==</BA></En><En><I64 N="Key">1</I64><Nil N="Value"/></En></DCT></Obj>',
    b'<Obj RefId="0"><MS><Obj N="Exception" RefId="1"><Props><S N="Message">m</S></Props></Obj><S N="FullyQualifiedErrorId">A,B</S>'
    b'<I32 N="ErrorCategory_Category">13</I32><S N="ErrorDetails_Message">d</S><Obj N="TargetObject" RefId="2"><ToString>t</ToString></Obj></MS></Obj>',
)


def run_clixml(data: bytes) -> str:
    """Decode, and use what came out as the collection does."""
    try:
        value = _clixml.decode(data)
    except _clixml.ClixmlError:
        return "refused"
    said = [_clixml.text(value), _clixml.strings(value), error_record(value).__dict__, value]
    json.dumps(harmless(said), ensure_ascii=False).encode("utf-8")
    return "decoded"


# --- SOAP and PSRP ----------------------------------------------------------------------------------------------------------------

_ENVELOPE = (
    b'<s:Envelope xml:lang="en-US" xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing"'
    b' xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd" xmlns:e="http://schemas.xmlsoap.org/ws/2004/08/eventing">'
    b"<s:Header><a:Action>http://schemas.dmtf.org/wbem/wsman/1/wsman/fault</a:Action><a:RelatesTo>uuid:%s</a:RelatesTo></s:Header>"
)
SOAP_SEEDS = (
    _ENVELOPE
    + b"<s:Body><s:Fault><s:Code><s:Value>s:Receiver</s:Value><s:Subcode><s:Value>w:TimedOut</s:Value></s:Subcode></s:Code>"
    b"<s:Reason><s:Text>late</s:Text></s:Reason>"
    b'<s:Detail><f:WSManFault xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" Code="2150858793" Machine="EX1"><f:Message>m'
    b'<f:ProviderFault provider="p" '
    b'path="q"><f:WSManFault Code="1"/></f:ProviderFault></f:Message></f:WSManFault></s:Detail></s:Fault></s:Body></s:Envelope>',
    _ENVELOPE
    + b"<s:Body><s:Fault><s:Code><s:Value>s:Sender</s:Value></s:Code><s:Reason><s:Text>x</s:Text></s:Reason><s:Detail><p:MSFT_WmiError xmlns:p=\"urn:x\">"
    b"<p:error_Code xsi:type=\"cim:unsignedInt\" xmlns:xsi=\"urn:y\">2150859174</p:error_Code></p:MSFT_WmiError></s:Detail></s:Fault></s:Body></s:Envelope>",
    _ENVELOPE
    + b'<s:Body><rsp:ReceiveResponse xmlns:rsp="http://schemas.microsoft.com/wbem/wsman/1/windows/shell">'
    b'<rsp:Stream Name="stdout">AAAAAAAAAAEAAAAAAAAAAAMAAAAA</rsp:Stream>'
    b'<rsp:CommandState State="x/Done"><rsp:ExitCode>0</rsp:ExitCode></rsp:CommandState></rsp:ReceiveResponse></s:Body></s:Envelope>',
)  # fmt: skip


class FakeTransport:
    """A transport of pypsrp that answers what it is told."""

    endpoint = "http://ex1:5985/wsman"
    session = None
    encryption = None

    def __init__(self, status: int, answer: bytes) -> None:
        self.status = status
        self.answer = answer

    def _build_session(self) -> Any:
        return None

    def send(self, message: bytes) -> bytes:
        """Answer, with the id of the request where the answer leaves room for it."""
        identifier = message.partition(b"MessageID>uuid:")[2][:36]
        answer = self.answer.replace(b"%s", identifier)
        if self.status != 200:
            raise WinRMTransportError("http", self.status, answer.decode("utf-8", "replace"))
        return answer

    def close(self) -> None:
        """Nothing is open."""


def run_soap(case: tuple[int, bytes]) -> str:
    """Let pypsrp's WSMan read an answer through the collection's transport, and judge what it raises."""
    client = wsman.WSMan("ex1", auth="basic", username="u", password="p", ssl=True)
    client.transport = OneTry(FakeTransport(*case))
    shell = wsman_shell(client)
    try:
        shell.receive("stdout")
    except Exception as exc:  # the session maps every one of them
        failure = classify(exc, "ex1 (http://ex1:5985/wsman)")
        assert len(failure.message) < 1500
        return failure.reason
    return "answered"


def wsman_shell(client: Any) -> Any:
    """Return a shell that counts as open."""
    shell = powershell.WinRS(client, resource_uri="http://schemas.microsoft.com/powershell/Microsoft.PowerShell")
    shell.opened = True
    return shell


def soap(source: random.Random) -> tuple[int, bytes]:
    """Return a status and an answer."""
    return source.choice((200, 200, 500, 500, 400, 401, 503)), mutated(*SOAP_SEEDS)(source)


_KINDS = (0x00041004, 0x00041005, 0x00041006, 0x00021005, 0x00041010, 0x00041100, 0x00021002, 0x00010002, 0x00021009)


def psrp(source: random.Random) -> tuple[int, bytes]:
    """Return a message type and its CLIXML."""
    xml = mutated(*CLIXML_SEEDS)(source) if source.random() < 0.6 else tree(source).encode()
    return source.choice(_KINDS), xml


def run_psrp(case: tuple[int, bytes]) -> str:
    """Let pypsrp unpack a message with the collection's recorder, and decode what was kept."""
    kind, xml = case
    head = (1).to_bytes(4, "little") + kind.to_bytes(4, "little") + bytes(32)
    recorder = Recorder()
    try:
        messages.Message.unpack(head + xml, recorder)
        for stream, kept in recorder.events:
            value = _clixml.decode(kept)
            if stream == "error":
                error_record(value)
    except Exception as exc:  # the session maps every one of them
        return classify(exc, "ex1").reason
    return "read"


# --- IIS configuration -------------------------------------------------------------------------------------------------------------

IIS_SEEDS = (
    iis_samples.application_host(),
    iis_samples.ROOT_CONFIG,
    iis_samples.OWA_CONFIG,
    *(iis_generated.generate(seed).application_host for seed in range(4)),
)
_PATHS = ("/", "/owa", "/owa/Calendar", "/ecp")


def iis(source: random.Random) -> tuple[bytes, bytes, bytes]:
    """Return applicationHost.config and two web.config files, one or more of them mutated."""
    files = [
        source.choice((iis_samples.application_host(), iis_generated.generate(source.randrange(50)).application_host)),
        iis_samples.ROOT_CONFIG,
        iis_samples.OWA_CONFIG,
    ]
    for number in {source.randrange(3) for dummy in range(source.choice((1, 1, 2)))}:
        files[number] = mutated(files[number])(source)
    return files[0], files[1], files[2]


def run_iis(case: tuple[bytes, bytes, bytes]) -> str:
    """Read a server and ask for the rules on its paths."""
    host, root, owa = case
    try:
        paths = web_config_paths(host, iis_samples.ENVIRONMENT)
        states = {path.lower(): FileState(path, owa if "owa" in path.lower() else root) for path in paths}
        found = Configuration(FileState(iis_samples.HOST_PATH, host), states, iis_samples.ENVIRONMENT)
        found = found.with_files({path: FileState(path, None) for path in found.unread()})
        for site in found.sites:
            for path in _PATHS:
                effective = found.effective_rewrite(site.name, path)
                json.dumps([rule.evidence() for rule in (*effective.inbound, *effective.outbound)])
                found.module_gone(site.name, path)
                found.lock_on(site.name, path, "system.webServer/rewrite/rules", root.decode("latin-1")[:20])
            found.places_read()
    except ConfigurationError as exc:
        return exc.reason
    return "understood"


def run_spans(data: bytes) -> str:
    """Parse, and take every element out again by its offsets."""
    try:
        document = spans(data, "web.config")
    except ConfigurationError:
        return "refused"
    queue = [document.root]
    while queue:
        element = queue.pop()
        assert 0 <= element.start < element.content <= element.closing <= element.end <= len(data)
        assert document.source(element).startswith("<")
        queue += element.children
    return "parsed"


# --- log lines, builds, times -----------------------------------------------------------------------------------------------------

_LINES = ("2026-11-24T12:00:00.123Z,FetchMitigation,S:LogLevel=Warning;S:Message=text;S:Id=M1", "#Fields: a,b", ",,,", "a" * 3000 + ",S:x=y", "S:S:S:" * 500,
          "; " * 2000, "w" * 60_000, "Event,  S:LogLevel=" + ";S:a=" * 3000)  # fmt: skip


def lines(source: random.Random) -> str:
    """Return a line of the log, mutated; or a time, or a build."""
    line = source.choice(_LINES).encode()
    return (next(mutations(line, 1, source)) if source.random() < 0.8 else line).decode("utf-8", "replace") * source.choice((1, 1, 1, 20))


def run_lines(line: str) -> str:
    """Parse it as everything that it may be."""
    json.dumps(_events.parse_lines([line], "x.log"))
    for read in (lambda: _events.since_of(line, NOW), lambda: parse_build(line), lambda: _events.Bookmark.of({"record_id": line, "time": line})):
        try:
            read()
        except InvalidInput:
            continue
    return "read"


# --- the feed --------------------------------------------------------------------------------------------------------------------

_PKI = Pki(NOW)
_FEEDS = [case for case in corpus(_PKI) if case.reason is None and not case.crls and case.at is None and len(case.data) < 60_000]


def run_feed(case: tuple[bytes, str]) -> str:
    """Verify and parse."""
    try:
        _local.parse(_verify.verify(case[0], _verify.Policy((_PKI.root,), (_PKI.time_root,)), NOW).root, case[1])
    except VerifyError as exc:
        return exc.reason
    return "verified"


def feed(source: random.Random) -> tuple[bytes, str]:
    """Return a mutated document and a domain."""
    case = source.choice(_FEEDS)
    return mutated(case.data)(source), case.domain


# --- report, inventory, filters -----------------------------------------------------------------------------------------------------

_HOSTS = report_samples.fleet()
ORGANIZATION = {
    "name": "Contoso",
    "mitigations_enabled": True,
    "servers": [
        {"name": "EX1", "fqdn": "ex1.contoso.lab", "product": "Exchange2019", "build": "15.2.1748.10", "roles": ["Mailbox"],
         "site": "Hub", "em_supported": True,
         "mitigations_enabled": True, "mitigations_blocked": ["M1"], "mitigations_applied": ["PING1"],
         "mitigations_applied_time": "2026-01-05T12:08:37Z", "dag": "D1"},
        {"name": "EX2", "fqdn": None, "product": "ExchangeSE", "roles": [], "mitigations_blocked": []},
    ],
    "dags": [{"name": "D1", "servers": ["EX1"]}],
}  # fmt: skip
_PREVIOUS = report.build(_HOSTS, ORGANIZATION, report_samples.FEED, generated_at="2026-06-12T06:00:04Z")
_WANTED = _inventory.Wanted(("Exchange2016", "Exchange2019", "ExchangeSE"), ("Mailbox",))


def rows(source: random.Random) -> dict[str, Any]:
    """Return everything that a report is made of, in disorder."""
    return {
        "results": confused(_HOSTS, source), "organization": confused(ORGANIZATION, source), "feed": confused(report_samples.FEED, source),
        "journal": confused({"ex1": {"blocked": ["M1"], "runs": []}}, source),
        "previous": confused(_PREVIOUS, source) if source.random() < 0.2 else None,
    }  # fmt: skip


def run_rows(case: dict[str, Any]) -> str:
    """Make the report and all its forms, through the filters as a playbook does."""
    try:
        differences = drift.drift(case["results"], case["organization"])
        made = report_rows.report_rows(
            case["results"], case["organization"], case["feed"], differences, "2026-06-12T06:00:04Z", None, ["ex1"], case["previous"], case["journal"]
        )
    except AnsibleFilterError:
        return "refused"
    page, table, metrics = _report_html.to_html(made), _report_csv.to_csv(made), _report_metrics.to_metrics(made)
    assert "<script>" not in page.partition("<body")[2].replace("<script>\n", "") or page.count("<script>") <= 1
    for said in (page, table, metrics, "\n".join(made["lines"])):
        assert "\x1b" not in said and "\u202e" not in said
        said.encode("utf-8")
    return "reported"


def run_values(case: Any) -> str:
    """Give an organisation to whatever takes one."""
    try:
        plain = json.loads(json.dumps(case))
        if isinstance(plain, dict):
            found, dummy = _inventory.hosts(plain, _WANTED)
            for host in found:
                assert all(name.replace("_", "").replace(".", "").replace("-", "").isalnum() and name.isascii() for name in (host.name, *host.groups))
        block_ids.block_ids(["M1"], case, "ex1")
        rollout_plan.rollout_plan(["ex1", "ex2"], case, {"exchange_mitigation_dag": [None, "D2"]})
        outcomes.outcomes([case], ["ex1"])
    except (AnsibleFilterError, InvalidInput):
        return "refused"
    return "taken"


# --- JEA, journal ---------------------------------------------------------------------------------------------------------------

_DUMMY = ("'; calc; '", "$(calc)", "`n", "\n", "C:\\inetpub\\wwwroot\\web.config\n", "..\\x.config", "\u2019; calc", "a'b")


def run_jea(text: str) -> str:
    """Whatever is quoted for PowerShell stays one text: every quote within is doubled, those of typography too."""
    quoted = _jea._quoted(text)
    assert quoted[0] == quoted[-1] == "'" and len(quoted) >= 2
    inside = quoted[1:-1]
    for mark in "'\u2018\u2019\u201a\u201b":
        assert mark not in inside.replace(mark * 2, "")
    return "quoted"


_RUN = "20261124T120000Z-abcdef"
_OPERATION = _journal_records.Operation(
    run_id=_RUN, operation_id="00000001", path="C:\\inetpub\\wwwroot\\web.config", before=b"<a/>", after=None, sddl="O:BA",
    temporary="C:\\inetpub\\wwwroot\\web.00000001.new.config", backup="C:\\inetpub\\wwwroot\\web.00000001.before.config", mitigations=("M1",), verb="apply",
    checks=(("system.webServer/rewrite/rules", "MACHINE/WEBROOT/APPHOST"),), event="begin", time="2026-11-24T12:00:00+00:00",
)  # fmt: skip
_RECORDS = (
    {"time": "2026-11-24T12:00:00+00:00", "event": "begin", "host": "ex1", **_journal_records.fields_of(_OPERATION)},
    {"time": "2026-11-24T12:00:01+00:00", "event": "verified", "host": "ex1", "operation": "00000001"},
    {"time": "2026-11-24T12:00:02+00:00", "event": "blocked", "host": "ex1", "ids": ["M1"]},
)


def run_journal(data: bytes) -> str:
    """Read a journal folder with a damaged file in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        folder.chmod(0o700)
        run = folder / _RUN
        run.mkdir(mode=0o700)
        (run / "ex1.jsonl").write_bytes(data)
        (run / "ex1.jsonl").chmod(0o600)
        try:
            history = _journal.History(str(folder), "ex1")
            history.last_run(), history.open_operations(), history.in_force()
        except JournalError:
            return "refused"
    return "read"


def journal(source: random.Random) -> bytes:
    """Return lines of JSON, mutated or confused."""
    entries = [json.dumps(confused(record, source) if source.random() < 0.5 else record).encode() for record in _RECORDS]
    data = b"\n".join(entries) + b"\n"
    return data if source.random() < 0.6 else mutated(data)(source)


TARGETS: dict[str, tuple[Source, Run]] = {
    "clixml, bytes": (endless(mutated(*CLIXML_SEEDS)), run_clixml),
    "clixml, trees": (endless(lambda source: tree(source).encode()), run_clixml),
    "soap answers and faults": (endless(soap), run_soap),
    "psrp messages": (endless(psrp), run_psrp),
    "xml spans": (endless(mutated(*IIS_SEEDS)), run_spans),
    "iis configuration": (endless(iis), run_iis),
    "em log, times, builds": (endless(lines), run_lines),
    "feed": (endless(feed), run_feed),
    "report": (endless(rows), run_rows),
    "inventory and filters": (endless(lambda source: confused(ORGANIZATION, source)), run_values),
    "jea": (endless(lambda source: "".join(source.choice((*_DUMMY, "a", "\\", "'")) for dummy in range(source.randrange(1, 6)))), run_jea),
    "journal": (endless(journal), run_journal),
}


def attack(name: str, count: int, seed: int) -> tuple[collections.Counter[str], float, dict[str, tuple[int, str]]]:
    """Run a target; returns how the inputs ended, the slowest in seconds, and what broke the law: where, how often, an example."""
    source, run = TARGETS[name]
    ends: collections.Counter[str] = collections.Counter()
    broken: dict[str, tuple[int, str]] = {}
    slowest = 0.0
    inputs = source(random.Random(seed))
    for dummy in range(count):
        case = next(inputs)
        begin = time.process_time()
        try:
            ends[run(case)] += 1
        except Exception as exc:
            where = traceback.extract_tb(exc.__traceback__)[-1]
            key = f"{type(exc).__name__} at {pathlib.Path(where.filename).name}:{where.lineno}: {str(exc)[:80]}"
            broken[key] = (broken.get(key, (0, ""))[0] + 1, repr(case)[:600])
        took = time.process_time() - begin
        slowest = max(slowest, took)
        if took > LIMIT:
            broken[f"slow: {took:.1f} s"] = (1, repr(case)[:600])
    return ends, slowest, broken


def main(arguments: list[str]) -> int:
    """Print the counts of every target."""
    count = int(arguments[0]) if arguments else 2000
    seed = int(arguments[1]) if len(arguments) > 1 else 1
    wrong = 0
    for name in arguments[2:] or TARGETS:
        begin = time.perf_counter()
        ends, slowest, broken = attack(name, count, seed)
        shown = ", ".join(f"{end} {number}" for end, number in ends.most_common(4))
        print(
            f"{name:26} {count:8} inputs, {len(broken)} ways to break the law, slowest {slowest * 1000:.0f} ms, {time.perf_counter() - begin:.0f} s ({shown})"
        )
        for key, (number, example) in broken.items():
            print(f"    {number} x {key}\n        {example}")
        wrong += len(broken)
    print(f"most memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB, interpreter included")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
