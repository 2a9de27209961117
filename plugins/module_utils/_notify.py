# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The flow of the module notify: from options to channels, what each of them has not been told, and telling it.

Note that this module util is private to the collection and may change at any time.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ansible_collections.exchange.mitigation.plugins.module_utils import _notice, _notice_text
from ansible_collections.exchange.mitigation.plugins.module_utils._drift import as_dict, as_list
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import DeliveryError, InvalidInput, MitigationError
from ansible_collections.exchange.mitigation.plugins.module_utils._model import Decision, Task
from ansible_collections.exchange.mitigation.plugins.module_utils._notice_memory import Told
from ansible_collections.exchange.mitigation.plugins.module_utils._notice_send import (
    MAIL_PORTS,
    MailServer,
    Webhook,
    check_mail,
    check_webhook,
    post,
    send_mail,
)
from ansible_collections.exchange.mitigation.plugins.module_utils._trust_options import default_state_dir, is_ephemeral

#: A report larger than this is not attached: mail servers refuse it.
MAX_ATTACHMENT = 10 * 1024 * 1024

#: A plain address. A name beside it is not needed, and nothing that could end a header gets in.
_ADDRESS = re.compile(r"[^\s@<>,;:\"()\[\]\\]+@[^\s@<>,;:\"()\[\]\\]+")


class Channel(Protocol):
    """One place to tell."""

    @property
    def name(self) -> str:
        """Name of the channel."""

    @property
    def kind(self) -> str:
        """Kind of the channel."""

    @property
    def timeout(self) -> float:
        """Seconds for the whole delivery."""

    @property
    def always(self) -> bool:
        """Whether a message goes out even without news."""

    def deliver(self, notice: _notice_text.Notice) -> list[str]:
        """Deliver one message and return warnings. Raises DeliveryError."""


@dataclasses.dataclass(frozen=True)
class Mail:
    """The mail server and who gets the mail."""

    server: MailServer
    sender: str
    recipients: Sequence[str]
    prefix: str
    report: Mapping[str, Any]
    report_file: str | None
    name: str = "mail"
    kind: str = "mail"

    @property
    def timeout(self) -> float:
        """Seconds for the whole delivery."""
        return self.server.timeout

    @property
    def always(self) -> bool:
        """Whether the report is mailed."""
        return self.report_file is not None

    def deliver(self, notice: _notice_text.Notice) -> list[str]:
        """Mail the notice; with a report its headline, its lines and its page too."""
        warnings = []
        if self.report_file is not None:
            attachment, warning = _attachment(self.report_file)
            warnings += [warning] if warning else []
            notice = dataclasses.replace(
                notice,
                headline=str(self.report.get("headline") or ""),
                lines=tuple(map(str, as_list(self.report.get("lines")))),
                attachment=attachment,
            )
        message = _notice_text.mail(notice, self.sender, self.recipients, self.prefix)
        refused = send_mail(self.server, message, self.sender, self.recipients)
        return warnings + ([f"The mail server {self.server.host} took the mail, but not for {', '.join(refused)}."] if refused else [])


@dataclasses.dataclass(frozen=True)
class Post:
    """A webhook."""

    hook: Webhook
    always: bool = False

    @property
    def name(self) -> str:
        """Name of the channel."""
        return self.hook.name

    @property
    def kind(self) -> str:
        """Kind of the channel."""
        return self.hook.kind

    @property
    def timeout(self) -> float:
        """Seconds for the whole delivery."""
        return self.hook.timeout

    def deliver(self, notice: _notice_text.Notice) -> list[str]:
        """Post the notice."""
        post(self.hook, _notice_text.payload(self.hook.kind, notice))
        return []


def decide(task: Task, environment: Mapping[str, str]) -> Decision:
    """Return what there is to tell; the effect tells it."""
    params = task.params
    channels = _channels(params)
    seen = _notice.observe(params["feed"], _notice.with_states(params["outcomes"], params["states"]), params["report"])
    state_dir = params["state_dir"] or default_state_dir(environment)
    told = [Told(state_dir, channel.name, 4 * channel.timeout) for channel in channels]
    for warning in told[0].prepare():
        task.warn(warning)
    if params["state_dir"] is None and is_ephemeral(environment):
        task.warn(f"{told[0].directory} is in a container and will be gone: give state_dir on lasting storage, or every run tells everything again.")
    rows = []
    for channel, memory in zip(channels, told, strict=True):
        new = len(_notice.settle(memory.entries(), seen, params["events"]).tell)
        rows.append({"name": channel.name, "kind": channel.kind, "new": new, "sent": False, "reason": None, "msg": None})
    result = {"events": [event.as_dict() for event in seen.events if event.kind in params["events"]], "channels": rows}

    def effect() -> dict[str, Any]:
        return {"channels": _tell(task, list(zip(channels, told, strict=True)), seen)}

    return Decision(result, changed=any(row["new"] or channel.always for row, channel in zip(rows, channels, strict=True)), effect=effect)


def _tell(task: Task, channels: Sequence[tuple[Channel, Told]], seen: _notice.Observation) -> list[dict[str, Any]]:
    """Tell every channel; one that fails does not keep the others from being told. Raises DeliveryError after all were tried."""
    params = task.params
    rows: list[dict[str, Any]] = []
    failures: list[MitigationError] = []
    for channel, memory in channels:
        row: dict[str, Any] = {"name": channel.name, "kind": channel.kind, "new": 0, "sent": False, "reason": None, "msg": None}
        rows.append(row)
        try:
            with memory.held():
                before = memory.entries()
                news = _notice.settle(before, seen, params["events"])
                row["new"] = len(news.tell)
                if news.standing != before:
                    memory.store(news.standing)  # what is over is over, delivered or not
                if news.tell or channel.always:
                    notice = _notice_text.Notice(news.tell, task.now(), params["run_id"], params["report_url"])
                    for warning in channel.deliver(notice):
                        task.warn(warning)
                    row["sent"] = True
                    memory.store(_notice.remember(news, task.now().isoformat(timespec="seconds")))
        except MitigationError as exc:
            row["reason"], row["msg"] = exc.reason, exc.message
            failures.append(exc)
    if failures:
        said = " ".join(f"{failure.message.rstrip('.')}." for failure in failures) + " What was not delivered is told by the next run."
        if params["required"]:
            raise DeliveryError(said, failures[0].reason, channels=rows)
        task.warn(said)
    return rows


def _channels(params: Mapping[str, Any]) -> list[Channel]:
    """Return the channels of the options; raises InvalidInput."""
    found: list[Channel] = []
    if params["mail"]:
        found.append(_mail(params["mail"], as_dict(params["report"]), params["report_file"]))
    for options in params["webhooks"] or ():
        found.append(Post(_webhook(options)))
    if not found:
        raise InvalidInput("There is nobody to tell: give mail or webhooks.")
    names = [channel.name for channel in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInput(f"Two channels have the name {', '.join(twice)}: give each webhook a name of its own.")
    return found


def _mail(options: Mapping[str, Any], report: Mapping[str, Any], report_file: str | None) -> Mail:
    addresses = [options["from"], *options["to"]]
    if not options["to"]:
        raise InvalidInput("mail: there is no recipient in to.")
    for address in addresses:
        if not _ADDRESS.fullmatch(address):
            raise InvalidInput(f"mail: {address!r} is not an address such as team@example.com.")
    _positive("mail", options["timeout"])
    server = MailServer(
        options["host"],
        options["port"] or MAIL_PORTS[options["encryption"]],
        options["encryption"],
        options["username"] or None,
        options["password"] or None,
        options["ca_path"],
        float(options["timeout"]),
    )
    check_mail(server)
    return Mail(server, options["from"], tuple(options["to"]), options["subject_prefix"] or "", report, report_file)


def _webhook(options: Mapping[str, Any]) -> Webhook:
    name = (options["name"] or options["kind"]).strip()
    if not re.fullmatch(r"[\w .-]{1,80}", name) or name == "mail":
        raise InvalidInput("webhooks: a name has letters, digits, spaces, dots and hyphens, 80 at most, and is not mail.")
    _positive(f"webhook {name}", options["timeout"])
    headers = {str(key): str(value) for key, value in (options["headers"] or {}).items()}
    hook = Webhook(name, options["kind"], options["url"], options["proxy"], options["ca_path"], headers, float(options["timeout"]))
    check_webhook(hook)
    return hook


def _positive(where: str, timeout: int) -> None:
    if timeout < 1:
        raise InvalidInput(f"{where}: timeout must be at least 1 second.")


def _attachment(path: str) -> tuple[tuple[str, bytes] | None, str]:
    """Return name and bytes of the report's file, or None and a warning."""
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_ATTACHMENT + 1)
    except OSError as exc:
        return None, f"The report {path} is not attached: {exc.strerror}."
    if len(data) > MAX_ATTACHMENT:
        return None, f"The report {path} is not attached: it is larger than {MAX_ATTACHMENT} bytes. Give report_url."
    return (os.path.basename(path), data), ""
