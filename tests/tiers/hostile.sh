#!/usr/bin/env bash
# A compromised server against every supported ansible-core that an interpreter is here for: nothing it says runs or reaches the terminal.
#   tests/tiers/hostile.sh [VERSION...]
# The lies and the fuzzing have runs of their own, any number of inputs:
#   PYTHONPATH=.collections:tests .venv/bin/python -m attacks.fuzz 20000;  PYTHONPATH=.collections:tests .venv/bin/python tests/system/hostile_answers.py
set -euo pipefail
cd "$(dirname "$0")/../.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$PWD/.collections
matrix=(2.16:3.10,3.11,3.12 2.17:3.12,3.11,3.10 2.18:3.11,3.12,3.13 2.19:3.13,3.12,3.11 2.20:3.12,3.13,3.14 2.21:3.13,3.12,3.14)

. tests/tiers/interpreter.sh

make -s env
for row in "${matrix[@]}"; do
  version=${row%%:*}
  if [ $# -gt 0 ] && [[ " $* " != *" $version "* ]]; then continue; fi
  # shellcheck disable=SC2046
  found=$(interpreter $(tr , ' ' <<<"${row#*:}"))
  if [ -z "$found" ]; then
    echo "   ansible-core $version: left out, none of Python ${row#*:} is here"
    continue
  fi
  environment=$PWD/.build/hostile-$version
  if [ ! -e "$environment/.ready" ]; then
    rm -rf "$environment"
    "$found" -m venv "$environment"
    "$environment/bin/python" -m pip install -qq "ansible-core==$version.*" --requirement requirements.txt --requirement tests/requirements.txt
    touch "$environment/.ready"
  fi
  echo "== ansible-core $version"
  "$environment/bin/python" -m pytest -q -p no:cacheprovider tests/system/test_hostile_server.py tests/system/test_report_untrusted.py tests/system/test_secrets.py
done
