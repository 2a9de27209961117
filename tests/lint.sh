#!/usr/bin/env bash
# Style, types and Ansible's own rules: fast tools on the checkout, Ansible's on a copy at the path that they insist on.
# Everything that is installed for it stands in .build/. Stops at the first tool that finds something.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
bin=$root/.venv/bin
build=$root/.build
step() { printf '== %s\n' "$*"; }

for tool in ruff mypy yamllint bandit; do
  [ -x "$bin/$tool" ] || "$bin/python" -m pip install -qq "$tool"
done
"$bin/python" -c 'import yaml' && "$bin/python" -m pip install -qq types-PyYAML types-requests

step ruff
"$bin/ruff" check plugins tests extensions
step bandit
"$bin/bandit" -q -r plugins extensions roles 2>/dev/null
step 'the lock of the test environment'
"$bin/python" tests/lock.py --check
step yamllint
"$bin/yamllint" --strict galaxy.yml meta playbooks roles extensions changelogs/config.yaml changelogs/fragments tests/config.yml
step mypy
PYTHONPATH='' MYPYPATH=$root/.collections "$bin/mypy" --strict --explicit-package-bases --namespace-packages \
  -p ansible_collections.exchange.mitigation.plugins.module_utils -p ansible_collections.exchange.mitigation.plugins.plugin_utils
PYTHONPATH='' MYPYPATH=$root/.collections "$bin/mypy" --strict extensions/eda/plugins/event_source/feed.py
(cd tests && PYTHONPATH='' "$bin/mypy" --strict -p lab)

step 'playbooks: syntax'
for playbook in playbooks/*.yml; do
  ANSIBLE_COLLECTIONS_PATH=$root/.collections ANSIBLE_LOCALHOST_WARNING=0 ANSIBLE_INVENTORY_UNPARSED_WARNING=0 ANSIBLE_HOST_PATTERN_MISMATCH=ignore \
    "$bin/ansible-playbook" --syntax-check -i 'localhost,' "exchange.mitigation.$(basename "$playbook" .yml)" >/dev/null
done

if [ ! -e "$build/lint/.ready" ]; then
  step 'installing ansible-lint, antsibull-docs, antsibull-changelog'
  "$bin/python" -m venv "$build/lint"
  "$build/lint/bin/python" -m pip install -qq --requirement requirements.txt ansible-lint antsibull-docs antsibull-changelog
  touch "$build/lint/.ready"
fi

copy=$build/copy
here=$copy/ansible_collections/exchange/mitigation
rm -rf "$copy"
mkdir -p "$here"
tar --exclude=./.git --exclude=./.venv --exclude=./.collections --exclude=./.build --exclude=./.demo --exclude='.*_cache' --exclude=__pycache__ \
  --exclude=./.hypothesis --exclude=./tests/output -cf - . | tar -xf - -C "$here"
cd "$here"
export PATH=$build/lint/bin:$PATH ANSIBLE_COLLECTIONS_PATH=$copy
# ansible-lint asks git which files there are.
git init --quiet . && git add --all >/dev/null 2>&1

step 'ansible-lint, profile production'
ansible-lint --offline --profile production -q
step antsibull-changelog
antsibull-changelog lint
step antsibull-docs
antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs=all --disallow-unknown-collection-refs --skip-rstcheck .

# With --without-ansible-test the caller sees to ansible-test (tests/tiers/versions.sh runs it on every ansible-core).
cd "$root"
if [ "${1:-}" != --without-ansible-test ]; then
  step 'ansible-test sanity and units'
  tests/ansible_test.sh "$build/lint" sanity units
fi
