//! The primes of a range as the sieve has them: a bit for each number.

use std::ops::RangeInclusive;

use super::{
    WHEEL_PRIMES, sieve,
    wheel::{NUMBERS, OFFSETS, mask_from, mask_to},
};

/// Which numbers of a range are prime: a byte for every 30 numbers, from the multiple of 30 at or below the first one. Its
/// bits stand, the lowest first, for those that leave 1, 7, 11, 13, 17, 19, 23 and 29 when they are divided by 30. 2, 3 and 5,
/// which have none, are known without.
///
/// ```
/// use primacy_prime::PrimeMap;
///
/// let map = PrimeMap::sieve(1..=40, &|| true).unwrap();
/// assert_eq!(map.bytes(), [0b1111_1110, 0b0000_0011]);
/// assert_eq!(map.iter().collect::<Vec<_>>(), [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37]);
/// assert_eq!(PrimeMap::from_bytes(1..=40, map.bytes().to_vec()), Some(map));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimeMap {
    range: RangeInclusive<u64>,
    bytes: Vec<u8>,
}

impl PrimeMap {
    /// The primes of `range`; `None` only if `go_on`, which is called every few milliseconds, said no. It takes as many bytes
    /// as the range has numbers, divided by 30.
    pub fn sieve(range: RangeInclusive<u64>, go_on: &dyn Fn() -> bool) -> Option<Self> {
        let mut bytes = Vec::with_capacity(length(&range));
        sieve(range.clone(), go_on, &mut |_, block| {
            bytes.extend_from_slice(block);
            Some(())
        })?;
        Some(Self { range, bytes })
    }

    /// The primes of `range` as [`bytes`](Self::bytes) gave them; `None` if that is another number of bytes, or if bits are set
    /// beyond the ends of the range.
    pub fn from_bytes(range: RangeInclusive<u64>, bytes: Vec<u8>) -> Option<Self> {
        let is_beyond = |byte: Option<&u8>, mask: u8| byte.is_some_and(|byte| byte & !mask != 0);
        let is_of_range = bytes.len() == length(&range)
            && !is_beyond(bytes.first(), mask_from(range.start() % NUMBERS))
            && !is_beyond(bytes.last(), mask_to(range.end() % NUMBERS));
        is_of_range.then_some(Self { range, bytes })
    }

    /// The bits.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same, taken out.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The primes in ascending order.
    pub fn iter(&self) -> Primes<&[u8]> {
        Primes::new(&self.range, &self.bytes)
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        let of_wheel = WHEEL_PRIMES.iter().filter(|prime| self.range.contains(prime)).count() as u64;
        of_wheel + self.bytes.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>()
    }
}

impl IntoIterator for PrimeMap {
    type Item = u64;
    type IntoIter = Primes<Vec<u8>>;

    fn into_iter(self) -> Primes<Vec<u8>> {
        Primes::new(&self.range, self.bytes)
    }
}

/// The primes of a [`PrimeMap`] in ascending order.
#[derive(Clone, Debug)]
pub struct Primes<B> {
    /// The primes without a bit.
    of_wheel: Vec<u64>,
    bytes: B,
    /// The byte from which the next bits are taken.
    at: usize,
    /// The bits that were taken and not given out.
    bits: u64,
    /// The number of the first of them.
    base: u64,
}

impl<B: AsRef<[u8]>> Primes<B> {
    fn new(range: &RangeInclusive<u64>, bytes: B) -> Self {
        // From the end, because they are taken from there.
        let of_wheel = WHEEL_PRIMES.into_iter().rev().filter(|prime| range.contains(prime)).collect();
        // The first bits are those of the word after.
        let base = (range.start() / NUMBERS * NUMBERS).wrapping_sub(WORD_NUMBERS);
        Self { of_wheel, bytes, at: 0, bits: 0, base }
    }
}

impl<B: AsRef<[u8]>> Iterator for Primes<B> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if let Some(prime) = self.of_wheel.pop() {
            return Some(prime);
        }
        while self.bits == 0 {
            let rest = self.bytes.as_ref().get(self.at..).filter(|rest| !rest.is_empty())?;
            self.bits = word(&rest[..rest.len().min(8)]);
            self.at += 8;
            self.base = self.base.wrapping_add(WORD_NUMBERS);
        }
        let place = self.bits.trailing_zeros() as usize;
        self.bits &= self.bits - 1;
        Some(self.base + OFFSETS[place])
    }
}

/// How many numbers eight bytes stand for.
const WORD_NUMBERS: u64 = 8 * NUMBERS;

fn length(range: &RangeInclusive<u64>) -> usize {
    if range.is_empty() { 0 } else { (range.end() / NUMBERS - range.start() / NUMBERS + 1) as usize }
}

fn word(bytes: &[u8]) -> u64 {
    let mut padded = [0; 8];
    padded[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(padded)
}
