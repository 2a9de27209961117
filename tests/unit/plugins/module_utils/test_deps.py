# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Libraries of the controller: present, missing, too old; and that importing never needs them."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
import textwrap

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _deps
from ansible_collections.exchange.mitigation.plugins.module_utils._errors import MissingLibrary

ROOT = pathlib.Path(__file__).resolve().parents[4]


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_deps, "_checked", {})


@pytest.mark.parametrize("name", ["lxml", "cryptography", "pypsrp", "winrm", "requests"])
def test_a_library_that_is_there_is_returned(name: str) -> None:
    assert _deps.require(name).__name__ == _deps.LIBRARIES[name].module


def test_a_missing_library_is_one_sentence_with_package_python_and_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "winrm", None)
    monkeypatch.setitem(sys.modules, "winrm.protocol", None)
    with pytest.raises(MissingLibrary) as caught:
        _deps.require("winrm")
    message = str(caught.value)
    assert "\n" not in message
    assert f"{sys.executable} -m pip install 'pywinrm>=0.4.3'" in message
    assert "is missing on the controller" in message
    assert caught.value.reason == "missing_library"
    assert caught.value.details == {"library": "pywinrm", "minimum": "0.4.3", "found": None, "python": sys.executable}


def test_a_library_that_is_too_old_says_which_version_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_deps, "installed_version", lambda package: "0.7.1")
    with pytest.raises(MissingLibrary) as caught:
        _deps.require("pypsrp")
    assert "pypsrp is version 0.7.1, too old" in str(caught.value)
    assert caught.value.details["found"] == "0.7.1"


@pytest.mark.parametrize(
    ("older", "newer"), [("0.7.1", "0.8.0"), ("0.8", "0.8.1"), ("0.9.9", "0.10.0"), ("1.9", "1.10"), ("48.0.1", "49.0.0")]
)
def test_versions_are_compared_as_numbers(older: str, newer: str) -> None:
    assert _deps.numbers(older) < _deps.numbers(newer)


def test_what_follows_the_numbers_counts_as_nothing() -> None:
    assert _deps.numbers("0.9.1rc1") == (0, 9, 1)
    assert _deps.numbers("5.0") == _deps.numbers("5.0.0.dev1") == (5,)
    assert _deps.numbers("unknown") == ()


def test_minima_are_those_of_requirements() -> None:
    wanted = dict(re.findall(r"^([\w-]+)>=([\d.]+)", (ROOT / "requirements.txt").read_text("utf-8"), re.MULTILINE))
    assert wanted
    assert {library.package: library.minimum for library in _deps.LIBRARIES.values() if library.package in wanted} == wanted


def test_importing_needs_none_of_them() -> None:
    program = textwrap.dedent(
        """
        import sys
        for name in ("lxml", "cryptography", "pypsrp", "winrm", "requests", "spnego", "gssapi", "krb5"):
            sys.modules[name] = None
        import ansible_collections.exchange.mitigation.plugins.plugin_utils._controller
        import ansible_collections.exchange.mitigation.plugins.modules.server
        from ansible_collections.exchange.mitigation.plugins.plugin_utils._endpoints import host_session
        from ansible_collections.exchange.mitigation.plugins.module_utils._errors import MissingLibrary

        class Connection:
            transport = "psrp"

            def get_option(self, name):
                return None

        try:
            host_session(Connection(), {})
        except MissingLibrary as exc:
            print(exc)
        """
    )
    base = next(str(parent.parent) for parent in pathlib.Path(_deps.__file__).parents if parent.name == "ansible_collections")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": base})
    assert done.returncode == 0, done.stderr
    assert "pip install 'pypsrp>=0.8.0'" in done.stdout
