//! Prime divisors of the numbers beside a number: by trial division, and by Pollard's rho with Brent's cycles (R. P. Brent,
//! "An improved Monte Carlo factorization algorithm", BIT 20, 1980), as far as the budget goes.

use dashu_int::{
    UBig,
    monty::{Montgomery, MontgomeryRepr},
    ops::{BitTest, Gcd},
};

use super::{GoOn, ask, decide, odd_primes_below, remainders, tests_cost_us};
use crate::{Evidence, Proof, is_prime};

/// What the search for divisors may cost. It is counted in estimated nanoseconds and not by the clock, so that a check is a pure
/// function of its number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    nanoseconds: u64,
    /// The same for the powers of bases, which are taken where there are divisors enough.
    powers_nanoseconds: u64,
    /// How many proofs this one may have above it.
    pub(super) depth: usize,
}

impl Budget {
    /// That of a number of so many bits, see [`search_cost_us`]. Powers may take eight times as long as the check where that is
    /// short, and 8/3 as long where it is long.
    pub(super) fn new(bits: usize) -> Self {
        let powers_in_thirds = if bits <= SHORT_BITS_MAX { 24 } else { 8 };
        let powers_nanoseconds = check_nanoseconds(bits) / 3 * powers_in_thirds;
        Self { nanoseconds: search_cost_us(bits) * 1_000, powers_nanoseconds, depth: Proof::DEPTH_MAX }
    }

    /// Keeps one half, and returns the other, with all that is for powers.
    pub(super) fn half(&mut self) -> Self {
        self.nanoseconds /= 2;
        *self
    }

    /// What is left of a half.
    pub(super) fn take_back(&mut self, half: Self) {
        self.nanoseconds += half.nanoseconds;
        self.powers_nanoseconds = half.powers_nanoseconds;
    }

    /// Whether so many products of numbers of so many bits may be made for powers, which they then are.
    pub(super) fn affords_powers(&mut self, bits: usize, products: usize) -> bool {
        // A check takes three products a bit.
        let cost = check_nanoseconds(bits) / 3 * products as u64 / bits as u64;
        let left = self.powers_nanoseconds.checked_sub(cost);
        self.powers_nanoseconds = left.unwrap_or(self.powers_nanoseconds);
        left.is_some()
    }

    fn spend(&mut self, nanoseconds: u64) -> Option<()> {
        self.nanoseconds = self.nanoseconds.checked_sub(nanoseconds)?;
        Some(())
    }
}

/// A prime that divides a number.
#[derive(Clone, Debug)]
pub(super) struct Divisor {
    pub(super) prime: UBig,
    /// The highest power of it that divides the number.
    pub(super) power: UBig,
    /// Why it is prime, from 2⁶⁴ on.
    pub(super) proof: Option<Proof>,
}

/// The small primes that divide n − 1, and those that divide n + 1.
#[derive(Debug)]
pub(super) struct SmallDivisors {
    pub(super) of_less: Vec<u64>,
    pub(super) of_more: Vec<u64>,
}

impl SmallDivisors {
    /// One division serves both neighbours, and several primes.
    pub(super) fn new(n: &UBig, go_on: GoOn<'_>) -> Option<Self> {
        let mut found = Self { of_less: vec![2], of_more: vec![2] };
        let primes = odd_primes_below((64 * n.bit_len()).min(1 << 16));
        for (group, remainder) in remainders(n, &primes) {
            ask(go_on)?;
            for prime in group {
                match remainder % prime {
                    1 => found.of_less.push(*prime),
                    left if left == prime - 1 => found.of_more.push(*prime),
                    _ => {}
                }
            }
        }
        Some(found)
    }
}

/// Prime divisors of `order`, whose small ones are given, until `is_enough` of their powers' product. `None` if `go_on` said no.
pub(super) fn divisors(
    order: &UBig,
    small: &[u64],
    is_enough: impl Fn(&UBig) -> bool,
    budget: &mut Budget,
    go_on: GoOn<'_>,
) -> Option<Vec<Divisor>> {
    let mut found = Found { rest: order.clone(), product: UBig::ONE, divisors: Vec::new() };
    for prime in small {
        ask(go_on)?;
        found.add(UBig::from(*prime), None);
    }
    let mut parts = vec![found.rest.clone()];
    while let Some(part) = parts.pop() {
        if part <= UBig::ONE || is_enough(&found.product) {
            continue;
        }
        match nature(&part, budget, go_on)? {
            Nature::Prime(proof) => found.add(part, proof),
            Nature::Composite => {
                if let Some(factor) = rho(&part, budget, go_on)? {
                    parts.push(&part / &factor);
                    parts.push(factor);
                }
            }
            Nature::Unknown => {}
        }
    }
    Some(found.divisors)
}

struct Found {
    /// What is left of the number.
    rest: UBig,
    product: UBig,
    divisors: Vec<Divisor>,
}

impl Found {
    fn add(&mut self, prime: UBig, proof: Option<Proof>) {
        let before = self.rest.clone();
        // A prime that was found twice is gone from the rest.
        if self.rest.remove(&prime).unwrap_or(0) > 0 {
            let power = before / &self.rest;
            self.product *= &power;
            self.divisors.push(Divisor { prime, power, proof });
        }
    }
}

enum Nature {
    /// With its proof, from 2⁶⁴ on.
    Prime(Option<Proof>),
    Composite,
    /// To know would cost too much.
    Unknown,
}

fn nature(part: &UBig, budget: &mut Budget, go_on: GoOn<'_>) -> Option<Nature> {
    if let Ok(word) = u64::try_from(part) {
        return Some(if is_prime(word) { Nature::Prime(None) } else { Nature::Composite });
    }
    // A composite number takes a third of what a prime takes.
    if budget.depth == 0 || budget.spend(check_nanoseconds(part.bit_len()) / 3).is_none() {
        return Some(Nature::Unknown);
    }
    let mut below = Budget { depth: budget.depth - 1, ..*budget };
    let (verdict, evidence) = decide(part, &mut below, go_on)?;
    *budget = Budget { depth: budget.depth, ..below };
    Some(match evidence {
        Some(Evidence::Proof(proof)) => Nature::Prime(Some(proof)),
        _ if verdict.is_prime => Nature::Unknown,
        _ => Nature::Composite,
    })
}

/// Between two looks for a common divisor.
const RHO_BATCH: u64 = 64;

/// A divisor of an odd composite `m`, neither 1 nor m, if there is one that the budget suffices for. If all primes of m are met in the same
/// step there is none, and no other sequence is tried.
fn rho(m: &UBig, budget: &mut Budget, go_on: GoOn<'_>) -> Option<Option<UBig>> {
    let ring = MontgomeryRepr::new(m.clone());
    let one = ring.reduce(1_u8);
    let mut fast = ring.reduce(2_u8);
    let mut distance = 1_u64;
    loop {
        let slow = fast.clone();
        let mut left = distance;
        while left > 0 {
            ask(go_on)?;
            let steps = left.min(RHO_BATCH);
            if budget.spend(steps * rho_step_nanoseconds(m.bit_len())).is_none() {
                return Some(None);
            }
            let begin = fast.clone();
            let mut product = one.clone();
            for _ in 0..steps {
                fast = next(&fast, &one);
                product *= &slow - &fast;
            }
            if product.residue().gcd(m) > UBig::ONE {
                return Some(first_divisor(m, &slow, begin, &one));
            }
            left -= steps;
        }
        distance *= 2;
    }
}

fn next<'a>(x: &Montgomery<'a>, one: &Montgomery<'a>) -> Montgomery<'a> {
    x.sqr() + one
}

/// One of those that were met in a batch, which began at `fast`; nothing if all of m was met at once.
fn first_divisor<'a>(
    m: &UBig,
    slow: &Montgomery<'a>,
    mut fast: Montgomery<'a>,
    one: &Montgomery<'a>,
) -> Option<UBig> {
    loop {
        fast = next(&fast, one);
        let divisor = (slow - &fast).residue().gcd(m);
        if divisor > UBig::ONE {
            return (divisor < *m).then_some(divisor);
        }
    }
}

/// Up to so many bits a search mostly leads to a proof.
const SHORT_BITS_MAX: usize = 200;

/// The most that the search for divisors costs for a prime of so many bits, in microseconds: a millisecond up to 200 bits; then at most
/// half a millisecond, or what the check costs; and nothing where only small divisors are worth looking for.
pub(super) fn search_cost_us(bits: usize) -> u64 {
    match bits {
        // The first 13 prime bases are a proof.
        0..82 => 0,
        _ if bits <= SHORT_BITS_MAX => 1_000,
        82..=1024 => (check_nanoseconds(bits) / 1_000).min(500),
        _ => 0,
    }
}

/// What a check of so many bits costs if the number is prime, without the search for a proof.
fn check_nanoseconds(bits: usize) -> u64 {
    tests_cost_us(bits as u64 * 30_103 / 100_000 + 1) * 1_000
}

/// Measured on one core.
fn rho_step_nanoseconds(bits: usize) -> u64 {
    match bits.div_ceil(64) as u64 {
        1 => 10,
        2 => 18,
        words => 40 + 15 * words + 3 * words.pow(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Certainty, long::samples};

    fn divisors_of(order: &UBig, small: &[u64]) -> Vec<String> {
        let mut budget = Budget::new(SHORT_BITS_MAX);
        let found = divisors(order, small, |_| false, &mut budget, &|| true).unwrap();
        for Divisor { prime, power, proof } in &found {
            let verdict = decide_any(prime);
            assert_eq!(verdict, Some((true, Certainty::Proven)), "{prime}");
            assert!((order % power).is_zero() && !(order % (power * prime)).is_zero(), "{power} of {order}");
            assert_eq!(proof.is_some(), prime.bit_len() > 64, "{prime}");
        }
        let mut primes: Vec<UBig> = found.into_iter().map(|divisor| divisor.prime).collect();
        primes.sort();
        primes.iter().map(UBig::to_string).collect()
    }

    fn decide_any(n: &UBig) -> Option<(bool, Certainty)> {
        let (verdict, _) = crate::check_with_evidence(&crate::long::number(n), &|| true)?;
        Some((verdict.is_prime, verdict.certainty))
    }

    #[test]
    fn divisors_are_found_with_their_powers_and_proofs() {
        let product = |factors: &[u64]| factors.iter().map(|factor| UBig::from(*factor)).product::<UBig>();
        // Two primes of a word, one of them twice.
        let order = product(&[2, 2, 2, 3, 1_000_003, 1_000_003, 4_294_967_291]);
        assert_eq!(divisors_of(&order, &[2, 3]), ["2", "3", "1000003", "4294967291"]);
        // A large prime, which is proven.
        let order = product(&[2, 5, 5]) * ((UBig::ONE << 89) - UBig::ONE);
        assert_eq!(divisors_of(&order, &[2, 5]), ["2", "5", "618970019642690137449562111"]);
    }

    #[test]
    fn a_budget_that_is_spent_ends_the_search() {
        // Two primes of 127 bits: out of reach.
        let large = (UBig::ONE << 127) - UBig::ONE;
        let order = (&large + UBig::from(2_u8)) * &large * UBig::from(2_u8);
        let mut budget = Budget { nanoseconds: 100_000, powers_nanoseconds: 0, depth: 8 };
        let before = budget.nanoseconds;
        divisors(&order, &[2], |_| false, &mut budget, &|| true).unwrap();
        assert!(budget.nanoseconds < before);
        assert_eq!(
            rho(&(&large * &large), &mut Budget { nanoseconds: 50_000, ..budget }, &|| true),
            Some(None)
        );
    }

    #[test]
    fn small_divisors_of_both_neighbours_are_those_of_long_division() {
        for n in samples::odd_numbers(130, |n| n.bit(0)) {
            let small = SmallDivisors::new(&n, &|| true).unwrap();
            for (found, neighbour) in [(small.of_less, &n - UBig::ONE), (small.of_more, &n + UBig::ONE)] {
                let mut expected = vec![2];
                let odd = odd_primes_below(64 * 130);
                expected.extend(odd.into_iter().filter(|prime| (&neighbour % *prime) == 0));
                assert_eq!(found, expected, "{neighbour}");
            }
        }
    }
}
