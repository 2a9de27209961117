#!/usr/bin/env bash
# The documentation as a site: every module, filter, role and guide through antsibull-docs and Sphinx, where a warning is an error.
#   tests/tiers/docs.sh         the site is in .build/site/build/html afterwards
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
build=$root/.build
site=$build/site
step() { printf '== %s (%ss)\n' "$*" "$SECONDS"; }
. tests/tiers/interpreter.sh

python=$(interpreter 3.13 3.12 3.11 3.10)
[ -n "$python" ] || { echo "docs: left out, no Python 3.10 or newer is here"; exit 0; }
if [ ! -e "$build/docs/.ready" ]; then
  step 'installing antsibull-docs, Sphinx and the theme'
  rm -rf "$build/docs"
  mkdir -p "$build"
  "$python" -m venv "$build/docs"
  "$build/docs/bin/python" -m pip install -qq ansible-core antsibull-docs ansible-pygments sphinx sphinx-ansible-theme
  touch "$build/docs/.ready"
fi
export PATH=$build/docs/bin:$PATH ANSIBLE_COLLECTIONS_PATH=$build/docs-collections
unset PYTHONPATH

# The collection at a path of its own, as it is on disk: another checkout or an installed one must not be documented instead.
rm -rf "$build/docs-collections" "$site"
mkdir -p "$build/docs-collections/ansible_collections/exchange"
ln -s "$root" "$build/docs-collections/ansible_collections/exchange/mitigation"
mkdir -p "$site"
chmod 700 "$site"

step 'antsibull-docs'
antsibull-docs sphinx-init --use-current --squash-hierarchy --lenient --dest-dir "$site" exchange.mitigation >/dev/null
mkdir -p "$site/rst"
chmod og-w "$site/rst"
antsibull-docs --config-file "$site/antsibull-docs.cfg" collection --use-current --squash-hierarchy --fail-on-error \
  --dest-dir "$site/rst" exchange.mitigation
# Labels of Ansible's own documentation that antsibull-docs refers to. They are named one by one, so that a reference of ours to a label that
# does not exist stays an error, and nothing has to be fetched.
python - "$site" <<'EOF'
import pathlib
import sys
import zlib

site = pathlib.Path(sys.argv[1])
labels = ("action_plugins", "ansible_configuration_settings", "common_return_values")
cache = ("ANSIBLE_CACHE_PLUGIN", "ANSIBLE_CACHE_PLUGIN_CONNECTION", "ANSIBLE_CACHE_PLUGIN_PREFIX", "ANSIBLE_CACHE_PLUGIN_TIMEOUT")
head = "# Sphinx inventory version 2\n# Project: Ansible\n# Version: devel\n# The remainder of this file is compressed using zlib.\n"
body = "".join(f"{label} std:label -1 reference_appendices/{label}.html#{label} {label}\n" for label in labels)
body += "".join(f"{name} std:envvar 1 reference_appendices/config.html#envvar-{name} -\n" for name in cache)
(site / "ansible.inv").write_bytes(head.encode() + zlib.compress(body.encode()))
conf = (site / "conf.py").read_text("utf-8")
conf += f"\nintersphinx_mapping = {{'ansible_devel': ('https://docs.ansible.com/projects/ansible/devel/', {str(site / 'ansible.inv')!r})}}\n"
(site / "conf.py").write_text(conf, "utf-8")
EOF

step 'Sphinx, a warning is an error'
sphinx-build -M html "$site/rst" "$site/build" -c "$site" -n -W --keep-going -q

step 'what is in it'
python - "$root" "$site/build/html" <<'EOF'
import pathlib
import sys

root, html = map(pathlib.Path, sys.argv[1:])
expected = {f"{path.stem}_module" for path in (root / "plugins/modules").glob("*.py")}
expected |= {f"{path.stem}_inventory" for path in (root / "plugins/inventory").glob("*.py")}
expected |= {f"{path.stem}_filter" for path in (root / "plugins/filter").glob("*.py")}
expected |= {f"{path.parent.parent.name}_role" for path in root.glob("roles/*/meta/argument_specs.yml")}
guides = {path.stem for path in (root / "docs/docsite/rst").glob("*.rst")}
pages = {path.stem for path in html.glob("*.html")}
missing = sorted(expected - pages) + sorted(guide for guide in guides if not (html / "docsite" / f"{guide}.html").exists())
if missing:
    sys.exit(f"docs: without a page: {', '.join(missing)}")
print(f"docs: {len(expected)} pages of modules, plugins and roles, {len(guides)} guides, no warning")
EOF
