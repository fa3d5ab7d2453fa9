#!/usr/bin/env python3
"""Kills the leader of three saturated nodes, again and again, and takes the time until both others follow the next one.

bench/failover.py [ROUNDS [PROGRAM…]]: 10 rounds with target/release/primacy if nothing else is said. `load` (cargo build
--release --example load) asks the two others over 390 connections of HTTP as fast as it can, and verifies every answer. The
times are those of the nodes' logs.
"""

import datetime
import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

RELEASE = pathlib.Path(__file__).parent.parent / "target/release"
CONNECTIONS = 195
PORT = 15000
LEADS = re.compile(r"^(\S+Z)\s+INFO (\S+) leads")


class Cluster:
    def __init__(self, program, port, folder):
        self.port, self.logs, self.nodes = port, [folder / f"{place}.log" for place in range(3)], []
        for place in range(3):
            peers = ",".join(f"127.0.0.1:{self.grpc(other)}" for other in range(3) if other != place)
            addresses = ["--grpc-addr", f"127.0.0.1:{self.grpc(place)}", "--http-addr", f"127.0.0.1:{self.grpc(place) + 1}"]
            command = [program, "node", "--id", str(place + 1), "--name", f"n{place}", *addresses, "--peers", peers]
            self.nodes.append(subprocess.Popen(command, stderr=self.logs[place].open("w")))

    def grpc(self, place):
        return self.port + 2 * place

    def view(self, place):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.grpc(place) + 1}/cluster", timeout=2) as answer:
            return json.load(answer)

    def leader(self):
        """Which of them leads, when all are alive and follow the same one."""
        for _ in range(400):
            try:
                views = [self.view(place) for place in range(3)]
                names = {(view["leader"] or {}).get("name") for view in views}
                statuses = {member["status"] for view in views for member in view["members"]}
                if len(names) == 1 and None not in names and statuses == {"alive"}:
                    return int(names.pop()[1:])
            except OSError:
                pass
            time.sleep(0.05)
        sys.exit("the nodes did not become a cluster")

    def followed(self, place, after, dead):
        """When this node's log says that it follows another leader, in seconds after that moment."""
        for line in self.logs[place].read_text().splitlines():
            found = LEADS.match(line)
            if found and found[2] != f"n{dead}":
                at = datetime.datetime.fromisoformat(found[1].replace("Z", "+00:00")).timestamp()
                if at > after:
                    return at - after
        sys.exit(f"n{place} follows nobody")

    def end(self):
        for node in self.nodes:
            node.kill()
            node.wait()


def strike(program, port):
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(program, port, pathlib.Path(folder))
        try:
            dead = cluster.leader()
            others = [place for place in range(3) if place != dead]
            options = ["--connections", str(CONNECTIONS), "--seconds", "3"]
            loads = [
                subprocess.Popen(
                    [RELEASE / "examples/load", "http", f"127.0.0.1:{cluster.grpc(place) + 1}", *options],
                    stdout=subprocess.PIPE,
                    text=True,
                )
                for place in others
            ]
            time.sleep(1.2)
            struck = time.time()
            cluster.nodes[dead].kill()
            reports = [json.loads(load.communicate()[0]) for load in loads]
            agreed = max(cluster.followed(place, struck, dead) for place in others)
            failed = sum(report["failed"] + report["wrong"] for report in reports)
            return 1000 * agreed, failed, max(report["max_us"] for report in reports) / 1000
        finally:
            cluster.end()


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    programs = sys.argv[2:] or [RELEASE / "primacy"]
    results = {program: [] for program in programs}
    for number in range(rounds):
        for place, program in enumerate(programs):
            results[program].append(strike(program, PORT + 10 * (number * len(programs) + place)))
    for program, strikes in results.items():
        agreed, failed, slowest = zip(*strikes)
        print(
            f"{program}: agreed after p50 {statistics.median(agreed):.0f}, worst {max(agreed):.0f} ms of {rounds};"
            f" {sum(failed)} failed, slowest answer {max(slowest):.0f} ms"
        )


main()
