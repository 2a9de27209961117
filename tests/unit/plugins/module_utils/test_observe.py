# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is made of a server's answers: files that are empty or gone, Windows in another folder, answers that are none, services and pools."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _facts, _observe, _states
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import CmdletError
from ansible_collections.exchange.mitigation.plugins.module_utils._mitigations._values import PoolState, ServiceState
from ansible_collections.exchange.mitigation.plugins.modules import server_info
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils import iis_samples as samples
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.made_up_host import (
    DENIED,
    EX_SETUP,
    GONE,
    NOW,
    REWRITE_DLL,
    SETUP,
    Host,
    Task,
    item,
)


def told(host: Host, directory: pathlib.Path, **params: Any) -> dict[str, Any]:
    """Return what server_info says of a server; the answers to what surrounds it are none."""
    found = _facts.survey(Task(server_info.SPEC, host, directory, **params))
    return _facts.server_facts(found, NOW)


@pytest.fixture(autouse=True)
def no_journal_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    """server_info has no journal."""
    genuine = Task.__init__

    def made(self: Task, spec: dict[str, Any], host: Any, directory: pathlib.Path, **params: Any) -> None:
        genuine(self, {**spec, "argument_spec": {**spec["argument_spec"], "journal_dir": {}}}, host, directory, **params)

    monkeypatch.setattr(Task, "__init__", made)


def test_an_empty_web_config_is_a_problem_of_that_place_and_not_a_missing_file(tmp_path: pathlib.Path) -> None:
    """IIS refuses an empty file, so what is in force there is unknown; without the file it would be absent."""
    host = Host()
    host.files[samples.ROOT_FILE] = b""
    verdicts = {entry["id"]: entry for entry in told(host, tmp_path)["mitigations"]}
    assert verdicts["M1"]["state"] == "unknown" and samples.ROOT_FILE in verdicts["M1"]["reason"]
    del host.files[samples.ROOT_FILE]
    assert {entry["id"]: entry["state"] for entry in told(host, tmp_path)["mitigations"]}["M1"] == "absent"


def test_windows_in_another_folder_is_read_there(tmp_path: pathlib.Path) -> None:
    """Its place is known only from the first answers; what stands in C:\\Windows then is somebody else's."""
    host = Host()
    host.environment = {"windir": "E:\\WinNT\\", "SystemDrive": "C:"}
    moved = "E:\\WinNT" + samples.HOST_PATH.removeprefix("C:\\Windows")
    host.files[moved] = host.files.pop(samples.HOST_PATH)
    host.files[samples.HOST_PATH] = b"<configuration>"
    host.versions = {EX_SETUP.lower(): "15.2.986.5", REWRITE_DLL.lower().replace("c:\\windows", "e:\\winnt"): "7.1.1993.2351"}
    snapshot = _observe.observe(host, beside=lambda windows: {"dll": _observe.version_info(windows.rstrip("\\") + "\\x.dll")})
    assert (snapshot.application_host.path, snapshot.problem) == (moved, None)
    assert snapshot.configuration is not None and snapshot.url_rewrite.dll == "E:\\WinNT\\System32\\inetsrv\\rewrite.dll"
    assert _observe.path_of(snapshot.beside["dll"]) == "E:\\WinNT\\x.dll"


@pytest.mark.parametrize("denied", [True, False])
def test_a_server_whose_configuration_is_not_there_or_not_shown(tmp_path: pathlib.Path, denied: bool) -> None:
    """No rule is reported as absent then: every mitigation is unknown, with the reason, and the rest of the facts is told."""
    host = Host()
    if denied:
        host.answer("Get-Content", errors=[DENIED], path=samples.HOST_PATH)
    else:
        del host.files[samples.HOST_PATH]
    facts = told(host, tmp_path)
    assert (facts["name"], facts["build"], facts["rewrite_rules"]) == ("EX1", "15.2.986.5", [])
    assert {entry["state"] for entry in facts["mitigations"] if entry["kind"] == "rewrite"} == {"unknown"}
    assert facts["configuration_problem"] is None or "Access is denied" in facts["configuration_problem"]
    assert (facts["configuration_problem"] is not None) is denied
    assert all(entry["reason"] for entry in facts["mitigations"])


@pytest.mark.parametrize(("cmdlet", "path"), [("Get-CimInstance", None), ("Get-ItemProperty", REWRITE_DLL), ("Get-ItemProperty", EX_SETUP)])
def test_a_server_that_will_not_say_fails_with_what_was_asked(tmp_path: pathlib.Path, cmdlet: str, path: str | None) -> None:
    """Denied is not absent: neither Windows nor a version is made up."""
    host = Host()
    host.answer(cmdlet, errors=[DENIED], path=path)
    with pytest.raises(CmdletError) as caught:
        told(host, tmp_path)
    assert (caught.value.reason, caught.value.details["cmdlet"]) == ("cmdlet_failed", cmdlet)
    assert "Access is denied." in caught.value.message and (path or "Win32_OperatingSystem") in caught.value.message


def test_answers_that_are_none_are_unknown(tmp_path: pathlib.Path) -> None:
    """No operating system, text in place of registry keys, a version resource without numbers: null, and no exception."""
    host = Host()
    host.answer("Get-CimInstance")
    host.answer("Get-ItemProperty", "noise", item(**SETUP), item(PSChildName="url rewrite", Version=item()), path=_observe.SETUP_KEY)
    host.answer("Get-Item", "noise", item(Key="windir", Value="C:\\Windows"), item(Key="SystemDrive", Value="C:"), item(Key="Path", Value="x"))
    snapshot = _observe.observe(host)
    assert (snapshot.name, snapshot.os, snapshot.service, snapshot.url_rewrite.version) == ("", {}, None, None)
    assert (snapshot.environment, snapshot.version) == ({"windir": "C:\\Windows", "SystemDrive": "C:"}, "15.2.986.5")
    facts = told(host, tmp_path, identity="EX1")
    assert (facts["name"], facts["os"], facts["em"]["service"], facts["url_rewrite"]["version"]) == ("", {}, None, None)


def test_a_pool_that_the_registry_did_not_announce_is_asked_for_in_one_pipeline_more(tmp_path: pathlib.Path) -> None:
    """The registry tells a modern build and ExSetup.exe an older one, which needs the pools: they are read all the same."""
    host = Host("15.2.721.2")
    host.pools = {"MSExchangeECPAppPool": ("Stopped", False)}
    host.setup = {**SETUP, "MsiBuildMajor": 1748, "MsiBuildMinor": 10}
    pipelines: list[int] = []
    genuine = host.read

    def read(statements: Any) -> Any:
        pipelines.append(len(statements))
        return genuine(statements)

    host.read = read  # type: ignore[method-assign]
    verdicts = {entry["id"]: entry for entry in told(host, tmp_path)["mitigations"]}
    assert (verdicts["CVE-2021-27065"]["state"], verdicts["CVE-2021-26858"]["state"]) == ("applied", "applied")
    assert "has no application pool MSExchangeOABAppPool" in verdicts["CVE-2021-26858"]["reason"]
    assert len(pipelines) == 3
    host.setup = dict(SETUP, MsiBuildMajor=721, MsiBuildMinor=2)
    assert {entry["id"]: entry["state"] for entry in told(host, tmp_path)["mitigations"]} == {name: entry["state"] for name, entry in verdicts.items()}
    assert len(pipelines) == 5


def test_states_of_services_and_pools() -> None:
    host = Host()
    host.services["MSExchangeUM"] = ("Running", "Auto")
    host.pools["MSExchangeECPAppPool"] = ("Started", True)
    found = _states.read_states(host, ["MSExchangeUM", "MSExchangeUMCR"], ["MSExchangeECPAppPool", "NoSuchPool"])
    assert found.services == {"msexchangeum": ServiceState("Running", "Auto"), "msexchangeumcr": None}
    assert found.pools == {"msexchangeecpapppool": PoolState("Started", True), "nosuchpool": None}
    assert _states.read_states(host, [], []) == _states.States()


def test_a_pool_whose_state_is_no_state() -> None:
    """A server that says that a pool is there and not how it is, is not taken at its word."""
    host = Host()
    host.answer("Get-WebConfiguration", item(autoStart="yes"))
    host.answer("Get-WebAppPoolState", item(Value="Started"))
    with pytest.raises(CmdletError) as caught:
        _states.read_states(host, [], ["MSExchangeECPAppPool"])
    assert (caught.value.reason, caught.value.details["cmdlet"]) == ("answer_malformed", "Get-WebAppPoolState")


@pytest.mark.parametrize(("cmdlet", "error"), [("Get-CimInstance", DENIED), ("Get-WebConfiguration", DENIED), ("Get-WebAppPoolState", GONE)])
def test_a_server_that_does_not_tell_a_state(cmdlet: str, error: Any) -> None:
    """The task fails with the cmdlet and the server's words; nothing is decided on a state that is not known."""
    host = Host()
    host.pools["MSExchangeECPAppPool"] = ("Started", True)
    host.answer(cmdlet, errors=[error])
    with pytest.raises(CmdletError) as caught:
        _states.read_states(host, ["MSExchangeUM"], ["MSExchangeECPAppPool"])
    assert (caught.value.reason, caught.value.details["fqid"]) == ("cmdlet_failed", error.fqid)
    assert caught.value.message == f"{cmdlet}: {error.message}"
