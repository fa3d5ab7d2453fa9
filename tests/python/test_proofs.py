"""What answers rest on, checked by the program that users are given, in another language than it was found in."""

import json
import os
import random
import runpy
import subprocess
import urllib.request
from pathlib import Path

import pytest

NODES = os.environ["PRIMACY_HTTP"].split(",")
SCRIPT = Path(__file__).parents[2] / "scripts" / "check-proof.py"
check_proof = runpy.run_path(str(SCRIPT))
check, is_strong = check_proof["check"], check_proof["is_strong"]


def ask(number):
    with urllib.request.urlopen(f"http://{random.choice(NODES)}/prime/{number}", timeout=20) as answer:
        return json.load(answer)


def product(numbers):
    result = 1
    for number in numbers:
        result *= number
    return result


@pytest.mark.parametrize(
    "number, method",
    [
        (2**64 + 13, "miller-rabin"),
        (2**127 - 1, "lucas-lehmer"),
        (2**2203 - 1, "lucas-lehmer"),
        (3 * 2**534 + 1, "pocklington"),
        (product(range(2, 78)) + 1, "pocklington"),
        (10**30 + 57, "pocklington"),
        (product(range(2, 95)) - 1, "morrison"),
        (3 * 2**827 - 1, "morrison"),
    ],
)
def test_a_proof_of_each_kind_holds(number, method):
    answer = ask(number)
    assert (answer["is_prime"], answer["certainty"], answer["proof"]["method"]) == (True, "proven", method)
    assert check(answer) == f"is prime: the proof by {method} holds"


@pytest.mark.parametrize(
    "number, kind",
    [
        (3 * (2**89 - 1), "factor"),
        ((2**89 - 1) ** 2, "base"),
        ((2**89 - 1) * (2**107 - 1), "base"),
        (2**137 - 1, "lucas"),
        (2**128 + 1, "lucas"),
    ],
)
def test_a_witness_of_each_kind_holds(number, kind):
    answer = ask(number)
    assert (answer["is_prime"], answer["certainty"], list(answer["witness"])) == (False, "proven", [kind])
    assert check(answer) == f"is composite: the witness ({kind}) holds"


def test_whatever_comes_with_an_answer_holds():
    seed = random.randrange(2**32)
    draw = random.Random(seed)
    proven = probable = 0
    for round in range(80):
        # Composites that look prime at first, up to a prime.
        number = draw.getrandbits(66 + round % 60) | 2**(65 + round % 60) | 1
        while not (answer := ask(number))["is_prime"]:
            assert not all(is_strong(number, base) for base in (2, 3, 5, 7, 11, 13)), f"seed {seed}"
            assert "witness" in answer and check(answer), f"seed {seed}"
            number += 2
        assert all(is_strong(number, base) for base in (2, 3, 5, 7, 11, 13)), f"seed {seed}"
        assert check(answer) and ("proof" in answer) == (answer["certainty"] == "proven"), f"seed {seed}"
        proven, probable = proven + ("proof" in answer), probable + ("proof" not in answer)
    # Some nine of ten are.
    assert proven > probable, f"{proven} proven, {probable} probable, seed {seed}"


def test_what_is_changed_does_not_hold():
    answers = [ask(number) for number in (10**30 + 57, product(range(2, 95)) - 1, 2**127 - 1, 2**64 + 13, 2**137 - 1)]
    for answer, other in zip(answers, answers[1:] + answers[:1]):
        check(answer)
        with pytest.raises(ValueError):
            check({**answer, "number": other["number"]})
    for answer in answers[:2]:
        factors = answer["proof"]["factors"]
        odd = [[{**factors[0], field: value}, *factors[1:]] for field in ("prime", "base") for value in ("-1", "0", "1", "x")]
        for changed in (factors[:1], factors[:-1], factors + factors[-1:], [{}], [], *odd):
            with pytest.raises(ValueError):
                check({**answer, "proof": {**answer["proof"], "factors": changed}})
    nested = {"method": "pocklington", "factors": []}
    for _ in range(2000):
        nested = {"method": "pocklington", "factors": [{"prime": str(2**89 - 1), "base": "2", "proof": nested}]}
    for wrong in (nested, {}, {"method": "faith"}, None, []):
        with pytest.raises(ValueError):
            check({"number": str(2**89 - 1), "is_prime": True, "proof": wrong})


def test_no_witness_holds_against_a_prime():
    for number in (2**89 - 1, 10**30 + 57):
        for witness in ({"base": "0"}, {"base": str(number)}, {"base": "2"}, {"factor": "1"}, {"factor": str(number)}, {}, None):
            with pytest.raises(ValueError):
                check({"number": str(number), "is_prime": False, "witness": witness})
        for discriminant in (*range(-30, 30), "x"):
            with pytest.raises(ValueError):
                check({"number": str(number), "is_prime": False, "witness": {"lucas": str(discriminant)}})


def test_the_program_says_what_holds_and_shows_words_of_others_harmless():
    lines = [json.dumps(ask(2**127 - 1)), "", "no JSON \x1b[2J", "[]", '{"number": "17"}', "[" * 100_000]
    odd = "a\x1b[2J\u202e"
    lines += [json.dumps({"number": "17", "certainty": odd}), json.dumps({"number": odd, "proof": {}, "is_prime": True})]
    lines += [json.dumps({"number": "17", "is_prime": True, "proof": {"method": odd}})]
    ran = subprocess.run([SCRIPT], input="\n".join(lines), capture_output=True, text=True, timeout=20)
    said = ran.stdout.splitlines()
    assert (ran.returncode, ran.stderr, len(said)) == (1, "", len(lines) - 1), ran
    assert said[0] == f"{2**127 - 1} is prime: the proof by lucas-lehmer holds"
    assert all(character.isprintable() for line in said for character in line), said


def test_numbers_below_2_to_the_64_and_negative_ones_come_alone():
    for number in (17, 18, 2**64 - 59, -(2**127 - 1)):
        assert sorted(ask(number)) == ["certainty", "is_prime", "number", "processed_by"]
