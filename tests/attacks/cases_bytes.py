# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes and XML: encodings, entities, limits, and the changes that a signature survives (TRUST.md 1, the table)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .authorities import Pki
from .case import Case
from .documents import CONTENT, DECLARATION, PING, sign


def cases(pki: Pki) -> Iterator[Case]:
    """Yield the documents of this concern."""
    good = sign(pki)
    text, data = good.text(), good.bytes()
    bom = b"\xef\xbb\xbf"

    yield Case("valid-as-made", data, signed=True)
    yield Case("valid-crlf", data.replace(b"\n", b"\r\n"))
    yield Case("valid-cr-only", data.replace(b"\n", b"\r"))
    yield Case("valid-byte-order-mark", bom + data)
    yield Case("valid-no-declaration", good.but(declaration="").bytes())
    yield Case("valid-declaration-upper-case-utf8", good.but(declaration='<?xml version="1.0" encoding="UTF-8"?>').bytes())
    yield Case("valid-declaration-without-encoding", good.but(declaration='<?xml version="1.0"?>').bytes())
    yield Case("valid-trailing-newlines", data + b"\r\n\n")
    yield Case("valid-single-quotes", text.replace('id="PING1"', "id='PING1'").encode())
    yield Case("valid-attribute-order", text.replace('desc="Heartbeat" id="PING1"', 'id="PING1" desc="Heartbeat"').encode())
    yield Case("valid-empty-tags-short", re.sub(r"(<Transform [^>]*)></Transform>", r"\1 />", text).encode())
    yield Case("valid-white-space-in-tags", text.replace("<ActionList>", "<ActionList  >").replace("</EOCS>", "</EOCS\n>").encode())
    yield Case("valid-cdata", text.replace("<Value>DoNothing", "<Value><![CDATA[DoNothing]]>").encode())
    yield Case("valid-character-reference", text.replace("<Value>DoNothing", "<Value>&#68;o&#x4E;othing").encode())
    yield Case("valid-comment-between-elements", text.replace("<ActionList>", "<!-- a note --><ActionList>").encode())
    yield Case("valid-comment-before-root", text.replace("<EOCS", "<!-- a note -->\n<EOCS").encode())
    yield Case("valid-comment-after-root", data + b"\n<!-- a note -->")
    yield Case("valid-comment-in-signedinfo-between-elements", text.replace("<SignatureMethod", "<!-- a note --><SignatureMethod").encode())
    yield Case("valid-line-breaks-in-base64", re.sub(r"([A-Za-z0-9+/]{64})", r"\1&#13;\n", text).encode())
    yield Case("valid-white-space-after-signature-signed", sign(pki, CONTENT.replace("</EOCS>", "\n  </EOCS>")).but(after="").bytes())
    big = CONTENT.replace("</EOCS>", "".join(f'  <Config desc="{"x" * 900}" id="N{n}"></Config>\n' for n in range(1000)) + "</EOCS>")
    yield Case("valid-just-below-one-mebibyte", sign(pki, big).bytes())
    deep = CONTENT.replace("<Value>DoNothing</Value>", "<V>" * 25 + "</V>" * 25)
    yield Case("valid-thirty-levels", sign(pki, deep).bytes())

    yield Case("empty", b"", "empty")
    yield Case("white-space-only", b" \r\n", "not_well_formed")
    yield Case("html-page", b"<!DOCTYPE html><html><body>sign in</body></html>", "doctype")
    yield Case("xhtml-without-doctype", b"<html><body>sign in</body></html>", "root_element")
    yield Case("json-page", b'{"EOCS": {"version": "1.0.4"}}', "not_well_formed")
    yield Case("endless-data-above-one-mebibyte", data + b" " * (1024 * 1024), "too_large")
    yield Case("two-byte-order-marks", bom + bom + data, "not_utf8")
    yield Case("nul-byte", data.replace(b"DoNothing", b"Do\0othing", 1), "nul_byte")
    yield Case("utf-16-with-mark", text.replace("utf-8", "utf-16").encode("utf-16"), "nul_byte")
    yield Case("utf-7-declared", text.replace("utf-8", "utf-7").encode(), "encoding_not_allowed")
    yield Case("latin-1-declared", text.replace("utf-8", "iso-8859-1").encode(), "encoding_not_allowed")
    yield Case("latin-1-bytes", data.replace(b"Heartbeat", b"Heart\xe9eat"), "not_utf8")
    yield Case("overlong-utf8-slash", data.replace(b"Heartbeat", b"Heart\xc0\xafeat"), "not_utf8")
    yield Case("surrogate-in-utf8", data.replace(b"Heartbeat", b"Heart\xed\xa0\x80t"), "not_utf8")
    yield Case("control-character", data.replace(b"Heartbeat", b"Heart\x08eat"), "not_well_formed")
    yield Case("xml-1.1", text.replace('"1.0" enc', '"1.1" enc').encode(), "xml_version")
    yield Case("two-declarations", (DECLARATION + text).encode(), "not_well_formed")
    yield Case("blank-before-declaration", b"\n" + data, "not_well_formed")
    yield Case("truncated", data[:-20], "not_well_formed")
    yield Case("two-roots", data + b"<EOCS/>", "not_well_formed")
    yield Case("text-after-root", data + b"x", "not_well_formed")
    yield Case("undeclared-prefix", text.replace("<ActionList>", "<q:ActionList>").replace("</ActionList>", "</q:ActionList>").encode(), "not_well_formed")

    yield Case("doctype-empty", text.replace("<EOCS", "<!DOCTYPE EOCS><EOCS").encode(), "doctype")
    yield Case("doctype-default-attribute", text.replace("<EOCS", '<!DOCTYPE EOCS [<!ATTLIST Config id CDATA "M1">]><EOCS').encode(), "doctype")
    yield Case(
        "entity-internal", text.replace("<EOCS", '<!DOCTYPE EOCS [<!ENTITY a "DoNothing">]><EOCS').replace("<Value>DoNothing", "<Value>&a;").encode(), "doctype"
    )
    yield Case("entity-external-file", text.replace("<EOCS", '<!DOCTYPE EOCS [<!ENTITY a SYSTEM "file:///etc/passwd">]><EOCS').encode(), "doctype")
    yield Case("entity-external-subset", text.replace("<EOCS", '<!DOCTYPE EOCS SYSTEM "http://127.0.0.1:9/x.dtd"><EOCS').encode(), "doctype")
    laughs = "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9))
    yield Case("entity-billion-laughs", text.replace("<EOCS", f'<!DOCTYPE EOCS [<!ENTITY l0 "lol">{laughs}]><EOCS').encode(), "doctype")
    yield Case("entity-undefined", text.replace("<Value>DoNothing", "<Value>&nope;").encode(), "not_well_formed")
    yield Case("instruction-before-root", text.replace("<EOCS", '<?xml-stylesheet href="x.xsl"?><EOCS').encode(), "processing_instruction")
    yield Case("instruction-inside", text.replace("<ActionList>", "<ActionList><?php 1 ?>").encode(), "processing_instruction")
    yield Case("instruction-after-root", data + b"<?x?>", "processing_instruction")
    yield Case("too-deep", b"<EOCS>" + b"<a>" * 5000 + b"</a>" * 5000 + b"</EOCS>", "too_deep")
    yield Case("too-many-elements", b"<EOCS>" + b"<a/>" * 30000 + b"</EOCS>", "too_many_elements")
    yield Case("too-many-attributes", ("<EOCS " + " ".join(f'a{n}=""' for n in range(5000)) + "/>").encode(), "too_many_attributes")
    yield Case("too-many-namespaces", ("<EOCS " + " ".join(f'xmlns:a{n}="urn:{n}"' for n in range(5000)) + "/>").encode(), "too_many_attributes")

    for name, old, new, reason in (
        ("content-id-changed", 'id="PING1"', 'id="M1"', "digest_mismatch"),
        ("content-version-raised", 'version="1.0.4"', 'version="1.0.5"', "digest_mismatch"),
        ("content-config-added", "  <Config", PING.replace("PING1", "M2") + "  <Config", "digest_mismatch"),
        ("content-config-removed", PING, "", "digest_mismatch"),
        ("content-white-space-removed", "\n    <ActionList>", "<ActionList>", "digest_mismatch"),
        ("content-spaces-to-tabs", "    <ActionList>", "\t<ActionList>", "digest_mismatch"),
        ("content-carriage-return-reference", "<ActionList>", "&#13;<ActionList>", "digest_mismatch"),
        ("content-xml-lang-added", '<EOCS version="1.0.4">', '<EOCS version="1.0.4" xml:lang="en">', "signature_mismatch"),
        ("content-xml-space-added", '<EOCS version="1.0.4">', '<EOCS version="1.0.4" xml:space="preserve">', "signature_mismatch"),
        ("content-xml-base-added-below", "<ActionList>", '<ActionList xml:base="urn:a">', "digest_mismatch"),
        ("content-unused-namespace-added", '<EOCS version="1.0.4">', '<EOCS xmlns:x="urn:x" version="1.0.4">', "signature_mismatch"),
        ("content-relative-namespace", '<EOCS version="1.0.4">', '<EOCS xmlns:x="x" version="1.0.4">', "not_well_formed"),
        ("content-default-namespace", '<EOCS version="1.0.4">', '<EOCS xmlns="urn:x" version="1.0.4">', "root_element"),
        ("content-namespaced-attribute", "<ActionList>", '<ActionList xmlns:x="urn:x" x:a="1">', "foreign_namespace"),
        ("content-namespaced-element", "<ActionList>", '<ActionList xmlns="urn:x">', "foreign_namespace"),
        ("comment-splits-text", "DoNothing<", "DoNot<!-- -->hing<", "comment_in_text"),
        ("comment-hides-text", "<Value>DoNothing", "<Value><!-- -->DoNothing", "comment_in_text"),
        ("comment-in-digest", "<DigestValue>", "<DigestValue><!-- -->", "comment_in_text"),
        ("comment-in-certificate", "<X509Certificate>MII", "<X509Certificate>MI<!-- -->I", "comment_in_text"),
    ):
        assert old in text, name
        yield Case(name, text.replace(old, new, 1).encode(), reason)
