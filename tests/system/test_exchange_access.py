# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every way in which Exchange cannot be reached without Kerberos: the sentence is the guide's. Kerberos: test_kerberos.py."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from access import failing, printed, rows, working
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.exchange.mitigation.plugins.module_utils import _deps
from ansible_collections.exchange.mitigation.plugins.module_utils._access import ACCESS
from ansible_collections.exchange.mitigation.plugins.module_utils._model import call
from ansible_collections.exchange.mitigation.plugins.modules import server, server_info
from ansible_collections.exchange.mitigation.plugins.plugin_utils._controller import ActionTask
from guides import access_sentences
from names.sitecustomize import resolve
from session_live import connection, exchange

from lab.fleet import Fleet


@pytest.fixture(scope="module")
def running() -> Iterator[Fleet]:
    with Fleet(2, lag=0) as fleet:
        yield fleet


@pytest.fixture
def fleet(running: Fleet) -> Iterator[Fleet]:
    running.access_log.clear()
    roles = dict(running.roles)
    yield running
    running.roles = roles
    running.no_remote_powershell.clear()
    for machine in running.machines:
        machine.exchange_requires_tls = False
        machine.language_mode = "FullLanguage"
        machine.__dict__.pop("auth", None)
        machine.environment["ExchangeInstallPath"] = "C:\\Program Files\\Microsoft\\Exchange Server\\V15\\"
    assert running.refusals == [] and running.scripts_received == 0
    assert running._server is not None and running._server.open_shells() == []


def way(fleet: Fleet, secure: bool = False, **changed: Any) -> dict[str, Any]:
    """Return the options that reach the lab's Exchange endpoint."""
    return {
        "exchange_port": fleet.port(fleet.machines[0], "web_https" if secure else "web_http"),
        "exchange_scheme": "https" if secure else "http",
        "exchange_auth": "basic" if secure else "ntlm",
        "exchange_ca_path": str(fleet.pki.tls_ca_path),
    } | changed


def test_the_guide_shows_every_code_once() -> None:
    assert rows() == access_sentences()
    assert set(rows()) == {"missing_library", *ACCESS}


def test_basic_and_ntlm_work(fleet: Fleet) -> None:
    assert working(fleet, fleet.machines[0], **way(fleet)) == working(fleet, fleet.machines[0], **way(fleet, secure=True)) == 2


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("who", [{"exchange_password": "wrong"}, {"exchange_username": "LAB\\nobody"}])
def test_wrong_password_and_unknown_user(fleet: Fleet, secure: bool, who: dict[str, str]) -> None:
    assert printed(failing(fleet, fleet.machines[0], **way(fleet, secure, **who))) == "authentication_refused"


@pytest.mark.parametrize("auth", ["ntlm", "negotiate"])
def test_ntlm_refused(fleet: Fleet, auth: str) -> None:
    fleet.machines[0].auth = {"web_http": ("kerberos",)}
    failure = failing(fleet, fleet.machines[0], **way(fleet, exchange_auth=auth))
    if auth == "negotiate" and _deps.optional("gssapi") is not None:
        assert failure.reason.startswith("kerberos_")  # it tries Kerberos, which is offered
    else:
        assert printed(failure) == "ntlm_refused"
        assert "only Kerberos" in failure.message


def test_basic_disabled(fleet: Fleet) -> None:
    fleet.machines[0].auth = {"web_https": ("kerberos",)}
    failure = failing(fleet, fleet.machines[0], **way(fleet, secure=True))
    assert printed(failure) == "basic_disabled"
    assert "only Kerberos" in failure.message


def test_an_untrusted_certificate(fleet: Fleet) -> None:
    failure = failing(fleet, fleet.machines[0], **way(fleet, secure=True, exchange_ca_path=str(fleet.pki.feed_root_path)))
    assert printed(failure) == "tls_failed"


def test_a_certificate_for_another_name(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    assert working(fleet, fleet.machines[0], **way(fleet, secure=True, exchange_host="ex1.lab.example")) == 2
    failure = failing(fleet, fleet.machines[0], **way(fleet, secure=True, exchange_host="ex2.lab.example"))
    assert printed(failure) == "tls_failed"
    assert "ex2.lab.example" in failure.message


def test_tls_is_required(fleet: Fleet) -> None:
    fleet.machines[0].exchange_requires_tls = True
    assert printed(failing(fleet, fleet.machines[0], **way(fleet))) == "ssl_required"
    assert working(fleet, fleet.machines[0], **way(fleet, secure=True)) == 2


def test_the_virtual_directory_is_gone(fleet: Fleet) -> None:
    host = fleet.machines[0]
    path = "C:\\Windows\\System32\\inetsrv\\config\\applicationHost.config"
    before = host.files.read(path)
    assert b'path="/PowerShell"' in before
    host.files.write(path, before.replace(b'path="/PowerShell"', b'path="/Gone"', 1))
    try:
        assert printed(failing(fleet, host, **way(fleet))) == "endpoint_not_found"
    finally:
        host.files.write(path, before)
    assert working(fleet, host, **way(fleet)) == 2


def test_throttled(fleet: Fleet) -> None:
    """The nineteenth session of a user is one too many, at any server; another user's is not."""
    second = {"exchange_port": fleet.port(fleet.machines[1], "web_http")}
    held = [exchange(fleet, fleet.machines[0]) for dummy in range(18)]
    try:
        for session in held:
            session.read([(call("Get-OrganizationConfig"),)])
        failure = failing(fleet, fleet.machines[0], **way(fleet, **second))
        assert printed(failure) == "throttled"
        assert fleet.admin in failure.message
        other = {"exchange_username": fleet.viewer, "exchange_password": fleet.users[fleet.viewer]}
        assert working(fleet, fleet.machines[0], **way(fleet, **second, **other)) == 2
    finally:
        for session in held:
            session.close()


def test_remote_powershell_disabled(fleet: Fleet) -> None:
    fleet.no_remote_powershell.add(fleet.admin)
    assert printed(failing(fleet, fleet.machines[0], **way(fleet))) == "remote_powershell_disabled"


def test_no_role(fleet: Fleet) -> None:
    del fleet.roles[fleet.admin.lower()]
    assert printed(failing(fleet, fleet.machines[0], **way(fleet))) == "role_missing"


def test_the_kerberos_extra_is_missing(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_deps, "_checked", {})
    monkeypatch.setitem(sys.modules, "gssapi", None)
    failure = failing(fleet, fleet.machines[0], **way(fleet, exchange_auth="kerberos"))
    assert printed(failure) == "missing_library"
    assert "pip install 'pypsrp[kerberos]'" in failure.message


# The snap-in


@pytest.mark.parametrize("kind", ["winrm", "psrp"])
def test_the_snapin_needs_a_logon_that_is_handed_on(fleet: Fleet, kind: str) -> None:
    failure = failing(fleet, fleet.machines[0], kind, exchange_access="snapin")
    assert printed(failure) == "double_hop"
    assert "(ntlm hands no credentials on)" in failure.message
    assert "credssp" in failure.message


def test_the_snapin_over_credssp(fleet: Fleet) -> None:
    fleet.machines[0].auth = {"wsman_http": ("negotiate", "ntlm", "credssp")}
    before = len(fleet.logons)
    assert working(fleet, fleet.machines[0], "psrp", {"auth": "credssp"}, exchange_access="snapin") == 2
    assert {mechanism for dummy, listener, mechanism in fleet.logons[before:]} == {"CredSSP"}
    assert fleet.access_log.select(action="Create", endpoint="web_http", status=200) == [], "a session at Exchange's endpoint was opened"


@pytest.mark.parametrize("kind", ["winrm", "psrp"])
def test_modules_work_through_the_snapin(fleet: Fleet, kind: str) -> None:
    """Cmdlets of the host and of Exchange in one runspace; a change is made and read back, without a session at Exchange's endpoint."""
    host = fleet.machines[0]
    host.auth = {"wsman_http": ("negotiate", "ntlm", "credssp")}
    way_in = {"transport": ["credssp"]} if kind == "winrm" else {"auth": "credssp"}
    for module, options, expected in (
        (server_info, {}, False),
        (server, {"identity": "EX1", "mitigations_blocked": {"add": ["M9"]}}, True),
        (server, {"identity": "EX1", "mitigations_blocked": {"add": ["M9"]}}, False),
        (server, {"identity": "EX1", "mitigations_blocked": {"set": []}}, True),
    ):
        validated = ArgumentSpecValidator(**module.SPEC).validate(options | {"exchange_access": "snapin"})
        assert not validated.error_messages
        task = ActionTask(validated.validated_parameters, connection(fleet, host, kind, False, **way_in), host.name, set())
        try:
            decision = module.run(task)
            assert decision.failure is None and decision.changed is expected
            if decision.effect is not None:
                decision.effect()
        finally:
            task.close()
    created = fleet.access_log.select(action="Create", status=200)
    assert [record["endpoint"] for record in created] == ["wsman_http"] * 4
    assert [ran.endpoint for ran in fleet.access_log.calls if ran.cmdlet == "Set-ExchangeServer"] == ["host"] * 2


def test_no_snapin(fleet: Fleet) -> None:
    del fleet.machines[0].environment["ExchangeInstallPath"]
    assert printed(failing(fleet, fleet.machines[0], exchange_access="snapin")) == "snapin_missing"


@pytest.mark.parametrize("mode", ["ConstrainedLanguage", "NoLanguage"])
def test_the_snapin_in_a_restricted_session(fleet: Fleet, mode: str) -> None:
    fleet.machines[0].language_mode = mode
    assert printed(failing(fleet, fleet.machines[0], exchange_access="snapin")) == "snapin_language_mode"
