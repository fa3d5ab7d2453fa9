#!/usr/bin/env python3
"""Measures ranges: the cluster beside the library in one process and beside primesieve, in interleaved rounds.

bench/ranges.py PRIMACY [ROUNDS] [--memory]: the path of a `primacy` program; with --memory it counts to 10^12 too, some minutes. Needs `primesieve` and `gp` (Debian: primesieve, pari-gp) and
`cargo build --release -p primacy-prime --example count`. A leader and three workers are started on free ports; every count is
compared with primesieve's. Of all rounds the medians are printed, in seconds, and their ratios.
"""

import json
import pathlib
import re
import statistics
import subprocess
import sys
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).parent.parent
COUNT = ROOT / "target/release/examples/count"
PORT = 23000
RANGES = [
    (1, 10**11),
    (10**15, 10**15 + 10**10),
    (10**18, 10**18 + 10**9),
    (2**64 - 10**9, 2**64 - 1),
]


def start(program):
    nodes = []
    peers = ",".join(f"{place + 1}=127.0.0.1:{PORT + 2 * place}" for place in range(4))
    for place in range(4):
        own = PORT + 2 * place
        addresses = ["--grpc-addr", f"127.0.0.1:{own}", "--http-addr", f"127.0.0.1:{own + 1}"]
        command = [program, "node", "--id", str(place + 1), *addresses, "--peers", peers]
        nodes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
    return nodes


def get(path, accept="application/json", port=PORT + 7):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Accept": accept, "Grpc-Timeout": "300S"})
    return urllib.request.urlopen(request, timeout=310)


def wait_until_all_are_there():
    for _ in range(400):
        try:
            view = json.load(get("/cluster"))
            if view["leader"] and [member["status"] for member in view["members"]] == ["alive"] * 4:
                return
        except OSError:
            pass
        time.sleep(0.05)
    sys.exit("the nodes did not become a cluster")


def timed(work):
    began = time.monotonic()
    result = work()
    return result, time.monotonic() - began


def output(*command):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout


def by_primesieve(start, stop, threads=2):
    return int(re.search(r"Primes: (\d+)", output("primesieve", start, stop, f"-t{threads}")).group(1))


def by_library(start, stop, threads=2):
    return int(output(COUNT, start, stop, threads).split()[0])


def by_cluster(start, stop):
    return int(json.load(get(f"/primes/count?from={start}&to={stop}"))["count"])


def resident_kib(nodes):
    read = lambda node: pathlib.Path(f"/proc/{node.pid}/status").read_text()
    return [int(re.search(r"VmHWM:\s+(\d+)", read(node)).group(1)) for node in nodes]


def counts(rounds):
    print(f"{'range':<32} {'primesieve':>10} {'library':>8} {'cluster':>8}  library/sieve cluster/library")
    for start, stop in RANGES:
        ways = {"primesieve": by_primesieve, "library": by_library, "cluster": by_cluster}
        times = {name: [] for name in ways}
        for _ in range(rounds):
            found = set()
            for name, way in ways.items():
                count, seconds = timed(lambda: way(start, stop))
                found.add(count)
                times[name].append(seconds)
            assert len(found) == 1, found
        medians = {name: statistics.median(seconds) for name, seconds in times.items()}
        ratio = lambda a, b: statistics.median(x / y for x, y in zip(times[a], times[b]))
        print(
            f"{start}+{stop - start:<14} {medians['primesieve']:>10.2f} {medians['library']:>8.2f} {medians['cluster']:>8.2f}"
            f"  {ratio('library', 'primesieve'):>13.2f} {ratio('cluster', 'library'):>15.2f}"
        )


def two_cores(rounds):
    ratios = []
    for _ in range(rounds):
        one = timed(lambda: by_library(1, 2 * 10**10, 1))[1]
        ratios.append(one / timed(lambda: by_library(1, 2 * 10**10, 2))[1])
    print(f"two cores beside one: {statistics.median(ratios):.2f} x as fast")


def listing(nodes):
    path = f"/primes?from={10**15}&to={10**15 + 10**9}"

    def read():
        lines, last = 0, b""
        with get(path, "application/x-ndjson") as answer:
            while chunk := answer.read(1 << 20):
                lines += chunk.count(b"\n")
                last = chunk[-200:]
        return lines, json.loads(last.splitlines()[-1])

    (lines, last), seconds = timed(read)
    assert last["done"] and int(last["count"]) == 28_946_421, last
    print(f"list 10^15+10^9 as NDJSON: {int(last['count']) / seconds / 1e6:.1f} million primes/s; most memory {max(resident_kib(nodes)) // 1024} MiB")


def next_prime(rounds):
    number = 10**999 + 7  # prime: the next one is some way off
    program = f"default(timer,0); gettime(); n=nextprime({number}+1); print(gettime()/1000., \" \", n-{number})"
    ratios = []
    for _ in range(rounds):
        words = subprocess.run(["gp", "-q"], input=program, capture_output=True, text=True, check=True).stdout.split()
        answer, seconds = timed(lambda: json.load(get(f"/prime/{number}/next")))
        assert answer["distance"] == words[1], (answer["distance"], words)
        ratios.append(seconds / float(words[0]))
    print(f"next prime after 10^999 + 7: {statistics.median(ratios):.2f} x the time of gp's nextprime")


def beside_a_count():
    """The latencies of short checks, one after the other, while all cores count."""
    counting = threading.Thread(target=lambda: by_cluster(1, 5 * 10**10))
    counting.start()
    time.sleep(0.3)
    times = []
    while counting.is_alive():
        times.append(timed(lambda: get("/prime/9223372036854775783", port=PORT + 1).read())[1])
    times.sort()
    at = lambda share: 1000 * times[int(share * (len(times) - 1))]
    print(f"short checks beside a count: {len(times)}, p50 {at(0.5):.2f} ms, p99 {at(0.99):.2f} ms, worst {at(1):.2f} ms")


def flat_memory(nodes):
    before = resident_kib(nodes)
    assert by_cluster(1, 10**12) == 37_607_912_018
    print(f"count [1, 10^12]: most memory of each node {[kib // 1024 for kib in resident_kib(nodes)]} MiB, {[kib // 1024 for kib in before]} before")


def main():
    program, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5
    nodes = start(program)
    try:
        wait_until_all_are_there()
        beside_a_count()
        listing(nodes)
        next_prime(rounds)
        two_cores(rounds)
        counts(rounds)
        if "--memory" in sys.argv:
            flat_memory(nodes)
    finally:
        for node in nodes:
            node.terminate()
        for node in nodes:
            node.wait()


main()
