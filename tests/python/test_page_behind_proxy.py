"""The page and streamed answers behind a real nginx that was told little."""

import http.client
import itertools
import json
import sys
import time

import pytest
from conftest import WAIT, eventually
from nginx import PLAIN, proxied
from playwright.sync_api import expect
from test_page import BIG, answered, ask, card, connected_elsewhere, has_died, lose

sys.set_int_max_str_digits(10_000)
# A Mersenne prime, for which no node needs less than some seconds.
LONG = str(2**23_209 - 1)
DEAF = """location / {
    proxy_pass http://NODE;
    proxy_ignore_headers X-Accel-Buffering;
}"""
# A buffer is full after some seconds of load.
LATE = """location / {
    proxy_pass http://NODE;
    proxy_ignore_headers X-Accel-Buffering;
    proxy_buffer_size 48k;
    proxy_buffers 2 48k;
    proxy_busy_buffers_size 48k;
}"""
IMPATIENT = """location / { proxy_pass http://NODE; }
location = /events {
    proxy_pass http://NODE;
    proxy_read_timeout 300ms;
}"""
DUPLEX = """location / {
    proxy_pass http://NODE;
    proxy_request_buffering off;
    proxy_http_version 1.1;
}"""
BELOW = "location /primacy/ { proxy_pass http://NODE/; }"
NOT_TOLD = "its events do not arrive"
RECORD_STATES = """() => {
    const line = document.querySelector("#connection");
    window.states = [];
    new MutationObserver(() => window.states.push(line.dataset.state)).observe(line, {attributes: true});
}"""
COUNT_EVENTS = """
    window.heard = 0;
    window.EventSource = class extends EventSource {
        constructor(url) {
            super(url);
            this.addEventListener("cluster", () => window.heard++);
        }
    };"""
RECORD_STATUSES = """card => {
    window.statuses = [];
    const look = () => window.statuses.push(card.dataset.status);
    new MutationObserver(look).observe(card, {attributes: true, attributeFilter: ["data-status"]});
}"""
HEARD_THRICE = """() => new Promise(done => {
    let heard = 0;
    const source = new EventSource("events");
    source.addEventListener("alive", () => { if (++heard === 3) done(source.close()); });
})"""


def open_behind(open_tab, proxy, node, path="/"):
    """A tab with the page of this node, through the proxy."""
    tab = open_tab(f"http://{proxy}{path}")
    expect(tab.page.locator(f"#connection[data-state=connected][data-node='{node.name}']")).to_be_visible()
    return tab


def requests_for(tab, path):
    return [request for request in tab.requests if request.url.split("?")[0].endswith(path)]


def live(cluster, page):
    """Asks and is answered, sees what others ask, and a worker die and come back."""
    worker = cluster.workers[2]
    ask(page, BIG)
    answered(page, BIG)
    cluster.workers[0].ask(10**18 + 9)
    expect(page.locator("#results")).to_contain_text(str(10**18 + 9))
    worker.kill()
    has_died(page, worker)
    cluster.start(worker)
    expect(card(page, worker)).to_contain_text("alive")


def test_nothing_but_proxy_pass(cluster, proxied, open_tab):
    proxy = proxied()
    tab = open_behind(open_tab, proxy, cluster.leader)
    live(cluster, tab.page)
    tab.page.evaluate(HEARD_THRICE)
    expect(tab.page.locator("#connection")).not_to_contain_text(NOT_TOLD)
    assert len(requests_for(tab, "/cluster")) == 1, "what changes comes as an event"


def test_a_proxy_that_holds_the_events_back(cluster, proxied, open_tab):
    proxy = proxied(DEAF)
    tab = open_behind(open_tab, proxy, cluster.leader)
    # It does not wait for events before it asks.
    ask(tab.page, BIG)
    answered(tab.page, BIG)
    expect(tab.page.locator("#connection")).to_contain_text(NOT_TOLD)
    live(cluster, tab.page)


def test_events_that_come_late(cluster, proxied, open_tab):
    """They do not bring back what the page has seen end."""
    tab, worker = open_behind(open_tab, proxied(LATE), cluster.leader), cluster.workers[0]
    tab.context.add_init_script(COUNT_EVENTS)
    tab.page.reload()
    expect(tab.page.locator("#connection")).to_contain_text(NOT_TOLD)
    before = tab.page.evaluate("window.heard")
    worker.kill()
    has_died(tab.page, worker)
    cluster.start(worker)
    expect(card(tab.page, worker)).to_contain_text("alive")
    card(tab.page, worker).evaluate(RECORD_STATUSES)
    asked = itertools.count(10**15)
    late = lambda: cluster.leader.ask(next(asked)) and tab.page.evaluate("window.heard") >= before + 2
    eventually("both changes come as events too", late)
    expect(tab.page.locator("#results")).to_contain_text(str(next(asked) - 1))
    assert set(tab.page.evaluate("window.statuses")) <= {"alive"}


def test_events_that_are_refused_for_a_while(cluster, open_tab):
    tab = open_tab(cluster.leader.url())
    tab.allowed.append("429")
    tab.page.route("**/events", lambda route: route.fulfill(status=429))
    tab.page.reload()
    connection = tab.page.locator("#connection")
    expect(connection).to_contain_text(NOT_TOLD)
    live(cluster, tab.page)
    tab.page.unroute("**/events")
    expect(connection).to_contain_text("Connected to leader")
    expect(connection).not_to_contain_text(NOT_TOLD)


def test_a_proxy_that_cuts_the_events_off(cluster, proxied, open_tab):
    """The page comes back to them, and stays with its node meanwhile."""
    proxy = proxied(IMPATIENT)
    tab = open_behind(open_tab, proxy, cluster.leader)
    tab.allowed += ["ERR_INCOMPLETE_CHUNKED_ENCODING", "504"]
    tab.page.evaluate(RECORD_STATES)
    # Only a call into the browser lets its events come.
    eventually("it comes back", lambda: tab.page.evaluate("0") or len(requests_for(tab, "/events")) >= 4)
    live(cluster, tab.page)
    assert set(tab.page.evaluate("window.states")) <= {"connected"}


def test_the_node_behind_the_proxy_dies(cluster, proxied, open_tab):
    """What the proxy says instead is no answer; the page goes on with a member."""
    proxy = proxied()
    tab = open_behind(open_tab, proxy, cluster.leader)
    tab.allowed += ["502", "504", "ERR_INCOMPLETE_CHUNKED_ENCODING"]
    lose([cluster.leader], tab)
    connected_elsewhere(tab.page, cluster, cluster.leader)
    ask(tab.page, BIG)
    answered(tab.page, BIG)


def test_below_a_path(cluster, proxied, open_tab):
    proxy = proxied(BELOW)
    # nginx itself leads from there to the one with a slash.
    tab = open_behind(open_tab, proxy, cluster.leader, "/primacy")
    live(cluster, tab.page)
    expect(tab.page.locator("#connection")).not_to_contain_text(NOT_TOLD)
    for name in ("Swagger UI", "OpenAPI"):
        link = tab.page.get_by_role("link", name=name)
        assert link.evaluate("link => link.href").startswith(f"http://{proxy}/primacy/"), name
    assert {request.url.startswith(f"http://{proxy}/primacy") for request in tab.requests} == {True}
    tab.page.get_by_role("link", name="Swagger UI").click()
    expect(tab.page).to_have_url(f"http://{proxy}/primacy/docs/")


@pytest.mark.parametrize("locations, path", [(PLAIN, ""), (BELOW, "/primacy")])
def test_answers_leave_while_others_are_worked_on(proxied, locations, path):
    """The first of many comes long before the last, which waits for its deadline."""
    proxy = proxied(locations)
    connection = http.client.HTTPConnection(proxy, timeout=WAIT)
    headers = {"Content-Type": "application/x-ndjson", "Grpc-Timeout": "3S"}
    connection.request("POST", f"{path}/primes", f"17\n{LONG}\n", headers)
    answer = connection.getresponse()
    first = json.loads(answer.readline())
    came = time.monotonic()
    rest = [json.loads(line) for line in answer]
    assert (first["number"], first["is_prime"]) == ("17", True)
    assert [rest[0]["error"]["code"], rest[-1]] == ["deadline_exceeded", {"done": True, "count": 2}]
    assert time.monotonic() - came > 1, "the first was held back"
    connection.close()


def test_lines_are_answered_while_more_are_sent(proxied):
    """As the README says that nginx can be told to."""
    connection = http.client.HTTPConnection(proxied(DUPLEX), timeout=WAIT)
    connection.putrequest("POST", "/primes")
    for header in (("Content-Type", "application/x-ndjson"), ("Transfer-Encoding", "chunked")):
        connection.putheader(*header)
    connection.endheaders()
    connection.send(b"3\r\n17\n\r\n")
    answer = connection.getresponse()
    assert json.loads(answer.readline())["number"] == "17"
    connection.send(b"3\r\n19\n\r\n0\r\n\r\n")
    assert [json.loads(line).get("number") for line in answer] == ["19", None]
    connection.close()
