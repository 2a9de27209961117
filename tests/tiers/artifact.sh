#!/usr/bin/env bash
# The collection as it is shipped: built, looked at, checked by galaxy-importer, installed, and the tests run against what was
# installed instead of the checkout: with the oldest ansible-core and the lower bounds of requirements.txt, and with the newest of all.
#   tests/tiers/artifact.sh [import|oldest|newest...]      everything without an argument
# EXCHANGE_MITIGATION_ARTIFACT_TESTS chooses the tests; the default is what drives the shipped content through ansible-playbook,
# tests/system is all of them.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
build=$root/.build
dist=$build/dist
wanted=${*:-import oldest newest}
step() { printf '== %s (%ss)\n' "$*" "$SECONDS"; }
. tests/tiers/interpreter.sh

python=$(interpreter 3.12 3.11)
[ -n "$python" ] || { echo "artifact: left out, neither Python 3.12 nor 3.11 is here"; exit 0; }
if [ ! -e "$build/importer/.ready" ]; then
  step 'installing galaxy-importer and ansible-builder'
  rm -rf "$build/importer"
  "$python" -m venv "$build/importer"
  "$build/importer/bin/python" -m pip install -qq galaxy-importer ansible-builder
  touch "$build/importer/.ready"
fi
export PATH=$build/importer/bin:$PATH
unset ANSIBLE_COLLECTIONS_PATH PYTHONPATH

step 'ansible-galaxy collection build, from a clean copy of what git knows'
rm -rf "$dist"
mkdir -p "$dist/source"
git ls-files -z | xargs -0 tar -cf - | tar -xf - -C "$dist/source"
ansible-galaxy collection build --output-path "$dist" "$dist/source" >/dev/null
tarball=$(ls "$dist"/exchange-mitigation-*.tar.gz)
printf '   %s: %s bytes, %s files\n' "$(basename "$tarball")" "$(stat -c %s "$tarball")" "$(tar -tzf "$tarball" | grep -vc '/$')"
tar -tzf "$tarball" | cut -d/ -f1-2 | sort | uniq -c | sort -rn
# Nothing but what a user needs; in particular neither the lab nor anything recorded.
if tar -tzf "$tarball" | grep -E '^(tests/(lab|unit|system|attacks|bench|demo|tiers)|\.|Makefile|.*\.pyc$)'; then
  echo "artifact: the files above do not belong into it (build_ignore in galaxy.yml)" >&2
  exit 1
fi

rm -rf "$dist/installed"
ansible-galaxy collection install --offline "$tarball" -p "$dist/installed" >/dev/null 2>&1
ansible-galaxy collection verify --offline exchange.mitigation -p "$dist/installed"
if [[ " $wanted " == *" import "* ]]; then
  step "galaxy-importer $(python -m pip show galaxy-importer | sed -n 's/^Version: //p')"
  (cd "$dist" && python -m galaxy_importer.main "$tarball") >"$dist/importer.log" 2>&1 || { tail -n 40 "$dist/importer.log"; exit 1; }
  if grep -E '^(WARNING|ERROR)|: (WARNING|ERROR)' "$dist/importer.log"; then
    echo "galaxy-importer: the lines above" >&2
    exit 1
  fi
  tail -n 3 "$dist/importer.log" | cut -c1-160
  step 'ansible-builder introspect'
  ansible-builder introspect "$dist/installed" 2>&1 | tee "$dist/introspect.log"
fi

# What the tests share among themselves is found through the collection's name as well; the plugins are those that were installed.
mkdir -p "$dist/installed/ansible_collections/exchange/mitigation/tests"
cp -r tests/unit "$dist/installed/ansible_collections/exchange/mitigation/tests/"

books=tests/system/test_playbooks.py
TESTS="$books::test_drift_costs_one_fetch_one_exchange_session_and_few_requests $books::test_four_connections_one_result
  $books::test_rollback_is_exact_and_blocks_the_ids $books::test_no_secret_at_any_verbosity_nor_in_any_file
  tests/system/test_session_playbooks.py tests/system/test_requests.py tests/system/test_inventory_plugin.py tests/system/lab/test_wire_pywinrm.py"
# EDGE ansible-core PYTHONS PIP-ARGUMENTS...
tests_on() {
  edge=$1 core=$2 found=$(interpreter $3)
  shift 3
  [[ " $wanted " == *" $edge "* ]] || return 0
  [ -n "$found" ] || { echo "   $edge: left out, no Python for ansible-core $core is here"; return 0; }
  environment=$build/$edge
  if [ ! -e "$environment/.ready" ]; then
    rm -rf "$environment"
    "$found" -m venv "$environment"
    "$environment/bin/python" -m pip install -qq "ansible-core==$core.*" "$@" --requirement tests/requirements.txt
    touch "$environment/.ready"
  fi
  step "tests against the installed artifact, $edge: $("$environment/bin/python" -m pip list 2>/dev/null | grep -E '^(ansible-core|cryptography|lxml|pypsrp|pywinrm|psrpcore) ' | tr -s ' ' | paste -sd,)"
  (
    export PYTHONPATH=$dist/installed EXCHANGE_MITIGATION_COLLECTIONS=$dist/installed PATH=$environment/bin:$PATH
    # shellcheck disable=SC2086
    "$environment/bin/python" -m pytest ${EXCHANGE_MITIGATION_ARTIFACT_TESTS:-$TESTS} -q -n 2 -p no:cacheprovider
  )
}
sed -n 's/>=/==/p' requirements.txt >"$dist/lower-bounds.txt"
tests_on oldest 2.16 '3.10 3.11 3.12' --requirement "$dist/lower-bounds.txt"
tests_on newest 2.21 '3.13 3.12' --upgrade --requirement requirements.txt
