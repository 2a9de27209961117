# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mutation testing of the verifier: each check taken out once; the corpus must notice. Run by hand.

``python -m attacks.mutants`` (with tests and the collection on the path) prints the mutants that survive, and why that is known to be
so. Exit code 0 when none survives for which no reason is known.
"""

from __future__ import annotations

import datetime
import importlib
import importlib.abc
import importlib.util
import pathlib
import sys
import time
from typing import Any

from ansible_collections.exchange.mitigation.plugins import module_utils
from cryptography import x509

from .authorities import Pki
from .case import Case
from .corpus import corpus

NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.timezone.utc)
PREFIX = module_utils.__name__ + "."

#: File, text of a check, text without it.
MUTANTS: tuple[tuple[str, str, str], ...] = (
    (
        "_xml_guard.py",
        "if len(data) > MAX_BYTES:",
        "if False:",
    ),
    (
        "_xml_guard.py",
        'if b"\\0" in data:',
        "if False:",
    ),
    (
        "_xml_guard.py",
        "        if data.startswith(_BOM):\n            raise",
        "        if False:\n            raise",
    ),
    (
        "_xml_guard.py",
        '        data.decode("utf-8")',
        "        pass",
    ),
    (
        "_xml_guard.py",
        'if version != "1.0":',
        "if False:",
    ),
    (
        "_xml_guard.py",
        'if encoding is not None and encoding.lower() != "utf-8":',
        "if False:",
    ),
    (
        "_xml_guard.py",
        "    parser.StartDoctypeDeclHandler = counter.doctype\n",
        "",
    ),
    (
        "_xml_guard.py",
        "    parser.ProcessingInstructionHandler = counter.instruction\n",
        "",
    ),
    (
        "_xml_guard.py",
        "if self.depth > MAX_DEPTH:",
        "if False:",
    ),
    (
        "_xml_guard.py",
        "if self.elements > MAX_ELEMENTS:",
        "if False:",
    ),
    (
        "_xml_guard.py",
        "if len(attributes) > 2 * MAX_ATTRIBUTES:",
        "if False:",
    ),
    (
        "_xml_guard.py",
        "if self.namespaces > MAX_NAMESPACES:",
        "if False:",
    ),
    (
        "_xml_guard.py",
        "if root.getroottree().docinfo.internalDTD is not None:",
        "if False:",
    ),
    (
        "_xml_guard.py",
        "with_comments=False",
        "with_comments=True",
    ),
    (
        "_dsig.py",
        'if root.tag != "EOCS":',
        "if False:",
    ),
    (
        "_dsig.py",
        '.casefold() == "signature"',
        ' == "Signature"',
    ),
    (
        "_dsig.py",
        "if len(named) > 1:",
        "if False:",
    ),
    (
        "_dsig.py",
        'if signature.tag != _ds("Signature"):',
        "if False:",
    ),
    (
        "_dsig.py",
        "signature.getparent() is not root or ",
        "",
    ),
    (
        "_dsig.py",
        "root[-1] is not signature or ",
        "",
    ),
    (
        "_dsig.py",
        " or not _blank(signature.tail):",
        ":",
    ),
    (
        "_dsig.py",
        "        _check_comments(parent)\n",
        "        pass\n",
    ),
    (
        "_dsig.py",
        "            _check_content(node)\n",
        "            pass\n",
    ),
    (
        "_dsig.py",
        "if set(element.attrib) != shape.attributes:",
        "if False:",
    ),
    (
        "_dsig.py",
        "        if len(element):\n            raise",
        "        if False:\n            raise",
    ),
    (
        "_dsig.py",
        "if not _blank(element.text) or not all(_blank(child.tail) for child in element):\n        raise",
        "if False:\n        raise",
    ),
    (
        "_dsig.py",
        "if not least <= count <= most:",
        "if False:",
    ),
    (
        "_dsig.py",
        "    if rest:\n",
        "    if False:\n",
    ),
    (
        "_dsig.py",
        "    for child in children:\n        _check_grammar(child)\n",
        "",
    ),
    (
        "_dsig.py",
        'if thing.get("Id") != "ts-countersig":',
        "if False:",
    ),
    (
        "_dsig.py",
        'if counter.get("ts-format") == "cms-timestamp-message":',
        "if True:",
    ),
    (
        "_dsig.py",
        'if root.find(_ds("CanonicalizationMethod")).get("Algorithm") != C14N:',
        "if False:",
    ),
    (
        "_dsig.py",
        "if algorithm is None or digest_algorithm is None:",
        "if False:",
    ),
    (
        "_dsig.py",
        'if reference.get("URI") != "":',
        "if False:",
    ),
    (
        "_dsig.py",
        "if transforms not in ([ENVELOPED], [ENVELOPED, C14N]):",
        "if False:",
    ),
    (
        "_dsig.py",
        'if base64.b64encode(data).decode("ascii") != compact:',
        "if False:",
    ),
    (
        "_dsig.py",
        "if not compact or _NOT_BASE64.search(compact):",
        "if not compact:",
    ),
    (
        "_dsig.py",
        "    except InvalidSignature:\n        return False",
        "    except InvalidSignature:\n        return True",
    ),
    (
        "_dsig.py",
        "octets).digest() != signature.signed_info.digest:",
        'octets).digest() == b"":',
    ),
    (
        "_dsig.py",
        '        if name.startswith(f"{{{XML}}}") and name not in alone.attrib:',
        "        if False:",
    ),
    (
        "_certificates.py",
        "return commons == [common_name] and organizations == [organization]",
        "return common_name in commons and organization in organizations",
    ),
    (
        "_certificates.py",
        "return commons == [common_name] and",
        "return",
    ),
    (
        "_certificates.py",
        " and organizations == [organization]",
        "",
    ),
    (
        "_certificates.py",
        "MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS and ",
        "",
    ),
    (
        "_certificates.py",
        " and 65537 <= key.public_numbers().e < 1 << 32",
        "",
    ),
    (
        "_certificates.py",
        "if usage is not None and not usage.key_cert_sign:",
        "if False:",
    ),
    (
        "_certificates.py",
        "if ANY_USAGE not in found and not wanted <= found:",
        "if False:",
    ),
    (
        "_certificates.py",
        "if not roots or is_authority(leaf) or der(leaf) in fingerprints:",
        "if not roots:",
    ),
    (
        "_certificates.py",
        "between = _anchored([c for c in pool if der(c) not in fingerprints and der(c) != der(leaf)], roots)",
        "between = [c for c in pool if der(c) not in fingerprints and der(c) != der(leaf) and is_authority(c)]",
    ),
    (
        "_certificates.py",
        "if len(found) < 2 or der(found[0]) != der(leaf) or der(found[-1]) not in fingerprints:",
        "if False:",
    ),
    (
        "_certificates.py",
        "if certificate.serial_number <= 0:",
        "if False:",
    ),
    (
        "_certificates.py",
        "crl.issuer != issuer.subject or ",
        "",
    ),
    (
        "_certificates.py",
        " or not self._signed_by(crl, issuer):",
        ":",
    ),
    (
        "_certificates.py",
        '                return "revoked"\n',
        "                pass\n",
    ),
    (
        "_certificates.py",
        " and crl.last_update_utc <= at <= until",
        "",
    ),
    (
        "_certificates.py",
        " and not any(extension.critical for extension in crl.extensions)",
        "",
    ),
    (
        "_certificates.py",
        "            if not issuer.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign:\n                return False",
        "            pass",
    ),
    (
        "_timestamp.py",
        "if len(token) > MAX_TOKEN:",
        "if False:",
    ),
    (
        "_timestamp.py",
        "if _certificates.usages(signer) != [_certificates.TIME_STAMPING]:",
        "if False:",
    ),
    (
        "_timestamp.py",
        "if _certificates.usages(signer) != [_certificates.TIME_STAMPING]:",
        "if _certificates.TIME_STAMPING not in _certificates.usages(signer):",
    ),
    (
        "_timestamp.py",
        "    if proven is None:\n        raise",
        "    if False:\n        raise",
    ),
    (
        "_timestamp.py",
        "if denied.intersection(map(_certificates.fingerprint, proven)):",
        "if False:",
    ),
    (
        "_timestamp.py",
        'if revocation.judge(proven, time) == "revoked":',
        "if False:",
    ),
    (
        "_timestamp.py",
        "or info[0].oid() != SIGNED_DATA",
        "",
    ),
    (
        "_timestamp.py",
        "if content[0].oid() != TST_INFO:",
        "if False:",
    ),
    (
        "_timestamp.py",
        "if len(imprint) != 2 or imprint[1].octets() != hashlib.new(algorithm, signed).digest():",
        "if False:",
    ),
    (
        "_timestamp.py",
        "if fields[0].integer() != 1:",
        "if False:",
    ),
    (
        "_timestamp.py",
        "if extensions.tag == _EXTENSIONS and any",
        "if False and any",
    ),
    (
        "_timestamp.py",
        "hashlib.new(algorithm, _certificates.der(c)).digest() == digest and ",
        "",
    ),
    (
        "_timestamp.py",
        " and _identifies(token.signer_id, c)]",
        "]",
    ),
    (
        "_timestamp.py",
        "if _attribute(token, CONTENT_TYPE).oid() != TST_INFO:",
        "if False:",
    ),
    (
        "_timestamp.py",
        "if _attribute(token, MESSAGE_DIGEST).octets() != hashlib.new(token.digest_algorithm, token.content).digest():",
        "if False:",
    ),
    (
        "_timestamp.py",
        "    _der.decode(octets)  #",
        "    pass  #",
    ),
    (
        "_timestamp.py",
        "if not _certificates.key_allowed(signer) or not isinstance",
        "if not isinstance",
    ),
    (
        "_timestamp.py",
        "or not _certificates.may_sign(signer)",
        "",
    ),
    (
        "_timestamp.py",
        '    except InvalidSignature:\n        raise Absent("the token\'s signature does not match") from None',
        "    except InvalidSignature:\n        pass",
    ),
    (
        "_verify.py",
        "if any(not _certificates.is_pinnable(root) for root in",
        "if any(False for root in",
    ),
    (
        "_verify.py",
        '    if not isinstance(key, rsa.RSAPublicKey) or not _dsig.key_matches(key, signature):\n        raise unproven("signature_mismatch"',
        '    if False:\n        raise unproven("signature_mismatch"',
    ),
    (
        "_verify.py",
        "    _check_denied([hashlib.sha256(data)",
        "    ([hashlib.sha256(data)",
    ),
    (
        "_verify.py",
        "    _check_purpose(leaf, pool, policy)\n",
        "\n",
    ),
    (
        "_verify.py",
        "    _check_denied([_certificates.fingerprint(certificate) for certificate in proven], policy)\n",
        "\n",
    ),
    (
        "_verify.py",
        'if state == "revoked":',
        "if False:",
    ),
    (
        "_verify.py",
        'if state == "unknown" and policy.revocation_required:',
        "if False:",
    ),
    (
        "_verify.py",
        "if len(named) > 1:",
        "if False:",
    ),
    (
        "_verify.py",
        "if not _certificates.key_allowed(leaf):",
        "if False:",
    ),
    (
        "_verify.py",
        "if _certificates.is_authority(leaf) or ",
        "if ",
    ),
    (
        "_verify.py",
        " or _certificates.der(leaf) in map(_certificates.der, policy.roots):",
        ":",
    ),
    (
        "_verify.py",
        "if not _certificates.may_sign(leaf):",
        "if False:",
    ),
    (
        "_verify.py",
        "    if missing:\n",
        "    if False:\n",
    ),
    (
        "_verify.py",
        "if stamp.time > now + CLOCK_SKEW:",
        "if False:",
    ),
    (
        "_verify.py",
        "if not leaf.not_valid_before_utc <= stamp.time <= leaf.not_valid_after_utc:",
        "if False:",
    ),
    (
        "_verify.py",
        "if found is None and stamp is not None and stamp.time <= now:",
        "if found is None and stamp is not None:",
    ),
    (
        "_verify.py",
        "    if policy.explicit_time is not None:\n        basis",
        "    if False:\n        basis",
    ),
    (
        "_verify.py",
        "root=_xml_guard.parse(octets)",
        "root=root",
    ),
    (
        "_parse.py",
        "    version_key(version)\n",
        "\n",
    ),
    (
        "_parse.py",
        'or any(child.tag != "Config" for child in elements) ',
        "",
    ),
    (
        "_parse.py",
        " or not _only_elements(root):",
        ":",
    ),
    (
        "_parse.py",
        "if config.id.casefold() in seen:",
        "if False:",
    ),
    (
        "_parse.py",
        "if not _ID.fullmatch(identifier):",
        "if not identifier:",
    ),
    (
        "_parse.py",
        "if domain == MICROSOFT and local:",
        "if False:",
    ),
    (
        "_parse.py",
        "if domain != MICROSOFT and not local:",
        "if False:",
    ),
    *(
        (file, old, new)
        for file, old, new in (
            ("_local.py", "    if extra:", "    if False:"),
            ("_local.py", "if not profile.IDENTIFIER.fullmatch(self.id):", "if False:"),
            ("_local.py", "if cve is not None and not profile.CVE.fullmatch(cve):", "if False:"),
            ("_local.py", "if len(lists) != 1 or", "if"),
            ("_local.py", "or self._children(self.element)[-1] is not lists[0] ", ""),
            ("_local.py", " or len(effects) > profile.MAX_SIDE_EFFECTS:", ":"),
            ("_local.py", "if not 1 <= len(actions) <= profile.MAX_ACTIONS:", "if not 1 <= len(actions):"),
            ("_local.py", "if not 1 <= len(actions) <= profile.MAX_ACTIONS:", "if not len(actions) <= profile.MAX_ACTIONS:"),
            ("_local.py", "        if missing or unknown:", "        if missing:"),
            ("_local.py", "        if missing or unknown:", "        if unknown:"),
            ("_local.py", "            if child.tag not in allowed:", "            if False:"),
            ("_local.py", 'for child in element)]).strip(" \\t\\r\\n"):', "for child in element)]) and False:"),
            ("_local.py", "if not text.strip() or len(text)", "if len(text)"),
            ("_local.py", " or len(text) > profile.MAX_TEXT or", " or"),
            ("_local.py", " or not text.isprintable():", ":"),
            ("_local.py", "if product not in PRODUCTS or product in found:", "if product in found:"),
            ("_local.py", "if product not in PRODUCTS or product in found:", "if product not in PRODUCTS:"),
            ("_local.py", "if product_of(build) != product or build[:3] in branches:", "if build[:3] in branches:"),
            ("_local.py", "if product_of(build) != product or build[:3] in branches:", "if product_of(build) != product:"),
            ("_local.py", "            if profile.BUILD.fullmatch(text):", "            if True:"),
            ("_local.py", "        if kind not in readers:", "        if False:"),
            ("_local.py", 'if element.get("scope") != "Server":', "if False:"),
            ("_local.py", "if path not in profile.SITES[site]:", "if False:"),
            ("_local.py", "if site not in profile.SITES:", "if False:"),
            ("_local.py", "if not 1 <= len(whens) <= profile.MAX_CONDITIONS:", "if not 1 <= len(whens):"),
            ("_local.py", "if not 1 <= len(whens) <= profile.MAX_CONDITIONS:", "if not len(whens) <= profile.MAX_CONDITIONS:"),
            ("_local.py", 'if not profile.is_input(source, kind == "outbound"):', "if False:"),
            ("_local.py", 'profile.is_input(source, kind == "outbound")', "profile.is_input(source, True)"),
            ("_local.py", "            if problem:", "            if False:"),
            ("_local.py", "if len(set(conditions)) != len(conditions):", "if False:"),
            ("_local.py", "        if (at, _nameless(rule)) in", "        if None in"),
            ("_local.py", "if answer not in profile.ANSWERS:", "if False:"),
            ("_local.py", "if header not in profile.HEADERS:", "if False:"),
            ("_local.py", "if not profile.is_header_value(value):", "if False:"),
            ("_local.py", "if name not in profile.SERVICES:", "if False:"),
            ("_local.py", 'if {stop, disable} - {"true", "false"} or "true"', 'if "true"'),
            ("_local.py", ' or "true" not in (stop, disable):', ":"),
            ("_local.py", "if name in {wish.name for wish in self.services}:", "if False:"),
            ("_local.py", "if name not in profile.POOLS:", "if False:"),
            ("_local.py", "if PoolAction(name) in self.pools:", "if False:"),
            ("_local_profile.py", "    if name in FORBIDDEN_INPUTS:", "    if False:"),
            ("_local_profile.py", "if not text or len(text) > MAX_PATTERN or", "if not text or"),
            ("_local_profile.py", 'MAX_PATTERN or not all(" " <= character <= "~" for character in text):', "MAX_PATTERN:"),
            ("_local_profile.py", "    if _GROUP.search(text):", "    if False:"),
            ("_local_profile.py", '    if expression.search(""):', "    if False:"),
            ("_local_profile.py", "return 0 < len(text) <= MAX_VALUE and", "return 0 < len(text) and"),
            ("_local_profile.py", "return 0 < len(text) <= MAX_VALUE and", "return len(text) <= MAX_VALUE and"),
            ("_local_profile.py", 'all(" " <= character <= "~" for character in text) and not set', "not set"),
            ("_local_profile.py", ' and not set("{}") & set(rest)', ""),
        )
    ),
)


#: Beginning of a check that may go unnoticed, and why.
SURVIVORS: dict[str, str] = {
    "    parser.StartDoctypeDeclHandler": "the tree's internalDTD is looked at too; either check alone refuses every DOCTYPE",
    "if root.getroottree().docinfo.internalDTD": "the streaming pass refuses first; see above",
    "signature.getparent() is not root or": "the last child of the root has the root as its parent: the next condition says the same",
    "if not compact or _NOT_BASE64": "strict decoding and encoding again refuse the same; this check gives the sentence",
    "between = _anchored(": "a bound on time; the documents that show it take minutes without it and are left out of this run",
    "if len(found) < 2 or der(found[0])": "the library's chain always has these ends; the check is for a library that errs",
    "crl.issuer != issuer.subject or": "a list of another issuer has another key, and its signature does not verify",
    "    _der.decode(octets)  #": "attributes in another encoding would have to be signed by the pinned authority in that encoding",
    "if any(not _certificates.is_pinnable(root)": "about options, not documents; tests/unit/plugins/modules/test_feed.py has it",
    "root=_xml_guard.parse(octets)": "what differs is unsigned comments, which the parser skips; tests/unit/plugins/module_utils/test_verify.py sees them",
    " or _certificates.der(leaf) in map(": "a pinned root is an authority, which the first condition refuses",
}


def judged(case: Case, verify: Any, parse: Any, errors: Any, pki: Pki) -> tuple[Any, ...]:
    """Return what becomes of a case: its reason, or basis, revocation, whether there is a signing time, and the ids."""
    policy = verify.Policy(
        roots=(pki.root,),
        timestamp_roots=(pki.time_root,),
        crls=tuple(map(x509.load_der_x509_crl, case.crls)),
        denied_sha256=frozenset(case.denied),
        revocation_required=case.required,
        explicit_time=case.at,
    )
    try:
        verified = verify.verify(case.data, policy, NOW)
        return verified.time_basis, verified.revocation, verified.signed_at is not None, verified.octets, repr(parse.parse(verified.root, case.domain))
    except errors.VerifyError as exc:
        return (exc.reason,)


def fresh() -> tuple[Any, Any, Any]:
    """Import the stages anew from their files."""
    for name in [name for name in sys.modules if name.startswith(PREFIX)]:
        del sys.modules[name]
        module_utils.__dict__.pop(name.removeprefix(PREFIX), None)  # "from package import module" would find the old one here
    return tuple(importlib.import_module(PREFIX + name) for name in ("_verify", "_local", "_errors"))  # type: ignore[return-value]


class _Source(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one file of the collection another text, without touching the disk."""

    def __init__(self) -> None:
        self.name = ""
        self.text = ""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        """Claim the mutated module."""
        return importlib.util.spec_from_loader(fullname, self) if fullname == self.name else None

    def exec_module(self, module: Any) -> None:
        """Run the mutated text."""
        exec(compile(self.text, self.name, "exec"), module.__dict__)


def main() -> int:
    """Print the survivors and the count."""
    pki = Pki(NOW)
    cases = [case for case in corpus(pki) if not case.name.startswith("bomb-authorities")]
    folder = pathlib.Path(module_utils.__path__[0])
    source = _Source()
    sys.meta_path.insert(0, source)
    modules = fresh()
    expected = [judged(case, *modules, pki) for case in cases]
    assert [judged(case, *fresh(), pki) for case in cases[:20]] == expected[:20], "without a mutation nothing may differ"
    survivors = unknown = 0
    begin = time.perf_counter()
    for file, old, new in MUTANTS:
        text = (folder / file).read_text(encoding="utf-8")
        if old not in text:
            raise LookupError(f"{file} has no {old!r}")
        source.name, source.text = PREFIX + file.removesuffix(".py"), text.replace(old, new, 1)
        modules = fresh()
        for case, wanted in zip(cases, expected, strict=True):
            try:
                if judged(case, *modules, pki) != wanted:
                    break
            except Exception:  # a mutant that breaks is noticed
                break
        else:
            why = next((reason for start, reason in SURVIVORS.items() if old.startswith(start)), None)
            survivors += 1
            unknown += why is None
            print(f"SURVIVES {file}: {old!r}: {why or 'NO REASON KNOWN'}", flush=True)
    print(f"{len(MUTANTS)} mutants, {survivors} survive, {unknown} of them for no known reason, {time.perf_counter() - begin:.0f} s")
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
