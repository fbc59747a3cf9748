#!/usr/bin/env bash
# For a machine that reaches no image registry: makes stand-ins for the images that deploy/Dockerfile and deploy/compose.yaml name,
# under the same names, from Debian's packages and from what `make setup` has put into .tools. What is there already is left alone.
# Needs root, podman and debootstrap. BUILD_ARGS are added to every `podman build`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

BASE=docker.io/library/debian:bookworm-slim
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# image NAME [CONTEXT]: builds it from the Dockerfile on standard input, unless there is one of that name.
image() {
  podman image exists "$1" && return
  printf 'bases: %s\n' "$1"
  cat >"$work/Dockerfile"
  # shellcheck disable=SC2086
  podman build --quiet --isolation=chroot --pull=never ${BUILD_ARGS:-} -t "$1" -f "$work/Dockerfile" "${2:-$work}" >/dev/null
}

if ! podman image exists "$BASE"; then
  printf 'bases: %s\n' "$BASE"
  debootstrap --variant=minbase --include=ca-certificates bookworm "$work/root" >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
  rm -rf "$work"/root/var/cache/apt/archives/*.deb "$work"/root/var/lib/apt/lists/*
  tar -C "$work/root" -c . | podman import --quiet - "$BASE" >/dev/null
fi

toolchain=$(rustc --print sysroot)
image docker.io/library/rust:1.95-bookworm "$toolchain" <<END
FROM $BASE
RUN apt-get update && apt-get install -y --no-install-recommends gcc g++ make cmake pkg-config libc6-dev && rm -rf /var/lib/apt/lists/*
COPY bin /usr/local/cargo/bin
COPY lib /usr/local/cargo/lib
ENV CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
END

image docker.io/library/redis:7-bookworm <<END
FROM $BASE
RUN groupadd --gid 999 redis && useradd --uid 999 --gid 999 --home-dir /data redis && install -d -o redis -g redis /data && \\
    apt-get update && apt-get install -y --no-install-recommends redis-server && rm -rf /var/lib/apt/lists/*
VOLUME /data
WORKDIR /data
CMD ["redis-server"]
END

consul=$(PATH=$PWD/.tools/bin:$PATH command -v consul)
image docker.io/hashicorp/consul:1.22 "$(dirname "$(realpath "$consul")")" <<END
FROM $BASE
RUN useradd --uid 100 consul && install -d -o consul -g consul /consul/data /consul/config
COPY $(basename "$(realpath "$consul")") /bin/consul
VOLUME /consul/data
USER consul
# As the image of that name does: \`agent\` gets its directories.
ENTRYPOINT ["/bin/sh", "-c", "if [ \\"\$1\\" = agent ]; then shift; set -- agent -data-dir=/consul/data -config-dir=/consul/config \\"\$@\\"; fi; exec consul \\"\$@\\"", "consul"]
CMD ["agent", "-dev", "-client", "0.0.0.0"]
END

image docker.io/prom/prometheus:v3.5.0 <<END
FROM $BASE
RUN apt-get update && apt-get install -y --no-install-recommends prometheus && rm -rf /var/lib/apt/lists/* && \\
    install -d -o nobody -g nogroup /prometheus
USER nobody
VOLUME /prometheus
WORKDIR /prometheus
ENTRYPOINT ["/usr/bin/prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
END

cat >"$work/run" <<'END'
#!/bin/bash
# What the image of that name does, as far as it is needed here: KAFKA_NODE_ID=1 becomes node.id=1, and the log is made once.
set -euo pipefail
config=/tmp/server.properties
env | sed -n 's/^KAFKA_//p' | while IFS='=' read -r name value; do
  name=${name,,}
  printf '%s=%s\n' "${name//_/.}" "$value"
done >"$config"
java() { command java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp '/opt/kafka/libs/*' "$@"; }
java kafka.tools.StorageTool format --ignore-formatted -t "${CLUSTER_ID:-5L6g3nShT-eMCtK--X86sw}" -c "$config"
exec java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp '/opt/kafka/libs/*' kafka.Kafka "$config"
END
if ! podman image exists docker.io/apache/kafka:4.4.0; then
  mkdir "$work/kafka"
  cp -r .tools/kafka/libs "$work/run" "$work/kafka/"
fi
image docker.io/apache/kafka:4.4.0 "$work/kafka" <<END
FROM $BASE
RUN apt-get update && apt-get install -y --no-install-recommends openjdk-17-jre-headless && rm -rf /var/lib/apt/lists/* && \\
    useradd --uid 1000 appuser && install -d -o appuser -g appuser /var/lib/kafka/data
COPY libs /opt/kafka/libs
COPY --chmod=755 run /etc/kafka/docker/run
USER appuser
VOLUME /var/lib/kafka/data
CMD ["/etc/kafka/docker/run"]
END
