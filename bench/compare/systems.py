"""The systems under test: how they are started and stopped, and what they use."""

import os
import re
import socket
import string
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", "target"))
SCRATCH = Path("target/bench")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
WORKER_PATH = "/scheduler.Worker/ProcessPrime"
SCHEDULER_PATH = "/scheduler.Scheduler/CheckPrime"


class Failed(Exception):
    """Something is not as it must be; no figure can be trusted."""


class System:
    """One of those that are compared: where it answers, and the processes that do it."""

    def __init__(self, name, pids, http=None, http_path="/prime", grpc=None, grpc_path=SCHEDULER_PATH, workers=()):
        self.name, self.pids, self.workers = name, pids, workers
        self.http, self.http_path, self.grpc, self.grpc_path = http, http_path, grpc, grpc_path

    def cpu_seconds(self):
        return sum(map(cpu_seconds, self.pids))


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def memory_mb(pid, field):
    """`VmRSS`: resident now; `VmHWM`: the most that ever was."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) * 1024 / 1e6


class Processes:
    """What was started here, so that it is stopped whatever happens."""

    def __init__(self):
        self.started = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.started):
            stop(process)

    def start(self, name, command):
        log = open(SCRATCH / f"{name}.log", "wb")
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.started.append(process)
        return process


def stop(process):
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for_port(port, process):
    for _ in range(1000):
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.01)
    raise Failed(f"nothing listens on port {port}; the logs are in {SCRATCH}")


class Cluster:
    """`primacy up` with its default settings, as anybody starts it; only the ports are others."""

    def __init__(self, workers, http_port, grpc_port, more=()):
        self.http_port, self.grpc_port = http_port, grpc_port
        command = [TARGET / "release/primacy", "up", "-n", str(workers)]
        command += ["--http-port", str(http_port), "--grpc-port", str(grpc_port), *more]
        self.log = SCRATCH / f"primacy-{http_port}.log"
        began = time.monotonic()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        self.pids = self._read_announcement(began)
        self.workers = [f"worker{place}" for place in range(1, workers + 1)]

    def _read_announcement(self, began):
        pids = {}
        for line in self.process.stdout:
            if b"is ready after" in line:
                self.ready_seconds = time.monotonic() - began
            if row := re.match(rb"\s+(leader|worker\d+)\s+\d+\s+(\d+) ", line):
                pids[row[1].decode()] = int(row[2])
            if b"Ctrl-C" in line:
                return pids
        raise Failed(f"the cluster did not start; {self.log} says why")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        stop(self.process)

    def system(self, name="primacy"):
        http, grpc = f"127.0.0.1:{self.http_port}", f"127.0.0.1:{self.grpc_port}"
        return System(name, list(self.pids.values()), http=http, grpc=grpc, workers=self.workers)

    def worker_ports(self):
        return [self.grpc_port + place for place in range(1, len(self.workers) + 1)]

    def worker_pids(self):
        return [self.pids[name] for name in self.workers]


def fill(template, target, **values):
    target.write_text(string.Template((HERE / template).read_text()).substitute(values))
    return target


def descriptors():
    """The descriptor set that the build of Primacy made last."""
    made = (TARGET / "release/build").glob("primacy-*/out/scheduler.bin")
    return max(made, key=lambda path: path.stat().st_mtime).resolve()


#: What makes a transport of Envoy one of TLS, with the files of `scripts/certs.sh`.
TLS = """{{
  name: tls,
  typed_config: {{
    "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{context},
    {more}
    common_tls_context: {{
      alpn_protocols: [{alpn}],
      tls_certificates: [{{ certificate_chain: {{ filename: {files}/node.pem }}, private_key: {{ filename: {files}/node-key.pem }} }}],
      {validation}
    }}
  }}
}}"""


def transports(files):
    """Envoy's transports towards clients and towards workers: in clear text, or over TLS with these files."""
    if not files:
        return "", ""
    downstream = TLS.format(context="DownstreamTlsContext", more="", alpn='"h2", "http/1.1"', files=files, validation="")
    validation = f"validation_context: {{ trusted_ca: {{ filename: {files}/ca.pem }} }}"
    upstream = TLS.format(
        context="UpstreamTlsContext", more='sni: "localhost",', alpn='"h2"', files=files, validation=validation
    )
    one_line = [" ".join(text.split()) for text in (downstream, upstream)]
    return f"transport_socket: {one_line[0]}", f"transport_socket: {one_line[1]}"


def start_envoy(processes, cluster, threads, http_port, grpc_port, files=None):
    address = "{ endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: %d } } } }"
    endpoints = ", ".join(address % port for port in cluster.worker_ports())
    downstream, upstream = transports(files and files.resolve())
    config = fill(
        "envoy.yaml",
        SCRATCH / f"envoy-{threads}{'-tls' if files else ''}.yaml",
        downstream=downstream,
        upstream=upstream,
        http_port=http_port,
        grpc_port=grpc_port,
        descriptors=descriptors(),
        endpoints=endpoints,
    )
    command = [os.environ["BENCH_ENVOY"], "-c", config, "--concurrency", str(threads)]
    command += ["--disable-hot-restart", "-l", "error"]
    process = processes.start(f"envoy-{threads}", command)
    wait_for_port(http_port, process)
    return System(
        f"envoy, {threads} thread{'s'[: threads - 1]}",
        [process.pid, *cluster.worker_pids()],
        http=f"127.0.0.1:{http_port}",
        http_path=WORKER_PATH,
        grpc=f"127.0.0.1:{grpc_port}",
        grpc_path=WORKER_PATH,
        workers=cluster.workers,
    )


def start_haproxy(processes, cluster, grpc_port):
    places = zip(cluster.workers, cluster.worker_ports(), strict=True)
    servers = "\n".join(f"    server {name} 127.0.0.1:{port} proto h2" for name, port in places)
    config = fill("haproxy.cfg", SCRATCH / "haproxy.cfg", grpc_port=grpc_port, servers=servers)
    process = processes.start("haproxy", ["haproxy", "-db", "-f", config])
    wait_for_port(grpc_port, process)
    return System(
        "haproxy, 2 threads",
        [process.pid, *cluster.worker_pids()],
        grpc=f"127.0.0.1:{grpc_port}",
        grpc_path=WORKER_PATH,
        workers=cluster.workers,
    )


def start_limit(processes, threads, http_port, grpc_port):
    http, grpc = f"127.0.0.1:{http_port}", f"127.0.0.1:{grpc_port}"
    process = processes.start(f"limit-{threads}", [TARGET / "release/examples/limit", str(threads), http, grpc])
    wait_for_port(http_port, process)
    return System(
        f"limit, {threads} thread{'s'[: threads - 1]}", [process.pid], http=http, grpc=grpc, workers=["limit"]
    )
