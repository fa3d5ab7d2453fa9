#!/usr/bin/env python3
"""Pictures of the page over a real cluster at work: docs/page-light.png and docs/page-dark.png, for the README.

With --all DIR also narrow, usual and wide ones, for looking at. Needs tests/python/requirements.txt, a Chromium, and the
binary: PRIMACY_BINARY, or target/release/primacy.
"""

import argparse
import math
import os
import random
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
sys.path.insert(0, str(ROOT / "tests/python"))

from conftest import Cluster, Tab, a_browser, is_free
from playwright.sync_api import expect, sync_playwright

SCHEMES = ("light", "dark")
README_WIDTH, HEIGHT = 1280, 1400
WIDTHS = (360, README_WIDTH, 2560)
# The count that is shown while it goes on, and how long it goes on before and after a worker dies and is back.
RANGE, BEFORE, AWAY_COUNTING, AFTER = "1..2e11", 5, 8, 5
# The charts show a minute. A worker dies in it, and comes back.
DIES, AWAY, BACK = 30, 8, 18


class Load(threading.Thread):
    """Other people, who ask now more and now less."""

    def __init__(self, cluster):
        super().__init__(daemon=True)
        self.cluster, self.draw, self.enough = cluster, random.Random(7), threading.Event()

    def run(self):
        started = time.monotonic()
        while not self.enough.wait(0.012 * (1.6 + math.sin((time.monotonic() - started) / 5))):
            self.cluster.leader.ask(self.draw.randrange(2 ** self.draw.randint(4, 90)) | 1)


def at_the_usual_ports(cluster):
    """As `primacy up` has it, where nobody else does."""
    ports = [(50051 + place, 8080 + place) for place in range(len(cluster.nodes))]
    if all(is_free(port) for pair in ports for port in pair):
        for node, (grpc, http) in zip(cluster.nodes, ports):
            node.grpc, node.http = f"127.0.0.1:{grpc}", f"127.0.0.1:{http}"
    return cluster


def live_through(cluster, page):
    """A minute in the life of a cluster."""
    worker = cluster.workers[1]
    load = Load(cluster)
    load.start()
    for seconds, event in ((DIES, worker.kill), (AWAY, lambda: cluster.start(worker)), (BACK, load.enough.set)):
        page.wait_for_timeout(seconds * 1000)
        event()
    load.join()


def show_count(cluster, page):
    """A worker dies in it, and comes back."""
    worker = cluster.workers[1]
    page.locator("#question").fill(RANGE)
    page.locator("#ask").click()
    expect(page.locator("#spiral-of")).to_contain_text("primes")
    for seconds, event in ((BEFORE, worker.kill), (AWAY_COUNTING, lambda: cluster.start(worker)), (AFTER, lambda: None)):
        page.wait_for_timeout(seconds * 1000)
        event()
    page.locator("h1").click()


def show_whole(page):
    """Makes the window as high as the page; what was never in a window is not painted."""
    height = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size({"width": page.viewport_size["width"], "height": height})
    page.evaluate("new Promise(painted => requestAnimationFrame(() => requestAnimationFrame(painted)))")


def opened(browser, cluster, scheme, width):
    looks = {"color_scheme": scheme, "viewport": {"width": width, "height": HEIGHT}, "device_scale_factor": 1}
    page = Tab(browser, cluster, looks).page
    page.goto(cluster.leader.url())
    return page


def take(pictures, whole):
    """Takes pictures, each of a (scheme, width) into a file: of the first window, or of the whole page."""
    # A browser that starts takes the time of nodes that beat.
    with sync_playwright() as playwright, a_browser(playwright) as browser, at_the_usual_ports(Cluster()) as cluster:
        pages = [(opened(browser, cluster, *look), file) for look, file in pictures]
        live_through(cluster, pages[0][0])
        for page, file in pages:
            show_count(cluster, page)
            if whole:
                show_whole(page)
            page.screenshot(path=file, animations="disabled")
            page.locator("#stop").click()
            print(file)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", type=Path, metavar="DIR", help="also pictures of each width into this directory")
    directory = parser.parse_args().all
    os.environ.setdefault("PRIMACY_BINARY", str(ROOT / "target/release/primacy"))
    DOCS.mkdir(exist_ok=True)
    take([((scheme, README_WIDTH), DOCS / f"page-{scheme}.png") for scheme in SCHEMES], whole=False)
    if directory:
        directory.mkdir(parents=True, exist_ok=True)
        looks = [(scheme, width) for scheme in SCHEMES for width in WIDTHS]
        take([(look, directory / f"page-{look[0]}-{look[1]}.png") for look in looks], whole=True)


if __name__ == "__main__":
    main()
