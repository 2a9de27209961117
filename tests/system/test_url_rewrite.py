# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module url_rewrite against the lab: check, install, again, upgrade, repair, remove; every way to fail; restarts."""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _authenticode, _install, _package, _reboot
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError, InvalidInput, Refused, VerifyError
from ansible_collections.exchange.mitigation.plugins.modules import mitigation, url_rewrite
from installer_lab import Kept, our_folders, package_file
from lab_task import folder, hashes, run
from session_live import NAMES, WAYS

DLL = "Windows/System32/inetsrv/rewrite.dll"
APPLICATION_HOST = "Windows/System32/inetsrv/config/applicationHost.config"


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    from lab.fleet import Fleet

    with Fleet(3) as fleet:
        yield fleet


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_reboot, "POLL", 0.1)
    monkeypatch.setattr(_install, "BUSY_POLL", 0.05)
    monkeypatch.setattr(_install, "LOST", 20.0)
    monkeypatch.setattr(_install, "SETTLE", 1.0)


@pytest.fixture
def fleet(running: Any) -> Iterator[Any]:
    """The fleet; afterwards every machine is as before, and there was no refusal, script or session left open."""
    running.faults.clear()
    running.access_log.clear()
    running.refusals.clear()
    kept = [Kept(machine) for machine in running.machines]
    yield running
    running.faults.clear()
    for one in kept:
        one.restore()
    assert running.scripts_received == 0, "a script was sent"
    assert running.refusals == [], "the lab was asked for something that it does not know"
    assert running._server.open_shells() == [], "a session was left open"


@pytest.fixture
def package(fleet: Any) -> Callable[..., Any]:
    """Make packages signed like Microsoft's."""
    from lab.installer import Package

    def make(**fields: Any) -> Any:
        return Package(**{"signer": fleet.pki.signer("good").der, **fields})

    return make


def bare(fleet: Any) -> Any:
    """EX3, which lacks URL Rewrite."""
    return fleet.machine("EX3")


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


# Signature and hash


@pytest.mark.parametrize(
    ("fields", "reason", "said"),
    [
        ({"status": "NotSigned"}, "signature_invalid", "NotSigned"),
        ({"status": "HashMismatch"}, "signature_invalid", "HashMismatch"),
        ({"status": "NotTrusted"}, "signature_invalid", "NotTrusted"),
        ({"signer": "wrong-organization"}, "signer_changed", "by Contoso Ltd instead of Microsoft Corporation"),
        ({"signer": b""}, "signature_invalid", "does not tell by whom"),
        ({"signer": b"nonsense"}, "signature_invalid", "cannot be read"),
    ],
)
def test_a_package_that_is_not_microsofts_is_not_run(fleet: Any, package: Any, tmp_path: pathlib.Path, fields: Any, reason: str, said: str) -> None:
    machine = bare(fleet)
    if isinstance(fields.get("signer"), str):
        fields = {"signer": fleet.pki.signer(fields["signer"]).der}
    before = hashes(machine)
    with pytest.raises(VerifyError) as caught:
        run(url_rewrite, fleet, machine, {"source": package_file(tmp_path, package(**fields))})
    assert caught.value.reason == reason
    assert said in caught.value.message
    assert "Start-Process" not in {ran.cmdlet for ran in fleet.access_log.calls}
    assert hashes(machine) == before
    assert our_folders(machine) == []


def test_bytes_that_changed_on_the_way_are_not_run(fleet: Any, package: Any, tmp_path: pathlib.Path) -> None:
    machine = bare(fleet)

    def swap(number: int, kind: str) -> None:
        for path in (folder(machine) / "Windows").glob("exchange.mitigation-*/package.msi"):
            path.write_bytes(path.read_bytes() + b"!")

    with pytest.raises(VerifyError) as caught:
        run(url_rewrite, fleet, machine, {"source": package_file(tmp_path, package())}, after=swap)
    assert caught.value.reason == "package_mismatch"
    assert our_folders(machine) == []


@pytest.mark.parametrize(
    ("embedded", "pinned", "root"), [(True, True, "Lab Root Certificate Authority 2011"), (False, True, "unknown"), (True, False, "unknown")]
)
def test_the_root_is_named_where_the_chain_can_be_built(
    fleet: Any, package: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, embedded: bool, pinned: bool, root: str
) -> None:
    pki = fleet.pki
    if pinned:
        monkeypatch.setattr(_authenticode, "shipped_roots", lambda: (pki.feed_root.certificate,))
    chain = (b"0\x82\x02\x000\x82 no certificate", pki.signer().der, pki.feed_intermediate.der) if embedded else ()
    done = run(url_rewrite, fleet, bare(fleet), {"source": package_file(tmp_path, package(chain=chain), 100_000)})
    assert done["package"]["signature"]["root"] == root


def test_a_given_hash_is_compared_before_anything_is_sent(fleet: Any, package: Any, tmp_path: pathlib.Path) -> None:
    with pytest.raises(VerifyError) as caught:
        run(url_rewrite, fleet, bare(fleet), {"source": package_file(tmp_path, package()), "sha256": "0" * 64}, check=True)
    assert caught.value.reason == "package_mismatch"
    assert fleet.access_log.writes() == []


def test_constrained_language_is_enough(fleet: Any, package: Any, tmp_path: pathlib.Path) -> None:
    machine = bare(fleet)
    machine.language_mode = "ConstrainedLanguage"
    done = run(url_rewrite, fleet, machine, {"source": package_file(tmp_path, package())})
    assert (done["exit_code"], done["url_rewrite"]["installed"]) == (0, True)
    assert our_folders(machine) == []


def test_a_restricted_endpoint_is_refused_by_name(fleet: Any, package: Any, tmp_path: pathlib.Path) -> None:
    machine = bare(fleet)
    machine.language_mode = "NoLanguage"
    for check in (True, False):
        with pytest.raises(Refused) as caught:
            run(url_rewrite, fleet, machine, {"source": package_file(tmp_path, package())}, check=check)
        assert caught.value.reason == "endpoint_restricted"
    assert fleet.access_log.writes() == []


# Exit codes


@pytest.mark.parametrize(
    ("code", "reason", "said"),
    [
        (1603, "install_failed", "Its log says: error 1722: There is a problem with this Windows Installer package."),
        (1638, "another_version", "another version of the product is installed"),
        (1605, "product_unknown", "knows no such product"),
        (1619, "package_unreadable", "cannot open the package"),
        (1625, "install_forbidden", "system policy"),
        (1234, "install_failed", "exit code 1234"),
    ],
)
@pytest.mark.parametrize("language", ["en", "de", "fr"])
def test_every_failure_says_what_and_why(fleet: Any, package: Any, tmp_path: pathlib.Path, code: int, reason: str, said: str, language: str) -> None:
    machine = bare(fleet)
    before = hashes(machine)
    made = package(exits=(code,), error=(1722, "There is a problem with this Windows Installer package."), language=language)
    with pytest.raises(ApplyError) as caught:
        run(url_rewrite, fleet, machine, {"source": package_file(tmp_path, made)})
    assert caught.value.reason == reason
    assert said in caught.value.message
    assert f"exit code {code}" in caught.value.message
    assert (caught.value.details["exit_code"], caught.value.details["changed"]) == (code, False)
    assert hashes(machine) == before
    assert our_folders(machine) == []


@pytest.mark.parametrize(("kind", "secure"), WAYS, ids=NAMES)
def test_3010_without_and_with_a_restart(fleet: Any, package: Any, tmp_path: pathlib.Path, kind: str, secure: bool) -> None:
    way = {"kind": kind, "secure": secure}
    machine, source = bare(fleet), package_file(tmp_path, package(exits=(3010,)))
    kept, boot = Kept(machine), machine.os.last_boot
    done = run(url_rewrite, fleet, machine, {"source": source}, **way)
    assert (done["exit_code"], done["reboot_required"], done["rebooted"]) == (3010, True, False)
    assert done["pending_reboot"] == {"before": [], "after": ["file_rename"]}
    assert "has to be restarted" in done["warnings"][-1]
    assert machine.os.last_boot == boot
    kept.restore()
    done = run(url_rewrite, fleet, machine, {"source": source, "reboot": "if_required", "reboot_timeout": 20}, **way)
    assert (done["exit_code"], done["reboot_required"], done["rebooted"]) == (3010, False, True)
    assert done["pending_reboot"] == {"before": [], "after": []}
    assert machine.os.last_boot > boot
    assert our_folders(machine) == []


def test_1641_is_waited_for(fleet: Any, package: Any, tmp_path: pathlib.Path) -> None:
    machine, boot = bare(fleet), bare(fleet).os.last_boot
    done = run(url_rewrite, fleet, machine, {"source": package_file(tmp_path, package(exits=(1641,), down=0.5)), "reboot_timeout": 20})
    assert (done["exit_code"], done["reboot_required"], done["rebooted"]) == (1641, False, True)
    assert machine.os.last_boot > boot
    assert our_folders(machine) == []


def test_a_restart_that_does_not_happen_is_told(fleet: Any, package: Any, tmp_path: pathlib.Path) -> None:
    machine = bare(fleet)
    machine.stubborn = True
    with pytest.raises(ApplyError) as caught:
        run(url_rewrite, fleet, machine, {"source": package_file(tmp_path, package(exits=(3010,))), "reboot": "if_required", "reboot_timeout": 1})
    assert caught.value.reason == "reboot_timeout"
    assert caught.value.details["changed"] is True
    assert "it did not restart" in caught.value.message


def test_a_busy_installer_is_waited_for_but_not_for_ever(fleet: Any, package: Any, tmp_path: pathlib.Path) -> None:
    machine, source = bare(fleet), package_file(tmp_path, package())
    machine.sidecar.section("installer")["busy"] = 10_000
    with pytest.raises(ApplyError) as caught:
        run(url_rewrite, fleet, machine, {"source": source, "busy_timeout": 1})
    assert caught.value.reason == "installer_busy"
    assert our_folders(machine) == []
    machine.sidecar.section("installer")["busy"] = 3
    assert run(url_rewrite, fleet, machine, {"source": source})["exit_code"] == 0


def test_a_success_that_changes_nothing_is_no_success(fleet: Any, package: Any, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ApplyError) as caught:
        run(url_rewrite, fleet, bare(fleet), {"source": package_file(tmp_path, package(brings="something else"))})
    assert caught.value.reason == "not_effective"


# Interruptions


@pytest.mark.parametrize(("where", "installed"), [("before", False), ("half", False), ("after", True)])
def test_a_server_that_restarts_in_mid_install(fleet: Any, package: Any, tmp_path: pathlib.Path, where: str, installed: bool) -> None:
    machine, source = bare(fleet), package_file(tmp_path, package(interrupt=where))
    if installed:
        done = run(url_rewrite, fleet, machine, {"source": source})
        assert (done["exit_code"], done["url_rewrite"]["installed"], done["rebooted"]) == (None, True, True)
        assert "URL Rewrite is as wanted" in done["warnings"][0]
    else:
        with pytest.raises(ApplyError) as caught:
            run(url_rewrite, fleet, machine, {"source": source})
        assert caught.value.reason == "install_interrupted"
    assert our_folders(machine) == []
    again = run(url_rewrite, fleet, machine, {"source": package_file(tmp_path, package())})
    assert again["action"] == {"before": "install", "half": "repair", "after": "none"}[where]
    assert again["url_rewrite"]["installed"] is True


def test_what_a_killed_controller_left_is_removed_by_the_next_run(fleet: Any, package: Any, tmp_path: pathlib.Path) -> None:
    from lab_task import Killed

    # As when a task times out: nothing more is sent, the work ends where it is.
    machine, source = bare(fleet), package_file(tmp_path, package())

    class Gone(Killed):
        pass

    def die(number: int, kind: str) -> None:
        if (folder(machine) / DLL).exists() or number > 6:
            raise Gone

    with pytest.raises(Gone):
        run(url_rewrite, fleet, machine, {"source": source}, after=die)
    assert "Remove-Item" not in {ran.cmdlet for ran in fleet.access_log.calls}
    assert len(our_folders(machine)) == 1
    done = run(url_rewrite, fleet, machine, {"source": source})
    assert done["changed"] is True
    assert our_folders(machine) == []
    assert run(url_rewrite, fleet, machine, {"source": source})["changed"] is False


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
