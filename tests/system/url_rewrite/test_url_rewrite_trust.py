# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module url_rewrite against the lab: signature, hash, root and what the session allows."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _authenticode
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import Refused, VerifyError
from ansible_collections.exchange.mitigation.plugins.modules import url_rewrite
from installer_lab import bare, our_folders, package_file
from lab_task import folder, hashes, run

# Signature and hash


@pytest.mark.parametrize(
    ("fields", "reason", "said"),
    [
        ({"status": "NotSigned"}, "signature_invalid", "NotSigned"),
        ({"status": "HashMismatch"}, "signature_invalid", "HashMismatch"),
        ({"status": "NotTrusted"}, "signature_invalid", "NotTrusted"),
        ({"signer": "wrong-organization"}, "signer_changed", "by Contoso Ltd instead of Microsoft Corporation"),
        ({"signer": b""}, "signature_invalid", "does not tell by whom"),
        ({"signer": b"nonsense"}, "signature_invalid", "cannot be read"),
    ],
)
def test_a_package_that_is_not_microsofts_is_not_run(fleet: Any, package: Any, tmp_path: pathlib.Path, fields: Any, reason: str, said: str) -> None:
    machine = bare(fleet)
    if isinstance(fields.get("signer"), str):
        fields = {"signer": fleet.pki.signer(fields["signer"]).der}
    before = hashes(machine)
    with pytest.raises(VerifyError) as caught:
        run(url_rewrite, fleet, machine, {"source": package_file(tmp_path, package(**fields))})
    assert caught.value.reason == reason
    assert said in caught.value.message
    assert "Start-Process" not in {ran.cmdlet for ran in fleet.access_log.calls}
    assert hashes(machine) == before
    assert our_folders(machine) == []


def test_bytes_that_changed_on_the_way_are_not_run(fleet: Any, package: Any, tmp_path: pathlib.Path) -> None:
    machine = bare(fleet)

    def swap(number: int, kind: str) -> None:
        for path in (folder(machine) / "Windows").glob("exchange.mitigation-*/package.msi"):
            path.write_bytes(path.read_bytes() + b"!")

    with pytest.raises(VerifyError) as caught:
        run(url_rewrite, fleet, machine, {"source": package_file(tmp_path, package())}, after=swap)
    assert caught.value.reason == "package_mismatch"
    assert our_folders(machine) == []


@pytest.mark.parametrize(
    ("embedded", "pinned", "root"), [(True, True, "Lab Root Certificate Authority 2011"), (False, True, "unknown"), (True, False, "unknown")]
)
def test_the_root_is_named_where_the_chain_can_be_built(
    fleet: Any, package: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, embedded: bool, pinned: bool, root: str
) -> None:
    pki = fleet.pki
    if pinned:
        monkeypatch.setattr(_authenticode, "shipped_roots", lambda: (pki.feed_root.certificate,))
    chain = (b"0\x82\x02\x000\x82 no certificate", pki.signer().der, pki.feed_intermediate.der) if embedded else ()
    done = run(url_rewrite, fleet, bare(fleet), {"source": package_file(tmp_path, package(chain=chain), 100_000)})
    assert done["package"]["signature"]["root"] == root


def test_a_given_hash_is_compared_before_anything_is_sent(fleet: Any, package: Any, tmp_path: pathlib.Path) -> None:
    with pytest.raises(VerifyError) as caught:
        run(url_rewrite, fleet, bare(fleet), {"source": package_file(tmp_path, package()), "sha256": "0" * 64}, check=True)
    assert caught.value.reason == "package_mismatch"
    assert fleet.access_log.writes() == []


def test_constrained_language_is_enough(fleet: Any, package: Any, tmp_path: pathlib.Path) -> None:
    machine = bare(fleet)
    machine.language_mode = "ConstrainedLanguage"
    done = run(url_rewrite, fleet, machine, {"source": package_file(tmp_path, package())})
    assert (done["exit_code"], done["url_rewrite"]["installed"]) == (0, True)
    assert our_folders(machine) == []


def test_a_restricted_endpoint_is_refused_by_name(fleet: Any, package: Any, tmp_path: pathlib.Path) -> None:
    machine = bare(fleet)
    machine.language_mode = "NoLanguage"
    for check in (True, False):
        with pytest.raises(Refused) as caught:
            run(url_rewrite, fleet, machine, {"source": package_file(tmp_path, package())}, check=check)
        assert caught.value.reason == "endpoint_restricted"
    assert fleet.access_log.writes() == []
