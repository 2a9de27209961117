# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts: by behaviour, in closed vocabularies, unknown with its place."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _catalogue as catalogue
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_config import Configuration
from ansible_collections.exchange.mitigation.plugins.module_utils._verdict import STATES, Verdict, unsupported, verdict
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils import iis_samples as samples

BUILD = (15, 2, 986, 5)
OLD_PATTERN = r".*autodiscover\.json.*Powershell.*"
PATTERN = "(?=.*autodiscover)(?=.*powershell)"
INPUT = "{UrlDecode:{REQUEST_URI}}"


def look(identifier: str, server: Configuration, **more: object) -> Verdict:
    """Return the verdict on a mitigation of a server."""
    mitigation = catalogue.find(identifier)
    assert mitigation is not None
    return verdict(mitigation, server, BUILD, **more)  # type: ignore[arg-type]


def m1(rules: str) -> Verdict:
    """Return the verdict on M1 with these rules in the root file."""
    return look("M1", samples.server(root=samples.in_root(rules)))


def rule(name: str, **change: str) -> str:
    """Return EM's M1 under a name, with some text of it exchanged."""
    text = samples.M1_RULE.format(name=name)
    for old, new in ((key.replace("_", " "), value) for key, value in change.items()):
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize(
    ("name", "maker"),
    [
        ("EEMS M1.1 PowerShell - inbound", "em"),
        ("PowerShell - inbound", "eomt"),
        ("exchange.mitigation M1 PowerShell - inbound", "us"),
        ("RequestBlockingRule1", "other"),
    ],
)
def test_m1_by_behaviour_under_any_name(name: str, maker: str) -> None:
    found = m1(rule(name))
    assert (found.state, found.maker, found.reason, found.breaks) == ("applied", maker, None, ())
    assert found.evidence == ({"file": samples.ROOT_FILE, "line": 1, "rule": name, "location": None},)


SAME = [
    ("AbortRequest", "CustomResponse"),
    ('url=".*"', 'url="(.*)"'),
    ("<conditions>", '<conditions logicalGrouping="MatchAny"><add input="{X}" pattern="y" />'),
    ('pattern="(?=', 'ignoreCase="true" negate="false" matchType="Pattern" pattern="(?='),
    ("stopProcessing", 'enabled="true" patternSyntax="ECMAScript" stopProcessing'),
    (' stopProcessing="true"', ""),
]
OTHER = [
    ("AbortRequest", "None"),
    ("AbortRequest", "Rewrite"),
    ('url=".*"', 'url="^owa"'),
    ('url=".*"', 'url=".*" negate="true"'),
    ("stopProcessing", 'patternSyntax="Wildcard" stopProcessing'),
    ("{UrlDecode:{REQUEST_URI}}", "{REQUEST_URI}"),
    ("{UrlDecode:{REQUEST_URI}}", "{UrlDecode: {REQUEST_URI}}"),
    ('pattern="(?=', 'negate="true" pattern="(?='),
    ('pattern="(?=', 'ignoreCase="false" pattern="(?='),
    ('pattern="(?=', 'matchType="IsFile" pattern="(?='),
    ("(?=.*autodiscover)(?=.*powershell)", OLD_PATTERN),
    ("<conditions>", '<conditions><add input="{X}" pattern="y" />'),
]


@pytest.mark.parametrize(("old", "new"), SAME)
def test_m1_spelt_otherwise(old: str, new: str) -> None:
    text = samples.M1_RULE.format(name="hand made")
    assert old in text
    assert m1(text.replace(old, new)).state == "applied"


@pytest.mark.parametrize(("old", "new"), OTHER)
def test_m1_that_does_something_else(old: str, new: str) -> None:
    text = samples.M1_RULE.format(name="hand made")
    assert old in text
    assert m1(text.replace(old, new)).state == "absent"
    named = m1(text.replace(old, new).replace("hand made", "EEMS M1.1 PowerShell - inbound"))
    assert (named.state, named.maker) == ("conflicting", "em")
    assert f"{samples.ROOT_FILE}, line 1" in (named.reason or "")


def test_m1_without_stop_beside_another_rule() -> None:
    assert m1(rule("x").replace(' stopProcessing="true"', "") + '<rule name="y" />').state == "absent"


@pytest.mark.parametrize(
    ("input", "pattern", "stop", "word"),
    [
        ("{REQUEST_URI}", r".*autodiscover\.json.*\@.*Powershell.*", "false", "2022-09-30"),
        ("{REQUEST_URI}", OLD_PATTERN, "true", "2022-10-03"),
        ("{UrlDecode: {REQUEST_URI}}", OLD_PATTERN, "true", "2022-10-05"),
        (INPUT, OLD_PATTERN, "true", "2022-10-06"),
    ],
)
def test_earlier_revisions_of_eomt_do_not_suffice(input: str, pattern: str, stop: str, word: str) -> None:  # pylint: disable=redefined-builtin
    found = m1(rule("PowerShell - inbound").replace(INPUT, input).replace(PATTERN, pattern).replace('stopProcessing="true"', f'stopProcessing="{stop}"'))
    assert (found.state, found.maker) == ("conflicting", "eomt")
    assert word in (found.reason or "")


def test_the_first_form_of_eomt_is_recognised_beside_other_rules() -> None:
    first = rule("PowerShell - inbound").replace(INPUT, "{REQUEST_URI}").replace(PATTERN, r".*autodiscover\.json.*\@.*Powershell.*")
    found = m1('<rule name="theirs" />' + first.replace(' stopProcessing="true"', ""))
    assert (found.state, "2022-09-30" in (found.reason or "")) == ("conflicting", True)


def test_disabled() -> None:
    found = m1(rule("EEMS M1.1 PowerShell - inbound").replace("stopProcessing", 'enabled="false" stopProcessing'))
    assert (found.state, found.maker) == ("disabled", "em")
    assert "switched off" in (found.reason or "")


def test_an_enabled_one_beside_a_disabled_one_counts() -> None:
    off = rule("EEMS M1.1 PowerShell - inbound").replace("stopProcessing", 'enabled="false" stopProcessing')
    assert (m1(off + rule("x")).state, m1(off + rule("x")).maker) == ("applied", "other")


def test_two_names_of_one_behaviour_are_reported() -> None:
    found = m1(rule("EEMS M1.1 PowerShell - inbound") + rule("PowerShell - inbound"))
    assert [(entry["rule"], entry["maker"]) for entry in found.duplicates] == [("EEMS M1.1 PowerShell - inbound", "em"), ("PowerShell - inbound", "eomt")]


def test_module_not_loaded() -> None:
    found = look("M1", samples.server(root=samples.in_root(rule("x")), modules=""))
    assert (found.state, "RewriteModule" in (found.reason or "")) == ("disabled", True)


@pytest.mark.parametrize("below", ["<clear />", '<remove name="EEMS M1.1 PowerShell - inbound" />'])
def test_taken_away_below(below: str) -> None:
    found = look("M1", samples.server(root=samples.in_root(rule("EEMS M1.1 PowerShell - inbound")), ecp=samples.in_root(below)))
    assert found.state == "conflicting"
    assert f"{samples.ECP_FILE}, line 1; it is not in force on /ecp" in (found.reason or "")


def test_not_inherited_is_not_in_force() -> None:
    block = b'<configuration><location inheritInChildApplications="false">%s</location></configuration>'
    found = look("M1", samples.server(root=samples.in_root(rule("x"), block)))
    assert (found.state, "does not reach /owa" in (found.reason or "")) == ("absent", True)
    assert look("M1", samples.server(root=samples.in_root(rule("PowerShell - inbound"), block))).state == "conflicting"


def test_the_same_name_in_a_child_breaks_it() -> None:
    text = rule("EEMS M1.1 PowerShell - inbound")
    found = look("M1", samples.server(root=samples.in_root(text), ecp=samples.in_root(text)))
    assert (found.state, found.breaks) == ("applied", ("/ecp",))


@pytest.mark.parametrize(("maker", "who"), [("EEMS M2.1", "em"), ("EOMT", "eomt"), ("my own", "other")])
def test_m2_outside_the_block_breaks_the_calendar(maker: str, who: str) -> None:
    found = look("M2", samples.server(owa=samples.owa_outside(maker)))
    assert (found.state, found.maker, found.breaks) == ("applied", who, ("/owa/Calendar",))


def test_m2_inside_the_block_breaks_nothing() -> None:
    found = look("M2", samples.server(owa=samples.owa_inside(samples.M2_RULES.format(maker="EOMT"))))
    assert (found.state, found.breaks) == ("applied", ())
    assert found.evidence[0]["location"] == "."


def test_m2_outside_breaks_nothing_where_no_folder_is_shared() -> None:
    applications = {**samples.APPLICATIONS, "/owa/Calendar": samples.PROXY + r"\ecp"}
    assert look("M2", samples.server(owa=samples.owa_outside("EEMS M2.1"), applications=applications)).breaks == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("script-src-attr 'none'", "script-src-attr 'self'"),
        ("RESPONSE_Content_Security_Policy", "RESPONSE_X"),
        ('type="Rewrite"', 'type="None"'),
        ('preCondition="EEMS M2.1 OWA SPA HTML shell - precondition"', ""),
        ('preCondition="EEMS M2.1 OWA SPA HTML shell - precondition"', 'preCondition="elsewhere"'),
        ("^text/html", "^text/plain"),
        ('logicalGrouping="MatchAll"', 'logicalGrouping="MatchAny"'),
        ('pattern="^text/html"', 'pattern="^text/html" negate="true"'),
        ("<match ", "<conditions><add input='{X}' pattern='y'/></conditions><match "),
    ],
)
def test_m2_that_does_something_else(old: str, new: str) -> None:
    text = samples.M2_RULES.format(maker="EEMS M2.1")
    assert old in text
    found = look("M2", samples.server(owa=samples.owa_inside(text.replace(old, new))))
    assert (found.state, found.maker) == ("conflicting", "em")


def test_m2_first_form_of_eomt() -> None:
    text = samples.M2_RULES.format(maker="EOMT").replace(r"|readingPane\.aspx|popout\.aspx", "")
    found = look("M2", samples.server(owa=samples.owa_inside(text)))
    assert (found.state, "readingPane" in (found.reason or "")) == ("conflicting", True)


def test_unknown_with_its_place() -> None:
    for server in (samples.server(root=b"<configuration>\n<oops></configuration>"), samples.server(ecp=b"<configuration>\n<oops></configuration>")):
        found = look("M1", server)
        assert (found.state, found.evidence[0]["line"]) == ("unknown", 2)
        assert found.evidence[0]["file"] in (samples.ROOT_FILE, samples.ECP_FILE)
        assert "line 2" in (found.reason or "")
    mitigation = catalogue.find("M1")
    assert mitigation is not None
    assert verdict(mitigation, None, BUILD).state == "unknown"


def test_m2_does_not_care_about_a_malformed_file_elsewhere() -> None:
    assert look("M2", samples.server(ecp=b"<oops>")).state == "absent"


@pytest.mark.parametrize(
    ("blocked", "config_ids", "is_blocked", "by"),
    [
        (None, (), None, ()),
        ([], (), False, ()),
        (["PING1", "M2.1.0"], (), True, ("M2.1.0",)),
        (["M2"], ("M2.1.0",), True, ("M2",)),
        (["M2.2"], ("M2.1.0",), False, ()),
        (["m2"], (), True, ("m2",)),
        (["M20"], (), False, ()),
    ],
)
def test_blocks(blocked: list[str] | None, config_ids: tuple[str, ...], is_blocked: bool | None, by: tuple[str, ...]) -> None:
    found = look("M2", samples.server(), blocked_ids=blocked, config_ids=config_ids)
    assert (found.blocked, found.blocked_ids, found.block_can_be_lifted) == (is_blocked, by, False)


def test_a_block_can_be_lifted_above_the_highest_build() -> None:
    mitigation = catalogue.find("M2")
    assert mitigation is not None
    found = verdict(mitigation, samples.server(), (15, 2, 2562, 45), ["M2.1.0"])
    assert (found.needed, found.block_can_be_lifted, found.code_fix) == ("no", True, "15.2.2562.43")
    assert found.highest_applicable == {"RTM": "15.2.2562.43"}


def test_public_shape() -> None:
    keys = {
        "id",
        "cve",
        "kind",
        "title",
        "state",
        "needed",
        "blocked",
        "blocked_ids",
        "maker",
        "breaks",
        "block_can_be_lifted",
        "reason",
        "evidence",
        "duplicates",
    }
    keys |= {"highest_applicable", "code_fix", "side_effects"}
    for found in (look("M1", samples.server()), unsupported("M3.1", ["M3"])):
        assert set(found.as_dict()) == keys
        assert found.state in STATES
    assert unsupported("M3.1", ["M3"]).blocked is True
    assert unsupported("M3.1").state == "unsupported"


@pytest.mark.parametrize("root", ["DefaultWebSite", "DefaultWebSite.variant2"])
def test_recorded_server_has_none(recorded: Callable[[str], pathlib.Path], root: str) -> None:
    server = samples.recorded_server(recorded, root)
    rewrites = [mitigation for mitigation in catalogue.all() if mitigation.rewrites]
    assert [(mitigation.id, look(mitigation.id, server).state) for mitigation in rewrites] == [(i, "absent") for i in ("M1", "M2", "CVE-2021-26855")]


def test_recorded_malformed_root_is_unknown(recorded: Callable[[str], pathlib.Path]) -> None:
    found = look("M1", samples.recorded_server(recorded, "DefaultWebSite.malformed-with-EEMS-M1.1"))
    assert (found.state, found.evidence[0]["line"]) == ("unknown", 42)


def test_recorded_root_repaired_has_three_of_one_behaviour(recorded: Callable[[str], pathlib.Path]) -> None:
    server = samples.recorded_server(recorded)
    data = (
        recorded("exchange2019/DefaultWebSite.malformed-with-EEMS-M1.1.web.config")
        .read_bytes()
        .replace(b"    <system.web>\n  </location>", b"    </system.web>\n  </location>")
    )
    found = look("M1", server.with_file(r"C:\inetpub\wwwroot\web.config", data))
    assert (found.state, found.maker, found.breaks) == ("applied", "em", ())
    assert [entry["maker"] for entry in found.duplicates] == ["em", "other", "eomt"]


def test_recorded_fragment_of_eomt_outside_the_block(recorded: Callable[[str], pathlib.Path]) -> None:
    server = samples.recorded_server(recorded)
    file = server.file_for(samples.SITE, "/owa")
    data = server.state_of(file).data
    assert data is not None
    fragment = recorded("exchange2019/owa.EOMT-CVE-2026-42897.fragment.xml").read_bytes()
    found = look("M2", server.with_file(file, data.replace(b"</configuration>", b"<system.webServer>" + fragment + b"</system.webServer></configuration>")))
    assert (found.state, found.maker, found.breaks) == ("applied", "eomt", ("/owa/Calendar", "/owa/Integrated", "/owa/oma"))
