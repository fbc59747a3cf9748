#!/usr/bin/env bash
# try.sh [BASE_URL]: waits until the mesh serves, two minutes at most, then counts and reads once through the gateway, and waits
# until the count has come through Kafka into the ranking.
set -euo pipefail
base=${1:-http://127.0.0.1:8080}
began=$SECONDS
until curl -sf --max-time 2 "$base/api/v1/health" >/dev/null; do
  [ $((SECONDS - began)) -lt 120 ] || { echo "try: $base does not serve after two minutes: $(curl -sS --max-time 2 "$base/api/v1/health" 2>&1)" >&2; exit 1; }
  sleep 0.5
done
set -x
curl -sS --fail-with-body --max-time 5 -X POST "$base/api/v1/counter/increment" -d '{"resource_id":"article_001","counter_type":"like","delta":1}'
{ echo; } 2>/dev/null
curl -sS --fail-with-body --max-time 5 "$base/api/v1/counter/article_001/like"
{ set +x; echo; } 2>/dev/null
until hot=$(curl -sS --fail-with-body --max-time 5 "$base/api/v1/counter/hot/like") && [[ $hot == *article_001* ]]; do
  [ $((SECONDS - began)) -lt 180 ] || { echo "try: article_001 is not in the ranking: $hot" >&2; exit 1; }
  sleep 0.5
done
printf '+ curl %s/api/v1/counter/hot/like\n%s\n' "$base" "$hot"
