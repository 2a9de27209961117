#!/usr/bin/env bash
# Planted secrets, with strace over every program that a run starts. Needs root for installing strace once, not for running.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$PWD/.collections

if ! command -v strace >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  apt-get update -qq >/dev/null
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends strace >/dev/null
fi
if ! strace -qq -e trace=execve true 2>/dev/null; then
  echo "Secrets tier: skipped, strace is missing or may not trace here"
  [ "${EXCHANGE_MITIGATION_TIER_SECRETS:-}" != 1 ] || exit 1
  exit 0
fi

make -s env
EXCHANGE_MITIGATION_TIER_SECRETS=1 .venv/bin/python -m pytest -q -p no:cacheprovider tests/system/test_secrets.py "$@"
