//! Numbers of 2⁶⁴ and above: Baillie–PSW "and more", on big integers.
//!
//! The arithmetic and its correctness are `dashu_int`'s, and [`ring`] says which reduction is made of it. The loops over
//! the bits of exponents are here, because a check takes up to half a minute and has to ask at every step whether to
//! go on.

mod divisors;
mod factor;
mod proof;
mod ring;
#[cfg(test)]
mod samples;

use dashu_int::{
    UBig,
    monty::MontgomeryRepr,
    ops::{BitTest, SquareRoot},
};
use divisors::{Budget, search_cost_us};
use proof::{Finding, prove};
use ring::{FoldingRing, LongRing};

use super::selfridge::{self, jacobi};
use crate::{Certainty, Evidence, Number, Proof, Verdict, Witness};

/// The integer of a [`Number`](super::Number)'s text, which is not negative.
pub(super) fn from_decimal(digits: &str) -> UBig {
    digits.parse().expect("a number's text holds decimal digits only")
}

/// See [`Number::estimated_cost_us`](super::Number::estimated_cost_us).
pub(super) fn estimated_cost_us(digits: u64) -> u64 {
    tests_cost_us(digits) + search_cost_us((digits * 33_220 / 10_000) as usize)
}

/// What the tests cost. Fitted to primes of 20 to 10,000 digits on one core: within 30 %, and up to half too little below
/// 80, where they take a tenth of a millisecond at most. The second formula is that of [`FoldingRing`].
fn tests_cost_us(digits: u64) -> u64 {
    let squared = digits.pow(2);
    (squared * (digits + 385) / 30_000).min(squared * digits.isqrt() / 490)
}

/// Decides an `n` of 2⁶⁴ or above, and says why. `None` if `go_on` said no.
pub(super) fn check(n: &UBig, go_on: GoOn<'_>) -> Option<Decision> {
    decide(n, &mut Budget::new(n.bit_len()), go_on)
}

/// A verdict, and what it rests on; a prime that is only probable rests on nothing that could be shown.
type Decision = (Verdict, Option<Evidence>);

/// The same, where a proof may cost what the budget allows.
fn decide(n: &UBig, budget: &mut Budget, go_on: GoOn<'_>) -> Option<Decision> {
    if let Some(factor) = small_factor(n, go_on)? {
        return Some(composite(Witness::Factor(factor.into())));
    }
    // A prime of that length has such a ring.
    if ring::is_for_folding(n.bit_len())
        && let Some(ring) = FoldingRing::new(n)
    {
        return Test { n, ring, go_on }.decide(budget);
    }
    Test { n, ring: &MontgomeryRepr::new(n.clone()), go_on }.decide(budget)
}

fn composite(witness: Witness) -> Decision {
    (Verdict { is_prime: false, certainty: Certainty::Proven }, Some(Evidence::Witness(witness)))
}

fn prime(proof: Option<Proof>) -> Decision {
    let certainty = if proof.is_some() { Certainty::Proven } else { Certainty::Probable };
    (Verdict { is_prime: true, certainty }, proof.map(Evidence::Proof))
}

/// The number of a big integer that is one, such as a divisor of a number.
fn number(value: &UBig) -> Number {
    value.to_string().parse().expect("the decimal text of a number is one")
}

/// The first primes, to which as bases the strong test is exact below [`Proof::MillerRabin`]'s bound.
const PROVING_BASES: [u64; 13] = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41];

/// The least strong pseudoprime to all of them.
const PROVING_BASES_END: u128 = 3_317_044_064_679_887_385_961_981;

/// Asked at every step.
type GoOn<'a> = &'a dyn Fn() -> bool;

/// `Some` to go on, for the question mark.
fn ask(go_on: GoOn<'_>) -> Option<()> {
    go_on().then_some(())
}

/// The root of a square. Without this the search for a discriminant of a square would not end before it met a factor.
fn square_root(n: &UBig) -> Option<UBig> {
    let root = n.sqrt();
    (root.sqr() == *n).then_some(root)
}

fn is_square(n: &UBig) -> bool {
    square_root(n).is_some()
}

/// A prime factor of those below a limit that grows with the cost of the tests it saves.
fn small_factor(n: &UBig, go_on: GoOn<'_>) -> Option<Option<u64>> {
    if !n.bit(0) {
        return Some(Some(2));
    }
    let primes = odd_primes_below((n.bit_len().pow(2) / 512).clamp(256, 1 << 20));
    for (group, remainder) in remainders(n, &primes) {
        ask(go_on)?;
        if let Some(prime) = group.iter().find(|prime| remainder.is_multiple_of(**prime)) {
            return Some(Some(*prime));
        }
    }
    Some(None)
}

/// The primes in groups, and what `n` leaves when it is divided by the product of each.
fn remainders<'a>(n: &'a UBig, primes: &'a [u64]) -> impl Iterator<Item = (&'a [u64], u64)> {
    let mut rest = primes;
    std::iter::from_fn(move || {
        let (group, product) = word_sized_group(rest);
        rest = &rest[group.len()..];
        (!group.is_empty()).then(|| (group, n % product))
    })
}

/// As many of the first primes as have a product below 2⁶⁴: the big integer is then divided once for all of them.
fn word_sized_group(primes: &[u64]) -> (&[u64], u64) {
    let mut product = 1_u64;
    for (count, prime) in primes.iter().enumerate() {
        match product.checked_mul(*prime) {
            Some(larger) => product = larger,
            None => return (&primes[..count], product),
        }
    }
    (primes, product)
}

/// The sieve of Eratosthenes; index i stands for 2i + 1.
fn odd_primes_below(limit: usize) -> Vec<u64> {
    let mut is_composite = vec![false; limit / 2];
    let mut primes = Vec::new();
    for index in 1..limit / 2 {
        if !is_composite[index] {
            let prime = 2 * index + 1;
            primes.push(prime as u64);
            (prime * prime / 2..limit / 2).step_by(prime).for_each(|multiple| is_composite[multiple] = true);
        }
    }
    primes
}

/// The tests of one odd n.
struct Test<'a, R: LongRing> {
    n: &'a UBig,
    ring: R,
    go_on: GoOn<'a>,
}

/// The parameters P and Q of a pair of Lucas sequences, and Q/P.
#[derive(Clone, Copy)]
struct Parameters {
    p: i64,
    q: i64,
    q_over_p: i64,
}

impl Parameters {
    /// Selfridge's method A*: P = Q = 5 if D = 5, else P = 1 and Q = (1 − D)/4. With it Q is never 1 or −1, for
    /// which the two congruences of the Lucas test would say little; and P divides Q.
    fn new(discriminant: i64) -> Self {
        let (p, q) = if discriminant == 5 { (5, 5) } else { (1, (1 - discriminant) / 4) };
        Self { p, q, q_over_p: q / p }
    }
}

/// A power αᵏ = x + y·α of a root of α² = P·α − Q. Its y is U(k), 2x + P·y is V(k), and its norm is Qᵏ.
#[derive(Clone)]
struct Power<T> {
    x: T,
    y: T,
}

impl<R: LongRing> Test<'_, R> {
    /// The tests of an n without small factors, the cheapest one first.
    fn decide(&self, budget: &mut Budget) -> Option<Decision> {
        let is_short = *self.n < UBig::from(PROVING_BASES_END);
        let bases = if is_short { &PROVING_BASES[..] } else { &PROVING_BASES[..1] };
        for base in bases {
            if !self.is_strong_probable_prime(*base)? {
                return Some(composite(Witness::Base(*base)));
            }
        }
        if is_short {
            return Some(prime(Some(Proof::MillerRabin)));
        }
        if let Some(root) = square_root(self.n) {
            return Some(composite(Witness::Factor(number(&root))));
        }
        let discriminant = match self.discriminant()? {
            Ok(discriminant) => discriminant,
            Err(divisor) => return Some(composite(Witness::Factor(divisor.into()))),
        };
        if !self.is_strong_lucas_probable_prime(discriminant)? {
            return Some(composite(Witness::Lucas(discriminant)));
        }
        Some(match prove(self, discriminant, budget)? {
            Finding::Proof(proof) => prime(Some(proof)),
            Finding::Nothing => prime(None),
            Finding::Composite(Some(witness)) => composite(witness),
            Finding::Composite(None) => (Verdict { is_prime: false, certainty: Certainty::Proven }, None),
        })
    }

    /// With n − 1 = d·2ˢ, d odd: baseᵈ is 1, or one of baseᵈ, base²ᵈ, … , the last being half way to n − 1, is −1.
    fn is_strong_probable_prime(&self, base: u64) -> Option<bool> {
        let minus_one = self.ring.residue(-1);
        let (odd, twos) = odd_part(self.n - UBig::ONE);
        let mut power = self.power_of(base as i64, &odd)?;
        if power == self.ring.residue(1) || power == minus_one {
            return Some(true);
        }
        for _ in 1..twos {
            ask(self.go_on)?;
            power = self.ring.square(&power);
            if power == minus_one {
                return Some(true);
            }
        }
        Some(false)
    }

    /// A small base, of 2 or more, to the `exponent`.
    fn power_of(&self, base: i64, exponent: &UBig) -> Option<R::Residue> {
        let times = |power| match base {
            2 => self.ring.double(power),
            _ => self.ring.multiple(&power, base),
        };
        self.raised(self.ring.residue(1), exponent, |power| self.ring.square(power), times)
    }

    /// Any residue to the `exponent`.
    fn power(&self, residue: &R::Residue, exponent: &UBig) -> Option<R::Residue> {
        let times = |power| self.ring.product(&power, residue);
        self.raised(self.ring.residue(1), exponent, |power| self.ring.square(power), times)
    }

    /// A base to the `exponent`: by squaring, and by `times` the base for each bit that is set.
    fn raised<T>(
        &self,
        one: T,
        exponent: &UBig,
        square: impl Fn(&T) -> T,
        times: impl Fn(T) -> T,
    ) -> Option<T> {
        let mut power = one;
        for bit in (0..exponent.bit_len()).rev() {
            ask(self.go_on)?;
            power = square(&power);
            if exponent.bit(bit) {
                power = times(power);
            }
        }
        Some(power)
    }

    /// That of the Lucas test of an n that is no square, or a divisor that was met on the way.
    fn discriminant(&self) -> Option<Result<i64, u64>> {
        // A remainder of 0 ends the search.
        let found = selfridge::discriminant(|modulus| if (self.go_on)() { self.n % modulus } else { 0 });
        ask(self.go_on)?;
        Some(found)
    }

    /// With n + 1 = d·2ˢ, d odd: U(d) is 0, or one of V(d), V(2d), … , V((n+1)/2) is 0. On the way to V(n+1) come
    /// two congruences for nearly nothing: V(n+1) = 2Q and Q to the (n+1)/2 = Q·(Q/n), which hold if n is prime.
    fn is_strong_lucas_probable_prime(&self, discriminant: i64) -> Option<bool> {
        let parameters @ Parameters { q, .. } = Parameters::new(discriminant);
        let (odd, twos) = odd_part(self.n + UBig::ONE);
        let zero = self.ring.residue(0);
        let mut power = self.power_of_root(0, &odd, parameters)?;
        let mut is_strong = power.y == zero;
        let mut half_way = power.clone();
        for _ in 0..twos {
            ask(self.go_on)?;
            is_strong |= self.v(&power, parameters) == zero;
            let squared = self.square(&power, parameters);
            half_way = std::mem::replace(&mut power, squared);
        }
        let q_expected = self.ring.residue(q * i64::from(jacobi_of_small(q, self.n)));
        Some(
            is_strong
                && self.v(&power, parameters) == self.ring.residue(2 * q)
                && self.norm(&half_way, parameters) == q_expected,
        )
    }

    /// shift + α to the `exponent`: its y is that of the Lucas sequence with the same discriminant and P larger by twice the shift.
    fn power_of_root(
        &self,
        shift: i64,
        exponent: &UBig,
        parameters: Parameters,
    ) -> Option<Power<R::Residue>> {
        let (ring, Parameters { p, q, .. }) = (&self.ring, parameters);
        let times = |Power { x, y }: Power<R::Residue>| {
            let product = Power { x: ring.multiple(&y, -q), y: ring.sum(ring.multiple(&y, shift + p), &x) };
            match shift {
                0 => product,
                _ => Power { x: ring.sum(product.x, &ring.multiple(&x, shift)), ..product },
            }
        };
        self.raised(self.one(), exponent, |power| self.square(power, parameters), times)
    }

    /// Any x + y·α to the `exponent`.
    fn power_of_power(
        &self,
        base: &Power<R::Residue>,
        exponent: &UBig,
        parameters: Parameters,
    ) -> Option<Power<R::Residue>> {
        let (ring, Parameters { p, q, .. }) = (&self.ring, parameters);
        let times = |power: Power<R::Residue>| {
            let (xx, yy) = (ring.product(&power.x, &base.x), ring.product(&power.y, &base.y));
            let xy = ring.sum(ring.product(&power.x, &base.y), &ring.product(&power.y, &base.x));
            Power { x: ring.difference(xx, &ring.multiple(&yy, q)), y: ring.sum(xy, &ring.multiple(&yy, p)) }
        };
        self.raised(self.one(), exponent, |power| self.square(power, parameters), times)
    }

    fn one(&self) -> Power<R::Residue> {
        Power { x: self.ring.residue(1), y: self.ring.residue(0) }
    }

    /// (x + y·α)² = x² − Q·y² + y·(2x + P·y)·α by two products: with r = Q/P and the new y it is
    /// x² − Q·y² = x·(x + 2r·y) − r·y·(2x + P·y).
    fn square(&self, power: &Power<R::Residue>, parameters: Parameters) -> Power<R::Residue> {
        let (ring, ratio) = (&self.ring, parameters.q_over_p);
        let y = ring.product(&power.y, &self.v(power, parameters));
        let factor = ring.sum(ring.multiple(&power.y, 2 * ratio), &power.x);
        let x = ring.difference(ring.product(&power.x, &factor), &ring.multiple(&y, ratio));
        Power { x, y }
    }

    /// 2x + P·y.
    fn v(&self, power: &Power<R::Residue>, parameters: Parameters) -> R::Residue {
        self.ring.sum(self.ring.multiple(&power.y, parameters.p), &self.ring.double(power.x.clone()))
    }

    /// x² + P·x·y + Q·y².
    fn norm(&self, power: &Power<R::Residue>, Parameters { p, q, .. }: Parameters) -> R::Residue {
        let Power { x, y } = power;
        let factor = self.ring.sum(self.ring.multiple(y, p), x);
        self.ring.sum(self.ring.product(x, &factor), &self.ring.multiple(&self.ring.square(y), q))
    }
}

/// d and s of `value` = d·2ˢ, d odd.
fn odd_part(value: UBig) -> (UBig, usize) {
    let twos = value.trailing_zeros().unwrap_or_default();
    (value >> twos, twos)
}

/// The Jacobi symbol (a/n) for a small a, not 0, and an odd n: its factors −1, 2ᵏ and an odd one taken in turn.
fn jacobi_of_small(a: i64, n: &UBig) -> i32 {
    let magnitude = a.unsigned_abs();
    let (twos, n_mod_8) = (magnitude.trailing_zeros(), n % 8_u64);
    let odd = magnitude >> twos;
    let mut sign = jacobi(n % odd, odd);
    if n_mod_8 % 4 == 3 && (odd % 4 == 3) != (a < 0) {
        sign = -sign;
    }
    if twos % 2 == 1 && matches!(n_mod_8, 3 | 5) {
        sign = -sign;
    }
    sign
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_test<T>(n: u64, body: impl FnOnce(&Test<'_, &MontgomeryRepr>) -> T) -> T {
        let n = UBig::from(n);
        let ring = MontgomeryRepr::new(n.clone());
        body(&Test { n: &n, ring: &ring, go_on: &|| true })
    }

    #[test]
    fn the_sieve_counts_right() {
        assert_eq!(odd_primes_below(30), [3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert_eq!(odd_primes_below(1 << 20).len(), 82_024);
    }

    #[test]
    fn groups_multiply_to_a_word() {
        let primes = odd_primes_below(256);
        let (group, product) = word_sized_group(&primes);
        assert_eq!(product, 16_294_579_238_595_022_365);
        assert_eq!(group.last(), Some(&53));
        assert_eq!(word_sized_group(&[3, 5]), (&[3, 5][..], 15));
    }

    #[test]
    fn powers_of_the_root_agree_with_the_recurrence() {
        for (n, p, q) in [(10_007_u64, 5, 5), (1_000_003, 1, 2), (999_999, 1, -3), (65_537, 1, 3)] {
            let parameters = Parameters { p, q, q_over_p: q / p };
            with_test(n, |test| {
                let residue = |value| test.ring.residue(value);
                let (mut u, mut u_next, mut v, mut v_next) = (residue(0), residue(1), residue(2), residue(p));
                let mut q_power = residue(1);
                for index in 0..300_u64 {
                    let power = test.power_of_root(0, &UBig::from(index), parameters).unwrap();
                    assert!(
                        power.y == u
                            && test.v(&power, parameters) == v
                            && test.norm(&power, parameters) == q_power,
                        "{n}: {index}"
                    );
                    (u, u_next) = (u_next.clone(), residue(p) * u_next - residue(q) * u);
                    (v, v_next) = (v_next.clone(), residue(p) * v_next - residue(q) * v);
                    q_power *= residue(q);
                }
            });
        }
    }

    #[test]
    fn the_lucas_test_passes_primes_and_no_small_composite() {
        for n in (101..60_000).step_by(2).filter(|n| !is_square(&UBig::from(*n))) {
            let passed = with_test(n, |test| match test.discriminant().unwrap() {
                Ok(discriminant) => test.is_strong_lucas_probable_prime(discriminant).unwrap(),
                Err(_) => false,
            });
            assert_eq!(passed, super::super::is_prime(n), "{n}");
        }
    }

    #[test]
    fn the_base_two_test_passes_strong_pseudoprimes() {
        for n in
            [2047, 3277, 4033, 4681, 8321, 15_841, 29_341, 42_799, 49_141, 52_633, 65_281, 74_665, 80_581]
        {
            assert_eq!(with_test(n, |test| test.is_strong_probable_prime(2)), Some(true), "{n}");
        }
        for n in [341, 561, 645, 1105, 2049] {
            assert_eq!(with_test(n, |test| test.is_strong_probable_prime(2)), Some(false), "{n}");
        }
    }

    #[test]
    fn small_jacobi_symbols_agree_with_the_general_one() {
        for n in (3..200_u64).step_by(2) {
            for a in (-30..=30_i64).filter(|a| *a != 0) {
                let expected = jacobi(a.rem_euclid(n as i64) as u64, n);
                assert_eq!(jacobi_of_small(a, &UBig::from(n)), expected, "({a}/{n})");
            }
        }
    }

    /// All of them are long enough for the folding ring, and the last one has a factor for which there is none.
    #[test]
    fn the_folding_ring_tells_primes_from_composites() {
        let mersenne = |exponent| (UBig::ONE << exponent) - UBig::ONE;
        let proth = (UBig::from(5_u8) << 13_165) + UBig::ONE;
        for (n, expected) in [
            (mersenne(9_941), true),
            (proth, true),
            (mersenne(89) * mersenne(9_689), false),
            (mersenne(227) * mersenne(9_689), false),
        ] {
            assert!(ring::is_for_folding(n.bit_len()));
            assert_eq!(check(&n, &|| true).unwrap().0.is_prime, expected, "{n}");
        }
        assert!(FoldingRing::new(&(mersenne(227) * mersenne(9_689))).is_none());
    }

    #[test]
    fn squares_are_recognised() {
        for root in [(UBig::ONE << 89) - UBig::ONE, UBig::from(10_u8).pow(500) + UBig::from(153_u8)] {
            let square = root.sqr();
            assert!(
                is_square(&square)
                    && !is_square(&(&square + UBig::ONE))
                    && !is_square(&(&square - UBig::ONE))
            );
        }
    }

    #[test]
    fn a_no_is_noticed_in_every_part() {
        let n = (UBig::ONE << 89) - UBig::ONE;
        let ring = MontgomeryRepr::new(n.clone());
        let test = Test { n: &n, ring: &ring, go_on: &|| false };
        assert_eq!(small_factor(&n, test.go_on), None);
        assert_eq!(test.is_strong_probable_prime(2), None);
        assert_eq!(test.discriminant(), None);
        assert_eq!(test.is_strong_lucas_probable_prime(5), None);
        assert!(prove(&test, 5, &mut Budget::new(89)).is_none());
    }
}
