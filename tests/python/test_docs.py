"""Swagger UI in a real browser: every operation is tried out as it stands there, by clicks alone."""

import json
import re
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
BIG = 2**127 - 1


@pytest.fixture
def docs(cluster, open_tab):
    return open_tab(cluster.leader.url("/docs")).page


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
    answer = execute(page, opened)
    assert (answer.request.method.lower(), str(answer.status)) == (method, success(said)), path
    assert re.fullmatch(re.sub(r"\\{\w+\\}", "[^/{}]+", re.escape(path)), urlsplit(answer.url).path), answer.url
    # Swagger UI shows an answer when it has ended, which a stream does not.
    if not is_stream(said):
        status, body = shown(opened)
        expect(status).to_have_text(success(said))
        expect(body).to_have_text(re.compile(r"\S"))


def test_every_operation_is_tried_out(cluster, docs):
    known = operations(cluster.leader)
    expect(docs.locator(".opblock")).to_have_count(len(known))
    for operation in known:
        try_out(docs, *operation)


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
    assert answer == {"number": str(BIG), "is_prime": True, "certainty": "probable"}
