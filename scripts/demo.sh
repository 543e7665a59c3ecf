#!/usr/bin/env bash
# KeyStorm with a mock upstream and made-up keys: one good, one rate-limited, one dead. Nothing leaves this machine.
set -euo pipefail
cd "$(dirname "$0")/.."

state=$(mktemp -d)
pids=()
stop() {
    [ "${#pids[@]}" = 0 ] || kill "${pids[@]}" 2>/dev/null || true
    wait || true
    rm -rf "$state"
}
trap stop EXIT
trap 'exit 0' INT TERM

target/release/mock-upstream 127.0.0.1:9900 &
pids+=($!)
target/release/keystorm-runner up --state-dir "$state" \
    --variable openai_base_url=http://127.0.0.1:9900/v1 --variable gemini_base_url=http://127.0.0.1:9900 &
pids+=($!)
for _ in $(seq 100); do
    curl -fs http://127.0.0.1:3000/healthz >/dev/null 2>&1 && break
    sleep 0.2
done
# The published defaults: they serve clients on this machine alone.
admin=e86ea1ceb610e1ed502f5a99a386a0a252a933525187a43f18db6a6d91c91434
curl -fsS http://127.0.0.1:3000/api/keys -H "authorization: Bearer $admin" -H 'content-type: application/json' \
    -d '{"apiType":"openai","keys":["sk-good-demo-0000000000000001","sk-limited-demo-00000000000002","sk-dead-demo-0000000000000003"]}'
cat <<TEXT


KeyStorm runs at http://127.0.0.1:3000 over a mock upstream, with three keys: one good, one rate-limited, one dead.

  the page   http://127.0.0.1:3000/   (administrator's key: $admin)
  a chat     curl http://127.0.0.1:3000/v1/chat/completions -H 'authorization: Bearer yCENzh' \\
               -H 'content-type: application/json' \\
               -d '{"model":"mock-large","stream":true,"messages":[{"role":"user","content":"Hello!"}]}'

Ctrl-C stops both.
TEXT
wait
