#!/usr/bin/env python3
"""Measures what a reload costs: reading, compiling and publishing a large mesh.yaml, the CPU time of it, and what
requests feel of it.

Everything is on the loopback and bounded. Builds the workspace's programs in release mode unless told otherwise.
Writes bench/RESULTS-reload.md.
"""

import argparse
import datetime
import json
import os
import re
import signal
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request

import measure
import peers

HEAD = """listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
threads: 1
descriptors: [builtin]
clusters:
"""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["10x1", "250x25", "500x50", "1000x100", "2000x200", "4000x400"],
                        metavar="ROUTESxCLUSTERS")
    parser.add_argument("--felt", default="1000x100", help="the size whose reloads are done under load")
    parser.add_argument("--reloads", type=int, default=15, help="reloads of each size")
    parser.add_argument("--rate", type=int, default=2000, help="requests/s of the open loop")
    parser.add_argument("--seconds", type=int, default=10, help="how long each open loop lasts")
    parser.add_argument("--rounds", type=int, default=3, help="open loops with and without reloads")
    parser.add_argument("--no-build", action="store_true", help="use what is in target/release")
    parser.add_argument("--output", default=os.path.join(peers.ROOT, "bench", "RESULTS-reload.md"))
    return parser.parse_args()


def mesh(backend, routes, clusters, version):
    """Every kind of route and policy in turn; a version differs in all routes."""
    lines = [HEAD.format()]
    for n in range(clusters):
        more = ["", ", breaker: {}", ", outlier_detection: {}", ", health_check: { interval: 5s }"][n % 4]
        lines.append(f'  - {{ name: c{n}, protocol: grpc, endpoints: {{ static: ["{backend}"] }}{more} }}\n')
    lines.append(f"routes:\n  - {{ name: counters, transcode: {{ services: [counter.CounterService], profile: phase1 }}, to: c0, timeout: {5000 + version}ms }}\n")
    for n in range(routes - 1):
        to = f"c{n % clusters}"
        match = [
            f"match: {{ path_prefix: /team{n}/ }}, transcode: {{ services: [counter.CounterService], unannotated: true }}, to: {to}",
            f'match: {{ path: /exact/{n}, methods: [GET] }}, redirect: {{ host: "h{version}.example" }}',
            f'match: {{ path_prefix: /api/v{n}, headers: {{ x-team: "t{n}" }} }}, redirect: {{ path: /v{version} }}',
            f'match: {{ hosts: ["h{n}.example"], path_prefix: / }}, transcode: {{ services: [counter.CounterService] }}, to: {to}, retry: {{}}',
        ][n % 4]
        timeout = "" if "redirect" in match else f", timeout: {5000 + version}ms"
        lines.append(f"  - {{ name: r{n}, {match}{timeout} }}\n")
    return "".join(lines)


class Gateway:
    """A gateway whose reloads are read off its log."""

    def __init__(self, backend, size, folder):
        self.backend, self.routes, self.clusters = backend, *map(int, size.split("x"))
        self.version = 0
        self.config = os.path.join(folder, f"{size}.yaml")
        self.write()
        environment = {"HIGHPRESS_LOG": "info,highpress_proxy=debug,mesh_config=debug", "HIGHPRESS_LOG_FORMAT": "json"}
        command = [f"{peers.RELEASE}/highpress-proxy", "run", "--config", self.config, "--data", f"{self.config}.data"]
        self.process = peers.Process(f"gateway-{size}", peers.GATEWAY_CORE, command, folder, environment)
        try:
            ready = self.process.ready_line(60)
        except SystemExit:
            self.process.stop()
            raise
        self.address, self.admin = ready["http"], ready["admin"]

    def write(self):
        with open(f"{self.config}.new", "w") as file:
            file.write(mesh(self.backend, self.routes, self.clusters, self.version))
        os.rename(f"{self.config}.new", self.config)

    def reload(self):
        """Reloads another version and waits until it is in force."""
        before = self.in_force()
        self.version += 1
        self.write()
        self.process.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 60
        while self.in_force() == before:
            if time.monotonic() > deadline:
                raise SystemExit(f"no reload: see {self.process.log}")
            time.sleep(0.02)

    def in_force(self):
        with open(self.process.log) as log:
            return log.read().count("configuration in force")

    def stages(self):
        """Milliseconds of each stage of each reload."""
        found = {"read": [], "compile": [], "activate": []}
        with open(self.process.log) as log:
            for stage, value in re.findall(r'"(read|compile|activate)_ms":([0-9.e-]+)', log.read()):
                found[stage].append(float(value))
        # The first version was compiled before there was anything to publish it to.
        found["compile"], found["activate"] = found["compile"][1:], found["activate"][1:]
        return found


def cost(backend, size, reloads, folder):
    gateway = Gateway(backend, size, folder)
    try:
        for _ in range(3):
            gateway.reload()
        time.sleep(0.5)
        idle = measure.cpu_seconds(gateway.process.pid)
        time.sleep(2)
        idle = (measure.cpu_seconds(gateway.process.pid) - idle) / 2
        cpu, began = measure.cpu_seconds(gateway.process.pid), time.monotonic()
        for _ in range(reloads):
            gateway.reload()
        took = time.monotonic() - began
        cpu = measure.cpu_seconds(gateway.process.pid) - cpu - idle * took
        stages = {name: statistics.median(times[3:]) for name, times in gateway.stages().items()}
        size_of = os.path.getsize(gateway.config)
        return {"kib": size_of / 1024, "cpu": 1000 * cpu / reloads, **stages, **measure.memory_mib(gateway.process.pid)}
    finally:
        gateway.process.stop()


def load(gateway, options):
    command = ["taskset", "-c", peers.LOAD_CORE, f"{peers.RELEASE}/load", "--target", gateway.address, "--workload", "get",
               "--prefix", "seed", "--connections", "32", "--rate", str(options.rate), "--requests", str(options.rate * options.seconds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    report = json.loads(done.stdout)
    if done.returncode != 0 or report["ok"] != options.rate * options.seconds:
        raise SystemExit(f"requests failed: {done.stdout}{done.stderr}")
    return report


def felt(backend, options, folder):
    """Latencies without reloads, and with one after the other."""
    gateway = Gateway(backend, options.felt, folder)
    quiet, busy, reloads = [], [], 0
    try:
        load(gateway, options)
        for _ in range(options.rounds):
            quiet.append(load(gateway, options))
            done = threading.Event()

            def reload_on():
                nonlocal reloads
                while not done.wait(0.8):
                    gateway.reload()
                    reloads += 1

            thread = threading.Thread(target=reload_on)
            thread.start()
            busy.append(load(gateway, options))
            done.set()
            thread.join()
        return quiet, busy, reloads
    finally:
        gateway.process.stop()


def table(rows):
    head = "| routes x clusters | KiB | read ms | compile ms | activate ms | CPU ms | RSS MiB |\n|---|---:|---:|---:|---:|---:|---:|\n"
    return head + "".join(
        f"| {size.replace('x', ' x ')} | {r['kib']:.0f} | {r['read']:.1f} | {r['compile']:.1f} | {r['activate']:.1f} | {r['cpu']:.0f} | {r['now']:.0f} |\n"
        for size, r in rows)


def latencies(name, reports):
    keys = ("p50_us", "p99_us", "p999_us", "max_us")
    cells = [f"{statistics.median(report[key] for report in reports) / 1000:.2f}" for key in keys]
    return f"| {name} | {' | '.join(cells)} |\n"


def main():
    options = arguments()
    if not options.no_build:
        subprocess.run(["cargo", "build", "--release", "--locked", "-p", "highpress-proxy", "-p", "highpress-counter",
                        "-p", "load"], cwd=peers.ROOT, check=True)
    with tempfile.TemporaryDirectory() as folder:
        counter = peers.start_counter(folder)
        try:
            rows = [(size, cost(counter.address, size, options.reloads, folder)) for size in options.sizes]
            quiet, busy, reloads = felt(counter.address, options, folder)
        finally:
            counter.stop()
    write(options, rows, quiet, busy, reloads)


def write(options, rows, quiet, busy, reloads):
    revision = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=peers.ROOT, capture_output=True, text=True).stdout.strip()
    flags = f"--sizes {' '.join(options.sizes)} --felt {options.felt} --reloads {options.reloads} --rate {options.rate} --seconds {options.seconds} --rounds {options.rounds}"
    requests = options.rate * options.seconds * options.rounds
    text = f"""# What a reload costs

Written by `bench/reload.py {flags}` on {datetime.date.today()}, highpress {revision}. One worker; the gateway's process, its
control threads included, has core 0 for itself, the load generator and the counter core 1.

## By size

Medians of {options.reloads} reloads of a file in which every route has changed. `read` is reading, parsing and checking the file, `compile` builds the
routing table from it, `activate` brings clusters and policies up to date and publishes the table; none of it is done on a worker. CPU is
that of the process for a whole reload, checks and looks at the file taken off.

{table(rows)}
## What requests feel

{options.rate} requests/s, evenly spaced, on a table of {options.felt.replace('x', ' routes x ')} clusters, {options.rounds} x {options.seconds} s each; latency counts from the moment a request was due. With
reloads: {reloads} in {options.rounds * options.seconds} s, on the same core as the worker. Of 2 x {requests:,} requests none failed. Medians of the rounds, in milliseconds:

| | p50 | p99 | p99.9 | max |
|---|---:|---:|---:|---:|
{latencies("no reloads", quiet)}{latencies("reloads", busy)}"""
    with open(options.output, "w") as file:
        file.write(text)
    print(text)


if __name__ == "__main__":
    main()
