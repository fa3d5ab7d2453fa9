//! Which numbers of a range below 2⁶⁴ are prime: a segmented sieve of Eratosthenes.
//!
//! A byte stands for 30 numbers, a bit of it for one of the eight that 2, 3 and 5 do not divide. A range is cut into
//! windows; of each window, multiples are crossed out by size of the prime:
//!
//! ```text
//! up to 41         patterns       copied over the window, the same for every window
//! up to 4,096      every residue  by itself, in blocks that fit the first cache
//! up to 2²⁰        turn by turn   in blocks that fit the second cache
//! up to the root   stream         found by a second sieve, used and forgotten, so that memory does not grow
//! ```
//! Where the primes up to the root would cost more than the window is worth, a window is sieved by small primes and
//! the numbers that remain are decided by [`is_prime`]. The wheel and the treatment by size are those of
//! T. Oliveira e Silva, "Fast implementation of the segmented sieve of Eratosthenes", 2002, and of K. Walisch's
//! primesieve.

mod crossing;
mod map;
mod wheel;

use std::ops::RangeInclusive;

use crate::word::is_prime;
use crossing::{Crossings, LARGE_MIN, cross_stream};
use wheel::{NUMBERS, each_number, mask_from, mask_to};

pub use map::{PrimeMap, Primes};

/// The most bytes of a window: 500 million numbers. More would share the cost of large primes among more numbers, and
/// take more memory of each thread.
const WINDOW_BYTES_MAX: u64 = 1 << 24;

/// The bytes of a block that stays in the second cache while it is worked on.
const BLOCK_BYTES: usize = 1 << 20;

/// The bytes between two looks whether to go on where each number is decided by itself.
const TESTED_BYTES: usize = 1 << 10;

/// The primes that a byte has no bit for.
const WHEEL_PRIMES: [u64; 3] = [2, 3, 5];

/// How many primes there are in `range`, both ends included; `None` only if `go_on`, which is called every few
/// milliseconds, said no.
///
/// Memory is at most 18 MiB, whatever the range. A billion numbers take some 0.2 s at 10¹⁰, 0.8 s at 10¹⁵, 3 s at 10¹⁸ and
/// 6 s at 2⁶⁴, where the primes up to the root are sieved anew for every 500 million.
///
/// ```
/// assert_eq!(primacy_prime::count_primes(1..=100, &|| true), Some(25));
/// assert_eq!(primacy_prime::count_primes(u64::MAX - 58..=u64::MAX, &|| true), Some(1)); // 2⁶⁴ − 59
/// ```
pub fn count_primes(range: RangeInclusive<u64>, go_on: &dyn Fn() -> bool) -> Option<u64> {
    let mut count = WHEEL_PRIMES.iter().filter(|prime| range.contains(prime)).count() as u64;
    sieve(range, go_on, &mut |_, block| {
        let (words, rest) = block.as_chunks();
        count += words.iter().map(|word| u64::from(u64::from_ne_bytes(*word).count_ones())).sum::<u64>();
        count += rest.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>();
        Some(())
    })?;
    Some(count)
}

/// Calls `visit` with each prime in `range`, both ends included, in ascending order; `None` only if `go_on`, which is
/// called every few milliseconds, said no. It costs what [`count_primes`] costs, and what `visit` does.
///
/// ```
/// let mut primes = Vec::new();
/// primacy_prime::for_each_prime(90..=110, &|| true, |prime| primes.push(prime));
/// assert_eq!(primes, [97, 101, 103, 107, 109]);
/// ```
pub fn for_each_prime(
    range: RangeInclusive<u64>,
    go_on: &dyn Fn() -> bool,
    mut visit: impl FnMut(u64),
) -> Option<()> {
    WHEEL_PRIMES.into_iter().filter(|prime| range.contains(prime)).for_each(&mut visit);
    sieve(range, go_on, &mut |first, block| {
        each_number(first, block, &mut visit);
        Some(())
    })
}

/// Roughly how long it takes to count the primes in `range` on one core, in microseconds.
pub fn range_cost_us(range: &RangeInclusive<u64>) -> u64 {
    let numbers = (range.end() - range.start()) as f64 + 1.0;
    let windows = (numbers / (WINDOW_BYTES_MAX * NUMBERS) as f64).ceil();
    (windows * SieveMethod::cheapest(numbers / windows, *range.end()).cost_ns / 1000.0) as u64
}

/// How many numbers from `from` on are some 0.15 s of work to count, on one core. High up it is more: so many that the primes
/// up to the root, which cost the same for any number of them, are a sixth of the work; at most 500 million.
pub fn segment_numbers(from: u64) -> u64 {
    const WORK_NS: f64 = 150e6;
    const NUMBERS_MAX: f64 = (WINDOW_BYTES_MAX * NUMBERS) as f64;
    let root = from.max(1 << 20).isqrt();
    let fixed_ns = sieve_cost_ns(0.0, root);
    let number_ns = (sieve_cost_ns(NUMBERS_MAX, root) - fixed_ns) / NUMBERS_MAX;
    (WORK_NS.max(5.0 * fixed_ns) / number_ns).min(NUMBERS_MAX) as u64
}

/// What is done with a block: the number of its first byte, and its bytes, in which a bit is set for each prime. `None`
/// ends the sieve.
type Visit<'a> = &'a mut dyn FnMut(u64, &[u8]) -> Option<()>;

/// `None` if it is not to go on.
fn check(go_on: &dyn Fn() -> bool) -> Option<()> {
    go_on().then_some(())
}

/// Visits the blocks of the range in ascending order.
fn sieve(range: RangeInclusive<u64>, go_on: &dyn Fn() -> bool, visit: Visit<'_>) -> Option<()> {
    if range.is_empty() {
        return Some(());
    }
    let (first_byte, last_byte) = (range.start() / NUMBERS, range.end() / NUMBERS);
    for first in (first_byte..=last_byte).step_by(WINDOW_BYTES_MAX as usize) {
        let last = last_byte.min(first + WINDOW_BYTES_MAX - 1);
        let window =
            SieveWindow { first, bytes: (last - first + 1) as usize, range: range.clone(), method: None };
        window.sieve(go_on, visit)?;
    }
    Some(())
}

/// A part of a range that is worked on at a time.
struct SieveWindow {
    /// The number of its first byte: that many times 30 is its first number.
    first: u64,
    bytes: usize,
    /// The range that it is a part of: at its ends, less than a whole byte is asked for.
    range: RangeInclusive<u64>,
    /// The cheapest, if none is given.
    method: Option<SieveMethod>,
}

impl SieveWindow {
    fn sieve(&self, go_on: &dyn Fn() -> bool, visit: Visit<'_>) -> Option<()> {
        let number = self.first * NUMBERS;
        let numbers = self.bytes as u64 * NUMBERS;
        let end = number.saturating_add(numbers - 1).min(*self.range.end());
        let method = self.method.unwrap_or_else(|| SieveMethod::cheapest(numbers as f64, end));
        let mut crossings = Crossings::new(number, method.primes_max.min(LARGE_MIN - 1), go_on)?;
        // Without large primes one block is enough, and is used again and again.
        let is_streamed = method.primes_max >= LARGE_MIN;
        let mut bytes = filled(if is_streamed { self.bytes } else { BLOCK_BYTES.min(self.bytes) }, go_on)?;
        cross_stream(number, method.primes_max, &mut bytes, go_on)?;
        for at in (0..self.bytes).step_by(BLOCK_BYTES) {
            let place = if is_streamed { at } else { 0 };
            let block = &mut bytes[place..][..BLOCK_BYTES.min(self.bytes - at)];
            if place < at {
                block.fill(u8::MAX);
            }
            let first = self.first + at as u64;
            crossings.cross(first, block, go_on)?;
            self.cut(first, block);
            if method.decides_the_rest {
                decide(first, block, go_on)?;
            }
            visit(first, block)?;
        }
        Some(())
    }

    /// Clears what lies beyond the ends of the range.
    fn cut(&self, first: u64, block: &mut [u8]) {
        let last = first + block.len() as u64 - 1;
        if first == self.range.start() / NUMBERS {
            block[0] &= mask_from(self.range.start() % NUMBERS);
        }
        if last == self.range.end() / NUMBERS {
            block[(last - first) as usize] &= mask_to(self.range.end() % NUMBERS);
        }
    }
}

/// All bits set; the memory of a whole window takes a while to get.
fn filled(length: usize, go_on: &dyn Fn() -> bool) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        check(go_on)?;
        bytes.resize(length.min(bytes.len() + BLOCK_BYTES), u8::MAX);
    }
    Some(bytes)
}

/// Leaves a bit set where [`is_prime`] says so.
fn decide(first: u64, block: &mut [u8], go_on: &dyn Fn() -> bool) -> Option<()> {
    let firsts = (first..).step_by(TESTED_BYTES);
    for (first, bytes) in firsts.zip(block.chunks_mut(TESTED_BYTES)) {
        check(go_on)?;
        for (byte_number, byte) in (first..).zip(bytes) {
            let mut primes = 0;
            each_number(byte_number, &[*byte], &mut |number| {
                primes |= u8::from(is_prime(number)) << wheel::bit(number);
            });
            *byte = primes;
        }
    }
    Some(())
}

/// How a window is done.
#[derive(Clone, Copy)]
struct SieveMethod {
    /// By which primes multiples are crossed out.
    primes_max: u64,
    /// Whether composites may be left then.
    decides_the_rest: bool,
    cost_ns: f64,
}

impl SieveMethod {
    /// What things cost was measured; it only decides which method is taken, and near the border both take as long.
    fn cheapest(numbers: f64, end: u64) -> Self {
        let root = end.isqrt();
        let whole = Self { primes_max: root, decides_the_rest: false, cost_ns: sieve_cost_ns(numbers, root) };
        // Then one prime more costs as much as it saves.
        let few = ((3.0 * numbers) as u64).clamp(64, LARGE_MIN - 1);
        if few >= root {
            return whole;
        }
        // Mertens: what the primes up to x leave is e^−γ / ln x of all.
        let left = numbers * 0.5615 / (few as f64).ln();
        let cost_ns = sieve_cost_ns(numbers, few) + 700.0 * left;
        if cost_ns < whole.cost_ns {
            Self { primes_max: few, decides_the_rest: true, cost_ns }
        } else {
            whole
        }
    }
}

fn sieve_cost_ns(numbers: f64, primes_max: u64) -> f64 {
    let max = primes_max.max(3) as f64;
    // Of the primes up to x there are some x / (ln x − 1); each is sieved itself, and has a first multiple to be found.
    let found = 0.25 * max + 14.0 * max / (max.ln() - 1.0).max(1.0);
    // The multiples that are crossed out by primes from x to y are as many as the numbers, times ln ln y − ln ln x.
    let between = |x: f64, y: f64| (y.ln().ln() - x.ln().ln()).max(0.0);
    let large_min = LARGE_MIN as f64;
    found + numbers * (0.2 + 0.63 * between(1e5, max.min(large_min)) + 1.6 * between(large_min, max))
}

#[cfg(test)]
mod tests;
