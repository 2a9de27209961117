# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's JEA endpoints are what their files say: read as PowerShell data, enforced as Windows does, refused where the lab knows no better."""

from __future__ import annotations

import base64
import dataclasses
import pathlib
import re
from typing import Any

import pytest

from lab import jea, psdata
from lab.accesslog import AccessLog
from lab.kernel import ErrorInfo, LabRefusal
from lab.loading import load_cmdlets
from lab.machine import Machine
from lab.pipeline import CommandLine, Runner, Runspace

load_cmdlets()


class World:
    """A fleet of one machine, and a sink."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.refusals: list[str] = []
        self.beyond: list[str] = []
        self.access_log = AccessLog()
        self.machine = Machine(folder, self)
        self.objects: list[Any] = []
        self.errors: list[ErrorInfo] = []

    def output(self, value: Any) -> None:
        self.objects.append(value)

    def error(self, info: ErrorInfo) -> None:
        self.errors.append(info)

    def state(self, dummy: str, error: ErrorInfo | None = None) -> None:
        if error is not None:
            self.errors.append(error)

    def run(self, capability: jea.Capability, name: str, **parameters: Any) -> list[ErrorInfo]:
        """Run one cmdlet and return its errors."""
        self.errors.clear()
        runspace = Runspace(self, self.machine, "host", "u", "NoLanguage", capability)
        Runner(runspace, self).run([[CommandLine(name, tuple(parameters.items()))]])
        return list(self.errors)


@pytest.fixture
def world(tmp_path: pathlib.Path) -> World:
    return World(tmp_path)


def test_data_files_are_read() -> None:
    text = """# note
@{
    A = 'it''s'; B = 1
    C = @('x', 'y')
    D = 'x', 'y'
    E = @{ 'k\\v' = $true }
    F = @()
    G = @(
        @{ N = 'a' },
        @{ N = 'b' }
    )
}
"""
    assert psdata.read(text) == {
        "A": "it's", "B": 1, "C": ["x", "y"], "D": ["x", "y"], "E": {"k\\v": True}, "F": [], "G": [{"N": "a"}, {"N": "b"}],
    }  # fmt: skip


@pytest.mark.parametrize("text", ["@{ A = $(Get-Date) }", '@{ A = "x" }', "@{ A = 'x' } B", "@{ A = 'x'; a = 'y' }", "@{ A = { code } }", "@{ A = 'x'"])
def test_anything_that_is_no_plain_data_is_refused(text: str) -> None:
    with pytest.raises(LabRefusal):
        psdata.read(text)


def test_an_endpoint_without_its_module_is_refused(tmp_path: pathlib.Path) -> None:
    """Windows finds a capability in a module only, and a folder is one by its manifest."""
    source = jea.FILES / "exchange.mitigation.reader.pssc"
    (tmp_path / source.name).write_bytes(source.read_bytes())
    folder = tmp_path / "ExchangeMitigation" / "RoleCapabilities"
    folder.mkdir(parents=True)
    (folder / "exchange.mitigation.reader.psrc").write_bytes((jea.FILES / "ExchangeMitigation/RoleCapabilities/exchange.mitigation.reader.psrc").read_bytes())
    with pytest.raises(LabRefusal, match="is in 0 modules"):
        jea.endpoint(tmp_path / source.name)
    (tmp_path / "ExchangeMitigation" / "ExchangeMitigation.psd1").write_text("@{\n}\n", "ascii")
    assert jea.endpoint(tmp_path / source.name).capability is not None


def limited(**limits: jea.Limit) -> jea.Capability:
    return jea.Capability("test", {"get-service": limits, "get-item": {"path": jea.Limit()}}, ())


def test_sets_and_patterns_are_enforced(world: World) -> None:
    capability = limited(name=jea.Limit(patterns=("MSExchange[a-z]+", "W3SVC")))
    for name, refused in (("msexchangemitigation", False), ("w3svc", False), ("Spooler", True), ("xW3SVC", True), (["W3SVC", "Spooler"], True)):
        errors = world.run(capability, "Get-Service", Name=name)
        assert any(error.fqid == "ParameterArgumentValidationError,Get-Service" for error in errors) is refused, name
    assert len(world.beyond) == 3
    assert [error.fqid for error in world.run(limited(name=jea.Limit(values=("W3SVC",))), "Get-Service", Name="WAS")] == [
        "ParameterArgumentValidationError,Get-Service"
    ]
    assert [error.fqid for error in world.run(limited(), "Get-Service", Name="WAS")] == ["NamedParameterNotFound,Get-Service"]
    assert [error.fqid for error in world.run(limited(), "Stop-Service", Name="WAS")] == ["CommandNotFoundException"]
    assert world.refusals == []


def test_a_provider_that_is_not_listed_is_refused_as_recorded(world: World, recorded: Any) -> None:
    text = recorded("wsman-captures/test_psrp_with_jea_configuration.yml").read_text("utf-8")
    streams = [base64.b64decode(found) for found in re.findall(r"<rsp:Stream[^>]*>([A-Za-z0-9+/=]+)</rsp:Stream>", text)]
    (record,) = [stream.decode("utf-8", "replace") for stream in streams if b"ProviderNotFound," in stream]

    def value(name: str) -> str:
        found = re.search(rf'N="{name}">([^<]*)<', record)
        assert found is not None
        return found[1]

    (error,) = world.run(limited(), "Get-Item", Path="C:\\Windows")
    assert (error.fqid, error.message) == (value("FullyQualifiedErrorId"), value("Message").replace("&apos;", "'"))
    assert (error.target, error.category) == (value("ErrorCategory_TargetName"), int(value("ErrorCategory_Category")))
    assert error.exception.endswith("." + value("ErrorCategory_Reason"))


def test_the_shipped_endpoints_fit_the_lab() -> None:
    """Every listed cmdlet and parameter exists in the lab, so that nothing that is listed is silently left out."""
    from lab.kernel import REGISTRY

    found = jea.endpoints()
    assert set(found) == {"exchange.mitigation.reader", "exchange.mitigation.writer", jea.CONSTRAINED}
    for endpoint in found.values():
        for name, limits in (endpoint.capability.cmdlets if endpoint.capability else {}).items():
            shown = endpoint.capability.shown(REGISTRY[("host", name)]) if endpoint.capability else None
            assert shown is not None and shown.proxy and {parameter.lower() for parameter in shown.parameters} == set(limits or {})


def test_a_parameter_that_the_lab_does_not_know_is_a_refusal() -> None:
    from lab.kernel import REGISTRY

    with pytest.raises(LabRefusal):
        dataclasses.replace(limited(), cmdlets={"get-service": {"bogus": jea.Limit()}}).shown(REGISTRY[("host", "get-service")])
