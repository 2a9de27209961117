# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logon and encryption with the real clients."""

from __future__ import annotations

from typing import Any

import pytest
import requests
import wire_clients as clients
from pypsrp.exceptions import AuthenticationError, WinRMTransportError
from winrm.exceptions import InvalidCredentialsError
from winrm.exceptions import WinRMTransportError as PywinrmTransportError
from wire_fleet import PASSWORD, USER


@pytest.mark.parametrize(
    ("endpoint", "auth", "more"),
    [
        ("wsman_http", "ntlm", {}),
        ("wsman_http", "negotiate", {}),
        ("wsman_http", "ntlm", {"username": "reader@lab.test", "password": "Other-Pass-2"}),
        ("wsman_http", "ntlm", {"username": "lab\\ADMIN"}),
        ("wsman_https", "basic", {}),
        ("wsman_https", "ntlm", {}),
        ("wsman_https", "ntlm", {"encryption": "always"}),
        ("web_http", "ntlm", {}),
        ("web_http", "negotiate", {"path": "PowerShell/?serializationLevel=Full"}),
        ("web_https", "basic", {"path": "powershell"}),
        ("web_https", "ntlm", {}),
    ],
)
def test_a_pipeline_runs_over_every_kind_of_logon(wire_lab: Any, endpoint: str, auth: str, more: dict[str, Any]) -> None:
    fleet = wire_lab()
    with clients.pool(fleet, endpoint, auth, **more) as opened:
        outcome = clients.run(opened, ("Get-Probe", {"Name": "x"}))
        assert len(fleet.wire.open_shells()) == 1
    assert outcome.state == "Completed"
    assert outcome.output[0].adapted_properties["Name"] == "x"
    assert fleet.wire.open_shells() == []
    assert fleet.refusals == []


def test_http_bodies_are_encrypted_and_exchange_has_its_space(wire_lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[requests.Response] = []
    send = requests.Session.send

    def spy(session: requests.Session, request: Any, **more: Any) -> requests.Response:
        seen.append(send(session, request, **more))
        return seen[-1]

    monkeypatch.setattr(requests.Session, "send", spy)
    fleet = wire_lab()
    for endpoint, boundary in (("wsman_http", b"--Encrypted Boundary\r\n"), ("web_http", b"-- Encrypted Boundary\r\n")):
        seen.clear()
        with clients.pool(fleet, endpoint) as opened:
            clients.run(opened, ("Get-Probe", {"Name": "secret-name"}))
        bodies = [response.content for response in seen if response.status_code == 200 and response.content]
        assert len(bodies) > 4
        assert all(body.startswith(boundary) for body in bodies)
        assert all(b"secret-name" not in body and b"secret-name" not in (response.request.body or b"") for body, response in zip(bodies, seen, strict=False))
        # the handshake: 401 without token, 401 with challenge, 200 without body
        records = fleet.access_log.select(endpoint=endpoint)[:4]
        assert [(record["action"], record["status"]) for record in records] == [("POST", 401), ("POST", 401), ("POST", 200), ("Create", 200)]
        assert seen[0].content == b""


def test_wrong_credentials_are_401_for_both_clients(wire_lab: Any) -> None:
    fleet = wire_lab()
    for more in ({"password": "wrong"}, {"username": "LAB\\nobody"}):
        with pytest.raises(AuthenticationError), clients.pool(fleet, **more):
            pass
    with pytest.raises(AuthenticationError), clients.pool(fleet, "wsman_https", "basic", password="wrong"):
        pass
    with pytest.raises(InvalidCredentialsError):
        clients.protocol(fleet, password="wrong").open_shell()
    assert {record["status"] for record in fleet.access_log.records} == {401}


def test_unencrypted_messages_are_refused_over_http(wire_lab: Any) -> None:
    fleet = wire_lab()
    with pytest.raises(WinRMTransportError) as caught, clients.pool(fleet, encryption="never"):
        pass
    assert caught.value.code == 500
    with pytest.raises(PywinrmTransportError) as other:
        clients.protocol(fleet, message_encryption="never").open_shell()
    assert other.value.code == 500
    with pytest.raises(WinRMTransportError) as basic, clients.pool(fleet, auth="basic", encryption="never"):
        pass
    assert basic.value.code == 500
    assert fleet.wire.open_shells() == []


def test_basic_is_not_offered_over_http(wire_lab: Any) -> None:
    fleet = wire_lab()
    machine = fleet.machines[0]
    answer = requests.post(f"http://127.0.0.1:{machine.ports['wsman_http']}/wsman", data=b"", timeout=5)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Negotiate"
    assert answer.headers["Server"] == "Microsoft-HTTPAPI/2.0"
    secure = requests.post(f"https://127.0.0.1:{machine.ports['wsman_https']}/wsman", data=b"", timeout=5, verify=machine.tls[0])
    assert "Basic" in secure.headers["WWW-Authenticate"]


def test_channel_bindings_are_required_over_tls(wire_lab: Any) -> None:
    fleet = wire_lab()
    with pytest.raises(AuthenticationError), clients.pool(fleet, "wsman_https", negotiate_send_cbt=False):
        pass
    with pytest.raises(InvalidCredentialsError):
        clients.protocol(fleet, "wsman_https", send_cbt=False).open_shell()
    relaxed = wire_lab(cbt="none")
    with clients.pool(relaxed, "wsman_https", negotiate_send_cbt=False) as opened:
        assert clients.run(opened, ("Get-Probe", {})).state == "Completed"


def test_auth_modes_are_per_endpoint(wire_lab: Any) -> None:
    fleet = wire_lab(auth={"wsman_https": ("basic",)})
    with pytest.raises(AuthenticationError), clients.pool(fleet, "wsman_https", "ntlm"):
        pass
    with clients.pool(fleet, "wsman_https", "basic") as opened:
        assert clients.run(opened, ("Get-Probe", {})).state == "Completed"
    kerberos = wire_lab(auth={"web_http": ("kerberos",)})
    answer = requests.post(f"http://127.0.0.1:{kerberos.machines[0].ports['web_http']}/PowerShell", data=b"", timeout=5)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Kerberos")


def test_an_old_sealing_key_on_a_new_connection_is_400(wire_lab: Any) -> None:
    """WINRM.md B: after a lost connection both clients seal with the old key; every retry on the object fails."""
    fleet = wire_lab()
    client = clients.wsman(fleet)
    from pypsrp.powershell import RunspacePool

    opened = RunspacePool(client)
    opened.open()
    fleet.faults.add("drop-before", "EX1", 1)
    with pytest.raises(requests.ConnectionError):
        opened.close()
    with pytest.raises(WinRMTransportError) as caught:
        client.invoke("http://schemas.xmlsoap.org/ws/2004/09/transfer/Get", "http://schemas.microsoft.com/wbem/wsman/1/config", None)
    assert caught.value.code == 400
    with clients.pool(fleet) as again:
        assert clients.run(again, ("Get-Probe", {})).state == "Completed"


def test_two_fleets_with_different_passwords_live_in_one_process(wire_lab: Any) -> None:
    one, other = wire_lab(), wire_lab(users={USER: "Another-Pass-3"})
    with clients.pool(one) as first, clients.pool(other, password="Another-Pass-3") as second:
        assert clients.run(first, ("Get-Probe", {})).state == clients.run(second, ("Get-Probe", {})).state == "Completed"
    with pytest.raises(AuthenticationError), clients.pool(other, password=PASSWORD):
        pass


def test_iis_answers_every_other_path(wire_lab: Any) -> None:
    fleet = wire_lab()
    ports = fleet.machines[0].ports
    answer = requests.get(f"http://127.0.0.1:{ports['web_http']}/owa/?a=%20b", timeout=5)
    assert answer.status_code == 200 and answer.headers["X-Probe"] == "yes"
    assert answer.text == "GET /owa/?a=%20b"
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{ports['web_http']}/abort", timeout=5)
    assert requests.get(f"http://127.0.0.1:{ports['wsman_http']}/owa", timeout=5).status_code == 404
    statuses = [(record["action"], record["status"]) for record in fleet.access_log.records]
    assert statuses == [("GET", 200), ("GET", 0), ("GET", 404)]
