#!/usr/bin/env bash
# Prints spin-wasi02.toml, made of spin.toml: the same application for hosts that know WASI 0.2 alone. Both of its components are
# one file; the page's is granted nothing all the same.
set -euo pipefail
cd "$(dirname "$0")/.."
# Spin up to 4.0 refuses every call where an entry of allowed_outbound_hosts is empty: the spare one repeats another.
sed -e '2i\
# Written by scripts/wasi02-manifest.sh from spin.toml: change that one. For Spin 2 to 4.0 and SpinKube'"'"'s shim.' \
    -e 's|component/keystorm\.wasm|component/keystorm-wasi02.wasm|' \
    -e 's|component/keystorm_ui\.wasm|component/keystorm-wasi02.wasm|' \
    -e 's|build-component\.sh keystorm"|build-component.sh keystorm-wasi02"|' \
    -e 's|^watch = \["src/\*\*/\*\.rs", "Cargo\.toml"\]|watch = ["src/**/*.rs", "wasi02/src/**/*.rs", "ui/src/**/*.rs", "static/**/*", "Cargo.toml"]|' \
    -e 's|^extra_outbound_host = .*|extra_outbound_host = { default = "http://localhost:*" }|' \
    -e '/^\[component\.ui\.build\]/,/^watch/d' \
    spin.toml | sed -e :a -e '/^\n*$/{$d;N;ba' -e '}'
