#!/usr/bin/env bash
# The whole mesh on this machine, each part a process of its own: Consul, Redis, Kafka, Prometheus, two counters, analytics, gateway.
usage() {
  cat <<'END'
usage: mesh.sh up | down | status | logs          (or make up, make down, make status, make logs)

up      builds the programs and starts whatever does not run yet, each part when the one before is ready
down    ends what `up` started, and nothing else; what is stored stays for the next time
status  what runs, where, and its log; exit status 1 if something does not
logs    follows all logs

Everything listens on the loopback. State, logs and process ids are in .local of the checkout (MESH_DIR).
Ports, each by its variable:
  GATEWAY_PORT 8080     GATEWAY_ADMIN_PORT 9901      CONSUL_PORT 8500 (HTTP and its page)   REDIS_PORT 16379
  COUNTER1_PORT 50051   COUNTER1_ADMIN_PORT 8081     CONSUL_SERVER_PORT 8300                KAFKA_PORT 19092
  COUNTER2_PORT 50061   COUNTER2_ADMIN_PORT 8091     CONSUL_SERF_PORT 8301                  KAFKA_CONTROLLER_PORT 19093
  ANALYTICS_PORT 50052  ANALYTICS_ADMIN_PORT 8082    CONSUL_DNS_PORT 8600                   PROMETHEUS_PORT 19090
Redis, Kafka and Prometheus are not at their usual ports, where the packages of a distribution may already serve.
PROFILE=dev builds faster programs to compile, slower ones to run; the default is release.
END
}
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export PATH=$PWD/.tools/bin:$PATH

state=${MESH_DIR:-.local}
profile=${PROFILE:-release}
programs=target/$([ "$profile" = dev ] && echo debug || echo "$profile")
PARTS=(consul redis kafka prometheus counter-1 counter-2 analytics gateway)
TOPIC=counter-events

fail() { printf '\nmesh: %s\n' "$*" >&2; exit 1; }
# curl as a probe: quiet, bounded, true only for a good answer.
ask() { curl -sf --noproxy '*' --max-time 2 "$@"; }

# ---- processes: a part is alive if the process that was started for it is, not another one that got its number later.

started_at() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# pid_of PART: its process, or nothing.
pid_of() {
  local pid since
  read -r pid since 2>/dev/null <"$state/pid/$1" || return 1
  [ "$(started_at "$pid")" = "$since" ] && ended_not "$pid" && echo "$pid"
}

# A process that has ended may wait for somebody to take note of it.
ended_not() { case "$(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null)" in '' | Z*) return 1 ;; esac; }

# ---- ports. What runs already keeps its own, whatever the environment of the next call says.

any_runs() {
  local part
  for part in "${PARTS[@]}"; do pid_of "$part" >/dev/null && return; done
  return 1
}
if any_runs && [ -f "$state/ports" ]; then . "$state/ports"; fi
PORTS=(GATEWAY_PORT=8080 GATEWAY_ADMIN_PORT=9901 CONSUL_PORT=8500 CONSUL_SERVER_PORT=8300 CONSUL_SERF_PORT=8301
  CONSUL_DNS_PORT=8600 REDIS_PORT=16379 KAFKA_PORT=19092 KAFKA_CONTROLLER_PORT=19093 PROMETHEUS_PORT=19090 COUNTER1_PORT=50051
  COUNTER1_ADMIN_PORT=8081 COUNTER2_PORT=50061 COUNTER2_ADMIN_PORT=8091 ANALYTICS_PORT=50052 ANALYTICS_ADMIN_PORT=8082)
for entry in "${PORTS[@]}"; do
  name=${entry%=*}
  declare -x "$name=${!name:-${entry#*=}}"
done

# needs_ports PART VARIABLE...: nobody else has them.
needs_ports() {
  local part=$1 variable port who
  shift
  for variable; do
    port=${!variable}
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || continue
    who=$(ss -Hltnp "sport = :$port" 2>/dev/null | sed -n 's/.*users:((\([^)]*\)).*/ by \1/p' | head -1)
    fail "$part cannot start: port $port is taken$who. Give it another one: $variable=$((port + 10000 > 65535 ? port - 10000 : port + 10000)) make up"
  done
}

# begin PART COMMAND...: starts it in the background, its log new.
begin() {
  local part=$1 log=$state/log/$1.log
  shift
  [ ! -f "$log" ] || mv "$log" "$log.before"
  printf '%-11s starting, log %s ' "$part" "$log"
  setsid "$@" >"$log" 2>&1 </dev/null 9>&- &
  printf '%s %s\n' $! "$(started_at $!)" >"$state/pid/$part"
}

# ready PART WHERE PROBE...: waits until the probe succeeds, for a minute at most.
ready() {
  local part=$1 where=$2 log=$state/log/$1.log began=$SECONDS
  shift 2
  until "$@" >/dev/null 2>&1; do
    pid_of "$part" >/dev/null || fail "$part has ended; the end of $log:"$'\n'"$(tail -n 15 "$log")"
    [ $((SECONDS - began)) -lt 60 ] ||
      fail "$part is not ready after a minute (waited for: $*); the end of $log:"$'\n'"$(tail -n 15 "$log")"
    sleep 0.1
  done
  printf '... ready: %s\n' "$where"
}

runs() {
  local pid
  pid=$(pid_of "$1") && printf '%-11s runs already, pid %s, log %s\n' "$1" "$pid" "$state/log/$1.log"
}

# ---- the parts, in the order in which they need each other

up_consul() {
  runs consul && return
  needs_ports consul CONSUL_PORT CONSUL_SERVER_PORT CONSUL_SERF_PORT CONSUL_DNS_PORT
  begin consul consul agent -config-file deploy/local/consul.hcl -data-dir "$state/data/consul" -http-port "$CONSUL_PORT" \
    -server-port "$CONSUL_SERVER_PORT" -serf-lan-port "$CONSUL_SERF_PORT" -dns-port "$CONSUL_DNS_PORT"
  ready consul "http://127.0.0.1:$CONSUL_PORT/ui/" consul_leads
}
consul_leads() { ask "http://127.0.0.1:$CONSUL_PORT/v1/health/service/consul?passing" | grep -q Node; }

up_redis() {
  runs redis && return
  needs_ports redis REDIS_PORT
  mkdir -p "$state/data/redis"
  begin redis redis-server --bind 127.0.0.1 --port "$REDIS_PORT" --dir "$state/data/redis" --save '' \
    --appendonly yes --appendfsync always --maxmemory-policy noeviction
  ready redis "redis-cli -p $REDIS_PORT" redis_answers
}
redis_answers() { [ "$(redis-cli -h 127.0.0.1 -p "$REDIS_PORT" ping)" = PONG ]; }

# Small: a heap that is enough for a desk, compiled no further than it needs.
KAFKA=(java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dlog4j2.configurationFile=deploy/local/log4j2.properties
  -cp '.tools/kafka/libs/*')

up_kafka() {
  runs kafka && return
  needs_ports kafka KAFKA_PORT KAFKA_CONTROLLER_PORT
  local config=$state/data/kafka.properties
  sed -e "s/:9092/:$KAFKA_PORT/g; s/:9093/:$KAFKA_CONTROLLER_PORT/g" -e "s#^log.dirs=.*#log.dirs=$state/data/kafka#" \
    deploy/local/kafka.properties >"$config"
  "${KAFKA[@]}" kafka.tools.StorageTool format --ignore-formatted -t MkU3OEVBNTcwNTJENDM2Qg -c "$config" \
    >"$state/log/kafka-format.log" 2>&1 || fail "kafka's log cannot be made:"$'\n'"$(tail -n 15 "$state/log/kafka-format.log")"
  begin kafka "${KAFKA[@]}" kafka.Kafka "$config"
  ready kafka "127.0.0.1:$KAFKA_PORT, topic $TOPIC" grep -q 'Kafka Server started' "$state/log/kafka.log"
}

up_prometheus() {
  runs prometheus && return
  needs_ports prometheus PROMETHEUS_PORT
  cat >"$state/data/prometheus.yml" <<END
global: { scrape_interval: 5s, scrape_timeout: 4s }
scrape_configs:
  - { job_name: highpress-proxy, static_configs: [{ targets: ["127.0.0.1:$GATEWAY_ADMIN_PORT"] }] }
  - job_name: highpress-counter
    static_configs: [{ targets: ["127.0.0.1:$COUNTER1_ADMIN_PORT", "127.0.0.1:$COUNTER2_ADMIN_PORT"] }]
  - { job_name: highpress-analytics, static_configs: [{ targets: ["127.0.0.1:$ANALYTICS_ADMIN_PORT"] }] }
END
  begin prometheus prometheus --config.file="$state/data/prometheus.yml" --storage.tsdb.path="$state/data/prometheus" \
    --web.listen-address="127.0.0.1:$PROMETHEUS_PORT"
  ready prometheus "http://127.0.0.1:$PROMETHEUS_PORT/targets" ask "http://127.0.0.1:$PROMETHEUS_PORT/-/ready"
}

# up_counter NUMBER: they share Redis, so any of them may be asked.
up_counter() {
  local part=counter-$1 port=COUNTER$1_PORT admin=COUNTER$1_ADMIN_PORT
  runs "$part" && return
  needs_ports "$part" "$port" "$admin"
  begin "$part" "$programs/highpress-counter" --listen "127.0.0.1:${!port}" --admin "127.0.0.1:${!admin}" \
    --store "redis://127.0.0.1:$REDIS_PORT" --events "kafka://127.0.0.1:$KAFKA_PORT/$TOPIC" --consul "http://127.0.0.1:$CONSUL_PORT"
  ready "$part" "gRPC 127.0.0.1:${!port}, http://127.0.0.1:${!admin}/status" ask "http://127.0.0.1:${!admin}/readyz"
}

up_analytics() {
  runs analytics && return
  needs_ports analytics ANALYTICS_PORT ANALYTICS_ADMIN_PORT
  begin analytics "$programs/highpress-analytics" --listen "127.0.0.1:$ANALYTICS_PORT" \
    --admin "127.0.0.1:$ANALYTICS_ADMIN_PORT" --data "$state/data/analytics" \
    --source "kafka://127.0.0.1:$KAFKA_PORT/$TOPIC" --consul "http://127.0.0.1:$CONSUL_PORT"
  ready analytics "gRPC 127.0.0.1:$ANALYTICS_PORT, http://127.0.0.1:$ANALYTICS_ADMIN_PORT/status" \
    ask "http://127.0.0.1:$ANALYTICS_ADMIN_PORT/readyz"
}

up_gateway() {
  runs gateway && return
  needs_ports gateway GATEWAY_PORT GATEWAY_ADMIN_PORT
  export GATEWAY_LISTEN=127.0.0.1:$GATEWAY_PORT GATEWAY_ADMIN=127.0.0.1:$GATEWAY_ADMIN_PORT CONSUL_URL=http://127.0.0.1:$CONSUL_PORT
  begin gateway "$programs/highpress-proxy" run --config deploy/local/mesh.yaml --data "$state/data/gateway"
  ready gateway "http://127.0.0.1:$GATEWAY_PORT, http://127.0.0.1:$GATEWAY_ADMIN_PORT/" found_all
}
# Ready, and it has found both counters and analytics in Consul.
found_all() {
  ask "http://127.0.0.1:$GATEWAY_ADMIN_PORT/readyz" &&
    [ "$(ask "http://127.0.0.1:$GATEWAY_ADMIN_PORT/metrics" |
      awk '/^highpress_endpoints\{.*state="usable"/ { usable += $NF } END { print usable + 0 }')" -ge 3 ]
}

# ---- the commands

up() {
  mkdir -p "$state"/{pid,log,data}
  state=$(realpath "$state")
  exec 9>"$state/lock"
  flock -n 9 || fail "another \`make up\` is at work in $state"
  for entry in "${PORTS[@]}"; do
    name=${entry%=*}
    printf '%s=%s\n' "$name" "${!name}"
  done >"$state/ports"
  printf 'building the programs (cargo build --profile %s)\n' "$profile"
  cargo build --quiet --locked --workspace --profile "$profile" \
    --bin highpress-proxy --bin highpress-counter --bin highpress-analytics
  up_consul
  up_redis
  up_kafka
  up_prometheus
  up_counter 1
  up_counter 2
  up_analytics
  up_gateway
  summary
}

summary() {
  local gateway=http://127.0.0.1:$GATEWAY_PORT
  cat <<END

The mesh runs. Try it:
  curl -X POST $gateway/api/v1/counter/increment -d '{"resource_id":"article_001","counter_type":"like","delta":1}'
  curl $gateway/api/v1/counter/article_001/like
  curl $gateway/api/v1/counter/hot/like              # the ranking, a moment later: counted in Redis, told by Kafka
  deploy/scripts/quick_test.sh $gateway

Look at it:
  gateway     http://127.0.0.1:$GATEWAY_ADMIN_PORT/          endpoints, routes, configuration, metrics
  Consul      http://127.0.0.1:$CONSUL_PORT/ui/       services and their checks
  Prometheus  http://127.0.0.1:$PROMETHEUS_PORT/targets

kill -9 a counter and go on counting: \`make up\` brings it back. \`make logs\` follows the logs, \`make down\` ends it all.
END
}

# end_part PART: SIGTERM, which drains; SIGKILL if that takes longer than any drain may.
end_part() {
  local part=$1 pid began=$SECONDS
  pid=$(pid_of "$part") || { rm -f "$state/pid/$part"; return 0; }
  printf '%-11s ending, pid %s ' "$part" "$pid"
  kill -TERM "$pid" 2>/dev/null || true
  while ended_not "$pid"; do
    if [ $((SECONDS - began)) -ge 45 ]; then
      printf '... does not end: killed '
      kill -KILL "$pid" 2>/dev/null || true
      began=$SECONDS
    fi
    sleep 0.05
  done
  rm -f "$state/pid/$part"
  printf '... ended\n'
}

down() {
  local at
  for ((at = ${#PARTS[@]} - 1; at >= 0; at--)); do end_part "${PARTS[at]}"; done
}

status() {
  local part pid all=0
  for part in "${PARTS[@]}"; do
    if pid=$(pid_of "$part"); then
      printf '%-11s runs, pid %-7s log %s\n' "$part" "$pid" "$state/log/$part.log"
    else
      printf '%-11s does not run\n' "$part"
      all=1
    fi
  done
  return "$all"
}

case "${1:-}" in
  up | down | status) "$1" ;;
  logs) exec tail -n 20 -F "$state"/log/*.log ;;
  -h | --help) usage ;;
  *) usage >&2; exit 2 ;;
esac
