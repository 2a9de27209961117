#!/usr/bin/env bash
# The playbooks as ansible-runner runs them, which is what AWX and Ansible Automation Platform do; and the files for an execution environment,
# as far as ansible-builder goes without a registry. What it installs stands in .build/runner. Needs make env.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
tools=$root/.build/runner
if [ ! -e "$tools/.ready" ]; then
  "$root/.venv/bin/python" -m venv "$tools"
  "$tools/bin/python" -m pip install -qq ansible-runner ansible-builder
  touch "$tools/.ready"
fi
export EXCHANGE_MITIGATION_TIER_RUNNER=1 PYTHONPATH=$root/.collections
"$root/.venv/bin/python" -m pytest tests/system/test_runner.py -q "$@"

if [ ! -e meta/execution-environment.yml ]; then
  echo "runner: left out ansible-builder, there is no meta/execution-environment.yml"
  exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
here=$work/collections/ansible_collections/exchange/mitigation
mkdir -p "$here"
cp -R galaxy.yml meta plugins roles playbooks requirements*.txt "$here/"
[ ! -e bindep.txt ] || cp bindep.txt "$here/"
"$tools/bin/ansible-builder" introspect "$work/collections" >"$work/introspected"
"$root/.venv/bin/python" - "$work/introspected" <<'PY'
import pathlib
import re
import sys

import yaml

found = pathlib.Path(sys.argv[1]).read_text("utf-8")
missing = []
files = yaml.safe_load(pathlib.Path("meta/execution-environment.yml").read_text("utf-8"))["dependencies"]


def lines(name: str) -> list[str]:
    """Return the entries of a requirements file, those of the files it names included."""
    entries = []
    for line in pathlib.Path(name).read_text("utf-8").splitlines():
        line = line.partition("#")[0].strip()
        if line.startswith("-r"):
            entries += lines(line.removeprefix("-r").strip())
        elif line:
            entries.append(line)
    return entries


for entry in [*lines(files["python"]), *(lines(files["system"]) if files.get("system") else [])]:
    name = re.split(r"[\s\[<>=!~;]", entry)[0]
    if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", found, re.IGNORECASE):
        missing.append(entry)
if missing:
    sys.exit(f"ansible-builder did not see: {', '.join(missing)}\n{found}")
print("runner: ansible-builder introspects every requirement")
PY
cat >"$work/execution-environment.yml" <<'YAML'
---
version: 3
images:
  base_image:
    name: registry.example.com/base:latest
dependencies:
  ansible_core:
    package_pip: ansible-core
  ansible_runner:
    package_pip: ansible-runner
  galaxy:
    collections:
      - name: exchange.mitigation
YAML
(cd "$work" && "$tools/bin/ansible-builder" create --file execution-environment.yml --context context >/dev/null)
grep -q "exchange.mitigation" "$work/context/_build/requirements.yml"
test -s "$work/context/Containerfile" -o -s "$work/context/Dockerfile"
echo "runner: ansible-builder creates the build context; left out the image itself, which needs a registry"
