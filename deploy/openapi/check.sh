#!/usr/bin/env bash
# check.sh [PROFILE...]: starts the whole mesh of target/debug on free ports, and has the OpenAPI document of each built-in profile validated and the gateway
# fuzzed from it. EXAMPLES: cases of an operation at most. SEED: repeats a run. Reports are left in target/openapi.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bin=target/debug venv=.tools/venv/bin out=target/openapi
mkdir -p $out

started=()
stop() { [ ${#started[@]} = 0 ] || kill "${started[@]}" 2>/dev/null || true; }
trap stop EXIT

# The address of that name in the line that says that the mesh is ready.
address() { sed -n "s/^highpress ready:.* $1 \([0-9.:]*\).*/\1/p" "$2"; }

free_address() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print("127.0.0.1:%d" % s.getsockname()[1])'; }

check() {
  local profile=$1 log=$out/$1.log data=$out/$1.data admin pid
  # Events: an endless NDJSON could not be read to its end.
  $bin/highpress config | sed -e "s/profile: phase1/profile: $profile, stream: sse/" -e 's/127.0.0.1:\(8080\|9901\)/127.0.0.1:0/' > "$out/$profile.yaml"
  rm -rf "$data"
  # The configuration takes them from there, too.
  HIGHPRESS_COUNTER_LISTEN=$(free_address) HIGHPRESS_ANALYTICS_LISTEN=$(free_address) \
    $bin/highpress --config "$out/$profile.yaml" --data "$data" --listen 127.0.0.1:0 --admin 127.0.0.1:0 \
    --counter-admin 127.0.0.1:0 --analytics-admin 127.0.0.1:0 > "$log" 2>&1 &
  pid=$!
  started+=("$pid")
  for _ in $(seq 100); do
    admin=$(address admin "$log")
    [ -n "$admin" ] && curl -fs "http://$admin/readyz" > /dev/null && break
    kill -0 "$pid" || { cat "$log"; exit 1; }
    sleep 0.2
  done
  curl -fs "http://$admin/openapi.json" > "$out/$profile.json"
  $venv/openapi-spec-validator "$out/$profile.json"
  $venv/schemathesis --config-file "deploy/openapi/$profile.toml" run "$out/$profile.json" --url "http://$(address http "$log")" \
    --max-examples "${EXAMPLES:-50}" --continue-on-failure --no-color ${SEED:+--seed "$SEED"}
  kill "$pid"
}

[ $# -gt 0 ] || set -- standard phase1
for profile; do check "$profile"; done
