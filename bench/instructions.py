#!/usr/bin/env python3
"""Counts what a request costs the gateway and its peers: instructions in user mode, allocations and system calls.

Instructions and allocations are counted by callgrind, so they hardly depend on what else the machine does; system calls
by strace, under full load. None of it is time: bench/run.py measures that. Needs valgrind and strace. Writes
bench/INSTRUCTIONS.md.
"""

import argparse
import datetime
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time

import measure
import peers
import report
import run

PATIENCE = peers.PATIENCE
# Programs in Go do not run under callgrind.
UNCOUNTED = {"grpc-gateway"}
# Its allocator is built in, and has no name.
NAMELESS = {"envoy"}
# What asks for memory: of mimalloc, of the C library, of tcmalloc.
ALLOCATES = re.compile(r"mi_(heap_)?(m|z|c|re|rez)alloc\w*|(m|c|re)alloc|aligned_alloc|posix_memalign|operator new\b.*|tc_\w*alloc|tc_new\w*")
INSIDE = re.compile(r"_?mi_\w+|(m|c|re)alloc|_int_\w+|tc_\w+")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000, help="that are counted")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--workloads", nargs="+", choices=run.CLOSED, default=["get", "increment", "batch"])
    parser.add_argument("--peers", nargs="+", choices=peers.STARTERS, default=list(peers.STARTERS))
    parser.add_argument("--no-build", action="store_true", help="use what is in target/release")
    parser.add_argument("--keep", metavar="DIR", help="where callgrind's files are kept, for callgrind_annotate")
    parser.add_argument("--output", default=os.path.join(peers.ROOT, "bench", "INSTRUCTIONS.md"))
    return parser.parse_args()


def load(peer, workload, requests, connections):
    command = ["taskset", "-c", peers.LOAD_CORE, f"{peers.RELEASE}/load", "--target", peer.address, "--workload", workload,
               "--requests", str(requests), "--connections", str(connections), "--prefix", "seed"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode != 0 or json.loads(done.stdout)["ok"] != requests:
        raise SystemExit(f"{peer.name}, {workload}: {done.stdout}{done.stderr}")


def counted(name, workload, backends, folder, options):
    """User-mode instructions and allocations of a warm gateway, per request."""
    out = os.path.join(options.keep or folder, f"{name}-{workload}.callgrind")
    peers.Process.under = {name: ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "-q"]}
    peer = peers.STARTERS[name](backends, folder, 1)
    try:
        # Twice: once it is warm, some of what it has learnt (a live p99.9) comes into play.
        load(peer, workload, 3000, options.connections)
        control = lambda *words: subprocess.run(["callgrind_control", *words, str(peer.pid)], check=True, capture_output=True, timeout=PATIENCE)
        control("-z")
        load(peer, workload, options.requests, options.connections)
        control("-d", "counted")
    finally:
        peer.stop()
        peers.Process.under = {}
    with open(f"{out}.1") as dump:
        text = dump.read()
    total = re.search(r"^totals: (\d+)$", text, re.M)
    allocated = None if name in NAMELESS else allocations(text) / options.requests
    return int(total[1]) / options.requests, allocated


def allocations(dump):
    """Calls of an allocator from outside it, in callgrind's format (names are written once, then their numbers)."""
    names, caller, callee, calls = {}, "", "", 0
    for line in dump.splitlines():
        if found := re.match(r"(c?fn)=\((\d+)\)(?: (.*))?$", line):
            name = names.setdefault(found[2], found[3] or "")
            if found[1] == "fn":
                caller = name
            else:
                callee = name
        elif line.startswith("calls=") and ALLOCATES.fullmatch(callee) and not INSIDE.fullmatch(caller):
            calls += int(line[6:].split()[0])
    return calls


def system_calls(name, workload, backends, folder, options):
    """System calls of a gateway under full load, per request: all of them, and the most frequent by name."""
    peer = peers.STARTERS[name](backends, folder, 1)
    table = os.path.join(folder, f"{name}-{workload}.strace")
    try:
        load(peer, workload, 3000, 64)
        tracer = subprocess.Popen(["strace", "-c", "-f", "-qq", "-o", table, "-p", str(peer.pid)],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_tracer(peer.pid)
        load(peer, workload, options.requests, 64)
        tracer.send_signal(2)
        tracer.wait(PATIENCE)
    finally:
        peer.stop()
    calls = {}
    with open(table) as file:
        for line in file:
            if found := re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line):
                calls[found[2]] = int(found[1]) / options.requests
    calls.pop("total", None)
    most = sorted(calls, key=calls.get, reverse=True)[:3]
    return sum(calls.values()), ", ".join(f"{call} {calls[call]:.2f}" for call in most)


def wait_for_tracer(pid):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        tasks = [f"/proc/{pid}/task/{task}/status" for task in os.listdir(f"/proc/{pid}/task")]
        if all(re.search(r"^TracerPid:\s*[1-9]", open(task).read(), re.M) for task in tasks):
            return
        time.sleep(0.02)
    raise SystemExit("strace did not attach")


def shown(number, form):
    return "–" if number is None else f"{number:{form}}"


def table(found):
    lines = ["| request | gateway | instructions | to highpress | allocations | system calls | the most frequent |", "|---|---|---:|---:|---:|---:|---|"]
    for workload, rows in found:
        base = rows.get("highpress", (None,))[0]
        for name, (instructions, allocated, (calls, most)) in rows.items():
            cells = (shown(instructions, ",.0f"), shown(instructions and base and instructions / base, ".2f"), shown(allocated, ".2f"))
            lines.append(f"| {run.CLOSED[workload]} | {name} | {' | '.join(cells)} | {calls:.2f} | {most} |")
    return lines


def main():
    options = arguments()
    if not options.no_build:
        run.build()
    found = []
    with tempfile.TemporaryDirectory(prefix="instructions-") as folder:
        started = [peers.start_counter(folder), peers.start_fixed(folder)]
        backends = peers.Backends(*(backend.address for backend in started))
        try:
            seeder = peers.start_highpress(backends, folder, 1)
            measure.seed(seeder.address)
            seeder.stop()
            for workload in options.workloads:
                rows = {}
                for name in options.peers:
                    watched = (None, None) if name in UNCOUNTED else counted(name, workload, backends, folder, options)
                    rows[name] = (*watched, system_calls(name, workload, backends, folder, options))
                    print(f"{workload}, {name}: {rows[name]}", file=sys.stderr, flush=True)
                found.append((workload, rows))
        finally:
            for backend in started:
                backend.stop()
    version = peers.versions()["highpress"]
    lines = [
        "# What a request costs the gateway, counted",
        "",
        f"Written by `{shlex.join(['bench/instructions.py', *sys.argv[1:]])}` on {datetime.date.today().isoformat()}, highpress {version}.",
        "",
        f"- Machine: {report.machine()}.",
        f"- Instructions: in user mode, by callgrind, {options.requests:,} requests of {options.connections} connections to a warm gateway with one worker.",
        "- Allocations: calls of the allocator, counted in the same run; memory that is used again is none.",
        "- System calls: by strace, under full load of 64 connections. How many requests share one depends on how many come at once.",
        "- The gateways are those of `bench/run.py`; grpc-gateway, a Go program, does not run under callgrind, and Envoy's allocator",
        "  has no name in it. No count is time:",
        "  see `RESULTS.md` and `RESULTS-policies.md` for that.",
        "",
        *table(found),
        "",
    ]
    with open(options.output, "w") as file:
        file.write("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
