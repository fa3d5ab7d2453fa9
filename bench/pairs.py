#!/usr/bin/env python3
"""Compares two builds of a node in interleaved pairs: requests a second, processor time a request, and the median latency.

bench/pairs.py BEFORE AFTER [PAIRS]: paths of two `primacy` programs; 12 pairs if nothing else is said. Each measurement has
a cluster of its own, a leader and a worker, which `load` (cargo build --release --example load) asks for a second or two.
Of the changes of all pairs the median is printed, and the interval in which it lies with 95 %.
"""

import json
import math
import pathlib
import statistics
import subprocess
import sys
import time
import urllib.request

LOAD = pathlib.Path(__file__).parent.parent / "target/release/examples/load"
PORT = 21000
SECONDS = "1.5"
WORKS = {
    "HTTP, 64 connections": ["http", "--connections", "64"],
    "gRPC, 4 x 64 streams": ["grpc", "--connections", "4", "--streams", "64"],
    "HTTP, one connection": ["http", "--connections", "1"],
    "bulk, 2 million lines": ["ndjson", "--millions", "2"],
}
FIGURES = ["requests/s", "processor us/request", "p50 us"]


def start(program, port):
    nodes = []
    for place in range(2):
        own, other = port + 2 * place, port + 2 * (1 - place)
        addresses = ["--grpc-addr", f"127.0.0.1:{own}", "--http-addr", f"127.0.0.1:{own + 1}"]
        command = [program, "node", "--id", str(2 - place), *addresses, "--peers", f"127.0.0.1:{other}"]
        nodes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
    return nodes


def wait_until_all_are_there(port):
    for _ in range(400):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port + 1}/cluster", timeout=2) as answer:
                view = json.load(answer)
            if view["leader"] and [member["status"] for member in view["members"]] == ["alive"] * 2:
                return
        except OSError:
            pass
        time.sleep(0.05)
    sys.exit("the nodes did not become a cluster")


def processor_us(nodes):
    total = 0
    for node in nodes:
        for thread in pathlib.Path(f"/proc/{node.pid}/task").iterdir():
            total += int((thread / "schedstat").read_text().split()[0])
    return total / 1000


def load(work, port, seconds):
    kind, *options = work
    address = f"127.0.0.1:{port + (kind != 'grpc')}"
    # A bulk lasts until it is answered.
    lasts = [] if kind == "ndjson" else ["--seconds", seconds]
    command = [LOAD, kind, address, *options, *lasts]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure(program, work, port):
    nodes = start(program, port)
    try:
        wait_until_all_are_there(port)
        load(work, port, "0.5")
        before = processor_us(nodes)
        report = load(work, port, SECONDS)
        used = processor_us(nodes) - before
        return report["per_second"], used / report["right"], report["p50_us"]
    finally:
        for node in nodes:
            node.kill()
            node.wait()


def change(pairs, place):
    changes = sorted(100 * (after[place] / before[place] - 1) for before, after in pairs)
    # By the sign test.
    cut = max(0, int(len(changes) / 2 - 0.98 * math.sqrt(len(changes))))
    return statistics.median(changes), changes[cut], changes[-1 - cut]


def main():
    before, after = sys.argv[1:3]
    count = int(sys.argv[3]) if len(sys.argv) > 3 else 12
    port = PORT
    for name, work in WORKS.items():
        pairs = []
        for number in range(count):
            order = [before, after] if number % 2 == 0 else [after, before]
            measured = {}
            for program in order:
                measured[program] = measure(program, work, port)
                port += 4
            pairs.append((measured[before], measured[after]))
        for place, figure in enumerate(FIGURES):
            # A bulk has no latency of single answers.
            if not pairs[0][0][place]:
                continue
            middle, low, high = change(pairs, place)
            was, now = (statistics.median(pair[side][place] for pair in pairs) for side in (0, 1))
            print(f"{name:22} {figure:21} {was:9.1f} {now:9.1f} {middle:+6.1f} % [{low:+.1f}, {high:+.1f}]", flush=True)


main()
