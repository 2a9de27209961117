# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP through the simulated IIS: rewrite rules on requests and responses, configuration errors, stopped pools."""

from __future__ import annotations

import pathlib

import pytest

from lab.iis_config import APPLICATION_HOST
from lab.iis_engine import ABORT, WebAnswer
from lab.machine import Machine
from lab.stock import REWRITE_DLL, Stock, make

ROOT = "C:\\inetpub\\wwwroot\\web.config"
OWA = "C:\\Program Files\\Microsoft\\Exchange Server\\V15\\FrontEnd\\HttpProxy\\owa\\web.config"
ATTACK = "/autodiscover/autodiscover.json?a@evil.example/%70owershell/&Email=autodiscover/autodiscover.json%3fa@evil.example"
M1 = """<rewrite><rules><rule name="EEMS M1.1 PowerShell - inbound" stopProcessing="true"><match url=".*" />
<conditions><add input="{UrlDecode:{REQUEST_URI}}" pattern="(?=.*autodiscover)(?=.*powershell)" /></conditions>
<action type="AbortRequest" /></rule></rules></rewrite>"""
M2 = """<rewrite><outboundRules>
<rule name="CSP" preCondition="shell" patternSyntax="ECMAScript" stopProcessing="false">
<match serverVariable="RESPONSE_Content_Security_Policy" pattern="(.*)" />
<action type="Rewrite" value="{R:1}; script-src-attr 'none'" /></rule>
<preConditions><preCondition name="shell" logicalGrouping="MatchAll" patternSyntax="ECMAScript">
<add input="{RESPONSE_CONTENT_TYPE}" pattern="^text/html" />
<add input="{REQUEST_URI}" pattern="^/owa/?($|\\?|default\\.aspx|projection\\.aspx)" /></preCondition></preConditions>
</outboundRules></rewrite>"""


@pytest.fixture
def machine(tmp_path: pathlib.Path) -> Machine:
    return make(tmp_path, Stock("EX1", csp="script-src 'self'"))


def outside(machine: Machine, path: str, fragment: str) -> None:
    """Put a fragment into system.webServer behind every location, as EM does."""
    data = machine.files.read(path)
    machine.files.write(path, data.replace(b"</configuration>", f"<system.webServer>{fragment}</system.webServer>\r\n</configuration>".encode()))


def inside(machine: Machine, path: str, fragment: str) -> None:
    """Put a fragment into the stock location block that child applications do not inherit."""
    data = machine.files.read(path)
    machine.files.write(path, data.replace(b"    </system.webServer>\r\n    <system.web>", f"{fragment}    </system.webServer>\r\n    <system.web>".encode()))


TEAPOT = '<action type="CustomResponse" statusCode="418" />'


def rule(conditions: str = "", action: str = TEAPOT, match: str = '<match url=".*" />', attributes: str = "") -> str:
    return f'<rewrite><rules><rule name="r" {attributes}>{match}<conditions>{conditions}</conditions>{action}</rule></rules></rewrite>'


def answer(machine: Machine, url: str, method: str = "GET", **headers: str) -> WebAnswer:
    found = machine.iis.request(method, url, {name.replace("_", "-"): value for name, value in headers.items()})
    assert isinstance(found, WebAnswer)
    return found


@pytest.mark.parametrize("product", [("Exchange2016", "15.1.2507.13"), ("Exchange2019", "15.2.1748.46"), ("ExchangeSE", "15.2.2562.41")])
@pytest.mark.parametrize("url_rewrite", [True, False])
def test_stock_site_answers_200_everywhere(tmp_path: pathlib.Path, product: tuple[str, str], url_rewrite: bool) -> None:
    machine = make(tmp_path, Stock("EX1", *product, url_rewrite=url_rewrite))
    applications = machine.iis.applications()
    assert len(applications) == 14
    assert [(app.path, answer(machine, app.path).status) for app in applications] == [(app.path, 200) for app in applications]
    for app in machine.iis.applications("Exchange Back End"):
        found = machine.iis.request("GET", app.path, {}, "Exchange Back End")
        assert isinstance(found, WebAnswer)
        assert found.status in (200, 404), app.path


def test_m1_aborts_the_attack_and_nothing_else(machine: Machine) -> None:
    assert answer(machine, ATTACK).status == 200
    outside(machine, ROOT, M1)
    assert machine.iis.request("GET", ATTACK, {}) is ABORT
    assert machine.iis.request("POST", "/AutoDiscover/autodiscover.json@PowerShell/", {}) is ABORT
    assert answer(machine, "/autodiscover/autodiscover.xml").status == 200
    assert answer(machine, "/PowerShell/").status == 200


def test_m1_in_the_root_location_would_not_reach_applications(machine: Machine) -> None:
    inside(machine, ROOT, M1)
    assert answer(machine, ATTACK).status == 200
    assert machine.iis.request("GET", "/autodiscoverpowershell", {}) is ABORT, "the root application itself is covered"


def test_disabled_rule_does_nothing(machine: Machine) -> None:
    outside(machine, ROOT, M1.replace("stopProcessing", 'enabled="false" stopProcessing'))
    assert answer(machine, ATTACK).status == 200


def test_m2_outside_the_block_breaks_the_children_that_share_the_folder(machine: Machine) -> None:
    outside(machine, OWA, M2)
    assert answer(machine, "/owa/").headers["Content-Security-Policy"] == "script-src 'self'; script-src-attr 'none'"
    for path in ("/owa/Calendar", "/owa/Integrated", "/owa/oma/x"):
        found = answer(machine, path)
        assert (found.status, found.substatus, found.headers["X-IIS-Substatus"]) == (500, 19, "19"), path
        assert b"Cannot add duplicate collection entry of type 'rule' with unique key attribute 'name' set to 'CSP'" in found.body
        assert OWA.encode() in found.body


def test_m2_inside_the_block(machine: Machine) -> None:
    inside(machine, OWA, M2)
    assert answer(machine, "/owa/").headers["Content-Security-Policy"] == "script-src 'self'; script-src-attr 'none'"
    assert answer(machine, "/owa?layout=x").headers["Content-Security-Policy"].endswith("; script-src-attr 'none'")
    assert answer(machine, "/owa/other.aspx").headers["Content-Security-Policy"] == "script-src 'self'"
    calendar = answer(machine, "/owa/Calendar/x@lab.example/y/calendar.html")
    assert (calendar.status, calendar.headers.get("Content-Security-Policy")) == (200, None)


def test_m2_sets_a_header_that_is_absent(tmp_path: pathlib.Path) -> None:
    machine = make(tmp_path, Stock("EX1"))
    assert "Content-Security-Policy" not in answer(machine, "/owa/").headers
    inside(machine, OWA, M2)
    assert answer(machine, "/owa/").headers["Content-Security-Policy"] == "; script-src-attr 'none'"


def test_two_makers_in_one_section_both_append(machine: Machine) -> None:
    second = M2[M2.index("<rule name=") : M2.index("<preConditions>")].replace('"CSP"', '"EEMS"')
    inside(machine, OWA, M2.replace("<preConditions>", second + "<preConditions>"))
    assert answer(machine, "/owa/").headers["Content-Security-Policy"] == "script-src 'self'; script-src-attr 'none'; script-src-attr 'none'"


def test_rewrite_section_without_the_module(tmp_path: pathlib.Path) -> None:
    machine = make(tmp_path, Stock("EX1", url_rewrite=False))
    outside(machine, ROOT, M1)
    found = answer(machine, "/owa/")
    assert (found.status, found.substatus) == (500, 19)
    assert b"Unrecognized element 'rewrite'" in found.body


def test_module_not_loaded_ignores_the_rules(machine: Machine) -> None:
    outside(machine, ROOT, M1)
    host = machine.files.read(APPLICATION_HOST)
    machine.files.write(APPLICATION_HOST, host.replace(b'                <add name="RewriteModule" lockItem="false" />\r\n', b""))
    assert answer(machine, ATTACK).status == 200


def test_missing_dll_stops_the_pools(machine: Machine) -> None:
    machine.files.delete(REWRITE_DLL)
    assert answer(machine, "/owa/").status == 503


def test_module_without_image_is_an_error(machine: Machine) -> None:
    host = machine.files.read(APPLICATION_HOST)
    lines = [line for line in host.split(b"\r\n") if b'name="RewriteModule" image' not in line]
    machine.files.write(APPLICATION_HOST, b"\r\n".join(lines))
    assert answer(machine, "/owa/").status == 500


def test_stopped_pool_answers_503_for_its_applications_only(machine: Machine) -> None:
    machine.pools.stop("MSExchangeOWACalendarAppPool")
    assert answer(machine, "/owa/Calendar").status == 503
    assert answer(machine, "/owa/").status == 200
    machine.pools.start("msexchangeowacalendarapppool")
    assert answer(machine, "/owa/Calendar").status == 200


def test_stopped_w3svc_answers_503(machine: Machine) -> None:
    machine.services.stop("W3SVC")
    assert answer(machine, "/owa/").status == 503


def test_malformed_file_names_file_and_line(machine: Machine) -> None:
    machine.files.write(OWA, b"<configuration>\r\n<system.webServer>\r\n</configuration>")
    found = answer(machine, "/owa/")
    assert (found.status, found.substatus) == (500, 19)
    assert b"Line number: 3" in found.body
    assert OWA.encode() in found.body
    assert answer(machine, "/ecp/").status == 200


def test_configuration_files_and_backups_are_never_served(machine: Machine) -> None:
    machine.files.write(OWA.replace("web.config", "web.config.0123.bak.config"), b"secret")
    for name in ("web.config", "web.config.0123.bak.config"):
        found = answer(machine, f"/owa/{name}")
        assert (found.status, b"secret" in found.body) == (404, False)


def test_unknown_path_is_404(machine: Machine) -> None:
    assert answer(machine, "/nothing/here").status == 404


def test_head_has_no_body(machine: Machine) -> None:
    assert answer(machine, "/owa/").body
    assert answer(machine, "/owa/", "HEAD").body == b""


COOKIES = [
    # (condition attributes, request, whether the rule acts)
    ('input="{HTTP_COOKIE}" pattern="(.*)X-AnonResource-Backend(.*)"', {"Cookie": "a=1; x-anonresource-backend=b"}, True),
    ('input="{HTTP_COOKIE}" pattern="(.*)X-BEResource=(.+)/(.+)~(.+)"', {"Cookie": "X-BEResource=a/b~1"}, True),
    ('input="{HTTP_COOKIE}" pattern="(.*)X-BEResource=(.+)/(.+)~(.+)"', {"Cookie": "X-BEResource=a"}, False),
    ('input="{HTTP_COOKIE}" pattern="backend" ignoreCase="false"', {"Cookie": "BACKEND"}, False),
    ('input="{HTTP_COOKIE}" pattern="backend" negate="true"', {"Cookie": "x"}, True),
    ('input="{HTTP_X_TEST}" pattern="^yes$"', {"X-Test": "yes"}, True),
    ('input="{HTTP_X_TEST}" pattern="^yes$"', {}, False),
    ('input="{REQUEST_METHOD}" pattern="^GET$"', {}, True),
    ('input="{HTTPS}" pattern="^on$"', {}, True),
]


@pytest.mark.parametrize(("condition", "headers", "acts"), COOKIES)
def test_conditions_on_headers(machine: Machine, condition: str, headers: dict[str, str], acts: bool) -> None:
    outside(machine, ROOT, rule(f"<add {condition} />"))
    assert answer(machine, "/owa/", **{name.replace("-", "_"): value for name, value in headers.items()}).status == (418 if acts else 200)


URLS = [
    # (condition or match, url, whether the rule acts)
    ('<add input="{QUERY_STRING}" pattern="^a=1$" />', "/owa/?a=1", True),
    ('<add input="{QUERY_STRING}" pattern="^a=1$" />', "/owa/", False),
    ('<add input="{REQUEST_URI}" pattern="%70ower" />', "/owa/%70ower", True),
    ('<add input="{REQUEST_URI}" pattern="power" />', "/owa/%70ower", False),
    ('<add input="{UrlDecode:{REQUEST_URI}}" pattern="power" />', "/owa/%70ower", True),
    ('<add input="{UrlDecode:{REQUEST_URI}}" pattern="power" />', "/owa/%2570ower", False),
    ('<add input="{URL}" pattern="power" />', "/owa/%70ower", True),
    ('<add input="{ToLower:{URL}}" pattern="power" ignoreCase="false" />', "/owa/POWER", True),
]


@pytest.mark.parametrize(("conditions", "url", "acts"), URLS)
def test_conditions_on_the_url(machine: Machine, conditions: str, url: str, acts: bool) -> None:
    outside(machine, ROOT, rule(conditions))
    assert answer(machine, url).status == (418 if acts else 200)


def test_match_url_is_relative_to_the_level_of_the_rule(machine: Machine) -> None:
    outside(machine, ROOT, rule(match='<match url="^owa/x$" />'))
    assert answer(machine, "/owa/x").status == 418
    inside(machine, OWA, rule(match='<match url="^y$" />').replace('"r"', '"s"'))
    assert answer(machine, "/owa/y").status == 418
    assert answer(machine, "/owa/x/y").status == 200


def test_grouping_any_and_all(machine: Machine) -> None:
    both = '<add input="{URL}" pattern="one" /><add input="{URL}" pattern="two" />'
    outside(machine, ROOT, rule(both))
    assert [answer(machine, f"/owa/{name}").status for name in ("one", "onetwo")] == [200, 418]
    outside(machine, OWA.replace("owa", "ecp"), rule(both).replace("<conditions>", '<conditions logicalGrouping="MatchAny">').replace('"r"', '"s"'))
    assert [answer(machine, f"/ecp/{name}").status for name in ("one", "zero")] == [418, 200]


def test_wildcard_and_exact_syntax(machine: Machine) -> None:
    outside(machine, ROOT, rule(match='<match url="*/secret/*" />', attributes='patternSyntax="Wildcard"'))
    assert [answer(machine, url).status for url in ("/owa/secret/x", "/owa/secre/x")] == [418, 200]


def test_stop_processing_ends_the_list(machine: Machine) -> None:
    two = '<rule name="a" stopProcessing="{0}"><match url=".*" /><action type="None" /></rule>' \
          '<rule name="b"><match url=".*" /><action type="CustomResponse" statusCode="418" /></rule>'  # fmt: skip
    before = machine.files.read(ROOT)
    for stops, status in (("true", 200), ("false", 418)):
        machine.files.write(ROOT, before)
        outside(machine, ROOT, f"<rewrite><rules>{two.format(stops)}</rules></rewrite>")
        assert answer(machine, "/owa/").status == status


def test_redirect_and_rewrite(machine: Machine) -> None:
    outside(machine, ROOT, rule(match='<match url="^old/(.*)" />', action='<action type="Redirect" url="/owa/{R:1}" redirectType="Found" />'))
    found = answer(machine, "/old/x?q=1")
    assert (found.status, found.headers["Location"]) == (302, "/owa/x?q=1")
    machine.files.write(ROOT, machine.files.read(ROOT).replace(b'type="Redirect" url="/owa/{R:1}" redirectType="Found"', b'type="Rewrite" url="/ecp/"'))
    assert b"Exchange Admin Center" in answer(machine, "/old/x").body


def test_rewrite_map_and_custom_response(machine: Machine) -> None:
    maps = '<rewriteMaps><rewriteMap name="bad" defaultValue="no"><add key="/owa/x" value="yes" /></rewriteMap></rewriteMaps>'
    action = '<action type="CustomResponse" statusCode="403" subStatusCode="4" statusReason="Forbidden" statusDescription="blocked" />'
    outside(machine, ROOT, rule('<add input="{bad:{URL}}" pattern="yes" />', action).replace("<rewrite>", "<rewrite>" + maps))
    found = answer(machine, "/owa/x")
    assert (found.status, found.substatus, found.body) == (403, 4, b"blocked")
    assert answer(machine, "/owa/y").status == 200


def test_broken_expression_is_the_modules_error(machine: Machine) -> None:
    outside(machine, ROOT, rule('<add input="{URL}" pattern="(" />'))
    assert (answer(machine, "/owa/").status, answer(machine, "/owa/").substatus) == (500, 52)


def test_missing_precondition_is_the_modules_error(machine: Machine) -> None:
    inside(machine, OWA, M2.replace('preCondition="shell"', 'preCondition="other"'))
    assert (answer(machine, "/owa/").status, answer(machine, "/owa/").substatus) == (500, 50)
