"""Clients that were not written here, over TLS: curl, httpx, grpcio, and OpenSSL, which also tries what is out of date."""

import json
import os
import runpy
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPSConnection
from pathlib import Path
from types import SimpleNamespace

import grpc
import httpx
import pytest
from certificates import certificates, elsewhere
from conftest import WAIT, Cluster, eventually
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

CHECK, CHECK_MANY, WATCH = (f"scheduler.Scheduler.{name}" for name in ("CheckPrime", "CheckPrimes", "WatchCluster"))
LINES = ("-H", "Content-Type: application/x-ndjson", "-X", "POST")
COUNT = 20_000
DONE = {"done": True, "count": COUNT}
CODE = ("-sS", "-o", os.devnull, "-w", "%{http_code} ")
GET = b"GET /livez HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n"
EVENTS = "GET /events HTTP/1.1\r\nHost: node\r\n\r\n"
# OpenSSL's own limits are off, so that it is the node that refuses.
ANYTHING = "@SECLEVEL=0"
SUITES = {f"ECDHE-{{}}-{cipher}" for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")}

grpcurl = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("grpcurl"))))


@pytest.fixture(scope="module")
def node(certificates):
    with Cluster(workers=2, certificates=certificates) as cluster:
        yield cluster.leader


@pytest.fixture(scope="module")
def strict(certificates):
    """A node that serves nobody without a certificate."""
    with Cluster(workers=1, certificates=certificates, tls_clients="require") as cluster:
        yield cluster.leader


@pytest.fixture(scope="module")
def rsa(certificates):
    """A node with a certificate for RSA, which an authority between it and the CA has signed."""
    signed(certificates, "between", "ca", "-newkey", "rsa:2048", "-addext", "basicConstraints=critical,CA:TRUE")
    signed(certificates, "rsa", "between", "-newkey", "rsa:2048", "-addext", "subjectAltName=IP:127.0.0.1")
    Path(certificates.path("chain")).write_bytes(certificates.bytes("rsa") + certificates.bytes("between"))
    pair = {"tls_cert": certificates.path("chain"), "tls_key": certificates.path("rsa-key")}
    with Cluster(workers=0, certificates=certificates, **pair) as alone:
        yield alone.leader


def signed(certificates, name, by, *told):
    (certificate, key), (authority, its_key) = certificates.pair(name), certificates.pair(by)
    out = ("-out", certificate, "-keyout", key, "-CA", authority, "-CAkey", its_key)
    run("openssl", "req", "-x509", "-nodes", "-subj", f"/CN={name}", *out, *told)


def run(*command, input=None):
    """What a program prints."""
    ran = subprocess.run(command, input=input, capture_output=True, timeout=WAIT)
    assert ran.returncode == 0, (command, ran.stdout, ran.stderr)
    return ran.stdout.decode()


def failure(*command):
    """What a program says that fails, and prints nothing."""
    ran = subprocess.run(command, capture_output=True, timeout=WAIT)
    assert ran.returncode != 0 and ran.stdout == b"", (command, ran.stdout, ran.stderr)
    return ran.stderr.decode()


def believing(certificates):
    """A curl that believes this CA."""
    return "curl", "-sS", "--cacert", certificates.ca


def curl(certificates, *arguments, **options):
    return run(*believing(certificates), *arguments, **options)


def reading_curl(certificates, *arguments):
    """A curl that prints what comes as it comes."""
    command = [*believing(certificates), "-N", "-m", str(WAIT), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def lines(count=COUNT):
    return b"".join(b"%d\n" % number for number in range(count))


# curl


@pytest.mark.parametrize("version, spoken", [("--http1.0", 1.0), ("--http1.1", 1.1), ("--http2", 2)])
def test_curl_is_answered(node, certificates, version, spoken):
    for url in (node.url("/prime/17"), node.url("/prime/17").replace("127.0.0.1", "localhost")):
        answer = curl(certificates, version, "-w", "\n%{http_version}", url)
        body, version_of_answer = answer.splitlines()
        assert (json.loads(body)["is_prime"], float(version_of_answer)) == (True, spoken)


def test_curl_believes_neither_another_ca_nor_another_name(node, certificates, elsewhere):
    port = node.http.rsplit(":", 1)[1]
    other = ("--resolve", f"other.example:{port}:127.0.0.1", f"https://other.example:{port}/")
    for command, why in [
        ((*believing(elsewhere), node.url()), "unable to get local issuer"),
        (("curl", "-sS", node.url()), "unable to get local issuer"),
        ((*believing(certificates), *other), "no alternative certificate subject name matches"),
    ]:
        assert why in failure(*command)


def test_curl_shows_a_certificate_where_one_is_required(strict, certificates, elsewhere):
    def showing(by):
        certificate, key = by.pair("client")
        return (*believing(certificates), "--cert", certificate, "--key", key, strict.url("/prime/17"))

    assert json.loads(run(*showing(certificates)))["is_prime"]
    # Both authorities have the same name.
    assert "alert decrypt error" in failure(*showing(elsewhere))
    for version in ("--tlsv1.2", "--tls-max", "1.2"), ("--tlsv1.3",):
        assert "certificate required" in failure(*believing(certificates), *version, strict.url("/prime/17"))


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1", "--http2", "--http2-prior-knowledge"])
def test_clear_text_is_told_to_write_https(node, version):
    answer = run("curl", "-sS", version, "-w", "\n%{http_code}", node.url("/prime/17").replace("https", "http"))
    problem, status = answer.splitlines()
    assert ("https://" in json.loads(problem)["detail"], status) == (True, "400")


def test_clear_text_at_the_grpc_port_ends(node):
    for version in ("--http1.1", "--http2-prior-knowledge"):
        assert failure("curl", "-sS", version, f"http://{node.grpc}/")


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_curl_hears_events(node, certificates, version):
    with reading_curl(certificates, version, node.url("/events")) as events:
        assert events.stdout.readline() == "event: cluster\n"
        [seen] = [line for line in iter(events.stdout.readline, "\n") if line.startswith("data: ")]
        members = json.loads(seen.removeprefix("data: "))["members"]
        assert [member["scheme"] for member in members] == ["https"] * 3
        eventually("it goes on", lambda: events.stdout.readline() == "event: alive\n")
        events.terminate()


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_curl_is_answered_line_by_line(node, certificates, version):
    answer = curl(certificates, version, *LINES, "--data-binary", "@-", node.url("/primes"), input=lines())
    answers = [json.loads(line) for line in answer.splitlines()]
    assert [answer["number"] for answer in answers[:-1]] == list(map(str, range(COUNT)))
    assert answers[-1] == DONE


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
@pytest.mark.parametrize("size", [17_000, 900_000, 15_000_000])
def test_a_refusal_comes_though_the_body_is_not_read(node, certificates, version, size, tmp_path):
    body = tmp_path / "body"
    body.write_bytes(b"x" * size)
    refused = (version, *CODE, "--data-binary", f"@{body}", node.url("/prime"))
    assert curl(certificates, *refused) == "413 "
    if version == "--http1.1":
        after = ("--next", "--cacert", certificates.ca, *CODE, node.url("/prime/17"))
        assert curl(certificates, *refused, *after) == "413 200 "


# Python's own client, httpx, and grpcio with the BoringSSL that it brings


def answers_each_line_before_the_next(connection):
    connection.putrequest("POST", "/primes")
    for header in (("Content-Type", "application/x-ndjson"), ("Transfer-Encoding", "chunked")):
        connection.putheader(*header)
    connection.endheaders()
    answer = None
    for line in (b"17\n", b"19\n"):
        connection.send(b"3\r\n%b\r\n" % line)
        answer = answer or connection.getresponse()
        assert json.loads(answer.readline())["number"] == line.decode().strip()
    connection.send(b"0\r\n\r\n")
    assert json.loads(answer.read()) == {"done": True, "count": 2}
    connection.close()


def test_each_line_is_answered_before_the_next(node, certificates):
    answers_each_line_before_the_next(HTTPSConnection(node.http, timeout=WAIT, context=certificates.context))


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize("which", ["node", "strict"])
def test_httpx(request, certificates, which, version):
    asked = request.getfixturevalue(which)
    protocols = {"http1": version == "HTTP/1.1", "http2": version == "HTTP/2"}
    with httpx.Client(verify=certificates.context, timeout=WAIT, trust_env=False, **protocols) as client:
        for _ in range(3):
            answer = client.post(asked.url("/prime"), json={"number": 17})
            assert (answer.json()["is_prime"], answer.http_version) == (True, version)


def channel(address, certificates, shows=None):
    certificate, key = map(certificates.bytes, (shows, f"{shows}-key")) if shows else (None, None)
    credentials = grpc.ssl_channel_credentials(certificates.bytes("ca"), key, certificate)
    # Without the sessions and connections of other channels.
    return grpc.secure_channel(address, credentials, [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)])


def call(opened, method, *requests):
    """By what reflection says of the method."""
    known = grpcurl.Reflection(opened, "v1")
    found = known.find(method, "Method")
    return known.call(found, [known.request(found, fields) for fields in requests], WAIT)


@pytest.mark.parametrize("which, shows", [("node", None), ("node", "client"), ("strict", "client")])
def test_grpcio(request, certificates, which, shows):
    asked = request.getfixturevalue(which)
    with channel(asked.grpc, certificates, shows) as opened:
        [answer] = call(opened, CHECK, {"number": 17})
        assert answer.is_prime
        answers = list(call(opened, CHECK_MANY, *({"number": number} for number in range(2_000))))
        assert sum(checked.answer.is_prime for checked in answers) == 303
        watch = call(opened, WATCH, {})
        assert next(watch).leader.name == "leader"
        watch.cancel()
        assert HealthStub(opened).Check(HealthCheckRequest(), timeout=WAIT).status == HealthCheckResponse.SERVING


def is_unavailable(opened):
    with opened, pytest.raises(grpc.RpcError) as raised:
        HealthStub(opened).Check(HealthCheckRequest(), timeout=WAIT)
    return raised.value.code() == grpc.StatusCode.UNAVAILABLE


def test_grpcio_is_refused(node, strict, certificates, elsewhere):
    assert is_unavailable(channel(strict.grpc, certificates))
    assert is_unavailable(channel(node.grpc, elsewhere))
    assert is_unavailable(grpcurl.connect(node.grpc))


# openssl s_client


def s_client(address, *arguments, input=b"", must=True):
    """What it says of a connection that is agreed on, and is refused where it must not be."""
    command = ["openssl", "s_client", "-connect", address, *arguments]
    ran = subprocess.run(command, input=input, capture_output=True, timeout=WAIT)
    said = (ran.stdout + ran.stderr).decode(errors="replace")
    if must is not None:
        assert (ran.returncode == 0) is must, said
    return said


@pytest.mark.parametrize("port", ["http", "grpc"])
def test_tls_1_2_and_1_3_are_agreed_on_and_nothing_older(node, certificates, port):
    address = getattr(node, port)
    for version, name in ("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3"):
        said = s_client(address, version, "-CAfile", certificates.ca, "-verify_return_error", "-alpn", "h2")
        for part in (f"New, {name}, Cipher is", "Compression: NONE", "ALPN protocol: h2", "Verification: OK"):
            assert part in said, said
    for version in ("-tls1", "-tls1_1"):
        assert "alert" in s_client(address, version, "-cipher", f"ALL{ANYTHING}", must=False)


@pytest.mark.parametrize("which, key", [("node", "ECDSA"), ("rsa", "RSA")])
def test_only_suites_with_forward_secrecy_and_authenticated_encryption_are_taken(request, which, key):
    address = request.getfixturevalue(which).http
    known = run("openssl", "ciphers", "-s", "-tls1_2", f"ALL:COMPLEMENTOFALL:{ANYTHING}").strip().split(":")
    suites = [suite for suite in known if not suite.startswith("TLS_")]
    expected = {suite.format(key) for suite in SUITES}
    assert len(suites) > 50 and expected < set(suites)

    def is_taken(suite):
        return f"Cipher is {suite}\n" in s_client(address, "-tls1_2", "-cipher", f"{suite}:{ANYTHING}", must=None)

    with ThreadPoolExecutor() as pool:
        assert {suite for suite, taken in zip(suites, pool.map(is_taken, suites)) if taken} == expected


def test_the_suites_of_tls_1_3(node):
    for suite in ("TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"):
        assert f"Cipher is {suite}\n" in s_client(node.http, "-tls1_3", "-ciphersuites", suite)
    # Its tag is cut to 8 bytes.
    s_client(node.http, "-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_8_SHA256", must=False)


def test_names_and_the_whole_chain_are_shown(node, rsa, certificates):
    believes = ("-CAfile", certificates.ca, "-verify_return_error", "-showcerts")
    for asked, subjects in (node, ["node"]), (rsa, ["rsa", "between"]):
        said = s_client(asked.http, *believes, "-verify_ip", "127.0.0.1")
        assert [line.split("= ")[1] for line in said.splitlines() if " s:" in line] == subjects
    s_client(node.http, *believes, "-verify_hostname", "localhost")
    s_client(node.http, *believes, "-verify_hostname", "other.example", must=False)
    s_client(node.http, *believes, "-verify_ip", "127.0.0.2", must=False)


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("port", ["http", "grpc"])
def test_a_session_is_resumed_without_early_data(node, port, version, tmp_path):
    address, session, early = getattr(node, port), tmp_path / "session", tmp_path / "early"
    early.write_bytes(GET)
    # The port for gRPC ends the connection, because that is no HTTP/2; the session was sent before.
    ask = lambda *more: s_client(address, version, "-ign_eof", *more, input=GET, must=None)
    assert "New, TLSv" in ask("-sess_out", session)
    again = ask("-sess_in", session, *(["-early_data", early] if version == "-tls1_3" else []))
    assert "Reused, TLSv" in again
    if version == "-tls1_3":
        assert "Early data was not sent" in again and "Max Early Data: 0" in again


def test_nothing_is_negotiated_anew(node):
    """A client that asks for it gets no second handshake; it ends the connection at the next event."""
    command = ["timeout", str(WAIT), "openssl", "s_client", "-connect", node.http, "-tls1_2"]
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    with subprocess.Popen(command, stderr=subprocess.STDOUT, text=True, **pipes) as client:
        client.stdin.write(EVENTS)
        client.stdin.flush()
        eventually("events come", lambda: client.stdout.readline() == "event: cluster\n")
        client.stdin.write("R\n")
        client.stdin.flush()
        rest = client.stdout.read()
    assert "RENEGOTIATING" in rest and client.returncode == 1, rest
    assert rest.count("BEGIN CERTIFICATE") == 0


def test_a_renewed_certificate_is_shown_while_connections_go_on(certificates, node):
    serial = lambda: run("openssl", "x509", "-noout", "-serial", input=s_client(node.http).encode())
    with reading_curl(certificates, node.url("/events")) as events:
        before = serial()
        certificates.issue("node")
        eventually("the new one is shown", lambda: serial() != before)
        events.stdout.read(1)
        assert curl(certificates, *CODE, node.url("/prime/17")) == "200 "
        assert events.poll() is None
        events.terminate()


# What else comes to a port


@pytest.mark.parametrize("name", [("-servername", "localhost"), ("-servername", "other.example"), ("-noservername",)])
def test_whatever_name_is_asked_for_gets_the_certificate(node, certificates, name):
    said = s_client(node.http, *name, "-CAfile", certificates.ca, "-ign_eof", "-verify_return_error", input=GET)
    assert "HTTP/1.1 200" in said and "Verification: OK" in said


def test_protocols_that_are_not_spoken_here(node):
    for address, alpn in (node.http, "h2c"), (node.http, "spdy/3"), (node.grpc, "http/1.1"):
        assert "no application protocol" in s_client(address, "-alpn", alpn, must=False)
    assert "ALPN protocol: http/1.1" in s_client(node.http, "-alpn", "unknown,http/1.1")
    # Who names none is served: on the port for gRPC only HTTP/2 is spoken, in the other HTTP/1.1 too.
    for address in (node.http, node.grpc):
        assert "No ALPN negotiated" in s_client(address)


STRANGE = (b"SSH-2.0-client\r\n", b"\x80\x2e\x01\x00\x02", b"\0" * 64, b"\x16\x03\x01\x00\x05hello", b"\x15\x03\x03\x00\x02\x02\x28")


@pytest.mark.parametrize("port", ["http", "grpc"])
@pytest.mark.parametrize("sent", STRANGE)
def test_what_is_no_handshake_ends_at_once(node, certificates, port, sent):
    host, number = getattr(node, port).rsplit(":", 1)
    begun = time.monotonic()
    with socket.create_connection((host, int(number)), timeout=WAIT) as stream:
        stream.sendall(sent)
        while stream.recv(4096):
            pass
    assert time.monotonic() - begun < 2
    assert curl(certificates, *CODE, node.url("/prime/17")) == "200 "
