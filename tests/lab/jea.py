# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""JEA endpoints as their files describe them: what a session sees is read from the .pssc and the .psrc, and nothing else is there.

As in Windows PowerShell a cmdlet with listed parameters becomes a function of the same name that has only these; ``^(`` and ``)$`` are put
around a pattern, and case is ignored.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

from . import psdata
from .kernel import Definition, LabRefusal, Parameter

FILES = pathlib.Path(__file__).resolve().parents[2] / "docs" / "jea"
CONSTRAINED = "lab.constrained"

#: What every session of SessionType RestrictedRemoteServer has, as far as the lab imitates it (CMDLETS.md 9).
DEFAULTS = ("get-command", "select-object", "measure-object", "get-help", "clear-host", "exit-pssession", "get-formatdata", "out-default")

_PSSC = {"SchemaVersion", "GUID", "Author", "Description", "SessionType", "LanguageMode", "ExecutionPolicy", "RunAsVirtualAccount", "RoleDefinitions"}
_PSRC = {
    "GUID", "Author", "Description", "ModulesToImport", "VisibleCmdlets", "VisibleAliases", "VisibleFunctions", "VisibleExternalCommands", "VisibleProviders",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Limit:
    """What a capability says of one parameter: its only texts, and patterns of which one must match."""

    values: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Capability:
    """What a session sees: cmdlet in lower case -> parameter in lower case -> limit; None for a cmdlet with all of its parameters."""

    name: str
    cmdlets: Mapping[str, Mapping[str, Limit] | None]
    providers: tuple[str, ...]

    def shown(self, definition: Definition) -> Definition | None:
        """Return the definition as a session sees it, None where it does not."""
        name = definition.name.lower()
        if name not in self.cmdlets:
            return definition if name in DEFAULTS else None
        listed = self.cmdlets[name]
        if listed is None:
            return definition
        unknown = set(listed) - {parameter.lower() for parameter in definition.parameters}
        if unknown:
            raise LabRefusal(f"{self.name} lists parameters that {definition.name} of the lab does not have: {', '.join(sorted(unknown))}")
        parameters = {
            parameter: _limited(known, listed[parameter.lower()]) for parameter, known in definition.parameters.items() if parameter.lower() in listed
        }
        return dataclasses.replace(definition, parameters=parameters, proxy=True)


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """A session configuration: its language mode, and for JEA what a session sees."""

    name: str
    language_mode: str
    capability: Capability | None = None


def _limited(parameter: Parameter, limit: Limit) -> Parameter:
    pattern = f"^({'|'.join(limit.patterns)})$" if limit.patterns else ""
    return dataclasses.replace(parameter, values=limit.values or parameter.values, pattern=pattern)


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(value) if isinstance(value, list) else (value,)


def _known(found: dict[str, Any], keys: set[str], where: pathlib.Path) -> dict[str, Any]:
    if set(found) - keys:
        raise LabRefusal(f"{where.name}: the lab does not know {', '.join(sorted(set(found) - keys))}")
    return found


def capability(path: pathlib.Path) -> Capability:
    """Read a role capability file."""
    found = _known(psdata.read(path.read_text("ascii")), _PSRC, path)
    for key in ("VisibleAliases", "VisibleFunctions", "VisibleExternalCommands"):
        if found.get(key):
            raise LabRefusal(f"{path.name}: the lab does not imitate {key}")
    cmdlets: dict[str, dict[str, Limit] | None] = {}
    for item in found.get("VisibleCmdlets", []):
        if isinstance(item, str):
            cmdlets[item.lower()] = None
            continue
        limits: dict[str, Limit] = {}
        for parameter in item["Parameters"]:
            if set(parameter) - {"Name", "ValidateSet", "ValidatePattern"}:
                raise LabRefusal(f"{path.name}: {item['Name']}: the lab does not know {sorted(parameter)}")
            values = _texts(parameter["ValidateSet"]) if "ValidateSet" in parameter else ()
            patterns = _texts(parameter["ValidatePattern"]) if "ValidatePattern" in parameter else ()
            limits[parameter["Name"].lower()] = Limit(values, patterns)
        cmdlets[item["Name"].lower()] = limits
    return Capability(path.stem, cmdlets, _texts(found.get("VisibleProviders", [])))


def endpoint(path: pathlib.Path) -> Endpoint:
    """Read a session configuration file with the one capability that it names, from a module beside it."""
    found = _known(psdata.read(path.read_text("ascii")), _PSSC, path)
    if found.get("SessionType") != "RestrictedRemoteServer" or found.get("LanguageMode") != "NoLanguage":
        raise LabRefusal(f"{path.name}: the lab imitates RestrictedRemoteServer with NoLanguage only")
    names = {name for definition in found["RoleDefinitions"].values() for name in _texts(definition["RoleCapabilities"])}
    if len(names) != 1:
        raise LabRefusal(f"{path.name}: the lab does not merge capabilities")
    (name,) = names
    # Windows looks into modules only, and only those with a manifest of their folder's name.
    modules = [folder for folder in path.parent.iterdir() if (folder / f"{folder.name}.psd1").is_file()]
    places = [folder / "RoleCapabilities" / f"{name}.psrc" for folder in modules]
    files = [place for place in places if place.is_file()]
    if len(files) != 1:
        raise LabRefusal(f"{path.name}: the role capability {name} is in {len(files)} modules")
    return Endpoint(path.stem, "NoLanguage", capability(files[0]))


def endpoints() -> dict[str, Endpoint]:
    """Return the endpoints that every server of the lab offers besides Microsoft.PowerShell, by name in lower case."""
    found = [endpoint(path) for path in sorted(FILES.glob("*.pssc"))]
    found.append(Endpoint(CONSTRAINED, "ConstrainedLanguage"))
    return {item.name.lower(): item for item in found}
