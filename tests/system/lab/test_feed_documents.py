# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's signed documents, judged by others: the recorded document's form, xmlsec1, openssl, and a check written for this test."""

from __future__ import annotations

import base64
import datetime
import hashlib
import pathlib
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest
from asn1crypto import cms
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID
from lxml import etree

from lab import document
from lab.feed import Feed, Published
from lab.kernel import LabRefusal
from lab.pki import RELEASED, SIGNERS, XML_SIGNING, Pki

DSIG = "{http://www.w3.org/2000/09/xmldsig#}"


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Feed]:
    """A feed that is not served."""
    folder = tmp_path_factory.mktemp("feed")
    yield Feed(Pki(folder / "pki"), folder / "feed")


def _text(root: etree._Element, name: str) -> bytes:
    found = root.find(f".//{DSIG}{name}")
    assert found is not None and found.text
    return base64.b64decode(found.text)


def _holds(data: bytes) -> bool:
    """Check digest and signature with the leaf's key by another way than the maker's: the signature is removed from the parsed document."""
    root = etree.fromstring(data)
    signature = root[-1]
    leaf = x509.load_der_x509_certificate(_text(signature, "X509Certificate"))
    value, digest = _text(signature, "SignatureValue"), _text(signature, "DigestValue")
    info = etree.fromstring(etree.tostring(signature[0]))
    root.remove(signature)
    if hashlib.sha256(etree.tostring(root, method="c14n")).digest() != digest:
        return False
    key = leaf.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    try:
        key.verify(value, etree.tostring(info, method="c14n"), padding.PKCS1v15(), hashes.SHA256())
    except ValueError:
        return False
    return True


def _xmlsec(feed: Feed, published: Published, tmp_path: pathlib.Path, at: datetime.datetime | None = None) -> int:
    program = shutil.which("xmlsec1")
    if program is None:
        pytest.skip("xmlsec1 is not installed")
    file = tmp_path / "document.xml"
    file.write_bytes(published.data)
    when = ["--verification-gmt-time", at.strftime("%Y-%m-%d %H:%M:%S")] if at else []
    command = [program, "--verify", "--enabled-key-data", "x509", "--trusted-pem", str(feed.pki.feed_root_path), *when, str(file)]
    return subprocess.run(command, capture_output=True, check=False).returncode


def _skeleton(data: bytes) -> str:
    """Return the Signature's text with every base64 text replaced by its name, and certificates counted out."""
    text = data[data.index(b"<Signature ") :].decode()
    return re.sub(r">[A-Za-z0-9+/=]{5,}<", "><", text)


def test_form_is_that_of_the_recorded_document(feed: Feed, recorded: Callable[[str], pathlib.Path]) -> None:
    real = recorded("ocs_PING1_signed_2021.xml").read_bytes()
    made = feed.make([document.ping()]).data
    assert made[: made.index(b"<Signature ")] == real[: real.index(b"<Signature ")]
    assert _skeleton(made) == _skeleton(real)


def test_check_accepts_the_recorded_document(recorded: Callable[[str], pathlib.Path]) -> None:
    assert _holds(recorded("ocs_PING1_signed_2021.xml").read_bytes())


def test_default_document_holds(feed: Feed, tmp_path: pathlib.Path) -> None:
    assert feed.published.ids == ("PING1", "M1", "M2") and feed.published.signed_at == RELEASED
    assert _holds(feed.published.data)
    assert _xmlsec(feed, feed.published, tmp_path) == 0


def test_changed_content_does_not_hold(feed: Feed) -> None:
    data = feed.published.data
    assert not _holds(data.replace(b'id="M1"', b'id="M3"'))
    assert not _holds(data.replace(b"    <ActionList>", b"   <ActionList>", 1))


@pytest.mark.parametrize("shape", document.SHAPES)
def test_every_shape_is_signed_and_differs(feed: Feed, shape: str, tmp_path: pathlib.Path) -> None:
    published = feed.shaped(shape)
    assert _holds(published.data) and _xmlsec(feed, published, tmp_path) == 0
    root = etree.fromstring(published.data)
    assert [config.get("id") for config in root.findall("Config")] == ["PING1", "M1", "M2"]
    contents = {name: document.SHAPES[name]("text") for name in document.SHAPES}
    assert len(set(contents.values())) == len(contents) >= 5
    assert all(not element.tag.startswith("{") for config in root.findall("Config") for element in config.iter())


def test_unknown_names_are_refused(feed: Feed) -> None:
    with pytest.raises(LabRefusal):
        document.config("M1", shape="round")
    with pytest.raises(LabRefusal):
        feed.make(signer="nobody")


def _leaf(feed: Feed, signer: str) -> x509.Certificate:
    return feed.pki.signer(signer).certificate


def test_leaf_has_the_extensions_of_the_recorded_one(feed: Feed, recorded: Callable[[str], pathlib.Path]) -> None:
    real = etree.parse(recorded("ocs_PING1_signed_2021.xml")).getroot()
    theirs = x509.load_der_x509_certificate(_text(real, "X509Certificate"))
    ours = _leaf(feed, "good")
    assert ours.subject == theirs.subject
    lacking = {ExtensionOID.AUTHORITY_INFORMATION_ACCESS}
    expected = {(entry.oid, entry.critical) for entry in theirs.extensions if entry.oid not in lacking}
    assert {(entry.oid, entry.critical) for entry in ours.extensions} == expected
    wanted = theirs.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert ours.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value == wanted


def test_signers_are_wrong_in_their_way(feed: Feed, tmp_path: pathlib.Path) -> None:
    usages = [list(_leaf(feed, name).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) for name in ("good", "wrong-eku")]
    assert usages == [[ExtendedKeyUsageOID.CODE_SIGNING, XML_SIGNING], [ExtendedKeyUsageOID.CODE_SIGNING]]
    assert _leaf(feed, "wrong-cn").subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "Microsoft Windows"
    assert _leaf(feed, "wrong-organization").subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "Contoso Ltd"
    assert _leaf(feed, "small-key").public_key().key_size == 1024  # type: ignore[union-attr]
    chains = {signer: _xmlsec(feed, feed.make(signer=signer), tmp_path) == 0 for signer in SIGNERS}
    assert {signer for signer, good in chains.items() if not good} == {"expired", "unknown-root", "no-ca-intermediate"}
    assert all(_holds(feed.make(signer=signer).data) for signer in SIGNERS)


def test_expired_document_was_good_when_it_was_stamped(feed: Feed, tmp_path: pathlib.Path) -> None:
    published = feed.expired()
    assert _holds(published.data)
    assert _xmlsec(feed, published, tmp_path) != 0 and _xmlsec(feed, published, tmp_path, published.signed_at) == 0


def _token(data: bytes) -> tuple[bytes, bytes]:
    root = etree.fromstring(data)
    found = root.find(".//{*}CounterSignature")
    assert found is not None and found.text
    return base64.b64decode(found.text), _text(root, "SignatureValue")


@pytest.mark.parametrize("expired", [False, True])
def test_timestamp_is_accepted_by_openssl(feed: Feed, tmp_path: pathlib.Path, expired: bool) -> None:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed")
    published = feed.expired() if expired else feed.published
    token, value = _token(published.data)
    assert token[:2] == b"\x30\x80"
    (tmp_path / "token").write_bytes(token)

    def verify(root: pathlib.Path, at: datetime.datetime) -> int:
        command = [program, "cms", "-verify", "-inform", "DER", "-in", str(tmp_path / "token"), "-CAfile", str(root), "-purpose", "any"]
        command += ["-attime", str(int(at.timestamp())), "-out", str(tmp_path / "info")]
        return subprocess.run(command, capture_output=True, check=False).returncode

    assert verify(feed.pki.timestamp_root_path, published.signed_at) == 0
    assert verify(feed.pki.feed_root_path, published.signed_at) != 0
    if expired:
        assert verify(feed.pki.timestamp_root_path, feed.pki.now) != 0
    info = cms.ContentInfo.load(token)["content"]["encap_content_info"]["content"].parsed.native
    assert info["message_imprint"]["hashed_message"] == hashlib.sha256(value).digest()
    assert info["gen_time"] == published.signed_at


def test_timestamp_variants(feed: Feed) -> None:
    assert b"ts-countersig" not in feed.make(stamped=False).data
    token, value = _token(feed.make(imprint=b"\x00" * 32).data)
    assert cms.ContentInfo.load(token)["content"]["encap_content_info"]["content"].parsed.native["message_imprint"]["hashed_message"] == b"\x00" * 32
    foreign = cms.ContentInfo.load(_token(feed.make(foreign_timestamp=True).data)[0])["content"]
    assert "Lab Code Signing PCA 2024" in str([entry.chosen["tbs_certificate"]["issuer"].native for entry in foreign["certificates"]])


def test_state_folder_keeps_its_identities(tmp_path: pathlib.Path) -> None:
    first, second = Pki(tmp_path), Pki(tmp_path)
    assert first.signer().der == second.signer().der and first.tls_ca.der == second.tls_ca.der
    assert first.server("a").certificate.read_bytes() == second.server("a").certificate.read_bytes()
    assert (tmp_path / "signer.key").stat().st_mode & 0o777 == 0o600
    assert Pki(tmp_path / "other").feed_root.der != first.feed_root.der
