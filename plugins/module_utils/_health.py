# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the server as well after a change as it was before: HTTP probes, compared.

A path that failed before is not this change's failure, an outage that the mitigation is meant to cause is none, and a probe
that does not get through says nothing. Judging is pure; the two ways of asking say what they do.
Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._clixml import PSObject, plain
from ansible_collections.exchange.mitigation.plugins.module_utils._deps import require
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, InvalidInput, Refused
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Session, call
from ansible_collections.exchange.mitigation.plugins.module_utils._untrusted import number, word

#: Pages that every front-end service answers without a logon, and one of the applications that share OWA's folder.
DEFAULT_PATHS = (
    "/owa/healthcheck.htm",
    "/owa/Calendar/",
    "/ecp/healthcheck.htm",
    "/EWS/healthcheck.htm",
    "/Autodiscover/healthcheck.htm",
    "/Microsoft-Server-ActiveSync/healthcheck.htm",
    "/OAB/healthcheck.htm",
    "/mapi/healthcheck.htm",
)
#: Seconds before a path that failed is asked a second time: its application domain has just been restarted.
PAUSE = 1.0

#: A number in brackets is the one part of .NET's sentence that is not translated: "... returned an error: (503) ...".
_STATUS = re.compile(r"\((\d{3})\)")


@dataclasses.dataclass(frozen=True)
class Wish:
    """The option ``health`` with its defaults."""

    source: str
    url: str | None
    ca_path: str | None
    paths: tuple[str, ...]
    timeout: int
    required: bool
    attack_probe: bool


@dataclasses.dataclass(frozen=True)
class Seen:
    """What one probe saw: ``status``; or ``closed``, the server took the request and gave no answer; else ``error``: it was not reached."""

    status: int | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    closed: bool = False
    error: str | None = None

    @property
    def healthy(self) -> bool:
        """Whether somebody answers who can: also a demand for a logon is an answer."""
        return self.status is not None and self.status < 500

    @property
    def reached(self) -> bool:
        """Whether the probe says anything about the server."""
        return self.status is not None or self.closed

    def __str__(self) -> str:
        return str(self.status) if self.status is not None else "closed" if self.closed else f"unreachable: {self.error}"


@dataclasses.dataclass(frozen=True)
class Probe:
    """A harmless request that a mitigation has to stop, or to whose answer it has to add ``header`` with ``value`` in it."""

    path: str
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    header: str | None = None
    value: str = ""

    def stopped(self, seen: Seen) -> bool | None:
        """Whether the mitigation shows, None where the answer does not tell."""
        if not seen.reached:
            return None
        if self.header is None:
            return seen.closed or seen.status == 403
        values = [value for name, value in seen.headers.items() if name.lower() == self.header.lower()]
        if not values:
            return None
        return any(self.value in value for value in values)


#: By the catalogue's id. None of them reaches anything behind the front end: the path or value that the attack needs is missing.
PROBES: Mapping[str, Probe] = {
    "M1": Probe("/autodiscover/autodiscover.json?powershell"),
    "M2": Probe("/owa/", header="Content-Security-Policy", value="script-src-attr 'none'"),
    "CVE-2021-26855": Probe("/owa/auth/probe.js", {"Cookie": "X-AnonResource-Backend=probe"}),
}


def wish_of(given: Mapping[str, Any] | None) -> Wish | None:
    """Return the option ``health`` checked, None where nothing is to be probed. Raises InvalidInput, MissingLibrary."""
    if given is None:
        return None
    paths = tuple(str(path) for path in given["paths"] or DEFAULT_PATHS)
    for path in paths:
        if not path.startswith("/"):
            raise InvalidInput(f"health.paths: {path!r} does not begin with a slash", "invalid_input")
    url = given["url"]
    if url is not None and not re.fullmatch(r"https?://[^/@?#\s]+/?", str(url)):
        raise InvalidInput("health.url is scheme and host, such as https://mail.example.com, without user name and path", "invalid_input")
    if not 1 <= given["timeout"] <= 600:
        raise InvalidInput("health.timeout is 1 to 600 seconds", "invalid_input")
    if given["from"] == "host" and given["ca_path"]:
        raise InvalidInput("health.ca_path is for from: controller; from the host Windows' own certificate store counts", "invalid_input")
    if given["from"] == "controller":
        require("requests")
    return Wish(given["from"], url.rstrip("/") if url else None, given["ca_path"], paths, given["timeout"], given["required"], given["attack_probe"])


# --- asking ------------------------------------------------------------------------------------------------------------------


def from_controller(base: str, wish: Wish) -> Callable[[str, Mapping[str, str]], Seen]:
    """Return a function that asks from here: one connection per request, no redirect followed, no proxy or password of the environment."""
    library = require("requests")

    def ask(path: str, headers: Mapping[str, str]) -> Seen:
        with library.Session() as session:
            session.trust_env = False
            try:
                answer = session.get(
                    base + path,
                    headers={"Connection": "close", **headers},
                    timeout=wish.timeout,
                    verify=wish.ca_path or True,
                    allow_redirects=False,
                    stream=True,
                )
                with answer:
                    return Seen(int(answer.status_code), dict(answer.headers))
            except library.exceptions.ConnectionError as exc:
                cause = exc.args[0] if exc.args else None
                if type(cause).__name__ == "ProtocolError":
                    return Seen(closed=True)
                return Seen(error=_short(cause or exc))
            except (library.exceptions.RequestException, OSError) as exc:
                return Seen(error=_short(exc))

    return ask


def from_host(host: Session, base: str, wish: Wish) -> Callable[[str, Mapping[str, str]], Seen]:
    """Return a function that lets the server ask itself, through Invoke-WebRequest; it follows redirects and says less of a lost answer."""

    def ask(path: str, headers: Mapping[str, str]) -> Seen:
        more = {"Headers": dict(headers)} if headers else {}
        statement = (call("Invoke-WebRequest", Uri=base + path, UseBasicParsing=True, TimeoutSec=wish.timeout, **more),)
        (answer,) = host.read([statement])
        if answer.errors:
            message = answer.errors[0].message
            status = _STATUS.search(message)
            return Seen(int(status[1])) if status else Seen(error=_short(message))
        found = next((item for item in answer.objects if isinstance(item, PSObject)), None)
        code = number(found.get("StatusCode")) if found is not None else None
        if code is None or found is None:
            return Seen(error="Invoke-WebRequest returned no status")
        sent = plain(found.get("Headers"))
        return Seen(code, {str(name): word(value) or "" for name, value in sent.items()} if isinstance(sent, dict) else {})

    return ask


def _short(what: object) -> str:
    return " ".join(str(what).split())[:200]


# --- judging -----------------------------------------------------------------------------------------------------------------


def judged(before: Seen, after: Seen, expected: bool) -> str:
    """Return healthy, failed, failed_before, expected or unknown for one path."""
    if after.healthy:
        return "healthy"
    if after.reached and expected:
        return "expected"
    if before.reached and not before.healthy:
        return "failed_before"
    # A path that answered and now cannot even be reached may be the network's fault; only an answer that is an error proves anything.
    return "failed" if after.reached and before.healthy else "unknown"


class Watch:
    """The probes of one run: ``before`` is taken before the first write, ``confirm`` after the last."""

    def __init__(
        self,
        wish: Wish,
        ask: Callable[[str, Mapping[str, str]], Seen],
        base: str,
        expected: Callable[[str], bool],
        ids: Sequence[str],
        warn: Callable[[str], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.wish = wish
        self.ask = ask
        self.base = base
        self.expected = expected
        self.probes = {one: PROBES[one] for one in ids if one in PROBES} if wish.attack_probe else {}
        self.warn = warn
        self.sleep = sleep
        self.earlier: dict[str, Seen] = {}
        self.attacks: dict[str, Seen] = {}
        self.result: dict[str, Any] | None = None

    def before(self) -> None:
        """Take the measure of the server before the change. Raises Refused where ``required`` and nothing can be measured."""
        self.earlier = {path: self.ask(path, {}) for path in self.wish.paths}
        self.attacks = {one: self.ask(probe.path, probe.headers) for one, probe in self.probes.items()}
        unreached = [f"{path} ({seen.error})" for path, seen in self.earlier.items() if not seen.reached]
        if unreached and self.wish.required:
            raise Refused(
                f"{self.base}: the required health check cannot reach {', '.join(unreached)}, so nothing was changed; "
                "set health.url, health.ca_path or health.from to what reaches the server",
                "health_unreachable",
            )

    def confirm(self) -> None:
        """Measure again and compare. Raises ApplyError where ``required`` and not well; else it is a warning."""
        paths = [self._path(path) for path in self.wish.paths]
        attacks = [self._attack(one, probe) for one, probe in self.probes.items()]
        bad = [f"{entry['path']} ({entry['before']} before, {entry['after']} now)" for entry in paths if entry["state"] == "failed"]
        bad += [f"the probe of {entry['id']} still gets through ({entry['after']})" for entry in attacks if entry["state"] == "passed"]
        open_ = [entry["path"] for entry in [*paths, *attacks] if entry["state"] == "unknown"]
        state = "failed" if bad else "unknown" if open_ else "healthy"
        self.result = {"state": state, "from": self.wish.source, "url": self.base, "required": self.wish.required, "paths": paths, "attack_probes": attacks}
        what = bad or [f"{path} could not be judged" for path in open_]
        if self.wish.required and what:
            raise ApplyError(f"{self.base}: the required health check failed: {', '.join(what)}", "health_failed", health=self.result)
        if bad:
            self.warn(f"{self.base}: the health check failed and is not required, so the change stays: {', '.join(bad)}")

    def _path(self, path: str) -> dict[str, Any]:
        before, expected = self.earlier.get(path, Seen(error="not asked")), self.expected(path)
        after = self.ask(path, {})
        state = judged(before, after, expected)
        if state in ("failed", "unknown"):
            self.sleep(PAUSE)
            after = self.ask(path, {})
            state = judged(before, after, expected)
        return {"path": path, "before": str(before), "after": str(after), "state": state}

    def _attack(self, one: str, probe: Probe) -> dict[str, Any]:
        after = self.ask(probe.path, probe.headers)
        stopped = probe.stopped(after)
        state = "unknown" if stopped is None else "stopped" if stopped else "passed"
        return {"id": one, "path": probe.path, "before": str(self.attacks.get(one, Seen(error="not asked"))), "after": str(after), "state": state}
