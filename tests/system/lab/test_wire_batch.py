# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Windows does with several statements in one pipeline (CMDLETS.md 9), seen by pypsrp, and what really ran."""

from __future__ import annotations

from typing import Any

import pytest
import wire_clients as clients

BAD = ("Get-Probe", {"Bogus": 1})


def probe(name: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return ("Get-Probe", {"Name": name, **more})


def names(outcome: clients.Outcome) -> list[str]:
    return [item.adapted_properties["Name"] for item in outcome.output]


#: statements, state, outputs that arrive, error records that arrive (apart from the failure), what really ran
TABLE = [
    ([probe("1"), probe("2"), probe("3")], "Completed", ["1", "2", "3"], 0, ["1", "2", "3"]),
    ([probe("1", Fail=True), probe("2")], "Completed", ["1", "2"], 1, ["1", "2"]),
    ([probe("1"), probe("2", Fail=True, ErrorAction="Stop"), probe("3")], "Failed", ["1"], 0, ["1", "2"]),
    ([probe("1", Fail=True, ErrorAction="SilentlyContinue"), probe("2", Fail=True, ErrorAction="Ignore")], "Completed", ["1", "2"], 0, ["1", "2"]),
    ([BAD], "Failed", [], 0, []),
    ([BAD, probe("2")], "Completed", ["2"], 1, ["2"]),
    ([BAD, probe("2"), probe("3"), probe("4")], "Completed", ["2"], 1, ["2", "3", "4"]),
    ([probe("1"), BAD, probe("3")], "Failed", ["1"], 0, ["1", "3"]),
    ([probe("1"), probe("2"), BAD], "Failed", ["1", "2"], 0, ["1", "2"]),
    ([probe("1"), ("Stop-Probe", {"Kind": "late"}), probe("3"), probe("4")], "Failed", ["1", "before"], 0, ["1", "stop", "3", "4"]),
    ([("No-Such", {}), probe("2"), probe("3")], "Completed", ["2"], 1, ["2", "3"]),
    ([BAD, BAD, probe("3")], "Failed", [], 1, ["3"]),
]


@pytest.mark.parametrize(("statements", "state", "outputs", "errors", "ran"), TABLE)
def test_the_table(wire_lab: Any, statements: list[Any], state: str, outputs: list[str], errors: int, ran: list[str]) -> None:
    fleet = wire_lab()
    with clients.pool(fleet) as opened:
        outcome = clients.run(opened, *statements)
        wait_idle(fleet)
    seen = [item if isinstance(item, str) else item.adapted_properties["Name"] for item in outcome.output]
    arrived = [record for record in outcome.errors if record is not outcome.failure]
    assert (outcome.state, seen, len(arrived)) == (state, outputs, errors)
    assert fleet.machines[0].ran == ran


def wait_idle(fleet: Any) -> None:
    import time

    deadline = time.monotonic() + 5
    while any(pipeline.thread is not None and pipeline.thread.is_alive() for pipeline in pipelines(fleet)) and time.monotonic() < deadline:
        time.sleep(0.01)


def pipelines(fleet: Any) -> list[Any]:
    return [pipeline for service in fleet.wire.services.values() for shell in service.shells.values() for pipeline in shell.commands.values()]


def test_the_failure_carries_the_record(wire_lab: Any) -> None:
    with clients.pool(wire_lab()) as opened:
        stop = clients.run(opened, probe("x", Fail=True, ErrorAction="Stop"))
        unknown = clients.run(opened, ("No-Such", {}))
        bad = clients.run(opened, BAD)
        end = clients.run(opened, ("Stop-Probe", {}))
    assert (stop.fqid, unknown.fqid) == ("ProbeFailed,GetProbe", "CommandNotFoundException")
    assert bad.fqid == "NamedParameterNotFound,Microsoft.PowerShell.Commands.GetProbeCommand"
    assert end.fqid == "ProbeEnd"
    record = stop.errors[-1]
    assert (record.category, str(record.exception), record.target_name, record.activity) == (
        7,
        "System.InvalidOperationException: It failed.",
        "thing",
        "Get-Probe",
    )
    assert str(record) == "It failed."
    assert unknown.errors[-1].category == 13


def test_had_errors_hides_a_non_terminating_error(wire_lab: Any) -> None:
    """WINRM.md A: the state is Completed and pypsrp says had_errors False; only the stream tells."""
    from pypsrp.powershell import PowerShell

    with clients.pool(wire_lab()) as opened:
        shell = PowerShell(opened)
        shell.add_cmdlet("Get-Probe").add_parameters({"Fail": True})
        shell.invoke()
    assert (shell.had_errors, len(shell.streams.error), shell.state) == (False, 1, 4)


@pytest.mark.parametrize("endpoint", ["wsman_http", "web_http"])
def test_scripts_are_refused_whatever_the_language_mode(wire_lab: Any, endpoint: str) -> None:
    fleet = wire_lab()
    with clients.pool(fleet, endpoint) as opened:
        alone = clients.run(opened, script="$x = 1")
        second = clients.run(opened, probe("1"), script="Get-Item C:\\")
    for outcome in (alone, second):
        assert (outcome.state, outcome.fqid) == ("Failed", "ScriptsNotAllowed")
        assert outcome.errors[-1].category == 17
        assert str(outcome.errors[-1]).startswith("The syntax is not supported by this runspace.")
    assert fleet.scripts_received == 2
    assert fleet.machines[0].ran == ["1"]


def test_error_action_preference_persists_over_pipelines(wire_lab: Any) -> None:
    with clients.pool(wire_lab()) as opened:
        clients.run(opened, ("Set-Variable", {"Name": "ErrorActionPreference", "Value": "Stop", "Scope": "Global"}))
        outcome = clients.run(opened, probe("1", Fail=True), probe("2"))
    assert (outcome.state, names(outcome)) == ("Failed", [])


def test_a_refusal_of_the_lab_is_seen_twice(wire_lab: Any) -> None:
    fleet = wire_lab()
    with clients.pool(fleet) as opened:
        for kind in ("lab", "bug"):
            outcome = clients.run(opened, ("Stop-Probe", {"Kind": kind}))
            assert (outcome.state, outcome.fqid) == ("Failed", "LabRefusal")
        clients.run(opened, ("No-Such", {}))
    assert len(fleet.refusals) == 3
    assert "not known here" in fleet.refusals[0] and "KeyError" in fleet.refusals[1] and "No-Such" in fleet.refusals[2]
    assert fleet.scripts_received == 0


def test_calls_and_writes_are_logged(wire_lab: Any) -> None:
    fleet = wire_lab()
    with clients.pool(fleet) as opened:
        clients.run(opened, probe("1"), ("Set-Probe", {"Name": "a", "Values": ["x"]}))
        clients.run(opened, [("Get-Handle", {"Name": "h"}), ("ForEach-Object", {"MemberName": "Replace", "ArgumentList": ["b", "c"]})])
        clients.run(opened, [("Get-Handle", {"Name": "h"}), ("ForEach-Object", {"MemberName": "Name"})])
    logged = [(record["cmdlets"], record["write"]) for record in fleet.access_log.select(action="Command")]
    assert logged == [(["Get-Probe", "Set-Probe"], True), (["Get-Handle", "ForEach-Object"], True), (["Get-Handle", "ForEach-Object"], False)]
    assert [(call.cmdlet, call.write) for call in fleet.access_log.calls][:3] == [("Get-Probe", False), ("Set-Probe", True), ("Get-Handle", False)]
    assert set(fleet.access_log.records[0]) == {"server", "endpoint", "action", "cmdlets", "write", "bytes_in", "bytes_out", "status"}
