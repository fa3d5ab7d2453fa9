"""What is measured, part by part. Systems take turns within each round, so that the machine's drift meets all alike."""

import os
import statistics
import threading
import time
from collections import Counter
from pathlib import Path

from loads import h2load, load, ndjson, settle, wrk
from systems import Cluster, memory_mb, start_envoy, start_haproxy, start_limit

#: How far the share of a worker may be from an even one.
SHARE_TOLERANCE = 0.2
#: The parts whose answers say who gave them.
SHARED = {"http", "one", "wrk", "grpc", "rate", "bulk", "workers"}
HTTP_PORT, GRPC_PORT = 18080, 15050
#: The clusters of other sizes, and those that are only started.
OTHER_HTTP_PORT, OTHER_GRPC_PORT = 18400, 15400


class Plan:
    """How long and how often."""

    def __init__(self, quick):
        self.http_rounds = 2 if quick else 5
        self.rounds = 1 if quick else 5
        self.seconds = 1 if quick else 2
        self.connections = [1, 64] if quick else [1, 16, 64, 256, 1024]
        self.worker_counts = [1, 3] if quick else [1, 2, 3, 8, 32]
        self.rate_seconds = 3 if quick else 8
        self.starts = 3 if quick else 10
        self.millions = 1 if quick else 10


class Bench:
    """The systems, running, and the figures of all runs."""

    def __init__(self, plan, cluster, processes):
        self.plan, self.cluster, self.runs = plan, cluster, {}
        self.primacy = cluster.system()
        self.envoys = [start_envoy(processes, cluster, threads, 18200 + threads, 15200 + threads) for threads in (1, 2)]
        self.limits = [start_limit(processes, threads, 18300 + threads, 15300 + threads) for threads in (1, 2)]
        self.haproxy = start_haproxy(processes, cluster, 15500)
        self.over_http = [self.primacy, *self.envoys, *self.limits]
        self.over_grpc = [self.primacy, *self.envoys, self.haproxy, *self.limits]
        time.sleep(1)
        self.idle_mb = {name: memory_mb(pid, "VmRSS") for name, pid in cluster.pids.items()}

    def round(self, part, systems, run, key=None):
        """One run of each."""
        for system in systems:
            self.runs.setdefault(part, {}).setdefault((system.name, key), []).append(run(system))
            settle()

    def figures(self, part, name, key=None):
        """The median of each figure, by its name."""
        runs = self.runs[part][name, key]
        return lambda figure: statistics.median(run[figure] for run in runs)

    def beside(self, part, name, figure, key=None):
        """Primacy's figure as a multiple of another's."""
        return self.figures(part, self.primacy.name, key)(figure) / self.figures(part, name, key)(figure)

    def ratio(self, part, name, key=None):
        return f"{self.beside(part, name, 'per_second', key):.2f}"

    def deviation(self, part, name, key=None):
        """How far the worker that is furthest from an even share was from it, over all rounds."""
        runs = self.runs[part][name, key]
        shares = sum((Counter(run["shares"]) for run in runs), Counter())
        even = shares.total() / len(runs[0]["workers"])
        return max(abs(shares[worker] / even - 1) for worker in runs[0]["workers"])

    def uneven(self):
        """What was not shared evenly among equal workers."""
        for part in SHARED & self.runs.keys():
            for (name, key), runs in self.runs[part].items():
                deviation = self.deviation(part, name, key) if "workers" in runs[0] else 0
                if deviation > SHARE_TOLERANCE:
                    yield f"{part}, {name}, {key}: a share is {deviation:.0%} from even"

    def best(self, part, systems, key=None):
        """The fastest, of those that are tried in several layouts."""
        return max(systems, key=lambda system: self.figures(part, system.name, key)("per_second"))


def measure_http(bench):
    for _ in range(bench.plan.http_rounds):
        for connections in bench.plan.connections:
            bench.round("http", bench.over_http, over_http(bench, connections), connections)


def over_http(bench, connections):
    return lambda system: load(system, "http", connections, bench.plan.seconds)


def measure_one(bench):
    """One connection, the client on a core of its own and all else on the others, as if the client were elsewhere. Left
    alone, the scheduler puts a lone client and a lone server on one core in some runs and not in others, which changes
    a latency by more than what is compared."""
    first, *others = sorted(os.sched_getaffinity(0))
    pids = {pid for system in bench.over_http for pid in system.pids}
    try:
        pin(pids, others)
        for _ in range(bench.plan.rounds):
            bench.round("one", bench.over_http, apart(first))
    finally:
        pin(pids, [first, *others])


def apart(core):
    return lambda system: load(system, "http", 1, 1, prefix=["taskset", "-c", core])


def pin(pids, cores):
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores)


def measure_wrk(bench):
    """A load program that everybody knows, at 64 connections; and what verifying costs it."""

    def run(check):
        return lambda system: wrk(system, 64, bench.plan.seconds, check)

    for _ in range(bench.plan.rounds):
        bench.round("wrk", bench.over_http, run(check=True), "verified")
        bench.round("wrk", [bench.primacy, bench.limits[0]], run(check=False), "unverified")


def measure_grpc(bench):
    """4 connections of 64 streams, and a single stream. Each system is verified right before h2load believes it."""
    many = bench.plan.seconds
    runs = {
        "verified 4 x 64": lambda system: load(system, "grpc", 4, many, streams=64),
        "4 x 64": lambda system: h2load(system, 4, 64, many),
        "verified 1 x 1": lambda system: load(system, "grpc", 1, 1, streams=1),
        "1 x 1": lambda system: h2load(system, 1, 1, 1),
    }
    for _ in range(bench.plan.rounds):
        for key, run in runs.items():
            bench.round("grpc", bench.over_grpc, run, key)


def measure_rate(bench):
    """Latency at half of the rate that was the most, without coordinated omission: requests are due at fixed times."""
    if "http" not in bench.runs:
        bench.round("http", bench.over_http, over_http(bench, 64), 64)
    systems = [bench.primacy, *(bench.best("http", several, 64) for several in (bench.envoys, bench.limits))]
    for _ in range(min(bench.plan.rounds, 3)):
        bench.round("rate", systems, lambda system: at_half(bench, system))


def at_half(bench, system):
    rate = round(bench.figures("http", system.name, 64)("per_second") / 2)
    return {**load(system, "http", 64, bench.plan.rate_seconds, rate=rate), "rate": rate}


def measure_workers(bench):
    for count in bench.plan.worker_counts:
        with Cluster(count, OTHER_HTTP_PORT, OTHER_GRPC_PORT) as cluster:
            time.sleep(0.5)
            for _ in range(min(bench.plan.rounds, 3)):
                bench.round("workers", [cluster.system()], over_http(bench, 64), count)


def measure_ready(bench):
    bench.runs["ready"] = []
    for _ in range(bench.plan.starts):
        with Cluster(3, OTHER_HTTP_PORT, OTHER_GRPC_PORT) as cluster:
            bench.runs["ready"].append(cluster.ready_seconds)


def measure_bulk(bench):
    """Numbers in bulk as NDJSON, and the memory of each node meanwhile."""
    samples, stopped = [], threading.Event()
    sampling = threading.Thread(target=sample_memory, args=(bench.cluster.pids, samples, stopped))
    sampling.start()
    try:
        for _ in range(min(bench.plan.rounds, 3)):
            bench.round("bulk", [bench.primacy], lambda system: ndjson(system, bench.plan.millions))
    finally:
        stopped.set()
        sampling.join()
    bench.runs["bulk memory"] = samples


def sample_memory(pids, samples, stopped):
    while not stopped.wait(0.25):
        samples.append({name: memory_mb(pid, "VmRSS") for name, pid in pids.items()})


def measure_memory(bench):
    """After all the others: what is resident, and the most that ever was."""
    bench.runs["memory"] = {
        name: {"idle": bench.idle_mb[name], "now": memory_mb(pid, "VmRSS"), "most": memory_mb(pid, "VmHWM")}
        for name, pid in bench.cluster.pids.items()
    }


#: In the order in which they are measured.
PARTS = {
    "http": measure_http,
    "one": measure_one,
    "wrk": measure_wrk,
    "grpc": measure_grpc,
    "rate": measure_rate,
    "bulk": measure_bulk,
    "memory": measure_memory,
    "workers": measure_workers,
    "ready": measure_ready,
}
