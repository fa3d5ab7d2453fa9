#!/usr/bin/env python3
"""Millions of numbers over `POST /primes`, every answer compared with GMP's (by gmpy2).

    python3 -m venv target/exact && target/exact/bin/pip install gmpy2
    target/exact/bin/python bench/bulk_exact.py [--host 127.0.0.1:8080] [--count 10000000] [--seed 1]

A cluster must be running (`primacy up`). Of the numbers, up to 64 bits long, a half are random, a quarter products of two
primes of similar size, a quarter next to a random number the first that GMP calls prime. GMP tests with Baillie-PSW and
further Miller-Rabin rounds, in other code. Numbers, answers, their order and their count must all be right.
"""

import argparse
import collections
import random
import socket
import threading
import time

import gmpy2

BLOCK = 10_000


def draw_prime(draw, bits):
    """A prime of at most 64 bits."""
    largest = 2**64 - 59
    return min(int(gmpy2.next_prime(draw.getrandbits(bits))), largest)


def draw_number(draw):
    kind, bits = draw.randrange(4), draw.choice((63, 64, draw.randint(1, 64)))
    if kind == 0:
        return draw_prime(draw, bits)
    if kind == 1:
        half = max(bits // 2, 2)
        return draw_prime(draw, half - 1) * draw_prime(draw, half - 1)
    return draw.getrandbits(bits)


def blocks(seed, count):
    """The numbers, the same for sender and judge."""
    draw = random.Random(seed)
    for start in range(0, count, BLOCK):
        yield [draw_number(draw) for _ in range(min(BLOCK, count - start))]


def send(connection, seed, count):
    for numbers in blocks(seed, count):
        text = "".join(f"{number}\n" for number in numbers).encode()
        connection.sendall(b"%x\r\n%s\r\n" % (len(text), text))
    connection.sendall(b"0\r\n\r\n")


def lines(answer):
    """The lines of a chunked body."""
    rest = b""
    while size := int(answer.readline(), 16):
        rest += answer.read(size)
        answer.readline()
        *whole, rest = rest.split(b"\n")
        yield from whole
    assert not rest, "the last line is not whole"


def judge(line, number, by):
    is_prime = gmpy2.is_prime(number)
    start = b'{"number":"%d","is_prime":%s,"processed_by":"' % (number, b"true" if is_prime else b"false")
    assert line.startswith(start), f"{number} is {'prime' if is_prime else 'composite'}: {line}"
    name, certainty = line[len(start) :].split(b'"', 1)
    assert certainty == b',"certainty":"proven"}', line
    by[name.decode()] += 1
    return is_prime


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--host", default="127.0.0.1:8080")
    arguments.add_argument("--count", type=int, default=10_000_000)
    arguments.add_argument("--seed", type=int, default=1)
    arguments = arguments.parse_args()
    host, port = arguments.host.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), timeout=60)
    head = f"POST /primes HTTP/1.1\r\nHost: {arguments.host}\r\nContent-Type: application/x-ndjson\r\n"
    connection.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
    started = time.monotonic()
    sender = threading.Thread(target=send, args=(connection, arguments.seed, arguments.count), daemon=True)
    sender.start()
    answer = connection.makefile("rb", buffering=1 << 20)
    assert answer.readline().startswith(b"HTTP/1.1 200"), "refused"
    while answer.readline().strip():
        pass
    answers, by, primes = lines(answer), collections.Counter(), 0
    for numbers in blocks(arguments.seed, arguments.count):
        primes += sum(judge(next(answers), number, by) for number in numbers)
    assert next(answers) == b'{"done":true,"count":%d}' % arguments.count
    assert next(answers, None) is None, "something follows the last line"
    print(f"{arguments.count:,} numbers, {primes:,} of them prime: every answer right and in order")
    print(f"by {dict(sorted(by.items()))}, {time.monotonic() - started:.0f} s with the judging")


main()
