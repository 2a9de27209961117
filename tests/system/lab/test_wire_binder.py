# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parameter binding (CMDLETS.md 0 row 9, 0.2), and the engine's own cmdlets over the wire."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
import wire_clients as clients
import wire_fleet

from lab.binder import Binder
from lab.kernel import REGISTRY, LabRefusal, Obj, Parameter, Terminating

pytestmark = pytest.mark.usefixtures("wire_cmdlets")


def bind(*arguments: tuple[str | None, Any], name: str = "get-probe", endpoint: str = "host", piped: bool = False) -> dict[str, Any]:
    return Binder(REGISTRY[(endpoint, name)], endpoint).bind(arguments, piped)


def fails(*arguments: tuple[str | None, Any], name: str = "get-probe", endpoint: str = "host") -> str:
    with pytest.raises(Terminating) as caught:
        bind(*arguments, name=name, endpoint=endpoint)
    info = caught.value.info
    assert info.exception == "System.Management.Automation.ParameterBindingException" and info.category == 5
    return info.fqid


@pytest.mark.parametrize(
    ("given", "bound"),
    [
        ((("NAME", "x"),), {"Name": "x"}),
        ((("-name:", "x"),), {"Name": "x"}),
        ((("Nam", "x"), ("Names", "y")), None),
        ((("Cou", "7"),), {"Count": 7}),
        (((None, "a"), (None, ["b", 3])), {"Name": "a", "Names": ["b", "3"]}),
        ((("Names", ["b"]), (None, "a")), {"Names": ["b"], "Name": "a"}),
        ((("Names", "one"),), {"Names": ["one"]}),
        ((("Names", None),), {"Names": None}),
        ((("Force", None),), {"Force": True}),
        ((("Force", False), ("Enabled", 1)), {"Force": False, "Enabled": True}),
        ((("Enabled", [True]),), {"Enabled": True}),
        ((("Count", None), ("Name", None)), {"Count": 0, "Name": ""}),
        ((("Count", 2.6),), {"Count": 3}),
        ((("Name", True),), {"Name": "True"}),
        ((("Name", 5),), {"Name": "5"}),
        ((("Mode", "fAST"),), {"Mode": "Fast"}),
        ((("ErrorAction", "stop"),), {"ErrorAction": "Stop"}),
        ((("Data", b"\x00\xff"),), {"Data": b"\x00\xff"}),
        ((("Data", [0, 255]),), {"Data": b"\x00\xff"}),
        ((("When", "2026-05-01T10:00:00Z"),), {"When": datetime.datetime(2026, 5, 1, 10, tzinfo=datetime.timezone.utc)}),
        ((("Table", {"A": [1]}),), {"Table": {"A": [1]}}),
        ((("Value", [1, None]),), {"Value": [1, None]}),
        ((("Name", Obj(types=("System.Uri",), value="http://x/")),), {"Name": "http://x/"}),
    ],
)
def test_values_that_bind(given: tuple[Any, ...], bound: dict[str, Any] | None) -> None:
    if bound is None:
        assert fails(*given).startswith("AmbiguousParameter,")
    else:
        assert bind(*given) == bound


@pytest.mark.parametrize(
    ("given", "fqid"),
    [
        ((("Bogus", 1),), "NamedParameterNotFound"),
        ((("N", "x"),), "AmbiguousParameter"),
        ((("E", "x"),), "AmbiguousParameter"),
        ((("Name", "x"), ("name", "y")), "ParameterAlreadyBound"),
        (((None, 1), (None, 2), (None, 3)), "PositionalParameterNotFound"),
        ((("Enabled", None),), "ParameterArgumentValidationErrorNullNotAllowed"),
        ((("Enabled", "true"),), "CannotConvertArgument"),
        ((("Force", "true"),), "CannotConvertArgument"),
        ((("Enabled", [True, True]),), "CannotConvertArgument"),
        ((("Name", ["x"]),), "CannotConvertArgument"),
        ((("Count", [1]),), "CannotConvertArgument"),
        ((("Count", "many"),), "CannotConvertArgumentNoMessage"),
        ((("Mode", "Medium"),), "ParameterArgumentValidationError"),
        ((("ErrorAction", "Explode"),), "CannotConvertArgument"),
        ((("Table", "x"),), "CannotConvertArgument"),
        ((("Data", "x"),), "CannotConvertArgument"),
        ((("When", "soon"),), "CannotConvertArgumentNoMessage"),
    ],
)
def test_values_that_do_not_bind(given: tuple[Any, ...], fqid: str) -> None:
    assert fails(*given) == f"{fqid},Microsoft.PowerShell.Commands.GetProbeCommand"


def test_mandatory_parameters_and_the_mvp() -> None:
    assert fails(name="set-probe").startswith("MissingMandatoryParameter")
    assert fails(("Name", None), name="set-probe").startswith("ParameterArgumentValidationErrorNullNotAllowed")
    assert bind(("Name", "x"), ("Values", "M1"), name="set-probe")["Values"] == ["M1"]
    assert bind(("Name", "x"), ("Values", None), name="set-probe")["Values"] is None
    assert bind(("Name", "x"), ("Values", []), name="set-probe")["Values"] == []
    assert bind(("Name", "x"), ("Values", {"Add": ["M1"]}), name="set-probe")["Values"] == {"Add": ["M1"]}
    assert fails(("Bogus", 1), name="set-probe", endpoint="exchange") == "NamedParameterNotFound,Set-Probe"


def test_what_the_lab_cannot_say_is_a_refusal() -> None:
    with pytest.raises(LabRefusal):
        bind(("OutVariable", "x"))
    with pytest.raises(LabRefusal):
        bind(("Name", {"a": 1}))
    odd = Binder(REGISTRY[("host", "get-probe")])
    odd._parameters["Odd"] = Parameter("timespan")
    with pytest.raises(LabRefusal):
        odd.bind([("Odd", "x")])


# The engine's own cmdlets

PROBE = ("Get-Probe", {"Name": "x", "Count": 7, "Names": ["a", "b"]})


@pytest.mark.parametrize(
    ("batch", "output"),
    [
        ([("Write-Output", {"InputObject": "~b:3:nonce"})], ["~b:3:nonce"]),
        ([("Write-Output", {"InputObject": ["a", "b"]})], ["a", "b"]),
        ([PROBE, ("Out-Null", {})], []),
        ([PROBE, ("Select-Object", {"ExpandProperty": "names"})], ["a", "b"]),
        ([PROBE, ("ForEach-Object", {"MemberName": "COUNT"})], [7]),
        ([PROBE, ("ForEach-Object", [(None, "Note")])], ["n"]),
        ([PROBE, ("Where-Object", {"Property": "Count", "EQ": True, "Value": 7}), ("ForEach-Object", {"MemberName": "Name"})], ["x"]),
        ([PROBE, ("Where-Object", {"Property": "Name", "NE": True, "Value": "X"})], []),
        ([PROBE, ("Where-Object", {"Property": "Name", "Like": True, "Value": "X*"}), ("ForEach-Object", {"MemberName": "Big"})], [5]),
        ([("Get-Bulk", {"Size": 1, "Pieces": 3}), ("Sort-Object", {"Descending": True})], ["2", "1", "0"]),
        ([("Get-Bulk", {"Size": 1, "Pieces": 3}), ("Get-Probe", {}), ("Select-Object", {"First": 2})], ["0", "1"]),
    ],
)
def test_engine_cmdlets(wire_lab: Any, batch: list[Any], output: list[Any]) -> None:
    fleet = wire_lab()
    with clients.pool(fleet) as opened:
        outcome = clients.run(opened, batch)
    assert (outcome.state, outcome.output, fleet.refusals) == ("Completed", output, [])


def test_select_object_makes_notes(wire_lab: Any) -> None:
    with clients.pool(wire_lab()) as opened:
        outcome = clients.run(opened, [PROBE, ("Select-Object", {"Property": ["Name", "Missing"]})])
        missing = clients.run(opened, [PROBE, ("Select-Object", {"ExpandProperty": "Missing"})])
    selected = outcome.output[0]
    assert selected.extended_properties == {"Name": "x", "Missing": None} and selected.adapted_properties == {}
    assert selected.types[0] == "Selected.Lab.Probe"
    assert (missing.state, missing.errors[0].fq_error) == ("Completed", "ExpandPropertyNotFound,Microsoft.PowerShell.Commands.SelectObjectCommand")


def test_variables_live_in_the_runspace(wire_lab: Any) -> None:
    fleet = wire_lab()
    with clients.pool(fleet) as opened, clients.pool(fleet) as other:
        clients.run(opened, ("Set-Variable", {"Name": "LASTEXITCODE", "Value": 3010}))
        assert clients.run(opened, ("Get-Variable", {"Name": "lastexitcode", "ValueOnly": True})).output == [3010]
        assert clients.run(opened, ("Get-Variable", {"Name": "LASTEXITCODE"})).output[0].adapted_properties["Value"] == 3010
        gone = clients.run(other, ("Get-Variable", {"Name": "LASTEXITCODE"}))
    assert gone.errors[0].fq_error == "VariableNotFound,Microsoft.PowerShell.Commands.GetVariableCommand"


def replace(target: str) -> list[Any]:
    return [("Get-Handle", {"Name": "h"}), ("ForEach-Object", {"MemberName": "Replace", "ArgumentList": [target, "backup"]})]


def test_methods_of_live_objects(wire_lab: Any) -> None:
    fleet = wire_lab()
    with clients.pool(fleet) as opened:
        outcome = clients.run(opened, replace("dest"))
        assert (outcome.state, str(outcome.output[0])) == ("Completed", "dest")
        assert wire_fleet.HANDLES["h"].replaced == [("dest", "backup")]
        locked = clients.run(opened, replace("locked"))
        assert locked.state == "Completed" and locked.errors[0].fq_error == "MethodInvocationError,Microsoft.PowerShell.Commands.ForEachObjectCommand"
        assert str(locked.errors[0]) == 'Exception calling "Replace" with "2" argument(s): "The process cannot access the file."'
        stopped = clients.run(opened, [replace("locked")[0], ("ForEach-Object", {**replace("locked")[1][1], "ErrorAction": "Stop"})])
        assert stopped.state == "Failed"
        unknown = clients.run(opened, [("Get-Handle", {"Name": "h"}), ("ForEach-Object", {"MemberName": "NoSuch"})])
        assert unknown.fqid == "LabRefusal"


def test_constrained_language_calls_no_methods(wire_lab: Any) -> None:
    fleet = wire_lab(language_mode="ConstrainedLanguage")
    with clients.pool(fleet) as opened:
        outcome = clients.run(opened, replace("dest"))
        assert clients.run(opened, [PROBE, ("ForEach-Object", {"MemberName": "Name"})]).output == ["x"]
    expected = "MethodInvocationNotSupportedInConstrainedLanguage,Microsoft.PowerShell.Commands.ForEachObjectCommand"
    assert (outcome.state, outcome.errors[0].fq_error, wire_fleet.HANDLES["h"].replaced) == ("Completed", expected, [])


def test_modules(wire_lab: Any) -> None:
    with clients.pool(wire_lab()) as opened:
        known = clients.run(opened, ("Import-Module", {"Name": "webadministration"}))
        missing = clients.run(opened, ("Import-Module", {"Name": "NoSuch"}))
    assert (known.state, known.errors) == ("Completed", [])
    assert missing.errors[0].fq_error == "Modules_ModuleNotFound,Microsoft.PowerShell.Commands.ImportModuleCommand"
