#!/usr/bin/env bash
# What may be built in, by deny.toml: licences, sources, doubled and forbidden crates; and known weaknesses, where their
# database can be fetched.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo deny --version >/dev/null 2>&1 || cargo install --locked cargo-deny
cargo deny --workspace --locked check bans licenses sources
if timeout 120 cargo deny --workspace --locked fetch db >/dev/null 2>&1; then
    cargo deny --workspace --locked check advisories
else
    echo "warning: the database of advisories cannot be reached from here: known weaknesses were NOT looked for" >&2
fi
