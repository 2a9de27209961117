# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""WS-Management envelopes: reading requests, writing responses, and the table of faults.

Shapes are those of recorded conversations with Windows (WINRM.md E); a fault without a recording says so.
"""

from __future__ import annotations

import dataclasses
import re
import uuid
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from lxml import etree

NS = {
    "s": "http://www.w3.org/2003/05/soap-envelope",
    "a": "http://schemas.xmlsoap.org/ws/2004/08/addressing",
    "x": "http://schemas.xmlsoap.org/ws/2004/09/transfer",
    "w": "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd",
    "rsp": "http://schemas.microsoft.com/wbem/wsman/1/windows/shell",
    "p": "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd",
    "ps": "http://schemas.microsoft.com/powershell",
}
SHELL = NS["rsp"]
ANONYMOUS = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous"
POWERSHELL_URI = "http://schemas.microsoft.com/powershell/"
CMD_URI = SHELL + "/cmd"
CONFIG_URI = "http://schemas.microsoft.com/wbem/wsman/1/config"

#: action URI -> short name
ACTIONS = {
    NS["x"] + "/Create": "Create",
    NS["x"] + "/Delete": "Delete",
    NS["x"] + "/Get": "Get",
    SHELL + "/Command": "Command",
    SHELL + "/Send": "Send",
    SHELL + "/Receive": "Receive",
    SHELL + "/Signal": "Signal",
    SHELL + "/Disconnect": "Disconnect",
    SHELL + "/Reconnect": "Reconnect",
    SHELL + "/Connect": "Connect",
}
#: The largest request the service reads: MaxEnvelopeSizekb 500.
MAX_ENVELOPE = 512000

_DURATION = re.compile(r"^P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?$")


@dataclasses.dataclass(frozen=True)
class FaultText:
    """What a fault code looks like: SOAP code and subcode, reason, inner message, FaultDetail, and where it was seen."""

    code: str
    subcode: str
    reason: str
    message: str = ""
    detail: str = ""
    seen: str = "recorded"
    #: Who says it, where a plugin of the service does: the attributes of ProviderFault.
    plugin: str = ""


_SELECTORS = "The WS-Management service cannot process the request because the request contained invalid selectors for the resource. "
_QUOTA = "The WS-Management service cannot process the request. "

FAULTS: dict[int, FaultText] = {
    2150858793: FaultText(
        "s:Receiver", "w:TimedOut", "The WS-Management service cannot complete the operation within the time specified in OperationTimeout.  "
    ),
    2150858843: FaultText(
        "s:Sender",
        "w:InvalidSelectors",
        _SELECTORS,
        "The Windows Remote Shell received a request to perform an operation on a command identifier that does not exist. "
        "Either the command has completed execution or the client specified an invalid command identifier. ",
        "http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/UnexpectedSelectors",
    ),
    2150858811: FaultText(
        "s:Sender",
        "a:DestinationUnreachable",
        "The WS-Management service cannot process the request. The service is configured to not accept any remote shell requests. ",
        "The WS-Management service cannot process the request. The resource URI was not found in the WS-Management catalog. "
        "The catalog contains the metadata that describes resources, or logical endpoints. ",
        "http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/InvalidResourceURI",
        "issue threads, text assumed",
    ),
    2150859173: FaultText("s:Receiver", "w:QuotaLimit", _QUOTA, seen="issue threads"),
    2150859174: FaultText(
        "s:Receiver",
        "w:QuotaLimit",
        _QUOTA + "The maximum number of concurrent operations for this user has been exceeded. "
        "Close existing operations for this user, or raise the quota for this user. ",
        seen="issue threads",
    ),
    2150859241: FaultText(
        "s:Receiver",
        "w:QuotaLimit",
        _QUOTA + "The maximum number of concurrent commands per shell has been exceeded. Retry your request later or raise the quota. ",
        seen="constants only, text assumed",
    ),
    2147942405: FaultText("s:Sender", "w:AccessDenied", "Access is denied. ", seen="documentation"),
    995: FaultText(
        "s:Receiver",
        "w:InternalError",
        "The I/O operation has been aborted because of either a thread exit or an application request. ",
        seen="documentation",
    ),
    87: FaultText(
        "s:Sender",
        "w:InvalidParameter",
        "The parameter is incorrect. ",
        detail="http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/InvalidValue",
        plugin='provider="Shell cmd plugin" path="%systemroot%\\system32\\winrscmd.dll"',
    ),
    2150858767: FaultText(
        "s:Sender",
        "a:InvalidMessageInformationHeader",
        "The WS-Management service cannot process the request. The request contains one or more invalid SOAP headers. ",
        "The WS-Management service cannot process the request. The XML contains an invalid timeout field in the SOAP header. ",
    ),
    2150858817: FaultText(
        "s:Sender",
        "a:ActionNotSupported",
        "The WS-Management service cannot process the request because the action is not supported by the service. ",
        detail="http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/ActionMismatch",
        seen="issue threads",
    ),
    2150858752: FaultText("s:Receiver", "w:InternalError", "The WS-Management service cannot process the request. ", seen="assumed"),
}


def shells_exceeded(limit: int) -> str:
    """Return the text of fault 2150859173; Exchange says the same with 18 (PowerShellMaxConcurrency)."""
    return (
        f"{_QUOTA}This user is allowed a maximum number of {limit} concurrent shells, which has been exceeded. "
        "Close existing shells or raise the quota for this user. "
    )


class Fault(Exception):
    """A SOAP fault, answered with HTTP 500."""

    def __init__(self, code: int, message: str = "", provider: bool = False) -> None:
        super().__init__(f"{code} {message}".strip())
        self.code = code
        self.message = message
        #: The shell provider says it, not the service: one fault inside the other (recorded).
        self.provider = provider


class NotSoap(Exception):
    """The body is not a WS-Management envelope."""


@dataclasses.dataclass
class Request:
    """One request: header fields and the body's first element."""

    action: str
    action_uri: str
    message_id: str
    resource_uri: str
    timeout: float
    max_envelope: int
    shell_id: str
    options: dict[str, str]
    to: str
    body: Any

    def text(self, path: str, default: str = "") -> str:
        """Return the text of the first match below the body's element."""
        found = self.body.xpath(path, namespaces=NS) if self.body is not None else []
        return str(found[0].text or "") if found else default


def duration(text: str, default: float = 60.0) -> float:
    """Return the seconds of an xs:duration such as ``PT20S``."""
    match = _DURATION.match(text.strip())
    if not match:
        return default
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return days * 86400 + hours * 3600 + minutes * 60 + seconds


def _limit(text: str) -> float:
    return -1.0 if text.startswith("PT-") else duration(text)


def parse(data: bytes) -> Request:
    """Read a request; raises NotSoap. A time limit below nothing, which the service refuses, is -1."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=True)
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise NotSoap(str(error)) from None

    def header(path: str, default: str = "") -> str:
        found = root.xpath(f"s:Header/{path}", namespaces=NS)
        return str(found[0].text or "").strip() if found else default

    action = header("a:Action")
    body = root.find("s:Body", NS)
    if root.tag != f"{{{NS['s']}}}Envelope" or body is None or not action:
        raise NotSoap("no SOAP 1.2 envelope with an action")
    options = {str(item.get("Name")): str(item.text or "") for item in root.xpath("s:Header/w:OptionSet/w:Option", namespaces=NS)}
    size = header("w:MaxEnvelopeSize")
    return Request(
        action=ACTIONS.get(action, action.rsplit("/", 1)[-1]),
        action_uri=action,
        message_id=header("a:MessageID"),
        resource_uri=header("w:ResourceURI"),
        timeout=_limit(header("w:OperationTimeout", "PT60S")),
        max_envelope=int(size) if size.isdigit() else 153600,
        shell_id=header("w:SelectorSet/w:Selector[@Name='ShellId']").upper(),
        options=options,
        to=header("a:To"),
        body=body[0] if len(body) else None,
    )


def _open(action: str, relates_to: str) -> str:
    names = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in NS.items() if prefix != "ps")
    return (
        f'<s:Envelope xml:lang="en-US" {names}><s:Header><a:Action>{escape(action)}</a:Action>'
        f"<a:MessageID>uuid:{str(uuid.uuid4()).upper()}</a:MessageID>"
        f"<p:ActivityId>{str(uuid.uuid4()).upper()}</p:ActivityId><a:To>{ANONYMOUS}</a:To>"
        f"<a:RelatesTo>{escape(relates_to)}</a:RelatesTo></s:Header><s:Body>"
    )


def response(request: Request, body: str) -> bytes:
    """Return the response envelope of a request around ``body``."""
    return (_open(request.action_uri + "Response", request.message_id) + body + "</s:Body></s:Envelope>").encode("utf-8")


def fault(relates_to: str, code: int, message: str, machine: str, provider: bool = False) -> bytes:
    """Return a fault envelope for a code of the table; ``message`` replaces the inner text, ``provider`` wraps it in a ProviderFault."""
    text = FAULTS.get(code) or FAULTS[2150858752]
    inner = message or text.message or text.reason
    reason = message if message and not text.message else text.reason
    detail = f"<w:FaultDetail>{text.detail}</w:FaultDetail>" if text.detail else ""
    head = f'<f:WSManFault xmlns:f="http://schemas.microsoft.com/wbem/wsman/1/wsmanfault" Code="{code}" Machine={quoteattr(machine)}><f:Message>'
    told = escape(inner)
    if text.plugin:
        told = f"<f:ProviderFault {text.plugin}>{told}</f:ProviderFault>"
    told = f"{head}{told}</f:Message></f:WSManFault>"
    if provider:
        told = f'{head}<f:ProviderFault provider="Shell provider" path="%systemroot%\\system32\\WsmSvc.dll">{told}</f:ProviderFault></f:Message></f:WSManFault>'
    return (
        _open("http://schemas.dmtf.org/wbem/wsman/1/wsman/fault", relates_to)
        + f"<s:Fault><s:Code><s:Value>{text.code}</s:Value><s:Subcode><s:Value>{text.subcode}</s:Value></s:Subcode></s:Code>"
        + f'<s:Reason><s:Text xml:lang="en-US">{escape(reason)}</s:Text></s:Reason><s:Detail>{detail}'
        + f"{told}</s:Detail></s:Fault></s:Body></s:Envelope>"
    ).encode("utf-8")


#: The service's configuration as ``winrm get winrm/config`` shows it, with the values of a server that nobody has tuned.
_LOGONS = (
    "<cfg:Basic>false</cfg:Basic>{}<cfg:Kerberos>true</cfg:Kerberos><cfg:Negotiate>true</cfg:Negotiate>"
    "<cfg:Certificate>{}</cfg:Certificate><cfg:CredSSP>false</cfg:CredSSP>"
)
_PORTS = "<cfg:DefaultPorts><cfg:HTTP>5985</cfg:HTTP><cfg:HTTPS>5986</cfg:HTTPS></cfg:DefaultPorts>"
_CONFIG = (
    "<cfg:MaxTimeoutms>60000</cfg:MaxTimeoutms><cfg:MaxBatchItems>32000</cfg:MaxBatchItems><cfg:MaxProviderRequests>4294967295</cfg:MaxProviderRequests>"
    "<cfg:Client><cfg:NetworkDelayms>5000</cfg:NetworkDelayms><cfg:URLPrefix>wsman</cfg:URLPrefix><cfg:AllowUnencrypted>false</cfg:AllowUnencrypted>"
    f"<cfg:Auth>{_LOGONS.format('<cfg:Digest>true</cfg:Digest>', 'true')}</cfg:Auth>{_PORTS}<cfg:TrustedHosts></cfg:TrustedHosts></cfg:Client>"
    "<cfg:Service><cfg:RootSDDL>O:NSG:BAD:P(A;;GA;;;BA)(A;;GR;;;IU)S:P(AU;FA;GA;;;WD)(AU;SA;GXGW;;;WD)</cfg:RootSDDL>"
    "<cfg:MaxConcurrentOperations>4294967295</cfg:MaxConcurrentOperations><cfg:MaxConcurrentOperationsPerUser>1500</cfg:MaxConcurrentOperationsPerUser>"
    "<cfg:EnumerationTimeoutms>240000</cfg:EnumerationTimeoutms><cfg:MaxConnections>300</cfg:MaxConnections>"
    "<cfg:MaxPacketRetrievalTimeSeconds>120</cfg:MaxPacketRetrievalTimeSeconds><cfg:AllowUnencrypted>false</cfg:AllowUnencrypted>"
    f"<cfg:Auth>{_LOGONS.format('', 'false')}<cfg:CbtHardeningLevel>Relaxed</cfg:CbtHardeningLevel></cfg:Auth>{_PORTS}"
    "<cfg:IPv4Filter>*</cfg:IPv4Filter><cfg:IPv6Filter>*</cfg:IPv6Filter><cfg:EnableCompatibilityHttpListener>false</cfg:EnableCompatibilityHttpListener>"
    "<cfg:EnableCompatibilityHttpsListener>false</cfg:EnableCompatibilityHttpsListener><cfg:CertificateThumbprint></cfg:CertificateThumbprint>"
    "<cfg:AllowRemoteAccess>true</cfg:AllowRemoteAccess></cfg:Service>"
    "<cfg:Winrs><cfg:AllowRemoteShellAccess>true</cfg:AllowRemoteShellAccess><cfg:IdleTimeout>7200000</cfg:IdleTimeout>"
    "<cfg:MaxConcurrentUsers>2147483647</cfg:MaxConcurrentUsers><cfg:MaxShellRunTime>2147483647</cfg:MaxShellRunTime>"
    "<cfg:MaxProcessesPerShell>2147483647</cfg:MaxProcessesPerShell><cfg:MaxMemoryPerShellMB>2147483647</cfg:MaxMemoryPerShellMB>"
    "<cfg:MaxShellsPerUser>2147483647</cfg:MaxShellsPerUser></cfg:Winrs>"
)


def config_body() -> str:
    """Return the service's configuration."""
    return f'<cfg:Config xmlns:cfg="{CONFIG_URI}"><cfg:MaxEnvelopeSizekb>{MAX_ENVELOPE // 1024}</cfg:MaxEnvelopeSizekb>{_CONFIG}</cfg:Config>'
