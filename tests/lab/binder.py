# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parameter binding as Windows PowerShell 5.1 does it for structured commands (CMDLETS.md 0 row 9, 0.2).

Every failure to bind is statement-terminating.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from typing import Any

from lab.kernel import COMMON, Definition, ErrorInfo, LabRefusal, Obj, Parameter, Terminating

BINDING = "System.Management.Automation.ParameterBindingException"
INVALID_ARGUMENT = 5
#: Common parameters of real cmdlets that the lab does not imitate; they take part in prefix matching.
UNIMITATED = ("Debug", "ErrorVariable", "InformationAction", "InformationVariable", "OutVariable", "OutBuffer", "PipelineVariable", "WarningVariable")

_NET_TYPES = {
    "string": "System.String",
    "string[]": "System.String[]",
    "bool": "System.Boolean",
    "switch": "System.Management.Automation.SwitchParameter",
    "int": "System.Int32",
    "bytes": "System.Byte[]",
    "hashtable": "System.Collections.Hashtable",
    "uri": "System.Uri",
    "datetime": "System.DateTime",
    "mvp": "Microsoft.Exchange.Data.MultiValuedProperty`1[System.String]",
}


def class_of(name: str, endpoint: str = "host") -> str:
    """Return what follows the comma of an error id: the cmdlet's class, at the Exchange endpoint its name."""
    return name if endpoint == "exchange" else f"Microsoft.PowerShell.Commands.{name.replace('-', '')}Command"


class Binder:
    """Binds the arguments of one command to its definition."""

    def __init__(self, definition: Definition, endpoint: str = "host") -> None:
        self._definition = definition
        self._endpoint = endpoint
        self._parameters: dict[str, Parameter] = {**COMMON, **definition.parameters}

    def bind(self, arguments: Sequence[tuple[str | None, Any]], piped: bool = False) -> dict[str, Any]:
        """Return canonical name -> converted value; ``piped`` says that the command has pipeline input. Raises Terminating."""
        bound: dict[str, Any] = {}
        loose: list[Any] = []
        for name, value in arguments:
            if name is None or name == "":
                loose.append(value)
                continue
            canonical = self._find(name)
            if canonical in bound:
                text = f"Cannot bind parameter because parameter '{canonical}' is specified more than once."
                raise self._error("ParameterAlreadyBound", text, canonical)
            bound[canonical] = self._convert(canonical, value)
            self._match(canonical, bound[canonical])
        self._positional(bound, loose)
        for name, parameter in self._parameters.items():
            if parameter.mandatory and name not in bound and not (parameter.from_pipeline and piped):
                text = f"Cannot process command because of one or more missing mandatory parameters: {name}."
                raise self._error("MissingMandatoryParameter", text, name)
        return bound

    def _find(self, name: str) -> str:
        wanted = name.lstrip("-").rstrip(":").lower()
        for known in self._parameters:
            if known.lower() == wanted:
                return known
        matches = [known for known in (*self._parameters, *UNIMITATED) if known.lower().startswith(wanted)]
        if len(matches) > 1:
            listed = " ".join("-" + match for match in matches)
            text = f"Parameter cannot be processed because the parameter name '{name}' is ambiguous. Possible matches include: {listed}."
            raise self._error("AmbiguousParameter", text, name)
        if not matches:
            raise self._error("NamedParameterNotFound", f"A parameter cannot be found that matches parameter name '{name}'.", name)
        if matches[0] in UNIMITATED:
            raise LabRefusal(f"the lab does not imitate the common parameter -{matches[0]} ({self._definition.name})")
        return matches[0]

    def _positional(self, bound: dict[str, Any], loose: list[Any]) -> None:
        places = sorted((parameter.position, name) for name, parameter in self._parameters.items() if parameter.position is not None and name not in bound)
        for (dummy, name), value in zip(places, loose, strict=False):
            bound[name] = self._convert(name, value)
            self._match(name, bound[name])
        if len(loose) > len(places):
            text = f"A positional parameter cannot be found that accepts argument '{_shown(loose[len(places)])}'."
            raise self._error("PositionalParameterNotFound", text, "")

    def _convert(self, name: str, value: Any) -> Any:
        parameter = self._parameters[name]
        kind = parameter.kind
        if kind == "object":
            return value
        value = _unwrapped(value)
        if value is None:
            return self._null(name, parameter)
        if kind in ("bool", "switch"):
            if isinstance(value, list) and len(value) == 1:
                value = value[0]
            if isinstance(value, (bool, int, float)):
                return bool(value)
            raise self._cannot(name, kind, value, "Boolean parameters accept only Boolean values and numbers, such as $True, $False, 1 or 0 instead.")
        if kind == "string[]":
            items = value if isinstance(value, list) else [value]
            return [self._choice(name, parameter, self._text(name, kind, item)) for item in items]
        if kind == "mvp":
            if isinstance(value, dict):
                return value
            return [self._text(name, kind, item) for item in (value if isinstance(value, list) else [value])]
        if kind == "bytes":
            if isinstance(value, bytes):
                return value
            if isinstance(value, list) and all(isinstance(item, int) and 0 <= item < 256 for item in value):
                return bytes(value)
            raise self._cannot(name, kind, value, "The value is not an array of bytes.")
        if kind == "hashtable":
            if isinstance(value, dict):
                return value
            raise self._cannot(name, kind, value, "Only a dictionary can be converted.")
        if isinstance(value, (list, bytes)):
            raise self._cannot(name, kind, value, "A collection cannot be converted to a single value.")
        if kind == "int":
            return self._number(name, value)
        if kind == "datetime":
            return self._date(name, value)
        if kind in ("string", "uri"):
            return self._choice(name, parameter, self._text(name, kind, value))
        raise LabRefusal(f"{self._definition.name} -{name}: the lab has no parameter kind {kind!r}")

    def _null(self, name: str, parameter: Parameter) -> Any:
        """Nil: a switch is present, a bool refuses, a mandatory parameter refuses, a string becomes empty, an int 0."""
        if parameter.kind == "switch":
            return True
        if parameter.kind == "bool" or parameter.mandatory:
            text = f"Cannot bind argument to parameter '{name}' because it is null."
            raise self._error("ParameterArgumentValidationErrorNullNotAllowed", text, name)
        if parameter.values:
            raise self._cannot(name, parameter.kind, None, "The value is null.")
        return {"string": "", "int": 0}.get(parameter.kind)

    def _text(self, name: str, kind: str, value: Any) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, bool):
            return "True" if value else "False"
        if isinstance(value, (int, float)):
            return str(value)
        if isinstance(value, Obj) and value.to_string is not None:
            return value.to_string
        if value is None:
            return ""
        raise LabRefusal(f"{self._definition.name} -{name}: the lab does not convert a {type(value).__name__} to {kind}")

    def _choice(self, name: str, parameter: Parameter, text: str) -> str:
        if not parameter.values:
            return text
        for value in parameter.values:
            if value.lower() == text.lower():
                return value
        allowed = ",".join(parameter.values)
        if name in COMMON:
            raise self._cannot(name, parameter.kind, text, f'Specify one of the following enumerator names and try again: "{allowed}"')
        message = (
            f'Cannot validate argument on parameter \'{name}\'. The argument "{text}" does not belong to the set "{allowed}" specified by the '
            "ValidateSet attribute. Supply an argument that is in the set and then try the command again."
        )
        raise self._error("ParameterArgumentValidationError", message, name, 5)

    def _match(self, name: str, value: Any) -> None:
        """Check every text against the pattern, as ValidatePattern does."""
        pattern = self._parameters[name].pattern
        for item in value if isinstance(value, list) else [value]:
            text = "" if item is None else self._text(name, "string", item) if pattern else ""
            if pattern and re.search(pattern, text, re.IGNORECASE) is None:
                message = (
                    f"Cannot validate argument on parameter '{name}'. The argument \"{text}\" does not match the \"{pattern}\" pattern. "
                    f"Supply an argument that matches \"{pattern}\" and try the command again."
                )
                raise self._error("ParameterArgumentValidationError", message, name)

    def _number(self, name: str, value: Any) -> int:
        if isinstance(value, bool):
            return int(value)
        if isinstance(value, int):
            return value
        if isinstance(value, float):
            return round(value)
        if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d+\s*", value):
            return int(value)
        raise self._error(
            "CannotConvertArgumentNoMessage",
            f'Cannot bind parameter \'{name}\'. Cannot convert value "{_shown(value)}" to type "System.Int32". '
            'Error: "Input string was not in a correct format."',
            name,
        )

    def _date(self, name: str, value: Any) -> datetime.datetime:
        if isinstance(value, datetime.datetime):
            return value
        if isinstance(value, str):
            try:
                return datetime.datetime.fromisoformat(value.replace("Z", "+00:00"))
            except ValueError:
                pass
        raise self._error(
            "CannotConvertArgumentNoMessage",
            f'Cannot bind parameter \'{name}\'. Cannot convert value "{_shown(value)}" to type "System.DateTime". '
            'Error: "String was not recognized as a valid DateTime."',
            name,
        )

    def _cannot(self, name: str, kind: str, value: Any, why: str) -> Terminating:
        text = f'Cannot process argument transformation on parameter \'{name}\'. Cannot convert value "{_shown(value)}" to type "{_NET_TYPES[kind]}". {why}'
        return self._error("CannotConvertArgument", text, name)

    def _error(self, identifier: str, message: str, target: str, category: int = INVALID_ARGUMENT) -> Terminating:
        name = self._definition.name
        source = name if self._definition.proxy else class_of(name, self._endpoint)
        return Terminating(ErrorInfo(message, f"{identifier},{source}", category, BINDING, target, name))


def _unwrapped(value: Any) -> Any:
    """Return what a wrapped primitive, list or dict holds; live objects stay what they are."""
    if isinstance(value, Obj) and value.live is None and value.value is not None and not value.props:
        return value.value
    return list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "System.Object[]"
    if isinstance(value, dict):
        return "System.Collections.Hashtable"
    if isinstance(value, bytes):
        return "System.Byte[]"
    if isinstance(value, Obj):
        return value.to_string or (value.types[0] if value.types else "System.Object")
    return "" if value is None else str(value)
