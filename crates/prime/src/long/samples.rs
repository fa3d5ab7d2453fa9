//! Numbers of a size to test arithmetic with: extreme ones, and random ones from a fixed seed. Those of the library
//! under test are compared with those of another one.

use dashu_int::UBig;
use num_bigint::{BigInt, Sign};

/// Odd numbers of exactly so many bits that are `wanted`: the least and the greatest, and random ones.
pub(super) fn odd_numbers(bits: usize, wanted: impl Fn(&UBig) -> bool) -> Vec<UBig> {
    let power = BigInt::from(1) << (bits - 1);
    let random = [1, 2].map(|seed| (&power + random(seed, bits - 2) * 2 + 1, 2));
    [(&power + 1, 2), (&power * 2 - 1, -2)]
        .into_iter()
        .chain(random)
        .map(|(start, step)| (0..).map(|count| unsigned(&(&start + count * step))).find(&wanted).unwrap())
        .collect()
}

/// Numbers from 0 to `end` − 1: both ends, a power of two in the middle and the one below it, and a random one.
pub(super) fn below(end: &BigInt) -> Vec<BigInt> {
    let middle = BigInt::from(1) << (end.bits() / 2);
    vec![BigInt::ZERO, 1.into(), &middle - 1, middle, random(3, end.bits() as usize - 1), end - 1]
}

/// Below 2 to the `bits`, by a linear congruence.
fn random(mut state: u64, bits: usize) -> BigInt {
    let mut number = BigInt::ZERO;
    for _ in 0..bits.div_ceil(32) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        number = (number << 32) + (state >> 32);
    }
    number % (BigInt::from(1) << bits)
}

/// The same number of the library under test.
pub(super) fn unsigned(number: &BigInt) -> UBig {
    UBig::from_le_bytes(&number.magnitude().to_bytes_le())
}

/// The same number of the other library.
pub(super) fn plain(number: &UBig) -> BigInt {
    BigInt::from_bytes_le(Sign::Plus, &number.to_le_bytes())
}
