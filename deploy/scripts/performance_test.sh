#!/usr/bin/env bash
# A longer run at rising concurrency, as a table.
usage() {
  cat <<'END'
usage: performance_test.sh [BASE_URL] [REQUESTS]
       (BASE_URL also from the environment; default http://127.0.0.1:8080; REQUESTS for each row, default 20000)

Sends REQUESTS increments at each of 1, 10, 50, 100 and 200 connections to ten new counters each and prints requests
per second, latencies and errors. Counts are read back and must be exact.
The driver is Python and is most of what is measured at the top end: `make bench` measures the gateway itself.
Exit status: 0 if every row is clean, 1 if not, 2 for bad arguments. Needs bash, curl and python3.
END
}
set -euo pipefail
case "${1:-}" in -h | --help) usage; exit 0 ;; -*) usage >&2; exit 2 ;; esac
base=${1:-${BASE_URL:-http://127.0.0.1:8080}}
requests=${2:-20000}
[[ $requests =~ ^[1-9][0-9]*$ ]] || { usage >&2; exit 2; }
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

curl -sS -o /dev/null --max-time 5 "$base/api/v1/health" || { echo "FAIL  no answer from $base"; exit 1; }

passed=0 failed=0
echo "$requests increments a row on $base"
row='%11s  %8s  %8s  %8s  %8s  %8s  %7s  %s\n'
# shellcheck disable=SC2059 # the format is ours
printf "$row" connections 'req/s' 'p50 ms' 'p90 ms' 'p99 ms' 'max ms' errors counts
for connections in 1 10 50 100 200; do
  report=$(python3 "$here/load.py" --url "$base" --requests "$requests" --connections "$connections") && good=1 || good=0
  fields=$(python3 -c '
import json, sys
run = json.loads(sys.argv[1] or "{}") or sys.exit("- - - - - - broken-off")
print(run["rps"], run["p50_ms"], run["p90_ms"], run["p99_ms"], run["max_ms"], sum(run["errors"].values()),
      "exact" if run["exact"] else "WRONG:%d/%d" % (run["counted"], run["ok"]))' "$report" 2>&1) || true
  # shellcheck disable=SC2059,SC2086 # one word a column
  printf "$row" "$connections" $fields
  if [ "$good" = 1 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
