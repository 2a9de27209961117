# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Notices from the shipped playbooks: what is told, once, and that no secret of a channel shows at any verbosity."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
from lab_task import restored, started
from receivers import PASSWORD, USER, body, smtp, web

from playbooks import ROOT, play

pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH")
WANTED = {"exchange_mitigation_organization_enabled": True, "exchange_mitigation_when_em_active": "take_over"}


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    yield from started(3)


@pytest.fixture
def fleet(running: Any) -> Iterator[Any]:
    for told in (running.state / "controller" / "state").glob("notice-*"):
        told.unlink()
    yield from restored(running)


@pytest.fixture
def channels(fleet: Any) -> Iterator[tuple[Any, Any, dict[str, Any]]]:
    """A mail server under TLS with a password, a webhook under TLS, and the variables that name them."""
    files = fleet.pki.server("receiver", ["receiver.lab.example"], ["127.0.0.1"])
    authority = str(fleet.pki.tls_ca_path)
    with smtp(files, "starttls", auth=True) as mail, web(files) as hook:
        yield mail, hook, {
            "exchange_mitigation_mail_host": mail.host,
            "exchange_mitigation_mail_port": mail.port,
            "exchange_mitigation_mail_username": USER,
            "exchange_mitigation_mail_password": PASSWORD,
            "exchange_mitigation_mail_from": "exchange@example.com",
            "exchange_mitigation_mail_to": ["team@example.com"],
            "exchange_mitigation_mail_ca_path": authority,
            "exchange_mitigation_webhook_url": hook.url,
            "exchange_mitigation_webhook_proxy": "",
            "exchange_mitigation_webhook_headers": {"X-Key": "Pl4nted-Header"},
            "exchange_mitigation_webhook_ca_path": authority,
        }


def kinds(hook: Any) -> list[list[str]]:
    return [sorted({event["kind"] for event in post["events"]}) for post in hook.posts]


def test_from_the_first_drift_to_mitigated_each_event_is_told_once(fleet: Any, channels: Any, tmp_path: pathlib.Path) -> None:
    mail, hook, variables = channels
    everything = {**WANTED, **variables}
    first = play(fleet, tmp_path, "drift", "-vvvv", **everything)
    assert first.code == 0, first.text
    assert {host: counts["changed"] for host, counts in first.recap.items()} == {"EX1": 0, "EX2": 0, "EX3": 0}
    assert kinds(hook) == [["drift", "published"]]
    assert len(mail.messages) == 1
    again = play(fleet, tmp_path, "drift", **everything)
    assert again.code == 0, again.text
    assert (len(hook.posts), len(mail.messages)) == (1, 1)
    mitigated = play(fleet, tmp_path, "mitigate", "-vvvv", **everything)
    assert mitigated.code == 2, mitigated.text
    assert kinds(hook)[1:] == [["applied", "failed"]]
    failed = [event for event in hook.posts[1]["events"] if event["kind"] == "failed"]
    assert [(event["host"], event["reason"]) for event in failed] == [("EX3", "url_rewrite_missing")]
    assert {event["host"] for event in hook.posts[1]["events"] if event["kind"] == "applied"} == {"EX1", "EX2"}
    play(fleet, tmp_path, "mitigate", **everything)
    play(fleet, tmp_path, "drift", **everything)
    assert (len(hook.posts), len(mail.messages)) == (2, 2)
    assert all(envelope[2:] == (True, True) for envelope in mail.envelopes)
    assert hook.headers[0]["X-Key"] == "Pl4nted-Header"
    for run in (first, mitigated):
        assert "Pl4nted" not in run.text.split("PLAY [", 1)[1]


def test_check_mode_tells_nothing(fleet: Any, channels: Any, tmp_path: pathlib.Path) -> None:
    mail, hook, variables = channels
    for name in ("drift", "mitigate"):
        play(fleet, tmp_path, name, "--check", **{**WANTED, **variables, "exchange_mitigation_mail_report": True})
    assert (hook.requests, mail.messages) == (0, [])


@pytest.mark.parametrize("written", [True, False], ids=["report-written", "report-only-mailed"])
def test_the_report_is_mailed_by_every_run_even_when_the_run_then_fails(fleet: Any, channels: Any, tmp_path: pathlib.Path, written: bool) -> None:
    mail, dummy, variables = channels
    more = {"exchange_mitigation_report_dir": str(tmp_path / "report")} if written else {}
    for code, fail in ((0, False), (2, True)):
        done = play(
            fleet, tmp_path, "drift", **{**WANTED, **variables, **more}, exchange_mitigation_mail_report=True, exchange_mitigation_fail_on_drift=fail
        )
        assert done.code == code, done.text
    assert len(mail.messages) == 2
    for message in mail.messages:
        (attached,) = message.iter_attachments()
        assert attached.get_filename() == "report.html"
        assert "<html" in attached.get_content()
    assert "M2 is published" in body(mail.messages[0])
    assert "M2 is published" not in body(mail.messages[1])
    assert not list(pathlib.Path("/tmp").glob("exchange-mitigation-*/report.html"))


def test_a_channel_that_fails_fails_the_run_at_its_end_and_shows_no_secret(fleet: Any, channels: Any, tmp_path: pathlib.Path) -> None:
    dummy, hook, variables = channels
    hook.statuses = [404] * 9
    done = play(fleet, tmp_path, "drift", "-vvvv", **{**WANTED, **variables, "exchange_mitigation_mail_password": "Pl4nted-wrong"})
    assert done.code == 2
    assert "webhook_status" in done.text
    assert "mail_auth" in done.text
    assert "Pl4nted" not in done.text.split("PLAY [", 1)[1]
    done = play(fleet, tmp_path, "drift", **{**WANTED, **variables}, exchange_mitigation_notice_required=False)
    assert done.code == 0, done.text


def test_nothing_is_told_where_nobody_is_named(fleet: Any, tmp_path: pathlib.Path) -> None:
    done = play(fleet, tmp_path, "drift", **WANTED)
    assert done.code == 0, done.text
    assert not list((fleet.state / "controller" / "state").glob("notice-*"))


@pytest.mark.skipif(not (ROOT / "roles" / "rollout").exists(), reason="without the rollout a playbook ends where a whole batch fails")
def test_a_failure_of_every_server_is_told(fleet: Any, channels: Any, tmp_path: pathlib.Path) -> None:
    dummy, hook, variables = channels
    done = play(fleet, tmp_path, "mitigate", "--limit", "EX3", **{**WANTED, **variables})
    assert done.code == 2
    assert [event["host"] for post in hook.posts for event in post["events"] if event["kind"] == "failed"] == ["EX3"], done.text
