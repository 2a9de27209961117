# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removing URL Rewrite where the connection, Windows Installer or the server's disk do not do as they should; no server is needed for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _install, _msiexec, _url_rewrite
from ansible_collections.exchange.mitigation.plugins.module_utils._cmdlets import HOST, enforce_statement
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, CmdletError, ConnectionFailure
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_sections import RewriteSupport
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Answer, Statement
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.made_up_host import item

PRODUCT = "{9BCA2118-F753-4A1E-BCF3-5A820729965C}"


def machine(present: bool, **other: Any) -> _url_rewrite.Machine:
    """Return a server with URL Rewrite as it should be, or without."""
    made = _url_rewrite.Machine(
        name="EX1", os={"version": "10.0.20348", "caption": "Windows"}, boot=None, windows="C:\\Windows", iis_version="10.0",
        registry_version="7.2.1993" if present else None, dll_version="7.1.1993.2351" if present else None,
        support=RewriteSupport(present, present, present, present, "rewrite.dll" if present else None), problem=None, ucrt_update=False, ucrt_file=False,
        pending=(), leftovers=(), application_host=b"<configuration/>", environment={},
    )  # fmt: skip
    return dataclasses.replace(made, **other)


class Host:
    """A server on which Windows Installer ends with ``code``, or the connection with ``broken``; what ``stays`` is in cannot be removed."""

    def __init__(self, code: int = 0, broken: ConnectionFailure | None = None, stays: str | None = None) -> None:
        self.code, self.broken, self.stays = code, broken, stays
        self.runs = 0
        self.folders: set[str] = set()

    def read(self, statements: Sequence[Statement]) -> list[Answer]:
        """Answer: folders are empty and nobody but administrators may write to them."""
        for statement in statements:
            enforce_statement(statement, HOST)
        return [Answer(one, (item(Sddl="O:BAG:SYD:AI(A;OICIID;FA;;;BA)"),) if one[0].cmdlet == "Get-Acl" else (), ()) for one in statements]

    def change(self, statement: Statement) -> Answer:
        """Make and remove folders, run the installer."""
        enforce_statement(statement, HOST)
        given = statement[0].parameters
        if statement[0].cmdlet == "Start-Process":
            self.runs += 1
            if self.broken is not None:
                raise self.broken
            return Answer(statement, (self.code,), ())
        if statement[0].cmdlet == "New-Item":
            self.folders.add(given["Path"])
        elif given["LiteralPath"] == self.stays:
            raise CmdletError("The process cannot access the file.", "Remove-Item", "RemoveItemIOError,x")
        else:
            self.folders.discard(given["LiteralPath"])
        return Answer(statement, (), ())


def removed(monkeypatch: pytest.MonkeyPatch, host: Host, after: bool, action: str = "remove", **before: Any) -> tuple[dict[str, Any], list[str]]:
    """Let URL Rewrite be removed, after which the server has it or not; return what is told and the warnings."""
    monkeypatch.setattr(_install._url_rewrite, "observe", lambda dummy: machine(after))
    warnings: list[str] = []
    wish = _install.Wish(action, "7.2.1993", product=PRODUCT)
    return _install.Installer(host, machine(True, **before), wish, lambda dummy: None, warnings.append).run(), warnings


def test_a_connection_that_broke_before_the_installer_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing ran, so nothing is waited for and nothing is claimed: the task is unreachable and unchanged."""
    host = Host(broken=ConnectionFailure("EX1 cannot be reached", "connection_refused", change_sent=False))
    with pytest.raises(ConnectionFailure) as caught:
        removed(monkeypatch, host, after=True)
    assert (caught.value.reason, caught.value.details) == ("connection_refused", {"change_sent": False, "changed": False})
    assert (host.runs, host.folders) == (1, set())


@pytest.mark.parametrize("code", [1603, 4711])
def test_an_installer_that_reports_a_failure_on_a_server_that_is_as_wanted(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """What the server shows counts, and the exit code is a warning; the same code on a server that is not as wanted is the failure."""
    told, warnings = removed(monkeypatch, Host(code), after=False)
    assert (told["exit_code"], told["url_rewrite"]["installed"]) == (code, False)
    assert warnings == [f"Windows Installer {_msiexec.meaning(code).what} (exit code {code}), but URL Rewrite is as wanted"]
    host = Host(code)
    with pytest.raises(ApplyError) as caught:
        removed(monkeypatch, host, after=True)
    assert (caught.value.reason, caught.value.details["exit_code"], caught.value.details["changed"]) == ("install_failed", code, False)
    assert f"exit code {code}" in caught.value.message and host.folders == set()


def test_a_product_that_is_already_gone_is_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert removed(monkeypatch, Host(_msiexec.UNKNOWN_PRODUCT), after=False)[1] == []


def test_a_folder_of_an_interrupted_run_that_cannot_be_removed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not keep the task from its work; the next run tries again."""
    old = f"C:\\Windows\\{_url_rewrite.FOLDER_PREFIX}0123456789abcdef"
    for action in ("none", "remove"):
        told, warnings = removed(monkeypatch, Host(stays=old), after=False, action=action, leftovers=(old,))
        assert warnings == [f"{old} is left on the server: The process cannot access the file. The next run tries to remove it again."]
        assert told["url_rewrite"]["installed"] is False
