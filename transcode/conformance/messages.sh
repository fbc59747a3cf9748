#!/usr/bin/env bash
# Makes messages.binpb again from the suite's own .proto files. They use editions, which need a recent protoc: the one in grpcio-tools.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/package.sh"
[ -x "$tools/venv/bin/python" ] || python3 -m venv "$tools/venv"
"$tools/venv/bin/pip" install --quiet --disable-pip-version-check grpcio-tools
include=$("$tools/venv/bin/python" -c 'import grpc_tools, os; print(os.path.join(os.path.dirname(grpc_tools.__file__), "_proto"))')
cd "$package/include"
"$tools/venv/bin/python" -m grpc_tools.protoc -I. -I"$include" --include_imports --descriptor_set_out="$here/messages.binpb" \
  google/protobuf/test_messages_*.proto
