#!/usr/bin/env bash
# Installs the clients that the tests drive: the Python packages into target/venv, the Node packages beside the tests.
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p target
[ -x target/venv/bin/python ] || python3 -m venv target/venv
target/venv/bin/python -m pip install --quiet --disable-pip-version-check -r tests/clients/requirements.txt
npm ci --silent --no-audit --no-fund --prefix tests/clients
