# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The flow of notify: who is to be told, what of it is refused before anything is sent, and what keeps a message from being whole."""

from __future__ import annotations

import datetime
import pathlib
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.exchange.mitigation.plugins.module_utils import _notify
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import DeliveryError, InvalidInput, MitigationError
from ansible_collections.exchange.mitigation.plugins.module_utils._notice_text import Notice
from ansible_collections.exchange.mitigation.plugins.modules import notify
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.report_samples import FEED

MAIL: dict[str, Any] = {"host": "mail.example.com", "from": "exchange@example.com", "to": ["team@example.com"], "encryption": "none"}
HOOK: dict[str, Any] = {"name": "chat", "url": "https://hooks.example.com/x", "proxy": ""}


class Task:
    """A task of notify with validated options; keeps its warnings."""

    def __init__(self, **options: Any) -> None:
        validated = ArgumentSpecValidator(**notify.SPEC).validate({"feed": FEED, **options})
        assert not validated.error_messages, validated.error_messages
        self.params = validated.validated_parameters
        self.warnings: list[str] = []

    def now(self) -> datetime.datetime:
        """Return a fixed time."""
        return datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.timezone.utc)

    def warn(self, message: str) -> None:
        """Keep a warning."""
        self.warnings.append(message)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Notice]:
    """Keep what would be mailed or posted, and deliver nothing."""
    notices: list[Notice] = []
    monkeypatch.setattr(_notify._notice_text, "mail", lambda notice, *dummy: notices.append(notice))
    monkeypatch.setattr(_notify._notice_text, "payload", lambda dummy, notice: notices.append(notice))
    monkeypatch.setattr(_notify, "send_mail", lambda *dummy: [])
    monkeypatch.setattr(_notify, "post", lambda *dummy: 200)
    return notices


def told(task: Task, environment: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """Decide, tell, and return the rows of the channels."""
    decision = _notify.decide(task, environment or {})
    assert decision.effect is not None
    rows: list[dict[str, Any]] = decision.effect()["channels"]
    return rows


# --- what is refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mail": {**MAIL, "to": []}}, "mail: there is no recipient in to."),
        ({"mail": {**MAIL, "to": ["Team <team@example.com>"]}}, "mail: 'Team <team@example.com>' is not an address such as team@example.com."),
        ({"mail": {**MAIL, "from": "exchange"}}, "mail: 'exchange' is not an address such as team@example.com."),
        ({"mail": {**MAIL, "timeout": 0}}, "mail: timeout must be at least 1 second."),
        ({"webhooks": [{**HOOK, "timeout": -1}]}, "webhook chat: timeout must be at least 1 second."),
        ({"webhooks": [{**HOOK, "name": "mail"}]}, "webhooks: a name has letters, digits, spaces, dots and hyphens, 80 at most, and is not mail."),
        ({"webhooks": [{**HOOK, "name": "a/b"}]}, "webhooks: a name has letters, digits, spaces, dots and hyphens, 80 at most, and is not mail."),
        ({"webhooks": [{**HOOK, "name": "x" * 81}]}, "webhooks: a name has letters, digits, spaces, dots and hyphens, 80 at most, and is not mail."),
        ({"webhooks": [HOOK, {**HOOK, "name": "other"}, HOOK]}, "Two channels have the name chat: give each webhook a name of its own."),
        ({"webhooks": []}, "There is nobody to tell: give mail or webhooks."),
    ],
)
def test_who_cannot_be_told_is_said_before_anything_is_written(tmp_path: pathlib.Path, options: dict[str, Any], said: str) -> None:
    """Also in check mode: the settings are looked at when the task decides."""
    with pytest.raises(InvalidInput) as caught:
        _notify.decide(Task(state_dir=str(tmp_path / "state"), **options), {})
    assert (caught.value.message, list(tmp_path.iterdir())) == (said, [])


def test_a_webhook_without_a_name_has_that_of_its_kind(tmp_path: pathlib.Path) -> None:
    decision = _notify.decide(Task(state_dir=str(tmp_path), webhooks=[{"url": HOOK["url"], "kind": "teams"}]), {})
    assert [(row["name"], row["new"]) for row in decision.result["channels"]] == [("teams", 2)]


# --- where it is remembered --------------------------------------------------------------------------------------------------


def test_a_state_directory_that_others_could_write_is_a_warning(tmp_path: pathlib.Path) -> None:
    """What was told may have been changed by others, so the administrator hears of it once; it is closed from then on."""
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o777)
    for warnings in (1, 0):
        task = Task(state_dir=str(state), webhooks=[HOOK])
        _notify.decide(task, {})
        assert [f"{state} could be written by others" in warning for warning in task.warnings] == [True] * warnings
    assert state.stat().st_mode & 0o777 == 0o700


def test_a_memory_that_goes_with_its_container_is_a_warning(tmp_path: pathlib.Path) -> None:
    environment = {"AWX_ISOLATED_DATA_DIR": "/runner", "XDG_STATE_HOME": str(tmp_path)}
    task = Task(webhooks=[HOOK])
    _notify.decide(task, environment)
    place = tmp_path / "exchange_mitigation"
    assert task.warnings == [f"{place} is in a container and will be gone: give state_dir on lasting storage, or every run tells everything again."]
    given = Task(webhooks=[HOOK], state_dir=str(tmp_path / "lasting"))
    _notify.decide(given, environment)
    assert given.warnings == []


# --- the report with a mail --------------------------------------------------------------------------------------------------


def test_a_report_goes_with_the_mail(tmp_path: pathlib.Path, sent: list[Notice]) -> None:
    page = tmp_path / "report.html"
    page.write_bytes(b"<p>")
    task = Task(state_dir=str(tmp_path / "state"), mail=MAIL, report_file=str(page), report={"headline": "6 servers", "lines": ["one", 2]})
    told(task)
    assert [(notice.headline, notice.lines, notice.attachment) for notice in sent] == [("6 servers", ("one", "2"), ("report.html", b"<p>"))]
    assert task.warnings == []


@pytest.mark.parametrize("size", [None, 1], ids=["missing", "too large"])
def test_a_report_that_cannot_be_attached_is_a_warning_and_the_mail_goes(
    tmp_path: pathlib.Path, sent: list[Notice], monkeypatch: pytest.MonkeyPatch, size: int | None
) -> None:
    monkeypatch.setattr(_notify, "MAX_ATTACHMENT", 100)
    page = tmp_path / "report.html"
    if size is not None:
        page.write_bytes(bytes(101))
    task = Task(state_dir=str(tmp_path / "state"), mail=MAIL, report_file=str(page), report={"headline": "6 servers"})
    assert [(row["sent"], row["reason"]) for row in told(task)] == [(True, None)]
    why = "No such file or directory." if size is None else "it is larger than 100 bytes. Give report_url."
    assert task.warnings == [f"The report {page} is not attached: {why}"]
    assert [(notice.headline, notice.attachment) for notice in sent] == [("6 servers", None)]


# --- failures ----------------------------------------------------------------------------------------------------------------


def test_a_channel_that_fails_is_told_by_the_next_run_and_the_others_by_this_one(
    tmp_path: pathlib.Path, sent: list[Notice], monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"state_dir": str(tmp_path), "mail": MAIL, "webhooks": [HOOK]}

    def down(*dummy: Any) -> list[str]:
        raise DeliveryError("The mail server does not resolve.", "mail_connect")

    with monkeypatch.context() as patch:
        patch.setattr(_notify, "send_mail", down)
        with pytest.raises(MitigationError) as caught:
            told(Task(**options))
        assert caught.value.reason == "mail_connect"
        assert caught.value.message == "The mail server does not resolve. What was not delivered is told by the next run."
        rows = [(row["name"], row["sent"], row["reason"]) for row in caught.value.details["channels"]]
        assert rows == [("mail", False, "mail_connect"), ("chat", True, None)]
        lenient = Task(**options, required=False)
        assert [row["sent"] for row in told(lenient)] == [False, False]
        assert lenient.warnings == ["The mail server does not resolve. What was not delivered is told by the next run."]
    assert [(row["new"], row["sent"]) for row in told(Task(**options))] == [(2, True), (0, False)]
    assert [(row["new"], row["sent"]) for row in told(Task(**options))] == [(0, False), (0, False)]
