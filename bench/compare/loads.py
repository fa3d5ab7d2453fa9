"""The load programs, and what must hold of every run before its figures count."""

import json
import os
import random
import re
import subprocess
import time

from systems import HERE, SCRATCH, TARGET, Failed

#: A 63-bit prime, the slowest of the short numbers, as a gRPC message with its five bytes of framing.
GRPC_MESSAGE = bytes.fromhex("000000000a08e7ffffffffffffff7f")
#: A true answer has 5 bytes of framing, 2 for true, and a name: fewer bytes are errors.
GRPC_ANSWER_BYTES_MIN = 12
#: No run takes longer.
TIMEOUT_SECONDS = 60


def call(command, **environment):
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        env={**os.environ, **environment},
    )
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")
    return done.stdout


def with_cpu(system, run):
    """Runs it, and adds the CPU time that the system used for each request, in microseconds."""
    before = system.cpu_seconds()
    figures = run()
    figures["cpu_us"] = (system.cpu_seconds() - before) * 1e6 / figures["answers"]
    return figures


def check_names(system, figures):
    """Whoever answers is one of the workers; how even their shares are is judged over all rounds."""
    if strangers := set(figures["shares"]) - set(system.workers):
        raise Failed(f"{system.name}: answers come from {sorted(strangers)}, not only from {system.workers}")
    figures["workers"] = list(system.workers)


def load(system, protocol, connections, seconds, streams=None, rate=None, prefix=()):
    """Our own load program: every answer is verified against the very number that was asked."""
    addr, path = (system.http, system.http_path) if protocol == "http" else (system.grpc, system.grpc_path)
    command = [*prefix, TARGET / "release/examples/load", protocol, addr, "--path", path]
    command += ["--connections", connections, "--seconds", seconds]
    command += ["--streams", streams] if streams else []
    command += ["--rate", rate] if rate else []
    return verified(system, command)


def ndjson(system, millions):
    """Numbers in bulk over `POST /primes`; every result is verified."""
    return verified(system, [TARGET / "release/examples/load", "ndjson", system.http, "--millions", millions])


def verified(system, command):
    def run():
        figures = json.loads(call(command))
        return {**figures, "answers": figures["right"]}

    figures = with_cpu(system, run)
    check_names(system, figures)
    return figures


def wrk(system, connections, seconds, check=True):
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", HERE / "verify.lua", f"http://{system.http}"]
    environment = {"BENCH_PATH": system.http_path, "BENCH_NUMBERS": str(numbers()), "BENCH_CHECK": str(int(check))}

    def run():
        figures = json.loads(call(command, **environment).splitlines()[-1])
        return {**figures, "answers": figures["requests"], "per_second": figures["requests"] / figures["seconds"]}

    figures = with_cpu(system, run)
    if check:
        check_wrk(system, connections, figures)
    return figures


def check_wrk(system, connections, figures):
    if figures["wrong"] or figures["failed"]:
        raise Failed(f"{system.name}: wrk saw {figures['wrong']} wrong answers and {figures['failed']} failures")
    # Some are on their way at the end, and wrk tries `request` once by itself.
    asked, told = figures["asked_primes"], figures["told_primes"]
    if not 0 <= asked - told <= connections + 1:
        raise Failed(f"{system.name}: wrk asked for {asked} primes and heard of {told}")
    check_names(system, figures)


def h2load(system, connections, streams, seconds):
    """h2load repeats one message and verifies nothing, so that errors are known by their size only."""
    message = SCRATCH / "message.bin"
    message.write_bytes(GRPC_MESSAGE)
    command = ["h2load", "-D", seconds, "-c", connections, "-m", streams, "-t", 1, "-d", message]
    command += ["-H", "content-type: application/grpc", "-H", "te: trailers", f"http://{system.grpc}{system.grpc_path}"]

    def run():
        text = call(command)
        return {
            "answers": int(re.search(r"(\d+) succeeded", text)[1]),
            "text": text,
            "per_second": float(re.search(r"([\d.]+) req/s", text)[1]),
        }

    figures = with_cpu(system, run)
    check_h2load(system, figures, figures.pop("text"))
    return figures


def check_h2load(system, figures, text):
    failed, errored = (int(re.search(rf"(\d+) {word}", text)[1]) for word in ("failed", "errored"))
    ok = int(re.search(r"(\d+) 2xx", text)[1])
    answer_bytes = int(re.search(r"\((\d+)\) data", text)[1]) / max(figures["answers"], 1)
    # When the time is over some answers are counted by their bytes and not yet as answers, or the other way round.
    if failed or errored or ok < figures["answers"] or answer_bytes < GRPC_ANSWER_BYTES_MIN * 0.98:
        raise Failed(f"{system.name}: not all that h2load got were answers ({answer_bytes:.1f} bytes each):\n{text}")


def numbers():
    """10,000 random numbers below 2^63 with their answers."""
    path = SCRATCH / "numbers.txt"
    if not path.exists():
        drawn = [random.getrandbits(63) for _ in range(10_000)]
        path.write_text("".join(f"{n} {str(is_prime(n)).lower()}\n" for n in drawn))
    return path


def is_prime(n):
    """Miller-Rabin to the first twelve primes, which decides every number below 2^64."""
    bases = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
    if n < 2 or any(n % prime == 0 for prime in bases):
        return n in bases
    twos = ((n - 1) & -(n - 1)).bit_length() - 1

    def passes(base):
        x = pow(base, (n - 1) >> twos, n)
        return x == 1 or any(pow(x, 1 << power, n) == n - 1 for power in range(twos))

    return all(map(passes, bases))


def settle():
    """Between two runs: sockets close, threads go to sleep."""
    time.sleep(0.1)
