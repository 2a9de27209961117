#!/usr/bin/env bash
# The report in headless Chromium: axe-core in light and dark, print, keyboard, hostile content, 500 servers. Pictures go to tests/output/browser/.
# Needs chromium and node (taken by apt-get where this runs as root) and installs puppeteer-core and axe-core from npm into .build/browser.
set -euo pipefail
cd "$(dirname "$0")/../.."
find_chromium() { command -v chromium || command -v chromium-browser || command -v google-chrome || true; }
if [ -z "$(find_chromium)" ] || ! command -v node >/dev/null || ! command -v npm >/dev/null || ! command -v pdftoppm >/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium nodejs npm poppler-utils fonts-dejavu-core >/dev/null
  else
    echo "browser: needs chromium, node, npm and pdftoppm, and root or the packages to get them" >&2
    exit 1
  fi
fi
mkdir -p .build/browser
if [ ! -d .build/browser/node_modules/puppeteer-core ] || [ ! -d .build/browser/node_modules/axe-core ]; then
  PUPPETEER_SKIP_DOWNLOAD=1 npm install --prefix .build/browser --no-audit --no-fund --silent axe-core@4 puppeteer-core@24
fi
cp tests/tiers/browser.mjs .build/browser/browser.mjs
export EXCHANGE_MITIGATION_TIER_BROWSER=1 EXCHANGE_MITIGATION_CHROMIUM
EXCHANGE_MITIGATION_CHROMIUM=$(find_chromium)
PYTHONPATH=.collections nice .venv/bin/python -m pytest tests/system/test_report_browser.py -q -rs -s "$@"
echo "browser: ran; nothing is skipped; pictures in tests/output/browser/"
