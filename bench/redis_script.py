#!/usr/bin/env python3
"""What an exactly-once increment costs Redis: CPU of the server for each, by how many share a call of the script.

    python3 bench/redis_script.py [--increments N] [--aof always|everysec|no]

Starts a redis-server of its own, sends what the counter service sends (the same script, the same arguments), and reads the
server's CPU time. Beside it, in the same run: `redis-benchmark -P` with plain INCRBY on the same server.
"""

import argparse
import collections
import hashlib
import pathlib
import random
import socket
import subprocess
import tempfile
import time

SCRIPT = (pathlib.Path(__file__).parent.parent / "counter/src/store/redis/increment.lua").read_bytes()
COUNTERS, SHARDS = 1000, 4


def command(*words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


class Redis:
    def __init__(self, aof):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.directory = tempfile.TemporaryDirectory()
        append = ["--appendonly", "no"] if aof == "no" else ["--appendonly", "yes", "--appendfsync", aof]
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self.directory.name, *append],
            stdout=subprocess.DEVNULL)
        for _ in range(200):
            try:
                self.socket = socket.create_connection(("127.0.0.1", self.port))
                break
            except OSError:
                time.sleep(0.02)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def cpu(self):
        with open(f"/proc/{self.process.pid}/schedstat") as file:
            return int(file.read().split()[0]) / 1e9

    def read(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"*":
            return [self.read() for _ in range(int(rest))]
        if kind == b"$":
            return self.file.read(int(rest) + 2)[:-2] if rest != b"-1" else None
        if kind == b"-":
            raise SystemExit(rest.decode())
        return rest

    def ask(self, data):
        self.socket.sendall(data)
        return self.read()

    def close(self):
        self.process.kill()
        self.process.wait()


def calls(increments, batch, counters, keys, outbox):
    """The calls that the counter service would make, ready to send: increment.lua and call.rs say what is in them."""
    sha, made = hashlib.sha1(SCRIPT).hexdigest(), []
    for number in range(increments // batch):
        shard = lambda name: hash(name) % SHARDS if outbox else 0
        names = sorted((f"article_{random.randrange(counters):04}:like" for _ in range(batch)), key=lambda name: (shard(name), name))
        runs = [[name, 1] for name in names]
        if len(set(names)) * 4 <= batch * 3:
            runs = [[name, min(255, count - at)] for name, count in collections.Counter(names).items() for at in range(0, count, 255)]
        shards = collections.Counter(shard(name) for name, _ in runs)
        fields = [f"8e03-{random.getrandbits(124):031x} {name}" for name in names] if keys else []
        made.append(command(
            "EVALSHA", sha, 2 + len(runs), "{highpress}:keys:client", "{highpress}:outbox", *(f"counter:{name}" for name, _ in runs),
            3600000, 8 << 30, 110, sum(len(field) + 110 for field in fields) if keys else "",
            SHARDS if outbox else 0, 1 << 40 if outbox and number % 16 == 0 else "", f"{random.getrandbits(64):016x}", "server",
            batch, bytes(count for _, count in runs) if len(runs) < batch else b"", "1", len(shards),
            *(word for pair in sorted(shards.items()) for word in pair), *fields))
    return made


def measure(redis, increments, batch, counters=COUNTERS, keys=True, outbox=True):
    redis.ask(command("FLUSHALL"))
    redis.ask(command("SCRIPT", "LOAD", SCRIPT))
    made = calls(increments, batch, counters, keys, outbox)
    begun = redis.cpu()
    # Two under way at a time, as the service does.
    for first, call in enumerate(made):
        redis.socket.sendall(call)
        if first:
            redis.read()
    redis.read()
    used = redis.cpu() - begun
    total = sum(int(redis.ask(command("GET", f"counter:article_{n:04}:like")) or 0) for n in range(counters))
    sent = len(made) * batch
    assert total == sent, f"{total} counted, {sent} sent"
    if outbox:
        sequences = [int(redis.ask(command("HGET", "{highpress}:outbox", f"seq:{n}")) or 0) for n in range(SHARDS)]
        assert sum(sequences) == sent, f"{sequences} events"
    return used / sent * 1e6


def plain(redis, increments):
    """redis-benchmark with INCRBY, pipelines of 64."""
    redis.ask(command("FLUSHALL"))
    begun = redis.cpu()
    done = subprocess.run(
        ["redis-benchmark", "-p", str(redis.port), "-n", str(increments), "-r", str(COUNTERS), "-P", "64", "-c", "1", "-q",
         "INCRBY", "counter:article___rand_int__:like", "1"],
        capture_output=True, text=True, check=True)
    rate = done.stdout.strip().splitlines()[-1].split("\r")[-1]
    return (redis.cpu() - begun) / increments * 1e6, rate


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--increments", type=int, default=60000)
    parser.add_argument("--aof", choices=["always", "everysec", "no"], default="no")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    redis = Redis(options.aof)
    median = lambda values: sorted(values)[len(values) // 2]
    try:
        version = next(line for line in redis.ask(command("INFO", "server")).decode().splitlines() if line.startswith("redis_version"))
        print(f"{version}, AOF {options.aof}, {options.increments} increments over {COUNTERS} counters, medians of {options.rounds}; µs of server CPU")
        cost, rate = plain(redis, options.increments)
        print(f"redis-benchmark -P 64, plain INCRBY: {cost:.2f}   ({rate})")
        ways = {
            "script, counts alone": dict(keys=False, outbox=False),
            "with events": dict(keys=False, outbox=True),
            "with keys": dict(keys=True, outbox=False),
            "exactly once: keys and events": dict(keys=True, outbox=True),
            "exactly once, one hot counter": dict(keys=True, outbox=True, counters=1),
        }
        batches = [1, 16, 64, 256, 512]
        print(f"{'':32}" + "".join(f"{batch:>8}" for batch in batches))
        for name, way in ways.items():
            costs = [median([measure(redis, options.increments if batch > 1 else options.increments // 6, batch, **way)
                             for _ in range(options.rounds)]) for batch in batches]
            print(f"{name:32}" + "".join(f"{cost:8.2f}" for cost in costs))
    finally:
        redis.close()


if __name__ == "__main__":
    main()
