# Sourced: interpreter VERSION... prints the path of the first of these Pythons that is here, or nothing.
# "python3.x" on PATH may be a version manager's shim that starts nothing.
interpreter() {
  for version in "$@"; do
    for candidate in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python; do
      if "$candidate" -c "import sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != '$version')" >/dev/null 2>&1; then
        "$candidate" -c 'import sys; print(sys.executable)'
        return 0
      fi
    done
  done
}
