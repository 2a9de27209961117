# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The feed module in the trust domain local: whom to trust has to be said, and no document crosses from one domain into the other."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _feed_handle, _local, _roots
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput, MitigationError, VerifyError
from ansible_collections.exchange.mitigation.plugins.modules import feed
from ansible_collections.exchange.mitigation.tests.unit.plugins.modules.test_feed import NOW, PKI, Task
from attacks import cases_local
from attacks.authorities import CODE_SIGNING, DAY, key, name, pem
from attacks.cases_local import INBOUND, OUTBOUND, SERVICE, config, content
from attacks.documents import CONTENT, sign

LEAF = PKI.signer(subject=name("Own Signing", "Own Ltd"), ekus=[CODE_SIGNING])
TRUST = {"domain": "local", "signer_common_name": "Own Signing", "signer_organization": "Own Ltd"}


class World:
    """A state and a source for local documents."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.source = directory / "local.xml"
        self.root = directory / "root.pem"
        self.root.write_bytes(pem(PKI.root))
        self.state = directory / "state"
        self.warnings: list[str] = []

    def run(self, text: str | bytes, leaf: Any = LEAF, trust: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        """Sign a document and run the module over it."""
        data = text if isinstance(text, bytes) else sign(PKI, text, leaf=leaf, stamp=lambda dummy: None).bytes()
        self.source.write_bytes(data)
        given = {**TRUST, "roots": [str(self.root)], **(trust or {})}
        given = {option: value for option, value in given.items() if value is not None}
        task = Task({"source": str(self.source), "state_dir": str(self.state), "trust": given, **options})
        decision = feed.run(task)  # type: ignore[arg-type]
        self.warnings = task.warnings
        assert decision.effect is not None
        decision.result.update(decision.effect())
        return dict(decision.result)

    def refused(self, *arguments: Any, **options: Any) -> MitigationError:
        with pytest.raises(MitigationError) as caught:
            self.run(*arguments, **options)
        return caught.value


@pytest.fixture
def world(tmp_path: pathlib.Path) -> World:
    return World(tmp_path)


def test_result_and_what_later_tasks_get(world: World) -> None:
    text = content(config(INBOUND + OUTBOUND, "LOCAL-1"), config(SERVICE, "LOCAL-2"), version="2026.1")
    result = world.run(text)
    assert [(one["id"], one["supported"], one["kind"]) for one in result["mitigations"]] == [("LOCAL-1", True, "rewrite"), ("LOCAL-2", True, "service")]
    assert result["mitigations"][0]["actions"][0] == {"type": "RewriteInbound", "scope": "Server", "description": "Drop it"}
    assert (result["feed"]["domain"], result["version"], result["signed_at"]) == ("local", "2026.1", None)
    assert not any("Roots other than" in warning for warning in world.warnings)
    document = _feed_handle.load_feed(result)
    assert isinstance(document, _local.LocalDocument) and document.ids == ("LOCAL-1", "LOCAL-2")
    one, other = document.definitions
    assert [action.names for action in other.actions] == [("MSExchangeUM",)]
    assert one.matches("LOCAL-1") and not one.matches("LOCAL-10") and not one.matches("LOCAL-1.1")
    assert one.names.maker("exchange.mitigation LOCAL-1 - outbound") == "us" and one.names.maker("EEMS M1 PowerShell - inbound") == "other"
    assert [one.needed(build) for build in ((15, 1, 2507, 6), (15, 2, 2562, 17), None)] == ["yes", "yes", "unknown"]


@pytest.mark.parametrize("missing", ["roots", "signer_common_name", "signer_organization"])
def test_whom_to_trust_has_to_be_said(world: World, missing: str) -> None:
    error = world.refused(content(config()), trust={missing: None})
    assert isinstance(error, InvalidInput) and error.reason == "local_trust_incomplete" and f"trust.{missing}" in error.message


def test_microsoft_is_not_local(world: World) -> None:
    assert world.refused(content(config()), trust={"roots": [_roots.ROOT_2011.decode()]}).reason == "local_trust_foreign"
    error = world.refused(content(config()), source="https://officeclient.microsoft.com/GetExchangeMitigations")
    assert isinstance(error, InvalidInput) and "source" in error.message


def test_no_document_crosses_over(world: World) -> None:
    """Each domain's document, validly signed by the signer that the other expects."""
    assert world.refused(CONTENT).reason == "wrong_domain"
    microsoft = {"domain": "microsoft", "signer_common_name": None, "signer_organization": None}
    assert world.refused(content(config()), leaf=PKI.leaf, trust=microsoft).reason == "wrong_domain"
    assert world.refused(content(config()), leaf=PKI.leaf).reason == "signer_changed"
    assert world.refused(content(config()), trust=microsoft).reason == "signer_changed"


def test_a_handle_does_not_change_its_domain(world: World) -> None:
    handle = world.run(content(config()))["feed"]
    with pytest.raises(VerifyError) as caught:
        _feed_handle.load_feed({**handle, "domain": "microsoft"})
    assert caught.value.reason == "feed_not_verified"


def test_signer_needs_code_signing_and_what_else_is_asked(world: World) -> None:
    world.run(content(config()))
    assert world.refused(content(config()), trust={"required_ekus": [CODE_SIGNING, "1.3.6.1.4.1.99999.7"]}).reason == "eku_missing"
    other = PKI.signer(subject=name("Own Signing", "Own Ltd"), ekus=["1.3.6.1.5.5.7.3.4"])
    assert world.refused(content(config()), leaf=other).reason == "eku_missing"


def test_no_timestamp_counts_without_its_root(world: World) -> None:
    old = PKI.signer(subject=name("Own Signing", "Own Ltd"), ekus=[CODE_SIGNING], begin=NOW - 400 * DAY, end=NOW - 100 * DAY)
    data = sign(PKI, content(config()), leaf=old, stamp=lambda value: PKI.stamp(value, NOW - 200 * DAY)).bytes()
    assert world.refused(data).reason == "certificate_expired"
    assert world.run(data, trust={"timestamp_roots": [pem(PKI.time_root).decode()]})["time_basis"] == "timestamp"


def test_versions_have_to_rise(world: World) -> None:
    """Without a timestamp the version alone tells which document is newer."""
    world.run(content(config(), version="1.9"))
    world.run(content(config(), version="1.9"))
    assert world.refused(content(config(OUTBOUND), version="1.9")).reason == "same_version_other_content"
    assert world.refused(content(config(), version="1.8")).reason == "rollback_version"
    assert world.refused(content(config(), version="2026.1")).reason == "version_leap"
    world.run(content(config(OUTBOUND), version="1.10"))


def test_states_of_the_domains_are_apart(world: World) -> None:
    world.run(content(config(), version="9"))
    names = sorted(path.name for path in world.state.glob("feed-*.json"))
    assert len(names) == 1 and names[0].startswith("feed-local-")


@pytest.mark.parametrize(("text", "reason"), [(text, reason) for dummy, text, reason in cases_local.bad()][::9])
def test_outside_the_profile_nothing_is_remembered(world: World, text: str, reason: str) -> None:
    assert world.refused(text).reason == reason
    assert not list(world.state.glob("feed-*.json"))


def test_key_of_the_other_signer(world: World) -> None:
    data = sign(PKI, content(config()), leaf=LEAF, leaf_key=key("evil"), stamp=lambda dummy: None).bytes()
    assert world.refused(data).reason == "signature_mismatch"
