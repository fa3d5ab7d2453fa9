//! Proofs that a number is prime, by the factors of the numbers beside it. What each of them says is in [`Proof`].

mod groups;

use dashu_int::{
    UBig,
    ops::{BitTest, PowerOfTwo},
};

use super::{
    Test, ask,
    divisors::{Budget, Divisor, SmallDivisors, divisors},
    number,
    ring::LongRing,
};
use crate::{Proof, ProofFactor, is_prime, selfridge};
use groups::{LucasGroup, ProvingGroup, UnitGroup};

/// The most factors in a proof: each one costs products, and somebody is to read it.
const FACTORS_MAX: usize = 64;

/// How many bases are tried. A base serves a prime factor q but for one case in q.
const BASES_MAX: usize = 12;

/// A proof that the number, which has passed the tests, is prime, if there is one for the budget. `None` if the test was told not
/// to go on.
pub(super) fn prove<R: LongRing>(test: &Test<'_, R>, budget: &mut Budget) -> Option<Option<Proof>> {
    if (test.n + UBig::ONE).is_power_of_two() {
        return lucas_lehmer(test);
    }
    let small = SmallDivisors::new(test.n, test.go_on)?;
    if let Some(factors) = factors(&UnitGroup::new(test), &small.of_less, &mut budget.half())? {
        return Some(Some(Proof::Pocklington { factors }));
    }
    let Ok(discriminant) = selfridge::discriminant(|modulus| test.n % modulus) else {
        return Some(None);
    };
    let factors = factors(&LucasGroup::new(test, discriminant), &small.of_more, budget)?;
    Some(factors.map(|factors| Proof::Morrison { discriminant, factors }))
}

/// For a number that is a power of two, less 1.
fn lucas_lehmer<R: LongRing>(test: &Test<'_, R>) -> Option<Option<Proof>> {
    let exponent = test.n.bit_len() as u64;
    let (ring, two) = (&test.ring, test.ring.residue(2));
    let mut term = ring.residue(4);
    for _ in 2..exponent {
        ask(test.go_on)?;
        term = ring.difference(ring.square(&term), &two);
    }
    Some((is_prime(exponent) && term == ring.residue(0)).then_some(Proof::LucasLehmer))
}

/// The factors of the group's order, with bases, that prove the number prime.
fn factors<G: ProvingGroup>(
    group: &G,
    small: &[u64],
    budget: &mut Budget,
) -> Option<Option<Vec<ProofFactor>>> {
    let is_enough = |product: &UBig| group.is_enough(product);
    let mut found = divisors(&group.order(), small, is_enough, budget, group.go_on())?;
    // The 2 first, without which less would be proven; then whatever brings most.
    found[1..].sort_by(|a, b| b.power.cmp(&a.power));
    found.truncate(FACTORS_MAX);
    let Some(count) = enough(&found, is_enough) else { return Some(None) };
    found.truncate(count);
    let Some(bases) = bases(group, &found)? else { return Some(None) };
    let factor = |(Divisor { prime, proof, .. }, base)| ProofFactor { prime: number(&prime), base, proof };
    Some(Some(found.into_iter().zip(bases).map(factor).collect()))
}

/// How many of the divisors are enough.
fn enough(divisors: &[Divisor], is_enough: impl Fn(&UBig) -> bool) -> Option<usize> {
    let mut product = UBig::ONE;
    let powers = divisors.iter().map(|divisor| &divisor.power);
    powers.enumerate().find_map(|(place, power)| {
        product *= power;
        is_enough(&product).then_some(place + 1)
    })
}

/// A base for each of the divisors: its power to the order is one, and its power to the order divided by the prime is as far from
/// one as can be, modulo every prime that divides n.
fn bases<G: ProvingGroup>(group: &G, divisors: &[Divisor]) -> Option<Option<Vec<u64>>> {
    let mut bases = vec![None; divisors.len()];
    let mut distances = group.ring().residue(1);
    for base in group.bases().take(BASES_MAX) {
        let open: Vec<usize> = (0..bases.len()).filter(|place| bases[*place].is_none()).collect();
        if open.is_empty() {
            break;
        }
        let primes: Vec<&UBig> = open.iter().map(|place| &divisors[*place].prime).collect();
        let exponent = group.order() / product(&primes);
        let powers = all_but_one(group, group.power_of_base(base, &exponent)?, &primes)?;
        let whole = group.power(&powers[0], primes[0])?;
        if group.distance_from_one(&whole) != group.ring().residue(0) {
            // It is composite after all, which no number that passes the tests is known to be: nothing is proven.
            return Some(None);
        }
        for (place, power) in open.into_iter().zip(powers) {
            let distance = group.distance_from_one(&power);
            if distance != group.ring().residue(0) {
                distances = group.ring().product(&distances, &distance);
                bases[place] = Some(group.base(base));
            }
        }
    }
    let bases: Option<Vec<u64>> = bases.into_iter().collect();
    Some(bases.filter(|_| group.ring().is_unit(&distances)))
}

/// The powers of an element to the product of all of the primes but one, for each of them: halves of the primes share the work.
fn all_but_one<G: ProvingGroup>(group: &G, element: G::Element, primes: &[&UBig]) -> Option<Vec<G::Element>> {
    if primes.len() == 1 {
        return Some(vec![element]);
    }
    let (left, right) = primes.split_at(primes.len() / 2);
    let mut powers = all_but_one(group, group.power(&element, &product(right))?, left)?;
    powers.extend(all_but_one(group, group.power(&element, &product(left))?, right)?);
    Some(powers)
}

fn product(primes: &[&UBig]) -> UBig {
    primes.iter().copied().product()
}
