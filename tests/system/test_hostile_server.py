# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that somebody else controls answers the controller: through the real clients, and through whole playbooks.

Nothing that it says runs, hangs, fills the memory, reaches the terminal as a control sequence, or becomes markup or a formula.
"""

from __future__ import annotations

import csv
import json
import os
import pathlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import villain
import yaml
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ConnectionFailure, MitigationError
from ansible_collections.exchange.mitigation.plugins.modules import event_info, organization_info, server_info
from ansible_collections.exchange.mitigation.plugins.plugin_utils import _psrp, _session, _transport
from lab_task import run
from session_live import NAMES, WAYS

import playbooks
from lab import connection, psrp
from lab.kernel import Obj

CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
MODULES = {"server_info": (server_info, {}), "event_info": (event_info, {}), "organization_info": (organization_info, {})}


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    from lab.fleet import Fleet

    with Fleet(2) as fleet:
        yield fleet


@pytest.fixture
def fleet(running: Any) -> Iterator[Any]:
    running.access_log.clear()
    yield running
    assert running.scripts_received == 0
    deadline = time.monotonic() + 10
    while running._server.open_shells() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert running._server.open_shells() == [], "a session was left open"


# --- over the wire -----------------------------------------------------------------------------------------------------------------


def raw(xml: bytes) -> Any:
    """Return a change that writes bytes in place of objects; what is no object (the markers) stays."""

    def change(pipeline: Any, value: Any) -> Any:
        if not isinstance(value, Obj):
            return value
        pipeline.pool.emit(psrp.PSRPMessageType.PipelineOutput, xml, pipeline.pid)
        return None

    return change


RAW = {
    "deep": b"<Obj><LST>" * 20_000 + b"</LST></Obj>" * 20_000,
    "entities": b'<!DOCTYPE a [<!ENTITY b "c">]><S>&b;</S>',
    "wide": b"<Obj><LST>" + b"<Nil/>" * 300_000 + b"</LST></Obj>",
    "endless number": b"<I64>" + b"9" * 100_000 + b"</I64>",
    "no xml": b"\xff\xfe\x00\x01 not xml",
    "empty": b"",
}


@pytest.mark.parametrize("kind", RAW)
@pytest.mark.parametrize(("way", "secure"), [WAYS[0], WAYS[3]], ids=[NAMES[0], NAMES[3]])
def test_objects_that_are_none(fleet: Any, kind: str, way: str, secure: bool) -> None:
    begin = time.process_time()
    with villain.writing(raw(RAW[kind])), pytest.raises(ConnectionFailure) as caught:
        run(server_info, fleet, fleet.machine("EX1"), {}, kind=way, secure=secure)
    assert caught.value.reason == "answer_malformed"
    assert "no WS-Management or PowerShell message" in caught.value.message and len(caught.value.message) < 600
    assert time.process_time() - begin < 20


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("sent", [None, 7, ["x", None], {"a": 1}, b"\xff", Obj(), Obj(value=[]), [[[]]], "{{ 1 }}", villain.ESC], ids=repr)
def test_answers_of_another_kind(fleet: Any, name: str, sent: Any) -> None:
    module, options = MODULES[name]
    with villain.writing(lambda dummy, value: value if isinstance(value, str) and value.startswith("~") else sent):
        try:
            result = run(module, fleet, fleet.machine("EX1"), options)
        except MitigationError as exc:
            assert exc.message
        else:
            assert name == "event_info" or result


def test_output_without_end(fleet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline is given up when it has written more than anything that is wanted, and the session is closed."""
    monkeypatch.setattr(_psrp, "MAX_OUTPUT", 300_000)

    def flood(pipeline: Any, value: Any) -> Any:
        for dummy in range(200):
            pipeline.pool.emit(psrp.PSRPMessageType.PipelineOutput, b"<S>" + b"x" * 10_000 + b"</S>", pipeline.pid)
        return value

    with villain.writing(flood), pytest.raises(ConnectionFailure) as caught:
        run(server_info, fleet, fleet.machine("EX1"), {})
    assert caught.value.reason == "answer_malformed" and "wrote more than" in caught.value.message


@pytest.mark.parametrize(("way", "secure"), WAYS, ids=NAMES)
def test_a_body_without_end(fleet: Any, monkeypatch: pytest.MonkeyPatch, way: str, secure: bool) -> None:
    """An HTTP body is read up to a limit, whatever Content-Length says."""
    monkeypatch.setattr(_transport, "MAX_BODY", 3_000_000)
    genuine = connection.Handler._answer
    state = {"messages": 0}

    def answer(handler: Any, status: int, body: bytes, *rest: Any, **more: Any) -> None:
        if len(body) > 300:
            state["messages"] += 1
            body = body + b" " * 30_000_000 if state["messages"] == 6 else body
        genuine(handler, status, body, *rest, **more)

    monkeypatch.setattr(connection.Handler, "_answer", answer)
    with pytest.raises(ConnectionFailure) as caught:
        run(server_info, fleet, fleet.machine("EX1"), {}, kind=way, secure=secure)
    assert caught.value.reason == "answer_malformed" and "more than 3000000 bytes" in caught.value.message


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("status", [200, 500])
def test_an_envelope_with_a_document_type(fleet: Any, monkeypatch: pytest.MonkeyPatch, status: int, encoding: str) -> None:
    genuine = connection.Handler._answer
    bomb = ('<!DOCTYPE a [<!ENTITY b "' + "x" * 1000 + '">]><a>' + "&b;" * 1000 + "</a>").encode(encoding)

    def answer(handler: Any, sent: int, body: bytes, *rest: Any, **more: Any) -> None:
        envelope = len(body) > 300
        genuine(handler, status if envelope else sent, bomb if envelope else body, *rest, **more)

    monkeypatch.setattr(connection.Handler, "_answer", answer)
    with pytest.raises(ConnectionFailure) as caught:
        run(server_info, fleet, fleet.machine("EX1"), {}, secure=True)
    assert caught.value.reason == ("answer_malformed" if status == 200 else "http_error")
    assert "xxxx" not in caught.value.message


def test_a_read_without_end(fleet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers every message, and never with the end, is given up after a time."""
    monkeypatch.setattr(_session, "READ_LIMIT", 3)
    monkeypatch.setattr(psrp.Pipeline, "state", lambda *dummy, **more: None)
    begin = time.monotonic()

    def drip(pipeline: Any, value: Any) -> Any:
        if not pipeline.stopping.wait(1.0):
            pipeline.pool.emit(psrp.PSRPMessageType.PipelineOutput, b"<S>x</S>", pipeline.pid)
        return value

    with villain.writing(drip), pytest.raises(ConnectionFailure) as caught:
        run(organization_info, fleet, fleet.machine("EX1"), {}, secure=True)
    assert caught.value.reason == "read_timeout"
    assert time.monotonic() - begin < 90


# --- whole playbooks --------------------------------------------------------------------------------------------------------------

POISONS = {
    "templates": villain.template,
    "sequences": lambda marker: villain.ESC + villain.template(marker),
    "markup and formulas": lambda marker: villain.MARKUP + "\n" + villain.FORMULA + "\n@SUM(1)" + villain.template(marker),
}


def untouched(folder: pathlib.Path, marker: pathlib.Path, played: playbooks.Played) -> None:
    """What must hold of a run, however it ended."""
    assert not marker.exists(), "text of a server was run as a template"
    assert not CONTROLS.search(played.text), repr(CONTROLS.search(played.text))
    assert "Traceback" not in played.text and "unexpected_error" not in played.text, played.text[-3000:]
    assert "Unexpected failure" not in played.text and "internal error" not in played.text.lower()


def checked_report(folder: pathlib.Path) -> None:
    """No markup, formula or control character of a server in the files of the report."""
    page = (folder / "report.html").read_text("utf-8")
    assert "<script>alert" not in page and "<img src=x" not in page and "onerror=alert(1)>" not in page
    for name in ("report.html", "report.csv", "metrics.prom", "report.json"):
        assert not CONTROLS.search((folder / name).read_text("utf-8")), name
    with (folder / "report.csv").open(encoding="utf-8-sig", newline="") as file:
        for row in csv.reader(file):
            assert not any(cell.lstrip().startswith(("=", "+", "-", "@", "|", "%")) for cell in row), row
    json.loads((folder / "report.json").read_text("utf-8"))


#: All of them with EXCHANGE_MITIGATION_CASES of 1000 or more, two without.
DRIFTS = [("sequences", False), ("markup and formulas", True), ("templates", False), ("templates", True), ("sequences", True), ("markup and formulas", False)]


@pytest.mark.parametrize(("kind", "every"), DRIFTS if int(os.environ.get("EXCHANGE_MITIGATION_CASES", "60")) >= 1000 else DRIFTS[:2])
def test_drift(running: Any, tmp_path: pathlib.Path, kind: str, every: bool) -> None:
    """The report is written all the same; -vvv shows results whole."""
    marker = tmp_path / "ran"
    poison = POISONS[kind](marker)
    saved = {machine.name: (pathlib.Path(machine.root) / "inetpub/wwwroot/web.config").read_bytes() for machine in running.machines}
    for machine in running.machines:
        villain.poison_configuration(machine, poison)
        villain.poison_events(machine, poison)
    try:
        with villain.poison_of(poison, every):
            played = playbooks.play(
                running, tmp_path, "drift", "--diff", "-vvv", exchange_mitigation_report_dir=str(tmp_path / "report"), exchange_mitigation_report_events="9000d"
            )
    finally:
        for machine in running.machines:
            (pathlib.Path(machine.root) / "inetpub/wwwroot/web.config").write_bytes(saved[machine.name])
    untouched(tmp_path, marker, played)
    assert played.code in (0, 2), played.text[-3000:]
    checked_report(tmp_path / "report")
    if not every:
        assert "touch " in played.text, "the poison was not even read"


def test_mitigate_and_rollback(running: Any, tmp_path: pathlib.Path) -> None:
    """Playbooks that change end with a sentence or with the change, and run nothing of what the server says."""
    marker = tmp_path / "ran"
    poison = POISONS["sequences"](marker)
    from lab_task import contents, put_back

    saved = {machine.name: contents(machine) for machine in running.machines}
    try:
        with villain.poison_of(poison):
            for name in ("mitigate", "rollback"):
                played = playbooks.play(running, tmp_path, name, "--diff", "-v", exchange_mitigation_mitigations=["M1", "M2"])
                untouched(tmp_path, marker, played)
    finally:
        for machine in running.machines:
            put_back(machine, saved[machine.name])


def test_results_in_hands_of_a_user(running: Any, tmp_path: pathlib.Path) -> None:
    """What users do with results: debug, set_fact, concatenation, loops, conditions, templates of their own."""
    marker = tmp_path / "ran"
    tasks: list[dict[str, Any]] = [
        {"exchange.mitigation.organization_info": {}, "register": "org"},
        {"exchange.mitigation.server_info": {"organization": "{{ org.organization }}"}, "register": "seen"},
        {"exchange.mitigation.event_info": {}, "register": "told"},
        {"ansible.builtin.set_fact": {"one": "{{ seen.server }}", "two": "prefix {{ seen.server.name }} {{ seen.server.os.caption }}"}},
        {"ansible.builtin.debug": {"msg": "{{ one }} {{ two }}"}},
        {"ansible.builtin.debug": {"var": "one"}},
        {"ansible.builtin.debug": {"msg": "{{ item }}"}, "loop": "{{ org.organization.servers }}", "loop_control": {"label": "{{ item.name }}"}},
        {"ansible.builtin.debug": {"msg": "{{ item.message }}"}, "loop": "{{ told.events }}"},
        {"ansible.builtin.debug": {"msg": "{{ hostvars[inventory_hostname].two }}"}, "when": "seen.server.name != ''"},
        {"ansible.builtin.copy": {"content": "{{ seen | to_nice_json }}", "dest": str(tmp_path / "out-{{ inventory_hostname }}")}, "delegate_to": "localhost"},
    ]
    (tmp_path / "use.yml").write_text(yaml.safe_dump([{"hosts": "exchange_servers", "gather_facts": False, "tasks": tasks}]), "utf-8")
    poison = POISONS["sequences"](marker)
    for machine in running.machines:
        villain.poison_events(machine, poison)
    with villain.poison_of(poison):
        played = playbooks.play(running, tmp_path, str(tmp_path / "use.yml"), "-v", ansible_python_interpreter=sys.executable)
    untouched(tmp_path, marker, played)
    assert played.code == 0, played.text[-3000:]
    assert "touch " in played.text


def test_inventory(running: Any, tmp_path: pathlib.Path) -> None:
    """The inventory plugin makes hosts of names that are names, and nothing else of what Exchange says."""
    marker = tmp_path / "ran"
    machine = running.machines[0]
    source = {
        "plugin": "exchange.mitigation.organization", "exchange_host": machine.address, "exchange_port": running.port(machine, "web_https"),
        "exchange_scheme": "https", "exchange_auth": "basic", "exchange_username": running.admin, "exchange_password": running.password,
        "exchange_ca_path": str(running.pki.tls_ca_path), "compose": {"shown": "exchange_server.edition ~ exchange_server.site"},
        "keyed_groups": [{"key": "exchange_server.edition", "prefix": "e"}],
    }  # fmt: skip
    (tmp_path / "x.exchange.yml").write_text(yaml.safe_dump(source), "utf-8")
    program = pathlib.Path(sys.executable).with_name("ansible-inventory")
    with villain.poison_of(POISONS["sequences"](marker)):
        done = subprocess.run(
            [str(program), "-i", str(tmp_path / "x.exchange.yml"), "--list"], capture_output=True, text=True, check=False, timeout=120,
            env=playbooks.environment(tmp_path), cwd=tmp_path,
        )  # fmt: skip
    assert not marker.exists()
    assert done.returncode == 0, done.stderr
    assert not CONTROLS.search(done.stdout + done.stderr)
    names = json.loads(done.stdout)["_meta"]["hostvars"]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in names)
