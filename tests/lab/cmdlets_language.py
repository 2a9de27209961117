# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cmdlets that belong to the engine: output, selection, sorting, variables, member access (CMDLETS.md 0, 2, 6, 9)."""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

from lab.kernel import ErrorInfo, Invocation, LabRefusal, Obj, Parameter, Terminating, cmdlet

FULL = ("FullLanguage", "ConstrainedLanguage")
#: The property names that the proxied Select-Object of a restricted endpoint accepts (WINRM.md C).
RESTRICTED_PROPERTIES = {
    "modulename", "namespace", "outputtype", "count", "helpuri", "name", "commandtype",
    "resolvedcommandname", "defaultparameterset", "cmdletbinding", "parameters",
}  # fmt: skip
#: Methods of live objects that only look.
HARMLESS = {"tostring", "gettype", "refresh", "equals", "gethashcode", "close", "dispose"}
#: Properties that ForEach-Object reads; any other member name with no arguments may be a method.
_METHOD = re.compile(r"^(replace|delete|moveto|copyto|create|encrypt|decrypt|set\w+|stop|start|kill|appendtext|open\w*)$", re.IGNORECASE)
_MISSING = object()


def member(value: Any, name: str, default: Any = None) -> Any:
    """Return a property by its name in any case: notes first, then properties, then keys and Length or Count."""
    wanted = name.lower()
    if isinstance(value, Obj):
        for members in (value.notes, value.props):
            for key, item in members.items():
                if key.lower() == wanted:
                    return item
        value = value.value
    if isinstance(value, dict):
        for key, item in value.items():
            if str(key).lower() == wanted:
                return item
    if (wanted in ("length", "count") and isinstance(value, (list, dict, bytes))) or (wanted == "length" and isinstance(value, str)):
        return len(value)
    return default


def _enumerated(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        yield from value
    elif isinstance(value, Obj) and isinstance(value.value, list) and not value.props and not value.notes:
        yield from value.value
    else:
        yield value


def _inputs(inv: Invocation) -> Iterator[Any]:
    if "InputObject" in inv.parameters:
        yield inv.get("InputObject")
    yield from inv.input


@cmdlet(
    "Write-Output",
    {"InputObject": Parameter("object", 0, mandatory=True, from_pipeline=True), "NoEnumerate": Parameter("switch")},
)
def write_output(inv: Invocation) -> Iterator[Any]:
    """Write the object, a list item by item."""
    for value in _inputs(inv):
        if inv.get("NoEnumerate"):
            yield value
        else:
            yield from _enumerated(value)


@cmdlet("Out-Null", {"InputObject": Parameter("object", from_pipeline=True)})
def out_null(inv: Invocation) -> Iterator[Any]:
    """Take everything, write nothing."""
    for dummy in _inputs(inv):
        pass
    return
    yield


@cmdlet(
    "Select-Object",
    {
        "Property": Parameter("string[]", 0),
        "ExpandProperty": Parameter(),
        "First": Parameter("int"),
        "InputObject": Parameter("object", from_pipeline=True),
    },
)
def select_object(inv: Invocation) -> Iterator[Any]:
    """Write the named properties as notes of a Selected object, or the value of one property."""
    names = inv.get("Property") or []
    expand = inv.get("ExpandProperty")
    first = inv.get("First")
    if inv.session is not None and inv.session.language_mode == "NoLanguage" and inv.session.endpoint == "host":
        for name in names:
            if name.lower() not in RESTRICTED_PROPERTIES:
                text = f"Cannot validate argument on parameter 'Property'. The argument \"{name}\" does not belong to the set of allowed properties."
                raise Terminating(
                    ErrorInfo(text, "ParameterArgumentValidationError,Select-Object", 5, "System.Management.Automation.ParameterBindingException")
                )
    for number, value in enumerate(_inputs(inv)):
        if first is not None and number >= first:
            return
        if expand is not None:
            found = member(value, expand, _MISSING)
            if found is _MISSING:
                text = f'Property "{expand}" cannot be found.'
                fqid = "ExpandPropertyNotFound,Microsoft.PowerShell.Commands.SelectObjectCommand"
                inv.error(ErrorInfo(text, fqid, 5, "System.Management.Automation.PSArgumentException"))
            else:
                yield from _enumerated(found)
        elif names:
            yield _selected(value, names)
        else:
            yield value


def _selected(value: Any, names: list[str]) -> Obj:
    if any(character in name for name in names for character in "*?["):
        raise LabRefusal("the lab does not select properties by wildcard")
    inner = value.types[0] if isinstance(value, Obj) and value.types else "System.Management.Automation.PSCustomObject"
    notes = {name: member(value, name) for name in names}
    return Obj(types=(f"Selected.{inner}", "System.Management.Automation.PSCustomObject", "System.Object"), notes=notes)


@cmdlet(
    "Sort-Object",
    {"Property": Parameter("string[]", 0), "Descending": Parameter("switch"), "InputObject": Parameter("object", from_pipeline=True)},
    languages=FULL,
)
def sort_object(inv: Invocation) -> Iterator[Any]:
    """Take everything to the end of the input, then write it in order."""
    names = inv.get("Property") or []
    values = list(_inputs(inv))

    def compare(one: Any, other: Any) -> int:
        for first, second in [(member(one, name), member(other, name)) for name in names] or [(one, other)]:
            answer = _compare(first, second)
            if answer:
                return answer
        return 0

    yield from sorted(values, key=functools.cmp_to_key(compare), reverse=bool(inv.get("Descending")))


def _compare(one: Any, other: Any) -> int:
    one, other = (item.value if isinstance(item, Obj) and item.value is not None else item for item in (one, other))
    if one is None or other is None:
        return (one is not None) - (other is not None)
    if isinstance(one, str) or isinstance(other, str):
        one, other = str(one).lower(), str(other).lower()
    try:
        return int(one > other) - int(one < other)
    except TypeError:
        raise LabRefusal(f"the lab does not compare {type(one).__name__} with {type(other).__name__}") from None


@cmdlet("Get-Variable", {"Name": Parameter("string[]", 0), "ValueOnly": Parameter("switch"), "Scope": Parameter()})
def get_variable(inv: Invocation) -> Iterator[Any]:
    """Write a variable of the runspace, or its value alone."""
    for name in inv.get("Name") or []:
        if name.lower() not in inv.session.variables:
            text = f"Cannot find a variable with the name '{name}'."
            fqid = "VariableNotFound,Microsoft.PowerShell.Commands.GetVariableCommand"
            inv.error(ErrorInfo(text, fqid, 13, "System.Management.Automation.ItemNotFoundException", name))
            continue
        value = inv.session.variables[name.lower()]
        if inv.get("ValueOnly"):
            yield from _enumerated(value)
        else:
            props = {"Name": name, "Description": "", "Value": value, "Visibility": "Public", "Module": None, "ModuleName": "", "Options": "None"}
            yield Obj(types=("System.Management.Automation.PSVariable", "System.Object"), props=props, to_string="System.Management.Automation.PSVariable")


@cmdlet(
    "Set-Variable",
    {"Name": Parameter("string[]", 0, mandatory=True), "Value": Parameter("object", 1), "Scope": Parameter(), "Force": Parameter("switch")},
)
def set_variable(inv: Invocation) -> Iterator[Any]:
    """Set a variable of the runspace; it is there in later pipelines."""
    for name in inv.get("Name"):
        inv.session.variables[name.lower()] = inv.get("Value")
    return
    yield


@cmdlet("Import-Module", {"Name": Parameter("string[]", 0, mandatory=True), "DisableNameChecking": Parameter("switch")}, languages=FULL)
def import_module(inv: Invocation) -> Iterator[Any]:
    """Accept the modules whose cmdlets the lab has; others are not there."""
    known = {"webadministration", "microsoft.powershell.management", "microsoft.powershell.utility", "microsoft.powershell.security", "cimcmdlets"}
    for name in inv.get("Name"):
        if name.lower() not in known:
            text = f"The specified module '{name}' was not loaded because no valid module file was found in any module directory."
            fqid = "Modules_ModuleNotFound,Microsoft.PowerShell.Commands.ImportModuleCommand"
            inv.error(ErrorInfo(text, fqid, 22, "System.IO.FileNotFoundException", name))
    return
    yield


def _calls_method(bound: dict[str, Any]) -> bool:
    """Tell whether ForEach-Object would call something that changes the object."""
    name = str(bound.get("MemberName", ""))
    return name.lower() not in HARMLESS and ("ArgumentList" in bound or bool(_METHOD.match(name)))


@cmdlet(
    "ForEach-Object",
    {"MemberName": Parameter(position=0, mandatory=True), "ArgumentList": Parameter("object"), "InputObject": Parameter("object", from_pipeline=True)},
    write=_calls_method,
    languages=FULL,
)
def foreach_object(inv: Invocation) -> Iterator[Any]:
    """Read a property of every input object, or call a method of the live object behind it."""
    name = inv.get("MemberName")
    arguments = inv.get("ArgumentList")
    for value in _inputs(inv):
        if "ArgumentList" not in inv.parameters:
            found = member(value, name, _MISSING)
            if found is not _MISSING:
                yield from _enumerated(found)
                continue
        method = _method(value, name)
        if method is None:
            raise LabRefusal(f"{value!r:.120} has no member {name} that the lab knows")
        if inv.session is not None and inv.session.language_mode != "FullLanguage":
            text = "Cannot invoke method. Method invocation is supported only on core types in this language mode."
            fqid = "MethodInvocationNotSupportedInConstrainedLanguage,Microsoft.PowerShell.Commands.ForEachObjectCommand"
            inv.error(ErrorInfo(text, fqid, 7, "System.Management.Automation.PSInvalidOperationException"))
            continue
        yield from _call(inv, method, name, list(_enumerated(arguments)) if "ArgumentList" in inv.parameters else [])


def _method(value: Any, name: str) -> Callable[..., Any] | None:
    methods: dict[str, Callable[..., Any]] = getattr(getattr(value, "live", None), "lab_methods", {})
    for known, method in methods.items():
        if known.lower() == name.lower():
            return method
    return None


def _call(inv: Invocation, method: Callable[..., Any], name: str, arguments: list[Any]) -> Iterator[Any]:
    """Call a method; what it throws becomes the non-terminating MethodInvocationError with the inner message."""
    fqid = "MethodInvocationError,Microsoft.PowerShell.Commands.ForEachObjectCommand"
    outer = "System.Management.Automation.MethodInvocationException"
    try:
        answer = method(*arguments)
    except Terminating as error:
        text = f'Exception calling "{name}" with "{len(arguments)}" argument(s): "{error.info.message}"'
        inv.error(ErrorInfo(text, fqid, 7, outer, error.info.target))
        return
    if answer is not None:
        yield from _enumerated(answer)


@cmdlet(
    "Where-Object",
    {
        "Property": Parameter(position=0, mandatory=True),
        "Value": Parameter("object", 1),
        **{name: Parameter("switch") for name in ("EQ", "NE", "GT", "GE", "LT", "LE", "Like", "NotLike", "Match", "NotMatch", "In", "Contains")},
        "InputObject": Parameter("object", from_pipeline=True),
    },
    languages=FULL,
)
def where_object(inv: Invocation) -> Iterator[Any]:
    """Let the objects through whose property compares so with the value; without an operator, those where it is true."""
    operators = [name for name in inv.parameters if name not in ("Property", "Value", "InputObject")]
    if len(operators) > 1:
        text = "Parameter set cannot be resolved using the specified named parameters."
        raise Terminating(ErrorInfo(text, "AmbiguousParameterSet,Microsoft.PowerShell.Commands.WhereObjectCommand", 5))
    operator = operators[0] if operators else ("EQ" if "Value" in inv.parameters else "")
    for value in _inputs(inv):
        found = member(value, inv.get("Property"))
        if _holds(operator, found, inv.get("Value")):
            yield value


def _holds(operator: str, found: Any, wanted: Any) -> bool:
    if not operator:
        return bool(found)
    if operator in ("Like", "NotLike"):
        return fnmatch.fnmatchcase(str(found or "").lower(), str(wanted).lower()) == (operator == "Like")
    if operator in ("Match", "NotMatch"):
        return bool(re.search(str(wanted), str(found or ""), re.IGNORECASE)) == (operator == "Match")
    if operator in ("In", "Contains"):
        items, item = (wanted, found) if operator == "In" else (found, wanted)
        return any(_compare(entry, item) == 0 for entry in _enumerated(items))
    order = _compare(found, wanted)
    return {"EQ": order == 0, "NE": order != 0, "GT": order > 0, "GE": order >= 0, "LT": order < 0, "LE": order <= 0}[operator]
