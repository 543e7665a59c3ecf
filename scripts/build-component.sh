#!/usr/bin/env bash
# Builds one component for wasm32-wasip2: what the build commands of the manifests call.
set -euo pipefail
cd "$(dirname "$0")/.."
toolchain=$(scripts/wasm-target.sh)
target=${CARGO_TARGET_DIR:-target}
build() {
    # An empty $toolchain is the toolchain in use.
    cargo ${toolchain:+"$toolchain"} build --locked --target wasm32-wasip2 --profile component --package "$1"
}
if [ "$1" = keystorm-wasi02 ]; then
    # It takes the core without its adapter to WASI 0.3. In a folder of its own: cargo would put that core in the place of the whole
    # one.
    CARGO_TARGET_DIR=$target/wasi02 build "$1"
    # What the manifest is made of may have changed.
    manifest=$(scripts/wasi02-manifest.sh)
    [ "$manifest" = "$(cat spin-wasi02.toml)" ] || printf '%s\n' "$manifest" >spin-wasi02.toml
    mkdir -p "$target/wasm32-wasip2/component"
    cp "$target/wasi02/wasm32-wasip2/component/keystorm_wasi02.wasm" "$target/wasm32-wasip2/component/keystorm-wasi02.wasm"
else
    build "$1"
fi
