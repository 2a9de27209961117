# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes local documents: from a description to XML, and from XML and a key to a signed document.

What may stand in one is for the parser to say: everything written here is read back by it before anybody uses it.
Note that this plugin util is private to the collection and may change at any time.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape  # nosec B406  # writes, parses nothing

from ansible_collections.exchange.mitigation.plugins.module_utils import _certificates, _dsig, _xml_guard
from ansible_collections.exchange.mitigation.plugins.module_utils import _local_profile as profile
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
except ImportError:
    pass  # the command requires it

#: For each action of a description, its type in the document and its keys, those with a default given it.
ACTIONS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "inbound": (profile.INBOUND, {"site": "", "path": "/", "answer": profile.ABORT, "when": None, "description": ""}),
    "outbound": (profile.OUTBOUND, {"site": "", "path": None, "header": None, "value": None, "when": None, "description": ""}),
    "service": (profile.SERVICE, {"service": None, "stop": True, "disable": True, "description": ""}),
    "app_pool": (profile.POOL, {"pool": None, "description": ""}),
}
_DEFAULT_TEXT = {"inbound": "Block a request.", "outbound": "Change a response header.", "service": "Stop a service.", "app_pool": "Stop an application pool."}


def _keys(value: Any, known: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the values of the known keys, defaults filled in; None as default means required. Raises InvalidInput."""
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{where}: expected is a mapping with {', '.join(known)}.", "description_malformed")
    unknown = [str(key) for key in value if key not in known]
    missing = [key for key, default in known.items() if default is None and value.get(key) is None]
    if unknown or missing:
        what = f"{unknown[0]} is not known" if unknown else f"{missing[0]} is missing"
        raise InvalidInput(f"{where}: {what}; there are {', '.join(known)}.", "description_malformed")
    return {key: default if value.get(key) is None else value[key] for key, default in known.items()}


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidInput(f"{where}: expected is a list.", "description_malformed")
    return value


def _text(value: Any, where: str) -> str:
    """Return an attribute's text. Numbers are taken where YAML makes one of a status; a version has to be quoted."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int)):
        return str(value)
    raise InvalidInput(f"{where}: {value!r} is not text; put it in quotes.", "description_malformed")


def _element(indent: int, tag: str, attributes: Mapping[str, str], children: Sequence[str] = ()) -> str:
    space = "  " * indent
    entities = {'"': "&quot;", "\n": "&#xA;", "\r": "&#xD;", "\t": "&#x9;"}
    head = f"{space}<{tag}" + "".join(f' {name}="{escape(value, entities)}"' for name, value in attributes.items())
    return f"{head}/>" if not children else "\n".join([f"{head}>", *children, f"{space}</{tag}>"])


def render(description: Any) -> bytes:
    """Return the unsigned document that a description means. Raises InvalidInput for keys and types, never for values: the parser judges those."""
    whole = _keys(description, {"version": None, "mitigations": None}, "The description")
    if not isinstance(whole["version"], str):
        raise InvalidInput(f"version: {whole['version']!r} is not text; put it in quotes, so that 1.10 stays 1.10.", "description_malformed")
    configs = [_config(entry, f"mitigations[{number}]") for number, entry in enumerate(_list(whole["mitigations"], "mitigations"))]
    text = '<?xml version="1.0" encoding="utf-8"?>\n' + _element(0, "EOCS", {"version": whole["version"]}, configs)
    if not configs:
        text = text.removesuffix("/>") + "></EOCS>"
    return text.encode()


def _config(value: Any, where: str) -> str:
    known: dict[str, Any] = {"id": None, "description": None, "cve": "", "applies": {}, "side_effects": [], "actions": None}
    entry = _keys(value, known, where)
    children = []
    if not isinstance(entry["applies"], Mapping):
        raise InvalidInput(f"{where}.applies: expected are products, each with the list of builds that have the fix.", "description_malformed")
    for product, builds in entry["applies"].items():
        fixed = " ".join(_text(build, f"{where}.applies") for build in _list([] if builds is None else builds, f"{where}.applies.{product}"))
        children.append(_element(2, "Applies", {"product": _text(product, where)} | ({"fixed": fixed} if fixed else {})))
    for text in _list(entry["side_effects"], f"{where}.side_effects"):
        children.append(_element(2, "SideEffect", {"desc": _text(text, f"{where}.side_effects")}))
    actions = [_action(action, f"{where}.actions[{number}]") for number, action in enumerate(_list(entry["actions"], f"{where}.actions"))]
    children.append(_element(2, "ActionList", {}, actions))
    attributes = {"id": _text(entry["id"], f"{where}.id"), "desc": _text(entry["description"], f"{where}.description")}
    if entry["cve"]:
        attributes["cve"] = _text(entry["cve"], f"{where}.cve")
    return _element(1, "Config", attributes, children)


def _action(value: Any, where: str) -> str:
    if not isinstance(value, Mapping) or len(value) != 1 or next(iter(value)) not in ACTIONS:
        raise InvalidInput(f"{where}: an action is one of {', '.join(ACTIONS)} with its keys below it.", "description_malformed")
    (kind, body), = value.items()
    type_, known = ACTIONS[kind]
    entry = _keys(body, known, f"{where}.{kind}")
    whens = []
    for number, when in enumerate(_list(entry.pop("when", []), f"{where}.{kind}.when")):
        pair = _keys(when, {"input": None, "pattern": None}, f"{where}.{kind}.when[{number}]")
        whens.append(_element(4, "When", {name: _text(text, f"{where}.{kind}.when[{number}]") for name, text in pair.items()}))
    if not entry.get("site", "site"):
        del entry["site"]
    described = entry.pop("description") or _DEFAULT_TEXT[kind]
    attributes = {"type": type_, "scope": "Server", "desc": _text(described, where)}
    return _element(3, "Action", attributes | {name: _text(text, f"{where}.{kind}.{name}") for name, text in entry.items()}, whens)


def sign(document: bytes, key: rsa.RSAPrivateKey, chain: Sequence[x509.Certificate]) -> bytes:
    """Return the document with an enveloped signature as the last child of its root, in the form of Microsoft's (TRUST.md 1).

    ``chain`` begins with the signer's certificate. The document has none yet and ends with ``</EOCS>``.
    """
    end = b"</EOCS>"
    if not document.endswith(end):
        raise InvalidInput("Only an unsigned document that ends with </EOCS> can be signed.", "description_malformed")
    digest = hashlib.sha256(_xml_guard.canonical(_xml_guard.parse(document))).digest()
    info = (
        f'<SignedInfo><CanonicalizationMethod Algorithm="{_dsig.C14N}"/><SignatureMethod Algorithm="{_named(_dsig.SIGNATURES)}"/>'
        f'<Reference URI=""><Transforms><Transform Algorithm="{_dsig.ENVELOPED}"/><Transform Algorithm="{_dsig.C14N}"/></Transforms>'
        f'<DigestMethod Algorithm="{_named(_dsig.DIGESTS)}"/><DigestValue>{_base64(digest)}</DigestValue></Reference></SignedInfo>'
    )
    octets = _xml_guard.canonical(_xml_guard.parse(info.replace("<SignedInfo>", f'<SignedInfo xmlns="{_dsig.XMLDSIG}">', 1).encode()))
    value = key.sign(octets, padding.PKCS1v15(), hashes.SHA256())
    certificates = "".join(f"<X509Certificate>{_base64(_certificates.der(certificate))}</X509Certificate>" for certificate in chain)
    signature = (
        f'<Signature xmlns="{_dsig.XMLDSIG}">{info}<SignatureValue>{_base64(value)}</SignatureValue>'
        f"<KeyInfo><X509Data>{certificates}</X509Data></KeyInfo></Signature>"
    )
    return document.removesuffix(end) + signature.encode() + end + b"\n"


def _named(algorithms: Mapping[str, str]) -> str:
    return next(uri for uri, name in algorithms.items() if name == "sha256")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
