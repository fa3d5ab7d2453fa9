"""The wire, by a client that was not written here: grpcio, from the seed's file and from reflection alone."""

import functools
import importlib
import json
import os
import random
import runpy
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
from google.protobuf import descriptor_pb2, json_format, message_factory
from grpc import StatusCode
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_tools import protoc

HERE = Path(__file__).parent
ADDRESSES = os.environ["PRIMACY_GRPC"].split(",")
LEADER, *_, LAST = ADDRESSES
# Whatever is waited for comes within this, even on a busy machine.
WAIT = 20
WORKERS = {"worker1", "worker2", "worker3"}
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
PRIMES = [2, 3, 17, 2**31 - 1, 2**61 - 1, 9223372036854775783]
# A Carmichael number, and the least that fool Miller-Rabin with the first 4 and the first 9 primes, are among them.
OTHERS = [INT64_MIN, INT64_MIN + 1, -17, -2, -1, 0, 1, 4, 561, 3215031751, 3825123056546413051, INT64_MAX]
# 9,900 digits without a factor below 2^21: its check takes seconds.
LONG = "1" + "63".zfill(9899)

each_node = pytest.mark.parametrize("address", ADDRESSES)
each_version = pytest.mark.parametrize("version", ["v1", "v1alpha"])


def stubs_of_the_seed():
    with tempfile.TemporaryDirectory() as out:
        arguments = ["protoc", f"-I{HERE}", f"--python_out={out}", f"--grpc_python_out={out}", "seed.proto"]
        assert protoc.main(arguments) == 0
        sys.path.insert(0, out)
        return importlib.import_module("seed_pb2"), importlib.import_module("seed_pb2_grpc")


seed, stubs = stubs_of_the_seed()
grpcurl = SimpleNamespace(**runpy.run_path(str(HERE / "grpcurl")))
channel = functools.cache(grpcurl.connect)


@functools.cache
def reflection(address, version="v1"):
    return grpcurl.Reflection(channel(address), version)


def scheduler(address=LEADER):
    return stubs.SchedulerStub(channel(address))


def worker(address=LEADER):
    return stubs.WorkerStub(channel(address))


def number(value):
    return seed.PrimeRequest(number=value)


def check(fields, address=LEADER, version="v1", timeout=WAIT, **options):
    """CheckPrime by what reflection says of it, as JSON."""
    method = reflection(address, version).find("scheduler.Scheduler.CheckPrime", "Method")
    asked, answered = map(message_factory.GetMessageClass, (method.input_type, method.output_type))
    path = "/scheduler.Scheduler/CheckPrime"
    call = channel(address).unary_unary(path, asked.SerializeToString, answered.FromString)
    answer = call.future(asked(**fields), timeout=timeout, **options).result(timeout=WAIT)
    return json_format.MessageToDict(answer)


def view(address=LEADER):
    """The first message of WatchCluster."""
    known = reflection(address)
    method = known.find("scheduler.Scheduler.WatchCluster", "Method")
    views = known.call(method, [known.request(method, {})], WAIT)
    first = next(views)
    views.cancel()
    return first


def lasting(address):
    """What of a view does not move by itself."""
    seen = view(address)
    seen.ClearField("observed_at_ms")
    for member in seen.members:
        for figure in ("last_seen_ms", "in_flight", "completed"):
            member.ClearField(figure)
    return seen


def refused(code, call, *arguments, **options):
    with pytest.raises(grpc.RpcError) as raised:
        call(*arguments, **options)
    assert raised.value.code() is code, raised.value
    return raised.value


def is_prime(value):
    """Miller-Rabin, deterministic far beyond 64 bits by these bases."""
    bases = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
    if value < 2 or any(value % base == 0 for base in bases):
        return value in bases
    twos = ((value - 1) & (1 - value)).bit_length() - 1
    odd = (value - 1) >> twos

    def passes(base):
        power = pow(base, odd, value)
        squares = (pow(power, 2**square, value) for square in range(twos))
        return power == 1 or value - 1 in squares

    return all(map(passes, bases))


def test_the_judge_knows_the_edges():
    assert all(map(is_prime, PRIMES)) and not any(map(is_prime, OTHERS))
    assert sum(map(is_prime, range(10_000))) == 1229


@each_node
def test_check_prime(address):
    for value in PRIMES + OTHERS:
        answer = scheduler(address).CheckPrime(number(value), timeout=WAIT)
        assert answer.is_prime is (value in PRIMES), value
        assert answer.processed_by in WORKERS, value


@each_node
def test_check_primes_answers_in_order_while_the_call_goes_on(address):
    method = reflection(address).find("scheduler.Scheduler.CheckPrimes", "Method")
    asked, checked = map(message_factory.GetMessageClass, (method.input_type, method.output_type))
    path = "/scheduler.Scheduler/CheckPrimes"
    call = channel(address).stream_stream(path, asked.SerializeToString, checked.FromString)
    draw = random.Random(17)
    numbers = [draw.getrandbits(draw.randint(1, 63)) for _ in range(20_000)]
    answered = threading.Semaphore(0)

    def requests():
        yield asked(number=17)
        assert answered.acquire(timeout=WAIT), "one that comes alone is answered at once"
        yield asked(number=1, decimal="1")
        yield asked(decimal="x")
        yield from (asked(number=value) for value in numbers)

    answers = call(requests(), timeout=2 * WAIT)
    first = next(answers)
    answered.release()
    assert first.answer.is_prime and first.answer.processed_by in WORKERS
    for _ in range(2):
        failure = next(answers).failure
        assert failure.code == StatusCode.INVALID_ARGUMENT.value[0] and failure.message, failure
    by = set()
    for value, checked in zip(numbers, answers, strict=True):
        assert checked.answer.is_prime is is_prime(value), value
        by.add(checked.answer.processed_by)
    assert by == WORKERS


def test_the_workers_take_turns():
    def in_turn():
        by = [scheduler().CheckPrime(number(value), timeout=WAIT).processed_by for value in range(17, 41)]
        return set(by[:3]) == WORKERS and by == by[:3] * 8

    # What an earlier test left in flight counts as load for a while.
    end = time.monotonic() + WAIT
    while not in_turn():
        assert time.monotonic() < end


@each_node
def test_plain_calls_of_a_worker_are_answered_and_change_nothing(address):
    before = list(map(lasting, ADDRESSES))
    for worker_id in ("", "worker1", "stranger"):
        assert worker(address).Heartbeat(seed.HeartbeatRequest(worker_id=worker_id), timeout=WAIT).alive
    name = view(address).observed_by
    for value in PRIMES + OTHERS:
        answer = worker(address).ProcessPrime(number(value), timeout=WAIT)
        assert (answer.is_prime, answer.processed_by) == (value in PRIMES, name), value
    assert list(map(lasting, ADDRESSES)) == before


def test_500_calls_at_once_over_one_channel():
    source = random.randrange(2**32)
    draw = random.Random(source)
    values = [draw.randint(-2, 2 ** draw.randint(1, 63) - 1) for _ in range(250)]
    for start in values[:]:
        values.append(next(value for value in range(min(start, PRIMES[-1]), INT64_MAX) if is_prime(value)))
    calls = [scheduler().CheckPrime.future(number(value), timeout=WAIT) for value in values]
    answers = [call.result(timeout=WAIT) for call in calls]
    wrong = [value for value, answer in zip(values, answers) if answer.is_prime is not is_prime(value)]
    assert (len(answers), wrong) == (500, []), f"numbers of the source {source}"
    assert {answer.processed_by for answer in answers} == WORKERS


@each_version
@each_node
def test_reflection_is_all_that_a_call_needs(address, version):
    known = reflection(address, version)
    own = f"grpc.reflection.{version}.ServerReflection"
    services = {"scheduler.Scheduler", "scheduler.Worker", "grpc.health.v1.Health", own}
    assert services <= set(known.get_services())
    method = known.find("scheduler.Scheduler.CheckPrime", "Method")
    assert method.input_type.fields_by_name["decimal"].number == 10
    assert method.output_type.fields_by_name["certainty"].number == 10
    for fields, prime, certainty, evidence in [
        ({"decimal": str(2**127 - 1)}, True, "PROVEN", {"proof": {"method": "LUCAS_LEHMER"}}),
        ({"decimal": str(10**99 + 289)}, True, "PROBABLE", {}),
        ({"decimal": str(2**127 + 1)}, False, "PROVEN", {"witness": {"factor": "3"}}),
        ({"decimal": "-7"}, False, "PROVEN", {}),
        ({"decimal": "1" + "0" * 9999}, False, "PROVEN", {"witness": {"factor": "2"}}),
        ({"number": 17}, True, "PROVEN", {}),
        ({}, False, "PROVEN", {}),
    ]:
        answer = check(fields, address, version)
        assert answer.pop("processedBy") in WORKERS
        # A false is not printed.
        assert answer == ({"isPrime": True} if prime else {}) | {"certainty": certainty} | evidence, fields


@each_version
@each_node
def test_reflection_of_what_is_not_there_is_an_answer(address, version):
    found = {"file_containing_symbol": "scheduler.Scheduler"}
    missing = [
        {"file_containing_symbol": "no.Such"},
        {"file_by_filename": "no.proto"},
        {"file_containing_extension": {"containing_type": "scheduler.PrimeRequest", "extension_number": 100}},
        {"all_extension_numbers_of_type": "no.Such"},
    ]
    asked = [ServerReflectionRequest(**fields) for question in missing for fields in (question, found)]
    answers = list(reflection(address, version)._stub.ServerReflectionInfo(iter(asked)))
    assert [answer.original_request for answer in answers] == asked
    for answer in answers[::2]:
        assert answer.error_response.error_code == StatusCode.NOT_FOUND.value[0]
        assert "here" in answer.error_response.error_message
    assert all(answer.file_descriptor_response.file_descriptor_proto for answer in answers[1::2])


def shape(message):
    proto = descriptor_pb2.DescriptorProto()
    message.CopyToProto(proto)
    return {(field.number, field.name, field.type, field.label) for field in proto.field}


def signature(method):
    types = (method.input_type.full_name, method.output_type.full_name)
    return method.full_name, *types, method.client_streaming, method.server_streaming


@each_version
def test_the_seeds_file_is_a_part_of_the_one_that_is_served(version):
    known = reflection(LEADER, version)
    for message in seed.DESCRIPTOR.message_types_by_name.values():
        served = shape(known.find(message.full_name, "MessageType"))
        assert shape(message) <= served
        assert all(field[0] >= 10 for field in served - shape(message))
    for service in seed.DESCRIPTOR.services_by_name.values():
        served = map(signature, known.find(service.full_name, "Service").methods)
        assert set(map(signature, service.methods)) <= set(served)


@each_node
def test_a_watch_begins_with_the_whole_cluster(address):
    seen = json_format.MessageToDict(view(address))
    members = seen["members"]
    assert sorted(member["name"] for member in members) == ["leader", *sorted(WORKERS)]
    assert {member["grpcAddr"] for member in members} == set(ADDRESSES)
    assert [member["status"] for member in members] == ["ALIVE"] * 4
    leaders = [(member["id"], member["grpcAddr"]) for member in members if member.get("role") == "LEADER"]
    assert (seen["leader"]["id"], leaders) == (4, [(4, LEADER)])


@each_node
@pytest.mark.parametrize("service", ["", "scheduler.Scheduler", "scheduler.Worker"])
def test_health(address, service):
    health, asked = HealthStub(channel(address)), HealthCheckRequest(service=service)
    watch = health.Watch(asked, timeout=WAIT)
    assert next(watch).status == HealthCheckResponse.SERVING
    assert health.Check(asked, timeout=WAIT).status == HealthCheckResponse.SERVING
    assert watch.is_active(), "a watch goes on"
    watch.cancel()


@each_node
def test_the_health_of_what_is_not_there(address):
    health, asked = HealthStub(channel(address)), HealthCheckRequest(service="no.Such")
    assert "no.Such" in refused(StatusCode.NOT_FOUND, health.Check, asked, timeout=WAIT).details()
    watch = health.Watch(asked, timeout=WAIT)
    assert next(watch).status == HealthCheckResponse.SERVICE_UNKNOWN
    assert watch.is_active(), "a watch goes on"
    watch.cancel()


@pytest.mark.parametrize("address", [LEADER, LAST])
# As metadata the deadline is the server's alone: this client would not give up.
@pytest.mark.parametrize("options", [{"timeout": 0.2}, {"timeout": None, "metadata": [("grpc-timeout", "200m")]}])
def test_a_deadline_passes(address, options):
    started = time.monotonic()
    error = refused(StatusCode.DEADLINE_EXCEEDED, check, {"decimal": LONG}, address, **options)
    assert 0.1 < time.monotonic() - started < 1.5
    assert options["timeout"] or "up to 300 s" in error.details()


@each_node
@pytest.mark.parametrize(
    "fields, allowed",
    [
        ({"decimal": "1e3"}, "only the digits 0-9 are allowed"),
        ({"decimal": "+7"}, "only the digits 0-9 are allowed"),
        ({"decimal": "007"}, "write the number without them"),
        ({"decimal": "-0"}, "write zero as 0"),
        ({"decimal": "7" * 10_001}, "at most 10000 are allowed"),
        ({"decimal": "7", "number": 7}, "not both"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_refusal_says_what_is_allowed(address, fields, allowed):
    assert allowed in refused(StatusCode.INVALID_ARGUMENT, check, fields, address).details()


@pytest.mark.parametrize("address", [LEADER, LAST])
def test_ids_are_echoed(address):
    ids = {"x-request-id": "an-id-of-ours", "traceparent": f"00-{'4b' * 16}-{'f0' * 8}-01"}
    given = tuple(ids.items())
    for method in (scheduler(address).CheckPrime, worker(address).ProcessPrime):
        _, call = method.with_call(number(17), timeout=WAIT, metadata=given)
        assert ids.items() <= dict(call.initial_metadata()).items()
        # Ids that were made here come with errors only: who writes to us about one names it.
        _, call = method.with_call(number(17), timeout=WAIT)
        assert ids.keys().isdisjoint(dict(call.initial_metadata()))
    unnamed = [refused(StatusCode.INVALID_ARGUMENT, check, {"decimal": "x"}, address) for _ in range(2)]
    made = [dict(error.trailing_metadata())["x-request-id"] for error in unnamed]
    assert made[0] != made[1]
    bad = refused(StatusCode.INVALID_ARGUMENT, check, {"decimal": "x"}, address, metadata=given)
    nothing = channel(address).unary_unary("/scheduler.Scheduler/Nothing")
    unknown = refused(StatusCode.UNIMPLEMENTED, nothing, b"", timeout=WAIT, metadata=given)
    for error in (bad, unknown):
        assert ids.items() <= dict(error.trailing_metadata()).items()


@each_node
def test_an_election_by_nobody_is_refused_and_changes_nothing(address):
    asked = seed.ElectionRequest(candidate_id=9)
    victory = seed.VictoryRequest(new_leader_id=9, new_leader_addr=address)
    for method, message in ((worker(address).Election, asked), (worker(address).Victory, victory)):
        error = refused(StatusCode.INVALID_ARGUMENT, method, message, timeout=WAIT)
        assert error.details() == "a peer's call needs its `sender`"
    assert view(address).leader.name == "leader"


@each_node
def test_what_is_not_there_is_unimplemented(address):
    for path in ("/scheduler.Scheduler/Nothing", "/scheduler.Worker/Nothing", "/no.Such/CheckPrime"):
        refused(StatusCode.UNIMPLEMENTED, channel(address).unary_unary(path), b"", timeout=WAIT)
    assert view(address).leader.name == "leader"


@each_node
def test_a_message_beyond_64_kib_is_refused(address):
    # A tag and three bytes of length come before the digits.
    refused(StatusCode.INVALID_ARGUMENT, check, {"decimal": "7" * (65536 - 4)}, address)
    error = refused(StatusCode.RESOURCE_EXHAUSTED, check, {"decimal": "7" * (65536 - 3)}, address)
    assert "at most 65536 are allowed" in error.details()
    assert check({"number": 17}, address)["isPrime"]


@each_node
def test_compressed_messages_are_taken_under_the_same_limit(address):
    gzip = {"compression": grpc.Compression.Gzip}
    longest = {"decimal": "1" + "0" * 9999}
    assert check(longest, address, **gzip)["certainty"] == "PROVEN"
    for length in (65536 - 3, 30_000_000):
        error = refused(StatusCode.RESOURCE_EXHAUSTED, check, {"decimal": "7" * length}, address, **gzip)
        assert "65536 bytes" in error.details()
    error = refused(StatusCode.UNIMPLEMENTED, check, longest, address, compression=grpc.Compression.Deflate)
    assert "deflate" in error.details() and "gzip,identity" in error.details()
    known = reflection(address)
    method = known.find("scheduler.Scheduler.CheckPrimes", "Method")
    asked, checked = map(message_factory.GetMessageClass, (method.input_type, method.output_type))
    call = channel(address).stream_stream(
        "/scheduler.Scheduler/CheckPrimes", asked.SerializeToString, checked.FromString
    )
    answers = list(call((asked(**longest) for _ in range(200)), timeout=WAIT, **gzip))
    assert [answer.answer.is_prime for answer in answers] == [False] * 200


@each_node
@pytest.mark.parametrize("count", [0, 2, 100])
def test_a_method_for_one_message_takes_one(address, count):
    for path in ("/scheduler.Scheduler/CheckPrime", "/scheduler.Worker/ProcessPrime", "/grpc.health.v1.Health/Check"):
        call = channel(address).stream_unary(path, lambda message: message)
        error = refused(StatusCode.UNIMPLEMENTED, call, iter([b""] * count), timeout=WAIT)
        assert "takes one message" in error.details()


def run(*arguments):
    command = [sys.executable, HERE / "grpcurl", "-plaintext", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT)


def test_grpcurl():
    assert "scheduler.Scheduler" in run(LEADER, "list").stdout.splitlines()
    assert "scheduler.Scheduler.CheckPrime" in run(LEADER, "list", "scheduler.Scheduler").stdout.splitlines()
    assert "  string decimal = 10;" in run(LEADER, "describe", "scheduler.PrimeRequest").stdout.splitlines()
    answer = json.loads(run("-d", '{"number": 17}', LEADER, "scheduler.Scheduler/CheckPrime").stdout)
    assert answer.pop("processedBy") in WORKERS
    assert answer == {"isPrime": True, "certainty": "PROVEN"}
    watched = run("-max-time", "2", LEADER, "scheduler.Scheduler/WatchCluster")
    assert len(json.loads(watched.stdout)["members"]) == 4
    assert (watched.returncode, "Code: DeadlineExceeded" in watched.stderr) == (68, True)
    bad = run("-d", '{"decimal": "007"}', LEADER, "scheduler.Scheduler/CheckPrime")
    assert (bad.returncode, bad.stdout, "Code: InvalidArgument" in bad.stderr) == (67, "", True)
