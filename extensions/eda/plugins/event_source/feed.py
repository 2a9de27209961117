# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Event source exchange.mitigation.feed: polls the feed of mitigations, proves it, and says what changed."""

from __future__ import annotations

DOCUMENTATION = r"""
---
short_description: Poll the feed of Exchange mitigations and emit what changed
description:
  - An ansible-rulebook event source. It fetches the feed as the module exchange.mitigation.feed does, proves who signed it, and compares it with what
    it saw before.
  - C(event.type) is C(published) for a new mitigation, C(changed) for one whose content is another, C(withdrawn) for one that is gone. These events
    have C(id), C(sha256) of the content, C(supported), C(kind), and C(feed) with C(path), C(sha256), C(domain), C(version) and C(signed_at).
  - C(event.type) is C(untrusted) for a document that was refused. Such an event has the C(reason), a stable code, and the C(sha256) of the document,
    and nothing else of it. It is emitted once for each document.
  - No text of a document is in an event, so that nothing in it can be a template.
  - An event counts as told when the rule engine has taken it. After a crash in that moment it is emitted again.
  - A feed that cannot be fetched is logged and tried again at the next poll.
options:
  interval:
    description:
      - Seconds between two polls. Emergency Mitigation itself polls once an hour.
    type: int
    default: 3600
  on_first:
    description:
      - What to do with the mitigations of the first document ever seen. With C(remember), only what comes after it is emitted. With C(emit), each is
        emitted as published.
    type: str
    choices: [remember, emit]
    default: remember
  state_dir:
    description:
      - Directory for what was seen. It is the source's own, and must outlive the process, or every start is a first one.
      - The default is C(exchange_mitigation/eda) below E(XDG_STATE_HOME), or below C(~/.local/state).
    type: path
  source:
    description:
      - An https URL, or the path of a file. The default is Microsoft's endpoint.
    type: str
  proxy:
    description:
      - URL of the proxy. Without it, the proxies of the environment are used. An empty string uses none.
    type: str
  ca_path:
    description:
      - PEM file with the certificate authorities that may have issued the server's certificate, in place of all others.
    type: path
  timeout:
    description:
      - Seconds within which the whole answer must have arrived.
    type: int
    default: 30
  trust:
    description:
      - Who may have signed the document, as the option trust of the module exchange.mitigation.feed.
    type: dict
  first_use:
    description:
      - As the option of the module exchange.mitigation.feed.
    type: str
    choices: [accept, refuse]
    default: accept
  approved_sha256:
    description:
      - As the option of the module exchange.mitigation.feed.
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Watch the feed of mitigations
  hosts: all
  sources:
    - exchange.mitigation.feed:
        interval: 3600
        state_dir: /var/lib/exchange-mitigation/eda
  rules:
    - name: Something new is published
      condition: event.type == "published"
      action:
        debug:
          msg: "{{ event.id }}"
"""

import asyncio
import datetime
import functools
import importlib.util
import logging
import os
import pathlib
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

# ansible-rulebook runs this file by its path, without Ansible's loader of collections.
if importlib.util.find_spec("ansible_collections") is None or importlib.util.find_spec("ansible_collections.exchange.mitigation") is None:
    sys.path.append(str(pathlib.Path(__file__).absolute().parents[7]))

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.exchange.mitigation.plugins.module_utils import _feed_events, _trust_options
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import FetchError, InvalidInput, MitigationError, VerifyError
from ansible_collections.exchange.mitigation.plugins.modules import feed as module

logger = logging.getLogger("exchange.mitigation.feed")

Value = TypeVar("Value")

#: What the module has and an event source has no use for.
NOT_TAKEN = ("max_age", "allow_older", "verify_at")

SPEC: dict[str, Any] = {
    "argument_spec": {
        **{name: option for name, option in module.SPEC["argument_spec"].items() if name not in NOT_TAKEN},
        "interval": {"type": "int", "default": 3600},
        "on_first": {"type": "str", "choices": ["remember", "emit"], "default": "remember"},
    }
}

#: Reasons of refusals that are about the state, not about a document: nothing can go on.
OWN_FAULTS = ("state_damaged", "state_unsafe")


class Queue(Protocol):
    """Where ansible-rulebook takes events."""

    async def put(self, event: dict[str, Any]) -> None:
        """Take an event."""


class Task:
    """What the module feed sees of its task."""

    inventory_hostname = "localhost"

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params
        self.said: set[str] = set()

    @property
    def host(self) -> Any:
        """There is no host."""
        raise InvalidInput("The feed is read without a host.")

    exchange = host

    def now(self) -> datetime.datetime:
        """The current time, aware, UTC."""
        return datetime.datetime.now(datetime.timezone.utc)

    def warn(self, message: str) -> None:
        """Log a warning once."""
        if message not in self.said:
            self.said.add(message)
            logger.warning("%s", message)

    def progress(self, message: str) -> None:
        """Log a line."""
        logger.info("%s", message)


def arguments(args: Mapping[str, Any]) -> dict[str, Any]:
    """Return the validated arguments, with those of the module that are not taken at their defaults; raises InvalidInput."""
    given = {name: value for name, value in args.items() if name != "eda_feedback_queue" and value is not None}
    validated = ArgumentSpecValidator(**SPEC).validate(given)
    if validated.error_messages:
        raise InvalidInput(f"exchange.mitigation.feed: {'; '.join(validated.error_messages)}")
    params: dict[str, Any] = {**dict.fromkeys(NOT_TAKEN), **validated.validated_parameters}
    if params["interval"] < 1:
        raise InvalidInput("exchange.mitigation.feed: interval must be at least 1 second.")
    if not params["state_dir"]:
        params["state_dir"] = os.path.join(_trust_options.default_state_dir(os.environ), "eda")
        if _trust_options.is_ephemeral(os.environ):
            logger.warning("%s is in a container and will be gone: give state_dir on lasting storage.", params["state_dir"])
    return params


def look(task: Task) -> tuple[dict[str, Any], dict[str, str]]:
    """Fetch and prove the feed once; return the module's result and the hash of each Config. Raises FetchError, VerifyError, InvalidInput."""
    decision = module.run(task)
    if decision.effect is not None:
        decision.effect()
    return decision.result, _feed_events.digests(pathlib.Path(decision.result["feed"]["path"]).read_bytes())


async def poll(queue: Queue, task: Task, seen: _feed_events.Seen) -> None:
    """Look once and put what changed. Cancelled at any point, what was not taken is put by the next one."""
    memory = seen.memory()
    try:
        result, configs = await in_thread(functools.partial(look, task))
    except FetchError as exc:
        logger.warning("The feed was not fetched (%s): %s", exc.reason, exc.message)
        return
    except VerifyError as exc:
        if exc.reason in OWN_FAULTS:
            raise
        told = _feed_events.refusal(memory, exc.reason, str(exc.details["sha256"]), task.now()) if "sha256" in exc.details else None
        if told is None:
            logger.warning("The document is refused (%s).", exc.reason)
            return
        await queue.put(told[0])
        seen.store(told[1])
        return
    if memory.configs is None and task.params["on_first"] == "remember":
        logger.info("The first document: %d mitigations are remembered.", len(configs))
        seen.store(_feed_events.Memory(configs))
        return
    for event, then in _feed_events.changes(memory, configs, result, task.now()):
        await queue.put(event)
        seen.store(then)
    if memory.refused or memory.configs is None:
        seen.store(_feed_events.Memory(configs))  # a trusted document: the refused ones are news again


async def in_thread(work: Callable[[], Value]) -> Value:
    """Run blocking work in a thread of its own that nobody waits for when this is cancelled."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Value] = loop.create_future()

    def settle(value: Any, failure: BaseException | None) -> None:
        if not future.done():
            if failure is None:
                future.set_result(value)
            else:
                future.set_exception(failure)

    def target() -> None:
        value, failure = None, None
        try:
            value = work()
        except BaseException as exc:  # pylint: disable=broad-except  # carried to the coroutine that waits
            failure = exc
        try:
            loop.call_soon_threadsafe(settle, value, failure)
        except RuntimeError:  # the loop is closed: nobody waits any more
            logger.debug("The result of a look is not wanted any more.")

    threading.Thread(target=target, name="exchange.mitigation.feed", daemon=True).start()
    return await future


async def main(queue: Queue, args: dict[str, Any]) -> None:
    """Poll until cancelled. Raises MitigationError for arguments, libraries and a state that cannot be used."""
    task = Task(arguments(args))
    policy, custom = _trust_options.policy(task.params["trust"], None)
    seen = _feed_events.Seen(task.params["state_dir"], _trust_options.state_key(task.params["trust"]["domain"], policy, custom))
    for warning in seen.prepare():
        logger.warning("%s", warning)
    while True:
        await poll(queue, task, seen)
        await asyncio.sleep(task.params["interval"])


if __name__ == "__main__":

    class Printer:
        """A queue that prints."""

        async def put(self, event: dict[str, Any]) -> None:
            """Print an event."""
            print(event)

    try:
        asyncio.run(main(Printer(), dict(argument.split("=", 1) for argument in sys.argv[1:])))
    except MitigationError as error:
        sys.exit(f"{error.reason}: {error.message}")
