"""The metrics, read by Prometheus itself: 2.42 asks for OpenMetrics, and promtool takes the classic format."""

import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager

from conftest import WAIT, eventually, free_address, running

CONFIGURATION = """
global: {scrape_interval: 200ms, scrape_timeout: 200ms}
scrape_configs: [{job_name: primacy, static_configs: [{targets: TARGETS}]}]
"""


def fetch(url):
    with urllib.request.urlopen(url, timeout=WAIT) as answer:
        return answer.read()


@contextmanager
def prometheus(folder, nodes):
    """Asks a Prometheus that scrapes these nodes."""
    settings, address = folder / "prometheus.yml", free_address()
    settings.write_text(CONFIGURATION.replace("TARGETS", json.dumps([node.http for node in nodes])))
    flags = {"config.file": settings, "storage.tsdb.path": folder, "web.listen-address": address, "log.level": "warn"}

    def ask(path, **query):
        try:
            return json.loads(fetch(f"http://{address}/api/v1/{path}?{urllib.parse.urlencode(query)}"))["data"]
        except urllib.error.URLError:
            return None

    with running("prometheus", *(f"--{name}={value}" for name, value in flags.items())):
        eventually("Prometheus answers", lambda: ask("targets"))
        yield ask


def test_promtool_has_nothing_to_say(cluster):
    cluster.leader.ask(17)
    text = fetch(cluster.leader.url("/metrics"))
    said = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=WAIT)
    assert (said.returncode, said.stdout, said.stderr) == (0, b"", b"")


def test_prometheus_scrapes_every_node(cluster, tmp_path):
    for _ in range(5):
        cluster.leader.ask(17)
    with prometheus(tmp_path, cluster.nodes) as ask:
        health = lambda: [target["health"] for target in ask("targets")["activeTargets"]]
        eventually("all are up", lambda: health() == ["up"] * len(cluster.nodes))
        counted = {"query": f'primacy_requests_ok_total{{instance="{cluster.leader.http}"}}'}
        scraped = lambda: [float(one["value"][1]) >= 5 for one in ask("query", **counted)["result"]]
        eventually("the five count", lambda: scraped() == [True])
        described = ask("metadata")
        kinds = {name: {(one["type"], bool(one["help"])) for one in of_name} for name, of_name in described.items()}
        kinds = {name: kind for name, kind in kinds.items() if name.startswith("primacy_")}
        assert kinds["primacy_requests_ok"] == {("counter", True)}
        assert kinds["primacy_in_flight"] == {("gauge", True)}
        assert kinds["primacy_request_seconds"] == {("histogram", True)}
        assert {help for kind in kinds.values() for _, help in kind} == {True}
