#!/usr/bin/env bash
# Opens turns, kills the server with -9, starts it again, and says how long it takes until every one
# of them runs again. Usage: scripts/measure-recovery.sh [TURNS]
set -euo pipefail
turns=${1:-10000}
binary=target/release/turnkeep
dir=$(mktemp -d)
trap 'kill -9 "$pid" 2>/dev/null || true; rm -rf "$dir"' EXIT
printf 'log_level = "warn"\n[agents.default]\nkind = "echo"\ndelay_ms = 200000\n' > "$dir/c.toml"

start() {
    : > "$dir/out"
    "$binary" serve --config "$dir/c.toml" --data-dir "$dir/data" --listen 127.0.0.1:0 > "$dir/out" &
    pid=$!
    until grep -q '^listening on' "$dir/out"; do sleep 0.01; done
    url=$(sed -n 's/^listening on //p' "$dir/out")
}
running() { curl -s "$url/metrics" | sed -n 's/^turnkeep_runs_total //p'; }
millis() { date +%s%3N; }

start
"$binary" bench --server "$url" --users "$turns" --messages 1 --no-wait > /dev/null 2>&1
until [ "$(running)" = "$turns" ]; do sleep 0.05; done
kill -9 "$pid"
wait "$pid" 2>/dev/null || true
began=$(millis)
start
ready=$(millis)
until [ "$(running)" = "$turns" ]; do sleep 0.01; done
echo "$turns open turns: ready $((ready - began)) ms after the start, all running again $(($(millis) - ready)) ms after that"
grep VmRSS "/proc/$pid/status"
