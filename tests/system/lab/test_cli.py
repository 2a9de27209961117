# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's command line, as a user and ansible-playbook meet it."""

from __future__ import annotations

import contextlib
import json
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

LAB = pathlib.Path(__file__).resolve().parents[2] / "lab"


@contextlib.contextmanager
def _lab(folder: pathlib.Path, *arguments: str, inventory: str = "inventory.yml") -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(LAB), "--state", str(folder / "state"), "--inventory", str(folder / inventory), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().rstrip("\n")
    if not line:
        assert process.stderr is not None
        pytest.fail(process.stderr.read())
    return line


def _hosts(path: pathlib.Path) -> dict[str, dict[str, Any]]:
    hosts: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text("utf-8"))["all"]["children"]["exchange_servers"]["hosts"]
    return hosts


def _free_ports() -> int:
    """Return a base with the ports of two servers free (as far as one can know)."""
    for base in range(21000, 32000, 40):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(base, base + 20):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
                return base
            except OSError:
                continue
    pytest.fail("no free ports")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ready_line_and_clean_stop(tmp_path: pathlib.Path, number: signal.Signals) -> None:
    with _lab(tmp_path, "--access-log", str(tmp_path / "access.log")) as process:
        line = _ready(process)
        found = re.fullmatch(r"LAB READY servers=3 feed=(https://127\.0\.0\.1:\d+/GetExchangeMitigations) inventory=(\S+)", line)
        assert found and found[2] == str(tmp_path / "inventory.yml")
        tree = yaml.safe_load(pathlib.Path(found[2]).read_text("utf-8"))
        assert tree["all"]["vars"]["exchange_mitigation_feed_source"] == found[1]
        context = ssl.create_default_context(cafile=tree["all"]["vars"]["exchange_mitigation_feed_ca_path"])
        assert urllib.request.urlopen(found[1], timeout=10, context=context).read().endswith(b"</EOCS>")
        process.send_signal(number)
        assert process.wait(15) == 0
        assert process.communicate() == ("", "")
    records = [json.loads(record) for record in (tmp_path / "access.log").read_text("utf-8").splitlines()]
    assert [list(record) for record in records] == [["server", "endpoint", "action", "cmdlets", "write", "bytes_in", "bytes_out", "status"]]
    assert (records[0]["server"], records[0]["status"]) == ("feed", 200)


def test_inventory_has_all_combinations(tmp_path: pathlib.Path) -> None:
    with _lab(tmp_path, "--servers", "4") as process:
        _ready(process)
        tree = yaml.safe_load((tmp_path / "inventory.yml").read_text("utf-8"))["all"]
    groups = {name: list(group["hosts"]) for name, group in tree["children"].items()}
    assert groups == {"exchange_servers": ["EX1", "EX2", "EX3", "EX4"], "lab_winrm": ["EX1", "EX3"], "lab_psrp": ["EX2", "EX4"]}
    combinations = set()
    for host in tree["children"]["exchange_servers"]["hosts"].values():
        kind = host["ansible_connection"]
        auth = host["ansible_winrm_transport" if kind == "winrm" else "ansible_psrp_auth"]
        scheme = host["ansible_winrm_scheme" if kind == "winrm" else "ansible_psrp_protocol"]
        combinations.add((kind, auth, scheme))
        assert (host["exchange_mitigation_exchange_auth"], host["exchange_mitigation_exchange_scheme"]) in {("ntlm", "http"), ("basic", "https")}
        assert pathlib.Path(host["lab_files"], "inetpub", "wwwroot", "web.config").is_file()
    assert combinations == {(kind, *way) for kind in ("winrm", "psrp") for way in (("ntlm", "http"), ("basic", "https"))}
    for name in ("roots", "timestamp_roots"):
        assert all(pathlib.Path(path).is_file() for path in tree["vars"]["exchange_mitigation_trust"][name])
    for name in ("exchange_mitigation_state_dir", "exchange_mitigation_journal_dir"):
        folder = pathlib.Path(tree["vars"][name])
        assert folder.is_relative_to(tmp_path / "state") and folder.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "inventory.yml").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["hosts.yml", "hosts.ini"])
def test_ansible_reads_the_inventory(tmp_path: pathlib.Path, name: str) -> None:
    program = shutil.which("ansible-inventory", path=str(pathlib.Path(sys.executable).parent))
    if program is None:
        pytest.skip("ansible-inventory is not installed beside this Python")
    with _lab(tmp_path, "--servers", "2", inventory=name) as process:
        _ready(process)
        done = subprocess.run([program, "-i", str(tmp_path / name), "--list"], capture_output=True, text=True, check=True, cwd=tmp_path)
    listed = json.loads(done.stdout)
    assert listed["exchange_servers"]["hosts"] == ["EX1", "EX2"] and listed["lab_winrm"]["hosts"] == ["EX1"]
    host = listed["_meta"]["hostvars"]["EX2"]
    assert host["ansible_user"] == "LAB\\admin" and isinstance(host["ansible_port"], int) and host["ansible_password"].startswith("Lab-")
    assert list(host["exchange_mitigation_trust"]) == ["roots", "timestamp_roots"]
    assert "WARNING" not in done.stderr


def test_sites_answer(tmp_path: pathlib.Path) -> None:
    with _lab(tmp_path, "--servers", "1") as process:
        _ready(process)
        url = _hosts(tmp_path / "inventory.yml")["EX1"]["lab_http_url"]
        for path in ("/owa/", "/owa/Calendar/"):
            assert urllib.request.urlopen(url + path, timeout=10).status == 200


def test_port_base(tmp_path: pathlib.Path) -> None:
    base = _free_ports()
    with _lab(tmp_path, "--servers", "2", "--port-base", str(base)) as process:
        assert f"feed=https://127.0.0.1:{base + 9}/" in _ready(process)
        hosts = _hosts(tmp_path / "inventory.yml")
    assert (hosts["EX1"]["ansible_port"], hosts["EX1"]["lab_http_url"]) == (base, f"http://127.0.0.1:{base + 2}")
    assert (hosts["EX2"]["ansible_port"], hosts["EX2"]["exchange_mitigation_exchange_port"]) == (base + 11, base + 13)


def test_em_runs_by_itself(tmp_path: pathlib.Path) -> None:
    with _lab(tmp_path, "--servers", "1", "--em", "skips") as process:
        _ready(process)
        file = pathlib.Path(_hosts(tmp_path / "inventory.yml")["EX1"]["lab_files"], "inetpub", "wwwroot", "web.config")
        deadline = time.monotonic() + 15
        while b"EEMS M1.1" not in file.read_bytes():
            assert time.monotonic() < deadline, "EM did not come by"
            time.sleep(0.2)


def test_em_is_off_by_default(tmp_path: pathlib.Path) -> None:
    with _lab(tmp_path, "--servers", "1") as process:
        _ready(process)
        file = pathlib.Path(_hosts(tmp_path / "inventory.yml")["EX1"]["lab_files"], "inetpub", "wwwroot", "web.config")
        time.sleep(4)
        assert b"EEMS" not in file.read_bytes()


def test_fault_names_are_printed() -> None:
    done = subprocess.run([sys.executable, str(LAB), "--fault", "list"], capture_output=True, text=True, check=True)
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert {"drop-before", "drop-after", "http-401", "slow", "locked-file", "disk-full", "reboot", "feed-404", "feed-huge"} <= set(names)
    assert len(names) == len(set(names)) and all(len(line.split()) > 3 for line in done.stdout.splitlines())


def test_feed_fault_from_the_command_line(tmp_path: pathlib.Path) -> None:
    with _lab(tmp_path, "--servers", "1", "--fault", "feed-404", "--fault", "slow:EX1:2") as process:
        url = _ready(process).split("feed=")[1].split()[0]
        context = ssl.create_default_context(cafile=str(tmp_path / "state" / "pki" / "tls-ca.pem"))
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(url, timeout=10, context=context)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--fault", "nonsense"], "no fault 'nonsense'"),
        (["--servers", "0"], "1 to 500"),
        (["--template", "/nonexistent"], "does not exist"),
        (["--em", "sometimes"], "invalid choice"),
        (["--unknown"], "unrecognized arguments"),
    ],
)
def test_mistakes_are_named(tmp_path: pathlib.Path, arguments: list[str], sentence: str) -> None:
    with _lab(tmp_path, *arguments) as process:
        out, error = process.communicate(timeout=20)
        assert process.returncode == 2 and sentence in error and out == "" and "Traceback" not in error


def test_template_files_are_every_servers_files(tmp_path: pathlib.Path, recorded: Callable[[str], pathlib.Path]) -> None:
    template = tmp_path / "template"
    template.mkdir()
    for name in ("applicationHost.config", "DefaultWebSite.web.config", "DefaultWebSite-OWA.web.config", "DefaultWebSite-EAS.web.config"):
        shutil.copyfile(recorded(f"exchange2019/{name}"), template / name)
    with _lab(tmp_path, "--servers", "2", "--template", str(template)) as process:
        _ready(process)
        for host in _hosts(tmp_path / "inventory.yml").values():
            front = pathlib.Path(host["lab_files"], "Program Files", "Microsoft", "Exchange Server", "V15", "FrontEnd", "HttpProxy")
            assert (front / "owa" / "web.config").read_bytes() == (template / "DefaultWebSite-OWA.web.config").read_bytes()
            assert (front / "sync" / "web.config").read_bytes() == (template / "DefaultWebSite-EAS.web.config").read_bytes()
    (template / "notes.txt").write_text("x")
    with _lab(tmp_path, "--template", str(template), inventory="other.yml") as process:
        dummy, error = process.communicate(timeout=20)
        assert process.returncode == 2 and "notes.txt" in error
