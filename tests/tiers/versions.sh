#!/usr/bin/env bash
# Every supported ansible-core, where an interpreter for it is here: ansible-test sanity and units, without an ignore file.
#   tests/tiers/versions.sh [VERSION...]
#   tests/tiers/versions.sh --but ENVIRONMENT      all but the ansible-core that this environment has
# Of what is shipped, and the unit tests; make lint looks at everything. Two at a time: most of what ansible-test does has one process.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
# ansible-core and the Pythons that it runs on, the ones that are tried first.
matrix=(2.21:3.13,3.12,3.14 2.20:3.12,3.13,3.14 2.19:3.13,3.12,3.11 2.18:3.11,3.12,3.13 2.17:3.12,3.11,3.10 2.16:3.10,3.11,3.12)

. tests/tiers/interpreter.sh

environments=()
but=
if [ "${1:-}" = --but ]; then
  but=$("$2/bin/python" -c 'from ansible.release import __version__; print(".".join(__version__.split(".")[:2]))')
  shift 2
fi

for row in "${matrix[@]}"; do
  version=${row%%:*}
  [ "$version" != "$but" ] || continue
  if [ $# -gt 0 ] && [[ " $* " != *" $version "* ]]; then continue; fi
  # shellcheck disable=SC2046
  found=$(interpreter $(tr , ' ' <<<"${row#*:}"))
  if [ -z "$found" ]; then
    echo "   ansible-core $version: left out, none of Python ${row#*:} is here"
    continue
  fi
  environment=$root/.build/core-$version
  if [ ! -e "$environment/.ready" ]; then
    rm -rf "$environment"
    "$found" -m venv "$environment"
    "$environment/bin/python" -m pip install -qq "ansible-core==$version.*" --requirement requirements.txt
    touch "$environment/.ready"
  fi
  environments+=("$environment")
done

try() {
  tests/ansible_test.sh --shipped "$1" sanity units >"$1/result.log" 2>&1 || touch "$1/.failed"
  cat "$1/result.log"
}
for environment in "${environments[@]}"; do
  rm -f "$environment/.failed"
  while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n; done
  try "$environment" &
done
wait
for environment in "${environments[@]}"; do
  [ ! -e "$environment/.failed" ] || exit 1
done
