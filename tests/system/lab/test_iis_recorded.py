# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The simulated IIS on the configuration of a real Exchange 2019 server, and templates made of it."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest

from lab.iis_config import APPLICATION_HOST
from lab.iis_engine import ABORT, WebAnswer
from lab.iis_xml import ConfigError
from lab.kernel import LabRefusal
from lab.machine import Machine
from lab.stock import Stock, make
from lab.templates import Template

Recorded = Callable[[str], pathlib.Path]
ROOT = "C:\\inetpub\\wwwroot\\web.config"
OWA = "C:\\Program Files\\Microsoft\\Exchange Server\\V15\\FrontEnd\\HttpProxy\\owa\\web.config"
NAMES = ("", "-OWA", "-ECP", "-EWS", "-AutoD", "-EAS", "-OAB", "-PowerShell", "-MAPI", "-RPC", "-Rest")
APPLICATIONS = ["/", "/owa", "/owa/Calendar", "/owa/Integrated", "/owa/oma", "/ecp", "/EWS", "/API", "/Autodiscover", "/Microsoft-Server-ActiveSync",
                "/OAB", "/PowerShell", "/mapi", "/Rpc"]  # fmt: skip
ATTACK = "/autodiscover/autodiscover.json?@evil.example/owa/?&Email=autodiscover/autodiscover.json%3F@evil.example&x=/powershell"


@pytest.fixture
def template(tmp_path: pathlib.Path, recorded: Recorded) -> pathlib.Path:
    folder = tmp_path / "template"
    folder.mkdir()
    for name in ["applicationHost.config", *(f"DefaultWebSite{directory}.web.config" for directory in NAMES)]:
        (folder / name).write_bytes(recorded(f"exchange2019/{name}").read_bytes())
    return folder


@pytest.fixture
def machine(tmp_path: pathlib.Path, template: pathlib.Path) -> Machine:
    return make(tmp_path / "server", Stock("EX1"), template=Template(template))


def statuses(machine: Machine) -> dict[str, int]:
    found = {}
    for path in APPLICATIONS:
        answer = machine.iis.request("GET", path, {})
        assert isinstance(answer, WebAnswer)
        found[path] = answer.status
    return found


def test_template_bytes_are_exact(machine: Machine, template: pathlib.Path) -> None:
    assert machine.files.read(APPLICATION_HOST) == (template / "applicationHost.config").read_bytes()
    assert machine.files.read(OWA) == (template / "DefaultWebSite-OWA.web.config").read_bytes()
    assert machine.files.read(ROOT) == (template / "DefaultWebSite.web.config").read_bytes()
    assert machine.files.read(OWA.replace("owa", "Rest")) == (template / "DefaultWebSite-Rest.web.config").read_bytes()


def test_applications_of_the_real_server(machine: Machine) -> None:
    assert [app.path for app in machine.iis.applications()] == APPLICATIONS
    shared = {app.path for app in machine.iis.applications() if app.directories[0].physical + "\\web.config" == OWA}
    assert shared == {"/owa", "/owa/Calendar", "/owa/Integrated", "/owa/oma"}
    assert len(machine.pools.names()) == 20


def test_real_stock_site_answers_200_everywhere(machine: Machine) -> None:
    assert statuses(machine) == dict.fromkeys(APPLICATIONS, 200)


def test_real_effective_sections(machine: Machine) -> None:
    def names(section: str, path: str) -> list[str]:
        return [item.get("name") for item in machine.iis.section(f"system.webServer/{section}", "Default Web Site", path).items]

    assert "RequestFilteringModule" not in names("modules", "/")
    assert "UrlRoutingModule-4.0" not in names("modules", "/owa/Calendar")
    assert "OwaPltInfoModule" in names("modules", "/owa")
    assert "OwaJavascriptRedirectModule" in names("modules", "/")
    assert "OwaJavascriptRedirectModule" not in names("modules", "/owa"), "the root's block is not inherited by applications"
    assert "RewriteModule" in names("modules", "/owa/Calendar")
    assert names("handlers", "/OAB") == ["HttpProxy"]
    errors = machine.iis.section("system.webServer/httpErrors", "Default Web Site", "/mapi")
    assert errors.items == []
    assert len(machine.iis.section("system.webServer/httpErrors", "Default Web Site", "/owa").items) == 10
    headers = machine.iis.section("system.webServer/httpProtocol", "Default Web Site", "/ecp").child("customHeaders")
    assert [item.get("name") for item in headers.items] == ["X-Powered-By", "X-FEServer"]


def test_em_m1_in_the_real_root(machine: Machine, recorded: Recorded) -> None:
    """EM's rules as recorded, in the well-formed root: the recorded file itself is broken in one place."""
    broken = recorded("exchange2019/DefaultWebSite.malformed-with-EEMS-M1.1.web.config").read_bytes()
    rules = broken[broken.rindex(b"<system.webServer>") : broken.rindex(b"</configuration>")]
    root = machine.files.read(ROOT)
    answer = machine.iis.request("GET", ATTACK, {})
    assert isinstance(answer, WebAnswer)
    assert answer.status == 200
    machine.files.write(ROOT, root.replace(b"</configuration>", rules + b"</configuration>"))
    assert machine.iis.request("GET", ATTACK, {}) is ABORT
    assert statuses(machine) == dict.fromkeys(APPLICATIONS, 200)
    found = machine.iis.section("system.webServer/rewrite/rules", "Default Web Site", "/owa/Calendar")
    assert [item.get("name") for item in found.items] == ["EEMS M1.1 PowerShell - inbound", "RequestBlockingRule1", "PowerShell - inbound"]


def test_recorded_malformed_root_breaks_everything_below(machine: Machine, recorded: Recorded) -> None:
    machine.files.write(ROOT, recorded("exchange2019/DefaultWebSite.malformed-with-EEMS-M1.1.web.config").read_bytes())
    assert statuses(machine) == dict.fromkeys(APPLICATIONS, 500)
    with pytest.raises(ConfigError) as caught:
        machine.iis.section("system.webServer/rewrite/rules", "Default Web Site", "/owa")
    assert (caught.value.file, caught.value.line) == ("\\\\?\\" + ROOT, 42)


def test_recorded_variant_of_the_root(machine: Machine, recorded: Recorded) -> None:
    machine.files.write(ROOT, recorded("exchange2019/DefaultWebSite.variant2.web.config").read_bytes())
    assert statuses(machine) == dict.fromkeys(APPLICATIONS, 200)
    answer = machine.iis.request("GET", "/owa/Calendar", {})
    assert isinstance(answer, WebAnswer)
    assert answer.headers["Strict-Transport-Security"].startswith("max-age=300")


def test_eomt_fragment_outside_and_inside_the_block(machine: Machine, recorded: Recorded) -> None:
    fragment = recorded("exchange2019/owa.EOMT-CVE-2026-42897.fragment.xml").read_bytes()
    stock = machine.files.read(OWA)
    wrapped = b"<system.webServer>" + fragment + b"</system.webServer>"
    machine.files.write(OWA, stock.replace(b"</configuration>", wrapped + b"</configuration>"))
    expected = dict.fromkeys(APPLICATIONS, 200) | dict.fromkeys(["/owa/Calendar", "/owa/Integrated", "/owa/oma"], 500)
    assert statuses(machine) == expected
    calendar = machine.iis.request("GET", "/owa/Calendar", {})
    assert isinstance(calendar, WebAnswer)
    assert (calendar.substatus, b"'name' set to 'EOMT OWA CSP - outbound'" in calendar.body) == (19, True)
    place = stock.index(b"</system.webServer>", stock.index(b"<location "))
    machine.files.write(OWA, stock[:place] + fragment + stock[place:])
    assert statuses(machine) == dict.fromkeys(APPLICATIONS, 200)
    owa = machine.iis.request("GET", "/owa/", {})
    assert isinstance(owa, WebAnswer)
    assert owa.headers["Content-Security-Policy"] == "; script-src-attr 'none'"


def test_template_without_url_rewrite(tmp_path: pathlib.Path, template: pathlib.Path) -> None:
    machine = make(tmp_path / "bare", Stock("EX3", url_rewrite=False), template=Template(template))
    assert b"ewrite" not in machine.files.read(APPLICATION_HOST).replace(b'<add name="Rewrite" value="1024" />', b"")
    assert statuses(machine) == dict.fromkeys(APPLICATIONS, 200)
    assert not machine.files.exists("%windir%\\System32\\inetsrv\\rewrite.dll")


def test_template_refuses_other_names(recorded: Recorded) -> None:
    folder = recorded("exchange2019/applicationHost.config").parent
    with pytest.raises(LabRefusal, match=r"malformed-with-EEMS.*allowed are applicationHost\.config, DefaultWebSite"):
        Template(folder)
