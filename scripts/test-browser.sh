#!/usr/bin/env bash
# The page in a real browser: its good days against the real components over the mock upstream, its bad ones against a mock of
# the administrator's API that fails on demand.
set -euo pipefail
cd "$(dirname "$0")/.."

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
state=$(mktemp -d)
pids=()
stop() {
    kill "${pids[@]}" 2>/dev/null || true
    wait || true
    rm -rf "$state"
}
trap stop EXIT

upstream=$(free_port)
port=$(free_port)
target/release/mock-upstream "127.0.0.1:$upstream" &
pids+=($!)
SPIN_VARIABLE_OPENAI_BASE_URL=http://127.0.0.1:$upstream/v1 SPIN_VARIABLE_GEMINI_BASE_URL=http://127.0.0.1:$upstream \
    target/release/keystorm-runner up --listen "127.0.0.1:$port" --state-dir "$state" &
pids+=($!)
for _ in $(seq 100); do
    curl -fs "http://127.0.0.1:$port/healthz" >/dev/null 2>&1 && break
    sleep 0.2
done
BASE_URL=http://127.0.0.1:$port node --test --test-concurrency=1 tests/browser/load.test.mjs tests/browser/page.test.mjs
node --test --test-concurrency=1 tests/browser/words.test.mjs tests/browser/faults.test.mjs
