"""From measurements to tables: medians over rounds, ratios taken within a round."""

import os
import platform
import shlex
import sys
from statistics import median

import peers


def shown(value, digits=1):
    return "–" if value is None else f"{value:.{digits}f}"


def rows(results, names):
    """One row a peer of one workload's rounds: [{peer: report}]."""
    for name in names:
        reports = [run[name] for run in results if name in run]
        ratios = [run[name]["cpu_us"] / run["envoy"]["cpu_us"] for run in results if name in run and "envoy" in run]
        middle = lambda key: median(report[key] for report in reports)
        yield {
            "name": name,
            "cpu_us": middle("cpu_us"),
            "ratio": median(ratios) if ratios else None,
            "spread": (min(ratios), max(ratios)) if ratios else None,
            "rps": middle("rps"),
            "p50_us": middle("p50_us"),
            "p99_us": middle("p99_us"),
            "disturbed": sum(report["disturbed"] for report in reports),
        }


def full_load(title, results, names):
    lines = [f"### {title}", "", "| gateway | CPU µs/request | ratio to Envoy (min–max) | requests/s | p50 ms | p99 ms | disturbed |",
             "|---|---:|---:|---:|---:|---:|---:|"]
    for row in rows(results, names):
        spread = f" ({row['spread'][0]:.2f}–{row['spread'][1]:.2f})" if row["spread"] else ""
        lines.append(f"| {row['name']} | {row['cpu_us']:.1f} | **{shown(row['ratio'], 2)}**{spread} | {row['rps']:,.0f} | "
                     f"{row['p50_us'] / 1000:.2f} | {row['p99_us'] / 1000:.2f} | {row['disturbed']} of {len(results)} |")
    return lines + [""]


def fixed_rate(title, results, names):
    lines = [f"### {title}", "", "| gateway | p50 ms | p99 ms | p99.9 ms | CPU µs/request | disturbed |", "|---|---:|---:|---:|---:|---:|"]
    for name in names:
        reports = [run[name] for run in results if name in run]
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


def head(options, when):
    found = peers.versions()
    return [
        "# The gateway beside its peers",
        "",
        f"Written by `{shlex.join(['bench/run.py', *sys.argv[1:]])}` on {when}; `make bench` makes it again.",
        "",
        f"- Machine: {machine()}.",
        *(f"- {name}: {version}." for name, version in found.items()),
        "- Each gateway runs alone on core 0, one worker; the counter service (store in memory) and the load generator (`bench/load`)",
        "  share core 1. Rounds are interleaved and their order rotates; ratios are taken within a round; figures are medians of",
        f"  {options.rounds} rounds. CPU is user and system time of the gateway's process per answered request. Every answer's",
        "  status and content is checked, and every increment is read back: what was answered was counted, exactly.",
        f"- A round in which other programs took more than {options.foreign:.0%} of a core is repeated, up to {options.repeats} times;",
        "  what stayed disturbed is counted in the last column.",
        "- `all-policies` is highpress with every policy switched on: weighted split, sticky by address, with a judged canary, retry,",
        "  hedge, breaker, outlier detection, adaptive concurrency, rate limit, fault, mirror, fallback, header edits, overload.",
        "- `floor` is no gateway: hyper and h2 with fixed messages, what the network alone costs (`bench/floor`).",
        "",
    ]
