# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Invoke-WebRequest: a server of the lab asks itself or the feed, or fetches one of the fleet's downloads into a file (CMDLETS.md 8)."""

from __future__ import annotations

import http
import urllib.parse
from collections.abc import Iterator
from typing import Any

from lab import cmdlets_network
from lab.kernel import I64, Invocation, LabRefusal, Obj, Parameter, Terminating, cmdlet
from lab.providers import INVALID_OPERATION, UNLISTED, record

_WEB = "System.Net.WebException"
_TYPES = ("Microsoft.PowerShell.Commands.BasicHtmlWebResponseObject", "Microsoft.PowerShell.Commands.WebResponseObject", "System.Object")


def _failed(message: str, url: str, answered: bool) -> Terminating:
    identifier = "WebCmdletWebResponseException"
    return Terminating(record("Invoke-WebRequest", identifier, message, INVALID_OPERATION, _WEB, url if answered else "System.Net.HttpWebRequest"))


@cmdlet(
    "Invoke-WebRequest",
    {
        "Uri": Parameter("uri", position=0, mandatory=True), "UseBasicParsing": Parameter("switch"), "TimeoutSec": Parameter("int"),
        "Headers": Parameter("hashtable"), "Method": Parameter(values=("Default", "Get", "Head")), "OutFile": Parameter(), "Proxy": Parameter("uri"),
    },
    write=lambda bound: "OutFile" in bound,
    languages=UNLISTED,
)  # fmt: skip
def invoke_web_request(inv: Invocation) -> Iterator[Any]:
    """The answer of this server's own sites, or a download; 400 and above, and no answer, are terminating errors with .NET's sentence."""
    if not inv.get("UseBasicParsing"):
        raise LabRefusal("Invoke-WebRequest without -UseBasicParsing prompts since December 2025")
    if inv.get("OutFile"):
        _download(inv)
        return
    url = str(inv.get("Uri"))
    parts = urllib.parse.urlsplit(url)
    own = {inv.machine.name.lower(), inv.machine.fqdn.lower(), "localhost", "127.0.0.1"}
    if (parts.hostname or "").lower() not in own:
        beyond = cmdlets_network.reach(inv.machine, url, str(inv.get("Proxy")) if inv.get("Proxy") else None)
        if beyond is not None and (beyond.dns or beyond.tcp):
            yield _internet(beyond, url)
            return
        raise _failed(f"The remote name could not be resolved: '{parts.hostname}'", url, answered=False)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {"Host": parts.hostname or "", **{str(name): str(value) for name, value in (inv.get("Headers") or {}).items()}}
    answer = inv.machine.iis.request(inv.get("Method") or "GET", target, headers)
    if not hasattr(answer, "status"):
        raise _failed("The underlying connection was closed: The connection was closed unexpectedly.", url, answered=False)
    if answer.status >= 400:
        phrase = http.HTTPStatus(answer.status).phrase
        raise _failed(f"The remote server returned an error: ({answer.status}) {phrase}.", url, answered=True)
    text = answer.body.decode("utf-8", "replace")
    props = {
        "StatusCode": answer.status, "StatusDescription": http.HTTPStatus(answer.status).phrase, "Content": text,
        "Headers": dict(answer.headers), "RawContentLength": I64(len(answer.body)),
    }  # fmt: skip
    yield Obj(_TYPES, props, to_string=text)


def _internet(way: cmdlets_network.Way, url: str) -> Obj:
    """The feed as a server sees it that has a way to the internet."""
    if not way.tcp:
        raise _failed("Unable to connect to the remote server", url, answered=False)
    if not way.trusted:
        raise _failed("The underlying connection was closed: Could not establish trust relationship for the SSL/TLS secure channel.", url, answered=False)
    if way.status >= 400:
        raise _failed(f"The remote server returned an error: ({way.status}) {http.HTTPStatus(way.status).phrase}.", url, answered=True)
    text = '<?xml version="1.0" encoding="utf-8"?><EOCS version="1.0.4" />'
    props = {
        "StatusCode": way.status, "StatusDescription": http.HTTPStatus(way.status).phrase, "Content": text,
        "Headers": {"Content-Type": "application/xml; charset=utf-8"}, "RawContentLength": I64(len(text)),
    }  # fmt: skip
    return Obj(_TYPES, props, to_string=text)


def _download(inv: Invocation) -> None:
    """Fetch one of ``fleet.downloads`` (URL -> bytes) into a file."""
    fleet, url = inv.machine.fleet, str(inv.get("Uri"))
    reachable = fleet is not None and (fleet.reaches_feed(inv.machine) or inv.get("Proxy"))
    found = getattr(fleet, "downloads", {}).get(url) if reachable else None
    if found is None:
        host = urllib.parse.urlsplit(url).hostname
        message = "The remote server returned an error: (404) Not Found." if reachable else f"The remote name could not be resolved: '{host}'"
        raise _failed(message, url, answered=bool(reachable))
    inv.machine.files.write(str(inv.get("OutFile")), found)
