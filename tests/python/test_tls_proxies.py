"""nginx and Caddy in clear text before a node that speaks TLS, and wants a certificate of everybody."""

import json
from http.client import HTTPConnection

import pytest
from caddy import caddy
from certificates import certificates, elsewhere
from conftest import WAIT, Cluster, eventually
from nginx import nginx
from test_tls import CHECK, CHECK_MANY, COUNT, DONE, LINES, answers_each_line_before_the_next, call, grpcurl, lines, run

# In Debian 12, nginx speaks no TLS 1.3 to those behind it unless it is told to.
VERSIONS = ("TLSv1.2", "TLSv1.3")


@pytest.fixture(scope="module")
def strict(certificates):
    with Cluster(workers=1, certificates=certificates, tls_clients="require") as cluster:
        yield cluster.leader


def by_nginx(kind, believes, shows, name, version):
    certificate, key = shows.pair("client")
    return f"""location / {{
        {kind}_pass {'grpcs' if kind == 'grpc' else 'https'}://NODE;
        {kind}_ssl_trusted_certificate {believes.ca};
        {kind}_ssl_verify on;
        {kind}_ssl_name {name};
        {kind}_ssl_server_name on;
        {kind}_ssl_certificate {certificate};
        {kind}_ssl_certificate_key {key};
        {kind}_ssl_protocols {version};
        {'proxy_http_version 1.1; proxy_request_buffering off;' if kind == 'proxy' else ''}
    }}"""


def by_caddy(kind, believes, shows, name):
    certificate, key = shows.pair("client")
    return f"""
        tls
        tls_trusted_ca_certs {believes.ca}
        tls_server_name {name}
        tls_client_auth {certificate} {key}
        versions {'2' if kind == 'grpc' else '1.1 2'}
    """


def before(proxy, node, kind, believes, shows=None, name="localhost"):
    """The proxy, before the port of the node for this kind of call."""
    address, shows = node.grpc if kind == "grpc" else node.http, shows or believes
    if proxy == "caddy":
        return caddy(address, by_caddy(kind, believes, shows, name))
    return nginx(address, by_nginx(kind, believes, shows, name, proxy), listen="http2" if kind == "grpc" else "")


each_proxy = pytest.mark.parametrize("proxy", [*VERSIONS, "caddy"])


def asked(address, method, path, body=None, **headers):
    """The status and the body of an answer."""
    connection = HTTPConnection(address, timeout=WAIT)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def hears_events(address):
    connection = HTTPConnection(address, timeout=WAIT)
    connection.request("GET", "/events")
    answer = connection.getresponse()
    eventually("the first event comes", lambda: answer.readline() == b"event: cluster\n")
    eventually("more come", lambda: answer.readline() == b"event: alive\n")
    connection.close()


@each_proxy
def test_http_through_a_proxy(strict, certificates, proxy):
    with before(proxy, strict, "proxy", certificates) as address:
        for _ in range(5):
            status, body = asked(address, "POST", "/prime", b'{"number": 17}')
            assert (status, json.loads(body)["is_prime"]) == (200, True)
        assert asked(address, "POST", "/prime", b"x" * 900_000)[0] == 413
        # Over HTTP/1.1 Caddy reads no more of a body once its answer has begun.
        version = "--http2-prior-knowledge" if proxy == "caddy" else "--http1.1"
        bulk = run("curl", "-sS", version, *LINES, "--data-binary", "@-", f"http://{address}/primes", input=lines())
        *answers, done = bulk.splitlines()
        assert (len(answers), json.loads(done)) == (COUNT, DONE)
        hears_events(address)


@pytest.mark.parametrize("version", VERSIONS)
def test_each_line_is_answered_through_nginx_before_the_next(strict, certificates, version):
    with before(version, strict, "proxy", certificates) as address:
        answers_each_line_before_the_next(HTTPConnection(address, timeout=WAIT))


@each_proxy
def test_grpc_through_a_proxy(strict, certificates, proxy):
    with before(proxy, strict, "grpc", certificates) as address, grpcurl.connect(address) as opened:
        [answer] = call(opened, CHECK, {"number": 17})
        assert answer.is_prime
        answers = list(call(opened, CHECK_MANY, *({"number": number} for number in range(2_000))))
        assert sum(checked.answer.is_prime for checked in answers) == 303


@each_proxy
def test_a_proxy_believes_neither_another_ca_nor_another_name(strict, certificates, elsewhere, proxy):
    for wrong in ({"believes": elsewhere, "shows": certificates}, {"believes": certificates, "name": "other.example"}):
        with before(proxy, strict, "proxy", **wrong) as address:
            assert asked(address, "GET", "/livez")[0] == 502


@each_proxy
def test_a_proxy_with_a_certificate_of_another_ca_is_refused(strict, certificates, elsewhere, proxy):
    with before(proxy, strict, "proxy", certificates, shows=elsewhere) as address:
        assert asked(address, "GET", "/livez")[0] == 502


@pytest.mark.parametrize("version", VERSIONS)
def test_nginx_resumes_its_sessions(strict, certificates, version, tmp_path):
    log = tmp_path / "log"
    locations = by_nginx("proxy", certificates, certificates, "localhost", version)
    with nginx(strict.http, locations, log=f"{log} debug") as address:
        for _ in range(5):
            assert asked(address, "GET", "/livez")[0] == 200
    # Over TLS 1.2 OpenSSL forgets a session that was resumed with a new ticket, and nginx keeps only the old one.
    assert log.read_text().count("SSL reused session") >= 2
