#!/usr/bin/env bash
# The tests from the lock: an environment of nothing but the pinned and hashed packages, for each Python of the lock that is here.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$PWD/.collections

. tests/tiers/interpreter.sh

make -s env
.venv/bin/python tests/lock.py --check
for version in "${@:-3.11}"; do
  found=$(interpreter "$version")
  if [ -z "$found" ]; then
    echo "   Python $version: left out, it is not here"
    continue
  fi
  environment=.build/locked-$version
  rm -rf "$environment"
  "$found" -m venv "$environment"
  "$environment/bin/python" -m pip install -qq --require-hashes --only-binary :all: --requirement tests/requirements.lock
  echo "== Python $version: $("$environment/bin/python" -m pip list --format freeze 2>/dev/null | wc -l) packages with the hashes of the lock"
  "$environment/bin/python" -m pytest -q -p no:cacheprovider -n 2 tests/unit tests/system/test_supply_chain.py
done
