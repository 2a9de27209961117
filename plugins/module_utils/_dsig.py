# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The XML signature: a fixed grammar, the signed part proven on its own, the content's digest (TRUST.md 2, steps 3 to 7).

Microsoft's form is the only one: one enveloped RSA signature over the whole document, last child of the root.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils import _xml_guard
from ansible_collections.exchange.mitigation.plugins.module_utils._certificates import MAX_CERTIFICATES
from ansible_collections.exchange.mitigation.plugins.module_utils._reasons import unproven

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from lxml import etree
except ImportError:
    etree = None  # the entry points require it

XMLDSIG = "http://www.w3.org/2000/09/xmldsig#"
TIMESTAMP = "http://schemas.microsoft.com/xmldsig/timestamp/2003"
XML = "http://www.w3.org/XML/1998/namespace"

C14N = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
ENVELOPED = XMLDSIG + "enveloped-signature"

SIGNATURES: Mapping[str, str] = {f"http://www.w3.org/2001/04/xmldsig-more#rsa-{name}": name for name in ("sha256", "sha384", "sha512")}
DIGESTS: Mapping[str, str] = {
    "http://www.w3.org/2001/04/xmlenc#sha256": "sha256",
    "http://www.w3.org/2001/04/xmldsig-more#sha384": "sha384",
    "http://www.w3.org/2001/04/xmlenc#sha512": "sha512",
}

_SPACE = " \t\r\n"
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=]")


def _ds(name: str) -> str:
    return f"{{{XMLDSIG}}}{name}"


@dataclasses.dataclass(frozen=True)
class _Shape:
    """What an element may hold: exactly these attributes, these children in this order (name, least, most), or text."""

    attributes: frozenset[str] = frozenset()
    children: tuple[tuple[str, int, int], ...] = ()
    text: bool = False


_ALGORITHM = _Shape(frozenset({"Algorithm"}))
_TEXT = _Shape(text=True)
_COUNTER_SIGNATURE = f"{{{TIMESTAMP}}}CounterSignature"

_GRAMMAR: Mapping[str, _Shape] = {
    _ds("Signature"): _Shape(children=((_ds("SignedInfo"), 1, 1), (_ds("SignatureValue"), 1, 1), (_ds("KeyInfo"), 1, 1), (_ds("Object"), 0, 1))),
    _ds("SignedInfo"): _Shape(children=((_ds("CanonicalizationMethod"), 1, 1), (_ds("SignatureMethod"), 1, 1), (_ds("Reference"), 1, 1))),
    _ds("CanonicalizationMethod"): _ALGORITHM,
    _ds("SignatureMethod"): _ALGORITHM,
    _ds("Reference"): _Shape(frozenset({"URI"}), ((_ds("Transforms"), 1, 1), (_ds("DigestMethod"), 1, 1), (_ds("DigestValue"), 1, 1))),
    _ds("Transforms"): _Shape(children=((_ds("Transform"), 1, 2),)),
    _ds("Transform"): _ALGORITHM,
    _ds("DigestMethod"): _ALGORITHM,
    _ds("DigestValue"): _TEXT,
    _ds("SignatureValue"): _TEXT,
    _ds("KeyInfo"): _Shape(children=((_ds("KeyValue"), 0, 1), (_ds("X509Data"), 1, 1))),
    _ds("KeyValue"): _Shape(children=((_ds("RSAKeyValue"), 1, 1),)),
    _ds("RSAKeyValue"): _Shape(children=((_ds("Modulus"), 1, 1), (_ds("Exponent"), 1, 1))),
    _ds("Modulus"): _TEXT,
    _ds("Exponent"): _TEXT,
    _ds("X509Data"): _Shape(children=((_ds("X509Certificate"), 1, MAX_CERTIFICATES),)),
    _ds("X509Certificate"): _TEXT,
    _ds("Object"): _Shape(frozenset({"Id"}), ((_ds("X509Data"), 0, 1), (_COUNTER_SIGNATURE, 1, 1))),
    _COUNTER_SIGNATURE: _Shape(frozenset({"ts-format"}), text=True),
}


@dataclasses.dataclass(frozen=True)
class SignedInfo:
    """The signed part, as its own canonical octets say it."""

    octets: bytes
    algorithm: str
    digest_algorithm: str
    digest: bytes


@dataclasses.dataclass(frozen=True)
class Signature:
    """A Signature of allowed shape: nothing in it is proven yet. ``token`` is base64 text or None."""

    element: Any
    signed_info: SignedInfo
    value: bytes
    certificates: tuple[bytes, ...]
    token: str | None
    token_certificates: tuple[str, ...]


def _blank(text: str | None) -> bool:
    return not (text or "").strip(_SPACE)


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def decode_base64(text: str | None, what: str) -> bytes:
    """Return the bytes of strict base64; only XML white space may stand between. ``what`` goes into the message."""
    compact = (text or "").translate({ord(c): None for c in _SPACE})
    if not compact or _NOT_BASE64.search(compact):
        raise unproven("base64_malformed", f"{what} is not base64.")
    try:
        data = base64.b64decode(compact, validate=True)
    except (binascii.Error, ValueError):
        raise unproven("base64_malformed", f"{what} is not base64.") from None
    if base64.b64encode(data).decode("ascii") != compact:
        raise unproven("base64_malformed", f"{what} is not base64 in its one form.")
    return data


def find_signature(root: Any) -> Any:
    """Return the one Signature element at its one place, content and comments being where they may; raises VerifyError."""
    if root.tag != "EOCS":
        raise unproven("root_element", "The root element is not EOCS without namespace.")
    named = [element for element in root.iter("*") if _local(element.tag).casefold() == "signature"]
    if not named:
        raise unproven("unsigned", "The document has no Signature.")
    if len(named) > 1:
        raise unproven("many_signatures", f"The document has {len(named)} elements named Signature.")
    signature = named[0]
    if signature.tag != _ds("Signature"):
        raise unproven("unsigned", "The Signature element is not one of XML-DSig.")
    if signature.getparent() is not root or root[-1] is not signature or not _blank(signature.tail):
        raise unproven("signature_position", "The Signature is not the last child of the root, with white space only behind it.")

    inside = set(signature.iter("*"))
    for parent in {comment.getparent() for comment in root.iter(etree.Comment)}:
        _check_comments(parent)
    for node in root.iter():
        if node.tag is etree.Comment:
            continue
        if not isinstance(node.tag, str):
            raise unproven("processing_instruction", "The document has a processing instruction or an entity.")
        elif node not in inside:
            _check_content(node)
    return signature


def _check_comments(parent: Any) -> None:
    """Refuse comments beside text: readers disagree on the text then."""
    if not _blank(parent.text) or not all(_blank(child.tail) for child in parent):
        raise unproven("comment_in_text", f"Line {parent.sourceline}: a comment stands beside text.")


def _check_content(element: Any) -> None:
    """Refuse namespaces in the content; only the attributes of XML itself have one."""
    names = [element.tag, *(name for name in element.attrib if not name.startswith(f"{{{XML}}}"))]
    if any(name.startswith("{") for name in names):
        raise unproven("foreign_namespace", f"Line {element.sourceline}: an element or attribute of the content is in a namespace.")


def _check_grammar(element: Any) -> None:
    """Hold an element and everything in it against the grammar; raises VerifyError."""
    shape = _GRAMMAR[element.tag]
    children = [child for child in element if child.tag is not etree.Comment]
    where = f"{_local(element.tag)} in line {element.sourceline}"
    if set(element.attrib) != shape.attributes:
        code = "reference_not_allowed" if element.tag == _ds("Reference") else "signature_grammar"
        raise unproven(code, f"{where} has other attributes than {sorted(shape.attributes)}.")
    if shape.text:
        if len(element):
            raise unproven("signature_grammar", f"{where} holds more than text.")
        return
    if not _blank(element.text) or not all(_blank(child.tail) for child in element):
        raise unproven("signature_grammar", f"{where} holds text.")
    rest = children
    for name, least, most in shape.children:
        count = 0
        while count < len(rest) and rest[count].tag == name:
            count += 1
        if not least <= count <= most:
            raise unproven("signature_grammar", f"{where} holds {count} of {_local(name)}, not {least} to {most}, in that place.")
        rest = rest[count:]
    if rest:
        raise unproven("signature_grammar", f"{where} holds an element that has no place there.")
    for child in children:
        _check_grammar(child)


def read_signature(element: Any) -> Signature:
    """Return what a Signature element holds, once it keeps the grammar; raises VerifyError."""
    _check_grammar(element)
    info, value, key_info, thing = (element.find(_ds(name)) for name in ("SignedInfo", "SignatureValue", "KeyInfo", "Object"))
    token = None
    token_certificates: list[str] = []
    if thing is not None:
        if thing.get("Id") != "ts-countersig":
            raise unproven("signature_grammar", "The Object is not ts-countersig.")
        counter = thing.find(_COUNTER_SIGNATURE)
        if counter.get("ts-format") == "cms-timestamp-message":
            token = counter.text or ""
        token_certificates = [certificate.text or "" for certificate in thing.iter(_ds("X509Certificate"))]
    return Signature(
        element=element,
        signed_info=_read_signed_info(_cut_out(info)),
        value=decode_base64(value.text, "SignatureValue"),
        certificates=tuple(decode_base64(c.text, "X509Certificate") for c in key_info.iter(_ds("X509Certificate"))),
        token=token,
        token_certificates=tuple(token_certificates),
    )


def _cut_out(info: Any) -> bytes:
    """Return SignedInfo in canonical form, as its own document.

    Canonicalizing it in place would write empty xmlns attributes under an inherited default namespace (a fault of lxml).
    Canonical XML lets the apex inherit the xml: attributes of its ancestors.
    """
    alone = _xml_guard.parse(etree.tostring(info, with_tail=False))
    for ancestor in info.iterancestors():
        for name, value in ancestor.attrib.items():
            if name.startswith(f"{{{XML}}}") and name not in alone.attrib:
                alone.set(name, value)
    return _xml_guard.canonical(alone)


def _read_signed_info(octets: bytes) -> SignedInfo:
    """Return what the canonical octets say: nothing else of SignedInfo is ever believed."""
    root = _xml_guard.parse(octets)
    for name in [name for name in root.attrib if name.startswith(f"{{{XML}}}")]:
        del root.attrib[name]
    _check_grammar(root)
    algorithm = SIGNATURES.get(root.find(_ds("SignatureMethod")).get("Algorithm"))
    reference = root.find(_ds("Reference"))
    digest_algorithm = DIGESTS.get(reference.find(_ds("DigestMethod")).get("Algorithm"))
    if root.find(_ds("CanonicalizationMethod")).get("Algorithm") != C14N:
        raise unproven("algorithm_not_allowed", "The signed part is not canonicalized by Canonical XML 1.0 without comments.")
    if algorithm is None or digest_algorithm is None:
        raise unproven("algorithm_not_allowed", "The algorithms are not RSA with SHA-256, SHA-384 or SHA-512.")
    if reference.get("URI") != "":
        raise unproven("reference_not_allowed", "The Reference is not to the whole document.")
    transforms = [transform.get("Algorithm") for transform in reference.iter(_ds("Transform"))]
    if transforms not in ([ENVELOPED], [ENVELOPED, C14N]):
        raise unproven("transform_not_allowed", "The transforms are not enveloped-signature and Canonical XML 1.0.")
    digest = decode_base64(reference.find(_ds("DigestValue")).text, "DigestValue")
    return SignedInfo(octets, algorithm, digest_algorithm, digest)


def key_matches(key: rsa.RSAPublicKey, signature: Signature) -> bool:
    """Say whether the key made the signature (RSA PKCS #1 v1.5)."""
    algorithms = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
    try:
        key.verify(signature.value, signature.signed_info.octets, padding.PKCS1v15(), algorithms[signature.signed_info.algorithm])
    except InvalidSignature:
        return False
    return True


def without_signature(root: Any, element: Any) -> bytes:
    """Return the canonical octets of the document without its Signature element. Changes the tree."""
    previous = element.getprevious()
    if previous is None:
        root.text = (root.text or "") + (element.tail or "")
    else:
        previous.tail = (previous.tail or "") + (element.tail or "")
    element.tail = None
    root.remove(element)
    return _xml_guard.canonical(root)


def content_octets(root: Any, signature: Signature) -> bytes:
    """Return the canonical octets without the Signature, if they have the signed digest; raises VerifyError. Changes the tree."""
    octets = without_signature(root, signature.element)
    if hashlib.new(signature.signed_info.digest_algorithm, octets).digest() != signature.signed_info.digest:
        raise unproven("digest_mismatch", "The content is not what was signed.")
    return octets
