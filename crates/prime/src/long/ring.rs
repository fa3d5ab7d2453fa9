//! Residues modulo one odd number n, in Montgomery's form: a is kept as a times a constant, modulo n.

use dashu_int::{
    IBig, Sign, UBig,
    fast_div::ConstDivisor,
    monty::{Montgomery, MontgomeryRepr},
    ops::{BitTest, Gcd},
};

use super::factor::{FoldedFactor, folded};

/// From how many bits on [`FoldingRing`] is faster than the library's ring: measured, where both take about the same.
const FOLDING_BITS_MIN: usize = 9_500;

/// Whether [`FoldingRing`] is the faster one for a modulus of so many bits.
pub(super) fn is_for_folding(bits: usize) -> bool {
    bits >= FOLDING_BITS_MIN
}

/// The integers modulo an odd n. Equal residues are equal values.
pub(super) trait LongRing {
    type Residue: Clone + PartialEq;

    fn residue(&self, value: impl Into<IBig>) -> Self::Residue;
    fn square(&self, a: &Self::Residue) -> Self::Residue;
    fn product(&self, a: &Self::Residue, b: &Self::Residue) -> Self::Residue;
    fn sum(&self, a: Self::Residue, b: &Self::Residue) -> Self::Residue;
    fn difference(&self, a: Self::Residue, b: &Self::Residue) -> Self::Residue;
    fn double(&self, a: Self::Residue) -> Self::Residue;
    fn negative(&self, a: Self::Residue) -> Self::Residue;
    /// Whether it is prime to n.
    fn is_unit(&self, a: &Self::Residue) -> bool;

    /// `factor`·`a` by additions, which are cheap beside a multiplication; the factor is small and not 0.
    fn multiple(&self, a: &Self::Residue, factor: i64) -> Self::Residue {
        let magnitude = factor.unsigned_abs();
        let mut multiple = a.clone();
        for bit in (0..magnitude.ilog2()).rev() {
            multiple = self.double(multiple);
            if magnitude >> bit & 1 == 1 {
                multiple = self.sum(multiple, a);
            }
        }
        if factor < 0 { self.negative(multiple) } else { multiple }
    }
}

/// The library's ring. Its reduction takes one pass over n for every two words of it, which is the fastest way for
/// short numbers.
impl<'a> LongRing for &'a MontgomeryRepr {
    type Residue = Montgomery<'a>;

    fn residue(&self, value: impl Into<IBig>) -> Montgomery<'a> {
        self.reduce(value.into())
    }

    fn square(&self, a: &Montgomery<'a>) -> Montgomery<'a> {
        a.sqr()
    }

    fn product(&self, a: &Montgomery<'a>, b: &Montgomery<'a>) -> Montgomery<'a> {
        a * b
    }

    fn sum(&self, a: Montgomery<'a>, b: &Montgomery<'a>) -> Montgomery<'a> {
        a + b
    }

    fn difference(&self, a: Montgomery<'a>, b: &Montgomery<'a>) -> Montgomery<'a> {
        a - b
    }

    fn double(&self, a: Montgomery<'a>) -> Montgomery<'a> {
        a.dbl()
    }

    fn negative(&self, a: Montgomery<'a>) -> Montgomery<'a> {
        -a
    }

    fn is_unit(&self, a: &Montgomery<'a>) -> bool {
        a.residue().gcd(a.modulus()).is_one()
    }
}

/// A ring whose reduction consists of products, for which the library has fast methods.
///
/// Montgomery's method divides by a number A that is prime to n: a product t of residues becomes (t + q·n)/A, where
/// q = −t/n modulo A makes the division exact. That quotient is below 17/16·n, so that it is enough to know it modulo
/// a second number B. With A = 2ᵇ⁺⁴ − 1 and B = 2ᵇ − 1 both products are of the kind that [`FoldedFactor`] shortens, and
/// there is no division: modulo B A is 15, hence t + q·n is 15 times the quotient. So the residue of a is a·A/15 mod n.
pub(super) struct FoldingRing {
    modulus: UBig,
    /// b.
    bits: usize,
    /// −1/n modulo A.
    negative_inverse: FoldedFactor,
    /// n modulo B.
    folded_modulus: FoldedFactor,
    /// 8n, 4n, 2n and n.
    multiples: [UBig; 4],
}

/// By how many bits A is longer than B. Two would do, but then A could be halved only once.
const BITS_MORE: usize = 4;

impl FoldingRing {
    /// For an odd `modulus`; `None` if it has a factor in common with A. A prime of 300 bits or more has none, because
    /// the factors of A are those of 2 to the b/2 + 2, less or plus 1, and these are shorter.
    pub(super) fn new(modulus: &UBig) -> Option<Self> {
        // B is above 16n, and half of it is whole words, so that to split a number is to copy.
        let bits = (modulus.bit_len() + BITS_MORE).next_multiple_of(256);
        let a = UBig::ones(bits + BITS_MORE);
        let inverse = ConstDivisor::new(a.clone()).reduce(modulus.clone()).inv()?.residue();
        Some(Self {
            modulus: modulus.clone(),
            bits,
            negative_inverse: FoldedFactor::new(a - inverse, bits + BITS_MORE),
            folded_modulus: FoldedFactor::new(modulus.clone(), bits),
            multiples: [3, 2, 1, 0].map(|twos| modulus << twos),
        })
    }

    /// `t`·15/A modulo n, for a `t` below n².
    fn reduced(&self, t: UBig) -> UBig {
        let t = IBig::from(t);
        let bits_of_a = self.bits + BITS_MORE;
        let q = folded(self.negative_inverse.times(folded(t.clone(), bits_of_a)), bits_of_a);
        let quotients = folded(self.folded_modulus.times(q) + t, self.bits);
        self.multiples.iter().fold(quotients, less_if_not_below)
    }
}

impl LongRing for FoldingRing {
    type Residue = UBig;

    fn residue(&self, value: impl Into<IBig>) -> UBig {
        let a = UBig::ones(self.bits + BITS_MORE);
        let (sign, magnitude) = value.into().into_parts();
        let residue = magnitude * (a / 15_u8) % &self.modulus;
        if sign == Sign::Negative { self.negative(residue) } else { residue }
    }

    fn square(&self, a: &UBig) -> UBig {
        self.reduced(a.sqr())
    }

    fn product(&self, a: &UBig, b: &UBig) -> UBig {
        self.reduced(a * b)
    }

    fn sum(&self, a: UBig, b: &UBig) -> UBig {
        less_if_not_below(a + b, &self.modulus)
    }

    fn difference(&self, a: UBig, b: &UBig) -> UBig {
        if a < *b { a + &self.modulus - b } else { a - b }
    }

    fn double(&self, a: UBig) -> UBig {
        less_if_not_below(a << 1, &self.modulus)
    }

    fn negative(&self, a: UBig) -> UBig {
        self.difference(UBig::ZERO, &a)
    }

    /// The factor A/15 is prime to n, because A is.
    fn is_unit(&self, a: &UBig) -> bool {
        a.gcd(&self.modulus).is_one()
    }
}

/// `a`, or less `b` if that is not negative.
fn less_if_not_below(a: UBig, b: &UBig) -> UBig {
    if a < *b { a } else { a - b }
}

#[cfg(test)]
mod tests {
    use num_bigint::BigInt;

    use super::*;
    use crate::long::samples;

    const BITS: [usize; 9] = [65, 128, 251, 252, 253, 8_190, FOLDING_BITS_MIN, 16_639, 33_220];

    /// Every operation on every pair of values gives the residue of what plain arithmetic gives.
    fn agrees_with_plain_arithmetic(ring: impl LongRing, modulus: &UBig, values: &[BigInt]) {
        let residue = |value: BigInt| ring.residue(IBig::from_le_bytes(&value.to_signed_bytes_le()));
        for a in values {
            let of_a = residue(a.clone());
            assert!(ring.square(&of_a) == residue(a * a), "the square of {a}");
            assert!(ring.double(of_a.clone()) == residue(a * 2), "twice {a}");
            assert!(ring.negative(of_a.clone()) == residue(-a), "minus {a}");
            let divisor = UBig::from_le_bytes(&a.magnitude().to_bytes_le()).gcd(modulus);
            assert_eq!(ring.is_unit(&of_a), divisor.is_one(), "{a} and the modulus");
            for factor in [1, -1, 2, 5, -7, 100] {
                assert!(ring.multiple(&of_a, factor) == residue(a * factor), "{factor} times {a}");
            }
            for b in values {
                let of_b = residue(b.clone());
                assert!(ring.product(&of_a, &of_b) == residue(a * b), "{a} * {b}");
                assert!(ring.sum(of_a.clone(), &of_b) == residue(a + b), "{a} + {b}");
                assert!(ring.difference(of_a.clone(), &of_b) == residue(a - b), "{a} - {b}");
            }
        }
    }

    #[test]
    fn both_rings_agree_with_plain_arithmetic() {
        for n in
            BITS.into_iter().flat_map(|bits| samples::odd_numbers(bits, |n| FoldingRing::new(n).is_some()))
        {
            let modulus = samples::plain(&n);
            let values = samples::below(&modulus);
            agrees_with_plain_arithmetic(&MontgomeryRepr::new(n.clone()), &n, &values);
            agrees_with_plain_arithmetic(FoldingRing::new(&n).unwrap(), &n, &values);
        }
    }

    /// What the tests compare is the residue itself: that of plain division, for a ring whose residues are known.
    #[test]
    fn a_residue_is_its_number_times_a_fifteenth_of_a() {
        for n in
            BITS.into_iter().flat_map(|bits| samples::odd_numbers(bits, |n| FoldingRing::new(n).is_some()))
        {
            let (modulus, ring) = (samples::plain(&n), FoldingRing::new(&n).unwrap());
            let factor = ((BigInt::from(1) << (ring.bits + 4)) - 1) / 15;
            for value in samples::below(&modulus) {
                let expected = &value * &factor % &modulus;
                let value = IBig::from_le_bytes(&value.to_signed_bytes_le());
                assert_eq!(samples::plain(&ring.residue(value)), expected);
            }
        }
    }

    #[test]
    fn a_modulus_with_a_factor_of_a_has_no_ring() {
        assert!(FoldingRing::new(&(UBig::from(31_u8) * ((UBig::ONE << 89) - UBig::ONE))).is_none());
    }
}
