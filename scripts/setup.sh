#!/usr/bin/env bash
# Installs what builds need and the machine does not have: the wasm target, and cargo-nextest.
set -euo pipefail
cd "$(dirname "$0")/.."

for tool in cargo rustup cc make; do
    command -v "$tool" >/dev/null || { echo "error: $tool is missing: install Rust with rustup and a C compiler first" >&2; exit 1; }
done
scripts/wasm-target.sh >/dev/null
cargo nextest --version >/dev/null 2>&1 || cargo install --locked cargo-nextest
