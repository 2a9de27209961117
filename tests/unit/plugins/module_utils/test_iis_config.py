# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The IIS configuration reader: expected results written by hand, and the recorded server."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConfigurationError
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_config import Configuration, FileState, rewrite_support, web_config_paths
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils import iis_samples as samples


def inbound(configuration: Configuration, path: str) -> list[str]:
    """Return the names of the inbound rules in force on a path, with ``!`` and the kinds of fatal problems."""
    effective = configuration.effective_rewrite(samples.SITE, path)
    return [rule.name for rule in effective.inbound] + [f"!{problem.kind}" for problem in effective.problems if problem.fatal]


def rules(text: str) -> str:
    """Return a rewrite section with inbound rules: ``a b`` are rules, ``-a`` removes, ``*`` clears."""
    parts = ["<clear />" if word == "*" else f'<remove name="{word[1:]}" />' if word.startswith("-") else f'<rule name="{word}" />' for word in text.split()]
    return f"<system.webServer><rewrite><rules>{''.join(parts)}</rules></rewrite></system.webServer>"


def config(*parts: str) -> bytes:
    """Return a web.config."""
    return f"<configuration>{''.join(parts)}</configuration>".encode()


def location(path: str | None, text: str, **attributes: str) -> str:
    """Return a location tag around text."""
    named = "" if path is None else f' path="{path}"'
    return f"<location{named}{''.join(f' {k}={chr(34)}{v}{chr(34)}' for k, v in attributes.items())}>{text}</location>"


ALL = ("/", "/owa", "/owa/Calendar", "/ecp")

CASES = [
    # what, root web.config, owa web.config, end of applicationHost.config, expected for ALL
    ("nothing", config(), config(), "", [[], [], [], []]),
    ("children inherit", config(rules("a b")), config(), "", [["a", "b"]] * 4),
    ("a block without path is not inherited", config(location(None, rules("a"), inheritInChildApplications="false")), config(), "", [["a"], [], [], []]),
    ("a block with a dot is not inherited", config(location(".", rules("a"), inheritInChildApplications="false")), config(), "", [["a"], [], [], []]),
    ("a block with true is inherited", config(location(".", rules("a"), inheritInChildApplications="true")), config(), "", [["a"]] * 4),
    ("a shared folder is read twice", config(), config(rules("a")), "", [[], ["a"], ["a", "!duplicate"], []]),
    ("a block makes sharing harmless", config(), config(location(None, rules("a"), inheritInChildApplications="false")), "", [[], ["a"], ["a"], []]),
    ("remove before add makes sharing harmless", config(), config(rules("-a a")), "", [[], ["a"], ["a"], []]),
    ("clear before add makes sharing harmless", config(rules("x")), config(rules("* a")), "", [["x"], ["a"], ["a"], ["x"]]),
    ("the child clears", config(rules("a b")), config(rules("*")), "", [["a", "b"], [], [], ["a", "b"]]),
    ("the child removes one, in any case", config(rules("a b")), config(rules("-A")), "", [["a", "b"], ["b"], ["b"], ["a", "b"]]),
    ("removing what is not there is no error", config(rules("-x a")), config(), "", [["a"]] * 4),
    ("the child adds", config(rules("a")), config(location(".", rules("b"), inheritInChildApplications="false")), "", [["a"], ["a", "b"], ["a", "b"], ["a"]]),
    ("the same name in a child", config(rules("a")), config(rules("A")), "", [["a"], ["a", "!duplicate"], ["a", "!duplicate", "!duplicate"], ["a"]]),
    ("the same name twice in one section", config(rules("a a")), config(), "", [["a", "!duplicate"]] * 4),
    ("a location tag for a child", config(location("owa", rules("a"))), config(), "", [[], ["a"], ["a"], []]),
    ("its path in any case", config(location("OWA/calendar", rules("a"))), config(), "", [[], [], ["a"], []]),
    ("a location tag for a child, not inherited", config(location("owa", rules("a"), inheritInChildApplications="false")), config(), "", [[], ["a"], [], []]),
    ("applicationHost for the site", config(rules("b")), config(), location(samples.SITE, rules("a")), [["a", "b"]] * 4),
    (
        "applicationHost for a path comes after the site's file",
        config(rules("b")),
        config(),
        location(samples.SITE + "/owa", rules("a")),
        [["b"], ["b", "a"], ["b", "a"], ["b"]],
    ),
    ("applicationHost for another site", config(), config(), location("Other", rules("a")), [[], [], [], []]),
    ("applicationHost for everything", config(), config(), location("", rules("a")), [["a"]] * 4),
    ("applicationHost, site, not inherited", config(), config(), location(samples.SITE, rules("a"), inheritInChildApplications="false"), [["a"], [], [], []]),
    ("locked for the site", config(rules("a")), config(), location(samples.SITE, rules(""), overrideMode="Deny"), [["a", "!locked"]] * 4),
    ("locked by the old attribute", config(rules("a")), config(), location(samples.SITE, rules(""), allowOverride="false"), [["a", "!locked"]] * 4),
    ("locked and nothing set", config(), config(), location(samples.SITE, rules("a"), overrideMode="Deny"), [["a"]] * 4),
    (
        "locked below a path",
        config(rules("a")),
        config(location(None, rules("b"), inheritInChildApplications="false")),
        location(samples.SITE + "/owa", rules(""), overrideMode="Deny"),
        [["a"], ["a", "b", "!locked"], ["a", "b", "!locked"], ["a"]],
    ),
    (
        "locked by the site's own file",
        config(location("owa", rules("a"), overrideMode="Deny")),
        config(rules("-a a")),
        "",
        [[], ["a", "!locked"], ["a", "!locked", "!locked"], []],
    ),
    (
        "unlocked again",
        config(rules("a")),
        config(),
        location("", rules(""), overrideMode="Deny") + location(samples.SITE, rules(""), overrideMode="Allow"),
        [["a"]] * 4,
    ),
    ("lockElements", config(rules("a")), config(), location(samples.SITE, rules("").replace("<rules>", '<rules lockElements="rule">')), [["a", "!locked"]] * 4),
    ("lockItem", config(rules("a")), config(), location(samples.SITE, rules("").replace("<rules>", '<rules lockItem="true">')), [["a", "!locked"]] * 4),
    ("the section twice at the top level", config(rules("a"), rules("b")), config(), "", [["a", "b", "!section_twice"]] * 4),
    (
        "two location tags for one path",
        config(location("owa", rules("a")), location("owa", rules("b"))),
        config(),
        "",
        [[], ["a", "b", "!section_twice"], ["a", "b", "!section_twice"], []],
    ),
    ("top level and block", config(rules("a"), location(".", rules("b"))), config(), "", [["a", "b", "!section_split"]] * 4),
    (
        "a locked rule below a clear",
        config(rules("a").replace("<rule ", '<rule lockItem="true" ')),
        config(rules("* b")),
        "",
        [["a"], ["b", "!locked"], ["b", "!locked"], ["a"]],
    ),
    (
        "lockElements clear",
        config(rules("a").replace("<rules>", '<rules lockElements="clear">')),
        config(rules("* b")),
        "",
        [["a"], ["b", "!locked"], ["b", "!locked", "!locked"], ["a"]],
    ),
    ("lockElements rule, and none below", config(rules("a").replace("<rules>", '<rules lockElements="rule">')), config(rules("")), "", [["a"]] * 4),
    ("an unknown element", config(rules("a").replace("<rules>", "<rules><role />")), config(), "", [["a", "!unrecognized"]] * 4),
    ("a rule without a name", config(rules("a").replace("<rules>", "<rules><rule />")), config(), "", [["a", "!unrecognized"]] * 4),
]


@pytest.mark.parametrize(("root", "owa", "host", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_by_hand(root: bytes, owa: bytes, host: str, expected: list[list[str]]) -> None:
    server = samples.server(root=root, owa=owa, ecp=config(), extra=samples.MODULE + host)
    assert [inbound(server, path) for path in ALL] == expected


def test_undeclared_section() -> None:
    server = samples.server(root=config(rules("a")), sections="")
    assert inbound(server, "/") == ["a", "!section_undeclared"]
    assert not server.rewrite.declared


def test_deny_by_default() -> None:
    server = samples.server(
        root=config(rules("a")), sections=samples.SECTIONS.replace('name="rules" overrideModeDefault="Allow"', 'name="rules" overrideModeDefault="Deny"')
    )
    assert inbound(server, "/owa") == ["a", "!locked"]
    assert "overrideModeDefault" in (server.lock_on(samples.SITE, "/", "system.webServer/rewrite/rules", samples.ROOT_FILE) or "")


def test_locks_named_before_a_write() -> None:
    server = samples.server(extra=samples.MODULE + location(samples.SITE, rules(""), overrideMode="Deny"))
    assert samples.HOST_PATH in (server.lock_on(samples.SITE, "/owa", "system.webServer/rewrite/rules", samples.OWA_FILE) or "")
    assert server.lock_on(samples.SITE, "/owa", "system.webServer/rewrite/outboundRules", samples.OWA_FILE) is None
    assert "AppHostOnly" not in (server.lock_on(samples.SITE, "/", "system.webServer/rewrite/globalRules", samples.ROOT_FILE) or "AppHostOnly")


def test_outbound_and_preconditions_are_collections_of_their_own() -> None:
    server = samples.server(owa=samples.owa_outside("EEMS M2.1"))
    owa, calendar = (server.effective_rewrite(samples.SITE, path) for path in ("/owa", "/owa/Calendar"))
    assert [rule.name for rule in owa.outbound] == ["EEMS M2.1 OWA CSP - outbound"]
    assert [rule.name for rule in owa.preconditions] == ["EEMS M2.1 OWA SPA HTML shell - precondition"]
    assert not owa.broken
    assert [(p.kind, p.rules[0].kind) for p in calendar.problems] == [("duplicate", "outbound"), ("duplicate", "precondition")]
    assert "share this file" in calendar.problems[0].message


def test_where_a_rule_comes_from_and_reaches() -> None:
    server = samples.server(root=config("\n", rules("a")), owa=config(location(None, rules("b"), inheritInChildApplications="false")))
    first, second = server.effective_rewrite(samples.SITE, "/owa").inbound
    assert (first.file, first.line, first.level, first.location, first.reach) == (samples.ROOT_FILE, 2, "/", None, "children")
    assert (second.file, second.level, second.location, second.reach) == (samples.OWA_FILE, "/owa", ".", "application")
    data = server.state_of(samples.OWA_FILE).data
    assert data is not None
    assert data[second.span[0] : second.span[1]] == b'<rule name="b" />'


def test_config_source() -> None:
    text = rules("").replace("<rules>", '<rules configSource="r.config">')
    server = samples.server(root=config(text))
    with pytest.raises(ConfigurationError, match="was not read"):
        inbound(server, "/")
    other = r"c:\inetpub\wwwroot\r.config"
    assert inbound(server.with_file(other, b'<rules><rule name="a" /></rules>'), "/owa") == ["a"]
    with pytest.raises(ConfigurationError, match="does not hold the section"):
        inbound(server.with_file(other, b"<x/>"), "/owa")


def test_encrypted_section_is_unknown() -> None:
    server = samples.server(root=config(rules("").replace("<rules>", '<rules configProtectionProvider="X">')))
    with pytest.raises(ConfigurationError, match="encrypted") as caught:
        inbound(server, "/")
    assert caught.value.details["line"] == 1


def test_malformed_only_where_it_is_read() -> None:
    server = samples.server(ecp=b"<configuration>\n<oops></configuration>")
    assert inbound(server, "/owa") == []
    with pytest.raises(ConfigurationError) as caught:
        inbound(server, "/ecp")
    assert (caught.value.details["file"], caught.value.details["line"]) == (samples.ECP_FILE, 2)


def test_a_file_that_was_not_read_is_never_empty() -> None:
    host = FileState(samples.HOST_PATH, samples.application_host())
    server = Configuration(host, {samples.ROOT_FILE: FileState(samples.ROOT_FILE, None)}, samples.ENVIRONMENT)
    assert inbound(server, "/") == []
    with pytest.raises(ConfigurationError, match="was not read"):
        inbound(server, "/owa")
    server = Configuration(host, {samples.ROOT_FILE: FileState(samples.ROOT_FILE, None, error="access denied")}, samples.ENVIRONMENT)
    with pytest.raises(ConfigurationError, match="access denied"):
        inbound(server, "/")


def test_places() -> None:
    server = samples.server()
    assert server.physical_path("default web site", "/OWA/auth/15.2") == samples.PROXY + r"\owa\auth\15.2"
    assert server.file_for(samples.SITE, "/") == samples.ROOT_FILE
    assert server.applications_below(samples.SITE, "/owa") == ["/owa/Calendar"]
    assert server.sharing_folder(samples.SITE, "/owa") == [(samples.SITE, "/owa/Calendar")]
    assert server.places_reading(samples.ROOT_FILE) == [(samples.SITE, path) for path in ALL]
    assert server.places_reading(samples.OWA_FILE) == [(samples.SITE, "/owa"), (samples.SITE, "/owa/Calendar")]
    with pytest.raises(ConfigurationError, match="there is no site 'x' \\(there are: Default Web Site\\)"):
        server.site("x")


def test_virtual_directories_sub_folders_and_other_drives() -> None:
    host = (
        b'<configuration><system.applicationHost><sites><site name="Default Web Site" id="1"><application path="/">'
        b'<virtualDirectory path="/" physicalPath="%SystemDrive%\\inetpub\\wwwroot\\" />'
        b'<virtualDirectory path="/exchange" physicalPath="E:\\x" allowSubDirConfig="false" />'
        b'</application><application path="/a/b" applicationPool="Q"><virtualDirectory path="/" physicalPath="%UNKNOWN%\\b" /></application></site>'
        b'<applicationDefaults applicationPool="D" /></sites></system.applicationHost></configuration>'
    )
    assert web_config_paths(host, samples.ENVIRONMENT) == [
        samples.ROOT_FILE,
        r"E:\x\web.config",
        r"C:\inetpub\wwwroot\a\web.config",
        r"%UNKNOWN%\b\web.config",
    ]
    server = Configuration(FileState(samples.HOST_PATH, host), {}, samples.ENVIRONMENT)
    assert [(a.path, a.pool) for a in server.site(samples.SITE).applications] == [("/", "D"), ("/a/b", "Q")]
    assert server.physical_path(samples.SITE, "/exchange/sub") == r"E:\x\sub"


@pytest.mark.parametrize(
    ("change", "declared", "module"),
    [({}, True, True), ({"sections": ""}, False, True), ({"modules": ""}, True, False), ({"extra": ""}, True, False)],
)
def test_rewrite_support(change: dict[str, str], declared: bool, module: bool) -> None:
    support = rewrite_support(samples.application_host(**change))
    assert (support.declared, support.module) == (declared, module)


def test_global_rules() -> None:
    extra = '<system.webServer><rewrite><globalRules><rule name="g" /></globalRules></rewrite></system.webServer>'
    assert [rule.name for rule in samples.server(extra=samples.MODULE + extra).global_rules] == ["g"]


def test_recorded_server(recorded: Callable[[str], pathlib.Path]) -> None:
    server = samples.recorded_server(recorded)
    site = server.site(samples.SITE)
    assert len(site.applications) == 14
    assert server.rewrite.declared
    assert server.rewrite.module
    assert ("https", ":443:") in site.bindings
    assert server.sharing_folder(samples.SITE, "/owa") == [(samples.SITE, path) for path in ("/owa/Calendar", "/owa/Integrated", "/owa/oma")]
    for application in site.applications:
        effective = server.effective_rewrite(samples.SITE, application.path)
        assert (effective.inbound, effective.outbound, effective.problems) == ((), (), ())
    assert len(web_config_paths(server.application_host.data or b"", samples.ENVIRONMENT)) == 11
    assert server.physical_path("Exchange Back End", "/Rpc") == r"C:\Windows\System32\RpcProxy"
