# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry of a simulated server: keys and typed values as data."""

from __future__ import annotations

import re
from typing import Any

from lab.sidecar import Sidecar

HIVES = {
    "hklm": "HKEY_LOCAL_MACHINE",
    "hkcu": "HKEY_CURRENT_USER",
    "hku": "HKEY_USERS",
    "hkcr": "HKEY_CLASSES_ROOT",
    "hkcc": "HKEY_CURRENT_CONFIG",
}
TYPES = ("REG_SZ", "REG_EXPAND_SZ", "REG_DWORD", "REG_QWORD", "REG_MULTI_SZ", "REG_BINARY")

_DRIVE = re.compile(r"^(HKLM|HKCU):\\?(.*)$", re.IGNORECASE | re.DOTALL)
_PROVIDER = re.compile(r"^(?:Microsoft\.PowerShell\.Core\\)?Registry::\\?(.*)$", re.IGNORECASE | re.DOTALL)


def is_registry(path: str) -> bool:
    """Whether a PowerShell path is on the registry provider."""
    return bool(_DRIVE.match(path) or _PROVIDER.match(path))


def canonical_key(path: str) -> str:
    r"""Return ``HKEY_LOCAL_MACHINE\…`` for ``HKLM:\…``, ``Registry::HKEY_LOCAL_MACHINE\…`` or the bare name."""
    drive, provider = _DRIVE.match(path), _PROVIDER.match(path)
    if drive:
        hive, rest = drive.groups()
    else:
        text = (provider.group(1) if provider else path).replace("/", "\\")
        hive, dummy, rest = text.partition("\\")
    parts = [part for part in rest.replace("/", "\\").split("\\") if part]
    return "\\".join([HIVES.get(hive.lower(), hive.upper()), *parts])


class Registry:
    """Keys below their hives; names are case-insensitive and keep their spelling. Paths as in ``canonical_key``."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar

    def _keys(self) -> dict[str, Any]:
        return self._sidecar.section("registry")

    def exists(self, path: str) -> bool:
        """Whether the key is there (as itself or as the parent of one)."""
        wanted = canonical_key(path).lower()
        return any(key == wanted or key.startswith(wanted + "\\") for key in self._keys())

    def name(self, path: str) -> str:
        """Return the key's name as it is spelt in the registry."""
        wanted = canonical_key(path)
        depth = wanted.count("\\") + 1
        for key, record in self._keys().items():
            if key == wanted.lower() or key.startswith(wanted.lower() + "\\"):
                spelt: str = record["name"]
                return "\\".join(spelt.split("\\")[:depth])
        return wanted

    def values(self, path: str) -> dict[str, tuple[str, Any]]:
        """Return name -> (type, value) of a key; the default value has the name ``""``."""
        record = self._keys().get(canonical_key(path).lower(), {"values": {}})
        return {name: (kind, value) for name, (kind, value) in record["values"].items()}

    def get(self, path: str, name: str, default: Any = None) -> Any:
        """Return one value's data."""
        for known, (dummy, value) in self.values(path).items():
            if known.lower() == name.lower():
                return value
        return default

    def subkeys(self, path: str) -> list[str]:
        """Return the names of the keys directly below."""
        prefix = canonical_key(path).lower() + "\\"
        depth = prefix.count("\\")
        names = {record["name"].split("\\")[depth] for key, record in self._keys().items() if key.startswith(prefix)}
        return sorted(names, key=str.lower)

    def create(self, path: str) -> None:
        """Create a key without values."""
        name = canonical_key(path)
        self._keys().setdefault(name.lower(), {"name": name, "values": {}})
        self._sidecar.save()

    def set(self, path: str, name: str, value: Any, kind: str = "REG_SZ") -> None:
        """Set a value; binary data is a hex string, MULTI_SZ a list of strings."""
        if kind not in TYPES:
            raise ValueError(f"{kind} is no registry type")
        self.create(path)
        values = self._keys()[canonical_key(path).lower()]["values"]
        for known in [known for known in values if known.lower() == name.lower()]:
            del values[known]
        values[name] = [kind, value]
        self._sidecar.save()

    def delete_value(self, path: str, name: str) -> None:
        """Delete a value when it is there."""
        values = self._keys().get(canonical_key(path).lower(), {"values": {}})["values"]
        for known in [known for known in values if known.lower() == name.lower()]:
            del values[known]
        self._sidecar.save()

    def delete(self, path: str) -> None:
        """Delete a key with everything below."""
        wanted = canonical_key(path).lower()
        for key in [key for key in self._keys() if key == wanted or key.startswith(wanted + "\\")]:
            del self._keys()[key]
        self._sidecar.save()
