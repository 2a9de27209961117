# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes and signs mitigation documents in the form of the real one (FACTS.md 1.1, 3; TRUST.md 1).

How a Config describes a rewrite, service or application-pool action is not public, so the shapes here are invented, differ
from each other on purpose, and mean nothing: a client must carry them unread. Only ``DoNothing`` is as recorded.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import hashlib
import json
from collections.abc import Callable, Iterable
from xml.sax.saxutils import escape, quoteattr

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from lxml import etree

from . import timestamp
from .kernel import LabRefusal
from .pki import Identity

C14N = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
DSIG = "http://www.w3.org/2000/09/xmldsig#"
STAMPED = "http://schemas.microsoft.com/xmldsig/timestamp/2003"

M2_PATTERN = r"^/owa/?($|\?|default\.aspx|projection\.aspx|readingPane\.aspx|popout\.aspx)"


@dataclasses.dataclass(frozen=True)
class Config:
    """A ``<Config>`` of a document: ``content`` is the XML inside it, one element a line."""

    id: str
    description: str
    content: str


def action(kind: str, description: str, value: str, scope: str = "Server", attributes: str = "") -> str:
    """Return an ``<Action>`` as the recorded one is written."""
    return f"      <Action type={quoteattr(kind)} scope={quoteattr(scope)}{attributes} desc={quoteattr(description)}>\n{value}\n      </Action>"


def action_list(*actions: str, before: str = "") -> str:
    """Return a Config's content: what stands before the ActionList, and the ActionList."""
    return f"{before}    <ActionList>\n" + "\n".join(actions) + "\n    </ActionList>"


def ping(identifier: str = "PING1") -> Config:
    """The heartbeat exactly as recorded in 2021."""
    done = action("DoNothing", "Ping mitigation action. Does not modify any exchange settings.", "        <Value>DoNothing</Value>")
    return Config(identifier, "EEMS Heartbeat probe. Does not modify any exchange settings.", action_list(done))


def _nested(description: str) -> str:
    rule = (
        '        <Rule name="PowerShell - inbound" stop="true">\n          <Match url=".*"/>\n'
        '          <If input="{UrlDecode:{REQUEST_URI}}" pattern="(?=.*autodiscover)(?=.*powershell)"/>\n          <Then>AbortRequest</Then>\n        </Rule>'
    )
    products = (("Exchange2016", "15.1.225.42", "15.1.2507.13"), ("Exchange2019", "15.2.221.12", "15.2.1118.15"))
    rows = "".join(f'      <Product name="{name}" low="{low}" high="{high}"/>\n' for name, low, high in products)
    bounds = f"    <AppliesTo>\n{rows}    </AppliesTo>\n"
    return action_list(action("UrlRewrite", description, rule, "Site"), before=bounds)


def _json(description: str) -> str:
    value = {"site": "Default Web Site", "vdir": "owa", "var": "RESPONSE_Content_Security_Policy", "when": M2_PATTERN, "set": "{R:1}; script-src-attr 'none'"}
    body = f'        <Value encoding="json">{escape(json.dumps(value))}</Value>'
    return action_list(action("IISRewrite", description, body, "VDir", ' target="owa" minVersion="15.1.0.0" maxVersion="15.2.2562.43"'))


def _flat(description: str) -> str:
    return (
        f'    <Mitigation kind="Rewrite" level="1" description={quoteattr(description)}/>\n    <Min>15.01.0225.042</Min>\n    <Max>15.02.2562.043</Max>\n'
        '    <Applies builds="15.1.2507.13;15.1.2507.69;15.2.1748.46;15.2.2562.43"/>'
    )


def _encoded(description: str) -> str:
    blob = base64.b64encode(hashlib.sha256(description.encode()).digest() * 6).decode()
    body = f'        <Value type="Binary">{blob}</Value>\n        <Empty/>\n        <Roles><Role>Mailbox</Role><Role>FrontEnd</Role></Roles>'
    return action_list(action("Package", description, body, "Server", ' order="1"'))


def _steps(description: str) -> str:
    service = "        <ServiceName>MSExchangeUM</ServiceName>\n        <Operation>Stop</Operation>\n        <StartupType>Disabled</StartupType>"
    first = action("Service", description, service)
    second = action("AppPool", description, '        <Pool name="MSExchangeECPAppPool" state="Stopped"/>', "Site")
    ranges = '    <VersionRange product="15.1" from="0" to="2242.3"/>\n    <VersionRange product="15.2" from="0" to="858.4"/>\n'
    return action_list(first, second, before=ranges)


def _foreign_words(description: str) -> str:
    lines = f'        <Заголовок>{escape(description)} – ÄÖÜ 対策</Заголовок>\n        <a><b><c><d e="1" f="&lt;&amp;&gt;">text &amp; more</d></c></b></a>'
    return action_list(action("Future.Kind/9", description, lines, "Farm"))


#: The invented shapes, by name; each takes the description and returns a Config's content.
SHAPES: dict[str, Callable[[str], str]] = {
    "nested": _nested,
    "json": _json,
    "flat": _flat,
    "encoded": _encoded,
    "steps": _steps,
    "foreign": _foreign_words,
}


def config(identifier: str, description: str = "", shape: str = "nested") -> Config:
    """Return a Config of an invented shape."""
    if shape not in SHAPES:
        raise LabRefusal(f"no shape {shape!r}; there are {', '.join(SHAPES)}")
    text = description or f"Mitigation {identifier}"
    return Config(identifier, text, SHAPES[shape](text))


def unsigned(configs: Iterable[Config], version: str = "1.0.4") -> bytes:
    """Return a document without its Signature: CRLF, no byte-order mark, nothing after the root."""
    lines = ['<?xml version="1.0" encoding="utf-8"?>', f"<EOCS version={quoteattr(version)}>"]
    for entry in configs:
        lines += [f"  <Config id={quoteattr(entry.id)} desc={quoteattr(entry.description)}>", entry.content, "  </Config>"]
    text = "\n".join(lines) + "\n</EOCS>"
    return text.replace("\n", "\r\n").encode()


def canonical(data: bytes) -> bytes:
    """Return the inclusive C14N 1.0 form of a whole document."""
    root = etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True))
    octets: bytes = etree.tostring(root.getroottree(), method="c14n", exclusive=False, with_comments=False)
    return octets


def _signed_info(digest: bytes) -> str:
    return (
        f'<SignedInfo><CanonicalizationMethod Algorithm="{C14N}" /><SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256" />'
        f'<Reference URI=""><Transforms><Transform Algorithm="{DSIG}enveloped-signature" /><Transform Algorithm="{C14N}" /></Transforms>'
        f'<DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256" /><DigestValue>{_base64(digest)}</DigestValue></Reference></SignedInfo>'
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _certificates(identity: Identity, root: bool) -> str:
    chain = identity.chain if root else identity.chain[:-1]
    texts = [_base64(entry.public_bytes(serialization.Encoding.DER)) for entry in chain]
    return "<X509Data>" + "".join(f"<X509Certificate>{text}</X509Certificate>" for text in texts) + "</X509Data>"


def sign(
    document: bytes,
    signer: Identity,
    stamped_at: datetime.datetime | None = None,
    authority: Identity | None = None,
    imprint: bytes | None = None,
) -> bytes:
    """Return the document with an enveloped signature as the last child of its root.

    With ``authority`` the Signature carries an ``Object`` with a timestamp of ``stamped_at`` over the decoded SignatureValue.
    """
    if not document.endswith(b"</EOCS>"):
        raise LabRefusal("only a document that ends with </EOCS> can be signed")
    info = _signed_info(hashlib.sha256(canonical(document)).digest())
    octets = canonical(info.replace("<SignedInfo>", f'<SignedInfo xmlns="{DSIG}">', 1).encode())
    value = signer.key.sign(octets, padding.PKCS1v15(), hashes.SHA256())
    numbers = signer.key.public_key().public_numbers()
    modulus, exponent = (_base64(number.to_bytes((number.bit_length() + 7) // 8, "big")) for number in (numbers.n, numbers.e))
    countersignature = ""
    if authority is not None:
        at = stamped_at or datetime.datetime.now(datetime.timezone.utc)
        token = timestamp.token(value, at, authority, imprint)
        countersignature = (
            f'<Object Id="ts-countersig">{_certificates(authority, root=False)}'
            f'<CounterSignature ts-format="cms-timestamp-message" xmlns="{STAMPED}">{_base64(token)}</CounterSignature></Object>'
        )
    signature = (
        f'<Signature xmlns="{DSIG}">{info}<SignatureValue>{_base64(value)}</SignatureValue><KeyInfo><KeyValue><RSAKeyValue><Modulus>{modulus}</Modulus>'
        f"<Exponent>{exponent}</Exponent></RSAKeyValue></KeyValue>{_certificates(signer, root=True)}</KeyInfo>{countersignature}</Signature>"
    )
    return document[: -len(b"</EOCS>")] + signature.encode() + b"</EOCS>"
