#!/usr/bin/env bash
# Makes docs/images/report.png, the picture of the README, from the example fleet of the tests. Needs what tests/tiers/browser.sh brings.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p .build/browser docs/images
page=$PWD/.build/browser/picture.html
PYTHONPATH=.collections .venv/bin/python tests/unit/plugins/module_utils/report_fleet.py 12 "$page"
cp tests/tiers/browser.mjs .build/browser/browser.mjs
node .build/browser/browser.mjs >/dev/null <<JOB
{"chromium": "$(command -v chromium || command -v chromium-browser || command -v google-chrome)", "axe": "$PWD/.build/browser/node_modules/axe-core/axe.min.js",
 "jobs": [{"page": "$page", "shots": {"readme": {"width": 1240, "height": 1330, "scheme": "light", "full": false, "file": "$PWD/docs/images/report.png"}}}]}
JOB
stat -c '%n: %s bytes' docs/images/report.png
