"""From measurements to tables: medians over rounds, ratios taken within a round."""

import os
import platform
import shlex
import sys
from statistics import median

import peers


def ratios(results, name, other):
    """CPU of one to that of another, within each round in which both ran, in order."""
    return sorted(run[name]["cpu_us"] / run[other]["cpu_us"] for run in results if name in run and other in run)


def rows(results, names):
    """One row a peer of one workload's rounds: [{peer: report}]."""
    for name in names:
        reports = [run[name] for run in results if name in run]
        if not reports:
            continue
        middle = lambda key: median(report[key] for report in reports)
        yield {
            "name": name,
            "cpu_us": middle("cpu_us"),
            "to_envoy": ratios(results, name, "envoy"),
            "to_floor": ratios(results, name, "floor"),
            "rps": middle("rps"),
            "p50_us": middle("p50_us"),
            "p99_us": middle("p99_us"),
            "disturbed": sum(report["disturbed"] for report in reports),
        }


def spread(found):
    return f"**{median(found):.2f}** ({found[0]:.2f}–{found[-1]:.2f})" if found else "–"


def full_load(title, results, names):
    lines = [f"### {title}", "", "| gateway | CPU µs/request | ratio to Envoy (min–max) | to the floor | requests/s | p50 ms | p99 ms | disturbed |",
             "|---|---:|---:|---:|---:|---:|---:|---:|"]
    for row in rows(results, names):
        lines.append(f"| {row['name']} | {row['cpu_us']:.1f} | {spread(row['to_envoy'])} | {spread(row['to_floor'])} | {row['rps']:,.0f} | "
                     f"{row['p50_us'] / 1000:.2f} | {row['p99_us'] / 1000:.2f} | {row['disturbed']} of {len(results)} |")
    return lines + [""] + policies(results)


def policies(results):
    """What all policies cost, where both gateways ran: a ratio within each round, as the machine's pace changes between them."""
    found = ratios(results, "all-policies", "highpress")
    if not found:
        return []
    return [f"CPU of `all-policies` to that of `highpress` within a round: median **{median(found):.2f}**, "
            f"all rounds {', '.join(f'{ratio:.2f}' for ratio in found)}.", ""]


def fixed_rate(title, results, names):
    lines = [f"### {title}", "", "| gateway | p50 ms | p99 ms | p99.9 ms | CPU µs/request | disturbed |", "|---|---:|---:|---:|---:|---:|"]
    for name in names:
        reports = [run[name] for run in results if name in run]
        if not reports:
            continue
        middle = lambda key: median(report[key] for report in reports)
        lines.append(f"| {name} | {middle('p50_us') / 1000:.2f} | {middle('p99_us') / 1000:.2f} | {middle('p999_us') / 1000:.2f} | "
                     f"{middle('cpu_us'):.1f} | {sum(report['disturbed'] for report in reports)} of {len(reports)} |")
    return lines + [""]


def memory(idle, after, names):
    lines = ["### Memory", "", "| gateway | RSS idle MiB | after all loads | peak |", "|---|---:|---:|---:|"]
    lines += [f"| {name} | {idle[name]['now']:.0f} | {after[name]['now']:.0f} | {after[name]['peak']:.0f} |" for name in names]
    return lines + [""]


def machine():
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "?")
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}"


def placed(workers):
    if workers == 1:
        return "Each gateway runs alone on core 0, one worker;"
    return f"Gateways have {workers} workers (`floor` and nginx: one) on cores 0 to {workers - 1}, which load and backends share;"


def head(options, when):
    found = peers.versions()
    return [
        "# The gateway beside its peers",
        "",
        f"Written by `{shlex.join(['bench/run.py', *sys.argv[1:]])}` on {when}; `make bench` makes it again.",
        "",
        f"- Machine: {machine()}.",
        *(f"- {name}: {version}." for name, version in found.items()),
        f"- {placed(options.workers)} the counter service (store in memory), the backend",
        "  with fixed answers (64 KiB, stream) and the load generator (`bench/load`) share core 1. Rounds are interleaved and their order rotates; ratios are taken within a round; figures are medians of",
        f"  {options.rounds} rounds. CPU is user and system time of the gateway's process per answered request. Every answer's",
        "  status and content is checked, and every increment is read back: what was answered was counted, exactly.",
        f"- A round in which other programs took more than {options.foreign:.0%} of a core is repeated, up to {options.repeats} times;",
        "  what stayed disturbed is counted in the last column.",
        "- `all-policies` is highpress with every policy switched on: weighted split, sticky by address, with a judged canary, retry,",
        "  hedge, breaker, outlier detection, adaptive concurrency, rate limit, fault, mirror, fallback, header edits, overload.",
        "- `floor` is no gateway: hyper and h2 with fixed messages, what the network alone costs (`bench/floor`). `nginx-plain`,",
        "  `pingora-plain` and `highpress-plain` transcode nothing: they pass HTTP/1.1 and fixed JSON through untouched.",
        "- Streams are NDJSON, of Envoy a JSON array. h2c is not measured of what speaks HTTP/1.1 only on its port.",
        "- Instructions, allocations and system calls of a request: `INSTRUCTIONS.md`; the same on two cores: `RESULTS-2-workers.md`;",
        "  all policies switched on: `RESULTS-policies.md`; what a reload costs: `RESULTS-reload.md`; counting: `RESULTS-counting.md`.",
        "",
    ]
