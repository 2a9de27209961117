# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The event source against the lab's feed: what it emits, what it keeps to itself, and how it is cancelled."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput, VerifyError

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE = ROOT / "extensions" / "eda" / "plugins" / "event_source" / "feed.py"


@pytest.fixture(scope="module")
def source() -> Any:
    spec = importlib.util.spec_from_file_location("exchange_mitigation_feed_source", SOURCE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from lab.feed import Feed
    from lab.pki import Pki

    folder = tmp_path_factory.mktemp("feed")
    feed = Feed(Pki(folder / "pki"), folder / "feed")
    feed.start()
    yield feed
    feed.stop()


@pytest.fixture
def feed(serving: Any) -> Iterator[Any]:
    serving.fault = None
    serving.published = serving.make(configs(serving, "PING1", "M1"))
    yield serving
    serving.fault = None


def configs(feed: Any, *ids: str, **descriptions: str) -> list[Any]:
    from lab import document

    made = [document.ping() if one == "PING1" else document.config(one, descriptions.get(one, "a rule"), "nested") for one in ids]
    return made


@pytest.fixture
def args(feed: Any, tmp_path: pathlib.Path) -> dict[str, Any]:
    return {
        "source": feed.url,
        "ca_path": str(feed.pki.tls_ca_path),
        "trust": {"roots": [str(feed.pki.feed_root_path)], "timestamp_roots": [str(feed.pki.timestamp_root_path)]},
        "state_dir": str(tmp_path / "eda"),
        "proxy": "",
        "interval": 1,
        "timeout": 10,
    }


class Queue:
    """A queue that keeps what is put."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    async def put(self, event: dict[str, Any]) -> None:
        """Keep an event."""
        self.events.append(event)


def run(source: Any, args: dict[str, Any], *steps: Callable[[], None], queue: Any = None, failed: list[BaseException] | None = None) -> list[dict[str, Any]]:
    """Run one process's life: a poll, then a poll after each step; cancelled in the sleep as ansible-rulebook does."""
    queue = Queue() if queue is None else queue

    async def life() -> None:
        polls = asyncio.Queue[None]()
        genuine = source.poll

        async def counted(*arguments: Any) -> None:
            await genuine(*arguments)
            await polls.put(None)

        source.poll = counted
        task = asyncio.create_task(source.main(queue, args))
        try:
            for step in (lambda: None, *steps):
                step()
                got = asyncio.create_task(polls.get())
                await asyncio.wait({got, task}, timeout=30, return_when=asyncio.FIRST_COMPLETED)
                if task.done():
                    await task
                assert got.done()
        finally:
            source.poll = genuine
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(life())
    return list(getattr(queue, "events", []))


def test_the_first_document_is_remembered_and_what_comes_after_it_is_told(source: Any, feed: Any, args: dict[str, Any]) -> None:
    told = run(source, args, lambda: feed.publish(configs(feed, "PING1", "M1", "M2"), "1.0.5"))
    assert [(event["type"], event["id"]) for event in told] == [("published", "M2")]
    assert told[0]["feed"]["version"] == "1.0.5"
    assert set(told[0]["feed"]) == {"path", "sha256", "domain", "version", "signed_at"}
    assert (told[0]["supported"], told[0]["kind"]) == (True, "rewrite")
    assert run(source, args) == []  # another process


def test_the_first_document_is_told_where_that_is_asked_for(source: Any, args: dict[str, Any]) -> None:
    told = run(source, {**args, "on_first": "emit"})
    assert [(event["type"], event["id"]) for event in told] == [("published", "PING1"), ("published", "M1")]
    assert run(source, {**args, "on_first": "emit"}) == []


def test_changed_and_withdrawn(source: Any, feed: Any, args: dict[str, Any]) -> None:
    told = run(
        source,
        args,
        lambda: feed.publish(configs(feed, "PING1", "M1", M1="another rule"), "1.0.5"),
        lambda: feed.publish(configs(feed, "PING1", "M77"), "1.0.6"),
        lambda: feed.publish(configs(feed, "PING1", "M77"), "1.0.7"),
    )
    assert [(event["type"], event["id"]) for event in told] == [("changed", "M1"), ("published", "M77"), ("withdrawn", "M1")]
    assert told[1]["supported"] is False


@pytest.mark.parametrize("fault", ["feed-forged", "feed-unsigned"])
def test_an_untrusted_document_is_told_once_by_reason_and_hash_alone(source: Any, feed: Any, args: dict[str, Any], fault: str) -> None:
    def broken() -> None:
        feed.fault = fault

    def mended() -> None:
        feed.fault = None

    told = run(source, args, broken, lambda: None, mended, broken)
    assert [event["type"] for event in told] == ["untrusted", "untrusted"]  # told again, because a trusted one was between
    for event in told:
        assert set(event) == {"type", "reason", "sha256", "at"}
        assert len(event["sha256"]) == 64
    assert run(source, args) == []  # another process, the same document


def test_an_older_document_is_untrusted(source: Any, feed: Any, args: dict[str, Any]) -> None:
    told = run(
        source, args, lambda: feed.publish(configs(feed, "PING1", "M1", "M2"), "1.0.9"), lambda: feed.publish(configs(feed, "PING1", "M1"), "1.0.5")
    )
    assert [(event["type"], event.get("reason")) for event in told] == [("published", None), ("untrusted", "rollback_version")]


def test_no_text_of_a_document_is_in_an_event(source: Any, feed: Any, args: dict[str, Any]) -> None:
    hostile = "{{ lookup('pipe', 'id') }}"
    told = run(source, args, lambda: feed.publish(configs(feed, "PING1", "M1", "M2", M2=hostile), "1.0.5"))
    assert len(told) == 1
    assert "lookup" not in json.dumps(told)


@pytest.mark.parametrize("fault", ["feed-404", "feed-content-type", "feed-truncated"])
def test_a_feed_that_cannot_be_fetched_is_no_event_and_no_end(source: Any, feed: Any, args: dict[str, Any], fault: str) -> None:
    def broken() -> None:
        feed.fault = fault

    def mended() -> None:
        feed.fault = None
        feed.publish(configs(feed, "PING1", "M1", "M2"), "1.0.5")

    assert [event["id"] for event in run(source, args, broken, mended)] == ["M2"]


def test_cancelled_in_a_slow_fetch_it_ends_at_once(source: Any, feed: Any, args: dict[str, Any]) -> None:
    feed.fault = "feed-slow"

    async def life() -> float:
        task = asyncio.create_task(source.main(Queue(), args))
        await asyncio.sleep(0.5)
        begun = time.monotonic()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        return time.monotonic() - begun

    begun = time.monotonic()
    assert asyncio.run(life()) < 0.5
    assert time.monotonic() - begun < 5  # the loop does not wait for the thread either


def test_cancelled_while_the_engine_takes_no_event_it_is_told_by_the_next_process(source: Any, feed: Any, args: dict[str, Any]) -> None:
    class Full(Queue):
        async def put(self, event: dict[str, Any]) -> None:
            if self.events:
                await asyncio.sleep(3600)
            await super().put(event)

    run(source, args)
    feed.publish(configs(feed, "PING1", "M1", "M2", "M77"), "1.0.5")

    async def life(queue: Queue) -> None:
        task = asyncio.create_task(source.main(queue, args))
        for dummy in range(100):
            await asyncio.sleep(0.05)
            if queue.events:
                break
        await asyncio.sleep(0.2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    full = Full()
    asyncio.run(life(full))
    assert [event["id"] for event in full.events] == ["M2"]
    assert [event["id"] for event in run(source, args)] == ["M77"]


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"interval": 0}, "interval"),
        ({"interval": "often"}, "interval"),
        ({"on_first": "panic"}, "on_first"),
        ({"sauce": "x"}, "sauce"),
        ({"allow_older": "because"}, "allow_older"),
        ({"trust": {"domain": "local"}}, "domain local"),
        ({"trust": {"roots": ["/nowhere.pem"]}}, "roots"),
    ],
)
def test_arguments_that_cannot_be_meant_end_it_with_a_sentence(source: Any, args: dict[str, Any], wrong: dict[str, Any], word: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        asyncio.run(source.main(Queue(), {**args, **wrong}))
    assert word in caught.value.message


def test_a_damaged_memory_ends_it(source: Any, args: dict[str, Any]) -> None:
    run(source, args)
    (kept,) = pathlib.Path(args["state_dir"]).glob("events-*.json")
    assert kept.stat().st_mode & 0o777 == 0o600
    kept.write_text("{}", "utf-8")
    with pytest.raises(VerifyError) as caught:
        asyncio.run(source.main(Queue(), args))
    assert caught.value.reason == "state_damaged"


def test_every_argument_is_documented(source: Any) -> None:
    documented = yaml.safe_load(source.DOCUMENTATION)["options"]
    spec = source.SPEC["argument_spec"]
    assert set(documented) == set(spec)
    for name, option in documented.items():
        assert option["type"] == spec[name].get("type", "str"), name
        if name != "source":
            assert option.get("default") == spec[name].get("default"), name
        assert option.get("choices") == spec[name].get("choices"), name
    yaml.safe_load(source.EXAMPLES)


def test_it_finds_the_collection_by_its_own_path() -> None:
    """ansible-rulebook runs the file by its path, and knows nothing of collections."""
    path = ROOT / ".collections" / "ansible_collections" / "exchange" / "mitigation" / SOURCE.relative_to(ROOT)
    if not path.exists():
        path = SOURCE
    code = f"import runpy; print(runpy.run_path({str(path)!r})['main'].__name__)"
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "ANSIBLE_COLLECTIONS_PATH")}
    done = subprocess.run([sys.executable, "-c", code], env=kept, cwd="/", capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "main", done.stderr
