#!/usr/bin/env bash
# The Kerberos tier: a real MIT KDC on loopback, Kerberos to Windows and to Exchange through winrm and psrp. Needs no root once the packages are there.
# Installs in .build/kerberos/ what requirements-kerberos.txt says, because these libraries change how the others authenticate.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$PWD/.collections PATH=$PATH:/usr/sbin:/sbin
needed="krb5kdc kdb5_util kadmin.local kinit klist krb5-config gcc faketime"
absent() { for program in $needed; do command -v "$program" >/dev/null || printf ' %s' "$program"; done; }

if [ -n "$(absent)" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get update -qq >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    krb5-kdc krb5-admin-server krb5-user libkrb5-dev gcc libc6-dev faketime >/dev/null
fi
if [ -n "$(absent)" ]; then
  echo "Kerberos tier: skipped, these programs are missing:$(absent) (Debian: krb5-kdc krb5-admin-server krb5-user libkrb5-dev gcc faketime)"
  [ "${EXCHANGE_MITIGATION_TIER_KERBEROS:-}" != 1 ] || exit 1
  exit 0
fi

make -s env
venv=.build/kerberos
if ! [ "$venv/.requirements" -nt requirements-kerberos.txt ] || ! [ "$venv/.requirements" -nt tests/requirements.txt ]; then
  .venv/bin/python -m venv "$venv"
  "$venv/bin/python" -m pip install -qq --requirement requirements-kerberos.txt --requirement tests/requirements.txt
  touch "$venv/.requirements"
fi
EXCHANGE_MITIGATION_TIER_KERBEROS=1 "$venv/bin/python" -m pytest -q tests/system/test_kerberos.py tests/system/test_exchange_access.py "$@"
