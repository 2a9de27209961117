# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""xmlsec1 and openssl as witnesses: what the verifier accepts, programs that share no code with it accept too, at the same time.

The other way round proves nothing: xmlsec1 has no policy on signers and accepts many documents of the corpus that are attacks.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _roots, _verify
from asn1crypto import tsp
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from .authorities import Pki, pem
from .case import Case
from .corpus import corpus
from .test_corpus import judged

MISSING = [tool for tool in ("xmlsec1", "openssl") if shutil.which(tool) is None]
if MISSING:
    if os.environ.get("EXCHANGE_MITIGATION_REQUIRE_RECORDED") == "1":
        raise FileNotFoundError(f"{' and '.join(MISSING)} not installed, and this run must have every witness")
    pytest.skip(f"{' and '.join(MISSING)} not installed: the independent witnesses are left out", allow_module_level=True)

NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.timezone.utc)
PKI = Pki(NOW)
VALID = [case for case in corpus(PKI) if case.reason is None]
DS = "{http://www.w3.org/2000/09/xmldsig#}"

#: What a witness cannot read, and why that is no vote against the document.
_LAST_SECOND = "OpenSSL, also within xmlsec1, counts the second of notAfter itself as over; RFC 5280 4.1.2.5 includes it"
NOT_FOR_XMLSEC = {"valid-timestamp-at-last-second": _LAST_SECOND}
NOT_FOR_OPENSSL = {"valid-timestamp-at-last-second": _LAST_SECOND}


def told(command: Sequence[str]) -> tuple[int, str]:
    """Return exit code and output of a program."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=60)
    return done.returncode, done.stdout + done.stderr


def certificates(element: etree._Element) -> list[bytes]:
    """Return the certificates in an element as PEM, in order."""
    texts = [base64.b64decode(found.text or "") for found in element.iter(f"{DS}X509Certificate")]
    return [pem(x509.load_der_x509_certificate(data)) for data in texts]


def signature(data: bytes) -> etree._Element:
    found = etree.fromstring(data).find(f"{DS}Signature")
    assert found is not None
    return found


def xmlsec(place: pathlib.Path, data: bytes, root: bytes, at: datetime.datetime) -> tuple[int, str]:
    """Verify by xmlsec1: only certificates count, only the root is trusted, at this time."""
    (place / "document.xml").write_bytes(data)
    (place / "root.pem").write_bytes(root)
    files = ["--trusted-pem", str(place / "root.pem"), str(place / "document.xml")]
    return told(["xmlsec1", "--verify", "--enabled-key-data", "x509", "--verification-gmt-time", at.strftime("%Y-%m-%d %H:%M:%S"), *files])


def chain(place: pathlib.Path, data: bytes, root: bytes, at: datetime.datetime, leaf_sha256: str) -> tuple[int, str]:
    """Verify the signer's chain by openssl at this time."""
    held = certificates(next(signature(data).iter(f"{DS}KeyInfo")))
    leaf = next(one for one in held if hashlib.sha256(x509.load_pem_x509_certificate(one).public_bytes(Encoding.DER)).hexdigest() == leaf_sha256)
    for name, content in (("root.pem", root), ("leaf.pem", leaf), ("others.pem", b"".join(held))):
        (place / name).write_bytes(content)
    files = ["-CAfile", str(place / "root.pem"), "-untrusted", str(place / "others.pem"), str(place / "leaf.pem")]
    return told(["openssl", "verify", "-no-CApath", "-no-CAstore", "-attime", str(int(at.timestamp())), *files])


def stamp(place: pathlib.Path, data: bytes, root: bytes, at: datetime.datetime) -> None:
    """Verify the countersignature by openssl at the time that it states, and compare imprint and time."""
    element = signature(data)
    thing = element.find(f"{DS}Object")
    assert thing is not None
    token = base64.b64decode(next(child.text or "" for child in thing.iter() if str(child.tag).endswith("CounterSignature")))
    value = base64.b64decode(element.findtext(f"{DS}SignatureValue") or "")
    others = b"".join(certificates(thing))
    # In a CA file only what signed itself is an anchor; the others are there to build the chain with.
    for name, content in (("token.der", token), ("anchors.pem", root + others), ("others.pem", others or root)):
        (place / name).write_bytes(content)
    command = ["openssl", "cms", "-verify", "-inform", "DER", "-in", str(place / "token.der"), "-purpose", "any", "-attime", str(int(at.timestamp()))]
    files = ["-CAfile", str(place / "anchors.pem"), "-certfile", str(place / "others.pem"), "-out", str(place / "content.der")]
    code, said = told([*command, *files, "-no-CApath", "-no-CAstore", "-binary"])
    assert code == 0, said
    info = tsp.TSTInfo.load((place / "content.der").read_bytes())
    assert info["gen_time"].native.replace(microsecond=0) == at.replace(microsecond=0)
    imprint = info["message_imprint"]
    assert imprint["hashed_message"].native == hashlib.new(imprint["hash_algorithm"]["algorithm"].native, value).digest()


@pytest.mark.parametrize("case", VALID, ids=lambda case: case.name)
def test_witnesses_agree(case: Case, tmp_path: pathlib.Path) -> None:
    """Signature and chain by xmlsec1, chain by openssl, and the timestamp by openssl where one was believed."""
    verified, dummy = judged(case)
    at = datetime.datetime.fromisoformat(verified.signer["judged_at"].replace("Z", "+00:00"))
    if case.name not in NOT_FOR_XMLSEC:
        code, said = xmlsec(tmp_path, case.data, pem(PKI.root), at)
        assert code == 0 and re.search(r"^OK$", said, re.MULTILINE), said
    if case.name not in NOT_FOR_OPENSSL:
        code, said = chain(tmp_path, case.data, pem(PKI.root), at, verified.signer["sha256"])
        assert code == 0, said
    if verified.signed_at is not None:
        stamp(tmp_path, case.data, pem(PKI.time_root), verified.signed_at)


def test_exceptions_are_cases() -> None:
    """An exception that no case needs any more is taken out."""
    assert {*NOT_FOR_XMLSEC, *NOT_FOR_OPENSSL} <= {case.name for case in VALID}


def test_witnesses_on_the_real_document(recorded: Callable[[str], pathlib.Path], tmp_path: pathlib.Path) -> None:
    """At the time it was fetched, and by its timestamp; one second after its signer's end it is not valid by the clock."""
    data = recorded("ocs_PING1_signed_2021.xml").read_bytes()
    fetched = datetime.datetime(2021, 12, 7, 15, 37, 24, tzinfo=datetime.timezone.utc)
    policy = _verify.Policy(_roots.microsoft(), _roots.microsoft_timestamp())
    verified = _verify.verify(data, policy, fetched)
    assert verified.time_basis == "now" and verified.signed_at is not None
    assert xmlsec(tmp_path, data, _roots.ROOT_2011, fetched)[0] == 0
    code, said = chain(tmp_path, data, _roots.ROOT_2011, fetched, verified.signer["sha256"])
    assert code == 0, said
    stamp(tmp_path, data, _roots.ROOT_2010, verified.signed_at)
    late = datetime.datetime(2022, 6, 9, 18, 44, 13, tzinfo=datetime.timezone.utc)
    assert xmlsec(tmp_path, data, _roots.ROOT_2011, late)[0] != 0
    assert _verify.verify(data, policy, late).time_basis == "timestamp"
