"""A cluster of processes that can be killed, and a real browser in which nothing goes wrong unseen."""

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright

# Whatever is waited for comes within this, even on a busy machine.
WAIT = 20
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Below the ports that the system gives out by itself, and in each process from another place on.
FIRST_PORT = 10_000 + os.getpid() % 200 * 100
PORTS = itertools.cycle(range(FIRST_PORT, FIRST_PORT + 2000))
REPORT_CSP = """addEventListener("securitypolicyviolation", ({violatedDirective, blockedURI}) =>
    console.error(`CSP report: ${violatedDirective} ${blockedURI}`))"""

expect.set_options(timeout=WAIT * 1000)


def eventually(what, condition):
    """Waits until a condition holds."""
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, f"not within {WAIT} s: {what}"
        time.sleep(0.02)


def is_free(port, host="127.0.0.1"):
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # What connections of before leave behind does not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except OSError:
            return False
    return True


def free_address(host="127.0.0.1"):
    return f"{host}:{next(port for port in PORTS if is_free(port, host))}"


@contextmanager
def running(*command, **options):
    """A program, until the end: it is ended by its pid."""
    process = subprocess.Popen(command, **options)
    # However this process ends, the end of the pipe ends the program.
    guard = subprocess.Popen(["sh", "-c", f"read nothing; kill {process.pid} 2>&-"], stdin=subprocess.PIPE)
    try:
        yield process
    finally:
        guard.communicate(timeout=WAIT)
        process.wait(WAIT)


class Node:
    """A node in a process of its own; with certificates it speaks TLS."""

    def __init__(self, id, name, host="127.0.0.1", certificates=None, **settings):
        self.id, self.name = id, name
        self.certificates, self.settings = certificates, settings
        self.grpc, self.http = free_address(host), free_address(host)
        # Where browsers are told to reach it, if not there where it listens.
        self.advertised = None
        self.process, self.guard = None, None

    def __repr__(self):
        return self.name

    def url(self, path="/"):
        return f"{'https' if self.certificates else 'http'}://{self.http}{path}"

    def start(self, peers):
        settings = {"id": self.id, "name": self.name, "grpc-addr": self.grpc, "http-addr": self.http, "peers": peers}
        # A browser that starts may keep a node off two cores for longer than the default's three heartbeats.
        settings["heartbeat"] = 300
        if self.advertised:
            settings["advertise-http"] = self.advertised
        if self.certificates:
            settings |= self.certificates.settings()
        settings |= {name.replace("_", "-"): value for name, value in self.settings.items()}
        flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PRIMACY_")}
        # However this process ends, the end of the pipe ends the node.
        command = [os.environ["PRIMACY_BINARY"], "node", "--exit-with-stdin", *flags]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, env=clean)

    def kill(self):
        self.thaw()
        if self.process:
            self.process.kill()
            self.process.wait(WAIT)
            self.process.stdin.close()
            self.process = None

    def freeze(self):
        # However this process ends, the node goes on, and ends too.
        guard = ["sh", "-c", f"read nothing; kill -CONT {self.process.pid}"]
        self.guard = subprocess.Popen(guard, stdin=subprocess.PIPE)
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        if self.guard:
            self.guard.communicate(timeout=WAIT)
            self.guard = None

    def get(self, path):
        context = self.certificates and self.certificates.context
        with urllib.request.urlopen(self.url(path), timeout=WAIT, context=context) as answer:
            return json.load(answer)

    def ask(self, number):
        return self.get(f"/prime/{number}")

    def sees_all(self, count):
        """Whether this node knows a leader and that many members alive."""
        try:
            seen = self.get("/cluster")
        except OSError:
            return False
        return seen["leader"] and [member["status"] for member in seen["members"]] == ["alive"] * count


class Cluster:
    """A leader and workers: `nodes[0]` leads, `nodes[k]` is worker k."""

    def __init__(self, workers=3, host="127.0.0.1", **settings):
        self.leader = Node(workers + 1, "leader", host, **settings)
        self.workers = [Node(id, f"worker{id}", host, **settings) for id in range(1, workers + 1)]
        self.nodes = [self.leader, *self.workers]

    def __enter__(self):
        try:
            self.restore()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_):
        self.kill()

    def start(self, node):
        node.start(",".join(f"{peer.id}={peer.grpc}" for peer in self.nodes))

    def restore(self):
        """Brings back who was killed or frozen, and waits until each sees all."""
        for node in self.nodes:
            node.thaw()
            if not node.process:
                self.start(node)
        for node in self.nodes:
            eventually(f"{node} sees all alive", lambda: node.sees_all(len(self.nodes)))

    def kill(self):
        for node in self.nodes:
            node.kill()


def address(url):
    return urlsplit(url).netloc.replace("localhost", "127.0.0.1")


class Tab:
    """A page in the browser, and whatever goes wrong in it."""

    def __init__(self, browser, cluster, options):
        self.ours = {place for node in cluster.nodes for place in (node.http, node.advertised)}
        # Those that the test killed: requests to them may fail.
        self.lost = set()
        # What the test lets go wrong: parts of what the browser says of it.
        self.allowed = []
        self.problems, self.requests = [], []
        self.context = browser.new_context(**options)
        self.context.add_init_script(REPORT_CSP)
        self.context.on("console", self.on_console)
        self.context.on("weberror", lambda error: self.problems.append((None, str(error.error))))
        self.context.on("request", self.on_request)
        self.page = self.context.new_page()
        self.page.set_default_timeout(WAIT * 1000)

    def on_console(self, message):
        if message.type == "error":
            failed = message.text.startswith("Failed to load resource: net::")
            source = message.location["url"]
            self.problems.append((address(source) if failed else None, f"{message.text} ({source})"))

    def on_request(self, request):
        self.requests.append(request)
        if address(request.url) not in self.ours:
            self.problems.append((None, f"a request to elsewhere: {request.url}"))

    def close(self):
        """Closes the page; what went wrong in it."""
        self.context.close()
        counts = lambda text: not any(part in text for part in self.allowed)
        return [text for host, text in self.problems if host not in self.lost and counts(text)]


@contextmanager
def a_browser(playwright, **options):
    """The system's own: Playwright's cannot be had everywhere."""
    path = os.environ.get("PRIMACY_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    assert path, f"none of {', '.join(BROWSERS)} is installed"
    # No DNS needs to know a name with an underscore, as containers may have.
    args = ["--no-sandbox", "--host-resolver-rules=MAP my_host 127.0.0.1"]
    chromium = playwright.chromium.launch(executable_path=path, args=args, **options)
    yield chromium
    chromium.close()


@pytest.fixture(scope="session")
def playwright():
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="session")
def browser(playwright):
    with a_browser(playwright) as browser:
        yield browser


@pytest.fixture(scope="module")
def four_nodes():
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(four_nodes):
    four_nodes.restore()
    return four_nodes


@contextmanager
def tabs(browser, cluster):
    """Opens pages; at the end nothing may have gone wrong in any of them."""
    opened = []

    def open_tab(url, **options):
        tab = Tab(browser, cluster, options)
        # A proxy before them is ours too.
        tab.ours.add(address(url))
        opened.append(tab)
        tab.page.goto(url)
        return tab

    yield open_tab
    assert [problem for tab in opened for problem in tab.close()] == []


@pytest.fixture
def open_tab(browser, cluster):
    with tabs(browser, cluster) as open_tab:
        yield open_tab
