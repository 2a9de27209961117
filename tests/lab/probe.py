# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at a running lab from outside, as a demonstration or a test does: requests to its sites, fingerprints of its files."""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import pathlib
from urllib.parse import urlsplit

#: A request in the form of CVE-2022-41040, which M1 aborts.
ATTACK = "/autodiscover/autodiscover.json?@evil.example/PowerShell/&Email=autodiscover/autodiscover.json%3f@evil.example"


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a site answered; ``status`` None: the connection was aborted without an answer. Header names are in lower case."""

    status: int | None
    headers: dict[str, str]
    body: bytes

    @property
    def aborted(self) -> bool:
        """Whether there was no answer at all."""
        return self.status is None

    @property
    def mitigated(self) -> bool:
        """Whether the answer carries the policy that M2 adds."""
        return "script-src-attr 'none'" in self.headers.get("content-security-policy", "")


def get(url: str, path: str = "/", timeout: float = 10.0) -> Answer:
    """Send one GET for a path of ``lab_http_url``; raises OSError when nothing listens there."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    connection.connect()
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    except (http.client.RemoteDisconnected, ConnectionError):
        return Answer(None, {}, b"")
    finally:
        connection.close()


def fingerprints(files: str | pathlib.Path, pattern: str = "*.config") -> dict[str, str]:
    """Return path below ``lab_files`` -> SHA-256 of the configuration files of a server."""
    root = pathlib.Path(files)
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(root.rglob(pattern)) if path.is_file()}
