#!/usr/bin/env python3
"""Measures highpress-proxy beside Envoy's transcoder, grpc-gateway and a floor in front of the same gRPC backends, and
beside nginx and pingora that pass plain HTTP through untouched.

Everything is on the loopback and bounded; nothing of the system is changed. Sets the peers up on its first run
(bench/peers/setup.sh) and builds the workspace's programs in release mode. Needs two cores and a quiet machine.
Writes bench/RESULTS.md.
"""

import argparse
import datetime
import os
import subprocess
import sys
import tempfile

import measure
import peers
import report

CLOSED = {
    "get": "GET one counter",
    "increment": "POST increment",
    "batch": "POST batch of 50",
    "blob": "GET 64 KiB",
    "stream": "GET a stream of 1,000 messages",
}
# Requests of the first round, which finds out how many fill the time, and the least of the others.
FEWEST = {"blob": 300, "stream": 30}
# Of --rate.
RATES = {"get": 1, "increment": 1, "batch": 1 / 3, "blob": 1 / 10, "stream": 1 / 60}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="about how long each measurement loads a gateway")
    parser.add_argument("--connections", type=int, nargs="+", default=[64], help="closed loop over HTTP/1.1")
    parser.add_argument("--h2c", metavar="CxS", nargs="*", default=[], help="closed loop over HTTP/2: connections x streams, such as 4x16")
    parser.add_argument("--workloads", nargs="+", choices=CLOSED, default=list(CLOSED))
    parser.add_argument("--peers", nargs="+", choices=peers.STARTERS, default=list(peers.STARTERS))
    parser.add_argument("--rate", type=int, default=3000,
                        help="requests/s of the open loop, for large answers a part of it; 0 leaves it out")
    parser.add_argument("--workers", type=int, default=1, help="threads, and cores from 0, of every gateway that can have more than one")
    parser.add_argument("--foreign", type=float, default=0.05, help="share of a core that other programs may take")
    parser.add_argument("--repeats", type=int, default=3, help="tries at an undisturbed measurement")
    parser.add_argument("--no-build", action="store_true", help="use what is in target/release")
    parser.add_argument("--output", default=os.path.join(peers.ROOT, "bench", "RESULTS.md"))
    return parser.parse_args()


def build():
    subprocess.run(["cargo", "build", "--release", "--locked", "-p", "highpress-proxy", "-p", "highpress-counter",
                    "-p", "load", "-p", "floor"], cwd=peers.ROOT, check=True)


def set_up(options):
    if not options.no_build:
        build()
    if not all(os.path.exists(os.path.join(peers.SET_UP, name)) for name in ("bin/envoy", "bin/grpc-gateway", "all.binpb")):
        subprocess.run([os.path.join(peers.ROOT, "bench", "peers", "setup.sh")], check=True)


def scenarios(options):
    """(title, workload, driver's flags, open loop?)"""
    for workload in options.workloads:
        for connections in options.connections:
            yield f"{CLOSED[workload]}, {connections} connections", workload, ["--connections", str(connections)], False
        for shape in options.h2c:
            connections, streams = shape.split("x")
            yield (f"{CLOSED[workload]}, h2c {connections} × {streams} streams", workload,
                   ["--connections", connections, "--streams", streams], False)
    if options.rate:
        for workload in options.workloads:
            rate = int(options.rate * RATES[workload])
            yield (f"{CLOSED[workload]}, {rate} requests/s, 64 connections", workload,
                   ["--connections", "64", "--rate", str(rate)], True)


def measured(bench, options):
    """[(title, open loop?, [{peer: report}])] after warming up, which also says how many requests fill the time."""
    found = [(title, workload, flags, is_open, []) for title, workload, flags, is_open in scenarios(options)]
    for title, workload, flags, is_open, rounds in found:
        able = [peer for peer in bench.peers if peer.h2c or "--streams" not in flags]
        requests = {}
        for peer in able:
            fewest = FEWEST.get(workload, 3000)
            warm = bench.load(peer, workload, fewest, *flags)
            requests[peer.name] = max(fewest // 3, int(options.seconds * warm["rps"]))
        for turn in range(options.rounds):
            order = able[turn % len(able):] + able[:turn % len(able)]
            run = {peer.name: bench.measure(peer, workload, requests[peer.name], *flags) for peer in order}
            rounds.append(run)
            figures = ", ".join(f"{name} {run[name]['cpu_us']:.1f} µs p99 {run[name]['p99_us'] / 1000:.2f} ms" for name in sorted(run))
            print(f"{title}, round {turn + 1}: {figures}", file=sys.stderr, flush=True)
    return [(title, is_open, rounds) for title, _, _, is_open, rounds in found]


def main():
    options = arguments()
    set_up(options)
    started = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        try:
            for start in (peers.start_counter, peers.start_fixed):
                started.append(start(folder))
            addresses = peers.Backends(*(backend.address for backend in started))
            for name in options.peers:
                started.append(peers.STARTERS[name](addresses, folder, options.workers))
            bench = measure.Bench(started[:2], started[2:], options)
            measure.seed(bench.reader)
            idle = {peer.name: measure.memory_mib(peer.pid) for peer in bench.peers}
            results = measured(bench, options)
            after = {peer.name: measure.memory_mib(peer.pid) for peer in bench.peers}
        finally:
            for process in reversed(started):
                process.stop()
    lines = report.head(options, datetime.date.today().isoformat())
    lines.append("## Full load\n")
    for title, is_open, rounds in results:
        if not is_open:
            lines += report.full_load(title, rounds, options.peers)
    if options.rate:
        lines.append("## Fixed rate\n")
        lines += ["Requests are due at evenly spaced moments; latency counts from the moment a request was due.\n"]
        for title, is_open, rounds in results:
            if is_open:
                lines += report.fixed_rate(title, rounds, options.peers)
    lines += report.memory(idle, after, options.peers)
    with open(options.output, "w") as file:
        file.write("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
