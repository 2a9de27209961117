# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module url_rewrite against the lab: check, install, again, upgrade, repair, remove; every source; refusals by name."""

from __future__ import annotations

import hashlib
import pathlib
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _package
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import InvalidInput, Refused, VerifyError
from ansible_collections.exchange.mitigation.plugins.modules import mitigation, url_rewrite
from installer_lab import Kept, bare, our_folders, package_file
from lab_task import folder, hashes, run
from session_live import NAMES, WAYS

DLL = "Windows/System32/inetsrv/rewrite.dll"
APPLICATION_HOST = "Windows/System32/inetsrv/config/applicationHost.config"


# The way through


@pytest.mark.parametrize(("kind", "secure"), WAYS, ids=NAMES)
def test_check_run_again(fleet: Any, package: Any, tmp_path: pathlib.Path, kind: str, secure: bool) -> None:
    machine, source, way = bare(fleet), package_file(tmp_path, package(), 1_300_000), {"kind": kind, "secure": secure}
    before = hashes(machine)
    checked = run(url_rewrite, fleet, machine, {"source": source}, check=True, **way)
    assert (checked["changed"], checked["action"], checked["why"]) == (True, "install", "URL Rewrite is not installed")
    assert checked["reboot_required"] is None
    assert fleet.access_log.writes() == []
    assert hashes(machine) == before

    done = run(url_rewrite, fleet, machine, {"source": source}, **way)
    assert done["changed"] is True
    assert done["diff"] == checked["diff"]
    assert (done["exit_code"], done["reboot_required"], done["rebooted"]) == (0, False, False)
    assert done["url_rewrite"] == {
        "version": "7.2.1993", "registry_version": "7.2.1993", "dll_version": "7.1.1993.2351", "module": True, "section": True, "installed": True,
    }  # fmt: skip
    assert done["package"]["sha256"] == hashlib.sha256(pathlib.Path(source).read_bytes()).hexdigest()
    assert done["package"]["signature"]["status"] == "Valid"
    assert {path for path, digest in hashes(machine).items() if before.get(path) != digest} == {DLL, APPLICATION_HOST}
    assert our_folders(machine) == []

    fleet.access_log.clear()
    again = run(url_rewrite, fleet, machine, {"source": source}, **way)
    assert (again["changed"], again["action"]) == (False, "none")
    assert fleet.access_log.writes() == []


def test_it_is_sent_in_chunks_with_progress(fleet: Any, package: Any, tmp_path: pathlib.Path) -> None:
    machine, source = bare(fleet), package_file(tmp_path, package(), 1_300_000)
    lines: list[str] = []
    from lab_task import LabTask

    params = {name: option.get("default") for name, option in url_rewrite.SPEC["argument_spec"].items()} | {"source": source}
    task = LabTask(fleet, machine, params)
    try:
        decision = url_rewrite.run(task)
        assert decision.effect is not None
        decision.effect()
    finally:
        task.close()
    lines = [line for line in task.lines if "uploading" in line]
    assert len(lines) == 3
    assert lines[-1] == "uploading rewrite_amd64_en-US.msi: 1.2 of 1.2 MiB (100 %)"
    sizes = [len(ran.parameters["Value"]) for ran in fleet.access_log.calls if ran.cmdlet in ("Set-Content", "Add-Content")]
    assert sizes == [_package.CHUNK, _package.CHUNK, 1_300_000 - 2 * _package.CHUNK]


def test_a_mitigation_works_on_what_was_installed(fleet: Any, package: Any, tmp_path: pathlib.Path) -> None:
    machine = bare(fleet)
    run(url_rewrite, fleet, machine, {"source": package_file(tmp_path, package())})
    wanted = {"mitigations": ["M2"], "when_em_active": "take_over", "journal_dir": str(tmp_path / "journal")}
    result = run(mitigation, fleet, machine, wanted)
    assert [entry["state"] for entry in result["mitigations"]] == ["applied"]
    with pytest.raises(Refused) as caught:
        run(url_rewrite, fleet, machine, {"state": "absent"})
    assert caught.value.reason == "rules_in_use"
    assert "owa\\web.config" in caught.value.message
    assert machine.iis.request("GET", "/owa/", {}).status == 200


def test_it_works_before_exchange_is_there_and_on_any_language(fleet: Any, package: Any, tmp_path: pathlib.Path) -> None:
    from lab.variants import without_exchange

    machine = bare(fleet)
    without_exchange(machine)
    done = run(url_rewrite, fleet, machine, {"source": package_file(tmp_path, package(language="de", code="{11111111-2222-3333-4444-555555555555}"))})
    assert done["url_rewrite"]["installed"] is True
    removed = run(url_rewrite, fleet, machine, {"state": "absent"})
    assert (removed["action"], removed["exit_code"], removed["url_rewrite"]["installed"]) == ("remove", 0, False)


def test_an_older_version_is_upgraded_and_a_newer_one_left_alone(fleet: Any, package: Any, tmp_path: pathlib.Path) -> None:
    from lab.installer import CODES, Package, install

    machine = fleet.machine("EX1")
    run(url_rewrite, fleet, machine, {"state": "absent"})
    install(machine, Package("7.2.2", CODES["7.2.2"]))
    source = package_file(tmp_path, package())
    done = run(url_rewrite, fleet, machine, {"source": source})
    assert (done["action"], done["why"], done["url_rewrite"]["version"]) == ("upgrade", "URL Rewrite 7.2.2 is older than 7.2.1993", "7.2.1993")
    install(machine, Package("7.3.2050", "{AAAAAAAA-2222-3333-4444-555555555555}"))
    assert run(url_rewrite, fleet, machine, {"source": source})["changed"] is False


@pytest.mark.parametrize("edition", ["same", "another"])
def test_a_broken_one_is_repaired(fleet: Any, package: Any, tmp_path: pathlib.Path, edition: str) -> None:
    machine = fleet.machine("EX1")
    (folder(machine) / DLL).unlink()
    more = {} if edition == "same" else {"code": "{11111111-2222-3333-4444-555555555555}", "version": "7.2.1995"}
    done = run(url_rewrite, fleet, machine, {"source": package_file(tmp_path, package(**more))})
    assert (done["action"], done["exit_code"], done["url_rewrite"]["installed"]) == ("repair", 0, True)
    assert done["why"] == "URL Rewrite 7.2.1993 is broken, it lacks rewrite.dll"


def test_remove_and_again(fleet: Any) -> None:
    machine = fleet.machine("EX1")
    checked = run(url_rewrite, fleet, machine, {"state": "absent"}, check=True)
    assert (checked["changed"], checked["action"]) == (True, "remove")
    done = run(url_rewrite, fleet, machine, {"state": "absent"})
    assert done["diff"] == checked["diff"]
    assert not (folder(machine) / DLL).exists()
    assert b"RewriteModule" not in (folder(machine) / APPLICATION_HOST).read_bytes()
    assert our_folders(machine) == []
    assert run(url_rewrite, fleet, machine, {"state": "absent"})["changed"] is False


# Sources


def test_sources_on_the_server_on_a_share_and_at_a_url(fleet: Any, package: Any) -> None:
    machine, data = bare(fleet), package().data()
    digest = hashlib.sha256(data).hexdigest()
    kept = Kept(machine)
    machine.files.make_folder("D:\\".replace("D:", "C:") + "install")
    machine.files.write("C:\\install\\rewrite.msi", data)
    assert run(url_rewrite, fleet, machine, {"source": "C:\\install\\rewrite.msi"})["exit_code"] == 0
    kept.restore()

    share = "\\\\files\\install\\rewrite.msi"
    fleet.shares = {share: data}
    with pytest.raises(InvalidInput) as caught:
        run(url_rewrite, fleet, machine, {"source": share, "sha256": digest})
    assert "only a delegated logon works" in caught.value.message
    machine.delegated = True
    assert run(url_rewrite, fleet, machine, {"source": share, "sha256": digest.upper()})["exit_code"] == 0
    kept.restore()

    url = "https://mirror.example.com/rewrite.msi"
    fleet.downloads = {url: data}
    assert run(url_rewrite, fleet, machine, {"source": url, "sha256": digest})["exit_code"] == 0
    kept.restore()
    with pytest.raises(InvalidInput) as caught:
        run(url_rewrite, fleet, machine, {"source": url + "x", "sha256": digest})
    assert caught.value.reason == "source_unreadable"
    with pytest.raises(VerifyError) as mismatch:
        run(url_rewrite, fleet, machine, {"source": url, "sha256": "0" * 64})
    assert mismatch.value.reason == "package_mismatch"
    assert our_folders(machine) == []


@pytest.mark.parametrize(
    ("options", "reason", "said"),
    [
        ({}, "source_needed", "name the package in source"),
        ({"source": "/nowhere/rewrite.msi"}, "source_unreadable", "cannot be read on the controller"),
        ({"source": "https://mirror.example.com/x.msi"}, "invalid_input", "sha256 is needed"),
        ({"source": "\\\\files\\x.msi"}, "invalid_input", "sha256 is needed"),
        ({"source": "http://mirror.example.com/x.msi", "sha256": "0" * 64}, "invalid_input", "https only"),
        ({"source": "C:\\none.msi"}, "source_unreadable", "cannot be read on the server"),
        ({"sha256": "12"}, "invalid_input", "64 hexadecimal digits"),
        ({"version": "newest"}, "invalid_input", "version takes numbers"),
        ({"proxy": "http://user:secret@proxy:8080"}, "invalid_input", "proxy takes a URL"),
        ({"busy_timeout": -1}, "invalid_input", "busy_timeout"),
        ({"product_code": "x"}, "invalid_input", "product_code"),
    ],
)
@pytest.mark.parametrize("check", [True, False], ids=["check", "run"])
def test_what_cannot_be_meant(fleet: Any, options: dict[str, Any], reason: str, said: str, check: bool) -> None:
    with pytest.raises((InvalidInput, Refused)) as caught:
        run(url_rewrite, fleet, bare(fleet), options, check=check)
    assert caught.value.reason == reason
    assert said in caught.value.message
    assert fleet.access_log.writes() == []


# Refusals by name


def test_servers_on_which_it_cannot_be_installed(fleet: Any, package: Any, tmp_path: pathlib.Path) -> None:
    from lab.variants import windows

    machine, source = bare(fleet), package_file(tmp_path, package())
    kept = Kept(machine)
    for change, reason in (
        (lambda: machine.registry.delete("HKLM:\\SOFTWARE\\Microsoft\\InetStp"), "iis_missing"),
        (lambda: windows(machine, "2012R2", "en", ucrt=False), "ucrt_missing"),
        (lambda: (folder(machine) / APPLICATION_HOST).write_bytes(b"<configuration>"), "state_unknown"),
    ):
        change()
        with pytest.raises(Refused) as caught:
            run(url_rewrite, fleet, machine, {"source": source}, check=True)
        assert caught.value.reason == reason
        kept.restore()
    assert fleet.access_log.writes() == []


def test_products_that_cannot_be_told_apart(fleet: Any) -> None:
    from lab.installer import UNINSTALL_KEY

    machine = fleet.machine("EX1")
    machine.registry.set(UNINSTALL_KEY + "{11111111-2222-3333-4444-555555555555}", "DisplayVersion", "7.2.1993")
    machine.registry.set(UNINSTALL_KEY + "{11111111-2222-3333-4444-555555555555}", "Publisher", "Microsoft Corporation")
    with pytest.raises(Refused) as caught:
        run(url_rewrite, fleet, machine, {"state": "absent"})
    assert caught.value.reason == "product_unknown"
    assert len(caught.value.details["candidates"]) == 2
    named = run(url_rewrite, fleet, machine, {"state": "absent", "product_code": "{9BCA2118-F753-4A1E-BCF3-5A820729965C}"})
    assert named["url_rewrite"]["installed"] is False
