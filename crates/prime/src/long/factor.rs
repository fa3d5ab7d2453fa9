//! Products with a fixed factor modulo 2ᵏ − 1. They are shorter than whole products, and made of whole ones.

use dashu_int::{IBig, Sign, UBig, ops::BitTest};

/// A factor of products modulo 2 to the `bits`, less 1.
///
/// With z² = 2 to the `bits` that modulus is (z − 1)·(z + 1). Modulo z − 1 a + b·z is a + b, and modulo z + 1 it is
/// a − b: a product takes two of half the length, and the first one of them is of this kind again.
pub(super) struct FoldedFactor {
    bits: usize,
    parts: Parts,
}

enum Parts {
    Whole(UBig),
    /// Half of the factor, modulo z − 1 and modulo z + 1.
    Halves {
        sum: Box<FoldedFactor>,
        difference: IBig,
    },
}

/// Below so many bits a whole product is as fast: measured.
const HALVES_BITS_MIN: usize = 4_096;

impl FoldedFactor {
    pub(super) fn new(factor: UBig, bits: usize) -> Self {
        if bits < HALVES_BITS_MIN || bits % 2 == 1 {
            return Self { bits, parts: Parts::Whole(factor) };
        }
        let even = if factor.bit(0) { factor + UBig::ones(bits) } else { factor };
        let (low, high) = (even >> 1).split_bits(bits / 2);
        let sum = Box::new(Self::new(folded((&low + &high).into(), bits / 2), bits / 2));
        Self { bits, parts: Parts::Halves { sum, difference: IBig::from(low) - IBig::from(high) } }
    }

    /// A number that is `a` times the factor modulo 2 to the `bits`, less 1, and few bits longer; 0 for 0.
    pub(super) fn times(&self, a: UBig) -> IBig {
        match &self.parts {
            Parts::Whole(factor) => folded((a * factor).into(), self.bits).into(),
            Parts::Halves { sum, difference } => {
                let half = self.bits / 2;
                let (low, high) = a.split_bits(half);
                let sum = sum.times(&low + &high);
                let difference = alternated((IBig::from(low) - IBig::from(high)) * difference, half);
                // Twice the sum modulo z − 1, and twice the difference modulo z + 1.
                ((&sum - &difference) << half) + sum + difference
            }
        }
    }
}

/// What is `a` modulo 2 to the `bits`, less 1: 0 for 0, else up to the modulus itself.
pub(super) fn folded(a: IBig, bits: usize) -> UBig {
    let (sign, mut magnitude) = a.into_parts();
    while magnitude.bit_len() > bits {
        let (low, high) = magnitude.split_bits(bits);
        magnitude = low + high;
    }
    if sign == Sign::Positive { magnitude } else { UBig::ones(bits) - magnitude }
}

/// What is `a` modulo 2 to the `bits`, plus 1, and about as long, for an `a` of about twice as many bits.
fn alternated(a: IBig, bits: usize) -> IBig {
    let (sign, magnitude) = a.into_parts();
    let (low, high) = magnitude.split_bits(bits);
    (IBig::from(low) - IBig::from(high)) * sign
}

#[cfg(test)]
mod tests {
    use num_bigint::BigInt;

    use super::*;
    use crate::long::samples;

    #[test]
    fn folded_products_agree_with_whole_ones() {
        for bits in [256, 4094, 4095, 4096, 8192, 9984, 9988, 33_280, 33_284] {
            let power = BigInt::from(1) << bits;
            let values: Vec<UBig> = samples::below(&power).iter().map(samples::unsigned).collect();
            let modulus = UBig::ones(bits);
            for (factor, a) in values.iter().flat_map(|factor| values.iter().map(move |a| (factor, a))) {
                let product = folded(FoldedFactor::new(factor.clone(), bits).times(a.clone()), bits);
                assert!(product <= modulus && (!a.is_zero() || product.is_zero()), "{bits}");
                assert_eq!(product % &modulus, a * factor % &modulus, "{bits}");
            }
        }
    }
}
