# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mutants of the envelope and its signature: file, text of a check, text without it."""

from __future__ import annotations

MUTANTS: tuple[tuple[str, str, str], ...] = (
    ("_xml_guard.py", "if len(data) > MAX_BYTES:", "if False:"),
    ("_xml_guard.py", 'if b"\\0" in data:', "if False:"),
    ("_xml_guard.py", "        if data.startswith(_BOM):\n            raise", "        if False:\n            raise"),
    ("_xml_guard.py", '        data.decode("utf-8")', "        pass"),
    ("_xml_guard.py", 'if version != "1.0":', "if False:"),
    ("_xml_guard.py", 'if encoding is not None and encoding.lower() != "utf-8":', "if False:"),
    ("_xml_guard.py", "    parser.StartDoctypeDeclHandler = counter.doctype\n", ""),
    ("_xml_guard.py", "    parser.ProcessingInstructionHandler = counter.instruction\n", ""),
    ("_xml_guard.py", "if self.depth > MAX_DEPTH:", "if False:"),
    ("_xml_guard.py", "if self.elements > MAX_ELEMENTS:", "if False:"),
    ("_xml_guard.py", "if len(attributes) > 2 * MAX_ATTRIBUTES:", "if False:"),
    ("_xml_guard.py", "if self.namespaces > MAX_NAMESPACES:", "if False:"),
    ("_xml_guard.py", "if root.getroottree().docinfo.internalDTD is not None:", "if False:"),
    ("_xml_guard.py", "with_comments=False", "with_comments=True"),
    ("_dsig.py", 'if root.tag != "EOCS":', "if False:"),
    ("_dsig.py", '.casefold() == "signature"', ' == "Signature"'),
    ("_dsig.py", "if len(named) > 1:", "if False:"),
    ("_dsig.py", 'if signature.tag != _ds("Signature"):', "if False:"),
    ("_dsig.py", "signature.getparent() is not root or ", ""),
    ("_dsig.py", "root[-1] is not signature or ", ""),
    ("_dsig.py", " or not _blank(signature.tail):", ":"),
    ("_dsig.py", "        _check_comments(parent)\n", "        pass\n"),
    ("_dsig.py", "            _check_content(node)\n", "            pass\n"),
    ("_dsig.py", "if set(element.attrib) != shape.attributes:", "if False:"),
    ("_dsig.py", "        if len(element):\n            raise", "        if False:\n            raise"),
    ("_dsig.py", "if not _blank(element.text) or not all(_blank(child.tail) for child in element):\n        raise", "if False:\n        raise"),
    ("_dsig.py", "if not least <= count <= most:", "if False:"),
    ("_dsig.py", "    if rest:\n", "    if False:\n"),
    ("_dsig.py", "    for child in children:\n        _check_grammar(child)\n", ""),
    ("_dsig.py", 'if thing.get("Id") != "ts-countersig":', "if False:"),
    ("_dsig.py", 'if counter.get("ts-format") == "cms-timestamp-message":', "if True:"),
    ("_dsig.py", 'if root.find(_ds("CanonicalizationMethod")).get("Algorithm") != C14N:', "if False:"),
    ("_dsig.py", "if algorithm is None or digest_algorithm is None:", "if False:"),
    ("_dsig.py", 'if reference.get("URI") != "":', "if False:"),
    ("_dsig.py", "if transforms not in ([ENVELOPED], [ENVELOPED, C14N]):", "if False:"),
    ("_dsig.py", 'if base64.b64encode(data).decode("ascii") != compact:', "if False:"),
    ("_dsig.py", "if not compact or _NOT_BASE64.search(compact):", "if not compact:"),
    ("_dsig.py", "    except InvalidSignature:\n        return False", "    except InvalidSignature:\n        return True"),
    ("_dsig.py", "octets).digest() != signature.signed_info.digest:", 'octets).digest() == b"":'),
    ("_dsig.py", '        if name.startswith(f"{{{XML}}}") and name not in alone.attrib:', "        if False:"),
)
