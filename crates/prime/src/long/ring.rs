//! Residues modulo one odd number n, in Montgomery's form: a is kept as a·R mod n, with R a power of two.

use dashu_int::{
    IBig, Sign, UBig,
    monty::{Montgomery, MontgomeryRepr},
    ops::BitTest,
};

use super::factor::{ALIGNMENT, FoldedFactor, LowFactor, folded, low_bits};

/// From how many bits on [`FoldingRing`] is faster than the library's ring: measured, where both take about the same.
const FOLDING_BITS_MIN: usize = 8_000;

/// Whether [`FoldingRing`] is the faster one for a modulus of so many bits.
pub(super) fn is_for_folding(bits: usize) -> bool {
    bits >= FOLDING_BITS_MIN
}

/// The integers modulo an odd n. Equal residues are equal values.
pub(super) trait Ring {
    type Residue: Clone + PartialEq;

    fn residue(&self, value: impl Into<IBig>) -> Self::Residue;
    fn square(&self, a: &Self::Residue) -> Self::Residue;
    fn product(&self, a: &Self::Residue, b: &Self::Residue) -> Self::Residue;
    fn sum(&self, a: Self::Residue, b: &Self::Residue) -> Self::Residue;
    fn difference(&self, a: Self::Residue, b: &Self::Residue) -> Self::Residue;
    fn double(&self, a: Self::Residue) -> Self::Residue;
    fn negative(&self, a: Self::Residue) -> Self::Residue;

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
impl<'a> Ring for &'a MontgomeryRepr {
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
}

/// A ring whose reduction consists of products, for which the library has fast methods.
///
/// A product t below n² is reduced to (t + q·n)/R, where q = −t/n mod R makes the division exact. That quotient is
/// below 2n, so that it is enough to know it modulo R − 1; and there it is t + q·n, because R is 1.
pub(super) struct FoldingRing {
    modulus: UBig,
    /// R is 2 to this power.
    bits: usize,
    /// −1/n, for products modulo R.
    negative_inverse: LowFactor,
    /// n, for products modulo R − 1.
    folded_modulus: FoldedFactor,
}

impl FoldingRing {
    /// For an odd `modulus` of at least 3.
    pub(super) fn new(modulus: UBig) -> Self {
        // R − 1 is above 2n.
        let bits = (modulus.bit_len() + 2).next_multiple_of(ALIGNMENT);
        Self {
            bits,
            negative_inverse: LowFactor::new(negative_inverse(&modulus, bits), bits),
            folded_modulus: FoldedFactor::new(modulus.clone(), bits),
            modulus,
        }
    }

    /// `t`/R modulo n, for a `t` below n².
    fn reduced(&self, t: UBig) -> UBig {
        let (low, high) = t.split_bits(self.bits);
        let sum = &low + high;
        let q = self.negative_inverse.times(low);
        let quotient = folded(self.folded_modulus.times(q) + sum, self.bits);
        self.canonical(quotient)
    }

    /// `a` modulo n, for an `a` below 2n.
    fn canonical(&self, a: UBig) -> UBig {
        if a < self.modulus { a } else { a - &self.modulus }
    }
}

impl Ring for FoldingRing {
    type Residue = UBig;

    fn residue(&self, value: impl Into<IBig>) -> UBig {
        let (sign, magnitude) = value.into().into_parts();
        let residue = (magnitude << self.bits) % &self.modulus;
        if sign == Sign::Negative { self.negative(residue) } else { residue }
    }

    fn square(&self, a: &UBig) -> UBig {
        self.reduced(a.sqr())
    }

    fn product(&self, a: &UBig, b: &UBig) -> UBig {
        self.reduced(a * b)
    }

    fn sum(&self, a: UBig, b: &UBig) -> UBig {
        self.canonical(a + b)
    }

    fn difference(&self, a: UBig, b: &UBig) -> UBig {
        if a < *b { a + &self.modulus - b } else { a - b }
    }

    fn double(&self, a: UBig) -> UBig {
        self.canonical(a << 1)
    }

    fn negative(&self, a: UBig) -> UBig {
        self.difference(UBig::ZERO, &a)
    }
}

/// −1/`n` modulo 2 to the `bits`, for an odd `n`, by Newton's iteration: each step doubles the bits that are right.
fn negative_inverse(n: &UBig, bits: usize) -> UBig {
    let (mut inverse, mut known) = (UBig::ONE, 1);
    while known < bits {
        known = bits.min(2 * known);
        let correction = low_bits(low_bits(n.clone(), known) * &inverse, known) + 2_u8;
        inverse = low_bits(inverse * correction, known);
    }
    inverse
}

#[cfg(test)]
mod tests {
    use num_bigint::BigInt;

    use super::*;
    use crate::long::samples;

    fn dashu(value: &BigInt) -> IBig {
        value.to_string().parse().unwrap()
    }

    /// Every operation on every pair of values gives the residue of what plain arithmetic gives.
    fn agrees_with_plain_arithmetic(ring: impl Ring, values: &[BigInt]) {
        let residue = |value: BigInt| ring.residue(dashu(&value));
        for a in values {
            let of_a = residue(a.clone());
            assert!(ring.square(&of_a) == residue(a * a), "the square of {a}");
            assert!(ring.double(of_a.clone()) == residue(a * 2), "twice {a}");
            assert!(ring.negative(of_a.clone()) == residue(-a), "minus {a}");
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
        for bits in
            [65, 128, 129, 254, 255, 1022, 4094, 4096, FOLDING_BITS_MIN - 1, FOLDING_BITS_MIN, 16_639, 33_220]
        {
            for modulus in samples::moduli(bits) {
                let values = samples::residues(&modulus);
                let n: UBig = modulus.to_string().parse().unwrap();
                agrees_with_plain_arithmetic(&MontgomeryRepr::new(n.clone()), &values);
                agrees_with_plain_arithmetic(FoldingRing::new(n), &values);
            }
        }
    }
}
