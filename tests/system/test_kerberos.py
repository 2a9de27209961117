# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kerberos with a real KDC, to Windows and to Exchange: playbooks, delegation, and every failure in the words of the guide.

A tier of its own (tests/tiers/kerberos.sh): it needs the programs of MIT Kerberos and the libraries of requirements-kerberos.txt.
"""

from __future__ import annotations

import importlib.util
import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from access import failing, printed, working
from names.sitecustomize import resolve

from lab import kdc
from lab.fleet import Fleet
from playbooks import environment, play

_ABSENT = [*kdc.missing(), *(name for name in ("gssapi", "krb5", "kerberos") if importlib.util.find_spec(name) is None)]
if _ABSENT and os.environ.get("EXCHANGE_MITIGATION_TIER_KERBEROS") != "1":
    pytest.skip(f"the Kerberos tier is not here ({', '.join(_ABSENT)} missing): tests/tiers/kerberos.sh", allow_module_level=True)

NAMES = pathlib.Path(__file__).resolve().parent / "names"
ADMIN = "admin@LAB.EXAMPLE"


@pytest.fixture(scope="module")
def running() -> Iterator[Fleet]:
    assert not _ABSENT, f"the tier lacks {', '.join(_ABSENT)}"
    with Fleet(4, lag=0, kerberos=True) as fleet:
        assert fleet.kdc is not None
        fleet.kdc.add_service("HTTP/mail.lab.example")  # registered, but not on a server
        yield fleet


@pytest.fixture
def fleet(running: Fleet, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Iterator[Fleet]:
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path / 'tickets'}")
    running.access_log.clear()
    running.logons.clear()
    yield running
    for machine in running.machines:
        machine.__dict__.pop("auth", None)
    assert running.refusals == [] and running.scripts_received == 0
    assert running._server is not None and running._server.open_shells() == []


def way(fleet: Fleet, **changed: Any) -> dict[str, Any]:
    """Return the options of a user with a password; ``exchange_auth`` is left at its default."""
    machine = fleet.machines[0]
    usual = {
        "exchange_host": machine.fqdn, "exchange_port": fleet.port(machine, "web_http"), "exchange_username": ADMIN, "exchange_password": fleet.password,
    }  # fmt: skip
    return usual | changed


def ticket(fleet: Fleet, folder: pathlib.Path, **more: Any) -> dict[str, Any]:
    """Log on as with kinit and return the options of a user who has that ticket and gives no password."""
    assert fleet.kdc is not None
    fleet.kdc.ticket(fleet.admin, folder / "tickets", **more)
    return way(fleet, exchange_username=ADMIN, exchange_password=None)


def without_password(fleet: Fleet) -> dict[str, Any]:
    """Return the connection options of a host that is reached with Kerberos and a ticket."""
    return {"transport": ["kerberos"], "remote_addr": fleet.machines[0].fqdn, "remote_user": ADMIN, "remote_password": None}


def by_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let child processes resolve the lab's names as well."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(NAMES), os.environ.get("PYTHONPATH", "")]))


def run(fleet: Fleet, folder: pathlib.Path, tasks: list[dict[str, Any]], **hosts: Any) -> subprocess.CompletedProcess[str]:
    """Run tasks over the lab's inventory, whose hosts get these variables on top."""
    fleet.write_inventory(folder / "lab.yml")
    book = folder / "play.yml"
    book.write_text(yaml.safe_dump([{"hosts": "exchange_servers", "gather_facts": False, "vars": hosts, "tasks": tasks}], sort_keys=False), "utf-8")
    program = pathlib.Path(sys.executable).with_name("ansible-playbook")
    command = [str(program), "-i", str(folder / "lab.yml"), str(book)]
    return subprocess.run(command, capture_output=True, text=True, env=environment(folder), cwd=folder, check=False, timeout=180)


READ_AND_CHANGE = [
    {"name": "organization", "run_once": True, "register": "read", "exchange.mitigation.organization_info": {}},
    {"name": "host", "register": "seen", "exchange.mitigation.server_info": {"organization": "{{ read.organization }}"}},
    {"name": "change", "throttle": 1, "exchange.mitigation.server": {"mitigations_blocked": {"add": ["M9"]}, "identity": "{{ inventory_hostname }}"}},
    {"name": "back", "throttle": 1, "exchange.mitigation.server": {"mitigations_blocked": {"set": []}, "identity": "{{ inventory_hostname }}"}},
    {"name": "assert", "ansible.builtin.assert": {"that": ["read.organization.servers | length == 4", "seen.server.name == inventory_hostname"]}},
]


def test_playbook_over_winrm_and_psrp(fleet: Fleet, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four hosts: both connection plugins, HTTP and HTTPS, and Exchange by its defaults; nothing but Kerberos logs on."""
    by_names(monkeypatch)
    done = run(fleet, tmp_path, READ_AND_CHANGE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {mechanism for dummy, listener, mechanism in fleet.logons} == {"Kerberos"}
    logons = {(server, listener.partition("_")[0]) for server, listener, dummy in fleet.logons}
    assert logons == {(machine.name, end) for machine in fleet.machines for end in ("wsman", "web")}
    assert {listener for dummy, listener, more in fleet.logons} == {"wsman_http", "wsman_https", "web_http", "web_https"}
    assert sum(1 for ran in fleet.access_log.calls if ran.cmdlet == "Set-ExchangeServer" and ran.write) == 8


def test_drift_playbook(fleet: Fleet, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_names(monkeypatch)
    done = play(fleet, tmp_path, "drift", exchange_mitigation_report_dir=str(tmp_path / "report"))
    assert done.code == 0, done.text
    assert all(counts["failed"] == counts["unreachable"] == 0 for counts in done.recap.values()), done.text
    assert {mechanism for dummy, listener, mechanism in fleet.logons} == {"Kerberos"}
    assert fleet.access_log.writes() == []


def test_a_ticket_or_a_password(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    assert working(fleet, fleet.machines[0], **way(fleet)) == 4
    assert working(fleet, fleet.machines[0], options=without_password(fleet), **ticket(fleet, tmp_path)) == 4
    secure = {"exchange_port": fleet.port(fleet.machines[0], "web_https"), "exchange_scheme": "https", "exchange_ca_path": str(fleet.pki.tls_ca_path)}
    assert working(fleet, fleet.machines[0], **way(fleet, **secure)) == 4
    assert {(listener, mechanism) for dummy, listener, mechanism in fleet.logons} == {("web_http", "Kerberos"), ("web_https", "Kerberos")}


def test_negotiate_becomes_kerberos(fleet: Fleet) -> None:
    assert working(fleet, fleet.machines[0], **way(fleet, exchange_auth="negotiate")) == 4


# Failures, in the order of the guide


def test_no_ticket(fleet: Fleet) -> None:
    nothing = way(fleet, exchange_password=None)
    assert printed(failing(fleet, fleet.machines[0], options=without_password(fleet), **nothing)) == "kerberos_no_ticket"


def test_an_expired_ticket(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    options = ticket(fleet, tmp_path, lifetime="1s")
    time.sleep(2.1)
    assert printed(failing(fleet, fleet.machines[0], options=without_password(fleet), **options)) == "kerberos_ticket_expired"


def test_clocks_apart(fleet: Fleet, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if kdc.program("faketime") is None:
        assert os.environ.get("EXCHANGE_MITIGATION_TIER_KERBEROS") != "1", "the tier lacks faketime"
        pytest.skip("faketime is not here: tests/tiers/kerberos.sh")
    with kdc.Kdc(tmp_path / "ahead", fleet.users, [machine.fqdn for machine in fleet.machines], ahead=3600) as ahead:
        monkeypatch.setenv("KRB5_CONFIG", str(ahead.config))
        assert printed(failing(fleet, fleet.machines[0], **way(fleet))) == "kerberos_clock_skew"


@pytest.mark.parametrize("password", [True, False])
def test_a_name_as_windows_writes_it(fleet: Fleet, password: bool) -> None:
    who = {"exchange_username": fleet.admin} | ({} if password else {"exchange_password": None})
    options = None if password else without_password(fleet)
    failure = failing(fleet, fleet.machines[0], options=options, **way(fleet, **who))
    assert printed(failure) == "kerberos_user_form"
    assert fleet.admin in failure.message


def test_an_unknown_user(fleet: Fleet) -> None:
    assert printed(failing(fleet, fleet.machines[0], **way(fleet, exchange_username="nobody@LAB.EXAMPLE"))) == "kerberos_user_unknown"


def test_a_wrong_password(fleet: Fleet) -> None:
    failure = failing(fleet, fleet.machines[0], **way(fleet, exchange_password="planted-wrong"))
    assert printed(failure) == "kerberos_password_wrong"
    assert "planted-wrong" not in failure.message


def test_a_locked_account(fleet: Fleet) -> None:
    assert fleet.kdc is not None
    fleet.kdc.lock(fleet.viewer)
    try:
        failure = failing(fleet, fleet.machines[0], **way(fleet, exchange_username="viewer@LAB.EXAMPLE", exchange_password=fleet.users[fleet.viewer]))
        assert printed(failure) == "kerberos_account_locked"
    finally:
        fleet.kdc.lock(fleet.viewer, False)


def test_an_unknown_realm(fleet: Fleet) -> None:
    assert printed(failing(fleet, fleet.machines[0], **way(fleet, exchange_username="admin@OTHER.EXAMPLE"))) == "kerberos_realm_unreachable"


def test_no_domain_controller(fleet: Fleet, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with kdc.Kdc(tmp_path / "gone", fleet.users, []) as gone:
        pass
    monkeypatch.setenv("KRB5_CONFIG", str(gone.config))
    assert printed(failing(fleet, fleet.machines[0], **way(fleet))) == "kerberos_realm_unreachable"


@pytest.mark.parametrize("host", ["127.0.0.1"])
def test_an_address_for_a_name(fleet: Fleet, host: str) -> None:
    assert printed(failing(fleet, fleet.machines[0], **way(fleet, exchange_host=host))) == "kerberos_ip_address"


def test_an_unregistered_name(fleet: Fleet) -> None:
    failure = failing(fleet, fleet.machines[0], **way(fleet, exchange_host="alias.lab.example"))
    assert printed(failure) == "kerberos_spn_unknown"
    assert "HTTP/alias.lab.example" in failure.message


def test_a_name_registered_on_another_account(fleet: Fleet) -> None:
    assert printed(failing(fleet, fleet.machines[0], **way(fleet, exchange_host="mail.lab.example"))) == "kerberos_ticket_refused"


def test_kerberos_is_not_offered(fleet: Fleet) -> None:
    fleet.machines[0].auth = {"web_https": ("basic",)}
    secure = {"exchange_port": fleet.port(fleet.machines[0], "web_https"), "exchange_scheme": "https", "exchange_ca_path": str(fleet.pki.tls_ca_path)}
    failure = failing(fleet, fleet.machines[0], **way(fleet, **secure))
    assert printed(failure) == "kerberos_refused"
    assert "only Basic" in failure.message


def test_ntlm_is_refused_by_default(fleet: Fleet) -> None:
    assert printed(failing(fleet, fleet.machines[0], **way(fleet, exchange_auth="ntlm", exchange_username=fleet.admin))) == "ntlm_refused"


def test_not_even_a_kerberos_password_is_shown(fleet: Fleet, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_names(monkeypatch)
    done = run(fleet, tmp_path, [{"name": "read", "exchange.mitigation.organization_info": {"exchange_password": "planted-wrong"}}])
    assert done.returncode == 4, done.stdout + done.stderr
    assert done.stdout.count("kerberos_password_wrong") >= 4
    assert "planted-wrong" not in done.stdout + done.stderr
    assert fleet.password not in done.stdout + done.stderr


# Delegation: the snap-in


@pytest.mark.parametrize("kind", ["winrm", "psrp"])
@pytest.mark.parametrize("delegated", [False, True])
def test_the_snapin_needs_a_delegated_ticket(fleet: Fleet, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, kind: str, delegated: bool) -> None:
    by_names(monkeypatch)
    variables: dict[str, Any] = {"exchange_mitigation_exchange_access": "snapin", "ansible_connection": kind}
    variables |= {"ansible_winrm_transport": "kerberos", "ansible_winrm_kerberos_delegation": delegated, "ansible_winrm_message_encryption": "always"}
    variables |= {"ansible_winrm_kinit_env_vars": ["KRB5_CONFIG"]}
    variables |= {"ansible_psrp_auth": "kerberos", "ansible_psrp_negotiate_delegate": delegated, "ansible_psrp_protocol": "http"}
    variables |= {"ansible_winrm_scheme": "http", "ansible_port": fleet.port(fleet.machines[0], "wsman_http")}
    task = {"name": "read", "when": "inventory_hostname == 'EX1'", "register": "read", "exchange.mitigation.organization_info": {}}
    check = {"name": "assert", "when": "inventory_hostname == 'EX1'", "ansible.builtin.assert": {"that": "read.organization.servers | length == 4"}}
    done = run(fleet, tmp_path, [task, check], **variables)
    if delegated:
        assert done.returncode == 0, done.stdout + done.stderr
    else:
        assert done.returncode == 2, done.stdout + done.stderr
        assert "double_hop" in done.stdout and "(kerberos hands no credentials on)" in done.stdout
    assert {listener for dummy, listener, mechanism in fleet.logons} == {"wsman_http"}, "only the host itself may be asked"
