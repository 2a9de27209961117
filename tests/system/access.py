# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failures of Exchange access, provoked over the real clients, held against the table that the guide shows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.exchange.mitigation.plugins.module_utils._errors import MitigationError
from ansible_collections.exchange.mitigation.plugins.module_utils._model import call
from ansible_collections.exchange.mitigation.plugins.plugin_utils._controller import ActionTask
from guides import PLACES, guide
from session_live import connection

ROW = re.compile(r"^   \* - ``([a-z_]+)``\n     - ([^\n]+)$", re.MULTILINE)
_PLACE = re.compile(r"\b(SERVER|PYTHON|VERSION|" + "|".join(PLACES.values()) + r")\b")


def rows() -> dict[str, str]:
    """Return the sentences of the guide by their codes."""
    text = guide("guide_exchange_access").partition(".. access: begin")[2].partition(".. access: end")[0]
    return {code: sentence.replace("\\\\", "\\") for code, sentence in ROW.findall(text) if code != "reason"}


def printed(failure: MitigationError) -> str:
    """Return the code of a failure; its sentence must be the guide's, word by word outside of the places. ``pytest -s`` shows the sentences."""
    print(f"\n{failure.reason} | {failure.message}")
    assert failure.reason in rows(), failure.message
    sentence = rows()[failure.reason]
    pattern = "".join("(?:.+)" if number % 2 else re.escape(part) for number, part in enumerate(_PLACE.split(sentence)))
    assert re.fullmatch(pattern, failure.message), f"\n{failure.message}\nis not\n{sentence}"
    return failure.reason


def failing(fleet: Any, machine: Any, kind: str = "winrm", options: Mapping[str, Any] | None = None, **params: Any) -> MitigationError:
    """Read the organisation as a module would and return the failure. ``options`` change the host's connection, ``params`` are the task's."""
    task = ActionTask(params, connection(fleet, machine, kind, False, **(options or {})), machine.name, set())
    try:
        (answer,) = task.exchange.read([(call("Get-OrganizationConfig"),)])
    except MitigationError as exc:
        return exc
    finally:
        task.close()
    raise AssertionError(f"nothing failed: {answer.objects} {answer.errors}")


def working(fleet: Any, machine: Any, kind: str = "winrm", options: Mapping[str, Any] | None = None, **params: Any) -> int:
    """Read the organisation's servers as a module would and return their number."""
    task = ActionTask(params, connection(fleet, machine, kind, False, **(options or {})), machine.name, set())
    try:
        (answer,) = task.exchange.read([(call("Get-ExchangeServer"),)])
        assert not answer.errors, answer.errors
        return len(answer.objects)
    finally:
        task.close()
