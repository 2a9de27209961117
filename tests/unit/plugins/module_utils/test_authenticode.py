# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Under which root a package was signed: a chain of which each step is proven, else unknown."""

from __future__ import annotations

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _authenticode
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.certificate_samples import Party, issue, named
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

#: Makes a certificate as long as those of packages are.
LONG = "Example Organisation " * 3


def line(root: Party, length: int) -> list[Party]:
    """Return ``length`` authorities below a root, each issued by the one before."""
    found = [root]
    for number in range(length):
        found.append(issue(f"level {number}", found[-1]))
    return found[1:]


def certificates(*parties: Party) -> list[x509.Certificate]:
    """Return their certificates."""
    return [party.certificate for party in parties]


@pytest.mark.parametrize(("length", "found"), [(0, "the root"), (1, "the root"), (5, "the root"), (6, "unknown"), (20, "unknown")])
def test_a_chain_is_followed_so_far_and_no_further(length: int, found: str) -> None:
    """Real chains have one or two intermediates; a longer one is not climbed for ever, and not believed either."""
    root = issue("the root")
    below = line(root, length)
    leaf = issue("signer", below[-1] if below else root, ca=False).certificate
    assert _authenticode.root_of(leaf, certificates(*below), certificates(root)) == found


def test_two_authorities_that_issue_each_other_end_nowhere() -> None:
    one = issue("one")
    two = issue("two", one)
    back = issue("one", two, key=one.key)
    leaf = issue("signer", two, ca=False).certificate
    assert _authenticode.root_of(leaf, certificates(two, back), certificates(issue("the root"))) == "unknown"


def test_a_name_proves_nothing() -> None:
    """An issuer that is only called like the root, and one that is no authority, lead to no root."""
    root, impostor = issue("the root"), issue("the root")
    assert _authenticode.root_of(issue("signer", impostor, ca=False).certificate, [], certificates(root)) == "unknown"
    no_authority = issue("middle", root, ca=False)
    assert _authenticode.root_of(issue("signer", no_authority, ca=False).certificate, certificates(no_authority), certificates(root)) == "unknown"


def test_a_root_without_a_common_name_has_none_to_show() -> None:
    root = issue(named(ORGANIZATION_NAME="Example"))
    assert _authenticode.root_of(issue("signer", root, ca=False).certificate, [], certificates(root)) == "unknown"


def test_certificates_are_found_in_a_package_among_anything_else() -> None:
    """Also behind what begins like a certificate and is none, or is cut off at the end of the file."""
    one, two = (issue(named(COMMON_NAME=name, ORGANIZATION_NAME=LONG)).certificate for name in ("one", "two"))
    data = [certificate.public_bytes(Encoding.DER) for certificate in (one, two)]
    decoy = b"\x30\x82\x02\x00\x30\x82" + bytes(40)
    assert _authenticode.embedded(b"\xd0\xcf\x11\xe0" + decoy + data[0] + b"\x00" * 512 + data[1] + data[0][:-1]) == [one, two]


def test_the_search_ends_after_so_many_tries() -> None:
    one = issue(named(ORGANIZATION_NAME=LONG)).certificate.public_bytes(Encoding.DER)
    decoy = b"\x30\x82\x01\x00\x30\x82" + bytes(300)
    assert len(_authenticode.embedded(decoy * (_authenticode.MAX_CERTIFICATES - 1) + one)) == 1
    assert _authenticode.embedded(decoy * _authenticode.MAX_CERTIFICATES + one) == []
