#!/usr/bin/env bash
# The tier "eda": the event source and the example rulebook with the real ansible-rulebook (Java 17 or newer, a virtual environment of its own).
# Says in one line what it skips; with EXCHANGE_MITIGATION_TIER_EDA=1 it fails instead.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
venv=$root/.build/eda
bin=${PYTHON:-$root/.venv/bin/python}

leave() {
  if [ "${EXCHANGE_MITIGATION_TIER_EDA:-}" = 1 ]; then echo "eda: FAILED: $*" >&2; exit 1; fi
  echo "eda: skipped: $*"
  exit 0
}

if ! command -v java >/dev/null; then
  if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends openjdk-17-jre-headless; } >/dev/null 2>&1 \
      || leave "Java 17 cannot be installed"
  else
    leave "Java 17 or newer is missing"
  fi
fi

if [ ! -e "$venv/.ready" ]; then
  "$bin" -m venv "$venv" || leave "no virtual environment can be made"
  "$venv/bin/python" -m pip install -qq --disable-pip-version-check --requirement requirements.txt ansible-core ansible-rulebook \
    || leave "ansible-rulebook cannot be installed"
  touch "$venv/.ready"
fi

EXCHANGE_MITIGATION_TIER_EDA=1 EXCHANGE_MITIGATION_RULEBOOK=$venv/bin/ansible-rulebook PYTHONPATH=$root/.collections \
  "$bin" -m pytest tests/system/test_eda_rulebook.py -q -s "$@"
