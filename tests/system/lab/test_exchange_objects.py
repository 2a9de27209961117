# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects of the Exchange endpoint against the recorded ones."""

from __future__ import annotations

import datetime
import pathlib
import uuid
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest
from exchange_calls import run, settings

from lab.builds import ServerPlan
from lab.fleet import Fleet
from lab.kernel import Obj

CLIXML = "{http://schemas.microsoft.com/powershell/2004/04}"
#: what Export-Clixml and the remoting client added to the recordings
ADDED = {"PSComputerName", "RunspaceId", "PSShowComputerName", "SerializationData"}
SERVERS = [
    ServerPlan("OLD", "Exchange2016", "15.1.2308.8"),
    ServerPlan("FIRST", "Exchange2019", "15.2.986.5"),
    ServerPlan("CU23", "Exchange2016", "15.1.2507.13", dag="DAG01"),
    ServerPlan("SE", "ExchangeSE", "15.2.2562.43", edition="Standard", site="Branch"),
]


def _recorded(path: pathlib.Path) -> dict[str, str]:
    """Return name -> element name of the recorded object's own properties."""
    root = ElementTree.parse(path).getroot()
    props = root.find(f"{CLIXML}Obj/{CLIXML}Props")
    assert props is not None
    return {entry.attrib["N"]: entry.tag.removeprefix(CLIXML) for entry in props}


def _tag(value: Any) -> str:
    kinds = {bool: "B", int: "I32", str: "S", type(None): "Nil", datetime.datetime: "DT", uuid.UUID: "G"}
    return kinds.get(type(value), "Obj")


@pytest.fixture(scope="module")
def fleet() -> Any:
    """Servers of four generations."""
    made = Fleet(SERVERS, serialization="full", lag=0)
    yield made
    made.stop()


@pytest.mark.parametrize("name", ["Get-ExchangeServer.2019.xml", "Get-ExchangeServer.PING1-applied.xml"])
def test_properties_are_those_of_the_recordings(fleet: Fleet, recorded: Callable[[str], pathlib.Path], name: str) -> None:
    known = _recorded(recorded(f"cmdlets/{name}"))
    shown = settings(fleet, "CU23", "CU23")
    assert set(shown) - set(known) - {"MitigationsAppliedTime"} == set()
    for prop in set(shown) & set(known):
        if known[prop] not in ("Nil", "Ref") and shown[prop] is not None:
            assert _tag(shown[prop]) == known[prop], prop
    missing = set(known) - set(shown) - ADDED
    assert missing <= {"StaticExcludedDomainControllers", "MailboxProvisioningAttributes"}, missing


def test_organization_properties_are_recorded_ones(fleet: Fleet, recorded: Callable[[str], pathlib.Path]) -> None:
    known = _recorded(recorded("cmdlets/Get-OrganizationConfig.2019.xml"))
    shown = run(fleet, "CU23", "Get-OrganizationConfig").objects[0].props
    for prop, value in shown.items():
        assert prop in known
        if known[prop] not in ("Nil", "Ref") and value is not None:
            assert _tag(value) == known[prop], prop


def test_list_type_and_text_are_as_recorded(fleet: Fleet) -> None:
    fleet.em_cycle()
    applied = settings(fleet, "CU23", "CU23")["MitigationsApplied"]
    assert applied.types[0].startswith("Microsoft.Exchange.Data.MultiValuedProperty`1[[System.String, mscorlib")
    assert applied.value == ["PING1", "M1.1", "M2.1.0"]
    server = run(fleet, "CU23", "Get-ExchangeServer", Identity="CU23").objects[0]
    assert server.to_string == "CU23" and server.types[0] == "Microsoft.Exchange.Data.Directory.Management.ExchangeServer"


def test_complex_properties_are_text_by_default(fleet: Fleet) -> None:
    full = settings(fleet, "SE", "SE")
    assert isinstance(full["AdminDisplayVersion"], Obj) and full["AdminDisplayVersion"].props["Revision"] == 43
    assert (full["ServerRole"].to_string, full["ServerRole"].value) == ("Mailbox", 2)
    fleet.organization.serialization = "default"
    try:
        plain = settings(fleet, "SE", "SE")
    finally:
        fleet.organization.serialization = "full"
    assert plain["AdminDisplayVersion"] == "Version 15.2 (Build 2562.43)"
    assert (plain["ServerRole"], plain["Edition"], plain["Site"]) == ("Mailbox", "Standard", "lab.example/Configuration/Sites/Branch")
    assert plain["Identity"] == "SE"


def test_builds_before_em_have_no_mitigation_properties(fleet: Fleet) -> None:
    assert not [name for name in settings(fleet, "CU23", "OLD") if name.startswith("Mitigations")]
    assert not [name for name in settings(fleet, "OLD", "CU23") if name.startswith("Mitigations")]
    assert "MitigationsEnabled" not in run(fleet, "OLD", "Get-OrganizationConfig").objects[0].props
    for cmdlet, more in (("Set-OrganizationConfig", {}), ("Set-ExchangeServer", {"Identity": "CU23"})):
        result = run(fleet, "OLD", cmdlet, MitigationsEnabled=True, **more)
        assert result.reason is not None and result.reason.fqid.startswith("NamedParameterNotFound")


def test_applied_time_is_missing_on_the_first_builds(fleet: Fleet) -> None:
    assert "MitigationsAppliedTime" not in settings(fleet, "CU23", "FIRST")
    assert "MitigationsAppliedTime" in settings(fleet, "CU23", "CU23")


def test_subscription_edition_has_ring_and_features(fleet: Fleet) -> None:
    shown = settings(fleet, "CU23", "SE")
    assert shown["RingLevel"] == "1" and shown["FeaturesApproved"] is None
    assert "RingLevel" not in settings(fleet, "CU23", "CU23")


def test_display_version_is_not_the_installed_build_on_old_products(fleet: Fleet) -> None:
    assert settings(fleet, "CU23", "CU23")["AdminDisplayVersion"].to_string == "Version 15.1 (Build 2507.6)"
    assert fleet.machine("CU23").build == "15.1.2507.13"


def test_organization_switch_can_be_null() -> None:
    made = Fleet(1, mitigations_enabled=None)
    try:
        assert run(made, "EX1", "Get-OrganizationConfig").objects[0].props["MitigationsEnabled"] is None
        assert made.em_cycle() == {"EX1": None}
    finally:
        made.stop()
