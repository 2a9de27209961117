# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exceptions of the libraries as one sentence and one reason."""

from __future__ import annotations

import socket
import ssl
import xml.etree.ElementTree as ET

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConnectionFailure
from ansible_collections.exchange.mitigation.plugins.plugin_utils._faults import FAULTS, classify, never_connected, wmi_code

requests = pytest.importorskip("requests")
pypsrp = pytest.importorskip("pypsrp.exceptions")
winrm = pytest.importorskip("winrm.exceptions")

WHERE = "ex1 (http://ex1:5985/wsman)"


def urllib3_error(cause: Exception) -> Exception:
    """Return what requests raises: the cause is buried in arguments and reasons."""
    inner = requests.packages.urllib3.exceptions.MaxRetryError(None, "/wsman", reason=cause)
    return requests.exceptions.ConnectionError(inner)


def new_connection(text: str, cause: Exception) -> Exception:
    problem = requests.packages.urllib3.exceptions.NewConnectionError(None, text)
    problem.__cause__ = cause
    return urllib3_error(problem)


def caused(exc: Exception, cause: Exception) -> Exception:
    exc.__context__ = cause
    return exc


def ansible_failure(text: str) -> Exception:
    from ansible.errors import AnsibleConnectionFailure

    return AnsibleConnectionFailure(text)


@pytest.mark.parametrize(
    ("exc", "reason"),
    [
        (pypsrp.AuthenticationError("Failed to authenticate the user x with ntlm"), "authentication_refused"),
        (winrm.InvalidCredentialsError("the specified credentials were rejected by the server"), "authentication_refused"),
        (pypsrp.WinRMTransportError("http", 401, ""), "authentication_refused"),
        (pypsrp.WinRMTransportError("http", 400, ""), "connection_lost"),
        (pypsrp.WinRMTransportError("http", 403, ""), "access_denied"),
        (pypsrp.WinRMTransportError("http", 404, ""), "endpoint_not_found"),
        (winrm.WinRMTransportError("http", 503, ""), "service_unavailable"),
        (pypsrp.WinRMTransportError("http", 502, "<html>"), "http_error"),
        (pypsrp.WSManFaultError(2150859173, "ex1", "The WS-Management service cannot process the request.", None, None, None), "shell_quota"),
        (pypsrp.WSManFaultError(2150858843, "ex1", "gone", None, None, None), "session_lost"),
        (pypsrp.WSManFaultError(5, "ex1", "Access is denied.", None, None, None), "access_denied"),
        (pypsrp.WSManFaultError(2150858752, "ex1", "odd", None, None, None), "wsman_fault"),
        (pypsrp.WSManFaultError("w:InternalError", None, "odd", None, None, None), "wsman_fault"),
        (requests.exceptions.SSLError("certificate verify failed: unable to get local issuer certificate"), "tls_failed"),
        (requests.exceptions.ConnectTimeout(), "connection_timeout"),
        (requests.exceptions.ReadTimeout(), "read_timeout"),
        (requests.exceptions.ProxyError("Cannot connect to proxy"), "proxy_failed"),
        (requests.exceptions.RetryError("too many 503 error responses"), "service_unavailable"),
        (new_connection("refused", ConnectionRefusedError(111, "Connection refused")), "connection_refused"),
        (new_connection("no route", OSError(113, "No route to host")), "host_unreachable"),
        (new_connection("unknown", socket.gaierror(-2, "Name or service not known")), "name_not_resolved"),
        (requests.exceptions.ConnectionError(("Connection aborted.", ConnectionResetError(104, "reset"))), "connection_lost"),
        (requests.exceptions.ChunkedEncodingError("Connection broken"), "connection_lost"),
        (ConnectionResetError(104, "reset"), "connection_lost"),
        (TimeoutError("timed out"), "read_timeout"),
        (ssl.SSLError(1, "wrong version"), "connection_lost"),
        (FileNotFoundError(2, "no CA file"), "connection_failed"),
        (ET.ParseError("no element found"), "answer_malformed"),
        (IndexError("list index out of range"), "answer_malformed"),
        (pypsrp.FragmentError("Fragment Id"), "answer_malformed"),
        (pypsrp.InvalidPSRPOperation("Received a broken RunspacePoolState message"), "session_broken"),
        (ansible_failure("Kerberos auth failure for principal a@B: kinit: Cannot find KDC for realm"), "kerberos_failed"),
        (ValueError("protocol 'Kerberos' which is incompatible with the specified auth_provider 'ntlm'"), "authentication_not_offered"),
        (ansible_failure("ntlm: the specified credentials were rejected by the server"), "authentication_refused"),
        (ansible_failure("something else"), "connection_failed"),
        (caused(ansible_failure("failed"), requests.exceptions.ConnectTimeout()), "connection_timeout"),
        (caused(ansible_failure("failed to authenticate"), pypsrp.AuthenticationError("no")), "authentication_refused"),
        (RuntimeError("odd"), "connection_failed"),
    ],
)
def test_reasons(exc: Exception, reason: str) -> None:
    failure = classify(exc, WHERE, "LAB\\admin")
    assert failure.reason == reason, str(failure)
    message = str(failure)
    assert message.startswith(WHERE)
    assert message.endswith(".")
    assert "\n" not in message
    assert len(message) < 600
    assert failure.details == {"endpoint": WHERE}


def test_every_known_fault_code_has_a_sentence() -> None:
    for code, (reason, what, remedy) in FAULTS.items():
        failure = classify(pypsrp.WSManFaultError(code, "ex1", "text", None, None, None), WHERE)
        assert (failure.reason, f"fault {code}" in str(failure), what in str(failure), remedy in str(failure)) == (reason, True, True, True)


def test_pywinrms_own_fault_is_read_by_its_codes() -> None:
    if not hasattr(winrm, "WSManFaultError"):
        pytest.skip("this pywinrm has no typed fault")
    fault = winrm.WSManFaultError(500, "Bad", "<xml/>", "quota", wsman_fault_code=2150858793, wmierror_code=2150859174)
    assert classify(fault, WHERE).reason == "operation_quota"


def test_a_fault_of_wmi_is_read_from_its_text() -> None:
    text = '<s:Fault><s:Detail><p:MSFT_WmiError xmlns:p="x"><p:error_Code xsi:type="u">2150859174</p:error_Code></p:MSFT_WmiError></s:Detail></s:Fault>'
    assert wmi_code(text) == 2150859174
    assert wmi_code("<s:Fault/>") is None
    assert wmi_code(b"bytes") is None


def test_a_failure_stays_what_it_is() -> None:
    failure = ConnectionFailure("said", reason="known")
    assert classify(failure, WHERE) is failure


def test_who_was_refused_is_named_but_nothing_secret() -> None:
    message = str(classify(pypsrp.AuthenticationError("Failed to authenticate"), WHERE, "LAB\\admin"))
    assert "LAB\\admin" in message


@pytest.mark.parametrize(
    ("exc", "never"),
    [
        (requests.exceptions.ConnectTimeout(), True),
        (pypsrp.AuthenticationError("no"), True),
        (requests.exceptions.ReadTimeout(), False),
        (ConnectionResetError(104, "reset"), False),
        (pypsrp.WinRMTransportError("http", 400, ""), False),
    ],
)
def test_whether_anything_can_have_arrived(exc: Exception, never: bool) -> None:
    assert never_connected(classify(exc, WHERE)) is never
