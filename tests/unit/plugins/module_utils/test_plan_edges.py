# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What rarely happens to plans and to the reader: unreadable and undeclared parts, locks, files that changed since a run."""

from __future__ import annotations

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConfigurationError
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_config import Configuration, FileState
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sections import INBOUND, OUTBOUND
from ansible_collections.exchange.mitigation.plugins.module_utils._plan import plan, rollback
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils import iis_samples as samples
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.plan_samples import FACTS, Record, made, records, request

UNDECLARED = '<sectionGroup name="rewrite"><!-- x --><sectionSchema /><section name="outboundRules" /></sectionGroup>'
RULE = samples.M1_RULE.format(name="EEMS M1.1 PowerShell - inbound")


@pytest.mark.parametrize(("error", "said"), [("access denied", "access denied"), ("", "does not exist")])
def test_without_application_host_nothing_is_known(error: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Configuration(FileState(samples.HOST_PATH, None, error=error), {}, samples.ENVIRONMENT)


def test_a_section_that_is_not_declared() -> None:
    server = samples.server(sections=UNDECLARED, root=samples.in_root(RULE))
    (problem,) = server.effective_rewrite(samples.SITE, "/").problems
    assert (problem.kind, problem.fatal, problem.file) == ("section_undeclared", True, samples.ROOT_FILE)
    assert "not declared" in str(server.lock_on(samples.SITE, "/", INBOUND, samples.ROOT_FILE))
    assert server.lock_on(samples.SITE, "/", OUTBOUND, samples.ROOT_FILE) is None


@pytest.mark.parametrize(("mode", "locked"), [("Allow", False), ("Deny", True), ("Inherit", True)])
def test_a_lock_is_opened_for_a_path(mode: str, locked: bool) -> None:
    sections = samples.SECTIONS.replace('name="rules" overrideModeDefault="Allow"', 'name="rules" overrideModeDefault="Deny"')
    section = "<system.webServer><rewrite><rules /></rewrite></system.webServer>"
    server = samples.server(sections=sections, extra=samples.MODULE + f'<location path="{samples.SITE}" overrideMode="{mode}">{section}</location>')
    assert (server.lock_on(samples.SITE, "/", INBOUND, samples.ROOT_FILE) is not None) is locked
    refusals = [r.reason for r in plan(request("M1"), server, FACTS).refusals]
    assert refusals == (["section_locked"] if locked else [])


def test_a_folder_whose_files_are_not_read_is_no_level() -> None:
    host = samples.application_host().replace(b'physicalPath="D:', b'allowSubDirConfig="false" physicalPath="D:')
    server = Configuration(FileState(samples.HOST_PATH, host), samples.server().files, samples.ENVIRONMENT)
    assert server.folders_below(samples.SITE, "/") == []
    assert (samples.SITE, "/owa") in server.places_read()


def test_rollback_of_a_local_mitigation_needs_its_definition_where_the_file_changed() -> None:
    record = Record(samples.ROOT_FILE, samples.ROOT_CONFIG, b"<configuration><a /></configuration>", ("LOCAL-9",))
    server = samples.server(root=b"<configuration><b /></configuration>")
    assert [r.reason for r in rollback(server, FACTS, [record]).refusals] == ["local_definition_needed"]


def test_rollback_where_what_must_be_understood_is_not() -> None:
    server = samples.server()
    edits = plan(request("M1"), server, FACTS).edits
    after = made(server, plan(request("M1"), server, FACTS))
    changed = (after.state_of(samples.ROOT_FILE).data or b"").replace(b"</configuration>", b"<!-- more --></configuration>")
    broken = after.with_file(samples.ROOT_FILE, changed).with_file(samples.ECP_FILE, b"<configuration>")
    result = rollback(broken, FACTS, records(edits))
    assert ([r.reason for r in result.refusals], result.edits) == (["configuration_malformed"], ())
    (refusal,) = result.refusals
    assert refusal.details["file"] == samples.ECP_FILE


def test_without_a_configuration_rules_are_not_removed() -> None:
    assert [r.reason for r in plan(request("M1", state="absent"), None, FACTS).refusals] == ["configuration_not_read"]
    assert [r.reason for r in rollback(None, FACTS, [Record(samples.ROOT_FILE, b"a", b"b", ("M1",))]).refusals] == ["configuration_not_read"]


def test_a_section_that_belongs_to_the_server_alone() -> None:
    sections = samples.SECTIONS.replace('name="rules"', 'name="rules" allowDefinition="AppHostOnly"')
    server = samples.server(sections=sections, root=samples.in_root(RULE))
    (problem,) = server.effective_rewrite(samples.SITE, "/").problems
    assert (problem.kind, problem.fatal, "applicationHost.config only" in problem.message) == ("locked", True, True)
