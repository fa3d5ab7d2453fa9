"""Swagger UI in a real browser: every operation is tried out as it stands there, by clicks alone."""

import json
import re
import subprocess

import pytest
from conftest import WAIT
from nginx import proxied
from playwright.sync_api import expect

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
BIG = 2**127 - 1


@pytest.fixture
def docs(cluster, open_tab):
    return open_tab(cluster.leader.url("/docs")).page


@pytest.fixture
def docs_below_a_path(proxied, open_tab):
    """The same through a proxy."""
    return open_tab(f"http://{proxied('location /primacy/ { proxy_pass http://NODE/; }')}/primacy/docs").page


def operations(node):
    """(method, path, what the contract says) of each operation."""
    paths = node.get("/openapi.json")["paths"].items()
    return [(method, path, said) for path, item in paths for method, said in item.items() if method in METHODS]


def block(page, said):
    """The operation's part of the page, opened. "Try it out" is on without a click."""
    opened = page.locator(f"#operations-{said['tags'][0]}-{said['operationId']}")
    opened.locator(".opblock-summary-control").click()
    return opened


def execute(page, opened):
    """Sends the request; what the network says of the answer."""
    with page.expect_response(lambda answer: answer.request.resource_type == "fetch") as sent:
        opened.get_by_role("button", name="Execute", exact=True).click()
    return sent.value


def shown(opened):
    """The status and the body of the answer, on the page."""
    answer = opened.locator(".live-responses-table tbody")
    return answer.locator(".response-col_status"), answer.locator(".highlight-code code")


def success(said):
    return min(status for status in said["responses"] if status.startswith("2"))


def is_stream(said):
    return "text/event-stream" in said["responses"][success(said)].get("content", {})


def try_out(page, method, path, said):
    opened = block(page, said)
    expected = page.url.split("#")[0].replace("/docs/", re.sub(r"\{\w+\}", "[^/{}]+", path))
    for media in said.get("requestBody", {}).get("content", [None]):
        if media:
            opened.locator(".opblock-section-request-body select.content-type").select_option(media)
        answer = execute(page, opened)
        assert (answer.request.method.lower(), str(answer.status)) == (method, success(said)), path
        assert re.fullmatch(expected, answer.url.split("?")[0]), answer.url
        kind = answer.headers["content-type"].split(";")[0]
        assert kind in said["responses"][success(said)]["content"]
        assert media in (None, kind), "what is sent as lines is answered as lines"
        status, body = shown(opened)
        expect(status).to_have_text(success(said))
        expect(body).to_have_text(re.compile(r"\S"))
        expect(body).not_to_contain_text("can't parse")


def is_shown_how(cluster, page, said):
    """What Swagger UI cannot try out says so, and how else; that works."""
    opened = block(page, said)
    expect(opened).to_contain_text("cannot show this one")
    expect(opened.get_by_role("button", name="Execute")).to_have_count(0)
    [command] = re.findall(r"curl -N [\w:/]+", opened.locator(".opblock-description").inner_text())
    command = command.replace("http://localhost:8080", f"http://{cluster.leader.http}").split()
    with subprocess.Popen([*command, "-s", "-m", str(WAIT)], stdout=subprocess.PIPE, text=True) as curl:
        assert curl.stdout.readline() == "event: cluster\n"
        curl.kill()


def try_all(cluster, page):
    known = operations(cluster.leader)
    expect(page.locator(".opblock")).to_have_count(len(known))
    for method, path, said in known:
        if is_stream(said):
            is_shown_how(cluster, page, said)
        else:
            try_out(page, method, path, said)


def test_every_operation_is_tried_out(cluster, docs):
    try_all(cluster, docs)


def test_every_operation_is_tried_out_below_a_path(cluster, docs_below_a_path):
    try_all(cluster, docs_below_a_path)


def test_lines_are_sent_as_they_stand_there(cluster, docs):
    [said] = [said for method, path, said in operations(cluster.leader) if (method, path) == ("post", "/primes")]
    opened = block(docs, said)
    opened.locator(".opblock-section-request-body select.content-type").select_option("application/x-ndjson")
    field = opened.locator("textarea")
    expect(field).to_have_value(said["requestBody"]["content"]["application/x-ndjson"]["example"])
    field.clear()
    field.press_sequentially(f"17\n{BIG}\n")
    assert execute(docs, opened).request.post_data == f"17\n{BIG}\n"
    lines = [json.loads(line) for line in shown(opened)[1].inner_text().splitlines() if line]
    assert [line.get("number") for line in lines] == ["17", str(BIG), None]
    assert lines[-1] == {"done": True, "count": 2}


def test_a_number_typed_by_hand(cluster, docs):
    [said] = [said for method, path, said in operations(cluster.leader) if (method, path) == ("post", "/prime")]
    opened = block(docs, said)
    field = opened.locator("textarea")
    # A JSON integer, which must not pass through a JavaScript number on its way.
    field.clear()
    field.press_sequentially(f'{{"number": {BIG}}}')
    assert execute(docs, opened).status == 200
    body = shown(opened)[1]
    expect(body).to_contain_text(str(BIG))
    answer = json.loads(body.inner_text())
    assert answer.pop("processed_by") in {node.name for node in cluster.nodes}
    assert answer == {"number": str(BIG), "is_prime": True, "certainty": "proven", "proof": {"method": "lucas-lehmer"}}
