#!/usr/bin/env python3
"""A small HTTP/1.1 load driver with nothing but Python: a fixed number of increments over keep-alive connections.

load_test.sh and performance_test.sh use it. It counts what was answered, then reads the counters back and says whether
the mesh counted exactly that. Prints one JSON object. For figures that measure the mesh rather than Python, see bench/.
"""

import argparse
import asyncio
import json
import sys
import time
import urllib.parse
import uuid

TIMEOUT = 30  # seconds for any one answer


class Connection:
    """One keep-alive connection, opened again when it breaks or the server closes it."""

    def __init__(self, host, port):
        self.host, self.port = host, port
        self.reader = self.writer = None

    async def exchange(self, method, path, body):
        """Status and body. The request is sent once: a broken connection is the caller's error to count."""
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        head = f"{method} {path} HTTP/1.1\r\nhost: {self.host}:{self.port}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        try:
            self.writer.write(head.encode() + body)
            return await asyncio.wait_for(self.answer(), TIMEOUT)
        except BaseException:
            self.close()
            raise

    async def answer(self):
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = dict(line.lower().split(":", 1) for line in lines[1:] if ":" in line)
        if "chunked" in headers.get("transfer-encoding", ""):
            body = await self.chunks()
        else:
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        if "close" in headers.get("connection", ""):
            self.close()
        return status, body

    async def chunks(self):
        body = b""
        while size := int((await self.reader.readline()).split(b";")[0], 16):
            body += await self.reader.readexactly(size)
            await self.reader.readline()
        await self.reader.readuntil(b"\r\n")
        return body

    def close(self):
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


class Load:
    """One run: requests handed out to connections until there are none left."""

    def __init__(self, options):
        url = urllib.parse.urlsplit(options.url)
        self.host, self.port = url.hostname, url.port or 80
        self.base = url.path.rstrip("/")
        self.requests, self.connections = options.requests, options.connections
        run = uuid.uuid4().hex[:12]
        self.ids = [f"load-{run}-{n}" for n in range(options.counters)]
        self.left = self.requests
        self.counted = dict.fromkeys(self.ids, 0)
        self.latencies, self.errors = [], {}

    async def worker(self):
        connection = Connection(self.host, self.port)
        while self.left > 0:
            self.left -= 1
            resource = self.ids[self.left % len(self.ids)]
            body = json.dumps({"resource_id": resource, "counter_type": "load", "delta": 1}).encode()
            started = time.perf_counter()
            try:
                status, answer = await connection.exchange("POST", f"{self.base}/api/v1/counter/increment", body)
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, ValueError) as why:
                self.failed(type(why).__name__)
                continue
            self.latencies.append(time.perf_counter() - started)
            if status == 200 and json.loads(answer)["data"]["success"] is True:
                self.counted[resource] += 1
            else:
                self.failed(f"status {status}")
        connection.close()

    def failed(self, why):
        self.errors[why] = self.errors.get(why, 0) + 1

    async def read_back(self):
        """What the mesh says the counters are."""
        items = [{"resource_id": resource, "counter_type": "load"} for resource in self.ids]
        connection = Connection(self.host, self.port)
        status, answer = await connection.exchange("POST", f"{self.base}/api/v1/counter/batch", json.dumps({"items": items}).encode())
        connection.close()
        if status != 200:
            raise SystemExit(f"reading the counters back gave {status}: {answer.decode()}")
        return {result["resource_id"]: result["current_value"] for result in json.loads(answer)["data"]["results"]}

    async def run(self):
        started = time.perf_counter()
        await asyncio.gather(*(self.worker() for _ in range(self.connections)))
        seconds = time.perf_counter() - started
        return self.report(seconds, await self.read_back())

    def report(self, seconds, stored):
        times = sorted(self.latencies) or [0.0]
        quantile = lambda share: round(1000 * times[min(len(times) - 1, int(share * len(times)))], 3)
        return {
            "requests": self.requests,
            "connections": self.connections,
            "ok": sum(self.counted.values()),
            "errors": self.errors,
            "seconds": round(seconds, 3),
            "rps": round(len(self.latencies) / seconds),
            "p50_ms": quantile(0.50),
            "p90_ms": quantile(0.90),
            "p99_ms": quantile(0.99),
            "max_ms": round(1000 * times[-1], 3),
            "counted": sum(stored.values()),
            "exact": stored == self.counted,
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="base URL of the gateway")
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--connections", type=int, default=5)
    parser.add_argument("--counters", type=int, default=10, help="how many counters the increments go to")
    report = asyncio.run(Load(parser.parse_args()).run())
    json.dump(report, sys.stdout)
    print()
    sys.exit(0 if report["exact"] and not report["errors"] else 1)


if __name__ == "__main__":
    main()
