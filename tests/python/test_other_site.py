"""Another site, in the browser of somebody who visits it: it can ask, and nothing else (docs/browsers.md)."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import eventually

# What the browser says of what it does not let the site do.
BLOCKED = ("Framing", "ERR_BLOCKED_BY_RESPONSE", "ERR_INVALID_HTTP_RESPONSE", "CORS policy", "ERR_FAILED", "404")
FETCH = """([url, options]) => fetch(url, options).then(answer => answer.text(), error => `failed: ${error}`)"""
EMBED = """([kind, url]) => new Promise(resolve => {
    const part = document.createElement(kind);
    part.onload = () => resolve("loaded");
    part.onerror = () => resolve("blocked");
    part.src = url;
    document.body.append(part);
})"""


class EmptyPage(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><link rel=icon href=data:,><title>another site</title>")

    def log_message(self, *_):
        pass


@pytest.fixture
def other_site(cluster, open_tab):
    server = ThreadingHTTPServer(("127.0.0.1", 0), EmptyPage)
    threading.Thread(target=server.serve_forever).start()
    try:
        tab = open_tab(f"http://127.0.0.1:{server.server_port}/")
        tab.allowed = BLOCKED
        tab.ours.add(cluster.leader.grpc)
        yield tab.page
    finally:
        server.shutdown()
        server.server_close()


def test_it_can_ask(cluster, other_site):
    question = {"method": "POST", "body": '{"number": 17}', "headers": {"content-type": "application/json"}}
    answer = json.loads(other_site.evaluate(FETCH, [cluster.leader.url("/prime"), question]))
    assert answer["is_prime"]
    view = json.loads(other_site.evaluate(FETCH, [cluster.leader.url("/cluster"), {}]))
    assert len(view["members"]) == len(cluster.nodes)


@pytest.mark.parametrize("path", ["/", "/docs/", "/cluster", "/nothing"])
def test_it_frames_nothing(cluster, other_site, path):
    other_site.evaluate(EMBED, ["iframe", cluster.leader.url(path)])
    eventually("the frame is refused", lambda: other_site.frames[-1].url.startswith("chrome-error:"))


@pytest.mark.parametrize("kind, path", [("img", "/favicon.svg"), ("script", "/app.js"), ("script", "/cluster")])
def test_it_embeds_nothing(cluster, other_site, kind, path):
    assert other_site.evaluate(EMBED, [kind, cluster.leader.url(path)]) == "blocked"


def test_it_does_not_reach_grpc(cluster, other_site):
    before = cluster.leader.get("/cluster")["leader"]
    transfer = f"http://{cluster.leader.grpc}/scheduler.Peer/Transfer"
    grpc = {"method": "POST", "body": "\0" * 5, "headers": {"content-type": "application/grpc"}}
    for options in [grpc, {"method": "POST", "body": "\0" * 5, "mode": "no-cors"}]:
        assert other_site.evaluate(FETCH, [transfer, options]).startswith("failed: ")
    assert cluster.leader.get("/cluster")["leader"] == before
