#!/usr/bin/env python3
"""What counting exactly once costs end to end: gateway, counter, Redis, relay, Kafka and analytics, each its CPU per increment.

    cargo build --release --workspace --bins && bench/counting.py [--requests N] [--rounds N] [--aof always|everysec|no]

Starts everything itself, on free ports. `off`: increments without keys and events. `exactly once`: the gateway gives each a key for its
retries, and each leaves an event; Kafka is away, so that the relay does not take part. Rounds are interleaved; figures are medians.
Then Kafka comes, and the backlog is sent to it and read by analytics. Every count is read back at the end.
"""

import argparse
import pathlib
import re
import subprocess
import tempfile
import time

from measure import ask, cpu_seconds
from peers import RELEASE as PROGRAMS, free_port

ROOT, RELEASE = pathlib.Path(__file__).resolve().parent.parent, pathlib.Path(PROGRAMS)
RETRY = "retry: { attempts: 3, on: [connect, reset, refused_stream, unavailable] }"
JAVA = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.configurationFile=deploy/local/log4j2.properties",
        "-cp", ".tools/kafka/libs/*"]
MESH = """
listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
threads: 1
clusters: [{{ name: counter, protocol: grpc, endpoints: {{ static: ["{counter}"] }} }}]
routes:
  - name: counters
    transcode: {{ services: [counter.CounterService], profile: phase1 }}
    to: counter
    timeout: 10s
    {retry}
"""


class Program:
    """A process, and the addresses in its ready line."""

    def __init__(self, folder, name, *command, ready=True):
        self.log = pathlib.Path(folder) / f"{name}.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([str(word) for word in command], cwd=ROOT, stdout=log, stderr=log)
        for _ in range(600 if ready else 0):
            line = re.search(r" ready: (.*)", self.log.read_text())
            if line:
                self.at = dict(part.split(" ") for part in line[1].split(", "))
                return
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        assert not ready, f"{name} is not ready: {self.log.read_text()}"

    def cpu(self):
        return cpu_seconds(self.process.pid)

    def stop(self):
        self.process.kill()
        self.process.wait()

    @property
    def status(self):
        return ask(self.at["admin"], "/status")


def redis(folder, name, aof):
    port = free_port()
    pathlib.Path(folder, name).mkdir()
    keep = ["--appendonly", "no"] if aof == "no" else ["--appendonly", "yes", "--appendfsync", aof]
    server = Program(folder, name, "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", f"{folder}/{name}", *keep, ready=False)
    server.port = port
    return server


def told(server, *words):
    return subprocess.run(["redis-cli", "-p", str(server.port), *words], capture_output=True, text=True, check=True).stdout


def calls(server):
    """Script calls so far."""
    return sum(int(found) for found in re.findall(r"cmdstat_evalsha:calls=(\d+)", told(server, "INFO", "commandstats")))


class Side:
    """A gateway, a counter, a Redis."""

    def __init__(self, folder, name, options, retry, events):
        self.name, self.options = name, options
        self.redis = redis(folder, f"redis-{name}", options.aof)
        common = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--threads", "1"]
        self.counter = Program(folder, f"counter-{name}", RELEASE / "highpress-counter", *common,
                               "--store", f"redis://127.0.0.1:{self.redis.port}", "--events", events)
        mesh = pathlib.Path(folder, f"{name}.yaml")
        mesh.write_text(MESH.format(counter=self.counter.at["grpc"], retry=retry))
        self.gateway = Program(folder, f"gateway-{name}", RELEASE / "highpress-proxy", "run", "--config", mesh)
        self.sent = 0

    def parts(self):
        return {"redis": self.redis, "counter": self.counter, "gateway": self.gateway}

    def load(self, counters, prefix):
        before = {part: program.cpu() for part, program in self.parts().items()}
        asked, begun, requests = calls(self.redis), time.monotonic(), self.options.requests
        done = subprocess.run([RELEASE / "load", "--target", self.gateway.at["http"], "--workload", "increment", "--requests", str(requests),
                               "--connections", str(self.options.connections), "--counters", str(counters), "--prefix", prefix],
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        took = time.monotonic() - begun
        self.sent += requests
        found = {part: (program.cpu() - before[part]) / requests * 1e6 for part, program in self.parts().items()}
        scripts = calls(self.redis) - asked
        return {"per_second": requests / took, "batch": requests / scripts if scripts else 0, **found}

    def check(self, prefixes):
        total = 0
        for prefix, counters in prefixes.items():
            items = [{"resource_id": f"{prefix}-{n}", "counter_type": "like"} for n in range(counters)]
            answer = ask(self.gateway.at["http"], "/api/v1/counter/batch", {"items": items})
            total += sum(found["current_value"] for found in answer["data"]["results"])
        assert total == self.sent, f"{self.name}: {total} counted, {self.sent} sent"


def kafka(folder, port):
    config, controller = pathlib.Path(folder, "kafka.properties"), free_port()
    text = (ROOT / "deploy/local/kafka.properties").read_text().replace(":9092", f":{port}").replace(":9093", f":{controller}")
    config.write_text(re.sub(r"(?m)^log.dirs=.*", f"log.dirs={folder}/kafka", text))
    subprocess.run([*JAVA, "kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", config], cwd=ROOT, check=True,
                   capture_output=True)
    return Program(folder, "kafka", *JAVA, "kafka.Kafka", config, ready=False)


def drain(side):
    """From the first event that is sent to the last: events a second, and the counter's and Redis' CPU for each."""
    unsent = lambda: side.counter.status["outbox"]["unsent"]
    all_of_it = left = unsent()
    while left == all_of_it:
        begun, before = time.monotonic(), (side.counter.cpu(), side.redis.cpu())
        time.sleep(0.02)
        left = unsent()
    while unsent() != 0:
        time.sleep(0.02)
    took = time.monotonic() - begun
    used = [(after - earlier) / all_of_it * 1e6 for after, earlier in zip((side.counter.cpu(), side.redis.cpu()), before)]
    print(f"relay: {all_of_it} events in {took:.1f} s: {all_of_it / took:,.0f} a second; CPU for each: counter {used[0]:.1f} µs, Redis {used[1]:.1f} µs")


def consume(folder, port, events):
    begun = time.monotonic()
    analytics = Program(folder, "analytics", RELEASE / "highpress-analytics", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
                        "--threads", "1", "--source", f"kafka://127.0.0.1:{port}/counter-events", "--data", f"{folder}/analytics", "--snapshots", "none")
    applied = lambda: int((re.search(r'events_total\{result="applied"\} (\d+)', page(analytics)) or [0, 0])[1])
    idle = analytics.cpu()
    while applied() < events:
        assert time.monotonic() - begun < 120, analytics.log.read_text()
        time.sleep(0.01)
    used = analytics.cpu() - idle
    print(f"analytics: {events} events, {used / events * 1e6:.2f} µs of CPU each: {events / used:,.0f} a second of CPU, with fetching and reading them")
    return analytics


def page(program):
    return subprocess.run(["curl", "-s", f"http://{program.at['admin']}/metrics"], capture_output=True, text=True, check=True).stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=40000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=128)
    parser.add_argument("--aof", choices=["always", "everysec", "no"], default="no")
    options = parser.parse_args()
    median = lambda values: sorted(values)[len(values) // 2]
    programs = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            port = free_port()
            off = Side(folder, "off", options, "", "none")
            once = Side(folder, "once", options, RETRY, f"kafka://127.0.0.1:{port}/counter-events")
            programs += [*off.parts().values(), *once.parts().values()]
            ways = {"off": (off, 1000, "many"), "exactly once": (once, 1000, "many"), "exactly once, one hot counter": (once, 1, "hot")}
            found = {name: [] for name in ways}
            for number in range(options.rounds + 1):
                # Each way goes first as often as last: the machine is not the same all the time.
                turn = number % len(ways)
                for name, (side, counters, prefix) in [*ways.items()][turn:] + [*ways.items()][:turn]:
                    result = side.load(counters, prefix)
                    # The first round warms up.
                    if number:
                        found[name].append(result)
            print(f"{options.requests} increments, {options.connections} connections, AOF {options.aof}, medians of {options.rounds}; CPU in µs for each")
            print(f"{'':32}{'a second':>10}{'in a call':>10}{'Redis':>8}{'counter':>8}{'gateway':>8}")
            for name, results in found.items():
                of = lambda field: median([result[field] for result in results])
                print(f"{name:32}{of('per_second'):10,.0f}{of('batch'):10.1f}{of('redis'):8.2f}{of('counter'):8.2f}{of('gateway'):8.2f}")
            ratios = [a["per_second"] / b["per_second"] for a, b in zip(found["exactly once"], found["off"])]
            print(f"throughput of exactly once beside off, within each round: {median(ratios):.0%} ({min(ratios):.0%} to {max(ratios):.0%})")
            off.check({"many": 1000})
            once.check({"many": 1000, "hot": 1})
            programs.append(kafka(folder, port))
            drain(once)
            programs.append(consume(folder, port, once.sent))
        finally:
            for program in programs:
                program.stop()


if __name__ == "__main__":
    main()
