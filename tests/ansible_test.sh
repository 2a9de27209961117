#!/usr/bin/env bash
# ansible-test on a copy of the collection at the path that it insists on, with the ansible-test of the environment named first.
#   tests/ansible_test.sh [--shipped] ENVIRONMENT WHAT...     WHAT: sanity, units
# With --shipped, sanity sees what is in the artifact, and the unit tests.
# Prints one line for each: what, ansible-core, Python, result, seconds. The tool's own words are shown when it finds something.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
shipped=
if [ "$1" = --shipped ]; then
  shipped=1
  shift
fi
environment=$1
shift
build=$root/.build
bin=$environment/bin
copy=$environment/copy
here=$copy/ansible_collections/exchange/mitigation
rm -rf "$copy"
mkdir -p "$here"
tar --exclude=./.git --exclude=./.venv --exclude=./.collections --exclude=./.build --exclude=./.demo --exclude='.*_cache' --exclude=__pycache__ \
  --exclude=./.hypothesis --exclude=./tests/output -cf - . | tar -xf - -C "$here"
cd "$here"
# ansible-test asks git which files there are.
git init --quiet .
if [ -n "$shipped" ]; then
  printf '/tests/%s/\n' attacks bench demo lab real system >.git/info/exclude
fi
git add --all >/dev/null 2>&1

# ansible-test makes small environments of its own and would fetch pip from the internet for them; Python brings one.
# Several run beside each other: each has a home of its own, and all share pip's cache.
home=$environment/home
mkdir -p "$home/.ansible/test/cache" "$home/.config/pip"
# It also hides the environment from pip, so what pip is told there goes into a file.
"$bin/python" -m pip config list | sed -n 's/^\(global\|install\|:env:\)\.\([a-z-]*\)=.\(.*\).$/\2 = \3/p' | awk -F' = ' -v cache="$build/pip" 'BEGIN { print "[global]"; print "cache-dir = " cache; seen["cache-dir"] = 1 } !seen[$1]++' \
  >"$home/.config/pip/pip.conf"
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
for version in $(sed -n "s/.*get_pip_\([0-9_]*\)\.py.*/\1/p; s/.*pip_version *= *'\([0-9.]*\)'.*/\1/p" \
  "$("$bin/python" -c 'import ansible_test._internal.python_requirements as m; print(m.__file__)')" | tr . _) 20_3_4 21_3_1 23_1_2 24_2 25_2; do
  cp "$home/bootstrap.py" "$home/.ansible/test/cache/get_pip_$version.py"
done

core=$("$bin/python" -c 'from ansible.release import __version__; print(__version__)')
# The interpreter itself, not a version manager's shim: ansible-test refuses those.
python=$("$bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
real=$("$bin/python" -c 'import os, sys; print(os.path.join(sys.base_prefix, "bin"))')
for what in "$@"; do
  began=$SECONDS
  if [ "$what" = units ] && [ -n "$shipped" ]; then
    # Some unit tests take their documents from the lab.
    git add --all --force tests >/dev/null 2>&1
  fi
  if HOME=$home PATH=$bin:$real:$PATH "$bin/ansible-test" "$what" --local --requirements --python "$python" >"$environment/$what.log" 2>&1; then
    printf '   ansible-test %-6s  ansible-core %-8s  Python %-4s  ok  %4s s   %s\n' "$what" "$core" "$python" "$((SECONDS - began))" \
      "$(grep -aE '^=+ .*(passed|failed).* =+$' "$environment/$what.log" | tail -1 | tr -d '=')"
  else
    grep -aE '^(ERROR|FATAL)|^(FAILED|E ) ' "$environment/$what.log" | head -n 60 || true
    tail -n 5 "$environment/$what.log"
    printf '   ansible-test %-6s  ansible-core %-8s  Python %-4s  FAILED\n' "$what" "$core" "$python"
    exit 1
  fi
done
