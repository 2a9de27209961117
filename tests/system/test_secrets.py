# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Planted secrets, searched for wherever a run leaves something: output at any verbosity, debug output, callbacks, files, processes.

The one place where bytes of a web.config stay is the journal, because undoing needs them: in folders of 0700, in files of 0600, encoded.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from ansible.release import __version__
from lab_task import contents, put_back
from receivers import PASSWORD, USER, smtp, web

import playbooks

pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH")
#: ansible-core before 2.19 itself ends with a TypeError where a loop's results meet ANSIBLE_DEBUG.
DEBUG = "1" if tuple(map(int, __version__.split(".")[:2])) >= (2, 19) else "0"
TRACE = os.environ.get("EXCHANGE_MITIGATION_TIER_SECRETS") == "1"

CALLBACK = """
import json, os
from ansible.plugins.callback import CallbackBase

class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "tell_all"

    def _tell(self, kind, result, **dummy):
        with open(os.environ["TELL_ALL"], "a") as file:
            file.write(json.dumps([kind, str(result._task), result._result], default=repr) + "\\n")

    def v2_runner_on_ok(self, result, **more): self._tell("ok", result)
    def v2_runner_on_failed(self, result, **more): self._tell("failed", result)
    def v2_runner_on_unreachable(self, result, **more): self._tell("unreachable", result)
    def v2_runner_on_skipped(self, result, **more): self._tell("skipped", result)
    def v2_runner_item_on_ok(self, result, **more): self._tell("item", result)
    def v2_runner_item_on_failed(self, result, **more): self._tell("item", result)
    def v2_on_file_diff(self, result): self._tell("diff", result)
"""

#: What is planted where. All are words that nothing else contains.
SECRETS = {
    "feed proxy": "Pl4nted-Proxy-Passw0rd",
    "feed source": "Pl4nted-Source-Passw0rd",
    "feed query": "Pl4nted-Source-Sig",
    "webhook proxy": "Pl4nted-HookProxy-Passw0rd",
    "webhook path": "Pl4nted-T0ken",
    "webhook header": "Pl4nted-Header",
    "mail": PASSWORD,
    "wrong Exchange password": "Pl4nted-Exchange-Passw0rd",
    "wrong host password": "Pl4nted-Host-Passw0rd",
    "connection string": "Pl4nted-Sql-Passw0rd",
    "machine key": "P14ED0AAC0DE0000BEEF0000P14ED0AAC0DE0000BEEF",
    "application setting": "Pl4nted-App-Setting",
}  # fmt: skip
IN_CONFIGURATION = ("connection string", "machine key", "application setting")


@pytest.fixture(scope="module")
def fleet() -> Iterator[Any]:
    from lab.fleet import Fleet

    with Fleet(2, mitigations_enabled=False) as running:
        yield running


def plant(machine: Any) -> None:
    """Put secrets into the web.config files that are changed, on the very lines beside the rules."""
    part = (
        f'<connectionStrings><add name="a" connectionString="Server=x;Password={SECRETS["connection string"]}" /></connectionStrings>'
        f'<appSettings><add key="k" value="{SECRETS["application setting"]}" /></appSettings>'
    )
    web_part = f'<system.web><machineKey validationKey="{SECRETS["machine key"]}" /></system.web>'
    for path in contents(machine):
        if path.name == "web.config" and (path.parent.name == "wwwroot" or path.parent.name == "owa"):
            text = path.read_text("utf-8-sig")
            path.write_text(text.replace("<configuration>", "<configuration>" + part, 1).replace("</configuration>", web_part + "</configuration>"), "utf-8")


def forms(secret: str) -> list[bytes]:
    """Return the secret as it is, in UTF-16, in a URL, and in base64 at each of its three places."""
    raw = secret.encode()
    wide = secret.encode("utf-16-le")
    encoded = [base64.b64encode(b"\0" * shift + text)[4 if shift else 0 : -4] for text in (raw, wide) for shift in range(3)]
    return [raw, wide, *(part for part in encoded if len(part) >= 12)]


def found_in(data: bytes, names: Any = None) -> list[str]:
    """Return the names of the secrets that stand in the bytes."""
    return [name for name in names or SECRETS if any(form in data for form in forms(SECRETS[name]))]


class Watch:
    """Looks at the command lines of every process of a run, again and again; the run's folder in the environment tells which they are."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.mark = os.fsencode(folder)
        self.over = threading.Event()
        self.seen: set[str] = set()
        self.looks = 0
        self.thread = threading.Thread(target=self.look, daemon=True)

    def look(self) -> None:
        """Look until told to stop."""
        while not self.over.is_set():
            for folder in pathlib.Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    words = (folder / "cmdline").read_bytes()
                    if found_in(words) or self.looks < 1000:
                        ours = self.mark in (folder / "environ").read_bytes()
                        self.looks += ours
                        self.seen.update(found_in(words) if ours else ())
            time.sleep(0.03)

    def __enter__(self) -> Watch:
        self.thread.start()
        return self

    def __exit__(self, *dummy: object) -> None:
        self.over.set()
        self.thread.join()


@pytest.fixture
def variables(fleet: Any) -> Iterator[dict[str, Any]]:
    """Channels that work, as variables."""
    files = fleet.pki.server("receiver", ["receiver.lab.example"], ["127.0.0.1"])
    authority = str(fleet.pki.tls_ca_path)
    with smtp(files, "starttls", auth=True) as mail, web(files) as hook:
        yield {
            "exchange_mitigation_mail_host": mail.host, "exchange_mitigation_mail_port": mail.port, "exchange_mitigation_mail_username": USER,
            "exchange_mitigation_mail_password": PASSWORD, "exchange_mitigation_mail_from": "exchange@example.com",
            "exchange_mitigation_mail_to": ["team@example.com"], "exchange_mitigation_mail_ca_path": authority,
            "exchange_mitigation_webhook_url": hook.url, "exchange_mitigation_webhook_proxy": "",
            "exchange_mitigation_webhook_headers": {"X-Key": SECRETS["webhook header"]}, "exchange_mitigation_webhook_ca_path": authority,
        }  # fmt: skip


def failing(fleet: Any, folder: pathlib.Path) -> list[dict[str, Any]]:
    """Tasks that fail with a secret in their hands: what is said of the failure must not hold it."""
    authority = str(fleet.pki.tls_ca_path)
    state = {"state_dir": str(folder / "state-of-failures")}
    mail = {"host": "127.0.0.1", "port": 1, "username": USER, "password": PASSWORD, "from": "a@example.com", "to": ["b@example.com"]}
    hook = {"url": f"https://127.0.0.1:1/hook/{SECRETS['webhook path']}", "headers": {"X-Key": SECRETS["webhook header"]}}
    published = {"feed": {"sha256": "0" * 64, "domain": "microsoft"}, "version": "1.0.9", "new": ["M9"], "mitigations": [{"id": "M9"}]}
    organization = {"name": "x", "mitigations_enabled": True, "servers": []}
    local: list[tuple[str, dict[str, Any]]] = [
        ("feed", {"source": "https://feed.example/x", "proxy": f"http://proxy:{SECRETS['feed proxy']}@127.0.0.1:1", **state}),
        ("feed", {"source": f"https://reader:{SECRETS['feed source']}@127.0.0.1:1/x", "ca_path": authority, **state}),
        ("feed", {"source": f"https://127.0.0.1:1/x?sig={SECRETS['feed source']}", "ca_path": authority, **state}),
        ("notify", {"mail": mail, "feed": published, **state}),
        ("notify", {"webhooks": [hook], "feed": published, **state}),
        ("notify", {"webhooks": [{**hook, "proxy": f"http://proxy:{SECRETS['webhook proxy']}@127.0.0.1:1"}], "feed": published, **state}),
        ("notify", {"webhooks": [{**hook, "nonsense": 1}], "mail": {**mail, "nonsense": 2}, **state}),
        ("organization_info", {"exchange_password": SECRETS["wrong Exchange password"]}),
        ("organization_info", {"exchange_password": SECRETS["wrong Exchange password"], "exchange_port": 1}),
        ("organization_info", {"exchange_password": SECRETS["wrong Exchange password"], "exchange_auth": "nonsense"}),
    ]
    tasks = [{f"exchange.mitigation.{name}": options, "ignore_errors": True, "ignore_unreachable": True} for name, options in local]
    for port in (None, 1):
        more = {} if port is None else {"ansible_port": port}
        given = {"ansible_password": SECRETS["wrong host password"], **more}
        tasks.append({"exchange.mitigation.server_info": {"organization": organization}, "vars": given, "ignore_unreachable": True, "ignore_errors": True})
    return tasks


def ran(fleet: Any, folder: pathlib.Path, book: str, variables: dict[str, Any], *options: str, **more: str) -> bytes:
    """Run a playbook with everything told, and return what it wrote to its terminal."""
    inventory = folder / "inventory" / "lab.yml"
    inventory.parent.mkdir(exist_ok=True)
    fleet.write_inventory(inventory)
    given = folder / "inventory" / "vars.json"
    given.write_text(json.dumps(variables), "utf-8")
    (folder / "inventory" / "callbacks").mkdir(exist_ok=True)
    (folder / "inventory" / "callbacks" / "tell_all.py").write_text(CALLBACK, "utf-8")
    environment = playbooks.environment(folder) | {
        "ANSIBLE_CALLBACK_PLUGINS": str(folder / "inventory" / "callbacks"), "ANSIBLE_CALLBACKS_ENABLED": "tell_all", "TELL_ALL": str(folder / "told.jsonl"),
        "ANSIBLE_LOG_PATH": str(folder / "ansible.log"), **more,
    }  # fmt: skip
    program = str(pathlib.Path(sys.executable).with_name("ansible-playbook"))
    command = [program, "-i", str(inventory), book, "-e", f"@{given}", *options]
    if TRACE:
        strace = shutil.which("strace")
        assert strace, "strace is missing"
        command = [strace, "-f", "-qq", "-s", "4096", "-e", "trace=execve", "-o", str(folder / f"strace-{time.monotonic_ns()}.txt"), *command]
    done = subprocess.run(command, capture_output=True, env=environment, cwd=folder, check=False, timeout=400)
    return done.stdout + done.stderr


def searched(fleet: Any, folder: pathlib.Path, said: bytes) -> None:
    """Nothing in the output, in any file that the run left, in the lab's access log; in the journal only what undoing needs."""
    secrets = {**SECRETS, "password of the lab": fleet.password}
    assert [name for name, secret in secrets.items() if any(form in said for form in forms(secret))] == [], "in the output"
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or (folder / "inventory") in path.parents:
            continue
        data = path.read_bytes()
        journal = "journal" in path.parts
        names = [name for name in secrets if not (journal and name in IN_CONFIGURATION)]
        assert [name for name in names if any(form in data for form in forms(secrets[name]))] == [], path
        if journal:
            assert not any(SECRETS[name].encode() in data for name in IN_CONFIGURATION), f"{path}: in the clear"
            assert stat.S_IMODE(path.stat().st_mode) == 0o600 and path.stat().st_uid == os.getuid(), path
            folders = [parent for parent in path.parents if "journal" in parent.parts]
            assert folders and all(stat.S_IMODE(parent.stat().st_mode) == 0o700 for parent in folders), folders
    log = json.dumps(fleet.access_log.select(), default=repr).encode()
    assert [name for name, secret in secrets.items() if any(form in log for form in forms(secret))] == [], "in the lab's access log"


@pytest.mark.parametrize("debug", ["0", "1"], ids=["vvvv", "debug"])
def test_failures(fleet: Any, tmp_path: pathlib.Path, debug: str) -> None:
    """Every task that fails with a secret in its hands says why, and not with what."""
    book = tmp_path / "inventory" / "failures.yml"
    book.parent.mkdir()
    play = [{"hosts": "EX1", "gather_facts": False, "tasks": failing(fleet, tmp_path)}]
    book.write_text(yaml.safe_dump(play), "utf-8")
    with Watch(tmp_path) as watch:
        said = ran(fleet, tmp_path, str(book), {}, "-vvvv", ANSIBLE_DEBUG=debug)
    searched(fleet, tmp_path, said)
    assert watch.seen == set() and watch.looks > 20
    told = [json.loads(line) for line in (tmp_path / "told.jsonl").read_text("utf-8").splitlines()]
    assert len(told) == len(play[0]["tasks"])  # type: ignore[arg-type]
    assert all(result.get("reason") and result.get("msg") for dummy, dummy_task, result in told), [result for dummy, dummy_task, result in told]


def test_a_rollout_and_back(fleet: Any, variables: dict[str, Any], tmp_path: pathlib.Path) -> None:
    """From the first drift to mitigated and back, with diffs, notices and a report, over files with secrets beside the rules."""
    saved = {machine.name: contents(machine) for machine in fleet.machines}
    for machine in fleet.machines:
        plant(machine)
    planted = {machine.name: contents(machine) for machine in fleet.machines}
    assert any(SECRETS["machine key"].encode() in data for data in planted["EX1"].values())
    journal = tmp_path / "journal"
    wanted = {
        **variables, "exchange_mitigation_feed_source": f"{fleet.feed.url}?sv=1&sig={SECRETS['feed query']}", "exchange_mitigation_journal_dir": str(journal),
        "exchange_mitigation_report_dir": str(tmp_path / "report"),
        "exchange_mitigation_report_events": "7d", "exchange_mitigation_mitigations": ["M1", "M2"], "exchange_mitigation_block": False,
    }  # fmt: skip
    said = b""
    try:
        with Watch(tmp_path) as watch:
            for name, debug in (("drift", DEBUG), ("mitigate", "0"), ("rollback", "0")):
                said += ran(fleet, tmp_path, f"exchange.mitigation.{name}", wanted, "-vvvv", "--diff", ANSIBLE_DEBUG=debug)
                if name == "mitigate":
                    assert any(contents(machine) != planted[machine.name] for machine in fleet.machines), said[-3000:].decode()
        assert {machine.name: contents(machine) for machine in fleet.machines} == planted
    finally:
        for machine in fleet.machines:
            put_back(machine, saved[machine.name])
    kept = b"".join(path.read_bytes() for path in journal.rglob("*.jsonl"))
    assert found_in(kept, IN_CONFIGURATION), "the journal has what undoing needs"
    searched(fleet, tmp_path, said)
    assert watch.seen == set() and watch.looks > 20
    assert (tmp_path / "report" / "report.html").exists()
    shown = said.decode("utf-8", "replace")
    assert "--- before" in shown or "\n+" in shown, "no diff was shown"


@pytest.mark.skipif(not TRACE, reason="EXCHANGE_MITIGATION_TIER_SECRETS is not 1: strace is not used")
def test_strace_sees_programs(fleet: Any, tmp_path: pathlib.Path) -> None:
    """The tier's own witness: a secret on a command line would be seen."""
    book = tmp_path / "inventory" / "witness.yml"
    book.parent.mkdir()
    tasks = [{"ansible.builtin.raw": f"/bin/echo {SECRETS['mail']}"}]
    book.write_text(yaml.safe_dump([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]), "utf-8")
    ran(fleet, tmp_path, str(book), {})
    traced = b"".join(path.read_bytes() for path in tmp_path.glob("strace-*"))
    assert found_in(traced) == ["mail"]
