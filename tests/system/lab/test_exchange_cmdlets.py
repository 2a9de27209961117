# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cmdlets of the Exchange endpoint: what they take, change and refuse."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Iterator

import pytest
from exchange_calls import run, settings

from lab.cmdlets_exchange import VIEWER
from lab.fleet import Fleet


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """A fleet of three without listeners; EX1 and EX3 read from dc1, EX2 from dc2."""
    made = Fleet(3, lag=0.3)
    yield made
    made.stop()


def _organization(fleet: Fleet, server: str, **parameters: str) -> bool | None:
    value: bool | None = run(fleet, server, "Get-OrganizationConfig", **parameters).objects[0].props["MitigationsEnabled"]
    return value


def test_organization_is_shared_and_changes(fleet: Fleet) -> None:
    assert _organization(fleet, "EX1") is True
    result = run(fleet, "EX1", "Set-OrganizationConfig", MitigationsEnabled=False, Confirm=False)
    assert (result.final, result.objects, result.errors) == ("Completed", [], [])
    assert _organization(fleet, "EX1") is False
    assert _organization(fleet, "EX3") is False


def test_other_domain_controller_follows_after_the_lag(fleet: Fleet) -> None:
    run(fleet, "EX1", "Set-OrganizationConfig", MitigationsEnabled=False)
    assert _organization(fleet, "EX1", DomainController="dc1.lab.example") is False
    assert _organization(fleet, "EX2") is True
    assert _organization(fleet, "EX1", DomainController="DC2") is True
    time.sleep(0.4)
    assert _organization(fleet, "EX2") is False


def test_later_write_wins_on_both_domain_controllers(fleet: Fleet) -> None:
    run(fleet, "EX1", "Set-ExchangeServer", Identity="EX1", MitigationsEnabled=False, DomainController="dc1")
    run(fleet, "EX1", "Set-ExchangeServer", Identity="EX1", MitigationsEnabled=True, DomainController="dc2")
    time.sleep(0.4)
    assert settings(fleet, "EX1", "EX1", DomainController="dc1")["MitigationsEnabled"] is True
    assert settings(fleet, "EX1", "EX1", DomainController="dc2")["MitigationsEnabled"] is True


def test_block_list_is_replaced_emptied_and_nulled(fleet: Fleet) -> None:
    assert settings(fleet, "EX1", "EX1")["MitigationsBlocked"] is None
    for value, shown in ((["M1", "PING1"], ["M1", "PING1"]), (["M2"], ["M2"]), ("M9", ["M9"]), ([], [])):
        assert run(fleet, "EX1", "Set-ExchangeServer", Identity="EX1", MitigationsBlocked=value).final == "Completed"
        assert settings(fleet, "EX1", "EX1")["MitigationsBlocked"].value == shown
    run(fleet, "EX1", "Set-ExchangeServer", Identity="EX1", MitigationsBlocked=None)
    assert settings(fleet, "EX1", "EX1")["MitigationsBlocked"] is None
    assert settings(fleet, "EX1", "EX2")["MitigationsBlocked"] is None


def test_hashtable_for_a_list_is_refused(fleet: Fleet) -> None:
    result = run(fleet, "EX1", "Set-ExchangeServer", Identity="EX1", MitigationsBlocked={"Add": ["M1"]})
    assert result.final == "Failed" and result.reason is not None and "hashtable" in result.reason.message
    assert fleet.refusals and settings(fleet, "EX1", "EX1")["MitigationsBlocked"] is None


@pytest.mark.parametrize(
    "identity",
    ["EX2", "ex2", "ex2.lab.example", "/o=Lab/ou=Exchange Administrative Group (FYDIBOHF23SPDLT)/cn=Configuration/cn=Servers/cn=EX2"],
)
def test_identity_has_several_forms(fleet: Fleet, identity: str) -> None:
    assert settings(fleet, "EX1", identity)["Fqdn"] == "ex2.lab.example"
    found = settings(fleet, "EX1", "EX2")
    assert settings(fleet, "EX1", str(found["Guid"]))["Name"] == settings(fleet, "EX1", found["DistinguishedName"])["Name"] == "EX2"


def test_all_servers_without_an_identity(fleet: Fleet) -> None:
    names = [server.props["Name"] for server in run(fleet, "EX3", "Get-ExchangeServer").objects]
    assert names == ["EX1", "EX2", "EX3"]


@pytest.mark.parametrize("cmdlet", ["Get-ExchangeServer", "Set-ExchangeServer"])
def test_unknown_server_is_a_non_terminating_error(fleet: Fleet, cmdlet: str) -> None:
    result = run(fleet, "EX1", cmdlet, Identity="EX9")
    assert (result.final, result.objects) == ("Completed", [])
    (error,) = result.errors
    assert error.exception.endswith("ManagementObjectNotFoundException")
    assert error.fqid.startswith("[Server=EX1,RequestId=")
    assert error.fqid.endswith(f",Microsoft.Exchange.Management.SystemConfigurationTasks.{cmdlet.replace('-', '')}")
    assert run(fleet, "EX1", cmdlet, Identity="EX9", ErrorAction="Stop").final == "Failed"


def test_unknown_domain_controller_is_terminating(fleet: Fleet) -> None:
    result = run(fleet, "EX1", "Get-OrganizationConfig", DomainController="dc9")
    assert result.final == "Failed" and result.reason is not None and "dc9" in result.reason.message


def test_view_only_user_has_no_set_cmdlets(fleet: Fleet) -> None:
    assert run(fleet, "EX1", "Get-OrganizationConfig", user=fleet.viewer).final == "Completed"
    for cmdlet, parameters in (("Set-OrganizationConfig", {}), ("Set-ExchangeServer", {"Identity": "EX1"})):
        result = run(fleet, "EX1", cmdlet, user=fleet.viewer, MitigationsEnabled=False, **parameters)
        assert result.final == "Failed" and result.reason is not None and result.reason.fqid == "CommandNotFoundException"
    assert _organization(fleet, "EX1") is True
    assert run(fleet, "EX1", "Get-OrganizationConfig", user="LAB\\nobody").final == "Failed"


def test_whatif_changes_nothing(fleet: Fleet) -> None:
    for cmdlet, parameters in (("Set-OrganizationConfig", {}), ("Set-ExchangeServer", {"Identity": "EX1"})):
        assert run(fleet, "EX1", cmdlet, MitigationsEnabled=False, WhatIf=True, **parameters).final == "Completed"
    assert _organization(fleet, "EX1") is True and settings(fleet, "EX1", "EX1")["MitigationsEnabled"] is True
    assert [call.write for call in fleet.access_log.calls if call.cmdlet.startswith("Set-")] == [False, False]


def test_confirm_that_would_prompt_is_refused(fleet: Fleet) -> None:
    result = run(fleet, "EX1", "Set-OrganizationConfig", MitigationsEnabled=False, Confirm=True)
    assert result.final == "Failed" and _organization(fleet, "EX1") is True


def test_proxy_is_a_uri(fleet: Fleet) -> None:
    run(fleet, "EX1", "Set-ExchangeServer", Identity="EX1", InternetWebProxy="http://proxy:8080")
    shown = settings(fleet, "EX1", "EX1")["InternetWebProxy"]
    assert (shown.types, shown.value) == (("System.Uri",), "http://proxy:8080/")
    assert run(fleet, "EX1", "Set-ExchangeServer", Identity="EX1", InternetWebProxy="proxy").final == "Failed"
    run(fleet, "EX1", "Set-ExchangeServer", Identity="EX1", InternetWebProxy=None)
    assert settings(fleet, "EX1", "EX1")["InternetWebProxy"] is None


@pytest.mark.parametrize("parameter", ["MitigationsApplied", "RingLevel", "Nonsense"])
def test_other_parameters_do_not_exist(fleet: Fleet, parameter: str) -> None:
    result = run(fleet, "EX1", "Set-ExchangeServer", Identity="EX1", **{parameter: "x"})
    assert result.final == "Failed" and result.reason is not None and result.reason.fqid.startswith("NamedParameterNotFound")


@pytest.mark.parametrize("value", ["true", None])
def test_a_switch_of_the_organisation_takes_only_booleans(fleet: Fleet, value: str | None) -> None:
    assert run(fleet, "EX1", "Set-OrganizationConfig", MitigationsEnabled=value).final == "Failed"


def test_settings_survive_a_restart_of_the_lab(tmp_path: pathlib.Path) -> None:
    first = Fleet(2, tmp_path / "state")
    run(first, "EX1", "Set-ExchangeServer", Identity="EX1", MitigationsBlocked=["M1"])
    run(first, "EX2", "Set-OrganizationConfig", MitigationsEnabled=False)
    first.em_cycle()
    first.stop()
    second = Fleet(2, tmp_path / "state")
    assert settings(second, "EX1", "EX1")["MitigationsBlocked"].value == ["M1"]
    assert second.organization.mitigations_enabled is False
    assert second.password == first.password
    second.stop()


def test_availability_groups_and_their_members(fleet: Fleet) -> None:
    assert run(fleet, "EX1", "Get-DatabaseAvailabilityGroup").objects == []
    made = Fleet(5)
    made.roles["reader"] = VIEWER
    try:
        for user in (None, "reader"):
            groups = run(made, "EX1", "Get-DatabaseAvailabilityGroup", user=user).objects
            assert [(group.props["Name"], group.props["Servers"].value) for group in groups] == [("DAG01", ["EX1", "EX2", "EX3", "EX4"]), ("DAG02", ["EX5"])]
        made.roles["nobody"] = ""
        assert run(made, "EX1", "Get-DatabaseAvailabilityGroup", user="nobody").final == "Failed"
    finally:
        made.stop()
