# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The IIS reader on folders of Exchange that are no applications and hold a web.config of their own."""

from __future__ import annotations

from ansible_collections.exchange.mitigation.plugins.module_utils import _catalogue as catalogue
from ansible_collections.exchange.mitigation.plugins.module_utils._iis_config import Configuration, folder_paths
from ansible_collections.exchange.mitigation.plugins.module_utils._verdict import Verdict, verdict
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils import iis_samples as samples

AUTH = samples.PROXY + r"\owa\auth\web.config"


def section(inner: str) -> str:
    """Return a web.config with a rewrite section."""
    return f"<configuration><system.webServer><rewrite>{inner}</rewrite></system.webServer></configuration>"


def judged(identifier: str, server: Configuration) -> Verdict:
    """Return the verdict for a build that needs it."""
    mitigation = catalogue.find(identifier)
    assert mitigation is not None
    return verdict(mitigation, server, (15, 2, 986, 5))


def with_folder(text: str | None, **more: bytes) -> Configuration:
    """Return the made-up server with a web.config in /owa/auth, a folder that is no application."""
    return samples.server(**more).with_file(AUTH, text.encode() if text is not None else None)


def test_folders_of_exchange_are_known() -> None:
    host = samples.application_host()
    assert folder_paths(host, samples.ENVIRONMENT) == [
        r"C:\inetpub\wwwroot\aspnet_client\web.config",
        *(samples.PROXY + rf"\{name}\web.config" for name in (r"ecp\auth", r"owa\Current", r"owa\auth", r"owa\auth\Current")),
    ]
    assert folder_paths(host, samples.ENVIRONMENT, "Other") == []
    assert samples.server().folders_below(samples.SITE, "/") == with_folder(None).folders_below(samples.SITE, "/") == []
    server = with_folder("<configuration />")
    assert server.folders_below(samples.SITE, "/") == server.folders_below(samples.SITE, "/owa") == ["/owa/auth"]
    assert server.folders_below(samples.SITE, "/ecp") == server.folders_below(samples.SITE, "/owa/auth") == []
    assert (samples.SITE, "/owa/auth") in server.places_reading(samples.OWA_FILE)
    assert server.places_of(AUTH) == [(samples.SITE, "/owa/auth")]


def test_a_rule_taken_away_in_a_folder_does_not_reach_it() -> None:
    root = samples.in_root(samples.M1_RULE.format(name="EEMS M1.1 PowerShell - inbound"))
    server = with_folder(section("<rules><clear /></rules>"), root=root)
    found = judged("M1", server)
    assert (found.state, "/owa/auth" in str(found.reason)) == ("conflicting", True)
    assert judged("M1", with_folder(section("<rules />"), root=root)).state == "applied"


def test_a_double_in_a_folder_breaks_it_and_no_other_path() -> None:
    server = with_folder(section(samples.M2_RULES.format(maker="EEMS M2.1")), owa=samples.owa_inside(samples.M2_RULES.format(maker="EEMS M2.1")))
    assert judged("M2", server).breaks == ("/owa/auth",)


def test_a_folder_that_is_not_understood_is_unknown() -> None:
    found = judged("M1", with_folder("<configuration>"))
    assert (found.state, AUTH in str(found.reason)) == ("unknown", True)
