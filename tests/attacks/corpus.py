# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All documents of the corpus together, and the command that writes them as files.

``python -m attacks.corpus DIRECTORY`` (with tests on the path) writes one file each, the roots, and manifest.json,
for a verifier that is tested from outside.
"""

from __future__ import annotations

import datetime
import json
import pathlib
import sys

from . import cases_bytes, cases_certificates, cases_envelope, cases_local, cases_signature, cases_time
from .authorities import Pki, pem
from .case import Case


def corpus(pki: Pki) -> list[Case]:
    """Return every case once."""
    found = [case for module in (cases_bytes, cases_signature, cases_certificates, cases_time, cases_envelope, cases_local) for case in module.cases(pki)]
    names = [case.name for case in found]
    assert len(names) == len(set(names)), sorted(name for name in names if names.count(name) > 1)
    return found


def write(directory: pathlib.Path) -> int:
    """Write the corpus as files, good at this moment; return the number of documents."""
    pki = Pki(datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0))
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "root.pem").write_bytes(pem(pki.root))
    (directory / "timestamp_root.pem").write_bytes(pem(pki.time_root))
    manifest = []
    for case in corpus(pki):
        (directory / f"{case.name}.xml").write_bytes(case.data)
        crls = []
        for number, data in enumerate(case.crls):
            crls.append(f"{case.name}.{number}.crl")
            (directory / crls[-1]).write_bytes(data)
        manifest.append(
            {
                "file": f"{case.name}.xml",
                "reason": case.reason,
                "crls": crls,
                "denied_sha256": list(case.denied),
                "revocation": "required" if case.required else "soft",
                "domain": case.domain,
                "verify_at": None if case.at is None else case.at.isoformat(),
            }
        )
    (directory / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return len(manifest)


if __name__ == "__main__":
    print(f"{write(pathlib.Path(sys.argv[1]))} documents")
