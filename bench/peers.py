"""The programs that are measured: how each is started in front of the same backends, and what version it is."""

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from typing import NamedTuple

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SET_UP = os.path.join(ROOT, ".tools", "peers")
PEERS = os.path.join(SET_UP, "bin")
# Of bench.Bench.
DESCRIPTORS = os.path.join(SET_UP, "bench.binpb")
RELEASE = os.path.join(ROOT, "target", "release")
GATEWAY_CORE, LOAD_CORE = "0", "1"
# Seconds for a program to become ready; under callgrind everything takes fifty times as long.
PATIENCE = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A started program, pinned to a core."""

    # What programs are run under, by their names: a tool that watches them.
    under = {}

    def __init__(self, name, core, command, folder, environment=None):
        self.name = name
        self.log = os.path.join(folder, f"{name}.log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["taskset", "-c", core, *self.under.get(name, ()), *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder,
                env={**os.environ, **(environment or {})})
        self.pid = self.process.pid

    def ready_line(self, patience=PATIENCE):
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


class Backends(NamedTuple):
    """Addresses: the counter service, and the backend with fixed answers."""

    counter: str
    fixed: str


class Peer(Process):
    """A gateway under test."""

    # Whether increments reach the counter service, and whether it speaks HTTP/2 in plain text beside HTTP/1.1.
    counts, h2c = True, True

    def __init__(self, name, command, folder, address=None, environment=None, workers=1):
        core = GATEWAY_CORE if workers == 1 else f"0-{workers - 1}"
        super().__init__(name, core, command, folder, environment)
        self.address = address or self.ready_line()["http"]
        self.wait()

    def wait(self, patience=PATIENCE):
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


def start_fixed(folder):
    """Its port speaks gRPC to gateways and HTTP/1.1 to plain proxies."""
    backend = Process("fixed-backend", LOAD_CORE, [f"{RELEASE}/fixed-backend", "--listen", "127.0.0.1:0"], folder)
    backend.address = backend.ready_line()["http"]
    return backend


MESH = """listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
threads: {workers}
descriptors: [builtin, {{ file: "{descriptors}" }}]
{root}clusters:
  - {{ name: counter, protocol: grpc, endpoints: {{ static: ["{counter}"] }}{cluster} }}
  - {{ name: canary, protocol: grpc, endpoints: {{ static: ["{counter}"] }}{cluster} }}
  - {{ name: fixed, protocol: grpc, endpoints: {{ static: ["{fixed}"] }} }}
routes:
  - name: bench
    transcode: {{ services: [bench.Bench] }}
    to: fixed
  - name: counters
    transcode: {{ services: [counter.CounterService], profile: phase1 }}
    timeout: 5s
{route}"""

PLAIN = """listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
threads: {workers}
clusters:
  - {{ name: fixed, protocol: http1, endpoints: {{ static: ["{fixed}"] }} }}
routes:
  - name: all
    match: {{ path_prefix: / }}
    to: fixed
"""

NO_POLICIES = {"root": "", "cluster": "", "route": "    to: counter\n"}

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


def write_mesh(path, template, policies, backends, workers=1):
    values = {**backends._asdict(), **policies, "workers": workers, "descriptors": DESCRIPTORS}
    with open(path, "w") as file:
        file.write(template.format(**values))


def gateway_command(config):
    return [f"{RELEASE}/highpress-proxy", "run", "--config", config, "--data", f"{config}.data"]


def start_gateway(name, template, policies, backends, folder, workers):
    config = os.path.join(folder, f"{name}.yaml")
    write_mesh(config, template, policies, backends, workers)
    return Peer(name, gateway_command(config), folder, workers=workers)


def start_highpress(backends, folder, workers):
    return start_gateway("highpress", MESH, NO_POLICIES, backends, folder, workers)


def start_highpress_policies(backends, folder, workers):
    return start_gateway("all-policies", MESH, ALL_POLICIES, backends, folder, workers)


def start_highpress_plain(backends, folder, workers):
    peer = start_gateway("highpress-plain", PLAIN, {}, backends, folder, workers)
    peer.counts = False
    return peer


def start_envoy(backends, folder, workers):
    port = free_port()
    config = os.path.join(folder, "envoy.json")
    with open(config, "w") as file:
        json.dump(envoy_config(port, backends), file, indent=1)
    command = [f"{PEERS}/envoy", "-c", config, "--concurrency", str(workers), "--disable-hot-restart", "-l", "warning"]
    return Peer("envoy", command, folder, f"127.0.0.1:{port}", workers=workers)


API = "type.googleapis.com/envoy.extensions"


def envoy_config(port, backends):
    transcoder = {
        "@type": f"{API}.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        "proto_descriptor": os.path.join(SET_UP, "all.binpb"),
        "services": ["counter.CounterService", "bench.Bench"],
        "match_incoming_request_route": True,
        "convert_grpc_status": True,
        # Without this what it cannot match is passed on as plain HTTP and answered 200 with nothing in it.
        "request_validation_options": {"reject_unknown_method": True, "reject_unknown_query_parameters": True},
    }
    manager = {
        "@type": f"{API}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "edge",
        "codec_type": "AUTO",
        "route_config": {"virtual_hosts": [{
            "name": "all", "domains": ["*"],
            "routes": [{"match": {"prefix": "/v1/"}, "route": {"cluster": "fixed", "timeout": "15s"}},
                       {"match": {"prefix": "/"}, "route": {"cluster": "counter", "timeout": "5s"}}]}]},
        "http_filters": [
            {"name": "envoy.filters.http.grpc_json_transcoder", "typed_config": transcoder},
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{API}.filters.http.router.v3.Router"}},
        ],
    }
    return {"static_resources": {
        "listeners": [{
            "name": "edge",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}],
        }],
        "clusters": [envoy_cluster(name, address) for name, address in backends._asdict().items()],
    }}


def envoy_cluster(name, address):
    host, port = address.rsplit(":", 1)
    endpoint = {"address": {"socket_address": {"address": host, "port_value": int(port)}}}
    http2 = {"@type": f"{API}.upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http2_protocol_options": {}}}
    return {
        "name": name, "type": "STATIC", "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
    }


def start_grpc_gateway(backends, folder, workers):
    address = f"127.0.0.1:{free_port()}"
    command = [f"{PEERS}/grpc-gateway", "-listen", address, "-backend", backends.counter, "-fixed", backends.fixed]
    return Peer("grpc-gateway", command, folder, address, {"GOMAXPROCS": str(workers)}, workers)


def start_floor(backends, folder, workers):
    """One thread, however many workers the others have."""
    command = [f"{RELEASE}/floor", "--listen", "127.0.0.1:0", "--backend", backends.counter, "--fixed", backends.fixed]
    return Peer("floor", command, folder)


def start_plain_proxy(backends, folder, workers):
    address = f"127.0.0.1:{free_port()}"
    command = [f"{RELEASE}/plain-proxy", "--listen", address, "--backend", backends.fixed, "--threads", str(workers)]
    peer = Peer("pingora-plain", command, folder, address, workers=workers)
    peer.counts = peer.h2c = False
    return peer


# Connections are kept for good, and nothing goes through a file.
NGINX = """daemon off;
master_process off;
pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/nginx-body; proxy_temp_path {folder}/nginx-proxy; fastcgi_temp_path {folder}/nginx-fastcgi;
  uwsgi_temp_path {folder}/nginx-uwsgi; scgi_temp_path {folder}/nginx-scgi;
  keepalive_requests 1000000000;
  upstream fixed {{ server {fixed}; keepalive 1024; keepalive_requests 1000000000; }}
  server {{
    listen {address};
    location / {{
      proxy_pass http://fixed; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffers 32 8k; proxy_max_temp_file_size 0;
    }}
  }}
}}
"""


def start_nginx(backends, folder, workers):
    """One process, however many workers the others have."""
    address, config = f"127.0.0.1:{free_port()}", os.path.join(folder, "nginx.conf")
    with open(config, "w") as file:
        file.write(NGINX.format(folder=folder, address=address, fixed=backends.fixed))
    peer = Peer("nginx-plain", ["nginx", "-e", os.path.join(folder, "nginx.log"), "-c", config], folder, address)
    peer.counts = peer.h2c = False
    return peer


STARTERS = {
    "highpress": start_highpress, "all-policies": start_highpress_policies, "envoy": start_envoy, "grpc-gateway": start_grpc_gateway,
    "floor": start_floor, "nginx-plain": start_nginx, "pingora-plain": start_plain_proxy, "highpress-plain": start_highpress_plain,
}


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
        "nginx": first_line("sh", "-c", "nginx -v 2>&1").split("version:")[-1].strip(),
        "grpc-gateway": "{} with grpc-go {}, {}".format(
            found.get("github.com/grpc-ecosystem/grpc-gateway/v2", "?"), found.get("google.golang.org/grpc", "?"), first_line("go", "version")),
    }
