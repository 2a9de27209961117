# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The IIS reader on servers that are not as Microsoft's setup leaves them: other names, drives, files, modules."""

from __future__ import annotations

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _catalogue as catalogue
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConfigurationError
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_config import Configuration, FileState, web_config_paths
from ansible_collections.exchange.mitigation.plugins.module_utils._plan import plan
from ansible_collections.exchange.mitigation.plugins.module_utils._verdict import Verdict, verdict
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils import iis_samples as samples
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.plan_samples import BOTH, FACTS, made, request

BUILD = (15, 2, 986, 5)
EM = samples.M1_RULE.format(name="EEMS M1.1 PowerShell - inbound")


def m1(server: Configuration) -> Verdict:
    mitigation = catalogue.find("M1")
    assert mitigation is not None
    return verdict(mitigation, server, BUILD)


# Renamed sites


def renamed(name: str = "Exchange FE") -> Configuration:
    host = samples.application_host().replace(samples.SITE.encode(), name.encode())
    paths = web_config_paths(host, samples.ENVIRONMENT)
    known = {samples.ROOT_FILE: samples.ROOT_CONFIG, samples.OWA_FILE: samples.OWA_CONFIG, samples.ECP_FILE: samples.ECP_CONFIG}
    return Configuration(FileState(samples.HOST_PATH, host), {path: FileState(path, known[path]) for path in paths}, samples.ENVIRONMENT)


def test_the_front_end_under_another_name_is_found_by_what_it_serves() -> None:
    server = renamed()
    assert m1(server).state == "absent"
    result = plan(BOTH, server, FACTS)
    assert (len(result.edits), result.refusals) == (2, ())
    assert {check.pspath.split("/")[3] for one in result.edits for check in one.checks} == {"Exchange FE"}
    assert [v.state for v in plan(BOTH, made(server, result), FACTS).verdicts] == ["applied", "applied"]


def test_two_sites_that_could_be_it_are_not_chosen_from() -> None:
    host = renamed().application_host.data or b""
    site = host[host.index(b"<site ") : host.index(b"</sites>")]
    twice = host.replace(b"</sites>", site.replace(b"Exchange FE", b"Other FE").replace(b'id="1"', b'id="2"') + b"</sites>")
    server = Configuration(FileState(samples.HOST_PATH, twice), {}, samples.ENVIRONMENT)
    assert web_config_paths(twice, samples.ENVIRONMENT) == []
    found = m1(server)
    assert found.state == "unknown"
    assert "Exchange FE, Other FE" in (found.reason or "")


def test_another_name_means_only_itself() -> None:
    with pytest.raises(ConfigurationError) as caught:
        renamed().site("Nonsense")
    assert caught.value.reason == "site_missing"


# Other drives and spellings of folders


@pytest.mark.parametrize(
    ("written", "file"),
    [
        (r"D:\Exchange\FrontEnd\HttpProxy\owa", r"D:\Exchange\FrontEnd\HttpProxy\owa\web.config"),
        ("D:\\Exchange\\FrontEnd\\HttpProxy\\owa\\", r"D:\Exchange\FrontEnd\HttpProxy\owa\web.config"),
        ("E:/Exchange/FrontEnd/HttpProxy/owa", r"E:\Exchange\FrontEnd\HttpProxy\owa\web.config"),
        (r"%ExchangeInstallPath%FrontEnd\HttpProxy\owa", r"F:\V15\FrontEnd\HttpProxy\owa\web.config"),
        (r"%exchangeinstallpath%\FrontEnd\HttpProxy\owa", r"F:\V15\FrontEnd\HttpProxy\owa\web.config"),
        (r"\\\\server\share\owa", r"\\\\server\share\owa\web.config"),
        (r"%NoSuch%\owa", r"%NoSuch%\owa\web.config"),
    ],
)
def test_folders(written: str, file: str) -> None:
    host = samples.application_host(applications={"/": r"C:\inetpub\wwwroot", "/owa": written.replace("\\\\\\\\", "\\\\")})
    environment = {**samples.ENVIRONMENT, "ExchangeInstallPath": "F:\\V15\\"}
    assert web_config_paths(host, environment)[1] == file.replace("\\\\\\\\", "\\\\")


# Sections in other files


def test_config_source_is_listed_read_and_understood() -> None:
    root = b'<configuration><system.webServer><rewrite><rules configSource="sub\\rules.config" /></rewrite></system.webServer></configuration>'
    server = samples.server(root=root)
    (file,) = server.unread()
    assert file == r"C:\inetpub\wwwroot\sub\rules.config"
    assert (m1(server).state, m1(server).evidence[0]["file"]) == ("unknown", file)
    whole = server.with_files({file: FileState(file, f"<rules>{EM}</rules>".encode())})
    assert whole.unread() == []
    found = m1(whole)
    assert (found.state, found.maker, found.evidence[0]["file"]) == ("applied", "em", file)


def test_config_source_of_application_host_is_among_the_files_to_read() -> None:
    extra = f'<location path="{samples.SITE}"><system.webServer><rewrite><rules configSource="r.config" /></rewrite></system.webServer></location>'
    host = samples.application_host(extra=samples.MODULE + extra)
    assert web_config_paths(host, samples.ENVIRONMENT)[-1] == r"C:\Windows\System32\inetsrv\config\r.config"


@pytest.mark.parametrize("name", ["\\\\\\\\server\\share\\r.config", "C:\\r.config", "\\r.config", "/r.config", "..\\r.config", "sub\\..\\..\\r.config"])
def test_files_elsewhere_are_not_read_and_the_section_stays_unknown(name: str) -> None:
    root = f'<configuration><system.webServer><rewrite><rules configSource="{name}" /></rewrite></system.webServer></configuration>'.encode()
    server = samples.server(root=root)
    assert server.unread() == []
    assert m1(server).state == "unknown"


def test_a_broken_file_does_not_hide_which_others_are_to_be_read() -> None:
    root = b'<configuration><system.webServer><rewrite><rules configSource="r.config" /></rewrite></system.webServer></configuration>'
    assert len(samples.server(root=root, ecp=b"<x").unread()) == 1


# Modules


def modules(text: str) -> bytes:
    return f"<configuration><system.webServer><modules>{text}</modules></system.webServer></configuration>".encode()


def test_a_module_that_the_root_takes_away_switches_the_rule_off() -> None:
    gone = b'<location path="."><system.webServer><modules><remove name="RewriteModule" /></modules></system.webServer></location>'
    root = samples.in_root(EM, b"<configuration>%s" + gone + b"</configuration>")
    found = m1(samples.server(root=root))
    assert (found.state, found.maker) == ("disabled", "em")
    assert f"{samples.ROOT_FILE}, line" in (found.reason or "")
    assert [r.reason for r in plan(request("M1", on_conflict="replace"), samples.server(root=root), FACTS).refusals] == ["disabled"]


@pytest.mark.parametrize(
    ("text", "state"), [('<remove name="RewriteModule" />', "conflicting"), ("<clear />", "conflicting"), ('<clear /><add name="rewritemodule" />', "applied")]
)
def test_a_module_that_a_child_takes_away(text: str, state: str) -> None:
    found = m1(samples.server(root=samples.in_root(EM), ecp=modules(text)))
    assert found.state == state
    assert (samples.ECP_FILE in (found.reason or "")) == (state == "conflicting")


def test_without_the_module_on_a_path_nothing_is_written() -> None:
    result = plan(BOTH, samples.server(root=modules("<clear />")), FACTS)
    assert {r.reason for r in result.refusals} == {"would_not_apply"}
    assert result.edits == ()


# Rules in the way


STOP = '<rule name="first" stopProcessing="true"><match url="{url}" /><action type="{action}" /></rule>'


@pytest.mark.parametrize(
    ("before", "state", "noted"),
    [
        (STOP.format(url=".*", action="None"), "disabled", False),
        (STOP.format(url=".*", action="Rewrite"), "disabled", False),
        (STOP.format(url="^x", action="None"), "applied", True),
        (STOP.format(url=".*", action="AbortRequest"), "applied", False),
        (STOP.format(url=".*", action="None").replace("true", "false"), "applied", False),
        (STOP.format(url=".*", action="None").replace("<rule ", '<rule enabled="false" '), "applied", False),
    ],
)
def test_a_rule_that_ends_the_processing_before_ours(before: str, state: str, noted: bool) -> None:
    server = samples.server(root=samples.in_root(before + EM))
    found = m1(server)
    assert found.state == state
    result = plan(request("M1"), server, FACTS)
    assert any("'first'" in text for text in result.warnings) == noted
    if state == "disabled":
        assert "'first'" in (found.reason or "")
        after = made(server, plan(request("M1", on_conflict="replace"), server, FACTS))
        assert m1(after).state == "applied"


def test_a_global_rule_does_the_job_for_every_site() -> None:
    rule = EM.replace("EEMS M1.1 P", "hand made p").encode()
    host = samples.application_host().replace(b"</globalModules>", b"</globalModules><rewrite><globalRules>" + rule + b"</globalRules></rewrite>")
    server = Configuration(FileState(samples.HOST_PATH, host), samples.server().files, samples.ENVIRONMENT)
    found = m1(server)
    assert (found.state, found.maker, found.evidence[0]["file"]) == ("applied", "other", samples.HOST_PATH)


def test_paths_that_nothing_serves() -> None:
    server = samples.server(applications={"/owa": samples.PROXY + r"\owa"})
    for path in ("/", "/ecp"):
        with pytest.raises(ConfigurationError) as caught:
            server.physical_path(samples.SITE, path)
        assert caught.value.reason == "path_missing"
    assert m1(server).state == "unknown"
    host = samples.application_host().replace(b'<virtualDirectory path="/" physicalPath="D:\\Exchange\\FrontEnd\\HttpProxy\\ecp" />', b"")
    bare = Configuration(FileState(samples.HOST_PATH, host), samples.server().files, samples.ENVIRONMENT)
    with pytest.raises(ConfigurationError):
        bare.physical_path(samples.SITE, "/ecp")
    assert m1(bare).state == "absent"


def test_folders_whose_files_are_not_read() -> None:
    host = samples.application_host().replace(b'physicalPath="%SystemDrive%', b'allowSubDirConfig="false" physicalPath="%SystemDrive%')
    server = Configuration(FileState(samples.HOST_PATH, host), samples.server().files, samples.ENVIRONMENT)
    assert server.effective_rewrite(samples.SITE, "/images/deep").inbound == ()
