#!/usr/bin/env bash
# Installs what KeyStorm can be measured beside: nginx from Debian, Portkey's gateway from npm, LiteLLM from PyPI. What cannot
# be installed is left out of the benchmark.
set -uo pipefail
cd "$(dirname "$0")/.."

mkdir -p target/peers
if [ ! -x /usr/sbin/nginx ]; then
    root=
    [ "$(id -u)" = 0 ] || root=sudo
    $root apt-get install -y -qq --no-install-recommends nginx-light >/dev/null || echo "nginx is left out" >&2
fi
[ -d target/peers/node_modules/@portkey-ai/gateway ] ||
    npm install --silent --no-audit --no-fund --prefix target/peers @portkey-ai/gateway || echo "Portkey is left out" >&2
if [ ! -x target/peers/venv/bin/litellm ]; then
    python3 -m venv target/peers/venv
    target/peers/venv/bin/python -m pip install --quiet --disable-pip-version-check 'litellm[proxy]' || echo "LiteLLM is left out" >&2
fi
exit 0
