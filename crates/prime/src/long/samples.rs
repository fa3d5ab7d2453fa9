//! Numbers of a size to test arithmetic with: extreme ones, and random ones from a fixed seed.

use num_bigint::BigInt;

/// Odd moduli of exactly so many bits: 2ᵏ + 1, 2ᵏ − 1, two whose words are all ones or zeros but for one, and two
/// random ones.
pub(super) fn moduli(bits: usize) -> Vec<BigInt> {
    let (power, half): (BigInt, BigInt) = (BigInt::from(1) << (bits - 1), BigInt::from(1) << (bits / 2));
    let random = [1, 2].map(|seed| random(seed, bits - 2) * 2 + 1 + &power);
    [&power + 1, &power * 2 - 1, &power + &half + 1, &power * 2 - &half - 1]
        .into_iter()
        .chain(random)
        .collect()
}

/// Numbers from 0 to `modulus` − 1: the ends, powers of two and neighbours of them, and random ones.
pub(super) fn residues(modulus: &BigInt) -> Vec<BigInt> {
    let bits = modulus.bits() as usize;
    let half: BigInt = BigInt::from(1) << (bits / 2);
    let ends = [BigInt::ZERO, 1.into(), half.clone() - 1, half.clone(), half + 1, modulus - 1, modulus - 2];
    ends.into_iter().chain([3, 4].map(|seed| random(seed, bits - 1))).collect()
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
