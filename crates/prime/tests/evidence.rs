//! What answers rest on is checked by other means: another library for big integers, and Lucas sequences by matrices.

use num_bigint::{BigInt, BigUint, Sign};
use primacy_prime::{
    Certainty, Evidence, Number, Proof, ProofFactor, Witness, check_with_evidence, is_prime,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

const SEED: u64 = 0x005e_ed0f_0f00_75ed;

// ── The verifier ────────────────────────────────────────────────────────────────────────────────────────────────

fn big(value: u64) -> BigUint {
    BigUint::from(value)
}

fn of(number: &Number) -> BigUint {
    number.to_string().parse().unwrap()
}

fn gcd(mut a: BigUint, mut b: BigUint) -> BigUint {
    while b != big(0) {
        (a, b) = (b.clone(), a % b);
    }
    a
}

fn jacobi(a: &BigInt, n: &BigUint) -> i32 {
    let modulus = BigInt::from(n.clone());
    let mut a = (((a % &modulus) + &modulus) % &modulus).to_biguint().unwrap();
    let (mut n, mut sign) = (n.clone(), 1);
    while a != big(0) {
        while &a % 2_u8 == big(0) {
            a /= 2_u8;
            if [3, 5].map(big).contains(&(&n % 8_u8)) {
                sign = -sign;
            }
        }
        if &a % 4_u8 == big(3) && &n % 4_u8 == big(3) {
            sign = -sign;
        }
        (a, n) = (n % &a, a);
    }
    if n == big(1) { sign } else { 0 }
}

fn is_strong(n: &BigUint, base: u64) -> bool {
    let less = n - 1_u8;
    let twos = less.trailing_zeros().unwrap();
    let mut power = big(base).modpow(&(&less >> twos), n);
    if power == big(1) || power == less {
        return true;
    }
    (1..twos).any(|_| {
        power = &power * &power % n;
        power == less
    })
}

/// U and V of an index modulo n, by powers of the matrix of the recurrence.
fn lucas(p: &BigInt, q: &BigInt, index: &BigUint, n: &BigUint) -> (BigUint, BigUint) {
    let modulus = BigInt::from(n.clone());
    let reduced = |value: BigInt| ((value % &modulus) + &modulus) % &modulus;
    let times = |a: &[BigInt; 4], b: &[BigInt; 4]| {
        let [a0, a1, a2, a3] = a;
        let [b0, b1, b2, b3] = b;
        [a0 * b0 + a1 * b2, a0 * b1 + a1 * b3, a2 * b0 + a3 * b2, a2 * b1 + a3 * b3].map(&reduced)
    };
    let [zero, one] = [0, 1].map(BigInt::from);
    let (mut power, matrix) =
        ([one.clone(), zero.clone(), zero.clone(), one.clone()], [p.clone(), -q, one, zero]);
    for bit in (0..index.bits()).rev() {
        power = times(&power, &power);
        if index.bit(bit) {
            power = times(&power, &matrix);
        }
    }
    // The matrix to the k is U(k + 1), −Q·U(k), U(k), −Q·U(k − 1), and its trace is V(k).
    let [next, _, u, before] = power;
    (u.to_biguint().unwrap(), reduced(next + before).to_biguint().unwrap())
}

fn is_square(n: &BigInt) -> bool {
    n.sign() != Sign::Minus && &(n.sqrt() * n.sqrt()) == n
}

/// Whether it is a proof that n is prime, and how deep it is nested.
fn depth_of_proof(n: &BigUint, proof: &Proof) -> Result<usize, String> {
    let check = |holds: bool, what: &str| holds.then_some(()).ok_or_else(|| format!("{n}: {what}"));
    match proof {
        Proof::MillerRabin => {
            check(*n < "3317044064679887385961981".parse().unwrap(), "it is too long")?;
            let bases = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41];
            check(bases.iter().all(|base| is_strong(n, *base)), "it fails a base")?;
            Ok(0)
        }
        Proof::LucasLehmer => {
            check((n + 1_u8).count_ones() == 1 && n.bits() > 2, "it is no power of two less 1")?;
            check(is_prime(n.bits()), "the exponent is not prime")?;
            let last = (2..n.bits()).fold(big(4), |term, _| (&term * &term + n - 2_u8) % n);
            check(last == big(0), "the last term is not 0")?;
            Ok(0)
        }
        Proof::Pocklington { factors } => {
            let order = n - 1_u8;
            let (f, depth) = factored_part(&order, factors)?;
            for ProofFactor { prime, base, .. } in factors {
                check(big(*base).modpow(&order, n) == big(1), "a power is not 1")?;
                let power = big(*base).modpow(&(&order / of(prime)), n);
                check(gcd(power + n - 1_u8, n.clone()) == big(1), "a power is not apart from 1")?;
            }
            let (f, rest, n) = (BigInt::from(f.clone()), BigInt::from(&order / f), BigInt::from(n.clone()));
            if &f * &f <= n {
                let (s, r) = (&rest / (&f * 2), &rest % (&f * 2));
                check(&f % 2 == BigInt::from(0) && &rest % 2 == BigInt::from(1), "a two is missing")?;
                check(n < (&f + 1) * (&f * &f * 2 + (&r - 1) * &f + 1), "too little is factored")?;
                check(s == BigInt::from(0) || !is_square(&(&r * &r - s * 8)), "it may have two factors")?;
            }
            Ok(depth)
        }
        Proof::Morrison { discriminant, factors } => {
            let order = n + 1_u8;
            let d = BigInt::from(*discriminant);
            check(jacobi(&d, n) == -1, "the discriminant is a square")?;
            let (f, depth) = factored_part(&order, factors)?;
            for ProofFactor { prime, base, .. } in factors {
                let p = BigInt::from(*base);
                check((&p * &p - &d) % 4 == BigInt::from(0), "Q is no integer")?;
                let q = (&p * &p - &d) / 4;
                check(lucas(&p, &q, &order, n).0 == big(0), "U is not 0")?;
                let (u, _) = lucas(&p, &q, &(&order / of(prime)), n);
                check(gcd(u, n.clone()) == big(1), "U is not apart from 0")?;
            }
            let (f, rest, n) = (BigInt::from(f.clone()), BigInt::from(&order / f), BigInt::from(n.clone()));
            if (&f - 1) * (&f - 1) <= n {
                check(&f % 2 == BigInt::from(0) && &rest % 2 == BigInt::from(1), "a two is missing")?;
                let twice = &f * 2;
                let (mut s, mut r): (BigInt, BigInt) = (&rest / &twice, &rest % &twice);
                if r > f {
                    (s, r) = (s + 1, r - &twice);
                }
                let magnitude = BigInt::from(r.magnitude().clone());
                check(n < (&f - 1) * ((twice - magnitude + 1) * &f + 1), "too little is factored")?;
                check(s == BigInt::from(0) || !is_square(&(&r * &r + s * 8)), "it may have two factors")?;
            }
            Ok(depth)
        }
    }
}

/// The product of the highest powers of the primes that divide the order, and how deep their proofs are nested.
fn factored_part(order: &BigUint, factors: &[ProofFactor]) -> Result<(BigUint, usize), String> {
    let (mut part, mut depth, mut rest) = (big(1), 0, order.clone());
    for ProofFactor { prime, proof, .. } in factors {
        let q = of(prime);
        if q < big(2) {
            return Err(format!("{q} is no prime"));
        }
        if &rest % &q != big(0) {
            return Err(format!("{q} does not divide what is left of {order}"));
        }
        while &rest % &q == big(0) {
            rest /= &q;
            part *= &q;
        }
        match (prime.word(), proof) {
            (Some(word), None) if is_prime(word) => {}
            (None, Some(proof)) => depth = depth.max(depth_of_proof(&q, proof)? + 1),
            _ => return Err(format!("{q} is not shown to be prime")),
        }
    }
    Ok((part, depth))
}

fn is_witness(n: &BigUint, witness: &Witness) -> bool {
    match witness {
        Witness::Factor(factor) => {
            let factor = of(factor);
            factor > big(1) && factor < *n && n % factor == big(0)
        }
        Witness::Base(base) => big(*base) % n != big(0) && !is_strong(n, *base),
        Witness::Lucas(discriminant) if discriminant.rem_euclid(4) != 1 => false,
        Witness::Lucas(discriminant) => {
            let d = BigInt::from(*discriminant);
            let p = if *discriminant == 5 { BigInt::from(5) } else { BigInt::from(1) };
            let q: BigInt = (&p * &p - &d) / 4;
            let modulus = BigInt::from(n.clone());
            let residue = |value: BigInt| (((value % &modulus) + &modulus) % &modulus).to_biguint().unwrap();
            let order = n + 1_u8;
            let twos = order.trailing_zeros().unwrap();
            let odd = &order >> twos;
            let is_strong = lucas(&p, &q, &odd, n).0 == big(0)
                || (0..twos).any(|two| lucas(&p, &q, &(&odd << two), n).1 == big(0));
            let has_v = lucas(&p, &q, &order, n).1 == residue(&q * 2);
            let has_q = residue(q.clone()).modpow(&(&order >> 1), n) == residue(&q * jacobi(&q, n));
            jacobi(&d, n) == -1 && !(is_strong && has_v && has_q)
        }
    }
}

/// Checks a number, and what the answer rests on; returns whether it is prime, and its proof.
fn checked(n: &BigUint) -> (bool, Option<Proof>) {
    let number: Number = n.to_string().parse().unwrap();
    let (verdict, evidence) = check_with_evidence(&number, &|| true).unwrap();
    match (&evidence, verdict.is_prime, verdict.certainty) {
        (None, true, Certainty::Probable) => {}
        (Some(Evidence::Proof(proof)), true, Certainty::Proven) => {
            let depth = depth_of_proof(n, proof).unwrap();
            assert!(depth <= Proof::DEPTH_MAX, "{n}: nested {depth} deep");
        }
        (Some(Evidence::Witness(witness)), false, Certainty::Proven) => {
            assert!(is_witness(n, witness), "{n}: {witness:?}");
        }
        other => panic!("{n}: {other:?}"),
    }
    match evidence {
        Some(Evidence::Proof(proof)) => (true, Some(proof)),
        _ => (verdict.is_prime, None),
    }
}

fn proof(n: &BigUint) -> Proof {
    checked(n).1.unwrap_or_else(|| panic!("{n} is not proven"))
}

struct Random(StdRng);

impl Random {
    fn new() -> Self {
        Self(StdRng::seed_from_u64(SEED))
    }

    fn odd(&mut self, bits: u64) -> BigUint {
        let words = (0..bits.div_ceil(32)).map(|_| self.0.next_u32()).collect();
        let top = big(1) << (bits - 1);
        (BigUint::new(words) % &top + &top) | big(1)
    }

    fn prime(&mut self, bits: u64) -> BigUint {
        loop {
            let n = self.odd(bits);
            if is_strong(&n, 2) && is_strong(&n, 3) && checked(&n).0 {
                return n;
            }
        }
    }
}

// ── Tests ───────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn below_the_bound_of_thirteen_bases_every_prime_is_proven() {
    let mut random = Random::new();
    for round in 0..3000 {
        let (is_prime, proof) = checked(&random.odd(65 + round % 17));
        assert!(!is_prime || proof == Some(Proof::MillerRabin));
    }
    let bound: BigUint = "3317044064679887385961981".parse().unwrap();
    assert_eq!(checked(&bound), (false, None));
    let (mut below, mut above) = (&bound - 2_u8, &bound + 2_u8);
    while !checked(&below).0 {
        below -= 2_u8;
    }
    while !checked(&above).0 {
        above += 2_u8;
    }
    assert_eq!(proof(&below), Proof::MillerRabin);
    assert_ne!(checked(&above).1, Some(Proof::MillerRabin));
}

#[test]
fn mersenne_primes_are_proven_by_lucas_and_lehmer() {
    for exponent in [89_u64, 107, 127, 521, 607, 1279, 2203, 2281] {
        assert_eq!(proof(&((big(1) << exponent) - 1_u8)), Proof::LucasLehmer);
    }
    for exponent in [67_u64, 101, 103, 128, 137, 257, 1061] {
        assert_eq!(checked(&((big(1) << exponent) - 1_u8)), (false, None));
    }
}

#[test]
fn primes_beside_numbers_with_small_factors_are_proven_from_them() {
    let factorial = |end: u64| (2..=end).map(big).product::<BigUint>();
    let primorial = |end: u64| (2..=end).filter(|n| is_prime(*n)).map(big).product::<BigUint>();
    let less = [
        factorial(27) + 1_u8,
        factorial(37) + 1_u8,
        factorial(77) + 1_u8,
        factorial(154) + 1_u8,
        factorial(340) + 1_u8,
        primorial(379) + 1_u8,
        primorial(1019) + 1_u8,
        big(3) * (big(1) << 534_u32) + 1_u8,
        big(5) * (big(1) << 1947_u32) + 1_u8,
    ];
    for n in less {
        assert!(matches!(proof(&n), Proof::Pocklington { .. }), "{n}");
    }
    let more = [
        factorial(30) - 1_u8,
        factorial(94) - 1_u8,
        factorial(166) - 1_u8,
        factorial(324) - 1_u8,
        primorial(317) - 1_u8,
        primorial(991) - 1_u8,
        big(3) * (big(1) << 94_u32) - 1_u8,
        big(3) * (big(1) << 827_u32) - 1_u8,
    ];
    for n in more {
        assert!(matches!(proof(&n), Proof::Morrison { .. }), "{n}");
    }
}

#[test]
fn random_primes_are_proven_mostly_while_they_are_short() {
    let mut random = Random::new();
    let (mut proven, mut methods) = (0, [0; 2]);
    for round in 0..120 {
        let n = random.prime(84 + round % 30);
        match checked(&n).1 {
            Some(Proof::Pocklington { .. }) => methods[0] += 1,
            Some(Proof::Morrison { .. }) => methods[1] += 1,
            _ => continue,
        }
        proven += 1;
    }
    assert!(proven > 60 && methods.iter().all(|count| *count > 10), "{proven}: {methods:?}, seed {SEED:#x}");
}

#[test]
fn proofs_are_nested_and_not_too_deep() {
    // Each one is one more than a small multiple of the one before.
    let mut random = Random::new();
    let mut prime = random.prime(82);
    let mut deepest = 0;
    for _ in 0..14 {
        let multiples = (1..10_000_u64).map(|k| &prime * (2 * k) + 1_u8);
        prime = multiples.into_iter().find(|n| is_strong(n, 2) && checked(n).0).unwrap();
        if let Some(proof) = checked(&prime).1 {
            deepest = deepest.max(depth_of_proof(&prime, &proof).unwrap());
        }
    }
    assert!(deepest >= 3, "only {deepest} deep, seed {SEED:#x}");
}

#[test]
fn composites_show_why() {
    let mut random = Random::new();
    let mut seen = [0; 3];
    let mut see = |n: &BigUint| {
        let number: Number = n.to_string().parse().unwrap();
        match check_with_evidence(&number, &|| true).unwrap().1 {
            Some(Evidence::Witness(Witness::Factor(_))) => seen[0] += 1,
            Some(Evidence::Witness(Witness::Base(_))) => seen[1] += 1,
            Some(Evidence::Witness(Witness::Lucas(_))) => seen[2] += 1,
            other => panic!("{n}: {other:?}"),
        }
    };
    for round in 0..60 {
        let (a, b) = (random.prime(66 + round), random.prime(70));
        for n in [&a * &b, &a * &a * &b, &a * &a, &a * 997_u64, &a * &b * 2_u8] {
            assert_eq!(checked(&n), (false, None));
            see(&n);
        }
    }
    // Pseudoprimes to base 2 by construction, which only the Lucas test tells: composite numbers of Mersenne's and Fermat's kind.
    for n in [(big(1) << 101_u32) - 1_u8, (big(1) << 137_u32) - 1_u8, (big(1) << 128_u32) + 1_u8] {
        assert_eq!(checked(&n), (false, None));
        see(&n);
    }
    // Long enough for the other ring.
    let long = (big(10).pow(3000) + 7_u8) * (big(10).pow(30) + 57_u8);
    assert_eq!(checked(&long), (false, None));
    assert!(seen.iter().all(|count| *count >= 3), "{seen:?}, seed {SEED:#x}");
}

#[test]
#[ignore = "ten seconds: scripts/test.sh runs it"]
fn primes_of_thousands_of_digits_are_proven() {
    assert_eq!(proof(&((big(1) << 9941_u32) - 1_u8)), Proof::LucasLehmer);
    assert!(matches!(proof(&(big(5) * (big(1) << 13_165_u32) + 1_u8)), Proof::Pocklington { .. }));
    assert!(matches!(proof(&(big(3) * (big(1) << 7_559_u32) - 1_u8)), Proof::Morrison { .. }));
    let factorial = |end: u64| (2..=end).map(big).product::<BigUint>();
    assert!(matches!(proof(&(factorial(872) + 1_u8)), Proof::Pocklington { .. }));
}

/// The verifier itself: a proof that is changed is none.
#[test]
fn changed_proofs_and_witnesses_are_refused() {
    let factorial: BigUint = (2..=77_u64).map(big).product();
    for n in [&factorial + 1_u8, (2..=94_u64).map(big).product::<BigUint>() - 1_u8] {
        let proof = proof(&n);
        let changed = |change: &dyn Fn(&mut Vec<ProofFactor>)| {
            let mut proof = proof.clone();
            match &mut proof {
                Proof::Pocklington { factors } | Proof::Morrison { factors, .. } => change(factors),
                _ => panic!("{proof:?}"),
            }
            depth_of_proof(&n, &proof)
        };
        assert_eq!(changed(&|_| ()), Ok(0));
        assert!(changed(&|factors| drop(factors.pop())).unwrap_err().contains("too little"));
        assert!(changed(&|factors| drop(factors.remove(0))).is_err());
        assert!(changed(&|factors| factors[0].base = 1).is_err());
        assert!(changed(&|factors| factors[0].prime = 4_u64.into()).is_err());
        assert!(changed(&|factors| factors[0].prime = 1_u64.into()).is_err());
        assert!(changed(&|factors| factors[0].prime = 1_000_003_u64.into()).is_err());
        assert!(depth_of_proof(&(&n + 2_u8), &proof).is_err());
        assert!(
            depth_of_proof(&n, &Proof::MillerRabin).is_err()
                && depth_of_proof(&n, &Proof::LucasLehmer).is_err()
        );
    }
    let prime = (big(1) << 89_u32) - 1_u8;
    let lucas = [5, -7, 2, -3, 13].map(Witness::Lucas);
    for witness in
        [Witness::Factor(3_u64.into()), Witness::Base(0), Witness::Base(2)].into_iter().chain(lucas)
    {
        assert!(!is_witness(&prime, &witness), "{witness:?}");
    }
}
