"""Proxies and clients that were not written here, over HTTP: those whose bodies are not read, and those that half-close."""

import http.client
import json
import os
import subprocess
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
import urllib3
from conftest import WAIT, Cluster
from nginx import PLAIN, nginx

QUESTION = b'{"number": 17}'
# What one number may not have; more than is read for an answer; more than a client may have sent when it is told to stop.
SIZES = (17_000, 900_000, 3_000_000, 15_000_000)
LARGER = "client_max_body_size 100m;"
UNBUFFERED = LARGER + "location / { proxy_pass http://NODE; proxy_http_version 1.1; proxy_request_buffering off; }"
# Every client of lines may be as late as this with the first one, and later.
LATE = 6


@pytest.fixture(scope="module")
def node():
    with Cluster(workers=0) as alone:
        yield alone.leader


def statuses(count, ask):
    """How often each status came, or what came instead."""
    seen = Counter()
    for _ in range(count):
        try:
            seen[ask()] += 1
        except Exception as error:
            seen[repr(error)] += 1
    return seen


def post(address, body):
    connection = http.client.HTTPConnection(address, timeout=WAIT)
    try:
        connection.request("POST", "/prime", body)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("size,count", [(17_000, 200), (900_000, 20)])
def test_a_refusal_comes_through_a_plain_nginx(node, size, count):
    with nginx(node.http, PLAIN) as proxy:
        assert statuses(count, lambda: post(proxy, b"x" * size)) == {413: count}
        assert post(proxy, QUESTION) == 200


@pytest.mark.parametrize("locations", [LARGER + PLAIN, UNBUFFERED])
@pytest.mark.parametrize("size", SIZES)
def test_a_refusal_of_more_comes_through_nginx(node, locations, size):
    with nginx(node.http, locations) as proxy:
        assert statuses(10, lambda: post(proxy, b"x" * size)) == {413: 10}


@pytest.mark.parametrize("size", SIZES)
def test_a_client_that_keeps_its_connection_gets_the_next_answer(node, size):
    connection = http.client.HTTPConnection(node.http, timeout=WAIT)
    pool = urllib3.PoolManager(maxsize=1, retries=False, timeout=WAIT)

    def by_http_client(method, path, body=None):
        connection.request(method, path, body)
        answer = connection.getresponse()
        answer.read()
        return answer.status

    def by_urllib3(method, path, body=None):
        return pool.request(method, node.url(path), body=body).status

    for ask in (by_http_client, by_urllib3):
        for method, path, status in (("POST", "/prime", 413), ("PUT", "/prime", 405), ("POST", "/no", 404), ("GET", "/livez", 200)):
            for _ in range(5):
                assert ask(method, path, b"x" * size) == status
                assert ask("GET", "/prime/17") == 200


# httpx is slow: it takes longer for the last one than a stream lingers.
@pytest.mark.parametrize("size", SIZES[:-1])
def test_a_client_of_http_2_gets_both_answers(node, size):
    with httpx.Client(http1=False, http2=True, timeout=WAIT, trust_env=False) as client:
        # It learns how much it may send ahead; before that, a large body is too much for httpx itself.
        assert client.get(node.url("/livez")).status_code == 200
        for _ in range(3):
            assert client.post(node.url("/prime"), content=b"x" * size).status_code == 413
            assert client.get(node.url("/prime/17")).status_code == 200


@pytest.mark.parametrize("size", SIZES)
def test_curl_goes_on_with_the_next_url(node, size, tmp_path):
    body = tmp_path / "body"
    body.write_bytes(b"x" * size)
    code = ("-sS", "-o", os.devnull, "-w", "%{http_code} ")
    for expect in ("Expect:", "Expect: 100-continue"):
        refused = (*code, "-H", expect, "--data-binary", f"@{body}", node.url("/prime"))
        assert run("curl", *refused, "--next", *code, node.url("/prime/17")) == "413 200 "
    # Over HTTP/2 Debian's curl cannot use a connection twice.
    for _ in range(5):
        refused = ("--http2-prior-knowledge", *code, "--data-binary", f"@{body}")
        assert run("curl", *refused, node.url("/prime")) == "413 "
        # The gRPC port refuses what is no call of gRPC.
        assert run("curl", *refused, f"http://{node.grpc}/scheduler.Scheduler/CheckPrime") == "415 "


def test_go_gets_its_answers(node, tmp_path):
    ask = tmp_path / "ask"
    run("go", "build", "-o", ask, Path(__file__).with_name("ask.go"), env={**os.environ, "GOCACHE": str(tmp_path / "cache")}, timeout=120)
    for size in (*SIZES, 100_000_000):
        assert run(ask, node.url("/prime"), str(size), "10") == "413: 10\n200: 10\n", size


@pytest.mark.parametrize("relay", [("nc", "-N", "HOST", "PORT"), ("socat", "-t", str(WAIT), "-", "TCP:HOST:PORT")])
def test_a_relay_that_half_closes_gets_every_answer(node, relay):
    host, port = node.http.rsplit(":", 1)
    command = [part.replace("HOST", host).replace("PORT", port) for part in relay]
    get = b"GET /prime/17 HTTP/1.1\r\nHost: test\r\n\r\n"
    question = b"POST /prime HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n%b" % (len(QUESTION), QUESTION)
    for _ in range(20):
        assert run(*command, input=get + question + get).count("HTTP/1.1 200 OK") == 3
    lines = b"".join(b"%d\n" % number for number in range(20_000))
    head = "POST /primes HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n"
    answer = run(*command, input=(head % len(lines)).encode() + lines)
    assert '{"done":true,"count":20000}' in answer


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
def test_the_first_line_from_curl_may_be_late(node, version):
    lines = ("-H", "Content-Type: application/x-ndjson", "-T", "-", "-X", "POST", node.url("/primes"))
    curl = subprocess.Popen(["curl", "-sS", version, *lines], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    time.sleep(LATE)
    answer, last = curl.communicate("17\n", timeout=WAIT)[0].splitlines()
    assert (json.loads(answer)["is_prime"], json.loads(last)) == (True, {"done": True, "count": 1})


def run(*command, input=None, env=None, timeout=WAIT):
    ran = subprocess.run(command, input=input, capture_output=True, env=env, timeout=timeout, check=True)
    return ran.stdout.decode()
