#!/usr/bin/env python3
"""Checks what answers rest on, with nothing but Python: reads answers of `/prime` from standard input, one JSON object a
line, and says of each whether its proof or witness holds. docs/proofs.md says what is checked. Exits with 1 if one does not."""

import json
import math
import sys

BASES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)


# Proofs are nested at most so deep.
DEPTH_MAX = 8


def is_strong(n, base):
    """Whether an odd n passes the strong test to a base that is no multiple of it."""
    twos = ((n - 1) & (1 - n)).bit_length() - 1
    power = pow(base, (n - 1) >> twos, n)
    if power in (1, n - 1):
        return True
    for _ in range(1, twos):
        power = power * power % n
        if power == n - 1:
            return True
    return False


def jacobi(a, n):
    a, sign = a % n, 1
    while a:
        while a % 2 == 0:
            a //= 2
            sign = -sign if n % 8 in (3, 5) else sign
        sign = -sign if a % 4 == 3 and n % 4 == 3 else sign
        a, n = n % a, a
    return sign if n == 1 else 0


def lucas(p, q, index, n):
    """U and V of an index modulo an odd n, by the powers of (P + √D)/2, where U and V are kept as they are."""
    half, d = (n + 1) // 2, p * p - 4 * q
    u, v = 0, 2
    for bit in bin(index)[2:]:
        u, v = u * v % n, (v * v + d * u * u) * half % n
        if bit == "1":
            u, v = (p * u + v) * half % n, (d * u + p * v) * half % n
    return u, v


def is_square(n):
    return n >= 0 and math.isqrt(n) ** 2 == n


def require(holds, what):
    if not holds:
        raise ValueError(what)


def is_prime_word(n):
    return n in BASES or n > 2 and n % 2 == 1 and all(is_strong(n, base) for base in BASES)


def check_factors(order, factors, depth):
    """The product of the highest powers of the factors that divide the order."""
    part = 1
    for factor in factors:
        prime = int(factor["prime"])
        if prime < 2**64:
            require(is_prime_word(prime), f"{prime} is not prime")
        else:
            check_proof(prime, factor["proof"], depth + 1)
        require(order // part % prime == 0, f"{prime} does not divide {order}, or stands there twice")
        while order // part % prime == 0:
            part *= prime
    return part


def check_pocklington(n, factors, depth):
    part = check_factors(n - 1, factors, depth)
    for factor in factors:
        prime, base = int(factor["prime"]), int(factor["base"])
        require(pow(base, n - 1, n) == 1, f"{base} to the n - 1 is not 1")
        require(math.gcd(pow(base, (n - 1) // prime, n) - 1, n) == 1, f"{base} proves nothing of {prime}")
    if part**2 <= n:
        rest = (n - 1) // part
        s, r = divmod(rest, 2 * part)
        require(part % 2 == 0 and rest % 2 == 1, "a two is missing")
        require(n < (part + 1) * (2 * part**2 + (r - 1) * part + 1), "too little of n - 1 is factored")
        require(s == 0 or not is_square(r * r - 8 * s), "n may have two factors")


def check_morrison(n, discriminant, factors, depth):
    part = check_factors(n + 1, factors, depth)
    require(jacobi(discriminant, n) == -1, f"{discriminant} is a square modulo n, or has a factor of it")
    for factor in factors:
        prime, p = int(factor["prime"]), int(factor["base"])
        q, rest = divmod(p * p - discriminant, 4)
        require(rest == 0, "Q is no integer")
        require(lucas(p, q, n + 1, n)[0] == 0, "U(n + 1) is not 0")
        require(math.gcd(lucas(p, q, (n + 1) // prime, n)[0], n) == 1, f"P = {p} proves nothing of {prime}")
    if (part - 1) ** 2 <= n:
        rest = (n + 1) // part
        s, r = divmod(rest, 2 * part)
        s, r = (s + 1, r - 2 * part) if r > part else (s, r)
        require(part % 2 == 0 and rest % 2 == 1, "a two is missing")
        require(n < (part - 1) * ((2 * part - abs(r) + 1) * part + 1), "too little of n + 1 is factored")
        require(s == 0 or not is_square(r * r + 8 * s), "n may have two factors")


def check_proof(n, proof, depth=0):
    """Raises ValueError unless it proves that n, which is odd, is prime."""
    require(depth <= DEPTH_MAX, f"proofs are nested more than {DEPTH_MAX} deep")
    require(n > 2 and n % 2 == 1, "n is even, or too small")
    method, factors = proof["method"], proof.get("factors", [])
    if method == "miller-rabin":
        require(n < 3317044064679887385961981 and all(is_strong(n, base) for base in BASES), "a base fails")
    elif method == "lucas-lehmer":
        exponent, term = n.bit_length(), 4
        require(n == 2**exponent - 1 and exponent > 2 and is_prime_word(exponent), "n is not 2^p - 1 for a prime p")
        for _ in range(exponent - 2):
            term = (term * term - 2) % n
        require(term == 0, "the last term is not 0")
    elif method == "pocklington":
        check_pocklington(n, factors, depth)
    elif method == "morrison":
        check_morrison(n, int(proof["discriminant"]), factors, depth)
    else:
        raise ValueError(f"the method {method!a} is not known here")


def check_lucas_witness(n, discriminant):
    require(n > 2 and n % 2 == 1 and discriminant % 4 == 1, f"n is even, or {discriminant} is not 1 modulo 4")
    require(jacobi(discriminant, n) == -1, f"{discriminant} is a square modulo n, or has a factor of it")
    p = 5 if discriminant == 5 else 1
    q = (p * p - discriminant) // 4
    twos = ((n + 1) & (-n - 1)).bit_length() - 1
    odd = (n + 1) >> twos
    u, v = lucas(p, q, odd, n)
    strong, power = u == 0, pow(q, odd, n)
    for _ in range(twos):
        strong = strong or v == 0
        v, power = (v * v - 2 * power) % n, power * power % n
    has_v = v == 2 * q % n
    has_q = pow(q, (n + 1) // 2, n) == q * jacobi(q, n) % n
    require(not (strong and has_v and has_q), "n passes the Lucas test")


def check_witness(n, witness):
    """Raises ValueError unless it shows that n is composite."""
    [(kind, value)] = witness.items()
    value = int(value)
    if kind == "factor":
        require(1 < value < n and n % value == 0, f"{value} is no divisor")
    elif kind == "base":
        require(n > 2 and n % 2 == 1 and value % n != 0, f"n is even, or divides {value}")
        require(not is_strong(n, value), f"n passes the strong test to base {value}")
    elif kind == "lucas":
        check_lucas_witness(n, value)
    else:
        raise ValueError(f"a witness of the kind {kind!a} is not known here")


def check(answer):
    """What the answer rests on, in words; raises ValueError if that does not hold, or is none."""
    try:
        return check_evidence(answer)
    except (ArithmeticError, AttributeError, KeyError, TypeError) as wrong:
        raise ValueError(f"it is not of the form that docs/proofs.md describes: {wrong!r}") from wrong


def check_evidence(answer):
    n = int(answer["number"])
    if "proof" in answer:
        require(answer["is_prime"], "a proof of what is not prime")
        check_proof(n, answer["proof"])
        return f"is prime: the proof by {answer['proof']['method']} holds"
    if "witness" in answer:
        require(not answer["is_prime"], "a witness against a prime")
        check_witness(n, answer["witness"])
        return f"is composite: the witness ({next(iter(answer['witness']))}) holds"
    return f"comes with nothing to check; its certainty is {answer['certainty']!a}"


def main():
    # Where Python limits the digits of integers, numbers have up to 10,000.
    getattr(sys, "set_int_max_str_digits", lambda _: None)(20_000)
    failed = False
    for line in filter(str.strip, sys.stdin):
        try:
            answer = json.loads(line)
            print(int(answer["number"]), check(answer))
        except (ValueError, KeyError, TypeError, RecursionError) as wrong:
            failed = True
            # What others wrote must not move the cursor.
            print(f"{line.strip()[:60]!a} does not hold: {wrong}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
