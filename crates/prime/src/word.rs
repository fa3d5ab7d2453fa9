//! Numbers below 2⁶⁴: exact, in Montgomery arithmetic on machine words.

use super::selfridge;

/// Decides exactly, for every `u64`, whether `n` is prime.
///
/// Trial division by the primes below 256, then the test of Baillie–PSW: a strong probable prime test to base 2
/// and a strong Lucas test with Selfridge's parameters (R. Baillie, S. S. Wagstaff, "Lucas pseudoprimes", Math.
/// Comp. 35, 1980). That it is exact here is a fact by exhaustion: J. Feitsma and W. Galway listed every base-2
/// pseudoprime below 2⁶⁴, and none of them passes the Lucas test (R. Baillie, A. Fiori, S. S. Wagstaff,
/// "Strengthening the Baillie-PSW primality test", Math. Comp. 90, 2021, checked the list again).
///
/// ```
/// assert!(primacy_prime::is_prime(18_446_744_073_709_551_557)); // the largest prime below 2⁶⁴
/// assert!(!primacy_prime::is_prime(3_825_123_056_546_413_051)); // a strong pseudoprime to the bases 2, 3, …, 23
/// ```
pub fn is_prime(n: u64) -> bool {
    if n.is_multiple_of(2) {
        return n == 2;
    }
    if let Some(trial) = TRIALS.iter().find(|trial| trial.divides(n)) {
        return n == trial.prime;
    }
    if n < TRIAL_END * TRIAL_END {
        return n > 1;
    }
    let ring = Ring::new(n);
    ring.is_strong_probable_prime()
        && !WIEFERICH.iter().any(|prime| n.is_multiple_of(*prime))
        && ring.is_strong_lucas_probable_prime()
}

/// Trial division covers every prime below. Twice as far would make random numbers 4 % faster, and products of two primes
/// 5 % slower.
const TRIAL_END: u64 = 256;

/// The primes p below 2³² with 2ᵖ⁻¹ ≡ 1 modulo p² (there is no third below 6.7×10¹⁵: F. Dorais, D. Klyve, J. Integer
/// Seq. 14, 2011). A square p² divides a base-2 pseudoprime only for such p, hence what is left has no square factor.
const WIEFERICH: [u64; 2] = [1093, 3511];

/// The odd primes below [`TRIAL_END`].
static TRIALS: [Trial; 53] = odd_primes_below_trial_end();

/// Division by an odd prime as one multiplication.
#[derive(Clone, Copy)]
struct Trial {
    prime: u64,
    /// 1 / prime modulo 2⁶⁴.
    inverse: u64,
    /// The largest quotient of a multiple of the prime.
    quotient_max: u64,
}

impl Trial {
    const fn new(prime: u64) -> Self {
        Trial { prime, inverse: inverse(prime), quotient_max: u64::MAX / prime }
    }

    /// Multiplying by the inverse permutes the words and takes the multiples, and only them, to their quotients.
    #[inline]
    const fn divides(&self, n: u64) -> bool {
        n.wrapping_mul(self.inverse) <= self.quotient_max
    }
}

const fn odd_primes_below_trial_end() -> [Trial; 53] {
    let mut trials = [Trial::new(3); 53];
    let (mut count, mut candidate) = (1, 5);
    while candidate < TRIAL_END {
        let mut smaller = 0;
        while smaller < count && !trials[smaller].divides(candidate) {
            smaller += 1;
        }
        if smaller == count {
            trials[count] = Trial::new(candidate);
            count += 1;
        }
        candidate += 2;
    }
    assert!(count == trials.len());
    trials
}

/// 1 / n modulo 2⁶⁴ for odd n, by Newton's iteration: the first guess has 5 bits right, each step doubles them.
const fn inverse(n: u64) -> u64 {
    let mut inverse = n.wrapping_mul(3) ^ 2;
    let mut bits = 5;
    while bits < u64::BITS {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(n.wrapping_mul(inverse)));
        bits *= 2;
    }
    inverse
}

/// The residues modulo an odd n of at least 3, each a word x that stands for x / 2⁶⁴ (P. L. Montgomery, Math. Comp.
/// 44, 1985). Residues are kept below n; nothing here assumes that n is below 2⁶³.
struct Ring {
    n: u64,
    inverse: u64,
    one: u64,
    two: u64,
}

impl Ring {
    fn new(n: u64) -> Self {
        // 2⁶⁴ mod n, which is what 1 looks like here.
        let one = n.wrapping_neg() % n;
        let mut ring = Ring { n, inverse: inverse(n), one, two: 0 };
        ring.two = ring.sub(one, n - one);
        ring
    }

    /// a − b, for a and b up to n.
    #[inline(always)]
    fn sub(&self, a: u64, b: u64) -> u64 {
        let (difference, borrow) = a.overflowing_sub(b);
        if borrow { difference.wrapping_add(self.n) } else { difference }
    }

    /// a·b − c. The subtraction is made where it does not lengthen the chain of dependent instructions.
    #[inline(always)]
    fn mul_sub(&self, a: u64, b: u64, c: u64) -> u64 {
        let (low, high) = halves(u128::from(a) * u128::from(b));
        self.reduce(low, self.sub(high, c))
    }

    /// a², doubled if `double`: the product is, before its reduction, for the same reason.
    #[inline(always)]
    fn square(&self, a: u64, double: bool) -> u64 {
        let (low, high) = halves(u128::from(a) * u128::from(a));
        let high_doubled = self.sub(high + (low >> 63), self.n - high);
        self.reduce(low << u32::from(double), if double { high_doubled } else { high })
    }

    /// (high·2⁶⁴ + low) / 2⁶⁴: less the multiple of n that has the same low word, the low word is zero.
    #[inline(always)]
    fn reduce(&self, low: u64, high: u64) -> u64 {
        let (_, multiple) = halves(u128::from(low.wrapping_mul(self.inverse)) * u128::from(self.n));
        self.sub(high, multiple)
    }

    /// With n − 1 = d·2ˢ, d odd: 2ᵈ is 1, or one of 2ᵈ, 2²ᵈ, … , the last being half way to n − 1, is −1.
    fn is_strong_probable_prime(&self) -> bool {
        let twos = (self.n - 1).trailing_zeros();
        let minus_one = self.n - self.one;
        let mut power = self.power_of_two((self.n - 1) >> twos);
        if power == self.one || power == minus_one {
            return true;
        }
        (1..twos).any(|_| {
            power = self.square(power, false);
            power == minus_one
        })
    }

    /// 2 to the `exponent`, which is at least 1. Its first six bits are done at once: that power of 2 times 2⁶⁴ is less
    /// than 2¹²⁸, hence one division.
    fn power_of_two(&self, exponent: u64) -> u64 {
        let bits_left = exponent.ilog2().saturating_sub(5);
        let first = (1_u128 << (u64::BITS as u64 + (exponent >> bits_left))) % u128::from(self.n);
        (0..bits_left).rev().fold(first as u64, |power, bit| self.square(power, exponent >> bit & 1 == 1))
    }

    /// With n + 1 = d·2ˢ, d odd: U(d) is 0, or one of V(d), V(2d), … , V((n+1)/2) is 0.
    ///
    /// P is 1 and Q = (1 − D)/4: Selfridge's method A. Method A* has P = Q = 5 in place of P = 1, Q = −1 at D = 5 and
    /// passes the same numbers, for it exchanges U(k) and V(k) at odd k, up to powers of 5.
    ///
    /// Instead of V and powers of Q, this follows the one sequence W(k) = V(2k) / Qᵏ, which is the V of the parameters
    /// (1/Q − 2, 1), at half the multiplications. The conditions are the same: V(2k) is 0 where W(k) is; and from
    /// V(d)² = Qᵈ·(W(d) + 2) and D·U(d)² = Qᵈ·(W(d) − 2), V(d) and U(d) are 0 where W(d) is −2 and 2, provided that
    /// n has no square factor, see [`WIEFERICH`].
    fn is_strong_lucas_probable_prime(&self) -> bool {
        let Ok(discriminant) = selfridge::discriminant(|modulus| self.n % modulus) else {
            return false;
        };
        let Some(reciprocal) = self.reciprocal((1 - discriminant) / 4) else {
            return false;
        };
        let twos = (self.n + 1).trailing_zeros();
        let mut w = self.lucas((self.n + 1) >> twos, self.sub(reciprocal, self.two));
        if w == self.two || w == self.n - self.two {
            return true;
        }
        (1..twos).any(|_| {
            let is_zero = w == 0;
            w = self.mul_sub(w, w, self.two);
            is_zero
        })
    }

    /// W(index) from `first` = W(1), by a ladder of pairs W(k), W(k+1) in the manner of Montgomery:
    /// W(2k) = W(k)² − 2 and W(2k+1) = W(k)·W(k+1) − W(1). A step squares one of the two, which is put in front.
    fn lucas(&self, index: u64, first: u64) -> u64 {
        let (mut front, mut back) = (first, self.mul_sub(first, first, self.two));
        let mut swapped = false;
        for bit in (0..index.ilog2()).rev() {
            let upper = index >> bit & 1 == 1;
            (front, back) = if upper == swapped { (front, back) } else { (back, front) };
            swapped = upper;
            (front, back) = (self.mul_sub(front, front, self.two), self.mul_sub(front, back, first));
        }
        if swapped { back } else { front }
    }

    /// 1 / q for a small q: the one of (1 + k·n) / |q|, k < |q|, that is whole. `None` if q and n share a factor.
    fn reciprocal(&self, q: i64) -> Option<u64> {
        let divisor = q.unsigned_abs();
        let (one_rest, n_rest) = (self.one % divisor, self.n % divisor);
        let k = (0..divisor).find(|k| (one_rest + k * n_rest).is_multiple_of(divisor))?;
        let quotient = self.one / divisor + k * (self.n / divisor) + (one_rest + k * n_rest) / divisor;
        Some(if q < 0 { self.n - quotient } else { quotient })
    }
}

/// The low and the high word.
#[inline(always)]
fn halves(product: u128) -> (u64, u64) {
    (product as u64, (product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn odd_composites(numbers: std::ops::Range<u64>) -> impl Iterator<Item = u64> {
        numbers.filter(|n| n % 2 == 1 && *n > 1 && !is_prime(*n))
    }

    /// The list is OEIS A217255, which holds no multiple of a square. Of those, W lets pass 27869 = 29·31² as well:
    /// the reason why squares are kept away.
    #[test]
    fn the_lucas_test_passes_exactly_the_strong_lucas_pseudoprimes() {
        let expected =
            [5459, 5777, 10_877, 16_109, 18_971, 22_499, 24_569, 25_199, 40_309, 58_519, 75_077, 97_439];
        let is_squarefree = |n: u64| (3..320).step_by(2).all(|root| !n.is_multiple_of(root * root));
        let passed = odd_composites(3..100_000)
            .filter(|n| is_squarefree(*n) && Ring::new(*n).is_strong_lucas_probable_prime());
        assert_eq!(passed.collect::<Vec<_>>(), expected);
        assert!(Ring::new(29 * 31 * 31).is_strong_lucas_probable_prime());
    }

    /// The list is OEIS A001262.
    #[test]
    fn the_base_two_test_passes_exactly_the_strong_pseudoprimes() {
        let expected =
            [2047, 3277, 4033, 4681, 8321, 15_841, 29_341, 42_799, 49_141, 52_633, 65_281, 74_665, 80_581];
        let passed = odd_composites(3..85_000).filter(|n| Ring::new(*n).is_strong_probable_prime());
        assert_eq!(passed.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_base_two_test_passes_the_wieferich_squares_alone() {
        let roots = (101..20_000).step_by(2).filter(|root| Ring::new(root * root).is_strong_probable_prime());
        assert_eq!(roots.collect::<Vec<_>>(), WIEFERICH);
    }

    #[test]
    fn the_ladder_agrees_with_the_recurrence() {
        for (n, q) in [(10_007_u64, -1), (u64::MAX - 58, 2), ((1 << 63) + 29, -3), ((1 << 62) + 135, 3)] {
            let ring = Ring::new(n);
            let first = ring.sub(ring.reciprocal(q).unwrap(), ring.two);
            let (mut w, mut w_next) = (first, ring.mul_sub(first, first, ring.two));
            for index in 1..300 {
                assert_eq!(ring.lucas(index, first), w, "{n}: {index}");
                (w, w_next) = (w_next, ring.mul_sub(first, w_next, w));
            }
        }
    }

    #[test]
    fn residues_agree_with_long_division() {
        for n in [101, (1 << 32) + 15, (1 << 63) + 29, u64::MAX - 58, u64::MAX - 2] {
            let ring = Ring::new(n);
            let plain = |residue| ring.reduce(residue, 0);
            let times = |a: u64, b: u64| u128::from(a) * u128::from(b) % u128::from(n);
            for (a, b) in [(n - 1, n - 1), (n - 1, 1), (n / 2, n / 2 + 1), (n / 3, n - 5), (0, 7)] {
                let product = times(plain(a), plain(b));
                assert_eq!(u128::from(plain(ring.mul_sub(a, b, 0))), product);
                let square = times(plain(a), plain(a));
                assert_eq!(u128::from(plain(ring.square(a, false))), square);
                assert_eq!(u128::from(plain(ring.square(a, true))), square * 2 % u128::from(n));
            }
            assert_eq!((plain(ring.one), plain(ring.two)), (1, 2));
        }
    }

    #[test]
    fn trial_division_knows_its_primes() {
        assert_eq!(TRIALS.map(|trial| trial.prime)[49..], [233, 239, 241, 251]);
        for n in (1..2000).chain(u64::MAX - 2000..=u64::MAX) {
            assert!(TRIALS.iter().all(|trial| trial.divides(n) == n.is_multiple_of(trial.prime)), "{n}");
        }
    }
}
