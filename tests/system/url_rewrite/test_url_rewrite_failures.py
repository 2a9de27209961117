# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module url_rewrite against the lab: every exit code, restarts, and interruptions."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import ApplyError
from ansible_collections.exchange.mitigation.plugins.modules import url_rewrite
from installer_lab import Kept, bare, our_folders, package_file
from lab_task import folder, hashes, run
from session_live import NAMES, WAYS

DLL = "Windows/System32/inetsrv/rewrite.dll"

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
