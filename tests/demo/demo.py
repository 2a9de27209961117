# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo: a fleet of three simulated Exchange servers, from the first look to prepared, mitigated and back, with the shipped playbooks.

Every step says what it expects; anything else ends the demo with exit code 1. The lab is stopped in any case.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from stage import ROOT, Play, Stage, Surprise, expect

ATTACK = "/autodiscover/autodiscover.json?a@foo.var/owa/?&Email=autodiscover/autodiscover.json?a@foo.var&Protocol=XYZ&FooProtocol=Powershell"
POLICY = "script-src-attr 'none'"

#: What an administrator writes beside the inventory.
EVERYWHERE: dict[str, Any] = {
    "exchange_mitigation_organization_enabled": True,
    "exchange_mitigation_mitigations": ["all"],
    "exchange_mitigation_when_em_active": "take_over",
}
HOSTS: dict[str, dict[str, Any]] = {
    "EX1": {"exchange_mitigation_server_enabled": True, "exchange_mitigation_blocked_add": ["PING1"]},
    "EX2": {"exchange_mitigation_server_enabled": False},
    "EX3": {"exchange_mitigation_server_enabled": True},
}


class Demo:
    """The steps, in their order."""

    def __init__(self, stage: Stage, kept: pathlib.Path) -> None:
        self.stage = stage
        self.kept = kept
        self.done: list[str] = []
        self.step = 0
        #: the files that a step must leave as they are: of the fresh fleet, after ``prepare`` of the prepared one
        self.before: dict[str, dict[str, str]] = {}
        self.installed: list[str] = []
        self.run_id = ""

    def run(self) -> None:
        """Go through all steps; raises Surprise."""
        self.arrange()
        self.drift_of_a_fresh_fleet()
        self.attack_before()
        self.prepare()
        self.check_mode()
        self.roll_out()
        self.attack_after()
        self.again()
        self.drift_of_the_mitigated_fleet()
        self.roll_back()

    # -- steps

    def arrange(self) -> None:
        """Three servers; somebody has switched EM off for the organisation."""
        self.title("The fleet: EX1 (2016), EX2 (2019, no way to the feed), EX3 (SE, without URL Rewrite)")
        play = self.stage.module("EX1", "organization", "mitigations_enabled=false")
        expect(play.code == 0, f"the organisation could not be switched: {_tail(play)}")
        self.stage.wish(HOSTS, EVERYWHERE)
        self.before = {host: self.stage.files(host) for host in self.stage.hosts}
        self.say("Somebody has switched EM off for the whole organisation. Wanted, beside the inventory:")
        self.say("  EM on for the organisation, off on EX2; PING1 blocked on EX1; everything the feed publishes in force where a build needs it")

    def drift_of_a_fresh_fleet(self) -> None:
        """The drift playbook finds all of it and changes nothing."""
        report = self.drift("fresh", "What differs (exchange.mitigation.drift)")
        found = {(item["server"] or "organisation", item["setting"], item["kind"]) for item in report["drift"]["items"]}
        for wanted in (
            ("organisation", "MitigationsEnabled", "differs"),
            ("EX2", "MitigationsEnabled", "differs"),
            ("EX1", "MitigationsBlocked", "differs"),
            ("EX1", "M1", "missing"),
            ("EX1", "M2", "missing"),
            ("EX2", "M2", "missing"),
            ("EX3", "M2", "missing"),
        ):
            expect(wanted in found, f"drift does not tell {wanted}; it tells {sorted(found)}")
        self.unchanged("drift")
        self.note(f"drift found {report['drift']['count']} differences and changed nothing")

    def attack_before(self) -> None:
        """The request of CVE-2022-41040 gets an answer."""
        self.title("The attack request of CVE-2022-41040, sent to EX1, and OWA")
        answer = self.stage.get("EX1", ATTACK)
        expect(answer is not None and answer[0] < 500, f"the attack request is not answered although nothing was applied: {answer}")
        self.say(f"GET /autodiscover/autodiscover.json?...Powershell: answered with {answer[0] if answer else None}")
        page = self.stage.get("EX1", "/owa/")
        expect(page is not None and page[0] == 200, f"/owa/ does not answer 200: {page}")
        expect(page is not None and POLICY not in page[1].get("content-security-policy", ""), "OWA has the header before anything was applied")
        self.say("GET /owa/: 200, no policy against script in attributes")

    def prepare(self) -> None:
        """EX3 gets URL Rewrite; what the installer changes there is all that changes."""
        self.title("What mitigations need (exchange.mitigation.prepare)")
        play = self.stage.playbook("prepare")
        self.lines(play)
        expect(play.code == 0, f"prepare ended with {play.code}: {_tail(play)}")
        changed = {host: counts["changed"] for host, counts in play.recap.items()}
        expect(changed == {"EX1": 0, "EX2": 0, "EX3": 1}, f"prepare was to change EX3 alone: {changed}")
        now = self.stage.files("EX3")
        self.installed = sorted(path for path in now.keys() | self.before["EX3"].keys() if now.get(path) != self.before["EX3"].get(path))
        names = [pathlib.PurePath(path).name for path in self.installed]
        expect(sorted(names) == ["applicationHost.config", "rewrite.dll"], f"the installer was to change rewrite.dll and applicationHost.config: {names}")
        self.say(f"changed on EX3 by the installer: {' and '.join(names)}; nothing of it is left in the temporary folders")
        for host in ("EX1", "EX2"):
            expect(self.stage.files(host) == self.before[host], f"prepare changed files of {host}")
        self.before["EX3"] = now
        self.note("EX3 prepared: URL Rewrite installed, package signature proven, nothing else changed")

    def check_mode(self) -> None:
        """Check mode shows the changes and makes none."""
        self.title("What a roll-out would do (exchange.mitigation.mitigate --check)")
        begun = self.writes()
        play = self.stage.playbook("mitigate", "--check")
        self.lines(play)
        self.unchanged("check mode")
        expect(self.writes() == begun, "check mode sent writes to a server")
        self.note("check mode: 0 writes")

    def roll_out(self) -> None:
        """All three are mitigated."""
        self.title("The roll-out (exchange.mitigation.mitigate)")
        play = self.stage.playbook("mitigate")
        self.run_id = play.run_id
        self.lines(play)
        expect(play.code == 0, f"the roll-out ended with {play.code}: {_tail(play)}")
        for host, counts in play.recap.items():
            expect(counts["failed"] == 0 and counts["changed"] > 0, f"{host} was not changed: {counts}")
            expect(self.stage.files(host) != self.before[host], f"no file of {host} was changed")
        self.note("EX1, EX2 and EX3 mitigated, 0 failed")

    def attack_after(self) -> None:
        """The request is aborted, OWA has the header, the calendar still answers."""
        self.title("The same requests again")
        expect(self.stage.get("EX1", ATTACK) is None, "the attack request is still answered")
        self.say("GET /autodiscover/autodiscover.json?...Powershell: connection aborted")
        for host in self.stage.hosts:
            page = self.stage.get(host, "/owa/")
            expect(page is not None and page[0] == 200, f"/owa/ on {host} does not answer 200: {page}")
            policy = page[1].get("content-security-policy", "") if page else ""
            expect(POLICY in policy, f"OWA on {host} answers without the policy: {policy!r}")
            calendar = self.stage.get(host, "/owa/Calendar")
            expect(calendar is not None and calendar[0] == 200, f"/owa/Calendar on {host} does not answer 200: {calendar}")
            self.say(f"{host}: GET /owa/: 200, Content-Security-Policy: {policy.strip()}; GET /owa/Calendar: 200")
        self.note("attack request aborted; OWA sends the policy; /owa/Calendar still answers 200")

    def again(self) -> None:
        """A second run changes nothing."""
        self.title("The roll-out once more")
        play = self.stage.playbook("mitigate")
        for host, counts in play.recap.items():
            expect(counts["changed"] == 0, f"the second run changed {host}: {counts}")
        self.say("changed: " + ", ".join(f"{host} {counts['changed']}" for host, counts in play.recap.items()))
        self.note("second run: 0 changed")

    def drift_of_the_mitigated_fleet(self) -> None:
        """Nothing differs any more."""
        report = self.drift("mitigated", "What differs now")
        expect(report["drift"]["count"] == 0, f"after the roll-out differences are left: {report['drift']['items']}")
        self.note("what differs now: nothing")

    def roll_back(self) -> None:
        """Every file is back, byte for byte, but for what the installer of URL Rewrite changed."""
        self.title("The way back (exchange.mitigation.rollback)")
        play = self.stage.playbook("rollback", "-e", f"exchange_mitigation_run_id={self.run_id}")
        self.lines(play)
        expect(play.code == 0, f"the rollback ended with {play.code}: {_tail(play)}")
        self.unchanged("the way back")
        expect(self.stage.get("EX1", ATTACK) is not None, "the attack request is still aborted after the way back")
        number = sum(len(files) for files in self.before.values())
        names = " and ".join(pathlib.PurePath(path).name for path in self.installed)
        self.say(f"SHA-256 of all {number} files of the three servers: as before the roll-out")
        self.say(f"as in the fresh fleet, but for {names} on EX3: URL Rewrite stays installed")
        self.note(f"rolled back; all {number} files byte-identical to before the roll-out; the ids stay blocked, so that EM does not bring them back")

    # -- helpers

    def drift(self, name: str, title: str) -> dict[str, Any]:
        """Run the drift playbook; returns report.json."""
        self.title(title)
        begun, folder = self.writes(), self.kept / f"report-{name}"
        play = self.stage.playbook("drift", "-e", f"exchange_mitigation_report_dir={folder}")
        expect(play.code == 0, f"drift ended with {play.code}: {_tail(play)}")
        expect(self.writes() == begun, "drift sent writes to a server")
        self.lines(play)
        self.say(f"the report to look at: {(folder / 'report.html').relative_to(ROOT)}")
        for file in ("report.html", "report.csv", "metrics.prom"):
            expect((folder / file).stat().st_size > 0, f"{file} is empty")
        report: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        return report

    def unchanged(self, after: str) -> None:
        """Compare every file of every server with what it was before."""
        for host, before in self.before.items():
            now = self.stage.files(host)
            other = sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))
            expect(not other, f"after {after} these files of {host} are not as they were: {', '.join(other[:5])}")

    def writes(self) -> int:
        """Return how many requests to the servers carried a write so far."""
        lines = self.stage.access_log.read_text(encoding="utf-8").splitlines() if self.stage.access_log.exists() else []
        return sum(1 for line in lines if json.loads(line).get("write"))

    def title(self, text: str) -> None:
        """Begin a step."""
        self.step += 1
        print(f"\n{self.step}. {text}", flush=True)

    def say(self, text: str) -> None:
        """Say one thing of a step."""
        print(f"   {text}", flush=True)

    def lines(self, play: Play) -> None:
        """Say what a playbook said at its end."""
        for line in play.said:
            self.say(line if len(line) <= 150 else line[:147] + "...")
        self.say(f"({play.seconds:.0f} s, exit code {play.code})")

    def note(self, text: str) -> None:
        """Keep a line for the summary."""
        self.done.append(text)


def _tail(play: Play) -> str:
    return "\n" + "\n".join(line for line in play.output.splitlines() if line.strip())[-2500:]


def main(arguments: Sequence[str]) -> int:
    """Run the demo; returns 0, or 1 with the surprise."""
    if arguments:
        print("usage: demo.py", file=sys.stderr)
        return 64
    begun = time.monotonic()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, dummy: sys.exit(128 + received))
    kept = ROOT / ".demo"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir()
    with tempfile.TemporaryDirectory(prefix="exchange-mitigation-demo-", ignore_cleanup_errors=True) as name:
        stage = Stage(pathlib.Path(name), kept)
        demo = Demo(stage, kept)
        try:
            with stage.lab(3):
                demo.run()
        except Surprise as surprise:
            print(f"\nSURPRISE: {surprise}\n\nThe logs are in {kept.relative_to(ROOT)}/.", file=sys.stderr)
            return 1
    print("\nSummary")
    for text in demo.done:
        print(f"   ok  {text}")
    print(f"   {time.monotonic() - begun:.0f} s; logs and reports in {kept.relative_to(ROOT)}/; the lab is stopped.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
