# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The feed module: one run from source to result, what it remembers, and what it tells."""

from __future__ import annotations

import datetime
import hashlib
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.exchange.mitigation.plugins.module_utils import _feed_handle, _fetch, _reasons
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import FetchError, InvalidInput, MitigationError, VerifyError
from ansible_collections.exchange.mitigation.plugins.modules import feed
from attacks.authorities import DAY, Pki, crl, key, name, pem
from attacks.documents import CONTENT, PING, sign

NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.timezone.utc)
PKI = Pki(NOW)


class Task:
    """What the action base hands to a module."""

    inventory_hostname = "localhost"

    def __init__(self, params: Mapping[str, Any], now: datetime.datetime = NOW) -> None:
        validated = ArgumentSpecValidator(**feed.SPEC).validate(dict(params))
        assert not validated.error_messages, validated.error_messages
        self.params = validated.validated_parameters
        self.warnings: list[str] = []
        self._now = now

    @property
    def host(self) -> Any:
        """There is no host."""
        raise AssertionError("the feed module contacts no host")

    exchange = host

    def now(self) -> datetime.datetime:
        """The clock of the test."""
        return self._now

    def warn(self, message: str) -> None:
        """Keep a warning."""
        self.warnings.append(message)

    def progress(self, message: str) -> None:
        """Say nothing."""


class World:
    """A directory with roots, a state and a source."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        (directory / "root.pem").write_bytes(pem(PKI.root))
        (directory / "time.pem").write_bytes(pem(PKI.time_root))
        self.source = directory / "feed.xml"
        self.state = directory / "state"
        self.task = Task({})

    def run(self, data: bytes | None = None, check: bool = False, now: datetime.datetime = NOW, **options: Any) -> dict[str, Any]:
        """Run the module over a document; in check mode the effect stays undone."""
        if data is not None:
            self.source.write_bytes(data)
        trust = {"roots": [str(self.directory / "root.pem")], "timestamp_roots": [str(self.directory / "time.pem")], **options.pop("trust", {})}
        self.task = Task({"source": str(self.source), "state_dir": str(self.state), "trust": trust, **options}, now)
        decision = feed.run(self.task)  # type: ignore[arg-type]
        assert decision.changed is False and decision.diff is None
        if not check:
            assert decision.effect is not None
            decision.result.update(decision.effect())
        json.dumps(decision.result)
        return decision.result

    def refused(self, data: bytes | None = None, **options: Any) -> MitigationError:
        """Return the error of a run."""
        with pytest.raises(MitigationError) as caught:
            self.run(data, **options)
        return caught.value

    def remembered(self) -> list[str]:
        """Return the names of the state files."""
        return sorted(path.name for path in self.state.glob("feed-*.json"))


@pytest.fixture
def world(tmp_path: pathlib.Path) -> World:
    """An empty world."""
    return World(tmp_path)


def document(version: str, *ids: str, days: float = 30, **changes: Any) -> bytes:
    """Return a good document, signed so many days ago."""
    content = CONTENT.replace(PING, "".join(PING.replace("PING1", identifier) for identifier in ids)).replace("1.0.4", version)
    return sign(PKI, content, stamp=lambda value: PKI.stamp(value, NOW - days * DAY), **changes).bytes()


def test_result(world: World) -> None:
    """Everything that is documented, and only that."""
    data = document("1.0.4", "PING1", "M1", "M2.1.0", "M77")
    data = data.replace(b"x", b"x")
    result = world.run(data)
    documented = yaml.safe_load(feed.RETURN)
    assert set(result) <= set(documented)
    assert set(documented) - set(result) == {"reason", "sha256", "signer_chain"}
    sha = hashlib.sha256(data).hexdigest()
    assert result["feed"] == {"path": str(world.state / "feeds" / f"{sha}.xml"), "sha256": sha, "domain": "microsoft"}
    assert (result["version"], result["signed_at"], result["time_basis"], result["revocation"]) == ("1.0.4", "2026-10-25T12:00:00Z", "now", "unknown")
    assert set(result["signer"]) == set(documented["signer"]["contains"])
    assert [set(entry) for entry in result["mitigations"]] == [set(documented["mitigations"]["contains"])] * 4
    assert result["new"] == ["PING1", "M1", "M2.1.0", "M77"] and result["withdrawn"] == []
    assert result["custom_roots"] is True and any("Roots other than Microsoft's" in warning for warning in world.task.warnings)
    assert result["fetched_at"] is None


def test_catalogue_decides_what_is_supported(world: World) -> None:
    """By id alone; what the document says inside a Config has no part in it."""
    rule = PING.replace('type="DoNothing"', 'type="Rewrite"')
    content = CONTENT.replace(PING, "".join(rule.replace("PING1", identifier) for identifier in ("M1", "M1.1", "M10", "M01", "M2.1.0", "M77", "PING2")) + PING)
    result = world.run(sign(PKI, content).bytes())
    kinds = {entry["id"]: (entry["supported"], entry["kind"]) for entry in result["mitigations"]}
    assert kinds["M1"] == kinds["M1.1"] == kinds["M2.1.0"] == (True, "rewrite")
    assert kinds["M10"] == kinds["M01"] == kinds["M77"] == (False, None)
    assert kinds["PING1"] == kinds["PING2"] == (True, "none")


def test_later_tasks_open_what_was_verified(world: World) -> None:
    """From the handle, and from the whole result; in check mode too."""
    result = world.run(document("1.0.4", "PING1", "M1"), check=True)
    for value in (result["feed"], result):
        assert _feed_handle.load_feed(value).ids == ("PING1", "M1")
    world.source.write_bytes(b"changed")
    assert _feed_handle.load_feed(result["feed"]).version == "1.0.4"
    path = pathlib.Path(result["feed"]["path"])
    path.write_bytes(path.read_bytes().replace(b"M1", b"M2"))
    with pytest.raises(VerifyError) as caught:
        _feed_handle.load_feed(result["feed"])
    assert caught.value.reason == "feed_bytes_differ"


def test_record_of_other_octets(world: World) -> None:
    """Bytes that were exchanged together with the hash in the handle and the record still lack the digest that was proven."""
    result = world.run(document("1.0.4", "PING1"))
    path = pathlib.Path(result["feed"]["path"])
    forged = path.read_bytes().replace(b"PING1", b"PING2")
    sha = hashlib.sha256(forged).hexdigest()
    other = path.with_name(f"{sha}.xml")
    other.write_bytes(forged)
    record = json.loads(path.with_suffix(".json").read_text())
    other.with_suffix(".json").write_text(json.dumps({**record, "sha256": sha}))
    for file in (other, other.with_suffix(".json")):
        file.chmod(0o600)
    with pytest.raises(VerifyError) as caught:
        _feed_handle.load_feed({"path": str(other), "sha256": sha, "domain": "microsoft"})
    assert caught.value.reason == "feed_not_verified"


def test_new_and_withdrawn(world: World) -> None:
    """Against the document accepted last."""
    world.run(document("1.0.4", "PING1", "M1", days=30))
    result = world.run(document("1.0.5", "PING1", "M2", days=20))
    assert (result["new"], result["withdrawn"]) == (["M2"], ["M1"])
    again = world.run()
    assert (again["new"], again["withdrawn"]) == ([], [])
    assert not any("Accepted as the first" in warning for warning in world.task.warnings)


def test_check_mode_remembers_nothing(world: World) -> None:
    """The next run is still the first, and an older document still passes."""
    first = world.run(document("1.0.5", "PING1", days=10), check=True)
    assert world.remembered() == []
    assert any("Accepted as the first" in warning for warning in world.task.warnings)
    world.run(document("1.0.4", "PING1", days=20))
    assert len(world.remembered()) == 1
    assert pathlib.Path(first["feed"]["path"]).exists()


def test_check_mode_refuses_what_a_real_run_refuses(world: World) -> None:
    """A rollback shows in check mode too."""
    world.run(document("1.0.5", "PING1", days=10))
    assert world.refused(document("1.0.4", "PING1", days=5), check=True).reason == "rollback_version"


def test_rollback(world: World) -> None:
    """An older document by version, by time, by missing time; with a reason it is used, and the mark stays."""
    world.run(document("1.0.5", "PING1", days=10))
    assert world.refused(document("1.0.4", "PING1", days=5)).reason == "rollback_version"
    assert world.refused(document("1.0.5", "M1", days=20)).reason == "rollback_time"
    untimed = sign(PKI, CONTENT.replace("1.0.4", "1.0.6"), stamp=lambda _value: None).bytes()
    assert world.refused(untimed).reason == "rollback_untimed"
    world.run(document("1.0.4", "PING1", days=20), allow_older="incident 12")
    assert any("incident 12" in warning for warning in world.task.warnings)
    assert world.refused(document("1.0.4", "PING1", days=20)).reason == "rollback_version"
    state = json.loads((world.state / world.remembered()[0]).read_text())
    assert state["mark"]["version"] == "1.0.5" and "incident 12" in state["audit"][-1]["override"]


def test_first_use_refused(world: World) -> None:
    """Until the hash of the file, as sha256sum prints it, is approved."""
    data = document("1.0.4", "PING1")
    error = world.refused(data, first_use="refuse")
    sha = hashlib.sha256(data).hexdigest()
    assert error.reason == "first_use_refused" and sha in error.message
    assert world.refused(first_use="refuse", approved_sha256=["0" * 64]).reason == "first_use_refused"
    assert world.run(first_use="refuse", approved_sha256=[sha.upper()])["version"] == "1.0.4"
    assert world.run(first_use="refuse")["version"] == "1.0.4"


def test_expired_signer_with_timestamp_warns(world: World) -> None:
    """It is accepted, and the administrator is told that it verifies for ever."""
    old = PKI.signer(begin=NOW - 400 * DAY, end=NOW - 100 * DAY)
    assert world.run(document("1.0.4", "PING1", days=200, leaf=old))["time_basis"] == "timestamp"
    assert any("verifies for ever" in warning for warning in world.task.warnings)
    assert world.refused(document("1.0.4", "PING1", days=50, leaf=old)).reason == "certificate_expired"


def test_forged_and_unsigned(world: World) -> None:
    """Refused, with nothing remembered and nothing kept."""
    assert world.refused(CONTENT.encode()).reason == "unsigned"
    assert world.refused(document("1.0.4", "PING1").replace(b"PING1", b"M1")).reason == "digest_mismatch"
    evil = sign(PKI, leaf=PKI.evil_leaf, leaf_key=key("evil"), certificates=[PKI.evil_leaf, PKI.evil_root]).bytes()
    error = world.refused(evil)
    assert error.reason == "chain_untrusted" and error.details["signer_chain"]
    assert world.remembered() == [] and list((world.state / "feeds").iterdir()) == []


def test_microsoft_does_not_trust_the_test_roots(world: World) -> None:
    """Without trust.roots the pins are Microsoft's."""
    world.source.write_bytes(document("1.0.4", "PING1"))
    with pytest.raises(VerifyError) as caught:
        feed.run(Task({"source": str(world.source), "state_dir": str(world.state)}))  # type: ignore[arg-type]
    assert caught.value.reason == "chain_untrusted"


def test_own_roots_have_a_state_of_their_own(world: World, recorded: Callable[[str], pathlib.Path]) -> None:
    """A lab's mark is not Microsoft's."""
    world.run(document("9.0", "PING1"))
    task = Task({"source": str(recorded("ocs_PING1_signed_2021.xml")), "state_dir": str(world.state)})
    decision = feed.run(task)  # type: ignore[arg-type]
    assert decision.effect is not None
    decision.effect()
    assert decision.result["custom_roots"] is False and decision.result["signed_at"] == "2021-09-15T16:42:08.621Z"
    assert len(world.remembered()) == 2 and "feed-microsoft.json" in world.remembered()


def test_absurd_first_version(world: World) -> None:
    """A mark that no genuine document could pass is not set without approval, on first use neither."""
    data = document("2099.1", "PING1")
    assert world.refused(data).reason == "version_leap" and world.remembered() == []
    assert world.run(data, approved_sha256=[hashlib.sha256(data).hexdigest()])["version"] == "2099.1"


def test_other_signer_approved(world: World) -> None:
    """The day Microsoft renames its signer."""
    leaf = PKI.signer(subject=name("Microsoft Exchange Mitigation Signing"))
    data = document("1.0.4", "PING1", leaf=leaf)
    error = world.refused(data)
    assert error.reason == "signer_changed" and "Microsoft Exchange Mitigation Signing" in error.message
    shown = error.details["signer_chain"]
    assert [set(entry) for entry in shown] == [{"subject", "issuer", "serial", "ekus", "not_before", "not_after", "sha256"}] * 3
    for entry in shown:
        values = [entry["subject"], entry["issuer"], entry["not_before"], entry["not_after"], entry["sha256"], *entry["ekus"]]
        assert all(value in error.message for value in values), "the message prints what an administrator compares"
    result = world.run(data, trust={"signer_common_name": "Microsoft Exchange Mitigation Signing"})
    assert result["signer"]["common_name"] == "Microsoft Exchange Mitigation Signing"


def test_revocation(world: World) -> None:
    """Lists from files; required asks for all of the chain."""
    lists = []
    for number, (issuer, label) in enumerate(((PKI.middle, "middle"), (PKI.root, "root"))):
        path = world.directory / f"{number}.crl"
        path.write_bytes(crl(issuer, key(label), NOW - DAY, NOW + DAY))
        lists.append(str(path))
    data = document("1.0.4", "PING1")
    assert world.refused(data, trust={"revocation": "required"}).reason == "revocation_unknown"
    assert world.run(data, trust={"revocation": "required", "crls": lists})["revocation"] == "good"


def test_verify_at(world: World) -> None:
    """For files, with an offset; never for a URL."""
    old = PKI.signer(begin=NOW - 400 * DAY, end=NOW - 100 * DAY)
    data = sign(PKI, leaf=old, stamp=lambda _value: None).bytes()
    assert world.refused(data).reason == "certificate_expired"
    assert world.run(verify_at=(NOW - 200 * DAY).isoformat())["time_basis"] == "explicit"
    for value in ("yesterday", "2026-01-01T00:00:00"):
        assert isinstance(world.refused(verify_at=value), InvalidInput)
    assert isinstance(world.refused(source="https://localhost/", verify_at="2026-01-01T00:00:00Z"), InvalidInput)


@pytest.mark.parametrize(
    "options",
    [
        {"allow_older": "  "},
        {"timeout": 0},
        {"max_age": 0},
        {"source": ""},
        {"approved_sha256": ["xyz"]},
        {"trust": {"denied_sha256": ["1"]}},
        {"trust": {"required_ekus": []}},
        {"trust": {"required_ekus": ["codeSigning"]}},
        {"trust": {"signer_common_name": ""}},
        {"trust": {"roots": ["/nonexistent.pem"]}},
        {"trust": {"crls": ["/nonexistent.crl"]}},
        {"trust": {"roots": ["-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"]}},
        {"trust": {"crls": [__file__]}},
    ],
)
def test_options_that_cannot_be_meant(world: World, options: dict[str, Any]) -> None:
    """Refused with a sentence, before anything is read."""
    error = world.refused(document("1.0.4", "PING1"), **options)
    assert isinstance(error, InvalidInput) and error.message.endswith(".")
    assert world.remembered() == []


def test_roots_as_text(world: World) -> None:
    """A root can stand in a variable."""
    assert world.run(document("1.0.4", "PING1"), trust={"roots": [pem(PKI.root).decode()]})["custom_roots"] is True


def test_intermediate_is_no_root(world: World) -> None:
    """Pinning what Microsoft rotates is refused."""
    assert world.refused(document("1.0.4", "PING1"), trust={"roots": [pem(PKI.middle).decode()]}).reason == "root_not_pinnable"


def _raise(error: Exception | None) -> None:
    if error is not None:
        raise error


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A fetch that answers with ``data`` or raises ``error``, and counts."""
    answer: dict[str, Any] = {"data": b"", "error": None, "count": 0}

    def fetch(*dummy: Any) -> bytes:
        answer["count"] += 1
        _raise(answer["error"])
        return bytes(answer["data"])

    monkeypatch.setattr(_fetch, "fetch", fetch)
    return answer


def test_fetch_is_remembered(world: World, online: dict[str, Any]) -> None:
    """Only a fetch gives freshness; a file does not."""
    online["data"] = document("1.0.4", "PING1")
    assert world.run(source="https://feed.invalid/")["fetched_at"] == "2026-11-24T12:00:00Z"
    assert world.run(online["data"], now=NOW + 2 * DAY)["fetched_at"] == "2026-11-24T12:00:00Z"
    assert online["count"] == 1


def test_failed_fetch(world: World, online: dict[str, Any]) -> None:
    """Fails by its hop; within max_age the last document is verified again and used, with a warning; beyond it fails."""
    online["data"] = document("1.0.4", "PING1")
    world.run(source="https://feed.invalid/")
    online["error"] = _reasons.unfetched("dns", "feed.invalid does not resolve.")
    assert world.refused(source="https://feed.invalid/").reason == "dns"
    result = world.run(source="https://feed.invalid/", max_age=48, now=NOW + DAY)
    assert result["version"] == "1.0.4" and result["fetched_at"] == "2026-11-24T12:00:00Z"
    assert any("does not resolve" in warning and "24.0 hours ago" in warning for warning in world.task.warnings)
    error = world.refused(source="https://feed.invalid/", max_age=12, now=NOW + DAY)
    assert error.reason == "dns" and "max_age is 12 hours" in error.message
    assert isinstance(error, FetchError)


def test_kept_document_that_was_changed(world: World, online: dict[str, Any]) -> None:
    """What is used in place of a fetch is proven again."""
    online["data"] = document("1.0.4", "PING1")
    path = pathlib.Path(world.run(source="https://feed.invalid/")["feed"]["path"])
    path.write_bytes(path.read_bytes().replace(b"PING1", b"M1"))
    online["error"] = _reasons.unfetched("tcp", "feed.invalid does not accept the connection.")
    assert world.refused(source="https://feed.invalid/", max_age=48).reason == "digest_mismatch"


def test_failed_first_fetch(world: World, online: dict[str, Any]) -> None:
    """There is nothing to use instead."""
    online["error"] = _reasons.unfetched("tls_certificate", "not trusted.")
    assert world.refused(source="https://feed.invalid/", max_age=48).reason == "tls_certificate"


def test_age_of_a_file(world: World, online: dict[str, Any]) -> None:
    """A file cannot be fresh: with max_age the administrator is told."""
    data = document("1.0.4", "PING1")
    world.run(data, max_age=48)
    assert any("newest cannot be known" in warning for warning in world.task.warnings)
    online["data"] = data
    world.run(source="https://feed.invalid/")
    world.run(data, max_age=48)
    assert not any("newest cannot be known" in warning for warning in world.task.warnings)


def test_clock_set_back(world: World, online: dict[str, Any]) -> None:
    """Time never runs behind the last accepted fetch: an expired signer stays expired."""
    online["data"] = sign(PKI, stamp=lambda _value: None, leaf=PKI.signer(end=NOW + 10 * DAY)).bytes()
    world.run(source="https://feed.invalid/")
    online["data"] = document("1.0.5", "PING1")
    world.run(source="https://feed.invalid/", now=NOW + 20 * DAY)
    online["data"] = sign(PKI, CONTENT.replace("1.0.4", "1.0.6"), stamp=lambda _value: None, leaf=PKI.signer(end=NOW + 10 * DAY)).bytes()
    assert world.refused(source="https://feed.invalid/", now=NOW).reason == "certificate_expired"


def test_damaged_state_stops(world: World) -> None:
    """It never counts as a first use."""
    world.run(document("1.0.5", "PING1"))
    (world.state / world.remembered()[0]).write_text("{")
    assert world.refused(document("1.0.5", "PING1")).reason == "state_damaged"


def test_documented_options_are_the_spec() -> None:
    """Names, defaults, choices and types, in the suboptions too."""

    def same(documented: Mapping[str, Any], spec: Mapping[str, Any]) -> None:
        assert set(documented) == set(spec)
        for option, described in documented.items():
            for attribute in ("type", "default", "choices", "elements"):
                assert described.get(attribute) == spec[option].get(attribute), (option, attribute)
            if "suboptions" in described:
                same(described["suboptions"], spec[option]["options"])

    same(yaml.safe_load(feed.DOCUMENTATION)["options"], feed.SPEC["argument_spec"])


def test_examples_are_valid_arguments() -> None:
    """Every example passes the spec."""
    for example in yaml.safe_load(feed.EXAMPLES):
        Task(example["exchange.mitigation.feed"] or {})


def test_proxy_is_secret() -> None:
    """It may hold a password."""
    assert feed.SPEC["argument_spec"]["proxy"]["no_log"] is True
