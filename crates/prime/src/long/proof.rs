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
use crate::{Proof, ProofFactor, Witness, is_prime};
use groups::{LucasGroup, ProvingGroup, UnitGroup};

/// What came out of the search for a proof.
pub(super) enum Finding {
    Proof(Proof),
    Nothing,
    /// The number is composite after all, which no number that passes the tests is known to be.
    Composite(Option<Witness>),
}

/// A proof that the number, which has passed the tests, is prime, if there is one for the budget. `None` if the test was told not
/// to go on.
pub(super) fn prove<R: LongRing>(
    test: &Test<'_, R>,
    discriminant: i64,
    budget: &mut Budget,
) -> Option<Finding> {
    if (test.n + UBig::ONE).is_power_of_two() {
        return lucas_lehmer(test);
    }
    let small = SmallDivisors::new(test.n, test.go_on)?;
    let mut half = budget.half();
    let found = prove_in(&UnitGroup::new(test), &small.of_less, &mut half)?;
    budget.take_back(half);
    if !matches!(found, Finding::Nothing) {
        return Some(found);
    }
    prove_in(&LucasGroup::new(test, discriminant), &small.of_more, budget)
}

/// For a number that is a power of two, less 1.
fn lucas_lehmer<R: LongRing>(test: &Test<'_, R>) -> Option<Finding> {
    let exponent = test.n.bit_len() as u64;
    if !is_prime(exponent) {
        return Some(Finding::Composite(None));
    }
    let (ring, two) = (&test.ring, test.ring.residue(2));
    let mut term = ring.residue(4);
    for _ in 2..exponent {
        ask(test.go_on)?;
        term = ring.difference(ring.square(&term), &two);
    }
    Some(match term == ring.residue(0) {
        true => Finding::Proof(Proof::LucasLehmer),
        false => Finding::Composite(None),
    })
}

/// By the factors of the group's order.
fn prove_in<G: ProvingGroup>(group: &G, small: &[u64], budget: &mut Budget) -> Option<Finding> {
    let is_enough = |product: &UBig| group.is_enough(product);
    let mut found = divisors(&group.order(), small, is_enough, budget, group.go_on())?;
    // 2 first: the cube-root conditions need F even. Then whatever brings most.
    found[1..].sort_by(|a, b| b.power.cmp(&a.power));
    found.truncate(Proof::FACTORS_MAX);
    let Some(count) = enough(&found, is_enough) else { return Some(Finding::Nothing) };
    found.truncate(count);
    bases(group, &found, budget)
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

/// Looks for a base for each of the divisors: its power to the order is one, and its power to the order divided by the prime is not
/// one modulo any prime that divides n. A base fails for a prime factor q in one case of q.
fn bases<G: ProvingGroup>(group: &G, divisors: &[Divisor], budget: &mut Budget) -> Option<Finding> {
    let mut bases = vec![None; divisors.len()];
    let mut distances = group.ring().residue(1);
    for choice in group.choices() {
        let open: Vec<usize> = (0..bases.len()).filter(|place| bases[*place].is_none()).collect();
        if open.is_empty() {
            break;
        }
        let primes: Vec<&UBig> = open.iter().map(|place| &divisors[*place].prime).collect();
        let order = group.order();
        let (product, levels) = (product(&primes), primes.len().next_power_of_two().ilog2() as usize);
        let squarings = order.bit_len() + levels * product.bit_len();
        if !budget.affords_powers(order.bit_len(), squarings * G::PRODUCTS) {
            return Some(Finding::Nothing);
        }
        let powers = all_but_one(group, group.power_of_base(choice, &(order / product))?, &primes)?;
        let whole = group.power(&powers[0], primes[0])?;
        if group.distance_from_one(&whole) != group.ring().residue(0) {
            return Some(Finding::Composite(group.witness(choice)));
        }
        for (place, power) in open.into_iter().zip(powers) {
            let distance = group.distance_from_one(&power);
            if distance != group.ring().residue(0) {
                distances = group.ring().product(&distances, &distance);
                bases[place] = Some(group.base_in_proof(choice));
            }
        }
    }
    let Some(bases) = bases.into_iter().collect::<Option<Vec<u64>>>() else { return Some(Finding::Nothing) };
    if !group.ring().is_unit(&distances) {
        return Some(Finding::Composite(None));
    }
    let factor = |(Divisor { prime, proof, .. }, base): (&Divisor, u64)| ProofFactor {
        prime: number(prime),
        base,
        proof: proof.clone(),
    };
    Some(Finding::Proof(group.proof(divisors.iter().zip(bases).map(factor).collect())))
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

#[cfg(test)]
mod tests {
    use dashu_int::monty::MontgomeryRepr;

    use super::*;

    fn found(n: &UBig, discriminant: i64) -> Finding {
        let ring = MontgomeryRepr::new(n.clone());
        let test = Test { n, ring: &ring, go_on: &|| true };
        prove(&test, discriminant, &mut Budget::new(n.bit_len())).unwrap()
    }

    /// No composite number is known to come so far. If one did, it would be noticed here.
    #[test]
    fn a_composite_that_passed_the_tests_would_not_be_proven() {
        let power = |exponent: usize| UBig::ONE << exponent;
        for n in [power(127) * UBig::from(3_u8) + UBig::ONE, power(137) - UBig::ONE, power(128) - UBig::ONE] {
            assert!(matches!(found(&n, 5), Finding::Composite(_)), "{n}");
        }
        // In the other group: one less than a multiple of a large power of two.
        let n = power(130) * UBig::from(17_u8) - UBig::ONE;
        let ring = MontgomeryRepr::new(n.clone());
        let test = Test { n: &n, ring: &ring, go_on: &|| true };
        let found = prove_in(&LucasGroup::new(&test, -7), &[2], &mut Budget::new(n.bit_len()));
        assert!(matches!(found, Some(Finding::Composite(None))), "{n}");
    }

    #[test]
    fn powers_are_paid_from_the_budget() {
        let n = (UBig::ONE << 534) * UBig::from(3_u8) + UBig::ONE;
        let ring = MontgomeryRepr::new(n.clone());
        let test = Test { n: &n, ring: &ring, go_on: &|| true };
        let mut budget = Budget::new(n.bit_len());
        assert!(matches!(prove(&test, 5, &mut budget), Some(Finding::Proof(Proof::Pocklington { .. }))));
        // Eight powers for a long number, of which one was enough.
        assert!(budget.affords_powers(n.bit_len(), 6 * n.bit_len()));
        assert!(!budget.affords_powers(n.bit_len(), 2 * n.bit_len()));
    }
}
