#!/usr/bin/env python3
"""How long three etcd take to serve again after a kill -9 of their leader, for comparison with bench/README.md.

Needs `etcd` on the PATH (Debian: etcd-server) and nothing else. Everything runs on loopback and is ended by its pid.

    bench/etcd_failover.py [ROUNDS] [HEARTBEAT_MS ELECTION_MS]
"""

import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 20
TIMERS = sys.argv[2:4] or ["100", "1000"]
PORTS = {"a": (12379, 12380), "b": (22379, 22380), "c": (32379, 32380)}


def start(name, directory, state):
    client, peer = (f"http://127.0.0.1:{port}" for port in PORTS[name])
    members = ",".join(f"{other}=http://127.0.0.1:{ports[1]}" for other, ports in PORTS.items())
    return subprocess.Popen(
        ["etcd", "--name", name, "--data-dir", os.path.join(directory, name),
         "--listen-client-urls", client, "--advertise-client-urls", client,
         "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
         "--initial-cluster", members, "--initial-cluster-state", state,
         "--heartbeat-interval", TIMERS[0], "--election-timeout", TIMERS[1], "--log-level", "error"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )


def post(name, path, body, timeout_s):
    request = urllib.request.Request(f"http://127.0.0.1:{PORTS[name][0]}/v3/{path}", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=timeout_s) as response:
        return json.load(response)


def put(name, timeout_s):
    text = base64.b64encode(b"k").decode()
    try:
        post(name, "kv/put", {"key": text, "value": text}, timeout_s)
        return True
    except (urllib.error.URLError, OSError):
        return False


def wait_for_put(name):
    end = time.monotonic() + 60
    while not put(name, 0.05):
        assert time.monotonic() < end, f"{name} serves nothing"


def leader():
    for name in PORTS:
        try:
            status = post(name, "maintenance/status", {}, 2)
        except (urllib.error.URLError, OSError):
            continue
        if status.get("leader") == status["header"]["member_id"]:
            return name
    return None


def main():
    with tempfile.TemporaryDirectory() as directory:
        processes = {name: start(name, directory, "new") for name in PORTS}
        took_ms = []
        try:
            for _ in range(ROUNDS):
                for name in PORTS:
                    wait_for_put(name)
                time.sleep(1)
                struck = leader()
                survivor = next(name for name in PORTS if name != struck)
                began = time.monotonic()
                processes[struck].send_signal(signal.SIGKILL)
                wait_for_put(survivor)
                took_ms.append((time.monotonic() - began) * 1e3)
                processes[struck].wait()
                processes[struck] = start(struck, directory, "existing")
        finally:
            for process in processes.values():
                process.kill()
                process.wait()
    took_ms.sort()
    middle = took_ms[len(took_ms) // 2]
    print(f"etcd, timers {TIMERS[0]}/{TIMERS[1]} ms: median {middle:.0f} ms, worst {took_ms[-1]:.0f} ms of {ROUNDS}")


main()
