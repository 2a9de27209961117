# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The health check: what each probe says of a server, compared before and after, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _health
from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import PSObject
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, InvalidInput, Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._health import Seen
from ansible_collections.exchange.mitigation.plugins.module_utils._model import ErrorRecord
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.fake_host import FakeHost, item

BASE = "https://ex1.example.com"
CSP = "Content-Security-Policy"
#: The option ``health`` with its defaults.
GIVEN = {"from": "host", "url": None, "ca_path": None, "paths": None, "timeout": 30, "required": False, "attack_probe": False}
GOOD, BAD, CLOSED, GONE = Seen(200), Seen(503), Seen(closed=True), Seen(error="no route")


def wish(**more: Any) -> _health.Wish:
    """Return the option checked."""
    found = _health.wish_of({**GIVEN, **more})
    assert found is not None
    return found


class Watched:
    """A health check over probes that see what is told, one after the other for each path, the last for ever."""

    def __init__(self, told: Mapping[str, list[Seen]], expected: tuple[str, ...] = (), ids: tuple[str, ...] = (), **more: Any) -> None:
        self.told = {path: list(seen) for path, seen in told.items()}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.warnings: list[str] = []
        self.slept: list[float] = []
        asked_for = wish(**{"paths": list(told), **more})
        self.watch = _health.Watch(asked_for, self.ask, BASE, lambda path: path in expected, ids, self.warnings.append, self.slept.append)

    def ask(self, path: str, headers: Mapping[str, str]) -> Seen:
        """Return what is seen next."""
        self.asked.append((path, dict(headers)))
        seen = self.told[path]
        return seen.pop(0) if len(seen) > 1 else seen[0]

    def states(self) -> list[str]:
        """Probe before and after, and return the states of the paths."""
        self.watch.before()
        self.watch.confirm()
        assert self.watch.result is not None
        return [entry["state"] for entry in self.watch.result["paths"]]


# --- the option --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"paths": ["owa"]}, "health.paths: 'owa' does not begin with a slash"),
        ({"url": "https://user@mail.example.com"}, "health.url is scheme and host"),
        ({"url": "https://mail.example.com/owa"}, "health.url is scheme and host"),
        ({"url": "mail.example.com"}, "health.url is scheme and host"),
        ({"timeout": 0}, "health.timeout is 1 to 600 seconds"),
        ({"timeout": 601}, "health.timeout is 1 to 600 seconds"),
        ({"ca_path": "/ca.pem"}, "health.ca_path is for from: controller"),
    ],
)
def test_options_that_cannot_be_meant(option: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        wish(**option)
    assert (caught.value.reason, said in caught.value.message) == ("invalid_input", True)


def test_nothing_is_probed_where_nothing_is_asked_for() -> None:
    assert _health.wish_of(None) is None
    assert (wish(url=BASE + "/").url, wish().paths) == (BASE, _health.DEFAULT_PATHS)


# --- asking through the server -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        ((item(StatusCode=200, Headers={CSP: "x", "Empty": None}),), Seen(200, {CSP: "x", "Empty": ""})),
        ((item(StatusCode=401, Headers=PSObject()),), Seen(401)),
        ((), Seen(error="Invoke-WebRequest returned no status")),
        (("<html>",), Seen(error="Invoke-WebRequest returned no status")),
        ((item(StatusCode="OK"),), Seen(error="Invoke-WebRequest returned no status")),
        (ErrorRecord("Der Remoteserver hat einen Fehler zur\u00fcckgegeben: (503) Server nicht verf\u00fcgbar.", "", "", "", ""), Seen(503)),
        (ErrorRecord("Keine\nVerbindung" + "x" * 500, "", "", "", ""), Seen(error="Keine Verbindung" + "x" * 184)),
    ],
    ids=["answer", "no headers", "nothing", "text", "word", "status in any language", "no status"],
)
def test_what_the_server_tells_of_itself(answer: Any, seen: Seen) -> None:
    """An answer without a status is none: it is never taken for a healthy path."""
    host = FakeHost({"Invoke-WebRequest": answer})
    assert _health.from_host(host, BASE, wish())("/owa/", {"Cookie": "a=b"}) == seen


# --- judging -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "expected", "state"),
    [
        (GOOD, [GOOD], False, "healthy"),
        (BAD, [GOOD], False, "healthy"),
        (GOOD, [Seen(401)], False, "healthy"),
        (GOOD, [BAD], False, "failed"),
        (GOOD, [CLOSED], False, "failed"),
        (GOOD, [BAD, GOOD], False, "healthy"),
        (GOOD, [BAD], True, "expected"),
        (GOOD, [CLOSED], True, "expected"),
        (GOOD, [GONE], True, "unknown"),
        (BAD, [BAD], False, "failed_before"),
        (CLOSED, [BAD], False, "failed_before"),
        (GOOD, [GONE], False, "unknown"),
        (GONE, [BAD], False, "unknown"),
    ],
)
def test_a_path_is_compared_with_itself(before: Seen, after: list[Seen], expected: bool, state: str) -> None:
    """What failed before is not this change's fault, what the mitigation is meant to stop is none, what nobody reached is unknown."""
    checked = Watched({"/owa/": [before, *after]}, expected=("/owa/",) if expected else ())
    assert checked.states() == [state]
    assert checked.slept == ([_health.PAUSE] if state in ("failed", "unknown") or len(after) > 1 else [])


def test_a_failure_that_is_not_required_is_a_warning_and_the_change_stays() -> None:
    checked = Watched({"/owa/": [GOOD, BAD], "/ecp/": [GOOD]})
    assert checked.states() == ["failed", "healthy"]
    assert checked.watch.result is not None and checked.watch.result["state"] == "failed"
    assert checked.warnings == [f"{BASE}: the health check failed and is not required, so the change stays: /owa/ (200 before, 503 now)"]


@pytest.mark.parametrize(
    ("after", "said"),
    [(BAD, "/owa/ (200 before, 503 now)"), (CLOSED, "/owa/ (200 before, closed now)"), (GONE, "/owa/ could not be judged")],
)
def test_a_required_check_that_does_not_end_well_is_an_error_with_all_of_it(after: Seen, said: str) -> None:
    checked = Watched({"/owa/": [GOOD, after]}, required=True)
    with pytest.raises(ApplyError) as caught:
        checked.states()
    assert (caught.value.reason, caught.value.message) == ("health_failed", f"{BASE}: the required health check failed: {said}")
    assert caught.value.details["health"] == checked.watch.result


def test_a_required_check_that_cannot_reach_the_server_refuses_the_change() -> None:
    checked = Watched({"/owa/": [GONE], "/ecp/": [BAD]}, required=True)
    with pytest.raises(Refused) as caught:
        checked.watch.before()
    assert caught.value.reason == "health_unreachable"
    assert "the required health check cannot reach /owa/ (no route), so nothing was changed" in caught.value.message


# --- probes of attacks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identifier", "after", "state"),
    [
        ("M1", Seen(403), "stopped"),
        ("M1", CLOSED, "stopped"),
        ("M1", Seen(401), "passed"),
        ("M1", GONE, "unknown"),
        ("M2", Seen(302, {CSP.lower(): "default-src 'self'; script-src-attr 'none'"}), "stopped"),
        ("M2", Seen(302, {CSP: "default-src 'self'"}), "passed"),
        ("M2", Seen(302, {"Location": "/owa/auth/logon.aspx"}), "unknown"),
        ("M2", GONE, "unknown"),
    ],
)
def test_a_probe_shows_the_mitigation_or_does_not_tell(identifier: str, after: Seen, state: str) -> None:
    """A redirect without any policy says nothing of the rule, which only concerns pages."""
    told = {"/ecp/": [GOOD], _health.PROBES[identifier].path: [after]}
    checked = Watched(told, ids=(identifier, "M99"), paths=["/ecp/"], attack_probe=True)
    assert checked.states() == ["healthy"]
    assert checked.watch.result is not None
    (probe,) = checked.watch.result["attack_probes"]
    assert (probe["id"], probe["state"], checked.watch.result["state"]) == (
        identifier, state, {"stopped": "healthy", "passed": "failed", "unknown": "unknown"}[state],
    )  # fmt: skip
    assert len(checked.warnings) == (state == "passed")


def test_no_attack_is_probed_unless_it_is_asked_for() -> None:
    checked = Watched({"/owa/healthcheck.htm": [GOOD]}, ids=("M1", "M2"))
    checked.states()
    assert checked.asked == [("/owa/healthcheck.htm", {})] * 2
