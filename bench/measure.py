"""One measurement: load on one peer, its CPU time, and whether everything that was answered was also counted."""

import json
import os
import subprocess
import time
import urllib.request

from peers import LOAD_CORE, RELEASE

TICKS = os.sysconf("SC_CLK_TCK")


def stat_fields(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()


def cpu_seconds(pid):
    """User and system time of all threads. The sum follows the scheduler; how it is split is only sampled."""
    fields = stat_fields(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS


def foreign_seconds(ours):
    """CPU time of every process that is not part of the measurement, ended children included."""
    total = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) not in ours:
            try:
                total += sum(map(int, stat_fields(pid)[11:15]))
            except (OSError, ValueError):
                pass
    return total / TICKS


def memory_mib(pid):
    with open(f"/proc/{pid}/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    return {key: int(fields[name].split()[0]) / 1024 for key, name in (("now", "VmRSS"), ("peak", "VmHWM"))}


def ask(address, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{address}{path}", data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def field(document, name):
    """A field in any of the shapes that the peers answer in: enveloped or not, snake or camel case."""
    document = document.get("data", document)
    camel = name.split("_")[0] + "".join(word.capitalize() for word in name.split("_")[1:])
    # Envoy leaves out what is 0.
    return document.get(name, document.get(camel, 0))


def count(address, ids):
    """What the counters hold, together."""
    items = [{"resource_id": resource, "counter_type": "like"} for resource in ids]
    results = field(ask(address, "/api/v1/counter/batch", {"items": items}), "results")
    return sum(int(field(result, "current_value")) for result in results)


def seed(address):
    """Counters that are read must not be 0, which Envoy leaves out."""
    for number in range(10):
        counter = {"resource_id": f"seed-{number}", "counter_type": "like", "delta": 1_000_000 + number}
        ask(address, "/api/v1/counter/increment", counter)


class Bench:
    """The backends, the peers, and a way to read counters that does not depend on who is measured."""

    def __init__(self, backends, peers, options):
        self.backends, self.peers, self.options = backends, peers, options
        self.reader = next(peer for peer in peers if peer.counts and peer.name != "floor").address
        self.runs = 0

    def load(self, peer, workload, requests, *more):
        """The driver's report; raises if anything was not answered or not counted."""
        self.runs += 1
        writes = workload == "increment" and peer.counts
        prefix = f"{peer.name}-{os.getpid()}-{self.runs}" if writes else "seed"
        ids = ["floor"] if peer.name == "floor" else [f"{prefix}-{n}" for n in range(10)]
        before = count(self.reader, ids) if writes else 0
        command = ["taskset", "-c", LOAD_CORE, f"{RELEASE}/load", "--target", peer.address, "--workload", workload,
                   "--requests", str(requests), "--prefix", prefix, *more]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180)
        if done.returncode != 0:
            raise SystemExit(f"{peer.name}, {workload}: {done.stdout}{done.stderr}")
        report = json.loads(done.stdout)
        counted = count(self.reader, ids) - before if writes else requests
        if report["ok"] != requests or counted != requests:
            raise SystemExit(f"{peer.name}, {workload}: {requests} sent, {report['ok']} answered, {counted} counted")
        return report

    def measure(self, peer, workload, requests, *more):
        """Closed or open loop with CPU per request; repeated while other programs disturb it."""
        for attempt in range(self.options.repeats):
            ours = {os.getpid(), *(process.pid for process in [*self.backends, *self.peers])}
            foreign, cpu, started = foreign_seconds(ours), cpu_seconds(peer.pid), time.monotonic()
            report = self.load(peer, workload, requests, *more)
            cpu = cpu_seconds(peer.pid) - cpu
            window = time.monotonic() - started
            report["cpu_us"] = 1e6 * cpu / report["ok"]
            report["foreign"] = (foreign_seconds(ours) - foreign) / window
            report["disturbed"] = report["foreign"] > self.options.foreign
            if not report["disturbed"]:
                break
        return report
