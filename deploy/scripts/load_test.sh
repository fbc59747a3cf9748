#!/usr/bin/env bash
# Load on the counters, counted exactly.
usage() {
  cat <<'END'
usage: load_test.sh [BASE_URL]      (or BASE_URL in the environment; default http://127.0.0.1:8080)

Sends 500 increments over 5 connections, 2,000 over 20 and 5,000 over 50, to ten new counters each, then reads the
counters back: every increment must be answered with 200 and counted exactly once.
Exit status: 0 if all rounds are clean, 1 if not, 2 for bad arguments. Needs bash, curl and python3.
END
}
set -euo pipefail
case "${1:-}" in -h | --help) usage; exit 0 ;; -*) usage >&2; exit 2 ;; esac
base=${1:-${BASE_URL:-http://127.0.0.1:8080}}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

curl -sS -o /dev/null --max-time 5 "$base/api/v1/health" || { echo "FAIL  no answer from $base"; exit 1; }

failed=0
round() {
  local requests=$1 connections=$2 report
  report=$(python3 "$here/load.py" --url "$base" --requests "$requests" --connections "$connections") || true
  python3 - "$requests" "$connections" "$report" <<'END' || failed=$((failed + 1))
import json, sys
requests, connections, text = sys.argv[1:]
if not text:
    sys.exit(print(f"FAIL  {requests} requests over {connections} connections: the driver broke off") or 1)
run = json.loads(text)
clean = run["exact"] and not run["errors"] and run["ok"] == int(requests)
print(f'{"PASS" if clean else "FAIL"}  {requests:>5} requests over {connections:>2} connections: '
      f'{run["ok"]} answered, {run["counted"]} counted, errors {run["errors"] or "none"}; '
      f'{run["rps"]}/s, p50 {run["p50_ms"]} ms, p99 {run["p99_ms"]} ms')
sys.exit(0 if clean else 1)
END
}

echo "load on $base"
round 500 5
round 2000 20
round 5000 50
echo "$((3 - failed)) passed, $failed failed"
[ "$failed" = 0 ]
