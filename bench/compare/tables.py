"""The figures as Markdown."""

import os
import platform
import re
import statistics
import subprocess
from pathlib import Path

import targets


def everything(bench):
    measured = [write(bench) for part, write in PARTS.items() if part in bench.runs]
    reached = table(["work", "must", "aim", "measured", ""], targets.rows(bench))
    return "\n\n".join([machine(), reached, *measured])


def table(columns, rows):
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def number(value):
    return f"{value:,.0f}"


def duration(microseconds):
    return f"{microseconds / 1e3:.2f} ms" if microseconds >= 1e3 else f"{microseconds:.0f} µs"


def latencies(median):
    return [duration(median(figure)) for figure in ("p50_us", "p99_us", "p999_us")]


def cpu(median):
    return f"{median('cpu_us'):.1f} µs"


# ── The machine ──────────────────────────────────────────────────────────────────────────────────────────────────


def said(*command):
    """The first line that a program says."""
    done = subprocess.run(command, capture_output=True, text=True)
    lines = (line.strip() for line in (done.stdout + done.stderr).splitlines())
    return next(filter(None, lines), "?")


def machine():
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    system = re.search(r'PRETTY_NAME="(.*)"', Path("/etc/os-release").read_text())
    kernel = f"{os.cpu_count()} cores, Linux {platform.release()}"
    envoy = re.search(r"/(\d[\d.]*)/", said(os.environ["BENCH_ENVOY"], "--version"))
    versions = [
        f"Primacy {said('git', 'describe', '--always', '--dirty')}",
        said("rustc", "--version"),
        f"Envoy {envoy[1] if envoy else '?'}",
        said("haproxy", "-v").split(" 20")[0],
        said("wrk", "-v").split(" Copyright")[0],
        said("h2load", "--version"),
    ]
    return (
        f"{model[1] if model else platform.machine()}, {kernel}, {system[1] if system else '?'}; all on this one "
        f"machine, load programs included. {'; '.join(versions)}."
    )


# ── Part by part ─────────────────────────────────────────────────────────────────────────────────────────────────


def http(bench):
    rows = []
    for name, connections in sorted(bench.runs["http"], key=lambda key: key[1]):
        median = bench.figures("http", name, connections)
        beside = bench.ratio("http", name, connections)
        rows.append([name, connections, number(median("per_second")), beside, *latencies(median), cpu(median)])
    columns = ["system", "connections", "requests/s", "Primacy beside it", "p50", "p99", "p99.9", "its CPU a request"]
    return "`POST /prime`, random 63-bit numbers, every answer verified:\n\n" + table(columns, rows)


def one(bench):
    rows = []
    for name, key in bench.runs["one"]:
        free = [duration(run["p50_us"]) for run in bench.runs.get("http", {}).get((name, 1), [])]
        rows.append([name, duration(bench.figures("one", name, key)("p50_us")), ", ".join(free) or "–"])
    columns = ["system", "apart", "left to the scheduler, each run"]
    title = "One connection, p50; apart: the client on a core of its own, all else on the others:\n\n"
    return title + table(columns, rows)


def wrk(bench):
    rows = []
    for name, key in bench.runs["wrk"]:
        beside = bench.ratio("wrk", name, key) if key == "verified" else "–"
        rows.append([name, key, number(bench.figures("wrk", name, key)("per_second")), beside])
    columns = ["system", "answers", "requests/s", "Primacy beside it"]
    return "`POST /prime` by wrk, 64 connections:\n\n" + table(columns, rows)


def grpc(bench):
    rows = []
    for system in bench.over_grpc:
        row = [system.name]
        for key in ("4 x 64", "verified 4 x 64"):
            row.append(number(bench.figures("grpc", system.name, key)("per_second")))
            row.append(bench.ratio("grpc", system.name, key))
        row.append(cpu(bench.figures("grpc", system.name, "4 x 64")))
        row.append(number(bench.figures("grpc", system.name, "1 x 1")("per_second")))
        row.append(duration(bench.figures("grpc", system.name, "verified 1 x 1")("p50_us")))
        rows.append(row)
    columns = ["system", "4 × 64 by h2load, requests/s", "Primacy beside it", "4 × 64 verified", "Primacy beside it"]
    columns += ["its CPU a request", "1 × 1 by h2load", "1 × 1 verified, p50"]
    return "gRPC; h2load repeats a 63-bit prime, what is verified are random numbers:\n\n" + table(columns, rows)


def rate(bench):
    rows = []
    for name, key in bench.runs["rate"]:
        median = bench.figures("rate", name, key)
        rows.append([name, number(median("rate")), *latencies(median), duration(median("late_p999_us"))])
    columns = ["system", "requests/s", "p50", "p99", "p99.9", "by which the load program itself was late, p99.9"]
    return "At half of the maximum rate, 64 connections, from when each request was due:\n\n" + table(columns, rows)


def workers(bench):
    rows = []
    for name, count in bench.runs["workers"]:
        median = bench.figures("workers", name, count)
        uneven = f"{bench.deviation('workers', name, count):.1%}"
        rows.append([count, number(median("per_second")), *latencies(median), cpu(median), uneven])
    columns = ["workers", "requests/s", "p50", "p99", "p99.9", "CPU a request", "furthest from an even share"]
    return "Primacy by the number of workers, 64 connections:\n\n" + table(columns, rows)


def memory(bench):
    def row(name, node):
        return [name, *(f"{node[when]:.1f} MB" for when in ("idle", "now", "most"))]

    columns = ["node", "idle", "after all of the above", "the most at any time"]
    return "Memory of a node, resident:\n\n" + table(columns, [row(*node) for node in bench.runs["memory"].items()])


def bulk(bench):
    rounds, samples = bench.runs["bulk"][bench.primacy.name, None], bench.runs["bulk memory"]
    rates = ", ".join(f"{run['per_second'] / 1e6:.2f}" for run in rounds)
    places = (len(samples) // 4, len(samples) // 2, -1) if samples else ()
    grown = ", ".join(f"{max(samples[place].values()):.1f}" for place in places)
    return (
        f"Numbers in bulk as NDJSON, {rounds[0]['right']:,} a run, every result verified: {rates} million a second. "
        f"Memory of the largest node after a quarter, half and all of it: {grown} MB."
    )


def ready(bench):
    starts = bench.runs["ready"]
    median, worst = statistics.median(starts), max(starts)
    return f"`primacy up` until ready, {len(starts)} starts: median {median:.3f} s, worst {worst:.3f} s."


PARTS = {
    "http": http,
    "one": one,
    "wrk": wrk,
    "grpc": grpc,
    "rate": rate,
    "bulk": bulk,
    "memory": memory,
    "workers": workers,
    "ready": ready,
}
