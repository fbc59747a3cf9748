"""The programs that are measured: how each is started in front of the same counter service, and what version it is."""

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PEERS = os.path.join(ROOT, ".tools", "peers", "bin")
RELEASE = os.path.join(ROOT, "target", "release")
GATEWAY_CORE, LOAD_CORE = "0", "1"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A started program, pinned to a core."""

    def __init__(self, name, core, command, folder, environment=None):
        self.name = name
        self.log = os.path.join(folder, f"{name}.log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["taskset", "-c", core, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder,
                env={**os.environ, **(environment or {})})
        self.pid = self.process.pid

    def ready_line(self, patience=20):
        """The line `NAME ready: ...`, as addresses by name."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            with open(self.log) as log:
                found = re.search(r"^\S+ ready: (.*)$", log.read(), re.M)
            if found:
                return dict(pair.split(" ", 1) for pair in found[1].split(", "))
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise SystemExit(f"{self.name} did not become ready: see {self.log}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Peer(Process):
    """A gateway under test."""

    def __init__(self, name, command, folder, address=None, environment=None):
        super().__init__(name, GATEWAY_CORE, command, folder, environment)
        self.address = address or self.ready_line()["http"]
        self.wait()

    def wait(self, patience=20):
        deadline = time.monotonic() + patience
        while True:
            try:
                with urllib.request.urlopen(f"http://{self.address}/api/v1/counter/seed/like", timeout=2) as answer:
                    return answer.read()
            except OSError as why:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise SystemExit(f"{self.name} does not answer ({why}): see {self.log}")
                time.sleep(0.05)


def start_counter(folder):
    command = [f"{RELEASE}/highpress-counter", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--store", "memory"]
    counter = Process("counter", LOAD_CORE, command, folder)
    counter.address = counter.ready_line()["grpc"]
    return counter


MESH = """listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
threads: 1
descriptors: [builtin]
{root}clusters:
  - {{ name: counter, protocol: grpc, endpoints: {{ static: ["{backend}"] }}{cluster} }}
  - {{ name: canary, protocol: grpc, endpoints: {{ static: ["{backend}"] }}{cluster} }}
routes:
  - name: counters
    transcode: {{ services: [counter.CounterService], profile: phase1 }}
    timeout: 5s
{route}"""

# Every policy is on and has its work to do; none has a reason to act, but for hedges of the slowest in a thousand.
ALL_POLICIES = {
    "root": "overload: { memory: 16GiB, loop_lag: 10s, connections: 100% }\n",
    "cluster": ", breaker: {}, outlier_detection: {}, adaptive_concurrency: { enabled: true, min: 1000 }",
    "route": """    weighted: [{ cluster: counter, weight: 50 }, { cluster: canary, weight: 50 }]
    hash_on: address
    canary: { cluster: canary, max_error_ratio_over: 50%, max_p99_over: 90000% }
    retry: {}
    hedge: { after: p99.9 }
    rate_limit: { requests: 1000000, per: 1s, burst: 1000000, key: [address] }
    fault: { abort: { status: 503, share: 100% }, header: x-fault }
    mirror: { cluster: canary, share: 0.0001% }
    fallback: [canary]
    request_headers: { set: { x-env: bench } }
    response_headers: { set: { x-served-by: highpress } }
    priority: high
""",
}


def start_gateway(name, policies, backend, folder):
    config = os.path.join(folder, f"{name}.yaml")
    with open(config, "w") as file:
        file.write(MESH.format(backend=backend, **policies))
    return Peer(name, [f"{RELEASE}/highpress-proxy", "run", "--config", config, "--data", f"{config}.data"], folder)


def start_highpress(backend, folder):
    return start_gateway("highpress", {"root": "", "cluster": "", "route": "    to: counter\n"}, backend, folder)


def start_highpress_policies(backend, folder):
    return start_gateway("all-policies", ALL_POLICIES, backend, folder)


def start_envoy(backend, folder):
    port = free_port()
    config = os.path.join(folder, "envoy.json")
    with open(config, "w") as file:
        json.dump(envoy_config(port, backend), file, indent=1)
    command = [f"{PEERS}/envoy", "-c", config, "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
    return Peer("envoy", command, folder, f"127.0.0.1:{port}")


def envoy_config(port, backend):
    host, backend_port = backend.rsplit(":", 1)
    api = "type.googleapis.com/envoy.extensions"
    transcoder = {
        "@type": f"{api}.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        "proto_descriptor": os.path.join(ROOT, "proto/src/generated/descriptor_set.bin"),
        "services": ["counter.CounterService"],
        "match_incoming_request_route": True,
        "convert_grpc_status": True,
        # Without this what it cannot match is passed on as plain HTTP and answered 200 with nothing in it.
        "request_validation_options": {"reject_unknown_method": True, "reject_unknown_query_parameters": True},
    }
    manager = {
        "@type": f"{api}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "edge",
        "codec_type": "AUTO",
        "route_config": {"virtual_hosts": [{
            "name": "all", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "counter", "timeout": "5s"}}]}]},
        "http_filters": [
            {"name": "envoy.filters.http.grpc_json_transcoder", "typed_config": transcoder},
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{api}.filters.http.router.v3.Router"}},
        ],
    }
    http2 = {"@type": f"{api}.upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http2_protocol_options": {}}}
    endpoint = {"address": {"socket_address": {"address": host, "port_value": int(backend_port)}}}
    return {"static_resources": {
        "listeners": [{
            "name": "edge",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}],
        }],
        "clusters": [{
            "name": "counter", "type": "STATIC", "connect_timeout": "1s",
            "load_assignment": {"cluster_name": "counter", "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}]},
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
        }],
    }}


def start_grpc_gateway(backend, folder):
    address = f"127.0.0.1:{free_port()}"
    command = [f"{PEERS}/grpc-gateway", "-listen", address, "-backend", backend]
    return Peer("grpc-gateway", command, folder, address, {"GOMAXPROCS": "1"})


def start_floor(backend, folder):
    command = [f"{RELEASE}/floor", "--listen", "127.0.0.1:0", "--backend", backend]
    return Peer("floor", command, folder)


STARTERS = {"highpress": start_highpress, "all-policies": start_highpress_policies, "envoy": start_envoy, "grpc-gateway": start_grpc_gateway, "floor": start_floor}


def versions():
    def first_line(*command):
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip().splitlines()[0].strip()
        except (OSError, IndexError):
            return "?"
    modules = subprocess.run(["go", "version", "-m", f"{PEERS}/grpc-gateway"], capture_output=True, text=True).stdout
    found = dict(re.findall(r"^\s+dep\s+(\S+)\s+(\S+)", modules, re.M))
    return {
        "highpress": first_line("git", "-C", ROOT, "describe", "--always", "--dirty"),
        "rustc": first_line("rustc", "--version"),
        "envoy": first_line("sh", "-c", f"{PEERS}/envoy --version | grep version").split("version:")[-1].strip(),
        "grpc-gateway": "{} with grpc-go {}, {}".format(
            found.get("github.com/grpc-ecosystem/grpc-gateway/v2", "?"), found.get("google.golang.org/grpc", "?"), first_line("go", "version")),
    }
