#!/usr/bin/env bash
# Installs what the tests drive: the Python packages into target/venv, the Node packages beside the tests, and Debian's Chromium
# and Redis where there are none.
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p target
[ -x target/venv/bin/python ] || python3 -m venv target/venv
target/venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/clients/requirements.txt
# The frameworks want other versions of the same packages: an environment of their own.
[ -x target/venv-frameworks/bin/python ] || python3 -m venv target/venv-frameworks
target/venv-frameworks/bin/python -m pip install --quiet --disable-pip-version-check -r tests/frameworks/requirements.txt
npm ci --silent --no-audit --no-fund --prefix tests/clients
npm ci --silent --no-audit --no-fund --prefix tests/browser
missing=()
[ -x "${CHROMIUM:-/usr/bin/chromium}" ] || missing+=(chromium)
command -v redis-server >/dev/null || missing+=(redis-server)
if [ "${#missing[@]}" != 0 ]; then
    command -v apt-get >/dev/null || { echo "error: the tests need ${missing[*]}: install them (and set CHROMIUM to that browser's path)" >&2; exit 1; }
    root=
    [ "$(id -u)" = 0 ] || root=sudo
    $root apt-get update -qq
    $root apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi
