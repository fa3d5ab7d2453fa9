#!/usr/bin/env python3
"""Latency of short checks on one connection while long checks keep every pool busy.

    bench/mixed.py [--host 127.0.0.1:8080] [--long 24] [--digits 4000] [--seconds 10]

A cluster must be running (`primacy up`). Every answer is checked.
"""

import argparse
import http.client
import json
import socket
import threading
import time

SHORT = (9223372036854775783, True)
SMALL_PRIMES_BELOW = 1 << 20


def hard_composite(digits):
    """The first number above 10^(digits - 1) without a small factor: its check takes the long way."""
    sieve = bytearray([1]) * SMALL_PRIMES_BELOW
    divided = bytearray(20 * digits)
    for prime in range(2, SMALL_PRIMES_BELOW):
        if sieve[prime]:
            sieve[prime * prime :: prime] = bytes(len(range(prime * prime, SMALL_PRIMES_BELOW, prime)))
            first = -pow(10, digits - 1, prime) % prime
            divided[first::prime] = b"\1" * len(range(first, len(divided), prime))
    return "1" + str(divided.index(0)).zfill(digits - 1)


def keep_busy(host, number, stop, answered):
    while not stop.is_set():
        connection = http.client.HTTPConnection(host, timeout=300)
        connection.request("POST", "/prime", json.dumps({"number": number}), {"Grpc-Timeout": "300S"})
        answer = json.loads(connection.getresponse().read())
        assert answer["is_prime"] is False, answer
        answered.append(answer["processed_by"])
        connection.close()


def measure(host, seconds):
    name, port = host.rsplit(":", 1)
    connection = socket.create_connection((name, int(port)))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    body = b'{"number": %d}' % SHORT[0]
    request = b"POST /prime HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    times, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        started = time.perf_counter()
        connection.sendall(request)
        answer = connection.recv(4096)
        times.append(time.perf_counter() - started)
        assert b" 200 " in answer and b'"is_prime":true' in answer, answer
    return sorted(times)


def show(what, times):
    places = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
    figures = "  ".join(f"{name} {times[int(len(times) * place)] * 1e6:6.0f} us" for name, place in places.items())
    print(f"{what:24} {len(times):7} checks  {figures}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1:8080")
    parser.add_argument("--long", type=int, default=24)
    parser.add_argument("--digits", type=int, default=4000)
    parser.add_argument("--seconds", type=float, default=10)
    args = parser.parse_args()
    number = hard_composite(args.digits)
    show("short checks alone", measure(args.host, args.seconds))
    stop, answered = threading.Event(), []
    busy = [threading.Thread(target=keep_busy, args=(args.host, number, stop, answered)) for _ in range(args.long)]
    for thread in busy:
        thread.start()
    time.sleep(1)
    show(f"beside {args.long} long ones", measure(args.host, args.seconds))
    stop.set()
    for thread in busy:
        thread.join()
    print(f"{len(answered)} long checks were answered meanwhile")


if __name__ == "__main__":
    main()
