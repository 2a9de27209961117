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

from . import mutants_content, mutants_envelope, mutants_trust
from .authorities import Pki
from .case import Case
from .corpus import corpus

NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.timezone.utc)
PREFIX = module_utils.__name__ + "."

MUTANTS = (*mutants_envelope.MUTANTS, *mutants_trust.MUTANTS, *mutants_content.MUTANTS)

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
