#!/usr/bin/env bash
# Builds one component for wasm32-wasip2: what the build commands of spin.toml call.
set -euo pipefail
cd "$(dirname "$0")/.."
toolchain=$(scripts/wasm-target.sh)
# An empty $toolchain is the toolchain in use.
exec cargo ${toolchain:+"$toolchain"} build --locked --target wasm32-wasip2 --profile component --package "$1"
