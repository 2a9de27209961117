#!/usr/bin/env bash
# Style, types and Ansible's own rules: fast tools on the checkout, Ansible's on a copy at the path that they insist on.
# Everything that is installed for it stands in .build/. Stops at the first tool that finds something.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
bin=$root/.venv/bin
build=$root/.build
step() { printf '== %s\n' "$*"; }

for tool in ruff mypy yamllint; do
  [ -x "$bin/$tool" ] || "$bin/python" -m pip install -qq "$tool"
done
"$bin/python" -c 'import yaml' && "$bin/python" -m pip install -qq types-PyYAML types-requests

step ruff
"$bin/ruff" check plugins tests extensions
step yamllint
"$bin/yamllint" --strict galaxy.yml meta playbooks roles extensions changelogs tests/config.yml
step mypy
PYTHONPATH='' MYPYPATH=$root/.collections "$bin/mypy" --strict --explicit-package-bases --namespace-packages \
  -p ansible_collections.exchange.mitigation.plugins.module_utils -p ansible_collections.exchange.mitigation.plugins.plugin_utils
PYTHONPATH='' MYPYPATH=$root/.collections "$bin/mypy" --strict extensions/eda/plugins/event_source/feed.py
(cd tests && PYTHONPATH='' "$bin/mypy" --strict -p lab)

step 'playbooks: syntax'
for playbook in playbooks/*.yml; do
  ANSIBLE_COLLECTIONS_PATH=$root/.collections ANSIBLE_LOCALHOST_WARNING=0 ANSIBLE_INVENTORY_UNPARSED_WARNING=0 \
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
# ansible-test and ansible-lint ask git which files there are.
git init --quiet . && git add --all >/dev/null 2>&1

step 'ansible-lint, profile production'
ansible-lint --offline --profile production -q
step antsibull-changelog
antsibull-changelog lint
step antsibull-docs
antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs=all --disallow-unknown-collection-refs --skip-rstcheck .

# ansible-test makes small environments of its own and would fetch pip from the internet for them; Python brings one.
home=$build/home
mkdir -p "$home/.ansible/test/cache"
# It also hides the environment from pip, so what pip is told there goes into a file.
mkdir -p "$home/.config/pip"
"$bin/python" -m pip config list | sed -n 's/^\(global\|install\|:env:\)\.\([a-z-]*\)=.\(.*\).$/\2 = \3/p' | awk -F' = ' 'BEGIN { print "[global]" } !seen[$1]++' >"$home/.config/pip/pip.conf"
chmod 0600 "$home/.config/pip/pip.conf"
cat >"$home/bootstrap.py" <<'BOOTSTRAP'
import ensurepip
import os
import subprocess
import sys

environment = dict(os.environ)
ensurepip.bootstrap()  # hides pip's configuration from everything after it
wanted = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
subprocess.check_call([sys.executable, "-m", "pip", "install", "--quiet", *wanted], env=environment)
BOOTSTRAP
for version in 20_3_4 21_3_1 23_1_2 24_2 25_2; do
  cp "$home/bootstrap.py" "$home/.ansible/test/cache/get_pip_$version.py"
done
python=$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
step "ansible-test sanity, Python $python"
HOME=$home ansible-test sanity --local --requirements --python "$python"
step "ansible-test units, Python $python"
HOME=$home ansible-test units --local --requirements --python "$python"
