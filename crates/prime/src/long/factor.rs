//! Products with a fixed factor of which only a part is wanted, made of shorter whole products: the library has no
//! others.

use dashu_int::{IBig, Sign, UBig, ops::BitTest};

/// Halves and quarters of so many bits are whole words, so that to take one is to copy.
pub(super) const ALIGNMENT: usize = 256;

/// A factor of products modulo 2 to the `bits`.
///
/// Of both factors the lower three quarters are multiplied, and the upper quarter by the other's lowest one: the rest
/// has no bit below `bits`. That takes seven eighths of the time of a whole product.
pub(super) struct LowFactor {
    bits: usize,
    /// Where the upper quarter begins.
    cut: usize,
    low: UBig,
    lowest: UBig,
    high: UBig,
}

impl LowFactor {
    pub(super) fn new(factor: UBig, bits: usize) -> Self {
        let cut = bits / 4 * 3;
        let lowest = low_bits(factor.clone(), bits - cut);
        let (low, high) = factor.split_bits(cut);
        Self { bits, cut, low, lowest, high }
    }

    /// `a` times the factor modulo 2 to the `bits`, for an `a` below that.
    pub(super) fn times(&self, a: UBig) -> UBig {
        let lowest = low_bits(a.clone(), self.bits - self.cut);
        let (low, high) = a.split_bits(self.cut);
        let upper = lowest * &self.high + high * &self.lowest;
        low_bits(low * &self.low + (upper << self.cut), self.bits)
    }
}

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
    Halves { sum: Box<FoldedFactor>, difference: IBig },
}

/// Below so many bits a whole product is as fast: measured.
const HALVES_BITS_MIN: usize = 4_096;

impl FoldedFactor {
    pub(super) fn new(factor: UBig, bits: usize) -> Self {
        if bits < HALVES_BITS_MIN || !bits.is_multiple_of(ALIGNMENT / 2) {
            return Self { bits, parts: Parts::Whole(factor) };
        }
        let (low, high) = factor.split_bits(bits / 2);
        let sum = Box::new(Self::new(folded(&low + &high, bits / 2), bits / 2));
        Self { bits, parts: Parts::Halves { sum, difference: IBig::from(low) - IBig::from(high) } }
    }

    /// What is `a` times the factor modulo 2 to the `bits`, less 1: 0 for 0, else up to the modulus itself.
    pub(super) fn times(&self, a: UBig) -> UBig {
        match &self.parts {
            Parts::Whole(factor) => folded(a * factor, self.bits),
            Parts::Halves { sum, difference } => {
                let half = self.bits / 2;
                let (low, high) = a.split_bits(half);
                let sum = sum.times(folded(&low + &high, half));
                let difference = (IBig::from(low) - IBig::from(high)) * difference;
                self.from_residues(sum, difference)
            }
        }
    }

    /// What is `sum` modulo z − 1 and `difference` modulo z + 1: their mean, and half of sum less difference, times z.
    fn from_residues(&self, mut sum: UBig, difference: IBig) -> UBig {
        let half = self.bits / 2;
        if sum.bit(0) != difference.bit(0) {
            sum += UBig::ones(half);
        }
        let mean = (&difference + &sum) >> 1;
        let (sign, magnitude) = ((IBig::from(sum) - &mean << half) + mean).into_parts();
        let magnitude = folded(magnitude, self.bits);
        if sign == Sign::Positive { magnitude } else { UBig::ones(self.bits) - magnitude }
    }
}

/// `a` modulo 2 to the `bits`, less 1: 0 for 0, else up to the modulus itself.
pub(super) fn folded(mut a: UBig, bits: usize) -> UBig {
    while a.bit_len() > bits {
        let (low, high) = a.split_bits(bits);
        a = low + high;
    }
    a
}

/// `a` modulo 2 to the `bits`.
pub(super) fn low_bits(mut a: UBig, bits: usize) -> UBig {
    a.clear_high_bits(bits);
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::long::samples;

    const BITS: [usize; 6] = [256, 3840, 4096, 8192, 9984, 33_280];

    fn below_power_of_two(bits: usize) -> Vec<UBig> {
        let power = num_bigint::BigInt::from(1) << bits;
        samples::residues(&power).iter().map(|value| value.to_string().parse().unwrap()).collect()
    }

    #[test]
    fn low_products_agree_with_whole_ones() {
        for bits in BITS {
            for factor in below_power_of_two(bits) {
                let low = LowFactor::new(factor.clone(), bits);
                for a in below_power_of_two(bits) {
                    assert_eq!(low.times(a.clone()), (a * &factor) % (UBig::ONE << bits), "{bits}");
                }
            }
        }
    }

    #[test]
    fn folded_products_agree_with_whole_ones() {
        for bits in BITS {
            let modulus = UBig::ones(bits);
            for factor in below_power_of_two(bits) {
                let wrapped = FoldedFactor::new(factor.clone(), bits);
                for a in below_power_of_two(bits) {
                    let product = wrapped.times(a.clone());
                    assert!(product <= modulus && (!a.is_zero() || product.is_zero()), "{bits}");
                    assert_eq!(product % &modulus, (a * &factor) % &modulus, "{bits}");
                }
            }
        }
    }
}
