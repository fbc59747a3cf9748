#!/usr/bin/env bash
# A smoke test of the HTTP API: every path once, errors too.
usage() {
  cat <<'END'
usage: quick_test.sh [BASE_URL]     (or BASE_URL in the environment; default http://127.0.0.1:8080)

Asks every path of the API once, the errors among them, and prints PASS or FAIL for each. Uses a counter of its own.
Exit status: 0 if all pass, 1 if not, 2 for bad arguments. Needs bash, curl and python3.
END
}
set -euo pipefail
case "${1:-}" in -h | --help) usage; exit 0 ;; -*) usage >&2; exit 2 ;; esac
base=${1:-${BASE_URL:-http://127.0.0.1:8080}}
id=quick-$$-$RANDOM$RANDOM
passed=0 failed=0

# check NAME STATUS CONDITION CURL_ARGS...: CONDITION is Python over `b`, the JSON body.
check() {
  local name=$1 status=$2 condition=$3 answer got body why
  shift 3
  answer=$(curl -sS --max-time 10 -w '\n%{http_code}' "$@" 2>&1) || true
  got=${answer##*$'\n'} body=${answer%$'\n'*}
  if [ "$got" != "$status" ]; then
    why="status $got instead of $status"
  elif ! why=$(python3 -c 'import json, sys
b = json.loads(sys.argv[1])
sys.exit(0 if eval(sys.argv[2]) else "not so: " + sys.argv[2])' "$body" "$condition" 2>&1); then
    why=${why##*$'\n'}
  else
    printf 'PASS  %s\n' "$name"
    passed=$((passed + 1))
    return
  fi
  printf 'FAIL  %s: %s\n      %s\n' "$name" "$why" "${body:0:300}"
  failed=$((failed + 1))
}

api=$base/api/v1
json=(-H 'Content-Type: application/json')
post() { # NAME STATUS CONDITION PATH BODY
  check "$1" "$2" "$3" -X POST "${json[@]}" -d "$5" "$api$4"
}
counter="\"resource_id\":\"$id\",\"counter_type\":\"like\""
invalid='set(b) == {"error", "details"} and b["error"] == "Invalid request format"'
error() { printf 'b["status"] == "error" and b["error"] == "%s" and b["details"]' "$1"; }

echo "smoke test of $base"
check 'health' 200 'b["status"] == "success" and b["data"]["status"] == "healthy"' "$api/health"

post 'increment' 200 "b['data']['current_value'] == 5 and b['data']['success'] is True and b['data']['resource_id'] == '$id'" \
  /counter/increment "{$counter,\"delta\":5}"
post 'increment by one when no delta is given' 200 'b["data"]["current_value"] == 6' /counter/increment "{$counter}"
post 'decrement' 200 'b["data"]["current_value"] == 3' /counter/increment "{$counter,\"delta\":-3}"
check 'read' 200 "b['data']['current_value'] == 3 and type(b['data']['updated_at']) is int" "$api/counter/$id/like"
check 'a counter that was never written is 0' 200 'b["data"]["current_value"] == 0' "$api/counter/$id/view"
post 'batch' 200 '[r["current_value"] for r in b["data"]["results"]] == [3, 0] and b["data"]["total"] == 2' \
  /counter/batch "{\"items\":[{$counter},{\"resource_id\":\"$id\",\"counter_type\":\"view\"}]}"
check 'hot list' 200 'b["data"]["period"] == "day" and b["data"]["total"] == len(b["data"]["counters"])' "$api/counter/hot/like"
check 'hot list with limit and period' 200 'b["data"]["period"] == "hour" and b["data"]["total"] <= 3' \
  "$api/counter/hot/like?limit=3&period=hour"
for view in pools object-pools grpc-pools kafka metrics/stats services/health; do
  check "system/$view" 200 'b["status"] == "success" and b["data"]' "$api/system/$view"
done

post 'not JSON is 400' 400 "$invalid" /counter/increment 'not json'
post 'a missing field is 400' 400 "$invalid" /counter/increment '{"counter_type":"like"}'
post 'an empty id is 400' 400 "$invalid" /counter/increment '{"resource_id":"","counter_type":"like"}'
post 'a delta in quotes is 400' 400 "$invalid" /counter/increment "{$counter,\"delta\":\"1\"}"
post 'a fraction is 400' 400 "$invalid" /counter/increment "{$counter,\"delta\":1.5}"
post 'an empty batch is 400' 400 "$invalid" /counter/batch '{"items":[]}'
check 'limit=0 is 400' 400 "$invalid" "$api/counter/hot/like?limit=0"
check 'an unknown period is 400' 400 "$invalid" "$api/counter/hot/like?period=year"
check 'an unknown path is 404' 404 "$(error 'Not found')" "$api/nothing/here"
check 'a wrong method is 405' 405 "$(error 'Method not allowed')" -X DELETE "$api/counter/increment"
large=$(mktemp)
trap 'rm -f "$large"' EXIT
python3 -c 'print("{\"x\":\"" + "x" * (5 << 20) + "\"}")' >"$large"
check 'a body over 4 MiB is 413' 413 "$(error 'Request too large')" -X POST "${json[@]}" -H 'Expect:' --data-binary "@$large" "$api/counter/increment"
post 'an overflow is 500' 500 "$(error 'Failed to increment counter')" /counter/increment "{$counter,\"delta\":9223372036854775807}"
check 'and counts nothing' 200 'b["data"]["current_value"] == 3' "$api/counter/$id/like"

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
