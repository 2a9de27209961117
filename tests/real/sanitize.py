# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes out of a recording what names an organisation: names, addresses, identifiers, secrets. What rules and builds say stays.

The same thing is replaced by the same thing everywhere, so that a recording still fits together. What a rule needs is kept: rule names, patterns,
paths of a default installation, Exchange's builds. Look through the files before you hand them on; only you know what else is a name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

SECRET = "removed"
_SECRETS = (
    # XML attributes and keys that hold secrets, in configuration files and in text.
    re.compile(r"""(?i)\b((?:user)?password|validationKey|decryptionKey|sessionKey|passphrase|clientSecret|apiKey)(\s*=\s*)(["'])(?!\3)[^"']*\3"""),
    re.compile(r"(?is)(<CipherValue>)[^<]*(</CipherValue>)"),
    re.compile(r"""(?i)\b((?:Pwd|Password|User Id|Uid))(=)[^;"'<>]+"""),
)
_SID = re.compile(r"\bS-1-5-21(?:-\d+){3,4}\b")
_GUID = re.compile(r"(?i)\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_IPV4 = re.compile(r"(?<![\d.])(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3}(?![\d.])")
_IPV6 = re.compile(r"(?i)(?<![0-9a-f:.\-])(?:[0-9a-f]{1,4}:){3,7}[0-9a-f]{1,4}(?![0-9a-f:])")
_MAIL = re.compile(r"(?i)\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b")
_HASH = re.compile(r"(?i)\b[0-9a-f]{40}\b")
#: Addresses that name nobody.
_KEPT = {"127.0.0.1", "0.0.0.0", "255.255.255.255"}


class Sanitizer:
    """Replaces what was named and what looks like a name. ``names``: real name -> replacement, such as ``MAIL01`` -> ``EX1``."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.seen: dict[tuple[str, str], str] = {}
        ordered = sorted((name for name in names if len(name) > 1), key=lambda name: (-len(name), name))
        self.names = {name.lower(): names[name] for name in ordered}
        alternatives = "|".join(re.escape(name) for name in ordered)
        self._names = re.compile(rf"(?i)(?<![0-9A-Za-z])(?:{alternatives})(?![0-9A-Za-z])") if ordered else None

    def text(self, text: str) -> str:
        """Return a text without what names somebody."""
        text = _SECRETS[0].sub(lambda found: f"{found[1]}{found[2]}{found[3]}{SECRET}{found[3]}", text)
        text = _SECRETS[1].sub(lambda found: f"{found[1]}{SECRET}{found[2]}", text)
        text = _SECRETS[2].sub(lambda found: f"{found[1]}{found[2]}{SECRET}", text)
        if self._names is not None:
            text = self._names.sub(lambda found: self.names[found[0].lower()], text)
        text = _MAIL.sub(self._known("mail", lambda number: f"user{number}@example.com", keep=r"(?i).*@example\.com"), text)
        text = _SID.sub(self._known("sid", lambda number: f"S-1-5-21-1-2-3-{1000 + number}"), text)
        text = _GUID.sub(self._known("guid", lambda number: f"00000000-0000-4000-8000-{number:012x}"), text)
        text = _HASH.sub(self._known("hash", lambda number: f"{number:040X}"), text)
        text = _IPV4.sub(self._known("ip", lambda number: f"192.0.2.{number % 254 + 1}"), text)
        return _IPV6.sub(self._known("ip6", lambda number: f"2001:db8:0:0:0:0:0:{number:x}"), text)

    def data(self, data: bytes) -> bytes:
        """Return a file's bytes likewise; encoding, byte order mark and line ends stay."""
        for mark, encoding in ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
            if data.startswith(mark):
                return mark + self.text(data[len(mark) :].decode(encoding)).encode(encoding)
        return self.text(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")

    def value(self, value: Any) -> Any:
        """Return a result of a module likewise, keys included."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.value(item) for key, item in value.items()}
        if isinstance(value, Iterable):
            return [self.value(item) for item in value]
        return value

    def _known(self, kind: str, made: Callable[[int], str], keep: str = r"(?!)") -> Callable[[re.Match[str]], str]:
        def replaced(found: re.Match[str]) -> str:
            real = found[0].lower()
            if real in _KEPT or re.fullmatch(keep, real) or self._is_version(found) or real in self.seen.values():
                return found[0]
            numbers = [key for key in self.seen if key[0] == kind]
            return self.seen.setdefault((kind, real), made(len(numbers) + 1).lower() if kind != "hash" else made(len(numbers) + 1))

        return replaced

    @staticmethod
    def _is_version(found: re.Match[str]) -> bool:
        """Tell a build of Exchange, or another dotted version of four numbers, from an address."""
        before = found.string[max(0, found.start() - 40) : found.start()]
        return bool(re.match(r"(?:15\.[012]|[0-8])\.", found[0]) or re.search(r"(?i)version\s*[=:(]?\s*[\"']?v?$", before))


def names_of(organization: Mapping[str, Any], server: Mapping[str, Any], label: str) -> dict[str, str]:
    """Return what names an organisation and its servers, with replacements; ``label`` is what the server at hand shall be called."""
    known: dict[str, str] = {}
    servers = [one for one in organization.get("servers") or [] if one.get("name")]
    for number, one in enumerate(sorted(servers, key=lambda one: str(one["name"]).lower()), 1):
        called = label if str(one["name"]).lower() == str(server.get("name") or "").lower() else f"SERVER{number}"
        known[str(one["name"])] = called
        for field in ("fqdn", "domain_controller"):
            name = str(one.get(field) or "")
            if "." in name:
                known.setdefault(name, f"{called if field == 'fqdn' else f'DC{number}'}.example.com".lower())
                known.setdefault(name.partition(".")[2], "example.com")
                known.setdefault(name.partition(".")[0], called if field == "fqdn" else f"DC{number}")
        site = str(one.get("site") or "")
        if site:
            known.setdefault(site.rpartition("/")[2], f"Site{number}")
    if organization.get("name"):
        known.setdefault(str(organization["name"]), "First Organization")
    if server.get("name"):
        known.setdefault(str(server["name"]), label)
    if "." in str(server.get("fqdn") or ""):
        known.setdefault(str(server["fqdn"]), f"{label.lower()}.example.com")
        known.setdefault(str(server["fqdn"]).partition(".")[2], "example.com")
    domains = [name for name, called in known.items() if called == "example.com"]
    known |= {domain.partition(".")[0]: "EXAMPLE" for domain in domains if len(domain.partition(".")[0]) > 2 and domain.partition(".")[0] not in known}
    return known
