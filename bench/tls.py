#!/usr/bin/env python3
"""What TLS costs, and how that compares with Envoy, in one run.

bench/tls.py [ROUNDS]: 5 rounds if nothing else is said. Needs target/release/primacy and its example `load`, openssl, and Envoy,
which bench/compare.sh installs. One CA has signed the one certificate that all show (ECDSA on P-256). Each round measures all
systems, one after the other: POST /prime over 64 kept connections, verified, at the leader of a cluster with three workers in
clear text and over TLS, and at Envoy's transcoder with TLS towards clients and towards the workers of the latter; and full
handshakes, one after the other, at both that speak TLS. Of each the median is printed.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "compare"))

from systems import SCRATCH, TARGET, WORKER_PATH, Cluster, Processes, start_envoy  # noqa: E402

FILES = SCRATCH / "certificates"
CA = FILES / "ca.pem"
LOAD = TARGET / "release/examples/load"
SECONDS = "3"


def asked(address, path, tls):
    command = [LOAD, "http", address, "--path", path, "--connections", "64", "--seconds", SECONDS]
    return printed([*command, "--cacert", CA] if tls else command)


def shaken(address):
    return printed([LOAD, "handshakes", address, "--cacert", CA, "--seconds", SECONDS])


def printed(command):
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    SCRATCH.mkdir(parents=True, exist_ok=True)
    subprocess.run(["scripts/certs.sh", FILES, "node"], check=True)
    default = next(iter(Path("target/bench-venv").glob("lib/python3*/site-packages/envoy/_bin/envoy")), None)
    os.environ.setdefault("BENCH_ENVOY", str(default))
    certificates = ["--cert", FILES / "node.pem", "--key", FILES / "node-key.pem", "--cacert", CA]
    with (
        Cluster(3, 22000, 22050) as clear,
        Cluster(3, 22100, 22150, certificates) as tls,
        Processes() as processes,
    ):
        envoys = [start_envoy(processes, tls, threads, 22200 + threads, 22250 + threads, FILES) for threads in (1, 2)]
        systems = {
            "primacy, clear text": (clear.system().http, "/prime", False),
            "primacy, TLS": (tls.system().http, "/prime", True),
            "envoy, TLS, 1 thread": (envoys[0].http, WORKER_PATH, True),
            "envoy, TLS, 2 threads": (envoys[1].http, WORKER_PATH, True),
        }
        figures = {name: {"per_second": [], "p50_us": [], "p99_us": [], "handshake_us": []} for name in systems}
        for _ in range(rounds):
            for name, (address, path, speaks_tls) in systems.items():
                load = asked(address, path, speaks_tls)
                for figure in ("per_second", "p50_us", "p99_us"):
                    figures[name][figure].append(load[figure])
                if speaks_tls:
                    figures[name]["handshake_us"].append(shaken(address)["p50_us"])
    print(f"{'':22} {'requests/s':>10} {'p50 us':>8} {'p99 us':>8} {'handshake p50 us':>17}")
    for name, measured in figures.items():
        middle = {figure: statistics.median(values) if values else float("nan") for figure, values in measured.items()}
        print(
            f"{name:22} {middle['per_second']:10.0f} {middle['p50_us']:8.0f} {middle['p99_us']:8.0f} "
            f"{middle['handshake_us']:17.0f}"
        )


main()
