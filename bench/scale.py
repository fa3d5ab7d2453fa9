#!/usr/bin/env python3
"""What a cluster costs by its number of workers, with Bully and with three etcds: "Scale" in bench/README.md.

Needs a release build of Primacy and of the load program (`cargo build --release --example load`), and `etcd` on the PATH
(Debian: etcd-server). Everything runs on loopback and is ended by its pid.

    bench/scale.py [--workers 1,4,16,64] [--coordinators bully,etcd] [--heartbeat MS]
"""

import argparse
import json
import signal
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "compare"))

from loads import load
from systems import SCRATCH, TARGET, Failed, Processes, System, cpu_seconds, memory_mb, wait_for_port

GRPC_PORT, HTTP_PORT, ETCD_PORT = 21000, 23000, 25000
REST_SECONDS, LOAD_SECONDS, LOADS = 10, 2, 3
#: Until all is settled, however many there are.
PATIENCE_SECONDS = 120


class Cluster:
    """A leader with the highest id, and workers, each in a process of its own."""

    def __init__(self, processes, workers, coordinator, heartbeat_ms):
        self.http = {id: f"127.0.0.1:{HTTP_PORT + id}" for id in range(1, workers + 2)}
        self.leader = workers + 1
        peers = ",".join(f"{id}=127.0.0.1:{GRPC_PORT + id}" for id in self.http)
        flags = ["--peers", peers] if coordinator == "bully" else ["--coordinator", coordinator]
        began = time.monotonic()
        self.processes = {
            id: processes.start(
                f"scale-{id}",
                [TARGET / "release/primacy", "node", "--id", str(id), "--name", self.name(id), *flags,
                 "--grpc-addr", f"127.0.0.1:{GRPC_PORT + id}", "--http-addr", http, "--heartbeat", str(heartbeat_ms)],
            )
            for id, http in self.http.items()
        }  # fmt: skip
        self.wait(lambda view: led_by(view, self.name(self.leader)) and alive(view) == len(self.http))
        self.ready_seconds = time.monotonic() - began

    def name(self, id):
        return f"worker{id}" if id < self.leader else "leader"

    def view(self, id):
        try:
            with urllib.request.urlopen(f"http://{self.http[id]}/cluster", timeout=5) as response:
                return json.load(response)
        except (urllib.error.URLError, OSError):
            return None

    def wait(self, holds):
        """Until it holds for what every node sees, itself included; returns the views."""
        end, views = time.monotonic() + PATIENCE_SECONDS, {}
        while len(views) < len(self.http):
            if time.monotonic() > end:
                raise Failed(f"only {len(views)} of {len(self.http)} nodes are as they must be; the logs are in {SCRATCH}")
            for id in self.http.keys() - views.keys():
                if (view := self.view(id)) and holds(view):
                    views[id] = view
            time.sleep(0.02)
        return views

    def system(self):
        names = [self.name(id) for id in self.http if id != self.leader]
        return System("primacy", [process.pid for process in self.processes.values()],
                      http=self.http[self.leader], workers=names)  # fmt: skip

    def kill_leader(self):
        """The time until the last of the others follows another one, by what they say of when they began."""
        process = self.processes.pop(self.leader)
        del self.http[self.leader]
        killed_ms = time.time() * 1e3
        process.send_signal(signal.SIGKILL)
        process.wait()
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            leaders = [view and view["leader"] for view in map(self.view, self.http)]
            if all(leaders) and len({(leader["id"], leader["counter"]) for leader in leaders}) == 1:
                if leaders[0]["name"] != "leader":
                    return max(leader["since"] for leader in leaders) - killed_ms
            time.sleep(0.05)
        raise Failed("they follow no leader, or several")


def led_by(view, name):
    return view["leader"] and view["leader"]["name"] == name


def alive(view):
    return sum(member["status"] == "alive" for member in view["members"])


def start_etcds(processes, directory):
    """Three, with their default timers; returns what a node is told of them, and their pids."""
    clients = [f"127.0.0.1:{ETCD_PORT + place}" for place in range(3)]
    peers = [f"http://127.0.0.1:{ETCD_PORT + 10 + place}" for place in range(3)]
    members = ",".join(f"e{place}={peer}" for place, peer in enumerate(peers))
    pids = [
        processes.start(
            f"etcd-{place}",
            ["etcd", "--name", f"e{place}", "--data-dir", f"{directory}/e{place}", "--initial-cluster", members,
             "--listen-client-urls", f"http://{client}", "--advertise-client-urls", f"http://{client}",
             "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer],
        ).pid
        for place, (client, peer) in enumerate(zip(clients, peers, strict=True))
    ]  # fmt: skip
    for place, process in enumerate(processes.started):
        wait_for_port(ETCD_PORT + place, process)
    return "etcd://" + ",".join(clients), pids


def packets():
    """Sent over loopback so far: packets, and bytes."""
    line = next(line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("lo:"))
    fields = line.split(":")[1].split()
    return int(fields[9]), int(fields[8])


def at_rest(pids):
    """What each of these processes uses in a second while nobody asks, in milliseconds of CPU, and the network's share."""
    before, packets_before = [cpu_seconds(pid) for pid in pids], packets()
    time.sleep(REST_SECONDS)
    used = [(cpu_seconds(pid) - was) * 1e3 / REST_SECONDS for pid, was in zip(pids, before, strict=True)]
    sent = [(now - was) / REST_SECONDS for now, was in zip(packets(), packets_before, strict=True)]
    return used, sent


def measure(workers, with_etcd, heartbeat_ms):
    with tempfile.TemporaryDirectory() as directory, Processes() as processes:
        coordinator, etcds = start_etcds(processes, directory) if with_etcd else ("bully", [])
        cluster = Cluster(processes, workers, coordinator, heartbeat_ms)
        nodes = {id: process.pid for id, process in cluster.processes.items()}
        leader = nodes.pop(cluster.leader)
        pids = [leader, *nodes.values(), *etcds]
        used, (packets_sent, bytes_sent) = at_rest(pids)
        runs = [load(cluster.system(), "http", 64, LOAD_SECONDS) for _ in range(LOADS)]
        most = {pid: memory_mb(pid, "VmHWM") for pid in pids}
        figure = lambda name: statistics.median(run[name] for run in runs)
        return {
            "workers": workers,
            "coordinator": "etcd" if with_etcd else "bully",
            "ready s": f"{cluster.ready_seconds:.2f}",
            "at rest: leader's CPU, ms/s": f"{used[0]:.1f}",
            "a worker's": f"{statistics.mean(used[1:][:workers]):.1f}",
            "etcd's": f"{sum(used[workers + 1:]):.0f}" if with_etcd else "–",
            "packets/s": f"{packets_sent:,.0f}",
            "kB/s": f"{bytes_sent / 1e3:,.0f}",
            "requests/s": f"{figure('per_second'):,.0f}",
            "p50 ms": f"{figure('p50_us') / 1e3:.2f}",
            "p99 ms": f"{figure('p99_us') / 1e3:.2f}",
            "CPU µs a request": f"{figure('cpu_us'):.1f}",
            "memory at most: leader": f"{most[leader]:.1f} MB",
            "largest worker": f"{max(most[pid] for pid in nodes.values()):.1f} MB",
            "all nodes": f"{sum(most[pid] for pid in [leader, *nodes.values()]):,.0f} MB",
            "leader killed: all follow another after, ms": f"{cluster.kill_leader():,.0f}",
        }


def main():
    parser = argparse.ArgumentParser(description="What a cluster costs by its number of workers.")
    parser.add_argument("--workers", default="1,4,16,64")
    parser.add_argument("--coordinators", default="bully,etcd")
    parser.add_argument("--heartbeat", type=int, default=100, metavar="MS")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    SCRATCH.mkdir(parents=True, exist_ok=True)
    title = None
    for workers in map(int, args.workers.split(",")):
        for coordinator in args.coordinators.split(","):
            figures = measure(workers, coordinator == "etcd", args.heartbeat)
            if not title:
                title = list(figures)
                print("| " + " | ".join(title) + " |\n|" + "---:|" * len(title))
            print("| " + " | ".join(map(str, figures.values())) + " |", flush=True)


main()
