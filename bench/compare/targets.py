"""What was to be reached, and whether it is."""

import statistics


def rows(bench):
    return [row for part, judge in PARTS.items() if part in bench.runs for row in judge(bench)]


def at_least(work, must, aim, value, unit="×"):
    return row(work, must, aim, value, unit, value >= must, value >= aim)


def at_most(work, must, aim, value, unit="×"):
    return row(work, must, aim, value, unit, value <= must, value <= aim)


def row(work, must, aim, value, unit, is_met, is_aim_met):
    verdict = "aim met" if is_aim_met else "must met" if is_met else "**missed**"
    return [work, f"{must:g} {unit}", f"{aim:g} {unit}", f"{value:.2f} {unit}", verdict]


def over_http(bench, part, key, tool):
    envoy, limit = (beside_best(bench, part, systems, key) for systems in (bench.envoys, bench.limits))
    yield at_least(f"`POST /prime`, 64 connections, against Envoy's transcoder{tool}", 2.5, 4, envoy)
    yield at_least(f"the same against axum answering by itself{tool}", 0.55, 0.8, limit)


def beside_best(bench, part, systems, key):
    best = bench.best(part, systems, key)
    return bench.beside(part, best.name, "per_second", key)


def http(bench):
    yield from over_http(bench, "http", 64, "")
    if ("primacy", 1) in bench.runs["http"]:
        for limit in bench.limits:
            ratio = bench.beside("http", limit.name, "p50_us", 1)
            yield at_most(f"one connection, p50, against {limit.name}, left to the scheduler", 1.6, 1.3, ratio)


def one(bench):
    for limit in bench.limits:
        ratio = bench.beside("one", limit.name, "p50_us")
        yield at_most(f"one connection, p50, against {limit.name}, client and servers apart", 1.6, 1.3, ratio)


def wrk(bench):
    yield from over_http(bench, "wrk", "verified", ", by wrk")


def grpc(bench):
    for key, tool in {"4 x 64": "by h2load", "verified 4 x 64": "verified"}.items():
        envoy, haproxy = (beside_best(bench, "grpc", systems, key) for systems in (bench.envoys, [bench.haproxy]))
        yield at_least(f"gRPC `CheckPrime`, 4 × 64 streams, against Envoy, {tool}", 3, 5, envoy)
        yield at_least(f"the same against HAProxy, {tool}", 1.2, 1.5, haproxy)


def bulk(bench):
    millions = bench.figures("bulk", bench.primacy.name)("per_second") / 1e6
    yield at_least("`POST /primes` as NDJSON, random 63-bit numbers", 1.5, 5, millions, "M/s")


def rate(bench):
    yield at_most(
        "p99.9 at half of the maximum rate", 5, 2, bench.figures("rate", bench.primacy.name)("p999_us") / 1e3, "ms"
    )


def memory(bench):
    nodes = bench.runs["memory"].values()
    yield at_most("a node's memory, idle", 25, 15, max(node["idle"] for node in nodes), "MB")
    yield at_most("the same under all of the above", 120, 60, max(node["most"] for node in nodes), "MB")


def ready(bench):
    yield at_most("`primacy up` until ready", 1, 0.3, statistics.median(bench.runs["ready"]), "s")


PARTS = {
    "http": http,
    "wrk": wrk,
    "grpc": grpc,
    "one": one,
    "bulk": bulk,
    "rate": rate,
    "memory": memory,
    "ready": ready,
}
