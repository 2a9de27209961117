# Copyright (c) 2026, exchange.mitigation contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report in a real browser: what axe-core says, how long it takes, what print and keyboard get, and that nothing in it runs.

Runs through tests/tiers/browser.sh, which brings Chromium and axe-core; pictures go to tests/output/browser/.
"""

from __future__ import annotations

import csv
import io
import json
import os
import pathlib
import subprocess
import time
from typing import Any

import pytest
from ansible_collections.exchange.mitigation.plugins.module_utils import _report_csv, _report_html
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils import report_fleet
from ansible_collections.exchange.mitigation.tests.unit.plugins.module_utils.test_report_render import HOSTILE, poisoned

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ROOT / ".build" / "browser"
OUTPUT = ROOT / "tests" / "output" / "browser"

pytestmark = pytest.mark.skipif(
    os.environ.get("EXCHANGE_MITIGATION_TIER_BROWSER") != "1", reason="needs Chromium and axe-core: run tests/tiers/browser.sh"
)

SHOTS = {
    "desktop": {"width": 1366, "height": 900, "scheme": "light", "full": True},
    "dark": {"width": 1366, "height": 900, "scheme": "dark", "full": True},
    "narrow": {"width": 390, "height": 844, "scheme": "light", "full": True},
}


def look(name: str, page: str, **job: Any) -> dict[str, Any]:
    """Open a page in Chromium and return what was seen; pictures are named after the page."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    file = OUTPUT / f"{name}.html"
    file.write_text(page, encoding="utf-8", errors="strict")
    shots = {key: {**value, "file": str(OUTPUT / f"{name}-{key}.png")} for key, value in job.pop("shots", {}).items()}
    order = {
        "chromium": os.environ["EXCHANGE_MITIGATION_CHROMIUM"],
        "axe": str(TOOLS / "node_modules" / "axe-core" / "axe.min.js"),
        "jobs": [{"page": str(file), "shots": shots, **job}],
    }
    done = subprocess.run(["node", str(TOOLS / "browser.mjs")], input=json.dumps(order), capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout)[0])


def calm(seen: dict[str, Any]) -> None:
    """Nothing was loaded, nothing ran, nothing was complained about."""
    assert seen["requests"] == []
    assert seen["console"] == []
    assert seen["dialogs"] == []
    assert seen["ran"] is None
    assert seen["scripts"] == 0


@pytest.mark.parametrize("servers", [3, 12, 200])
def test_a_fleet_in_the_browser(servers: int) -> None:
    begun = time.process_time()
    page = _report_html.to_html(report_fleet.report(servers))
    made = time.process_time() - begun
    pdf = OUTPUT / f"{servers}-print.pdf"
    # A picture of the whole page of a large fleet once is enough; the others show what one sees first.
    shots = {key: {**value, "full": servers < 100 or key == "desktop"} for key, value in SHOTS.items()}
    seen = look(str(servers), page, shots=shots, pdf=str(pdf), axe=["light", "dark"] if servers < 100 else [], tab=25, filter=servers > 4)
    calm(seen)
    assert not seen["desktop_wide"] and not seen["narrow_wide"], "the page scrolls sideways"
    for scheme, found in seen["axe"].items():
        serious = [rule for rule in found["violations"] if rule["impact"] in ("serious", "critical")]
        print(f"\n{servers} servers, {scheme}: axe {found['passes']} rules passed, {len(found['violations'])} violations, {len(serious)} serious")
        assert serious == [], json.dumps(serious, indent=1)
        assert found["violations"] == [], json.dumps(found["violations"], indent=1)
    stops = [stop for stop in seen["tab"] if stop["tag"] not in ("BODY", "HTML")]  # behind the last one the focus leaves the page
    assert len(stops) > 8
    assert all(stop["seen"] for stop in stops), [stop for stop in stops if not stop["seen"]]
    assert seen["opened"], "a tile does not open its server"
    subprocess.run(["pdftoppm", "-r", "60", "-l", "6", "-png", str(pdf), str(OUTPUT / f"{servers}-print")], check=True)
    print(f"{servers} servers: {len(page.encode()):,} bytes, made in {made:.2f} s, first paint {seen['times'].get('paint', -1):.0f} ms,"
          f" loaded and drawn {seen['times']['wall']} ms, {seen['elements']} elements")


def test_five_hundred_servers_and_ten_mitigations_stay_usable() -> None:
    page = _report_html.to_html(report_fleet.report(500, 10))
    seen = look("500x10", page, shots={"desktop": {**SHOTS["desktop"], "full": False}}, filter=True)
    calm(seen)
    steps = seen["filter"]["steps"]
    print(f"\n500 x 10: {len(page.encode()):,} bytes, first paint {seen['times'].get('paint', -1):.0f} ms, loaded and drawn {seen['times']['wall']} ms,"
          f" {seen['elements']} elements, slowest filter {max(step['ms'] for step in steps)} ms")
    assert seen["filter"]["before"] == 500
    assert seen["filter"]["sticky"], "the headers do not stay"
    for step in steps:
        assert step["rows"] == int(step["label"].split()[-1]), step
    assert seen["times"]["wall"] < 15_000
    assert max(step["ms"] for step in steps) < 3_000


def test_hostile_text_runs_nothing() -> None:
    texts = [*HOSTILE, "<img src=x onerror='window.ran=1'>", "<script>window.ran=2</script>", "</svg><script>window.ran=3</script>",
             "<a href='javascript:window.ran=4'>x</a>", "<style>*{background:url(http://127.0.0.1:9/x)}</style>",
             "<meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'>"]
    pages = "".join(_report_html.to_html(poisoned(text.encode("utf-8", "replace").decode("utf-8"))).partition("<body>")[2] for text in texts)
    whole = _report_html.to_html(poisoned("calm")).partition("<body>")[0] + "<body>" + pages.replace("</body>\n</html>", "")
    seen = look("hostile", whole, shots={"desktop": {**SHOTS["desktop"], "full": False}})
    calm(seen)
    for text in texts[-6:]:
        row = next(iter(csv.DictReader(io.StringIO(_report_csv.to_csv(poisoned(text))))))
        assert not row["Server"].startswith(("=", "+", "-", "@"))
