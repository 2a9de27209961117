# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates and revocation lists that an administrator gives: PEM or DER, and a sentence for anything else."""

from __future__ import annotations

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _roots
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.certificate_samples import issue
from cryptography.hazmat.primitives.serialization import Encoding

FORMS = pytest.mark.parametrize("form", [Encoding.PEM, Encoding.DER], ids=["pem", "der"])


@FORMS
def test_a_certificate_is_read_in_either_form(form: Encoding) -> None:
    certificate = issue("root").certificate
    assert _roots.read_certificates(certificate.public_bytes(form), "trust.roots: r.pem") == [certificate]


def test_a_bundle_gives_all_its_certificates_whatever_stands_between_them() -> None:
    one, two = issue("one").certificate, issue("two").certificate
    data = b"# ours\n" + one.public_bytes(Encoding.PEM) + b"\n# the next\n" + two.public_bytes(Encoding.PEM)
    assert _roots.read_certificates(data, "x") == [one, two]


@FORMS
def test_a_revocation_list_is_read_in_either_form(form: Encoding) -> None:
    crl = issue("root").crl()
    assert _roots.read_crl(crl.public_bytes(form), "trust.crls: c").public_bytes(Encoding.DER) == crl.public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    "data",
    [b"", b"no list", b"-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----\n", b"-----BEGIN X509 CRL-----", "certificate"],
    ids=["empty", "text", "damaged", "cut", "certificate"],
)
def test_what_is_no_revocation_list_is_named_with_its_file(data: bytes | str) -> None:
    """Also a certificate that is given in its place: no list would mean that nothing is revoked."""
    given = issue("root").certificate.public_bytes(Encoding.PEM) if isinstance(data, str) else data
    with pytest.raises(InvalidInput, match=r"^trust\.crls: /srv/c\.crl holds no certificate revocation list in PEM or DER form") as caught:
        _roots.read_crl(given, "trust.crls: /srv/c.crl")
    assert caught.value.reason == "crl_unreadable"


@pytest.mark.parametrize(
    "data",
    [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"],
    ids=["empty", "text", "damaged"],
)
def test_what_is_no_certificate_is_named_with_its_file(data: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"^trust\.roots: /srv/r\.pem holds no certificate in PEM or DER form") as caught:
        _roots.read_certificates(data, "trust.roots: /srv/r.pem")
    assert caught.value.reason == "root_unreadable"
